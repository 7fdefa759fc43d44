/* Inside of the room: plans that are kept while shapes stay the same, and values of the graph collected over all data. */
#ifndef ESPQ_OPTIM_RUN_H
#define ESPQ_OPTIM_RUN_H

#include "exec/feed.h"
#include "exec/plan.h"

typedef struct Runner {
    Graph *graph;
    PlanOptions options; /* what they point to lives as long as the runner */
    Plan *plan;          /* of the last run */
    Shape *shapes;
} Runner;

bool runner_run(Runner *runner, Tensor *const *inputs, Tensor **outputs, Error *error); /* see plan_run */
bool runner_refresh(Runner *runner, Error *error);                                      /* constants or slots have changed */
void runner_end(Runner *runner);

/* The values of every batch, from a float run and from a simulated one. They are kept as far as the memory limit goes; beyond it every
 * visit walks the data and runs the graph again, which gives the same numbers as long as nothing before these values changes. */
typedef struct Harvest {
    Graph *graph;
    Batches *batches;
    Runner floating, simulated; /* what they want: count may be 0 */
    size_t limit;               /* bytes; 0: 256 MB */
    Tensor **kept;              /* [batch][floating then simulated] */
    size_t kept_count, kept_capacity, kept_bytes;
    bool walked, whole; /* whole: all batches are kept */
    int64_t batch_count;
} Harvest;

typedef bool (*HarvestVisit)(void *context, int64_t batch, Tensor *const *floating, Tensor *const *simulated, Error *error);

/* Lists belong to the caller and outlive the harvest. */
void harvest_begin(Harvest *harvest, Graph *graph, Batches *batches, bool exact, Value *const *floating, int floating_count,
                   Value *const *simulated, int simulated_count);
bool harvest_each(Harvest *harvest, HarvestVisit visit, void *context, Error *error);
void harvest_end(Harvest *harvest);

#endif
