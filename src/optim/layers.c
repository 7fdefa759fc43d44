#include "optim/layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "optim/optim.h"

/* ---- names ---- */

static bool has_name(const Text *names, const char *name)
{
    for (size_t at = 0; at < names->length; at += strlen(names->data + at) + 1)
        if (strcmp(names->data + at, name) == 0) return true;
    return false;
}

static bool fail_unknown(const Graph *graph, const char *setting, const char *name, Error *error)
{
    const char *cure = "`espq dump --after=simplify` lists the operators";
    const char **names = memory_new_array((size_t)graph->node_count + 1, sizeof *names);
    if (!names) return fail_memory(error, (size_t)graph->node_count * sizeof *names);
    for (int i = 0; i < graph->node_count; i++)
        names[i] = graph->nodes[i]->name;
    int nearest = text_nearest(name, names, graph->node_count);
    memory_free(names);
    if (nearest < 0) return fail(error, name, cure, "%s: no operator is called '%s'", setting, name);
    return fail(error, name, cure, "%s: no operator is called '%s' (did you mean '%s'?)", setting, name, graph->nodes[nearest]->name);
}

/* *node NULL: it was folded into its neighbour. */
static bool find_named(const Graph *graph, const char *setting, const char *name, Node **node, Error *error)
{
    if (has_name(&graph->shared_names, name))
        return fail(error, name, "give the operators names of their own", "%s: several operators are called '%s'", setting, name);
    *node = graph_node(graph, name);
    return *node || has_name(&graph->removed_names, name) || fail_unknown(graph, setting, name, error);
}

bool layers_named(Graph *graph, const SettingList *list, const char *setting, Node ***nodes, int *count, Error *error)
{
    *count = 0;
    *nodes = memory_new_array((size_t)list->count + 1, sizeof **nodes);
    if (!*nodes) return fail_memory(error, (size_t)list->count * sizeof **nodes);
    bool ok = true;
    for (int i = 0; ok && i < list->count; i++) {
        Node *node;
        ok = find_named(graph, setting, list->items[i], &node, error);
        if (ok && node) (*nodes)[(*count)++] = node;
        if (ok && !node) graph_note(graph, "%s: %s was folded into its neighbour; nothing is done there", setting, list->items[i]);
    }
    if (ok) return true;
    memory_free(*nodes);
    *nodes = NULL;
    return false;
}

bool optim_check_layers(const Graph *graph, const Setting *setting, Error *error)
{
    const struct {
        bool on;
        const SettingList *list;
        const char *path;
    } rows[] = {
        {setting->bias_correct, &setting->bias_correct_setting.interested_layers, "bias_correct_setting.interested_layers"},
        {setting->lsq_optimization, &setting->lsq_optimization_setting.interested_layers, "lsq_optimization_setting.interested_layers"},
        {setting->tqt_optimization, &setting->tqt_optimization_setting.interested_layers, "tqt_optimization_setting.interested_layers"},
        {setting->blockwise_reconstruction, &setting->blockwise_reconstruction_setting.interested_layers,
         "blockwise_reconstruction_setting.interested_layers"},
    };
    Node *node;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int k = 0; rows[i].on && k < rows[i].list->count; k++)
            if (!find_named(graph, rows[i].path, rows[i].list->items[k], &node, error)) return false;
    return true;
}

bool layers_unquantized(const Graph *graph, const char *pass, Error *error)
{
    for (int i = 0; i < graph->node_count; i++) {
        if (!graph->nodes[i]->quantized) continue;
        return fail(error, graph->name, "apply it to the graph before it is quantized, or set it in the setting of quantize_onnx",
                    "pass '%s' changes weights whose exponents are chosen already", pass);
    }
    return true;
}

bool layers_unbaked(const Graph *graph, const char *pass, Error *error)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++) {
            SlotState state = node->input_slots[k]->state;
            if (state == SLOT_BAKED || state == SLOT_PASSIVE_BAKED)
                return fail(error, node->name, "run it before the pass 'baking', or leave baking_parameter off",
                            "%s: weights and biases that are baked cannot change any more", pass);
        }
    }
    return true;
}

/* ---- weights ---- */

bool is_layer(const Node *node)
{
    return strcmp(node->type, "Conv") == 0 || strcmp(node->type, "ConvTranspose") == 0 || strcmp(node->type, "Gemm") == 0;
}

static Tensor *float_constant(const Node *node, int index)
{
    const Value *value = index < node->input_count ? node->inputs[index] : NULL;
    return value && value->constant && value->constant->dtype == DTYPE_FLOAT32 ? value->constant : NULL;
}

bool layer_read(Layer *layer, Node *node)
{
    *layer = (Layer){.node = node, .weight = float_constant(node, 1)};
    if (!is_layer(node) || !layer->weight) return false;
    const Shape *shape = &layer->weight->shape;
    bool gemm = strcmp(node->type, "Gemm") == 0;
    int64_t groups = gemm ? 1 : node_integer(node, "group", 1);
    if (gemm ? shape->rank != 2 : shape->rank < 3) return false;
    if (groups < 1 || shape->dims[0] % groups || shape->dims[0] == 0 || shape->dims[1] == 0) return false;
    layer->lattice = (Lattice){groups, shape->dims[0] / groups, shape->dims[1], 1,
                               gemm ? node_integer(node, "transB", 0) != 0 : strcmp(node->type, "Conv") == 0};
    for (int i = 2; i < shape->rank; i++)
        layer->lattice.inner *= shape->dims[i];
    if (node->input_count < 3 || !node->inputs[2]) return true;
    layer->bias = float_constant(node, 2);
    return layer->bias && layer->bias->shape.rank > 0 &&
           layer->bias->shape.dims[layer->bias->shape.rank - 1] == layer_channels(layer, true);
}

bool layer_set_constant(Graph *graph, Node *node, int index, Tensor *tensor, Error *error)
{
    Value *value = node->inputs[index];
    if (value->use_count == 1) return value_set_constant(graph, value, tensor) || fail_memory(error, sizeof *tensor);
    Value *own = graph_add_constant(graph, NULL, tensor, error);
    return own && node_set_input(graph, node, index, own, error);
}

/* A copy in place of a constant; NULL: memory. */
static Tensor *own_constant(Graph *graph, Node *node, int index, Error *error)
{
    Tensor *copy = tensor_copy(node->inputs[index]->constant, error);
    bool ok = copy && layer_set_constant(graph, node, index, copy, error);
    tensor_release(copy); /* the graph has it */
    return ok ? copy : NULL;
}

bool layer_own(Graph *graph, Layer *layer, Error *error)
{
    if (layer->owned) return true;
    if (!(layer->weight = own_constant(graph, layer->node, 1, error))) return false;
    if (layer->bias && !(layer->bias = own_constant(graph, layer->node, 2, error))) return false;
    layer->owned = true;
    return true;
}

int64_t layer_channels(const Layer *layer, bool outputs)
{
    const Lattice *lattice = &layer->lattice;
    return lattice->groups * (outputs == lattice->outputs_first ? lattice->first : lattice->second);
}

typedef struct Rows { /* one row of `inner` numbers after the other, and the channel it belongs to */
    const Lattice *lattice;
    bool by_first, swapped;
} Rows;

static int64_t row_count(const Rows *rows)
{
    return rows->lattice->groups * rows->lattice->first * rows->lattice->second;
}

static int64_t row_channel(const Rows *rows, int64_t row)
{
    const Lattice *lattice = rows->lattice;
    int64_t second = row % lattice->second, group = row / lattice->second / lattice->first;
    if (rows->by_first) return row / lattice->second;
    return rows->swapped ? second * lattice->groups + group : group * lattice->second + second;
}

void layer_keys(const Layer *layer, bool outputs, bool swapped, float *keys)
{
    Rows rows = {&layer->lattice, outputs == layer->lattice.outputs_first, swapped};
    const float *x = tensor_floats(layer->weight);
    int64_t inner = layer->lattice.inner;
    for (int64_t row = 0; row < row_count(&rows); row++) {
        float *key = &keys[row_channel(&rows, row)];
        for (int64_t i = 0; i < inner; i++) {
            float size = fabsf(x[row * inner + i]);
            if (size > *key) *key = size;
        }
    }
}

void layer_scale(Layer *layer, bool outputs, const float *scale)
{
    Rows rows = {&layer->lattice, outputs == layer->lattice.outputs_first, false};
    float *x = tensor_floats(layer->weight);
    int64_t inner = layer->lattice.inner;
    for (int64_t row = 0; row < row_count(&rows); row++) {
        float factor = scale[row_channel(&rows, row)];
        for (int64_t i = 0; i < inner; i++) {
            float *w = &x[row * inner + i];
            *w = outputs ? *w * factor : *w / factor;
        }
    }
    if (!outputs || !layer->bias) return;
    int64_t channels = layer_channels(layer, true), count = tensor_count(layer->bias);
    for (int64_t i = 0; i < count; i++)
        tensor_floats(layer->bias)[i] *= scale[i % channels];
}

double root_mean_square(const float *x, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)x[i] * x[i];
    return count && sum > 0 ? sqrt(sum / (double)count) : 1e-2;
}
