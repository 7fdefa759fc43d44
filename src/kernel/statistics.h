/* Fake quantization, quantization and statistics on vectors, step by step as in quantize_plain.c, which also does what is left over at
 * the end. A template, after elementwise.h. */

static inline __attribute__((always_inline)) void fake_quantize_mode(const float *x, float *y, int64_t count, float inverse, float scale,
                                                                     float minimum, float maximum, const Rounding rounding)
{
    const Floats inverses = v_all(inverse), scales = v_all(scale), low = v_all(minimum), high = v_all(maximum);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats q = v_add(v_round(v_mul(v_load(x + i), inverses), rounding), v_zero());
        v_store(y + i, v_mul(v_clamp(q, low, high), scales));
    }
    if (i == count) return;
    Floats rest = v_load_masked(x + i, (1u << (count - i)) - 1, v_zero());
    Floats q = v_add(v_round(v_mul(rest, inverses), rounding), v_zero());
    v_store_first(y + i, (int)(count - i), v_mul(v_clamp(q, low, high), scales));
}

static void fake_quantize_run(const float *x, float *y, int64_t count, float inverse, float scale, float minimum, float maximum,
                              Rounding rounding)
{
    switch (rounding) {
    case ROUND_HALF_EVEN: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_HALF_EVEN); return;
    case ROUND_HALF_UP: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_HALF_UP); return;
    case ROUND_HALF_DOWN: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_HALF_DOWN); return;
    case ROUND_HALF_TOWARDS_ZERO: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_HALF_TOWARDS_ZERO); return;
    case ROUND_HALF_FAR_FROM_ZERO: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_HALF_FAR_FROM_ZERO); return;
    case ROUND_UP: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_UP); return;
    case ROUND_DOWN: fake_quantize_mode(x, y, count, inverse, scale, minimum, maximum, ROUND_DOWN); return;
    }
}

#define EXACT_INTEGERS 16777216 /* bounds up to here are exact in float32 */

static int64_t quantize_run(const float *x, void *out, int bytes, int64_t count, float inverse, int64_t minimum, int64_t maximum,
                            Rounding rounding)
{
    bool fits =
        bytes <= 4 && minimum >= -EXACT_INTEGERS && maximum <= EXACT_INTEGERS && (rounding == ROUND_HALF_EVEN || rounding == ROUND_HALF_UP);
    int64_t i = 0, clamped = 0;
    const Floats inverses = v_all(inverse), low = v_all((float)minimum), high = v_all((float)maximum);
    for (; fits && i + LANES <= count; i += LANES) {
        Floats scaled = v_mul(v_load(x + i), inverses);
        Floats q = rounding == ROUND_HALF_EVEN ? v_round(scaled, ROUND_HALF_EVEN) : v_round(scaled, ROUND_HALF_UP);
        clamped += __builtin_popcount(v_outside(q, low, high));
        q = v_clamp(q, low, high);
        if (bytes == 1)
            v_store_int8((int8_t *)out + i, q);
        else if (bytes == 2)
            v_store_int16((int16_t *)out + i, q);
        else
            v_store_int32((int32_t *)out + i, q);
    }
    return clamped + plain_quantize(x + i, (char *)out + i * bytes, bytes, count - i, inverse, minimum, maximum, rounding);
}

static void minmax_run(const float *x, int64_t count, float *minimum, float *maximum)
{
    Floats low[2] = {v_all(INFINITY), v_all(INFINITY)}, high[2] = {v_all(-INFINITY), v_all(-INFINITY)};
    float lanes[4 * LANES + LANES];
    int64_t i = 0;
    for (; i + 2 * LANES <= count; i += 2 * LANES) { /* a NaN in x leaves the second operand */
        Floats a = v_load(x + i), b = v_load(x + i + LANES);
        low[0] = v_at_most(low[0], a);
        high[0] = v_at_least(high[0], a);
        low[1] = v_at_most(low[1], b);
        high[1] = v_at_least(high[1], b);
    }
    for (int n = 0; n < 2; n++) {
        v_store(lanes + n * LANES, low[n]);
        v_store(lanes + (2 + n) * LANES, high[n]);
    }
    float unused, rest_low, rest_high;
    plain_minmax(lanes, 2 * LANES, minimum, &unused);
    plain_minmax(lanes + 2 * LANES, 2 * LANES, &unused, maximum);
    plain_minmax(x + i, count - i, &rest_low, &rest_high);
    if (rest_low < *minimum) *minimum = rest_low;
    if (rest_high > *maximum) *maximum = rest_high;
}

static int64_t find_not_finite_run(const float *x, int64_t count)
{
    const Floats low = v_all(-FLT_MAX), high = v_all(FLT_MAX);
    for (int64_t i = 0; i + LANES <= count; i += LANES) {
        uint32_t outside = v_outside(v_load(x + i), low, high);
        if (outside) return i + __builtin_ctz(outside);
    }
    int64_t done = count / LANES * LANES, rest = plain_find_not_finite(x + done, count - done);
    return rest < 0 ? -1 : done + rest;
}

#define COUNTERS 4 /* tables side by side: equal neighbours (zeros behind a Relu) would wait for each other's store */
#define COUNTED_BINS 4096
#define COUNTED_LEAST 16384 /* numbers for which the tables pay */

static inline Floats v_positions(const float *x, Floats scale, Floats range)
{
    return v_div(v_mul(v_abs(v_load(x)), scale), range);
}

static void histogram_run(const float *x, int64_t count, float range, int64_t bins, int32_t *counts)
{
    int32_t tables[COUNTERS * (COUNTED_BINS + 1)], index[4 * LANES];
    const Floats scale = v_all((float)bins), ranges = v_all(range), last = v_all((float)(bins - 1));
    bool side_by_side = bins <= COUNTED_BINS && count >= COUNTED_LEAST;
    int64_t i = 0;
    if (bins > EXACT_INTEGERS) {
        plain_histogram(x, count, range, bins, counts);
        return;
    }
    if (side_by_side) memset(tables, 0, sizeof tables);
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        uint32_t outside = 0;
        for (int n = 0; n < 4; n++) {
            outside |= v_outside(v_abs(v_load(x + i + n * LANES)), v_zero(), ranges);
            v_store_int32(index + n * LANES, v_at_most(v_positions(x + i + n * LANES, scale, ranges), last));
        }
        if (outside) {
            plain_histogram(x + i, 4 * LANES, range, bins, counts);
        } else if (side_by_side) {
            for (int n = 0; n < 4 * LANES; n += COUNTERS) {
                tables[index[n]]++;
                tables[(COUNTED_BINS + 1) + index[n + 1]]++;
                tables[2 * (COUNTED_BINS + 1) + index[n + 2]]++;
                tables[3 * (COUNTED_BINS + 1) + index[n + 3]]++;
            }
        } else {
            for (int n = 0; n < 4 * LANES; n++)
                counts[index[n]]++;
        }
    }
    for (int64_t bin = 0; side_by_side && bin < bins; bin++)
        for (int n = 0; n < COUNTERS; n++)
            counts[bin] += tables[n * (COUNTED_BINS + 1) + bin];
    plain_histogram(x + i, count - i, range, bins, counts);
}

static void noise_block_run(const float *a, const float *b, int64_t count, double *noise, double *power)
{
    enum { VECTORS = NOISE_LANES / DOUBLES };
    Doubles n[VECTORS], p[VECTORS];
    double noise_lanes[NOISE_LANES], power_lanes[NOISE_LANES];
    int64_t i = 0;
    for (int v = 0; v < VECTORS; v++)
        n[v] = p[v] = v_zero_doubles();
    for (; i + NOISE_LANES <= count; i += NOISE_LANES) {
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            Doubles right = v_load_doubles(b + i + v * DOUBLES), difference = v_sub_doubles(v_load_doubles(a + i + v * DOUBLES), right);
            n[v] = v_fma_doubles(difference, difference, n[v]);
            p[v] = v_fma_doubles(right, right, p[v]);
        }
    }
    for (int v = 0; v < VECTORS; v++) {
        v_store_doubles(noise_lanes + v * DOUBLES, n[v]);
        v_store_doubles(power_lanes + v * DOUBLES, p[v]);
    }
    plain_noise_lanes(a + i, b + i, count - i, noise_lanes, power_lanes, noise, power);
}
