/* The quantization passes on small graphs: who shares a slot, who owns it, which exponent comes out. */
#include "check.h"
#include "quant_fixture.h"

#include <string.h>

#include "base/fault.h"
#include "exec/plan.h"

#define NAMES(...)                                                                                                                         \
    (const char *const[])                                                                                                                  \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }
#define DIMS(...)                                                                                                                          \
    (const int64_t[])                                                                                                                      \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }

/* The graph of QUANT §8.8. */
static void make_worked_example(Fixture *f)
{
    fixture_begin(f, "esp32p4", 8, 4, DIMS(1, 3, 8, 8));
    fixture_set(f, "quantize_activation_setting.calib_algorithm", "kl");
    fixture_constant(f, "w1", 4, DIMS(4, 3, 3, 3), 0.5f);
    fixture_constant(f, "b1", 1, DIMS(4), 0.1f);
    fixture_constant(f, "low", 0, NULL, 0);
    fixture_constant(f, "high", 0, NULL, 6);
    fixture_constant(f, "w2", 4, DIMS(4, 4, 3, 3), 0.5f);
    fixture_constant(f, "b2", 1, DIMS(4), 0.1f);
    fixture_constant(f, "w3", 2, DIMS(5, 8), 0.5f);
    fixture_constant(f, "b3", 1, DIMS(5), 0.1f);
    Node *conv1 = fixture_node(f, "Conv", "Conv1", 3, NAMES("x", "w1", "b1"));
    fixture_node(f, "Clip", "Clip", 3, NAMES("Conv1_out", "low", "high"));
    Node *conv2 = fixture_node(f, "Conv", "Conv2", 3, NAMES("Clip_out", "w2", "b2"));
    fixture_node(f, "Add", "Add", 2, NAMES("Conv2_out", "Clip_out"));
    fixture_node(f, "Relu", "Relu", 1, NAMES("Add_out"));
    Node *pool = fixture_node(f, "MaxPool", "MaxPool", 1, NAMES("Relu_out"));
    fixture_node(f, "Sigmoid", "Sigmoid", 1, NAMES("MaxPool_out"));
    Node *concat = fixture_node(f, "Concat", "Concat", 2, NAMES("MaxPool_out", "Sigmoid_out"));
    fixture_node(f, "GlobalAveragePool", "GAP", 1, NAMES("Concat_out"));
    fixture_node(f, "Flatten", "Flatten", 1, NAMES("GAP_out"));
    Node *gemm = fixture_node(f, "Gemm", "Gemm", 3, NAMES("Flatten_out", "w3", "b3"));
    fixture_node(f, "Softmax", "Softmax", 1, NAMES("Gemm_out"));
    fixture_node(f, "Add", "Add2", 2, NAMES("Softmax_out", "Gemm_out"));
    fixture_output(f, "Add2_out");
    f->ok = f->ok && node_set_integers(f->graph, conv1, "pads", DIMS(1, 1, 1, 1), 4) &&
            node_set_integers(f->graph, conv2, "pads", DIMS(1, 1, 1, 1), 4) &&
            node_set_integers(f->graph, pool, "kernel_shape", DIMS(2, 2), 2) &&
            node_set_integers(f->graph, pool, "strides", DIMS(2, 2), 2) && node_set_integer(f->graph, concat, "axis", 1) &&
            node_set_integer(f->graph, gemm, "transB", 1);
}

/* Every end of the reference's worked example has its state, and follows the owner that the reference names. */
TEST(worked_example_of_the_reference)
{
    Fixture f;
    make_worked_example(&f);
    REQUIRE(fixture_run(&f, NULL), "%s (%s)", f.error.what, f.error.where);
    static const struct {
        const char *node;
        int end; /* -1: the output */
        SlotState state;
        const char *owner;
        int owner_end;
    } wanted[] = {
        {"Conv1", 0, SLOT_ACTIVATED, "Conv1", 0},     {"Conv1", 1, SLOT_ACTIVATED, "Conv1", 1},
        {"Conv1", 2, SLOT_PASSIVE, "Conv1", 2},       {"Conv1", -1, SLOT_OVERLAPPED, "Clip", -1},
        {"Clip", 0, SLOT_OVERLAPPED, "Clip", -1},     {"Clip", 1, SLOT_PASSIVE, "Clip", -1},
        {"Clip", 2, SLOT_PASSIVE, "Clip", -1},        {"Clip", -1, SLOT_ACTIVATED, "Clip", -1},
        {"Conv2", 0, SLOT_OVERLAPPED, "Clip", -1},    {"Conv2", -1, SLOT_PASSIVE, "Relu", -1},
        {"Add", 0, SLOT_PASSIVE, "Relu", -1},         {"Add", 1, SLOT_PASSIVE, "Relu", -1},
        {"Add", -1, SLOT_OVERLAPPED, "Relu", -1},     {"Relu", 0, SLOT_OVERLAPPED, "Relu", -1},
        {"Relu", -1, SLOT_ACTIVATED, "Relu", -1},     {"MaxPool", 0, SLOT_OVERLAPPED, "Relu", -1},
        {"MaxPool", -1, SLOT_OVERLAPPED, "Relu", -1}, {"Sigmoid", 0, SLOT_OVERLAPPED, "Relu", -1},
        {"Concat", 0, SLOT_PASSIVE, "Concat", -1},    {"Sigmoid", -1, SLOT_PASSIVE, "Concat", -1},
        {"Concat", 1, SLOT_PASSIVE, "Concat", -1},    {"Concat", -1, SLOT_ACTIVATED, "Concat", -1},
        {"GAP", 0, SLOT_OVERLAPPED, "Concat", -1},    {"GAP", -1, SLOT_ACTIVATED, "GAP", -1},
        {"Flatten", 0, SLOT_OVERLAPPED, "GAP", -1},   {"Flatten", -1, SLOT_OVERLAPPED, "GAP", -1},
        {"Gemm", 0, SLOT_OVERLAPPED, "GAP", -1},      {"Softmax", 0, SLOT_OVERLAPPED, "Gemm", -1},
        {"Softmax", -1, SLOT_PASSIVE, "Add2", -1},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        Slot *slot = wanted[i].end < 0 ? fixture_out(&f, wanted[i].node) : fixture_in(&f, wanted[i].node, wanted[i].end);
        Slot *owner = wanted[i].owner_end < 0 ? fixture_out(&f, wanted[i].owner) : fixture_in(&f, wanted[i].owner, wanted[i].owner_end);
        CHECK(slot->state == wanted[i].state, "%s end %d is %s", wanted[i].node, wanted[i].end, slot_state_name(slot->state));
        CHECK(slot_root(slot) == owner, "%s end %d follows %s", wanted[i].node, wanted[i].end, slot_root(slot)->node->name);
    }
    Text snapshot = {0};
    quantize_snapshot(f.graph, &snapshot);
    CHECK(strstr(snapshot.data, "ACTIVATED                     [10]") && strstr(snapshot.data, "OVERLAPPED                    [13]") &&
              strstr(snapshot.data, "PASSIVE                       [14]"),
          "%s", snapshot.data);
    text_free(&snapshot);
    Slot *bias = fixture_in(&f, "Conv1", 2), *weight = fixture_in(&f, "Conv1", 1), *input = fixture_in(&f, "Conv1", 0);
    CHECK(bias->bits == 32 && slot_exponent_count(weight) == 4, "%d bits, %d channels", bias->bits, slot_exponent_count(weight));
    for (int c = 0; c < 4; c++)
        CHECK(slot_exponent(bias, c) == slot_exponent(weight, c) + slot_exponent(input, 0), "bias of channel %d", c);
    CHECK(f.walks == 2, "kl walks twice, %d", f.walks);
    fixture_end(&f);
}

/* x + 8: the input reaches 1 (exponent -6), the constant 8 (-3), the sum 9 (-3). */
static void make_sum(Fixture *f, const char *align)
{
    fixture_begin(f, "esp32p4", 8, 2, DIMS(1, 4));
    fixture_constant(f, "eight", 2, DIMS(1, 1), 8);
    fixture_node(f, "Add", "Add", 2, NAMES("x", "eight"));
    fixture_output(f, "Add_out");
    fixture_set(f, "fusion_setting.align_elementwise_to", align);
}

/* The inputs of an Add take the exponent that align_elementwise_to says; "large" lands one above the larger input (QUANT D5). */
TEST(alignment_of_add)
{
    static const struct {
        const char *align, *exact;
        int first, second;
    } wanted[] = {{"Align to Output", "false", -3, -3},
                  {"Align to Large", "false", -2, -2},
                  {"Align to Large", "true", -3, -3},
                  {"None", "false", -6, -3}};
    for (int i = 0; i < 4; i++) {
        Fixture f;
        make_sum(&f, wanted[i].align);
        fixture_set(&f, "switches.align_large_exact", wanted[i].exact);
        REQUIRE(fixture_run(&f, NULL), "%s", f.error.what);
        int first = slot_exponent(fixture_in(&f, "Add", 0), 0), second = slot_exponent(fixture_in(&f, "Add", 1), 0);
        CHECK(first == wanted[i].first && second == wanted[i].second, "%s, exact %s: %d %d", wanted[i].align, wanted[i].exact, first,
              second);
        fixture_end(&f);
    }
}

/* A producer with a second reader keeps its exponent, unless alignment is forced upon it. */
TEST(alignment_spares_shared_producers)
{
    for (int force = 0; force < 2; force++) {
        Fixture f;
        fixture_begin(&f, "esp32p4", 8, 2, DIMS(1, 4));
        fixture_constant(&f, "eight", 2, DIMS(1, 1), 8);
        fixture_node(&f, "Sigmoid", "Sigmoid", 1, NAMES("x"));
        fixture_node(&f, "Add", "Add", 2, NAMES("Sigmoid_out", "eight"));
        fixture_node(&f, "Tanh", "Tanh", 1, NAMES("Sigmoid_out"));
        fixture_output(&f, "Add_out");
        fixture_output(&f, "Tanh_out");
        fixture_set(&f, "fusion_setting.force_alignment_overlap", force ? "true" : "false");
        REQUIRE(fixture_run(&f, NULL), "%s", f.error.what);
        Slot *shared = slot_root(fixture_out(&f, "Sigmoid")), *sum = fixture_out(&f, "Add");
        CHECK((shared == sum) == force, "force %d", force);
        CHECK(slot_root(fixture_in(&f, "Add", 0)) == sum, "the Add's own end follows in both cases");
        fixture_end(&f);
    }
}

/* Weights are per channel on the P4 and per tensor on the S3, biases as wide as the chip's accumulator, rounding the target's. */
TEST(slots_of_targets)
{
    static const struct {
        const char *target;
        int bits, bias_bits;
        bool per_channel;
        Rounding rounding;
    } wanted[] = {{"esp32p4", 8, 32, true, ROUND_HALF_EVEN}, {"esp32p4", 16, 40, true, ROUND_HALF_EVEN},
                  {"ESP32S3", 8, 20, false, ROUND_HALF_UP},  {"esp32s3", 16, 40, false, ROUND_HALF_UP},
                  {"esp32c6", 8, 32, false, ROUND_HALF_UP},  {"c", 16, 64, false, ROUND_HALF_UP}};
    for (int i = 0; i < 6; i++) {
        Fixture f;
        fixture_begin(&f, wanted[i].target, wanted[i].bits, 2, DIMS(1, 3));
        fixture_constant(&f, "w", 2, DIMS(3, 5), 1);
        fixture_constant(&f, "b", 1, DIMS(5), 1);
        fixture_node(&f, "Gemm", "Gemm", 3, NAMES("x", "w", "b"));
        fixture_output(&f, "Gemm_out");
        REQUIRE(fixture_run(&f, "slots"), "%s", f.error.what);
        const Slot *weight = fixture_in(&f, "Gemm", 1), *bias = fixture_in(&f, "Gemm", 2), *out = fixture_out(&f, "Gemm");
        CHECK(weight->per_channel == wanted[i].per_channel && (!weight->per_channel || weight->channel_axis == 1), "%d", i);
        CHECK(bias->bits == wanted[i].bias_bits && bias->state == SLOT_PASSIVE_INIT, "%d: %d", i, bias->bits);
        CHECK(out->rounding == wanted[i].rounding && out->bits == wanted[i].bits && out->bins == 32 * (out->maximum + 1), "%d", i);
        fixture_end(&f);
    }
}

/* Integers are never quantized, whatever the dispatcher says (QUANT D18); the table takes names and patterns and knows no others. */
TEST(dispatching)
{
    Fixture f;
    fixture_begin(&f, "esp32p4", 8, 2, DIMS(2, 4));
    fixture_node(&f, "Sigmoid", "/a/Sigmoid", 1, NAMES("x"));
    fixture_node(&f, "Sqrt", "/a/Sqrt", 1, NAMES("/a/Sigmoid_out"));
    fixture_node(&f, "Tanh", "/b/Tanh", 1, NAMES("/a/Sqrt_out"));
    fixture_output(&f, "/b/Tanh_out");
    Value *index = fixture_constant(&f, "index", 1, DIMS(1), 1), *shape = fixture_constant(&f, "shape", 1, DIMS(4), 1);
    REQUIRE(f.ok, "%s", f.error.what);
    Tensor *integers = tensor_from_integers(DIMS(1, 2, 3, 4), 4, &f.error);
    CHECK(integers && value_set_constant(f.graph, shape, integers), "%s", f.error.what);
    tensor_release(integers);
    integers = tensor_from_integers(DIMS(1), 1, &f.error);
    CHECK(integers && value_set_constant(f.graph, index, integers), "%s", f.error.what);
    tensor_release(integers);
    fixture_node(&f, "Gather", "Gather", 2, NAMES("shape", "index"));
    fixture_output(&f, "Gather_out");
    f.ok = f.ok && setting_dispatch_add(f.setting, "/b/*", 552, &f.error);
    REQUIRE(fixture_run(&f, "dispatch"), "%s", f.error.what);
    CHECK(graph_node(f.graph, "/a/Sigmoid")->platform->id == 551, "quantizable");
    CHECK(graph_node(f.graph, "/a/Sqrt")->platform == &platform_float, "not in the list of quantizable types");
    CHECK(graph_node(f.graph, "/b/Tanh")->platform->id == 552, "by pattern");
    CHECK(graph_node(f.graph, "Gather")->platform == &platform_float, "integers");
    CHECK(setting_dispatch_add(f.setting, "/a/Sigmoit", 0, &f.error), "%s", f.error.what);
    CHECK(!pass_dispatch(f.graph, &f.context, &f.error) && strstr(f.error.what, "/a/Sigmoid"), "%s", f.error.what);
    fixture_end(&f);
}

/* The dispatchers that look at the graph leave alone what no computing operator feeds. */
TEST(dispatchers_by_reach)
{
    static const struct {
        const char *name;
        int before, convolution, behind;
    } wanted[] = {{"allin", 551, 551, 551}, {"conservative", 0, 551, 551}, {"pointwise", 0, 551, 0}, {"perseus", 551, 551, 551}};
    for (int i = 0; i < 4; i++) {
        Fixture f;
        fixture_begin(&f, "esp32p4", 8, 4, DIMS(1, 2, 4, 4));
        fixture_constant(&f, "w", 4, DIMS(2, 2, 1, 1), 1);
        fixture_node(&f, "Sigmoid", "before", 1, NAMES("x"));
        fixture_node(&f, "Conv", "conv", 2, NAMES("before_out", "w"));
        fixture_node(&f, "Sigmoid", "behind", 1, NAMES("conv_out"));
        fixture_node(&f, "Tanh", "last", 1, NAMES("behind_out"));
        fixture_output(&f, "last_out");
        fixture_set(&f, "dispatcher", wanted[i].name);
        REQUIRE(fixture_run(&f, "dispatch"), "%s", f.error.what);
        CHECK(graph_node(f.graph, "before")->platform->id == wanted[i].before, "%s: before", wanted[i].name);
        CHECK(graph_node(f.graph, "conv")->platform->id == wanted[i].convolution, "%s: conv", wanted[i].name);
        CHECK(graph_node(f.graph, "behind")->platform->id == wanted[i].behind, "%s: behind", wanted[i].name);
        fixture_end(&f);
    }
}

/* A channel of zeros takes the others' exponent, else its bias would not fit; in the reference's mode it has its own. */
TEST(dead_channels)
{
    for (int reference = 0; reference < 2; reference++) {
        Fixture f;
        fixture_begin(&f, "esp32p4", 8, 2, DIMS(1, 2));
        Value *weight = fixture_constant(&f, "w", 2, DIMS(2, 2), 1);
        fixture_constant(&f, "b", 1, DIMS(2), 1);
        Node *gemm = fixture_node(&f, "Gemm", "Gemm", 3, NAMES("x", "w", "b"));
        fixture_output(&f, "Gemm_out");
        REQUIRE(f.ok && node_set_integer(f.graph, gemm, "transB", 1), "%s", f.error.what);
        tensor_floats(weight->constant)[2] = tensor_floats(weight->constant)[3] = 0; /* channel 1 */
        fixture_set(&f, "switches.dead_channels_follow", reference ? "false" : "true");
        REQUIRE(fixture_run(&f, NULL), "%s", f.error.what);
        Slot *slot = fixture_in(&f, "Gemm", 1);
        CHECK(slot_exponent(slot, 0) == -6 && slot_exponent(slot, 1) == (reference ? -26 : -6), "%d", slot_exponent(slot, 1));
        CHECK((f.graph->notes.data && strstr(f.graph->notes.data, "do not fit")) == reference, "a bias that saturates is reported");
        fixture_end(&f);
    }
}

/* ConvTranspose and its decomposition compute the same. */
TEST(convtranspose_is_decomposed)
{
    Fixture f;
    fixture_begin(&f, "esp32p4", 8, 4, DIMS(1, 4, 3, 3));
    fixture_constant(&f, "w", 4, DIMS(4, 3, 3, 2), 1);
    Node *node = fixture_node(&f, "ConvTranspose", "up", 2, NAMES("x", "w"));
    fixture_output(&f, "up_out");
    REQUIRE(f.ok && node_set_integers(f.graph, node, "strides", DIMS(2, 3), 2) &&
                node_set_integers(f.graph, node, "pads", DIMS(1, 0, 0, 1), 4) &&
                node_set_integers(f.graph, node, "output_padding", DIMS(1, 0), 2) && node_set_integer(f.graph, node, "group", 2) &&
                graph_infer(f.graph, &f.error),
            "%s", f.error.what);
    Tensor *x[1], *before[1] = {NULL}, *after = NULL;
    bool done;
    Shape wanted = graph_value(f.graph, "up_out")->shape;
    REQUIRE(f.batches.begin(&f, &f.error) && f.batches.next(&f, x, &done, &f.error), "%s", f.error.what);
    Tensor *inputs[2] = {x[0], graph_value(f.graph, "w")->constant};
    REQUIRE(exec_node(f.graph, node, inputs, before, &f.error), "%s", f.error.what);
    REQUIRE(pass_convtranspose(f.graph, &f.context, &f.error), "%s", f.error.what);
    CHECK(strcmp(node->type, "Conv") == 0 && f.graph->node_count == 2 && strcmp(f.graph->nodes[1]->name, "PPQ_Operation_0") == 0, "names");
    CHECK(shape_equal(&graph_value(f.graph, "up_out")->shape, &wanted), "shape");
    PlanOptions options = {.mode = EXEC_FLOAT, .exact = true};
    Plan *plan = plan_new(f.graph, &options, &x[0]->shape, &f.error);
    REQUIRE(plan && plan_run(plan, x, &after, &f.error), "%s", f.error.what);
    for (int64_t i = 0; i < tensor_count(after); i++) {
        float difference = tensor_floats(after)[i] - tensor_floats(before[0])[i];
        CHECK(difference < 1e-5f && difference > -1e-5f, "element %lld: %g", (long long)i, (double)difference);
    }
    plan_free(plan);
    tensor_release(after);
    tensor_release(before[0]);
    tensor_release(x[0]);
    fixture_end(&f);
}

/* A scale by hand is kept, marked, and rounded to a power of two with a note; an unknown operator names its neighbour. */
TEST(output_scales_by_hand)
{
    Fixture f;
    fixture_begin(&f, "esp32p4", 8, 2, DIMS(1, 4));
    fixture_node(&f, "Sigmoid", "Sigmoid", 1, NAMES("x"));
    fixture_output(&f, "Sigmoid_out");
    fixture_set(&f, "quant_config_modify", "true");
    fixture_set(&f, "quant_config_modify_setting.custom_config", "{\"Sigmoid\": 0.24}");
    REQUIRE(fixture_run(&f, NULL), "%s", f.error.what);
    Slot *slot = fixture_out(&f, "Sigmoid");
    CHECK(slot_exponent(slot, 0) == -2 && slot->overridden && strstr(f.graph->notes.data, "0.24"), "%d", slot_exponent(slot, 0));
    fixture_set(&f, "quant_config_modify_setting.custom_config", "{\"Sigmoit\": 0.25}");
    CHECK(!pass_modify(f.graph, &f.context, &f.error) && strstr(f.error.what, "'Sigmoid'"), "%s", f.error.what);
    fixture_end(&f);
}

/* Data that are not finite stop the calibration with sample, input and index. */
TEST(calibration_refuses_infinite_data)
{
    Fixture f;
    fixture_begin(&f, "esp32p4", 8, 2, DIMS(1, 4));
    fixture_node(&f, "Sigmoid", "Sigmoid", 1, NAMES("x"));
    fixture_output(&f, "Sigmoid_out");
    f.first = 1.0f / 0.0f;
    CHECK(!fixture_run(&f, NULL) && (strstr(f.error.what, "x") || strstr(f.error.where, "x")), "%s", f.error.what);
    fixture_end(&f);
}

/* Integers of a constant round as the slot says, saturate at its range, and are stored by its width. */
TEST(integers_of_constants)
{
    Error error = {0};
    int exponents[2] = {-1, 0};
    float x[4] = {1.25f, 1000, 2.5f, -3.5f}; /* [2, 2], channels on axis 1 */
    int64_t saturated, dims[2] = {2, 2};
    Shape shape = shape_of(2, dims);
    Tensor *constant = tensor_from_data(DTYPE_FLOAT32, &shape, x, &error);
    Slot slot = {.state = SLOT_ACTIVATED,
                 .bits = 8,
                 .minimum = -128,
                 .maximum = 127,
                 .per_channel = true,
                 .channel_axis = 1,
                 .exponent_count = 2,
                 .exponents = exponents};
    slot.parent = &slot;
    Tensor *integers = quantize_constant(constant, &slot, false, &saturated, &error);
    REQUIRE(integers && integers->dtype == DTYPE_INT8, "%s", error.what);
    const int8_t *q = (const int8_t *)integers->data;
    CHECK(q[0] == 2 && q[1] == 127 && q[2] == 5 && q[3] == -4 && saturated == 1, "%d %d %d %d", q[0], q[1], q[2], q[3]);
    tensor_release(integers);
    slot.bits = 40, slot.rounding = ROUND_HALF_UP, slot.minimum = -((int64_t)1 << 39), slot.maximum = ((int64_t)1 << 39) - 1;
    integers = quantize_constant(constant, &slot, false, &saturated, &error);
    REQUIRE(integers && integers->dtype == DTYPE_INT64, "%s", error.what);
    CHECK(tensor_get_integer(integers, 0) == 3 && tensor_get_integer(integers, 3) == -3 && saturated == 0, "half up");
    tensor_release(integers);
    tensor_release(constant);
}

/* Whatever allocation fails in the passes, the answer is an error or the finished graph, and nothing leaks. */
TEST(passes_survive_failing_allocations)
{
    for (int extent = 0; extent < 2; extent++) {
        for (long n = 0;; n += n < 400 ? 1 : 17) {
            long blocks = fault_blocks();
            Fixture f;
            fault_arm(FAULT_ALLOCATION, extent ? FAULT_FROM : FAULT_ONCE, n);
            make_worked_example(&f);
            bool ok = fixture_run(&f, NULL), hit = fault_disarm();
            CHECK(ok || f.error.code == ERROR_MEMORY, "allocation %ld: %s", n, f.error.what);
            fixture_end(&f);
            REQUIRE(fault_blocks() == blocks, "allocation %ld leaks %ld blocks", n, fault_blocks() - blocks);
            if (!hit) {
                CHECK(ok, "never succeeds: %s", f.error.what);
                break;
            }
        }
    }
}
