/* The list of all rows, one line a row, sorted by family. Adding an operator: its row in the family's file, its line here. */
#ifndef ESPQ_OPS_ROWS_H
#define ESPQ_OPS_ROWS_H

#include "graph/operator.h"

/* clang-format off */
#define OPERATOR_ROWS(ROW) \
    /* convolution */ \
    ROW(op_conv) \
    ROW(op_conv_transpose) \
    ROW(op_insert_zeros) \
    /* matrix products */ \
    ROW(op_gemm) \
    ROW(op_matmul) \
    /* pools */ \
    ROW(op_average_pool) \
    ROW(op_global_average_pool) \
    ROW(op_global_max_pool) \
    ROW(op_max_pool) \
    /* normalization */ \
    ROW(op_batch_normalization) \
    ROW(op_instance_normalization) \
    ROW(op_layer_normalization) \
    ROW(op_log_softmax) \
    ROW(op_lp_normalization) \
    ROW(op_rms_normalization) \
    ROW(op_softmax) \
    /* resizing */ \
    ROW(op_depth_to_space) \
    ROW(op_resize) \
    ROW(op_space_to_depth) \
    ROW(op_upsample) \
    /* recurrent */ \
    ROW(op_gru) \
    ROW(op_lstm) \
    /* elementwise */ \
    ROW(op_add) \
    ROW(op_div) \
    ROW(op_max) \
    ROW(op_mean) \
    ROW(op_min) \
    ROW(op_mod) \
    ROW(op_mul) \
    ROW(op_pow) \
    ROW(op_sub) \
    ROW(op_sum) \
    /* activations */ \
    ROW(op_celu) \
    ROW(op_clip) \
    ROW(op_elu) \
    ROW(op_gelu) \
    ROW(op_hard_sigmoid) \
    ROW(op_hard_swish) \
    ROW(op_leaky_relu) \
    ROW(op_mish) \
    ROW(op_prelu) \
    ROW(op_relu) \
    ROW(op_selu) \
    ROW(op_shrink) \
    ROW(op_sigmoid) \
    ROW(op_softplus) \
    ROW(op_softsign) \
    ROW(op_swish) \
    ROW(op_tanh) \
    ROW(op_thresholded_relu) \
    /* functions of one element */ \
    ROW(op_abs) \
    ROW(op_ceil) \
    ROW(op_cos) \
    ROW(op_erf) \
    ROW(op_exp) \
    ROW(op_floor) \
    ROW(op_log) \
    ROW(op_neg) \
    ROW(op_reciprocal) \
    ROW(op_round) \
    ROW(op_sign) \
    ROW(op_sin) \
    ROW(op_sqrt) \
    ROW(op_tan) \
    /* logic */ \
    ROW(op_and) \
    ROW(op_equal) \
    ROW(op_greater) \
    ROW(op_greater_or_equal) \
    ROW(op_is_inf) \
    ROW(op_is_nan) \
    ROW(op_less) \
    ROW(op_less_or_equal) \
    ROW(op_not) \
    ROW(op_or) \
    ROW(op_where) \
    ROW(op_xor) \
    /* other shapes */ \
    ROW(op_dropout) \
    ROW(op_flatten) \
    ROW(op_identity) \
    ROW(op_reshape) \
    ROW(op_squeeze) \
    ROW(op_unsqueeze) \
    /* moves */ \
    ROW(op_concat) \
    ROW(op_expand) \
    ROW(op_reverse_sequence) \
    ROW(op_split) \
    ROW(op_tile) \
    ROW(op_transpose) \
    /* parts */ \
    ROW(op_pad) \
    ROW(op_slice) \
    /* by index */ \
    ROW(op_gather) \
    ROW(op_gather_elements) \
    ROW(op_gather_nd) \
    ROW(op_scatter_elements) \
    ROW(op_scatter_nd) \
    /* reductions */ \
    ROW(op_reduce_l1) \
    ROW(op_reduce_l2) \
    ROW(op_reduce_log_sum) \
    ROW(op_reduce_log_sum_exp) \
    ROW(op_reduce_max) \
    ROW(op_reduce_mean) \
    ROW(op_reduce_min) \
    ROW(op_reduce_prod) \
    ROW(op_reduce_sum) \
    ROW(op_reduce_sum_square) \
    /* order */ \
    ROW(op_arg_max) \
    ROW(op_arg_min) \
    ROW(op_cum_sum) \
    ROW(op_top_k) \
    /* shape arithmetic and constants */ \
    ROW(op_constant) \
    ROW(op_constant_of_shape) \
    ROW(op_eye_like) \
    ROW(op_non_zero) \
    ROW(op_one_hot) \
    ROW(op_range) \
    ROW(op_shape) \
    ROW(op_size) \
    ROW(op_trilu) \
    /* number formats */ \
    ROW(op_cast) \
    ROW(op_cast_like) \
    ROW(op_dequantize_linear) \
    ROW(op_lut) \
    ROW(op_quantize_linear) \
    ROW(op_requantize_linear) \
    ROW(op_streaming_cache) \
    /* list end */
/* clang-format on */

#define OPERATOR_DECLARE(row) extern const Operator row;
OPERATOR_ROWS(OPERATOR_DECLARE)
#undef OPERATOR_DECLARE

#endif
