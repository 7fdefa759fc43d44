/* Modules of the integer executor that look along axes: softmax, normalizations, reductions. */
#include "base/random.h"
#include "chip_node.h"

static const char *const targets[] = {"c", "esp32s3", "esp32p4"};

/* Promise: the integer reductions over any axes give what a plain loop gives: raw extremes, sums shifted with the chip's rounding, the
 * mean divided in float32. */
TEST(chip_reductions)
{
    static const char *const types[] = {"ReduceSum", "ReduceL1", "ReduceSumSquare", "ReduceMax", "ReduceMin", "ReduceMean"};
    Random random;
    random_seed(&random, 3);
    static int16_t x[4096];
    for (int round = 0; round < 400; round++) {
        int kind = round % 6, bits = round % 4 < 2 ? 8 : 16, rank = 1 + (int)(random_next(&random) % 4);
        Shape shape = {.rank = rank};
        bool reduced[4] = {false}, some = false;
        int64_t axes[4], dims[1] = {0};
        for (int i = 0; i < rank; i++) {
            shape.dims[i] = 1 + random_next(&random) % (i == rank - 1 ? 70 : 4);
            reduced[i] = random_next(&random) % 2;
            some |= reduced[i];
            if (reduced[i]) axes[dims[0]++] = round % 3 ? i : i - rank;
        }
        for (int i = 0; !some && i < rank; i++)
            reduced[i] = true;
        for (int64_t i = 0; i < shape_count(&shape); i++)
            write_integer(x, i, bits, (int64_t)(random_next(&random) >> (32 - bits)) - (1 << (bits - 1)));
        bool raw = kind == 3 || kind == 4;
        int in = -3, out = raw ? in : in + (int)(random_next(&random) % 9);
        Dtype dtype = bits == 8 ? DTYPE_INT8 : DTYPE_INT16;
        ChipBench bench;
        bench_start(&bench, targets[round % 5 % 3], types[kind], bits);
        bench_input(&bench, dtype, in, x, rank, shape.dims);
        if (some) bench_constant(&bench, DTYPE_INT64, 0, axes, 1, dims);
        bench_output(&bench, dtype, out);
        bool keeps = round % 2;
        if (!keeps) bench_integer(&bench, "keepdims", 0);
        REQUIRE(bench_run(&bench), "%s: %s", types[kind], bench.error.what);
        int64_t totals[4096], results = 1, per_result = 1;
        for (int i = 0; i < rank; i++)
            *(reduced[i] ? &per_result : &results) *= shape.dims[i];
        for (int64_t i = 0; i < results; i++)
            totals[i] = kind == 3 ? INT64_MIN : kind == 4 ? INT64_MAX : 0;
        for (int64_t i = 0; i < shape_count(&shape); i++) {
            int64_t rest = i, at = 0, stride = 1, v = read_integer(x, i, bits);
            for (int axis = rank - 1; axis >= 0; axis--) {
                if (!reduced[axis]) at += rest % shape.dims[axis] * stride, stride *= shape.dims[axis];
                rest /= shape.dims[axis];
            }
            if (kind == 3)
                totals[at] = v > totals[at] ? v : totals[at];
            else if (kind == 4)
                totals[at] = v < totals[at] ? v : totals[at];
            else
                totals[at] += kind == 1 ? llabs(v) : kind == 2 ? v * v : v;
        }
        CHECK(shape_count(&bench.ends[0].shape) == results, "%s writes %lld results", types[kind],
              (long long)shape_count(&bench.ends[0].shape));
        for (int64_t i = 0; i < results; i++) {
            int64_t want = totals[i];
            Rounding rounding = bench.chip.rounding;
            if (kind < 3) want = saturate(shift_and_round(want, out - (kind == 2 ? 2 * in : in), rounding, 40), bits);
            if (kind == 5) want = round_saturate((float)want * 0.125f / (float)per_result * ldexpf(1, -out), rounding, bits);
            int64_t have = read_integer(bench.outputs[0], i, bits);
            REQUIRE(have == want, "%s int%d of %s: result %lld is %lld, not %lld", types[kind], bits, bench.chip.target->name, (long long)i,
                    (long long)have, (long long)want);
        }
        bench_end(&bench);
    }
}

/* Promise: floats reduce in the order of their axes from the runtime's start values, and results of all ten are what their name says. */
TEST(chip_float_reductions)
{
    static const float x[4] = {0.5f, 2, 1, 4};
    static const struct {
        const char *type;
        float want;
    } rows[] = {{"ReduceSum", 7.5f},         {"ReduceL1", 7.5f},           {"ReduceSumSquare", 21.25f}, {"ReduceMax", 4},
                {"ReduceMin", 0.5f},         {"ReduceMean", 1.875f},       {"ReduceProd", 4.0f},        {"ReduceL2", 4.609772f},
                {"ReduceLogSum", 2.014903f}, {"ReduceLogSumExp", 4.19501f}};
    for (int i = 0; i < 10; i++) {
        ChipBench bench;
        bench_start(&bench, "esp32p4", rows[i].type, 32);
        bench_input(&bench, DTYPE_FLOAT32, 0, x, DIMS(2, 2));
        bench_output(&bench, DTYPE_FLOAT32, 0);
        REQUIRE(bench_run(&bench), "%s: %s", rows[i].type, bench.error.what);
        float y = *(float *)bench.outputs[0];
        CHECK(fabsf(y - rows[i].want) < 1e-4f, "%s: %g", rows[i].type, (double)y);
        bench_end(&bench);
    }
}

/* Promise: axes that need five loops, or none at all, are refused; an exponent that ReduceL2 cannot double is marked. */
TEST(chip_reduce_refuses)
{
    static int8_t x[64];
    static const int64_t axes[3] = {0, 2, 4};
    ChipBench bench;
    bench_start(&bench, "c", "ReduceSum", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(2, 2, 2, 2, 2));
    bench_constant(&bench, DTYPE_INT64, 0, axes, DIMS(3));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "5 groups"), "%s", bench.error.what);
    bench_end(&bench);
    bench_start(&bench, "c", "ReduceSum", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(2, 2));
    bench_output(&bench, DTYPE_INT8, 0);
    bench_integer(&bench, "noop_with_empty_axes", 1);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "no axis"), "%s", bench.error.what);
    bench_end(&bench);
    bench_start(&bench, "c", "ReduceL2", 16);
    bench_input(&bench, DTYPE_INT16, -16, x, DIMS(2, 2));
    bench_output(&bench, DTYPE_INT16, -10);
    CHECK(bench_run(&bench) && bench.node.undefined, "%s", bench.error.what);
    bench_end(&bench);
}

static bool softmax(const char *type, int bits, int exponent, bool mended, int64_t axis, const void *x, float y[6])
{
    ChipBench bench;
    bench_start_as(&bench, "esp32s3", type, bits, mended);
    bench_input(&bench, bits == 8 ? DTYPE_INT8 : DTYPE_INT16, exponent, x, DIMS(2, 3));
    bench_output(&bench, DTYPE_FLOAT32, 0);
    bench_integer(&bench, "axis", axis);
    bool ok = bench_run(&bench);
    if (ok) memcpy(y, bench.outputs[0], 6 * sizeof *y);
    bench_end(&bench);
    return ok;
}

/* Promise: Softmax sums to 1 along its axis, int8 and int16 alike; int8 at a large exponent gives NaN on the chip (C11), not when
 * mended. */
TEST(chip_softmax)
{
    static const int8_t x[6] = {0, 1, 2, -3, 5, 127};
    static const int16_t wide[6] = {0, 1, 2, -3, 5, 127};
    float y[6], z[6];
    for (int axis = 0; axis < 2; axis++) {
        REQUIRE(softmax("Softmax", 8, -3, false, axis, x, y) && softmax("Softmax", 16, -3, false, axis, wide, z), "refused");
        for (int i = 0; i < 6; i++)
            CHECK(fabsf(y[i] - z[i]) < 1e-6f, "axis %d element %d: %g %g", axis, i, (double)y[i], (double)z[i]);
        float sum = axis ? y[0] + y[1] + y[2] : y[0] + y[3];
        CHECK(fabsf(sum - 1) < 1e-6f && y[2] > 0 && y[5] > 0.99f, "axis %d sums to %g", axis, (double)sum);
        REQUIRE(softmax("LogSoftmax", 8, -3, false, axis, x, z), "refused");
        for (int i = 0; i < 6; i++)
            CHECK(fabsf(expf(z[i]) - y[i]) < 1e-6f, "LogSoftmax axis %d element %d", axis, i);
    }
    REQUIRE(softmax("Softmax", 8, 0, false, 1, x, y) && softmax("Softmax", 8, 0, true, 1, x, z), "refused");
    CHECK(isnan(y[5]) && z[5] == 1.0f, "%g, mended %g", (double)y[5], (double)z[5]);
}

/* Promise: the three normalizations give the textbook's numbers, rounded to the output's step. */
TEST(chip_normalizations)
{
    static const int8_t x[4] = {-30, -10, 10, 30}, gain[4] = {64, 64, 64, 64}, bias[4] = {0, 0, 16, 0};
    static const float gains[4] = {1, 2, 1, 1};
    static const struct {
        const char *type;
        int8_t want[4]; /* times 32: deviation 22.36, root of mean square the same, norm 44.72 */
    } rows[] = {
        {"LayerNormalization", {-43, -14, 30, 43}}, {"RMSNormalization", {-43, -29, 14, 43}}, {"LpNormalization", {-21, -7, 7, 21}}};
    for (int i = 0; i < 3; i++) {
        ChipBench bench;
        bench_start(&bench, targets[i], rows[i].type, 8);
        bench_input(&bench, DTYPE_INT8, -2, x, DIMS(1, 4));
        if (i == 0) {
            bench_constant(&bench, DTYPE_INT8, -6, gain, DIMS(4));
            bench_constant(&bench, DTYPE_INT8, -5, bias, DIMS(4));
        } else if (i == 1) {
            bench_constant(&bench, DTYPE_FLOAT32, 0, gains, DIMS(4));
        }
        bench_output(&bench, DTYPE_INT8, -5);
        REQUIRE(bench_run(&bench), "%s: %s", rows[i].type, bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(memcmp(y, rows[i].want, 4) == 0, "%s: %d %d %d %d", rows[i].type, y[0], y[1], y[2], y[3]);
        bench_end(&bench);
    }
}

/* Promise: the runtime's square root of a tiny variance is far too large (C32); mended it is not. */
TEST(chip_newton_square_root)
{
    static const float x[2] = {1e-6f, -1e-6f};
    for (int mended = 0; mended < 2; mended++) {
        ChipBench bench;
        bench_start_as(&bench, "c", "LayerNormalization", 32, mended);
        bench_input(&bench, DTYPE_FLOAT32, 0, x, DIMS(1, 2));
        bench_output(&bench, DTYPE_FLOAT32, 0);
        bench_number(&bench, "epsilon", 0.0f);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        float y = *(float *)bench.outputs[0];
        CHECK(mended ? fabsf(y - 1) < 1e-6f : y < 0.5f, "mended %d: %g", mended, (double)y);
        bench_end(&bench);
    }
}

/* Promise: parameters shorter than a slice are refused: the chip would read behind them. */
TEST(chip_norm_refuses)
{
    static const int8_t x[4];
    ChipBench bench;
    bench_start(&bench, "c", "LayerNormalization", 8);
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(1, 4));
    bench_constant(&bench, DTYPE_INT8, 0, x, DIMS(3));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "the scale has 3"), "%s", bench.error.what);
    bench_end(&bench);
}
