#include <string.h>

#include "check.h"
#include "lower_graphs.h"

static float first_axis(const int64_t *at)
{
    return (float)at[0] / 128;
}

/* x [1,2,4,6] -> Conv 1x1 to 3 channels -> c [1,3,4,6], ready for one more node. */
static Graph *conv_first(void)
{
    Error error = {0};
    Graph *graph = graph_new("layout", &error);
    Shape input = shape_of(4, (int64_t[]){1, 2, 4, 6}), weight = shape_of(4, (int64_t[]){3, 2, 1, 1});
    make_input(graph, "x", &input);
    make_parameter(graph, "w", &weight, 1);
    make_node(graph, "Conv", "conv", "x w", "c");
    return graph;
}

static Graph *finish(Graph *graph, const char *output, bool reference)
{
    make_output(graph, output);
    quantize_graph(graph, "esp32p4", 8);
    Graph *device = lower_with(graph, "esp32p4", reference);
    graph_free(graph);
    return device;
}

/* Promise: a graph input is stored as its first consumer wants it, and what does not care about order takes what comes. */
TEST(convolution_decides_for_its_neighbours)
{
    Graph *graph = conv_first();
    make_node(graph, "Sigmoid", "act", "c", "y");
    Graph *device = finish(graph, "y", true);
    REQUIRE(device, "not lowered");
    CHECK(strcmp(stored_shape(device, "x"), "1x4x6x2") == 0, "input is %s", stored_shape(device, "x"));
    CHECK(strcmp(stored_shape(device, "y"), "1x4x6x3") == 0, "output is %s", stored_shape(device, "y"));
    CHECK(count_type(device, "Transpose") == 0, "a Transpose too many");
    graph_free(device);
}

/* Promise: an operator that needs the model's order gets its input turned back; the reference then describes the wrong shape (E5),
 * the default the right one. */
TEST(flatten_gets_its_input_turned_back)
{
    for (int reference = 0; reference < 2; reference++) {
        Graph *graph = conv_first();
        make_node(graph, "Flatten", "flat", "c", "y");
        Graph *device = finish(graph, "y", reference);
        REQUIRE(device, "not lowered");
        const Node *transpose = first_of(device, "Transpose");
        REQUIRE(transpose, "no Transpose");
        int64_t perm[4];
        CHECK(node_integers(transpose, "perm", perm, 4) == 4 && perm[1] == 3 && perm[2] == 1 && perm[3] == 2, "perm is wrong");
        const char *shape = stored_shape(device, transpose->outputs[0]->name);
        CHECK(strcmp(shape, reference ? "1x6x3x4" : "1x3x4x6") == 0, "described as %s", shape);
        graph_free(device);
    }
}

/* Promise: axes follow the data: Concat and Softmax along channels work along the last axis behind a convolution. */
TEST(axes_follow_the_data)
{
    Graph *graph = conv_first();
    Node *concat = make_node(graph, "Concat", "cat", "c c", "j");
    node_set_integer(graph, concat, "axis", -3);
    Node *softmax = make_node(graph, "Softmax", "soft", "j", "y");
    node_set_integer(graph, softmax, "axis", 1);
    Graph *device = finish(graph, "y", true);
    REQUIRE(device, "not lowered");
    CHECK(node_integer(graph_node(device, "cat"), "axis", 0) == 3, "Concat works along %d",
          (int)node_integer(graph_node(device, "cat"), "axis", 0));
    CHECK(node_integer(graph_node(device, "soft"), "axis", 0) == 3, "Softmax works along %d",
          (int)node_integer(graph_node(device, "soft"), "axis", 0));
    graph_free(device);
}

/* Promise: reducing rows and columns without keeping them names the turned axes, sorted, and leaves [N, C]. */
TEST(reduction_axes_are_turned_and_sorted)
{
    Error error = {0};
    Graph *graph = conv_first();
    Tensor *axes = tensor_from_integers((int64_t[]){3, -2}, 2, &error);
    graph_add_constant(graph, "axes", axes, &error);
    tensor_release(axes);
    Node *mean = make_node(graph, "ReduceMean", "mean", "c axes", "y");
    node_set_integer(graph, mean, "keepdims", 0);
    Graph *device = finish(graph, "y", true);
    REQUIRE(device, "not lowered");
    CHECK(device_integer(device, "axes", 0) == 1 && device_integer(device, "axes", 1) == 2, "axes are %d, %d",
          (int)device_integer(device, "axes", 0), (int)device_integer(device, "axes", 1));
    CHECK(strcmp(stored_shape(device, "y"), "1x3") == 0, "output is %s", stored_shape(device, "y"));
    graph_free(device);
}

/* Promise: a constant of one number a channel is turned with the data it meets (E9); one number for all stays a scalar. */
TEST(constants_turn_with_the_data)
{
    Graph *graph = conv_first();
    Shape channel = shape_of(3, (int64_t[]){3, 1, 1}), scalar = shape_of(0, NULL);
    make_numbers(graph, "k", &channel, first_axis);
    make_numbers(graph, "s", &scalar, first_axis);
    make_node(graph, "Mul", "mul", "c k", "m");
    make_node(graph, "Add", "add", "m s", "y");
    Graph *device = finish(graph, "y", true);
    REQUIRE(device, "not lowered");
    CHECK(strcmp(stored_shape(device, "k"), "1x1x1x3") == 0, "the constant is %s", stored_shape(device, "k"));
    CHECK(device_integer(device, "k", 2) == 2, "its numbers moved");
    CHECK(strcmp(stored_shape(device, "s"), "") == 0, "the scalar is %s", stored_shape(device, "s"));
    graph_free(device);
}

/* Promise: two Transposes that undo each other vanish, one behind the other or with an activation between them. */
TEST(transposes_that_meet_vanish)
{
    for (int between = 0; between < 2; between++) {
        Error error = {0};
        Graph *graph = graph_new("layout", &error);
        Shape input = shape_of(4, (int64_t[]){1, 4, 6, 3});
        make_input(graph, "x", &input);
        Node *there = make_node(graph, "Transpose", "there", "x", "t");
        node_set_integers(graph, there, "perm", (int64_t[]){0, 3, 1, 2}, 4);
        if (between) make_node(graph, "Relu", "act", "t", "r");
        Node *back = make_node(graph, "Transpose", "back", between ? "r" : "t", "u");
        node_set_integers(graph, back, "perm", (int64_t[]){0, 2, 3, 1}, 4);
        make_node(graph, "Sigmoid", "last", "u", "y");
        Graph *device = finish(graph, "y", true);
        REQUIRE(device, "not lowered");
        CHECK(count_type(device, "Transpose") == 0, "%d Transposes are left", count_type(device, "Transpose"));
        CHECK(strcmp(stored_shape(device, "y"), "1x4x6x3") == 0, "output is %s", stored_shape(device, "y"));
        graph_free(device);
    }
}

/* Promise: a graph output that loses its Transpose is still found by its old name for test values, in its stored shape. */
TEST(renamed_output_keeps_its_test_value)
{
    Error error = {0};
    Graph *graph = conv_first();
    Node *turn = make_node(graph, "Transpose", "t1", "c", "t");
    node_set_integers(graph, turn, "perm", (int64_t[]){0, 2, 3, 1}, 4);
    make_node(graph, "Sigmoid", "act", "t", "s");
    Node *back = make_node(graph, "Transpose", "t2", "s", "y");
    node_set_integers(graph, back, "perm", (int64_t[]){0, 1, 2, 3}, 4);
    Graph *device = finish(graph, "y", false);
    REQUIRE(device, "not lowered");
    Shape shape = shape_of(4, (int64_t[]){1, 4, 6, 3});
    Tensor *made = tensor_new(DTYPE_FLOAT32, &shape, &error);
    TestValue test = {"y", made};
    bool gone = true;
    int exponent = 0;
    Tensor *stored = lower_test_value(device, &test, &exponent, &gone, &error);
    const char *name = lower_test_name(device, "y");
    REQUIRE(stored && !gone && name, "the test value is lost");
    CHECK(stored->dtype == DTYPE_INT8 && exponent == -5, "not in integer form");
    CHECK(shape_equal(&stored->shape, &graph_value(device, name)->device->shape), "stored %s", stored_shape(device, name));
    tensor_release(stored);
    tensor_release(made);
    graph_free(device);
}
