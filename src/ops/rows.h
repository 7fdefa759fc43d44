/* The list of all rows, one line a row, sorted by family. Adding an operator: its row in the family's file, its line here. */
#ifndef ESPQ_OPS_ROWS_H
#define ESPQ_OPS_ROWS_H

#include "graph/operator.h"

/* clang-format off */
#define OPERATOR_ROWS(ROW) \
    /* list end */
/* clang-format on */

#define OPERATOR_DECLARE(row) extern const Operator row;
OPERATOR_ROWS(OPERATOR_DECLARE)
#undef OPERATOR_DECLARE

#endif
