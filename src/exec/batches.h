/* Calibration data as the engine sees it: batches that can be walked again. The binding fills it from a Lua loader. */
#ifndef ESPQ_EXEC_BATCHES_H
#define ESPQ_EXEC_BATCHES_H

#include "tensor/tensor.h"

typedef struct Batches {
    void *context;
    int input_count;                /* graph inputs, in the graph's order */
    /* Start a walk. */
    bool (*begin)(void *context, Error *error);
    /* The next batch: inputs[0 … input_count-1], each with one reference for the caller, float32 or the input's own integer type.
     * *done when the walk is over. Checked by exec/batches.c: rank, sizes, dtype, finite numbers. */
    bool (*next)(void *context, Tensor **inputs, bool *done, Error *error);
} Batches;

#endif
