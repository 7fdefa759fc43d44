/* Inside of the room: SSD equalization, the loss of a path of operators quantized on its own (OPTIM §4). */
#ifndef ESPQ_OPTIM_SSD_H
#define ESPQ_OPTIM_SSD_H

#include "exec/cache.h"
#include "optim/layers.h"
#include "optim/run.h"

typedef struct Path { /* from one layer to the next over operators with one consumer each */
    Graph *graph;
    Node **nodes;
    int count;
    Layer first, last;
    Value *input, *middle, *output; /* of the first layer, behind it, behind the last */
} Path;

typedef struct PathLoss {
    Path *path;
    const PassContext *context;
    Cache *cache;        /* the float values of the path's input, at its stop */
    int64_t calibrating; /* batches that ranges and exponents are taken from */
    Runner floating, simulated, watched;
    Watcher watcher;
    struct Observer **observers; /* one an end of the path that waits: node by node, inputs then outputs */
    int input_exponent;          /* of the path's input, the same for all losses; known once it was observed */
    bool input_known;
    int end_count;
    double loss;
    int64_t batches;
    float *range; /* one a channel: see path_loss_range */
} PathLoss;

/* stop: of the path, in a cache that others use as well. */
bool path_loss_begin(PathLoss *loss, Path *path, const PassContext *context, Cache *cache, int stop, Error *error);
/* Largest positive output of the first layer, one a channel, averaged over the calibrating batches. */
bool path_loss_range(PathLoss *loss, float *range, Error *error);
/* Mean squared error of the path, quantized operator by operator without fusion. Slots wait again afterwards. */
bool path_loss_find(PathLoss *loss, double *value, Error *error);
void path_loss_end(PathLoss *loss);

#endif
