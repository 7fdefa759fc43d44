/* Convolutions and matrix products: every variant gives the bits of the definition, whatever the shape and the number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"
#include "kernel/float32.h"

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

/* `kind` 0: depthwise, 1: its 3 x 3 case, 2: 1 x 1 kernels, else: anything. */
static ConvF32 random_conv(Random *random, int kind)
{
    ConvF32 conv = {.batch = 1 + below(random, 3)};
    conv.groups = kind <= 1 ? 2 + below(random, 20) : 1 + below(random, 3) / 2;
    conv.channels_in = kind <= 1 ? 1 : 1 + below(random, 20) * (below(random, 4) ? 1 : 6);
    conv.channels_out = kind <= 1 ? 1 + below(random, 2) : 1 + below(random, 60);
    int stride = 1 + below(random, 2);
    for (int i = 0; i < 2; i++) {
        conv.kernel[i] = kind == 1 ? 3 : kind == 2 ? 1 : 1 + below(random, below(random, 4) ? 4 : 9);
        conv.stride[i] = kind == 1 ? stride : kind == 2 && below(random, 2) ? 1 : 1 + below(random, below(random, 4) ? 2 : 4);
        conv.dilation[i] = kind == 1 ? 1 : 1 + below(random, below(random, 3) ? 1 : 3);
        conv.pad[i] = kind == 2 && below(random, 3) ? 0 : below(random, conv.kernel[i] + 1);
        int behind = kind == 2 && conv.pad[i] == 0 ? 0 : below(random, conv.kernel[i] + 1);
        int extent = (conv.kernel[i] - 1) * conv.dilation[i] + 1;
        conv.in[i] = below(random, 6) ? 1 + below(random, below(random, 4) ? 20 : 45) : 1;
        if (conv.in[i] + conv.pad[i] + behind < extent) conv.in[i] = extent;
        conv.out[i] = (conv.in[i] + conv.pad[i] + behind - extent) / conv.stride[i] + 1;
    }
    return conv;
}

static void check_conv(const ConvF32 *conv, const float *x, const float *weights, const float *bias, int threads)
{
    size_t count = output_count(conv);
    float *expected = memory_new_array(count, sizeof *expected), *y = memory_new_array(count, sizeof *y);
    conv_f32_reference(conv, x, weights, bias, expected);
    threads_set_count(threads);
    for (KernelVariant variant = KERNEL_PLAIN; variant < KERNEL_VARIANTS; variant++) {
        if (!kernel_variant_available(variant)) continue;
        kernel_set_variant(variant);
        float *packed = memory_new_aligned(conv_f32_packed_bytes(conv));
        void *scratch = memory_new_aligned(conv_f32_scratch_bytes(conv));
        conv_f32_pack(conv, weights, packed);
        memset(y, 0xFF, count * sizeof *y);
        conv_f32(conv, x, packed, bias, y, scratch);
        CHECK(memcmp(y, expected, count * sizeof *y) == 0,
              "%s, %d threads: batch %d groups %d channels %d > %d, %dx%d > %dx%d, kernel %dx%d stride %d %d dilation %d %d pad %d %d",
              kernel_variant_name(variant), threads, conv->batch, conv->groups, conv->channels_in, conv->channels_out, conv->in[0],
              conv->in[1], conv->out[0], conv->out[1], conv->kernel[0], conv->kernel[1], conv->stride[0], conv->stride[1],
              conv->dilation[0], conv->dilation[1], conv->pad[0], conv->pad[1]);
        memory_free(packed);
        memory_free(scratch);
    }
    memory_free(expected);
    memory_free(y);
}

static void check_random_conv(Random *random, const ConvF32 *conv, int threads)
{
    float *x = numbers(random, input_count(conv)), *weights = numbers(random, weight_count(conv));
    float *bias = numbers(random, (size_t)conv->groups * conv->channels_out);
    check_conv(conv, x, weights, below(random, 3) ? bias : NULL, threads);
    memory_free(x);
    memory_free(weights);
    memory_free(bias);
}

static void restore(KernelVariant variant, int threads)
{
    kernel_set_variant(variant);
    threads_set_count(threads);
}

/* Promise: convolution is bit-equal to its definition on every variant, for odd shapes, tails, groups, strides, dilations, pads, batches. */
TEST(convolution_equals_its_definition)
{
    Random random;
    random_seed(&random, 1);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (int i = 0; i < 160; i++) {
        ConvF32 conv = random_conv(&random, i % 5);
        if ((double)output_count(&conv) * conv.channels_in * conv.kernel[0] * conv.kernel[1] > 2e6) continue;
        check_random_conv(&random, &conv, 1 + i % 3);
    }
    restore(variant, threads);
}

/* Promise: so it is for the shapes that have code of their own: deep sums, 49 pixels, vectors, one column, wide depthwise planes. */
TEST(convolution_equals_its_definition_in_special_shapes)
{
    static const ConvF32 shapes[] = {
        {1, 1, 300, 33, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}},
        {3, 1, 40, 50, {7, 7}, {7, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
        {5, 1, 70, 130, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}},
        {2, 1, 9, 40, {3, 3}, {1, 1}, {3, 3}, {1, 1}, {1, 1}, {0, 0}},
        {2, 2, 5, 30, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {0, 0}},
        {1, 1, 3, 8, {200, 1}, {100, 1}, {5, 1}, {2, 1}, {1, 1}, {2, 0}},
        {1, 1, 100, 9, {12, 13}, {12, 13}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
        {1, 3, 1, 1, {64, 150}, {64, 150}, {5, 5}, {1, 1}, {1, 1}, {2, 2}},
        {1, 3, 1, 1, {61, 70}, {31, 35}, {3, 3}, {2, 2}, {1, 1}, {1, 1}},
        {1, 2, 1, 1, {1, 3000}, {1, 3000}, {1, 3}, {1, 1}, {1, 4}, {0, 4}},
        {1, 1, 2, 3, {20, 20}, {11, 11}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
        {1, 4, 1, 1, {9, 9}, {3, 3}, {3, 3}, {3, 3}, {1, 1}, {0, 0}},
    };
    Random random;
    random_seed(&random, 2);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_random_conv(&random, &shapes[i], 1 + (int)(i % 3));
    restore(variant, threads);
}

/* Promise: a tap over padding is a multiplication by +0: an infinite weight gives NaN there, and -0 becomes +0, on every variant. */
TEST(padding_is_multiplied)
{
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (int groups = 1; groups <= 2; groups++) {
        ConvF32 conv = {1, groups, 1, 1, {4, 6}, {4, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}};
        float x[48], weights[18], y[48], packed[1024], bias[2] = {-0.0f, -0.0f};
        for (int i = 0; i < 48; i++)
            x[i] = 1.0f;
        for (int i = 0; i < 18; i++)
            weights[i] = i % 9 == 0 ? INFINITY : -0.0f;
        for (KernelVariant v = KERNEL_PLAIN; v < KERNEL_VARIANTS; v++) {
            if (!kernel_variant_available(v)) continue;
            kernel_set_variant(v);
            REQUIRE(conv_f32_packed_bytes(&conv) <= sizeof packed, "packed weights are larger than expected");
            conv_f32_pack(&conv, weights, packed);
            conv_f32(&conv, x, packed, bias, y, NULL);
            CHECK(isnan(y[0]) && isnan(y[5]) && isnan(y[6]), "%s: infinity over padding is not NaN", kernel_variant_name(v));
            CHECK(isinf(y[7]), "%s: infinity inside is not infinite", kernel_variant_name(v));
        }
    }
    restore(variant, threads);
}

/* Promise: packed weights run on the variant that packed them, whatever is chosen later. */
TEST(packed_weights_know_their_variant)
{
    Random random;
    random_seed(&random, 3);
    KernelVariant variant = kernel_variant();
    ConvF32 conv = {1, 1, 5, 21, {6, 7}, {6, 7}, {1, 1}, {1, 1}, {1, 1}, {0, 0}};
    float *x = numbers(&random, input_count(&conv)), *weights = numbers(&random, weight_count(&conv));
    float expected[21 * 42], y[21 * 42];
    conv_f32_reference(&conv, x, weights, NULL, expected);
    kernel_set_variant(KERNEL_PLAIN);
    float *packed = memory_new_aligned(conv_f32_packed_bytes(&conv));
    conv_f32_pack(&conv, weights, packed);
    kernel_set_variant(variant);
    conv_f32(&conv, x, packed, NULL, y, NULL);
    CHECK(memcmp(y, expected, sizeof y) == 0, "weights packed for plain C gave other sums on %s", kernel_variant_name(variant));
    memory_free(x);
    memory_free(weights);
    memory_free(packed);
}

/* Promise: the matrix product is bit-equal to its definition on every variant, for any row stride; what lies between rows stays. */
TEST(matrix_product_equals_its_definition)
{
    Random random;
    random_seed(&random, 4);
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (int i = 0; i < 40; i++) {
        MatmulF32 matmul = {1 + below(&random, below(&random, 2) ? 4 : 80), 1 + below(&random, 260), below(&random, 300), 0, 0, 0};
        matmul.lda = matmul.k + below(&random, 3);
        matmul.ldb = matmul.n + below(&random, 3);
        matmul.ldc = matmul.n + below(&random, 3);
        float *a = numbers(&random, (size_t)(matmul.m * matmul.lda)), *b = numbers(&random, (size_t)(matmul.k * matmul.ldb));
        float *bias = numbers(&random, (size_t)matmul.n), *start = below(&random, 2) ? bias : NULL;
        size_t bytes = (size_t)(matmul.m * matmul.ldc) * sizeof *a;
        float *expected = memory_new(bytes), *c = memory_new(bytes);
        matmul_f32_reference(&matmul, a, b, start, expected);
        threads_set_count(1 + i % 3);
        for (KernelVariant v = KERNEL_PLAIN; v < KERNEL_VARIANTS; v++) {
            if (!kernel_variant_available(v)) continue;
            kernel_set_variant(v);
            void *scratch = memory_new_aligned(matmul_f32_scratch_bytes(&matmul));
            memset(c, 0, bytes);
            matmul_f32(&matmul, a, b, start, c, scratch);
            CHECK(memcmp(c, expected, bytes) == 0, "%s: %dx%dx%d", kernel_variant_name(v), (int)matmul.m, (int)matmul.n, (int)matmul.k);
            memory_free(scratch);
        }
        memory_free(a);
        memory_free(b);
        memory_free(bias);
        memory_free(expected);
        memory_free(c);
    }
    restore(variant, threads);
}

/* Promise: a transposed constant is packed by its strides: c = a * transpose(b). */
TEST(matrix_product_packs_by_strides)
{
    float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 0, 2, 0, 1, 3}, c[4]; /* b: two rows of three, used as 3 x 2 */
    MatmulF32 matmul = {2, 2, 3, 3, 0, 2};
    float *packed = memory_new_aligned(matmul_f32_packed_bytes(3, 2));
    matmul_f32_pack(3, 2, b, 1, 3, packed);
    matmul_f32_packed(&matmul, a, packed, NULL, c);
    CHECK(c[0] == 7 && c[1] == 11 && c[2] == 16 && c[3] == 23, "got %g %g %g %g", c[0], c[1], c[2], c[3]);
    memory_free(packed);
}
