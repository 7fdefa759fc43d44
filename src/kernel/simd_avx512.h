/* The few vector operations the templates (tile.h, convolution.h, depthwise.h, elementwise.h) are written with, for AVX-512. */
#ifndef ESPQ_KERNEL_SIMD_H
#define ESPQ_KERNEL_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define LANES 16
#define TILE_ROWS 8 /* 8 x 3 accumulators, 3 vectors, broadcasts: of 32 registers */
#define TILE_VECTORS 3
#define TILE_DEPTH 128 /* steps of k for which a panel stays in the first cache */
#define LINE_VECTORS 8 /* depthwise: accumulators */

typedef __m512 Floats, v_Floats;
typedef __mmask16 Mask, v_Mask;

static inline Floats v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void v_store(float *p, Floats v)
{
    _mm512_storeu_ps(p, v);
}

static inline Floats v_all(float value)
{
    return _mm512_set1_ps(value);
}

static inline Floats v_zero(void)
{
    return _mm512_setzero_ps();
}

static inline Floats v_fma(Floats a, Floats b, Floats c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline Mask v_mask(uint32_t mask)
{
    return (Mask)mask;
}

/* Lane i is p[i] where the mask has it, else 0; nothing is touched where it has not. */
static inline Floats v_load_zero(const float *p, Mask mask)
{
    return _mm512_maskz_loadu_ps(mask, p);
}

/* Lane i is p[i] where mask has bit i, else `other`; nothing is touched where it has not. */
static inline Floats v_load_masked(const float *p, uint32_t mask, Floats other)
{
    return _mm512_mask_loadu_ps(other, (__mmask16)mask, p);
}

/* The first `count` lanes. */
static inline void v_store_first(float *p, int count, Floats v)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), v);
}

static inline Floats v_or(Floats a, Floats b)
{
    return _mm512_or_ps(a, b);
}

static inline Floats v_even(Floats low, Floats high)
{
    const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(low, index, high);
}

static inline Floats v_odd(Floats low, Floats high)
{
    const __m512i index = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(low, index, high);
}

/* a0 b0 a1 b1 …: the first half, the second. */
static inline Floats v_mix_low(Floats a, Floats b)
{
    const __m512i index = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, index, b);
}

static inline Floats v_mix_high(Floats a, Floats b)
{
    const __m512i index = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, index, b);
}

/* Within each quarter of four lanes: a0 b0 a1 b1, a2 b2 a3 b3, a0 a1 b0 b1, a2 a3 b2 b3. */
static inline Floats v_unpack_low(Floats a, Floats b)
{
    return _mm512_unpacklo_ps(a, b);
}

static inline Floats v_unpack_high(Floats a, Floats b)
{
    return _mm512_unpackhi_ps(a, b);
}

static inline Floats v_pairs_low(Floats a, Floats b)
{
    return _mm512_shuffle_ps(a, b, 0x44);
}

static inline Floats v_pairs_high(Floats a, Floats b)
{
    return _mm512_shuffle_ps(a, b, 0xEE);
}

/* Lanes 4 … to p[0] … */
static inline void v_store_from4(float *p, Floats v)
{
    _mm512_mask_storeu_ps(p - 4, 0xFFF0, v);
}

/* p[0], p[2], …, p[2 * LANES - 2]; nothing behind is touched. */
static inline Floats v_load_even(const float *p)
{
    const __m512i index = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(_mm512_loadu_ps(p), index, _mm512_loadu_ps(p + LANES - 1));
}

#endif
