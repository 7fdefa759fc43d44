/* Batches 0 … steps of the data, handed out in chunks that are worth a walk: small batches joined, large ones cut. Figures are kept
 * by unit (the samples of one traced batch), and the feed knows which units make a batch. */
#ifndef ESPQ_ANALYSE_FEED_H
#define ESPQ_ANALYSE_FEED_H

#include "exec/batches.h"

typedef struct Chunk {
    Tensor **inputs; /* one a graph input; belong to the feed */
    Shape *shapes;
    int64_t samples;
    int units, first_unit; /* how many, and the first one's number over the whole feed */
} Chunk;

typedef struct Feed {
    Graph *graph;
    BatchWalk walk;
    int steps;
    bool whole;          /* a chunk is a batch */
    int64_t traced;      /* samples of the traced batch */
    Tensor **batch;      /* read, not handed out yet; NULL: none */
    int64_t left, taken; /* of it, in samples */
    bool joins;          /* it can be joined with others and cut */
    bool over;
    int *batch_units; /* one a batch */
    size_t batch_count, batch_capacity;
    int units; /* handed out */
    Chunk chunk;
} Feed;

bool feed_begin(Feed *feed, Graph *graph, Batches *batches, int steps, bool whole, Error *error);
const Chunk *feed_next(Feed *feed, bool *failed, Error *error); /* NULL: over, or failed; lives until the next call */
void feed_end(Feed *feed);

#endif
