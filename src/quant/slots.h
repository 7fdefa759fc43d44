/* Ready-made `slots` columns for operator rows, and what they are built of. This header knows rows and slots, no driver.
 *
 * Most rows need no column. The pass `slots` (QUANT §4.3) does by itself, from the rest of the row:
 *   - every end: INITIAL, percentile, the platform's bits, the target's rounding, 32 * 2^(bits-1) bins unless it is a parameter;
 *   - ends named by float_inputs and float_outputs, and ends left out: FP32 (Softmax's output, RMSNormalization's scale, Reshape's shape);
 *   - OPERATOR_WEIGHTED: the weight per channel (axis 0) where the platform says so, the last of more than two inputs
 *     a bias with the platform's bias bits, PASSIVE_INIT;
 *   - scaled_inputs (Clip's bounds, Pad's value; they are float_inputs too): the pass `passive` lets them follow input 0.
 * A column runs after that and changes what is special. */
#ifndef ESPQ_QUANT_SLOTS_H
#define ESPQ_QUANT_SLOTS_H

#include "graph/operator.h"

#define ESPQ_RECURRENT_BITS 16
#define ESPQ_RECURRENT_EXPONENT (-9) /* of GRU's and LSTM's biases and cell states (QUANT §7.2, §10.4) */

/* Columns. */
bool slots_gemm(Graph *graph, Node *node, Error *error);           /* channels of the weight on axis 1 unless transB */
bool slots_conv_transpose(Graph *graph, Node *node, Error *error); /* weights [Cin, Cout/g, …]: channels on axis 1 */
bool slots_gru(Graph *graph, Node *node, Error *error);            /* input 3 (bias), output 2 if any: 16 bits, PASSIVE_INIT */
bool slots_lstm(Graph *graph, Node *node, Error *error);           /* inputs 3 (bias) and 6 (initial_c), output 2 if any: the same */

/* Full signed range of `bits`. */
void slot_set_width(Slot *slot, int bits);
/* An end that waits for an exponent that follows from others: width, PASSIVE_INIT, observer "minmax". FP32 ends (left out) stay. */
void slot_wait(Slot *slot, int bits);

#endif
