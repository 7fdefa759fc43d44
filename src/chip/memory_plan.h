/* Where the runtime's greedy memory manager puts every tensor, and when each is alive (CHIP §3.2, §3.3): the same offsets as on the chip. */
#ifndef ESPQ_CHIP_MEMORY_PLAN_H
#define ESPQ_CHIP_MEMORY_PLAN_H

#include "graph/graph.h"

typedef struct MemoryTensor {
    const Value *value;
    int64_t bytes;  /* of its elements, not rounded up */
    int begin, end; /* alive in steps begin … end - 1, where step i is node i; end -1: to the end of the run */
    int leader;     /* the tensor in whose memory it lies (always one with leader -1); -1: it has its own */
    bool internal;  /* in the internal pool */
    int64_t offset; /* from the start of its pool */
} MemoryTensor;

typedef struct MemoryPlan {
    MemoryTensor *tensors; /* in the order in which the runtime numbers them: by first appearance in the order of nodes */
    int count, steps;
    int64_t variable_bytes; /* of the one pool; with an internal pool: what is in PSRAM */
    int64_t internal_bytes; /* of the internal pool, which is allocated whole; 0: there is none */
    int64_t live_bytes;     /* the most that is alive at one step: no plan can do with less */
    int live_step;          /* the first step at which it is */
} MemoryPlan;

typedef struct MemoryPlanOptions {
    Node *const *order; /* of execution; NULL: as the graph lists them, which is the file's order */
    int count;
    int64_t max_internal_bytes; /* as the runtime's max_internal_size: at most 16 means one pool only */
    /* The shape of a value as the modules compute it; NULL, or a NULL result: as recorded. */
    const Shape *(*shape)(const void *context, const Value *value);
    const void *context;
} MemoryPlanOptions;

/* On a device graph. Fails when a size is not known or impossible, or memory ends. */
bool memory_plan(const Graph *device, const MemoryPlanOptions *options, MemoryPlan *plan, Error *error);
void memory_plan_free(MemoryPlan *plan);

#endif
