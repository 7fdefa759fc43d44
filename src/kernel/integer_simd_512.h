/* Vectors of 16 integers for the integer templates. INT_VNNI: with dot products of bytes. */
#include <immintrin.h>

typedef __m512i v_Ints;
typedef struct v_Wide {
    __m512i a, b; /* lanes 0-7 and 8-15 as 64 bits */
} v_Wide;

static inline v_Ints v_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

static inline void v_store(void *p, v_Ints x)
{
    _mm512_storeu_si512(p, x);
}

static inline v_Ints v_zero(void)
{
    return _mm512_setzero_si512();
}

static inline v_Ints v_all(int32_t x)
{
    return _mm512_set1_epi32(x);
}

static inline v_Ints v_add(v_Ints a, v_Ints b)
{
    return _mm512_add_epi32(a, b);
}

#if INT_VNNI
/* By the intrinsics gcc makes a new vector of each sum, and copies all of them to memory in each step of a loop. */
#define DOT_512(instruction, sum, x, w) __asm__(instruction " %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w))
typedef v_Ints v_Quad;

static inline v_Quad v_quad_of(v_Ints x)
{
    return _mm512_xor_si512(x, _mm512_set1_epi8(-128));
}

static inline v_Quad v_quad_weights(const void *p)
{
    return v_load(p);
}

/* Channels 0 to 2 as 1 to 3. */
static inline v_Quad v_quad_later(v_Quad w)
{
    return _mm512_slli_epi32(w, 8);
}

static inline v_Ints v_dot(v_Ints sum, v_Quad x, v_Quad w)
{
    DOT_512("vpdpbusd", sum, x, w);
    return sum;
}

static inline v_Ints v_pairs(v_Ints sum, v_Ints x, v_Ints w)
{
    DOT_512("vpdpwssd", sum, x, w);
    return sum;
}

/* Channels 0 and 2, 1 and 3 as int16, times 256. */
static inline v_Ints v_weights_even(const void *p)
{
    return _mm512_slli_epi16(v_load(p), 8);
}

static inline v_Ints v_weights_odd(const void *p)
{
    return _mm512_and_si512(v_load(p), _mm512_set1_epi32((int)0xFF00FF00));
}

/* A lane of 20 bits is one of 32 bits, 4096 times as large: what saturation leaves in the low 12 bits never reaches the others. */
static inline v_Ints v_saturating_start(v_Ints bias)
{
    return _mm512_slli_epi32(bias, 12);
}

static inline v_Ints v_saturating_pairs(v_Ints sum, v_Ints x, v_Ints w)
{
    DOT_512("vpdpwssds", sum, x, w);
    return sum;
}

static inline v_Ints v_saturating_end(v_Ints sum)
{
    return _mm512_srai_epi32(sum, 12);
}
#undef DOT_512
#else
typedef struct v_Quad {
    v_Ints even, odd;
} v_Quad;

static inline v_Quad v_quad_of(v_Ints x)
{
    return (v_Quad){_mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8), _mm512_srai_epi16(x, 8)};
}

static inline v_Quad v_quad_weights(const void *p)
{
    return (v_Quad){v_load(p), v_load((const char *)p + 64)};
}

static inline v_Ints v_pairs(v_Ints sum, v_Ints x, v_Ints w)
{
    return v_add(sum, _mm512_madd_epi16(x, w));
}

static inline v_Quad v_quad_later(v_Quad w)
{
    return (v_Quad){_mm512_slli_epi32(w.odd, 16), w.even};
}

static inline v_Ints v_dot(v_Ints sum, v_Quad x, v_Quad w)
{
    return v_pairs(v_pairs(sum, x.even, w.even), x.odd, w.odd);
}

static inline v_Ints v_weights_even(const void *p)
{
    return v_load(p);
}

static inline v_Ints v_weights_odd(const void *p)
{
    return v_load((const char *)p + 64);
}

static inline v_Ints v_saturating_start(v_Ints bias)
{
    return bias;
}

static inline v_Ints v_saturating_pairs(v_Ints sum, v_Ints x, v_Ints w)
{
    return _mm512_max_epi32(_mm512_min_epi32(v_pairs(sum, x, w), v_all(524287)), v_all(-524288));
}

static inline v_Ints v_saturating_end(v_Ints sum)
{
    return sum;
}
#endif

static inline v_Quad v_quad_spread(const void *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return v_quad_of(v_all(x));
}

static inline v_Ints v_high_bytes(v_Ints x)
{
    return _mm512_srai_epi16(x, 8);
}

static inline v_Ints v_low_bytes(v_Ints x)
{
    return _mm512_and_si512(x, _mm512_set1_epi32(0x00FF00FF));
}

/* (sum + half) >> shift, the last bit cleared where the sum lay halfway. */
static inline v_Ints v_round(v_Ints sum, v_Ints shift, v_Ints low)
{
    v_Ints q = _mm512_srav_epi32(sum, shift);
    return _mm512_mask_and_epi32(q, _mm512_testn_epi32_mask(sum, low), q, v_all(-2));
}

static inline v_Wide v_wide_load(const int64_t *p)
{
    return (v_Wide){v_load(p), v_load(p + 8)};
}

static inline void v_wide_store(int64_t *p, v_Wide x)
{
    v_store(p, x.a);
    v_store(p + 8, x.b);
}

/* sum + 256 * high + low */
static inline v_Wide v_wide_add(v_Wide sum, v_Ints high, v_Ints low)
{
    __m512i a = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(high)), b = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(high, 1));
    sum.a = _mm512_add_epi64(sum.a, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(low)));
    sum.b = _mm512_add_epi64(sum.b, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(low, 1)));
    return (v_Wide){_mm512_add_epi64(sum.a, _mm512_slli_epi64(a, 8)), _mm512_add_epi64(sum.b, _mm512_slli_epi64(b, 8))};
}

static inline __m256i v_round_half(__m512i sum, const int64_t *shift, const int64_t *low)
{
    __m512i q = _mm512_srav_epi64(sum, v_load(shift));
    q = _mm512_mask_and_epi64(q, _mm512_testn_epi64_mask(sum, v_load(low)), q, _mm512_set1_epi64(-2));
    return _mm512_cvtsepi64_epi32(q);
}

static inline v_Ints v_wide_round(v_Wide sum, const int64_t *shift, const int64_t *low)
{
    __m256i a = v_round_half(sum.a, shift, low), b = v_round_half(sum.b, shift + 8, low + 8);
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
}

static inline void v_store_first(void *y, int bytes, v_Ints x)
{
    if (bytes >= 64)
        v_store(y, x);
    else
        _mm512_mask_storeu_epi8(y, ((__mmask64)1 << bytes) - 1, x);
}

/* In the order of the lanes: four vectors to bytes, two to int16; what lies beyond `bytes` is not written. */
static inline void v_store_bytes(void *y, int bytes, const v_Ints q[4], v_Ints floor)
{
    v_Ints packed = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    packed = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), packed);
    v_store_first(y, bytes, _mm512_max_epi8(packed, floor));
}

static inline void v_store_words(void *y, int bytes, const v_Ints q[2], v_Ints floor)
{
    v_Ints packed = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packs_epi32(q[0], q[1]));
    v_store_first(y, bytes, _mm512_max_epi16(packed, floor));
}

/* In the order of depthwise_channel. */
static inline void v_store_depthwise_bytes(void *y, int bytes, const v_Ints q[4], v_Ints floor)
{
    v_Ints packed = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    v_store_first(y, bytes, _mm512_max_epi8(packed, floor));
}

static inline void v_store_depthwise_words(void *y, int bytes, const v_Ints q[2], v_Ints floor)
{
    v_store_first(y, bytes, _mm512_max_epi16(_mm512_packs_epi32(q[0], q[1]), floor));
}

static inline v_Ints v_load_first(const void *p, int bytes)
{
    return bytes >= 64 ? v_load(p) : _mm512_maskz_loadu_epi8(((__mmask64)1 << bytes) - 1, p);
}

static inline void v_interleave_bytes(v_Ints a, v_Ints b, v_Ints *low, v_Ints *high)
{
    *low = _mm512_unpacklo_epi8(a, b);
    *high = _mm512_unpackhi_epi8(a, b);
}

static inline void v_interleave_words(v_Ints a, v_Ints b, v_Ints *low, v_Ints *high)
{
    *low = _mm512_unpacklo_epi16(a, b);
    *high = _mm512_unpackhi_epi16(a, b);
}

static inline v_Ints v_floor_bytes(int floor)
{
    return _mm512_set1_epi8((char)floor);
}

static inline v_Ints v_floor_words(int floor)
{
    return _mm512_set1_epi16((short)floor);
}
