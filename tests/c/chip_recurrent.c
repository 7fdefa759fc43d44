/* GRU and LSTM of the integer executor: the numbers of CHIP §2.20 and §7, and one step by hand. */
#include "chip/gates.h"
#include "chip_node.h"

static const char *const targets[] = {"c", "esp32s3", "esp32p4"};

/* Promise: the gates' tables end where the runtime's end, and go on flat (CHIP §7). */
TEST(chip_gate_tables)
{
    GateTables tables;
    Error error;
    REQUIRE(gate_tables_make(&tables, -9, &error), "%s", error.what);
    CHECK(tables.sigmoid_last == 3226 && tables.tanh_last == 1793, "%d %d", tables.sigmoid_last, tables.tanh_last);
    CHECK(gate_sigmoid(&tables, 5000) == tables.sigmoid[3226] && gate_sigmoid(&tables, -5000) == 1.0f - tables.sigmoid[3226], "ends");
    CHECK(gate_sigmoid(&tables, 0) == 0.5f && gate_tanh(&tables, 0) == 0.0f, "middle");
    CHECK(gate_tanh(&tables, -512) == -tables.tanh[512] && fabsf(tables.tanh[512] - 0.7615942f) < 1e-6f, "tanh(1): %g",
          (double)tables.tanh[512]);
    memory_free(tables.sigmoid);
}

/* Promise: products of whole registers are rounded as integers, others as floats of 24 bits; both end at 16 bits. */
TEST(chip_gate_products)
{
    int16_t a[16] = {32767, 32767}, b[16] = {512, 1}; /* 32767 * 513 = 16809471: odd and beyond 2^24, a float makes it 16809472 */
    Chip chips[3];
    Error error;
    for (int i = 0; i < 3; i++) {
        REQUIRE(chip_init(&chips[i], target_find(targets[i]), NULL, false, &error), "%s", error.what);
        CHECK(gate_product(&chips[i], 16, a, b, 16, 40) == 0 && gate_product(&chips[i], 16, a, b, 16, 0) == 32767, "limits");
    }
    /* by 2^10: 16415.499 as an integer, 16415.5 as a float */
    CHECK(gate_product(&chips[0], 16, a, b, 16, 10) == 16416, "float: %lld", (long long)gate_product(&chips[0], 16, a, b, 16, 10));
    CHECK(gate_product(&chips[1], 16, a, b, 16, 10) == 16415, "integer: %lld", (long long)gate_product(&chips[1], 16, a, b, 16, 10));
    CHECK(gate_product(&chips[1], 16, a, b, 15, 10) == 16416, "odd length: %lld", (long long)gate_product(&chips[1], 16, a, b, 15, 10));
}

typedef struct Small { /* two steps of one input, one hidden element */
    int8_t x[2], w[4], r[4];
    int16_t bias[8];
} Small;

static bool run_small(ChipBench *bench, const Small *s, bool lstm, const char *direction, bool mended)
{
    int64_t gates = lstm ? 4 : 3;
    bench_start_as(bench, "c", lstm ? "LSTM" : "GRU", 8, mended);
    bench_integer(bench, "hidden_size", 1);
    bench_integer(bench, "gate_exponent", -9);
    bench_string(bench, "direction", direction);
    if (!lstm) bench_integer(bench, "linear_before_reset", 1);
    bench_input(bench, DTYPE_INT8, -6, s->x, DIMS(2, 1, 1));
    bench_constant(bench, DTYPE_INT8, -6, s->w, DIMS(1, gates, 1));
    bench_constant(bench, DTYPE_INT8, -6, s->r, DIMS(1, gates, 1));
    bench_constant(bench, DTYPE_INT16, -9, s->bias, DIMS(1, 2 * gates));
    bench_output(bench, DTYPE_INT8, -7);
    bench_output(bench, DTYPE_INT8, -7);
    if (lstm) bench_output(bench, DTYPE_INT16, -9);
    return bench_run(bench);
}

/* Promise: a GRU's step is z h + (1 - z) tanh(W x + r (R h)) in the steps of its gates. With W_n = 1 and all else 0, z = r = 1/2:
 * x = 64 (1.0): h = tanh(1) / 2 = 0.3808 -> 49 of 2^-7; then x = -64: h = 24.5 + 128 * -0.3808 = -24.24 -> -24. */
TEST(chip_gru_by_hand)
{
    Small s = {.x = {64, -64}, .w = {0, 0, 64}};
    ChipBench bench;
    REQUIRE(run_small(&bench, &s, false, "forward", false), "%s", bench.error.what);
    const int8_t *y = bench.outputs[0], *last = bench.outputs[1];
    Shape shape = {4, {2, 1, 1, 1}};
    CHECK(shape_equal(&bench.node.outputs[0].shape, &shape) && y[0] == 49 && y[1] == -24 && last[0] == -24, "%d %d %d", y[0], y[1],
          last[0]);
    bench_end(&bench);
}

/* Promise: direction reverse runs forward on the chip and backwards without defects. */
TEST(chip_gru_reverse)
{
    Small s = {.x = {64, -64}, .w = {0, 0, 64}};
    for (int mended = 0; mended < 2; mended++) {
        ChipBench bench;
        REQUIRE(run_small(&bench, &s, false, "reverse", mended), "%s", bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(mended ? y[1] == -49 && y[0] == 24 : y[0] == 49 && y[1] == -24, "%d %d", y[0], y[1]);
        bench_end(&bench);
    }
}

/* Promise: an LSTM's step is c = f c + i g, h = o tanh(c); with the gates at 1/2 and W_c = 1: c = tanh(1) / 2 = 0.3808 -> 195 of 2^-9,
 * h = tanh(0.3809) / 2 = 0.1818 -> 23 of 2^-7. */
TEST(chip_lstm_by_hand)
{
    Small s = {.x = {64, 0}, .w = {0, 0, 0, 64}};
    ChipBench bench;
    REQUIRE(run_small(&bench, &s, true, "forward", false), "%s", bench.error.what);
    const int8_t *y = bench.outputs[0];
    const int16_t *c = bench.outputs[2];
    CHECK(y[0] == 23 && c[0] == 98, "%d %d", y[0], c[0]); /* the second step halves c: 97.5 */
    bench_end(&bench);
}

/* Promise: gate sums wrap in 16 bits on the chip and saturate without defects. */
TEST(chip_lstm_gates_wrap)
{
    Small s = {.x = {0, 0}, .bias = {0, 0, 0, 30000, 0, 0, 0, 30000}}; /* candidate: 60000 is -5536 in 16 bits */
    for (int mended = 0; mended < 2; mended++) {
        ChipBench bench;
        REQUIRE(run_small(&bench, &s, true, "forward", mended), "%s", bench.error.what);
        CHECK((((int8_t *)bench.outputs[0])[0] > 0) == (mended != 0), "%d", ((int8_t *)bench.outputs[0])[0]);
        bench_end(&bench);
    }
}

/* Promise: what the runtime makes no module of is refused, with the node named. */
TEST(chip_recurrent_refusals)
{
    Small s = {.x = {0}};
    ChipBench bench;
    bench_start(&bench, "c", "GRU", 8);
    bench_integer(&bench, "hidden_size", 1);
    bench_input(&bench, DTYPE_INT8, -6, s.x, DIMS(2, 1, 1));
    bench_constant(&bench, DTYPE_INT8, -6, s.w, DIMS(1, 3, 1));
    bench_constant(&bench, DTYPE_INT8, -6, s.r, DIMS(1, 3, 1));
    bench_output(&bench, DTYPE_INT8, -7);
    bench_output(&bench, DTYPE_INT8, -7);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "linear_before_reset") && strstr(bench.error.where, "GRU node"), "%s",
          bench.error.what);
    bench_end(&bench);
}
