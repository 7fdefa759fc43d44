/* Choosing a variant, and the public face of the float32 kernels. */
#include "kernel/float32.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/variants.h"

static const char *const variant_names[KERNEL_VARIANTS] = {"plain", "avx2", "avx512"};
static int chosen = -1;

const Kernels *kernels_of(KernelVariant variant)
{
    switch (variant) {
    case KERNEL_PLAIN: return &kernels_plain;
#if defined(__x86_64__)
    case KERNEL_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &kernels_avx2 : NULL;
    case KERNEL_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")
                   ? &kernels_avx512
                   : NULL;
#endif
    default: return NULL;
    }
}

bool kernel_variant_available(KernelVariant variant)
{
    return kernels_of(variant) != NULL;
}

/* Two threads that ask for the first time together find the same answer. */
KernelVariant kernel_variant(void)
{
    int variant = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
    if (variant >= 0) return (KernelVariant)variant;
    variant = KERNEL_VARIANTS - 1;
    while (!kernel_variant_available((KernelVariant)variant))
        variant--;
    const char *asked = getenv("ESPQ_KERNEL");
    for (int i = 0; asked && i < KERNEL_VARIANTS; i++)
        if (strcmp(asked, variant_names[i]) == 0 && kernel_variant_available((KernelVariant)i)) variant = i;
    __atomic_store_n(&chosen, variant, __ATOMIC_RELAXED);
    return (KernelVariant)variant;
}

void kernel_set_variant(KernelVariant variant)
{
    if (kernel_variant_available(variant)) __atomic_store_n(&chosen, (int)variant, __ATOMIC_RELAXED);
}

const char *kernel_variant_name(KernelVariant variant)
{
    return variant_names[variant];
}

const Kernels *kernels(void)
{
    return kernels_of(kernel_variant());
}

PackedHeader packed_header(const float *packed)
{
    PackedHeader header;
    memcpy(&header, packed, sizeof header);
    return header;
}

void set_packed_header(float *packed, uint32_t variant, uint32_t algorithm)
{
    PackedHeader header = {variant, algorithm};
    memset(packed, 0, PACKED_HEADER_FLOATS * sizeof *packed);
    memcpy(packed, &header, sizeof header);
}

size_t conv_f32_packed_bytes(const ConvF32 *conv)
{
    return (PACKED_HEADER_FLOATS + kernels()->conv_packed_floats(conv)) * sizeof(float);
}

WeightSteps dense_steps(const ConvF32 *conv)
{
    int64_t taps = (int64_t)conv->kernel[0] * conv->kernel[1], out = conv->channels_in * taps;
    return (WeightSteps){conv->channels_out * out, out, taps, conv->kernel[1], 1};
}

void conv_f32_pack(const ConvF32 *conv, const float *weights, float *packed)
{
    WeightSteps steps = dense_steps(conv);
    uint32_t algorithm = kernels()->conv_pack(conv, weights, &steps, packed + PACKED_HEADER_FLOATS);
    set_packed_header(packed, kernel_variant(), algorithm);
}

/* Panels live on the stacks of the threads, so that their number may change between preparing and running. */
size_t conv_f32_scratch_bytes(const ConvF32 *conv)
{
    (void)conv;
    return 0;
}

void conv_f32(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y, void *scratch)
{
    (void)scratch;
    PackedHeader header = packed_header(packed);
    kernels_of((KernelVariant)header.variant)->conv(conv, header.algorithm, x, packed + PACKED_HEADER_FLOATS, bias, y);
}

size_t matmul_f32_packed_bytes(int64_t k, int64_t n)
{
    return (PACKED_HEADER_FLOATS + kernels()->matmul_packed_floats(k, n)) * sizeof(float);
}

void matmul_f32_pack(int64_t k, int64_t n, const float *b, int64_t row_stride, int64_t column_stride, float *packed)
{
    kernels()->matmul_pack(k, n, b, row_stride, column_stride, packed + PACKED_HEADER_FLOATS);
    set_packed_header(packed, kernel_variant(), 0);
}

void matmul_f32_packed(const MatmulF32 *matmul, const float *a, const float *packed, const float *bias, float *c)
{
    kernels_of((KernelVariant)packed_header(packed).variant)->matmul(matmul, a, packed + PACKED_HEADER_FLOATS, bias, c);
}

size_t matmul_f32_scratch_bytes(const MatmulF32 *matmul)
{
    return matmul_f32_packed_bytes(matmul->k, matmul->n);
}

void matmul_f32(const MatmulF32 *matmul, const float *a, const float *b, const float *bias, float *c, void *scratch)
{
    matmul_f32_pack(matmul->k, matmul->n, b, matmul->ldb, 1, scratch);
    matmul_f32_packed(matmul, a, scratch, bias, c);
}
