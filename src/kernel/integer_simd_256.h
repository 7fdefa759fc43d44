/* Vectors of 8 integers for the integer templates; I(name) gives the names, so that they can stand beside wider ones. */
#include <immintrin.h>

typedef __m256i I(Ints);
typedef struct I(Wide) {
    __m256i a, b; /* lanes 0-3 and 4-7 as 64 bits */
} I(Wide);

static inline I(Ints) I(load)(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline void I(store)(void *p, I(Ints) x)
{
    _mm256_storeu_si256(p, x);
}

static inline I(Ints) I(zero)(void)
{
    return _mm256_setzero_si256();
}

static inline I(Ints) I(all)(int32_t x)
{
    return _mm256_set1_epi32(x);
}

static inline I(Ints) I(add)(I(Ints) a, I(Ints) b)
{
    return _mm256_add_epi32(a, b);
}

#if INT_VNNI
/* As in integer_simd_512.h. */
#if defined(__AVX512VNNI__)
#define DOT_256(instruction, sum, x, w) __asm__(instruction " %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
#else
#define DOT_256(instruction, sum, x, w) __asm__("%{vex%} " instruction " %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w))
#endif
typedef I(Ints) I(Quad);

static inline I(Quad) I(quad_of)(I(Ints) x)
{
    return _mm256_xor_si256(x, _mm256_set1_epi8(-128));
}

static inline I(Quad) I(quad_weights)(const void *p)
{
    return I(load)(p);
}

static inline I(Quad) I(quad_later)(I(Quad) w)
{
    return _mm256_slli_epi32(w, 8);
}

static inline I(Ints) I(dot)(I(Ints) sum, I(Quad) x, I(Quad) w)
{
    DOT_256("vpdpbusd", sum, x, w);
    return sum;
}

static inline I(Ints) I(pairs)(I(Ints) sum, I(Ints) x, I(Ints) w)
{
    DOT_256("vpdpwssd", sum, x, w);
    return sum;
}

static inline I(Ints) I(weights_even)(const void *p)
{
    return _mm256_slli_epi16(I(load)(p), 8);
}

static inline I(Ints) I(weights_odd)(const void *p)
{
    return _mm256_and_si256(I(load)(p), _mm256_set1_epi32((int)0xFF00FF00));
}

/* As in integer_simd_512.h. */
static inline I(Ints) I(saturating_start)(I(Ints) bias)
{
    return _mm256_slli_epi32(bias, 12);
}

static inline I(Ints) I(saturating_pairs)(I(Ints) sum, I(Ints) x, I(Ints) w)
{
    DOT_256("vpdpwssds", sum, x, w);
    return sum;
}

static inline I(Ints) I(saturating_end)(I(Ints) sum)
{
    return _mm256_srai_epi32(sum, 12);
}
#undef DOT_256
#else
typedef struct I(Quad) {
    I(Ints) even, odd;
} I(Quad);

static inline I(Quad) I(quad_of)(I(Ints) x)
{
    return (I(Quad)){_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
}

static inline I(Quad) I(quad_weights)(const void *p)
{
    return (I(Quad)){I(load)(p), I(load)((const char *)p + 32)};
}

static inline I(Ints) I(pairs)(I(Ints) sum, I(Ints) x, I(Ints) w)
{
    return I(add)(sum, _mm256_madd_epi16(x, w));
}

static inline I(Quad) I(quad_later)(I(Quad) w)
{
    return (I(Quad)){_mm256_slli_epi32(w.odd, 16), w.even};
}

static inline I(Ints) I(dot)(I(Ints) sum, I(Quad) x, I(Quad) w)
{
    return I(pairs)(I(pairs)(sum, x.even, w.even), x.odd, w.odd);
}

static inline I(Ints) I(weights_even)(const void *p)
{
    return I(load)(p);
}

static inline I(Ints) I(weights_odd)(const void *p)
{
    return I(load)((const char *)p + 32);
}

static inline I(Ints) I(saturating_start)(I(Ints) bias)
{
    return bias;
}

static inline I(Ints) I(saturating_pairs)(I(Ints) sum, I(Ints) x, I(Ints) w)
{
    return _mm256_max_epi32(_mm256_min_epi32(I(pairs)(sum, x, w), I(all)(524287)), I(all)(-524288));
}

static inline I(Ints) I(saturating_end)(I(Ints) sum)
{
    return sum;
}
#endif

static inline I(Quad) I(quad_spread)(const void *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return I(quad_of)(I(all)(x));
}

static inline I(Ints) I(high_bytes)(I(Ints) x)
{
    return _mm256_srai_epi16(x, 8);
}

static inline I(Ints) I(low_bytes)(I(Ints) x)
{
    return _mm256_and_si256(x, _mm256_set1_epi32(0x00FF00FF));
}

/* (sum + half) >> shift, the last bit cleared where the sum lay halfway. */
static inline I(Ints) I(round)(I(Ints) sum, I(Ints) shift, I(Ints) low)
{
    I(Ints) q = _mm256_srav_epi32(sum, shift), tie = _mm256_cmpeq_epi32(_mm256_and_si256(sum, low), I(zero)());
    return _mm256_andnot_si256(_mm256_srli_epi32(tie, 31), q);
}

static inline I(Wide) I(wide_load)(const int64_t *p)
{
    return (I(Wide)){I(load)(p), I(load)(p + 4)};
}

static inline void I(wide_store)(int64_t *p, I(Wide) x)
{
    I(store)(p, x.a);
    I(store)(p + 4, x.b);
}

/* sum + 256 * high + low */
static inline I(Wide) I(wide_add)(I(Wide) sum, I(Ints) high, I(Ints) low)
{
    __m256i a = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(high)), b = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(high, 1));
    sum.a = _mm256_add_epi64(sum.a, _mm256_cvtepi32_epi64(_mm256_castsi256_si128(low)));
    sum.b = _mm256_add_epi64(sum.b, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(low, 1)));
    return (I(Wide)){_mm256_add_epi64(sum.a, _mm256_slli_epi64(a, 8)), _mm256_add_epi64(sum.b, _mm256_slli_epi64(b, 8))};
}

/* AVX2 has neither arithmetic shifts nor narrowing of 64 bits. Cut to 32 bits in the low halves. */
static inline __m256i I(round_half)(__m256i sum, const int64_t *shift, const int64_t *low)
{
    __m256i sign = _mm256_set1_epi64x(INT64_MIN), by = I(load)(shift);
    __m256i q = _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(sum, sign), by), _mm256_srlv_epi64(sign, by));
    __m256i tie = _mm256_cmpeq_epi64(_mm256_and_si256(sum, I(load)(low)), I(zero)());
    q = _mm256_andnot_si256(_mm256_srli_epi64(tie, 63), q);
    __m256i most = _mm256_set1_epi64x(INT32_MAX), least = _mm256_set1_epi64x(INT32_MIN);
    q = _mm256_blendv_epi8(q, most, _mm256_cmpgt_epi64(q, most));
    return _mm256_blendv_epi8(q, least, _mm256_cmpgt_epi64(least, q));
}

static inline I(Ints) I(wide_round)(I(Wide) sum, const int64_t *shift, const int64_t *low)
{
    __m256i a = I(round_half)(sum.a, shift, low), b = I(round_half)(sum.b, shift + 4, low + 4);
    __m256i even = _mm256_castps_si256(_mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), 0x88));
    return _mm256_permute4x64_epi64(even, 0xD8);
}

static inline void I(store_first)(void *y, int bytes, I(Ints) x)
{
    if (bytes >= 32) {
        I(store)(y, x);
    } else if (bytes == 16) {
        _mm_storeu_si128(y, _mm256_castsi256_si128(x));
    } else {
#if defined(__AVX512VL__)
        _mm256_mask_storeu_epi8(y, ((__mmask32)1 << bytes) - 1, x);
#else
        char copy[32];
        I(store)(copy, x);
        memcpy(y, copy, (size_t)bytes);
#endif
    }
}

/* In the order of the lanes: four vectors to bytes, two to int16; what lies beyond `bytes` is not written. */
static inline void I(store_bytes)(void *y, int bytes, const I(Ints) q[4], I(Ints) floor)
{
    I(Ints) packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    I(store_first)(y, bytes, _mm256_max_epi8(packed, floor));
}

static inline void I(store_words)(void *y, int bytes, const I(Ints) q[2], I(Ints) floor)
{
    I(Ints) packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[1]), 0xD8);
    I(store_first)(y, bytes, _mm256_max_epi16(packed, floor));
}

/* In the order of depthwise_channel. */
static inline void I(store_depthwise_bytes)(void *y, int bytes, const I(Ints) q[4], I(Ints) floor)
{
    I(Ints) packed = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    I(store_first)(y, bytes, _mm256_max_epi8(packed, floor));
}

static inline void I(store_depthwise_words)(void *y, int bytes, const I(Ints) q[2], I(Ints) floor)
{
    I(store_first)(y, bytes, _mm256_max_epi16(_mm256_packs_epi32(q[0], q[1]), floor));
}

static inline I(Ints) I(load_first)(const void *p, int bytes)
{
    if (bytes >= 32) return I(load)(p);
    char copy[32] = {0};
    memcpy(copy, p, (size_t)bytes);
    return I(load)(copy);
}

static inline void I(interleave_bytes)(I(Ints) a, I(Ints) b, I(Ints) * low, I(Ints) * high)
{
    *low = _mm256_unpacklo_epi8(a, b);
    *high = _mm256_unpackhi_epi8(a, b);
}

static inline void I(interleave_words)(I(Ints) a, I(Ints) b, I(Ints) * low, I(Ints) * high)
{
    *low = _mm256_unpacklo_epi16(a, b);
    *high = _mm256_unpackhi_epi16(a, b);
}

static inline I(Ints) I(floor_bytes)(int floor)
{
    return _mm256_set1_epi8((char)floor);
}

static inline I(Ints) I(floor_words)(int floor)
{
    return _mm256_set1_epi16((short)floor);
}
