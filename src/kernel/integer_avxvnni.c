/* The AVX-VNNI variant of the integer kernels. */
#include "kernel/integer_variants.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/integer_calls.h"
#include "kernel/integer_pack.h"

#define INT_VNNI 1
#define I_REGISTER "x"
#define QUAD_BYTES 4
#define I_ROWS 6
#define v_LANES 8
#define v_VECTORS 2
#define NARROW 0

/* The templates, each after those it uses. */
/* clang-format off */
#define I(name) v_##name
#define I_LANES 8
#define I_VECTORS 2
#include "kernel/integer_simd_256.h"
#include "kernel/integer_tile.h"
#include "kernel/integer_depthwise.h"
/* clang-format on */

static inline const TileRow *tiles_of_block(const IntBlock *block)
{
    (void)block;
    return v_tiles;
}

static inline void depthwise_run(const IntBlock *block, int bytes, const DepthwiseCall *call)
{
    (void)block;
    (bytes == 1 ? v_depthwise_bytes : v_depthwise_words)(call);
}

static inline void depthwise_run_row(const IntBlock *block, const DepthwiseCall *call, int stride)
{
    (void)block;
    v_depthwise_row(call, stride);
}

#include "kernel/integer_run.h"

/* Asked by hand: not every compiler's __builtin_cpu_supports knows the name. */
static bool available(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

const IntKernels int_kernels_avxvnni = {"avxvnni", available, packed_bytes, pack, run};
#endif
