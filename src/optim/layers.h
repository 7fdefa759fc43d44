/* Inside of the room: layers, their weights as channels, and the names of layers in settings. */
#ifndef ESPQ_OPTIM_LAYERS_H
#define ESPQ_OPTIM_LAYERS_H

#include "graph/pass.h"
#include "quant/setting.h"

/* The nodes a list names, in its order. Unknown names fail with the nearest; a node that was folded away gets a note. *nodes is freed
 * by the caller with memory_free. */
bool layers_named(Graph *graph, const SettingList *list, const char *setting, Node ***nodes, int *count, Error *error);
/* Fails when the graph has slots: what they were calibrated for is about to change. */
bool layers_unquantized(const Graph *graph, const char *pass, Error *error);
/* Fails when constants are baked: they run as they are, and would leave their steps. */
bool layers_unbaked(const Graph *graph, const char *pass, Error *error);

bool is_layer(const Node *node); /* Conv, ConvTranspose, Gemm */

/* A weight as [groups][first][second][inner]. Conv: output channels come first within a group, input channels second; ConvTranspose and
 * a Gemm without transB the other way round. */
typedef struct Lattice {
    int64_t groups, first, second, inner;
    bool outputs_first;
} Lattice;

typedef struct Layer {
    Node *node;
    Lattice lattice;
    Tensor *weight, *bias; /* the graph's; bias NULL: none */
    bool owned;            /* both belong to this layer alone and may be written to */
} Layer;

/* false: its weight or bias is no float32 constant, or has no shape that a channel could be found in. */
bool layer_read(Layer *layer, Node *node);
/* Copies of weight and bias that nobody else has; a constant that several nodes read is parted. */
bool layer_own(Graph *graph, Layer *layer, Error *error);
int64_t layer_channels(const Layer *layer, bool outputs);
/* keys[c] = max(keys[c], max |weight| of channel c). swapped: the reference's order of the channels of groups (OPTIM O4). */
void layer_keys(const Layer *layer, bool outputs, bool swapped, float *keys);
/* Output channels of weight and bias times scale[c], or input channels of the weight divided by it. */
void layer_scale(Layer *layer, bool outputs, const float *scale);

/* `tensor` in place of a node's constant input, for this node alone: a constant that several nodes read is parted. */
bool layer_set_constant(Graph *graph, Node *node, int index, Tensor *tensor, Error *error);

double root_mean_square(const float *x, int64_t count); /* 0.01 where all are 0 */

#endif
