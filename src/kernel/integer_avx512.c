/* The AVX-512 variant of the integer kernels. */
#include "kernel/integer_variants.h"

#if defined(__x86_64__)
#define INT_VNNI 0
#define QUAD_BYTES 8
#include "kernel/integer_512.h"

static bool available(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2");
}

const IntKernels int_kernels_avx512 = {"avx512", available, packed_bytes, pack, run};
#endif
