/* Half vectors for the AVX-512 variant: for images of up to 8 columns, at which a whole one would mostly idle. */
#ifndef ESPQ_KERNEL_SIMD_NARROW_H
#define ESPQ_KERNEL_SIMD_NARROW_H

#include <immintrin.h>
#include <stdint.h>

#define NARROW_LANES 8

typedef __m256 n_Floats;
typedef __mmask8 n_Mask;

static inline n_Floats n_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline n_Floats n_load_zero(const float *p, n_Mask mask)
{
    return _mm256_maskz_loadu_ps(mask, p);
}

static inline void n_store(float *p, n_Floats v)
{
    _mm256_storeu_ps(p, v);
}

static inline void n_store_first(float *p, int count, n_Floats v)
{
    _mm256_mask_storeu_ps(p, (__mmask8)((1u << count) - 1), v);
}

static inline n_Floats n_all(float value)
{
    return _mm256_set1_ps(value);
}

static inline n_Floats n_zero(void)
{
    return _mm256_setzero_ps();
}

static inline n_Floats n_fma(n_Floats a, n_Floats b, n_Floats c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline n_Mask n_mask(uint32_t mask)
{
    return (n_Mask)mask;
}

static inline n_Floats n_even(n_Floats low, n_Floats high)
{
    const __m256i index = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    return _mm256_permutex2var_ps(low, index, high);
}

static inline n_Floats n_odd(n_Floats low, n_Floats high)
{
    const __m256i index = _mm256_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15);
    return _mm256_permutex2var_ps(low, index, high);
}

#endif
