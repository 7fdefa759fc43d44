/* The AVX2 variant of the integer kernels. */
#include "kernel/integer_variants.h"

#if defined(__x86_64__)
#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/integer_calls.h"
#include "kernel/integer_pack.h"

#define INT_VNNI 0
#define I_REGISTER "x"
#define QUAD_BYTES 8
#define I_ROWS 4
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

static bool available(void)
{
    return __builtin_cpu_supports("avx2");
}

const IntKernels int_kernels_avx2 = {"avx2", available, packed_bytes, pack, run};
#endif
