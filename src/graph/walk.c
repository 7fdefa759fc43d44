/* Walking a graph: order of execution, the definition of a legal graph, shape inference. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "graph/graph.h"
#include "graph/operator.h"

/* Where a node stands in graph->nodes, through a map of names to places. */
static int index_in(const Graph *graph, const Map *places, const Node *node)
{
    const Node **place = map_get(places, node->name);
    return place ? (int)(place - (const Node **)graph->nodes) : -1;
}

bool graph_sort(const Graph *graph, Node ***order, Error *error)
{
    size_t count = (size_t)graph->node_count;
    Node **sorted = memory_new_array(count + 1, sizeof *sorted);
    int *missing = memory_new_array(count + 1, sizeof *missing);
    Map places = {0};
    bool ok = sorted && missing;
    for (size_t i = 0; ok && i < count; i++)
        ok = map_set(&places, graph->nodes[i]->name, &graph->nodes[i]);
    if (!ok) fail_memory(error, count * sizeof *sorted);
    size_t ready = 0, done = 0;
    for (size_t i = 0; ok && i < count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; k < node->input_count; k++)
            missing[i] += node->inputs[k] && node->inputs[k]->producer;
        if (!missing[i]) sorted[ready++] = graph->nodes[i];
    }
    for (; ok && done < ready; done++)
        for (int i = 0; i < sorted[done]->output_count; i++) {
            const Value *value = sorted[done]->outputs[i];
            for (int k = 0; value && k < value->use_count; k++) {
                int at = index_in(graph, &places, value->uses[k].node);
                if (at >= 0 && --missing[at] == 0) sorted[ready++] = value->uses[k].node;
            }
        }
    if (ok && done < count) {
        const Node *stuck = graph->nodes[0];
        char where[256];
        for (size_t i = 0; i < count; i++)
            if (missing[i] > 0) {
                stuck = graph->nodes[i];
                break;
            }
        ok = fail(error, node_where(stuck, where), "export the model again: an ONNX graph must not feed a node from its own output",
                  "the graph has a cycle");
    }
    map_free(&places);
    memory_free(missing);
    if (!ok) {
        memory_free(sorted);
        return false;
    }
    *order = sorted;
    return true;
}

/* ---- the definition of a legal graph ---- */

static bool illegal(Error *error, const char *name, const char *what)
{
    return fail_as(error, ERROR_INTERNAL, name, "this is a fault of espq or of a Lua pass: please report it", "the graph is broken: %s",
                   what);
}

static bool check_node(const Graph *graph, const Node *node, Error *error)
{
    if (node->removed) return illegal(error, node->name, "a removed node is still listed");
    if (graph_node(graph, node->name) != node) return illegal(error, node->name, "the node cannot be found by its name");
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        int found = 0;
        if (!value) continue;
        if (value->removed || graph_value(graph, value->name) != value)
            return illegal(error, node->name, "an input is no value of the graph");
        for (int k = 0; k < value->use_count; k++)
            found += value->uses[k].node == node && value->uses[k].index == i;
        if (found != 1) return illegal(error, node->name, "an input does not know this consumer once");
    }
    for (int i = 0; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (!value) continue;
        if (value->removed || graph_value(graph, value->name) != value)
            return illegal(error, node->name, "an output is no value of the graph");
        if (value->producer != node || value->producer_index != i) return illegal(error, node->name, "an output has another producer");
        if (value->constant) return illegal(error, value->name, "a constant has a producer");
    }
    if (node->quantized)
        for (int i = 0; i < node->input_count + node->output_count; i++) {
            bool is_output = i >= node->input_count;
            const Slot *slot = is_output ? node->output_slots[i - node->input_count] : node->input_slots[i];
            if (!slot || !slot->parent) return illegal(error, node->name, "an end has no slot");
        }
    return true;
}

static bool check_value(const Graph *graph, const Value *value, Error *error)
{
    if (value->removed) return illegal(error, value->name, "a removed value is still listed");
    if (graph_value(graph, value->name) != value) return illegal(error, value->name, "the value cannot be found by its name");
    for (int k = 0; k < value->use_count; k++) {
        const Use *use = &value->uses[k];
        if (use->node->removed || use->index >= use->node->input_count || use->node->inputs[use->index] != value)
            return illegal(error, value->name, "a consumer does not read the value");
    }
    if (value->producer && (value->producer->removed || value->producer->outputs[value->producer_index] != value))
        return illegal(error, value->name, "the producer does not make the value");
    if (value->producer && value_is_input(graph, value)) return illegal(error, value->name, "a graph input has a producer");
    return true;
}

bool graph_check(const Graph *graph, Error *error)
{
    Node **order;
    for (int i = 0; i < graph->node_count; i++)
        if (!check_node(graph, graph->nodes[i], error)) return false;
    for (int i = 0; i < graph->value_count; i++)
        if (!check_value(graph, graph->values[i], error)) return false;
    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i]->removed) return illegal(error, graph->outputs[i]->name, "a graph output was removed");
    if (!graph_sort(graph, &order, error)) return false;
    memory_free(order);
    return true;
}

/* ---- shapes ---- */

static bool infer_node(Graph *graph, Node *node, Error *error)
{
    /* Behind an unknown operator nothing is known; check_supported names the operator. */
    bool known = node->op && node->op->infer;
    for (int i = 0; known && i < node->input_count; i++)
        known = !node->inputs[i] || node->inputs[i]->shaped;
    if (known) return node->op->infer(graph, node, error);
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && !node->op) node->outputs[i]->shaped = false;
    return true;
}

bool graph_infer(Graph *graph, Error *error)
{
    Node **order;
    bool ok = graph_sort(graph, &order, error);
    if (!ok) return false;
    for (int i = 0, count = graph->node_count; ok && i < count; i++)
        ok = infer_node(graph, order[i], error);
    memory_free(order);
    return ok;
}
