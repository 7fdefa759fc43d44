/* Plain definitions of fake quantization, quantization and statistics. */
#include <math.h>
#include <string.h>

#include "kernel/plain.h"

/* The reference adds and takes away an offset of zero, which turns -0 into +0; so does + 0.0f here. */
void plain_fake_quantize(const float *x, float *y, int64_t count, float inverse, float scale, float minimum, float maximum,
                         Rounding rounding)
{
    for (int64_t i = 0; i < count; i++) {
        float q = round_float(x[i] * inverse, rounding) + 0.0f;
        q = q < minimum ? minimum : q;
        q = q > maximum ? maximum : q;
        y[i] = q * scale;
    }
}

static void store(void *out, int bytes, int64_t i, int64_t q)
{
    switch (bytes) {
    case 1: ((int8_t *)out)[i] = (int8_t)q; break;
    case 2: ((int16_t *)out)[i] = (int16_t)q; break;
    case 4: ((int32_t *)out)[i] = (int32_t)q; break;
    default: ((int64_t *)out)[i] = q; break;
    }
}

/* NaN becomes 0 and counts as clamped. */
int64_t plain_quantize(const float *x, void *out, int bytes, int64_t count, float inverse, int64_t minimum, int64_t maximum,
                       Rounding rounding)
{
    float low = (float)minimum, high = (float)maximum;
    int64_t clamped = 0;
    for (int64_t i = 0; i < count; i++) {
        float q = round_float(x[i] * inverse, rounding);
        int64_t integer;
        if (isnan(q))
            integer = 0;
        else if (q <= low)
            integer = minimum;
        else if (q >= high)
            integer = maximum;
        else
            integer = (int64_t)q;
        clamped += !(q >= low && q <= high);
        store(out, bytes, i, integer);
    }
    return clamped;
}

/* + 0.0f: which zero comes first must not matter. */
void plain_minmax(const float *x, int64_t count, float *minimum, float *maximum)
{
    float low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        if (x[i] < low) low = x[i];
        if (x[i] > high) high = x[i];
    }
    *minimum = low + 0.0f;
    *maximum = high + 0.0f;
}

int64_t plain_find_not_finite(const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

void plain_histogram(const float *x, int64_t count, float range, int64_t bins, int32_t *counts)
{
    float scale = (float)bins;
    for (int64_t i = 0; i < count; i++) {
        float magnitude = fabsf(x[i]);
        if (!(magnitude <= range)) continue;
        float position = magnitude * scale;
        position = position / range;
        int64_t bin = position < scale ? (int64_t)position : bins - 1;
        counts[bin]++;
    }
}

/* Adds what is left of a block to the lanes, then adds the lanes. */
void plain_noise_lanes(const float *a, const float *b, int64_t count, double n[NOISE_LANES], double p[NOISE_LANES], double *noise,
                       double *power)
{
    for (int64_t i = 0; i < count; i++) {
        double difference = (double)a[i] - (double)b[i];
        n[i % NOISE_LANES] = fma(difference, difference, n[i % NOISE_LANES]);
        p[i % NOISE_LANES] = fma(b[i], b[i], p[i % NOISE_LANES]);
    }
    for (int half = NOISE_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            n[i] += n[i + half];
            p[i] += p[i + half];
        }
    }
    *noise = n[0];
    *power = p[0];
}

void plain_noise_block(const float *a, const float *b, int64_t count, double *noise, double *power)
{
    double n[NOISE_LANES] = {0}, p[NOISE_LANES] = {0};
    plain_noise_lanes(a, b, count, n, p, noise, power);
}
