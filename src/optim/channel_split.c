/* Channel split (OPTIM §2): channels with large weights before and behind are written twice, each copy 1/sqrt(2) as large. */
#include <math.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "optim/optim.h"
#include "optim/pairs.h"

typedef struct Splitter {
    Pairs pairs;
    const Setting *setting;
    int64_t before, after; /* channels of all pairs */
} Splitter;

/* A copy whose marked entries along the axis stand twice, side by side, both times `factor`. */
static Tensor *double_entries(const Tensor *tensor, int axis, const bool *marked, int64_t marked_count, float factor, Error *error)
{
    Shape shape = tensor->shape;
    int64_t count = shape.dims[axis], outer = 1, inner = 1;
    for (int i = 0; i < axis; i++)
        outer *= shape.dims[i];
    for (int i = axis + 1; i < shape.rank; i++)
        inner *= shape.dims[i];
    shape.dims[axis] += marked_count;
    Tensor *doubled = tensor_new(DTYPE_FLOAT32, &shape, error);
    if (!doubled) return NULL;
    const float *from = tensor_floats(tensor);
    float *to = tensor_floats(doubled);
    for (int64_t row = 0; row < outer * count; row++, from += inner) {
        bool twice = marked[row % count];
        for (int copy = 0; copy < (twice ? 2 : 1); copy++)
            for (int64_t i = 0; i < inner; i++)
                *to++ = twice ? from[i] * factor : from[i];
    }
    return doubled;
}

static bool split_input(Graph *graph, Node *node, int index, int axis, const bool *marked, int64_t marked_count, float factor, Error *error)
{
    Tensor *doubled = double_entries(node->inputs[index]->constant, axis, marked, marked_count, factor, error);
    bool ok = doubled && layer_set_constant(graph, node, index, doubled, error);
    tensor_release(doubled);
    return ok;
}

static bool split_layer(Graph *graph, Layer *layer, bool outputs, const bool *marked, int64_t marked_count, Error *error)
{
    const float factor = (float)(1 / sqrt(2.0));
    Node *node = layer->node;
    int axis = outputs == layer->lattice.outputs_first ? 0 : 1;
    if (!split_input(graph, node, 1, axis, marked, marked_count, factor, error)) return false;
    if (outputs && layer->bias) {
        int last = layer->bias->shape.rank - 1;
        if (!split_input(graph, node, 2, last, marked, marked_count, factor, error)) return false;
    }
    layer_read(layer, node);
    layer->owned = true;
    return true;
}

/* Slopes with one number a channel are written twice as they are (O6). */
static bool split_slope(Graph *graph, Node *node, int64_t channels, const bool *marked, int64_t marked_count, Error *error)
{
    if (strcmp(node->type, "PRelu") != 0) return true;
    const Shape *slope = &node->inputs[1]->constant->shape;
    int axis = slope->rank - node->inputs[0]->shape.rank + 1;
    if (axis < 0 || slope->dims[axis] != channels || channels == 1) return true;
    return split_input(graph, node, 1, axis, marked, marked_count, 1, error);
}

static bool is_grouped(const Pairs *pairs, const Pair *pair)
{
    for (int i = 0; i < pair->up_count; i++)
        if (pairs->layers[pair->up[i]].lattice.groups != 1) return true;
    for (int i = 0; i < pair->down_count; i++)
        if (pairs->layers[pair->down[i]].lattice.groups != 1) return true;
    return false;
}

static bool split_marked(Splitter *splitter, Pair *pair, const bool *marked, int64_t marked_count, Error *error)
{
    Pairs *pairs = &splitter->pairs;
    Graph *graph = pairs->graph;
    bool ok = true;
    for (int i = 0; ok && i < pair->up_count; i++)
        ok = split_layer(graph, &pairs->layers[pair->up[i]], true, marked, marked_count, error);
    for (int i = 0; ok && i < pair->down_count; i++)
        ok = split_layer(graph, &pairs->layers[pair->down[i]], false, marked, marked_count, error);
    for (int i = 0; ok && i < pair->relay_count; i++)
        ok = split_slope(graph, graph->nodes[pair->relays[i]], pair->channels, marked, marked_count, error);
    pair->channels += marked_count;
    return ok;
}

static bool split_pair(Splitter *splitter, Pair *pair, bool *changed, Error *error)
{
    const LayerSplitSetting *setting = &splitter->setting->channel_split_setting;
    size_t channels = (size_t)pair->channels;
    float *keys = memory_new_array(channels * 2 + 1, sizeof *keys);
    bool *marked = memory_new_array(channels + 1, sizeof *marked);
    int64_t marked_count = 0;
    bool ok = (keys && marked) || fail_memory(error, channels * 2 * sizeof *keys);
    if (ok) pair_keys(&splitter->pairs, pair, setting, false, keys, keys + channels);
    for (size_t c = 0; ok && c < channels; c++) {
        marked[c] = keys[c] >= (float)setting->value_threshold && keys[channels + c] >= (float)setting->value_threshold;
        marked_count += marked[c];
    }
    if (ok && marked_count) {
        *changed = true;
        ok = split_marked(splitter, pair, marked, marked_count, error);
    }
    memory_free(keys);
    memory_free(marked);
    return ok;
}

static bool split_all(Splitter *splitter, PassContext *context, Error *error)
{
    const LayerSplitSetting *setting = &splitter->setting->channel_split_setting;
    Pairs *pairs = &splitter->pairs;
    bool changed = true;
    for (int64_t round = 0; changed && round < setting->iterations; round++) {
        changed = false;
        if (!cancel_check(error)) return false;
        if (setting->including_act && pairs->count && !pairs_collect_activations(pairs, context, error)) return false;
        for (int i = 0; i < pairs->count; i++)
            if (!is_grouped(pairs, &pairs->items[i]) && !split_pair(splitter, &pairs->items[i], &changed, error)) return false;
        if (changed && !graph_infer(pairs->graph, error)) return false;
    }
    return true;
}

static void note_result(const Splitter *splitter, Graph *graph)
{
    const Pairs *pairs = &splitter->pairs;
    int split = 0;
    for (int i = 0; i < pairs->count; i++)
        split += !is_grouped(pairs, &pairs->items[i]);
    if (!split) {
        graph_note(graph, "channel_split: nothing was done, there is no pair of layers without groups and with only Relu, LeakyRelu, PRelu "
                          "or pooling between");
        return;
    }
    graph_note(graph, "channel_split: %d pairs of layers, %lld channels between them became %lld", split, (long long)splitter->before,
               (long long)splitter->after);
    if (splitter->after > 2 * splitter->before) {
        graph_note(graph,
                   "channel_split: the layers have %.1f times as many channels now: a larger value_threshold or fewer iterations "
                   "make them smaller",
                   (double)splitter->after / (double)splitter->before);
    }
}

static int64_t all_channels(const Pairs *pairs)
{
    int64_t channels = 0;
    for (int i = 0; i < pairs->count; i++)
        if (!is_grouped(pairs, &pairs->items[i])) channels += pairs->items[i].channels;
    return channels;
}

bool pass_channel_split(Graph *graph, PassContext *context, Error *error)
{
    const LayerSplitSetting *setting = &context->setting->channel_split_setting;
    Splitter splitter = {.setting = context->setting};
    if (!layers_unquantized(graph, "channel_split", error)) return false;
    if (!(setting->value_threshold > 0))
        return fail(error, "channel_split_setting.value_threshold", "give a threshold above 0",
                    "with %g every channel would be doubled in every iteration", setting->value_threshold);
    bool ok = pairs_find(&splitter.pairs, graph, setting, "channel_split_setting.interested_layers", error);
    splitter.before = all_channels(&splitter.pairs);
    ok = ok && split_all(&splitter, context, error);
    splitter.after = all_channels(&splitter.pairs);
    if (ok) note_result(&splitter, graph);
    pairs_free(&splitter.pairs);
    return ok;
}
