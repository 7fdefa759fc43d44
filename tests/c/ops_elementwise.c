#include "base/math.h"
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "random_tensors.h"

/* Flat index in `from` of the element that stands at flat index `at` of `to`, right-aligned, dimensions of 1 repeated. */
static int64_t broadcast_index(const Shape *from, const Shape *to, int64_t at)
{
    int64_t index = 0, stride = 1;
    for (int i = to->rank - 1, k = from->rank - 1; i >= 0; i--, k--) {
        int64_t place = at % to->dims[i];
        at /= to->dims[i];
        if (k < 0) continue;
        if (from->dims[k] != 1) index += place * stride;
        stride *= from->dims[k];
    }
    return index;
}

/* A shape that broadcasts with `shape`: some dimensions 1, some leading ones left out. */
static Shape companion(Random *random, const Shape *shape)
{
    int skip = (int)(random_next(random) % (uint32_t)(shape->rank + 1));
    Shape out = {.rank = shape->rank - skip};
    for (int i = 0; i < out.rank; i++)
        out.dims[i] = random_next(random) % 3 == 0 ? 1 : shape->dims[skip + i];
    return out;
}

static float two(const char *type, float a, float b)
{
    if (strcmp(type, "Add") == 0 || strcmp(type, "Sum") == 0) return a + b;
    if (strcmp(type, "Sub") == 0) return a - b;
    if (strcmp(type, "Mul") == 0) return a * b;
    if (strcmp(type, "Div") == 0) return a / b;
    if (strcmp(type, "Mod") == 0) return fmodf(a, b);
    if (strcmp(type, "Max") == 0) return a > b ? a : b;
    if (strcmp(type, "Min") == 0) return a < b ? a : b;
    return (a + b) / 2; /* Mean */
}

/* Promise: operators of two tensors give what a loop over the broadcast index space gives, bit for bit, whatever is broadcast. */
TEST(two_operands_broadcast)
{
    static const char *const types[] = {"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Sum", "Mean"};
    Random random;
    random_seed(&random, 1);
    for (int round = 0; round < 400; round++) {
        const char *type = types[round % 9];
        Shape a = random_shape(&random, 6), b = companion(&random, &a);
        if (round % 11 == 0) a = (Shape){.rank = 2, .dims = {3, 20000}}; /* several threads */
        if (round % 11 == 0) b = companion(&random, &a);
        OperatorRun run;
        REQUIRE(operator_open(&run, type, 1), "no row");
        bool swapped = round % 2;
        operator_input(&run, random_shaped(&random, swapped ? &b : &a), false);
        operator_input(&run, random_shaped(&random, swapped ? &a : &b), false);
        if (strcmp(type, "Mod") == 0) node_set_integer(run.graph, run.node, "fmod", 1);
        REQUIRE(operator_run(&run), "%s: %s", type, run.error.what);
        const Tensor *x = run.inputs[0], *z = run.inputs[1], *y = run.outputs[0];
        CHECK(shape_equal(&y->shape, &a), "%s: wrong shape", type);
        for (int64_t i = 0; i < tensor_count(y); i++) {
            float p = tensor_floats(x)[broadcast_index(&x->shape, &y->shape, i)],
                  q = tensor_floats(z)[broadcast_index(&z->shape, &y->shape, i)];
            if (tensor_floats(y)[i] == two(type, p, q)) continue;
            CHECK(false, "%s element %lld: %g, %g -> %g", type, (long long)i, (double)p, (double)q, (double)tensor_floats(y)[i]);
            break;
        }
        operator_close(&run);
    }
}

/* Promise: shape arithmetic is exact in int64 and int32; division cuts towards zero, Mod follows the divisor's sign unless fmod is set. */
TEST(integers_follow_onnx)
{
    static const struct {
        const char *type;
        int fmod;
        int64_t a, b, result;
    } rows[] = {
        {"Add", 0, 9007199254740993, 1, 9007199254740994},
        {"Mul", 0, 3037000500, 3, 9111001500},
        {"Div", 0, -7, 2, -3},
        {"Div", 0, 7, -2, -3},
        {"Div", 0, 5, 0, 0},
        {"Mod", 0, -7, 3, 2},
        {"Mod", 1, -7, 3, -1},
        {"Mod", 0, 7, -3, -2},
        {"Sub", 0, 3, 5, -2},
        {"Max", 0, -1, -2, -1},
        {"Pow", 0, 3, 4, 81},
        {"Min", 0, 4, 2, 2},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int narrow = 0; narrow < 2; narrow++) {
            int64_t wrapped = narrow ? (int32_t)rows[i].result : rows[i].result;
            Tensor *a = integer_tensor(rows[i].a, rows[i].a), *b = integer_tensor(rows[i].b);
            if (narrow && (rows[i].a > INT32_MAX || rows[i].result > INT32_MAX)) {
                tensor_release(a);
                tensor_release(b);
                continue;
            }
            OperatorRun run;
            REQUIRE(operator_open(&run, rows[i].type, 1), "no row");
            Error error = {0};
            operator_input(&run, narrow ? tensor_convert(a, DTYPE_INT32, &error) : tensor_retain(a), false);
            operator_input(&run, narrow ? tensor_convert(b, DTYPE_INT32, &error) : tensor_retain(b), false);
            node_set_integer(run.graph, run.node, "fmod", rows[i].fmod);
            REQUIRE(operator_run(&run), "%s: %s", rows[i].type, run.error.what);
            int64_t result = tensor_get_integer(run.outputs[0], 1);
            CHECK(result == wrapped, "%s of %lld and %lld is %lld", rows[i].type, (long long)rows[i].a, (long long)rows[i].b,
                  (long long)result);
            operator_close(&run);
            tensor_release(a);
            tensor_release(b);
        }
    }
}

/* Promise: NaN wins in Max and Min on either side, as in NumPy and PyTorch. */
TEST(nan_wins)
{
    for (int side = 0; side < 2; side++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, "Max", 1), "no row");
        operator_input(&run, float_scalar(side ? NAN : 1), false);
        operator_input(&run, float_scalar(side ? 1 : NAN), false);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        CHECK(isnan(tensor_floats(run.outputs[0])[0]), "NaN was lost on side %d", side);
        operator_close(&run);
    }
}

static double exact(const char *type, double v)
{
    const double a = 0.25, sqrt2 = 1.41421356237309504880;
    struct {
        const char *type;
        double y;
    } rows[] = {
        {"Relu", v > 0 ? v : 0},
        {"LeakyRelu", v < 0 ? a * v : v},
        {"Elu", v > 0 ? v : a * (exp(v) - 1)},
        {"Sigmoid", 1 / (1 + exp(-v))},
        {"Tanh", tanh(v)},
        {"HardSigmoid", fmin(1, fmax(0, a * v + 0.5))},
        {"HardSwish", v * fmin(6, fmax(0, v + 3)) / 6},
        {"Swish", v / (1 + exp(-v))},
        {"Gelu", 0.5 * v * (1 + erf(v / sqrt2))},
        {"Softplus", log1p(exp(v))},
        {"Mish", v * tanh(log1p(exp(v)))},
        {"Celu", v > 0 ? v : a * (exp(v / a) - 1)},
        {"ThresholdedRelu", v > a ? v : 0},
        {"Softsign", v / (1 + fabs(v))},
        {"Abs", fabs(v)},
        {"Neg", -v},
        {"Exp", exp(v)},
        {"Log", log(v)},
        {"Sqrt", sqrt(v)},
        {"Reciprocal", 1 / v},
        {"Floor", floor(v)},
        {"Ceil", ceil(v)},
        {"Round", nearbyint(v)},
        {"Sin", sin(v)},
        {"Cos", cos(v)},
        {"Tan", tan(v)},
        {"Erf", erf(v)},
        {"Sign", v > 0   ? 1
                 : v < 0 ? -1
                         : 0},
        {"Identity", v},
        {"Selu", 1.05070102214813232421875 * (v > 0 ? v : a * (exp(v) - 1))},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].type, type) == 0) return rows[i].y;
    }
    return NAN;
}

/* Promise: functions of one element are within a few last places of the exact value, and the table column says the same. */
TEST(one_operand_and_its_table)
{
    static const char *const types[] = {"Relu",
                                        "LeakyRelu",
                                        "Elu",
                                        "Sigmoid",
                                        "Tanh",
                                        "HardSigmoid",
                                        "HardSwish",
                                        "Swish",
                                        "Gelu",
                                        "Softplus",
                                        "Mish",
                                        "Celu",
                                        "ThresholdedRelu",
                                        "Softsign",
                                        "Abs",
                                        "Neg",
                                        "Exp",
                                        "Log",
                                        "Sqrt",
                                        "Reciprocal",
                                        "Floor",
                                        "Ceil",
                                        "Round",
                                        "Sin",
                                        "Cos",
                                        "Tan",
                                        "Erf",
                                        "Sign",
                                        "Identity",
                                        "Selu"};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        Random random;
        random_seed(&random, t);
        OperatorRun run;
        REQUIRE(operator_open(&run, types[t], 1), "no row");
        operator_input(&run, random_tensor(&random, 3, 333), false);
        for (int i = 0; i < 999; i++)
            tensor_floats(run.inputs[0])[i] *= 3;
        tensor_floats(run.inputs[0])[7] = 2.5f;
        bool has_beta = strcmp(types[t], "Identity") != 0;
        if (has_beta) node_set_number(run.graph, run.node, "alpha", strcmp(types[t], "Swish") == 0 ? 1 : 0.25f);
        REQUIRE(operator_run(&run), "%s: %s", types[t], run.error.what);
        for (int i = 0; i < 999; i++) {
            double x = (double)tensor_floats(run.inputs[0])[i], wanted = exact(types[t], x), got = (double)tensor_floats(run.outputs[0])[i];
            double table = run.node->op->table(run.node, x, NULL, 0), allowed = 3e-7 * fmax(1, fabs(wanted));
            if (isnan(wanted) && isnan(got) && isnan(table)) continue;
            CHECK(fabs(got - wanted) <= allowed, "%s(%.9g) is %.9g, exact %.9g", types[t], x, got, wanted);
            CHECK(fabs(table - wanted) <= allowed, "%s: the table says %.9g for %.9g, exact %.9g", types[t], table, x, wanted);
        }
        operator_close(&run);
    }
}

/* Promise: Gelu's tanh form is used where ONNX is wanted, the erf form where the reference is. */
TEST(gelu_has_two_forms)
{
    for (int exact_mode = 0; exact_mode < 2; exact_mode++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, "Gelu", 1), "no row");
        run.exact = exact_mode;
        operator_input(&run, float_scalar(2), false);
        node_set_string(run.graph, run.node, "approximate", "tanh");
        REQUIRE(operator_run(&run), "%s", run.error.what);
        double wanted = exact_mode ? 1.9545977 : 1.9544997;
        CHECK(fabs((double)tensor_floats(run.outputs[0])[0] - wanted) < 1e-6, "Gelu(2) is %.9g", (double)tensor_floats(run.outputs[0])[0]);
        operator_close(&run);
    }
}

/* Promise: Clip takes bounds that are left out as infinite, and its table takes them from its parameters. */
TEST(clip_bounds)
{
    OperatorRun run;
    REQUIRE(operator_open(&run, "Clip", 1), "no row");
    Tensor *x = integer_tensor(-9, 2, 9);
    operator_input(&run, tensor_convert(x, DTYPE_FLOAT32, &run.error), false);
    tensor_release(x);
    operator_input(&run, NULL, false);
    operator_constant(&run, float_scalar(6));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    const float *y = tensor_floats(run.outputs[0]);
    CHECK(y[0] == -9 && y[1] == 2 && y[2] == 6, "got %g %g %g", (double)y[0], (double)y[1], (double)y[2]);
    CHECK(run.node->op->table(run.node, -9, (double[]){NAN, 6}, 2) == -9, "the missing bound is infinite");
    CHECK(run.node->op->table(run.node, 9, (double[]){0, 6}, 2) == 6, "the table's upper bound");
    operator_close(&run);
}

/* Promise: PRelu's slope stands for axis 1 where it is [C, 1, 1]; where it is [C] ONNX broadcasts it from the right, the reference does not. */
TEST(prelu_slopes)
{
    for (int form = 0; form < 3; form++) {
        Random random;
        random_seed(&random, 5);
        OperatorRun run;
        REQUIRE(operator_open(&run, "PRelu", 1), "no row");
        run.exact = form != 2;
        operator_input(&run, random_tensor(&random, 2, 3, 4, 3), false);
        operator_constant(&run, form == 0 ? random_tensor(&random, 3, 1, 1) : random_tensor(&random, 3));
        REQUIRE(operator_run(&run), "%s", run.error.what);
        for (int i = 0; i < 72; i++) {
            float x = tensor_floats(run.inputs[0])[i], slope = tensor_floats(run.inputs[1])[form == 1 ? i % 3 : i / 12 % 3];
            float wanted = x < 0 ? x * slope : x;
            CHECK(tensor_floats(run.outputs[0])[i] == wanted, "form %d element %d", form, i);
        }
        operator_close(&run);
    }
}

/* Promise: comparisons and logic make bool, on floats and on integers, broadcasting. */
TEST(comparisons)
{
    static const struct {
        const char *type;
        int wanted[3]; /* for 1 against 2, 2 against 2, 3 against 2 */
    } rows[] = {
        {"Equal", {0, 1, 0}}, {"Greater", {0, 0, 1}}, {"GreaterOrEqual", {0, 1, 1}}, {"Less", {1, 0, 0}}, {"LessOrEqual", {1, 1, 0}}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (int floats = 0; floats < 2; floats++) {
            OperatorRun run;
            REQUIRE(operator_open(&run, rows[i].type, 1), "no row");
            Tensor *a = integer_tensor(1, 2, 3), *b = integer_tensor(2);
            operator_input(&run, tensor_convert(a, floats ? DTYPE_FLOAT32 : DTYPE_INT64, &run.error), false);
            operator_input(&run, tensor_convert(b, floats ? DTYPE_FLOAT32 : DTYPE_INT64, &run.error), false);
            REQUIRE(operator_run(&run), "%s", run.error.what);
            CHECK(run.outputs[0]->dtype == DTYPE_BOOL, "%s makes %s", rows[i].type, dtype_name(run.outputs[0]->dtype));
            for (int k = 0; k < 3; k++)
                CHECK(run.outputs[0]->data[k] == rows[i].wanted[k], "%s of %d and 2", rows[i].type, k + 1);
            operator_close(&run);
            tensor_release(a);
            tensor_release(b);
        }
    }
}

/* Promise: Where broadcasts all three of its inputs and moves elements unchanged. */
TEST(where_broadcasts)
{
    Random random;
    random_seed(&random, 3);
    OperatorRun run;
    REQUIRE(operator_open(&run, "Where", 1), "no row");
    Tensor *mask = integer_tensor(1, 0, 1, 0, 0);
    operator_input(&run, tensor_convert(mask, DTYPE_BOOL, &run.error), false);
    operator_input(&run, random_tensor(&random, 3, 1), false);
    operator_input(&run, random_tensor(&random, 2, 1, 5), false);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    for (int i = 0; i < 30; i++) {
        float wanted =
            tensor_get(mask, i % 5) != 0 ? tensor_floats(run.inputs[1])[i / 5 % 3] : tensor_floats(run.inputs[2])[i / 15 * 5 + i % 5];
        CHECK(tensor_floats(run.outputs[0])[i] == wanted, "element %d", i);
    }
    tensor_release(mask);
    operator_close(&run);
}

/* Promise: shapes and types that do not fit are refused with both of them in the message. */
TEST(broadcasts_that_do_not_fit)
{
    Random random;
    random_seed(&random, 3);
    OperatorRun run;
    REQUIRE(operator_open(&run, "Add", 1), "no row");
    operator_input(&run, random_tensor(&random, 2, 3), false);
    operator_input(&run, random_tensor(&random, 2, 4), false);
    CHECK(!operator_run(&run), "[2, 3] and [2, 4] were added");
    CHECK(strstr(run.error.what, "[2, 3]") && strstr(run.error.what, "[2, 4]") && strstr(run.error.where, "the_node"), "%s: %s",
          run.error.where, run.error.what);
    operator_close(&run);
}

/* Promise: Cast cuts and saturates floats, keeps integers exact in both directions, and makes bool of what is not zero. */
TEST(cast_rules)
{
    static const struct {
        double from;
        Dtype dtype;
        int64_t wanted;
    } rows[] = {
        {2.9, DTYPE_INT64, 2},         {-2.9, DTYPE_INT32, -2}, {1e20, DTYPE_INT32, INT32_MAX}, {-1e20, DTYPE_INT64, INT64_MIN},
        {300, DTYPE_UINT8, 255},       {-1, DTYPE_UINT8, 0},    {0.5, DTYPE_BOOL, 1},           {0, DTYPE_BOOL, 0},
        {(double)NAN, DTYPE_INT64, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        OperatorRun run;
        REQUIRE(operator_open(&run, "Cast", 1), "no row");
        operator_input(&run, float_scalar((float)rows[i].from), false);
        node_set_integer(run.graph, run.node, "to", dtype_rows[rows[i].dtype].onnx);
        REQUIRE(operator_run(&run), "%s", run.error.what);
        int64_t got = tensor_get_integer(run.outputs[0], 0);
        CHECK(run.outputs[0]->dtype == rows[i].dtype && got == rows[i].wanted, "%g to %s is %lld", rows[i].from, dtype_name(rows[i].dtype),
              (long long)got);
        operator_close(&run);
    }
    OperatorRun run;
    REQUIRE(operator_open(&run, "Cast", 1), "no row");
    operator_input(&run, integer_tensor(257), false);
    node_set_integer(run.graph, run.node, "to", dtype_rows[DTYPE_INT8].onnx);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(tensor_get_integer(run.outputs[0], 0) == 1, "an integer cast keeps the low bits");
    operator_close(&run);
}

/* Promise: QuantizeLinear rounds half to even, adds the zero point and saturates, per tensor and per entry of an axis;
 * DequantizeLinear takes it back. */
TEST(quantize_and_back)
{
    OperatorRun run;
    REQUIRE(operator_open(&run, "QuantizeLinear", 1), "no row");
    const float x[2][3] = {{0.5f, 1.5f, -100}, {0.5f, 1.5f, 1000}}, scales[2] = {1, 0.5f};
    const int8_t zeros[2] = {0, 3}, wanted[6] = {0, 2, -100, 4, 6, 127};
    Shape matrix = {.rank = 2, .dims = {2, 3}}, vector = {.rank = 1, .dims = {2}};
    operator_input(&run, tensor_from_data(DTYPE_FLOAT32, &matrix, x, &run.error), false);
    operator_constant(&run, tensor_from_data(DTYPE_FLOAT32, &vector, scales, &run.error));
    operator_constant(&run, tensor_from_data(DTYPE_INT8, &vector, zeros, &run.error));
    node_set_integer(run.graph, run.node, "axis", 0);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(run.outputs[0]->dtype == DTYPE_INT8 && memcmp(run.outputs[0]->data, wanted, 6) == 0, "quantized integers");
    OperatorRun back;
    REQUIRE(operator_open(&back, "DequantizeLinear", 1), "no row");
    operator_input(&back, tensor_retain(run.outputs[0]), false);
    operator_constant(&back, tensor_retain(run.inputs[1]));
    operator_constant(&back, tensor_retain(run.inputs[2]));
    node_set_integer(back.graph, back.node, "axis", 0);
    REQUIRE(operator_run(&back), "%s", back.error.what);
    const float returned[6] = {0, 2, -100, 0.5f, 1.5f, 62};
    CHECK(memcmp(back.outputs[0]->data, returned, sizeof returned) == 0, "dequantized floats");
    operator_close(&back);
    operator_close(&run);
}
