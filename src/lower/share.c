/* Weights that towers share were split for their uses when loading; where both came out alike, one is stored. */
#include <string.h>

#include "graph/operator.h"
#include "lower/lower.h"

static bool alike(const Value *a, const Value *b)
{
    const DeviceValue *left = a->device, *right = b->device;
    if (left->exponent_count != right->exponent_count || !shape_equal(&left->shape, &right->shape)) return false;
    if (memcmp(left->exponents, right->exponents, (size_t)left->exponent_count * sizeof(int)) != 0) return false;
    if (!left->layout != !right->layout || (left->layout && strcmp(left->layout, right->layout) != 0)) return false;
    return tensor_equal(a->constant, b->constant);
}

/* The value of an earlier node's weight or bias that can stand for this one. */
static Value *earlier(const Graph *graph, int before, const Value *value)
{
    for (int i = 0; i < before; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 1; node->op && node->op->flags & OPERATOR_WEIGHTED && k < node->input_count; k++) {
            Value *other = node->inputs[k];
            if (other && other != value && other->constant && alike(other, value)) return other;
        }
    }
    return NULL;
}

bool lower_share(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    if (!lower_setting(lowering)->switches.extra_rewrites) return true;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 1; node->op && node->op->flags & OPERATOR_WEIGHTED && k < node->input_count; k++) {
            Value *value = node->inputs[k], *other = value && value->constant ? earlier(graph, i, value) : NULL;
            if (!other) continue;
            if (!node_set_input(graph, node, k, other, error)) return false;
            if (!value->use_count && !value_is_output(graph, value)) graph_remove_value(graph, value);
        }
    }
    return true;
}
