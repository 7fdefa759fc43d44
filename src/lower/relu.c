/* Rewrites before the layout: attributes that become inputs (EXPORT §2.1), Relu into what feeds it (§2.3). */
#include <string.h>

#include "lower/lower.h"

/* Parts of equal size, the last one smaller, as ONNX cuts them. */
static Value *equal_parts(Lowering *lowering, const Node *node, Error *error)
{
    int64_t sizes[256];
    const Shape *shape = &node->inputs[0]->shape;
    int64_t axis = node_integer(node, "axis", 0);
    if (axis < 0) axis += shape->rank;
    if (node->output_count > 256 || axis < 0 || axis >= shape->rank) return NULL;
    int64_t part = (shape->dims[axis] + node->output_count - 1) / node->output_count, left = shape->dims[axis];
    for (int i = 0; i < node->output_count; i++) {
        sizes[i] = part < left ? part : left;
        left -= sizes[i];
    }
    return lower_add_integers(lowering, sizes, node->output_count, error);
}

static bool append_input(Lowering *lowering, Node *node, Value *value, Error *error)
{
    if (!value || !node_add_input(lowering->graph, node, value, error)) return error->code != ERROR_NONE ? false : fail_memory(error, 64);
    if (node->quantized)
        node->input_slots[node->input_count - 1]->bits = 0; /* the reference gives this end no slot: the .json leaves it out */
    return true;
}

/* Graph inputs that no node reads are left out: the runtime would plan memory for nothing. */
static void drop_unused_inputs(Graph *graph)
{
    for (int i = graph->input_count - 1; i >= 0; i--)
        if (!graph->inputs[i]->use_count && !value_is_output(graph, graph->inputs[i])) graph_remove_value(graph, graph->inputs[i]);
}

bool lower_inputs(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    if (lower_setting(lowering)->switches.extra_rewrites) drop_unused_inputs(graph);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        const char *name = node->op ? node->op->becomes_input : NULL;
        const Attribute *attribute = name ? node_attribute(node, name) : NULL;
        if (attribute && attribute->kind == ATTRIBUTE_INTS) {
            Value *value = lower_add_integers(lowering, attribute->integers, attribute->count, error);
            node_remove_attribute(node, name);
            if (!append_input(lowering, node, value, error)) return false;
        } else if (name && strcmp(name, "split") == 0 && node->input_count == 1 && lower_setting(lowering)->switches.split_sizes) {
            /* Without sizes the chip takes num_outputs for a size (E8). */
            node_remove_attribute(node, "num_outputs");
            if (!append_input(lowering, node, equal_parts(lowering, node, error), error)) return false;
        }
    }
    return true;
}

/* The Relu that alone reads all a node makes, if the two can be one on the chip: quantized, and nobody else sees the value between
 * them (E1, E2: the reference asks for neither). */
static Node *relu_behind(const Lowering *lowering, const Node *node)
{
    if (node_consumer_count(node) != 1) return NULL;
    for (int i = 0; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (!value || !value->use_count) continue;
        Node *relu = value->uses[0].node;
        return node_is(relu, "Relu") && relu->quantized && !value_is_output(lowering->graph, value) ? relu : NULL;
    }
    return NULL;
}

/* A product of one width with a Relu of another: the reference writes a node of the first width whose output has the second
 * (E19), which no kernel of the chip does. The same range in the node's own width; a RequantizeLinear behind it does the rest. */
static bool narrow_output(Lowering *lowering, const Node *node, Slot *slot, Error *error)
{
    int bits = node->platform ? node->platform->bits : slot->bits;
    if (bits == slot->bits || !slot_exportable(slot) || !lower_setting(lowering)->switches.dynamic_width_requantize) return true;
    int exponent = slot_exponent(slot, 0) + slot->bits - bits;
    slot->parent = slot;
    slot->state = SLOT_ACTIVATED;
    slot->id = lowering->graph->next_slot++;
    slot->bits = bits;
    slot->minimum = -((int64_t)1 << (bits - 1));
    slot->maximum = ((int64_t)1 << (bits - 1)) - 1;
    return slot_set_exponents(lowering->graph, slot, &exponent, 1) || fail_memory(error, sizeof exponent);
}

static bool fuse_relu(Lowering *lowering, Node *node, Error *error)
{
    if (!node->quantized || !node->op || !node->op->fuses_relu) return true;
    Graph *graph = lowering->graph;
    Node *relu = relu_behind(lowering, node);
    if (!node_set_string(graph, node, "activation", relu ? "Relu" : "Linear")) return fail_memory(error, 16);
    if (!relu) return true;
    Value *between = relu->inputs[0], *result = relu->outputs[0];
    Slot *slot = arena_copy(&graph->arena, relu->output_slots[0], sizeof *slot);
    if (!slot) return fail_memory(error, sizeof *slot);
    lower_copy_slot(slot, relu->output_slots[0]);
    int output = between->producer_index;
    graph_remove_node(graph, relu);
    if (!node_set_output(graph, node, output, result, error)) return false;
    graph_remove_value(graph, between);
    slot->node = node;
    slot->index = output;
    node->output_slots[output] = slot;
    return narrow_output(lowering, node, slot, error);
}

bool lower_fuse_relu(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, fuse_relu, error);
}
