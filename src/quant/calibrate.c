/* The pass `calibrate` (QUANT §8.1): exponents of activations from what flows through the graph, in one walk over the data or two. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "exec/feed.h"
#include "exec/plan.h"
#include "graph/operator.h"
#include "quant/observed.h"
#include "quant/parameters.h"

enum { PLANS = 4 }; /* batches come in one size, and a smaller last one */

typedef struct Entry {
    Slot *slot;
    const Value *value;
    const ObserverRow *row;
    Observer *observer; /* NULL for a parameter */
    Observer **all;     /* while observing for several methods: one each, NULL elsewhere */
    int *exponents;     /* of this walk's end */
    int count;
    bool failed;
    pthread_mutex_t lock; /* of the observer: pieces of the data come from several threads */
} Entry;

typedef struct Calibration {
    Graph *graph;
    const Setting *setting;
    Batches *data;
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
    bool any_order;           /* no observer minds how the data are cut, nor in which order they come */
    const Observed *together; /* observing for all of its methods; NULL: for the setting's */
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
    bool observed = true;
    if (!entry || !entry->observer) return true;
    pthread_mutex_lock(&entry->lock);
    if (!calibration->together && entry->row->walks > calibration->walk)
        observed = observer_observe(entry->observer, watched->raw, calibration->walk, error);
    for (int m = 0; observed && calibration->together && m < calibration->together->method_count; m++)
        if (entry->all[m]->row->walks > calibration->walk)
            observed = observer_observe(entry->all[m], watched->raw, calibration->walk, error);
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

static bool walk_data(Calibration *calibration, Error *error)
{
    Feed feed = {0};
    const Chunk *chunk;
    bool failed =
        !feed_begin(&feed, calibration->graph, calibration->data, ESPQ_FEED_ALL, calibration->any_order ? FEED_JOINED : FEED_BATCHES, error);
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

static bool calibrate(Calibration *calibration, Error *error)
{
    bool more = true, changed;
    for (calibration->walk = 0; more; calibration->walk++) {
        progress_begin(calibration->walk == 0 ? "calibrate" : "calibrate, 2nd", 0);
        bool ok = walk_data(calibration, error) && render(calibration, &more, &changed, error);
        progress_end();
        if (!ok) return false;
        for (int p = 0; more && changed && p < calibration->plan_count; p++) {
            if (!plan_refresh(calibration->plans[p].plan, error)) return false;
        }
    }
    note_dead(calibration);
    return true;
}

/* ---- for several methods at once ---- */

/* One entry's exponents by every method; what fails is a method's own affair, and found out again when it is asked for alone. */
typedef struct Drawing {
    const Calibration *calibration;
    Observed *observed;
    atomic_bool failed;
} Drawing;

static void draw_exponents(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    Drawing *drawing = context;
    Observed *observed = drawing->observed;
    for (int64_t i = begin; i < end; i++) {
        const Entry *entry = &drawing->calibration->entries[i];
        for (int m = 0; m < observed->method_count; m++) {
            Error ignored = {0};
            if (!observer_exponents(entry->all[m], &observed->exponents[(size_t)m * observed->count + (size_t)i], &ignored))
                atomic_store(&drawing->failed, true);
        }
        observed->seen[2 * i] = entry->all[0]->seen_minimum;
        observed->seen[2 * i + 1] = entry->all[0]->seen_maximum;
    }
}

static bool begin_together(Calibration *calibration, Observed *observed, Error *error)
{
    size_t methods = (size_t)observed->method_count;
    observed->exponents = memory_new_array(calibration->count * methods, sizeof *observed->exponents);
    observed->seen = memory_new_array(calibration->count * 2, sizeof *observed->seen);
    observed->count = calibration->count;
    if (!observed->exponents || !observed->seen) return fail_memory(error, calibration->count * methods * sizeof(int));
    for (size_t i = 0; i < calibration->count; i++) {
        Entry *entry = &calibration->entries[i];
        entry->all = memory_new_array(methods, sizeof(Observer *));
        if (!entry->all) return fail_memory(error, methods * sizeof(Observer *));
        for (size_t m = 0; m < methods; m++) {
            entry->all[m] = observer_new(observed->rows[m], entry->slot, entry->value->name, 1, error);
            if (!entry->all[m]) return false;
            entry->all[m]->mse_fixed = calibration->setting->switches.mse_fixed;
        }
    }
    return true;
}

static bool between_together(Calibration *calibration, Error *error)
{
    for (size_t i = 0; i < calibration->count; i++)
        for (int m = 0; m < calibration->together->method_count; m++) {
            Observer *observer = calibration->entries[i].all[m];
            if (observer->row->walks > 1 && !observer_between(observer, error)) return false;
        }
    return true;
}

static bool walk_together(Calibration *calibration, Observed *observed, Error *error)
{
    int walks = 1;
    for (int m = 0; m < observed->method_count; m++) {
        calibration->any_order &= observed->rows[m]->any_order;
        if (observed->rows[m]->walks > walks) walks = observed->rows[m]->walks;
    }
    for (calibration->walk = 0; calibration->walk < walks; calibration->walk++) {
        progress_begin(calibration->walk == 0 ? "calibrate" : "calibrate, 2nd", 0);
        bool ok = walk_data(calibration, error) && (calibration->walk || between_together(calibration, error));
        progress_end();
        if (!ok) return false;
    }
    Drawing drawing = {calibration, observed, false};
    threads_for((int64_t)calibration->count, 1, draw_exponents, &drawing);
    observed->batches = calibration->batches;
    return !atomic_load(&drawing.failed) || fail(error, NULL, NULL, "a method found no exponent");
}

/* Nothing gets an exponent between the walks, so that all methods see the same in both: no parameter waits here, and no slot has a method of
 * its own. */
static bool can_go_together(const Calibration *calibration, const Observed *observed)
{
    for (size_t i = 0; i < calibration->count; i++) {
        const Entry *entry = &calibration->entries[i];
        if (!entry->observer || entry->row != calibration->entries[0].row) return false;
    }
    return calibration->count && observed->method_count > 1 && observed_method(observed, calibration->entries[0].row) >= 0;
}

static void free_together(Calibration *calibration, const Observed *observed)
{
    for (size_t i = 0; i < calibration->count; i++) {
        Entry *entry = &calibration->entries[i];
        for (int m = 0; entry->all && m < observed->method_count; m++)
            observer_free(entry->all[m]);
        memory_free(entry->all);
        entry->all = NULL;
    }
}

/* Walk for all methods. Where that cannot be, *observed stays without exponents and the setting's method walks alone, with words of its own. */
static bool observe_together(Calibration *calibration, Observed *observed, Error *error)
{
    observed->tried = true;
    bool any_order = calibration->any_order;
    calibration->together = observed;
    bool ok = begin_together(calibration, observed, error) && walk_together(calibration, observed, error);
    calibration->together = NULL;
    calibration->any_order = any_order;
    calibration->walk = 0;
    free_together(calibration, observed);
    if (ok) return true;
    memory_free(observed->exponents);
    observed->exponents = NULL;
    return error->code == ERROR_INPUT;
}

/* The exponents that were observed earlier, as if the data had been walked now. */
static bool take_observed(Calibration *calibration, const Observed *observed, Error *error)
{
    const int *exponents = observed->exponents + (size_t)observed_method(observed, calibration->entries[0].row) * observed->count;
    for (size_t i = 0; i < calibration->count; i++) {
        Entry *entry = &calibration->entries[i];
        entry->exponents[0] = exponents[i];
        entry->observer->seen_minimum = observed->seen[2 * i];
        entry->observer->seen_maximum = observed->seen[2 * i + 1];
        settle_dead(calibration, entry);
        if (!slot_set_exponents(calibration->graph, entry->slot, entry->exponents, 1)) return fail_memory(error, sizeof(int));
        entry->slot->state = SLOT_ACTIVATED;
    }
    note_dead(calibration);
    return true;
}

static bool calibrate_as_observed(Calibration *calibration, Observed *observed, Error *error)
{
    if (!observed || !can_go_together(calibration, observed)) return calibrate(calibration, error);
    if (!observed->tried && !observe_together(calibration, observed, error)) return false;
    bool fits = observed->exponents && observed->count == calibration->count;
    return fits ? take_observed(calibration, observed, error) : calibrate(calibration, error);
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
    Calibration calibration = {.graph = graph, .setting = context->setting, .data = context->batches, .any_order = true};
    for (int i = 0; i < 2; i++)
        calibration.watchers[i] = (Watcher){.context = &calibration, .wants = wants, .watch = watch, .by_piece = i == 1};
    bool ok = collect_entries(&calibration, error);
    if (ok && calibration.count && !context->batches) ok = fail(error, graph->source, "give calib_dataloader", "calibration needs data");
    ok = ok && (calibration.count == 0 || calibrate_as_observed(&calibration, context->observed, error));
    calibration_free(&calibration);
    return ok;
}
