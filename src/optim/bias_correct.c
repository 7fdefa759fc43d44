/* Bias correction (OPTIM §5): in each block, biases take up the mean difference between what the layers give in float and in simulation
 * on the same quantized inputs; a block that got worse by it is put back. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "exec/cache.h"
#include "kernel/quantize.h"
#include "optim/blocks.h"
#include "optim/layers.h"
#include "optim/optim.h"
#include "optim/run.h"
#include "optim/snapshot.h"

/* What one sample adds to the means of a layer's channels. */
typedef struct Share {
    struct Share *next;       /* samples in order */
    int64_t sample, elements; /* of a channel */
    double sums[];
} Share;

typedef struct Corrected { /* a layer whose bias is corrected */
    Node *node;
    Share *shares;          /* of the run at hand */
    Tensor *before, *exact; /* its bias, and what float runs read in place of it (NULL: the same) */
    double *error;          /* one a channel: sum over batches of mean(float) - mean(simulated) */
    int64_t channels;
} Corrected;

typedef struct Correction {
    Graph *graph;
    const Block *block;
    Value **inputs, **outputs; /* of the block; outputs: its own, then those of its layers */
    int input_count, own_count, output_count;
    Corrected *layers;
    int layer_count;
    Runner floating, simulated;
    Watcher watcher;       /* sees the layers' outputs while they are in the cache of the processor */
    pthread_mutex_t mutex; /* of the shares */
    bool measures;         /* means too, not only the loss */
    double loss;
    int64_t batches;
    Tensor **results; /* room for those of a run, or for a bias of each layer */
    Tensor **rows;    /* room for a row of the cache */
} Correction;

typedef struct Outcome {  /* of a block */
    double before, after; /* loss */
    bool rejected;
} Outcome;

/* ---- means of the layers' outputs ---- */

/* Each channel's sum runs in one order, so a sum alone waits for its last addition: several channels go side by side. */
#define SIDE_BY_SIDE 8

static void sum_channels(const float *x, int64_t channels, int64_t inner, double *sums)
{
    int64_t c = 0;
    for (; c + SIDE_BY_SIDE <= channels; c += SIDE_BY_SIDE)
        for (int64_t i = 0; i < inner; i++)
            for (int k = 0; k < SIDE_BY_SIDE; k++)
                sums[c + k] += x[(c + k) * inner + i];
    for (; c < channels; c++)
        for (int64_t i = 0; i < inner; i++)
            sums[c] += x[c * inner + i];
}

static void add_share(Correction *correction, Corrected *layer, Share *share)
{
    pthread_mutex_lock(&correction->mutex);
    Share **place = &layer->shares;
    while (*place && (*place)->sample < share->sample)
        place = &(*place)->next;
    share->next = *place;
    *place = share;
    pthread_mutex_unlock(&correction->mutex);
}

static bool watches_layer(void *context, const Node *node, bool is_output, int index)
{
    const Correction *correction = context;
    for (int i = 0; is_output && index == 0 && i < correction->layer_count; i++)
        if (correction->layers[i].node == node) return true;
    return false;
}

/* Sample by sample, so that the sums do not depend on how many are walked at once. */
static bool watch_layer(void *context, const Watched *watched, Error *error)
{
    Correction *correction = context;
    const Shape *shape = &watched->seen->shape;
    Corrected *layer = correction->layers;
    int64_t elements = tensor_count(watched->seen);
    if (!correction->measures || elements == 0) return true;
    while (layer->node != watched->node)
        layer++;
    int64_t parts = shape->dims[0] % watched->samples ? 1 : watched->samples, rows = shape->dims[0] / parts;
    int64_t channels = layer->channels, inner = elements / (shape->dims[0] * channels);
    for (int64_t part = 0; part < parts; part++) {
        Share *share = memory_new(sizeof *share + (size_t)channels * sizeof *share->sums);
        if (!share) return fail_memory(error, (size_t)channels * sizeof *share->sums);
        share->sample = watched->sample + part;
        share->elements = rows * inner;
        for (int64_t row = part * rows; row < (part + 1) * rows; row++)
            sum_channels(tensor_floats(watched->seen) + row * channels * inner, channels, inner, share->sums);
        add_share(correction, layer, share);
    }
    return true;
}

static void drop_shares(Corrected *layer)
{
    while (layer->shares) {
        Share *next = layer->shares->next;
        memory_free(layer->shares);
        layer->shares = next;
    }
}

/* error += sign * mean of the run at hand. */
static void add_means(Corrected *layer, double sign)
{
    for (int64_t c = 0; layer->shares && c < layer->channels; c++) {
        double sum = 0;
        int64_t elements = 0;
        for (const Share *share = layer->shares; share; share = share->next) {
            sum += share->sums[c];
            elements += share->elements;
        }
        layer->error[c] += sign * (sum / (double)elements);
    }
    drop_shares(layer);
}

/* ---- what a block is made of ---- */

static bool has_bias(const Node *node)
{
    if (!is_layer(node) || node->input_count != 3 || !node->inputs[2]) return false;
    const Value *bias = node->inputs[2], *output = node->outputs[0];
    return bias->constant && bias->constant->dtype == DTYPE_FLOAT32 && output && output->shaped && output->shape.rank >= 2 &&
           tensor_count(bias->constant) == output->shape.dims[1];
}

static void correction_end(Correction *correction)
{
    for (int i = 0; i < correction->layer_count; i++) {
        tensor_release(correction->layers[i].before);
        tensor_release(correction->layers[i].exact);
        memory_free(correction->layers[i].error);
        drop_shares(&correction->layers[i]);
    }
    pthread_mutex_destroy(&correction->mutex);
    runner_end(&correction->floating);
    runner_end(&correction->simulated);
    memory_free(correction->layers);
    memory_free(correction->inputs);
    memory_free(correction->results);
    *correction = (Correction){0};
}

static bool add_layer(Correction *correction, Node *node, Error *error)
{
    Corrected *layer = &correction->layers[correction->layer_count++];
    *layer = (Corrected){.node = node, .channels = node->outputs[0]->shape.dims[1]};
    layer->error = memory_new_array((size_t)layer->channels + 1, sizeof *layer->error);
    if (!layer->error) return fail_memory(error, (size_t)layer->channels * sizeof *layer->error);
    correction->outputs[correction->output_count++] = node->outputs[0];
    return true;
}

static bool correction_begin(Correction *correction, Graph *graph, const Block *block, bool exact, Error *error)
{
    int inputs = block->first->input_count, outputs = block->last->output_count, nodes = block->node_count;
    *correction = (Correction){.graph = graph, .block = block, .mutex = PTHREAD_MUTEX_INITIALIZER};
    correction->inputs = memory_new_array((size_t)(inputs + outputs + nodes) + 1, sizeof(Value *));
    correction->layers = memory_new_array((size_t)nodes + 1, sizeof *correction->layers);
    correction->results = memory_new_array((size_t)(outputs + nodes) * 2 + (size_t)(inputs + outputs) + 1, sizeof(Tensor *));
    correction->rows = correction->results ? correction->results + (outputs + nodes) * 2 : NULL;
    if (!correction->inputs || !correction->layers || !correction->results) return fail_memory(error, (size_t)nodes * sizeof(Corrected));
    correction->outputs = correction->inputs + inputs;
    for (int i = 0; i < inputs; i++)
        if (block->first->inputs[i] && !block->first->inputs[i]->constant)
            correction->inputs[correction->input_count++] = block->first->inputs[i];
    for (int i = 0; i < outputs; i++)
        if (block->last->outputs[i] && block->last->outputs[i]->dtype == DTYPE_FLOAT32)
            correction->outputs[correction->output_count++] = block->last->outputs[i];
    correction->own_count = correction->output_count;
    for (int i = 0; i < nodes; i++)
        if (has_bias(block->nodes[i]) && !add_layer(correction, block->nodes[i], error)) return false;
    PlanOptions options = {.mode = EXEC_SIMULATED,
                           .exact = exact,
                           .given = correction->inputs,
                           .given_count = correction->input_count,
                           .wanted = correction->outputs,
                           .wanted_count = correction->own_count,
                           .watcher = &correction->watcher};
    correction->watcher =
        (Watcher){.context = correction, .wants = watches_layer, .watch = watch_layer, .seen_only = true, .by_piece = true};
    correction->simulated = (Runner){.graph = graph, .options = options};
    options.mode = EXEC_FLOAT; /* only what is watched is needed */
    options.wanted_count = 0;
    correction->floating = (Runner){.graph = graph, .options = options};
    return true;
}

/* ---- measuring ---- */

static bool run(Correction *correction, Runner *runner, Tensor *const *inputs, Tensor **results, double sign, Error *error)
{
    bool ok = runner_run(runner, inputs, results, error);
    for (int i = 0; i < correction->layer_count; i++) {
        if (ok && correction->measures) add_means(&correction->layers[i], sign);
        drop_shares(&correction->layers[i]);
    }
    return ok;
}

/* After the correction the block's outputs are those that the next block takes in. */
static bool hand_on(const Correction *correction, Cache *cache, int64_t batch, Tensor *const *results, Error *error)
{
    for (int i = 0; i < correction->own_count; i++)
        if (!cache_put(cache, EXEC_SIMULATED, correction->outputs[i], batch, results[i], error)) return false;
    return true;
}

static bool visit(Correction *correction, Cache *cache, int64_t batch, Tensor *const *floating, Tensor *const *simulated, Error *error)
{
    Tensor **results = correction->results;
    memset(results, 0, (size_t)correction->own_count * sizeof *results);
    bool ok = run(correction, &correction->simulated, simulated, results, -1, error) &&
              (!correction->measures || run(correction, &correction->floating, simulated, NULL, 1, error));
    for (int i = 0; ok && i < correction->own_count; i++) {
        double noise, power;
        int64_t count = tensor_count(results[i]);
        noise_power_f32(tensor_floats(results[i]), tensor_floats(floating[i]), count, &noise, &power);
        if (count) correction->loss += noise / (double)count;
    }
    ok = ok && (correction->measures || hand_on(correction, cache, batch, results, error));
    for (int i = 0; i < correction->own_count; i++)
        tensor_release(results[i]);
    correction->batches++;
    return ok;
}

static bool find_loss(Correction *correction, Cache *cache, bool measures, double *loss, Error *error)
{
    Tensor **floating = correction->rows, **simulated = floating + correction->own_count;
    correction->measures = measures;
    correction->loss = 0;
    correction->batches = 0;
    if (!runner_refresh(&correction->simulated, error)) return false;
    for (int64_t i = 0; i < cache_batch_count(cache); i++) {
        if (!cancel_check(error) || !cache_row(cache, i, floating, simulated, error)) return false;
        bool ok = visit(correction, cache, i, floating, simulated, error);
        for (int k = 0; k < correction->own_count + correction->input_count; k++)
            tensor_release(floating[k]);
        if (!ok) return false;
    }
    *loss = correction->loss / (double)correction->batches;
    return true;
}

/* ---- changing ---- */

/* Float runs go on with the bias as it was loaded: it is what all blocks are judged by, and the analyses too. */
static bool set_bias(Graph *graph, const Corrected *layer, Tensor *bias, Error *error)
{
    if (!layer_set_constant(graph, layer->node, 2, bias, error)) return false;
    Tensor *exact = layer->exact ? layer->exact : bias != layer->before && layer->node->quantized ? layer->before : NULL;
    layer->node->inputs[2]->unbaked = exact ? tensor_retain(exact) : NULL;
    return true;
}

static bool correct(Correction *correction, Error *error)
{
    bool ok = true;
    for (int i = 0; ok && i < correction->layer_count; i++) {
        const Corrected *layer = &correction->layers[i];
        Tensor *bias = tensor_copy(layer->before, error);
        for (int64_t c = 0; bias && c < layer->channels; c++)
            tensor_floats(bias)[c] += (float)(layer->error[c] / (double)correction->batches);
        ok = bias && set_bias(correction->graph, layer, bias, error);
        tensor_release(bias);
    }
    return ok;
}

static bool take_back(Correction *correction, Error *error)
{
    for (int i = 0; i < correction->layer_count; i++)
        if (!set_bias(correction->graph, &correction->layers[i], correction->layers[i].before, error)) return false;
    return true;
}

static void hold_biases(Correction *correction)
{
    for (int i = 0; i < correction->layer_count; i++) {
        const Value *bias = correction->layers[i].node->inputs[2];
        correction->layers[i].before = tensor_retain(bias->constant);
        if (bias->unbaked) correction->layers[i].exact = tensor_retain(bias->unbaked);
    }
}

static void tell_cache(const Correction *correction, Cache *cache)
{
    cache_changed(cache, EXEC_SIMULATED, correction->block->nodes, correction->block->node_count);
}

/* Float runs read the bias as it was, except in layers that stay float. */
static void tell_cache_of_floats(const Correction *correction, Cache *cache)
{
    for (int i = 0; i < correction->layer_count; i++)
        if (!correction->layers[i].node->quantized) cache_changed(cache, EXEC_FLOAT, &correction->layers[i].node, 1);
}

static bool correct_block(Correction *correction, Cache *cache, Outcome *outcome, Error *error)
{
    if (!find_loss(correction, cache, true, &outcome->before, error) || !correct(correction, error)) return false;
    tell_cache(correction, cache);
    if (!find_loss(correction, cache, false, &outcome->after, error)) return false;
    outcome->rejected = !(outcome->after <= outcome->before);
    if (!outcome->rejected) return true;
    outcome->after = outcome->before;
    if (!take_back(correction, error)) return false;
    tell_cache(correction, cache);
    return true;
}

/* ---- corrections that an earlier search's trial made ---- */

/* What a correction depends on: the block's runs in both modes on what it takes in, the outputs it is judged by, and the data. */
static Name name_correction(const Correction *correction, const Cache *cache)
{
    int64_t batches = cache_batch_count(cache);
    int count = correction->output_count + correction->own_count;
    size_t rows = (size_t)(batches * count) + (size_t)correction->block->node_count;
    Name *names = memory_new_array(rows + 1, sizeof *names), all = {""};
    const Name **parts = memory_new_array(rows + 1, sizeof *parts);
    size_t at = 0;
    for (int64_t batch = 0; names && parts && batch < batches; batch++)
        for (int i = 0; i < count; i++)
            names[at++] = i < correction->output_count
                              ? cache_name(cache, EXEC_SIMULATED, correction->outputs[i], batch)
                              : cache_name(cache, EXEC_FLOAT, correction->outputs[i - correction->output_count], batch);
    for (int i = 0; names && parts && i < correction->block->node_count; i++)
        names[at++] = cache_node_name(cache, EXEC_FLOAT, correction->block->nodes[i]);
    for (size_t i = 0; names && parts && i < at; i++)
        parts[i] = &names[i];
    if (names && parts) all = name_of_all("bias correction", parts, (int)at);
    memory_free(parts);
    memory_free(names);
    return all;
}

/* The name of layer i's new bias; i = -1: of the outcome. */
static Name name_part(const Name *name, int i)
{
    char what[32];
    const Name *parts[] = {name};
    snprintf(what, sizeof what, "part %d", i);
    return name_of_all(what, parts, 1);
}

static void remember(const Correction *correction, Memo *memo, const Name *name, const Outcome *outcome)
{
    Error ignored = {0};
    Shape shape = {.rank = 1, .dims = {3}};
    Tensor *figures = tensor_new(DTYPE_FLOAT64, &shape, &ignored);
    if (!figures) return;
    double *values = (double *)(void *)figures->data;
    values[0] = outcome->before;
    values[1] = outcome->after;
    values[2] = outcome->rejected;
    Name part = name_part(name, -1);
    memo_keep(memo, &part, figures);
    tensor_release(figures);
    for (int i = 0; !outcome->rejected && i < correction->layer_count; i++) {
        part = name_part(name, i);
        memo_keep(memo, &part, correction->layers[i].node->inputs[2]->constant);
    }
}

static bool recall_biases(Correction *correction, Memo *memo, const Name *name, bool *found, Error *error)
{
    Tensor **biases = correction->results;
    int count = 0;
    for (*found = true; *found && count < correction->layer_count; count += *found) {
        Name part = name_part(name, count);
        *found = (biases[count] = memo_find(memo, &part)) != NULL;
    }
    bool ok = true;
    for (int i = 0; *found && ok && i < count; i++)
        ok = set_bias(correction->graph, &correction->layers[i], biases[i], error);
    for (int i = 0; i < count; i++)
        tensor_release(biases[i]);
    return ok;
}

static bool recall(Correction *correction, Memo *memo, const Name *name, Outcome *outcome, bool *found, Error *error)
{
    Name part = name_part(name, -1);
    Tensor *figures = memo_find(memo, &part);
    *found = figures != NULL;
    if (!figures) return true;
    const double *values = (const double *)(const void *)figures->data;
    *outcome = (Outcome){values[0], values[1], values[2] != 0};
    tensor_release(figures);
    return outcome->rejected || recall_biases(correction, memo, name, found, error);
}

typedef struct Summary {
    int kept, rejected, biases;
} Summary;

/* All blocks, and where in the data their values are asked for. */
typedef struct Corrections {
    Correction *items;
    CacheStop *stops;
    Cache *cache;
    int count;
} Corrections;

static bool has_work(const Correction *correction)
{
    return correction->layer_count && correction->own_count;
}

static bool corrections_begin(Corrections *all, Graph *graph, const Blocks *blocks, const PassContext *context, Batches *batches,
                              Error *error)
{
    size_t count = (size_t)blocks->count + 1;
    const Setting *setting = context->setting;
    bool exact = setting->switches.onnx_exact_ops;
    int stops = 0;
    *all = (Corrections){.items = memory_new_array(count, sizeof *all->items), .stops = memory_new_array(count, sizeof *all->stops)};
    if (!all->items || !all->stops) return fail_memory(error, count * sizeof *all->items);
    for (int i = 0; i < blocks->count; i++) {
        Correction *correction = &all->items[all->count++];
        if (!correction_begin(correction, graph, &blocks->items[i], exact, error)) return false;
        if (!has_work(correction)) continue;
        all->stops[stops++] = (CacheStop){correction->outputs, correction->own_count, correction->inputs, correction->input_count};
    }
    size_t memory = setting_block_memory(setting);
    if (context->memo && memo_limit(context->memo) > memory) memory = memo_limit(context->memo); /* a search has more room for values */
    CacheOptions options = {.exact = exact, .memory_limit = memory, .stops = all->stops, .stop_count = stops, .memo = context->memo};
    return !stops || (all->cache = cache_new(graph, batches, &options, error)) != NULL;
}

static void corrections_end(Corrections *all)
{
    for (int i = 0; i < all->count; i++)
        correction_end(&all->items[i]);
    cache_free(all->cache);
    memory_free(all->items);
    memory_free(all->stops);
}

static void note_result(Graph *graph, const Summary *summary, int blocks)
{
    graph_note(graph, "bias_correct: %d biases in %d of %d blocks corrected%s", summary->biases, summary->kept, blocks,
               blocks ? "" : ": there is no quantized layer to correct");
    if (summary->rejected)
        graph_note(graph, "bias_correct: in %d blocks the correction made the error larger and was taken back", summary->rejected);
}

static bool correct_or_recall(Correction *correction, Cache *cache, int stop, Memo *memo, Outcome *outcome, Error *error)
{
    bool found = false;
    Name name = memo ? name_correction(correction, cache) : (Name){""};
    hold_biases(correction);
    if (name.hex[0] && !recall(correction, memo, &name, outcome, &found, error)) return false;
    if (found) {
        tell_cache(correction, cache);
    } else {
        if (!cache_go(cache, stop, error) || !correct_block(correction, cache, outcome, error)) return false;
        if (name.hex[0]) remember(correction, memo, &name, outcome);
    }
    tell_cache_of_floats(correction, cache);
    return true;
}

static bool correct_blocks(Graph *graph, const Blocks *blocks, const PassContext *context, Error *error)
{
    Summary summary = {0};
    Corrections all;
    FirstBatches first;
    Batches *batches = first_batches(&first, context->batches, context->setting->block_batches);
    progress_begin("bias correction", blocks->count);
    bool ok = corrections_begin(&all, graph, blocks, context, batches, error);
    for (int i = 0, stop = 0; ok && i < blocks->count; i++) {
        Correction *correction = &all.items[i];
        Outcome outcome = {0};
        if (has_work(correction)) {
            ok = correct_or_recall(correction, all.cache, stop++, context->memo, &outcome, error);
            summary.rejected += outcome.rejected;
            summary.kept += !outcome.rejected;
            summary.biases += outcome.rejected ? 0 : correction->layer_count;
        }
        if (ok && progress_level >= 2) {
            progress_note("# Block [%d / %d]: [%s -> %s]", i + 1, blocks->count, blocks->items[i].first->name, blocks->items[i].last->name);
            progress_note("# Tuning Finished  : (%.4f -> %.4f) [Block Loss]", outcome.before, outcome.after);
        }
        runner_end(&correction->floating);
        runner_end(&correction->simulated);
        progress_step(i + 1);
    }
    progress_end();
    corrections_end(&all);
    if (ok) note_result(graph, &summary, blocks->count);
    return ok;
}

bool pass_bias_correct(Graph *graph, PassContext *context, Error *error)
{
    const SettingList *list = &context->setting->bias_correct_setting.interested_layers;
    int64_t size = context->setting->bias_correct_setting.block_size;
    Node **named;
    int named_count;
    Blocks blocks;
    if (!context->batches) return fail(error, graph->source, "give a dataloader", "bias correction needs data");
    if (size < 0)
        return fail(error, "bias_correct_setting.block_size", "give 0 or more", "a block cannot span %lld steps", (long long)size);
    if (context->setting->block_batches < 0) return fail(error, "block_batches", "give 0 or more", "a negative number means nothing here");
    if (!layers_unbaked(graph, "bias_correct", error)) return false;
    if (!layers_named(graph, list, "bias_correct_setting.interested_layers", &named, &named_count, error)) return false;
    Snapshot before = {0};
    bool ok = blocks_find(&blocks, graph, size, error) && snapshot_take(&before, graph, error);
    if (ok && list->count) blocks_keep(&blocks, named, named_count);
    if (ok && !(ok = correct_blocks(graph, &blocks, context, error))) snapshot_restore(&before);
    snapshot_free(&before);
    blocks_free(&blocks);
    memory_free(named);
    return ok;
}
