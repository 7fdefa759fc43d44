/* Fake quantization, quantization, statistics and elementwise functions: every variant gives the bits of the plain definition, and the
 * definition is right in the corners. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"
#include "kernel/float32.h"
#include "kernel/quantize.h"

enum { COUNT = 70000 };

/* Numbers of all sizes, halves, zeros of both signs, infinities, and NaN when asked for. */
static float *numbers(uint64_t seed, int count, bool nan)
{
    Random random;
    random_seed(&random, seed);
    float *x = memory_new_array((size_t)count, sizeof *x);
    for (int i = 0; x && i < count; i++) {
        uint32_t bits = random_next(&random);
        switch (random_next(&random) % 8) {
        case 0: memcpy(&x[i], &bits, sizeof bits); break;
        case 1: x[i] = (float)((int)(bits % 601) - 300) / 2.0f; break;
        case 2: x[i] = bits % 2 ? 0.0f : -0.0f; break;
        default: x[i] = (float)random_normal(&random) * 20.0f; break;
        }
        if (isnan(x[i]) || (!nan && isinf(x[i]))) x[i] = nan ? NAN : 1.0f;
    }
    return x;
}

/* Calls act for each variant but the first with 1 to 3 threads; act compares with what it kept of the first. */
static void each_variant(void (*act)(void *context, KernelVariant variant), void *context)
{
    KernelVariant before = kernel_variant();
    int threads = threads_count();
    for (KernelVariant variant = KERNEL_PLAIN; variant < KERNEL_VARIANTS; variant++) {
        for (int count = 1; count <= 3 && kernel_variant_available(variant); count++) {
            threads_set_count(count);
            kernel_set_variant(variant);
            act(context, variant);
        }
    }
    kernel_set_variant(before);
    threads_set_count(threads);
}

typedef struct Fixture {
    const float *x, *z;
    float *y, *expected;
    const char *name;
    void (*function)(const float *x, float *y, int64_t count);
    int bytes, exponent, bits;
    Rounding rounding;
    int64_t clamped;
    int32_t *counts, *expected_counts;
    int64_t bins;
    bool filled;
} Fixture;

static void compare(Fixture *fixture, KernelVariant variant, size_t bytes)
{
    if (!fixture->filled) {
        memcpy(fixture->expected, fixture->y, bytes);
        fixture->filled = true;
    }
    CHECK(memcmp(fixture->expected, fixture->y, bytes) == 0, "%s: %s differs (bits %d, rounding %d, exponent %d)",
          kernel_variant_name(variant), fixture->name, fixture->bits, (int)fixture->rounding, fixture->exponent);
}

static Fixture fixture_make(bool nan)
{
    return (Fixture){
        .x = numbers(5, COUNT, nan), .z = numbers(6, COUNT, nan), .y = memory_new_array(COUNT, 8), .expected = memory_new_array(COUNT, 8)};
}

static void fixture_free(Fixture *fixture)
{
    memory_free((void *)fixture->x);
    memory_free((void *)fixture->z);
    memory_free(fixture->y);
    memory_free(fixture->expected);
}

static void act_fake_quantize(void *context, KernelVariant variant)
{
    Fixture *fixture = context;
    int64_t half = (int64_t)1 << (fixture->bits - 1);
    for (int skip = 0; skip < 3; skip++) { /* other tails and alignments, the same numbers */
        fake_quantize_f32(fixture->x, fixture->y, skip, fixture->exponent, -half, half - 1, fixture->rounding);
        fake_quantize_f32(fixture->x + skip, fixture->y + skip, COUNT - skip, fixture->exponent, -half, half - 1, fixture->rounding);
        compare(fixture, variant, COUNT * sizeof(float));
    }
}

/* Promise: fake quantization has the same bits on every variant, for all roundings and widths, NaN and infinities included. */
TEST(fake_quantization_is_the_same_on_every_variant)
{
    static const int bits[] = {8, 16, 20, 32};
    for (int rounding = ROUND_HALF_EVEN; rounding <= ROUND_DOWN; rounding++) {
        Fixture fixture = fixture_make(true);
        fixture.name = "fake_quantize_f32";
        fixture.rounding = (Rounding)rounding;
        fixture.bits = bits[rounding % 4];
        fixture.exponent = rounding - 4;
        each_variant(act_fake_quantize, &fixture);
        fixture_free(&fixture);
    }
}

/* Promise: halves go where the mode says, the bounds hold, NaN stays, and a zero is +0 as the reference's offset makes it. */
TEST(fake_quantization_by_hand)
{
    const float x[8] = {0.25f, 0.75f, -0.25f, -0.75f, 100.0f, -100.0f, NAN, -0.1f};
    const float even[8] = {0.0f, 1.0f, 0.0f, -1.0f, 63.5f, -64.0f, NAN, 0.0f}, up[8] = {0.5f, 1.0f, 0.0f, -0.5f, 63.5f, -64.0f, NAN, 0.0f};
    float y[8];
    fake_quantize_f32(x, y, 8, -1, -128, 127, ROUND_HALF_EVEN);
    for (int i = 0; i < 8; i++)
        CHECK(i == 6 ? isnan(y[i]) : y[i] == even[i] && signbit(y[i]) == signbit(even[i]), "half even: %g gives %g", x[i], y[i]);
    fake_quantize_f32(x, y, 8, -1, -128, 127, ROUND_HALF_UP);
    for (int i = 0; i < 8; i++)
        CHECK(i == 6 ? isnan(y[i]) : y[i] == up[i] && signbit(y[i]) == signbit(up[i]), "half up: %g gives %g", x[i], y[i]);
}

static void act_quantize(void *context, KernelVariant variant)
{
    Fixture *fixture = context;
    int64_t half = (int64_t)1 << (fixture->bits - 1);
    int64_t clamped = quantize_f32(fixture->x, fixture->y, fixture->bytes, COUNT, fixture->exponent, -half, half - 1, fixture->rounding, 0);
    if (!fixture->filled) fixture->clamped = clamped;
    CHECK(clamped == fixture->clamped, "%s: %d clamped, not %d", kernel_variant_name(variant), (int)clamped, (int)fixture->clamped);
    compare(fixture, variant, (size_t)(COUNT * fixture->bytes));
}

/* Promise: integers and the count of clamped ones are the same on every variant, for all widths. */
TEST(quantization_is_the_same_on_every_variant)
{
    static const int bits[] = {8, 16, 20, 32, 40}, bytes[] = {1, 2, 4, 4, 8};
    for (int i = 0; i < 10; i++) {
        Fixture fixture = fixture_make(true);
        fixture.name = "quantize_f32";
        fixture.bits = bits[i % 5];
        fixture.bytes = bytes[i % 5];
        fixture.exponent = i - 5;
        fixture.rounding = i % 2 ? ROUND_HALF_UP : ROUND_HALF_EVEN;
        each_variant(act_quantize, &fixture);
        fixture_free(&fixture);
    }
}

/* Promise: 32-bit integers saturate at both ends, where the reference wraps (QUANT D1). */
TEST(quantization_saturates)
{
    const float x[4] = {3e9f, -3e9f, 5.0f, NAN};
    int32_t q[4];
    int64_t clamped = quantize_f32(x, q, 4, 4, 0, INT32_MIN, INT32_MAX, ROUND_HALF_EVEN, 0);
    CHECK(q[0] == INT32_MAX && q[1] == INT32_MIN && q[2] == 5 && q[3] == 0, "got %d %d %d %d", q[0], q[1], q[2], q[3]);
    CHECK(clamped == 3, "%d clamped", (int)clamped);
}

static void act_statistics(void *context, KernelVariant variant)
{
    Fixture *fixture = context;
    minmax_f32(fixture->x, COUNT, &fixture->y[0], &fixture->y[1]);
    minmax_f32(fixture->x, 5, &fixture->y[2], &fixture->y[3]);
    minmax_f32(fixture->x, 0, &fixture->y[4], &fixture->y[5]);
    fixture->y[6] = (float)find_not_finite_f32(fixture->x, COUNT);
    fixture->y[7] = (float)find_not_finite_f32(fixture->z, 1);
    compare(fixture, variant, 8 * sizeof(float));
}

/* Promise: extremes and the first number that is none are the same on every variant, NaN skipped. */
TEST(statistics_are_the_same_on_every_variant)
{
    Fixture fixture = fixture_make(true);
    fixture.name = "minmax_f32 or find_not_finite_f32";
    each_variant(act_statistics, &fixture);
    CHECK(isinf(fixture.y[4]) && fixture.y[4] > 0 && fixture.y[5] < 0, "nothing has the extremes %g, %g", fixture.y[4], fixture.y[5]);
    fixture_free(&fixture);
}

static void act_noise(void *context, KernelVariant variant)
{
    Fixture *fixture = context;
    double sums[6];
    noise_power_f32(fixture->x, fixture->z, COUNT, &sums[0], &sums[1]);
    noise_power_f32(fixture->x, fixture->z, 37, &sums[2], &sums[3]);
    noise_power_f32(fixture->x, fixture->z, 0, &sums[4], &sums[5]);
    memcpy(fixture->y, sums, sizeof sums);
    compare(fixture, variant, sizeof sums);
}

/* Promise: the sums of squares have the same bits on every variant and with any number of threads. */
TEST(noise_is_the_same_on_every_variant)
{
    Fixture fixture = fixture_make(false);
    fixture.name = "noise_power_f32";
    each_variant(act_noise, &fixture);
    fixture_free(&fixture);
    const float a[3] = {1, 2, 4}, b[3] = {1, 1, 2};
    double noise, power;
    noise_power_f32(a, b, 3, &noise, &power);
    CHECK(noise == 5.0 && power == 6.0, "got %g, %g", noise, power);
}

static void act_histogram(void *context, KernelVariant variant)
{
    Fixture *fixture = context;
    size_t bytes = (size_t)fixture->bins * sizeof(int32_t);
    memset(fixture->counts, 0, bytes);
    for (int i = 0; i < 3; i++)
        histogram_f32(fixture->x, COUNT, 61.7f, fixture->bins, fixture->counts);
    if (!fixture->filled) memcpy(fixture->expected_counts, fixture->counts, bytes);
    fixture->filled = true;
    CHECK(memcmp(fixture->counts, fixture->expected_counts, bytes) == 0, "%s: the histogram of %d bins differs",
          kernel_variant_name(variant), (int)fixture->bins);
}

/* Promise: histograms are the same on every variant, few bins or many. */
TEST(histograms_are_the_same_on_every_variant)
{
    static const int64_t bins[] = {7, 2048, 4096, 1 << 20};
    for (int i = 0; i < 4; i++) {
        Fixture fixture = fixture_make(true);
        fixture.bins = bins[i];
        fixture.counts = memory_new_array((size_t)bins[i], sizeof(int32_t));
        fixture.expected_counts = memory_new_array((size_t)bins[i], sizeof(int32_t));
        each_variant(act_histogram, &fixture);
        memory_free(fixture.counts);
        memory_free(fixture.expected_counts);
        fixture_free(&fixture);
    }
}

/* Promise: bins are trunc(|x| * bins / range); the range itself falls into the last, what is larger and NaN into none. */
TEST(histogram_by_hand)
{
    const float x[8] = {0.0f, -0.26f, 0.5f, 1.0f, -1.0f, 1.5f, NAN, 0.24f};
    int32_t counts[4] = {0}, zeros[4] = {0};
    histogram_f32(x, 8, 1.0f, 4, counts);
    CHECK(counts[0] == 2 && counts[1] == 1 && counts[2] == 1 && counts[3] == 2, "got %d %d %d %d", counts[0], counts[1], counts[2],
          counts[3]);
    histogram_f32(x, 8, 0.0f, 4, zeros);
    CHECK(zeros[2] == 1 && zeros[0] == 0, "range 0: got %d in the middle", zeros[2]);
}

static void act_function(void *context, KernelVariant variant)
{
    Fixture *fixture = context;
    for (int skip = 0; skip < 18; skip += 5) {
        fixture->function(fixture->x, fixture->y, skip);
        fixture->function(fixture->x + skip, fixture->y + skip, COUNT - skip);
        compare(fixture, variant, COUNT * sizeof(float));
    }
}

static long double exact_sigmoid(long double x)
{
    return 1.0L / (1.0L + expl(-x));
}

static long double exact_swish(long double x)
{
    return x / (1.0L + expl(-x));
}

static long double exact_relu(long double x)
{
    return x < 0 ? 0 : x;
}

static const struct {
    const char *name;
    void (*function)(const float *x, float *y, int64_t count);
    long double (*exact)(long double x);
} functions[] = {
    {"exp", exp_f32, expl}, {"sigmoid", sigmoid_f32, exact_sigmoid}, {"swish", swish_f32, exact_swish}, {"tanh", tanh_f32, tanhl},
    {"erf", erf_f32, erfl}, {"relu", relu_f32, exact_relu}};

/* Promise: elementwise functions have the same bits on every variant, at any place of an array. */
TEST(elementwise_functions_are_the_same_on_every_variant)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        Fixture fixture = fixture_make(true);
        fixture.name = functions[i].name;
        fixture.function = functions[i].function;
        each_variant(act_function, &fixture);
        fixture_free(&fixture);
    }
}

/* Promise: they are within 2.5 units in the last place of the exact value, between -87 and 87. */
TEST(elementwise_functions_are_accurate)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        Random random;
        random_seed(&random, 7);
        float *x = memory_new_array(COUNT, sizeof *x), *y = memory_new_array(COUNT, sizeof *y);
        for (int n = 0; n < COUNT; n++)
            x[n] = (float)((random_uniform(&random) - 0.5) * (n % 3 == 0 ? 174.0 : n % 3 == 1 ? 10.0 : 0.5));
        functions[i].function(x, y, COUNT);
        double worst = 0.0;
        float at = 0.0f;
        for (int n = 0; n < COUNT; n++) {
            long double exact = functions[i].exact(x[n]);
            float rounded = (float)fabsl(exact), unit = nextafterf(rounded, INFINITY) - rounded;
            if (rounded < 1.2e-38f || isinf(rounded) || isinf(unit)) continue;
            double error = (double)(fabsl((long double)y[n] - exact) / unit);
            if (error > worst) {
                worst = error;
                at = x[n];
            }
        }
        CHECK(worst <= 2.5, "%s is off by %.2f units at %.9g", functions[i].name, worst, at);
        memory_free(x);
        memory_free(y);
    }
}

/* Promise: the ends are right: overflow, underflow, infinities, zeros. */
TEST(elementwise_functions_at_the_ends)
{
    const float x[6] = {INFINITY, -INFINITY, 0.0f, -0.0f, 89.0f, -110.0f};
    float y[6];
    relu_f32(x, y, 6);
    CHECK(isinf(y[0]) && y[1] == 0.0f && !signbit(y[1]) && !signbit(y[2]) && signbit(y[3]), "relu: %g %g %g %g", y[0], y[1], y[2], y[3]);
    exp_f32(x, y, 6);
    CHECK(isinf(y[0]) && y[1] == 0.0f && y[2] == 1.0f && isinf(y[4]) && y[5] == 0.0f, "exp: %g %g %g %g %g", y[0], y[1], y[2], y[4], y[5]);
    sigmoid_f32(x, y, 6);
    CHECK(y[0] == 1.0f && y[1] == 0.0f && y[2] == 0.5f, "sigmoid: %g %g %g", y[0], y[1], y[2]);
    tanh_f32(x, y, 6);
    CHECK(y[0] == 1.0f && y[1] == -1.0f && signbit(y[3]), "tanh: %g %g %g", y[0], y[1], y[3]);
    erf_f32(x, y, 6);
    CHECK(y[0] == 1.0f && y[1] == -1.0f && y[2] == 0.0f, "erf: %g %g %g", y[0], y[1], y[2]);
}
