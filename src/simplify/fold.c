/* Shapes of everything, and folding of what depends on constants and shapes only: shape arithmetic leaves nothing in the file. Rows do
 * the arithmetic (exec_node), so that a fold and a run cannot differ. */
#include "simplify/rules.h"

/* Larger results stay nodes: an Expand of a scalar to gigabytes is no parameter. */
#define FOLD_MOST_ELEMENTS ((int64_t)1 << 25)

bool inputs_shaped(const Node *node)
{
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->shaped) return false;
    return true;
}

static void forget_outputs(Node *node)
{
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) node->outputs[i]->shaped = false;
}

/* What inference found wrong, over all nodes. */
typedef struct Faults {
    Text lines;
    int count;
} Faults;

static bool infer_one(Graph *graph, Node *node, Faults *faults, Error *error)
{
    if (!node->op || !node->op->infer || !inputs_shaped(node)) {
        forget_outputs(node);
        return true;
    }
    if (node->op->infer(graph, node, error)) return true;
    if (error->code != ERROR_INPUT) return false;
    forget_outputs(node);
    char where[256];
    if (faults->count++ < 40)
        text_format(&faults->lines, "\n  %s: %s%s%s", node_where(node, where), error->what, error->cure[0] ? " — " : "", error->cure);
    return true;
}

/* One fault is said as the row said it; several, or together with unknown operators, as a list. (What the chip lacks is not asked yet:
 * most of it is rewritten.) */
static bool report_faults(const Graph *graph, Faults *faults, Error *error)
{
    if (faults->count == 0) return true;
    int before = faults->count;
    list_unsupported(graph, 0, &faults->lines, &faults->count);
    if (faults->count == 1 && before == 1) return false; /* error still holds it */
    if (faults->lines.failed) return fail_memory(error, 0);
    return fail(error, graph->source, "mend these nodes where the model is made, or cut the model before them (outputs = { … })",
                "%d nodes cannot be taken:%s", faults->count, faults->lines.data);
}

static bool is_foldable(const Graph *graph, const Node *node)
{
    if (!node->op || !node->op->run || !node->op->infer || node->op->flags & OPERATOR_RANDOM) return false;
    bool any = false;
    for (int i = 0; i < node->input_count; i++) {
        if (!node->inputs[i]) continue;
        if (!node->inputs[i]->constant) return false;
        any = true;
    }
    if (!any && node->input_count > 0) return false;
    for (int i = 0; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (!value) continue;
        if (!value->shaped || value->dtype == DTYPE_NONE || shape_count(&value->shape) > FOLD_MOST_ELEMENTS) return false;
        if (value_is_output(graph, value)) return false;
    }
    return true;
}

/* The node goes; its outputs are constants from here on. */
static bool turn_constant(Graph *graph, Node *node, Tensor **results, Error *error)
{
    Value *few[8], **outputs = few;
    int count = node->output_count;
    if (count > 8) outputs = memory_new_array((size_t)count, sizeof *outputs);
    if (!outputs) return fail_memory(error, (size_t)count * sizeof *outputs);
    memcpy(outputs, node->outputs, (size_t)count * sizeof *outputs);
    Value *first = only_input(node, 0);
    graph_remove_node(graph, node);
    drop_if_free(graph, first);
    bool ok = true;
    for (int i = 0; i < count && ok; i++)
        if (outputs[i] && !outputs[i]->removed) ok = value_set_constant(graph, outputs[i], results[i]);
    if (outputs != few) memory_free(outputs);
    return ok || fail_memory(error, 0);
}

static bool fold_one(Graph *graph, Node *node, int *changes, Error *error)
{
    Tensor *few[16] = {0}, **tensors = few;
    int inputs = node->input_count, outputs = node->output_count;
    if (inputs + outputs > 16) tensors = memory_new_array((size_t)(inputs + outputs), sizeof *tensors);
    if (!tensors) return fail_memory(error, (size_t)(inputs + outputs) * sizeof *tensors);
    for (int i = 0; i < inputs; i++)
        tensors[i] = node->inputs[i] ? node->inputs[i]->constant : NULL;
    /* A node that its row refuses to run stays; whoever prepares it for a run says so. */
    Error refused = {0};
    bool ran = exec_node(graph, node, tensors, tensors + inputs, &refused);
    bool ok = ran ? turn_constant(graph, node, tensors + inputs, error) : refused.code == ERROR_INPUT;
    if (!ran && !ok) *error = refused;
    *changes += ran;
    for (int i = inputs; i < inputs + outputs; i++)
        tensor_release(tensors[i]);
    if (tensors != few) memory_free(tensors);
    return ok;
}

/* Shape and Size need no values, only what inference found. */
static Tensor *shape_result(const Node *node, Error *error)
{
    const Shape *shape = &node->inputs[0]->shape;
    if (is_type(node, "Size")) {
        int64_t count = shape_count(shape);
        Shape scalar = {0};
        return tensor_from_data(DTYPE_INT64, &scalar, &count, error);
    }
    int64_t start = node_integer(node, "start", 0), end = node_integer(node, "end", shape->rank);
    if (start < 0) start += shape->rank;
    if (end < 0) end += shape->rank;
    if (start < 0) start = 0;
    if (end > shape->rank) end = shape->rank;
    return tensor_from_integers(shape->dims + (start < end ? start : 0), start < end ? (int)(end - start) : 0, error);
}

static bool fold_shape(Graph *graph, Node *node, Error *error)
{
    Tensor *result = shape_result(node, error);
    if (!result) return false;
    Tensor *results[1] = {result};
    bool ok = turn_constant(graph, node, results, error);
    tensor_release(result);
    return ok;
}

static bool is_shape_question(const Graph *graph, const Node *node)
{
    return node->op && node->op->flags & OPERATOR_SHAPE_ONLY && (is_type(node, "Shape") || is_type(node, "Size")) &&
           node->output_count == 1 && node->outputs[0] && only_input(node, 0) && node->inputs[0]->shaped &&
           !value_is_output(graph, node->outputs[0]);
}

static bool walk(Graph *graph, bool fold, int *changes, Error *error)
{
    Node **order = NULL;
    Faults faults = {0};
    Error later = {0}, *said = error; /* error keeps the first fault as its row said it */
    if (!graph_sort(graph, &order, error)) return false;
    bool ok = true;
    for (int i = 0, count = graph->node_count; i < count && ok; i++) {
        Node *node = order[i];
        int before = faults.count;
        ok = infer_one(graph, node, &faults, said);
        if (ok && faults.count > before) said = &later;
        if (!ok || !fold || faults.count > before) continue;
        if (is_shape_question(graph, node)) {
            ok = fold_shape(graph, node, said);
            ++*changes;
        } else if (is_foldable(graph, node)) {
            ok = fold_one(graph, node, changes, said);
        }
    }
    if (!ok && said != error) *error = later;
    memory_free(order);
    ok = ok && report_faults(graph, &faults, error);
    text_free(&faults.lines);
    return ok;
}

bool infer_all(Graph *graph, Error *error)
{
    int changes = 0;
    return walk(graph, false, &changes, error);
}

bool simplify_fold(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    return walk(graph, true, changes, error);
}

bool rewrite_constants(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    return simplify_fold(graph, options, changes, error);
}
