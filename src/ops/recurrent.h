/* What GRU and LSTM prepare (recurrent.c) and walk (recurrent_run.c). */
#ifndef ESPQ_OPS_RECURRENT_H
#define ESPQ_OPS_RECURRENT_H

#include "graph/operator.h"
#include "kernel/float32.h"

typedef struct Recurrent {
    int64_t gates; /* 3: GRU, 4: LSTM */
    int64_t steps, batch, inputs, hidden, directions;
    bool batch_first; /* layout 1: X [batch, steps, inputs] */
    bool backward;    /* the one direction is "reverse" */
    bool simulated, wide, linear_before_reset;
    float clip;   /* of what goes into the activations; 0: none */
    float *w, *r; /* packed weights, a direction behind the other; NULL: packed at run time */
    size_t x_at, r_at, room_at, cell_at[3], w_packed_at, r_packed_at; /* in scratch */
} Recurrent;

/* Of one direction's weights [gates * hidden][inputs], a multiple of 64. */
size_t recurrent_packed_bytes(const Recurrent *recurrent, int64_t inputs);
void recurrent_run(const Run *run);

#endif
