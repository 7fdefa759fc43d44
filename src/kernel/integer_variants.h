/* What a variant of the integer kernels provides; inside the room only. */
#ifndef ESPQ_KERNEL_INTEGER_VARIANTS_H
#define ESPQ_KERNEL_INTEGER_VARIANTS_H

#include "kernel/integer.h"

typedef struct IntKernels {
    const char *name;
    bool (*available)(void);
    size_t (*packed_bytes)(const ConvInt *conv);
    void (*pack)(const ConvInt *conv, const void *weights, void *packed);
    void (*run)(const ConvInt *conv, const void *x, const void *packed, void *y);
} IntKernels;

/* The rows of all variants that this build has, NULL behind the last. A packed block runs on the row that packed it. */
const IntKernels *int_kernels_at(int row);
void conv_int_pack_for(int row, const ConvInt *conv, const void *weights, void *packed); /* instead of the chosen one, for tests */
size_t conv_int_packed_bytes_for(int row, const ConvInt *conv);

/* The definition for output pixels [pixel, pixel_end) and channels [channel, channel_end) alone, in this thread. */
void conv_int_define(const ConvInt *conv, const void *x, const void *weights, void *y, int64_t pixel, int64_t pixel_end, int channel,
                     int channel_end);

/* What the plain variant packed: points the bias and shifts of conv, and weights, into it. */
void plain_unpack(ConvInt *conv, const void *packed, const void **weights);

/* One sum, shifted, rounded and cut to the type of the result. */
int64_t conv_int_result(const ConvInt *conv, int channel, int64_t sum, bool *clipped);

extern const IntKernels int_kernels_plain;
#if defined(__x86_64__)
extern const IntKernels int_kernels_avx2, int_kernels_avxvnni, int_kernels_avx512, int_kernels_avx512vnni;
#endif

#endif
