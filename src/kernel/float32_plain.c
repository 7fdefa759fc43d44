/* The plain variant: the definitions themselves, and the table of plain functions. */
#include <string.h>

#include "kernel/plain.h"

static size_t conv_packed_floats(const ConvF32 *conv)
{
    return (size_t)conv->groups * conv->channels_out * conv->channels_in * conv->kernel[0] * conv->kernel[1];
}

static uint32_t conv_pack(const ConvF32 *conv, const float *weights, const WeightSteps *steps, float *packed)
{
    for (int64_t plane = 0; plane < (int64_t)conv->groups * conv->channels_out * conv->channels_in; plane++) {
        int64_t in = plane % conv->channels_in, out = plane / conv->channels_in;
        const float *from = weights + out / conv->channels_out * steps->group + out % conv->channels_out * steps->out + in * steps->in;
        for (int i = 0; i < conv->kernel[0]; i++)
            for (int j = 0; j < conv->kernel[1]; j++)
                *packed++ = from[i * steps->row + j * steps->column];
    }
    return 0;
}

static void conv_run(const ConvF32 *conv, uint32_t algorithm, const float *x, const float *packed, const float *bias, float *y)
{
    (void)algorithm;
    conv_f32_reference(conv, x, packed, bias, y);
}

static size_t matmul_packed_floats(int64_t k, int64_t n)
{
    return (size_t)k * (size_t)n;
}

static void matmul_pack(int64_t k, int64_t n, const float *b, int64_t row_stride, int64_t column_stride, float *packed)
{
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++)
            packed[i * n + j] = b[i * row_stride + j * column_stride];
}

static void matmul_run(const MatmulF32 *matmul, const float *a, const float *packed, const float *bias, float *c)
{
    MatmulF32 dense = *matmul;
    dense.ldb = matmul->n;
    matmul_f32_reference(&dense, a, packed, bias, c);
}

const Kernels kernels_plain = {
    conv_packed_floats,
    conv_pack,
    conv_run,
    matmul_packed_floats,
    matmul_pack,
    matmul_run,
    winograd_plain_packed_floats,
    winograd_plain_pack,
    winograd_plain,
    plain_fake_quantize,
    plain_quantize,
    plain_minmax,
    plain_find_not_finite,
    plain_histogram,
    plain_noise_block,
    plain_exp,
    plain_sigmoid,
    plain_swish,
    plain_tanh,
    plain_erf,
    plain_relu,
    conv_f32_weight_gradient_reference,
    NULL,
    plain_block_sum,
    plain_range_gradient,
    plain_swish_gradient,
    plain_fake_quantize_gradient,
    plain_adam,
    plain_momentum,
    plain_soft_round,
    plain_soft_round_gradient,
};
