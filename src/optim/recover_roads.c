/* Recovery's first step: the quantization passes are walked again on copies of the graph, with channels between layers scaled by what
 * activations say and with other calibration methods, and what comes nearest to the float network is kept. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/math.h"
#include "base/memory.h"
#include "base/progress.h"
#include "optim/pairs.h"
#include "optim/recover.h"
#include "quant/quantize.h"

#define ACROSS_ADD 2 /* opt_level: pairs also across Add and Sub */
#define LEAST_ACTIVATION 1e-6

/* Scale of a channel: (1 / activation)^a * down^(1 - a - b) * (down / up)^(b / 2), then all of a pair by one factor, so that the largest
 * activation just reaches a power of two: scales that are powers of two waste up to half of the range else. a: how much the activations
 * count, b: how much the weights before do (they have one exponent a tensor on some chips); the rest is for the weights behind. */
typedef struct Balance {
    const char *name;
    double activations, weights;
    int rounds; /* over all pairs: what one does to a layer between two changes the other */
} Balance;

static const Balance balances[] = {
    {"activations 0.3", 0.3, 0, 1},
    {"activations 0.5", 0.5, 0, 1},
    {"activations 0.3, weights 0.4", 0.3, 0.4, 1},
    {"weights", 0, 1, 1},
    {"activations 0.3, weights 0.4, 4 rounds", 0.3, 0.4, 4},
    {"activations 0.4, weights 0.3, 4 rounds", 0.4, 0.3, 4},
    {"activations 0.2, weights 0.5, 4 rounds", 0.2, 0.5, 4},
    {"weights, 4 rounds", 0, 1, 4},
};
#define BALANCES ((int)(sizeof balances / sizeof balances[0]))

static const char *const methods[] = {"percentile", "kl", "mse", "minmax"};
#define METHODS ((int)(sizeof methods / sizeof methods[0]))

typedef struct Roads {
    Recovery *recovery;
    float **activations; /* one a pair: rms over samples of the largest |value| of each channel */
    int pair_count;
    Graph *nearest; /* of the trials that are not worse than the plain road on what is held back */
    double score;
    const char *method;
    const Balance *balance;
    double leading; /* of all trials: where the search goes on */
    const char *leading_method;
    const Balance *leading_balance;
    int trials;
} Roads;

/* ---- walking again ---- */

/* Slots go, and constants become what float runs read. */
static void strip(Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        node->quantized = node->wide = false;
        node->input_slots = node->output_slots = NULL;
        node->slot_pool = NULL; /* the arena has it */
    }
    for (int i = 0; i < graph->value_count; i++) {
        Value *value = graph->values[i];
        if (!value->unbaked) continue;
        tensor_release(value->constant);
        value->constant = value->unbaked;
        value->unbaked = NULL;
    }
    graph->next_slot = 0;
}

static bool quantize_again(const Recovery *recovery, Graph *graph, const Setting *setting, Error *error)
{
    SampleTurn turn = {&recovery->samples, 0};
    Batches batches = samples_batches(&turn);
    PassContext context = *recovery->context;
    context.setting = setting;
    context.batches = &batches;
    context.observed = NULL; /* of other graphs and data */
    context.memo = NULL;
    int level = progress_level;
    bool ok = true, inside = false;
    progress_level = 0; /* a trial among many is no news */
    for (const Pass *pass = quantization_passes; ok && pass->name && pass->run != pass_baking; pass++) {
        inside = inside || pass->run == pass_slots;
        if (inside && (!pass->when || pass->when(setting))) ok = cancel_check(error) && pass->run(graph, &context, error);
    }
    progress_level = level;
    return ok;
}

bool recover_walk_again(const Recovery *recovery, Graph *graph, const Setting *setting, Error *error)
{
    strip(graph);
    return quantize_again(recovery, graph, setting, error);
}

/* ---- activations ---- */

static bool is_fused(const Value *value)
{
    static const char *const types[] = {"Relu", "Clip", "PRelu", "LeakyRelu"};
    for (size_t i = 0; value->use_count == 1 && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(value->uses[0].node->type, types[i]) == 0) return true;
    return false;
}

static int pair_value_count(const Pair *pair)
{
    return pair->up_count + pair->relay_count;
}

static Value *pair_value(const Graph *graph, const Pair *pair, int index)
{
    const Node *node = graph->nodes[index < pair->up_count ? pair->up[index] : pair->relays[index - pair->up_count]];
    return node->outputs[0];
}

/* Adds the squares of the largest |x| of each channel of each unit. */
static void add_peaks(const Tensor *tensor, int64_t units, int64_t channels, double *sums)
{
    int64_t per_unit = tensor_count(tensor) / units, rows = tensor->shape.dims[0] / units;
    int64_t inner = rows ? per_unit / rows / channels : 0;
    for (int64_t u = 0; u < units; u++) {
        for (int64_t c = 0; c < channels; c++) {
            float peak = 0;
            for (int64_t row = 0; row < rows; row++) {
                const float *x = tensor_floats(tensor) + u * per_unit + (row * channels + c) * inner;
                for (int64_t i = 0; i < inner; i++)
                    if (fabsf(x[i]) > peak) peak = fabsf(x[i]);
            }
            sums[c] += (double)peak * peak;
        }
    }
}

typedef struct Peaks {
    Value **values;
    int *owners; /* the pair of each */
    double **sums;
    int count;
} Peaks;

static void peaks_free(Peaks *peaks)
{
    for (int i = 0; i < peaks->count; i++)
        memory_free(peaks->sums[i]);
    memory_free(peaks->values);
    memory_free(peaks->owners);
    memory_free(peaks->sums);
}

static bool peaks_find(Peaks *peaks, const Graph *graph, const Pairs *pairs, Error *error)
{
    size_t most = 1;
    for (int p = 0; p < pairs->count; p++)
        most += (size_t)pair_value_count(&pairs->items[p]);
    *peaks = (Peaks){.values = memory_new_array(most, sizeof(Value *)),
                     .owners = memory_new_array(most, sizeof(int)),
                     .sums = memory_new_array(most, sizeof(double *))};
    if (!peaks->values || !peaks->owners || !peaks->sums) return fail_memory(error, most * sizeof(Value *));
    for (int p = 0; p < pairs->count; p++) {
        const Pair *pair = &pairs->items[p];
        for (int i = 0; i < pair_value_count(pair); i++) {
            Value *value = pair_value(graph, pair, i);
            if (is_fused(value) || !value->shaped || value->shape.rank < 2 || value->shape.dims[1] != pair->channels) continue;
            peaks->values[peaks->count] = value;
            peaks->owners[peaks->count] = p;
            peaks->sums[peaks->count] = memory_new_array((size_t)pair->channels, sizeof(double));
            if (!peaks->sums[peaks->count++]) return fail_memory(error, (size_t)pair->channels * sizeof(double));
        }
    }
    return true;
}

static bool peaks_collect(Peaks *peaks, Graph *graph, const Pairs *pairs, const Recovery *recovery, Error *error)
{
    const RecoverySamples *samples = &recovery->samples;
    PlanOptions options = {.mode = EXEC_FLOAT, .exact = recovery->exact, .wanted = peaks->values, .wanted_count = peaks->count};
    Runner runner = {.graph = graph, .options = options};
    Tensor **inputs = memory_new_array((size_t)graph->input_count + (size_t)peaks->count, sizeof *inputs);
    if (!inputs) return fail_memory(error, (size_t)peaks->count * sizeof *inputs);
    Tensor **outputs = inputs + graph->input_count;
    bool ok = true;
    for (int64_t u = 0; ok && u < samples->units; u++) {
        ok = cancel_check(error) && samples_take(samples, u, 1, inputs, error);
        if (!ok) break;
        ok = runner_run(&runner, inputs, outputs, error);
        for (int i = 0; i < graph->input_count; i++)
            tensor_release(inputs[i]);
        for (int i = 0; ok && i < peaks->count; i++) {
            add_peaks(outputs[i], 1, pairs->items[peaks->owners[i]].channels, peaks->sums[i]);
            tensor_release(outputs[i]);
        }
    }
    runner_end(&runner);
    memory_free(inputs);
    return ok;
}

static const LayerSplitSetting pair_setting = {.opt_level = ACROSS_ADD};

static bool find_pairs(Pairs *pairs, Graph *graph, Error *error)
{
    *pairs = (Pairs){0};
    return pairs_find(pairs, graph, &pair_setting, "recover", error);
}

static bool keep_peaks(Roads *roads, const Peaks *peaks, const Pairs *pairs, Error *error)
{
    double units = (double)roads->recovery->samples.units;
    roads->activations = memory_new_array((size_t)pairs->count + 1, sizeof *roads->activations);
    if (!roads->activations) return fail_memory(error, (size_t)pairs->count * sizeof *roads->activations);
    roads->pair_count = pairs->count;
    for (int p = 0; p < pairs->count; p++) {
        roads->activations[p] = memory_new_array((size_t)pairs->items[p].channels, sizeof(float));
        if (!roads->activations[p]) return fail_memory(error, (size_t)pairs->items[p].channels * sizeof(float));
    }
    for (int i = 0; i < peaks->count; i++) {
        float *kept = roads->activations[peaks->owners[i]];
        for (int64_t c = 0; c < pairs->items[peaks->owners[i]].channels; c++) {
            float peak = (float)sqrt(peaks->sums[i][c] / units);
            if (peak > kept[c]) kept[c] = peak;
        }
    }
    return true;
}

static bool collect_activations(Roads *roads, Error *error)
{
    Pairs pairs = {0};
    Peaks peaks = {0};
    Graph *graph = graph_copy(roads->recovery->best, error);
    if (!graph) return false;
    strip(graph);
    bool ok = find_pairs(&pairs, graph, error);
    if (ok && pairs.count) {
        ok = peaks_find(&peaks, graph, &pairs, error);
        ok = ok && (!peaks.count || peaks_collect(&peaks, graph, &pairs, roads->recovery, error));
        ok = ok && keep_peaks(roads, &peaks, &pairs, error);
        peaks_free(&peaks);
    }
    pairs_free(&pairs);
    graph_free(graph);
    return ok;
}

/* ---- scaling ---- */

static void balance_scales(const Pairs *pairs, const Pair *pair, const Balance *balance, const float *activation, float *keys,
                           float *scales)
{
    float *up = keys, *down = keys + pair->channels;
    double a = balance->activations, b = balance->weights, most = 0;
    pair_keys(pairs, pair, &pair_setting, false, up, down);
    for (int64_t c = 0; c < pair->channels; c++) {
        double peak = activation[c], scale = 0;
        if (up[c] > 0 && down[c] > 0 && (peak > LEAST_ACTIVATION || a == 0))
            scale = (a > 0 ? espq_pow(peak, -a) : 1) * espq_pow(down[c], 1 - a - b) * espq_pow((double)down[c] / up[c], b / 2);
        scales[c] = (float)scale;
        double reach = peak > LEAST_ACTIVATION ? scale * peak : 0;
        if (reach > most) most = reach;
    }
    for (int64_t c = 0; c < pair->channels; c++) {
        float scale = most > 0 ? (float)(scales[c] / most) : scales[c];
        scales[c] = scale > 0 && isfinite(scale) ? scale : 1;
    }
}

/* One pair; what its activations reach is scaled along. */
static bool balance_pair(Pairs *pairs, const Pair *pair, const Balance *balance, float *activation, Error *error)
{
    float *keys = memory_new_array((size_t)pair->channels * 3, sizeof *keys);
    if (!keys) return fail_memory(error, (size_t)pair->channels * 3 * sizeof *keys);
    float *scales = keys + 2 * pair->channels;
    balance_scales(pairs, pair, balance, activation, keys, scales);
    for (int64_t c = 0; c < pair->channels; c++)
        activation[c] *= scales[c];
    for (int i = 0; i < pair->up_count; i++)
        layer_scale(&pairs->layers[pair->up[i]], true, scales);
    for (int i = 0; i < pair->down_count; i++)
        layer_scale(&pairs->layers[pair->down[i]], false, scales);
    memory_free(keys);
    return true;
}

static bool balance_graph(const Roads *roads, Graph *graph, const Balance *balance, Error *error)
{
    Pairs pairs = {0};
    bool ok = find_pairs(&pairs, graph, error);
    float **activations = memory_new_array((size_t)roads->pair_count + 1, sizeof *activations);
    if (ok && !activations) ok = fail_memory(error, sizeof *activations);
    for (int p = 0; ok && p < roads->pair_count; p++) {
        size_t bytes = (size_t)pairs.items[p].channels * sizeof(float);
        if (!(activations[p] = memory_new(bytes))) ok = fail_memory(error, bytes);
        if (ok) memcpy(activations[p], roads->activations[p], bytes);
    }
    for (int round = 0; round < balance->rounds; round++)
        for (int p = 0; ok && p < roads->pair_count; p++)
            ok = balance_pair(&pairs, &pairs.items[p], balance, activations[p], error);
    for (int p = 0; activations && p < roads->pair_count; p++)
        memory_free(activations[p]);
    memory_free(activations);
    pairs_free(&pairs);
    return ok;
}

/* ---- trials ---- */

static Graph *walk_road(const Roads *roads, const char *method, const Balance *balance, Error *error)
{
    const Recovery *recovery = roads->recovery;
    Graph *graph = graph_copy(recovery->best, error);
    Setting *setting = graph ? setting_copy(recovery->setting, error) : NULL;
    bool ok = setting && setting_set(setting, "quantize_activation_setting.calib_algorithm", method, error);
    if (ok) {
        strip(graph);
        ok = (!balance || balance_graph(roads, graph, balance, error)) && quantize_again(recovery, graph, setting, error);
    }
    setting_free(setting);
    if (ok) return graph;
    graph_free(graph);
    return NULL;
}

static bool try_road(Roads *roads, const char *method, const Balance *balance, Error *error)
{
    Noise noise;
    Graph *graph = walk_road(roads, method, balance, error);
    if (!graph) return false;
    bool ok = samples_judge(&roads->recovery->samples, graph, roads->recovery->exact, &noise, error);
    roads->trials++;
    if (ok && progress_level >= 2)
        progress_note("recover: %s, %s: noise %.5f, held back %.5f", balance ? balance->name : "channels as they are", method,
                      noise.learned, noise.held);
    double score = noise_over_all(&roads->recovery->samples, &noise);
    if (ok && (!roads->leading_method || score < roads->leading)) {
        roads->leading = score;
        roads->leading_method = method;
        roads->leading_balance = balance;
    }
    bool passes = ok && noise.held < roads->recovery->plain.held;
    if (passes && (!roads->nearest || score < roads->score)) {
        graph_free(roads->nearest);
        roads->nearest = graph;
        roads->score = score;
        roads->method = method;
        roads->balance = balance;
    } else {
        graph_free(graph);
    }
    return ok;
}

static bool try_roads(Roads *roads, Error *error)
{
    bool ok = true;
    for (int m = 0; ok && m < METHODS; m++)
        ok = try_road(roads, methods[m], NULL, error);
    const char *method = roads->leading_method;
    for (int b = 0; ok && roads->pair_count && b < BALANCES && recovery_seconds_left(roads->recovery) > 0; b++)
        ok = try_road(roads, method, &balances[b], error);
    const Balance *balance = roads->leading_balance;
    for (int m = 0; ok && balance && m < METHODS; m++)
        if (strcmp(methods[m], method) != 0) ok = try_road(roads, methods[m], balance, error);
    return ok;
}

bool recover_choose_road(Recovery *recovery, Error *error)
{
    if (recovery->retouched) {
        text_format(&recovery->story, "roads: not walked again, some exponents were given by hand\n");
        return true;
    }
    Roads roads = {.recovery = recovery};
    bool kept = false, ok = collect_activations(&roads, error) && try_roads(&roads, error);
    if (ok && !roads.nearest) {
        text_format(&recovery->story, "calibration and channels: none of %d others is better\n", roads.trials);
    } else if (ok) {
        char step[160];
        snprintf(step, sizeof step, "calibration %s, channels %s (best of %d)", roads.method,
                 roads.balance ? roads.balance->name : "as they are", roads.trials);
        Graph *nearest = roads.nearest;
        roads.nearest = NULL;
        ok = recovery_offer(recovery, nearest, step, &kept, error);
        if (ok && kept) ok = setting_set(recovery->setting, "quantize_activation_setting.calib_algorithm", roads.method, error);
    }
    graph_free(roads.nearest);
    for (int p = 0; p < roads.pair_count && roads.activations; p++)
        memory_free(roads.activations[p]);
    memory_free(roads.activations);
    return ok;
}
