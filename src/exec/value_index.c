#include "exec/value_index.h"

#include <stdlib.h>

#include "base/memory.h"

static int by_address(const void *a, const void *b)
{
    const struct ValuePlace *left = a, *right = b;
    return (uintptr_t)left->value < (uintptr_t)right->value ? -1 : (uintptr_t)left->value > (uintptr_t)right->value;
}

bool value_index_make(ValueIndex *index, const Graph *graph, Error *error)
{
    index->count = 0;
    index->places = memory_new_array((size_t)graph->value_count + 1, sizeof *index->places);
    if (!index->places) return fail_memory(error, (size_t)graph->value_count * sizeof *index->places);
    for (int i = 0; i < graph->value_count; i++)
        index->places[i] = (struct ValuePlace){graph->values[i], i};
    index->count = graph->value_count;
    qsort(index->places, (size_t)index->count, sizeof *index->places, by_address);
    return true;
}

void value_index_free(ValueIndex *index)
{
    memory_free(index->places);
    *index = (ValueIndex){0};
}

int value_index_of(const ValueIndex *index, const Value *value)
{
    int low = 0, high = index->count - 1;
    while (low <= high) {
        int middle = (low + high) / 2;
        if (index->places[middle].value == value) return index->places[middle].place;
        if ((uintptr_t)index->places[middle].value < (uintptr_t)value)
            low = middle + 1;
        else
            high = middle - 1;
    }
    return -1;
}
