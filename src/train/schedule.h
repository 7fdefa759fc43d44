/* Schedules: the learning rate of a step. */
#ifndef ESPQ_TRAIN_SCHEDULE_H
#define ESPQ_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "base/error.h"

typedef struct Schedule Schedule;

/* Rows, found by name: "constant"; "cosine": from rate down to rate * end at the last step, along half a cosine; "step": times `factor`
 * after every `every` steps. All rise from 0 to rate over the first `warmup` steps. */
typedef struct ScheduleRow {
    const char *name, *help;
    double (*factor)(const Schedule *schedule, int64_t step, int64_t steps); /* steps behind the warmup */
} ScheduleRow;

struct Schedule {
    const ScheduleRow *row;
    double rate;
    int64_t steps, warmup; /* steps: all, those of the warmup among them */
    double end;            /* cosine */
    double factor;         /* step */
    int64_t every;         /* step */
};

const ScheduleRow *schedule_row_at(int index);                    /* NULL behind the last */
const ScheduleRow *schedule_find(const char *name, Error *error); /* an unknown name fails with the nearest */
double schedule_rate(const Schedule *schedule, int64_t step);     /* of step 0 … steps - 1 */

#endif
