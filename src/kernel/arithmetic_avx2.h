/* Arithmetic beyond simd_avx2.h, for elementwise.h and statistics.h. */
#ifndef ESPQ_KERNEL_ARITHMETIC_H
#define ESPQ_KERNEL_ARITHMETIC_H

#include "base/rounding.h"

static inline Floats v_add(Floats a, Floats b)
{
    return _mm256_add_ps(a, b);
}

static inline Floats v_sub(Floats a, Floats b)
{
    return _mm256_sub_ps(a, b);
}

static inline Floats v_mul(Floats a, Floats b)
{
    return _mm256_mul_ps(a, b);
}

static inline Floats v_div(Floats a, Floats b)
{
    return _mm256_div_ps(a, b);
}

static inline Floats v_root(Floats a)
{
    return _mm256_sqrt_ps(a);
}

/* x < a ? a : x; NaN stays, since min and max return their second operand then. */
static inline Floats v_at_least(Floats x, Floats a)
{
    return _mm256_max_ps(a, x);
}

static inline Floats v_at_most(Floats x, Floats a)
{
    return _mm256_min_ps(a, x);
}

static inline Floats v_abs(Floats x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

static inline Floats v_minus(Floats x)
{
    return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f));
}

static inline Floats v_with_sign(Floats x, Floats sign)
{
    return _mm256_or_ps(v_abs(x), _mm256_and_ps(sign, _mm256_set1_ps(-0.0f)));
}

static inline Floats v_where_less(Floats x, Floats limit, Floats then, Floats otherwise)
{
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(x, limit, _CMP_LT_OQ));
}

static inline Floats v_where_nan(Floats x, Floats then, Floats otherwise)
{
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

/* x * 2^n in two factors */
static inline Floats v_scale(Floats x, Floats n)
{
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half),
            bias = _mm256_set1_epi32(127);
    x = _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23)));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23)));
}

static inline Floats v_nearest(Floats x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline Floats v_floor(Floats x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

static inline Floats v_ceil(Floats x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

/* Bit i: lane i is not within [low, high] (NaN is not). */
static inline uint32_t v_outside(Floats x, Floats low, Floats high)
{
    __m256 inside = _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_GE_OQ), _mm256_cmp_ps(x, high, _CMP_LE_OQ));
    return ~(uint32_t)_mm256_movemask_ps(inside) & 0xFFu;
}

/* Whole numbers as 32-bit integers, truncated; NaN as 0. */
static inline void v_store_int32(int32_t *p, Floats x)
{
    x = _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q));
    _mm256_storeu_si256((__m256i *)p, _mm256_cvttps_epi32(x));
}

static inline void v_store_int16(int16_t *p, Floats x)
{
    x = _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q));
    __m256i whole = _mm256_cvttps_epi32(x);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

static inline void v_store_int8(int8_t *p, Floats x)
{
    x = _mm256_and_ps(x, _mm256_cmp_ps(x, x, _CMP_ORD_Q));
    __m256i whole = _mm256_cvttps_epi32(x);
    __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(half, half));
}

#define DOUBLES 4
typedef __m256d Doubles;

static inline Doubles v_load_doubles(const float *p)
{
    return _mm256_cvtps_pd(_mm_loadu_ps(p));
}

static inline Doubles v_sub_doubles(Doubles a, Doubles b)
{
    return _mm256_sub_pd(a, b);
}

static inline Doubles v_fma_doubles(Doubles a, Doubles b, Doubles c)
{
    return _mm256_fmadd_pd(a, b, c);
}

static inline Doubles v_zero_doubles(void)
{
    return _mm256_setzero_pd();
}

static inline void v_store_doubles(double *p, Doubles v)
{
    _mm256_storeu_pd(p, v);
}

/* 16 lanes, those of two vectors, in halves: i and i + 8, i and i + 4 … */
static inline float v_sum_lanes(const Floats *sum)
{
    __m256 eight = _mm256_add_ps(sum[0], sum[1]);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#include "kernel/arithmetic.h"

#endif
