/* Quantize-, Dequantize- and RequantizeLinear, and every other place where the runtime assigns one tensor to another (CHIP §2.18). */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "chip/rows.h"
#include "chip/types.h"
#include "kernel/lookup.h"
#include "kernel/quantize.h"

#define PLAIN_COUNT 50 /* up to here the runtime stays with plain code */

/* One conversion of integers: y = saturate(round(x * multiplier / 2^shift)), the product kept to `product_bits` (0: all of it); to or from
 * a float by way of a factor. */
typedef struct Rescale {
    int from_bits, to_bits;
    int shift, multiplier, product_bits;
    Rounding rounding;
    float scale; /* between integers and floats */
} Rescale;

ROW_INLINE int rescaled(const Rescale *rescale, int x, Rounding rounding, int to_bits)
{
    return row_saturate(row_shift(x * rescale->multiplier, rescale->shift, rounding), to_bits);
}

/* int8 to int8 in 16-bit lanes: |x * multiplier| < 2^15 with shift 0 or multiplier 1. */
ROW_INLINE int8_t rescaled8(const Rescale *rescale, int8_t x, Rounding rounding)
{
    int shift = rescale->shift;
    int16_t v = (int16_t)(x * rescale->multiplier);
    if (shift > 0) {
        int16_t half = (int16_t)(1 << (shift - 1));
        v = rounding == ROUND_HALF_UP ? (int16_t)((int16_t)(v + half) >> shift)
                                      : (int16_t)((int16_t)(v + half - 1 + (int16_t)((int16_t)(v >> shift) & 1)) >> shift);
    }
    v = v > 127 ? 127 : v;
    return (int8_t)(v < -128 ? -128 : v);
}

#define CONVERT_ROW(name, FROM, TO, expression)                                                                                            \
    ROW_INLINE void name##_block(const Rescale *rescale, const FROM *from, TO *to, int length)                                             \
    {                                                                                                                                      \
        TO result[ROW_BLOCK];                                                                                                              \
        for (int i = 0; i < length; i++) {                                                                                                 \
            const FROM x = from[i];                                                                                                        \
            result[i] = (TO)(expression);                                                                                                  \
        }                                                                                                                                  \
        memcpy(to, result, (size_t)length * sizeof *to);                                                                                   \
    }                                                                                                                                      \
    static void name(const Rescale *rescale, const void *from_data, void *to_data, int64_t begin, int64_t count)                           \
    {                                                                                                                                      \
        const FROM *from = (const FROM *)from_data + begin;                                                                                \
        TO *to = (TO *)to_data + begin;                                                                                                    \
        ROW_EACH(count, at, length, name##_block(rescale, from + at, to + at, length));                                                    \
    }

CONVERT_ROW(up_8_8, int8_t, int8_t, rescaled8(rescale, x, ROUND_HALF_UP))
CONVERT_ROW(even_8_8, int8_t, int8_t, rescaled8(rescale, x, ROUND_HALF_EVEN))
CONVERT_ROW(up_8_16, int8_t, int16_t, rescaled(rescale, x, ROUND_HALF_UP, 16))
CONVERT_ROW(even_8_16, int8_t, int16_t, rescaled(rescale, x, ROUND_HALF_EVEN, 16))
CONVERT_ROW(up_16_8, int16_t, int8_t, rescaled(rescale, x, ROUND_HALF_UP, 8))
CONVERT_ROW(even_16_8, int16_t, int8_t, rescaled(rescale, x, ROUND_HALF_EVEN, 8))
CONVERT_ROW(up_16_16, int16_t, int16_t, rescaled(rescale, x, ROUND_HALF_UP, 16))
CONVERT_ROW(even_16_16, int16_t, int16_t, rescaled(rescale, x, ROUND_HALF_EVEN, 16))

/* Downward within 16 bits nothing is multiplied, and nothing leaves the type. */
CONVERT_ROW(up_down_16, int16_t, int16_t, row_shift(x, rescale->shift, ROUND_HALF_UP))
CONVERT_ROW(even_down_16, int16_t, int16_t, row_shift(x, rescale->shift, ROUND_HALF_EVEN))
CONVERT_ROW(double_8, double, int8_t, round_double_saturate(x *(double)rescale->scale, rescale->rounding, 8))
CONVERT_ROW(double_16, double, int16_t, round_double_saturate(x *(double)rescale->scale, rescale->rounding, 16))
CONVERT_ROW(int8_float, int8_t, float, (float)x * rescale->scale)
CONVERT_ROW(int16_float, int16_t, float, (float)x * rescale->scale)
CONVERT_ROW(int8_double, int8_t, double, (double)x *(double)rescale->scale)
CONVERT_ROW(int16_double, int16_t, double, (double)x *(double)rescale->scale)

typedef void (*RescaleRow)(const Rescale *rescale, const void *from, void *to, int64_t begin, int64_t count);

/* [rounds up][from 16 bits][to 16 bits] */
static const RescaleRow rescale_rows[2][2][2] = {{{even_8_8, even_8_16}, {even_16_8, even_16_16}},
                                                 {{up_8_8, up_8_16}, {up_16_8, up_16_16}}};

/* What the vectors do is no rounded shift: a narrow product, or a factor beyond 32 bits. */
static void rescale_slowly(const Rescale *rescale, const void *from, void *to, int64_t begin, int64_t count)
{
    for (int64_t i = begin; i < begin + count; i++) {
        int64_t v = read_integer(from, i, rescale->from_bits) * rescale->multiplier;
        if (rescale->product_bits) {
            int unused = 64 - rescale->product_bits;
            v = (int64_t)((uint64_t)v << unused) >> unused;
        }
        v = shift_and_round(v, rescale->shift, rescale->rounding, 32);
        write_integer(to, i, rescale->to_bits, saturate(v, rescale->to_bits));
    }
}

typedef struct Walk {
    const Rescale *rescale;
    RescaleRow row;
    const void *from;
    void *to;
} Walk;

static void walk_range(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *w = context;
    w->row(w->rescale, w->from, w->to, begin, end - begin);
}

/* Narrower elements in the same memory: only in order is each read before it is overwritten. */
static void convert(const Rescale *rescale, RescaleRow row, const void *source, void *destination, int64_t count)
{
    Walk w = {rescale, row, source, destination};
    if (source == destination)
        walk_range(&w, 0, count, 0);
    else
        threads_for(count, ROW_GRAIN, walk_range, &w);
}

/* The vectors' factor for an output finer than the input by `up` bits lies in one element: of a byte where the source says so (int8 to
 * int8 in front of narrow lanes), else of 16 bits. */
static int narrow_multiplier(const Rescale *rescale, const Chip *chip, int up)
{
    bool byte = rescale->from_bits == 8 && rescale->to_bits == 8 && chip->lane_bits[0] < 32;
    int64_t multiplier = up < 32 ? INT64_C(1) << up : 0;
    return byte ? (int8_t)(uint8_t)multiplier : (int16_t)(uint16_t)multiplier;
}

/* How `count` integers are converted: the row that does it, its numbers, and *undefined where the vectors leave elements unwritten. */
static RescaleRow choose_row(const Chip *chip, int from_bits, int from_exponent, int to_bits, int to_exponent, int64_t count,
                             Rescale *rescale, const char **undefined)
{
    int away = to_exponent - from_exponent;
    *rescale =
        (Rescale){.from_bits = from_bits, .to_bits = to_bits, .shift = away > 0 ? away : 0, .multiplier = 1, .rounding = chip->rounding};
    /* Beyond 20 bits every integer but 0 saturates, or is 0. */
    if (away < 0) rescale->multiplier = 1 << (away > -20 ? -away : 20);
    if (rescale->shift > 20) rescale->shift = 20;
    bool vectors = chip->vector_bytes && away != 0 && count > PLAIN_COUNT && !(from_bits == 16 && to_bits == 16 && away < -14);
    if (vectors && away < 0) {
        if (chip_has(chip, TRAIT_NARROW_MULTIPLIER)) rescale->multiplier = narrow_multiplier(rescale, chip, -away);
        if (from_bits == 16 && to_bits == 8 && chip_has(chip, TRAIT_CONVERT_WRAPS)) rescale->product_bits = 20;
    }
    if (vectors && from_bits == 8 && to_bits == 16 && count % 16 == 8 && chip_has(chip, TRAIT_CONVERT_TAIL))
        *undefined = "C5: Requantize from 8 to 16 bits leaves the last 8 elements unwritten";
    bool small = rescale->multiplier >= -128 && rescale->multiplier <= 128 && rescale->shift <= 14;
    bool fits = from_bits == 8 && to_bits == 8 ? small : rescale->multiplier >= -(1 << 14) && rescale->multiplier <= 1 << 14;
    if (rescale->product_bits || !fits) return rescale_slowly;
    bool up = rescale->rounding == ROUND_HALF_UP;
    if (from_bits == 16 && to_bits == 16 && rescale->shift > 0) return up ? up_down_16 : even_down_16;
    return rescale_rows[up][from_bits == 16][to_bits == 16];
}

static int width(Dtype dtype, bool reads)
{
    switch (dtype) {
    case DTYPE_INT8: return 8;
    case DTYPE_INT16: return 16;
    case DTYPE_UINT8: return reads ? 8 : 0; /* read as signed */
    case DTYPE_UINT16: return reads ? 16 : 0;
    default: return 0;
    }
}

static bool is_float(Dtype dtype)
{
    return dtype == DTYPE_FLOAT32 || dtype == DTYPE_FLOAT64;
}

bool chip_assign(const Chip *chip, Dtype from, int from_exponent, const void *source, Dtype to, int to_exponent, void *destination,
                 int64_t count, const char **undefined)
{
    if (from == to && (is_float(from) || from_exponent == to_exponent)) {
        if (destination != source) memcpy(destination, source, (size_t)count * dtype_bytes(to));
        return true;
    }
    int from_bits = width(from, is_float(to)), to_bits = width(to, false);
    if (from == DTYPE_FLOAT32 && to_bits) {
        int64_t high = (INT64_C(1) << (to_bits - 1)) - 1;
        quantize_f32(source, destination, to_bits / 8, count, to_exponent, -high - 1, high, chip->rounding, 0);
        int64_t first = find_not_finite_f32(source, count); /* NaN is 0 there, the highest integer on the chip */
        for (int64_t i = first; first >= 0 && i < count; i++)
            if (isnan(((const float *)source)[i])) write_integer(destination, i, to_bits, high);
    } else if (from == DTYPE_FLOAT64 && to_bits) {
        Rescale rescale = {.scale = scale_of(-to_exponent), .rounding = chip->rounding};
        convert(&rescale, to_bits == 8 ? double_8 : double_16, source, destination, count);
    } else if (from_bits && is_float(to)) {
        Rescale rescale = {.scale = scale_of(from_exponent)};
        RescaleRow row = to == DTYPE_FLOAT64 ? (from_bits == 8 ? int8_double : int16_double) : from_bits == 8 ? int8_float : int16_float;
        convert(&rescale, row, source, destination, count);
    } else if (from_bits && to_bits) {
        Rescale rescale;
        RescaleRow row = choose_row(chip, from_bits, from_exponent, to_bits, to_exponent, count, &rescale, undefined);
        convert(&rescale, row, source, destination, count);
    } else {
        return false;
    }
    return true;
}

/* ---- the modules ---- */

static bool assigns(const ChipEnd *from, const ChipEnd *to)
{
    if (from->dtype == to->dtype && (is_float(from->dtype) || from->exponent == to->exponent)) return true;
    if (is_float(from->dtype)) return width(to->dtype, false) != 0;
    return width(from->dtype, is_float(to->dtype)) && (is_float(to->dtype) || width(to->dtype, false));
}

static bool convert_prepare(ChipNode *node, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    const ChipEnd *from = &node->inputs[0], *to = &node->outputs[0];
    if (from->exponent_count > 1 || to->exponent_count > 1)
        return refuse(node, error, "one exponent for each activation", "it has an exponent a channel: the runtime copies nothing then");
    if (!assigns(from, to))
        return refuse(node, error, "int8, int16 and float32 convert into each other",
                      "the runtime does not convert %s to %s and writes nothing", dtype_name(from->dtype), dtype_name(to->dtype));
    int from_bits = width(from->dtype, false), to_bits = width(to->dtype, false);
    if (!from_bits || !to_bits || from->exponent == to->exponent) return true;
    Rescale rescale;
    RescaleRow row = choose_row(node->chip, from_bits, from->exponent, to_bits, to->exponent, end_count(to), &rescale, &node->undefined);
    if (from_bits == 16 || to_bits == 16) return true;
    /* int8 to int8: a table is faster than the shifts. */
    int8_t codes[256], *table = memory_new(sizeof codes);
    if (!table) return fail_memory(error, sizeof codes);
    for (int i = 0; i < 256; i++)
        codes[i] = (int8_t)(i - 128);
    row(&rescale, codes, table, 0, 256);
    node->state = table;
    return true;
}

static void convert_run(const ChipRun *run)
{
    const ChipEnd *from = &run->node->inputs[0], *to = &run->node->outputs[0];
    if (run->node->state) {
        lookup_int8(run->node->state, run->inputs[0], run->outputs[0], end_count(to));
        return;
    }
    const char *undefined = NULL;
    chip_assign(run->node->chip, from->dtype, from->exponent, run->inputs[0], to->dtype, to->exponent, run->outputs[0], end_count(to),
                &undefined);
}

#define CONVERT(name)                                                                                                                      \
    {                                                                                                                                      \
        .type = name, .in_place = IN_PLACE_CHANGED, .prepare = convert_prepare, .run = convert_run                                         \
    }

const ChipModule chip_convert_modules[] = {
    CONVERT("QuantizeLinear"),
    CONVERT("DequantizeLinear"),
    CONVERT("RequantizeLinear"),
    {0},
};
