#include "simplify/rules.h"

#include <stdio.h>

bool is_one_of(const char *type, const char *const *types)
{
    for (; *types; types++)
        if (strcmp(type, *types) == 0) return true;
    return false;
}

Node **nodes_now(const Graph *graph, Error *error)
{
    Node **nodes = memory_new_array((size_t)graph->node_count + 1, sizeof *nodes);
    if (!nodes)
        fail_memory(error, (size_t)graph->node_count * sizeof *nodes);
    else if (graph->node_count)
        memcpy(nodes, graph->nodes, (size_t)graph->node_count * sizeof *nodes);
    return nodes;
}

Value *only_input(const Node *node, int index)
{
    return index < node->input_count ? node->inputs[index] : NULL;
}

Tensor *input_constant(const Node *node, int index)
{
    Value *value = only_input(node, index);
    return value ? value->constant : NULL;
}

Node *only_consumer(const Graph *graph, const Node *node)
{
    const Value *value = node->output_count ? node->outputs[0] : NULL;
    if (!value || value->use_count != 1 || node_consumer_count(node) != 1 || value_is_output(graph, value)) return NULL;
    return value->uses[0].node;
}

bool tensor_is_float(const Tensor *tensor)
{
    return tensor && tensor->dtype == DTYPE_FLOAT32;
}

bool scalar_of(const Tensor *constant, double *out)
{
    if (!constant || tensor_count(constant) != 1) return false;
    *out = tensor_get(constant, 0);
    return true;
}

int integers_of(const Node *node, int index, const char *name, int64_t *out, int capacity)
{
    const Tensor *constant = input_constant(node, index);
    if (!constant) return only_input(node, index) ? -1 : node_integers(node, name, out, capacity);
    int64_t count = tensor_count(constant);
    if (count > capacity || !dtype_rows[constant->dtype].is_integer) return -1;
    for (int64_t i = 0; i < count; i++)
        out[i] = tensor_get_integer(constant, i);
    return (int)count;
}

/* "name", or "name_1", "name_2" … where that is taken. */
static const char *free_name(Graph *graph, const char *name, bool of_node)
{
    const char *made = name;
    for (int k = 1; made && (of_node ? (void *)graph_node(graph, made) : (void *)graph_value(graph, made)); k++)
        made = arena_format(&graph->arena, "%s_%d", name, k);
    return made;
}

Value *add_named_constant(Graph *graph, const char *name, Tensor *constant, Error *error)
{
    if (!constant) return NULL;
    Value *value = NULL;
    if (name && !(name = free_name(graph, name, false)))
        fail_memory(error, 64);
    else
        value = graph_add_constant(graph, name, constant, error);
    tensor_release(constant);
    return value;
}

bool add_constant_input(Graph *graph, Node *node, const char *name, Tensor *constant, Error *error)
{
    Value *value = add_named_constant(graph, name, constant, error);
    return value && node_add_input(graph, node, value, error);
}

bool replace_constant(Graph *graph, Node *node, int index, Tensor *tensor, Error *error)
{
    Value *old = node->inputs[index];
    if (!tensor) return false;
    if (old->use_count == 1 && !value_is_output(graph, old)) {
        bool ok = value_set_constant(graph, old, tensor);
        tensor_release(tensor);
        return ok || fail_memory(error, 0);
    }
    Value *made = add_named_constant(graph, NULL, tensor, error);
    return made && node_set_input(graph, node, index, made, error);
}

Node *add_node(Graph *graph, const char *type, const char *name, Error *error)
{
    if (name && !(name = free_name(graph, name, true))) {
        fail_memory(error, 64);
        return NULL;
    }
    Node *node = graph_add_node(graph, type, name, error);
    if (!node) return NULL;
    node->opset = 18;
    node->domain = "";
    return node;
}

void set_type(Node *node, const char *type)
{
    node->type = type;
    node->op = operator_find(type);
}

void drop_if_free(Graph *graph, Value *value)
{
    if (!value || value->removed || value->producer || value->use_count || value_is_input(graph, value) || value_is_output(graph, value))
        return;
    graph_remove_value(graph, value);
}

void drop_node(Graph *graph, Node *node)
{
    int count = node->input_count + node->output_count;
    Value *few[16], **values = few;
    if (count > 16) values = arena_new(&graph->arena, (size_t)count * sizeof *values);
    if (!values) count = 0; /* the values stay until graph_remove_unused */
    for (int i = 0; i < count; i++)
        values[i] = i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
    graph_remove_node(graph, node);
    for (int i = 0; i < count; i++)
        drop_if_free(graph, values[i]);
}

bool bypass_node(Graph *graph, Node *node, const SimplifyOptions *options, bool *removed, Error *error)
{
    Value *input = only_input(node, 0), *output = node->output_count ? node->outputs[0] : NULL;
    *removed = false;
    if (!input || !output) return true;
    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || value_is_output(graph, node->outputs[i]))) return true;
    bool is_shown = value_is_output(graph, output);
    /* A graph input or a constant keeps its own name, and a tensor cannot be shown twice. */
    if (is_shown && (value_is_input(graph, input) || value_is_output(graph, input) || input->constant)) return true;
    if (!value_replace_uses(graph, output, input, error)) return false;
    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i] == output) graph->outputs[i] = input;
    const char *name = output->name;
    drop_node(graph, node);
    *removed = true;
    return !is_shown || !options->keep_output_names || graph_rename_value(graph, input, name, error);
}
