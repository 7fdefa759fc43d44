/* Links between nodes and values. Memory is asked for before anything changes, so that a failed edit leaves the graph as it was. */
#include <string.h>

#include "graph/graph.h"
#include "graph/storage.h"

void link_drop_use(Node *node, int index)
{
    Value *value = node->inputs[index];
    if (!value) return;
    for (int i = 0; i < value->use_count; i++)
        if (value->uses[i].node == node && value->uses[i].index == index) {
            memmove(&value->uses[i], &value->uses[i + 1], (size_t)(value->use_count - i - 1) * sizeof(Use));
            value->use_count--;
            break;
        }
    node->inputs[index] = NULL;
}

static bool reserve_use(Graph *graph, Value *value, Error *error)
{
    if (value && !graph_reserve(graph, &value->uses, value->use_count, &value->use_capacity, sizeof(Use)))
        return fail_memory(error, sizeof(Use));
    return true;
}

static void take_use(Value *value, Node *node, int index)
{
    node->inputs[index] = value;
    if (value) value->uses[value->use_count++] = (Use){node, index};
}

/* The slot of an end that is added to a quantized node: float, at the width of the node's other ends. */
static Slot *new_slot(Graph *graph, Node *node, bool is_output, int index, const Value *value)
{
    Slot *slot = arena_new(&graph->arena, sizeof *slot);
    const Slot *like = node->input_count && node->input_slots     ? node->input_slots[0]
                       : node->output_count && node->output_slots ? node->output_slots[0]
                                                                  : NULL;
    if (!slot) return NULL;
    if (like) {
        slot->bits = like->bits;
        slot->minimum = like->minimum;
        slot->maximum = like->maximum;
        slot->rounding = like->rounding;
    }
    slot->state = SLOT_FP32;
    slot->parent = slot;
    slot->node = node;
    slot->is_output = is_output;
    slot->index = index;
    slot->is_parameter = value && value->constant;
    slot->id = graph->next_slot++;
    return slot;
}

static bool reserve_end(Graph *graph, Node *node, bool is_output, Error *error)
{
    int count = is_output ? node->output_count : node->input_count;
    int *capacity = is_output ? &node->output_capacity : &node->input_capacity, slots = *capacity;
    if (node->quantized && !graph_reserve(graph, is_output ? &node->output_slots : &node->input_slots, count, &slots, sizeof(Slot *)))
        return fail_memory(error, 64);
    if (!graph_reserve(graph, is_output ? &node->outputs : &node->inputs, count, capacity, sizeof(Value *))) return fail_memory(error, 64);
    return true;
}

bool node_insert_input(Graph *graph, Node *node, int index, Value *value, Error *error)
{
    Slot *slot = NULL;
    if (!reserve_end(graph, node, false, error) || !reserve_use(graph, value, error)) return false;
    if (node->quantized && !(slot = new_slot(graph, node, false, index, value))) return fail_memory(error, sizeof *slot);
    for (int i = node->input_count; i > index; i--) {
        Value *moved = node->inputs[i - 1];
        node->inputs[i] = moved;
        for (int k = 0; moved && k < moved->use_count; k++)
            if (moved->uses[k].node == node && moved->uses[k].index == i - 1) {
                moved->uses[k].index = i;
                break;
            }
        if (node->quantized) {
            node->input_slots[i] = node->input_slots[i - 1];
            node->input_slots[i]->index = i;
        }
    }
    node->input_count++;
    if (node->quantized) node->input_slots[index] = slot;
    take_use(value, node, index);
    return true;
}

bool node_add_input(Graph *graph, Node *node, Value *value, Error *error)
{
    return node_insert_input(graph, node, node->input_count, value, error);
}

bool node_add_output(Graph *graph, Node *node, Value *value, Error *error)
{
    Slot *slot = NULL;
    if (!reserve_end(graph, node, true, error)) return false;
    if (node->quantized && !(slot = new_slot(graph, node, true, node->output_count, value))) return fail_memory(error, sizeof *slot);
    if (node->quantized) node->output_slots[node->output_count] = slot;
    node->outputs[node->output_count++] = NULL;
    return node_set_output(graph, node, node->output_count - 1, value, error);
}

bool node_set_input(Graph *graph, Node *node, int index, Value *value, Error *error)
{
    if (node->inputs[index] == value) return true;
    if (!reserve_use(graph, value, error)) return false;
    link_drop_use(node, index);
    take_use(value, node, index);
    if (node->quantized) node->input_slots[index]->is_parameter = value && value->constant;
    return true;
}

bool node_set_output(Graph *graph, Node *node, int index, Value *value, Error *error)
{
    (void)graph;
    (void)error;
    Value *old = node->outputs[index];
    if (old && old != value) old->producer = NULL;
    if (value && value->producer && value->producer != node) value->producer->outputs[value->producer_index] = NULL;
    node->outputs[index] = value;
    if (value) {
        value->producer = node;
        value->producer_index = index;
    }
    return true;
}

void node_remove_input(Graph *graph, Node *node, int index)
{
    (void)graph;
    link_drop_use(node, index);
    for (int i = index; i + 1 < node->input_count; i++) {
        Value *moved = node->inputs[i + 1];
        node->inputs[i] = moved;
        for (int k = 0; moved && k < moved->use_count; k++)
            if (moved->uses[k].node == node && moved->uses[k].index == i + 1) {
                moved->uses[k].index = i;
                break;
            }
        if (node->quantized) {
            node->input_slots[i] = node->input_slots[i + 1];
            node->input_slots[i]->index = i;
        }
    }
    node->input_count--;
}

bool value_replace_uses(Graph *graph, Value *from, Value *to, Error *error)
{
    if (from == to) return true;
    while (from->use_count) {
        Use use = from->uses[0];
        if (!node_set_input(graph, use.node, use.index, to, error)) return false;
    }
    return true;
}

bool graph_insert_before_use(Graph *graph, Node *node, Value *value, Use use, Value *made, Error *error)
{
    return node_add_input(graph, node, value, error) && node_add_output(graph, node, made, error) &&
           node_set_input(graph, use.node, use.index, made, error);
}

bool node_make_slots(Graph *graph, Node *node, Error *error)
{
    /* Arrays of slots grow together with the ends' arrays: the same capacities. */
    Slot **inputs = arena_new(&graph->arena, (size_t)(node->input_capacity ? node->input_capacity : 1) * sizeof(Slot *));
    Slot **outputs = arena_new(&graph->arena, (size_t)(node->output_capacity ? node->output_capacity : 1) * sizeof(Slot *));
    if (!inputs || !outputs) return fail_memory(error, 64);
    for (int i = 0; i < node->input_count; i++)
        if (!(inputs[i] = new_slot(graph, node, false, i, node->inputs[i]))) return fail_memory(error, sizeof(Slot));
    for (int i = 0; i < node->output_count; i++)
        if (!(outputs[i] = new_slot(graph, node, true, i, node->outputs[i]))) return fail_memory(error, sizeof(Slot));
    node->input_slots = inputs;
    node->output_slots = outputs;
    node->quantized = true;
    return true;
}
