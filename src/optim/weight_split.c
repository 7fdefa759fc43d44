/* Weight split (OPTIM §3): a layer's large weights are shared with a second layer of the same kind, and the two results added. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "optim/layers.h"
#include "optim/optim.h"

#define SPLIT_SEED 10086

static bool check_layer(const Node *node, Error *error)
{
    char where[256];
    const Value *weight = node->input_count > 1 ? node->inputs[1] : NULL;
    if (!is_layer(node) && strcmp(node->type, "MatMul") != 0)
        return fail(error, node_where(node, where), "take it out of weight_split_setting.interested_layers",
                    "only Conv, ConvTranspose, Gemm and MatMul can be split");
    if (!weight || !weight->constant || weight->constant->dtype != DTYPE_FLOAT32)
        return fail(error, node_where(node, where), "take it out of weight_split_setting.interested_layers",
                    "its weight is no float32 constant");
    return true;
}

/* [outer][channels][inner], channels being outputs of the layer (of each group, in a ConvTranspose). */
typedef struct Channels {
    int64_t count, inner;
} Channels;

static Channels channels_of(const Node *node)
{
    const Shape *shape = &node->inputs[1]->constant->shape;
    int axis = strcmp(node->type, "Conv") == 0            ? 0
               : strcmp(node->type, "ConvTranspose") == 0 ? 1
               : strcmp(node->type, "Gemm") == 0          ? !node_integer(node, "transB", 0)
                                                          : shape->rank - 1;
    Channels channels = {shape->dims[axis], 1};
    for (int i = axis + 1; i < shape->rank; i++)
        channels.inner *= shape->dims[i];
    return channels;
}

static int64_t channel_at(const Channels *channels, int64_t place)
{
    return place / channels->inner % channels->count;
}

/* thresholds: one a channel. relative (O21): shares of the channel's largest weight, not weights. */
static void set_thresholds(float *thresholds, const Channels *channels, const Tensor *weight, float threshold, bool relative)
{
    for (int64_t c = 0; c < channels->count; c++)
        thresholds[c] = relative ? 0 : threshold;
    for (int64_t i = 0; relative && i < tensor_count(weight); i++) {
        float *own = &thresholds[channel_at(channels, i)];
        *own = fmaxf(*own, fabsf(tensor_floats(weight)[i]));
    }
    for (int64_t c = 0; relative && c < channels->count; c++)
        thresholds[c] *= threshold;
}

/* Splits `rest` into itself and `share`; gives how many elements were split. */
static int64_t share_weights(Tensor *rest, Tensor *share, const Channels *channels, const float *thresholds, bool balance, Random *random)
{
    int64_t count = tensor_count(rest), split = 0;
    float *r = tensor_floats(rest), *s = tensor_floats(share);
    for (int64_t i = 0; i < count; i++) {
        float part = balance ? 0.5f : (float)random_uniform(random);
        if (!(fabsf(r[i]) > thresholds[channel_at(channels, i)])) continue;
        s[i] = r[i] * part;
        r[i] -= s[i];
        split++;
    }
    return split;
}

static bool add_copy(Graph *graph, Node *node, Tensor *share, Error *error)
{
    Node *copy = graph_add_node(graph, node->type, NULL, error);
    Value *output = node->outputs[0];
    if (!copy) return false;
    copy->platform = node->platform;
    copy->domain = node->domain;
    copy->opset = node->opset;
    Value *weight = graph_add_constant(graph, NULL, share, error);
    if (!weight || !node_add_input(graph, copy, node->inputs[0], error) || !node_add_input(graph, copy, weight, error)) return false;
    if (!node_copy_attributes(graph, copy, node)) return fail_memory(error, sizeof(Attribute));
    Node *sum = graph_add_node(graph, "Add", NULL, error);
    Value *first = sum ? graph_add_value(graph, NULL, error) : NULL, *second = first ? graph_add_value(graph, NULL, error) : NULL;
    if (!second) return false;
    sum->platform = node->platform;
    sum->opset = node->opset;
    return node_set_output(graph, node, 0, first, error) && node_add_output(graph, copy, second, error) &&
           node_add_input(graph, sum, first, error) && node_add_input(graph, sum, second, error) &&
           node_add_output(graph, sum, output, error);
}

static bool split(Graph *graph, Node *node, const Setting *setting, Random *random, Error *error)
{
    Tensor *rest = NULL, *share = NULL;
    if (!check_layer(node, error)) return false;
    const Tensor *weight = node->inputs[1]->constant;
    float threshold = (float)setting->weight_split_setting.value_threshold;
    bool balance = strcmp(setting->weight_split_setting.method, "balance") == 0, relative = setting->switches.weight_split_relative;
    Channels channels = channels_of(node);
    int64_t marked = 0, count = tensor_count(weight);
    float *thresholds = memory_new_array((size_t)channels.count + 1, sizeof *thresholds);
    if (!thresholds) return fail_memory(error, (size_t)channels.count * sizeof *thresholds);
    set_thresholds(thresholds, &channels, weight, threshold, relative);
    bool ok = (rest = tensor_copy(weight, error)) && (share = tensor_new(DTYPE_FLOAT32, &weight->shape, error));
    if (ok) marked = share_weights(rest, share, &channels, thresholds, balance, random);
    if (ok && marked) ok = layer_set_constant(graph, node, 1, rest, error) && add_copy(graph, node, share, error);
    tensor_release(rest);
    tensor_release(share);
    memory_free(thresholds);
    if (ok) {
        char seed[40] = "";
        if (!balance) snprintf(seed, sizeof seed, ", random shares of seed %d", SPLIT_SEED);
        graph_note(graph, "weight_split: %s: %lld of %lld weights are larger than %g%s and were split%s%s", node->name, (long long)marked,
                   (long long)count, (double)threshold, relative ? " of their channel's largest" : "", seed,
                   marked ? "" : "; it stays as it is");
    }
    return ok;
}

bool pass_weight_split(Graph *graph, PassContext *context, Error *error)
{
    const SettingList *list = &context->setting->weight_split_setting.interested_layers;
    Node **nodes;
    int count;
    Random random;
    if (!layers_unquantized(graph, "weight_split", error)) return false;
    if (list->count == 0)
        return fail(error, "weight_split_setting.interested_layers", "name the layers to split", "weight_split needs a list of layers");
    if (!layers_named(graph, list, "weight_split_setting.interested_layers", &nodes, &count, error)) return false;
    random_seed(&random, SPLIT_SEED);
    bool ok = true;
    for (int i = 0; ok && i < count; i++)
        ok = split(graph, nodes[i], context->setting, &random, error);
    memory_free(nodes);
    return ok && graph_infer(graph, error);
}
