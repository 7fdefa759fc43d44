#include "train/schedule.h"

#include <string.h>

#include "base/math.h"
#include "base/text.h"

#define PI 3.14159265358979323846

static double constant_factor(const Schedule *schedule, int64_t step, int64_t steps)
{
    (void)schedule;
    (void)step;
    (void)steps;
    return 1;
}

static double cosine_factor(const Schedule *schedule, int64_t step, int64_t steps)
{
    double done = steps > 1 ? (double)step / (double)(steps - 1) : 0;
    return schedule->end + (1 - schedule->end) * 0.5 * (1 + espq_cos(PI * done));
}

static double step_factor(const Schedule *schedule, int64_t step, int64_t steps)
{
    (void)steps;
    return schedule->every > 0 ? espq_pow(schedule->factor, (double)(step / schedule->every)) : 1;
}

static const ScheduleRow rows[] = {
    {"constant", "the same rate at every step", constant_factor},
    {"cosine", "down to rate * end along half a cosine", cosine_factor},
    {"step", "times factor after every so many steps", step_factor},
};

#define ROWS ((int)(sizeof rows / sizeof *rows))

const ScheduleRow *schedule_row_at(int index)
{
    return index >= 0 && index < ROWS ? &rows[index] : NULL;
}

const ScheduleRow *schedule_find(const char *name, Error *error)
{
    const char *names[ROWS];
    for (int i = 0; i < ROWS; i++) {
        names[i] = rows[i].name;
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    }
    int nearest = text_nearest(name, names, ROWS);
    fail(error, name, "constant, cosine or step", "there is no schedule '%s' (did you mean '%s'?)", name, names[nearest < 0 ? 0 : nearest]);
    return NULL;
}

double schedule_rate(const Schedule *schedule, int64_t step)
{
    if (step < schedule->warmup) return schedule->rate * (double)(step + 1) / (double)schedule->warmup;
    return schedule->rate * schedule->row->factor(schedule, step - schedule->warmup, schedule->steps - schedule->warmup);
}
