/* One spelling for what opsets (and exporters) write differently and means the same, so that equal models become equal files (CASES C02).
 * Not in reference mode: there the attributes of the model are those of the file. */
#include "simplify/rules.h"

/* Attribute `name`, a list, as input `index` (EXPORT §2.1 does the same when lowering). */
static bool attribute_to_input(Graph *graph, Node *node, const char *name, int index, int *changes, Error *error)
{
    int64_t values[64];
    int count = node_integers(node, name, values, 64);
    if (count < 0 || count > 64 || node->input_count != index) return true;
    const char *made = arena_format(&graph->arena, "%s_%s", node->name, name);
    if (!made) return fail_memory(error, 64);
    if (!add_constant_input(graph, node, made, tensor_from_integers(values, count, error), error)) return false;
    node_remove_attribute(node, name);
    ++*changes;
    return true;
}

static void remove_if_integer(Node *node, const char *name, int64_t value)
{
    if (node_attribute(node, name) && node_integer(node, name, value) == value) node_remove_attribute(node, name);
}

static void remove_if_number(Node *node, const char *name, float value)
{
    if (node_attribute(node, name) && node_number(node, name, value) == value) node_remove_attribute(node, name);
}

/* An empty tensor (roi, scales) stands for an input left out. */
static void leave_out_empty(Graph *graph, Node *node, Error *error)
{
    for (int i = 1; i < node->input_count; i++) {
        Value *value = node->inputs[i];
        if (!value || !value->constant || tensor_count(value->constant) != 0) continue;
        node_set_input(graph, node, i, NULL, error);
        drop_if_free(graph, value);
    }
    while (node->input_count > 1 && !node->inputs[node->input_count - 1])
        node_remove_input(graph, node, node->input_count - 1);
}

/* ConvTranspose: the last rows and columns are there or cut off, by output_padding less pads. */
static bool settle_output_padding(Graph *graph, Node *node)
{
    int64_t padding[ESPQ_MAX_RANK], pads[2 * ESPQ_MAX_RANK];
    int spatial = node_integers(node, "output_padding", padding, ESPQ_MAX_RANK);
    if (spatial < 1 || spatial > ESPQ_MAX_RANK || node_integers(node, "pads", pads, 2 * ESPQ_MAX_RANK) != 2 * spatial) return true;
    for (int i = 0; i < spatial; i++) {
        int64_t both = padding[i] < pads[i + spatial] ? padding[i] : pads[i + spatial];
        padding[i] -= both;
        pads[i + spatial] -= both;
    }
    return node_set_integers(graph, node, "pads", pads, 2 * spatial) && node_set_integers(graph, node, "output_padding", padding, spatial);
}

/* VALID is no padding, NOTSET what pads says. */
static void settle_auto_pad(Node *node)
{
    const char *word = node_string(node, "auto_pad", "");
    if (strcmp(word, "VALID") == 0) node_remove_attribute(node, "pads");
    if (strcmp(word, "VALID") == 0 || strcmp(word, "NOTSET") == 0) node_remove_attribute(node, "auto_pad");
}

static bool spell(Graph *graph, Node *node, int *changes, Error *error)
{
    settle_auto_pad(node);
    if (is_type(node, "Gemm")) {
        remove_if_number(node, "alpha", 1);
        remove_if_number(node, "beta", 1);
        remove_if_integer(node, "transA", 0);
    }
    if (is_type(node, "Pad") && strcmp(node_string(node, "mode", "constant"), "constant") == 0) node_remove_attribute(node, "mode");
    if (is_type(node, "Resize")) leave_out_empty(graph, node, error);
    if (is_type(node, "ConvTranspose") && !settle_output_padding(graph, node)) return fail_memory(error, 0);
    if ((is_type(node, "Softmax") || is_type(node, "LogSoftmax")) && !node_set_integer(graph, node, "axis", node_integer(node, "axis", -1)))
        return fail_memory(error, 0);
    if (is_type(node, "Squeeze") || is_type(node, "Unsqueeze") || strncmp(node->type, "Reduce", 6) == 0)
        return attribute_to_input(graph, node, "axes", 1, changes, error);
    if (is_type(node, "Split")) return attribute_to_input(graph, node, "split", 1, changes, error);
    return true;
}

/* Sum of several: Adds one behind another, in the order of the inputs. */
static bool chain_of_adds(Graph *graph, Node *node, Error *error)
{
    Value *output = node->outputs[0];
    Node *last = node;
    set_type(node, "Add");
    for (int k = 2; node->input_count > 2; k++) {
        Value *next = node->inputs[2], *partial = graph_add_value(graph, NULL, error);
        const char *name = arena_format(&graph->arena, "%s_%d", node->name, k);
        Node *add = name && partial ? add_node(graph, "Add", name, error) : NULL;
        if (!add) return name ? false : fail_memory(error, 64);
        node_remove_input(graph, node, 2);
        if (!node_set_output(graph, last, 0, partial, error) || !node_add_input(graph, add, partial, error) ||
            !node_add_input(graph, add, next, error))
            return false;
        if (!node_add_output(graph, add, output, error)) return false;
        last = add;
    }
    return true;
}

bool rewrite_sums(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        bool removed = false;
        if (!is_type(nodes[i], "Sum") || nodes[i]->input_count < 1 || nodes[i]->output_count != 1) continue;
        if (nodes[i]->input_count == 1)
            ok = bypass_node(graph, nodes[i], options, &removed, error);
        else
            ok = chain_of_adds(graph, nodes[i], error);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}

bool rewrite_spelling(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++)
        if (!spell(graph, graph->nodes[i], changes, error)) return false;
    return true;
}
