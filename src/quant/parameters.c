/* Exponents of constants: the pass `parameters` (QUANT §7.1) and what follows from others, the pass `passive` (§7.2). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "graph/operator.h"
#include "observe/observer.h"
#include "quant/given.h"
#include "quant/parameters.h"
#include "quant/slots.h"

/* ---- observed parameters ---- */

int parameter_channels(const Slot *slot, const Value *value)
{
    return slot->per_channel ? (int)value->constant->shape.dims[slot->channel_axis] : 1;
}

static bool check_axis(const Node *node, const Slot *slot, const Value *value, Error *error)
{
    char where[256];
    if (!slot->per_channel || slot->channel_axis < value->constant->shape.rank) return true;
    return fail(error, node_where(node, where), "repair the model", "weight %s has too few axes for one exponent a channel", value->name);
}

/* A constant seen channel by channel: element (o, c, i) of [outer, count, inner]. */
typedef struct Layout {
    int64_t outer, count, inner;
} Layout;

static Layout layout_of(const Tensor *constant, const Slot *slot)
{
    Layout layout = {1, 1, tensor_count(constant)};
    if (!slot->per_channel) return layout;
    layout.count = constant->shape.dims[slot->channel_axis];
    layout.inner = 1;
    for (int i = 0; i < slot->channel_axis; i++)
        layout.outer *= constant->shape.dims[i];
    for (int i = slot->channel_axis + 1; i < constant->shape.rank; i++)
        layout.inner *= constant->shape.dims[i];
    return layout;
}

static bool is_dead(const Tensor *constant, const Layout *layout, int64_t channel)
{
    for (int64_t o = 0; o < layout->outer; o++) {
        const float *x = tensor_floats(constant) + (o * layout->count + channel) * layout->inner;
        for (int64_t i = 0; i < layout->inner; i++)
            if (x[i] != 0) return false;
    }
    return true;
}

/* Channels of zeros only take the largest exponent of the others: their own would be so small that their biases no longer fit. Where
 * all are dead, they count as weights up to 1. */
static void follow_living_channels(const Tensor *constant, const Slot *slot, int *exponents)
{
    Layout layout = layout_of(constant, slot);
    int largest = 1 - slot->bits;
    bool found = false;
    for (int64_t c = 0; c < layout.count; c++) {
        if (is_dead(constant, &layout, c) || (found && exponents[c] <= largest)) continue;
        largest = exponents[c];
        found = true;
    }
    for (int64_t c = 0; c < layout.count; c++)
        if (is_dead(constant, &layout, c)) exponents[c] = largest;
}

bool parameter_exponents(const ObserverRow *row, Slot *slot, const Value *value, int64_t times, const Setting *setting, int *exponents,
                         Error *error)
{
    if (!observer_constant(row, slot, value->name, value->constant, times, setting->switches.mse_fixed, exponents, error)) return false;
    bool is_weight = (slot->node->op->flags & OPERATOR_WEIGHTED) && slot->index == 1;
    if (is_weight && setting->switches.dead_channels_follow) follow_living_channels(value->constant, slot, exponents);
    return true;
}

typedef struct Job {
    const ObserverRow *row;
    Slot *slot;
    const Value *value;
    int *exponents;
    int count;
    bool failed;
} Job;

typedef struct Jobs {
    const Setting *setting;
    Job *jobs;
} Jobs;

static void run_jobs(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Jobs *work = context;
    for (int64_t i = begin; i < end; i++) {
        Job *job = &work->jobs[i];
        Error ignored = {0};
        job->failed = !parameter_exponents(job->row, job->slot, job->value, 1, work->setting, job->exponents, &ignored);
    }
}

/* What a rounding costs that is out of the ordinary. Lost: values that become zero in channels where nearly all do. Clipped: values
 * cut to less than half their size. */
static void note_outliers(Graph *graph, const Node *node, Slot *slot, const Value *value)
{
    Layout layout = layout_of(value->constant, slot);
    Layout whole = {1, 1, tensor_count(value->constant)};
    if ((node->op->flags & OPERATOR_WEIGHTED) && slot->index == 1 && is_dead(value->constant, &whole, 0)) {
        graph_note(graph, "%s of %s: all of its values are zero: what %s makes does not depend on its input", value->name, node->name,
                   node->name);
        return;
    }
    int64_t count = tensor_count(value->constant), filled = 0, lost = 0, clipped = 0;
    bool all_small = true;
    if (slot->bits > 8 || count < 32) return;
    for (int64_t c = 0; c < layout.count; c++) {
        float step = ldexpf(1.0f, slot_exponent(slot, (int)c)), limit = step * ((float)slot->maximum + 1) * 2;
        int64_t here = 0, small = 0;
        for (int64_t o = 0; o < layout.outer; o++) {
            const float *x = tensor_floats(value->constant) + (o * layout.count + c) * layout.inner;
            for (int64_t i = 0; i < layout.inner; i++) {
                float size = fabsf(x[i]);
                here += size > 0;
                small += size > 0 && size < step / 2;
                clipped += size > limit;
            }
        }
        filled += here;
        all_small = all_small && small == here;
        if (here >= 8 && small * 10 > here * 9) lost += small;
    }
    if (filled && all_small) {
        graph_note(graph, "%s of %s: all of its values are smaller than half of the smallest step there is and become zero", value->name,
                   node->name);
    } else if (lost) {
        graph_note(graph, "%s of %s: %.1f %% of its values are rounded to zero, a few large ones stretch the range", value->name,
                   node->name, 100.0 * (double)lost / (double)count);
    }
    if (clipped) {
        graph_note(graph, "%s of %s: %.3f %% of its values are clipped to less than half their size", value->name, node->name,
                   100.0 * (double)clipped / (double)count);
    }
}

const ObserverRow *find_observer(const char *name, const Node *node, Error *error)
{
    char where[256];
    const ObserverRow *row = observer_row(name);
    if (row) return row;
    const char *nearest = observer_nearest(name);
    fail(error, node_where(node, where), "use kl, minmax, percentile, mse or isotone", "unknown calibration method '%s'%s%s%s", name,
         nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
    return NULL;
}

static bool collect_jobs(Graph *graph, const Setting *setting, Job *jobs, size_t *count, Error *error)
{
    const char *method = setting->quantize_parameter_setting.calib_algorithm;
    *count = 0;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++) {
            const Value *value = node->inputs[k];
            Slot *slot = node->input_slots[k];
            if (!value || !value->constant) continue;
            /* The name of the row: the slot outlives the setting. */
            const ObserverRow *row = find_observer(method ? method : slot->observer, node, error);
            if (!row) return false;
            slot->observer = row->name;
            if (slot->state != SLOT_INITIAL) continue;
            if (!check_axis(node, slot, value, error)) return false;
            /* Methods of two walks find their exponents in `calibrate`, between the activations' (as the reference does); per channel
             * it cannot, and without calibration there is no such place. */
            if (row->walks > 1 && !slot->per_channel && setting->quantize_activation) continue;
            if (jobs) jobs[*count] = (Job){row, slot, value, NULL, parameter_channels(slot, value), false};
            ++*count;
        }
    }
    return true;
}

static bool finish_jobs(Graph *graph, const Setting *setting, Job *jobs, size_t count, Error *error)
{
    for (size_t i = 0; i < count; i++) {
        Job *job = &jobs[i];
        bool again = job->failed || !job->row->parallel; /* again: in this thread, for its message or because it calls back */
        if (again && !parameter_exponents(job->row, job->slot, job->value, 1, setting, job->exponents, error)) return false;
        if (!slot_set_exponents(graph, job->slot, job->exponents, job->count)) return fail_memory(error, (size_t)job->count * sizeof(int));
        job->slot->state = SLOT_ACTIVATED;
        note_outliers(graph, job->slot->node, job->slot, job->value);
    }
    return true;
}

bool pass_parameters(Graph *graph, PassContext *context, Error *error)
{
    const Setting *setting = context->setting;
    size_t count, numbers = 0, parallel = 0;
    if (!collect_jobs(graph, setting, NULL, &count, error)) return false;
    Job *jobs = memory_new_array(count + 1, sizeof *jobs);
    if (!jobs) return fail_memory(error, (count + 1) * sizeof *jobs);
    bool ok = collect_jobs(graph, setting, jobs, &count, error);
    for (size_t i = 0; i < count; i++)
        numbers += (size_t)jobs[i].count, parallel += jobs[i].row->parallel;
    int *exponents = ok ? memory_new_array(numbers + 1, sizeof *exponents) : NULL;
    if (ok && !exponents) ok = fail_memory(error, numbers * sizeof *exponents);
    for (size_t i = 0, at = 0; ok && i < count; i++) {
        jobs[i].exponents = exponents + at;
        at += (size_t)jobs[i].count;
    }
    Jobs work = {setting, jobs};
    if (ok && parallel == count)
        threads_for((int64_t)count, 1, run_jobs, &work);
    else if (ok)
        for (size_t i = 0; i < count; i++)
            jobs[i].failed = true;
    ok = ok && finish_jobs(graph, setting, jobs, count, error);
    memory_free(exponents);
    memory_free(jobs);
    return ok;
}

/* ---- parameters that follow ---- */

static bool is_settled(const Slot *slot)
{
    return slot->state == SLOT_PASSIVE || slot->state == SLOT_ACTIVATED || slot->state == SLOT_BAKED || slot->state == SLOT_OVERLAPPED;
}

static bool require_settled(const Node *node, const char *what, Error *error)
{
    char where[256];
    Slot *input = node->input_slots[0];
    if (is_settled(input) && slot_exponent_count(input) > 0) return true;
    return fail(error, node_where(node, where), "leave quantize_activation on, or switch quantize_passive_parameter off",
                "its %s cannot be quantized: its input %s has no exponent", what, node->inputs[0] ? node->inputs[0]->name : "0");
}

/* A bias may come as [1, 1, C]: the same numbers in one dimension. */
static bool flatten_bias(Graph *graph, const Node *node, Value *bias, Error *error)
{
    char where[256];
    int64_t count = tensor_count(bias->constant);
    int rank = bias->constant->shape.rank;
    if (rank == 1) return true;
    if (rank > 1 && bias->constant->shape.dims[rank - 1] != count) {
        return fail(error, node_where(node, where), "give one number a channel", "bias %s is not one-dimensional", bias->name);
    }
    int64_t dims[1] = {count};
    Shape shape = shape_of(1, dims);
    Tensor *flat = tensor_view(bias->constant, &shape, error);
    if (!flat) return false;
    bool ok = value_set_constant(graph, bias, flat) || fail_memory(error, sizeof *flat);
    tensor_release(flat);
    return ok;
}

static void note_saturation(Graph *graph, const Node *node, const Value *bias, Slot *slot)
{
    int64_t count = tensor_count(bias->constant), saturated = 0;
    double worst = 0;
    for (int64_t i = 0; i < count; i++) {
        double steps = fabs((double)tensor_floats(bias->constant)[i]) * ldexp(1.0, -slot_exponent(slot, (int)i));
        if (steps > (double)slot->maximum) saturated++;
        if (steps > worst) worst = steps;
    }
    if (!saturated) return;
    graph_note(
        graph,
        "%s of %s: %lld of %lld biases (%.1f %%) do not fit in %d bits at input times weight scale, the largest is %.3g times too big",
        bias->name, node->name, (long long)saturated, (long long)count, 100.0 * (double)saturated / (double)count, slot->bits,
        worst / (double)slot->maximum);
}

static bool settle_bias(Graph *graph, Node *node, Error *error)
{
    char where[256];
    if (node->input_count != 3 || !node->inputs[2]) return true;
    Slot *input = node->input_slots[0], *weight = node->input_slots[1], *slot = node->input_slots[2];
    Value *bias = node->inputs[2];
    if (slot->state != SLOT_PASSIVE && slot->state != SLOT_PASSIVE_INIT) return true;
    if (!bias->constant || bias->constant->dtype != DTYPE_FLOAT32) {
        return fail(error, node_where(node, where), "leave the operator at float by the dispatching table",
                    "bias %s must be a float32 constant", bias->name);
    }
    if (!flatten_bias(graph, node, bias, error) || !require_settled(node, "bias", error)) return false;
    int channels = slot_exponent_count(weight), count = channels > 1 ? (int)tensor_count(bias->constant) : 1;
    if (channels == 0)
        return fail(error, node_where(node, where), "leave quantize_parameter on",
                    "its bias cannot be quantized: weight %s has no exponent", node->inputs[1]->name);
    int *exponents = memory_new_array((size_t)count, sizeof *exponents);
    if (!exponents) return fail_memory(error, (size_t)count * sizeof *exponents);
    for (int c = 0; c < count; c++)
        exponents[c] = slot_exponent(weight, c % channels) + slot_exponent(input, 0); /* %: groups of a ConvTranspose */
    slot->per_channel = slot_root(weight)->per_channel; /* also with one channel: the reference keeps a list of one */
    slot->channel_axis = 0;
    slot->parent = slot;
    bool first = slot->state == SLOT_PASSIVE_INIT;
    bool ok = slot_set_exponents(graph, slot, exponents, count) || fail_memory(error, (size_t)count * sizeof *exponents);
    memory_free(exponents);
    if (!ok) return false;
    slot->state = SLOT_PASSIVE;
    if (first) note_saturation(graph, node, bias, slot);
    return true;
}

/* Biases and cell states of recurrent operators: the ends that wait on their own. */
static bool settle_recurrent(Graph *graph, Node *node, Error *error)
{
    static const int exponent = ESPQ_RECURRENT_EXPONENT;
    if (!require_settled(node, "bias", error)) return false;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        Slot *slot = i < node->input_count ? node->input_slots[i] : node->output_slots[i - node->input_count];
        if (slot->parent != slot || (slot->state != SLOT_PASSIVE_INIT && slot->state != SLOT_PASSIVE)) continue;
        if (!slot_set_exponents(graph, slot, &exponent, 1)) return fail_memory(error, sizeof exponent);
        slot->state = SLOT_PASSIVE;
    }
    return true;
}

static SlotVisibility visibility_of(const char *name)
{
    return strcmp(name, "INTERNAL") == 0       ? VISIBILITY_INTERNAL
           : strcmp(name, "FORCE_EXPORT") == 0 ? VISIBILITY_FORCE_EXPORT
                                               : VISIBILITY_EXPORT_WHEN_ACTIVE;
}

static bool settle_scaled(Node *node, const Setting *setting, Error *error)
{
    bool clamp = node->op->flags & OPERATOR_CLAMP;
    for (int i = 1; i < node->input_count && i < 32; i++) {
        const Value *value = node->inputs[i];
        if (!(node->op->scaled_inputs >> i & 1) || !value || (value->dtype != DTYPE_FLOAT32 && value->dtype != DTYPE_NONE)) continue;
        if (!require_settled(node, clamp ? "bounds" : "padding value", error)) return false;
        slot_master(node->input_slots[i], node->input_slots[0]);
        node->input_slots[i]->visibility =
            visibility_of(clamp ? setting->quantize_parameter_setting.clip_visiblity : setting->quantize_parameter_setting.pad_visiblity);
    }
    return true;
}

bool passive_follow(Graph *graph, const Setting *setting, Error *error)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!node->quantized || node->input_count == 0) continue;
        if ((node->op->flags & OPERATOR_WEIGHTED) && !settle_bias(graph, node, error)) return false;
        if (node->op->align == ALIGN_RECURRENT && !settle_recurrent(graph, node, error)) return false;
        if (node->op->scaled_inputs && !settle_scaled(node, setting, error)) return false;
    }
    return true;
}

bool pass_passive(Graph *graph, PassContext *context, Error *error)
{
    if (context->setting->switches.no_negative_shifts && !raise_fine_outputs(graph, error)) return false;
    if (!passive_follow(graph, context->setting, error)) return false;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++) {
            if (node->input_slots[k]->state != SLOT_PASSIVE_INIT || !node->inputs[k]) continue;
            graph_note(graph, "%s of %s stays float: nothing says which exponent it takes", node->inputs[k]->name, node->name);
        }
    }
    given_note_changes(graph);
    return true;
}
