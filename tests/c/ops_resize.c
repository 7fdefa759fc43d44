/* Resize and pixel shuffles against values worked out by hand. */
#include <string.h>

#include "run_operator.h"

typedef struct ResizeCase {
    const char *mode, *coordinates, *rounding;
    float scale; /* 0: by sizes */
    int64_t size;
    bool exact;
    int count;
    float wanted[9];
} ResizeCase;

/* Input 1 2 3 4 along one axis. */
static void check_resize(const ResizeCase *c)
{
    OperatorRun run;
    if (!operator_open(&run, "Resize", 1)) return;
    operator_input(&run, test_values(DIMS(1, 1, 4), FLOATS(1, 2, 3, 4)), false);
    operator_input(&run, test_tensor(DIMS(0)), true); /* an empty roi counts as none */
    if (c->scale > 0) {
        operator_input(&run, test_values(DIMS(3), FLOATS(1, 1, c->scale)), true);
    } else {
        operator_input(&run, NULL, true);
        operator_input(&run, test_integers(3, (int64_t[]){1, 1, c->size}), true);
    }
    node_set_string(run.graph, run.node, "mode", c->mode);
    node_set_string(run.graph, run.node, "coordinate_transformation_mode", c->coordinates);
    if (c->rounding) node_set_string(run.graph, run.node, "nearest_mode", c->rounding);
    run.exact = c->exact;
    CHECK(operator_run(&run), "%s %s: %s", c->mode, c->coordinates, run.error.what);
    REQUIRE(run.outputs[0] && tensor_count(run.outputs[0]) == c->count, "%s %s: size", c->mode, c->coordinates);
    for (int i = 0; i < c->count; i++)
        CHECK(test_close(tensor_floats(run.outputs[0])[i], c->wanted[i], 1e-6), "%s %s %s, element %d: %g, wanted %g", c->mode,
              c->coordinates, c->exact ? "exact" : "reference", i, (double)tensor_floats(run.outputs[0])[i], (double)c->wanted[i]);
    operator_close(&run);
}

/* Promise: each coordinate and rounding rule of ONNX gives the values worked out from its formula, by scales and by sizes alike. */
TEST(resize_equals_its_formulas)
{
    static const ResizeCase cases[] = {
        {"nearest", "asymmetric", "floor", 2, 0, true, 8, {1, 1, 2, 2, 3, 3, 4, 4}},
        {"nearest", "asymmetric", "floor", 0, 8, true, 8, {1, 1, 2, 2, 3, 3, 4, 4}},
        {"nearest", "half_pixel", NULL, 2, 0, true, 8, {1, 1, 2, 2, 3, 3, 4, 4}},
        {"nearest", "asymmetric", "ceil", 2, 0, true, 8, {1, 2, 2, 3, 3, 4, 4, 4}},
        {"nearest", "asymmetric", "round_prefer_floor", 2, 0, true, 8, {1, 1, 2, 2, 3, 3, 4, 4}},
        {"nearest", "asymmetric", "round_prefer_ceil", 2, 0, true, 8, {1, 2, 2, 3, 3, 4, 4, 4}},
        {"nearest", "half_pixel", NULL, 0.5f, 0, true, 2, {1, 3}}, /* 0.5 and 2.5 go down */
        {"nearest", "half_pixel", "round_prefer_ceil", 0.5f, 0, true, 2, {2, 4}},
        {"nearest", "asymmetric", "floor", 0.5f, 0, true, 2, {1, 3}},
        {"nearest", "half_pixel", "round_prefer_ceil", 0.5f, 0, false, 2, {1, 3}}, /* the reference knows only floor */
        {"nearest", "align_corners", NULL, 0, 7, true, 7, {1, 1, 2, 2, 3, 3, 4}},
        {"linear", "half_pixel", NULL, 2, 0, true, 8, {1, 1.25f, 1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4}},
        {"linear", "half_pixel", NULL, 0, 8, true, 8, {1, 1.25f, 1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4}},
        {"linear", "half_pixel", NULL, 2, 0, false, 8, {1, 1.25f, 1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4}},
        {"linear", "asymmetric", NULL, 2, 0, true, 8, {1, 1.5f, 2, 2.5f, 3, 3.5f, 4, 4}},
        {"linear", "asymmetric", NULL, 2, 0, false, 8, {1, 1.25f, 1.75f, 2.25f, 2.75f, 3.25f, 3.75f, 4}},
        {"linear", "align_corners", NULL, 0, 7, true, 7, {1, 1.5f, 2, 2.5f, 3, 3.5f, 4}},
        {"linear", "align_corners", NULL, 0, 7, false, 7, {1, 1.5f, 2, 2.5f, 3, 3.5f, 4}},
        {"linear", "pytorch_half_pixel", NULL, 0, 1, true, 1, {1}},
        {"linear", "half_pixel", NULL, 0, 1, true, 1, {2.5f}},
        {"linear", "half_pixel", NULL, 0.5f, 0, true, 2, {1.5f, 3.5f}},
        {"nearest", "tf_half_pixel_for_nn", "floor", 0.5f, 0, true, 2, {2, 4}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_resize(&cases[i]);
}

/* Promise: two axes are blended as rows of blended columns. */
TEST(resize_blends_two_axes)
{
    OperatorRun run;
    if (!operator_open(&run, "Resize", 1)) return;
    operator_input(&run, test_values(DIMS(1, 1, 2, 2), FLOATS(1, 2, 3, 4)), false);
    operator_input(&run, NULL, true);
    operator_input(&run, NULL, true);
    operator_input(&run, test_integers(4, (int64_t[]){1, 1, 3, 3}), true);
    node_set_string(run.graph, run.node, "mode", "linear");
    node_set_string(run.graph, run.node, "coordinate_transformation_mode", "align_corners");
    CHECK(operator_run(&run), "%s", run.error.what);
    static const float wanted[9] = {1, 1.5f, 2, 2, 2.5f, 3, 3, 3.5f, 4};
    CHECK(run.outputs[0] && tensor_count(run.outputs[0]) == 9 && memcmp(run.outputs[0]->data, wanted, sizeof wanted) == 0, "values");
    operator_close(&run);
}

/* Promise: cubic and resized channels are refused by name before anything runs. */
TEST(resize_refuses_what_the_chip_has_not)
{
    for (int cubic = 0; cubic < 2; cubic++) {
        OperatorRun run;
        if (!operator_open(&run, "Resize", 1)) return;
        operator_input(&run, test_tensor(DIMS(1, 2, 4)), false);
        operator_input(&run, NULL, true);
        operator_input(&run, test_values(DIMS(3), FLOATS(1, cubic ? 1 : 2, 2)), true);
        if (cubic) node_set_string(run.graph, run.node, "mode", "cubic");
        CHECK(!operator_run(&run) && strstr(run.error.what, cubic ? "cubic" : "channels") && run.error.cure[0], "%s", run.error.what);
        operator_close(&run);
    }
}

static bool shuffled(const char *type, const char *mode, bool exact, int rank, const int64_t *dims, const float *x, const float *wanted)
{
    OperatorRun run;
    if (!operator_open(&run, type, 1)) return false;
    operator_input(&run, test_values(rank, dims, x), false);
    node_set_integer(run.graph, run.node, "blocksize", 2);
    if (mode) node_set_string(run.graph, run.node, "mode", mode);
    run.exact = exact;
    bool same = operator_run(&run) && memcmp(run.outputs[0]->data, wanted, tensor_bytes(run.outputs[0])) == 0;
    operator_close(&run);
    return same;
}

/* Promise: pixel shuffles place channels as ONNX says; SpaceToDepth in the reference's mode as chip and PyTorch do. */
TEST(pixel_shuffle_places_channels)
{
    const float deep[8] = {0, 1, 2, 3, 4, 5, 6, 7}; /* 8 channels of one pixel */
    CHECK(shuffled("DepthToSpace", "DCR", true, DIMS(1, 8, 1, 1), deep, FLOATS(0, 2, 4, 6, 1, 3, 5, 7)), "DCR");
    CHECK(shuffled("DepthToSpace", NULL, true, DIMS(1, 8, 1, 1), deep, FLOATS(0, 2, 4, 6, 1, 3, 5, 7)), "DCR is the default");
    CHECK(shuffled("DepthToSpace", "CRD", true, DIMS(1, 8, 1, 1), deep, deep), "CRD");
    const float pixels[8] = {0, 1, 2, 3, 10, 11, 12, 13}; /* two channels of 2 x 2 */
    CHECK(shuffled("SpaceToDepth", NULL, true, DIMS(1, 2, 2, 2), pixels, FLOATS(0, 10, 1, 11, 2, 12, 3, 13)), "ONNX's order");
    CHECK(shuffled("SpaceToDepth", NULL, false, DIMS(1, 2, 2, 2), pixels, pixels), "the chip's order");
}
