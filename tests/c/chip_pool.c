/* Pools and Resize of the integer executor, against loops written from CHIP §2.12 – §2.14. */
#include "base/random.h"
#include "chip_node.h"

static const char *const targets[] = {"c", "esp32s3", "esp32p4"};

static int draw(Random *random, int least, int most)
{
    return least + (int)(random_next(random) % (uint32_t)(most - least + 1));
}

/* Half up, or half to even on esp32p4; exact for what these tests compute. */
static int rounded(double x, const char *target)
{
    return (int)(strcmp(target, "esp32p4") == 0 ? rint(x) : floor(x + 0.5));
}

typedef struct Image {
    int height, width, channels, kernel[2], stride[2], begin[2], end[2], out[2], bits;
} Image;

static Image random_image(Random *random)
{
    Image m = {
        .height = draw(random, 3, 7), .width = draw(random, 3, 7), .channels = draw(random, 1, 40), .bits = draw(random, 0, 1) ? 8 : 16};
    for (int i = 0; i < 2; i++) {
        m.kernel[i] = draw(random, 1, 3);
        m.stride[i] = draw(random, 1, 3);
        m.begin[i] = draw(random, 0, m.kernel[i] - 1);
        m.end[i] = draw(random, 0, m.kernel[i] - 1);
        m.out[i] = ((i ? m.width : m.height) + m.begin[i] + m.end[i] - m.kernel[i]) / m.stride[i] + 1;
    }
    return m;
}

static bool pool(ChipBench *bench, const char *target, const char *type, const Image *m, const void *x, int e_in, int e_out)
{
    Dtype dtype = m->bits == 8 ? DTYPE_INT8 : DTYPE_INT16;
    bench_start(bench, target, type, m->bits);
    bench_integers(bench, "kernel_shape", 2, (int64_t[]){m->kernel[0], m->kernel[1]});
    bench_integers(bench, "strides", 2, (int64_t[]){m->stride[0], m->stride[1]});
    bench_integers(bench, "pads", 4, (int64_t[]){m->begin[0], m->begin[1], m->end[0], m->end[1]});
    bench_integer(bench, "ceil_mode", 1); /* not read by the runtime */
    bench_input(bench, dtype, e_in, x, DIMS(1, m->height, m->width, m->channels));
    bench_output(bench, dtype, e_out);
    return bench_run(bench);
}

/* Promise: MaxPool is the largest number and AveragePool the rounded sum over kernel area of the taps that lie in the image. */
TEST(chip_pools_are_the_plain_loop)
{
    static int16_t x[7 * 7 * 40];
    Random random;
    random_seed(&random, 3);
    for (int turn = 0; turn < 60; turn++) {
        Image m = random_image(&random);
        const char *target = targets[turn % 3];
        bool mean = turn & 1;
        for (int i = 0; i < m.height * m.width * m.channels; i++)
            write_integer(x, i, m.bits, m.bits == 8 ? draw(&random, -128, 127) : draw(&random, -32768, 32767));
        ChipBench bench;
        REQUIRE(pool(&bench, target, mean ? "AveragePool" : "MaxPool", &m, x, -4, mean ? -3 : -4), "%s", bench.error.what);
        Shape shape = {4, {1, m.out[0], m.out[1], m.channels}};
        REQUIRE(shape_equal(&bench.node.outputs[0].shape, &shape), "shape");
        float area = 1.0f / (float)(m.kernel[0] * m.kernel[1]), scale = area * 0.5f;
        int wrong = 0;
        for (int oy = 0; oy < m.out[0]; oy++)
            for (int ox = 0; ox < m.out[1]; ox++)
                for (int c = 0; c < m.channels; c++) {
                    int sum = 0, most = -40000;
                    for (int tap = 0; tap < m.kernel[0] * m.kernel[1]; tap++) {
                        int iy = oy * m.stride[0] - m.begin[0] + tap / m.kernel[1], ix = ox * m.stride[1] - m.begin[1] + tap % m.kernel[1];
                        if (iy < 0 || ix < 0 || iy >= m.height || ix >= m.width) continue;
                        int v = (int)read_integer(x, (iy * m.width + ix) * m.channels + c, m.bits);
                        sum += v;
                        most = v > most ? v : most;
                    }
                    int wanted = mean ? rounded((double)((float)sum * scale), target) : most;
                    wrong += wanted != read_integer(bench.outputs[0], (oy * m.out[1] + ox) * m.channels + c, m.bits);
                }
        CHECK(wrong == 0, "%s %s: %d differ", target, mean ? "AveragePool" : "MaxPool", wrong);
        bench_end(&bench);
    }
}

/* Promise: means round as the chip does, and count the padding; without defects they do not (the numbers of CHIP §7). */
TEST(chip_average_rounds_and_counts_padding)
{
    static const int8_t x[4][4] = {{6, 0, 0, 0}, {10, 0, 0, 0}, {-6, 0, 0, 0}, {8, 0, 0, 0}};
    static const int8_t wanted[3][3] = {{2, 3, -1}, {2, 3, -1}, {2, 2, -2}};
    for (int t = 0; t < 3; t++) {
        for (int i = 0; i < 3; i++) {
            Image m = {2, 2, 1, {2, 2}, {1, 1}, {0, 0}, {0, 0}, {1, 1}, 8};
            ChipBench bench;
            REQUIRE(pool(&bench, targets[t], "AveragePool", &m, x[i], 0, 0), "%s", bench.error.what);
            CHECK(((int8_t *)bench.outputs[0])[0] == wanted[t][i], "%s: %d", targets[t], ((int8_t *)bench.outputs[0])[0]);
            bench_end(&bench);
        }
        for (int mended = 0; mended < 2; mended++) {
            ChipBench bench;
            bench_start_as(&bench, targets[t], "AveragePool", 8, mended);
            bench_integers(&bench, "kernel_shape", 2, (int64_t[]){2, 2});
            bench_integers(&bench, "pads", 4, (int64_t[]){1, 1, 0, 0});
            bench_input(&bench, DTYPE_INT8, 0, x[3], DIMS(1, 2, 2, 1));
            bench_output(&bench, DTYPE_INT8, 0);
            REQUIRE(bench_run(&bench), "%s", bench.error.what);
            CHECK(((int8_t *)bench.outputs[0])[0] == (mended ? 8 : 2), "corner: %d", ((int8_t *)bench.outputs[0])[0]);
            bench_end(&bench);
        }
    }
}

/* Promise: GlobalAveragePool averages the whole image, of one axis too. */
TEST(chip_global_average)
{
    static const int16_t x[6] = {10, -1, 20, -2, 30, -4};
    ChipBench bench;
    bench_start(&bench, "esp32s3", "GlobalAveragePool", 16);
    bench_input(&bench, DTYPE_INT16, -2, x, DIMS(1, 3, 2));
    bench_output(&bench, DTYPE_INT16, -3);
    REQUIRE(bench_run(&bench), "%s", bench.error.what);
    const int16_t *y = bench.outputs[0];
    Shape shape = {3, {1, 1, 2}};
    CHECK(shape_equal(&bench.node.outputs[0].shape, &shape) && y[0] == 40 && y[1] == -5, "%d %d", y[0], y[1]); /* -7 * 2 / 3 = -4.67 */
    bench_end(&bench);
}

static bool resize(ChipBench *bench, const char *target, const char *mode, int bits, bool mended, const void *x, int64_t h, int64_t w,
                   int64_t channels, const float *scales, int e_in, int e_out)
{
    Dtype dtype = bits == 8 ? DTYPE_INT8 : DTYPE_INT16;
    bench_start_as(bench, target, "Resize", bits, mended);
    bench_string(bench, "mode", mode);
    bench_input(bench, dtype, e_in, x, DIMS(1, h, w, channels));
    bench_input(bench, DTYPE_FLOAT32, 0, NULL, 0, NULL);
    bench_constant(bench, DTYPE_FLOAT32, 0, scales, DIMS(4));
    bench_output(bench, dtype, e_out);
    return bench_run(bench);
}

/* Promise: nearest Resize takes the pixel at floor(out / scale), and its defects are said or absent as asked: nothing at 16 bits, unset
 * registers below 16 channels, wrapping on c. */
TEST(chip_resize_nearest)
{
    static const float twice[4] = {1, 1, 2, 2}, thrice[4] = {1, 1, 3, 1.5f};
    static int8_t x[2 * 2 * 16];
    for (int i = 0; i < 64; i++)
        x[i] = (int8_t)(i - 20);
    for (int t = 0; t < 3; t++) {
        ChipBench bench;
        REQUIRE(resize(&bench, targets[t], "nearest", 8, false, x, 2, 2, 16, thrice, -3, -3), "%s", bench.error.what);
        const int8_t *y = bench.outputs[0];
        CHECK(bench.node.outputs[0].shape.dims[1] == 6 && bench.node.outputs[0].shape.dims[2] == 3, "shape");
        int wrong = 0;
        for (int i = 0; i < 6 * 3 * 16; i++)
            wrong += y[i] != x[((i / 48 / 3) * 2 + (i / 16 % 3 == 2)) * 16 + i % 16];
        CHECK(wrong == 0 && !bench.node.undefined, "%s: %d differ", targets[t], wrong);
        bench_end(&bench);
        REQUIRE(resize(&bench, targets[t], "nearest", 8, false, x, 2, 2, 2, thrice, -3, -3), "%s", bench.error.what);
        CHECK((bench.node.undefined != NULL) == (t > 0), "%s, 2 channels: %s", targets[t],
              bench.node.undefined ? bench.node.undefined : "-");
        bench_end(&bench);
        REQUIRE(resize(&bench, targets[t], "nearest", 8, false, x, 2, 2, 2, twice, -3, -3), "%s", bench.error.what);
        CHECK(!bench.node.undefined, "%s: 2 x 2 is right for any channels", targets[t]);
        bench_end(&bench);
        REQUIRE(resize(&bench, targets[t], "nearest", 16, false, x, 2, 2, 2, twice, -3, -3), "%s", bench.error.what);
        CHECK(bench.node.undefined && strstr(bench.node.undefined, "C8"), "16 bits");
        bench_end(&bench);
        x[0] = 100;
        REQUIRE(resize(&bench, targets[t], "nearest", 8, false, x, 1, 1, 1, twice, -3, -4), "%s", bench.error.what);
        CHECK(((int8_t *)bench.outputs[0])[0] == (t ? 127 : -56), "200 on %s: %d", targets[t], ((int8_t *)bench.outputs[0])[0]);
        bench_end(&bench);
        REQUIRE(resize(&bench, targets[t], "nearest", 8, true, x, 1, 1, 1, twice, -3, -4), "%s", bench.error.what);
        CHECK(((int8_t *)bench.outputs[0])[0] == 127, "200, mended: %d", ((int8_t *)bench.outputs[0])[0]);
        bench_end(&bench);
        x[0] = -20;
    }
}

/* Promise: linear Resize mixes two pixels an axis at half-pixel places, cut at the borders. */
TEST(chip_resize_linear)
{
    static const float twice[4] = {1, 1, 1, 2};
    static const int8_t x[2] = {0, 10}, wanted[2][4] = {{0, 3, 8, 10}, {0, 2, 8, 10}}; /* 0, 2.5, 7.5, 10; half to even on esp32p4 */
    for (int t = 0; t < 3; t++) {
        ChipBench bench;
        REQUIRE(resize(&bench, targets[t], "linear", 8, false, x, 2, 1, 1, (float[]){1, 1, 2, 1}, -3, -3), "%s", bench.error.what);
        CHECK(memcmp(bench.outputs[0], wanted[t == 2], 4) == 0, "%s, rows: %d %d", targets[t], ((int8_t *)bench.outputs[0])[1],
              ((int8_t *)bench.outputs[0])[2]);
        bench_end(&bench);
        REQUIRE(resize(&bench, targets[t], "linear", 8, false, x, 1, 2, 1, twice, -3, -3), "%s", bench.error.what);
        CHECK(memcmp(bench.outputs[0], wanted[t == 2], 4) == 0, "%s, columns: %d %d", targets[t], ((int8_t *)bench.outputs[0])[1],
              ((int8_t *)bench.outputs[0])[2]);
        bench_end(&bench);
    }
}
