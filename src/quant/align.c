/* The pass `align` (QUANT §6.3): operators whose ends the chip wants in one exponent. */
#include <string.h>

#include "base/math.h"
#include "graph/operator.h"
#include "observe/observer.h"
#include "quant/quantize.h"

typedef enum { TO_NONE, TO_INPUT, TO_OUTPUT, TO_LARGE, TO_FIRST } Direction;

static bool direction_of(const char *name, Direction *direction)
{
    static const struct {
        const char *name;
        Direction direction;
    } words[] = {{"None", TO_NONE}, {"Align to Input", TO_INPUT}, {"Align to Output", TO_OUTPUT}, {"Align to Large", TO_LARGE}};
    for (int i = 0; i < 4; i++) {
        if (strcmp(words[i].name, name) != 0) continue;
        *direction = words[i].direction;
        return true;
    }
    return false;
}

static bool choose_direction(const Setting *setting, AlignKind kind, Direction *direction, Error *error)
{
    const char *name = "None";
    switch (kind) {
    case ALIGN_NEVER: break;
    case ALIGN_ELEMENTWISE: name = setting->fusion_setting.align_elementwise_to; break;
    case ALIGN_CONCAT: name = setting->fusion_setting.align_concat_to; break;
    case ALIGN_POOLING: name = setting->fusion_setting.align_avgpooling_to; break;
    case ALIGN_RESIZE: name = setting->fusion_setting.align_resize_to; break;
    case ALIGN_LOGICAL: *direction = TO_LARGE; return true;
    case ALIGN_RECURRENT: *direction = TO_FIRST; return true;
    }
    if (direction_of(name, direction)) return true;
    return fail(error, name, "use 'None', 'Align to Input', 'Align to Output' or 'Align to Large', as `espq settings` says",
                "unknown alignment '%s'", name);
}

static void follow(Slot *slot, Slot *master)
{
    if (slot != master && slot->state != SLOT_FP32) slot_master(slot, master);
}

/* The exponent that holds every input: the reference takes 256 steps of the largest and divides them by 255, which ends one above
 * (QUANT D5); exact: the largest itself. */
static int large_exponent(double largest, const Slot *master, bool exact)
{
    if (exact) return ceil_log2(largest / -(double)master->minimum);
    return exponent_of_range(-largest, 0, master->minimum, master->maximum, 1e-8);
}

static bool align_to_large(Graph *graph, Node *node, bool exact, Slot **master, Error *error)
{
    double largest = 0;
    *master = NULL;
    for (int i = 0; i < node->input_count; i++) {
        Slot *slot = node->input_slots[i];
        if (slot->state == SLOT_FP32) continue;
        if (slot_exponent_count(slot) != 1) return true; /* nothing calibrated yet */
        double range = -(double)slot->minimum;
        for (int e = slot_exponent(slot, 0); e > 0; e--)
            range *= 2;
        for (int e = slot_exponent(slot, 0); e < 0; e++)
            range /= 2;
        if (range > largest) largest = range;
        if (!*master) *master = slot;
    }
    if (!*master) return true;
    int exponent = large_exponent(largest, *master, exact);
    (*master)->parent = *master;
    (*master)->state = SLOT_PASSIVE;
    if (!slot_set_exponents(graph, *master, &exponent, 1)) return fail_memory(error, sizeof exponent);
    for (int i = 0; i < node->input_count; i++)
        follow(node->input_slots[i], *master);
    return true;
}

/* Producers that write only for this node write in its exponent at once. Widths and states are not looked at (QUANT D3, D4). */
static void align_producers(Node *node, Slot *master, const Setting *setting)
{
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        Node *producer = value ? value->producer : NULL;
        if (!producer || !producer->quantized) continue;
        bool shared = (producer->op->flags & OPERATOR_PASSIVE) || node_consumer_count(producer) != 1;
        if (shared && !setting->fusion_setting.force_alignment_overlap) continue;
        for (int o = 0; o < producer->output_count; o++) {
            const Value *output = producer->outputs[o];
            Slot *slot = producer->output_slots[o];
            if (!output || value_use_index(output, node) < 0 || slot == master) continue;
            if (output->dtype != DTYPE_FLOAT32 && output->dtype != DTYPE_NONE) continue;
            if (setting->switches.align_respect_width && slot->bits != master->bits) continue;
            slot_master(slot, master);
        }
    }
}

static bool align_node(Graph *graph, Node *node, Direction direction, const Setting *setting, Error *error)
{
    Slot *master = NULL;
    switch (direction) {
    case TO_NONE: return true;
    case TO_INPUT:
        for (int o = 0; o < node->output_count; o++)
            follow(node->output_slots[o], node->input_slots[0]);
        return true;
    case TO_OUTPUT:
        master = node->output_slots[0];
        for (int i = 0; i < node->input_count; i++)
            follow(node->input_slots[i], master);
        break;
    case TO_LARGE:
        if (!align_to_large(graph, node, setting->switches.align_large_exact, &master, error)) return false;
        break;
    case TO_FIRST: /* the last state and the initial state count in the sequence's steps */
        master = node->output_slots[node->outputs[0] || node->output_count < 2 ? 0 : 1];
        if (node->output_count > 1) follow(node->output_slots[1], master);
        if (node->input_count > 5) follow(node->input_slots[5], master);
        break;
    }
    if (master) align_producers(node, master, setting);
    return true;
}

bool pass_align(Graph *graph, PassContext *context, Error *error)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        Direction direction;
        if (!node->quantized || node->op->align == ALIGN_NEVER || node->input_count < 1 || node->output_count < 1) continue;
        if (!choose_direction(context->setting, node->op->align, &direction, error)) return false;
        if (!align_node(graph, node, direction, context->setting, error)) return false;
    }
    return true;
}
