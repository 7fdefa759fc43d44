/* The definition of the integer kernels: every variant is bit-equal to these loops. */
#include <string.h>

#include "base/threads.h"
#include "kernel/integer_variants.h"

#define INLINE static inline __attribute__((always_inline))

INLINE int64_t element(const void *data, int64_t index, int bytes)
{
    return bytes == 1 ? ((const int8_t *)data)[index] : ((const int16_t *)data)[index];
}

/* Two's complement, never undefined. */
INLINE int64_t add_wrapped(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

INLINE int64_t clamp_bits(int64_t v, int bits)
{
    int64_t high = (int64_t)((UINT64_C(1) << (bits - 1)) - 1);
    return v > high ? high : v < -high - 1 ? -high - 1 : v;
}

/* bits 0: wraps. */
INLINE int64_t add_to(int64_t sum, int64_t v, int bits)
{
    if (!bits) return add_wrapped(sum, v);
    int64_t next;
    if (__builtin_add_overflow(sum, v, &next)) next = v > 0 ? INT64_MAX : INT64_MIN;
    return clamp_bits(next, bits);
}

/* What conv_int_range looks at: the sums as they were without an end of the accumulator. */
typedef struct Seen {
    int64_t sum;
    double largest;
    bool left;
} Seen;

INLINE void see(Seen *seen, int64_t v, int bits)
{
    if (!seen) return;
    seen->sum = add_wrapped(seen->sum, v);
    double size = seen->sum < 0 ? -(double)seen->sum : (double)seen->sum;
    if (size > seen->largest) seen->largest = size;
    if (clamp_bits(seen->sum, bits) != seen->sum) seen->left = true;
}

/* The accumulator of one output at the end. */
INLINE int64_t sum_of(const ConvInt *conv, const void *x, const void *weights, const int bytes, int64_t pixel, int channel, Seen *seen)
{
    bool vector = channel < conv->vector_channels;
    int bits = vector ? conv->lane_bits : conv->scalar_bits, whole = bits ? bits : bytes == 1 ? 32 : 64;
    int group = vector ? 1 : conv->scalar_group > 0 ? conv->scalar_group : conv->channels_in;
    int depth = conv->depthwise ? 1 : conv->channels_in;
    int row = (int)(pixel / conv->out[1]) * conv->stride[0] - conv->pad[0],
        column = (int)(pixel % conv->out[1]) * conv->stride[1] - conv->pad[1];
    int64_t bias = conv->bias ? conv->bias[channel] : 0, sum = 0;
    if (!conv->bias_last) {
        sum = bias;
        see(seen, bias, whole);
    }
    for (int i = 0; i < conv->kernel[0]; i++) {
        int r = row + i * conv->dilation[0];
        if (r < 0 || r >= conv->in[0]) continue;
        for (int j = 0; j < conv->kernel[1]; j++) {
            int c = column + j * conv->dilation[1];
            if (c < 0 || c >= conv->in[1]) continue;
            int64_t tap = (int64_t)i * conv->kernel[1] + j, in = ((int64_t)r * conv->in[1] + c) * conv->channels_in;
            int64_t weight =
                conv->depthwise ? tap * conv->channels_in + channel : ((int64_t)channel * conv->kernel[0] * conv->kernel[1] + tap) * depth;
            if (conv->depthwise) in += channel;
            if (!bits && !seen) {
                int64_t inner = 0;
                for (int k = 0; k < depth; k++)
                    inner += element(x, in + k, bytes) * element(weights, weight + k, bytes);
                sum = add_wrapped(sum, inner);
                continue;
            }
            for (int k = 0; k < depth; k += group) {
                int64_t inner = 0;
                for (int n = k; n < depth && n < k + group; n++)
                    inner += element(x, in + n, bytes) * element(weights, weight + n, bytes);
                sum = add_to(sum, inner, bits);
                see(seen, inner, whole);
            }
        }
    }
    if (conv->bias_last) {
        sum = add_to(sum, bias, bits);
        see(seen, bias, whole);
    }
    return !bits && bytes == 1 ? (int32_t)(uint32_t)(uint64_t)sum : sum;
}

/* Not yet cut to the type; to the left only as far as keeps every value outside of its range there. */
static int64_t shifted(int64_t v, int shift, Rounding rounding)
{
    if (shift <= 0) return clamp_bits(v, 40) * (INT64_C(1) << (shift < -20 ? 20 : -shift));
    if (shift > 62) return 0;
    int64_t floor = v >> shift, rest = v - floor * (INT64_C(1) << shift), half = INT64_C(1) << (shift - 1);
    if (rounding == ROUND_HALF_UP) return floor + (rest >= half);
    return floor + (rest > half || (rest == half && (floor & 1)));
}

int64_t conv_int_result(const ConvInt *conv, int channel, int64_t sum, bool *clipped)
{
    int bits = 8 * conv->bytes;
    int64_t v = shifted(sum, conv->shifts[conv->shift_count > 1 ? channel : 0], conv->rounding), cut = clamp_bits(v, bits);
    *clipped = cut != v;
    return conv->relu && cut < 0 ? 0 : cut;
}

INLINE void define(const ConvInt *conv, const void *x, const void *weights, void *y, const int bytes, int64_t pixel, int64_t pixel_end,
                   int channel, int channel_end)
{
    for (; pixel < pixel_end; pixel++) {
        for (int c = channel; c < channel_end; c++) {
            bool clipped;
            int64_t v = conv_int_result(conv, c, sum_of(conv, x, weights, bytes, pixel, c, NULL), &clipped);
            int64_t at = pixel * conv->channels_out + c;
            if (bytes == 1)
                ((int8_t *)y)[at] = (int8_t)v;
            else
                ((int16_t *)y)[at] = (int16_t)v;
        }
    }
}

void conv_int_define(const ConvInt *conv, const void *x, const void *weights, void *y, int64_t pixel, int64_t pixel_end, int channel,
                     int channel_end)
{
    if (conv->bytes == 1)
        define(conv, x, weights, y, 1, pixel, pixel_end, channel, channel_end);
    else
        define(conv, x, weights, y, 2, pixel, pixel_end, channel, channel_end);
}

void conv_int_reference(const ConvInt *conv, const void *x, const void *weights, void *y)
{
    conv_int_define(conv, x, weights, y, 0, (int64_t)conv->out[0] * conv->out[1], 0, conv->channels_out);
}

void conv_int_range(const ConvInt *conv, const void *x, const void *weights, ConvIntRange *range)
{
    *range = (ConvIntRange){0};
    int64_t pixels = (int64_t)conv->out[0] * conv->out[1];
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
        for (int channel = 0; channel < conv->channels_out; channel++) {
            Seen seen = {0};
            int64_t sum =
                conv->bytes == 1 ? sum_of(conv, x, weights, 1, pixel, channel, &seen) : sum_of(conv, x, weights, 2, pixel, channel, &seen);
            bool clipped;
            conv_int_result(conv, channel, sum, &clipped);
            if (seen.largest > range->largest) range->largest = seen.largest;
            range->saturated += seen.left;
            range->clipped += clipped;
        }
    }
}

/* ---- the plain variant: the definition over a copy of what it needs ---- */

typedef struct PlainPacked {
    size_t weights, shifts; /* where they begin, from the head of the block; the bias follows this head */
} PlainPacked;

static size_t weight_bytes(const ConvInt *conv)
{
    size_t taps = (size_t)conv->kernel[0] * conv->kernel[1];
    return taps * conv->channels_in * (conv->depthwise ? 1 : (size_t)conv->channels_out) * conv->bytes;
}

static size_t rounded_up(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static PlainPacked plain_layout(const ConvInt *conv)
{
    size_t shifts = rounded_up(sizeof(PlainPacked)) + rounded_up(conv->channels_out * sizeof *conv->bias);
    return (PlainPacked){shifts + rounded_up(conv->shift_count * sizeof *conv->shifts), shifts};
}

static bool plain_available(void)
{
    return true;
}

static size_t plain_packed_bytes(const ConvInt *conv)
{
    return plain_layout(conv).weights + weight_bytes(conv);
}

static void plain_pack(const ConvInt *conv, const void *weights, void *packed)
{
    char *block = packed;
    PlainPacked layout = plain_layout(conv);
    memcpy(block, &layout, sizeof layout);
    size_t bias_bytes = conv->channels_out * sizeof *conv->bias;
    if (conv->bias)
        memcpy(block + rounded_up(sizeof layout), conv->bias, bias_bytes);
    else
        memset(block + rounded_up(sizeof layout), 0, bias_bytes);
    memcpy(block + layout.shifts, conv->shifts, conv->shift_count * sizeof *conv->shifts);
    memcpy(block + layout.weights, weights, weight_bytes(conv));
}

typedef struct PlainTask {
    const ConvInt *conv;
    const void *x, *weights;
    void *y;
} PlainTask;

static void plain_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const PlainTask *task = context;
    conv_int_define(task->conv, task->x, task->weights, task->y, begin, end, 0, task->conv->channels_out);
}

void plain_unpack(ConvInt *conv, const void *packed, const void **weights)
{
    const char *block = packed;
    PlainPacked layout;
    memcpy(&layout, block, sizeof layout);
    conv->bias = (const int64_t *)(const void *)(block + rounded_up(sizeof layout));
    conv->shifts = (const int *)(const void *)(block + layout.shifts);
    *weights = block + layout.weights;
}

static void plain_run(const ConvInt *conv, const void *x, const void *packed, void *y)
{
    ConvInt own = *conv;
    PlainTask task = {&own, x, NULL, y};
    plain_unpack(&own, packed, &task.weights);
    threads_for((int64_t)conv->out[0] * conv->out[1], 1, plain_body, &task);
}

const IntKernels int_kernels_plain = {"plain", plain_available, plain_packed_bytes, plain_pack, plain_run};
