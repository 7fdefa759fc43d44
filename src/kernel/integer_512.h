/* What the integer kernels in vectors of 512 bits have in common. Both variants of that width define INT_VNNI and QUAD_BYTES, and
 * include this. */
#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/integer_calls.h"
#include "kernel/integer_pack.h"

#define I_REGISTER "v"
#define I_ROWS 6
#define v_LANES 16
#define v_VECTORS 4
#define NARROW 1

/* The templates, each after those it uses. */
/* clang-format off */
#include "kernel/integer_simd_512.h"
#define I(name) v_##name
#define I_LANES 16
#define I_VECTORS 4
#include "kernel/integer_tile.h"
#include "kernel/integer_depthwise.h"
#undef I
#undef I_LANES
#define I(name) n_##name
#define I_LANES 8
#include "kernel/integer_simd_256.h"
#include "kernel/integer_tile.h"
#include "kernel/integer_depthwise.h"
/* clang-format on */

static inline const TileRow *tiles_of_block(const IntBlock *block)
{
    return block->narrow ? n_tiles : v_tiles;
}

static inline void depthwise_run(const IntBlock *block, int bytes, const DepthwiseCall *call)
{
    if (bytes == 1)
        (block->narrow ? n_depthwise_bytes : v_depthwise_bytes)(call);
    else
        (block->narrow ? n_depthwise_words : v_depthwise_words)(call);
}

static inline void depthwise_run_row(const IntBlock *block, const DepthwiseCall *call, int stride)
{
    (block->narrow ? n_depthwise_row : v_depthwise_row)(call, stride);
}

#include "kernel/integer_run.h"
