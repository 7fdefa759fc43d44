/* to[j][i] = from[i][j] for 8 x 8 numbers. Needs AVX2; both vector variants use it. */
#ifndef ESPQ_KERNEL_TRANSPOSE_H
#define ESPQ_KERNEL_TRANSPOSE_H

#include <immintrin.h>
#include <stdint.h>

static inline void transpose_8x8(const float *from, int64_t from_row, float *to, int64_t to_row)
{
    __m256 pair[8], quad[8];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) { /* rows i and i + 4 side by side, in halves of four columns */
        const float *low = from + i * from_row, *high = from + (i + 4) * from_row;
        pair[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
        pair[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low + 4)), _mm_loadu_ps(high + 4), 1);
    }
#pragma GCC unroll 2
    for (int half = 0; half < 8; half += 4) {
        quad[half] = _mm256_unpacklo_ps(pair[half], pair[half + 1]);
        quad[half + 1] = _mm256_unpackhi_ps(pair[half], pair[half + 1]);
        quad[half + 2] = _mm256_unpacklo_ps(pair[half + 2], pair[half + 3]);
        quad[half + 3] = _mm256_unpackhi_ps(pair[half + 2], pair[half + 3]);
        _mm256_storeu_ps(to + half * to_row, _mm256_shuffle_ps(quad[half], quad[half + 2], 0x44));
        _mm256_storeu_ps(to + (half + 1) * to_row, _mm256_shuffle_ps(quad[half], quad[half + 2], 0xEE));
        _mm256_storeu_ps(to + (half + 2) * to_row, _mm256_shuffle_ps(quad[half + 1], quad[half + 3], 0x44));
        _mm256_storeu_ps(to + (half + 3) * to_row, _mm256_shuffle_ps(quad[half + 1], quad[half + 3], 0xEE));
    }
}

#endif
