/* Bounds written as Max, Min, Relu and Clip in a row: one Clip (or Relu), with the same floats. */
#include "simplify/rules.h"

#include <float.h>
#include <math.h>

typedef struct Bounds {
    double least, most;
    Value *x;
} Bounds;

static bool bound_of(const Node *node, int index, const char *name, double otherwise, double *out)
{
    *out = otherwise;
    if (only_input(node, index)) return scalar_of(input_constant(node, index), out);
    *out = (double)node_number(node, name, (float)otherwise);
    return true;
}

/* What a node bounds, and where: Relu, Clip with constant bounds, Max or Min of a tensor and one number. */
static bool read_bounds(const Node *node, Bounds *bounds)
{
    *bounds = (Bounds){-INFINITY, INFINITY, only_input(node, 0)};
    if (node->output_count != 1 || !bounds->x || bounds->x->dtype != DTYPE_FLOAT32) return false;
    if (is_type(node, "Relu")) {
        bounds->least = 0;
        return true;
    }
    if (is_type(node, "Clip"))
        return !bounds->x->constant && bound_of(node, 1, "min", -INFINITY, &bounds->least) &&
               bound_of(node, 2, "max", INFINITY, &bounds->most) && bounds->least <= bounds->most;
    bool is_max = is_type(node, "Max");
    if ((!is_max && !is_type(node, "Min")) || node->input_count != 2 || !node->inputs[1]) return false;
    int constant = node->inputs[1]->constant ? 1 : 0;
    bounds->x = node->inputs[1 - constant];
    if (bounds->x->constant || !bounds->x->shaped || !tensor_is_float(input_constant(node, constant))) return false;
    if (node->inputs[constant]->constant->shape.rank > bounds->x->shape.rank) return false; /* it would add axes */
    return scalar_of(input_constant(node, constant), is_max ? &bounds->least : &bounds->most);
}

static bool set_bounds(Graph *graph, Node *node, const Bounds *bounds, Error *error)
{
    if (!node_set_input(graph, node, 0, bounds->x, error)) return false;
    while (node->input_count > 1) {
        Value *old = node->inputs[node->input_count - 1];
        node_remove_input(graph, node, node->input_count - 1);
        drop_if_free(graph, old);
    }
    while (node->attribute_count)
        node_remove_attribute(node, node->attributes[0].name);
    if (bounds->least == 0 && isinf(bounds->most)) {
        set_type(node, "Relu");
        return true;
    }
    /* An open end is written as the reference writes it (QUANT §2.3-12). */
    double ends[2] = {isinf(bounds->least) ? -2147483648.0 : bounds->least, isinf(bounds->most) ? 2147483648.0 : bounds->most};
    set_type(node, "Clip");
    for (int i = 0; i < 2; i++) {
        const char *name = arena_format(&graph->arena, "%s_%s", node->name, i ? "max" : "min");
        if (!name) return fail_memory(error, 64);
        if (!add_constant_input(graph, node, name, tensor_scalar(DTYPE_FLOAT32, ends[i], error), error)) return false;
    }
    return true;
}

/* second(first(x)): one pair of bounds when they are in order. */
static bool combine(const Bounds *first, const Bounds *second, Bounds *both)
{
    both->x = first->x;
    both->least = fmin(fmax(first->least, second->least), second->most);
    both->most = fmax(fmin(first->most, second->most), second->least);
    return both->least <= both->most;
}

/* The nodes before `node` that only bound what it bounds again, nearest first; bounds become those of all together. */
static int collect(const Graph *graph, Node *node, Bounds *bounds, Node *chain[16])
{
    int length = 0;
    for (Node *next = node; length < 16; next = chain[length - 1]) {
        Node *before = bounds->x->producer;
        Bounds first, both;
        if (!before || only_consumer(graph, before) != next || !read_bounds(before, &first) || !combine(&first, bounds, &both)) break;
        *bounds = both;
        chain[length++] = before;
    }
    return length;
}

bool rewrite_bounds(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = graph->node_count - 1; ok && i >= 0; i--) { /* from the end: the last of a chain takes it all */
        Node *node = nodes[i], *chain[16];
        Bounds bounds;
        if (node->removed || !read_bounds(node, &bounds)) continue;
        int length = collect(graph, node, &bounds, chain);
        if (length == 0 && !is_type(node, "Max") && !is_type(node, "Min")) continue;
        Value *before = node->inputs[0];
        ok = set_bounds(graph, node, &bounds, error);
        drop_if_free(graph, before);
        for (int k = 0; ok && k < length; k++)
            drop_node(graph, chain[k]);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}
