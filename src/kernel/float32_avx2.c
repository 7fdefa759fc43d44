/* The AVX2 variant. */
#include "kernel/variants.h"

#if defined(__x86_64__)
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/elementwise_constants.h"
#include "kernel/plain.h"
#include "kernel/simd_avx2.h"
#include "kernel/transpose.h"

/* The templates, each after those it uses. */
/* clang-format off */
#include "kernel/tile.h"
#include "kernel/product.h"
#define D(name) v_##name
#define D_LANES LANES
#include "kernel/depthwise3.h"
#undef D
#undef D_LANES
#include "kernel/depthwise.h"
#include "kernel/lines.h"
#include "kernel/convolution.h"
#define W(name) v_##name
#define v_Number Floats
#include "kernel/winograd_steps.h"
#undef W
#undef v_Number
#include "kernel/winograd_blocks.h"
#include "kernel/arithmetic_avx2.h"
#include "kernel/elementwise.h"
#include "kernel/statistics.h"
#include "kernel/weight_gradient.h"
#include "kernel/strided_gradient.h"
#include "kernel/gradient_blocks.h"
#include "kernel/update_blocks.h"
/* clang-format on */

const Kernels kernels_avx2 = {
    conv_packed_floats,
    conv_pack,
    conv_run,
    matmul_packed_floats,
    matmul_pack,
    matmul_run,
    winograd_packed_floats,
    winograd_pack,
    winograd_run,
    fake_quantize_run,
    quantize_run,
    minmax_run,
    find_not_finite_run,
    histogram_run,
    noise_block_run,
    exp_run,
    sigmoid_run,
    swish_run,
    tanh_run,
    erf_run,
    relu_run,
    weight_gradient_run,
    strided_gradient_run,
    block_sum_run,
    range_gradient_run,
    swish_gradient_run,
    fake_quantize_gradient_run,
    adam_run,
    momentum_run,
    soft_round_run,
    soft_round_gradient_run,
};
#endif
