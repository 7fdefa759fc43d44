/* The gradient column of every row against central differences: the loss is a random sum of the outputs, made in float64 from float32
 * results, so steps are large (1/128) and tolerances wide; corners are avoided by the numbers themselves. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "random_tensors.h"

#define STEP (1.0 / 128)

typedef struct Slope {
    OperatorRun *run;
    Shape shapes[2 * OPERATOR_ENDS];
    Dtype dtypes[2 * OPERATOR_ENDS];
    const Tensor *constants[OPERATOR_ENDS];
    Prepare prepare;
    char *scratch;
    Tensor *dy[OPERATOR_ENDS], *dx[OPERATOR_ENDS], *again[OPERATOR_ENDS];
} Slope;

/* Floats come at run time, as in training; integers are constants. */
static bool slope_prepare(Slope *slope, OperatorRun *run)
{
    Node *node = run->node;
    *slope = (Slope){.run = run};
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const Value *value = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        slope->shapes[i].rank = -1;
        if (!value) continue;
        slope->shapes[i] = value->shape;
        slope->dtypes[i] = value->dtype;
        if (i < node->input_count && value->dtype != DTYPE_FLOAT32) slope->constants[i] = value->constant;
    }
    slope->prepare = (Prepare){.node = node,
                               .constants = slope->constants,
                               .input_shapes = slope->shapes,
                               .output_shapes = slope->shapes + node->input_count,
                               .input_dtypes = slope->dtypes,
                               .output_dtypes = slope->dtypes + node->input_count,
                               .exact = run->exact};
    if (node->op->prepare && !node->op->prepare(&slope->prepare, &run->error)) return false;
    slope->scratch = memory_new_aligned(slope->prepare.scratch_bytes + 64);
    return slope->scratch != NULL;
}

static void slope_run(const Slope *slope)
{
    const Node *node = slope->run->node;
    Run run = {.node = node,
               .inputs = slope->run->inputs,
               .outputs = slope->run->outputs,
               .state = slope->prepare.state,
               .scratch = slope->scratch};
    node->op->run(&run);
}

static double loss(const Slope *slope)
{
    double sum = 0;
    slope_run(slope);
    for (int i = 0; i < slope->run->output_count; i++)
        for (int64_t k = 0; slope->dy[i] && k < tensor_count(slope->dy[i]); k++)
            sum += (double)tensor_floats(slope->dy[i])[k] * (double)tensor_floats(slope->run->outputs[i])[k];
    return sum;
}

static bool slope_gradient(const Slope *slope, Tensor *const *dx, int threads)
{
    const Node *node = slope->run->node;
    size_t bytes = node->op->gradient_scratch ? node->op->gradient_scratch(&slope->prepare) : 0;
    if (bytes == SIZE_MAX) return false;
    char *scratch = memory_new_aligned(bytes + 64);
    memset(scratch, 0xff, bytes + 64);
    Gradient gradient = {.node = node,
                         .inputs = slope->run->inputs,
                         .outputs = slope->run->outputs,
                         .output_gradients = slope->dy,
                         .input_gradients = dx,
                         .state = slope->prepare.state,
                         .scratch = scratch};
    for (int i = 0; i < node->input_count; i++)
        if (dx[i]) memset(dx[i]->data, 0xff, tensor_bytes(dx[i]));
    int before = threads_count();
    threads_set_count(threads);
    node->op->gradient(&gradient);
    threads_set_count(before);
    for (size_t i = bytes; i < bytes + 64; i++)
        if (scratch[i] != (char)0xff) {
            test_failed(__FILE__, __LINE__, "%s writes behind its scratch memory", node->type);
            break;
        }
    memory_free(scratch);
    return true;
}

static void compare(const Slope *slope, int input, double tolerance)
{
    float *x = tensor_floats(slope->run->inputs[input]);
    const float *dx = tensor_floats(slope->dx[input]);
    int64_t count = tensor_count(slope->run->inputs[input]), step = count / 40 + 1;
    double size = 0;
    for (int64_t i = 0; i < count; i++)
        size = fmax(size, fabs((double)dx[i]));
    for (int64_t i = 0; i < count; i += step) {
        float kept = x[i];
        x[i] = kept + (float)STEP;
        double above = loss(slope);
        x[i] = kept - (float)STEP;
        double below = loss(slope), expected = (above - below) / (2 * STEP);
        x[i] = kept;
        if (!(fabs(expected - (double)dx[i]) <= tolerance * (1 + size))) {
            char text[160];
            test_failed(__FILE__, __LINE__, "%s: input %d %s, element %d: %g, differences say %g", slope->run->node->type, input,
                        shape_text(&slope->run->inputs[input]->shape, text), (int)i, (double)dx[i], expected);
            return;
        }
    }
    slope_run(slope);
}

/* Compares all float inputs of `inputs` (bits); closes the run. */
static void check_slopes(OperatorRun *run, Random *random, unsigned inputs, double tolerance)
{
    Slope slope;
    Node *node = run->node;
    if (!operator_run(run) || !node->op->gradient || !slope_prepare(&slope, run)) {
        test_failed(__FILE__, __LINE__, "%s: %s", node->type, run->error.what);
        return;
    }
    for (int i = 0; i < node->output_count; i++)
        if (run->outputs[i]->dtype == DTYPE_FLOAT32) slope.dy[i] = random_shaped(random, &run->outputs[i]->shape);
    for (int i = 0; i < node->input_count; i++) {
        if (!run->inputs[i] || !(inputs >> i & 1)) continue;
        slope.dx[i] = test_tensor(run->inputs[i]->shape.rank, run->inputs[i]->shape.dims);
        slope.again[i] = test_tensor(run->inputs[i]->shape.rank, run->inputs[i]->shape.dims);
    }
    bool done = slope_gradient(&slope, slope.dx, 1) && slope_gradient(&slope, slope.again, 3);
    CHECK(done, "%s: no gradient with these attributes", node->type);
    for (int i = 0; done && i < node->input_count; i++) {
        if (!slope.dx[i]) continue;
        CHECK(tensor_equal(slope.dx[i], slope.again[i]), "%s: gradient of input %d differs with another number of threads", node->type, i);
        compare(&slope, i, tolerance);
    }
    for (int i = 0; i < OPERATOR_ENDS; i++) {
        tensor_release(slope.dy[i]);
        tensor_release(slope.dx[i]);
        tensor_release(slope.again[i]);
    }
    if (slope.prepare.state) {
        if (node->op->release)
            node->op->release(slope.prepare.state);
        else
            memory_free(slope.prepare.state);
    }
    memory_free(slope.scratch);
    operator_close(run);
}

static int below(Random *random, int n)
{
    return (int)(random_next(random) % (uint32_t)n);
}

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

/* Promise: pools of one and two axes with strides and pads, and the global ones. */
TEST(gradients_of_pools)
{
    static const char *const types[] = {"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"};
    Random random;
    random_seed(&random, 35);
    for (int i = 0; i < 24; i++) {
        OperatorRun run;
        int axes = 1 + below(&random, 2);
        Shape x = {.rank = 2 + axes, .dims = {2, 2, 6 + below(&random, 4), 7}};
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

static void check_moved(Random *random, OperatorRun *run)
{
    unsigned floats = 0;
    for (int i = 0; i < run->input_count; i++)
        if (run->inputs[i] && run->inputs[i]->dtype == DTYPE_FLOAT32 && run->inputs[i]->shape.rank) floats |= 1u << i;
    check_slopes(run, random, floats, 3e-3);
}

/* Promise: what moves elements moves their gradients back, and adds them where an element went to several places. */
TEST(gradients_of_moves)
{
    Random random;
    random_seed(&random, 37);
    OperatorRun run;
    if (operator_open(&run, "Transpose", 1)) {
        node_set_integers(run.graph, run.node, "perm", INTS(2, 0, 1));
        operator_input(&run, random_tensor(&random, 2, 3, 4), false);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Concat", 1)) {
        node_set_integer(run.graph, run.node, "axis", 1);
        operator_input(&run, random_tensor(&random, 2, 3, 4), false);
        operator_input(&run, random_tensor(&random, 2, 1, 4), false);
        operator_input(&run, random_tensor(&random, 2, 2, 4), false);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Split", 2)) {
        node_set_integer(run.graph, run.node, "axis", -1);
        operator_input(&run, random_tensor(&random, 2, 3, 5), false);
        operator_input(&run, integer_tensor(2, 3), true);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Slice", 1)) {
        operator_input(&run, random_tensor(&random, 4, 6), false);
        operator_input(&run, integer_tensor(3, 1), true);
        operator_input(&run, integer_tensor(0, 6), true);
        operator_input(&run, integer_tensor(0, 1), true);
        operator_input(&run, integer_tensor(-1, 2), true);
        check_moved(&random, &run);
    }
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    for (int i = 0; i < 4 && operator_open(&run, "Pad", 1); i++) {
        node_set_string(run.graph, run.node, "mode", modes[i]);
        operator_input(&run, random_tensor(&random, 3, 4), false);
        operator_input(&run, integer_tensor(1, 2, 0, 1), true);
        if (i == 0) operator_input(&run, float_scalar(3), true);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Gather", 1)) {
        node_set_integer(run.graph, run.node, "axis", 1);
        operator_input(&run, random_tensor(&random, 2, 3, 2), false);
        operator_input(&run, integer_tensor(2, 0, -1, 2), true);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "ScatterND", 1)) {
        operator_input(&run, random_tensor(&random, 4, 3), false);
        Tensor *indices = integer_tensor(2, 0);
        indices->shape = (Shape){.rank = 2, .dims = {2, 1}};
        indices->strides[0] = indices->strides[1] = 1;
        operator_input(&run, indices, true);
        operator_input(&run, random_tensor(&random, 2, 3), false);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Expand", 1)) {
        operator_input(&run, random_tensor(&random, 3, 1), false);
        operator_input(&run, integer_tensor(2, 3, 4), true);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Tile", 1)) {
        operator_input(&run, random_tensor(&random, 2, 3), false);
        operator_input(&run, integer_tensor(2, 3), true);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "DepthToSpace", 1)) {
        node_set_integer(run.graph, run.node, "blocksize", 2);
        operator_input(&run, random_tensor(&random, 1, 8, 2, 3), false);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "SpaceToDepth", 1)) {
        node_set_integer(run.graph, run.node, "blocksize", 2);
        operator_input(&run, random_tensor(&random, 1, 2, 4, 6), false);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "ReverseSequence", 1)) {
        operator_input(&run, random_tensor(&random, 4, 3, 2), false);
        operator_input(&run, integer_tensor(2, 4, 1), true);
        check_moved(&random, &run);
    }
    if (operator_open(&run, "Reshape", 1)) {
        operator_input(&run, random_tensor(&random, 2, 6), false);
        operator_input(&run, integer_tensor(3, 4), true);
        check_moved(&random, &run);
    }
}

/* Promise: Resize gives each element back the shares it was blended with. */
TEST(gradients_of_resizing)
{
    Random random;
    random_seed(&random, 38);
    for (int i = 0; i < 4; i++) {
        OperatorRun run;
        if (!operator_open(&run, "Resize", 1)) return;
        node_set_string(run.graph, run.node, "mode", i % 2 ? "linear" : "nearest");
        if (i == 3) node_set_string(run.graph, run.node, "coordinate_transformation_mode", "align_corners");
        operator_input(&run, random_tensor(&random, 1, 2, 3, 5), false);
        operator_input(&run, NULL, false);
        operator_input(
            &run, i < 2 ? test_values(1, (int64_t[]){4}, FLOATS(1, 1, 2, 2)) : test_values(1, (int64_t[]){4}, FLOATS(1, 1, 1.5f, 0.5f)),
            true);
        check_slopes(&run, &random, 1, 3e-3);
    }
}

/* Promise: every quantizable operator has a gradient, but those that give integers or truth values, and those that wait for their
 * simulation (OPTIM 13). */
TEST(quantizable_operators_have_gradients)
{
    static const char *const without[] = {"ArgMax", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "GRU", "LSTM"};
    const Operator *row;
    for (int i = 0; (row = operator_at(i)) && operator_is_built_in(row); i++) {
        bool excused = false;
        for (size_t k = 0; k < sizeof without / sizeof *without; k++)
            excused = excused || strcmp(without[k], row->name) == 0;
        if (row->flags & OPERATOR_QUANTIZABLE) CHECK(excused != (row->gradient != NULL), "%s", row->name);
    }
}
