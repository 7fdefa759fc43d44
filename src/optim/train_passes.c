/* LSQ, TQT and blockwise reconstruction (OPTIM §7 to §10): the passes, block by block. */
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "base/progress.h"
#include "optim/layers.h"
#include "optim/optim.h"
#include "optim/run.h"
#include "optim/snapshot.h"
#include "optim/training.h"
#include "quant/quantize.h"

typedef struct Trainings {
    Training *items;
    CacheStop *stops;
    Cache *cache;
    int count;
    TrainTimes times;
    int kept, rejected, diverged, untouched, exponents;
    double before, after; /* sums of losses */
} Trainings;

/* ---- data ---- */

/* A constant that several nodes read is trained in one of them: it gets one of its own, before the cache counts values. */
static bool part_constants(Graph *graph, const Training *training, Error *error)
{
    for (int i = 0; i < training->parameter_count; i++) {
        const BackwardParameter *parameter = &training->parameters[i];
        Value *value = parameter->node->inputs[parameter->index];
        if (value->use_count < 2) continue;
        if (!layer_set_constant(graph, parameter->node, parameter->index, value->constant, error)) return false;
        if (value->unbaked) parameter->node->inputs[parameter->index]->unbaked = tensor_retain(value->unbaked);
    }
    return true;
}

static void share_batches(const Trainings *all, Training *training)
{
    const Setting *setting = training->method->all;
    int64_t batches = cache_batch_count(all->cache), held = (int64_t)ceil(setting->block_holdout * (double)batches);
    if (held >= batches) held = batches - 1;
    training->cache = all->cache;
    training->learning = batches - held;
    training->judging = held ? held : batches;
    training->first_judge = batches - training->judging;
}

static bool trainings_begin(Trainings *all, Graph *graph, const Blocks *blocks, const TrainMethod *method, Batches *batches, Error *error)
{
    size_t count = (size_t)blocks->count + 1;
    int stops = 0;
    *all = (Trainings){.items = memory_new_array(count, sizeof *all->items), .stops = memory_new_array(count, sizeof *all->stops)};
    if (!all->items || !all->stops) return fail_memory(error, count * sizeof *all->items);
    for (int i = 0; i < blocks->count; i++) {
        Training *training = &all->items[all->count++];
        if (!training_begin(training, graph, &blocks->items[i], method, error)) return false;
        if (!training_has_work(training)) continue;
        if (!part_constants(graph, training, error)) return false;
        all->stops[stops++] = (CacheStop){training->outputs, training->output_count, training->inputs, training->input_count};
    }
    CacheOptions options = {.exact = method->all->switches.onnx_exact_ops,
                            .memory_limit = setting_block_memory(method->all),
                            .stops = all->stops,
                            .stop_count = stops};
    if (!(all->cache = cache_new(graph, batches, &options, error))) return false;
    for (int i = 0; i < all->count; i++) {
        share_batches(all, &all->items[i]);
        all->items[i].times = &all->times;
    }
    return true;
}

static void trainings_end(Trainings *all)
{
    for (int i = 0; i < all->count; i++)
        training_end(&all->items[i]);
    cache_free(all->cache);
    memory_free(all->items);
    memory_free(all->stops);
}

/* ---- one block ---- */

static bool follows_moved(const Training *training, const Node *node)
{
    for (int i = 0; node->quantized && i < node->input_count + node->output_count; i++) {
        Slot *slot = i < node->input_count ? node->input_slots[i] : node->output_slots[i - node->input_count];
        for (int k = 0; k < training->scale_count; k++)
            if (slot_root(slot) == training->scales[k] && training_moved(training, k)) return true;
    }
    return false;
}

/* Of the block, and whatever nodes see one of its exponents that moved. */
static bool tell_cache(const Training *training, Cache *cache, Error *error)
{
    const Graph *graph = training->graph;
    int moved = 0, count = 0;
    for (int i = 0; i < training->scale_count; i++)
        moved += training_moved(training, i);
    cache_changed(cache, EXEC_SIMULATED, training->block->nodes, training->block->node_count);
    if (!moved) return true;
    Node **nodes = memory_new_array((size_t)graph->node_count + 1, sizeof *nodes);
    if (!nodes) return fail_memory(error, (size_t)graph->node_count * sizeof *nodes);
    for (int i = 0; i < graph->node_count; i++)
        if (follows_moved(training, graph->nodes[i])) nodes[count++] = graph->nodes[i];
    cache_changed(cache, EXEC_SIMULATED, nodes, count);
    memory_free(nodes);
    return true;
}

static void note_block(Training *training, bool ran_away, const char *what, double pre, double post)
{
    char losses[64] = "", best[64] = "";
    snprintf(losses, sizeof losses, isfinite(post) ? ": loss %.4g -> %.4g" : ": loss %.4g", pre, post);
    if (training->best_step) snprintf(best, sizeof best, " (best at step %lld)", (long long)training->best_step);
    graph_note(training->graph, "%s%s: block [%s -> %s]%s%s, %s", ran_away ? "warning: " : "", training->method->name,
               training->block->first->name, training->block->last->name, losses, best, what);
}

/* A walk that cannot be made for what the block is: it is left out. */
static bool leave_out(Training *training, Error *error)
{
    if (error->code != ERROR_INPUT) return false;
    graph_note(training->graph, "%s: block [%s -> %s] is left out: %s", training->method->name, training->block->first->name,
               training->block->last->name, error->what);
    return true;
}

static bool train_block(Trainings *all, Training *training, double *pre, double *post, Error *error)
{
    bool finite = true, kept = false;
    Snapshot before = {0};
    if (!training_loss(training, pre, error)) {
        all->untouched++;
        return leave_out(training, error);
    }
    *post = NAN;
    if (!snapshot_take(&before, training->graph, error)) return false;
    bool ok = training_run(training, &finite, error) && (!finite || training_loss(training, post, error));
    if (ok && finite && *post <= *pre) {
        ok = training_keep(training, &kept, error);
        finite = kept;
    }
    if (ok && !kept) snapshot_restore(&before);
    snapshot_free(&before);
    if (!ok) return false;
    all->kept += kept;
    bool ran_away = !finite || isnan(*post);
    all->diverged += ran_away;
    all->rejected += !kept && !ran_away;
    all->before += *pre;
    all->after += kept ? *post : *pre;
    for (int i = 0; kept && i < training->scale_count; i++)
        all->exponents += training_moved(training, i);
    const char *outcome = kept       ? "kept"
                          : ran_away ? "training ran away (no finite loss): put back; a smaller lr may mend it"
                                     : "no better: put back";
    note_block(training, ran_away, outcome, *pre, *post);
    return !kept || tell_cache(training, all->cache, error);
}

static bool run_blocks(Trainings *all, const Blocks *blocks, Error *error)
{
    for (int i = 0, stop = 0; i < all->count; i++) {
        Training *training = &all->items[i];
        double pre = 0, post = 0;
        if (training_has_work(training) && !(cache_go(all->cache, stop++, error) && train_block(all, training, &pre, &post, error)))
            return false;
        if (progress_level >= 2) {
            progress_note("# Block [%d / %d]: [%s -> %s]", i + 1, all->count, blocks->items[i].first->name, blocks->items[i].last->name);
            progress_note("# Tuning Finished  : (%.4f -> %.4f) [Block Loss]", pre, fmin(pre, post));
        }
        training_end(training);
        progress_step(i + 1);
    }
    return true;
}

/* ---- the passes ---- */

static void note_result(Graph *graph, const Trainings *all, const TrainMethod *method)
{
    int64_t seed = method->all->block_seed;
    char order[64] = "in the order of the data";
    if (seed) snprintf(order, sizeof order, "shuffled by seed %lld", (long long)seed);
    graph_note(graph,
               "%s: %d of %d blocks keep what they learned, %d were put back; sum of their losses %.4g -> %.4g; %d exponents moved; "
               "%lld steps on %lld batches, %s (seed %lld)",
               method->name, all->kept, all->count, all->rejected + all->diverged, all->before, all->after, all->exponents,
               (long long)method->setting->steps, (long long)cache_batch_count(all->cache), order, (long long)seed);
    double rate = method->setting->scale_lr > 0 ? method->setting->scale_lr : method->setting->lr;
    if (method->scales && all->kept && !all->exponents && (double)method->setting->steps * rate < 0.5)
        graph_note(graph,
                   "%s: %lld steps of %g cannot move an exponent (they move it by half a step at least together): raise scale_lr if "
                   "exponents shall be trained, too",
                   method->name, (long long)method->setting->steps, rate);
    if (progress_level >= 2)
        progress_note("# %s: forward %.2f s, backward %.2f s, update %.2f s", method->name, all->times.forward, all->times.backward,
                      all->times.update);
}

static bool check_counts(const Setting *setting, Error *error)
{
    const struct {
        const char *path;
        int64_t count;
    } counts[] = {{"block_batches", setting->block_batches},
                  {"block_seed", setting->block_seed},
                  {"block_memory", setting->block_memory},
                  {"keep_best", setting->keep_best}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i].count < 0)
            return fail(error, counts[i].path, "give 0 or more", "%s cannot be %lld", counts[i].path, (long long)counts[i].count);
    return true;
}

static bool check_setting(const Graph *graph, const TrainMethod *method, const PassContext *context, Error *error)
{
    const TrainSetting *setting = method->setting;
    const Setting *all = context->setting;
    if (!context->batches) return fail(error, graph->source, "give a dataloader", "%s needs data", method->name);
    if (setting->steps < 0) return fail(error, method->setting_name, "give 0 or more", "steps cannot be %lld", (long long)setting->steps);
    if (setting->block_size < 0)
        return fail(error, method->setting_name, "give 0 or more", "a block cannot span %lld steps of depth",
                    (long long)setting->block_size);
    if (!(setting->lr >= 0) || !isfinite(setting->lr) || !(setting->scale_lr >= 0) || !isfinite(setting->scale_lr))
        return fail(error, method->setting_name, "give a positive number, such as 1e-5", "a learning rate cannot be %g",
                    setting->lr >= 0 && isfinite(setting->lr) ? setting->scale_lr : setting->lr);
    if (!(all->block_holdout >= 0 && all->block_holdout < 1))
        return fail(error, "block_holdout", "give a share from 0 to below 1", "%g of the batches cannot be held back", all->block_holdout);
    return check_counts(all, error) && layers_unbaked(graph, method->name, error);
}

/* The graph is as it was before when this fails. */
static bool train(Graph *graph, const Blocks *blocks, const TrainMethod *method, Batches *batches, Error *error)
{
    FirstBatches first;
    Snapshot before;
    Trainings all;
    bool ok = trainings_begin(&all, graph, blocks, method, first_batches(&first, batches, method->all->block_batches), error);
    if (ok && (ok = snapshot_take(&before, graph, error))) {
        ok = run_blocks(&all, blocks, error) && passive_follow(graph, method->all, error);
        if (!ok) snapshot_restore(&before);
        snapshot_free(&before);
    }
    if (ok) note_result(graph, &all, method);
    trainings_end(&all);
    return ok;
}

bool train_all_blocks(Graph *graph, PassContext *context, const TrainMethod *method, const char *interested, Error *error)
{
    Node **named;
    int named_count;
    Blocks blocks;
    if (!check_setting(graph, method, context, error)) return false;
    if (!layers_named(graph, &method->setting->interested_layers, interested, &named, &named_count, error)) return false;
    bool ok = blocks_find(&blocks, graph, method->setting->block_size, error);
    if (ok && method->setting->interested_layers.count) blocks_keep(&blocks, named, named_count);
    if (ok && (blocks.count == 0 || method->setting->steps == 0)) {
        graph_note(graph, "%s: %s: nothing is changed", method->name, blocks.count ? "steps is 0" : "there is no quantized layer to train");
    } else if (ok) {
        progress_begin(method->name, blocks.count);
        ok = train(graph, &blocks, method, context->batches, error);
        progress_end();
    }
    blocks_free(&blocks);
    memory_free(named);
    return ok;
}

bool pass_lsq(Graph *graph, PassContext *context, Error *error)
{
    TrainMethod method = {.name = "lsq",
                          .setting_name = "lsq_optimization_setting",
                          .setting = &context->setting->lsq_optimization_setting,
                          .all = context->setting};
    return train_all_blocks(graph, context, &method, "lsq_optimization_setting.interested_layers", error);
}

bool pass_tqt(Graph *graph, PassContext *context, Error *error)
{
    const TrainSetting *setting = &context->setting->tqt_optimization_setting;
    TrainMethod method = {.name = "tqt",
                          .setting_name = "tqt_optimization_setting",
                          .setting = setting,
                          .all = context->setting,
                          .scales = setting->is_scale_trainable,
                          .follows = context->setting->switches.tqt_live_passive};
    return train_all_blocks(graph, context, &method, "tqt_optimization_setting.interested_layers", error);
}

bool pass_blockwise(Graph *graph, PassContext *context, Error *error)
{
    const TrainSetting *setting = &context->setting->blockwise_reconstruction_setting;
    TrainMethod method = {.name = "blockwise",
                          .setting_name = "blockwise_reconstruction_setting",
                          .setting = setting,
                          .all = context->setting,
                          .rounding = true,
                          .biases = setting->is_scale_trainable,
                          .soft = context->setting->switches.adaround_reference};
    return train_all_blocks(graph, context, &method, "blockwise_reconstruction_setting.interested_layers", error);
}
