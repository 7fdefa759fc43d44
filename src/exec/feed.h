/* Data handed out in chunks that are worth a walk. Figures are kept by unit (the samples of one traced batch), and the feed knows which
 * units make a batch. */
#ifndef ESPQ_EXEC_FEED_H
#define ESPQ_EXEC_FEED_H

#include "exec/batches.h"

#define ESPQ_FEED_ALL INT64_MAX

typedef enum {
    FEED_BATCHES, /* a chunk is a batch */
    FEED_JOINED,  /* batches of one unit are joined, larger ones are chunks of their own */
    FEED_UNITS    /* small batches are joined, large ones cut */
} FeedMode;

typedef struct Chunk {
    Tensor **inputs; /* one a graph input; belong to the feed */
    Shape *shapes;
    int64_t samples;
    int units, first_unit; /* how many, and the first one's number over the whole feed */
    bool joined;           /* several batches of one unit each */
} Chunk;

typedef struct Feed {
    Graph *graph;
    BatchWalk walk;
    int64_t most; /* batches to read */
    FeedMode mode;
    int64_t traced;      /* samples of the traced batch */
    Tensor **batch;      /* read, not all handed out yet */
    int64_t left, taken; /* of it, in samples */
    bool joins;          /* it may share a chunk with others */
    bool over;
    struct FeedPart *parts; /* what the chunk at hand is made of */
    int part_count;
    int *batch_units; /* one a batch */
    size_t batch_count, batch_capacity;
    Chunk chunk;
} Feed;

bool feed_begin(Feed *feed, Graph *graph, Batches *batches, int64_t most, FeedMode mode, Error *error);
const Chunk *feed_next(Feed *feed, bool *failed, Error *error); /* NULL: over, or failed; lives until the next call */
void feed_end(Feed *feed);

/* Of the shapes that the graph was traced with? */
bool chunk_is_traced(const Chunk *chunk, const Graph *graph);
/* A batch of another size is cut along the first axis, which inside of a sequence is no axis of samples: is there one in the graph? */
bool graph_has_sequence(const Graph *graph);

#endif
