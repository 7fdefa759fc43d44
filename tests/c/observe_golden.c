/* Observers against numbers of the reference (QUANT §8.10), and the arithmetic below them. */
#include "check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "observe/observer.h"

enum { MANY = 20000, FEW = 2000 };

/* The reference's generator (QUANT §12.1): u in [-1, 1). */
static void uniform(double *u, int count)
{
    uint32_t state = 214013u * 10086u + 2531011u;
    for (int i = 0; i < count; i++) {
        u[i] = 2.0 * (double)state / 4294967296.0 - 1;
        state = 214013u * state + 2531011u;
    }
}

static int make_data(int kind, float *x)
{
    static double u[MANY];
    uniform(u, MANY);
    int count = kind == 5 || kind == 6 ? FEW : kind == 9 ? 100 : kind == 10 ? 1 : kind == 11 ? 8 : MANY;
    for (int i = 0; i < count; i++) {
        double g = 0;
        for (int k = 0; (kind == 5 || kind == 6) && k < 10; k++)
            g += u[10 * i + k];
        switch (kind) {
        case 0: x[i] = (float)u[i]; break;
        case 1: x[i] = (float)(0.01 * u[i] + 0.5); break;
        case 2: x[i] = i == MANY - 1 ? 40.0f : (float)u[i]; break;
        case 3: x[i] = (float)(u[i] / (1.01 - fabs(u[i]))); break;
        case 4: x[i] = (float)(u[i] / (1.0001 - fabs(u[i]))); break;
        case 5: x[i] = (float)(3 * g); break;
        case 6: x[i] = (float)(g > 0 ? g * g * g : 0); break;
        case 7: x[i] = (float)exp(4 * u[i]); break;
        case 8: x[i] = (float)exp(9 * u[i]); break;
        case 9: x[i] = 0; break;
        case 10: x[i] = 1; break;
        default: x[i] = 127.0f / 128; break;
        }
    }
    return count;
}

static int exponent_by(const char *method, int bits, const float *x, int count)
{
    Error error = {0};
    Slot slot = {.bits = bits, .minimum = -(1 << (bits - 1)), .maximum = (1 << (bits - 1)) - 1, .bins = (int64_t)32 << (bits - 1)};
    int64_t dims[1] = {count};
    Shape shape = shape_of(1, dims);
    Tensor *batch = tensor_from_data(DTYPE_FLOAT32, &shape, x, &error);
    Observer *observer = observer_new(observer_row(method), &slot, "x", 1, &error);
    int exponent = 999;
    bool ok = batch && observer && observer_observe(observer, batch, 0, &error) && observer_between(observer, &error) &&
              (observer->row->walks < 2 || observer_observe(observer, batch, 1, &error)) && observer_exponents(observer, &exponent, &error);
    CHECK(ok, "%s: %s", method, error.what);
    observer_free(observer);
    tensor_release(batch);
    return exponent;
}

/* Every method gives the reference's exponent, at both widths. */
TEST(observers_agree_with_the_reference)
{
    static const char *const methods[] = {"minmax", "percentile", "kl", "mse"};
    static const int wanted[12][4][2] = {
        {{-6, -15}, {-6, -15}, {-7, -15}, {-6, -10}}, {{-7, -15}, {-7, -15}, {-8, -16}, {-7, -10}},
        {{-1, -9}, {-6, -15}, {-7, -15}, {-1, -4}},   {{0, -8}, {0, -8}, {0, -8}, {0, -3}},
        {{6, -2}, {5, -3}, {5, -2}, {6, 3}},          {{-2, -10}, {-2, -10}, {-3, -11}, {-2, -5}},
        {{1, -7}, {1, -7}, {1, -7}, {1, -2}},         {{-1, -9}, {-1, -9}, {-1, -9}, {-1, -4}},
        {{6, -2}, {6, -2}, {6, -2}, {6, 3}},          {{-26, -26}, {-26, -26}, {-27, -27}, {-26, -26}},
        {{-6, -14}, {-6, -14}, {-7, -15}, {-6, -9}},  {{-7, -15}, {-7, -15}, {-7, -15}, {-7, -10}},
    };
    static float x[MANY];
    for (int kind = 0; kind < 12; kind++) {
        int count = make_data(kind, x);
        for (int m = 0; m < 4; m++) {
            for (int w = 0; w < 2; w++) {
                int exponent = exponent_by(methods[m], w ? 16 : 8, x, count);
                CHECK(exponent == wanted[kind][m][w], "data %d, %s, %d bits: %d instead of %d", kind, methods[m], w ? 16 : 8, exponent,
                      wanted[kind][m][w]);
            }
        }
    }
}

static double plain_divergence(const float *histogram, int bins, int range, int levels)
{
    double total = 0, clipped = 0, quantized_total = 0, sum = 0;
    float *quantized = calloc((size_t)range, sizeof *quantized);
    for (int i = 0; i < bins; i++)
        total += histogram[i], clipped += i >= range ? histogram[i] : 0;
    int width = range / levels;
    for (int from = 0; from < range; from += width) {
        double level = 0, filled = 0;
        for (int i = from; i < from + width; i++)
            level += histogram[i], filled += histogram[i] > 0;
        for (int i = from; i < from + width; i++)
            quantized[i] = histogram[i] > 0 ? (float)level / (float)filled : 0;
    }
    for (int i = 0; i < range; i++)
        quantized_total += quantized[i];
    for (int i = 0; i < range; i++) {
        double p = (double)((histogram[i] + (i == range - 1 ? (float)clipped : 0)) / (float)total),
               q = (double)(quantized[i] / (float)quantized_total);
        sum += p * (log10(p + 1e-30) - log10(q + 1e-30));
    }
    free(quantized);
    return sum;
}

/* The search with running sums picks what the formula, written out with the C library's logarithm, picks. */
TEST(kl_search_is_the_formula)
{
    static const int winners[] = {4096, 4096, 128, 4096, 2432, 4096, 4096, 4096, 4096};
    static float x[MANY], histogram[4096], plain[4096];
    for (int kind = 0; kind < 9; kind++) {
        int count = make_data(kind, x);
        float range = 0;
        memset(histogram, 0, sizeof histogram);
        for (int i = 0; i < count; i++)
            range = fmaxf(range, fabsf(x[i]));
        for (int i = 0; i < count; i++) {
            int bin = (int)(fabsf(x[i]) * 4096 / range);
            histogram[bin < 4096 ? bin : 4095]++;
        }
        memcpy(plain, histogram, sizeof plain);
        memset(plain, 0, 8 * sizeof *plain);
        plain[8] = 1;
        int best = 0;
        double least = INFINITY;
        for (int end = 128; end <= 4096; end += 128) {
            double loss = plain_divergence(plain, 4096, end, 128);
            if (loss < least) least = loss, best = end;
        }
        Error error = {0};
        double scale;
        int64_t found;
        CHECK(kl_scale(histogram, 4096, range, 128, &scale, &found, &error), "%s", error.what);
        CHECK(found == best && found == winners[kind], "data %d: %d bins, formula %d, reference %d", kind, (int)found, best, winners[kind]);
        CHECK(scale == (double)best * (double)range / (4096.0 * 128), "data %d: scale %.17g", kind, scale);
    }
}

/* The positions of the percentile's order statistics are the reference's at every border it was asked for. */
TEST(percentile_positions_of_the_reference)
{
    static const int64_t table[][3] = {{1, 1, 1},         {9999, 1, 9999},   {10000, 1, 10000},   {10001, 2, 10000},     {19999, 2, 19998},
                                       {20000, 2, 19999}, {20001, 3, 19999}, {100000, 10, 99991}, {1000000, 100, 999901}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        int64_t low, high;
        percentile_positions(table[i][0], 0.9999, &low, &high);
        CHECK(low == table[i][1] && high == table[i][2], "%lld elements: %lld, %lld", (long long)table[i][0], (long long)low,
              (long long)high);
    }
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Selection by digits finds exactly what sorting finds, with ties and both signs. */
TEST(order_statistics_are_exact)
{
    static float x[MANY], sorted[MANY];
    for (int kind = 0; kind < 12; kind++) {
        int count = make_data(kind, x);
        memcpy(sorted, x, (size_t)count * sizeof *x);
        qsort(sorted, (size_t)count, sizeof *x, compare_floats);
        int64_t ranks[][2] = {{1, count}, {count / 3 + 1, count / 2 + 1}, {(count + 9) / 10, count - count / 10}};
        for (int r = 0; r < 3; r++) {
            Error error = {0};
            float low, high;
            CHECK(order_statistics_f32(x, count, ranks[r][0], ranks[r][1], &low, &high, &error), "%s", error.what);
            CHECK(low == sorted[ranks[r][0] - 1] && high == sorted[ranks[r][1] - 1], "data %d: %g %g", kind, (double)low, (double)high);
        }
    }
}

/* The scale of a range rounds up to a power of two, and exact powers stay what they are. */
TEST(exponent_of_a_range)
{
    CHECK(exponent_of_range(0, 1, -128, 127, 1e-8) == -6, "1.0");
    CHECK(exponent_of_range(0, 127.5 / 128, -128, 127, 1e-8) == -7, "127.5/128");
    CHECK(exponent_of_range(-127.0 / 128, 0.1, -128, 127, 1e-8) == -7, "-127/128");
    CHECK(exponent_of_range(2, 3, -128, 127, 1e-8) == -5, "a range above zero begins at zero");
    CHECK(exponent_of_range(0, 0, -128, 127, 1e-8) == -26, "zeros");
}

/* NaN and infinities are refused with the place they were found at. */
TEST(observers_refuse_what_is_not_finite)
{
    float x[3] = {1, 2, NAN};
    int64_t dims[1] = {3};
    Shape shape = shape_of(1, dims);
    Slot slot = {.bits = 8, .minimum = -128, .maximum = 127};
    for (int i = 0; i < 2; i++) {
        Error error = {0};
        Tensor *batch = tensor_from_data(DTYPE_FLOAT32, &shape, x, &error);
        Observer *observer = observer_new(observer_row("KL"), &slot, "layer/out", 1, &error);
        CHECK(!observer_observe(observer, batch, 0, &error) && strstr(error.what, "layer/out") && strstr(error.what, "index 2"), "%s",
              error.what);
        observer_free(observer);
        tensor_release(batch);
        x[2] = INFINITY;
    }
    Error error = {0};
    CHECK(!observer_new(observer_row("floating"), &slot, "x", 1, &error) && strstr(error.what, "floating"), "%s", error.what);
}

/* A percentile is the mean over batches of each batch's order statistics, all batches weighing the same. */
TEST(percentile_averages_batches)
{
    Error error = {0};
    Slot slot = {.bits = 8, .minimum = -128, .maximum = 127};
    Observer *observer = observer_new(observer_row("percentile"), &slot, "x", 1, &error);
    for (int b = 0; b < 6; b++) {
        float x[2] = {0, b == 5 ? 10.0f : 1.0f}; /* mean 2.5 */
        int64_t dims[1] = {2};
        Shape shape = shape_of(1, dims);
        Tensor *batch = tensor_from_data(DTYPE_FLOAT32, &shape, x, &error);
        CHECK(observer_observe(observer, batch, 0, &error), "%s", error.what);
        tensor_release(batch);
    }
    int exponent = 0;
    CHECK(observer_exponents(observer, &exponent, &error) && exponent == exponent_of_range(0, 2.5, -128, 127, 1e-8), "%d", exponent);
    observer_free(observer);
}

/* Per channel, every method looks at each channel alone, whatever the axis. */
TEST(constants_per_channel)
{
    float x[12] = {1, 8, 64, 0.5f, 7, 63, -1, -2, 60, 0.25f, 1, 50}; /* [4, 3], channels on axis 1 */
    int64_t dims[2] = {4, 3};
    Shape shape = shape_of(2, dims);
    static const char *const methods[] = {"minmax", "percentile", "kl", "mse"};
    for (int m = 0; m < 4; m++) {
        Error error = {0};
        Slot slot = {.bits = 8, .minimum = -128, .maximum = 127, .per_channel = true, .channel_axis = 1};
        Tensor *constant = tensor_from_data(DTYPE_FLOAT32, &shape, x, &error);
        int exponents[3];
        CHECK(observer_constant(observer_row(methods[m]), &slot, "w", constant, 1, false, exponents, &error), "%s", error.what);
        CHECK(exponents[1] - exponents[0] == 3 && exponents[2] - exponents[1] == 3, "%s: %d %d %d", methods[m], exponents[0], exponents[1],
              exponents[2]);
        tensor_release(constant);
    }
}
