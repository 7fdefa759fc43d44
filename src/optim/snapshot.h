/* Inside of the room: constants and slots of a graph as they were, for a pass that may have to take back what it did. */
#ifndef ESPQ_OPTIM_SNAPSHOT_H
#define ESPQ_OPTIM_SNAPSHOT_H

#include "graph/graph.h"

typedef struct Snapshot {
    Graph *graph;
    struct SnapshotValue *values;
    Slot *slots;
    int value_count;
} Snapshot;

/* Costs no memory for tensors until constants are replaced. The graph's nodes and values must stay. */
bool snapshot_take(Snapshot *snapshot, Graph *graph, Error *error);
void snapshot_restore(const Snapshot *snapshot); /* cannot fail; works again later */
void snapshot_free(Snapshot *snapshot);          /* all zero is fine */

#endif
