/* Look-up with AVX-512: sixteen tables of 16, each for the bytes whose four high bits ask for it. */
#include "kernel/lookup_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>

static bool available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

static void run(const int8_t *table, const int8_t *x, int8_t *y, int64_t count)
{
    __m512i part[16];
    for (int i = 0; i < 16; i++)
        part[i] = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)(table + 16 * (i ^ 8))));
    int64_t at = 0;
    for (; at + 64 <= count; at += 64) {
        __m512i code = _mm512_loadu_si512(x + at), low = _mm512_and_si512(code, _mm512_set1_epi8(15));
        __m512i high = _mm512_andnot_si512(_mm512_set1_epi8(15), code), value = _mm512_shuffle_epi8(part[0], low);
#pragma GCC unroll 15
        for (int i = 1; i < 16; i++)
            value = _mm512_mask_shuffle_epi8(value, _mm512_cmpeq_epi8_mask(high, _mm512_set1_epi8((char)(16 * i))), part[i], low);
        _mm512_storeu_si512(y + at, value);
    }
    lookup_rest(table, x, y, at, count);
}

const LookupKernel lookup_avx512 = {available, run};
#else
typedef int lookup_avx512_is_empty;
#endif
