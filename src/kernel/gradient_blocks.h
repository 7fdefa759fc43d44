/* Sums and gradients of single blocks on vectors, step by step as in gradient_plain.c. Lanes that have no element at the end add 0 to
 * their sum, which changes nothing: no sum is -0. A template, after elementwise.h. */

static inline uint32_t first_lanes(int64_t count)
{
    return count >= LANES ? (uint32_t)((1ull << LANES) - 1) : (1u << count) - 1;
}

static float block_sum_run(const float *x, int64_t count)
{
    enum { VECTORS = GRADIENT_LANES / LANES };
    Floats sum[VECTORS];
    int64_t i = 0;
    for (int v = 0; v < VECTORS; v++)
        sum[v] = v_zero();
    for (; i + GRADIENT_LANES <= count; i += GRADIENT_LANES)
        for (int v = 0; v < VECTORS; v++)
            sum[v] = v_add(sum[v], v_load(x + i + v * LANES));
    for (int v = 0; v < VECTORS && i < count; v++, i += LANES)
        sum[v] = v_add(sum[v], v_load_masked(x + i, first_lanes(count - i), v_zero()));
    return v_sum_lanes(sum);
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

static void swish_gradient_run(const float *x, const float *dy, float *dx, int64_t count, float factor)
{
    const Floats factors = v_all(factor), one = v_all(1.0f);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        Floats scaled = v_mul(factors, v_load(x + i)), sigmoid = v_where_nan(scaled, scaled, v_sigmoid(scaled));
        Floats slope = v_mul(sigmoid, v_add(one, v_mul(scaled, v_sub(one, sigmoid))));
        v_store(dx + i, v_mul(v_load(dy + i), slope));
    }
    plain_swish_gradient(x + i, dy + i, dx + i, count - i, factor);
}

static inline __attribute__((always_inline)) float fake_quantize_gradient_mode(const float *x, const float *dy, float *dx, int64_t count,
                                                                               float inverse, float minimum, float maximum,
                                                                               const Rounding rounding)
{
    enum { VECTORS = GRADIENT_LANES / LANES };
    const Floats inverses = v_all(inverse), low = v_all(minimum), high = v_all(maximum), zero = v_zero();
    Floats sum[VECTORS];
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
    for (int v = 0; v < VECTORS && i < count; v++, i += LANES) {
        int rest = count - i < LANES ? (int)(count - i) : LANES;
        uint32_t mask = first_lanes(count - i);
        Floats scaled = v_mul(v_load_masked(x + i, mask, zero), inverses), given = v_load_masked(dy + i, mask, zero);
        Floats q = v_round(scaled, rounding), near = v_sub(q, scaled);
        Floats slope = v_where_less(q, low, low, v_where_less(high, q, high, near));
        sum[v] = v_fma(given, slope, sum[v]);
        if (dx) v_store_first(dx + i, rest, v_where_less(q, low, zero, v_where_less(high, q, zero, given)));
    }
    return v_sum_lanes(sum);
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
