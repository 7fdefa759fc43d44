/* The pass `calibrate` (QUANT §8.1): exponents of activations from what flows through the graph, in one walk over the data or two. */
#include <stdlib.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "exec/batches.h"
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
} Entry;

typedef struct Calibration {
    Graph *graph;
    const Setting *setting;
    Entry *entries;
    size_t count;
    Entry **by_slot; /* sorted by the slot's address, to find one */
    int walk;
    int64_t batches;
    Watcher watcher;
    struct {
        Plan *plan;
        Shape *shapes;
    } plans[PLANS];
    int plan_count;
    Tensor **inputs, **outputs;
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
    if (!value->constant && method) slot->observer = method;
    if (slot->state != SLOT_INITIAL) return true;
    const ObserverRow *row = find_observer(slot->observer, node, error);
    if (!row) return false;
    Entry *entry = &calibration->entries[calibration->count];
    *entry = (Entry){.slot = slot, .value = value, .row = row, .count = value->constant ? parameter_channels(slot, value) : 1};
    entry->exponents = memory_new_array((size_t)entry->count, sizeof *entry->exponents);
    calibration->count++;
    if (!entry->exponents) return fail_memory(error, (size_t)entry->count * sizeof *entry->exponents);
    if (value->constant) return true;
    entry->observer = observer_new(row, slot, value->name, 1, error);
    if (entry->observer) entry->observer->mse_fixed = calibration->setting->switches.mse_fixed;
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
    return observer_observe(entry->observer, watched->raw, calibration->walk, error);
}

/* The plan for inputs of these shapes. */
static Plan *plan_for(Calibration *calibration, Error *error)
{
    int inputs = calibration->graph->input_count;
    for (int p = 0; p < calibration->plan_count; p++) {
        bool equal = true;
        for (int i = 0; equal && i < inputs; i++)
            equal = shape_equal(&calibration->plans[p].shapes[i], &calibration->inputs[i]->shape);
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
        shapes[i] = calibration->inputs[i]->shape;
    PlanOptions options = {
        .mode = EXEC_SIMULATED, .exact = calibration->setting->switches.onnx_exact_ops, .watcher = &calibration->watcher};
    Plan *plan = plan_new(calibration->graph, &options, shapes, error);
    if (!plan) {
        memory_free(shapes);
        return NULL;
    }
    calibration->plans[calibration->plan_count].plan = plan;
    calibration->plans[calibration->plan_count++].shapes = shapes;
    return plan;
}

static void release_all(Tensor **tensors, int count)
{
    for (int i = 0; i < count; i++) {
        tensor_release(tensors[i]);
        tensors[i] = NULL;
    }
}

static bool walk_data(Calibration *calibration, Batches *batches, Error *error)
{
    Graph *graph = calibration->graph;
    BatchWalk walk = {0};
    bool ok = batch_walk_begin(&walk, graph, batches, error), done = false;
    while (ok) {
        ok = cancel_check(error) && batch_walk_next(&walk, calibration->inputs, &done, error);
        if (!ok || done) break;
        Plan *plan = plan_for(calibration, error);
        ok = plan && plan_run(plan, calibration->inputs, calibration->outputs, error);
        release_all(calibration->inputs, graph->input_count);
        release_all(calibration->outputs, graph->output_count);
        progress_step(walk.batch_count);
    }
    if (ok && calibration->walk == 0) batch_walk_note(&walk, graph);
    calibration->batches = walk.batch_count;
    batch_walk_end(&walk);
    return ok;
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
        graph_note(calibration->graph,
                   "%d tensor%s always zero on the calibration data: %s%s; what is computed from %s has the smallest exponent there is",
                   dead, dead == 1 ? " is" : "s are", names.data, dead > 8 ? ", …" : "", dead == 1 ? "it" : "them");
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
    }
    memory_free(calibration->entries);
    memory_free(calibration->by_slot);
    memory_free(calibration->inputs);
    memory_free(calibration->outputs);
}

bool pass_calibrate(Graph *graph, PassContext *context, Error *error)
{
    if (!context->batches) return fail(error, graph->source, "give calib_dataloader", "calibration needs data");
    Calibration calibration = {.graph = graph, .setting = context->setting};
    calibration.watcher = (Watcher){.context = &calibration, .wants = wants, .watch = watch};
    calibration.inputs = memory_new_array((size_t)graph->input_count + 1, sizeof *calibration.inputs);
    calibration.outputs = memory_new_array((size_t)graph->output_count + 1, sizeof *calibration.outputs);
    bool ok = calibration.inputs && calibration.outputs ? collect_entries(&calibration, error) : fail_memory(error, 64);
    ok = ok && (calibration.count == 0 || calibrate(&calibration, context->batches, error));
    calibration_free(&calibration);
    return ok;
}
