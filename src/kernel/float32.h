/* Float32 kernels. Each is defined by one loop in plain C (float32_reference.c): bias first (0 without), then input channel, row,
 * column, one fused multiply-add a step. The variants (plain C, AVX2, AVX-512), chosen once at run time, split outputs, never a sum:
 * all bit-equal to the definition, with any number of threads. Outside the image x is +0, and such a tap is multiplied and added like any
 * other (so an infinite weight over padding gives NaN, as in PyTorch). */
#ifndef ESPQ_KERNEL_FLOAT32_H
#define ESPQ_KERNEL_FLOAT32_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { KERNEL_PLAIN, KERNEL_AVX2, KERNEL_AVX512, KERNEL_VARIANTS } KernelVariant;
KernelVariant kernel_variant(void); /* the best this processor has, or what ESPQ_KERNEL=plain|avx2|avx512 asks for */
bool kernel_variant_available(KernelVariant variant);
void kernel_set_variant(KernelVariant variant); /* tests and benchmarks */
const char *kernel_variant_name(KernelVariant variant);

/* Convolution, 2-D; 1-D is height 1. Layouts: x [batch][groups*channels_in][h][w], weights [groups*channels_out][channels_in][kh][kw],
 * y [batch][groups*channels_out][oh][ow]. channels_* are per group. Index 0: rows, 1: columns. pad: zeros before; what lies behind
 * follows from the output size. */
typedef struct ConvF32 {
    int batch, groups, channels_in, channels_out;
    int in[2], out[2], kernel[2], stride[2], dilation[2], pad[2];
} ConvF32;

size_t conv_f32_packed_bytes(const ConvF32 *conv); /* of the packed weights */
void conv_f32_pack(const ConvF32 *conv, const float *weights, float *packed);
size_t conv_f32_scratch_bytes(const ConvF32 *conv); /* for all threads together */
void conv_f32(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y, void *scratch); /* bias NULL: 0 */
void conv_f32_reference(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y);     /* the definition */

/* Matrix product: c[m][n] = start + sum over k of a[m][k] * b[k][n]; start = bias[n] (bias NULL: 0). Row strides lda, ldb, ldc in
 * elements. */
typedef struct MatmulF32 {
    int64_t m, n, k, lda, ldb, ldc;
} MatmulF32;

size_t matmul_f32_packed_bytes(int64_t k, int64_t n);
void matmul_f32_pack(int64_t k, int64_t n, const float *b, int64_t row_stride, int64_t column_stride, float *packed); /* constant b, once */
void matmul_f32_packed(const MatmulF32 *matmul, const float *a, const float *packed, const float *bias, float *c);    /* threads inside */
void matmul_f32(const MatmulF32 *matmul, const float *a, const float *b, const float *bias, float *c, void *scratch); /* b at run time */
size_t matmul_f32_scratch_bytes(const MatmulF32 *matmul);
void matmul_f32_reference(const MatmulF32 *matmul, const float *a, const float *b, const float *bias, float *c);

/* The same sums in float64, rounded once at the end (H_PRE platforms, QUANT §10.2). Plain C only. */
void conv_f64_reference(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y);
void matmul_f64_reference(const MatmulF32 *matmul, const float *a, const float *b, const float *bias, float *c);

#endif
