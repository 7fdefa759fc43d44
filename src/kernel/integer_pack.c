/* Packing for the vector variants: weights in quads, constants a channel, and what each channel's accumulator is proven to bear. */
#include "kernel/integer_pack.h"

#include <math.h>
#include <string.h>

#include "kernel/integer_variants.h"

static size_t line(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static int64_t depth_of(const ConvInt *conv)
{
    return (int64_t)conv->kernel[0] * conv->kernel[1] * (conv->depthwise ? 1 : conv->channels_in);
}

static int block_vectors(const IntForm *form, const ConvInt *conv)
{
    int vectors = conv->depthwise ? 4 : form->vectors;
    return conv->bytes == 1 ? vectors : vectors / 2;
}

static int quad_bytes(const IntForm *form, const ConvInt *conv)
{
    return conv->bytes == 1 ? form->quad_bytes : 4;
}

static int steps_of(const IntLayout *layout, const ConvInt *conv)
{
    int each = 4 / conv->bytes;
    return conv->depthwise ? depthwise_slots(conv) / each : layout->tap_steps * layout->taps;
}

bool int_next_block(const IntForm *form, const IntLayout *layout, const ConvInt *conv, IntBlock *block)
{
    int channels = conv->channels_out, next = block->channel + block->count, left = channels - next, all = block_vectors(form, conv);
    size_t steps = (size_t)steps_of(layout, conv);
    block->weights += steps * (size_t)(block->lanes * block->vectors * quad_bytes(form, conv));
    block->constants += (size_t)(block->lanes * block->vectors);
    if (left <= 0) return false;
    int whole = form->lanes * all;
    block->narrow = form->narrow && (left <= whole / 2 || (conv->depthwise && channels < whole));
    block->lanes = block->narrow ? form->lanes / 2 : form->lanes;
    whole = block->lanes * all;
    block->count = left < whole ? left : whole;
    block->channel = next;
    block->vectors = (block->count + block->lanes - 1) / block->lanes;
    if (conv->depthwise) {
        block->vectors = all;
        if (block->count < whole && channels >= whole) {
            block->channel = channels - whole;
            block->count = whole;
        }
    }
    return true;
}

IntLayout int_layout(const IntForm *form, const ConvInt *conv)
{
    int taps = conv->kernel[0] * conv->kernel[1], each = 4 / conv->bytes;
    IntLayout layout = {.taps = taps, .tap_elements = conv->channels_in};
    if (conv->depthwise) {
        layout.possible = taps <= INT_DEPTHWISE_TAPS;
    } else {
        int64_t row = (int64_t)conv->kernel[1] * conv->channels_in, row_bytes = (row + each - 1) / each * 4;
        layout.rows = (conv->dilation[1] == 1 || conv->kernel[1] == 1) && conv->kernel[0] * row_bytes * form->rows <= INT_GATHER_BYTES;
        if (layout.rows) {
            layout.taps = conv->kernel[0];
            layout.tap_elements = (int)row;
        }
        int64_t all = (int64_t)layout.taps * ((layout.tap_elements + each - 1) / each) * 4 * form->rows;
        layout.possible =
            layout.taps * form->rows <= INT_TAP_POINTERS && (all <= INT_GATHER_BYTES || (!layout.rows && layout.tap_elements % each == 0));
    }
    layout.tap_steps = (layout.tap_elements + each - 1) / each;
    if (!layout.possible) {
        layout.bytes = int_kernels_plain.packed_bytes(conv);
        return layout;
    }
    IntBlock block = {0};
    while (int_next_block(form, &layout, conv, &block))
        continue;
    size_t constants = line(block.constants * (conv->bytes == 1 ? 4 : 8));
    layout.start = line(block.weights);
    layout.shift = layout.start + constants;
    layout.low = layout.shift + constants;
    layout.bias = layout.low + constants;
    layout.round = layout.bias + constants;
    layout.limit = layout.round + constants;
    layout.zeros = layout.limit + line(block.constants * sizeof(float));
    layout.own = layout.zeros + line((size_t)layout.tap_steps * 4 + 64);
    layout.bytes = layout.own + int_kernels_plain.packed_bytes(conv);
    return layout;
}

/* What is known of one output channel. */
typedef struct Channel {
    int64_t bias, sum; /* sum: of its weights */
    double size, norm; /* sums of |weight| and of weight^2 */
    int shift;
    float limit;
} Channel;

static int64_t weight_at(const ConvInt *conv, const void *weights, int channel, int64_t k)
{
    int64_t at = conv->depthwise ? k * conv->channels_out + channel : channel * depth_of(conv) + k;
    return conv->bytes == 1 ? ((const int8_t *)weights)[at] : ((const int16_t *)weights)[at];
}

/* The largest sum of squares of x (over all taps) that keeps each partial sum of the channel in its accumulator: by the inequality of
 * Cauchy and Schwarz, which holds for the first products of a sum as well as for all. */
static float limit_of(const IntForm *form, const ConvInt *conv, const IntLayout *layout, int channel, const Channel *it)
{
    bool vector = channel < conv->vector_channels, byte = conv->bytes == 1;
    int bits = vector ? conv->lane_bits : conv->scalar_bits;
    double bias = fabs((double)it->bias), bound = bias + it->size * (byte ? 128.0 : 32768.0);
    double half = it->shift > 0 ? ldexp(1.0, it->shift - 1) : 0.0;
    if (it->shift < 0 || it->shift > (byte ? 30 : 61) || (bound + half) * 1.0001 >= ldexp(1.0, byte ? 31 : 62)) return -1;
    if (!bits || bound * 1.0001 < ldexp(1.0, bits - 1)) return INFINITY;
    bool emulated = byte && vector && bits == 20 && !conv->bias_last && !conv->depthwise &&
                    4 * (int64_t)steps_of(layout, conv) * form->rows <= INT_EMULATE_WORDS;
    if (!emulated || bias > 524287.0) return -1;
    double room = (524287.0 - bias) / sqrt(it->norm);
    return (float)(room * room * 0.999);
}

static inline __attribute__((always_inline)) void add_weights(Channel *it, const void *weights, int64_t first, int64_t step, int64_t depth,
                                                              const int bytes)
{
    int64_t size = 0, norm = 0, sum = 0;
    for (int64_t k = 0; k < depth; k++) {
        int64_t w = bytes == 1 ? ((const int8_t *)weights)[first + k * step] : ((const int16_t *)weights)[first + k * step];
        sum += w;
        size += w < 0 ? -w : w;
        norm += w * w;
    }
    it->sum = sum;
    it->size = (double)size;
    it->norm = (double)norm;
}

static Channel channel_of(const IntForm *form, const ConvInt *conv, const IntLayout *layout, const void *weights, int channel)
{
    Channel it = {.bias = conv->bias ? conv->bias[channel] : 0, .shift = conv->shifts[conv->shift_count > 1 ? channel : 0]};
    int64_t depth = depth_of(conv), first = conv->depthwise ? channel : channel * depth, step = conv->depthwise ? conv->channels_out : 1;
    if (conv->bytes == 1)
        add_weights(&it, weights, first, step, depth, 1);
    else
        add_weights(&it, weights, first, step, depth, 2);
    it.limit = limit_of(form, conv, layout, channel, &it);
    return it;
}

static void put(const ConvInt *conv, char *packed, size_t array, size_t index, int64_t v)
{
    if (conv->bytes == 1)
        ((int32_t *)(void *)(packed + array))[index] = (int32_t)v;
    else
        ((int64_t *)(void *)(packed + array))[index] = v;
}

/* The bits below the last one kept: zero there means halfway, once half is added. For half up none is looked at: -1 is only met by a sum
 * of 0, which is even already; likewise when nothing is shifted. */
static void pack_constants(const IntForm *form, const ConvInt *conv, const IntLayout *layout, size_t index, const Channel *it, char *packed)
{
    bool usable = it->limit >= 0;
    int64_t bias = usable ? it->bias : 0, half = usable && it->shift > 0 ? INT64_C(1) << (it->shift - 1) : 0;
    int64_t correction = conv->bytes == 1 ? form->x_offset * it->sum : 0;
    put(conv, packed, layout->start, index, bias + half - correction);
    put(conv, packed, layout->shift, index, usable ? it->shift : 0);
    put(conv, packed, layout->low, index, conv->rounding == ROUND_HALF_UP || half == 0 ? -1 : 2 * half - 1);
    put(conv, packed, layout->bias, index, bias);
    put(conv, packed, layout->round, index, half);
}

static void put_weight(const IntForm *form, const ConvInt *conv, char *vector, int lanes, int lane, int j, int64_t w)
{
    if (conv->bytes == 2)
        ((int16_t *)(void *)vector)[2 * lane + j] = (int16_t)w;
    else if (form->quad_bytes == 4)
        vector[4 * lane + j] = (char)w;
    else
        ((int16_t *)(void *)(vector + (j & 1) * 4 * lanes))[2 * lane + j / 2] = (int16_t)w;
}

static void pack_depthwise_lane(const IntForm *form, const ConvInt *conv, const void *weights, int lanes, int lane, int channel,
                                int64_t quad_step, char *to)
{
    int each = 4 / conv->bytes, slots = depthwise_slots(conv);
    for (int slot = 0; slot < slots; slot++) {
        int tap = depthwise_tap(conv, slot);
        if (tap < 0) continue;
        int64_t w = weight_at(conv, weights, channel, tap);
        put_weight(form, conv, to + slot / each * quad_step, lanes, lane, slot % each, w);
    }
}

/* Quads are as they lie in the weights, unless they are spread. */
static void pack_dense_lane(const IntForm *form, const ConvInt *conv, const IntLayout *layout, const void *weights, int lanes, int lane,
                            int channel, int64_t quad_step, char *to)
{
    int bytes = layout->tap_elements * conv->bytes;
    const char *from = (const char *)weights + channel * depth_of(conv) * conv->bytes;
    for (int tap = 0; tap < layout->taps; tap++, from += bytes) {
        for (int k = 0; k < bytes; k += 4, to += quad_step) {
            int count = bytes - k < 4 ? bytes - k : 4;
            if (quad_bytes(form, conv) == 4) {
                memcpy(to + 4 * lane, from + k, (size_t)count);
                continue;
            }
            for (int j = 0; j < count; j++)
                put_weight(form, conv, to, lanes, lane, j, (signed char)from[k + j]);
        }
    }
}

static void pack_lane(const IntForm *form, const ConvInt *conv, const IntLayout *layout, const void *weights, const IntBlock *block,
                      int vector, int lane, int channel, char *packed)
{
    int64_t vector_bytes = (int64_t)block->lanes * quad_bytes(form, conv);
    char *to = packed + block->weights + vector * vector_bytes;
    if (conv->depthwise)
        pack_depthwise_lane(form, conv, weights, block->lanes, lane, channel, block->vectors * vector_bytes, to);
    else
        pack_dense_lane(form, conv, layout, weights, block->lanes, lane, channel, block->vectors * vector_bytes, to);
}

/* A vector that emulates must consist of saturating lanes alone. */
static void pack_limits(const ConvInt *conv, const IntBlock *block, float *limits)
{
    for (int v = 0; v < block->vectors; v++) {
        bool finite = false, scalar = false;
        float *limit = limits + block->constants + (size_t)(v * block->lanes);
        for (int lane = 0; lane < block->lanes; lane++) {
            int channel = v * block->lanes + lane;
            finite |= limit[lane] >= 0 && isfinite(limit[lane]);
            scalar |= channel < block->count && block->channel + channel >= conv->vector_channels;
            if (limit[lane] < limit[0]) limit[0] = limit[lane];
        }
        if (finite && scalar) limit[0] = -1;
    }
}

void int_pack(const IntForm *form, const ConvInt *conv, const void *weights, void *packed)
{
    IntLayout layout = int_layout(form, conv);
    if (!layout.possible) {
        int_kernels_plain.pack(conv, weights, packed);
        return;
    }
    char *to = packed;
    memset(to, 0, layout.own);
    float *limits = (float *)(void *)(to + layout.limit);
    bool unknown = false;
    IntBlock block = {0};
    while (int_next_block(form, &layout, conv, &block)) {
        for (int v = 0; v < block.vectors; v++) {
            for (int lane = 0; lane < block.lanes; lane++) {
                int at = conv->depthwise ? depthwise_channel(block.vectors, v, lane) : v * block.lanes + lane;
                size_t index = block.constants + (size_t)(v * block.lanes + lane);
                Channel it = {.limit = INFINITY};
                if (at < block.count) {
                    it = channel_of(form, conv, &layout, weights, block.channel + at);
                    pack_lane(form, conv, &layout, weights, &block, v, lane, block.channel + at, to);
                }
                pack_constants(form, conv, &layout, index, &it, to);
                limits[index] = it.limit;
                unknown |= it.limit < 0;
            }
        }
        pack_limits(conv, &block, limits);
        for (int v = 0; v < block.vectors; v++)
            unknown |= limits[block.constants + (size_t)(v * block.lanes)] < 0;
    }
    if (unknown) int_kernels_plain.pack(conv, weights, to + layout.own);
}
