#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "base/threads.h"
#include "check.h"
#include "exec/replay.h"
#include "exec_graphs.h"

static Tensor *rows_of(Tensor *tensor, int64_t first, int64_t count)
{
    Error error = {0};
    Shape shape = tensor->shape;
    size_t row = tensor_bytes(tensor) / (size_t)shape.dims[0];
    shape.dims[0] = count;
    return tensor_from_data(tensor->dtype, &shape, tensor->data + (size_t)first * row, &error);
}

static void check_rows(Tensor *whole, int64_t first, Tensor *part, const char *what)
{
    Tensor *rows = rows_of(whole, first, part->shape.dims[0]);
    CHECK(tensor_equal(rows, part), "%s: sample %d differs", what, (int)first);
    tensor_release(rows);
}

/* Promise: a batch of any size gives what its samples give one by one, bit for bit, also where batch 1 is baked into a Reshape. */
TEST(any_batch_equals_sample_by_sample)
{
    for (int mode = 0; mode < 2; mode++) {
        for (int baked = 0; baked < 2; baked++) {
            Graph *graph = make_net(1, baked);
            quantize_net(graph);
            for (int64_t batch = 2; batch <= 11; batch += 3) {
                Tensor *input = net_batch(0, batch);
                Tensor *whole = run_net(graph, (ExecMode)mode, input);
                REQUIRE(whole && whole->shape.dims[0] == batch, "no batch of %d", (int)batch);
                for (int64_t i = 0; i < batch; i++) {
                    Tensor *one = rows_of(input, i, 1), *result = run_net(graph, (ExecMode)mode, one);
                    check_rows(whole, i, result, baked ? "baked" : "free");
                    tensor_release(one);
                    tensor_release(result);
                }
                tensor_release(input);
                tensor_release(whole);
            }
            graph_free(graph);
        }
    }
}

/* Promise: a model whose batch is fixed to 2 is walked in twos, and an odd batch gives as many samples as it has. */
TEST(fixed_batch_of_two_takes_five_samples)
{
    Graph *one = make_net(1, true), *two = make_net(2, true);
    Tensor *input = net_batch(0, 5);
    Tensor *expected = run_net(one, EXEC_FLOAT, input), *result = run_net(two, EXEC_FLOAT, input);
    CHECK(result && tensor_equal(expected, result), "batch of 2 is not walked in twos");
    tensor_release(input);
    tensor_release(expected);
    tensor_release(result);
    graph_free(one);
    graph_free(two);
}

/* Promise: memory that values share is never overwritten while somebody still reads it: all values together (which share nothing)
 * are what each is alone. */
TEST(shared_buffers_keep_values)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    Tensor *input = net_batch(0, 1), *expected = run_net(graph, EXEC_FLOAT, input), *all[6] = {0};
    Value *wanted[6];
    for (int i = 0; i < 6; i++)
        wanted[i] = graph->nodes[i]->outputs[0];
    PlanOptions options = {.exact = true, .wanted = wanted, .wanted_count = 6};
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    REQUIRE(plan && plan_run(plan, &input, all, &error), "%s", error.what);
    CHECK(tensor_equal(all[5], expected), "reuse changes the result");
    plan_free(plan);
    for (int i = 0; i < 6; i++) {
        Tensor *alone = NULL;
        PlanOptions single = {.exact = true, .wanted = &wanted[i], .wanted_count = 1};
        Plan *other = plan_new(graph, &single, &input->shape, &error);
        REQUIRE(other && plan_run(other, &input, &alone, &error), "%s", error.what);
        CHECK(tensor_equal(alone, all[i]), "value %d", i);
        tensor_release(alone);
        tensor_release(all[i]);
        plan_free(other);
    }
    tensor_release(input);
    tensor_release(expected);
    graph_free(graph);
}

/* ---- watching ---- */

typedef struct Seen {
    Tensor *raw[2], *seen[2]; /* conv1: input 0, output 0 */
    int calls;
} Seen;

static bool wants_conv1(void *context, const Node *node, bool is_output, int index)
{
    (void)context;
    (void)is_output;
    return strcmp(node->name, "conv1") == 0 && index == 0;
}

static bool remember(void *context, const Watched *watched, Error *error)
{
    Seen *seen = context;
    seen->raw[watched->is_output] = tensor_copy(watched->raw, error);
    seen->seen[watched->is_output] = tensor_copy(watched->seen, error);
    seen->calls++;
    return true;
}

static float fake(float x, int exponent)
{
    float q = rintf(ldexpf(x, -exponent));
    return ldexpf(q < -128 ? -128 : q > 127 ? 127 : q, exponent);
}

/* Promise: a watcher sees whole batches before and after quantization, also of a graph that is walked sample by sample. */
TEST(watcher_sees_whole_batches)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    Tensor *input = net_batch(0, 5), *output = NULL;
    Seen seen = {0};
    Watcher watcher = {.context = &seen, .wants = wants_conv1, .watch = remember};
    PlanOptions options = {.mode = EXEC_SIMULATED, .exact = true, .watcher = &watcher};
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    REQUIRE(plan && plan_run(plan, &input, &output, &error), "%s", error.what);
    CHECK(seen.calls == 2, "%d calls", seen.calls);
    CHECK(tensor_equal(seen.raw[0], input), "raw input");
    REQUIRE(seen.raw[1] && seen.raw[1]->shape.dims[0] == 5, "the batch is cut");
    for (int64_t i = 0; i < tensor_count(input); i++)
        CHECK(tensor_floats(seen.seen[0])[i] == fake(tensor_floats(input)[i], -5), "input %d", (int)i);
    for (int64_t i = 0; i < tensor_count(seen.raw[1]); i++)
        CHECK(tensor_floats(seen.seen[1])[i] == fake(tensor_floats(seen.raw[1])[i], -5), "output %d", (int)i);
    Tensor *unwatched = run_net(graph, EXEC_SIMULATED, input);
    CHECK(tensor_equal(unwatched, output), "watching changes the result");
    for (int i = 0; i < 2; i++) {
        tensor_release(seen.raw[i]);
        tensor_release(seen.seen[i]);
    }
    tensor_release(unwatched);
    tensor_release(output);
    tensor_release(input);
    plan_free(plan);
    graph_free(graph);
}

/* ---- simulation ---- */

/* Promise: a simulated node is the operator on quantized inputs, its result quantized; nothing else happens. */
TEST(simulation_is_operator_on_quantized_ends)
{
    Error error = {0};
    Graph *graph = make_net(1, false);
    quantize_net(graph);
    Node *conv = graph_node(graph, "conv1");
    Tensor *input = net_batch(0, 1), *made = NULL, *ends[3], *expected = NULL;
    Value *wanted = conv->outputs[0];
    PlanOptions options = {.mode = EXEC_SIMULATED, .exact = true, .wanted = &wanted, .wanted_count = 1};
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    REQUIRE(plan && plan_run(plan, &input, &made, &error), "%s", error.what);
    ends[0] = tensor_copy(input, &error);
    ends[1] = tensor_copy(conv->inputs[1]->constant, &error);
    ends[2] = tensor_copy(conv->inputs[2]->constant, &error);
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < tensor_count(ends[k]); i++)
            tensor_floats(ends[k])[i] = fake(tensor_floats(ends[k])[i], k ? -7 : -5);
    for (int64_t i = 0; i < 3; i++)
        tensor_floats(ends[2])[i] = ldexpf(rintf(ldexpf(tensor_floats(ends[2])[i], 12)), -12);
    REQUIRE(exec_node(graph, conv, ends, &expected, &error), "%s", error.what);
    for (int64_t i = 0; i < tensor_count(made); i++)
        CHECK(tensor_floats(made)[i] == fake(tensor_floats(expected)[i], -5), "element %d: %g", (int)i, (double)tensor_floats(made)[i]);
    for (int k = 0; k < 3; k++)
        tensor_release(ends[k]);
    tensor_release(expected);
    tensor_release(made);
    tensor_release(input);
    plan_free(plan);
    graph_free(graph);
}

/* Promise: after an exponent or a constant changed, plan_refresh gives what a new plan gives. */
TEST(refresh_equals_new_plan)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    Tensor *input = net_batch(0, 3), *output = NULL;
    PlanOptions options = {.mode = EXEC_SIMULATED, .exact = true};
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    REQUIRE(plan && plan_run(plan, &input, &output, &error), "%s", error.what);
    tensor_release(output);
    int exponent = -3;
    Shape shape = shape_of(4, (int64_t[]){3, 3, 1, 1});
    Tensor *weight = random_tensor(&shape, 77);
    slot_set_exponents(graph, graph_node(graph, "conv1")->input_slots[1], &exponent, 1);
    slot_set_exponents(graph, graph_node(graph, "conv1")->output_slots[0], &exponent, 1);
    graph_node(graph, "add")->input_slots[1]->state = SLOT_FP32;
    value_set_constant(graph, graph_value(graph, "w2"), weight);
    REQUIRE(plan_refresh(plan, &error) && plan_run(plan, &input, &output, &error), "%s", error.what);
    Tensor *expected = run_net(graph, EXEC_SIMULATED, input);
    CHECK(tensor_equal(output, expected), "refresh misses a change");
    tensor_release(weight);
    tensor_release(output);
    tensor_release(expected);
    tensor_release(input);
    plan_free(plan);
    graph_free(graph);
}

/* Promise: shape arithmetic that was not folded works at any batch, since shapes are known before the run. */
TEST(shape_arithmetic_is_known_before_the_run)
{
    Error error = {0};
    Graph *graph = graph_new("shapes", &error);
    Shape shape = shape_of(2, (int64_t[]){1, 6});
    make_input(graph, "x", &shape);
    make_node(graph, "Relu", "relu", "x", "r");
    make_node(graph, "Shape", "shape", "x", "s");
    make_node(graph, "Reshape", "reshape", "r s", "y");
    graph_add_output(graph, graph_value(graph, "y"), &error);
    Shape four = shape_of(2, (int64_t[]){4, 6});
    Tensor *input = random_tensor(&four, 3), *output = run_net(graph, EXEC_FLOAT, input);
    REQUIRE(output && shape_equal(&output->shape, &four), "wrong shape");
    for (int i = 0; i < 24; i++)
        CHECK(tensor_floats(output)[i] == fmaxf(tensor_floats(input)[i], 0), "element %d", i);
    tensor_release(input);
    tensor_release(output);
    graph_free(graph);
}

/* ---- replay ---- */

typedef struct Outputs {
    Tensor *tensors[3]; /* one a layer: its replayed output of all samples */
} Outputs;

static void collect(void *context, const Replayed *replayed)
{
    Outputs *outputs = context;
    memcpy(tensor_floats(outputs->tensors[replayed->layer]) + replayed->sample * 4, replayed->replayed->data,
           tensor_bytes(replayed->replayed));
}

static bool only(void *context, const Node *node)
{
    return node == context;
}

/* Promise: a replay behind a layer gives what a whole run gives in which only that layer is quantized, with any number of samples
 * kept at a time. */
TEST(replay_equals_run_with_one_layer_quantized)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    Node *layers[3] = {graph_node(graph, "conv1"), graph_node(graph, "conv2"), graph_node(graph, "gemm")};
    Tensor *input = net_batch(0, 7);
    for (size_t limit = 1; limit <= 1 << 20; limit <<= 10) {
        Shape shape = shape_of(2, (int64_t[]){7, 4});
        Outputs outputs = {0};
        ReplayOptions options = {.exact = true, .layers = layers, .layer_count = 3, .memory_limit = limit};
        for (int i = 0; i < 3; i++)
            outputs.tensors[i] = tensor_new(DTYPE_FLOAT32, &shape, &error);
        Replay *replay = replay_new(graph, &options, &input->shape, &error);
        REQUIRE(replay && replay_run(replay, &input, collect, &outputs, &error), "%s", error.what);
        for (int i = 0; i < 3; i++) {
            PlanOptions plan_options = {.mode = EXEC_SIMULATED, .exact = true, .quantizes = only, .quantizes_context = layers[i]};
            Tensor *expected = NULL;
            Plan *plan = plan_new(graph, &plan_options, &input->shape, &error);
            REQUIRE(plan && plan_run(plan, &input, &expected, &error), "%s", error.what);
            CHECK(tensor_equal(expected, outputs.tensors[i]), "layer %d", i);
            tensor_release(expected);
            tensor_release(outputs.tensors[i]);
            plan_free(plan);
        }
        replay_free(replay);
    }
    tensor_release(input);
    graph_free(graph);
}

typedef struct Both {
    Tensor *tensors[2]; /* replayed graph outputs of all samples */
} Both;

static void collect_outputs(void *context, const Replayed *replayed)
{
    Both *both = context;
    int64_t row = tensor_count(replayed->replayed) / replayed->samples;
    memcpy(tensor_floats(both->tensors[replayed->output]) + replayed->sample * row, replayed->replayed->data,
           tensor_bytes(replayed->replayed));
}

/* Promise: a graph output that other nodes read as well keeps its value until the end of a replay, and an output that the layer does
 * not reach is shown unchanged. */
TEST(replay_keeps_inner_outputs)
{
    Error error = {0};
    Graph *graph = make_net(1, true);
    graph_add_output(graph, graph_value(graph, "c1"), &error);
    quantize_net(graph);
    Node *layers[2] = {graph_node(graph, "conv1"), graph_node(graph, "conv2")};
    Tensor *input = net_batch(0, 3);
    for (int i = 0; i < 2; i++) {
        Both both = {0};
        Tensor *expected[2] = {0};
        ReplayOptions options = {.exact = true, .layers = &layers[i], .layer_count = 1};
        PlanOptions plan_options = {.mode = EXEC_SIMULATED, .exact = true, .quantizes = only, .quantizes_context = layers[i]};
        Plan *plan = plan_new(graph, &plan_options, &input->shape, &error);
        Replay *replay = replay_new(graph, &options, &input->shape, &error);
        REQUIRE(plan && replay && plan_run(plan, &input, expected, &error), "%s", error.what);
        for (int k = 0; k < 2; k++)
            both.tensors[k] = tensor_new(DTYPE_FLOAT32, &expected[k]->shape, &error);
        REQUIRE(replay_run(replay, &input, collect_outputs, &both, &error), "%s", error.what);
        for (int k = 0; k < 2; k++) {
            CHECK(tensor_equal(both.tensors[k], expected[k]), "layer %d, output %d", i, k);
            tensor_release(both.tensors[k]);
            tensor_release(expected[k]);
        }
        plan_free(plan);
        replay_free(replay);
    }
    tensor_release(input);
    graph_free(graph);
}

/* Promise: where the first axis is time, a longer input is one longer sequence, as in ONNX, not several short ones. */
TEST(longer_sequence_is_one_sequence)
{
    Error error = {0};
    Tensor *outputs[2];
    Shape shape = shape_of(3, (int64_t[]){6, 1, 4}), weight = shape_of(3, (int64_t[]){1, 12, 4}),
          state = shape_of(3, (int64_t[]){1, 12, 4});
    Shape asked = shape_of(3, (int64_t[]){12, 1, 4});
    Tensor *input = random_tensor(&asked, 9);
    for (int i = 0; i < 2; i++) {
        Graph *graph = graph_new("sequence", &error);
        make_input(graph, "x", i ? &asked : &shape);
        make_parameter(graph, "w", &weight, 1);
        make_parameter(graph, "r", &state, 2);
        Node *gru = make_node(graph, "GRU", "gru", "x w r", "y");
        node_set_integer(graph, gru, "hidden_size", 4);
        node_set_integer(graph, gru, "linear_before_reset", 1);
        graph_add_output(graph, graph_value(graph, "y"), &error);
        REQUIRE(graph_infer(graph, &error), "%s", error.what);
        outputs[i] = run_net(graph, EXEC_FLOAT, input);
        graph_free(graph);
    }
    CHECK(outputs[0] && tensor_equal(outputs[0], outputs[1]), "the sequence is cut");
    tensor_release(outputs[0]);
    tensor_release(outputs[1]);
    tensor_release(input);
}

/* Promise: whatever allocation fails while a plan is made or runs, the answer is an error or the right result, and nothing leaks. */
TEST(plan_survives_failed_allocations)
{
    Error *error = memory_new(sizeof *error);
    Graph *graph = make_net(1, true);
    quantize_net(graph);
    Tensor *input = net_batch(0, 3), *expected = run_net(graph, EXEC_SIMULATED, input);
    int threads = threads_count();
    threads_set_count(1);
    for (long n = 0;; n++) {
        PlanOptions options = {.mode = EXEC_SIMULATED, .exact = true};
        Tensor *output = NULL;
        long before = fault_blocks();
        *error = (Error){0};
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        Plan *plan = plan_new(graph, &options, &input->shape, error);
        bool done = plan && plan_run(plan, &input, &output, error);
        bool reached = fault_disarm();
        CHECK(done ? tensor_equal(output, expected) : error->code == ERROR_MEMORY, "allocation %ld: %s", n, error->what);
        tensor_release(output);
        plan_free(plan);
        CHECK(fault_blocks() == before, "allocation %ld: leak of %ld", n, fault_blocks() - before);
        if (!reached) break;
        REQUIRE(n < 5000, "never succeeds");
    }
    threads_set_count(threads);
    tensor_release(input);
    tensor_release(expected);
    graph_free(graph);
    memory_free(error);
}
