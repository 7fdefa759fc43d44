/* Conv, Gemm, MatMul and InsertZeros of the integer executor, against loops written from CHIP §1.4 – §2.5 and packing from EXPORT §6. */
#include "base/random.h"
#include "chip_node.h"

#define LARGEST 6000

static const char *const targets[] = {"c", "esp32s3", "esp32p4"};

/* Where EXPORT §6.1 puts W[o][i][tap]. lanes 0: a C target. */
static int64_t packed_place(int64_t outputs, int64_t inputs, int64_t taps, int lanes, bool grouped, int64_t o, int64_t i, int64_t tap)
{
    if (!lanes) return grouped ? (tap * inputs + i) * outputs + o : (o * taps + tap) * inputs + i;
    int64_t full = outputs / lanes * lanes;
    if (o < full) return ((o / lanes * taps + tap) * inputs + i) * lanes + o % lanes;
    return grouped ? full * taps * inputs + (i * taps + tap) * (outputs - full) + (o - full) : (o * taps + tap) * inputs + i;
}

static int lanes_of(const char *target, int bits)
{
    return strcmp(target, "c") == 0 ? 0 : 128 / bits;
}

static int64_t clamp(int64_t v, int bits)
{
    int64_t high = (INT64_C(1) << (bits - 1)) - 1;
    return v > high ? high : v < -high - 1 ? -high - 1 : v;
}

/* v / 2^shift: up from the half, or to even on esp32p4. */
static int64_t rounded(int64_t v, int shift, bool even)
{
    if (shift == 0) return v;
    int64_t floor = v >> shift, rest = v - floor * (INT64_C(1) << shift), half = INT64_C(1) << (shift - 1);
    return floor + (even ? rest > half || (rest == half && (floor & 1)) : rest >= half);
}

typedef struct Case {
    const char *target;
    int bits, channels, outputs, in[2], kernel[2], stride[2], dilation[2], begin[2], end[2], shift;
    bool flat, grouped, relu, with_bias, per_channel;
} Case;

static int draw(Random *random, int least, int most)
{
    return least + (int)(random_next(random) % (uint32_t)(most - least + 1));
}

static void fill(Random *random, void *data, int count, int bits, int most)
{
    for (int i = 0; i < count; i++)
        write_integer(data, i, bits, draw(random, -most, most));
}

static Case random_case(Random *random)
{
    Case c = {.target = targets[draw(random, 0, 2)], .bits = draw(random, 0, 1) ? 8 : 16};
    c.grouped = draw(random, 0, 3) == 0;
    c.flat = draw(random, 0, 3) == 0;
    c.channels = draw(random, 2, 19);
    c.outputs = c.grouped ? c.channels : draw(random, 1, 35);
    c.relu = draw(random, 0, 1);
    c.with_bias = draw(random, 0, 1);
    c.per_channel = strcmp(c.target, "esp32p4") == 0 && draw(random, 0, 1);
    c.shift = draw(random, 0, 9);
    for (int i = 0; i < 2; i++) {
        c.kernel[i] = draw(random, 1, 3);
        c.stride[i] = draw(random, 1, 2);
        c.dilation[i] = draw(random, 1, 2);
        c.begin[i] = draw(random, 0, 2);
        c.end[i] = draw(random, 0, 2);
        c.in[i] = draw(random, 5, 8);
        if (c.flat && i == 0) c.kernel[i] = c.stride[i] = c.dilation[i] = c.in[i] = 1, c.begin[i] = c.end[i] = 0;
    }
    return c;
}

static int out_length(const Case *c, int axis)
{
    return (c->in[axis] + c->begin[axis] + c->end[axis] - c->dilation[axis] * (c->kernel[axis] - 1) - 1) / c->stride[axis] + 1;
}

static void give_attributes(ChipBench *bench, const Case *c)
{
    int from = c->flat ? 1 : 0, axes = 2 - from;
    const int *lists[] = {c->stride, c->dilation};
    const char *names[] = {"strides", "dilations"};
    for (int k = 0; k < 2; k++) {
        int64_t values[2] = {lists[k][from], lists[k][1]};
        if (values[0] != 1 || values[1] != 1) bench_integers(bench, names[k], axes, values); /* absent: 1 */
    }
    int64_t pads[4] = {c->begin[0], c->begin[1], c->end[0], c->end[1]}, flat_pads[2] = {c->begin[1], c->end[1]};
    bench_integers(bench, "pads", 2 * axes, c->flat ? flat_pads : pads);
    if (c->grouped) bench_integer(bench, "group", c->channels);
    bench_string(bench, "activation", c->relu ? "Relu" : "Linear");
}

static void check_case(Random *random, const Case *c)
{
    static int64_t x_room[LARGEST], packed_room[LARGEST], bias_room[64];
    static int weights[LARGEST], exponents[64], bias[64];
    int taps = c->kernel[0] * c->kernel[1], inputs = c->grouped ? 1 : c->channels, lanes = lanes_of(c->target, c->bits);
    int count = c->outputs * inputs * taps;
    void *x = x_room;
    fill(random, x, c->in[0] * c->in[1] * c->channels, c->bits, 20); /* small: no lane saturates */
    for (int i = 0; i < count; i++)
        weights[i] = draw(random, -20, 20);
    for (int o = 0; o < c->outputs; o++) {
        for (int i = 0; i < inputs; i++)
            for (int tap = 0; tap < taps; tap++)
                write_integer(packed_room, packed_place(c->outputs, inputs, taps, lanes, c->grouped, o, i, tap), c->bits,
                              weights[(o * inputs + i) * taps + tap]);
        bias[o] = draw(random, -3000, 3000);
        exponents[o] = -5 - draw(random, 0, 2);
        if (c->bits == 8)
            ((int32_t *)bias_room)[o] = bias[o];
        else
            bias_room[o] = bias[o];
    }
    Dtype dtype = c->bits == 8 ? DTYPE_INT8 : DTYPE_INT16;
    ChipBench bench;
    bench_start(&bench, c->target, "Conv", c->bits);
    give_attributes(&bench, c);
    int64_t labels[2] = {c->grouped ? c->outputs : inputs, c->grouped ? inputs : c->outputs};
    if (c->flat) {
        bench_input(&bench, dtype, -4, x, DIMS(1, c->in[1], c->channels));
        bench_constant(&bench, dtype, -5, packed_room, DIMS(c->kernel[1], labels[0], labels[1]));
    } else {
        bench_input(&bench, dtype, -4, x, DIMS(1, c->in[0], c->in[1], c->channels));
        bench_constant(&bench, dtype, -5, packed_room, DIMS(c->kernel[0], c->kernel[1], labels[0], labels[1]));
    }
    if (c->per_channel) {
        bench.inputs[1].exponent_count = c->outputs;
        bench.inputs[1].exponents = exponents;
    }
    if (c->with_bias) bench_constant(&bench, c->bits == 8 ? DTYPE_INT32 : DTYPE_INT64, -9, bias_room, DIMS(c->outputs));
    bench_output(&bench, dtype, -9 + c->shift);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    int rows = out_length(c, 0), columns = out_length(c, 1), rank = c->flat ? 3 : 4;
    const Shape *shape = &bench.node.outputs[0].shape;
    REQUIRE(shape->rank == rank && shape->dims[rank - 2] == columns && shape->dims[rank - 1] == c->outputs &&
                (c->flat || shape->dims[1] == rows),
            "shape");
    int wrong = 0;
    for (int oy = 0; oy < rows; oy++)
        for (int ox = 0; ox < columns; ox++)
            for (int o = 0; o < c->outputs; o++) {
                int64_t sum = c->with_bias ? bias[o] : 0;
                for (int tap = 0; tap < taps; tap++) {
                    int iy = oy * c->stride[0] - c->begin[0] + tap / c->kernel[1] * c->dilation[0];
                    int ix = ox * c->stride[1] - c->begin[1] + tap % c->kernel[1] * c->dilation[1];
                    if (iy < 0 || ix < 0 || iy >= c->in[0] || ix >= c->in[1]) continue;
                    for (int i = 0; i < inputs; i++)
                        sum += read_integer(x, (iy * c->in[1] + ix) * c->channels + (c->grouped ? o : i), c->bits) *
                               weights[(o * inputs + i) * taps + tap];
                }
                int shift = -9 + c->shift + 4 - (c->per_channel ? exponents[o] : -5);
                int64_t y = clamp(rounded(sum, shift, strcmp(c->target, "esp32p4") == 0), c->bits);
                if (c->relu && y < 0) y = 0;
                wrong += y != read_integer(bench.outputs[0], (oy * columns + ox) * c->outputs + o, c->bits);
            }
    CHECK(wrong == 0, "%s, %d bits, %d to %d channels: %d of %d differ", c->target, c->bits, c->channels, c->outputs, wrong,
          rows * columns * c->outputs);
    bench_end(&bench);
}

/* Promise: any Conv gives the rounded, shifted, clamped sums of its products, whatever target, width, packing, strides, pads and groups. */
TEST(chip_conv_is_the_plain_loop)
{
    Random random;
    random_seed(&random, 7);
    for (int i = 0; i < 150; i++) {
        Case c = random_case(&random);
        if (c.per_channel && c.shift < 2) c.shift = 2;
        check_case(&random, &c);
    }
}

/* A product of one row [80] with [80][17]: every column the same weights. Gives the outputs. */
static bool lane_product(ChipBench *bench, const char *target, bool mended, const int8_t *x)
{
    static int8_t weights[80 * 17];
    memset(weights, 127, sizeof weights); /* equal everywhere: the packing does not matter */
    bench_start_as(bench, target, "Gemm", 8, mended);
    bench_input(bench, DTYPE_INT8, 0, x, DIMS(1, 80));
    bench_constant(bench, DTYPE_INT8, 0, weights, DIMS(1, 1, 80, 17));
    bench_output(bench, DTYPE_INT8, 10);
    return bench_run(bench);
}

/* Promise: lanes of the ESP32-S3 saturate at 20 bits after each product and keep what they lost; its last channels, the other chips, and a
 * run without defects do not (the numbers of CHIP §7). */
TEST(chip_conv_lanes_saturate)
{
    int8_t up[80], down[80];
    for (int i = 0; i < 80; i++) {
        up[i] = i < 40 ? 127 : -127;
        down[i] = (int8_t)-up[i];
    }
    ChipBench bench;
    REQUIRE(lane_product(&bench, "esp32s3", false, up), "%s", bench.error.what);
    const int8_t *y = bench.outputs[0];
    CHECK(y[0] == -118 && y[15] == -118 && y[16] == 0, "up: %d %d %d", y[0], y[15], y[16]);
    Headroom headroom = {0};
    void *inputs[] = {up, bench.constants[1].data};
    ChipRun run = {.node = &bench.node, .inputs = inputs, .outputs = bench.outputs, .scratch = bench.scratch};
    bench.node.module->headroom(&run, &headroom);
    CHECK(headroom.saturated == 16 && headroom.count == 17 && headroom.limit == 524288, "%lld of %lld", (long long)headroom.saturated,
          (long long)headroom.count);
    CHECK(headroom.largest == 40 * 16129, "%g", headroom.largest);
    bench_end(&bench);
    REQUIRE(lane_product(&bench, "esp32s3", false, down), "%s", bench.error.what);
    CHECK(((int8_t *)bench.outputs[0])[0] == 118, "down: %d", ((int8_t *)bench.outputs[0])[0]);
    bench_end(&bench);
    for (int i = 0; i < 3; i++) {
        REQUIRE(lane_product(&bench, targets[i], true, up), "%s", bench.error.what);
        CHECK(((int8_t *)bench.outputs[0])[0] == 0, "%s, mended: %d", targets[i], ((int8_t *)bench.outputs[0])[0]);
        bench_end(&bench);
    }
}

/* Promise: a bias beyond 20 bits wraps in the lanes of the ESP32-S3, not in its last channels, and not on other chips (CHIP §7). */
TEST(chip_conv_bias_wraps)
{
    int8_t x[1] = {0}, weights[17] = {0};
    int32_t bias[17];
    for (int i = 0; i < 17; i++)
        bias[i] = 600000;
    bias[1] = -600000;
    bias[2] = 524287;
    bias[3] = 524288;
    for (int i = 0; i < 3; i++) {
        bool wraps = strcmp(targets[i], "esp32s3") == 0;
        ChipBench bench;
        bench_start(&bench, targets[i], "Gemm", 8);
        bench_input(&bench, DTYPE_INT8, 0, x, DIMS(1, 1));
        bench_constant(&bench, DTYPE_INT8, 0, weights, DIMS(1, 1, 1, 17));
        bench_constant(&bench, DTYPE_INT32, 0, bias, DIMS(17));
        bench_output(&bench, DTYPE_INT8, 13); /* 600000 / 8192 = 73.2, -448576 / 8192 = -54.8 */
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(y[0] == (wraps ? -55 : 73) && y[1] == (wraps ? 55 : -73) && y[2] == 64 && y[3] == (wraps ? -64 : 64) && y[16] == 73,
              "%s: %d %d %d %d %d", targets[i], y[0], y[1], y[2], y[3], y[16]);
        bench_end(&bench);
    }
}

/* Promise: MatMul repeats operands over batches of one, and reads its second operand in the packed order, constant or not. */
TEST(chip_matmul_repeats_batches)
{
    Random random;
    random_seed(&random, 11);
    for (int turn = 0; turn < 40; turn++) {
        static int16_t a_room[LARGEST], b_room[LARGEST];
        const char *target = targets[turn % 3];
        int bits = turn & 1 ? 8 : 16, lanes = lanes_of(target, bits);
        int rows = draw(&random, 1, 4), inputs = draw(&random, 1, 9), outputs = draw(&random, 1, 21);
        int batch[2] = {draw(&random, 1, 2), draw(&random, 1, 3)}, a_batch[2], b_batch[2];
        for (int i = 0; i < 2; i++) {
            int one = draw(&random, 0, 2);
            a_batch[i] = one == 0 ? 1 : batch[i];
            b_batch[i] = one == 1 ? 1 : batch[i];
            batch[i] = a_batch[i] > b_batch[i] ? a_batch[i] : b_batch[i];
        }
        Dtype dtype = bits == 8 ? DTYPE_INT8 : DTYPE_INT16;
        fill(&random, a_room, a_batch[0] * a_batch[1] * rows * inputs, bits, 30);
        fill(&random, b_room, b_batch[0] * b_batch[1] * inputs * outputs, bits, 30);
        ChipBench bench;
        bench_start(&bench, target, "MatMul", bits);
        bench_input(&bench, dtype, -3, a_room, DIMS(a_batch[0], a_batch[1], rows, inputs));
        if (turn % 4 < 2)
            bench_input(&bench, dtype, -3, b_room, DIMS(b_batch[0], b_batch[1], inputs, outputs));
        else
            bench_constant(&bench, dtype, -3, b_room, DIMS(b_batch[0], b_batch[1], inputs, outputs));
        bench_output(&bench, dtype, -1);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        int wrong = 0;
        for (int i = 0; i < batch[0]; i++)
            for (int j = 0; j < batch[1]; j++)
                for (int row = 0; row < rows; row++)
                    for (int o = 0; o < outputs; o++) {
                        int a_at = ((a_batch[0] == 1 ? 0 : i) * a_batch[1] + (a_batch[1] == 1 ? 0 : j)) * rows + row;
                        int b_at = ((b_batch[0] == 1 ? 0 : i) * b_batch[1] + (b_batch[1] == 1 ? 0 : j)) * inputs * outputs;
                        int64_t sum = 0;
                        for (int k = 0; k < inputs; k++)
                            sum += read_integer(a_room, a_at * inputs + k, bits) *
                                   read_integer(b_room, b_at + packed_place(outputs, inputs, 1, lanes, false, o, k, 0), bits);
                        int64_t y = clamp(rounded(sum, 5, strcmp(target, "esp32p4") == 0), bits);
                        wrong += y != read_integer(bench.outputs[0], ((i * batch[1] + j) * rows + row) * outputs + o, bits);
                    }
        CHECK(wrong == 0, "%s, %d bits, [%d, %d] x [%d, %d]: %d differ", target, bits, a_batch[0], a_batch[1], b_batch[0], b_batch[1],
              wrong);
        bench_end(&bench);
    }
}

/* Promise: MatMul of vectors has the shapes that the runtime makes. */
TEST(chip_matmul_shapes_of_vectors)
{
    int8_t a[12] = {1, 2, 3}, b[12] = {1, 1, 1};
    static const struct {
        int a_rank, b_rank, rank;
        int64_t a[3], b[3], out[3];
    } rows[] = {
        {1, 1, 1, {3}, {3}, {1}},          {1, 2, 1, {3}, {3, 2}, {2}},       {2, 1, 1, {2, 3}, {3}, {2}},
        {1, 3, 2, {3}, {2, 3, 2}, {2, 2}}, {3, 1, 2, {2, 2, 3}, {3}, {2, 2}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ChipBench bench;
        bench_start(&bench, "c", "MatMul", 8);
        bench_input(&bench, DTYPE_INT8, 0, a, rows[i].a_rank, rows[i].a);
        bench_input(&bench, DTYPE_INT8, 0, b, rows[i].b_rank, rows[i].b);
        bench_output(&bench, DTYPE_INT8, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        Shape wanted = shape_of(rows[i].rank, rows[i].out);
        char text[160];
        CHECK(shape_equal(&bench.node.outputs[0].shape, &wanted), "row %zu: %s", i, shape_text(&bench.node.outputs[0].shape, text));
        CHECK(((int8_t *)bench.outputs[0])[0] == 6, "row %zu: %d", i, ((int8_t *)bench.outputs[0])[0]);
        bench_end(&bench);
    }
}

/* Conv [1, 1, 1, 4] to 2 channels in 2 groups, weights 1 2 | 3 4: the smallest that is no depthwise one. */
static bool grouped_conv(ChipBench *bench, bool mended)
{
    static const int8_t x[4] = {1, 2, 3, 4}, weights[4] = {1, 3, 2, 4}; /* HWCN: tap, input, output */
    bench_start_as(bench, "c", "Conv", 8, mended);
    bench_integer(bench, "group", 2);
    bench_input(bench, DTYPE_INT8, 0, x, DIMS(1, 1, 1, 4));
    bench_constant(bench, DTYPE_INT8, 0, weights, DIMS(1, 1, 2, 2));
    bench_output(bench, DTYPE_INT8, 0);
    return bench_run(bench);
}

/* Promise: groups that the chip would compute as depthwise are refused with the cure; without defects they are computed. */
TEST(chip_conv_groups)
{
    ChipBench bench;
    CHECK(!grouped_conv(&bench, false) && strstr(bench.error.what, "C10") && strstr(bench.error.cure, "split"), "%s", bench.error.what);
    bench_end(&bench);
    REQUIRE(grouped_conv(&bench, true), "%s", bench.error.what);
    const int8_t *y = bench.outputs[0];
    CHECK(y[0] == 1 * 1 + 2 * 2 && y[1] == 3 * 3 + 4 * 4, "%d %d", y[0], y[1]);
    bench_end(&bench);
}

/* Promise: of a batch the chip computes the first image only, and espq says so; without defects all are computed. */
TEST(chip_conv_batch)
{
    static const int8_t x[2] = {3, 5}, weights[1] = {2};
    for (int mended = 0; mended < 2; mended++) {
        ChipBench bench;
        bench_start_as(&bench, "esp32p4", "Conv", 8, mended);
        bench_input(&bench, DTYPE_INT8, 0, x, DIMS(2, 1, 1, 1));
        bench_constant(&bench, DTYPE_INT8, 0, weights, DIMS(1, 1, 1, 1));
        bench_output(&bench, DTYPE_INT8, 0);
        REQUIRE(bench_run(&bench), "%s", bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(y[0] == 6 && y[1] == (mended ? 10 : 0) && (bench.node.undefined == NULL) == (mended != 0), "%d %d", y[0], y[1]);
        bench_end(&bench);
    }
}

/* Promise: what would crash the chip or misread its memory is refused: negative shifts, shifts a channel, another chip's packing, other
 * widths, foreign activations, matrices that do not fit. */
TEST(chip_conv_refusals)
{
    static const struct {
        const char *target, *layout, *activation, *says;
        int out_exponent, exponent_count, inputs;
        Dtype dtype;
    } rows[] = {
        {"esp32s3", NULL, "Linear", "C4", -1, 1, 2, DTYPE_INT8},
        {"esp32s3", NULL, "Linear", "C3", 0, 2, 2, DTYPE_INT8},
        {"c", NULL, "Linear", "C3", 0, 2, 2, DTYPE_INT8},
        {"esp32p4", "NHWC", "Linear", "packed as NHWC", 0, 1, 2, DTYPE_INT8},
        {"c", "(N/16)HWC16", "Linear", "packed as (N/16)HWC16", 0, 1, 2, DTYPE_INT8},
        {"esp32p4", NULL, "Sigmoid", "Sigmoid", 0, 1, 2, DTYPE_INT8},
        {"esp32p4", NULL, "Linear", "int16", 0, 1, 2, DTYPE_INT16},
        {"esp32p4", NULL, "Linear", "[1, 3]", 0, 1, 3, DTYPE_INT8},
    };
    static const int16_t x[4] = {1, 1}, weights[4] = {1, 1};
    static const int exponents[2] = {0, 0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ChipBench bench;
        bench_start(&bench, rows[i].target, "Gemm", 8);
        bench_string(&bench, "activation", rows[i].activation);
        bench_input(&bench, rows[i].dtype, 0, x, DIMS(1, rows[i].inputs));
        ChipEnd *filter = bench_constant(&bench, DTYPE_INT8, 0, weights, DIMS(1, 1, 2, 2));
        filter->layout = rows[i].layout;
        filter->exponent_count = rows[i].exponent_count;
        filter->exponents = exponents;
        bench_output(&bench, DTYPE_INT8, rows[i].out_exponent);
        CHECK(!bench_run(&bench) && strstr(bench.error.what, rows[i].says) && bench.error.cure[0] && strstr(bench.error.where, "node"),
              "row %zu: %s", i, bench.error.what);
        bench_end(&bench);
    }
}

/* Promise: InsertZeros puts the pixels `stride` apart, zeros between them and behind the last. */
TEST(chip_insert_zeros)
{
    static const int8_t x[4] = {1, 2, 3, 4}; /* 2 x 1 pixels of 2 channels */
    static const int8_t wanted[5 * 1 * 2] = {1, 2, 0, 0, 0, 0, 3, 4, 0, 0};
    ChipBench bench;
    bench_start(&bench, "c", "InsertZeros", 8);
    bench_integers(&bench, "stride", 2, (int64_t[]){3, 2});
    bench_integers(&bench, "output_padding", 2, (int64_t[]){1, 0});
    bench_input(&bench, DTYPE_INT8, 0, x, DIMS(1, 2, 1, 2));
    bench_output(&bench, DTYPE_INT8, 0);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    Shape shape = {4, {1, 5, 1, 2}};
    CHECK(shape_equal(&bench.node.outputs[0].shape, &shape) && memcmp(bench.outputs[0], wanted, sizeof wanted) == 0, "wrong places");
    bench_end(&bench);
}
