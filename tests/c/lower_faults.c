#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "check.h"
#include "espdl/export.h"
#include "lower_graphs.h"

/* A bit of everything: a fused Relu, turned constants, a restored layout, a rearranged operand, tables, conversions. */
static Graph *mixed_graph(void)
{
    Error error = {0};
    Graph *graph = graph_new("faults", &error);
    Shape input = shape_of(4, (int64_t[]){1, 2, 4, 6}), weight = shape_of(4, (int64_t[]){3, 2, 1, 1}),
          channel = shape_of(3, (int64_t[]){3, 1, 1});
    make_input(graph, "x", &input);
    make_parameter(graph, "w", &weight, 1);
    make_parameter(graph, "k", &channel, 2);
    make_node(graph, "Conv", "conv", "x w", "c");
    make_node(graph, "Relu", "relu", "c", "r");
    make_node(graph, "Mul", "mul", "r k", "m");
    make_node(graph, "Sqrt", "sqrt", "m", "q");
    make_node(graph, "Transpose", "turn", "q", "t");
    node_set_integers(graph, graph_node(graph, "turn"), "perm", (int64_t[]){0, 1, 3, 2}, 4);
    make_node(graph, "MatMul", "product", "r t", "p");
    make_node(graph, "Sigmoid", "act", "p", "y");
    make_output(graph, "y");
    quantize_graph(graph, "esp32p4", 8);
    set_float(graph, "sqrt");
    set_end(graph, "product", 0, -3);
    return graph;
}

/* The whole way from a quantized graph to bytes and text. */
static bool export_all(const Graph *graph, const Setting *setting, Error *error)
{
    LowerOptions options = {setting, target_find("esp32p4"), 256};
    EspdlExtra extra = {.model_version = 1};
    Text json = {0};
    uint8_t *bytes = NULL;
    size_t count = 0;
    Graph *device = lower_graph(graph, &options, error);
    EspdlModel *model = device ? espdl_from_device(device, &extra, error) : NULL;
    bool ok = model && espdl_config_json(device, &json, error) && espdl_write(model, &bytes, &count, error);
    text_free(&json);
    memory_free(bytes);
    espdl_model_free(model);
    graph_free(device);
    return ok;
}

/* Promise: whatever allocation fails during lowering and export, the answer is an error, nothing leaks, and the graph is as it was. */
TEST(lowering_survives_failing_allocations)
{
    Error error = {0};
    Graph *graph = mixed_graph();
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    Text before = {0}, after = {0};
    graph_print(graph, &before);
    for (long n = 0; n < 100000; n++) {
        long blocks = fault_blocks();
        error = (Error){0};
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        bool ok = export_all(graph, setting, &error), reached = fault_disarm();
        CHECK(ok != reached, "allocation %ld: %s", n, error.what);
        CHECK(ok || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
        REQUIRE(fault_blocks() == blocks, "allocation %ld leaks", n);
        if (!reached) break;
    }
    graph_print(graph, &after);
    CHECK(before.length == after.length && memcmp(before.data, after.data, before.length) == 0, "the user's graph has changed");
    text_free(&before);
    text_free(&after);
    setting_free(setting);
    graph_free(graph);
}
