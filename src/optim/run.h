/* Inside of the room: plans that are kept while shapes stay the same. */
#ifndef ESPQ_OPTIM_RUN_H
#define ESPQ_OPTIM_RUN_H

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

#endif
