/* Inside of the room: a quantized graph cut into blocks with one entry and one exit (OPTIM §6.1). */
#ifndef ESPQ_OPTIM_BLOCKS_H
#define ESPQ_OPTIM_BLOCKS_H

#include "graph/graph.h"

typedef struct Block {
    Node *first, *last;
    Node **nodes; /* on any path from first to last, in order of execution */
    int node_count;
} Block;

typedef struct Blocks {
    Block *items;
    int count;
} Blocks;

/* Blocks start at computing quantized nodes, in order of execution (O8), span at most `size` steps of depth, and never overlap. Everything
 * that reads or feeds the inside of a block lies in it (O17). */
bool blocks_find(Blocks *blocks, const Graph *graph, int64_t size, Error *error);
/* Only those that hold one of the nodes. */
void blocks_keep(Blocks *blocks, Node *const *nodes, int count);
void blocks_free(Blocks *blocks);

#endif
