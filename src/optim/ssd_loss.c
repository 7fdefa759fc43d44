#include "base/cancel.h"
#include "base/memory.h"
#include "kernel/quantize.h"
#include "optim/ssd.h"
#include "quant/parameters.h"

enum { MOST_SAMPLES = 200 };

/* ---- ends of the path ---- */

static Slot *end_slot(Node *node, int end)
{
    return end < node->input_count ? node->input_slots[end] : node->output_slots[end - node->input_count];
}

static Value *end_value(const Node *node, int end)
{
    return end < node->input_count ? node->inputs[end] : node->outputs[end - node->input_count];
}

typedef bool (*EndVisit)(PathLoss *loss, Node *node, Slot *slot, Value *value, int place, Error *error);

static bool each_end(PathLoss *loss, EndVisit visit, Error *error)
{
    for (int i = 0, place = 0; i < loss->path->count; i++) {
        Node *node = loss->path->nodes[i];
        for (int end = 0; end < node->input_count + node->output_count; end++, place++)
            if (node->quantized && end_value(node, end) && !visit(loss, node, end_slot(node, end), end_value(node, end), place, error))
                return false;
    }
    return true;
}

static int place_of(const PathLoss *loss, const Node *node, bool is_output, int index)
{
    for (int i = 0, place = 0; i < loss->path->count; i++) {
        const Node *here = loss->path->nodes[i];
        if (here == node) return place + (is_output ? here->input_count : 0) + index;
        place += here->input_count + here->output_count;
    }
    return -1;
}

/* ---- exponents ---- */

static bool wants(void *context, const Node *node, bool is_output, int index)
{
    const PathLoss *loss = context;
    const Value *value = is_output ? node->outputs[index] : node->inputs[index];
    return node->quantized && value && !value->constant && place_of(loss, node, is_output, index) >= 0;
}

static bool watch(void *context, const Watched *watched, Error *error)
{
    PathLoss *loss = context;
    Observer *observer = loss->observers[place_of(loss, watched->node, watched->is_output, watched->index)];
    return !observer || observer_observe(observer, watched->raw, 0, error);
}

/* The slot of what an end reads, when its producer lies on the path and chooses its exponent by the same numbers in the same way. */
static Slot *same_choice(const PathLoss *loss, const Node *node, const Slot *slot, const Value *value)
{
    for (int i = 1; i < loss->path->count && !slot->is_output; i++) {
        const Node *before = loss->path->nodes[i - 1];
        if (loss->path->nodes[i] != node || before->outputs[0] != value || !before->quantized) continue;
        Slot *made = before->output_slots[0];
        bool waits = made->state == SLOT_INITIAL || made->state == SLOT_ACTIVATED;
        bool alike = made->minimum == slot->minimum && made->maximum == slot->maximum && made->percentile == slot->percentile;
        return waits && alike ? made : NULL;
    }
    return NULL;
}

static bool is_path_input(const PathLoss *loss, const Slot *slot, const Value *value)
{
    return value == loss->path->input && !slot->is_output;
}

static bool begin_end(PathLoss *loss, Node *node, Slot *slot, Value *value, int place, Error *error)
{
    if (slot->state != SLOT_INITIAL || value->constant || same_choice(loss, node, slot, value)) return true;
    if (loss->input_known && is_path_input(loss, slot, value)) return true;
    const ObserverRow *row = find_observer("percentile", node, error);
    loss->observers[place] = row ? observer_new(row, slot, value->name, 1, error) : NULL;
    return loss->observers[place] != NULL;
}

static bool settle_end(PathLoss *loss, Node *node, Slot *slot, Value *value, int place, Error *error)
{
    if (slot->state != SLOT_INITIAL) return true;
    int count = value->constant ? parameter_channels(slot, value) : 1;
    int *exponents = memory_new_array((size_t)count + 1, sizeof *exponents);
    if (!exponents) return fail_memory(error, (size_t)count * sizeof *exponents);
    bool ok;
    if (value->constant) {
        const ObserverRow *row = find_observer(slot->observer, node, error);
        ok = row && parameter_exponents(row, slot, value, 1, loss->context->setting, exponents, error);
    } else if (loss->observers[place]) {
        ok = observer_exponents(loss->observers[place], exponents, error);
        if (ok && is_path_input(loss, slot, value)) {
            loss->input_exponent = exponents[0];
            loss->input_known = true;
        }
    } else {
        exponents[0] = loss->input_known && is_path_input(loss, slot, value) ? loss->input_exponent
                                                                             : slot_exponent(same_choice(loss, node, slot, value), 0);
        ok = true;
    }
    ok = ok && (slot_set_exponents(loss->path->graph, slot, exponents, count) || fail_memory(error, (size_t)count * sizeof *exponents));
    if (ok) slot->state = SLOT_ACTIVATED;
    memory_free(exponents);
    return ok;
}

static bool settle_bias(PathLoss *loss, Node *node, Slot *slot, Value *value, int place, Error *error)
{
    (void)place;
    if (slot->state != SLOT_PASSIVE_INIT || slot->index != 2 || slot->is_output || !is_layer(node)) return true;
    Slot *input = node->input_slots[0], *weight = node->input_slots[1];
    int channels = slot_exponent_count(weight), count = channels > 1 ? (int)tensor_count(value->constant) : 1;
    if (!channels || !slot_exponent_count(input)) return true;
    int *exponents = memory_new_array((size_t)count, sizeof *exponents);
    if (!exponents) return fail_memory(error, (size_t)count * sizeof *exponents);
    for (int c = 0; c < count; c++)
        exponents[c] = slot_exponent(weight, c % channels) + slot_exponent(input, 0);
    slot->channel_axis = value->constant->shape.rank - 1;
    bool ok = slot_set_exponents(loss->path->graph, slot, exponents, count) || fail_memory(error, (size_t)count * sizeof *exponents);
    memory_free(exponents);
    if (ok) slot->state = SLOT_PASSIVE;
    return ok;
}

static bool reset_end(PathLoss *loss, Node *node, Slot *slot, Value *value, int place, Error *error)
{
    (void)loss;
    (void)node;
    (void)value;
    (void)place;
    (void)error;
    if (slot->state == SLOT_ACTIVATED) slot->state = SLOT_INITIAL;
    if (slot->state == SLOT_PASSIVE) {
        slot->state = SLOT_PASSIVE_INIT;
        slot->channel_axis = 0;
    }
    slot->exponent_count = 0;
    return true;
}

static void drop_observers(PathLoss *loss)
{
    for (int i = 0; loss->observers && i < loss->end_count; i++) {
        observer_free(loss->observers[i]);
        loss->observers[i] = NULL;
    }
}

/* ---- walks ---- */

typedef bool (*BatchVisit)(void *context, int64_t batch, Tensor *input, Error *error);

static bool each_batch(const PathLoss *loss, BatchVisit visit, void *context, Error *error)
{
    for (int64_t i = 0; i < cache_batch_count(loss->cache); i++) {
        Tensor *input;
        if (!cancel_check(error) || !cache_row(loss->cache, i, &input, NULL, error)) return false;
        bool ok = visit(context, i, input, error);
        tensor_release(input);
        if (!ok) return false;
    }
    return true;
}

static bool watch_batch(void *context, int64_t batch, Tensor *input, Error *error)
{
    PathLoss *loss = context;
    Tensor *none[1];
    return batch >= loss->calibrating || runner_run(&loss->watched, &input, none, error);
}

static bool compare_batch(void *context, int64_t batch, Tensor *input, Error *error)
{
    PathLoss *loss = context;
    Tensor *exact = NULL, *rounded = NULL;
    (void)batch;
    bool ok = runner_run(&loss->floating, &input, &exact, error) && runner_run(&loss->simulated, &input, &rounded, error);
    if (ok && tensor_count(exact)) {
        double noise, power;
        noise_power_f32(tensor_floats(rounded), tensor_floats(exact), tensor_count(exact), &noise, &power);
        loss->loss += noise / (double)tensor_count(exact);
    }
    tensor_release(exact);
    tensor_release(rounded);
    loss->batches++;
    return ok;
}

bool path_loss_find(PathLoss *loss, double *value, Error *error)
{
    loss->loss = 0;
    loss->batches = 0;
    bool ok = each_end(loss, begin_end, error) && runner_refresh(&loss->watched, error) && each_batch(loss, watch_batch, loss, error) &&
              each_end(loss, settle_end, error) && each_end(loss, settle_bias, error) && runner_refresh(&loss->floating, error) &&
              runner_refresh(&loss->simulated, error) && each_batch(loss, compare_batch, loss, error);
    drop_observers(loss);
    each_end(loss, reset_end, error);
    if (ok) *value = loss->loss / (double)loss->batches;
    return ok;
}

typedef struct Range {
    PathLoss *loss;
    Runner runner;
    int64_t channels, count;
} Range;

static bool add_range(void *context, int64_t batch, Tensor *input, Error *error)
{
    Range *range = context;
    Tensor *output = NULL;
    /* The reference takes as many batches as hold 200 samples, by the first one's size. */
    if (batch == 0 && input->shape.rank > 0 && input->shape.dims[0] > 0)
        range->loss->calibrating = (MOST_SAMPLES + input->shape.dims[0] - 1) / input->shape.dims[0];
    if (batch >= range->loss->calibrating) return true;
    if (!runner_run(&range->runner, &input, &output, error)) return false;
    int64_t channels = range->channels, samples = output->shape.dims[0], inner = tensor_count(output) / (samples * channels);
    for (int64_t c = 0; c < channels; c++) {
        float most = 0;
        for (int64_t n = 0; n < samples; n++) {
            const float *x = tensor_floats(output) + (n * channels + c) * inner;
            for (int64_t i = 0; i < inner; i++)
                if (x[i] > most) most = x[i];
        }
        range->loss->range[c] += most;
    }
    tensor_release(output);
    range->count++;
    return true;
}

bool path_loss_range(PathLoss *loss, float *values, Error *error)
{
    Range range = {.loss = loss, .channels = layer_channels(&loss->path->first, true)};
    range.runner = (Runner){.graph = loss->path->graph, .options = loss->floating.options};
    range.runner.options.wanted = &loss->path->middle;
    loss->range = values;
    for (int64_t c = 0; c < range.channels; c++)
        values[c] = 0;
    bool ok = each_batch(loss, add_range, &range, error);
    for (int64_t c = 0; ok && c < range.channels; c++)
        values[c] /= (float)range.count;
    runner_end(&range.runner);
    return ok;
}

bool path_loss_begin(PathLoss *loss, Path *path, const PassContext *context, Cache *cache, int stop, Error *error)
{
    static Value *const nothing[1];
    bool exact = context->setting->switches.onnx_exact_ops;
    *loss = (PathLoss){.path = path, .context = context, .cache = cache, .calibrating = MOST_SAMPLES};
    for (int i = 0; i < path->count; i++)
        loss->end_count += path->nodes[i]->input_count + path->nodes[i]->output_count;
    loss->observers = memory_new_array((size_t)loss->end_count + 1, sizeof(Observer *));
    if (!loss->observers) return fail_memory(error, (size_t)loss->end_count * sizeof(Observer *));
    if (!cache_go(cache, stop, error)) return false;
    PlanOptions options = {
        .mode = EXEC_FLOAT, .exact = exact, .given = &path->input, .given_count = 1, .wanted = &path->output, .wanted_count = 1};
    loss->floating = (Runner){.graph = path->graph, .options = options};
    options.mode = EXEC_SIMULATED;
    loss->simulated = (Runner){.graph = path->graph, .options = options};
    loss->watcher = (Watcher){.context = loss, .wants = wants, .watch = watch};
    options.wanted = nothing;
    options.wanted_count = 0;
    options.watcher = &loss->watcher;
    loss->watched = (Runner){.graph = path->graph, .options = options};
    return true;
}

void path_loss_end(PathLoss *loss)
{
    drop_observers(loss);
    memory_free(loss->observers);
    runner_end(&loss->floating);
    runner_end(&loss->simulated);
    runner_end(&loss->watched);
    *loss = (PathLoss){0};
}
