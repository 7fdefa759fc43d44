/* Layerwise equalization (OPTIM §1): channels of neighbouring layers are scaled against each other until their weights reach equally
 * far. */
#include <math.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "optim/optim.h"
#include "optim/pairs.h"

#define MOST_SCALE 10.0f

typedef struct Equalizer {
    Pairs pairs;
    const Setting *setting;
    float *up, *down, *scale; /* one a channel */
    double least, most;       /* scales of channels, over all steps */
    int64_t changed;          /* channels in the first round */
} Equalizer;

static bool make_keys(Equalizer *equalizer, Error *error)
{
    int64_t most = 1;
    for (int i = 0; i < equalizer->pairs.count; i++)
        if (equalizer->pairs.items[i].channels > most) most = equalizer->pairs.items[i].channels;
    equalizer->up = memory_new_array((size_t)most * 3, sizeof(float));
    if (!equalizer->up) return fail_memory(error, (size_t)most * 3 * sizeof(float));
    equalizer->down = equalizer->up + most;
    equalizer->scale = equalizer->down + most;
    return true;
}

/* The reference divides, takes the root and inverts, in this order and in float32. A channel of zeros stays as it is (O16). */
static float scale_of(float up, float down, float threshold)
{
    if (up == 0 || down == 0 || up + down < threshold) return 1;
    float scale = 1 / sqrtf(up / down);
    return scale < 1 / MOST_SCALE ? 1 / MOST_SCALE : scale > MOST_SCALE ? MOST_SCALE : scale;
}

/* What was collected is of the weights before: scaled along, or left as the reference leaves it (O5). */
static void scale_activations(Equalizer *equalizer, const Pair *pair)
{
    for (int i = 0; i < pair->up_count; i++) {
        float *activation = equalizer->pairs.activations[pair->up[i]];
        for (int64_t c = 0; activation && c < pair->channels; c++)
            activation[c] *= equalizer->scale[c];
    }
}

static void equalize(Equalizer *equalizer, const Pair *pair, bool first)
{
    const LayerSplitSetting *setting = &equalizer->setting->equalization_setting;
    pair_keys(&equalizer->pairs, pair, setting, !equalizer->setting->switches.equalize_group_order, equalizer->up, equalizer->down);
    for (int64_t c = 0; c < pair->channels; c++) {
        float scale = scale_of(equalizer->up[c], equalizer->down[c], (float)setting->value_threshold);
        equalizer->scale[c] = scale;
        equalizer->changed += first && scale != 1;
        if (scale < equalizer->least) equalizer->least = scale;
        if (scale > equalizer->most) equalizer->most = scale;
    }
    for (int i = 0; i < pair->up_count; i++)
        layer_scale(&equalizer->pairs.layers[pair->up[i]], true, equalizer->scale);
    for (int i = 0; i < pair->down_count; i++)
        layer_scale(&equalizer->pairs.layers[pair->down[i]], false, equalizer->scale);
    if (equalizer->setting->switches.equalize_live_activations) scale_activations(equalizer, pair);
}

static void note_result(const Equalizer *equalizer, Graph *graph)
{
    const Pairs *pairs = &equalizer->pairs;
    int64_t channels = 0;
    for (int i = 0; i < pairs->count; i++)
        channels += pairs->items[i].channels;
    if (pairs->count) {
        graph_note(graph, "equalization: %d pairs of layers, %lld of %lld channels between them rescaled, by %.3g to %.3g a step",
                   pairs->count, (long long)equalizer->changed, (long long)channels, equalizer->least, equalizer->most);
    } else {
        graph_note(graph,
                   "equalization: nothing was done, there is no pair of layers with only Relu, LeakyRelu, PRelu or pooling%s between",
                   equalizer->setting->equalization_setting.opt_level >= 2 ? ", Add or Sub" : "");
    }
    if (pairs->refused) {
        graph_note(
            graph,
            "equalization: %d pairs of layers were left alone: scaling the channels between them would change what the network computes",
            pairs->refused);
    }
}

bool pass_equalization(Graph *graph, PassContext *context, Error *error)
{
    const LayerSplitSetting *setting = &context->setting->equalization_setting;
    Equalizer equalizer = {.setting = context->setting, .least = 1, .most = 1};
    if (!layers_unquantized(graph, "equalization", error)) return false;
    bool ok = pairs_find(&equalizer.pairs, graph, setting, "equalization_setting.interested_layers", error) && make_keys(&equalizer, error);
    if (ok && setting->including_act && equalizer.pairs.count) ok = pairs_collect_activations(&equalizer.pairs, context, error);
    for (int64_t round = 0; ok && round < setting->iterations; round++) {
        ok = cancel_check(error);
        for (int i = 0; ok && i < equalizer.pairs.count; i++)
            equalize(&equalizer, &equalizer.pairs.items[i], round == 0);
    }
    if (ok) note_result(&equalizer, graph);
    memory_free(equalizer.up);
    pairs_free(&equalizer.pairs);
    return ok;
}
