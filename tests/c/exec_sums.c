/* Replays that make a convolution over joined channels part by part (exec/sums.h). */
#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "base/threads.h"
#include "check.h"
#include "exec/replay.h"
#include "exec_graphs.h"

/* Two scales: x [samples,8,8,8] -> small -> low, enlarged twice and joined with side of x -> top -> last, whose 2 x 8 x 8 is y. */
static Graph *make_scales(void)
{
    Error error = {0};
    Graph *graph = graph_new("scales", &error);
    Shape x = shape_of(4, (int64_t[]){1, 8, 8, 8}), three = shape_of(4, (int64_t[]){6, 8, 3, 3}),
          low = shape_of(4, (int64_t[]){5, 6, 1, 1});
    Shape side = shape_of(4, (int64_t[]){4, 8, 1, 1}), top = shape_of(4, (int64_t[]){7, 9, 1, 1}),
          last = shape_of(4, (int64_t[]){2, 7, 1, 1});
    Shape seven = shape_of(1, (int64_t[]){7}), four = shape_of(1, (int64_t[]){4});
    const float scales[4] = {1, 1, 2, 2};
    Tensor *factors = tensor_from_data(DTYPE_FLOAT32, &four, scales, &error);
    make_input(graph, "x", &x);
    make_parameter(graph, "w1", &three, 1);
    make_parameter(graph, "w2", &low, 2);
    make_parameter(graph, "w3", &side, 3);
    make_parameter(graph, "w4", &top, 4);
    make_parameter(graph, "b4", &seven, 5);
    make_parameter(graph, "w5", &last, 6);
    graph_add_constant(graph, "factors", factors, &error);
    tensor_release(factors);
    Node *small = make_node(graph, "Conv", "small", "x w1", "s");
    node_set_integers(graph, small, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    node_set_integers(graph, small, "strides", (int64_t[]){2, 2}, 2);
    make_node(graph, "Conv", "low", "s w2", "l");
    Node *resize = make_node(graph, "Resize", "resize", "l factors factors", "u");
    node_set_string(graph, resize, "mode", "nearest");
    node_set_string(graph, resize, "coordinate_transformation_mode", "asymmetric");
    node_set_string(graph, resize, "nearest_mode", "floor");
    make_node(graph, "Conv", "side", "x w3", "d");
    Node *join = make_node(graph, "Concat", "join", "u d", "j");
    node_set_integer(graph, join, "axis", 1);
    make_node(graph, "Conv", "top", "j w4 b4", "t");
    make_node(graph, "Conv", "last", "t w5", "y");
    graph_add_output(graph, graph_value(graph, "y"), &error);
    CHECK(graph_infer(graph, &error), "%s", error.what);
    quantize_net(graph);
    resize->quantized = false; /* its factors would count as numbers of more than 8 bits, and those must not be approximated */
    return graph;
}

typedef struct Outputs {
    Tensor *tensors[2]; /* one a layer: its replayed output of all samples */
} Outputs;

static bool only(void *context, const Node *node)
{
    return node == context;
}

static void collect_last(void *context, const Replayed *replayed)
{
    Outputs *outputs = context;
    memcpy(tensor_floats(outputs->tensors[replayed->layer]) + replayed->sample * 128, replayed->replayed->data,
           tensor_bytes(replayed->replayed));
}

/* Promise: where a 1 x 1 convolution over joined channels is made part by part, the small part before it is enlarged, a replay gives
 * the same numbers, but for the order of the sum, as a whole run. */
TEST(replay_by_parts_equals_whole_run)
{
    Error error = {0};
    Graph *graph = make_scales();
    const char *names[] = {"small", "low", "side", "top", "last"};
    Tensor *input = random_tensor(&(Shape){4, {7, 8, 8, 8}}, 3);
    for (int i = 0; i < 5; i++) {
        Node *layer = graph_node(graph, names[i]);
        Shape shape = shape_of(4, (int64_t[]){7, 2, 8, 8});
        Outputs outputs = {{tensor_new(DTYPE_FLOAT32, &shape, &error)}};
        Tensor *expected = NULL;
        ReplayOptions options = {.layers = &layer, .layer_count = 1, .memory_limit = i % 2 ? 1 : 1 << 20};
        PlanOptions plan_options = {.mode = EXEC_SIMULATED, .quantizes = only, .quantizes_context = layer};
        Plan *plan = plan_new(graph, &plan_options, &input->shape, &error);
        Replay *replay = replay_new(graph, &options, &input->shape, &error);
        REQUIRE(plan && replay && plan_run(plan, &input, &expected, &error), "%s", error.what);
        REQUIRE(replay_run(replay, &input, collect_last, &outputs, &error), "%s", error.what);
        for (int64_t k = 0; k < tensor_count(expected); k++) {
            double difference = tensor_floats(expected)[k] - tensor_floats(outputs.tensors[0])[k];
            CHECK(difference > -1e-4 && difference < 1e-4, "%s, number %d differs by %g", names[i], (int)k, difference);
        }
        tensor_release(outputs.tensors[0]);
        tensor_release(expected);
        plan_free(plan);
        replay_free(replay);
    }
    tensor_release(input);
    graph_free(graph);
}

/* Promise: whatever allocation fails, a replay is an error or complete, and nothing leaks. */
TEST(replay_survives_failed_allocations)
{
    Error setup = {0};
    Graph *graph = make_scales();
    Node *layers[2] = {graph_node(graph, "small"), graph_node(graph, "side")};
    Tensor *input = random_tensor(&(Shape){4, {2, 8, 8, 8}}, 3);
    Shape shape = shape_of(4, (int64_t[]){2, 2, 8, 8});
    Outputs outputs = {{tensor_new(DTYPE_FLOAT32, &shape, &setup), tensor_new(DTYPE_FLOAT32, &shape, &setup)}};
    ReplayOptions options = {.layers = layers, .layer_count = 2};
    int threads = threads_count();
    threads_set_count(1);
    for (long n = 0;; n++) {
        long before = fault_blocks();
        Error error = {0};
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        Replay *replay = replay_new(graph, &options, &input->shape, &error);
        bool done = replay && replay_run(replay, &input, collect_last, &outputs, &error);
        bool hit = fault_disarm();
        replay_free(replay);
        CHECK(fault_blocks() == before, "leak when allocation %ld fails", n);
        CHECK(done || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
        if (!hit) break;
        REQUIRE(n < 5000, "never succeeds");
    }
    threads_set_count(threads);
    tensor_release(outputs.tensors[0]);
    tensor_release(outputs.tensors[1]);
    tensor_release(input);
    graph_free(graph);
}
