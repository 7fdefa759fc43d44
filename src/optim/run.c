#include "optim/run.h"

#include "base/cancel.h"
#include "base/memory.h"

#define DEFAULT_LIMIT ((size_t)256 << 20)

/* ---- runner ---- */

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

/* ---- harvest ---- */

void harvest_begin(Harvest *harvest, Graph *graph, Batches *batches, bool exact, Value *const *floating, int floating_count,
                   Value *const *simulated, int simulated_count)
{
    *harvest = (Harvest){.graph = graph, .batches = batches, .limit = DEFAULT_LIMIT, .whole = true};
    harvest->floating =
        (Runner){.graph = graph, .options = {.mode = EXEC_FLOAT, .exact = exact, .wanted = floating, .wanted_count = floating_count}};
    harvest->simulated =
        (Runner){.graph = graph, .options = {.mode = EXEC_SIMULATED, .exact = exact, .wanted = simulated, .wanted_count = simulated_count}};
}

static size_t row_length(const Harvest *harvest)
{
    return (size_t)(harvest->floating.options.wanted_count + harvest->simulated.options.wanted_count);
}

static void drop_kept(Harvest *harvest)
{
    for (size_t i = 0; i < harvest->kept_count * row_length(harvest); i++)
        tensor_release(harvest->kept[i]);
    memory_free(harvest->kept);
    harvest->kept = NULL;
    harvest->kept_count = harvest->kept_capacity = harvest->kept_bytes = 0;
}

/* Gives the references of `row` to the harvest, or back. */
static bool keep_row(Harvest *harvest, Tensor **row, Error *error)
{
    size_t length = row_length(harvest);
    for (size_t i = 0; i < length; i++)
        harvest->kept_bytes += tensor_bytes(row[i]);
    if (harvest->kept_bytes > harvest->limit) harvest->whole = false;
    if (!harvest->whole) {
        drop_kept(harvest);
        return true;
    }
    Tensor **grown = memory_grow(harvest->kept, harvest->kept_count, &harvest->kept_capacity, length * sizeof *grown);
    if (!grown) return fail_memory(error, length * sizeof *grown);
    harvest->kept = grown;
    for (size_t i = 0; i < length; i++)
        grown[harvest->kept_count * length + i] = tensor_retain(row[i]);
    harvest->kept_count++;
    return true;
}

static bool visit_batch(Harvest *harvest, Tensor *const *inputs, Tensor **row, HarvestVisit visit, void *context, Error *error)
{
    int floating = harvest->floating.options.wanted_count, simulated = harvest->simulated.options.wanted_count;
    size_t length = row_length(harvest);
    for (size_t i = 0; i < length; i++)
        row[i] = NULL;
    bool ok = (!floating || runner_run(&harvest->floating, inputs, row, error)) &&
              (!simulated || runner_run(&harvest->simulated, inputs, row + floating, error));
    if (ok && !harvest->walked && harvest->whole) ok = keep_row(harvest, row, error);
    ok = ok && visit(context, harvest->batch_count, row, row + floating, error);
    for (size_t i = 0; i < length; i++)
        tensor_release(row[i]);
    harvest->batch_count++;
    return ok;
}

static bool walk_data(Harvest *harvest, HarvestVisit visit, void *context, Error *error)
{
    Feed feed = {0};
    Tensor **row = memory_new_array(row_length(harvest) + 1, sizeof *row);
    if (!row) return fail_memory(error, row_length(harvest) * sizeof *row);
    harvest->batch_count = 0;
    bool failed = !feed_begin(&feed, harvest->graph, harvest->batches, ESPQ_FEED_ALL, FEED_BATCHES, error);
    for (const Chunk *chunk; !failed && (chunk = feed_next(&feed, &failed, error));)
        failed = !cancel_check(error) || !visit_batch(harvest, chunk->inputs, row, visit, context, error);
    feed_end(&feed);
    memory_free(row);
    harvest->walked = harvest->walked || !failed;
    return !failed;
}

bool harvest_each(Harvest *harvest, HarvestVisit visit, void *context, Error *error)
{
    if (!harvest->walked || !harvest->whole) {
        if (!runner_refresh(&harvest->floating, error) || !runner_refresh(&harvest->simulated, error)) return false;
        return walk_data(harvest, visit, context, error);
    }
    int floating = harvest->floating.options.wanted_count;
    for (size_t i = 0; i < harvest->kept_count; i++) {
        Tensor *const *row = harvest->kept + i * row_length(harvest);
        if (!cancel_check(error) || !visit(context, (int64_t)i, row, row + floating, error)) return false;
    }
    return true;
}

void harvest_end(Harvest *harvest)
{
    drop_kept(harvest);
    runner_end(&harvest->floating);
    runner_end(&harvest->simulated);
    *harvest = (Harvest){0};
}
