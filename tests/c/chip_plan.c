/* Plans of the integer executor on tiny device graphs made by hand. */
#include <string.h>

#include "base/cancel.h"
#include "base/fault.h"
#include "base/threads.h"
#include "check.h"
#include "chip/chip.h"
#include "lower/device.h"

#define DIMS(...)                                                                                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                                                                 \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }

static Value *device_value(Graph *graph, const char *name, Dtype dtype, int exponent, int rank, const int64_t *dims)
{
    Error error = {0};
    Value *value = graph_add_value(graph, name, &error);
    value->device = arena_new(&graph->arena, sizeof *value->device);
    value->device->exponents = arena_new(&graph->arena, sizeof(int));
    value->device->exponents[0] = exponent;
    value->device->exponent_count = 1;
    value->device->dtype = dtype;
    value->device->shape = shape_of(rank, dims);
    value->shaped = true;
    return value;
}

static Node *device_node(Graph *graph, const char *type, const char *name, Value *a, Value *b, Value *out)
{
    Error error = {0};
    Node *node = graph_add_node(graph, type, name, &error);
    bool ok = node_set_string(graph, node, "quant_type", "S8") && node_add_input(graph, node, a, &error) &&
              (!b || node_add_input(graph, node, b, &error)) && node_add_output(graph, node, out, &error);
    CHECK(ok, "%s", error.what);
    return node;
}

/* x [1, 6] -> s = x + x -> n = -s -> y = n + s, and z = y + x: x and s live on behind other tensors. */
static Graph *small_graph(void)
{
    Error error = {0};
    Graph *graph = graph_new("small", &error);
    Value *x = device_value(graph, "x", DTYPE_INT8, -4, DIMS(1, 6)), *s = device_value(graph, "s", DTYPE_INT8, -4, DIMS(1, 6)),
          *n = device_value(graph, "n", DTYPE_INT8, -4, DIMS(1, 6)), *y = device_value(graph, "y", DTYPE_INT8, -4, DIMS(1, 6)),
          *z = device_value(graph, "z", DTYPE_INT8, -4, DIMS(1, 6));
    device_node(graph, "Add", "Add_0", x, x, s);
    device_node(graph, "Neg", "Neg_1", s, NULL, n);
    device_node(graph, "Add", "Add_2", n, s, y);
    device_node(graph, "Add", "Add_3", y, x, z);
    CHECK(graph_add_input(graph, x, &error) && graph_add_output(graph, z, &error), "%s", error.what);
    return graph;
}

static ChipPlan *plan_for(Graph *graph, const char *target, ChipOptions options, Error *error)
{
    Chip chip;
    options.chip = &chip;
    if (!chip_init(&chip, target_find(target), NULL, false, error)) return NULL;
    return chip_plan_new(graph, &options, error);
}

static Tensor *bytes_of(int rank, const int64_t *dims, const int8_t *values)
{
    Error error = {0};
    Shape shape = shape_of(rank, dims);
    return tensor_from_data(DTYPE_INT8, &shape, values, &error);
}

/* Promise: a result does not depend on where tensors lie, nor on other samples of the batch, nor on the number of threads. */
TEST(samples_of_a_batch_run_as_if_alone)
{
    Error error = {0};
    Graph *graph = small_graph();
    ChipPlan *plan = plan_for(graph, "esp32p4", (ChipOptions){0}, &error);
    REQUIRE(plan, "%s", error.what);
    enum { SAMPLES = 9 };
    int8_t values[SAMPLES * 6];
    for (int i = 0; i < SAMPLES * 6; i++)
        values[i] = (int8_t)(i * 5 - 128);
    int threads = threads_count();
    for (int count = 1; count <= 3; count += 2) {
        threads_set_count(count);
        Tensor *x = bytes_of(DIMS(SAMPLES, 6), values), *z = NULL;
        CHECK(chip_plan_run(plan, &x, &z, &error), "%s", error.what);
        for (int i = 0; z && i < SAMPLES * 6; i++) {
            int s = values[i] * 2, n;
            s = s > 127 ? 127 : s < -128 ? -128 : s;
            n = s == -128 ? 127 : -s;
            int wanted = n + s + values[i];
            wanted = wanted < -128 ? -128 : wanted;
            CHECK(((int8_t *)z->data)[i] == wanted, "%d threads, element %d: %d, not %d", count, i, ((int8_t *)z->data)[i], wanted);
        }
        tensor_release(x);
        tensor_release(z);
    }
    threads_set_count(threads);
    chip_plan_free(plan);
    graph_free(graph);
}

/* Promise: floats come in as the chip rounds them; another shape, another number of samples and an integer of another type are refused. */
TEST(inputs_come_in_as_the_runtime_assigns_them)
{
    static const struct {
        const char *target;
        int8_t half;
    } chips[] = {{"esp32p4", 2}, {"esp32s3", 3}, {"c", 3}}; /* 2.5 to even, or up; then doubled, and taken away again */
    for (int i = 0; i < 3; i++) {
        Error error = {0};
        Graph *graph = small_graph();
        Value *wanted[] = {graph_value(graph, "s"), graph_value(graph, "x")};
        ChipPlan *plan = plan_for(graph, chips[i].target, (ChipOptions){.wanted = wanted, .wanted_count = 2}, &error);
        REQUIRE(plan, "%s", error.what);
        Shape shape = shape_of(2, (int64_t[]){1, 6}), other = shape_of(2, (int64_t[]){1, 5});
        Tensor *x = tensor_new(DTYPE_FLOAT32, &shape, &error), *outputs[2] = {NULL}, *wrong = tensor_new(DTYPE_FLOAT32, &other, &error),
               *wide = tensor_new(DTYPE_INT32, &shape, &error);
        for (int k = 0; k < 6; k++)
            tensor_floats(x)[k] = 2.5f / 16;
        CHECK(chip_plan_run(plan, &x, outputs, &error), "%s", error.what);
        CHECK(outputs[1] && ((int8_t *)outputs[1]->data)[0] == chips[i].half, "%s: 2.5 became %d", chips[i].target,
              ((int8_t *)outputs[1]->data)[0]);
        CHECK(outputs[0] && ((int8_t *)outputs[0]->data)[5] == 2 * chips[i].half, "%s", chips[i].target);
        tensor_release(outputs[0]);
        tensor_release(outputs[1]);
        CHECK(!chip_plan_run(plan, &wrong, outputs, &error) && strstr(error.what, "[1, 5]"), "%s", error.what);
        CHECK(!chip_plan_run(plan, &wide, outputs, &error) && strstr(error.what, "int32"), "%s", error.what);
        tensor_release(x);
        tensor_release(wrong);
        tensor_release(wide);
        chip_plan_free(plan);
        graph_free(graph);
    }
}

typedef struct Seen {
    char names[256];
    int count;
} Seen;

static bool note(void *context, const ChipSeen *seen, Error *error)
{
    Seen *noted = context;
    (void)error;
    strcat(noted->names, seen->value->name);
    noted->count++;
    return true;
}

/* Promise: a watcher sees inputs and every node's output in order, for each sample, also what no output needs. */
TEST(watchers_see_every_tensor_in_order)
{
    Error error = {0};
    Seen seen = {0};
    Graph *graph = small_graph();
    device_node(graph, "Neg", "Neg_4", graph_value(graph, "y"), NULL, device_value(graph, "w", DTYPE_INT8, -4, DIMS(1, 6)));
    ChipPlan *plan = plan_for(graph, "c", (ChipOptions){.watch = note, .watch_context = &seen}, &error);
    REQUIRE(plan, "%s", error.what);
    Tensor *x = bytes_of(DIMS(2, 6), (int8_t[12]){1, 2, 3}), *z = NULL;
    CHECK(chip_plan_run(plan, &x, &z, &error), "%s", error.what);
    CHECK(strcmp(seen.names, "xsnyzwxsnyzw") == 0, "%s", seen.names);
    tensor_release(x);
    tensor_release(z);
    chip_plan_free(plan);
    graph_free(graph);
}

/* A StreamingCache of 3 frames over x [1, 1, 2]: y has the frame before, the one before that, and this one. */
static Graph *streaming_graph(void)
{
    Error error = {0};
    Graph *graph = graph_new("stream", &error);
    Value *x = device_value(graph, "x", DTYPE_INT8, 0, DIMS(1, 1, 2)), *y = device_value(graph, "y", DTYPE_INT8, 0, DIMS(1, 3, 2));
    Node *node = device_node(graph, "StreamingCache", "Cache_0", x, NULL, y);
    CHECK(node_set_integer(graph, node, "window_size", 3) && node_set_integer(graph, node, "frame_axis", 1) &&
              graph_add_input(graph, x, &error) && graph_add_output(graph, y, &error),
          "%s", error.what);
    return graph;
}

/* Promise: state goes from run to run and from sample to sample in order, and a reset is as loading anew. */
TEST(state_is_kept_until_reset)
{
    Error error = {0};
    Graph *graph = streaming_graph();
    ChipPlan *plan = plan_for(graph, "esp32s3", (ChipOptions){0}, &error);
    REQUIRE(plan, "%s", error.what);
    static const int8_t wanted[3][12] = {
        {0, 0, 0, 0, 1, 2, 0, 0, 1, 2, 3, 4}, {1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7, 8}, {0, 0, 0, 0, 1, 2, 0, 0, 1, 2, 3, 4}};
    static const int8_t given[3][4] = {{1, 2, 3, 4}, {5, 6, 7, 8}, {1, 2, 3, 4}};
    for (int i = 0; i < 3; i++) {
        if (i == 2) chip_plan_reset(plan);
        Tensor *x = bytes_of(DIMS(2, 1, 2), given[i]), *y = NULL;
        CHECK(chip_plan_run(plan, &x, &y, &error), "%s", error.what);
        CHECK(y && y->shape.dims[0] == 2 && memcmp(y->data, wanted[i], 12) == 0, "run %d", i);
        tensor_release(x);
        tensor_release(y);
    }
    chip_plan_free(plan);
    graph_free(graph);
}

/* Promise: a type that the runtime does not have, a tensor that nothing makes and one that no chip has memory for are refused in words. */
TEST(what_the_loader_refuses_is_refused)
{
    for (int i = 0; i < 3; i++) {
        Error error = {0};
        Graph *graph = small_graph();
        Value *from = i == 1 ? device_value(graph, "lost", DTYPE_INT8, 0, DIMS(1, 6)) : graph_value(graph, "z");
        device_node(graph, i == 0 ? "Erf" : "Neg", "Last", from, NULL, device_value(graph, "e", DTYPE_INT8, 0, DIMS(1, 6)));
        if (i == 2) graph_value(graph, "x")->device->shape.dims[1] = INT64_C(1) << 40;
        ChipPlan *plan = plan_for(graph, "c", (ChipOptions){0}, &error);
        static const char *const words[] = {"no module 'Erf'", "nothing makes its input 'lost'", "1099511627776"};
        CHECK(!plan && strstr(error.what, words[i]) && *error.cure, "%s", error.what);
        chip_plan_free(plan);
        graph_free(graph);
    }
}

/* Promise: what follows an undefined tensor is undefined, with the first reason; recorded shapes do not matter, computed ones do. */
TEST(undefinedness_spreads)
{
    Error error = {0};
    Graph *graph = graph_new("wide", &error);
    Value *x = device_value(graph, "x", DTYPE_INT16, 0, DIMS(1, 2, 2, 1)), *scales = NULL,
          *up = device_value(graph, "up", DTYPE_INT16, 0, DIMS(9)), *y = device_value(graph, "y", DTYPE_INT16, 0, DIMS(9));
    Shape four = shape_of(1, (int64_t[]){4});
    Tensor *factors = tensor_from_data(DTYPE_FLOAT32, &four, (float[]){1, 1, 2, 2}, &error);
    scales = graph_add_constant(graph, "scales", factors, &error);
    tensor_release(factors);
    Node *resize = graph_add_node(graph, "Resize", "Resize_0", &error);
    CHECK(node_set_string(graph, resize, "quant_type", "S16") && node_set_string(graph, resize, "mode", "nearest") &&
              node_add_input(graph, resize, x, &error) && node_add_input(graph, resize, NULL, &error) &&
              node_add_input(graph, resize, scales, &error) && node_add_output(graph, resize, up, &error),
          "%s", error.what);
    CHECK(node_set_string(graph, device_node(graph, "Neg", "Neg_1", up, NULL, y), "quant_type", "S16"), "no attribute");
    CHECK(graph_add_input(graph, x, &error) && graph_add_output(graph, y, &error), "%s", error.what);
    ChipPlan *plan = plan_for(graph, "esp32p4", (ChipOptions){0}, &error);
    REQUIRE(plan, "%s", error.what);
    CHECK(!chip_plan_undefined(plan, x) && chip_plan_undefined(plan, up) && chip_plan_undefined(plan, y), "it does not spread");
    CHECK(strstr(chip_plan_undefined(plan, y), "C8"), "%s", chip_plan_undefined(plan, y));
    Shape computed = shape_of(4, (int64_t[]){1, 4, 4, 1});
    CHECK(shape_equal(chip_plan_shape(plan, y), &computed), "another shape");
    chip_plan_free(plan);
    graph_free(graph);
}

/* Promise: an index of -1 reads what the runtime's memory has in front of the tensor: here the input itself, which lies there. */
TEST(negative_indices_read_the_memory_in_front)
{
    Error error = {0};
    Graph *graph = graph_new("last", &error);
    Value *x = device_value(graph, "x", DTYPE_INT8, 0, DIMS(1, 16)), *t = device_value(graph, "t", DTYPE_INT8, 0, DIMS(16, 1)),
          *y = device_value(graph, "y", DTYPE_INT8, 0, DIMS(1, 1));
    Node *transpose = device_node(graph, "Transpose", "Transpose_0", x, NULL, t);
    Shape one = shape_of(1, (int64_t[]){1});
    Tensor *numbers = tensor_from_data(DTYPE_INT64, &one, (int64_t[]){-1}, &error);
    Value *index = graph_add_constant(graph, "index", numbers, &error);
    tensor_release(numbers);
    CHECK(node_set_integers(graph, transpose, "perm", (int64_t[]){1, 0}, 2), "no attribute");
    device_node(graph, "Gather", "Gather_1", t, index, y);
    CHECK(graph_add_input(graph, x, &error) && graph_add_output(graph, y, &error), "%s", error.what);
    ChipPlan *plan = plan_for(graph, "c", (ChipOptions){0}, &error);
    REQUIRE(plan, "%s", error.what);
    int8_t values[16] = {[14] = 3, [15] = 77};
    Tensor *given = bytes_of(DIMS(1, 16), values), *last = NULL;
    CHECK(!chip_plan_undefined(plan, y), "%s", chip_plan_undefined(plan, y));
    CHECK(chip_plan_run(plan, &given, &last, &error), "%s", error.what);
    CHECK(last && ((int8_t *)last->data)[0] == 77, "another element");
    tensor_release(given);
    tensor_release(last);
    chip_plan_free(plan);
    graph_free(graph);
}

/* Promise: Ctrl-C stops a run between nodes. */
TEST(a_run_is_interrupted)
{
    Error error = {0};
    Graph *graph = small_graph();
    ChipPlan *plan = plan_for(graph, "c", (ChipOptions){0}, &error);
    REQUIRE(plan, "%s", error.what);
    Tensor *x = bytes_of(DIMS(4, 6), (int8_t[24]){0}), *z = NULL;
    cancel_request();
    CHECK(!chip_plan_run(plan, &x, &z, &error) && error.code == ERROR_INTERRUPTED && !z, "it ran on");
    cancel_clear();
    tensor_release(x);
    chip_plan_free(plan);
    graph_free(graph);
}

/* Promise: `mended` takes away defects and nothing else; a trait is in force in the versions that its row says. */
TEST(traits_follow_family_and_version)
{
    Error error = {0};
    Chip chip, mended, older;
    REQUIRE(chip_init(&chip, target_find("esp32s3"), NULL, false, &error) && chip_init(&mended, target_find("esp32s3"), NULL, true, &error),
            "%s", error.what);
    CHECK(chip_has(&chip, TRAIT_LANES_SATURATE) && chip.lane_bits[0] == 20 && chip.vector_bytes == 16, "esp32s3");
    CHECK(!chip_has(&mended, TRAIT_LANES_SATURATE) && !mended.lane_bits[0] && chip_has(&mended, TRAIT_MUL_FLOAT), "mended");
    REQUIRE(chip_init(&chip, target_find("esp32p4"), "3.3.9", false, &error) &&
                chip_init(&older, target_find("esp32p4"), "3.3.0", false, &error),
            "%s", error.what);
    CHECK(!chip_has(&chip, TRAIT_NO_CHANNEL_SHIFTS) && chip_has(&older, TRAIT_NO_CHANNEL_SHIFTS), "per-channel weights came with 3.3.1");
    CHECK(!chip_init(&chip, target_find("c"), "9.9", false, &error) && strstr(error.what, "3.3.9"), "%s", error.what);
    for (int i = 0; i < TRAIT_COUNT; i++) {
        const ChipTraitRow *row = chip_trait((ChipTrait)i);
        CHECK(row->name && row->help && row->families && (!row->defect || (row->id && row->cure)), "row %d", i);
        CHECK(chip_trait_find(row->name) == i, "%s", row->name);
    }
}
