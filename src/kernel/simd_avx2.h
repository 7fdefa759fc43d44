/* The few vector operations the templates (tile.h, convolution.h, depthwise.h, elementwise.h) are written with, for AVX2. */
#ifndef ESPQ_KERNEL_SIMD_H
#define ESPQ_KERNEL_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define LANES 8
#define TILE_ROWS 4 /* 4 x 3 accumulators, 3 vectors, 1 broadcast: all 16 registers */
#define TILE_VECTORS 3
#define TILE_DEPTH 256 /* steps of k for which a panel stays in the first cache */
#define LINE_VECTORS 8 /* depthwise: accumulators */

typedef __m256 Floats, v_Floats;
typedef __m256i Mask, v_Mask;

static inline Floats v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void v_store(float *p, Floats v)
{
    _mm256_storeu_ps(p, v);
}

static inline Floats v_all(float value)
{
    return _mm256_set1_ps(value);
}

static inline Floats v_zero(void)
{
    return _mm256_setzero_ps();
}

static inline Floats v_fma(Floats a, Floats b, Floats c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline Mask v_mask(uint32_t mask)
{
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)mask), bits), bits);
}

/* Lane i is p[i] where the mask has it, else 0; nothing is touched where it has not. */
static inline Floats v_load_zero(const float *p, Mask mask)
{
    return _mm256_maskload_ps(p, mask);
}

/* Lane i is p[i] where mask has bit i, else `other`; nothing is touched where it has not. */
static inline Floats v_load_masked(const float *p, uint32_t mask, Floats other)
{
    __m256i lanes = v_mask(mask);
    return _mm256_blendv_ps(other, _mm256_maskload_ps(p, lanes), _mm256_castsi256_ps(lanes));
}

/* The first `count` lanes. Not by maskstore, which takes dozens of cycles on AMD's processors. */
static inline void v_store_first(float *p, int count, Floats v)
{
    if (count >= LANES) {
        _mm256_storeu_ps(p, v);
        return;
    }
    __m128 part = _mm256_castps256_ps128(v);
    if (count & 4) {
        _mm_storeu_ps(p, part);
        part = _mm256_extractf128_ps(v, 1);
        p += 4;
    }
    if (count & 2) {
        _mm_storel_pi((__m64 *)p, part);
        part = _mm_movehl_ps(part, part);
        p += 2;
    }
    if (count & 1) _mm_store_ss(p, part);
}

static inline Floats v_or(Floats a, Floats b)
{
    return _mm256_or_ps(a, b);
}

static inline Floats v_even(Floats low, Floats high)
{
    __m256 mixed = _mm256_shuffle_ps(low, high, 0x88);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xD8));
}

static inline Floats v_odd(Floats low, Floats high)
{
    __m256 mixed = _mm256_shuffle_ps(low, high, 0xDD);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xD8));
}

/* a0 b0 a1 b1 …: the first half, the second. */
static inline Floats v_mix_low(Floats a, Floats b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
}

static inline Floats v_mix_high(Floats a, Floats b)
{
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
}

/* Within each quarter of four lanes: a0 b0 a1 b1, a2 b2 a3 b3, a0 a1 b0 b1, a2 a3 b2 b3. */
static inline Floats v_unpack_low(Floats a, Floats b)
{
    return _mm256_unpacklo_ps(a, b);
}

static inline Floats v_unpack_high(Floats a, Floats b)
{
    return _mm256_unpackhi_ps(a, b);
}

static inline Floats v_pairs_low(Floats a, Floats b)
{
    return _mm256_shuffle_ps(a, b, 0x44);
}

static inline Floats v_pairs_high(Floats a, Floats b)
{
    return _mm256_shuffle_ps(a, b, 0xEE);
}

/* Lanes 4 … to p[0] … */
static inline void v_store_from4(float *p, Floats v)
{
    _mm_storeu_ps(p, _mm256_extractf128_ps(v, 1));
}

/* p[0], p[2], …, p[2 * LANES - 2]; nothing behind is touched. */
static inline Floats v_load_even(const float *p)
{
    __m256 mixed = _mm256_shuffle_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p + LANES - 1), 0xD8);
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xD8));
}

#endif
