/* Where in graph->values a value stands. */
#ifndef ESPQ_EXEC_VALUE_INDEX_H
#define ESPQ_EXEC_VALUE_INDEX_H

#include "graph/graph.h"

typedef struct ValueIndex {
    struct ValuePlace {
        const Value *value;
        int place;
    } * places; /* sorted by address */
    int count;
} ValueIndex;

bool value_index_make(ValueIndex *index, const Graph *graph, Error *error);
void value_index_free(ValueIndex *index);
int value_index_of(const ValueIndex *index, const Value *value); /* -1: no value of the graph, as it was when the index was made */

#endif
