/* Winograd convolutions: every variant gives the bits of the plain one, and nearly the numbers of the direct sum. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"
#include "kernel/winograd.h"

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

static ConvF32 conv_of(int batch, int channels_in, int channels_out, int height, int width, int pad, int behind)
{
    return (ConvF32){.batch = batch,
                     .groups = 1,
                     .channels_in = channels_in,
                     .channels_out = channels_out,
                     .in = {height, width},
                     .out = {height + pad + behind - 2, width + pad + behind - 2},
                     .kernel = {3, 3},
                     .stride = {1, 1},
                     .dilation = {1, 1},
                     .pad = {pad, pad}};
}

static float *run(KernelVariant variant, const ConvF32 *conv, const float *x, const float *weights, const float *bias, size_t count)
{
    kernel_set_variant(variant);
    float *packed = memory_new_aligned(winograd_f32_packed_bytes(conv)), *y = memory_new_array(count + 1, sizeof *y);
    winograd_f32_pack(conv, weights, packed);
    memset(y, 0xFF, (count + 1) * sizeof *y);
    winograd_f32(conv, x, packed, bias, y);
    memory_free(packed);
    return y;
}

static void check_variants(Random *random, const ConvF32 *conv, int threads)
{
    size_t count = (size_t)conv->batch * conv->channels_out * conv->out[0] * conv->out[1];
    float *x = numbers(random, (size_t)conv->batch * conv->channels_in * conv->in[0] * conv->in[1]);
    float *weights = numbers(random, (size_t)conv->channels_out * conv->channels_in * 9), *bias = numbers(random, conv->channels_out);
    float *start = below(random, 3) ? bias : NULL, *direct = memory_new_array(count, sizeof *direct);
    threads_set_count(threads);
    float *plain = run(KERNEL_PLAIN, conv, x, weights, start, count);
    uint32_t behind;
    for (KernelVariant variant = KERNEL_AVX2; variant < KERNEL_VARIANTS; variant++) {
        if (!kernel_variant_available(variant)) continue;
        float *y = run(variant, conv, x, weights, start, count);
        memcpy(&behind, y + count, sizeof behind);
        CHECK(memcmp(y, plain, count * sizeof *y) == 0 && behind == 0xFFFFFFFFu,
              "%s, %d threads: batch %d channels %d > %d, %dx%d > %dx%d, pad %d", kernel_variant_name(variant), threads, conv->batch,
              conv->channels_in, conv->channels_out, conv->in[0], conv->in[1], conv->out[0], conv->out[1], conv->pad[0]);
        memory_free(y);
    }
    conv_f32_reference(conv, x, weights, start, direct);
    double noise = 0, power = 0;
    for (size_t i = 0; i < count; i++) {
        noise += ((double)plain[i] - direct[i]) * ((double)plain[i] - direct[i]);
        power += (double)direct[i] * direct[i];
    }
    CHECK(noise <= 1e-11 * power, "noise %.2g: batch %d channels %d > %d, %dx%d > %dx%d, pad %d", noise / power, conv->batch,
          conv->channels_in, conv->channels_out, conv->in[0], conv->in[1], conv->out[0], conv->out[1], conv->pad[0]);
    memory_free(x);
    memory_free(weights);
    memory_free(bias);
    memory_free(direct);
    memory_free(plain);
}

/* Promise: a Winograd convolution has the same bits on every variant and any number of threads, for partial tiles, tails of channels,
 * tiles of several images in one block, pads before and behind; and it is the convolution, to float32's rounding. */
TEST(winograd_is_the_same_on_every_variant)
{
    static const int sizes[][5] = {{9, 64, 64, 10, 10}, {2, 20, 9, 20, 20}, {1, 16, 8, 80, 80}, {3, 256, 5, 5, 4},
                                   {1, 7, 3, 3, 200},   {70, 3, 2, 4, 4},   {2, 130, 20, 6, 5}, {1, 70, 66, 4, 4}};
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    Random random;
    random_seed(&random, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ConvF32 conv = conv_of(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], sizes[i][4], 1, 1);
        check_variants(&random, &conv, 1 + (int)(i % 3));
    }
    for (int i = 0; i < 40; i++) {
        ConvF32 conv = conv_of(1 + below(&random, 4), 1 + below(&random, 12), 1 + below(&random, 20), 3 + below(&random, 20),
                               3 + below(&random, 30), below(&random, 3), below(&random, 2));
        check_variants(&random, &conv, 1 + i % 3);
    }
    kernel_set_variant(variant);
    threads_set_count(threads);
}
