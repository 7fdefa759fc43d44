/* Look-up with AVX-512 VBMI, whose permutation of bytes takes 128 entries at once. */
#include "kernel/lookup_variants.h"

#if defined(__x86_64__)
#include <immintrin.h>

static bool available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi");
}

static inline __m512i looked_up(const __m512i part[4], __m512i code)
{
    __m512i negative = _mm512_permutex2var_epi8(part[0], code, part[1]), other = _mm512_permutex2var_epi8(part[2], code, part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(code), other, negative);
}

static void run(const int8_t *table, const int8_t *x, int8_t *y, int64_t count)
{
    __m512i part[4];
    for (int i = 0; i < 4; i++)
        part[i] = _mm512_loadu_si512(table + 64 * i);
    int64_t at = 0;
    for (; at + 64 <= count; at += 64)
        _mm512_storeu_si512(y + at, looked_up(part, _mm512_loadu_si512(x + at)));
    if (at < count) {
        __mmask64 rest = ~UINT64_C(0) >> (64 - (count - at));
        _mm512_mask_storeu_epi8(y + at, rest, looked_up(part, _mm512_maskz_loadu_epi8(rest, x + at)));
    }
}

const LookupKernel lookup_avx512vbmi = {available, run};
#else
typedef int lookup_avx512vbmi_is_empty;
#endif
