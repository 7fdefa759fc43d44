/* Integer convolutions: the definition by hand-made cases, and every variant equal to it, whatever the shape and the number of threads. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"
#include "kernel/float32.h"
#include "kernel/integer.h"
#include "kernel/integer_variants.h"

static int below(Random *random, int n)
{
    return (int)(random_next(random) % (uint32_t)n);
}

/* One output of `count` products, all of x and w. */
static int one(ConvInt conv, int count, const int8_t *x, const int8_t *w)
{
    conv.bytes = 1;
    conv.channels_in = count;
    conv.channels_out = 1;
    for (int i = 0; i < 2; i++)
        conv.in[i] = conv.out[i] = conv.kernel[i] = conv.stride[i] = conv.dilation[i] = 1;
    int8_t y = 99;
    conv_int_reference(&conv, x, w, &y);
    return y;
}

/* Promise: a lane of 20 bits saturates at each product and does not come back: 40 products of 127 * 127 then -127 * 127 end at -120873. */
TEST(a_lane_saturates_at_each_product)
{
    int8_t x[80], w[80];
    for (int i = 0; i < 80; i++) {
        x[i] = 127;
        w[i] = i < 40 ? 127 : -127;
    }
    int shift = 12;
    ConvInt conv = {.vector_channels = 1, .lane_bits = 20, .shifts = &shift, .shift_count = 1, .rounding = ROUND_HALF_UP};
    CHECK(one(conv, 80, x, w) == -30, "%d", one(conv, 80, x, w)); /* -120873 / 4096 = -29.5 */
    conv.lane_bits = 32;
    CHECK(one(conv, 80, x, w) == 0, "%d", one(conv, 80, x, w));
    conv.vector_channels = 0; /* groups of 16: 32 of them reach 516128, 33 would leave */
    conv.scalar_bits = 20;
    conv.scalar_group = 80;
    CHECK(one(conv, 80, x, w) == 0, "%d", one(conv, 80, x, w));
    conv.scalar_group = 40;
    CHECK(one(conv, 80, x, w) == -30, "%d", one(conv, 80, x, w));
}

/* Promise: halves go up or to even, negative shifts go left and saturate, ReLU cuts below zero, a bias may come first or last. */
TEST(sums_are_rounded_shifted_and_cut)
{
    int8_t x = 1;
    static const struct {
        Rounding rounding;
        int shift, bias, expected;
        bool relu;
    } cases[] = {
        {ROUND_HALF_UP, 1, 5, 3, false},       {ROUND_HALF_EVEN, 1, 5, 2, false},       {ROUND_HALF_UP, 1, -5, -2, false},
        {ROUND_HALF_EVEN, 1, -5, -2, false},   {ROUND_HALF_EVEN, 1, 7, 4, false},       {ROUND_HALF_EVEN, 1, -7, -4, false},
        {ROUND_HALF_UP, 0, 130, 127, false},   {ROUND_HALF_EVEN, 0, -200, -128, false}, {ROUND_HALF_UP, -2, 3, 12, false},
        {ROUND_HALF_UP, -2, -40, -128, false}, {ROUND_HALF_UP, -60, 1, 127, false},     {ROUND_HALF_UP, 63, 100, 0, false},
        {ROUND_HALF_UP, 1, -5, 0, true},       {ROUND_HALF_UP, 31, 1 << 30, 1, false},  {ROUND_HALF_EVEN, 31, 1 << 30, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int8_t w = 0;
        int64_t bias = cases[i].bias;
        for (int last = 0; last < 2; last++) {
            ConvInt conv = {.rounding = cases[i].rounding, .relu = cases[i].relu, .bias_last = last, .bias = &bias};
            conv.shifts = &cases[i].shift;
            conv.shift_count = 1;
            CHECK(one(conv, 1, &x, &w) == cases[i].expected, "case %zu: %d", i, one(conv, 1, &x, &w));
        }
    }
}

/* Promise: conv_int_range tells the largest partial sum, and counts the outputs that leave their accumulator or their type. */
TEST(the_range_of_sums_is_told)
{
    int8_t x[40], w[40];
    for (int i = 0; i < 40; i++) {
        x[i] = 127;
        w[i] = i < 20 ? 100 : -100;
    }
    int shift = 0;
    int64_t bias = 7;
    ConvInt conv = {.bytes = 1, .channels_in = 40, .channels_out = 1, .vector_channels = 1, .lane_bits = 18, .bias = &bias};
    for (int i = 0; i < 2; i++)
        conv.in[i] = conv.out[i] = conv.kernel[i] = conv.stride[i] = conv.dilation[i] = 1;
    conv.shifts = &shift;
    conv.shift_count = 1;
    ConvIntRange range;
    conv_int_range(&conv, x, w, &range);
    CHECK(range.largest == 20 * 12700 + 7 && range.saturated == 1 && range.clipped == 1, "%g %d %d", range.largest, (int)range.saturated,
          (int)range.clipped);
    conv.lane_bits = 20;
    shift = 4;
    conv_int_range(&conv, x, w, &range);
    CHECK(range.saturated == 0 && range.clipped == 0, "%d %d", (int)range.saturated, (int)range.clipped);
}

/* ---- every variant against the definition ---- */

typedef struct Case {
    ConvInt conv;
    void *x, *weights;
    int64_t *bias;
    int *shifts;
} Case;

static void fill(Random *random, void *data, size_t count, int bytes, int size)
{
    int limit = 1 << (8 * bytes - 1);
    for (size_t i = 0; i < count; i++) {
        int v = size >= limit ? below(random, 2 * limit) - limit : below(random, 2 * size + 1) - size;
        if (size > limit) v = below(random, 2) ? -limit : limit - 1; /* only extremes */
        if (bytes == 1)
            ((int8_t *)data)[i] = (int8_t)v;
        else
            ((int16_t *)data)[i] = (int16_t)v;
    }
}

/* `kind` 0: depthwise, 1: its 3 x 3 case, 2: 1 x 1 kernels, 3: few channels, else: anything. */
static ConvInt random_shape(Random *random, int kind)
{
    ConvInt conv = {.bytes = 1 + below(random, 2), .depthwise = kind <= 1};
    conv.channels_in = 1 + below(random, kind == 3 ? 4 : below(random, 4) ? 40 : 150);
    if (below(random, 2) && kind != 3) conv.channels_in = (conv.channels_in + 7) / 8 * 8;
    conv.channels_out = kind <= 1 ? conv.channels_in : 1 + below(random, below(random, 3) ? 40 : 150);
    int stride = 1 + below(random, 2);
    for (int i = 0; i < 2; i++) {
        conv.kernel[i] = kind == 1 ? 3 : kind == 2 ? 1 : 1 + below(random, below(random, 4) ? 4 : 9);
        conv.stride[i] = kind == 1 ? stride : kind == 2 && below(random, 2) ? 1 : 1 + below(random, below(random, 4) ? 2 : 4);
        conv.dilation[i] = kind == 1 ? 1 : 1 + below(random, below(random, 3) ? 1 : 3);
        conv.pad[i] = kind == 2 && below(random, 3) ? 0 : below(random, conv.kernel[i] + 1);
        int behind = kind == 2 && conv.pad[i] == 0 ? 0 : below(random, conv.kernel[i] + 1);
        int extent = (conv.kernel[i] - 1) * conv.dilation[i] + 1;
        conv.in[i] = below(random, 6) ? 1 + below(random, below(random, 4) ? 12 : 30) : 1;
        if (conv.in[i] + conv.pad[i] + behind < extent) conv.in[i] = extent;
        conv.out[i] = (conv.in[i] + conv.pad[i] + behind - extent) / conv.stride[i] + 1;
    }
    return conv;
}

/* The accumulators of the chips, and some that nobody has. */
static void random_arithmetic(Random *random, ConvInt *conv)
{
    int unit = conv->bytes == 1 ? 16 : 8;
    conv->rounding = below(random, 2) ? ROUND_HALF_UP : ROUND_HALF_EVEN;
    conv->relu = below(random, 3) == 0;
    conv->scalar_group = unit;
    conv->vector_channels = conv->depthwise ? conv->channels_out : conv->channels_out / unit * unit;
    switch (below(random, 5)) {
    case 0: conv->bias_last = true; break; /* plain C */
    case 1:
    case 2: /* esp32s3 */
        conv->lane_bits = conv->bytes == 1 ? 20 : 40;
        conv->scalar_bits = 40;
        break;
    case 3: /* esp32p4 */
        conv->lane_bits = conv->bytes == 1 ? 32 : 64;
        conv->scalar_bits = 40;
        break;
    default:
        conv->lane_bits = 14 + below(random, 30);
        conv->scalar_bits = 14 + below(random, 40);
        conv->scalar_group = 1 + below(random, 20);
        conv->vector_channels = below(random, conv->channels_out + 1);
        conv->bias_last = below(random, 2);
    }
}

static void random_case(Random *random, Case *it)
{
    ConvInt *conv = &it->conv;
    size_t in = (size_t)conv->in[0] * conv->in[1] * conv->channels_in, taps = (size_t)conv->kernel[0] * conv->kernel[1];
    size_t weights = taps * conv->channels_in * (conv->depthwise ? 1 : (size_t)conv->channels_out);
    it->x = memory_new(in * conv->bytes);
    it->weights = memory_new(weights * conv->bytes);
    it->bias = memory_new_array((size_t)conv->channels_out, sizeof *it->bias);
    it->shifts = memory_new_array((size_t)conv->channels_out, sizeof *it->shifts);
    int limit = 1 << (8 * conv->bytes - 1);
    static const double sizes[] = {1.5, 1.0, 0.4, 0.1};
    fill(random, it->x, in, conv->bytes, (int)(limit * sizes[below(random, 4)]));
    fill(random, it->weights, weights, conv->bytes, (int)(limit * sizes[below(random, 4)]));
    int span = 1 << (conv->bytes == 1 ? 18 : 30), wild = below(random, 8) == 0, shift = below(random, conv->bytes == 1 ? 14 : 28);
    for (int i = 0; i < conv->channels_out; i++) {
        it->bias[i] = (int64_t)(random_next(random) % (2u * (uint32_t)span)) - span;
        if (wild && below(random, 4) == 0) it->bias[i] *= INT64_C(1) << below(random, conv->bytes == 1 ? 14 : 33);
        it->shifts[i] = shift + below(random, 4) - (wild ? below(random, 20) : 0) + (wild ? below(random, 30) : 0);
        if (!wild && it->shifts[i] < 0) it->shifts[i] = 0;
    }
    conv->bias = below(random, 4) ? it->bias : NULL;
    conv->shifts = it->shifts;
    conv->shift_count = below(random, 2) ? 1 : conv->channels_out;
}

static void free_case(Case *it)
{
    memory_free(it->x);
    memory_free(it->weights);
    memory_free(it->bias);
    memory_free(it->shifts);
}

static void check_case(const Case *it, int threads)
{
    const ConvInt *conv = &it->conv;
    size_t count = (size_t)conv->out[0] * conv->out[1] * conv->channels_out * conv->bytes;
    char *expected = memory_new(count), *y = memory_new(count + 64);
    conv_int_reference(conv, it->x, it->weights, expected);
    threads_set_count(threads);
    for (int row = 0; int_kernels_at(row); row++) {
        if (!int_kernels_at(row)->available()) continue;
        ConvInt own = *conv;
        void *packed = memory_new_aligned(conv_int_packed_bytes_for(row, &own));
        conv_int_pack_for(row, &own, it->weights, packed);
        own.bias = NULL;
        own.shifts = NULL;
        memset(y, 0x55, count + 64);
        conv_int(&own, it->x, packed, y, NULL);
        bool beyond = false;
        for (int i = 0; i < 64; i++)
            beyond |= y[count + i] != 0x55;
        CHECK(!beyond && memcmp(y, expected, count) == 0,
              "%s, %d threads%s: %d bytes, channels %d > %d%s, %dx%d > %dx%d, kernel %dx%d stride %d %d dilation %d %d pad %d %d, lanes %d "
              "of %d "
              "bits, scalar %d bits, groups of %d, bias %d, %s",
              int_kernels_at(row)->name, threads, beyond ? ", wrote beyond" : "", conv->bytes, conv->channels_in, conv->channels_out,
              conv->depthwise ? " depthwise" : "", conv->in[0], conv->in[1], conv->out[0], conv->out[1], conv->kernel[0], conv->kernel[1],
              conv->stride[0], conv->stride[1], conv->dilation[0], conv->dilation[1], conv->pad[0], conv->pad[1], conv->vector_channels,
              conv->lane_bits, conv->scalar_bits, conv->scalar_group, conv->bias ? 1 + conv->bias_last : 0,
              conv->rounding == ROUND_HALF_UP ? "half up" : "half even");
        memory_free(packed);
    }
    memory_free(expected);
    memory_free(y);
}

static double products(const ConvInt *conv)
{
    return (double)conv->out[0] * conv->out[1] * conv->channels_out * conv->kernel[0] * conv->kernel[1] *
           (conv->depthwise ? 1 : conv->channels_in);
}

/* Promise: every variant gives the bits of the definition: odd shapes, tails, strides, dilations, pads, both widths, all accumulators. */
TEST(integer_convolution_equals_its_definition)
{
    Random random;
    random_seed(&random, 7);
    int threads = threads_count(), seen = 0, wanted = getenv("ESPQ_CASES") ? atoi(getenv("ESPQ_CASES")) : 300;
    for (int i = 0; seen < wanted; i++) {
        Case it = {.conv = random_shape(&random, i % 6)};
        if (products(&it.conv) > 1.5e6) continue;
        random_arithmetic(&random, &it.conv);
        random_case(&random, &it);
        check_case(&it, 1 + i % 3);
        free_case(&it);
        seen++;
    }
    threads_set_count(threads);
}

/* Promise: so it is where sums are deep, images are small, or the lanes of the esp32s3 overflow in some pixels only. */
TEST(integer_convolution_equals_its_definition_in_special_shapes)
{
    static const struct {
        bool depthwise;
        int channels_in, channels_out, in, kernel, stride, pad;
    } shapes[] = {
        {false, 960, 160, 3, 1, 1, 0}, {false, 320, 200, 7, 1, 1, 0}, {false, 1280, 100, 1, 1, 1, 0}, {false, 3, 32, 40, 3, 2, 1},
        {false, 64, 64, 9, 3, 1, 1},   {true, 96, 96, 17, 3, 2, 1},   {true, 200, 200, 9, 3, 1, 1},   {true, 33, 33, 12, 5, 1, 2},
        {false, 128, 24, 12, 1, 1, 0}, {true, 20, 20, 16, 13, 1, 6},
    };
    Random random;
    random_seed(&random, 8);
    int threads = threads_count();
    for (size_t i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++) {
        size_t s = i / 4;
        Case it = {.conv = {.bytes = 1 + (int)(i & 1),
                            .depthwise = shapes[s].depthwise,
                            .channels_in = shapes[s].channels_in,
                            .channels_out = shapes[s].channels_out}};
        for (int k = 0; k < 2; k++) {
            it.conv.in[k] = shapes[s].in;
            it.conv.kernel[k] = shapes[s].kernel;
            it.conv.stride[k] = shapes[s].stride;
            it.conv.dilation[k] = 1;
            it.conv.pad[k] = shapes[s].pad;
            it.conv.out[k] = (shapes[s].in + 2 * shapes[s].pad - shapes[s].kernel) / shapes[s].stride + 1;
        }
        random_arithmetic(&random, &it.conv);
        random_case(&random, &it);
        if (i & 2) { /* half of the image is dark */
            size_t bytes = (size_t)shapes[s].in * shapes[s].in * shapes[s].channels_in * it.conv.bytes;
            memset(it.x, 0, bytes / 2);
        }
        check_case(&it, 1 + (int)(i % 2));
        free_case(&it);
    }
    threads_set_count(threads);
}
