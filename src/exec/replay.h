/* What a layer's quantization alone does to the outputs (QUANT §12.4). The float values of one walk are kept; then, for one layer
 * after the other, that layer runs simulated on the kept values and only what lies behind it is run again, in float. Layers are
 * spread over threads. */
#ifndef ESPQ_EXEC_REPLAY_H
#define ESPQ_EXEC_REPLAY_H

#include "graph/graph.h"

typedef struct ReplayOptions {
    bool exact;          /* onnx_exact_ops, see Prepare */
    Node *const *layers; /* quantized nodes */
    int layer_count;
    size_t memory_limit; /* bytes of kept values; as many samples as fit are walked at a time */
} ReplayOptions;

/* One graph output of one piece of the batch, both ways. Called from several threads; never twice for the same layer, output and
 * sample. */
typedef struct Replayed {
    int layer, output;
    int64_t sample, samples; /* which samples of the batch these are */
    const Tensor *floating, *replayed;
} Replayed;

typedef struct Replay Replay;

/* shapes: one a graph input, of the whole batch (any number of samples, see plan_new). */
Replay *replay_new(Graph *graph, const ReplayOptions *options, const Shape *shapes, Error *error);
bool replay_run(Replay *replay, Tensor *const *inputs, void (*compare)(void *context, const Replayed *replayed), void *context,
                Error *error);
void replay_free(Replay *replay); /* NULL is fine */

#endif
