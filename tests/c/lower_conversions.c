#include <string.h>

#include "check.h"
#include "lower_graphs.h"

/* x [1,4] -> Relu a -> Add(x, a): the input feeds two ends. */
static Graph *add_of_input(void)
{
    Error error = {0};
    Graph *graph = graph_new("conversions", &error);
    Shape shape = shape_of(2, (int64_t[]){1, 4});
    make_input(graph, "x", &shape);
    make_node(graph, "Relu", "relu", "x", "a");
    make_node(graph, "Add", "add", "x a", "y");
    make_output(graph, "y");
    quantize_graph(graph, "esp32p4", 8);
    return graph;
}

/* Promise: a graph input that two ends want at different exponents is converted for the second; the reference adds raw integers (E3). */
TEST(graph_inputs_are_requantized)
{
    for (int reference = 0; reference < 2; reference++) {
        Graph *graph = add_of_input();
        set_end(graph, "add", 0, -4);
        set_end(graph, "add", 1, -4);
        set_end(graph, "relu", -1, -4);
        Graph *device = lower_with(graph, "esp32p4", reference);
        REQUIRE(device, "not lowered");
        CHECK(count_type(device, "RequantizeLinear") == !reference, "%d conversions", count_type(device, "RequantizeLinear"));
        if (!reference) {
            const Node *node = first_of(device, "RequantizeLinear");
            CHECK(node && tensor_get(node->inputs[1]->constant, 0) == 2.0, "its scale is not 2");
            CHECK(node && node->outputs[0]->device->exponents[0] == -4, "its output is not at -4");
        }
        CHECK(graph_value(device, "x")->device->exponents[0] == -5, "the input is not as its first reader wants it");
        graph_free(device);
        graph_free(graph);
    }
}

/* Promise: small exponents that differ are told apart; the reference compares scales by an absolute bound and lets them pass (E4). */
TEST(small_exponents_are_told_apart)
{
    for (int reference = 0; reference < 2; reference++) {
        Graph *graph = add_of_input();
        set_end(graph, "relu", -1, -20);
        set_end(graph, "add", 1, -18);
        Graph *device = lower_with(graph, "esp32p4", reference);
        REQUIRE(device, "not lowered");
        CHECK(count_type(device, "RequantizeLinear") == !reference, "%d conversions", count_type(device, "RequantizeLinear"));
        graph_free(device);
        graph_free(graph);
    }
}

/* Promise: a float operator between quantized ones gets a DequantizeLinear before and a QuantizeLinear behind it. */
TEST(float_operators_are_bracketed)
{
    Error error = {0};
    Graph *graph = graph_new("conversions", &error);
    Shape shape = shape_of(2, (int64_t[]){1, 4});
    make_input(graph, "x", &shape);
    make_node(graph, "Relu", "relu", "x", "a");
    make_node(graph, "Sqrt", "sqrt", "a", "b");
    make_node(graph, "Relu", "behind", "b", "y");
    make_output(graph, "y");
    quantize_graph(graph, "esp32p4", 8);
    set_float(graph, "sqrt");
    Graph *device = lower_with(graph, "esp32p4", true);
    REQUIRE(device, "not lowered");
    const Node *sqrt = graph_node(device, "sqrt");
    CHECK(strcmp(sqrt->inputs[0]->producer->type, "DequantizeLinear") == 0, "it reads integers");
    CHECK(strcmp(sqrt->outputs[0]->uses[0].node->type, "QuantizeLinear") == 0, "its floats are read as integers");
    CHECK(strcmp(node_string(sqrt, "quant_type", ""), "F32") == 0, "it is not F32");
    CHECK(sqrt->outputs[0]->device->dtype == DTYPE_FLOAT32, "its output is no float");
    graph_free(device);
    graph_free(graph);
}

/* x -> Conv c -> Relu r, with c a graph output too when asked for. */
static Graph *conv_relu(bool shown)
{
    Error error = {0};
    Graph *graph = graph_new("fusion", &error);
    Shape input = shape_of(4, (int64_t[]){1, 2, 4, 4}), weight = shape_of(4, (int64_t[]){3, 2, 1, 1});
    make_input(graph, "x", &input);
    make_parameter(graph, "w", &weight, 1);
    make_node(graph, "Conv", "conv", "x w", "c");
    make_node(graph, "Relu", "relu", "c", "y");
    if (shown) make_output(graph, "c");
    make_output(graph, "y");
    quantize_graph(graph, "esp32p4", 8);
    return graph;
}

/* Promise: Relu goes into the convolution before it, unless somebody else sees the value between them (E1) or it is float (E2). */
TEST(relu_is_fused_where_nobody_looks_between)
{
    for (int kind = 0; kind < 3; kind++) {
        Graph *graph = conv_relu(kind == 1);
        if (kind == 2) set_float(graph, "relu");
        Graph *device = lower_with(graph, "esp32p4", true);
        REQUIRE(device, "not lowered");
        CHECK(count_type(device, "Relu") == (kind > 0), "kind %d: %d Relus", kind, count_type(device, "Relu"));
        CHECK(strcmp(node_string(graph_node(device, "conv"), "activation", ""), kind ? "Linear" : "Relu") == 0, "kind %d: activation",
              kind);
        CHECK(device->output_count == (kind == 1 ? 2 : 1), "kind %d: outputs", kind);
        graph_free(device);
        graph_free(graph);
    }
}

/* Promise: all that cannot be exported is named in one message. */
TEST(refusal_names_all_nodes)
{
    Error error = {0};
    Graph *graph = conv_relu(false);
    for (int i = 0; i < graph->node_count; i++)
        graph->nodes[i]->op = NULL;
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    LowerOptions options = {setting, target_find("esp32p4"), 256};
    CHECK(lower_graph(graph, &options, &error) == NULL, "it was exported");
    CHECK(strstr(error.what, "conv") && strstr(error.what, "relu") && *error.cure, "the message is: %s", error.what);
    setting_free(setting);
    graph_free(graph);
}
