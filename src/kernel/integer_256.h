/* What the integer kernels in vectors of 256 bits have in common. Both variants of that width define INT_VNNI, QUAD_BYTES and I_ROWS,
 * and include this. */
#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/integer_calls.h"
#include "kernel/integer_pack.h"

#define I_REGISTER "x"
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
