/* SSD equalization (OPTIM §4): four rules of scaling two neighbouring layers are tried, and the one whose quantized path errs least is
 * kept when it errs clearly less than before. */
#include <math.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "optim/optim.h"
#include "optim/ssd.h"

enum { RULES = 4 };
#define TINY 1e-8f
#define LEAST_ACTIVATION 0.01f

typedef struct Ssd {
    Graph *graph;
    const PassContext *context;
    Path *paths;
    int count;
    CacheStop *stops; /* one a path */
    Cache *cache;
    int left_alone; /* paths that have given exponents, or feed a graph output in between */
    int rounds_kept;
    double best_share; /* of a loss, after and before */
} Ssd;

/* ---- paths ---- */

static bool is_relay(const Node *node)
{
    static const char *const types[] = {"Relu", "MaxPool", "GlobalMaxPool", "PRelu", "AveragePool", "GlobalAveragePool"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(node->type, types[i]) == 0) return true;
    return false;
}

static Node *only_consumer(const Node *node)
{
    if (node_consumer_count(node) != 1) return NULL;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && node->outputs[i]->use_count) return node->outputs[i]->uses[0].node;
    return NULL;
}

/* Nothing but numbers flows from one to the next: by input 0, from output 0, and nobody else sees it. */
static bool is_closed(const Graph *graph, const Path *path)
{
    for (int i = 0; i < path->count; i++) {
        const Node *node = path->nodes[i];
        if (node->input_count == 0 || node->output_count == 0 || !node->inputs[0] || node->inputs[0]->constant || !node->outputs[0])
            return false;
        for (int k = 1; k < node->input_count; k++)
            if (node->inputs[k] && !node->inputs[k]->constant) return false;
        if (i > 0 && node->inputs[0] != path->nodes[i - 1]->outputs[0]) return false;
        if (i + 1 < path->count && value_is_output(graph, node->outputs[0])) return false;
    }
    return path->nodes[path->count - 1]->outputs[0]->dtype == DTYPE_FLOAT32;
}

static bool all_wait(const Path *path)
{
    for (int i = 0; i < path->count; i++) {
        const Node *node = path->nodes[i];
        for (int end = 0; node->quantized && end < node->input_count + node->output_count; end++) {
            const Slot *slot = end < node->input_count ? node->input_slots[end] : node->output_slots[end - node->input_count];
            if (slot->parent != slot || (slot->state != SLOT_INITIAL && slot->state != SLOT_PASSIVE_INIT && slot->state != SLOT_FP32))
                return false;
        }
    }
    return true;
}

/* *found: false where no path begins, or one that cannot be scaled. */
static bool find_path(Ssd *ssd, Node *start, Path *path, bool *found, Error *error)
{
    Graph *graph = ssd->graph;
    *found = false;
    *path = (Path){.graph = graph};
    if (!is_layer(start)) return true;
    int count = 1;
    Node *end = only_consumer(start);
    for (; end && is_relay(end); end = only_consumer(end))
        count++;
    if (!end || !is_layer(end)) return true;
    path->nodes = memory_new_array((size_t)count + 1, sizeof *path->nodes);
    if (!path->nodes) return fail_memory(error, (size_t)count * sizeof *path->nodes);
    for (Node *node = start; path->count <= count; node = only_consumer(node))
        path->nodes[path->count++] = node;
    *found = is_closed(graph, path) && all_wait(path) && layer_read(&path->first, start) && layer_read(&path->last, end) &&
             layer_channels(&path->first, true) == layer_channels(&path->last, false);
    if (*found) {
        path->input = start->inputs[0];
        path->middle = start->outputs[0];
        path->output = end->outputs[0];
        return true;
    }
    ssd->left_alone++;
    memory_free(path->nodes);
    return true;
}

static bool find_paths(Ssd *ssd, Error *error)
{
    ssd->paths = memory_new_array((size_t)ssd->graph->node_count + 1, sizeof *ssd->paths);
    if (!ssd->paths) return fail_memory(error, (size_t)ssd->graph->node_count * sizeof *ssd->paths);
    for (int i = 0; i < ssd->graph->node_count; i++) {
        bool found;
        if (!find_path(ssd, ssd->graph->nodes[i], &ssd->paths[ssd->count], &found, error)) return false;
        ssd->count += found;
    }
    return true;
}

/* ---- scaling ---- */

static bool scale_path(Path *path, const float *scale, Error *error)
{
    Layer *layers[] = {&path->first, &path->last};
    for (int i = 0; i < 2; i++) {
        layer_read(layers[i], layers[i]->node); /* what is written to must be new: plans know constants by their address */
        if (!layer_own(path->graph, layers[i], error)) return false;
        layer_scale(layers[i], i == 0, scale);
    }
    return true;
}

typedef struct Original {
    Tensor *weights[2], *bias;
} Original;

static Original keep_original(const Path *path)
{
    Original original = {{tensor_retain(path->first.node->inputs[1]->constant), tensor_retain(path->last.node->inputs[1]->constant)}, NULL};
    if (path->first.bias) original.bias = tensor_retain(path->first.node->inputs[2]->constant);
    return original;
}

static bool restore(Path *path, const Original *original, Error *error)
{
    return layer_set_constant(path->graph, path->first.node, 1, original->weights[0], error) &&
           layer_set_constant(path->graph, path->last.node, 1, original->weights[1], error) &&
           (!original->bias || layer_set_constant(path->graph, path->first.node, 2, original->bias, error));
}

static void drop_original(Original *original)
{
    tensor_release(original->weights[0]);
    tensor_release(original->weights[1]);
    tensor_release(original->bias);
}

/* ---- rules ---- */

typedef struct Figures { /* one a channel each */
    float *first, *last, *range, *scale;
    int64_t channels;
    float channel_ratio;
} Figures;

static float largest_of(const float *x, int64_t count)
{
    float most = 0;
    for (int64_t i = 0; i < count; i++)
        if (x[i] > most) most = x[i];
    return most;
}

static float smallest_of(const float *x, int64_t count)
{
    float least = INFINITY;
    for (int64_t i = 0; i < count; i++)
        if (x[i] < least) least = x[i];
    return least;
}

static float clamp(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

static void raise_to(float *x, int64_t count, float least)
{
    for (int64_t i = 0; i < count; i++)
        if (x[i] < least) x[i] = least;
}

/* The reference's formulas, step by step in float32. */
static void find_scale(Figures *figures, int rule)
{
    float *first = figures->first, *last = figures->last, *range = figures->range, *scale = figures->scale;
    int64_t channels = figures->channels;
    if (rule == 0) {
        for (int64_t c = 0; c < channels; c++)
            scale[c] = clamp(sqrtf(last[c] / (first[c] + TINY)), 0.1f, 10);
        return;
    }
    raise_to(first, channels, largest_of(first, channels) * figures->channel_ratio);
    raise_to(last, channels, largest_of(last, channels) * figures->channel_ratio);
    raise_to(range, channels, LEAST_ACTIVATION);
    float most_first = largest_of(first, channels), most_last = largest_of(last, channels), most_range = largest_of(range, channels);
    for (int64_t c = 0; c < channels; c++) {
        float kernel = most_first / (first[c] + TINY), next = most_last / (last[c] + TINY), activation = most_range / (range[c] + TINY);
        if (rule == 1)
            scale[c] = fminf(kernel, activation);
        else if (rule == 2)
            scale[c] = fminf(fminf(kernel / next, activation / next), 8);
        else
            scale[c] = clamp(sqrtf(activation * sqrtf(kernel / next)), 1, 2);
    }
    float least = smallest_of(scale, channels);
    for (int64_t c = 0; rule == 2 && c < channels; c++)
        scale[c] = clamp(scale[c] / least, 1, 2);
}

static bool apply_rule(Path *path, Figures *figures, const float *range, int rule, Error *error)
{
    size_t bytes = (size_t)figures->channels * sizeof(float);
    memset(figures->first, 0, bytes);
    memset(figures->last, 0, bytes);
    memcpy(figures->range, range, bytes);
    layer_read(&path->first, path->first.node);
    layer_read(&path->last, path->last.node);
    layer_keys(&path->first, true, false, figures->first);
    layer_keys(&path->last, false, false, figures->last);
    find_scale(figures, rule);
    return scale_path(path, figures->scale, error);
}

/* All rules on one path; the weights are then those of the best, or as they were. */
static bool try_rules(Ssd *ssd, Path *path, PathLoss *loss, Figures *figures, const float *range, const Original *original, Error *error)
{
    double before, best, value;
    int best_rule = -1;
    if (!path_loss_find(loss, &before, error)) return false;
    best = before;
    for (int rule = 0; rule < RULES; rule++) {
        if (!apply_rule(path, figures, range, rule, error) || !path_loss_find(loss, &value, error) || !restore(path, original, error))
            return false;
        if (!(value < before * ssd->context->setting->ssd_setting.loss_threshold) || !(value < best)) continue;
        best_rule = rule;
        best = value;
    }
    if (progress_level >= 2)
        progress_note("ssd_equalization: %s -> %s: rule %d, error %.4g -> %.4g", path->first.node->name, path->last.node->name, best_rule,
                      before, best);
    if (best_rule < 0) return true;
    ssd->rounds_kept++;
    if (best / before < ssd->best_share) ssd->best_share = best / before;
    return apply_rule(path, figures, range, best_rule, error);
}

static bool equalize_path(Ssd *ssd, int index, Error *error)
{
    Path *path = &ssd->paths[index];
    int64_t channels = layer_channels(&path->first, true);
    float *memory = memory_new_array((size_t)channels * 5, sizeof *memory), *range = memory;
    if (!memory) return fail_memory(error, (size_t)channels * 5 * sizeof *memory);
    float ratio = (float)ssd->context->setting->ssd_setting.channel_ratio;
    Figures figures = {memory + channels, memory + 2 * channels, memory + 3 * channels, memory + 4 * channels, channels, ratio};
    PathLoss loss;
    Original original = keep_original(path);
    bool ok = path_loss_begin(&loss, path, ssd->context, ssd->cache, index, error) && path_loss_range(&loss, range, error);
    if (ok) {
        raise_to(range, channels, largest_of(range, channels) * ratio);
        int kept = ssd->rounds_kept;
        ok = try_rules(ssd, path, &loss, &figures, range, &original, error);
        if (ssd->rounds_kept > kept) cache_changed(ssd->cache, EXEC_FLOAT, path->nodes, path->count);
    }
    path_loss_end(&loss);
    drop_original(&original);
    memory_free(memory);
    return ok;
}

/* ---- the pass ---- */

/* Once before: the largest weight of both layers becomes the same. */
static bool level_layers(Ssd *ssd, Error *error)
{
    for (int i = 0; i < ssd->count; i++) {
        Path *path = &ssd->paths[i];
        int64_t channels = layer_channels(&path->first, true);
        float *scale = memory_new_array((size_t)channels * 2, sizeof *scale);
        if (!scale) return fail_memory(error, (size_t)channels * 2 * sizeof *scale);
        layer_read(&path->first, path->first.node);
        layer_read(&path->last, path->last.node);
        layer_keys(&path->first, true, false, scale);
        layer_keys(&path->last, false, false, scale + channels);
        float first = largest_of(scale, channels), last = largest_of(scale + channels, channels);
        for (int64_t c = 0; c < channels; c++)
            scale[c] = first > 0 && last > 0 ? sqrtf(last / first) : 1;
        bool ok = scale_path(path, scale, error);
        memory_free(scale);
        if (!ok) return false;
    }
    return true;
}

static bool make_cache(Ssd *ssd, Error *error)
{
    if (!(ssd->stops = memory_new_array((size_t)ssd->count + 1, sizeof *ssd->stops)))
        return fail_memory(error, (size_t)ssd->count * sizeof *ssd->stops);
    for (int i = 0; i < ssd->count; i++)
        ssd->stops[i] = (CacheStop){.floating = &ssd->paths[i].input, .floating_count = 1};
    const Setting *setting = ssd->context->setting;
    CacheOptions options = {.exact = setting->switches.onnx_exact_ops,
                            .memory_limit = setting_block_memory(setting),
                            .stops = ssd->stops,
                            .stop_count = ssd->count};
    return !ssd->count || (ssd->cache = cache_new(ssd->graph, ssd->context->batches, &options, error)) != NULL;
}

static void note_result(const Ssd *ssd)
{
    if (ssd->count && ssd->rounds_kept) {
        graph_note(ssd->graph, "ssd_equalization: %d pairs of layers, scaled %d times, the error of one pair fell to %.0f %%", ssd->count,
                   ssd->rounds_kept, 100 * ssd->best_share);
    } else if (ssd->count) {
        graph_note(ssd->graph, "ssd_equalization: %d pairs of layers, none of them errs less when it is scaled", ssd->count);
    } else {
        graph_note(ssd->graph, "ssd_equalization: nothing was done, there is no pair of layers with only Relu, PRelu or pooling between");
    }
    if (ssd->left_alone)
        graph_note(ssd->graph,
                   "ssd_equalization: %d pairs of layers were left alone: others see what is between them, their exponents are "
                   "given, or their weights are no constants",
                   ssd->left_alone);
}

static void ssd_end(Ssd *ssd)
{
    for (int i = 0; i < ssd->count; i++)
        memory_free(ssd->paths[i].nodes);
    cache_free(ssd->cache);
    memory_free(ssd->stops);
    memory_free(ssd->paths);
}

bool pass_ssd_equalization(Graph *graph, PassContext *context, Error *error)
{
    const Setting *setting = context->setting;
    Ssd ssd = {.graph = graph, .context = context, .best_share = 1};
    if (setting->ssd_setting.opt_level != 1)
        return fail(error, "ssd_setting.opt_level", "set it to 1", "SSD equalization only has level 1");
    if (!context->batches) return fail(error, graph->source, "give a dataloader", "SSD equalization needs data");
    bool ok = find_paths(&ssd, error) && (!setting->ssd_setting.layer_norm || level_layers(&ssd, error)) && make_cache(&ssd, error);
    int64_t rounds = setting->ssd_setting.iteration;
    progress_begin("SSD equalization", rounds * ssd.count);
    for (int64_t round = 0; ok && round < rounds; round++) {
        for (int i = 0; ok && i < ssd.count; i++) {
            ok = cancel_check(error) && equalize_path(&ssd, i, error);
            progress_step(round * ssd.count + i + 1);
        }
    }
    progress_end();
    if (ok) note_result(&ssd);
    ssd_end(&ssd);
    return ok;
}
