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
    /* list end */
/* clang-format on */

#define OPERATOR_DECLARE(row) extern const Operator row;
OPERATOR_ROWS(OPERATOR_DECLARE)
#undef OPERATOR_DECLARE

#endif
