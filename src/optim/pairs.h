/* Inside of the room: groups of layers that share the channels of the tensors between them (OPTIM §1.2). */
#ifndef ESPQ_OPTIM_PAIRS_H
#define ESPQ_OPTIM_PAIRS_H

#include "optim/layers.h"

typedef struct Pair {
    int *up, *down, *relays; /* places in Pairs.layers and in Graph.nodes */
    int up_count, down_count, relay_count;
    int64_t channels;
} Pair;

typedef struct Pairs {
    Graph *graph;
    Layer *layers;       /* one a node, in graph order; node NULL: not part of a pair */
    float **activations; /* one a node: largest |output| of each channel; NULL: not collected */
    bool *candidates;    /* one a node: it was named, or nothing was */
    int node_count;
    Pair *items;
    int count;
    size_t capacity;
    int refused; /* would be one, but scaling it would change the function */
} Pairs;

/* Unlike the reference, no pair is taken whose scaling would change what the network computes (O1 to O3): where a constant or a graph
 * input comes in between, where a tensor in between is a graph output, or where not all readers and writers are layers. */
bool pairs_find(Pairs *pairs, Graph *graph, const LayerSplitSetting *setting, const char *setting_name, Error *error);
void pairs_free(Pairs *pairs);

/* Largest |output| of each channel of each candidate over the first 18 batches (the reference's number), in float. */
bool pairs_collect_activations(Pairs *pairs, const PassContext *context, Error *error);
/* Keys of the layers before and behind, channels of them each. */
void pair_keys(const Pairs *pairs, const Pair *pair, const LayerSplitSetting *setting, bool swapped, float *up, float *down);

#endif
