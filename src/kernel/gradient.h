/* Gradients of the float32 kernels (OPTIM §13). Each is defined by loops in plain C (gradient_reference.c); variants and threads split
 * outputs, never a sum, and are bit-equal to the definition. Sums over pixels or samples are made in blocks of 4,096, added in the order
 * of the blocks; an image begins a new one, except where it is said. */
#ifndef ESPQ_KERNEL_GRADIENT_H
#define ESPQ_KERNEL_GRADIENT_H

#include "kernel/float32.h"
#include "kernel/quantize.h"

/* To the input: dx = sum over output channels, then kernel rows and columns from the last to the first, of weight * dy. Weights and
 * dx as conv_f32 has weights and x. */
size_t conv_f32_input_gradient_scratch_bytes(const ConvF32 *conv);
void conv_f32_input_gradient(const ConvF32 *conv, const float *weights, const float *dy, float *dx, void *scratch);
void conv_f32_input_gradient_reference(const ConvF32 *conv, const float *weights, const float *dy, float *dx);

/* To the weights: dw = sum over images and output pixels of x * dy. Several images of together at most 4,096 pixels share a block. With one
 * input channel a group a block is as many whole rows as have 4,096 pixels, at least one, and is summed in strips of 16 columns, each from
 * the first row to the last, in 16 lanes (column modulo 16), which are added in halves at its end. */
void conv_f32_weight_gradient(const ConvF32 *conv, const float *x, const float *dy, float *dw);
void conv_f32_weight_gradient_reference(const ConvF32 *conv, const float *x, const float *dy, float *dw);

/* To the bias: sums[channel] of dy [batch][channels][inner], over batch and inner; each block in 16 lanes. */
void channel_sums_f32(const float *dy, int64_t batch, int64_t channels, int64_t inner, float *sums);

/* dy = c's gradient of matmul_f32, [m][n]: da = dy * b' (sum over n), db = a' * dy (sum over m, in blocks of 4,096 rows). Dense
 * matrices (lda = k, ldb = ldc = n); b may stand transposed, [n][k], and db then does, too. */
size_t matmul_f32_gradient_scratch_bytes(int64_t m, int64_t n, int64_t k); /* of either */
void matmul_f32_left_gradient(int64_t m, int64_t n, int64_t k, const float *dy, const float *b, bool transposed, float *da, void *scratch);
void matmul_f32_right_gradient(int64_t m, int64_t n, int64_t k, const float *a, const float *dy, bool transposed, float *db, void *scratch);

/* dx = dy where low <= x <= high, else 0. dx may be dy. */
void range_gradient_f32(const float *x, const float *dy, float *dx, int64_t count, float low, float high);

/* Of x * sigmoid(factor * x): dx = dy * s * (1 + factor * x * (1 - s)), s = sigmoid(factor * x). dx may be dy. */
void swish_gradient_f32(const float *x, const float *dy, float *dx, int64_t count, float factor);

/* y = clamp(round(x / scale), minimum, maximum) * scale for any scale > 0, x / scale made as x * (1 / scale). x may equal y. */
void fake_quantize_scale_f32(const float *x, float *y, int64_t count, float scale, int64_t minimum, int64_t maximum, Rounding rounding);

/* Its gradients, straight through the rounding (OPTIM §7.2), u = round(x / scale): dx = dy where minimum <= u <= maximum, else 0; and
 * back comes d loss / d scale = sum of dy * (u - x / scale) inside, dy * the bound outside. dx may be dy; NULL: only the sum. */
double fake_quantize_gradient_f32(const float *x, const float *dy, float *dx, int64_t count, float scale, int64_t minimum, int64_t maximum,
                                  Rounding rounding);

/* Both for numbers that lie as [outer][channels][inner], with a scale a channel. */
typedef struct ChannelsF32 {
    int64_t outer, channels, inner;
    const float *scales;
    int64_t minimum, maximum;
    Rounding rounding;
} ChannelsF32;

void fake_quantize_channels_f32(const ChannelsF32 *task, const float *x, float *y);
/* sums[channel]: its stretches one after the other; NULL: only dx. */
void fake_quantize_channels_gradient_f32(const ChannelsF32 *task, const float *x, const float *dy, float *dx, double *sums);

#endif
