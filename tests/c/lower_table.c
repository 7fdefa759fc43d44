#include <string.h>

#include "check.h"
#include "lower_graphs.h"

static float slope_number(const int64_t *at)
{
    (void)at;
    return 0.25f;
}

static Graph *lowered_unary(const char *type, const char *target, int bits, int in, int out)
{
    Error error = {0};
    Graph *graph = graph_new("table", &error);
    Shape shape = shape_of(2, (int64_t[]){1, 8}), one = shape_of(1, (int64_t[]){1});
    bool slope = strcmp(type, "PRelu") == 0;
    make_input(graph, "x", &shape);
    if (slope) make_numbers(graph, "slope", &one, slope_number);
    make_node(graph, type, "node", slope ? "x slope" : "x", "y");
    make_output(graph, "y");
    quantize_graph(graph, target, bits);
    set_end(graph, "node", 0, in);
    if (slope) set_end(graph, "node", 1, -8);
    set_end(graph, "node", -1, out);
    Graph *device = lower_with(graph, target, true);
    graph_free(graph);
    return device;
}

static void check_table(Graph *device, const char *table, int64_t entries, const int *first, int count)
{
    REQUIRE(device, "not lowered");
    const Value *value = graph_value(device, table);
    REQUIRE(value && value->constant, "no table %s", table);
    CHECK(tensor_count(value->constant) == entries, "%d entries", (int)tensor_count(value->constant));
    CHECK(value->device->table && !value->device->layout, "a table has no layout");
    for (int i = 0; i < count; i++)
        CHECK(device_integer(device, table, i) == first[i], "%s[%d] is %d, expected %d", table, i, (int)device_integer(device, table, i),
              first[i]);
    CHECK(strcmp(node_string(graph_node(device, "node"), "lut", ""), table) == 0, "the node does not name its table");
    graph_free(device);
}

/* Promise: tables hold what the reference's hold (the examples of EXPORT §7): Sigmoid, PRelu with ties to even, Gelu at 16 bits. */
TEST(tables_are_the_references)
{
    check_table(lowered_unary("Sigmoid", "esp32p4", 8, -5, -7), "Sigmoid_lut_0", 256, (int[]){2, 2, 2, 3, 3, 3, 3, 3}, 8);
    check_table(lowered_unary("PRelu", "esp32p4", 8, -5, -6), "PRelu_lut_0", 256, (int[]){-64, -64, -63, -62, -62, -62, -61, -60}, 8);
    check_table(lowered_unary("Gelu", "esp32p4", 16, -13, -14), "Gelu_lut_0", 257, (int[]){-2, -2, -3, -3, -3, -4, -4, -5}, 8);
}

/* Promise: a float unary operator that the chip does not have becomes a table between its two 8-bit neighbours, unless the reference's
 * file is wanted. */
TEST(unknown_unary_becomes_a_table)
{
    for (int reference = 0; reference < 2; reference++) {
        Error error = {0};
        Graph *graph = graph_new("table", &error);
        Shape shape = shape_of(2, (int64_t[]){1, 8});
        make_input(graph, "x", &shape);
        make_node(graph, "Relu", "before", "x", "a");
        make_node(graph, "Erf", "node", "a", "b");
        make_node(graph, "Relu", "behind", "b", "y");
        make_output(graph, "y");
        quantize_graph(graph, "esp32p4", 8);
        set_float(graph, "node");
        Graph *device = lower_with(graph, "esp32p4", reference);
        REQUIRE(device, "not lowered");
        CHECK(count_type(device, "Erf") == reference && count_type(device, "LUT") == !reference, "Erf %d, LUT %d",
              count_type(device, "Erf"), count_type(device, "LUT"));
        CHECK(count_type(device, "DequantizeLinear") == reference && count_type(device, "QuantizeLinear") == reference,
              "conversions are wrong");
        if (!reference)
            CHECK(device_integer(device, "LUT_lut_1", 128 + 32) == 27, "erf(1) is %d / 32", (int)device_integer(device, "LUT_lut_1", 160));
        graph_free(device);
        graph_free(graph);
    }
}
