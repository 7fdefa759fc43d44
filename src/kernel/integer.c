/* Choosing a variant, and the public face of the integer kernels. */
#include "kernel/integer.h"

#include <string.h>

#include "kernel/float32.h"
#include "kernel/integer_variants.h"

enum { HEADER_BYTES = 64 }; /* keeps what follows on a line of the cache */

/* A processor's best first, for each variant that a user may choose. */
static const struct {
    KernelVariant variant;
    const IntKernels *kernels;
} rows[] = {
#if defined(__x86_64__)
    {KERNEL_AVX512, &int_kernels_avx512vnni}, {KERNEL_AVX512, &int_kernels_avx512},
    {KERNEL_AVX2, &int_kernels_avxvnni},      {KERNEL_AVX2, &int_kernels_avx2},
#endif
    {KERNEL_PLAIN, &int_kernels_plain},
};

enum { ROWS = sizeof rows / sizeof *rows };

const IntKernels *int_kernels_at(int row)
{
    return row < ROWS ? rows[row].kernels : NULL;
}

static int chosen_row(void)
{
    KernelVariant variant = kernel_variant();
    for (int i = 0; i < ROWS; i++)
        if (rows[i].variant == variant && rows[i].kernels->available()) return i;
    return ROWS - 1;
}

size_t conv_int_packed_bytes_for(int row, const ConvInt *conv)
{
    return HEADER_BYTES + rows[row].kernels->packed_bytes(conv);
}

void conv_int_pack_for(int row, const ConvInt *conv, const void *weights, void *packed)
{
    memset(packed, 0, HEADER_BYTES);
    memcpy(packed, &row, sizeof row);
    rows[row].kernels->pack(conv, weights, (char *)packed + HEADER_BYTES);
}

size_t conv_int_packed_bytes(const ConvInt *conv)
{
    return conv_int_packed_bytes_for(chosen_row(), conv);
}

void conv_int_pack(const ConvInt *conv, const void *weights, void *packed)
{
    conv_int_pack_for(chosen_row(), conv, weights, packed);
}

/* Panels live on the stacks of the threads, so that their number may change between preparing and running. */
size_t conv_int_scratch_bytes(const ConvInt *conv)
{
    (void)conv;
    return 0;
}

void conv_int(const ConvInt *conv, const void *x, const void *packed, void *y, void *scratch)
{
    (void)scratch;
    int row;
    memcpy(&row, packed, sizeof row);
    rows[row].kernels->run(conv, x, (const char *)packed + HEADER_BYTES, y);
}
