/* Forms of old opsets that the reference respells when it loads a model (QUANT §2.3, steps 11 to 14), and meanings that depend on shapes. */
#include "simplify/rules.h"

static bool add_integers(Graph *graph, Node *node, const char *name, const int64_t *values, int count, Error *error)
{
    return add_constant_input(graph, node, name, tensor_from_integers(values, count, error), error);
}

/* Slice of opset 9: attributes become inputs <node>_<k>, k one more than the inputs there were. */
static bool slice_inputs(Graph *graph, Node *node, Error *error)
{
    static const char *const names[] = {"starts", "ends", "axes"};
    int64_t values[3][ESPQ_MAX_RANK];
    int counts[3];
    char where[256];
    for (int i = 0; i < 3; i++)
        counts[i] = node_integers(node, names[i], values[i], ESPQ_MAX_RANK);
    if (counts[2] < 0) { /* all axes from the first on */
        counts[2] = counts[0];
        for (int i = 0; i < counts[0] && i < ESPQ_MAX_RANK; i++)
            values[2][i] = i;
    }
    if (counts[0] != counts[1] || counts[0] != counts[2] || counts[0] > ESPQ_MAX_RANK || node->input_count != 1)
        return fail(error, node_where(node, where), "export the model again", "starts, ends and axes do not have equally many numbers");
    for (int i = 0; i < 3; i++) {
        const char *name = arena_format(&graph->arena, "%s_%d", node->name, node->input_count + 1);
        if (!name) return fail_memory(error, 64);
        if (!add_integers(graph, node, name, values[i], counts[i], error)) return false;
        node_remove_attribute(node, names[i]);
    }
    return true;
}

bool rewrite_slice(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_type(node, "Slice") || !node_attribute(node, "starts")) continue;
        if (!slice_inputs(graph, node, error)) return false;
        ++*changes;
    }
    return true;
}

/* Clip of opset 10: bounds become <node>_min and <node>_max; a missing one is beyond what a float of a network reaches (-2^31, 2^31). */
bool rewrite_clip(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    static const char *const names[] = {"min", "max"};
    static const float otherwise[] = {-2147483648.0f, 2147483648.0f};
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_type(node, "Clip") || node->input_count != 1 || (!node_attribute(node, "min") && !node_attribute(node, "max"))) continue;
        for (int k = 0; k < 2; k++) {
            const char *name = arena_format(&graph->arena, "%s_%s", node->name, names[k]);
            if (!name) return fail_memory(error, 64);
            if (!add_constant_input(graph, node, name,
                                    tensor_scalar(DTYPE_FLOAT32, (double)node_number(node, names[k], otherwise[k]), error), error))
                return false;
            node_remove_attribute(node, names[k]);
        }
        ++*changes;
    }
    return true;
}

/* Pad of opset 10: the reference drops mode and value with all other attributes, right only for zeros; here they stay where they matter. */
static bool pad_inputs(Graph *graph, Node *node, Error *error)
{
    int64_t pads[2 * ESPQ_MAX_RANK];
    char where[256];
    int count = node_integers(node, "pads", pads, 2 * ESPQ_MAX_RANK);
    if (count < 0 || count > 2 * ESPQ_MAX_RANK || node->input_count != 1)
        return fail(error, node_where(node, where), "export the model again", "its pads cannot be read");
    float value = node_number(node, "value", 0);
    bool is_constant = strcmp(node_string(node, "mode", "constant"), "constant") == 0;
    if (!add_integers(graph, node, NULL, pads, count, error)) return false;
    if (is_constant && value != 0 && !add_constant_input(graph, node, NULL, tensor_scalar(DTYPE_FLOAT32, (double)value, error), error))
        return false;
    node_remove_attribute(node, "pads");
    node_remove_attribute(node, "value");
    if (is_constant) node_remove_attribute(node, "mode");
    return true;
}

/* Opset 18 lets Pad name its axes: spelled out for all, where the rank is known. */
static bool pad_all_axes(Graph *graph, Node *node, int *changes, Error *error)
{
    int64_t axes[ESPQ_MAX_RANK], pads[2 * ESPQ_MAX_RANK], all[2 * ESPQ_MAX_RANK] = {0};
    int count = integers_of(node, 3, "", axes, ESPQ_MAX_RANK), given = integers_of(node, 1, "", pads, 2 * ESPQ_MAX_RANK);
    const Value *input = only_input(node, 0);
    if (count < 0 || given != 2 * count || !input || !input->shaped) return true; /* not known: its row says so */
    int rank = input->shape.rank;
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank) return true;
        all[axis] = pads[i];
        all[axis + rank] = pads[i + count];
    }
    Value *made = add_named_constant(graph, NULL, tensor_from_integers(all, 2 * rank, error), error), *old = node->inputs[1],
          *named = node->inputs[3];
    if (!made || !node_set_input(graph, node, 1, made, error)) return false;
    node_remove_input(graph, node, 3);
    if (!node->inputs[2]) node_remove_input(graph, node, 2);
    drop_if_free(graph, old);
    drop_if_free(graph, named);
    ++*changes;
    return true;
}

bool rewrite_pad(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_type(node, "Pad")) continue;
        if (node_attribute(node, "pads")) {
            if (!pad_inputs(graph, node, error)) return false;
            ++*changes;
        } else if (only_input(node, 3) && !pad_all_axes(graph, node, changes, error)) {
            return false;
        }
    }
    return true;
}

/* Resize of opset 10 has [x, scales]; the roi between them is left out. */
bool rewrite_resize(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_type(node, "Resize") || node->input_count != 2) continue;
        if (!node_insert_input(graph, node, 1, NULL, error)) return false;
        graph->next_variable++; /* the reference makes an empty tensor for it: names of later ones count on */
        ++*changes;
    }
    return true;
}

/* Parts of a Split with num_outputs (opset 18) are rounded up, the last one is what is left. Where that comes out even, equal parts are
 * what no sizes mean as well. */
static bool split_by_count(Graph *graph, Node *node, int *changes, Error *error)
{
    const Value *input = only_input(node, 0);
    int64_t sizes[64];
    int count = node->output_count;
    if (!input || !input->shaped || count > 64) return true;
    int64_t axis = node_integer(node, "axis", 0);
    if (axis < 0) axis += input->shape.rank;
    if (axis < 0 || axis >= input->shape.rank) return true;
    int64_t length = input->shape.dims[axis], part = (length + count - 1) / count, left = length;
    for (int i = 0; i < count; i++) {
        sizes[i] = left < part ? left : part;
        left -= sizes[i];
    }
    node_remove_attribute(node, "num_outputs");
    ++*changes;
    return length % count == 0 || add_integers(graph, node, NULL, sizes, count, error);
}

bool rewrite_split_sizes(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_type(node, "Split") || !node_attribute(node, "num_outputs") || only_input(node, 1)) continue;
        if (!split_by_count(graph, node, changes, error)) return false;
    }
    return true;
}

/* Before opset 13 Softmax made a matrix of its input, flattened from `axis` on. That is the one axis it names when all behind it have one
 * element; else it is written out as Reshape, Softmax, Reshape (the reference gets these wrong: README of its files). */
static bool flatten_softmax(Graph *graph, Node *node, int axis, Error *error)
{
    Value *input = node->inputs[0], *output = node->outputs[0];
    Shape shape = input->shape;
    int64_t matrix[2] = {1, 1};
    for (int i = 0; i < shape.rank; i++)
        matrix[i >= axis] *= shape.dims[i];
    const char *names[4];
    static const char *const endings[] = {"flatten", "flat", "softmax", "unflatten"};
    for (int i = 0; i < 4; i++)
        if (!(names[i] = arena_format(&graph->arena, "%s_%s", node->name, endings[i]))) return fail_memory(error, 64);
    Node *flatten = add_node(graph, "Reshape", names[0], error);
    Value *flat = flatten ? graph_add_value(graph, NULL, error) : NULL;
    Value *made = flat ? graph_add_value(graph, NULL, error) : NULL;
    Node *unflatten = made ? add_node(graph, "Reshape", names[3], error) : NULL;
    if (!unflatten) return false;
    if (!node_add_input(graph, flatten, input, error) || !add_integers(graph, flatten, NULL, matrix, 2, error) ||
        !node_add_output(graph, flatten, flat, error))
        return false;
    if (!node_set_input(graph, node, 0, flat, error) || !node_set_output(graph, node, 0, made, error)) return false;
    if (!node_add_input(graph, unflatten, made, error) || !add_integers(graph, unflatten, NULL, shape.dims, shape.rank, error))
        return false;
    if (!node_set_integer(graph, node, "axis", 1)) return fail_memory(error, 0);
    return node_add_output(graph, unflatten, output, error);
}

bool rewrite_softmax_axes(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *node = nodes[i];
        const Value *input = only_input(node, 0);
        if ((!is_type(node, "Softmax") && !is_type(node, "LogSoftmax")) || node->opset >= 13 || !input || !input->shaped ||
            node->output_count != 1)
            continue;
        int rank = input->shape.rank, axis = (int)node_integer(node, "axis", 1), larger = 0;
        if (axis < 0) axis += rank;
        if (axis < 0 || axis >= rank) continue; /* its row says so */
        for (int k = axis; k < rank; k++)
            larger += input->shape.dims[k] > 1;
        if (larger == 0 || (larger == 1 && input->shape.dims[axis] > 1)) continue;
        if (larger == 1) { /* the one axis that is not 1 stands further behind */
            while (input->shape.dims[axis] == 1)
                axis++;
            ok = node_set_integer(graph, node, "axis", axis) || fail_memory(error, 0);
        } else {
            ok = flatten_softmax(graph, node, axis, error);
        }
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}
