/* Gradients of the kernels: every variant gives the bits of the definition, whatever the shape and the number of threads. */
#include "kernel/gradient.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"

static int below(Random *random, int n)
{
    return (int)(random_next(random) % (uint32_t)n);
}

static float *numbers(Random *random, size_t count)
{
    float *x = memory_new_array(count + 1, sizeof *x);
    for (size_t i = 0; x && i < count; i++)
        x[i] = (float)(below(random, 2001) - 1000) / 977.0f;
    return x;
}

static size_t input_count(const ConvF32 *conv)
{
    return (size_t)conv->batch * conv->groups * conv->channels_in * conv->in[0] * conv->in[1];
}

static size_t weight_count(const ConvF32 *conv)
{
    return (size_t)conv->groups * conv->channels_out * conv->channels_in * conv->kernel[0] * conv->kernel[1];
}

static size_t output_count(const ConvF32 *conv)
{
    return (size_t)conv->batch * conv->groups * conv->channels_out * conv->out[0] * conv->out[1];
}

/* `kind` 0, 1: one input channel a group, 2: 1 x 1 kernels, 3: 1-D, else: anything. */
static ConvF32 random_conv(Random *random, int kind)
{
    ConvF32 conv = {.batch = 1 + below(random, 3)};
    conv.groups = kind <= 1 ? 1 + below(random, 20) : 1 + below(random, 3) / 2;
    conv.channels_in = kind <= 1 ? 1 : 1 + below(random, 20) * (below(random, 4) ? 1 : 6);
    conv.channels_out = kind <= 1 ? 1 + below(random, 2) : 1 + below(random, 60);
    for (int i = 0; i < 2; i++) {
        bool flat = kind == 3 && i == 0;
        conv.kernel[i] = kind == 1 ? 3 : kind == 2 || flat ? 1 : 1 + below(random, below(random, 4) ? 4 : 7);
        conv.stride[i] = flat || (kind == 2 && below(random, 2)) ? 1 : 1 + below(random, below(random, 4) ? 2 : 4);
        conv.dilation[i] = flat || kind == 1 ? 1 : 1 + below(random, below(random, 3) ? 1 : 3);
        conv.pad[i] = flat || (kind == 2 && below(random, 3)) ? 0 : below(random, conv.kernel[i] + 1);
        int behind = flat || (kind == 2 && conv.pad[i] == 0) ? 0 : below(random, conv.kernel[i] + 1);
        int extent = (conv.kernel[i] - 1) * conv.dilation[i] + 1;
        conv.in[i] = flat ? 1 : below(random, 6) ? 1 + below(random, below(random, 4) ? 20 : 75) : 1;
        if (conv.in[i] + conv.pad[i] + behind < extent) conv.in[i] = extent;
        conv.out[i] = (conv.in[i] + conv.pad[i] + behind - extent) / conv.stride[i] + 1;
    }
    return conv;
}

static void check_conv(Random *random, const ConvF32 *conv, int threads)
{
    float *x = numbers(random, input_count(conv)), *weights = numbers(random, weight_count(conv)),
          *dy = numbers(random, output_count(conv));
    float *dx = memory_new_array(input_count(conv), sizeof *dx), *dw = memory_new_array(weight_count(conv), sizeof *dw);
    float *seen = memory_new_array(input_count(conv) + weight_count(conv), sizeof *seen);
    conv_f32_input_gradient_reference(conv, weights, dy, dx);
    conv_f32_weight_gradient_reference(conv, x, dy, dw);
    threads_set_count(threads);
    for (KernelVariant variant = KERNEL_PLAIN; variant < KERNEL_VARIANTS; variant++) {
        if (!kernel_variant_available(variant)) continue;
        kernel_set_variant(variant);
        void *scratch = memory_new_aligned(conv_f32_input_gradient_scratch_bytes(conv));
        memset(seen, 0xFF, input_count(conv) * sizeof *seen);
        conv_f32_input_gradient(conv, weights, dy, seen, scratch);
        bool same_x = memcmp(seen, dx, input_count(conv) * sizeof *seen) == 0;
        memset(seen, 0xFF, weight_count(conv) * sizeof *seen);
        conv_f32_weight_gradient(conv, x, dy, seen);
        bool same_w = memcmp(seen, dw, weight_count(conv) * sizeof *seen) == 0;
        CHECK(
            same_x && same_w,
            "%s, %d threads, %s%s: batch %d groups %d channels %d > %d, %dx%d > %dx%d, kernel %dx%d stride %d %d dilation %d %d pad %d %d",
            kernel_variant_name(variant), threads, same_x ? "" : "input ", same_w ? "" : "weights", conv->batch, conv->groups,
            conv->channels_in, conv->channels_out, conv->in[0], conv->in[1], conv->out[0], conv->out[1], conv->kernel[0], conv->kernel[1],
            conv->stride[0], conv->stride[1], conv->dilation[0], conv->dilation[1], conv->pad[0], conv->pad[1]);
        memory_free(scratch);
    }
    float *blocks[] = {x, weights, dy, dx, dw, seen};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        memory_free(blocks[i]);
}

static void restore(KernelVariant variant, int threads)
{
    kernel_set_variant(variant);
    threads_set_count(threads);
}

/* Promise: gradients of a convolution to input and weights are bit-equal to their definitions on every variant, for odd shapes, groups,
 * strides, dilations, pads, batches. */
TEST(convolution_gradients_equal_their_definitions)
{
    Random random;
    random_seed(&random, 21);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (int i = 0; i < 120; i++) {
        ConvF32 conv = random_conv(&random, i % 6);
        if ((double)output_count(&conv) * conv.channels_in * conv.kernel[0] * conv.kernel[1] > 1e6) continue;
        check_conv(&random, &conv, 1 + i % 3);
    }
    restore(variant, threads);
}

/* Promise: so they are where an image has several blocks of 4,096 pixels, and where it has 49. */
TEST(convolution_gradients_equal_their_definitions_over_several_blocks)
{
    Random random;
    random_seed(&random, 22);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    const ConvF32 convs[] = {
        {1, 1, 3, 8, {100, 100}, {100, 100}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
        {2, 3, 1, 1, {112, 112}, {112, 112}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
        {1, 2, 1, 2, {113, 112}, {57, 56}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
        {2, 5, 1, 1, {113, 112}, {57, 56}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
        {1, 3, 1, 1, {10, 71}, {4, 35}, {3, 3}, {2, 2}, {1, 1}, {0, 0}},
        {1, 3, 1, 1, {8, 43}, {5, 22}, {3, 3}, {2, 2}, {1, 1}, {2, 1}},
        {1, 1, 1, 3, {1, 9000}, {1, 9000}, {1, 5}, {1, 1}, {1, 1}, {0, 2}},
        {1, 1, 96, 40, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}},
        {2, 1, 16, 200, {8, 8}, {8, 8}, {1, 1}, {1, 1}, {1, 1}, {0, 0}},
    };
    for (size_t i = 0; i < sizeof convs / sizeof *convs; i++)
        check_conv(&random, &convs[i], 1 + (int)i % 3);
    restore(variant, threads);
}

/* Promise: sums, masks and the gradient of fake quantization are the same on every variant and number of threads. */
TEST(gradient_sums_and_masks_equal_their_definitions)
{
    enum { COUNT = 9001 };
    Random random;
    random_seed(&random, 23);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    float *x = numbers(&random, COUNT), *dy = numbers(&random, COUNT), *dx[3];
    for (int i = 0; i < 3; i++)
        dx[i] = numbers(&random, COUNT);
    for (int i = 0; i < COUNT; i += 3)
        x[i] = (float)(below(&random, 40) - 20) / 8.0f; /* on the halves between integers */
    for (int mode = ROUND_HALF_EVEN; mode <= ROUND_DOWN; mode++) {
        float sums[2][3];
        double scale[2];
        kernel_set_variant(KERNEL_PLAIN);
        threads_set_count(1);
        channel_sums_f32(dy, 1, 3, COUNT / 3, sums[0]);
        scale[0] = fake_quantize_gradient_f32(x, dy, dx[0], COUNT, 0.25f, -3, 2, (Rounding)mode);
        swish_gradient_f32(x, dy, dx[2], COUNT, 1.5f);
        for (KernelVariant other = KERNEL_PLAIN; other < KERNEL_VARIANTS; other++) {
            if (!kernel_variant_available(other)) continue;
            kernel_set_variant(other);
            threads_set_count(3);
            channel_sums_f32(dy, 1, 3, COUNT / 3, sums[1]);
            scale[1] = fake_quantize_gradient_f32(x, dy, dx[1], COUNT, 0.25f, -3, 2, (Rounding)mode);
            CHECK(memcmp(sums[0], sums[1], sizeof sums[0]) == 0, "%s: sums", kernel_variant_name(other));
            CHECK(scale[0] == scale[1] && memcmp(dx[0], dx[1], COUNT * sizeof *x) == 0, "%s, rounding %d: %g and %g",
                  kernel_variant_name(other), mode, scale[0], scale[1]);
            swish_gradient_f32(x, dy, dx[1], COUNT, 1.5f);
            CHECK(memcmp(dx[2], dx[1], COUNT * sizeof *x) == 0, "%s: swish", kernel_variant_name(other));
            range_gradient_f32(x, dy, dx[1], COUNT, -0.5f, 0.5f);
            for (int i = 0; i < COUNT; i++)
                CHECK(dx[1][i] == (x[i] >= -0.5f && x[i] <= 0.5f ? dy[i] : 0.0f), "%s: range", kernel_variant_name(other));
        }
    }
    memory_free(x);
    memory_free(dy);
    for (int i = 0; i < 3; i++)
        memory_free(dx[i]);
    restore(variant, threads);
}

static void check_channels(Random *random, int64_t outer, int64_t channels, int64_t inner)
{
    size_t count = (size_t)(outer * channels * inner);
    float *x = numbers(random, count), *dy = numbers(random, count), *scales = numbers(random, (size_t)channels);
    float *y = memory_new_array(count * 4, sizeof *y), *seen = y + count, *dx = y + 2 * count, *passed = y + 3 * count;
    double *sums = memory_new_array((size_t)channels * 2, sizeof *sums);
    for (int64_t i = 0; i < channels; i++)
        scales[i] = ldexpf(1.0f, -2 - below(random, 5));
    kernel_set_variant(KERNEL_PLAIN);
    for (int64_t i = 0; i < outer * channels; i++) {
        float scale = scales[i % channels];
        fake_quantize_scale_f32(x + i * inner, y + i * inner, inner, scale, -4, 3, ROUND_HALF_EVEN);
        sums[i % channels] +=
            fake_quantize_gradient_f32(x + i * inner, dy + i * inner, dx + i * inner, inner, scale, -4, 3, ROUND_HALF_EVEN);
    }
    for (KernelVariant variant = KERNEL_PLAIN; variant < KERNEL_VARIANTS; variant++) {
        if (!kernel_variant_available(variant)) continue;
        ChannelsF32 task = {outer, channels, inner, scales, -4, 3, ROUND_HALF_EVEN};
        kernel_set_variant(variant);
        threads_set_count(1 + (int)variant);
        fake_quantize_channels_f32(&task, x, seen);
        fake_quantize_channels_gradient_f32(&task, x, dy, passed, sums + channels);
        CHECK(memcmp(y, seen, count * sizeof *y) == 0 && memcmp(dx, passed, count * sizeof *y) == 0 &&
                  memcmp(sums, sums + channels, (size_t)channels * sizeof *sums) == 0,
              "%s: %d x %d x %d", kernel_variant_name(variant), (int)outer, (int)channels, (int)inner);
    }
    memory_free(x);
    memory_free(dy);
    memory_free(scales);
    memory_free(y);
    memory_free(sums);
}

/* Promise: with a scale a channel, numbers and gradients are those of each channel by itself. */
TEST(channels_are_quantized_each_by_itself)
{
    Random random;
    random_seed(&random, 24);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    check_channels(&random, 1, 40, 9);
    check_channels(&random, 1, 7, 4500);
    check_channels(&random, 3, 5, 31);
    check_channels(&random, 1, 300, 130);
    restore(variant, threads);
}

/* Promise: the gradient of fake quantization is that of OPTIM 7.2: 1 and 0.04 inside, 0 and 127 above, 0 and -128 below. */
TEST(gradient_of_fake_quantization_follows_its_formula)
{
    const float x[] = {0.37f, 20.0f, -20.0f, 127.4f / 8, 127.5f / 8}, one = 1.0f;
    const float passes[] = {1, 0, 0, 1, 0}, slopes[] = {0.04f, 127, -128, -0.4f, 127};
    for (int i = 0; i < 5; i++) {
        float dx;
        double slope = fake_quantize_gradient_f32(&x[i], &one, &dx, 1, 0.125f, -128, 127, ROUND_HALF_EVEN);
        CHECK(dx == passes[i] && fabs(slope - (double)slopes[i]) < 1e-5, "x %g: %g, %g", (double)x[i], (double)dx, slope);
    }
}

static void check_product(Random *random, int64_t m, int64_t n, int64_t k)
{
    float *a = numbers(random, (size_t)(m * k)), *b = numbers(random, (size_t)(n * k)), *dy = numbers(random, (size_t)(m * n));
    float *d = memory_new_array((size_t)(m * k + n * k), sizeof *d);
    void *scratch = memory_new_aligned(matmul_f32_gradient_scratch_bytes(m, n, k));
    for (int transposed = 0; transposed < 2; transposed++) {
        double worst = 0;
        matmul_f32_left_gradient(m, n, k, dy, b, transposed, d, scratch);
        for (int64_t i = 0; i < m * k; i++) {
            double sum = 0;
            for (int64_t j = 0; j < n; j++)
                sum += (double)dy[i / k * n + j] * (double)b[transposed ? j * k + i % k : i % k * n + j];
            worst = fmax(worst, fabs(sum - (double)d[i]));
        }
        matmul_f32_right_gradient(m, n, k, a, dy, transposed, d, scratch);
        for (int64_t i = 0; i < n * k; i++) {
            int64_t row = transposed ? i % k : i / n, column = transposed ? i / k : i % n;
            double sum = 0;
            for (int64_t j = 0; j < m; j++)
                sum += (double)a[j * k + row] * (double)dy[j * n + column];
            worst = fmax(worst, fabs(sum - (double)d[i]));
        }
        CHECK(worst < 1e-3, "%d x %d x %d, transposed %d: %g", (int)m, (int)n, (int)k, transposed, worst);
    }
    memory_free(a);
    memory_free(b);
    memory_free(dy);
    memory_free(d);
    memory_free(scratch);
}

/* Promise: the gradients of a matrix product are dy * b' and a' * dy, whichever way b stands. */
TEST(gradients_of_a_matrix_product_are_products)
{
    Random random;
    random_seed(&random, 24);
    check_product(&random, 1, 10, 7);
    check_product(&random, 33, 17, 50);
    check_product(&random, 5000, 3, 4);
}
