/* The plain definitions of the elementwise kernels and statistics; vector variants use them for their tails. Inside the room only. */
#ifndef ESPQ_KERNEL_PLAIN_H
#define ESPQ_KERNEL_PLAIN_H

#include "kernel/gradient.h"
#include "kernel/variants.h"

#define NOISE_BLOCK 4096
#define NOISE_LANES 16 /* element i of a block is added to lane i % 16; lanes are added in halves: i + (i + 8), i + (i + 4) … */

/* winograd.c; winograd_weights: the 36 transformed weights of a 3 x 3 kernel. */
void winograd_weights(const float *kernel, float *to);
size_t winograd_plain_packed_floats(const ConvF32 *conv);
void winograd_plain_pack(const ConvF32 *conv, const float *weights, float *packed);
void winograd_plain(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y);

void plain_fake_quantize(const float *x, float *y, int64_t count, float inverse, float scale, float minimum, float maximum,
                         Rounding rounding);
int64_t plain_quantize(const float *x, void *out, int bytes, int64_t count, float inverse, int64_t minimum, int64_t maximum,
                       Rounding rounding);
void plain_minmax(const float *x, int64_t count, float *minimum, float *maximum);
int64_t plain_find_not_finite(const float *x, int64_t count);
void plain_histogram(const float *x, int64_t count, float range, int64_t bins, int32_t *counts);
void plain_noise_block(const float *a, const float *b, int64_t count, double *noise, double *power);
void plain_noise_lanes(const float *a, const float *b, int64_t count, double n[NOISE_LANES], double p[NOISE_LANES], double *noise,
                       double *power);
void plain_exp(const float *x, float *y, int64_t count);
void plain_sigmoid(const float *x, float *y, int64_t count);
void plain_swish(const float *x, float *y, int64_t count);
void plain_tanh(const float *x, float *y, int64_t count);
void plain_erf(const float *x, float *y, int64_t count);
void plain_relu(const float *x, float *y, int64_t count);

#define GRADIENT_BLOCK 4096
#define GRADIENT_LANES 16 /* element i of a block is added to lane i % 16; lanes are added in halves, as those of NOISE_BLOCK */

float plain_lanes_sum(const float lanes[GRADIENT_LANES]);
float plain_block_sum(const float *x, int64_t count);
void plain_range_gradient(const float *x, const float *dy, float *dx, int64_t count, float low, float high);
void plain_swish_gradient(const float *x, const float *dy, float *dx, int64_t count, float factor);
float plain_fake_quantize_gradient(const float *x, const float *dy, float *dx, int64_t count, float inverse, float minimum, float maximum,
                                   Rounding rounding);

void plain_adam(const AdamF32 *adam, float *values, float *m, float *v, const float *gradient, int64_t count);
void plain_momentum(const MomentumF32 *momentum, float *values, float *m, const float *gradient, int64_t count);
void plain_soft_round(const SoftRoundF32 *round, const float *floors, const float *v, float *y, int64_t count);
void plain_soft_round_gradient(const SoftRoundF32 *round, const float *floors, const float *v, const float *dy, float *dv, int64_t count);

#endif
