/* Inside of the room: what GRU and LSTM compute a gate from (CHIP §2.20). */
#ifndef ESPQ_CHIP_GATES_H
#define ESPQ_CHIP_GATES_H

#include "chip/module.h"

typedef struct GateTables { /* sigmoid and tanh at multiples of the gates' step, from 0 */
    int sigmoid_last, tanh_last;
    float *sigmoid, *tanh; /* one block, which sigmoid begins */
} GateTables;

bool gate_tables_make(GateTables *tables, int exponent, Error *error); /* the caller frees tables->sigmoid with memory_free */
float gate_sigmoid(const GateTables *tables, int64_t index);
float gate_tanh(const GateTables *tables, int64_t index);

/* The runtime's own functions of floats: the sigmoid in double, tanh through it (C38, C28). */
float chip_sigmoid(float x);
float chip_tanh(float x);

/* Sum of w[i] * x[i], shifted right, as 16 bits; bits: of w and x. */
int64_t gate_product(const Chip *chip, int bits, const void *w, const void *x, int64_t length, int shift);

#endif
