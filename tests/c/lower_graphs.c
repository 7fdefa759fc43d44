#include "lower_graphs.h"

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "graph/operator.h"

Value *make_numbers(Graph *graph, const char *name, const Shape *shape, float (*number)(const int64_t *at))
{
    Error error = {0};
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, shape, &error);
    for (int64_t i = 0; i < tensor_count(tensor); i++) {
        int64_t at[ESPQ_MAX_RANK] = {0}, rest = i;
        for (int axis = shape->rank - 1; axis >= 0; axis--) {
            at[axis] = rest % shape->dims[axis];
            rest /= shape->dims[axis];
        }
        tensor_floats(tensor)[i] = number(at);
    }
    Value *value = graph_add_constant(graph, name, tensor, &error);
    tensor_release(tensor);
    return value;
}

void make_output(Graph *graph, const char *name)
{
    Error error = {0};
    graph_add_output(graph, graph_value(graph, name), &error);
}

static void fill(Graph *graph, Slot *slot, const Target *target, int bits, int exponent)
{
    slot->state = SLOT_ACTIVATED;
    slot->bits = bits;
    slot->minimum = bits >= 64 ? INT64_MIN : -((int64_t)1 << (bits - 1));
    slot->maximum = bits >= 64 ? INT64_MAX : ((int64_t)1 << (bits - 1)) - 1;
    slot->rounding = target->rounding;
    slot_set_exponents(graph, slot, &exponent, 1);
}

void quantize_graph(Graph *graph, const char *name, int bits)
{
    Error error = {0};
    const Target *target = target_find(name);
    const Platform *platform = target_platform(target, bits, false);
    CHECK(graph_infer(graph, &error), "%s: %s", error.where, error.what);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        node->platform = platform;
        node_make_slots(graph, node, &error);
        for (int k = 0; k < node->input_count; k++) {
            const Tensor *constant = node->inputs[k] ? node->inputs[k]->constant : NULL;
            bool bias = constant && k == 2 && node->op->flags & OPERATOR_WEIGHTED;
            if (!node->inputs[k] || (constant && constant->dtype != DTYPE_FLOAT32)) continue;
            fill(graph, node->input_slots[k], target, bias ? platform->bias_bits : bits, bias ? -12 : constant ? -7 : -5);
        }
        for (int k = 0; k < node->output_count; k++)
            fill(graph, node->output_slots[k], target, bits, -5);
    }
}

void set_end(Graph *graph, const char *name, int end, int exponent)
{
    Node *node = graph_node(graph, name);
    slot_set_exponents(graph, end < 0 ? node->output_slots[-1 - end] : node->input_slots[end], &exponent, 1);
}

void set_float(Graph *graph, const char *name)
{
    Node *node = graph_node(graph, name);
    node->quantized = false;
    node->platform = NULL;
}

Graph *lower_with(Graph *graph, const char *target, bool reference)
{
    Error error = {0};
    Setting *setting = setting_new(reference ? SETTING_REFERENCE : SETTING_ESPDL, &error);
    LowerOptions options = {setting, target_find(target), 256};
    Graph *device = lower_graph(graph, &options, &error);
    setting_free(setting);
    CHECK(device != NULL, "%s: %s", error.where, error.what);
    if (device) CHECK(graph_check(device, &error), "%s: %s", error.where, error.what);
    return device;
}

int64_t device_integer(const Graph *device, const char *name, int64_t index)
{
    const Value *value = graph_value(device, name);
    return value && value->constant ? tensor_get_integer(value->constant, index) : INT64_MIN;
}

int count_type(const Graph *device, const char *type)
{
    int count = 0;
    for (int i = 0; i < device->node_count; i++)
        count += strcmp(device->nodes[i]->type, type) == 0;
    return count;
}

Node *first_of(const Graph *device, const char *type)
{
    for (int i = 0; i < device->node_count; i++) {
        if (strcmp(device->nodes[i]->type, type) == 0) return device->nodes[i];
    }
    return NULL;
}

const char *stored_shape(const Graph *device, const char *name)
{
    static char text[128];
    const Value *value = graph_value(device, name);
    size_t at = 0;
    text[0] = 0;
    if (!value) return "gone";
    for (int i = 0; i < value->device->shape.rank; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, i ? "x%d" : "%d", (int)value->device->shape.dims[i]);
    return text;
}
