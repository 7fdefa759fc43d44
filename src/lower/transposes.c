/* Transposes that meet: around an activation (EXPORT §4.8), and one behind the other (§4.9). */
#include <string.h>

#include "lower/lower.h"

/* The node that alone reads a value which nobody outside sees. */
static Node *only_reader(const Lowering *lowering, const Node *node)
{
    if (node->output_count != 1 || !node->outputs[0] || node->outputs[0]->use_count != 1 ||
        value_is_output(lowering->graph, node->outputs[0]))
        return NULL;
    return node->outputs[0]->uses[0].node;
}

static int read_perm(const Node *node, int *perm)
{
    int64_t axes[ESPQ_MAX_RANK];
    int rank = node_integers(node, "perm", axes, ESPQ_MAX_RANK);
    for (int i = 0; i < rank; i++)
        perm[i] = (int)axes[i];
    return rank;
}

static bool write_perm(Lowering *lowering, Node *node, const int *perm, int rank, Error *error)
{
    int64_t axes[ESPQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        axes[i] = perm[i];
    return node_set_integers(lowering->graph, node, "perm", axes, rank) || fail_memory(error, sizeof axes);
}

/* `value` stands where the graph output `gone` stood: the reference appends it to the end of the list. */
static bool take_output(Lowering *lowering, Value *value, const Value *gone, Error *error)
{
    Graph *graph = lowering->graph;
    for (int i = 0; i < graph->output_count; i++) {
        if (graph->outputs[i] != gone) continue;
        memmove(&graph->outputs[i], &graph->outputs[i + 1], sizeof *graph->outputs * (size_t)(graph->output_count - i - 1));
        graph->output_count--;
        break;
    }
    value->device->replaces = gone->name;
    return graph_add_output(graph, value, error);
}

/* Take a node with one input and one output away; its consumers read `value`. */
static bool bridge(Lowering *lowering, Node *node, Value *value, Error *error)
{
    Graph *graph = lowering->graph;
    Value *gone = node->outputs[0];
    if (!value_replace_uses(graph, gone, value, error)) return false;
    if (value_is_output(graph, gone) && !take_output(lowering, value, gone, error)) return false;
    graph_remove_node(graph, node);
    graph_remove_value(graph, gone);
    return true;
}

static bool around_activation(Lowering *lowering, Node *first, Error *error)
{
    Node *middle = node_is(first, "Transpose") ? only_reader(lowering, first) : NULL;
    Node *second = middle && middle->op && middle->op->swaps_transpose ? only_reader(lowering, middle) : NULL;
    if (!second || !node_is(second, "Transpose")) return true;
    int p[ESPQ_MAX_RANK], q[ESPQ_MAX_RANK], rank = read_perm(first, p);
    if (rank < 1 || read_perm(second, q) != rank) return true;
    Value *from = first->inputs[0], *turned = middle->outputs[0], *behind = second->outputs[0];
    bool exact = lower_setting(lowering)->switches.exact_shapes;
    if (!bridge(lowering, first, from, error)) return false;
    turned->shape = from->shape;
    if (exact && from->device->perm_known) device_set_perm(turned, from->device->perm, from->device->perm_rank);
    perm_compose(p, q, rank, q);
    if (!perm_is_identity(q, rank)) return write_perm(lowering, second, q, rank, error);
    if (exact) { /* stored alike; the model's order of the output's axes is that of `behind` */
        turned->shape = behind->shape;
        if (behind->device->perm_known) device_set_perm(turned, behind->device->perm, behind->device->perm_rank);
    }
    return bridge(lowering, second, turned, error);
}

bool lower_transposes_around(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, around_activation, error);
}

/* Join all Transposes that follow into this one. */
static bool join_followers(Lowering *lowering, Node *node, int *perm, int rank, Error *error)
{
    Graph *graph = lowering->graph;
    for (Node *next = only_reader(lowering, node); next && node_is(next, "Transpose"); next = only_reader(lowering, node)) {
        int follows[ESPQ_MAX_RANK];
        if (read_perm(next, follows) != rank) break;
        perm_compose(perm, follows, rank, perm);
        if (!write_perm(lowering, node, perm, rank, error)) return false;
        Value *between = node->outputs[0], *result = next->outputs[0];
        Slot *slot = next->quantized && node->quantized ? next->output_slots[0] : NULL;
        graph_remove_node(graph, next);
        if (!node_set_output(graph, node, 0, result, error)) return false;
        graph_remove_value(graph, between);
        if (slot) {
            slot->node = node;
            node->output_slots[0] = slot;
        }
    }
    return true;
}

static bool join_transposes(Lowering *lowering, Node *node, Error *error)
{
    Graph *graph = lowering->graph;
    int perm[ESPQ_MAX_RANK], rank = node_is(node, "Transpose") ? read_perm(node, perm) : 0;
    if (rank < 1 || node->output_count != 1 || !node->outputs[0]) return true;
    if (!join_followers(lowering, node, perm, rank, error)) return false;
    if (!perm_is_identity(perm, rank)) return true;
    Value *from = node->inputs[0], *result = node->outputs[0];
    if (!value_is_output(graph, result)) return bridge(lowering, node, from, error);
    if (!from->producer || value_is_output(graph, from)) {
        /* A graph input (or another output) cannot take the output's place: here the reference stops (E11). */
        node->type = "Identity";
        node->op = operator_find("Identity");
        node_remove_attribute(node, "perm");
        return true;
    }
    if (from->use_count > 1) return bridge(lowering, node, from, error);
    Node *producer = from->producer;
    int output = from->producer_index;
    graph_remove_node(graph, node);
    if (!node_set_output(graph, producer, output, result, error)) return false;
    graph_remove_value(graph, from);
    return true;
}

bool lower_transposes(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, join_transposes, error);
}
