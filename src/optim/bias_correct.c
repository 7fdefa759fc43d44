/* Bias correction (OPTIM §5): in each block, biases take up the mean difference between what the layers give in float and in simulation
 * on the same quantized inputs; a block that got worse by it is put back. */
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "exec/cache.h"
#include "kernel/quantize.h"
#include "optim/blocks.h"
#include "optim/layers.h"
#include "optim/optim.h"
#include "optim/run.h"
#include "optim/snapshot.h"

typedef struct Corrected { /* a layer whose bias is corrected */
    Node *node;
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
    bool measures; /* means too, not only the loss */
    double loss;
    int64_t batches;
    Tensor **results; /* room for both runs */
    Tensor **rows;    /* room for a row of the cache */
} Correction;

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
    }
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
    *correction = (Correction){.graph = graph, .block = block};
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
                           .wanted_count = correction->output_count};
    correction->simulated = (Runner){.graph = graph, .options = options};
    options.mode = EXEC_FLOAT;
    options.wanted = correction->outputs + correction->own_count;
    options.wanted_count = correction->layer_count;
    correction->floating = (Runner){.graph = graph, .options = options};
    return true;
}

/* ---- measuring ---- */

typedef struct Means {
    const Tensor *tensor;
    double *sums, sign;
} Means;

/* Channels are spread over threads; each sum runs in one order. */
static void add_means(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Means *means = context;
    const Shape *shape = &means->tensor->shape;
    int64_t samples = shape->dims[0], channels = shape->dims[1], inner = tensor_count(means->tensor) / (samples * channels);
    for (int64_t c = begin; c < end; c++) {
        double sum = 0;
        for (int64_t n = 0; n < samples; n++) {
            const float *x = tensor_floats(means->tensor) + (n * channels + c) * inner;
            for (int64_t i = 0; i < inner; i++)
                sum += x[i];
        }
        means->sums[c] += means->sign * (sum / (double)(samples * inner));
    }
}

static void measure(const Corrected *layer, const Tensor *tensor, double sign)
{
    if (tensor_count(tensor) == 0) return;
    Means means = {tensor, layer->error, sign};
    threads_for(layer->channels, 4, add_means, &means);
}

static bool visit(Correction *correction, Tensor *const *floating, Tensor *const *simulated, Error *error)
{
    int outputs = correction->output_count, layers = correction->layer_count;
    Tensor **results = correction->results, **exact = results + outputs;
    memset(results, 0, (size_t)(outputs + layers) * sizeof *results);
    bool ok = runner_run(&correction->simulated, simulated, results, error) &&
              (!correction->measures || runner_run(&correction->floating, simulated, exact, error));
    for (int i = 0; ok && i < correction->own_count; i++) {
        double noise, power;
        int64_t count = tensor_count(results[i]);
        noise_power_f32(tensor_floats(results[i]), tensor_floats(floating[i]), count, &noise, &power);
        if (count) correction->loss += noise / (double)count;
    }
    for (int i = 0; ok && correction->measures && i < layers; i++) {
        measure(&correction->layers[i], exact[i], 1);
        measure(&correction->layers[i], results[correction->own_count + i], -1);
    }
    for (int i = 0; i < outputs + layers; i++)
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
        bool ok = visit(correction, floating, simulated, error);
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

typedef struct Summary {
    int kept, rejected, biases;
} Summary;

static void hold_biases(Correction *correction)
{
    for (int i = 0; i < correction->layer_count; i++) {
        const Value *bias = correction->layers[i].node->inputs[2];
        correction->layers[i].before = tensor_retain(bias->constant);
        if (bias->unbaked) correction->layers[i].exact = tensor_retain(bias->unbaked);
    }
}

/* Float runs read the bias as it was, except in layers that stay float. */
static void tell_cache(const Correction *correction, Cache *cache)
{
    cache_changed(cache, EXEC_SIMULATED, correction->block->nodes, correction->block->node_count);
    for (int i = 0; i < correction->layer_count; i++)
        if (!correction->layers[i].node->quantized) cache_changed(cache, EXEC_FLOAT, &correction->layers[i].node, 1);
}

static bool correct_block(Correction *correction, Cache *cache, Summary *summary, double *pre, double *post, Error *error)
{
    hold_biases(correction);
    if (!find_loss(correction, cache, true, pre, error) || !correct(correction, error) || !find_loss(correction, cache, false, post, error))
        return false;
    bool worse = !(*post <= *pre), ok = true;
    if (worse) {
        ok = take_back(correction, error);
        *post = *pre;
    }
    tell_cache(correction, cache);
    summary->rejected += worse;
    summary->kept += !worse;
    if (!worse) summary->biases += correction->layer_count;
    return ok;
}

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

static bool corrections_begin(Corrections *all, Graph *graph, const Blocks *blocks, const Setting *setting, Batches *batches, Error *error)
{
    size_t count = (size_t)blocks->count + 1;
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
    CacheOptions options = {.exact = exact, .memory_limit = setting_block_memory(setting), .stops = all->stops, .stop_count = stops};
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

static bool correct_blocks(Graph *graph, const Blocks *blocks, const PassContext *context, Error *error)
{
    Summary summary = {0};
    Corrections all;
    FirstBatches first;
    Batches *batches = first_batches(&first, context->batches, context->setting->block_batches);
    progress_begin("bias correction", blocks->count);
    bool ok = corrections_begin(&all, graph, blocks, context->setting, batches, error);
    for (int i = 0, stop = 0; ok && i < blocks->count; i++) {
        Correction *correction = &all.items[i];
        double pre = 0, post = 0;
        if (has_work(correction))
            ok = cache_go(all.cache, stop++, error) && correct_block(correction, all.cache, &summary, &pre, &post, error);
        if (ok && progress_level >= 2) {
            progress_note("# Block [%d / %d]: [%s -> %s]", i + 1, blocks->count, blocks->items[i].first->name, blocks->items[i].last->name);
            progress_note("# Tuning Finished  : (%.4f -> %.4f) [Block Loss]", pre, post);
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
