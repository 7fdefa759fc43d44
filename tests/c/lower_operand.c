#include <string.h>

#include "check.h"
#include "lower_graphs.h"

/* a [1,3,c] times b [1,c,n], both activations. */
static Graph *product(int64_t n)
{
    Error error = {0};
    Graph *graph = graph_new("product", &error);
    Shape a = shape_of(3, (int64_t[]){1, 3, 6}), b = shape_of(3, (int64_t[]){1, 6, n});
    make_input(graph, "a", &a);
    make_input(graph, "b", &b);
    make_node(graph, "MatMul", "product", "a b", "y");
    make_output(graph, "y");
    return graph;
}

/* Promise: the second operand of a product of activations is brought into lanes by ordinary operations, as few as its width needs
 * (EXPORT 2.4): below one lane two, whole lanes three, lanes and a rest eight. */
TEST(dynamic_operand_is_rearranged)
{
    static const struct {
        const char *target;
        int64_t n;
        int transposes, reshapes, slices, concats;
    } rows[] = {{"esp32p4", 5, 1, 1, 0, 0}, {"esp32p4", 32, 1, 2, 0, 0}, {"esp32p4", 18, 2, 3, 2, 1}, {"c", 18, 1, 1, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Graph *graph = product(rows[i].n);
        quantize_graph(graph, rows[i].target, 8);
        Graph *device = lower_with(graph, rows[i].target, true);
        REQUIRE(device, "not lowered");
        CHECK(count_type(device, "Transpose") == rows[i].transposes && count_type(device, "Reshape") == rows[i].reshapes &&
                  count_type(device, "Slice") == rows[i].slices && count_type(device, "Concat") == rows[i].concats,
              "%s, n = %d: %d Transpose, %d Reshape, %d Slice, %d Concat", rows[i].target, (int)rows[i].n, count_type(device, "Transpose"),
              count_type(device, "Reshape"), count_type(device, "Slice"), count_type(device, "Concat"));
        const Node *matmul = graph_node(device, "product");
        CHECK(shape_equal(&matmul->inputs[1]->shape, &graph_value(device, "b")->shape), "the operand has another shape");
        CHECK(matmul->inputs[1]->device->dtype == DTYPE_INT8 && matmul->inputs[1]->device->exponents[0] == -5,
              "the operand has another format");
        graph_free(device);
        graph_free(graph);
    }
}
