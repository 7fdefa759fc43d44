/* Arithmetic beyond simd_avx512.h, for elementwise.h and statistics.h. */
#ifndef ESPQ_KERNEL_ARITHMETIC_H
#define ESPQ_KERNEL_ARITHMETIC_H

#include "base/rounding.h"

static inline Floats v_add(Floats a, Floats b)
{
    return _mm512_add_ps(a, b);
}

static inline Floats v_sub(Floats a, Floats b)
{
    return _mm512_sub_ps(a, b);
}

static inline Floats v_mul(Floats a, Floats b)
{
    return _mm512_mul_ps(a, b);
}

static inline Floats v_div(Floats a, Floats b)
{
    return _mm512_div_ps(a, b);
}

static inline Floats v_root(Floats a)
{
    return _mm512_sqrt_ps(a);
}

/* x < a ? a : x; NaN stays, since min and max return their second operand then. */
static inline Floats v_at_least(Floats x, Floats a)
{
    return _mm512_max_ps(a, x);
}

static inline Floats v_at_most(Floats x, Floats a)
{
    return _mm512_min_ps(a, x);
}

static inline Floats v_abs(Floats x)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), x);
}

static inline Floats v_minus(Floats x)
{
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

static inline Floats v_with_sign(Floats x, Floats sign)
{
    return _mm512_or_ps(v_abs(x), _mm512_and_ps(sign, _mm512_set1_ps(-0.0f)));
}

static inline Floats v_where_less(Floats x, Floats limit, Floats then, Floats otherwise)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), otherwise, then);
}

static inline Floats v_where_nan(Floats x, Floats then, Floats otherwise)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), otherwise, then);
}

/* x * 2^n, rounded once */
static inline Floats v_scale(Floats x, Floats n)
{
    return _mm512_scalef_ps(x, n);
}

static inline Floats v_nearest(Floats x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline Floats v_floor(Floats x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

static inline Floats v_ceil(Floats x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

/* Bit i: lane i is not within [low, high] (NaN is not). */
static inline uint32_t v_outside(Floats x, Floats low, Floats high)
{
    __mmask16 inside = _mm512_cmp_ps_mask(x, low, _CMP_GE_OQ) & _mm512_cmp_ps_mask(x, high, _CMP_LE_OQ);
    return (uint32_t)(__mmask16)~inside;
}

/* Whole numbers as 32-bit integers, truncated; NaN as 0. */
static inline void v_store_int32(int32_t *p, Floats x)
{
    _mm512_storeu_si512(p, _mm512_maskz_cvttps_epi32(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x));
}

static inline void v_store_int16(int16_t *p, Floats x)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtsepi32_epi16(_mm512_maskz_cvttps_epi32(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x)));
}

static inline void v_store_int8(int8_t *p, Floats x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_maskz_cvttps_epi32(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x)));
}

#define DOUBLES 8
typedef __m512d Doubles;

static inline Doubles v_load_doubles(const float *p)
{
    return _mm512_cvtps_pd(_mm256_loadu_ps(p));
}

static inline Doubles v_sub_doubles(Doubles a, Doubles b)
{
    return _mm512_sub_pd(a, b);
}

static inline Doubles v_fma_doubles(Doubles a, Doubles b, Doubles c)
{
    return _mm512_fmadd_pd(a, b, c);
}

static inline Doubles v_zero_doubles(void)
{
    return _mm512_setzero_pd();
}

static inline void v_store_doubles(double *p, Doubles v)
{
    _mm512_storeu_pd(p, v);
}

/* 16 lanes in halves: i and i + 8, i and i + 4 … */
static inline float v_sum_lanes(const Floats *sum)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(*sum), _mm512_extractf32x8_ps(*sum, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#include "kernel/arithmetic.h"

#endif
