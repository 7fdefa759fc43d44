/* The AVX-VNNI variant of the integer kernels. */
#include "kernel/integer_variants.h"

#if defined(__x86_64__)
#include <cpuid.h>

#define INT_VNNI 1
#define QUAD_BYTES 4
#define I_ROWS 6
#include "kernel/integer_256.h"

/* Asked by hand: not every compiler's __builtin_cpu_supports knows the name. */
static bool available(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

const IntKernels int_kernels_avxvnni = {"avxvnni", available, packed_bytes, pack, run};
#endif
