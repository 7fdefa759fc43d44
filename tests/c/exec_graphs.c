#include "exec_graphs.h"

#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "check.h"
#include "graph/operator.h"

Tensor *random_tensor(const Shape *shape, uint64_t seed)
{
    Error error = {0};
    Random random;
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, shape, &error);
    random_seed(&random, seed);
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = (float)(random_uniform(&random) * 2 - 1);
    return tensor;
}

Value *make_input(Graph *graph, const char *name, const Shape *shape)
{
    Error error = {0};
    Value *value = graph_add_value(graph, name, &error);
    value->dtype = DTYPE_FLOAT32;
    value->shape = *shape;
    value->shaped = true;
    graph_add_input(graph, value, &error);
    return value;
}

Value *make_parameter(Graph *graph, const char *name, const Shape *shape, uint64_t seed)
{
    Error error = {0};
    Tensor *tensor = random_tensor(shape, seed);
    Value *value = graph_add_constant(graph, name, tensor, &error);
    tensor_release(tensor);
    return value;
}

Node *make_node(Graph *graph, const char *type, const char *name, const char *inputs, const char *output)
{
    Error error = {0};
    char list[256];
    Node *node = graph_add_node(graph, type, name, &error);
    node->opset = 18;
    snprintf(list, sizeof list, "%s", inputs);
    for (char *word = strtok(list, " "); word; word = strtok(NULL, " "))
        node_add_input(graph, node, graph_value(graph, word), &error);
    Value *value = graph_value(graph, output);
    if (!value) value = graph_add_value(graph, output, &error);
    node_add_output(graph, node, value, &error);
    return node;
}

Shape net_shape(int64_t batch)
{
    return shape_of(4, (int64_t[]){batch, 2, 5, 5});
}

Graph *make_net(int64_t batch, bool baked)
{
    Error error = {0};
    Graph *graph = graph_new("net", &error);
    Shape input = net_shape(batch), three = shape_of(1, (int64_t[]){3});
    Shape first = shape_of(4, (int64_t[]){3, 2, 3, 3}), second = shape_of(4, (int64_t[]){3, 3, 1, 1});
    make_input(graph, "x", &input);
    make_parameter(graph, "w1", &first, 1);
    make_parameter(graph, "b1", &three, 2);
    make_parameter(graph, "w2", &second, 3);
    make_parameter(graph, "b2", &three, 4);
    Node *conv = make_node(graph, "Conv", "conv1", "x w1 b1", "c1");
    node_set_integers(graph, conv, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    make_node(graph, "Relu", "relu", "c1", "r");
    make_node(graph, "Conv", "conv2", "r w2 b2", "c2");
    make_node(graph, "Add", "add", "c2 r", "s");
    if (baked) {
        Tensor *shape = tensor_from_integers((int64_t[]){batch, 75}, 2, &error);
        Shape weight = shape_of(2, (int64_t[]){75, 4}), four = shape_of(1, (int64_t[]){4});
        graph_add_constant(graph, "to", shape, &error);
        tensor_release(shape);
        make_parameter(graph, "w3", &weight, 5);
        make_parameter(graph, "b3", &four, 6);
        make_node(graph, "Reshape", "reshape", "s to", "flat");
        make_node(graph, "Gemm", "gemm", "flat w3 b3", "y");
    } else {
        make_node(graph, "Relu", "relu2", "s", "y");
    }
    graph_add_output(graph, graph_value(graph, "y"), &error);
    CHECK(graph_infer(graph, &error), "%s", error.what);
    return graph;
}

void quantize_net(Graph *graph)
{
    Error error = {0};
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        node_make_slots(graph, node, &error);
        for (int k = 0; k < node->input_count + node->output_count; k++) {
            const Value *value = k < node->input_count ? node->inputs[k] : node->outputs[k - node->input_count];
            Slot *slot = k < node->input_count ? node->input_slots[k] : node->output_slots[k - node->input_count];
            if (value->dtype != DTYPE_FLOAT32) continue;
            bool bias = value->constant && value->shape.rank == 1;
            slot->bits = bias ? 32 : 8;
            slot->minimum = bias ? -(1LL << 31) : -128;
            slot->maximum = bias ? (1LL << 31) - 1 : 127;
            slot->rounding = ROUND_HALF_EVEN;
            slot->state = SLOT_ACTIVATED;
            int exponent = bias ? -12 : value->constant ? -7 : -5;
            slot_set_exponents(graph, slot, &exponent, 1);
        }
    }
}

Tensor *run_net(Graph *graph, ExecMode mode, Tensor *input)
{
    Error error = {0};
    PlanOptions options = {.mode = mode, .exact = true};
    Tensor *output = NULL;
    Plan *plan = plan_new(graph, &options, &input->shape, &error);
    if (plan) plan_run(plan, &input, &output, &error);
    CHECK(output, "run failed: %s (%s)", error.what, error.where);
    plan_free(plan);
    return output;
}

static bool begin(void *context, Error *error)
{
    (void)error;
    ((TestBatches *)context)->next = 0;
    return true;
}

static bool next(void *context, Tensor **inputs, bool *done, Error *error)
{
    TestBatches *data = context;
    *done = data->next == data->count;
    if (*done) return true;
    inputs[0] = data->make(data->next, data->sizes[data->next]);
    data->next++;
    return inputs[0] || fail_memory(error, sizeof(Tensor));
}

void test_batches(TestBatches *data, const int64_t *sizes, int count, Tensor *(*make)(int batch, int64_t samples))
{
    *data = (TestBatches){
        .batches = {.context = data, .input_count = 1, .begin = begin, .next = next}, .sizes = sizes, .count = count, .make = make};
}

Tensor *net_batch(int batch, int64_t samples)
{
    Shape shape = net_shape(samples);
    return random_tensor(&shape, 100 + (uint64_t)batch);
}
