/* Pools against loops, and where reference and chip part from ONNX. */
#include <math.h>
#include <string.h>

#include "run_operator.h"

typedef struct PoolCase {
    int64_t size[2], kernel[2], stride[2], dilation[2], pads[4];
    bool ceil_mode, include;
} PoolCase;

static void check_pool(Random *random, const char *type, const PoolCase *c)
{
    bool maximum = strcmp(type, "MaxPool") == 0;
    OperatorRun run;
    if (!operator_open(&run, type, 1)) return;
    operator_input(&run, test_random(random, DIMS(2, 3, c->size[0], c->size[1])), false);
    node_set_integers(run.graph, run.node, "kernel_shape", c->kernel, 2);
    node_set_integers(run.graph, run.node, "strides", c->stride, 2);
    node_set_integers(run.graph, run.node, "dilations", c->dilation, 2);
    node_set_integers(run.graph, run.node, "pads", c->pads, 4);
    node_set_integer(run.graph, run.node, "ceil_mode", c->ceil_mode);
    node_set_integer(run.graph, run.node, "count_include_pad", c->include);
    CHECK(operator_run(&run), "%s", run.error.what);
    const Tensor *y = run.outputs[0];
    for (int64_t flat = 0; y && flat < tensor_count(y); flat++) {
        int64_t column = flat % y->shape.dims[3], row = flat / y->shape.dims[3] % y->shape.dims[2],
                plane = flat / (y->shape.dims[2] * y->shape.dims[3]);
        double sum = 0, best = -INFINITY;
        int64_t inside = 0, padded = 0;
        for (int64_t i = 0; i < c->kernel[0]; i++) {
            for (int64_t j = 0; j < c->kernel[1]; j++) {
                int64_t r = row * c->stride[0] - c->pads[0] + i * c->dilation[0],
                        k = column * c->stride[1] - c->pads[1] + j * c->dilation[1];
                if (r < c->size[0] + c->pads[2] && k < c->size[1] + c->pads[3]) padded++;
                if (r < 0 || k < 0 || r >= c->size[0] || k >= c->size[1]) continue;
                double value = tensor_floats(run.inputs[0])[(plane * c->size[0] + r) * c->size[1] + k];
                inside++;
                sum += value;
                best = value > best ? value : best;
            }
        }
        double wanted = maximum ? best : inside == 0 && !c->include ? 0 : sum / (double)(c->include ? padded : inside);
        CHECK(test_close(tensor_floats(y)[flat], wanted, maximum ? 0 : 1e-6), "%s element %lld: %g, wanted %g", type, (long long)flat,
              (double)tensor_floats(y)[flat], wanted);
    }
    operator_close(&run);
}

/* Promise: pools with any kernel, stride, dilation, pads and ceil_mode equal ONNX's definition. */
TEST(pools_equal_their_definition)
{
    Random random;
    random_seed(&random, 13);
    for (int i = 0; i < 150; i++) {
        PoolCase c = {.ceil_mode = random_next(&random) % 2, .include = random_next(&random) % 2};
        for (int k = 0; k < 2; k++) {
            c.kernel[k] = 1 + random_next(&random) % 4;
            c.stride[k] = 1 + random_next(&random) % 3;
            c.dilation[k] = 1 + random_next(&random) % 2;
            c.size[k] = (c.kernel[k] - 1) * c.dilation[k] + 1 + random_next(&random) % 7;
            c.pads[k] = random_next(&random) % c.kernel[k];
            c.pads[k + 2] = random_next(&random) % c.kernel[k];
        }
        check_pool(&random, i % 2 ? "MaxPool" : "AveragePool", &c);
    }
}

static int64_t pooled(int64_t size, int64_t kernel, int64_t stride, int64_t pad_begin, int64_t pad_end)
{
    OperatorRun run;
    if (!operator_open(&run, "MaxPool", 1)) return -1;
    operator_input(&run, test_tensor(DIMS(1, 1, size)), false);
    node_set_integers(run.graph, run.node, "kernel_shape", &kernel, 1);
    node_set_integers(run.graph, run.node, "strides", &stride, 1);
    node_set_integers(run.graph, run.node, "pads", INTS(pad_begin, pad_end));
    node_set_integer(run.graph, run.node, "ceil_mode", 1);
    int64_t out = operator_run(&run) ? run.outputs[0]->shape.dims[2] : -1;
    operator_close(&run);
    return out;
}

/* Promise: with ceil_mode a window that would start in the trailing padding is dropped, as PyTorch does. */
TEST(pool_ceil_mode_drops_windows_behind_the_data)
{
    CHECK(pooled(5, 2, 2, 0, 0) == 3, "5 by 2: 3 windows");
    CHECK(pooled(4, 3, 2, 0, 0) == 2, "4 by 3, stride 2: 2 windows");
    CHECK(pooled(4, 1, 2, 0, 1) == 2, "the third window would start in the padding");
    CHECK(pooled(3, 2, 3, 1, 1) == 2, "1 + 3 + 1 by 2, stride 3: the second starts at the last element");
}

/* Promise: a NaN reaches every window of a maximum that holds it, and no other, in planes with padding, too. */
TEST(maximum_hands_nan_on)
{
    OperatorRun run;
    REQUIRE(operator_open(&run, "MaxPool", 1), "no MaxPool");
    int64_t dims[4] = {1, 2, 10, 9}, kernel[2] = {5, 3}, pads[4] = {2, 1, 2, 1};
    Tensor *x = test_tensor(4, dims);
    for (int64_t i = 0; i < tensor_count(x); i++)
        tensor_floats(x)[i] = (float)(i * 37 % 101) - 150;
    tensor_floats(x)[4 * 9 + 3] = NAN;
    operator_input(&run, x, false);
    node_set_integers(run.graph, run.node, "kernel_shape", kernel, 2);
    node_set_integers(run.graph, run.node, "pads", pads, 4);
    REQUIRE(operator_run(&run), "it does not run");
    for (int64_t i = 0; i < 2 * 10 * 9; i++) {
        int64_t plane = i / 90, row = i / 9 % 10, column = i % 9;
        float best = -INFINITY;
        bool nan = plane == 0 && row >= 2 && row <= 6 && column >= 2 && column <= 4;
        for (int64_t r = row - 2; r <= row + 2; r++)
            for (int64_t c = column - 1; c <= column + 1; c++)
                if (r >= 0 && r < 10 && c >= 0 && c < 9) best = fmaxf(best, tensor_floats(x)[plane * 90 + r * 9 + c]);
        float y = tensor_floats(run.outputs[0])[i];
        CHECK(nan ? isnan(y) : y == best, "element %d is %g", (int)i, (double)y);
    }
    operator_close(&run);
}

static float corner(const char *type, int64_t pad_end, bool exact, bool simulated, int spatial)
{
    OperatorRun run;
    float first = NAN;
    if (!operator_open(&run, type, 1)) return first;
    int64_t dims[4] = {1, 1, 2, 2}, kernel[2] = {2, 2}, stride[2] = {1, 1}, pads[4];
    for (int i = 0; i < spatial; i++) {
        pads[i] = 1;
        pads[i + spatial] = pad_end;
    }
    Tensor *x = test_tensor(2 + spatial, dims);
    for (int64_t i = 0; i < tensor_count(x); i++)
        tensor_floats(x)[i] = -8;
    operator_input(&run, x, false);
    node_set_integers(run.graph, run.node, "kernel_shape", kernel, spatial);
    node_set_integers(run.graph, run.node, "strides", stride, spatial);
    node_set_integers(run.graph, run.node, "pads", pads, 2 * spatial);
    run.exact = exact;
    run.simulated = simulated;
    run.node->quantized = simulated;
    if (operator_run(&run)) first = tensor_floats(run.outputs[0])[0];
    run.node->quantized = false;
    operator_close(&run);
    return first;
}

/* Promise: exact float runs follow ONNX; the reference's mode and simulated nodes count the padding, as the chip does (QUANT D19). */
TEST(pool_padding_counts_where_the_chip_counts_it)
{
    CHECK(corner("AveragePool", 1, true, false, 2) == -8, "ONNX: one tap");
    CHECK(corner("AveragePool", 1, false, false, 2) == -2, "reference: four taps");
    CHECK(corner("AveragePool", 1, true, true, 2) == -2, "simulated: the chip's four taps");
    CHECK(corner("MaxPool", 0, true, false, 1) == -8, "ONNX: padding never wins");
    CHECK(corner("MaxPool", 0, false, false, 1) == 0, "reference: unequal 1-D pads are zeros");
    CHECK(corner("MaxPool", 1, false, false, 1) == -8, "reference: equal pads are not");
    CHECK(corner("MaxPool", 0, false, false, 2) == -8, "reference: nor in 2-D");
}

/* Promise: the global pools reduce all spatial axes of any rank; a NaN is not lost. */
TEST(global_pools_reduce_all_axes)
{
    OperatorRun run;
    if (!operator_open(&run, "GlobalAveragePool", 1)) return;
    operator_input(&run, test_values(DIMS(1, 2, 2, 2), FLOATS(1, 2, 3, 6, -1, -1, -1, 0)), false);
    CHECK(operator_run(&run) && tensor_floats(run.outputs[0])[0] == 3 && tensor_floats(run.outputs[0])[1] == -0.75f, "mean");
    CHECK(run.outputs[0] && run.outputs[0]->shape.rank == 4 && tensor_count(run.outputs[0]) == 2, "shape");
    operator_close(&run);
    if (!operator_open(&run, "GlobalMaxPool", 1)) return;
    operator_input(&run, test_values(DIMS(1, 2, 3), FLOATS(1, NAN, 3, -3, -1, -2)), false);
    CHECK(operator_run(&run) && isnan(tensor_floats(run.outputs[0])[0]) && tensor_floats(run.outputs[0])[1] == -1, "maximum");
    operator_close(&run);
}
