/* The worked numbers of CHIP §7 that belong to no product sum. */
#include "chip_node.h"

/* Promise: integers are shifted half up on the ESP32-S3 and the plain chips, half to even on the ESP32-P4. */
TEST(chip_shift_and_round)
{
    static const struct {
        int64_t v, up, even;
    } rows[] = {{24, 2, 2}, {40, 3, 2}, {-24, -1, -2}, {-40, -2, -2}, {8, 1, 0}, {-8, 0, 0}, {2040, 128, 128}, {-2056, -128, -128}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t up = shift_and_round(rows[i].v, 4, ROUND_HALF_UP, 32), even = shift_and_round(rows[i].v, 4, ROUND_HALF_EVEN, 32);
        CHECK(up == rows[i].up && even == rows[i].even, "%lld / 16 is %lld and %lld", (long long)rows[i].v, (long long)up, (long long)even);
    }
    CHECK(shift_and_round(100, -4, ROUND_HALF_UP, 8) == 127, "a left shift saturates");
    CHECK(shift_and_round(-1, -70, ROUND_HALF_EVEN, 16) == -32768, "a far left shift saturates");
}

/* Promise: floats round as the chip's conversion does, and saturate; NaN is the highest integer. */
TEST(chip_round_floats)
{
    CHECK(round_saturate(0.49999997f, ROUND_HALF_UP, 8) == 1, "the sum with 0.5 is rounded to float32");
    CHECK(round_saturate(-1.5f, ROUND_HALF_UP, 8) == -1 && round_saturate(2.5f, ROUND_HALF_EVEN, 8) == 2, "ties");
    CHECK(round_saturate(1e30f, ROUND_HALF_UP, 16) == 32767 && round_saturate(-INFINITY, ROUND_HALF_EVEN, 8) == -128, "saturation");
    CHECK(round_saturate(NAN, ROUND_HALF_UP, 8) == 127 && round_double_saturate(NAN, ROUND_HALF_EVEN, 16) == 32767, "NaN");
    CHECK(round_double_saturate(2.5000002, ROUND_HALF_EVEN, 16) == 2, "the software rounding of doubles takes it for a tie");
    CHECK(round_double_saturate(2.5000002, ROUND_HALF_UP, 16) == 3, "half up is exact");
    CHECK(round_double_saturate(-3.5, ROUND_HALF_EVEN, 16) == -4 && round_double_saturate(-0.5, ROUND_HALF_UP, 16) == 0, "negative ties");
}

static Chip chip_of(const char *target)
{
    Chip chip;
    Error error = {0};
    if (!chip_init(&chip, target_find(target), NULL, false, &error)) test_failed(__FILE__, __LINE__, "%s", error.what);
    return chip;
}

/* Assigns `count` copies of q; what comes out of the first and the last must be `want`. */
static void check_assign(const char *target, int from_bits, int to_bits, int away, int q, int count, int want)
{
    Chip chip = chip_of(target);
    int16_t from[64] = {0}, to[64] = {0};
    for (int i = 0; i < count; i++)
        write_integer(from, i, from_bits, q);
    const char *undefined = NULL;
    bool done = chip_assign(&chip, from_bits == 8 ? DTYPE_INT8 : DTYPE_INT16, 0, from, to_bits == 8 ? DTYPE_INT8 : DTYPE_INT16, away, to,
                            count, &undefined);
    int64_t first = read_integer(to, 0, to_bits), last = read_integer(to, count - 1, to_bits);
    CHECK(done && first == want && last == want, "%s int%d to int%d, %d exponents up, %d of %d: %lld, %lld, not %d", target, from_bits,
          to_bits, away, count, q, (long long)first, (long long)last, want);
}

/* Promise: a requantization is the rounded shift of each family, on the plain road (up to 50 elements) and the vector road alike. */
TEST(chip_requantize_numbers)
{
    static const struct {
        int q, up, even;
    } rows[] = {{2, 1, 0}, {6, 2, 2}, {-2, 0, 0}, {-6, -1, -2}, {127, 32, 32}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int count = 4; count <= 64; count += 60) {
            for (int bits = 8; bits <= 16; bits += 8) {
                check_assign("c", bits, 8, 2, rows[i].q, count, rows[i].up);
                check_assign("esp32s3", 8, bits, 2, rows[i].q, count, rows[i].up);
                check_assign("esp32p4", bits, bits, 2, rows[i].q, count, rows[i].even);
            }
        }
    }
    check_assign("esp32p4", 8, 8, -3, 20, 64, 127);
    check_assign("esp32p4", 8, 8, -3, 15, 64, 120);
}

/* Promise: multipliers of the vector road lie in one element: defects C6 and C7, and their absence on the plain road. */
TEST(chip_requantize_defects)
{
    check_assign("esp32s3", 8, 8, -7, 1, 64, -128); /* the byte 128 is -128 */
    check_assign("esp32s3", 8, 8, -8, 1, 64, 0);
    check_assign("esp32s3", 8, 8, -7, 1, 50, 127); /* plain code */
    check_assign("c", 8, 8, -7, 1, 64, 127);
    check_assign("esp32p4", 8, 8, -7, 1, 64, 127); /* 16 bits there */
    check_assign("esp32p4", 8, 8, -15, 1, 64, -128);
    check_assign("esp32p4", 8, 8, -16, 1, 64, 0);
    check_assign("esp32s3", 16, 8, -4, 16384, 64, 127);  /* 2^18 fits 20 bits, … */
    check_assign("esp32s3", 16, 8, -5, 16384, 64, -128); /* … 2^19 is the lowest of them, … */
    check_assign("esp32s3", 16, 8, -6, 16384, 64, 0);    /* … 2^20 leaves nothing */
    check_assign("esp32p4", 16, 8, -5, 16384, 64, 127);
    check_assign("esp32s3", 16, 16, -15, 1, 64, 32767); /* plain code beyond a factor of 2^14 */
}

/* Promise: a table of int16 answers with the nearest entry; a tie goes up, or to the even entry on the ESP32-P4. */
TEST(chip_int16_table)
{
    static const char *const targets[] = {"c", "esp32s3", "esp32p4"};
    static const int16_t codes[4] = {100, 128, 384, 32767};
    int16_t entries[257];
    for (int i = 0; i < 257; i++)
        entries[i] = (int16_t)i;
    for (int t = 0; t < 3; t++) {
        int16_t want[4] = {128, t == 2 ? 128 : 129, 130, 256};
        ChipBench bench;
        bench_start(&bench, targets[t], "Gelu", 16);
        bench_input(&bench, DTYPE_INT16, -8, codes, DIMS(4));
        bench_output(&bench, DTYPE_INT16, 0);
        bench_table(&bench, DTYPE_INT16, entries, 257);
        if (bench_run(&bench)) {
            CHECK(memcmp(bench.outputs[0], want, sizeof want) == 0, "%s: entries %d %d", targets[t], ((int16_t *)bench.outputs[0])[0],
                  ((int16_t *)bench.outputs[0])[1]);
        } else {
            CHECK(false, "%s", bench.error.what);
        }
        bench_end(&bench);
    }
}

/* The last element of x times y, y of x's dimensions, but of length 1 behind the first `kept`. */
static int mul16(const char *target, int a, int b, int shift, int rank, const int64_t *dims, int kept)
{
    int16_t x[16], y[16];
    int64_t y_dims[4];
    for (int i = 0; i < 16; i++)
        x[i] = (int16_t)a, y[i] = (int16_t)b;
    for (int i = 0; i < rank; i++)
        y_dims[i] = i < kept ? dims[i] : 1;
    ChipBench bench;
    bench_start(&bench, target, "Mul", 16);
    bench_input(&bench, DTYPE_INT16, -10, x, rank, dims);
    bench_input(&bench, DTYPE_INT16, -5, y, rank, y_dims);
    bench_output(&bench, DTYPE_INT16, shift - 15);
    int result = bench_run(&bench) ? ((int16_t *)bench.outputs[0])[shape_count(&bench.inputs[0].shape) - 1] : 99999;
    bench_end(&bench);
    return result;
}

/* Promise: Mul of int16 takes the float product on the plain chips and in rows shorter than a vector, the exact one in longer rows; rows
 * are what is left of the last axis after merging. */
TEST(chip_mul_road)
{
    CHECK(mul16("c", 18086, 4901, 12, DIMS(2, 8), 2) == 21641, "plain chips go through float32");
    CHECK(mul16("esp32s3", 18086, 4901, 12, DIMS(2, 8), 2) == 21640, "a vector is exact");
    CHECK(mul16("esp32s3", 18086, 4901, 12, DIMS(2, 4), 2) == 21640, "two rows of 4 merge to one of 8");
    CHECK(mul16("esp32s3", 18086, 4901, 12, DIMS(2, 4), 1) == 21641, "rows of 4 that do not merge are too short");
    CHECK(mul16("esp32s3", 18086, 4901, 12, DIMS(2, 2, 4), 1) == 21640, "axes on which one operand has length 1 merge");
    CHECK(mul16("esp32s3", 18086, 4901, 12, DIMS(2, 1, 4), 1) == 21641, "an axis of length 1 makes no row longer");
    CHECK(mul16("esp32p4", -20267, 27422, 15, DIMS(2, 4), 2) == -16961 && mul16("esp32p4", -20267, 27422, 15, DIMS(2, 4), 1) == -16960,
          "negative products");
}

static void check_prelu(const char *target, const int8_t want[4])
{
    static const int8_t x[4] = {-1, -2, -6, -3}, slopes[1] = {64};
    ChipBench bench;
    bench_start(&bench, target, "PRelu", 8);
    bench_input(&bench, DTYPE_INT8, -4, x, DIMS(1, 2, 2, 1));
    bench_constant(&bench, DTYPE_INT8, -8, slopes, DIMS(1, 1, 1));
    bench_output(&bench, DTYPE_INT8, -4);
    bool ran = bench_run(&bench);
    const int8_t *y = bench.outputs[0];
    CHECK(ran && memcmp(y, want, 4) == 0, "%s: %s", target, ran ? "other integers" : bench.error.what);
    bench_end(&bench);
}

/* Promise: the negative side of PRelu is cut downward on the plain chips, half up on the ESP32-S3, half to even on the ESP32-P4. */
TEST(chip_prelu_numbers)
{
    check_prelu("c", (int8_t[4]){-1, -1, -2, -1});
    check_prelu("esp32s3", (int8_t[4]){0, 0, -1, -1});
    check_prelu("esp32p4", (int8_t[4]){0, 0, -2, -1});
}
