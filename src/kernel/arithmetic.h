/* Arithmetic that is the same for both vector widths; included by arithmetic_avx2.h and arithmetic_avx512.h. */

/* NaN stays. */
static inline Floats v_clamp(Floats x, Floats low, Floats high)
{
    return v_at_most(v_at_least(x, low), high);
}

/* round_float of base/rounding.h; `mode` is a constant. */
static inline __attribute__((always_inline)) Floats v_round(Floats x, const Rounding mode)
{
    const Floats half = v_all(0.5f), one = v_all(1.0f);
    switch (mode) {
    case ROUND_HALF_EVEN: return v_nearest(x);
    case ROUND_HALF_UP: return v_floor(v_add(x, half));
    case ROUND_HALF_DOWN: return v_ceil(v_sub(x, half));
    case ROUND_HALF_TOWARDS_ZERO: return v_mul(v_with_sign(one, x), v_ceil(v_sub(v_abs(x), half)));
    case ROUND_HALF_FAR_FROM_ZERO: return v_mul(v_with_sign(one, x), v_floor(v_add(v_abs(x), half)));
    case ROUND_UP: return v_ceil(x);
    case ROUND_DOWN: return v_floor(x);
    }
    return x;
}
