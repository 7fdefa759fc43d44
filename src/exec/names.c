#include "exec/names.h"

#include <string.h>

#include "base/memory.h"
#include "exec/quantization.h"
#include "graph/contents.h"
#include "graph/operator.h"

static const Name nameless = {""};

static Name end_name(Sha1 *sha1)
{
    Name name;
    sha1_end(sha1, name.hex);
    return name;
}

Name name_of_all(const char *what, const Name *const *names, int count)
{
    Sha1 sha1;
    sha1_begin(&sha1);
    contents_add_text(&sha1, what);
    for (int i = 0; i < count; i++) {
        if (!names[i]->hex[0]) return nameless;
        sha1_add(&sha1, names[i]->hex, 40);
    }
    return end_name(&sha1);
}

Name name_of_batch(const Graph *graph, Tensor *const *inputs)
{
    Sha1 sha1;
    Error ignored = {0};
    sha1_begin(&sha1);
    for (int i = 0; i < graph->input_count; i++) {
        const Value *input = graph->inputs[i];
        contents_add_integer(&sha1, input->shaped ? input->shape.rank : -1);
        if (input->shaped) sha1_add(&sha1, input->shape.dims, sizeof input->shape.dims[0] * (size_t)input->shape.rank);
        if (!contents_add_tensor(&sha1, inputs[i], &ignored)) return nameless;
    }
    return end_name(&sha1);
}

/* ---- what a node does by itself ---- */

static bool add_quantization(Sha1 *sha1, const Slot *slot, Dtype dtype)
{
    Quantization quantization;
    Error ignored = {0};
    if (!quantization_read(&quantization, slot, dtype, &ignored)) return false;
    const int64_t numbers[] = {quantization.on,      quantization.count,   quantization.exponent, quantization.axis,
                               quantization.minimum, quantization.maximum, quantization.rounding};
    sha1_add(sha1, numbers, sizeof numbers);
    if (quantization.exponents) sha1_add(sha1, quantization.exponents, sizeof(int) * (size_t)quantization.count);
    quantization_clear(&quantization);
    return true;
}

static bool add_input(Sha1 *sha1, const Node *node, int index, bool quantized)
{
    const Value *input = node->inputs[index];
    Error ignored = {0};
    contents_add_integer(sha1, !input ? 0 : input->constant ? 1 : 2);
    if (!input) return true;
    Tensor *constant = !quantized && input->unbaked ? input->unbaked : input->constant;
    return (!input->constant || contents_add_tensor(sha1, constant, &ignored)) &&
           (!quantized || add_quantization(sha1, node->input_slots[index], input->constant ? constant->dtype : input->dtype));
}

/* A script's operator may do anything, and a random one does. */
static Name name_alone(const Names *names, const Node *node)
{
    bool quantized = names->mode == EXEC_SIMULATED && node->quantized;
    Sha1 sha1;
    Error ignored = {0};
    if (!node->op || !operator_is_built_in(node->op) || node->op->flags & OPERATOR_RANDOM) return nameless;
    sha1_begin(&sha1);
    contents_add_text(&sha1, node->type);
    contents_add_text(&sha1, node->domain);
    const int64_t numbers[] = {node->opset,           names->exact,      quantized,         quantized && node->wide,
                               node->attribute_count, node->input_count, node->output_count};
    sha1_add(&sha1, numbers, sizeof numbers);
    for (int i = 0; i < node->attribute_count; i++)
        if (!contents_add_attribute(&sha1, &node->attributes[i], &ignored)) return nameless;
    for (int i = 0; i < node->input_count; i++)
        if (!add_input(&sha1, node, i, quantized)) return nameless;
    for (int i = 0; i < node->output_count; i++) {
        const Value *output = node->outputs[i];
        contents_add_integer(&sha1, output ? (int64_t)output->dtype : -1);
        if (output && quantized && !add_quantization(&sha1, node->output_slots[i], output->dtype)) return nameless;
    }
    return end_name(&sha1);
}

/* ---- values ---- */

static void name_outputs(Names *names, int place)
{
    const Node *node = names->order[place];
    Sha1 sha1;
    bool known = names->alone[place].hex[0] != 0;
    sha1_begin(&sha1);
    sha1_add(&sha1, names->alone[place].hex, sizeof names->alone[place].hex);
    for (int i = 0; i < node->input_count; i++) {
        if (!node->inputs[i] || node->inputs[i]->constant) continue;
        const Name *input = &names->values[value_index_of(&names->index, node->inputs[i])];
        known = known && input->hex[0];
        sha1_add(&sha1, input->hex, sizeof input->hex);
    }
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i]) continue;
        Sha1 copy = sha1;
        contents_add_integer(&copy, i);
        names->values[value_index_of(&names->index, node->outputs[i])] = known ? end_name(&copy) : nameless;
    }
}

static void name_inputs(Names *names)
{
    for (int i = 0; i < names->graph->input_count; i++) {
        Sha1 sha1;
        sha1_begin(&sha1);
        contents_add_text(&sha1, "input");
        contents_add_integer(&sha1, i);
        names->values[value_index_of(&names->index, names->graph->inputs[i])] = end_name(&sha1);
    }
}

/* ---- where little is alive ---- */

static int64_t bytes_of(const Value *value)
{
    return value->shaped ? shape_count(&value->shape) * (int64_t)dtype_bytes(value->dtype) : 0;
}

/* last[v]: place of the last node that reads it; node_count: it leaves the graph. first[v]: of the one that makes it, -1. */
static void find_lives(const Names *names, int *first, int *last)
{
    const Graph *graph = names->graph;
    for (int i = 0; i < names->node_count; i++) {
        const Node *node = names->order[i];
        for (int k = 0; k < node->output_count; k++)
            if (node->outputs[k]) first[value_index_of(&names->index, node->outputs[k])] = i;
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k]) last[value_index_of(&names->index, node->inputs[k])] = i;
    }
    for (int i = 0; i < graph->output_count; i++)
        last[value_index_of(&names->index, graph->outputs[i])] = names->node_count;
}

static bool find_worth(Names *names, Error *error)
{
    size_t values = (size_t)names->index.count + 1, nodes = (size_t)names->node_count + 2;
    int *first = memory_new_array(values * 2, sizeof *first), *last = first ? first + values : NULL;
    int64_t *alive = memory_new_array(nodes, sizeof *alive); /* bytes behind node i */
    bool ok = first && alive;
    if (ok) {
        memset(first, -1, values * 2 * sizeof *first);
        find_lives(names, first, last);
    }
    for (int v = 0; ok && v < names->index.count; v++)
        for (int i = first[v]; first[v] >= 0 && i < last[v] && i < names->node_count; i++)
            alive[i] += bytes_of(names->graph->values[v]);
    for (int i = 1; ok && i + 1 < names->node_count; i++) {
        if (alive[i] > alive[i - 1] || alive[i] >= alive[i + 1]) continue;
        for (int v = 0; v < names->index.count; v++)
            if (first[v] >= 0 && first[v] <= i && last[v] > i) names->worth[v] = true;
    }
    memory_free(first);
    memory_free(alive);
    return ok ? true : fail_memory(error, values * 2 * sizeof *first);
}

/* ---- life ---- */

bool names_make(Names *names, Graph *graph, ExecMode mode, bool exact, Error *error)
{
    size_t values = (size_t)graph->value_count + 1, nodes = (size_t)graph->node_count + 1;
    *names = (Names){.graph = graph, .mode = mode, .exact = exact, .node_count = graph->node_count};
    names->alone = memory_new_array(nodes, sizeof *names->alone);
    names->values = memory_new_array(values, sizeof *names->values);
    names->worth = memory_new_array(values, sizeof *names->worth);
    if (!names->alone || !names->values || !names->worth) return fail_memory(error, values * sizeof *names->values);
    if (!value_index_make(&names->index, graph, error) || !graph_sort(graph, &names->order, error) || !find_worth(names, error))
        return false;
    name_inputs(names);
    names_changed(names, names->order, names->node_count);
    return true;
}

void names_free(Names *names)
{
    value_index_free(&names->index);
    memory_free(names->order);
    memory_free(names->alone);
    memory_free(names->values);
    memory_free(names->worth);
    *names = (Names){0};
}

static bool is_among(const Node *node, Node *const *nodes, int count)
{
    for (int i = 0; i < count; i++)
        if (nodes[i] == node) return true;
    return false;
}

void names_changed(Names *names, Node *const *nodes, int count)
{
    int from = names->node_count;
    for (int i = 0; i < names->node_count; i++) {
        if (nodes != names->order && !is_among(names->order[i], nodes, count)) continue;
        names->alone[i] = name_alone(names, names->order[i]);
        if (i < from) from = i;
    }
    for (int i = from; i < names->node_count; i++)
        name_outputs(names, i);
}

Name names_of(const Names *names, const Value *value, const Name *batch)
{
    int place = value_index_of(&names->index, value);
    const Name *parts[] = {place < 0 ? &nameless : &names->values[place], batch};
    return name_of_all("value", parts, 2);
}
