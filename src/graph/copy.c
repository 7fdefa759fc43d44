/* Copying a graph: structure and slots are copied, constants shared. */
#include <stdint.h>

#include "base/memory.h"
#include "graph/graph.h"
#include "graph/operator.h"

/* Old object → new object, by address. */
typedef struct Pairs {
    const void **keys;
    void **values;
    size_t capacity;
} Pairs;

static size_t place_of(const Pairs *pairs, const void *key)
{
    size_t i = ((uintptr_t)key >> 4) * 0x9e3779b97f4a7c15u >> 20 & (pairs->capacity - 1);
    while (pairs->keys[i] && pairs->keys[i] != key)
        i = (i + 1) & (pairs->capacity - 1);
    return i;
}

static void pairs_set(Pairs *pairs, const void *key, void *value)
{
    size_t i = place_of(pairs, key);
    pairs->keys[i] = key;
    pairs->values[i] = value;
}

static void *pairs_get(const Pairs *pairs, const void *key)
{
    return key ? pairs->values[place_of(pairs, key)] : NULL;
}

/* Slots are copied with all they follow, also those of nodes that are gone. */
static size_t slot_chain(const Slot *slot)
{
    size_t length = 1;
    for (; slot->parent != slot; slot = slot->parent)
        length++;
    return length;
}

static Slot *copy_slot(Graph *graph, Pairs *pairs, const Slot *slot)
{
    Slot *copy = pairs_get(pairs, slot);
    if (copy) return copy;
    if (!(copy = arena_copy(&graph->arena, slot, sizeof *slot))) return NULL;
    pairs_set(pairs, slot, copy);
    if (slot->exponent_count && !(copy->exponents = arena_copy(&graph->arena, slot->exponents, (size_t)slot->exponent_count * sizeof(int))))
        return NULL;
    copy->node = pairs_get(pairs, slot->node);
    copy->parent = slot->parent == slot ? copy : copy_slot(graph, pairs, slot->parent);
    return copy->parent ? copy : NULL;
}

static bool copy_node_slots(Graph *graph, Pairs *pairs, const Node *from, Node *to, Error *error)
{
    if (!from->quantized) return true;
    if (!node_make_slots(graph, to, error)) return false;
    for (int i = 0; i < from->input_count; i++)
        if (!(to->input_slots[i] = copy_slot(graph, pairs, from->input_slots[i]))) return fail_memory(error, sizeof(Slot));
    for (int i = 0; i < from->output_count; i++)
        if (!(to->output_slots[i] = copy_slot(graph, pairs, from->output_slots[i]))) return fail_memory(error, sizeof(Slot));
    return true;
}

static const Given *copy_given(Graph *to, const Given *given)
{
    Given *copy = arena_copy(&to->arena, given, sizeof *given);
    if (!copy) return NULL;
    copy->scales = arena_copy(&to->arena, given->scales, (size_t)given->count * sizeof(float));
    return copy->scales ? copy : NULL;
}

static bool copy_values(const Graph *from, Graph *to, Pairs *pairs, Error *error)
{
    for (int i = 0; i < from->value_count; i++) {
        const Value *value = from->values[i];
        Value *copy = graph_add_value(to, value->name, error);
        if (!copy) return false;
        copy->dtype = value->dtype;
        copy->shaped = value->shaped;
        copy->shape = value->shape;
        copy->constant = tensor_retain(value->constant);
        copy->unbaked = tensor_retain(value->unbaked);
        if (value->given && !(copy->given = copy_given(to, value->given))) return fail_memory(error, sizeof(Given));
        pairs_set(pairs, value, copy);
    }
    return true;
}

static bool copy_nodes(const Graph *from, Graph *to, Pairs *pairs, Error *error)
{
    for (int i = 0; i < from->node_count; i++) {
        const Node *node = from->nodes[i];
        Node *copy = graph_add_node(to, node->type, node->name, error);
        if (!copy) return false;
        if (!node_copy_attributes(to, copy, node) || !(copy->domain = arena_text(&to->arena, node->domain))) return fail_memory(error, 64);
        copy->opset = node->opset;
        copy->op = node->op;
        copy->platform = node->platform;
        copy->wide = node->wide;
        pairs_set(pairs, node, copy);
        for (int k = 0; k < node->input_count; k++)
            if (!node_add_input(to, copy, pairs_get(pairs, node->inputs[k]), error)) return false;
        for (int k = 0; k < node->output_count; k++)
            if (!node_add_output(to, copy, pairs_get(pairs, node->outputs[k]), error)) return false;
    }
    for (int i = 0; i < from->node_count; i++)
        if (!copy_node_slots(to, pairs, from->nodes[i], to->nodes[i], error)) return false;
    return true;
}

/* The order of a value's consumers is part of the graph; rebuilding it node by node can exchange them. */
static void copy_use_order(const Graph *from, const Pairs *pairs)
{
    for (int i = 0; i < from->value_count; i++) {
        Value *copy = pairs_get(pairs, from->values[i]);
        for (int k = 0; k < copy->use_count; k++)
            copy->uses[k] = (Use){pairs_get(pairs, from->values[i]->uses[k].node), from->values[i]->uses[k].index};
    }
}

Graph *graph_copy(const Graph *graph, Error *error)
{
    size_t objects = (size_t)graph->value_count + (size_t)graph->node_count;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++)
            objects += slot_chain(node->input_slots[k]);
        for (int k = 0; node->quantized && k < node->output_count; k++)
            objects += slot_chain(node->output_slots[k]);
    }
    Pairs pairs = {.capacity = 64};
    while (pairs.capacity < objects * 2 + 2)
        pairs.capacity *= 2;
    pairs.keys = memory_new_array(pairs.capacity, sizeof(void *));
    pairs.values = memory_new_array(pairs.capacity, sizeof(void *));
    Graph *copy = pairs.keys && pairs.values ? graph_new(graph->name, error) : NULL;
    bool ok = copy != NULL;
    if (!pairs.keys || !pairs.values) fail_memory(error, pairs.capacity * 2 * sizeof(void *));
    if (ok) {
        copy->source = graph->source ? arena_text(&copy->arena, graph->source) : NULL;
        copy->ir_version = graph->ir_version;
        copy->opset = graph->opset;
        ok = copy_values(graph, copy, &pairs, error) && copy_nodes(graph, copy, &pairs, error);
        for (int i = 0; ok && i < graph->input_count; i++)
            ok = graph_add_input(copy, pairs_get(&pairs, graph->inputs[i]), error);
        for (int i = 0; ok && i < graph->output_count; i++)
            ok = graph_add_output(copy, pairs_get(&pairs, graph->outputs[i]), error);
        if (ok) copy_use_order(graph, &pairs);
        if (ok && graph->notes.length) text_add_bytes(&copy->notes, graph->notes.data, graph->notes.length);
        if (ok && graph->removed_names.length) text_add_bytes(&copy->removed_names, graph->removed_names.data, graph->removed_names.length);
        if (ok && graph->shared_names.length) text_add_bytes(&copy->shared_names, graph->shared_names.data, graph->shared_names.length);
        copy->next_operation = graph->next_operation;
        copy->next_variable = graph->next_variable;
        copy->next_slot = graph->next_slot;
    }
    memory_free(pairs.keys);
    memory_free(pairs.values);
    if (!ok) {
        graph_free(copy);
        return NULL;
    }
    return copy;
}
