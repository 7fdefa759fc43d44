/* Calibration data as the engine sees it: batches that can be walked again. The binding fills it from a Lua loader. */
#ifndef ESPQ_EXEC_BATCHES_H
#define ESPQ_EXEC_BATCHES_H

#include "graph/graph.h"

typedef struct Batches {
    void *context;
    int input_count; /* graph inputs, in the graph's order */
    /* Start a walk. */
    bool (*begin)(void *context, Error *error);
    /* The next batch: inputs[0 … input_count-1], each with one reference for the caller, float32 or the input's own integer type.
     * *done when the walk is over. Checked by exec/batches.c: rank, sizes, dtype, finite numbers. */
    bool (*next)(void *context, Tensor **inputs, bool *done, Error *error);
} Batches;

/* A checked walk over the data for a graph: what `next` gives is refused with a cure unless it fits the graph's inputs (rank, sizes
 * but for the first, type, the same number of samples, finite numbers, not empty). Doubles become float32, and whole numbers an
 * integer input's type. */
typedef struct BatchWalk {
    const Graph *graph;
    Batches *batches;
    int64_t batch_count, sample_count; /* read so far */
    int64_t samples;                   /* of the batch read last */
    struct InputWatch *watches;        /* one an input: what is remarkable about its data */
} BatchWalk;

bool batch_walk_begin(BatchWalk *walk, const Graph *graph, Batches *batches, Error *error);
/* inputs: each with a reference for the caller. *done: the walk is over, nothing was read; fails when it is over before it began. */
bool batch_walk_next(BatchWalk *walk, Tensor **inputs, bool *done, Error *error);
/* What the user should know about the data seen so far, one note each: all zero, all equal, one sample only, one that stretches the range. */
void batch_walk_note(const BatchWalk *walk, Graph *graph);
void batch_walk_end(BatchWalk *walk); /* works on a walk that never began, too */

#endif
