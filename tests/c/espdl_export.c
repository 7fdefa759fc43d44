#include <string.h>

#include "check.h"
#include "espdl/export.h"
#include "espdl/verify.h"
#include "lower_graphs.h"

/* x, bounds lo (left out) and hi -> Clip a; Relu b of a; outputs b, a: not the order of the values. */
static Graph *two_outputs(void)
{
    Error error = {0};
    Graph *graph = graph_new("", &error);
    Shape shape = shape_of(2, (int64_t[]){1, 4});
    make_input(graph, "x", &shape);
    Tensor *six = tensor_scalar(DTYPE_FLOAT32, 0.5, &error);
    graph_add_constant(graph, "hi", six, &error);
    tensor_release(six);
    Node *clip = graph_add_node(graph, "Clip", "clip", &error);
    node_add_input(graph, clip, graph_value(graph, "x"), &error);
    node_add_input(graph, clip, NULL, &error);
    node_add_input(graph, clip, graph_value(graph, "hi"), &error);
    node_add_output(graph, clip, graph_add_value(graph, "a", &error), &error);
    make_node(graph, "Relu", "relu", "a", "b");
    make_output(graph, "b");
    make_output(graph, "a");
    quantize_graph(graph, "esp32p4", 8);
    return graph;
}

static EspdlModel *exported(const Graph *device, bool reference_order)
{
    Error error = {0};
    EspdlExtra extra = {.reference_order = reference_order};
    EspdlModel *model = espdl_from_device(device, &extra, &error);
    CHECK(model != NULL, "%s", error.what);
    return model;
}

/* Promise: outputs come in the model's order, and in that of the dictionary of values where the reference's file is wanted. */
TEST(outputs_keep_the_models_order)
{
    Graph *graph = two_outputs(), *device = lower_with(graph, "esp32p4", true);
    REQUIRE(device, "not lowered");
    for (int reference = 0; reference < 2; reference++) {
        EspdlModel *model = exported(device, reference);
        REQUIRE(model, "no model");
        CHECK(strcmp(model->outputs[0].name, reference ? "a" : "b") == 0, "output 0 is %s", model->outputs[0].name);
        espdl_model_free(model);
    }
    graph_free(device);
    graph_free(graph);
}

/* Promise: an input left out is an empty name, described once as a float without shape; tables come before parameters, attributes
 * in order of their names, and a graph without a name has the reference's. */
TEST(model_has_the_references_form)
{
    Graph *graph = two_outputs(), *device = lower_with(graph, "esp32p4", true);
    REQUIRE(device, "not lowered");
    EspdlModel *model = exported(device, false);
    REQUIRE(model, "no model");
    int empty = 0;
    for (int i = 0; i < model->value_count; i++)
        empty += !*model->values[i].name && !model->values[i].shaped;
    CHECK(empty == 1, "%d empty names are described", empty);
    CHECK(strcmp(model->nodes[0].inputs[1], "") == 0, "input 1 is %s", model->nodes[0].inputs[1]);
    CHECK(model->initializer_count == 3 && strcmp(model->initializers[0].name, "Clip_lut_0") == 0 && !model->initializers[0].doc,
          "no table first");
    CHECK(strcmp(model->initializers[2].doc, "layout ==> UNK") == 0, "a parameter is marked %s", model->initializers[2].doc);
    for (int i = 1; i < model->nodes[0].attribute_count; i++)
        CHECK(strcmp(model->nodes[0].attributes[i - 1].name, model->nodes[0].attributes[i].name) < 0, "attributes are out of order");
    CHECK(strcmp(model->graph_name, "PPL Quantization Tool - v(0.6.6)") == 0, "the graph is called %s", model->graph_name);
    espdl_model_free(model);
    graph_free(device);
    graph_free(graph);
}

/* Promise: what the default setting exports has no fault that the verifier knows. */
TEST(exported_model_passes_verify)
{
    Error error = {0};
    Findings findings = {0};
    Graph *graph = two_outputs(), *device = lower_with(graph, "esp32p4", false);
    REQUIRE(device, "not lowered");
    EspdlModel *model = exported(device, false);
    REQUIRE(model && espdl_verify(model, "esp32p4", &findings, &error), "%s", error.what);
    CHECK(findings.count == 0, "%s: %s", findings.count ? findings.rows[0].where : "", findings.count ? findings.rows[0].text : "");
    findings_free(&findings);
    espdl_model_free(model);
    graph_free(device);
    graph_free(graph);
}

/* Promise: the .json lists every end under its final name with its scale, and two writings are one text. */
TEST(config_lists_every_end)
{
    Error error = {0};
    Text first = {0}, second = {0};
    Graph *graph = two_outputs(), *device = lower_with(graph, "esp32p4", true), *again = lower_with(graph, "esp32p4", true);
    REQUIRE(device && again, "not lowered");
    REQUIRE(espdl_config_json(device, &first, &error) && espdl_config_json(again, &second, &error), "%s", error.what);
    CHECK(first.length == second.length && memcmp(first.data, second.data, first.length) == 0, "two writings differ");
    CHECK(strstr(first.data, "\"clip\": {") && strstr(first.data, "\"hi\": {"), "an end is missing");
    CHECK(strstr(first.data, "\"scale\": 0.03125") && strstr(first.data, "\"ESPDL_INT8\""), "no scale or platform");
    text_free(&first);
    text_free(&second);
    graph_free(device);
    graph_free(again);
    graph_free(graph);
}
