/* Nodes that do nothing. */
#include "simplify/rules.h"

/* Dropout in a deployed model passes its input on; a Cast to the type that is there already, too (float16 and double became float32). */
static bool does_nothing(const Node *node, const SimplifyOptions *options)
{
    if (is_type(node, "Dropout")) return true;
    if (is_type(node, "Cast")) {
        const Value *input = only_input(node, 0);
        return options->extra_rewrites && input && input->dtype != DTYPE_NONE &&
               input->dtype == dtype_from_onnx((int)node_integer(node, "to", 0));
    }
    return options->extra_rewrites &&
           is_type(node, "Identity"); /* in reference mode at the end only, where BatchNormalization behind it stayed alone */
}

bool rewrite_no_ops(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        bool removed = false;
        if (!does_nothing(nodes[i], options)) continue;
        ok = bypass_node(graph, nodes[i], options, &removed, error);
        *changes += removed;
        /* Where it has to stay (a graph input handed out again), it stays as what it is. */
        if (ok && !removed && !is_type(nodes[i], "Identity") && nodes[i]->output_count == 1) {
            set_type(nodes[i], "Identity");
            while (nodes[i]->input_count > 1)
                node_remove_input(graph, nodes[i], nodes[i]->input_count - 1);
            while (nodes[i]->attribute_count)
                node_remove_attribute(nodes[i], nodes[i]->attributes[0].name);
        }
    }
    memory_free(nodes);
    return ok;
}

bool rewrite_identity(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        bool removed = false;
        if (!is_type(nodes[i], "Identity")) continue;
        ok = bypass_node(graph, nodes[i], options, &removed, error);
        *changes += removed;
    }
    memory_free(nodes);
    return ok;
}

/* The reference numbers unnamed nodes after its simplifier folded what could be folded: generated_name_<k> counts those that are left. */
bool rewrite_names(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    (void)changes; /* no shape changes with a name */
    int next = 0;
    graph_remove_unused(graph);
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!node->unnamed) continue;
        const char *name;
        const Node *taken;
        do {
            name = arena_format(&graph->arena, "generated_name_%d", next++);
            if (!name) return fail_memory(error, 32);
            taken = graph_node(graph, name);
        } while (taken && !taken->unnamed);
        if (taken == node) continue;
        /* An unnamed node further on may still hold the number; it gets its own when its turn comes. */
        if (taken) {
            Node *later = graph_node(graph, name);
            const char *aside = name;
            while (aside && graph_node(graph, aside))
                aside = arena_format(&graph->arena, "%s, later", aside);
            if (!aside) return fail_memory(error, 32);
            if (!graph_rename_node(graph, later, aside, error)) return false;
        }
        if (!graph_rename_node(graph, node, name, error)) return false;
    }
    return true;
}
