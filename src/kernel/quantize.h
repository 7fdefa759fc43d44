/* Fake quantization and quantization to integers (QUANT §7.4, §9). Variants are bit-equal to the plain definition. */
#ifndef ESPQ_KERNEL_QUANTIZE_H
#define ESPQ_KERNEL_QUANTIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/rounding.h"

/* y = clamp(round(x / 2^exponent), minimum, maximum) * 2^exponent in float32; NaN stays, zeros are +0. x may equal y. */
void fake_quantize_f32(const float *x, float *y, int64_t count, int exponent, int64_t minimum, int64_t maximum, Rounding rounding);

/* Integers: clamp(round(x / 2^exponent)), saturating; NaN becomes 0. out has `bytes` bytes an element (1, 2, 4, 8), wide computes in
 * float64. Returns how many were clamped (NaN among them). With bits >= 25 the float32 bounds round up (QUANT D1): the result saturates
 * instead of wrapping. */
int64_t quantize_f32(const float *x, void *out, int bytes, int64_t count, int exponent, int64_t minimum, int64_t maximum, Rounding rounding,
                     int wide);

/* Statistics in one pass. */
void minmax_f32(const float *x, int64_t count, float *minimum, float *maximum); /* NaN is skipped; count 0: +inf, -inf */
int64_t find_not_finite_f32(const float *x, int64_t count);                     /* index of the first NaN or infinity, -1 */
/* counts[trunc(|x| * bins / range)] += 1, all in float32; = bins → bins-1; |x| > range is left out (QUANT §8.4). */
void histogram_f32(const float *x, int64_t count, float range, int64_t bins, int32_t *counts);
/* sum (a-b)^2 and sum b^2 in float64, blocks of 4096 added in order. */
void noise_power_f32(const float *a, const float *b, int64_t count, double *noise, double *power);

/* Elementwise, vectorised, same bits on every variant (definition in plain C, float32): within 2.5 ulp of the exact function; NaN comes
 * back as it is. Swish and sigmoid are x / (1 + e^-x) and 1 / (1 + e^-x): 0 below -88, and NaN for swish of -infinity, as in PyTorch.
 * x may equal y. */
void exp_f32(const float *x, float *y, int64_t count);
void sigmoid_f32(const float *x, float *y, int64_t count);
void swish_f32(const float *x, float *y, int64_t count);
void tanh_f32(const float *x, float *y, int64_t count);
void erf_f32(const float *x, float *y, int64_t count);
void relu_f32(const float *x, float *y, int64_t count); /* 0 where x < 0; -0 stays */

#endif
