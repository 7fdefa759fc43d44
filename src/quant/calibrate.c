/* The pass `calibrate` (QUANT §8.1): exponents of activations from what flows through the graph, in one walk over the data or two. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "exec/feed.h"
#include "exec/plan.h"
#include "graph/operator.h"
#include "quant/parameters.h"

enum { PLANS = 4 }; /* batches come in one size, and a smaller last one */

typedef struct Entry {
    Slot *slot;
    const Value *value;
    const ObserverRow *row;
    Observer *observer; /* NULL for a parameter */
    int *exponents;     /* of this walk's end */
    int count;
    bool failed;
    pthread_mutex_t lock; /* of the observer: pieces of the data come from several threads */
} Entry;

typedef struct Calibration {
    Graph *graph;
    const Setting *setting;
    Entry *entries;
    size_t count;
    Entry **by_slot; /* sorted by the slot's address, to find one */
    int walk;
    int64_t batches;
    Watcher watchers[2]; /* of whole batches, of pieces of joined ones */
    struct {
        Plan *plan;
        bool joined;
        Shape *shapes;
    } plans[PLANS];
    int plan_count;
    bool any_order; /* no observer minds how the data are cut, nor in which order they come */
} Calibration;

/* ---- who observes what ---- */

static int compare_slots(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)(*(Entry *const *)a)->slot, y = (uintptr_t)(*(Entry *const *)b)->slot;
    return x < y ? -1 : x > y;
}

static Entry *entry_of(const Calibration *calibration, const Slot *slot)
{
    size_t low = 0, high = calibration->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        Entry *entry = calibration->by_slot[middle];
        if (entry->slot == slot) return entry;
        if ((uintptr_t)entry->slot < (uintptr_t)slot)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static bool add_entry(Calibration *calibration, Slot *slot, const Value *value, const Node *node, Error *error)
{
    const char *method = calibration->setting->quantize_activation_setting.calib_algorithm;
    if (!value) return true;
    const ObserverRow *row = find_observer(!value->constant && method ? method : slot->observer, node, error);
    if (!row) return false;
    slot->observer = row->name; /* the slot outlives the setting */
    if (slot->state != SLOT_INITIAL) return true;
    Entry *entry = &calibration->entries[calibration->count];
    *entry = (Entry){.slot = slot, .value = value, .row = row, .count = value->constant ? parameter_channels(slot, value) : 1};
    entry->exponents = memory_new_array((size_t)entry->count, sizeof *entry->exponents);
    calibration->count++;
    pthread_mutex_init(&entry->lock, NULL);
    if (!entry->exponents) return fail_memory(error, (size_t)entry->count * sizeof *entry->exponents);
    if (value->constant) return true;
    entry->observer = observer_new(row, slot, value->name, 1, error);
    if (entry->observer) entry->observer->mse_fixed = calibration->setting->switches.mse_fixed;
    calibration->any_order &= row->any_order;
    return entry->observer != NULL;
}

static bool collect_entries(Calibration *calibration, Error *error)
{
    const Graph *graph = calibration->graph;
    size_t ends = 1;
    for (int i = 0; i < graph->node_count; i++)
        ends += (size_t)(graph->nodes[i]->input_count + graph->nodes[i]->output_count);
    calibration->entries = memory_new_array(ends, sizeof *calibration->entries);
    calibration->by_slot = memory_new_array(ends, sizeof *calibration->by_slot);
    if (!calibration->entries || !calibration->by_slot) return fail_memory(error, ends * sizeof *calibration->entries);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++) {
            if (!add_entry(calibration, node->input_slots[k], node->inputs[k], node, error)) return false;
        }
        for (int k = 0; node->quantized && k < node->output_count; k++) {
            if (!add_entry(calibration, node->output_slots[k], node->outputs[k], node, error)) return false;
        }
    }
    for (size_t i = 0; i < calibration->count; i++)
        calibration->by_slot[i] = &calibration->entries[i];
    qsort(calibration->by_slot, calibration->count, sizeof *calibration->by_slot, compare_slots);
    return true;
}

/* ---- walking ---- */

static bool wants(void *context, const Node *node, bool is_output, int index)
{
    const Calibration *calibration = context;
    if (!node->quantized) return false;
    const Entry *entry = entry_of(calibration, is_output ? node->output_slots[index] : node->input_slots[index]);
    return entry && entry->observer;
}

static bool watch(void *context, const Watched *watched, Error *error)
{
    const Calibration *calibration = context;
    Entry *entry = entry_of(calibration, watched->slot);
    if (!entry || !entry->observer || entry->row->walks <= calibration->walk) return true;
    pthread_mutex_lock(&entry->lock);
    bool observed = observer_observe(entry->observer, watched->raw, calibration->walk, error);
    pthread_mutex_unlock(&entry->lock);
    return observed;
}

/* The plan for inputs of these shapes. */
static Plan *plan_for(Calibration *calibration, const Shape *wanted, bool joined, Error *error)
{
    int inputs = calibration->graph->input_count;
    for (int p = 0; p < calibration->plan_count; p++) {
        bool equal = calibration->plans[p].joined == joined;
        for (int i = 0; equal && i < inputs; i++)
            equal = shape_equal(&calibration->plans[p].shapes[i], &wanted[i]);
        if (equal) return calibration->plans[p].plan;
    }
    if (calibration->plan_count == PLANS) {
        calibration->plan_count--;
        plan_free(calibration->plans[PLANS - 1].plan);
        memory_free(calibration->plans[PLANS - 1].shapes);
    }
    Shape *shapes = memory_new_array((size_t)inputs + 1, sizeof *shapes);
    if (!shapes) {
        fail_memory(error, (size_t)inputs * sizeof *shapes);
        return NULL;
    }
    for (int i = 0; i < inputs; i++)
        shapes[i] = wanted[i];
    Value *nothing = NULL; /* only what is watched is needed */
    PlanOptions options = {.mode = EXEC_SIMULATED,
                           .exact = calibration->setting->switches.onnx_exact_ops,
                           .wanted = &nothing,
                           .wanted_count = 0,
                           .watcher = &calibration->watchers[joined]};
    Plan *plan = plan_new(calibration->graph, &options, shapes, error);
    if (!plan) {
        memory_free(shapes);
        return NULL;
    }
    calibration->plans[calibration->plan_count].plan = plan;
    calibration->plans[calibration->plan_count].joined = joined;
    calibration->plans[calibration->plan_count++].shapes = shapes;
    return plan;
}

static bool run_inputs(Calibration *calibration, Tensor *const *inputs, const Shape *shapes, bool joined, Error *error)
{
    Tensor *nothing[1];
    Plan *plan = plan_for(calibration, shapes, joined, error);
    return plan && plan_run(plan, inputs, nothing, error);
}

/* One batch of a joined chunk, alone. */
static bool run_unit(Calibration *calibration, const Chunk *chunk, int unit, Error *error)
{
    int inputs = calibration->graph->input_count;
    Tensor **own = memory_new_array((size_t)inputs + 1, sizeof *own);
    Shape *shapes = memory_new_array((size_t)inputs + 1, sizeof *shapes);
    bool ok = own && shapes ? true : fail_memory(error, (size_t)inputs * sizeof *shapes);
    for (int i = 0; ok && i < inputs; i++) {
        const Tensor *all = chunk->inputs[i];
        shapes[i] = all->shape;
        shapes[i].dims[0] /= chunk->units;
        size_t bytes = tensor_bytes(all) / (size_t)chunk->units;
        ok = (own[i] = tensor_from_data(all->dtype, &shapes[i], all->data + (size_t)unit * bytes, error)) != NULL;
    }
    ok = ok && run_inputs(calibration, own, shapes, false, error);
    for (int i = 0; own && i < inputs; i++)
        tensor_release(own[i]);
    memory_free(own);
    memory_free(shapes);
    return ok;
}

static bool run_chunk(Calibration *calibration, const Chunk *chunk, Error *error)
{
    if (run_inputs(calibration, chunk->inputs, chunk->shapes, chunk->joined, error)) return true;
    if (!chunk->joined || error->code != ERROR_INPUT) return false;
    /* Which thread met a fault first is chance. Once more, one batch after the other, for a message that is always the same. */
    for (size_t i = 0; i < calibration->count; i++)
        if (calibration->entries[i].observer) calibration->entries[i].observer->batches = chunk->first_unit;
    for (int unit = 0; unit < chunk->units; unit++)
        if (!run_unit(calibration, chunk, unit, error)) return false;
    return false;
}

static bool walk_data(Calibration *calibration, Batches *batches, Error *error)
{
    Feed feed = {0};
    const Chunk *chunk;
    bool failed =
        !feed_begin(&feed, calibration->graph, batches, ESPQ_FEED_ALL, calibration->any_order ? FEED_JOINED : FEED_BATCHES, error);
    while (!failed && (chunk = feed_next(&feed, &failed, error))) {
        failed = !cancel_check(error) || !run_chunk(calibration, chunk, error);
        progress_step(feed.walk.batch_count);
    }
    if (!failed && calibration->walk == 0) batch_walk_note(&feed.walk, calibration->graph);
    calibration->batches = feed.walk.batch_count;
    feed_end(&feed);
    return !failed;
}

/* ---- between and behind the walks ---- */

static bool due(const Calibration *calibration, const Entry *entry)
{
    return entry->row->walks == calibration->walk + 1;
}

static bool find_exponents(const Calibration *calibration, Entry *entry, Error *error)
{
    if (entry->observer) return observer_exponents(entry->observer, entry->exponents, error);
    return parameter_exponents(entry->row, entry->slot, entry->value, calibration->batches, calibration->setting, entry->exponents, error);
}

static void find_in_threads(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Calibration *calibration = context;
    for (int64_t i = begin; i < end; i++) {
        Entry *entry = &calibration->entries[i];
        Error ignored = {0};
        entry->failed = due(calibration, entry) && (!entry->row->parallel || !find_exponents(calibration, entry, &ignored));
    }
}

/* What was all zero says nothing: its own exponent would be so small that biases behind it no longer fit. It counts as values up to 1. */
static void settle_dead(const Calibration *calibration, Entry *entry)
{
    const Observer *observer = entry->observer;
    int least = 1 - entry->slot->bits;
    if (!observer || !calibration->setting->switches.dead_channels_follow) return;
    if (observer->seen_minimum == 0 && observer->seen_maximum == 0 && entry->exponents[0] < least) entry->exponents[0] = least;
}

/* Ends of this walk: slots whose method is through become ACTIVATED, the others get ready for the second walk. */
static bool render(Calibration *calibration, bool *more, bool *changed, Error *error)
{
    *more = *changed = false;
    threads_for((int64_t)calibration->count, 1, find_in_threads, calibration);
    for (size_t i = 0; i < calibration->count; i++) {
        Entry *entry = &calibration->entries[i];
        if (entry->row->walks > calibration->walk + 1) {
            *more = true;
            if (entry->observer && !observer_between(entry->observer, error)) return false;
        }
        if (!due(calibration, entry)) continue;
        /* Once more in this thread: for the message of what failed, and for methods that call back into a script. */
        if (entry->failed && !find_exponents(calibration, entry, error)) return false;
        settle_dead(calibration, entry);
        if (!slot_set_exponents(calibration->graph, entry->slot, entry->exponents, entry->count)) return fail_memory(error, sizeof(int));
        entry->slot->state = SLOT_ACTIVATED;
        *changed = true;
    }
    return true;
}

static void note_dead(const Calibration *calibration)
{
    Text names = {0};
    int dead = 0;
    for (size_t i = 0; i < calibration->count; i++) {
        const Entry *entry = &calibration->entries[i];
        if (!entry->observer || !entry->slot->is_output || entry->observer->seen_minimum != 0 || entry->observer->seen_maximum != 0)
            continue;
        if (dead < 8) text_format(&names, "%s%s", dead ? ", " : "", entry->value->name);
        dead++;
    }
    if (dead && names.data) {
        bool follows = calibration->setting->switches.dead_channels_follow;
        graph_note(calibration->graph, "%d tensor%s always zero on the calibration data: %s%s; %s", dead, dead == 1 ? " is" : "s are",
                   names.data, dead > 8 ? ", …" : "",
                   follows ? "they count as values up to 1" : "what is computed from them has the smallest exponent there is");
    }
    text_free(&names);
}

static bool calibrate(Calibration *calibration, Batches *batches, Error *error)
{
    bool more = true, changed;
    for (calibration->walk = 0; more; calibration->walk++) {
        progress_begin(calibration->walk == 0 ? "calibrate" : "calibrate, 2nd", 0);
        bool ok = walk_data(calibration, batches, error) && render(calibration, &more, &changed, error);
        progress_end();
        if (!ok) return false;
        for (int p = 0; more && changed && p < calibration->plan_count; p++) {
            if (!plan_refresh(calibration->plans[p].plan, error)) return false;
        }
    }
    note_dead(calibration);
    return true;
}

static void calibration_free(Calibration *calibration)
{
    for (int p = 0; p < calibration->plan_count; p++) {
        plan_free(calibration->plans[p].plan);
        memory_free(calibration->plans[p].shapes);
    }
    for (size_t i = 0; i < calibration->count; i++) {
        observer_free(calibration->entries[i].observer);
        memory_free(calibration->entries[i].exponents);
        pthread_mutex_destroy(&calibration->entries[i].lock);
    }
    memory_free(calibration->entries);
    memory_free(calibration->by_slot);
}

bool pass_calibrate(Graph *graph, PassContext *context, Error *error)
{
    Calibration calibration = {.graph = graph, .setting = context->setting, .any_order = true};
    for (int i = 0; i < 2; i++)
        calibration.watchers[i] = (Watcher){.context = &calibration, .wants = wants, .watch = watch, .by_piece = i == 1};
    bool ok = collect_entries(&calibration, error);
    if (ok && calibration.count && !context->batches) ok = fail(error, graph->source, "give calib_dataloader", "calibration needs data");
    ok = ok && (calibration.count == 0 || calibrate(&calibration, context->batches, error));
    calibration_free(&calibration);
    return ok;
}
