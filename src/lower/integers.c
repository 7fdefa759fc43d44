/* What every tensor says of itself in the file: quant_type of nodes (EXPORT §3.5), types and exponents, parameters as integers
 * (§5), the gates' exponent of recurrent nodes (§2.5), stored shapes. */
#include <inttypes.h>

#include "lower/lower.h"
#include "quant/quantize.h"
#include "quant/slots.h"

bool lower_quant_types(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    for (int i = 0; i < graph->node_count; i++) {
        const Platform *platform = graph->nodes[i]->platform;
        const char *type = platform && platform->quant_type ? platform->quant_type : "F32";
        if (!node_set_string(graph, graph->nodes[i], "quant_type", type)) return fail_memory(error, 16);
    }
    return true;
}

static bool copy_exponents(Lowering *lowering, DeviceValue *device, Slot *slot, Error *error)
{
    int count = slot_exponent_count(slot);
    device->exponents = arena_copy(&lowering->graph->arena, slot_root(slot)->exponents, sizeof(int) * (size_t)count);
    if (!device->exponents) return fail_memory(error, sizeof(int) * (size_t)count);
    device->exponent_count = count;
    return true;
}

/* A parameter's numbers as integers, computed in float64 where the platform asks for it (hi_precision). */
static bool make_integers(Lowering *lowering, const Node *node, Value *value, Slot *slot, Error *error)
{
    int64_t saturated = 0;
    bool wide = node->platform && node->platform->wide && slot->bits >= 16;
    Tensor *integers = quantize_constant(value->constant, slot, wide, &saturated, error);
    if (!integers) return false;
    value_set_constant(lowering->graph, value, integers);
    tensor_release(integers);
    if (saturated)
        graph_note(lowering->graph, "%s: %" PRId64 " of %" PRId64 " numbers of %s do not fit into %d bits and were cut to the largest",
                   node->name, saturated, tensor_count(integers), value->name, slot->bits);
    return true;
}

/* The first end that names a value decides; later ones are not asked (§5.2). */
static bool bind(Lowering *lowering, Node *node, Value *value, Slot *slot, int input, Error *error)
{
    if (!value || value->device->typed || !slot_exportable(slot)) return true;
    if (value->constant) {
        if (value->constant->dtype != DTYPE_FLOAT32) return true;
        value = lower_own_constant(lowering, node, input, error);
        if (!value || !make_integers(lowering, node, value, slot, error)) return false;
    } else {
        value->device->dtype = slot->bits == 8 ? DTYPE_INT8 : slot->bits == 16 ? DTYPE_INT16 : DTYPE_FLOAT32;
    }
    value->device->typed = true;
    value->device->slot = slot;
    return copy_exponents(lowering, value->device, slot, error);
}

static bool bind_node(Lowering *lowering, Node *node, Error *error)
{
    if (!node->quantized) return true;
    for (int i = 0; i < node->input_count; i++) {
        if (!bind(lowering, node, node->inputs[i], node->input_slots[i], i, error)) return false;
    }
    for (int i = 0; i < node->output_count; i++) {
        if (!bind(lowering, node, node->outputs[i], node->output_slots[i], -1, error)) return false;
    }
    return true;
}

bool lower_integers(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, bind_node, error);
}

bool lower_gates(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        bool recurrent = node->quantized && node->op && node->op->align == ALIGN_RECURRENT;
        if (recurrent && !node_set_integer(graph, node, "gate_exponent", ESPQ_RECURRENT_EXPONENT)) return fail_memory(error, 16);
    }
    return true;
}

bool lower_describe(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    for (int i = 0; i < graph->value_count; i++) {
        Value *value = graph->values[i];
        DeviceValue *device = value->device;
        if (value->constant)
            device->dtype = value->constant->dtype;
        else if (!device->typed)
            device->dtype = value->dtype == DTYPE_NONE ? DTYPE_FLOAT32 : value->dtype;
        device->shape = device_stored_shape(value);
        if (device->exponents) continue;
        device->exponents = arena_new(&graph->arena, sizeof *device->exponents);
        if (!device->exponents) return fail_memory(error, sizeof *device->exponents);
        device->exponent_count = 1;
    }
    return true;
}
