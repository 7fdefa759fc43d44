/* QuantizeLinear, RequantizeLinear, DequantizeLinear between ends that do not fit (EXPORT §3): one node an edge. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "lower/lower.h"

static Dtype integer_dtype(int bits)
{
    return bits > 8 ? DTYPE_INT16 : DTYPE_INT8;
}

static bool shape_only(const Node *node)
{
    return node->op && node->op->flags & OPERATOR_SHAPE_ONLY;
}

static Value *scalar(Lowering *lowering, Dtype dtype, double number, Error *error)
{
    return lower_add_constant(lowering, tensor_scalar(dtype, number, error), error);
}

/* `type` before this end: [data, scale, zero point]. */
static bool insert(Lowering *lowering, const char *type, Node *node, int index, const Platform *platform, Dtype dtype, double scale,
                   Dtype zero, Error *error)
{
    Value *data = node->inputs[index];
    Node *conversion = lower_add_node(lowering, type, platform, error);
    Value *made = conversion ? lower_add_value(lowering, dtype, &data->shape, error) : NULL;
    if (!made || !graph_insert_before_use(lowering->graph, conversion, data, (Use){node, index}, made, error)) return false;
    if (data->device->perm_known) device_set_perm(made, data->device->perm, data->device->perm_rank);
    Value *factor = scalar(lowering, DTYPE_FLOAT32, scale, error);
    if (!factor || !node_add_input(lowering->graph, conversion, factor, error)) return false;
    Value *offset = scalar(lowering, zero, 0, error);
    return offset && node_add_input(lowering->graph, conversion, offset, error);
}

static double scale_of(int exponent)
{
    return ldexp(1, exponent);
}

/* The slot that says how a value is stored: its producer's, NULL for a float one. A graph input is stored as its first quantized
 * reader in order of execution wants it; the reference never converts one (E3). */
static Slot *storing_slot(const Value *value)
{
    if (!value->producer) return value->device->slot;
    return value->producer->quantized ? value->producer->output_slots[value->producer_index] : NULL;
}

static bool note_first_reader(Lowering *lowering, Node *node, Error *error)
{
    (void)lowering;
    (void)error;
    for (int i = 0; node->quantized && i < node->input_count; i++) {
        Value *value = node->inputs[i];
        if (value && !value->constant && !value->producer && !value->device->slot && slot_exportable(node->input_slots[i]))
            value->device->slot = node->input_slots[i];
    }
    return true;
}

static bool quantize(Lowering *lowering, Node *node, Error *error)
{
    for (int i = 0; node->quantized && i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        Slot *slot = node->input_slots[i];
        if (!value || value->constant || !value->producer || !slot_exportable(slot)) continue;
        const Node *producer = value->producer;
        if (node_is_conversion(producer) || shape_only(producer)) continue;
        if (producer->quantized && producer->output_slots[value->producer_index]->state != SLOT_FP32) continue;
        Dtype dtype = integer_dtype(slot->bits);
        if (!insert(lowering, "QuantizeLinear", node, i, node->platform, dtype, scale_of(slot_exponent(slot, 0)), dtype, error))
            return false;
    }
    return true;
}

bool lower_quantize(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, quantize, error);
}

/* Do the two ends store alike? The reference compares scales with an absolute bound, so that all exponents from -17 down pass
 * for equal (E4). */
static bool fits(const Lowering *lowering, Slot *from, Slot *to)
{
    int p = slot_exponent(from, 0), q = slot_exponent(to, 0);
    if (from->bits != to->bits) return false;
    if (lower_setting(lowering)->switches.requantize_exact) return p == q;
    return fabs(scale_of(p) - scale_of(q)) < 1e-5;
}

static bool requantize(Lowering *lowering, Node *node, Error *error)
{
    const Setting *setting = lower_setting(lowering);
    for (int i = 0; node->quantized && i < node->input_count; i++) {
        Value *value = node->inputs[i];
        Slot *slot = node->input_slots[i];
        if (!value || value->constant || !slot_exportable(slot)) continue;
        if (value->producer ? node_is_conversion(value->producer) : !setting->switches.requantize_inputs) continue;
        Slot *from = storing_slot(value);
        if (!from || from->state == SLOT_FP32 || slot_exponent_count(from) == 0 || fits(lowering, from, slot)) continue;
        double scale = scale_of(slot_exponent(slot, 0)) / scale_of(slot_exponent(from, 0));
        Dtype dtype = integer_dtype(slot->bits);
        if (!insert(lowering, "RequantizeLinear", node, i, node->platform, dtype, scale, dtype, error)) return false;
        value->dtype = integer_dtype(from->bits);
    }
    return true;
}

bool lower_requantize(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, note_first_reader, error) && lower_walk(lowering, requantize, error);
}

static bool dequantize(Lowering *lowering, Value *value, Slot *slot, Error *error)
{
    Use *uses = memory_new_array((size_t)value->use_count, sizeof *uses);
    int count = value->use_count;
    if (!uses) return fail_memory(error, sizeof *uses * (size_t)count);
    if (count) memcpy(uses, value->uses, sizeof *uses * (size_t)count);
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        const Node *reader = uses[i].node;
        if (reader->quantized || node_is_conversion(reader) || shape_only(reader)) continue;
        ok = insert(lowering, "DequantizeLinear", uses[i].node, uses[i].index, NULL, DTYPE_FLOAT32, scale_of(slot_exponent(slot, 0)),
                    integer_dtype(slot->bits), error);
    }
    memory_free(uses);
    return ok;
}

static bool dequantize_outputs(Lowering *lowering, Node *node, Error *error)
{
    for (int i = 0; node->quantized && i < node->output_count; i++) {
        if (node->outputs[i] && slot_exportable(node->output_slots[i]) &&
            !dequantize(lowering, node->outputs[i], node->output_slots[i], error))
            return false;
    }
    return true;
}

bool lower_dequantize(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    if (!lower_walk(lowering, dequantize_outputs, error)) return false;
    for (int i = 0; lower_setting(lowering)->switches.requantize_inputs && i < graph->input_count; i++) {
        Value *value = graph->inputs[i];
        if (value->device->slot && !dequantize(lowering, value, value->device->slot, error)) return false;
    }
    for (int i = 0; i < graph->input_count; i++)
        graph->inputs[i]->device->slot = NULL; /* bound for good by the step `integers` */
    return true;
}
