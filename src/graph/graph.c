/* Life of a graph, making and removing its parts, names. Links between them: link.c. */
#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"
#include "graph/storage.h"

Graph *graph_new(const char *name, Error *error)
{
    Graph *graph = memory_new(sizeof *graph);
    if (graph) graph->name = arena_text(&graph->arena, name ? name : "");
    if (!graph || !graph->name) {
        memory_free(graph);
        fail_memory(error, sizeof *graph);
        return NULL;
    }
    graph->opset = 18;
    graph->ir_version = 8;
    return graph;
}

static void release_attributes(Node *node)
{
    for (int i = 0; i < node->attribute_count; i++)
        tensor_release(node->attributes[i].tensor);
    node->attribute_count = 0;
}

void graph_free(Graph *graph)
{
    if (!graph) return;
    for (int i = 0; i < graph->node_count; i++)
        release_attributes(graph->nodes[i]);
    for (int i = 0; i < graph->value_count; i++) {
        tensor_release(graph->values[i]->constant);
        tensor_release(graph->values[i]->unbaked);
    }
    map_free(&graph->node_names);
    map_free(&graph->value_names);
    text_free(&graph->removed_names);
    text_free(&graph->shared_names);
    text_free(&graph->notes);
    arena_free(&graph->arena);
    memory_free(graph);
}

/* Arrays of a graph live in its arena: growing one leaves the old one behind, which the doubling keeps below the size of the last. */
bool graph_reserve(Graph *graph, void *array, int count, int *capacity, size_t item_bytes)
{
    void **items = array;
    if (count < *capacity) return true;
    int wanted = *capacity ? *capacity * 2 : 4;
    void *moved = arena_new(&graph->arena, (size_t)wanted * item_bytes);
    if (!moved) return false;
    if (count) memcpy(moved, *items, (size_t)count * item_bytes);
    *items = moved;
    *capacity = wanted;
    return true;
}

/* The name asked for, or the next generated one that is free. NULL when it is taken or memory ends. */
static const char *claim_name(Graph *graph, const Map *names, const char *kind, int *next, const char *name, Error *error)
{
    const char *claimed = name ? arena_text(&graph->arena, name) : NULL;
    if (name && map_has(names, name)) {
        fail(error, name, "give every node and every tensor a name of its own", "the name is already taken");
        return NULL;
    }
    while (!name && (claimed = arena_format(&graph->arena, "PPQ_%s_%d", kind, (*next)++)) && map_has(names, claimed))
        continue;
    if (!claimed) fail_memory(error, 64);
    return claimed;
}

Node *graph_add_node(Graph *graph, const char *type, const char *name, Error *error)
{
    const char *claimed = claim_name(graph, &graph->node_names, "Operation", &graph->next_operation, name, error);
    if (!claimed) return NULL;
    Node *node = arena_new(&graph->arena, sizeof *node);
    if (node) node->type = arena_text(&graph->arena, type);
    if (!node || !node->type || !graph_reserve(graph, &graph->nodes, graph->node_count, &graph->node_capacity, sizeof(Node *)) ||
        !map_set(&graph->node_names, claimed, node)) {
        fail_memory(error, sizeof *node);
        return NULL;
    }
    node->name = claimed;
    node->domain = "";
    node->opset = 18;
    node->op = operator_find(type);
    graph->nodes[graph->node_count++] = node;
    return node;
}

Value *graph_add_value(Graph *graph, const char *name, Error *error)
{
    const char *claimed = claim_name(graph, &graph->value_names, "Variable", &graph->next_variable, name, error);
    if (!claimed) return NULL;
    Value *value = arena_new(&graph->arena, sizeof *value);
    if (!value || !graph_reserve(graph, &graph->values, graph->value_count, &graph->value_capacity, sizeof(Value *)) ||
        !map_set(&graph->value_names, claimed, value)) {
        fail_memory(error, sizeof *value);
        return NULL;
    }
    value->name = claimed;
    graph->values[graph->value_count++] = value;
    return value;
}

Value *graph_add_constant(Graph *graph, const char *name, Tensor *constant, Error *error)
{
    Value *value = graph_add_value(graph, name, error);
    if (value) value_set_constant(graph, value, constant);
    return value;
}

bool value_set_constant(Graph *graph, Value *value, Tensor *constant)
{
    (void)graph;
    tensor_retain(constant);
    tensor_release(value->constant);
    tensor_release(value->unbaked);
    value->constant = constant;
    value->unbaked = NULL;
    if (constant) {
        value->dtype = constant->dtype;
        value->shape = constant->shape;
        value->shaped = true;
    }
    return true;
}

bool graph_add_input(Graph *graph, Value *value, Error *error)
{
    if (!graph_reserve(graph, &graph->inputs, graph->input_count, &graph->input_capacity, sizeof(Value *))) return fail_memory(error, 64);
    graph->inputs[graph->input_count++] = value;
    return true;
}

bool graph_add_output(Graph *graph, Value *value, Error *error)
{
    if (!graph_reserve(graph, &graph->outputs, graph->output_count, &graph->output_capacity, sizeof(Value *)))
        return fail_memory(error, 64);
    graph->outputs[graph->output_count++] = value;
    return true;
}

Node *graph_node(const Graph *graph, const char *name)
{
    return map_get(&graph->node_names, name);
}
Value *graph_value(const Graph *graph, const char *name)
{
    return map_get(&graph->value_names, name);
}

static bool rename_in(Graph *graph, Map *names, const char **field, void *object, const char *name, Error *error)
{
    if (strcmp(*field, name) == 0) return true;
    if (map_has(names, name)) return fail(error, name, "choose a name that is free", "the name is already taken");
    const char *copy = arena_text(&graph->arena, name);
    if (!copy || !map_set(names, copy, object)) return fail_memory(error, strlen(name));
    map_remove(names, *field);
    *field = copy;
    return true;
}

bool graph_rename_node(Graph *graph, Node *node, const char *name, Error *error)
{
    return rename_in(graph, &graph->node_names, &node->name, node, name, error);
}

bool graph_rename_value(Graph *graph, Value *value, const char *name, Error *error)
{
    return rename_in(graph, &graph->value_names, &value->name, value, name, error);
}

/* ---- removing ---- */

static int position_of(void *const *items, int count, const void *item)
{
    for (int i = 0; i < count; i++)
        if (items[i] == item) return i;
    return -1;
}

static void take_out(void **items, int *count, int position)
{
    memmove(&items[position], &items[position + 1], (size_t)(*count - position - 1) * sizeof *items);
    (*count)--;
}

void graph_remove_node(Graph *graph, Node *node)
{
    int position = position_of((void *const *)graph->nodes, graph->node_count, node);
    if (position < 0) return;
    for (int i = 0; i < node->input_count; i++)
        link_drop_use(node, i);
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) node->outputs[i]->producer = NULL;
    node->input_count = node->output_count = 0;
    release_attributes(node);
    take_out((void **)graph->nodes, &graph->node_count, position);
    map_remove(&graph->node_names, node->name);
    text_add_bytes(&graph->removed_names, node->name, strlen(node->name) + 1);
    node->removed = true;
}

void graph_remove_value(Graph *graph, Value *value)
{
    int position = position_of((void *const *)graph->values, graph->value_count, value);
    if (position < 0) return;
    take_out((void **)graph->values, &graph->value_count, position);
    while ((position = position_of((void *const *)graph->inputs, graph->input_count, value)) >= 0)
        take_out((void **)graph->inputs, &graph->input_count, position);
    while ((position = position_of((void *const *)graph->outputs, graph->output_count, value)) >= 0)
        take_out((void **)graph->outputs, &graph->output_count, position);
    map_remove(&graph->value_names, value->name);
    tensor_release(value->constant);
    tensor_release(value->unbaked);
    value->constant = value->unbaked = NULL;
    value->removed = true;
}

static bool node_is_needed(const Graph *graph, const Node *node)
{
    for (int i = 0; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (value && (value->use_count || value_is_output(graph, value))) return true;
    }
    return false;
}

void graph_remove_unused(Graph *graph)
{
    bool changed = true;
    while (changed) {
        changed = false;
        for (int i = graph->node_count - 1; i >= 0; i--)
            if (!node_is_needed(graph, graph->nodes[i])) {
                graph_remove_node(graph, graph->nodes[i]);
                changed = true;
            }
    }
    for (int i = graph->value_count - 1; i >= 0; i--) {
        Value *value = graph->values[i];
        if (!value->producer && !value->use_count && !value_is_input(graph, value) && !value_is_output(graph, value))
            graph_remove_value(graph, value);
    }
}

/* ---- asking ---- */

bool value_is_input(const Graph *graph, const Value *value)
{
    return position_of((void *const *)graph->inputs, graph->input_count, value) >= 0;
}
bool value_is_output(const Graph *graph, const Value *value)
{
    return position_of((void *const *)graph->outputs, graph->output_count, value) >= 0;
}

int value_use_index(const Value *value, const Node *node)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] == value) return i;
    return -1;
}

int node_consumer_count(const Node *node)
{
    int count = 0;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) count += node->outputs[i]->use_count;
    return count;
}

const char *node_where(const Node *node, char out[256])
{
    char name[200];
    snprintf(out, 256, "%.50s %s", node->type, text_escape(name, sizeof name, node->name));
    return out;
}

void graph_note(Graph *graph, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text_format_list(&graph->notes, format, arguments);
    va_end(arguments);
    text_add(&graph->notes, "\n");
}
