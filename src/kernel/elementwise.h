/* The elementwise functions on vectors, step by step as in elementwise_plain.c. A template, after its simd and arithmetic headers. */

static inline __attribute__((always_inline)) Floats v_polynomial(const float *c, const int terms, Floats x)
{
    Floats sum = v_all(c[terms - 1]);
#pragma GCC unroll 8
    for (int i = terms - 2; i >= 0; i--)
        sum = v_fma(sum, x, v_all(c[i]));
    return sum;
}

static inline Floats v_exponential(Floats x)
{
    x = v_clamp(x, v_all(EXP_LOWEST), v_all(EXP_HIGHEST));
    Floats n = v_round(v_mul(x, v_all(EXP_LOG2_E)), ROUND_HALF_EVEN);
    Floats r = v_fma(n, v_all(-EXP_LN2_LOW), v_fma(n, v_all(-EXP_LN2_HIGH), x));
    Floats value = v_add(v_all(1.0f), v_fma(v_mul(v_polynomial(exp_terms, EXP_TERMS, r), r), r, r));
    return v_scale(value, n);
}

static inline Floats v_sigmoid(Floats x)
{
    Floats one = v_all(1.0f);
    return v_div(one, v_add(one, v_exponential(v_minus(x))));
}

static inline Floats v_swish(Floats x)
{
    return v_div(x, v_add(v_all(1.0f), v_exponential(v_minus(x))));
}

static inline Floats v_relu(Floats x)
{
    return v_at_least(x, v_zero());
}

static inline Floats v_tanh(Floats x)
{
    Floats magnitude = v_abs(x), square = v_mul(x, x), one = v_all(1.0f);
    Floats small = v_fma(v_mul(v_polynomial(tanh_terms, TANH_TERMS, square), square), x, x);
    Floats e = v_exponential(v_mul(v_all(-2.0f), magnitude));
    Floats large = v_div(v_sub(one, e), v_add(one, e));
    return v_with_sign(v_where_less(magnitude, v_all(TANH_SMALL), small, large), x);
}

static inline Floats v_erf(Floats x)
{
    Floats magnitude = v_abs(x), small = v_fma(v_polynomial(erf_terms, ERF_TERMS, v_mul(x, x)), x, x);
    Floats bounded = v_clamp(magnitude, v_zero(), v_all(ERF_LARGE));
    Floats e = v_exponential(v_minus(v_polynomial(erfc_terms, ERFC_TERMS, v_sub(bounded, v_all(ERF_MIDDLE)))));
    return v_where_less(magnitude, v_all(ERF_SMALL), small, v_with_sign(v_sub(v_all(1.0f), e), x));
}

#define ELEMENTWISE_DEFINE(name)                                                                                                           \
    static void name##_run(const float *x, float *y, int64_t count)                                                                        \
    {                                                                                                                                      \
        int64_t i = 0;                                                                                                                     \
        for (; i + LANES <= count; i += LANES) {                                                                                           \
            Floats value = v_load(x + i);                                                                                                  \
            v_store(y + i, v_where_nan(value, value, v_##name(value)));                                                                    \
        }                                                                                                                                  \
        if (i < count) {                                                                                                                   \
            Floats value = v_load_masked(x + i, (1u << (count - i)) - 1, v_zero());                                                        \
            v_store_first(y + i, (int)(count - i), v_where_nan(value, value, v_##name(value)));                                            \
        }                                                                                                                                  \
    }

#define v_exp v_exponential
ELEMENTWISE_DEFINE(exp)
ELEMENTWISE_DEFINE(sigmoid)
ELEMENTWISE_DEFINE(swish)
ELEMENTWISE_DEFINE(tanh)
ELEMENTWISE_DEFINE(erf)
ELEMENTWISE_DEFINE(relu)
