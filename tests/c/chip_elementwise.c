/* Modules of the integer executor that work element by element: binary, unary and conversions. */
#include "base/random.h"
#include "base/threads.h"
#include "chip_node.h"

static const char *const targets[] = {"c", "esp32s3", "esp32p4"};

static int64_t among(Random *random, int bits)
{
    int64_t q = (int64_t)(random_next(random) >> (32 - bits)) - (INT64_C(1) << (bits - 1));
    return random_next(random) % 8 ? q : q < 0 ? -(INT64_C(1) << (bits - 1)) : (INT64_C(1) << (bits - 1)) - 1;
}

/* Where element `flat` of `out` reads an operand of shape `in`. */
static int64_t broadcast_index(const Shape *out, const Shape *in, int64_t flat)
{
    int64_t index = 0, stride = 1;
    for (int axis = out->rank - 1, k = in->rank - 1; k >= 0; axis--, k--) {
        int64_t at = flat % out->dims[axis];
        flat /= out->dims[axis];
        index += in->dims[k] == 1 ? 0 : at * stride;
        stride *= in->dims[k];
    }
    return index;
}

/* What a plain loop says of one element; exponents: inputs -4 and -3, output as given. */
static int64_t expected(const char *type, const Chip *chip, int bits, int64_t x, int64_t y, int out)
{
    if (strcmp(type, "Add") == 0) return saturate(x + y, bits);
    if (strcmp(type, "Sub") == 0) return saturate(x - y, bits);
    if (strcmp(type, "Mul") == 0) return saturate(shift_and_round(x * y, out + 7, chip->rounding, bits), bits);
    if (strcmp(type, "Equal") == 0) return x == y;
    if (strcmp(type, "Greater") == 0) return x > y;
    if (strcmp(type, "GreaterOrEqual") == 0) return x >= y;
    if (strcmp(type, "Less") == 0) return x < y;
    return x <= y;
}

/* Promise: the binary modules broadcast as ONNX does and compute what one line of C says, for every shape, width and chip. */
TEST(chip_binary_broadcasts)
{
    static const char *const types[] = {"Add", "Sub", "Mul", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"};
    Random random;
    random_seed(&random, 7);
    enum { MOST = 4096 };
    static int16_t a[MOST], b[MOST];
    for (int round = 0; round < 600; round++) {
        const char *type = types[round % 8];
        bool mul = strcmp(type, "Mul") == 0, compares = round % 8 > 2;
        int bits = round % 3 && !mul ? 16 : 8, rank = 1 + (int)(random_next(&random) % 4), cut = (int)(random_next(&random) % 3);
        Shape x = {.rank = rank}, y = {0};
        for (int i = 0; i < rank; i++)
            x.dims[i] = 1 + random_next(&random) % (i == rank - 1 ? 100 : 5);
        y.rank = rank - (cut < rank ? cut : 0);
        for (int i = 0; i < y.rank; i++)
            y.dims[i] = x.dims[rank - y.rank + i];
        for (int i = 0; i < y.rank; i++) {
            uint32_t choice = random_next(&random) % 4;
            if (choice == 0) y.dims[i] = 1;
            if (choice == 1 && rank == y.rank) x.dims[i] = 1;
        }
        if (shape_count(&x) > MOST || shape_count(&y) > MOST) continue;
        for (int64_t i = 0; i < shape_count(&x); i++)
            write_integer(a, i, bits, among(&random, bits));
        for (int64_t i = 0; i < shape_count(&y); i++)
            write_integer(b, i, bits, random_next(&random) % 4 ? among(&random, bits) : read_integer(a, 0, bits));
        int out = -7 + (int)(random_next(&random) % 12);
        Dtype dtype = bits == 8 ? DTYPE_INT8 : DTYPE_INT16;
        ChipBench bench;
        bench_start(&bench, targets[round % 5 % 3], type, bits);
        bool swap = round % 2;
        bench_input(&bench, dtype, -4, swap ? b : a, swap ? y.rank : x.rank, swap ? y.dims : x.dims);
        bench_input(&bench, dtype, -3, swap ? a : b, swap ? x.rank : y.rank, swap ? x.dims : y.dims);
        bench_output(&bench, compares ? DTYPE_BOOL : dtype, out);
        REQUIRE(bench_run(&bench), "%s: %s", type, bench.error.what);
        const Shape *shape = &bench.ends[0].shape;
        for (int64_t i = 0; i < shape_count(shape); i++) {
            int64_t p = read_integer(a, broadcast_index(shape, &x, i), bits), q = read_integer(b, broadcast_index(shape, &y, i), bits);
            int64_t want = expected(type, &bench.chip, bits, swap ? q : p, swap ? p : q, out);
            int64_t have = compares ? ((uint8_t *)bench.outputs[0])[i] : read_integer(bench.outputs[0], i, bits);
            REQUIRE(have == want, "%s int%d on %s: element %lld is %lld, not %lld", type, bits, bench.chip.target->name, (long long)i,
                    (long long)have, (long long)want);
        }
        bench_end(&bench);
    }
}

/* Promise: what the chip's four loops cannot walk is refused, and so are comparisons of floats, which its module leaves out. */
TEST(chip_binary_refuses)
{
    static float data[64];
    ChipBench bench;
    bench_start(&bench, "c", "Add", 32);
    bench_input(&bench, DTYPE_FLOAT32, 0, data, DIMS(2, 1, 2, 1, 2));
    bench_input(&bench, DTYPE_FLOAT32, 0, data, DIMS(2, 2, 2, 2, 2));
    bench_output(&bench, DTYPE_FLOAT32, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "5 loops") && strstr(bench.error.where, "node"), "%s", bench.error.what);
    bench_end(&bench);

    bench_start(&bench, "esp32p4", "Less", 32);
    bench_input(&bench, DTYPE_FLOAT32, 0, data, DIMS(4));
    bench_input(&bench, DTYPE_FLOAT32, 0, data, DIMS(4));
    bench_output(&bench, DTYPE_BOOL, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "does not compare"), "%s", bench.error.what);
    bench_end(&bench);

    bench_start(&bench, "c", "Sub", 8);
    bench_input(&bench, DTYPE_INT8, 0, data, DIMS(4));
    bench_input(&bench, DTYPE_INT16, 0, data, DIMS(4));
    bench_output(&bench, DTYPE_INT8, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "int16"), "%s", bench.error.what);
    bench_end(&bench);
}

/* 100 / y for y = 0, 3, -7 through the table, then again with 50. */
static void divide(bool mended, bool constant, int8_t first[3], int8_t second[3])
{
    int8_t dividend = 100;
    static const int8_t divisors[3] = {0, 3, -7};
    ChipBench bench;
    bench_start_as(&bench, "c", "Div", 8, mended);
    (constant ? bench_constant : bench_input)(&bench, DTYPE_INT8, -2, &dividend, DIMS(1));
    bench_input(&bench, DTYPE_INT8, -1, divisors, DIMS(3));
    bench_output(&bench, DTYPE_INT8, -1);
    if (bench_run(&bench)) {
        memcpy(first, bench.outputs[0], 3);
        dividend = 50;
        bench_again(&bench);
        memcpy(second, bench.outputs[0], 3);
    } else {
        test_failed(__FILE__, __LINE__, "%s", bench.error.what);
    }
    bench_end(&bench);
}

/* Promise: Div of int8 by one element freezes its table at the first run (C13) unless the defect is mended; 0 divides to the rail. */
TEST(chip_div_table)
{
    int8_t first[3], second[3];
    divide(false, false, first, second); /* 25 / 1.5 = 16.67 = 33 * 2^-1; 25 / -3.5 = -7.14 = -14 * 2^-1 */
    CHECK(first[0] == 127 && first[1] == 33 && first[2] == -14, "%d %d %d", first[0], first[1], first[2]);
    CHECK(memcmp(first, second, 3) == 0, "the table is kept: %d", second[1]);
    divide(true, false, first, second);
    CHECK(first[1] == 33 && second[1] == 17 && second[2] == -7, "mended: %d %d", second[1], second[2]);
    divide(false, true, first, second);
    CHECK(first[1] == 33 && second[1] == 33, "a constant's table is made once: %d", second[1]);
}

/* Promise: dividing int8 by one element gives 0 for 0, also by 0, and rows of int16 and floats divide as well. */
TEST(chip_div_by_one)
{
    static const int8_t x[3] = {0, 100, -7}, three = 3, zero = 0;
    static const int16_t wide[3] = {0, 100, -7}, wide_zero = 0;
    static const struct {
        Dtype dtype;
        const void *x, *y;
        int want[3];
    } rows[] = {
        {DTYPE_INT8, x, &three, {0, 33, -2}}, {DTYPE_INT8, x, &zero, {0, 127, -128}}, {DTYPE_INT16, wide, &wide_zero, {0, 32767, -32768}}};
    for (int i = 0; i < 3; i++) {
        int bits = rows[i].dtype == DTYPE_INT8 ? 8 : 16;
        ChipBench bench;
        bench_start(&bench, "c", "Div", bits);
        bench_input(&bench, rows[i].dtype, -2, rows[i].x, DIMS(3));
        bench_input(&bench, rows[i].dtype, -1, rows[i].y, DIMS(1));
        bench_output(&bench, rows[i].dtype, -1);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        for (int k = 0; k < 3; k++) {
            int have = (int)read_integer(bench.outputs[0], k, bits);
            CHECK(have == rows[i].want[k], "row %d: element %d is %d", i, k, have);
        }
        bench_end(&bench);
    }
}

/* Promise: large tensors give the same bytes with one thread and with three. */
TEST(chip_elementwise_threads)
{
    enum { MANY = 200000 };
    int8_t *x = malloc(MANY);
    REQUIRE(x, "memory");
    for (int i = 0; i < MANY; i++)
        x[i] = (int8_t)(i * 73 >> 3);
    int before = threads_count();
    for (int round = 0; round < 6; round++) {
        bool rows = round % 3 == 1, requantize = round % 3 == 2;
        threads_set_count(round < 3 ? 1 : 3);
        ChipBench bench;
        bench_start(&bench, "esp32s3", requantize ? "RequantizeLinear" : "Mul", requantize ? 16 : 8);
        bench_input(&bench, DTYPE_INT8, -3, x, DIMS(2000, 100));
        if (!requantize) bench_input(&bench, DTYPE_INT8, -3, x, DIMS(2000, rows ? 1 : 100));
        bench_output(&bench, requantize ? DTYPE_INT16 : DTYPE_INT8, requantize ? -6 : -1);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        static uint64_t sums[3];
        uint64_t sum = 0;
        for (int64_t i = 0; i < MANY; i++)
            sum = sum * 31 + (uint64_t)read_integer(bench.outputs[0], i, requantize ? 16 : 8);
        if (round < 3) sums[round] = sum;
        CHECK(sum == sums[round % 3], "round %d", round);
        bench_end(&bench);
    }
    threads_set_count(before);
    free(x);
}

/* Promise: an int8 node uses the file's table where it has one, Neg ignores it, and without one the formula fills a table. */
TEST(chip_int8_tables)
{
    static const int8_t x[5] = {-128, -1, 0, 1, 127};
    int8_t table[256];
    for (int i = 0; i < 256; i++)
        table[i] = (int8_t)(i / 2);
    static const struct {
        const char *type;
        bool table;
        int8_t want[5];
    } rows[] = {
        {"Sigmoid", true, {0, 63, 64, 64, 127}},  {"Neg", true, {127, 1, 0, -1, -127}},    {"Relu", false, {0, 0, 0, 1, 127}},
        {"LeakyRelu", false, {-1, 0, 0, 1, 127}}, {"HardSwish", false, {0, 0, 0, 1, 127}}, {"Sigmoid", false, {0, 2, 2, 2, 4}},
        {"HardSigmoid", false, {0, 2, 2, 2, 4}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ChipBench bench;
        bench_start(&bench, "c", rows[i].type, 8);
        bench_input(&bench, DTYPE_INT8, -2, x, DIMS(5));
        bench_output(&bench, DTYPE_INT8, -2);
        if (rows[i].table) bench_table(&bench, DTYPE_INT8, table, 256);
        REQUIRE(bench_run(&bench), "%s: %s", rows[i].type, bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(memcmp(y, rows[i].want, 5) == 0, "%s: %d %d %d %d %d", rows[i].type, y[0], y[1], y[2], y[3], y[4]);
        bench_end(&bench);
    }
}

/* Promise: int16 functions give the same integers element by element and through the table that large tensors get. */
TEST(chip_int16_functions)
{
    static const char *const types[] = {"Tanh", "Swish", "Elu", "Exp", "LeakyRelu", "Sigmoid"};
    enum { MANY = 65536 + 64 };
    static int16_t x[MANY];
    for (int i = 0; i < MANY; i++)
        x[i] = (int16_t)(i * 257);
    for (int t = 0; t < 6; t++) {
        ChipBench large, small;
        int64_t dims[2] = {1, MANY}, few[2] = {1, 500};
        bench_start(&large, targets[t % 3], types[t], 16);
        bench_input(&large, DTYPE_INT16, -12, x, 2, dims);
        bench_output(&large, DTYPE_INT16, -11);
        bench_start(&small, targets[t % 3], types[t], 16);
        bench_input(&small, DTYPE_INT16, -12, x + 1234, 2, few);
        bench_output(&small, DTYPE_INT16, -11);
        REQUIRE(bench_run(&large) && bench_run(&small), "%s: %s%s", types[t], large.error.what, small.error.what);
        CHECK(memcmp((int16_t *)large.outputs[0] + 1234, small.outputs[0], 1000) == 0, "%s differs between the two ways", types[t]);
        int16_t end = INT16_MAX, *out = large.outputs[0];
        bool rises = strcmp(types[t], "Swish") != 0 && strcmp(types[t], "Elu") != 0 && strcmp(types[t], "LeakyRelu") != 0;
        for (int i = 0; i < MANY && rises; i++)
            if (x[i] == end) CHECK(out[i] >= out[i - 1], "%s: the entry of the highest code is %d", types[t], out[i]);
        bench_end(&large);
        bench_end(&small);
    }
}

/* Promise: a Clip takes integer bounds at the input's exponent and rescales; a float Clip without lower bound starts at the smallest
 * positive number (C24) unless the defect is mended. */
TEST(chip_clip)
{
    static const int16_t x[4] = {-300, -5, 7, 300}, low = -6, high = 100;
    ChipBench bench;
    bench_start(&bench, "esp32s3", "Clip", 16);
    bench_input(&bench, DTYPE_INT16, -4, x, DIMS(4));
    bench_constant(&bench, DTYPE_INT16, -4, &low, DIMS(1));
    bench_input(&bench, DTYPE_INT16, -4, &high, DIMS(1)); /* comes at run time */
    bench_output(&bench, DTYPE_INT16, -3);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    const int16_t *y = bench.outputs[0];
    CHECK(y[0] == -3 && y[1] == -2 && y[2] == 4 && y[3] == 50, "%d %d %d %d", y[0], y[1], y[2], y[3]);
    bench_end(&bench);
    static const float values[2] = {-2, 9}, top = 6;
    for (int mended = 0; mended < 2; mended++) {
        bench_start_as(&bench, "c", "Clip", 32, mended);
        bench_input(&bench, DTYPE_FLOAT32, 0, values, DIMS(2));
        bench_input(&bench, DTYPE_FLOAT32, 0, NULL, DIMS(1));
        bench_constant(&bench, DTYPE_FLOAT32, 0, &top, DIMS(1));
        bench_output(&bench, DTYPE_FLOAT32, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        const float *z = bench.outputs[0];
        CHECK(z[1] == 6.0f && (mended ? z[0] == -2.0f : z[0] > 0.0f && z[0] < 1e-37f), "mended %d: %g", mended, (double)z[0]);
        bench_end(&bench);
    }
}

/* Promise: a table that is missing, of another width or of a length that is no step of two is refused. */
TEST(chip_table_refusals)
{
    static const int16_t x[4], table[300];
    static const struct {
        int bits, entries;
        Dtype dtype;
    } rows[] = {{16, 0, DTYPE_INT16}, {16, 300, DTYPE_INT16}, {8, 200, DTYPE_INT8}, {8, 256, DTYPE_INT16}, {32, 256, DTYPE_INT8}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        Dtype dtype = rows[i].bits == 8 ? DTYPE_INT8 : rows[i].bits == 16 ? DTYPE_INT16 : DTYPE_FLOAT32;
        ChipBench bench;
        bench_start(&bench, "esp32p4", "Gelu", rows[i].bits);
        bench_input(&bench, dtype, 0, x, DIMS(1));
        bench_output(&bench, dtype, 0);
        if (rows[i].entries) bench_table(&bench, rows[i].dtype, table, rows[i].entries);
        CHECK(!bench_run(&bench) && strstr(bench.error.what, "table"), "row %d: %s", (int)i, bench.error.what);
        bench_end(&bench);
    }
}

/* Promise: a requantization from 8 to 16 bits whose last 8 elements the vectors leave unwritten is marked (C5), a conversion that the
 * runtime refuses is refused, and floats convert both ways. */
TEST(chip_conversions)
{
    static int8_t x[72];
    static const float real[4] = {0.375f, -20.0f, 1e9f, NAN};
    for (int t = 0; t < 3; t++) {
        ChipBench bench;
        bench_start(&bench, targets[t], "RequantizeLinear", 16);
        bench_input(&bench, DTYPE_INT8, -3, x, DIMS(72));
        bench_output(&bench, DTYPE_INT16, -5);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        CHECK((bench.node.undefined != NULL) == (t > 0), "%s", targets[t]);
        bench_end(&bench);
        bench_start(&bench, targets[t], "QuantizeLinear", 8);
        bench_input(&bench, DTYPE_FLOAT32, 0, real, DIMS(4));
        bench_output(&bench, DTYPE_INT8, -2);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        const int8_t *q = bench.outputs[0];
        CHECK(q[0] == 2 && q[1] == -80 && q[2] == 127 && q[3] == 127, "%d %d %d %d", q[0], q[1], q[2], q[3]);
        bench_end(&bench);
    }
    ChipBench bench;
    bench_start(&bench, "c", "DequantizeLinear", 8);
    bench_input(&bench, DTYPE_INT8, -3, x, DIMS(4));
    bench_output(&bench, DTYPE_INT64, 0);
    CHECK(!bench_run(&bench) && strstr(bench.error.what, "int64"), "%s", bench.error.what);
    bench_end(&bench);
}

/* Promise: a node that requantizes by its table gives what an assignment gives, on both sides of the runtime's limit of 50 elements. */
TEST(chip_requantize_table)
{
    int8_t x[256], want[256];
    for (int i = 0; i < 256; i++)
        x[i] = (int8_t)(i * 37);
    for (int t = 0; t < 3; t++) {
        for (int away = -9; away <= 9; away++) {
            int64_t count = away % 2 ? 50 : 256;
            ChipBench bench;
            bench_start(&bench, targets[t], "RequantizeLinear", 8);
            bench_input(&bench, DTYPE_INT8, -3, x, DIMS(count));
            bench_output(&bench, DTYPE_INT8, -3 + away);
            REQUIRE(bench_run(&bench), "%s", bench.error.what);
            const char *undefined = NULL;
            chip_assign(&bench.chip, DTYPE_INT8, -3, x, DTYPE_INT8, -3 + away, want, count, &undefined);
            CHECK(memcmp(want, bench.outputs[0], (size_t)count) == 0, "%s, %d exponents up", targets[t], away);
            bench_end(&bench);
        }
    }
}
