/* The AVX2 variant. */
#if defined(__x86_64__)
#include <stdbool.h>
#include <string.h>

#include "base/threads.h"
#include "kernel/plain.h"
#include "kernel/simd_avx2.h"
#include "kernel/transpose.h"

#include "kernel/tile.h"
#include "kernel/product.h"
#define D(name) v_##name
#define D_LANES LANES
#include "kernel/depthwise3.h"
#undef D
#undef D_LANES
#include "kernel/depthwise.h"
#include "kernel/convolution.h"

const Kernels kernels_avx2 = {
    conv_packed_floats, conv_pack, conv_run, matmul_packed_floats, matmul_pack, matmul_run,
    plain_fake_quantize, plain_quantize, plain_minmax, plain_find_not_finite, plain_histogram, plain_noise_block,
    plain_exp, plain_sigmoid, plain_swish, plain_tanh, plain_erf,
};
#endif
