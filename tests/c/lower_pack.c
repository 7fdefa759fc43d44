#include <string.h>

#include "check.h"
#include "lower_graphs.h"

/* Weights whose integers show where they came from; at exponent -7 a number is its integer / 128. */
static float input_and_output(const int64_t *at)
{
    return (float)(100 * at[1] + at[0]) / 128;
}
static float column_and_output(const int64_t *at)
{
    return (float)(100 * at[3] + at[0]) / 128;
}
static float counted(const int64_t *at)
{
    return (float)(3 * at[0] + at[1] + 1) / 128;
}

static Graph *lowered_conv(const char *target, int bits, Shape weight, int64_t group, float (*number)(const int64_t *at))
{
    Error error = {0};
    Graph *graph = graph_new("pack", &error);
    int64_t channels = group > 1 ? group : weight.dims[1];
    Shape input = shape_of(4, (int64_t[]){1, channels, 3, 3});
    make_input(graph, "x", &input);
    make_numbers(graph, "w", &weight, number);
    Node *conv = make_node(graph, "Conv", "conv", "x w", "y");
    if (group > 1) node_set_integer(graph, conv, "group", group);
    make_output(graph, "y");
    quantize_graph(graph, target, bits);
    Graph *device = lower_with(graph, target, true);
    graph_free(graph);
    return device;
}

static void check_packed(Graph *device, const char *layout, Shape dims, const int *expected, int count)
{
    REQUIRE(device, "not lowered");
    const Value *weight = graph_value(device, "w");
    CHECK(strcmp(weight->device->layout, layout) == 0, "layout %s, expected %s", weight->device->layout, layout);
    CHECK(shape_equal(&weight->device->shape, &dims), "dims are %s", stored_shape(device, "w"));
    REQUIRE(tensor_count(weight->constant) == count, "%d integers", (int)tensor_count(weight->constant));
    for (int i = 0; i < count; i++)
        CHECK(device_integer(device, "w", i) == (expected[i] > 127 && weight->constant->dtype == DTYPE_INT8 ? 127 : expected[i]),
              "integer %d is %d, expected %d", i, (int)device_integer(device, "w", i), expected[i]);
    graph_free(device);
}

/* Promise: filters are packed by output channels in lanes of 16 at 8 bits, the rest behind them channel by channel (EXPORT 6.6-1). */
TEST(conv_packs_lanes_of_16)
{
    int expected[36];
    for (int i = 0; i < 2; i++)
        for (int o = 0; o < 16; o++)
            expected[16 * i + o] = 100 * i + o;
    memcpy(expected + 32, (int[]){16, 116, 17, 117}, 4 * sizeof(int));
    check_packed(lowered_conv("esp32p4", 8, shape_of(4, (int64_t[]){18, 2, 1, 1}), 1, input_and_output), "(N/16)HWC16_UNALIGNED",
                 shape_of(4, (int64_t[]){1, 1, 2, 18}), expected, 36);
}

/* Promise: at 16 bits the lanes are 8 (EXPORT 6.6-2). */
TEST(conv_packs_lanes_of_8)
{
    int expected[36], at = 0;
    for (int block = 0; block < 2; block++)
        for (int i = 0; i < 2; i++)
            for (int o = 0; o < 8; o++)
                expected[at++] = 100 * i + 8 * block + o;
    memcpy(expected + 32, (int[]){16, 116, 17, 117}, 4 * sizeof(int));
    check_packed(lowered_conv("esp32s3", 16, shape_of(4, (int64_t[]){18, 2, 1, 1}), 1, input_and_output), "(N/8)HWC8_UNALIGNED",
                 shape_of(4, (int64_t[]){1, 1, 2, 18}), expected, 36);
}

/* Promise: the rest of a depthwise filter lies side by side, not channel by channel (EXPORT 6.6-3). */
TEST(depthwise_packs_its_rest_side_by_side)
{
    int expected[36];
    for (int x = 0; x < 2; x++)
        for (int o = 0; o < 16; o++)
            expected[16 * x + o] = 100 * x + o;
    memcpy(expected + 32, (int[]){16, 17, 116, 117}, 4 * sizeof(int));
    check_packed(lowered_conv("esp32s3", 8, shape_of(4, (int64_t[]){18, 1, 1, 2}), 18, column_and_output), "(N/16)HWC16_UNALIGNED",
                 shape_of(4, (int64_t[]){1, 2, 18, 1}), expected, 36);
}

/* Promise: C targets know no lanes: NHWC, and HWCN for depthwise (EXPORT 6.6-4). */
TEST(c_targets_pack_plainly)
{
    int dense[36], depthwise[36];
    for (int o = 0; o < 18; o++)
        for (int i = 0; i < 2; i++) {
            dense[2 * o + i] = 100 * i + o;
            depthwise[18 * i + o] = 100 * i + o;
        }
    check_packed(lowered_conv("c", 8, shape_of(4, (int64_t[]){18, 2, 1, 1}), 1, input_and_output), "NHWC",
                 shape_of(4, (int64_t[]){1, 1, 2, 18}), dense, 36);
    check_packed(lowered_conv("c", 8, shape_of(4, (int64_t[]){18, 1, 1, 2}), 18, column_and_output), "HWCN",
                 shape_of(4, (int64_t[]){1, 2, 18, 1}), depthwise, 36);
}

/* Promise: a Gemm's matrix becomes a 1x1 filter [1, 1, K, N] and transB 0, whichever way it was stored (EXPORT 6.6-5). */
TEST(gemm_packs_as_a_filter)
{
    for (int turned = 0; turned < 2; turned++) {
        Error error = {0};
        Graph *graph = graph_new("pack", &error);
        Shape input = shape_of(2, (int64_t[]){1, 3}), weight = shape_of(2, turned ? (int64_t[]){2, 3} : (int64_t[]){3, 2});
        make_input(graph, "x", &input);
        make_numbers(graph, "w", &weight, counted);
        Node *gemm = make_node(graph, "Gemm", "gemm", "x w", "y");
        if (turned) node_set_integer(graph, gemm, "transB", 1);
        make_output(graph, "y");
        quantize_graph(graph, "esp32p4", 8);
        Graph *device = lower_with(graph, "esp32p4", true);
        REQUIRE(device, "not lowered");
        const int rows[] = {1, 2, 3, 4, 5, 6}, columns[] = {1, 4, 7, 2, 5, 8};
        for (int i = 0; i < 6; i++)
            CHECK(device_integer(device, "w", i) == (turned ? rows : columns)[i], "integer %d is %d", i,
                  (int)device_integer(device, "w", i));
        CHECK(strcmp(stored_shape(device, "w"), "1x1x3x2") == 0, "dims are %s", stored_shape(device, "w"));
        CHECK(node_integer(graph_node(device, "gemm"), "transB", 0) == 0, "transB stays 1");
        CHECK(strcmp(node_string(graph_node(device, "gemm"), "activation", ""), "Linear") == 0, "no activation");
        graph_free(device);
        graph_free(graph);
    }
}
