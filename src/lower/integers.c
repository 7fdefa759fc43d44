/* What every tensor says of itself in the file: quant_type of nodes (EXPORT §3.5), types and exponents, parameters as integers
 * (§5), the gates' exponent of recurrent nodes (§2.5), stored shapes. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

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

/* Elements more than a step beyond the range, and the farthest in multiples of its end. What lies closer loses no more than a step. */
static int64_t count_lost(const Tensor *constant, Slot *slot, double *farthest)
{
    const float *numbers = tensor_floats(constant);
    int64_t lost = 0, inner = 1, count = slot_exponent_count(slot);
    for (int axis = constant->shape.rank - 1; count > 1 && axis > slot->channel_axis; axis--)
        inner *= constant->shape.dims[axis];
    *farthest = 1;
    for (int64_t i = 0; i < tensor_count(constant); i++) {
        double steps = ldexp(numbers[i], -slot_exponent(slot, (int)(count > 1 ? i / inner % count : 0)));
        double end = steps < 0 ? slot->minimum : slot->maximum, beyond = fabs(steps) - fabs(end);
        if (!(beyond > 1.5)) continue;
        lost++;
        if (end != 0 && steps / end > *farthest) *farthest = steps / end;
    }
    return lost;
}

/* The bounds of a Clip are no loss: beyond the range there is nothing left to cut. */
static void add_lost(Lowering *lowering, const Node *node, const Value *value, Slot *slot)
{
    double farthest;
    int64_t lost = strcmp(node->type, "Clip") == 0 ? 0 : count_lost(value->constant, slot, &farthest);
    if (!lost) return;
    lowering->cut_count++;
    if (lowering->worst_cut.value && farthest <= lowering->worst_cut.farthest) return;
    lowering->worst_cut.value = value;
    lowering->worst_cut.node = node;
    lowering->worst_cut.lost = lost;
    lowering->worst_cut.bits = slot->bits;
    lowering->worst_cut.farthest = farthest;
}

/* One line, however many layers: the default method cuts a few weights of nearly every large one. */
static void note_lost(Lowering *lowering)
{
    const WorstCut *worst = &lowering->worst_cut;
    char more[64] = "";
    if (!worst->value) return;
    if (lowering->cut_count > 1)
        snprintf(more, sizeof more, ", and less far in %d other tensor%s", lowering->cut_count - 1, lowering->cut_count > 2 ? "s" : "");
    graph_note(lowering->graph,
               "%s: %" PRId64 " of %" PRId64 " numbers of %s do not fit into %d bits and were cut to the largest (up to %.3g times the "
               "range)%s; quantize_parameter_setting.calib_algorithm = \"minmax\", or 16 bits, keeps them",
               worst->node->name, worst->lost, tensor_count(worst->value->constant), worst->value->name, worst->bits, worst->farthest,
               more);
}

/* A parameter's numbers as integers, computed in float64 where the platform asks for it (hi_precision). */
static bool make_integers(Lowering *lowering, const Node *node, Value *value, Slot *slot, Error *error)
{
    int64_t saturated = 0;
    bool wide = node->platform && node->platform->wide && slot->bits >= 16;
    Tensor *integers = quantize_constant(value->constant, slot, wide, &saturated, error);
    if (!integers) return false;
    if (saturated) add_lost(lowering, node, value, slot);
    value_set_constant(lowering->graph, value, integers);
    tensor_release(integers);
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
    if (!lower_walk(lowering, bind_node, error)) return false;
    note_lost(lowering);
    return true;
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
