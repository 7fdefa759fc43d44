/* What a variant of the float32 kernels provides; inside the room only. A packed block begins with a PackedHeader, so that what was
 * packed for one variant runs on that variant, whatever is chosen later. */
#ifndef ESPQ_KERNEL_VARIANTS_H
#define ESPQ_KERNEL_VARIANTS_H

#include "kernel/float32.h"
#include "kernel/quantize.h"
#include "kernel/update.h"

#define PACKED_HEADER_FLOATS 16 /* keeps the panels on a 64-byte line */

typedef struct PackedHeader {
    uint32_t variant;   /* KernelVariant that packed the block */
    uint32_t algorithm; /* of that variant's own choosing */
} PackedHeader;

/* Where a convolution finds its weights: floats from one group, output channel, input channel, row, column of the kernel to the next.
 * The gradient to the input is a convolution by weights that stand the other way round. */
typedef struct WeightSteps {
    int64_t group, out, in, row, column;
} WeightSteps;
WeightSteps dense_steps(const ConvF32 *conv);

typedef struct Kernels {
    size_t (*conv_packed_floats)(const ConvF32 *conv); /* without the header */
    /* returns the algorithm */
    uint32_t (*conv_pack)(const ConvF32 *conv, const float *weights, const WeightSteps *steps, float *packed);
    void (*conv)(const ConvF32 *conv, uint32_t algorithm, const float *x, const float *packed, const float *bias, float *y);
    size_t (*matmul_packed_floats)(int64_t k, int64_t n);
    void (*matmul_pack)(int64_t k, int64_t n, const float *b, int64_t row_stride, int64_t column_stride, float *packed);
    void (*matmul)(const MatmulF32 *matmul, const float *a, const float *packed, const float *bias, float *c);

    size_t (*winograd_packed_floats)(const ConvF32 *conv);
    void (*winograd_pack)(const ConvF32 *conv, const float *weights, float *packed);
    void (*winograd)(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y);

    /* One thread's share each; the callers in quantize.c split the work. */
    void (*fake_quantize)(const float *x, float *y, int64_t count, float inverse, float scale, float minimum, float maximum,
                          Rounding rounding);
    int64_t (*quantize)(const float *x, void *out, int bytes, int64_t count, float inverse, int64_t minimum, int64_t maximum,
                        Rounding rounding);
    void (*minmax)(const float *x, int64_t count, float *minimum, float *maximum);
    int64_t (*find_not_finite)(const float *x, int64_t count);
    void (*histogram)(const float *x, int64_t count, float range, int64_t bins, int32_t *counts);
    void (*noise_block)(const float *a, const float *b, int64_t count, double *noise, double *power);
    void (*exp)(const float *x, float *y, int64_t count);
    void (*sigmoid)(const float *x, float *y, int64_t count);
    void (*swish)(const float *x, float *y, int64_t count);
    void (*tanh)(const float *x, float *y, int64_t count);
    void (*erf)(const float *x, float *y, int64_t count);
    void (*relu)(const float *x, float *y, int64_t count);

    /* gradient.h */
    void (*weight_gradient)(const ConvF32 *conv, const float *x, const float *dy, float *dw);
    /* of a depthwise convolution with a stride; false: not of this one. NULL: of none */
    bool (*strided_gradient)(const ConvF32 *conv, const float *weights, const float *dy, float *dx);
    float (*block_sum)(const float *x, int64_t count); /* of GRADIENT_BLOCK at most; one thread's share, as those below */
    void (*range_gradient)(const float *x, const float *dy, float *dx, int64_t count, float low, float high);
    void (*swish_gradient)(const float *x, const float *dy, float *dx, int64_t count, float factor);
    float (*fake_quantize_gradient)(const float *x, const float *dy, float *dx, int64_t count, float inverse, float minimum, float maximum,
                                    Rounding rounding);

    /* update.h */
    void (*adam)(const AdamF32 *adam, float *values, float *m, float *v, const float *gradient, int64_t count);
    void (*momentum)(const MomentumF32 *momentum, float *values, float *m, const float *gradient, int64_t count);
    void (*soft_round)(const SoftRoundF32 *round, const float *floors, const float *v, float *y, int64_t count);
    void (*soft_round_gradient)(const SoftRoundF32 *round, const float *floors, const float *v, const float *dy, float *dv, int64_t count);
} Kernels;

const Kernels *kernels_of(KernelVariant variant); /* NULL when this processor or this build lacks it */
const Kernels *kernels(void);                     /* of the chosen variant */

PackedHeader packed_header(const float *packed);
void set_packed_header(float *packed, uint32_t variant, uint32_t algorithm);

extern const Kernels kernels_plain;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

#endif
