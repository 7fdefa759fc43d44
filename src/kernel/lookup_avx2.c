/* Look-up with AVX2: sixteen tables of 16, chosen by the four high bits one after another. */
#include "kernel/lookup_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>

static bool available(void)
{
    return __builtin_cpu_supports("avx2");
}

/* Where the highest bit of a byte of `choice` is set, `high`, else `low`. */
static inline __m256i pick(__m256i low, __m256i high, __m256i choice)
{
    return _mm256_blendv_epi8(low, high, choice);
}

static void run(const int8_t *table, const int8_t *x, int8_t *y, int64_t count)
{
    __m256i part[16];
    for (int i = 0; i < 16; i++)
        part[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)(table + 16 * i)));
    int64_t at = 0;
    for (; at + 32 <= count; at += 32) {
        __m256i code = _mm256_loadu_si256((const __m256i *)(const void *)(x + at));
        __m256i low = _mm256_and_si256(code, _mm256_set1_epi8(15));
        /* A shift within 16 bits brings bits of the neighbour only to places that nobody looks at. */
        __m256i bit4 = _mm256_slli_epi16(code, 3), bit5 = _mm256_slli_epi16(code, 2), bit6 = _mm256_slli_epi16(code, 1);
        __m256i pairs[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            pairs[i] = pick(_mm256_shuffle_epi8(part[2 * i], low), _mm256_shuffle_epi8(part[2 * i + 1], low), bit4);
        __m256i low_half = pick(pick(pairs[0], pairs[1], bit5), pick(pairs[2], pairs[3], bit5), bit6);
        __m256i high_half = pick(pick(pairs[4], pairs[5], bit5), pick(pairs[6], pairs[7], bit5), bit6);
        /* A negative number's entry lies in the first half of the table. */
        _mm256_storeu_si256((__m256i *)(void *)(y + at), pick(high_half, low_half, code));
    }
    lookup_rest(table, x, y, at, count);
}

const LookupKernel lookup_avx2 = {available, run};
#else
typedef int lookup_avx2_is_empty;
#endif
