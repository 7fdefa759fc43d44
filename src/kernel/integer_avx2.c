/* The AVX2 variant of the integer kernels. */
#include "kernel/integer_variants.h"

#if defined(__x86_64__)
#define INT_VNNI 0
#define QUAD_BYTES 8
#define I_ROWS 4
#include "kernel/integer_256.h"

static bool available(void)
{
    return __builtin_cpu_supports("avx2");
}

const IntKernels int_kernels_avx2 = {"avx2", available, packed_bytes, pack, run};
#endif
