/* What the files of this room share: growing arrays in the arena, dropping one consumer edge. */
#ifndef ESPQ_GRAPH_STORAGE_H
#define ESPQ_GRAPH_STORAGE_H

#include "graph/graph.h"

/* Room for one more item in *(void **)array; false when memory ends. */
bool graph_reserve(Graph *graph, void *array, int count, int *capacity, size_t item_bytes);
void link_drop_use(Node *node, int index); /* node no longer reads its input `index` (the entry becomes NULL) */

#endif
