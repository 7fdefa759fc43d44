/* Sums and gradients of single blocks on vectors, step by step as in gradient_plain.c. A template, after elementwise.h. */

static float block_sum_run(const float *x, int64_t count)
{
    enum { VECTORS = GRADIENT_LANES / LANES };
    Floats sum[VECTORS];
    float lanes[GRADIENT_LANES];
    int64_t i = 0;
    for (int v = 0; v < VECTORS; v++)
        sum[v] = v_zero();
    for (; i + GRADIENT_LANES <= count; i += GRADIENT_LANES)
        for (int v = 0; v < VECTORS; v++)
            sum[v] = v_add(sum[v], v_load(x + i + v * LANES));
    if (i == count) return v_sum_lanes(sum);
    for (int v = 0; v < VECTORS; v++)
        v_store(lanes + v * LANES, sum[v]);
    for (int lane = 0; i < count; i++, lane++)
        lanes[lane] += x[i];
    return plain_lanes_sum(lanes);
}

static void range_gradient_run(const float *x, const float *dy, float *dx, int64_t count, float low, float high)
{
    const Floats lows = v_all(low), highs = v_all(high), zero = v_zero();
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats value = v_load(x + i);
        Floats passed = v_where_less(value, lows, zero, v_where_less(highs, value, zero, v_load(dy + i)));
        v_store(dx + i, v_where_nan(value, zero, passed));
    }
    plain_range_gradient(x + i, dy + i, dx + i, count - i, low, high);
}

static inline __attribute__((always_inline)) float fake_quantize_gradient_mode(const float *x, const float *dy, float *dx, int64_t count,
                                                                               float inverse, float minimum, float maximum,
                                                                               const Rounding rounding)
{
    enum { VECTORS = GRADIENT_LANES / LANES };
    const Floats inverses = v_all(inverse), low = v_all(minimum), high = v_all(maximum), zero = v_zero();
    Floats sum[VECTORS];
    float lanes[GRADIENT_LANES];
    int64_t i = 0;
    for (int v = 0; v < VECTORS; v++)
        sum[v] = v_zero();
    for (; i + GRADIENT_LANES <= count; i += GRADIENT_LANES) {
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            Floats scaled = v_mul(v_load(x + i + v * LANES), inverses), given = v_load(dy + i + v * LANES);
            Floats q = v_round(scaled, rounding), near = v_sub(q, scaled);
            Floats slope = v_where_less(q, low, low, v_where_less(high, q, high, near));
            sum[v] = v_fma(given, slope, sum[v]);
            if (dx) v_store(dx + i + v * LANES, v_where_less(q, low, zero, v_where_less(high, q, zero, given)));
        }
    }
    if (i == count) return v_sum_lanes(sum);
    for (int v = 0; v < VECTORS; v++)
        v_store(lanes + v * LANES, sum[v]);
    plain_fake_quantize_lanes(x + i, dy + i, dx ? dx + i : NULL, count - i, inverse, minimum, maximum, rounding, lanes);
    return plain_lanes_sum(lanes);
}

static float fake_quantize_gradient_run(const float *x, const float *dy, float *dx, int64_t count, float inverse, float minimum,
                                        float maximum, Rounding rounding)
{
    switch (rounding) {
    case ROUND_HALF_EVEN: return fake_quantize_gradient_mode(x, dy, dx, count, inverse, minimum, maximum, ROUND_HALF_EVEN);
    case ROUND_HALF_UP: return fake_quantize_gradient_mode(x, dy, dx, count, inverse, minimum, maximum, ROUND_HALF_UP);
    default: return plain_fake_quantize_gradient(x, dy, dx, count, inverse, minimum, maximum, rounding);
    }
}
