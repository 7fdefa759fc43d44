#include "exec/cache.h"

#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "exec/feed.h"
#include "exec/value_index.h"

#define DEFAULT_MEMORY ((size_t)256 << 20)
#define MODES 2 /* EXEC_FLOAT, EXEC_SIMULATED; the graph's inputs are kept once, with the first */

typedef struct Kept { /* one value of one batch */
    Tensor *tensor;   /* NULL: in the file, or nothing */
    Dtype dtype;
    Shape shape;
    int64_t place; /* in the file */
    bool there;
    bool recalled; /* the memo holds it too: it does not count */
} Kept;

struct Cache {
    Graph *graph;
    CacheOptions options;
    Node **order;   /* of execution */
    Value **values; /* as they were: constants may come and go meanwhile */
    int node_count, value_count;
    Kept **kept;  /* [mode][value]: one a batch; NULL: not kept */
    bool *behind; /* one a value: see cache_changed */
    int64_t batch_count;
    size_t batch_capacity, used; /* bytes in memory */
    Scratch *file;
    int stop;         /* gone to last, -1 */
    bool from_inputs; /* runs cannot begin inside: their batches mean something else there */
    ValueIndex index;
    Names names[MODES]; /* with a memo: of all values as they are now */
    Name *batch_names;  /* one a batch */
};

/* What a stop takes, worked out for one mode. */
typedef struct Work {
    Cache *cache;
    ExecMode mode;
    bool *marked;          /* one a value: asked for */
    bool *later;           /* one a value: kept on */
    bool *runs;            /* one an entry of order */
    Value **given, **made; /* behind those made: values for the memo only */
    int given_count, made_count, noted_count;
    Plan *plan; /* of the batch run last */
    Shape *shapes;
    Tensor **tensors; /* inputs, then results */
} Work;

/* ---- values ---- */

static int index_of(const Cache *cache, const Value *value)
{
    return value_index_of(&cache->index, value);
}

static bool is_input(const Cache *cache, const Value *value)
{
    for (int i = 0; i < cache->graph->input_count; i++)
        if (cache->graph->inputs[i] == value) return true;
    return false;
}

static Kept **kept_of(const Cache *cache, ExecMode mode, const Value *value)
{
    int row = mode == EXEC_SIMULATED && !is_input(cache, value) ? cache->value_count : 0;
    return &cache->kept[row + index_of(cache, value)];
}

static void drop_one(Cache *cache, Kept *kept)
{
    if (kept->tensor) {
        if (!kept->recalled) cache->used -= tensor_bytes(kept->tensor);
        tensor_release(kept->tensor);
    } else if (kept->there) {
        scratch_drop(cache->file, kept->place, (size_t)shape_count(&kept->shape) * dtype_bytes(kept->dtype));
    }
    *kept = (Kept){0};
}

static void drop_all(Cache *cache, Kept **kept)
{
    for (int64_t i = 0; *kept && i < cache->batch_count; i++)
        drop_one(cache, &(*kept)[i]);
    memory_free(*kept);
    *kept = NULL;
}

static bool keep(Cache *cache, Kept *kept, Tensor *tensor, Error *error)
{
    size_t bytes = tensor_bytes(tensor);
    kept->dtype = tensor->dtype;
    kept->shape = tensor->shape;
    if (cache->used + bytes <= cache->options.memory_limit) {
        kept->tensor = tensor_retain(tensor);
        cache->used += bytes;
        return kept->there = true;
    }
    if (!cache->file && !(cache->file = scratch_new(error))) return false;
    return kept->there = scratch_put(cache->file, tensor->data, bytes, &kept->place, error);
}

static Tensor *take(const Cache *cache, const Kept *kept, Error *error)
{
    if (kept->tensor) return tensor_retain(kept->tensor);
    if (!kept->there) {
        fail_as(error, ERROR_INTERNAL, NULL, NULL, "a value that was asked for is not kept: cache_go comes first");
        return NULL;
    }
    Tensor *tensor = tensor_new_unset(kept->dtype, &kept->shape, error);
    if (tensor && scratch_get(cache->file, kept->place, tensor->data, tensor_bytes(tensor), error)) return tensor;
    tensor_release(tensor);
    return NULL;
}

/* ---- life ---- */

static bool make_tables(Cache *cache, Error *error)
{
    const Graph *graph = cache->graph;
    size_t values = (size_t)graph->value_count + 1;
    cache->kept = memory_new_array(values * MODES, sizeof *cache->kept);
    cache->values = memory_new_array(values, sizeof *cache->values);
    cache->behind = memory_new_array(values, sizeof *cache->behind);
    if (!cache->kept || !cache->values || !cache->behind) return fail_memory(error, values * sizeof *cache->kept);
    for (int i = 0; i < graph->value_count; i++)
        cache->values[i] = graph->values[i];
    if (!value_index_make(&cache->index, graph, error)) return false;
    for (int mode = 0; cache->options.memo && mode < MODES; mode++)
        if (!names_make(&cache->names[mode], cache->graph, (ExecMode)mode, cache->options.exact, error)) return false;
    cache->value_count = graph->value_count;
    cache->node_count = graph->node_count;
    return graph_sort(graph, &cache->order, error);
}

static bool add_batch(Cache *cache, Tensor *const *inputs, Error *error)
{
    const Graph *graph = cache->graph;
    size_t count = (size_t)cache->batch_count, capacity = cache->batch_capacity;
    if (count == capacity) capacity = capacity ? capacity * 2 : 16;
    for (int i = 0; i < graph->input_count; i++) {
        Kept **kept = kept_of(cache, EXEC_FLOAT, graph->inputs[i]);
        if (capacity == cache->batch_capacity) break;
        Kept *grown = memory_resize(*kept, capacity * sizeof *grown);
        if (!grown) return fail_memory(error, capacity * sizeof *grown);
        memset(grown + count, 0, (capacity - count) * sizeof *grown);
        *kept = grown;
    }
    if (cache->options.memo && capacity > cache->batch_capacity) {
        Name *grown = memory_resize(cache->batch_names, capacity * sizeof *grown);
        if (!grown) return fail_memory(error, capacity * sizeof *grown);
        cache->batch_names = grown;
    }
    if (cache->options.memo) cache->batch_names[count] = name_of_batch(graph, inputs);
    cache->batch_capacity = capacity;
    cache->batch_count++;
    for (int i = 0; i < graph->input_count; i++) {
        Kept *kept = &(*kept_of(cache, EXEC_FLOAT, graph->inputs[i]))[count];
        if (!keep(cache, kept, inputs[i], error)) return false;
    }
    return true;
}

static bool walk_data(Cache *cache, Batches *batches, Error *error)
{
    Feed feed = {0};
    bool failed = !feed_begin(&feed, cache->graph, batches, ESPQ_FEED_ALL, FEED_BATCHES, error), traced = true;
    for (const Chunk *chunk; !failed && (chunk = feed_next(&feed, &failed, error));) {
        traced = traced && chunk_is_traced(chunk, cache->graph);
        failed = !cancel_check(error) || !add_batch(cache, chunk->inputs, error);
    }
    cache->from_inputs = !traced && graph_has_sequence(cache->graph);
    feed_end(&feed);
    return !failed;
}

Cache *cache_new(Graph *graph, Batches *batches, const CacheOptions *options, Error *error)
{
    Cache *cache = memory_new(sizeof *cache);
    if (!cache) {
        fail_memory(error, sizeof *cache);
        return NULL;
    }
    *cache = (Cache){.graph = graph, .options = *options, .stop = -1};
    if (!cache->options.memory_limit) cache->options.memory_limit = DEFAULT_MEMORY;
    if (make_tables(cache, error) && walk_data(cache, batches, error)) return cache;
    cache_free(cache);
    return NULL;
}

void cache_free(Cache *cache)
{
    if (!cache) return;
    for (int i = 0; cache->kept && i < cache->value_count * MODES; i++)
        drop_all(cache, &cache->kept[i]);
    scratch_free(cache->file);
    memory_free(cache->kept);
    memory_free(cache->values);
    memory_free(cache->behind);
    memory_free(cache->batch_names);
    memory_free(cache->order);
    value_index_free(&cache->index);
    for (int mode = 0; mode < MODES; mode++)
        names_free(&cache->names[mode]);
    memory_free(cache);
}

int64_t cache_batch_count(const Cache *cache)
{
    return cache->batch_count;
}

int64_t cache_spilled_bytes(const Cache *cache)
{
    return cache->file ? scratch_bytes(cache->file) : 0;
}

Name cache_name(const Cache *cache, ExecMode mode, const Value *value, int64_t batch)
{
    return cache->options.memo ? names_of(&cache->names[mode], value, &cache->batch_names[batch]) : (Name){""};
}

Name cache_node_name(const Cache *cache, ExecMode mode, const Node *node)
{
    for (int i = 0; cache->options.memo && i < cache->node_count; i++)
        if (cache->order[i] == node) return cache->names[mode].alone[i];
    return (Name){""};
}

/* ---- what earlier runs gave ---- */

/* Values of all batches from the memo, or of none. */
static bool recall(Cache *cache, ExecMode mode, const Value *value, Error *error)
{
    Kept **kept = kept_of(cache, mode, value);
    bool all = cache->batch_count > 0;
    if (!cache->options.memo || *kept || cache->from_inputs) return true;
    for (int64_t batch = 0; all && batch < cache->batch_count; batch++) {
        Name name = cache_name(cache, mode, value, batch);
        Tensor *tensor = memo_find(cache->options.memo, &name);
        all = tensor != NULL;
        if (all && !*kept && !(*kept = memory_new_array((size_t)cache->batch_count + 1, sizeof **kept))) {
            tensor_release(tensor);
            return fail_memory(error, (size_t)cache->batch_count * sizeof **kept);
        }
        /* the memo's memory, which is bounded by its own limit */
        if (all) (*kept)[batch] = (Kept){tensor, tensor->dtype, tensor->shape, 0, true, true};
    }
    if (!all) drop_all(cache, kept);
    return true;
}

static void remember(const Cache *cache, ExecMode mode, const Value *value, int64_t batch, Tensor *tensor)
{
    Name name = cache_name(cache, mode, value, batch);
    if (cache->names[mode].worth[index_of(cache, value)]) memo_keep(cache->options.memo, &name, tensor);
}

/* ---- what a stop takes ---- */

static bool is_kept(const Work *work, const Value *value)
{
    return *kept_of(work->cache, work->mode, value) != NULL;
}

/* Can a run begin at this value? */
static bool begins(const Work *work, const Value *value)
{
    return is_input(work->cache, value) || (!work->cache->from_inputs && is_kept(work, value));
}

static void mark_stop(const Work *work, int stop, bool *marked)
{
    const CacheStop *row = &work->cache->options.stops[stop];
    Value *const *values = work->mode == EXEC_FLOAT ? row->floating : row->simulated;
    for (int i = 0; i < (work->mode == EXEC_FLOAT ? row->floating_count : row->simulated_count); i++)
        marked[index_of(work->cache, values[i])] = true;
}

/* Does it give something that later stops need and that is not there? */
static bool makes_later(const Work *work, const Node *node)
{
    for (int i = 0; i < node->output_count; i++) {
        const Value *output = node->outputs[i];
        if (output && work->later[index_of(work->cache, output)] && !is_kept(work, output)) return true;
    }
    return false;
}

static void mark_inputs(const Work *work, const Node *node, bool *marked)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant) marked[index_of(work->cache, node->inputs[i])] = true;
}

static bool makes_fresh(const Work *work, const Node *node)
{
    for (int i = 0; i < node->output_count; i++) {
        const Value *output = node->outputs[i];
        if (output && work->marked[index_of(work->cache, output)] && !begins(work, output)) return true;
    }
    return false;
}

static bool recall_outputs(const Work *work, const Node *node, Error *error)
{
    for (int i = 0; i < node->output_count; i++) {
        const Value *output = node->outputs[i];
        if (output && work->marked[index_of(work->cache, output)] && !recall(work->cache, work->mode, output, error)) return false;
    }
    return true;
}

/* Nodes to run: backwards from the stop's values to those a run can begin at. */
static bool find_runs(Work *work, int stop, Error *error)
{
    Cache *cache = work->cache;
    bool asked = false;
    mark_stop(work, stop, work->marked);
    for (int i = 0; i < cache->value_count; i++) { /* a stop whose values are all there runs nothing */
        if (!work->marked[i]) continue;
        if (!is_input(cache, cache->values[i]) && !recall(cache, work->mode, cache->values[i], error)) return false;
        asked = asked || !is_kept(work, cache->values[i]);
    }
    for (int i = cache->node_count - 1; asked && i >= 0; i--) {
        if (!recall_outputs(work, cache->order[i], error)) return false;
        if (!makes_fresh(work, cache->order[i])) continue;
        work->runs[i] = true;
        mark_inputs(work, cache->order[i], work->marked);
    }
    return true;
}

/* Values that this or a later stop needs and that are there, or will be when the nodes have run. */
static void find_later(Work *work, int stop)
{
    Cache *cache = work->cache;
    for (int i = stop; i < cache->options.stop_count; i++)
        mark_stop(work, i, work->later);
    for (int i = cache->node_count - 1; i >= 0; i--) {
        const Node *node = cache->order[i];
        if (!work->runs[i] && makes_later(work, node)) mark_inputs(work, node, work->later);
    }
}

static bool is_known(const Work *work, const Value *value)
{
    Name name = cache_name(work->cache, work->mode, value, 0);
    Tensor *tensor = memo_find(work->cache->options.memo, &name);
    tensor_release(tensor);
    return tensor != NULL || !name.hex[0];
}

/* Values on the way that a later run may want to begin at. */
static void list_noted(Work *work)
{
    Cache *cache = work->cache;
    if (!cache->options.memo || cache->from_inputs || !cache->batch_count) return;
    for (int i = 0; i < cache->node_count; i++)
        for (int k = 0; work->runs[i] && k < cache->order[i]->output_count; k++) {
            Value *output = cache->order[i]->outputs[k];
            int place = output ? index_of(cache, output) : -1;
            if (place < 0 || !cache->names[work->mode].worth[place] || (work->later[place] && !is_kept(work, output))) continue;
            if (!is_known(work, output)) work->made[work->made_count + work->noted_count++] = output;
        }
}

static void list_values(Work *work)
{
    Cache *cache = work->cache;
    for (int i = 0; i < cache->node_count; i++) {
        const Node *node = cache->order[i];
        if (!work->runs[i]) continue;
        for (int k = 0; k < node->output_count; k++)
            if (node->outputs[k] && work->later[index_of(cache, node->outputs[k])] && !is_kept(work, node->outputs[k]))
                work->made[work->made_count++] = node->outputs[k];
    }
    for (int i = 0; i < cache->value_count; i++) {
        Value *value = cache->values[i];
        if (work->marked[i] && begins(work, value)) work->given[work->given_count++] = value;
    }
    list_noted(work);
}

/* Inside of the graph a batch of another size is told by the first axis: it must have grown there like the graph's inputs. */
static bool grew_alike(const Work *work)
{
    const Cache *cache = work->cache;
    for (int64_t batch = 0; batch < cache->batch_count; batch++) {
        int64_t traced = 0, asked = 0;
        for (int i = 0; i < cache->graph->input_count; i++) {
            const Value *input = cache->graph->inputs[i];
            const Shape *shape = &(*kept_of(cache, EXEC_FLOAT, input))[batch].shape;
            if (!input->shaped || shape_equal(shape, &input->shape) || shape->rank < 1) continue;
            traced = input->shape.dims[0];
            asked = shape->dims[0];
        }
        for (int i = 0; traced && i < work->given_count; i++) {
            const Shape *shape = &(*kept_of(cache, work->mode, work->given[i]))[batch].shape, *graph = &work->given[i]->shape;
            if (!work->given[i]->shaped || shape->rank < 1 || graph->rank != shape->rank) return false;
            if (!shape_equal(shape, graph) && (graph->dims[0] != traced || shape->dims[0] != asked)) return false;
        }
    }
    return true;
}

static bool work_begin(Work *work, Cache *cache, ExecMode mode, int stop, Error *error)
{
    size_t values = (size_t)cache->value_count + 1, nodes = (size_t)cache->node_count + 1;
    *work = (Work){.cache = cache, .mode = mode};
    work->marked = memory_new_array(values * 2 + nodes, sizeof *work->marked);
    work->given = memory_new_array(values * 3, sizeof *work->given);
    work->shapes = memory_new_array(values, sizeof *work->shapes);
    work->tensors = memory_new_array(values * 3, sizeof *work->tensors);
    if (!work->marked || !work->given || !work->shapes || !work->tensors) return fail_memory(error, values * sizeof *work->shapes);
    work->later = work->marked + values;
    work->runs = work->later + values;
    work->made = work->given + values;
    if (!find_runs(work, stop, error)) return false;
    find_later(work, stop);
    list_values(work);
    if (cache->from_inputs || grew_alike(work)) return true;
    cache->from_inputs = true;
    memset(work->marked, 0, (values * 2 + nodes) * sizeof *work->marked);
    work->given_count = work->made_count = work->noted_count = 0;
    if (!find_runs(work, stop, error)) return false;
    find_later(work, stop);
    list_values(work);
    return true;
}

static void work_end(Work *work)
{
    plan_free(work->plan);
    memory_free(work->marked);
    memory_free(work->given);
    memory_free(work->shapes);
    memory_free(work->tensors);
}

/* ---- running ---- */

static bool make_plan(Work *work, Error *error)
{
    bool same = work->plan != NULL;
    for (int i = 0; i < work->given_count; i++) {
        same = same && shape_equal(&work->shapes[i], &work->tensors[i]->shape);
        work->shapes[i] = work->tensors[i]->shape;
    }
    if (same) return true;
    PlanOptions options = {.mode = work->mode,
                           .exact = work->cache->options.exact,
                           .given = work->given,
                           .given_count = work->given_count,
                           .wanted = work->made,
                           .wanted_count = work->made_count + work->noted_count};
    plan_free(work->plan);
    work->plan = plan_new(work->cache->graph, &options, work->shapes, error);
    return work->plan != NULL;
}

static bool run_batch(Work *work, int64_t batch, Error *error)
{
    Cache *cache = work->cache;
    Tensor **results = work->tensors + work->given_count;
    int count = work->given_count + work->made_count + work->noted_count;
    memset(work->tensors, 0, (size_t)count * sizeof *work->tensors);
    bool ok = cancel_check(error);
    for (int i = 0; ok && i < work->given_count; i++)
        ok = (work->tensors[i] = take(cache, &(*kept_of(cache, work->mode, work->given[i]))[batch], error)) != NULL;
    ok = ok && make_plan(work, error) && plan_run(work->plan, work->tensors, results, error);
    for (int i = 0; ok && i < cache->value_count; i++) { /* first, for its room */
        Kept **kept = &cache->kept[(work->mode == EXEC_SIMULATED ? cache->value_count : 0) + i];
        if (*kept && !work->later[i] && !is_input(cache, cache->values[i])) drop_one(cache, &(*kept)[batch]);
    }
    for (int i = 0; ok && i < work->made_count; i++)
        ok = keep(cache, &(*kept_of(cache, work->mode, work->made[i]))[batch], results[i], error);
    for (int i = 0; ok && cache->options.memo && i < work->made_count + work->noted_count; i++)
        remember(cache, work->mode, work->made[i], batch, results[i]);
    for (int i = 0; i < count; i++)
        tensor_release(work->tensors[i]);
    return ok;
}

static bool run_work(Work *work, Error *error)
{
    Cache *cache = work->cache;
    for (int i = 0; i < work->made_count; i++) {
        Kept **kept = kept_of(cache, work->mode, work->made[i]);
        if (!(*kept = memory_new_array((size_t)cache->batch_count + 1, sizeof **kept)))
            return fail_memory(error, (size_t)cache->batch_count * sizeof **kept);
    }
    for (int64_t batch = 0; batch < cache->batch_count && work->made_count; batch++)
        if (!run_batch(work, batch, error)) return false;
    return true;
}

static bool go(Cache *cache, ExecMode mode, int stop, Error *error)
{
    Work work;
    bool ok = work_begin(&work, cache, mode, stop, error) && run_work(&work, error);
    for (int i = 0; ok && i < cache->value_count; i++)
        if (!work.later[i] && !is_input(cache, cache->values[i]))
            drop_all(cache, &cache->kept[(mode == EXEC_SIMULATED ? cache->value_count : 0) + i]);
    if (!ok) /* of what was begun, some batches are missing */
        for (int i = 0; i < cache->value_count * MODES; i++)
            if (i >= cache->value_count || !is_input(cache, cache->values[i])) drop_all(cache, &cache->kept[i]);
    work_end(&work);
    return ok;
}

bool cache_go(Cache *cache, int stop, Error *error)
{
    cache->stop = -1;
    if (!go(cache, EXEC_FLOAT, stop, error) || !go(cache, EXEC_SIMULATED, stop, error)) return false;
    cache->stop = stop;
    return true;
}

static bool take_list(const Cache *cache, ExecMode mode, Value *const *values, int count, int64_t batch, Tensor **tensors, Error *error)
{
    for (int i = 0; i < count; i++) {
        const Kept *kept = *kept_of(cache, mode, values[i]), none = {0};
        if (!(tensors[i] = take(cache, kept ? &kept[batch] : &none, error))) return false;
    }
    return true;
}

static void release_list(Tensor **tensors, int count)
{
    for (int i = 0; i < count; i++) {
        tensor_release(tensors[i]);
        tensors[i] = NULL;
    }
}

bool cache_row(Cache *cache, int64_t batch, Tensor **floating, Tensor **simulated, Error *error)
{
    static const CacheStop none = {0};
    const CacheStop *stop = cache->stop < 0 ? &none : &cache->options.stops[cache->stop];
    if (cache->stop < 0) return fail_as(error, ERROR_INTERNAL, NULL, NULL, "no stop was gone to");
    for (int i = 0; i < stop->floating_count; i++)
        floating[i] = NULL;
    for (int i = 0; i < stop->simulated_count; i++)
        simulated[i] = NULL;
    if (take_list(cache, EXEC_FLOAT, stop->floating, stop->floating_count, batch, floating, error) &&
        take_list(cache, EXEC_SIMULATED, stop->simulated, stop->simulated_count, batch, simulated, error))
        return true;
    release_list(floating, stop->floating_count);
    release_list(simulated, stop->simulated_count);
    return false;
}

static bool is_behind(const Cache *cache, const Node *node, Node *const *nodes, int count)
{
    for (int i = 0; i < count; i++)
        if (nodes[i] == node) return true;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant && cache->behind[index_of(cache, node->inputs[i])]) return true;
    return false;
}

bool cache_put(Cache *cache, ExecMode mode, const Value *value, int64_t batch, Tensor *tensor, Error *error)
{
    Kept **kept = kept_of(cache, mode, value);
    if (cache->options.memo && !cache->from_inputs) remember(cache, mode, value, batch, tensor);
    if (cache->used + tensor_bytes(tensor) > cache->options.memory_limit) {
        drop_all(cache, kept);
        return true;
    }
    if (!*kept && batch) return true;
    if (!*kept && !(*kept = memory_new_array((size_t)cache->batch_count + 1, sizeof **kept)))
        return fail_memory(error, (size_t)cache->batch_count * sizeof **kept);
    if (!(*kept)[batch].there) return keep(cache, &(*kept)[batch], tensor, error);
    return true;
}

void cache_changed(Cache *cache, ExecMode mode, Node *const *nodes, int count)
{
    if (cache->options.memo) names_changed(&cache->names[mode], nodes, count);
    memset(cache->behind, 0, (size_t)cache->value_count * sizeof *cache->behind);
    for (int i = 0; i < cache->node_count; i++) {
        const Node *node = cache->order[i];
        if (!is_behind(cache, node, nodes, count)) continue;
        for (int k = 0; k < node->output_count; k++) {
            if (!node->outputs[k]) continue;
            cache->behind[index_of(cache, node->outputs[k])] = true;
            drop_all(cache, kept_of(cache, mode, node->outputs[k]));
        }
    }
}
