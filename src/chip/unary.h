/* Inside of the room: what unary.c and prelu.c share. */
#ifndef ESPQ_CHIP_UNARY_H
#define ESPQ_CHIP_UNARY_H

#include "chip/module.h"

/* A table that can be used at the node's width: 256 entries of int8, or 65536 / step + 1 of int16 (65536 at step 1). *step_bits: log2
 * of the step. */
bool unary_table(const ChipNode *node, int *step_bits, Error *error);

bool prelu_prepare(ChipNode *node, Error *error);
void prelu_run(const ChipRun *run);

#endif
