/* Convolutions of 3 x 3 by Winograd's minimal filtering F(4 x 4, 3 x 3): 36 multiplications instead of 144 for 4 x 4 outputs. The sums
 * are made in another order than conv_f32 makes them: about five times its rounding error, so it serves only where figures depend on the
 * numbers, not files. The plain variant is its definition: all variants, with any number of threads, give its bits.
 * For every tile of 4 x 4 outputs and every input channel the 6 x 6 inputs are transformed, columns first; 36 sums over the input
 * channels follow, in their order, one fused multiply-add a step; these are transformed back, columns first, and the bias is added. */
#ifndef ESPQ_KERNEL_WINOGRAD_H
#define ESPQ_KERNEL_WINOGRAD_H

#include "kernel/float32.h"

bool winograd_f32_fits(const ConvF32 *conv); /* 3 x 3, stride 1, dilation 1, one group, not too many channels */
bool winograd_f32_pays(const ConvF32 *conv); /* fits, and is clearly faster than conv_f32; the same on every variant */
size_t winograd_f32_packed_bytes(const ConvF32 *conv);
void winograd_f32_pack(const ConvF32 *conv, const float *weights, float *packed);
void winograd_f32(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y); /* threads inside */

#endif
