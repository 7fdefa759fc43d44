/* The gradient column of rows that compute, against central differences; what moves elements is in ops_gradient_moves.c. */
#include "slopes.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* Numbers at least 1/16 from each other's corners: k / 8 + 1/16. */
static Tensor *off_corners(Random *random, const Shape *shape)
{
    Tensor *tensor = random_shaped(random, shape);
    for (int64_t i = 0; i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = floorf(tensor_floats(tensor)[i] * 8) / 8 + 1.0f / 16;
    return tensor;
}

static Tensor *positive(Random *random, const Shape *shape)
{
    Tensor *tensor = random_shaped(random, shape);
    for (int64_t i = 0; i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = fabsf(tensor_floats(tensor)[i]) + 0.5f;
    return tensor;
}

/* Promise: functions of one element have their derivative. */
TEST(gradients_of_functions_of_one_element)
{
    static const char *const any[] = {
        "Relu", "Sigmoid",         "Tanh",     "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Swish", "Gelu", "Softplus", "Mish", "Selu",
        "Celu", "ThresholdedRelu", "Softsign", "Shrink",    "Abs", "Neg",         "Exp",       "Sin",   "Cos",  "Erf"};
    static const char *const above[] = {"Log", "Sqrt", "Reciprocal", "Tan"};
    Random random;
    random_seed(&random, 31);
    for (size_t i = 0; i < sizeof any / sizeof *any + sizeof above / sizeof *above; i++) {
        OperatorRun run;
        bool first = i < sizeof any / sizeof *any;
        if (!operator_open(&run, first ? any[i] : above[i - sizeof any / sizeof *any], 1)) continue;
        Shape shape = random_shape(&random, 3);
        Tensor *x = first ? off_corners(&random, &shape) : positive(&random, &shape);
        for (int64_t k = 0; !first && k < tensor_count(x); k++)
            if (tensor_floats(x)[k] > 1.2f) tensor_floats(x)[k] = 1.2f;
        operator_input(&run, x, false);
        check_slopes(&run, &random, 1, 3e-3);
    }
}

/* Promise: Clip, too, with both bounds, one, or none. */
TEST(gradients_of_clips)
{
    Random random;
    random_seed(&random, 39);
    for (int i = 0; i < 4; i++) {
        OperatorRun run;
        if (!operator_open(&run, "Clip", 1)) return;
        Shape shape = random_shape(&random, 4);
        operator_input(&run, off_corners(&random, &shape), false);
        operator_input(&run, i & 1 ? float_scalar(-0.5f) : NULL, true);
        operator_input(&run, i & 2 ? float_scalar(0.5f) : NULL, true);
        check_slopes(&run, &random, 1, 3e-3);
    }
}

/* Promise: Clip passes the gradient inside and on its bounds, Relu nothing at 0 (OPTIM 7.5). */
TEST(gradients_on_corners_are_those_of_the_reference)
{
    const float x[] = {-1, 0, 1e-30f, 6, 6.5f}, relu[] = {0, 0, 1, 1, 1}, clip[] = {0, 1, 1, 1, 0};
    for (int kind = 0; kind < 2; kind++) {
        OperatorRun run;
        if (!operator_open(&run, kind ? "Clip" : "Relu", 1)) return;
        operator_input(&run, test_values(1, (int64_t[]){5}, x), false);
        if (kind) {
            operator_input(&run, float_scalar(0), true);
            operator_input(&run, float_scalar(6), true);
        }
        Slope slope;
        REQUIRE(operator_run(&run) && slope_prepare(&slope, &run), "%s", run.error.what);
        slope.dy[0] = test_values(1, (int64_t[]){5}, FLOATS(1, 1, 1, 1, 1));
        slope.dx[0] = test_tensor(1, (int64_t[]){5});
        slope_gradient(&slope, slope.dx, 1);
        CHECK(memcmp(slope.dx[0]->data, kind ? clip : relu, sizeof relu) == 0, "%s", run.node->type);
        tensor_release(slope.dy[0]);
        tensor_release(slope.dx[0]);
        memory_free(slope.scratch);
        operator_close(&run);
    }
}

/* Promise: operands of elementwise operators gain their share, summed over the axes along which they were broadcast. */
TEST(gradients_of_broadcast_operands)
{
    static const char *const types[] = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow"};
    Random random;
    random_seed(&random, 32);
    for (int i = 0; i < 45; i++) {
        OperatorRun run;
        const char *type = types[i % 9];
        Shape a = random_shape(&random, 4), b = a;
        if (!operator_open(&run, type, 1)) continue;
        for (int axis = 0; axis < a.rank; axis++) {
            if (below(&random, 3) == 0) a.dims[axis] = 1;
            if (below(&random, 3) == 0) b.dims[axis] = 1;
        }
        if (i % 2 && b.rank > 1) b = shape_of(b.rank - 1, b.dims + 1);
        bool away = strcmp(type, "Div") == 0 || strcmp(type, "Pow") == 0;
        operator_input(&run, away ? positive(&random, &a) : random_shaped(&random, &a), false);
        operator_input(&run, away ? positive(&random, &b) : random_shaped(&random, &b), false);
        check_slopes(&run, &random, 3, 5e-3);
    }
    OperatorRun run;
    if (!operator_open(&run, "PRelu", 1)) return;
    operator_input(&run, off_corners(&random, &(Shape){.rank = 4, .dims = {2, 3, 4, 5}}), false);
    operator_input(&run, random_tensor(&random, 3, 1, 1), false);
    check_slopes(&run, &random, 3, 3e-3);
}

static void spatial(OperatorRun *run, const char *name, Random *random, int axes, int least, int most)
{
    int64_t values[6];
    for (int i = 0; i < axes; i++)
        values[i] = least + below(random, most - least + 1);
    node_set_integers(run->graph, run->node, name, values, axes);
}

/* Promise: convolutions and transposed ones of one and two axes, with groups, strides, dilations and pads (also negative ones). */
TEST(gradients_of_convolutions)
{
    Random random;
    random_seed(&random, 33);
    for (int i = 0; i < 40; i++) {
        OperatorRun run;
        int axes = 1 + below(&random, 2), group = 1 + below(&random, 3), in = 1 + below(&random, 3), out = 1 + below(&random, 3);
        bool transposed = i % 3 == 2;
        if (!operator_open(&run, transposed ? "ConvTranspose" : "Conv", 1)) return;
        if (i % 5 == 0) in = out = 1;
        Shape x = {.rank = 2 + axes, .dims = {1 + below(&random, 2), (int64_t)group * in}}, w = x,
              b = {.rank = 1, .dims = {(int64_t)group * out}};
        w.dims[0] = (int64_t)group * (transposed ? in : out);
        w.dims[1] = transposed ? out : in;
        for (int axis = 0; axis < axes; axis++) {
            x.dims[2 + axis] = 7 + below(&random, 4);
            w.dims[2 + axis] = 1 + below(&random, 3);
        }
        node_set_integer(run.graph, run.node, "group", group);
        spatial(&run, "strides", &random, axes, 1, 3);
        spatial(&run, "dilations", &random, axes, 1, 2);
        spatial(&run, "pads", &random, 2 * axes, transposed ? 0 : i % 7 == 0 ? -1 : 0, transposed ? 0 : 2);
        operator_input(&run, random_shaped(&random, &x), false);
        operator_input(&run, random_shaped(&random, &w), false);
        operator_input(&run, random_shaped(&random, &b), false);
        check_slopes(&run, &random, 7, 3e-3);
    }
    OperatorRun run;
    if (!operator_open(&run, "InsertZeros", 1)) return;
    spatial(&run, "stride", &random, 2, 2, 3);
    operator_input(&run, random_tensor(&random, 1, 2, 3, 4), false);
    check_slopes(&run, &random, 1, 3e-3);
}

/* Promise: Gemm with its factors and transposes, MatMul with batches that broadcast. */
TEST(gradients_of_matrix_products)
{
    Random random;
    random_seed(&random, 34);
    for (int i = 0; i < 12; i++) {
        OperatorRun run;
        if (!operator_open(&run, "Gemm", 1)) return;
        int64_t m = 1 + below(&random, 5), n = 1 + below(&random, 6), k = 1 + below(&random, 7);
        node_set_integer(run.graph, run.node, "transA", i & 1);
        node_set_integer(run.graph, run.node, "transB", i >> 1 & 1);
        node_set_number(run.graph, run.node, "alpha", i >> 2 & 1 ? 0.5f : 1.0f);
        node_set_number(run.graph, run.node, "beta", i % 3 ? 1.0f : 2.0f);
        operator_input(&run, i & 1 ? random_tensor(&random, k, m) : random_tensor(&random, m, k), false);
        operator_input(&run, i & 2 ? random_tensor(&random, n, k) : random_tensor(&random, k, n), false);
        operator_input(&run, i % 2 ? random_tensor(&random, n) : random_tensor(&random, m, 1), false);
        check_slopes(&run, &random, 7, 3e-3);
    }
    const Shape pairs[][2] = {{{2, {3, 4}}, {2, {4, 5}}},
                              {{3, {2, 3, 4}}, {2, {4, 5}}},
                              {{2, {3, 4}}, {3, {2, 4, 5}}},
                              {{4, {2, 1, 3, 4}}, {3, {3, 4, 2}}},
                              {{1, {4}}, {2, {4, 5}}},
                              {{2, {3, 4}}, {1, {4}}},
                              {{4, {2, 3, 3, 4}}, {4, {2, 3, 4, 2}}}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        OperatorRun run;
        if (!operator_open(&run, "MatMul", 1)) return;
        operator_input(&run, random_shaped(&random, &pairs[i][0]), false);
        operator_input(&run, random_shaped(&random, &pairs[i][1]), false);
        check_slopes(&run, &random, 3, 3e-3);
    }
}

/* Promise: pools of one to three axes with strides and pads, and the global ones. */
TEST(gradients_of_pools)
{
    static const char *const types[] = {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"};
    Random random;
    random_seed(&random, 35);
    for (int i = 0; i < 24; i++) {
        OperatorRun run;
        int axes = i / 4 % 3 + 1;
        Shape x = {.rank = 2 + axes, .dims = {2, 2, 6 + below(&random, 4), 7, 5}};
        if (!operator_open(&run, types[i % 4], 1)) return;
        if (i % 4 < 2) {
            spatial(&run, "kernel_shape", &random, axes, 2, 3);
            spatial(&run, "strides", &random, axes, 1, 3);
            spatial(&run, "pads", &random, 2 * axes, 0, 1);
            node_set_integer(run.graph, run.node, "count_include_pad", i % 3 == 0);
        }
        Tensor *tensor = test_tensor(x.rank, x.dims);
        int64_t count = tensor_count(tensor);
        for (int64_t k = 0; k < count; k++) /* all different by more than the step */
            tensor_floats(tensor)[k] = (float)(k * 37 % count) / 16;
        operator_input(&run, tensor, false);
        check_slopes(&run, &random, 1, 3e-3);
    }
}

/* Promise: normalizations, softmaxes and reductions along any axes. */
TEST(gradients_of_normalizations_and_reductions)
{
    static const char *const rows[] = {"LayerNormalization", "RMSNormalization", "InstanceNormalization", "BatchNormalization"};
    static const char *const along[] = {"Softmax", "LogSoftmax", "LpNormalization"};
    static const char *const reductions[] = {"ReduceL1",   "ReduceL2",  "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                                             "ReduceMean", "ReduceMin", "ReduceProd",   "ReduceSum",       "ReduceSumSquare"};
    Random random;
    random_seed(&random, 36);
    for (int i = 0; i < 8; i++) {
        OperatorRun run;
        bool by_channel = i % 4 >= 2;
        if (!operator_open(&run, rows[i % 4], 1)) return;
        operator_input(&run, random_tensor(&random, 2, 3, 4, 5), false);
        operator_input(&run, by_channel ? random_tensor(&random, 3) : i < 4 ? random_tensor(&random, 5) : random_tensor(&random, 1), false);
        if (i % 4 != 1) operator_input(&run, by_channel ? random_tensor(&random, 3) : random_tensor(&random, 5), false);
        if (i % 4 == 3) operator_input(&run, random_tensor(&random, 3), false);
        if (i % 4 == 3) operator_input(&run, positive(&random, &(Shape){.rank = 1, .dims = {3}}), false);
        check_slopes(&run, &random, 7, 5e-3);
    }
    for (int i = 0; i < 12; i++) {
        OperatorRun run;
        if (!operator_open(&run, along[i % 3], 1)) return;
        node_set_integer(run.graph, run.node, "axis", i % 4 - 1);
        if (i % 3 == 2) node_set_integer(run.graph, run.node, "p", 1 + i % 2);
        operator_input(&run, off_corners(&random, &(Shape){.rank = 3, .dims = {2, 4, 3}}), false);
        check_slopes(&run, &random, 1, 5e-3);
    }
    for (int i = 0; i < 30; i++) {
        OperatorRun run;
        if (!operator_open(&run, reductions[i % 10], 1)) return;
        Shape shape = {.rank = 3, .dims = {3, 4, 2}};
        Tensor *x = strcmp(reductions[i % 10], "ReduceLogSum") == 0 ? positive(&random, &shape) : off_corners(&random, &shape);
        if (strncmp(reductions[i % 10], "ReduceM", 7) == 0)
            for (int64_t k = 0; k < 24; k++)
                tensor_floats(x)[k] = (float)(k * 7 % 24) / 8; /* no ties */
        operator_input(&run, x, false);
        if (i >= 10) operator_input(&run, i >= 20 ? integer_tensor(0, 2) : integer_tensor(1), true);
        node_set_integer(run.graph, run.node, "keepdims", i % 2);
        check_slopes(&run, &random, 1, 8e-3);
    }
}
