/* Inside of the room: plans that are kept while shapes stay the same, and data up to a number of batches. */
#ifndef ESPQ_OPTIM_RUN_H
#define ESPQ_OPTIM_RUN_H

#include "exec/batches.h"
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

/* The first `most` batches of the user's (0: all), as batches of their own (OPTIM O7). */
typedef struct FirstBatches {
    Batches batches;
    Batches *all;
    int64_t most, read;
} FirstBatches;

Batches *first_batches(FirstBatches *first, Batches *all, int64_t most);

#endif
