#include "optim/run.h"

#include "base/memory.h"

static int input_count(const Runner *runner)
{
    return runner->options.given ? runner->options.given_count : runner->graph->input_count;
}

void runner_end(Runner *runner)
{
    plan_free(runner->plan);
    memory_free(runner->shapes);
    runner->plan = NULL;
    runner->shapes = NULL;
}

bool runner_refresh(Runner *runner, Error *error)
{
    return !runner->plan || plan_refresh(runner->plan, error);
}

static bool has_shapes(const Runner *runner, Tensor *const *inputs)
{
    if (!runner->plan) return false;
    for (int i = 0; i < input_count(runner); i++)
        if (!shape_equal(&runner->shapes[i], &inputs[i]->shape)) return false;
    return true;
}

bool runner_run(Runner *runner, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    if (!has_shapes(runner, inputs)) {
        int count = input_count(runner);
        runner_end(runner);
        runner->shapes = memory_new_array((size_t)count + 1, sizeof *runner->shapes);
        if (!runner->shapes) return fail_memory(error, (size_t)count * sizeof *runner->shapes);
        for (int i = 0; i < count; i++)
            runner->shapes[i] = inputs[i]->shape;
        if (!(runner->plan = plan_new(runner->graph, &runner->options, runner->shapes, error))) return false;
    }
    return plan_run(runner->plan, inputs, outputs, error);
}

static bool first_begin(void *context, Error *error)
{
    FirstBatches *first = context;
    first->read = 0;
    return first->all->begin(first->all->context, error);
}

static bool first_next(void *context, Tensor **inputs, bool *done, Error *error)
{
    FirstBatches *first = context;
    *done = first->most > 0 && first->read >= first->most;
    if (*done) return true;
    first->read++;
    return first->all->next(first->all->context, inputs, done, error);
}

Batches *first_batches(FirstBatches *first, Batches *all, int64_t most)
{
    *first = (FirstBatches){.batches = {first, all->input_count, first_begin, first_next}, .all = all, .most = most};
    return &first->batches;
}
