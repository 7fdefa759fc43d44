/* The public face of update.h: shares for threads. */
#include "kernel/update.h"

#include "base/threads.h"
#include "kernel/plain.h"

#define GRAIN 16384 /* elements a thread takes at least */

typedef struct UpdateTask {
    const Kernels *kernels;
    const void *rule;
    float *values, *m, *v;
    const float *a, *b, *c;
} UpdateTask;

static void adam_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const UpdateTask *task = context;
    task->kernels->adam(task->rule, task->values + begin, task->m + begin, task->v + begin, task->a + begin, end - begin);
}

void adam_f32(const AdamF32 *adam, float *values, float *m, float *v, const float *gradient, int64_t count)
{
    UpdateTask task = {.kernels = kernels(), .rule = adam, .values = values, .m = m, .v = v, .a = gradient};
    threads_for(count, GRAIN, adam_body, &task);
}

static void momentum_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const UpdateTask *task = context;
    task->kernels->momentum(task->rule, task->values + begin, task->m ? task->m + begin : NULL, task->a + begin, end - begin);
}

void momentum_f32(const MomentumF32 *momentum, float *values, float *m, const float *gradient, int64_t count)
{
    UpdateTask task = {.kernels = kernels(), .rule = momentum, .values = values, .m = m, .a = gradient};
    threads_for(count, GRAIN, momentum_body, &task);
}

static void soft_round_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const UpdateTask *task = context;
    task->kernels->soft_round(task->rule, task->a + begin, task->b + begin, task->values + begin, end - begin);
}

void soft_round_f32(const SoftRoundF32 *round, const float *floors, const float *v, float *y, int64_t count)
{
    UpdateTask task = {.kernels = kernels(), .rule = round, .values = y, .a = floors, .b = v};
    threads_for(count, GRAIN, soft_round_body, &task);
}

static void soft_round_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const UpdateTask *task = context;
    task->kernels->soft_round_gradient(task->rule, task->a + begin, task->b + begin, task->c + begin, task->values + begin, end - begin);
}

void soft_round_gradient_f32(const SoftRoundF32 *round, const float *floors, const float *v, const float *dy, float *dv, int64_t count)
{
    UpdateTask task = {.kernels = kernels(), .rule = round, .values = dv, .a = floors, .b = v, .c = dy};
    threads_for(count, GRAIN, soft_round_gradient_body, &task);
}
