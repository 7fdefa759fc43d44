/* Exports from TensorFlow put a Transpose on each side of every convolution. The one behind (to NHWC) is let sink through nodes that do not
 * care for layout until it meets the one before the next convolution, and both vanish. What is left stands at the graph's ends, where the
 * chip's own layout takes it. Only permutations say what is a layout; sizes decide nothing. */
#include "simplify/rules.h"

typedef struct Permutation {
    int rank;
    int64_t axes[ESPQ_MAX_RANK]; /* axis i of the output is axis axes[i] of the input */
} Permutation;

static bool permutation_of(const Node *node, Permutation *p)
{
    const Value *x = only_input(node, 0);
    if (!is_type(node, "Transpose") || !x || !x->shaped || node->output_count != 1 || !node->outputs[0]) return false;
    p->rank = x->shape.rank;
    int count = node_integers(node, "perm", p->axes, ESPQ_MAX_RANK);
    if (count < 0)
        for (int i = 0; i < p->rank; i++)
            p->axes[i] = p->rank - 1 - i;
    return count < 0 || count == p->rank;
}

static bool is_identity(const Permutation *p)
{
    for (int i = 0; i < p->rank; i++)
        if (p->axes[i] != i) return false;
    return true;
}

/* [0, 2, …, 1]: channels from axis 1 to the end. */
static bool is_to_channels_last(const Permutation *p)
{
    if (p->rank < 3 || p->axes[0] != 0 || p->axes[p->rank - 1] != 1) return false;
    for (int i = 1; i + 1 < p->rank; i++)
        if (p->axes[i] != i + 1) return false;
    return true;
}

static bool same_permutation(const Permutation *a, const Permutation *b)
{
    return a->rank == b->rank && memcmp(a->axes, b->axes, (size_t)a->rank * sizeof a->axes[0]) == 0;
}

/* ---- meeting ---- */

/* A Transpose of a Transpose reads what the first one reads; one that changes nothing goes. */
static bool merge(Graph *graph, Node *node, const SimplifyOptions *options, int *changes, Error *error)
{
    Permutation second, first;
    if (!permutation_of(node, &second)) return true;
    Value *between = node->inputs[0];
    if (between->producer && permutation_of(between->producer, &first) && first.rank == second.rank) {
        Permutation both = {.rank = first.rank};
        for (int i = 0; i < both.rank; i++)
            both.axes[i] = first.axes[second.axes[i]];
        if (!node_set_input(graph, node, 0, between->producer->inputs[0], error)) return false;
        if (!node_set_integers(graph, node, "perm", both.axes, both.rank)) return fail_memory(error, 0);
        if (between->use_count == 0 && !value_is_output(graph, between)) drop_node(graph, between->producer);
        second = both;
        ++*changes;
    }
    bool removed = false;
    if (is_identity(&second) && !bypass_node(graph, node, options, &removed, error)) return false;
    *changes += removed;
    return true;
}

/* ---- sinking ---- */

typedef enum {
    KIND_NONE,
    KIND_UNARY,
    KIND_BINARY,
    KIND_CONCAT,
    KIND_SPLIT,
    KIND_SOFTMAX,
    KIND_PAD,
    KIND_REDUCE,
    KIND_SLICE,
    KIND_RESIZE
} Kind;

static Kind kind_of(const Node *node)
{
    static const struct {
        const char *type;
        Kind kind;
    } kinds[] = {{"Abs", KIND_UNARY},          {"Add", KIND_BINARY},        {"Clip", KIND_UNARY},       {"Concat", KIND_CONCAT},
                 {"Div", KIND_BINARY},         {"Elu", KIND_UNARY},         {"Erf", KIND_UNARY},        {"Exp", KIND_UNARY},
                 {"Gelu", KIND_UNARY},         {"HardSigmoid", KIND_UNARY}, {"HardSwish", KIND_UNARY},  {"LeakyRelu", KIND_UNARY},
                 {"LogSoftmax", KIND_SOFTMAX}, {"Max", KIND_BINARY},        {"Min", KIND_BINARY},       {"Mul", KIND_BINARY},
                 {"Neg", KIND_UNARY},          {"PRelu", KIND_BINARY},      {"Pad", KIND_PAD},          {"Pow", KIND_BINARY},
                 {"ReduceMax", KIND_REDUCE},   {"ReduceMean", KIND_REDUCE}, {"ReduceMin", KIND_REDUCE}, {"ReduceSum", KIND_REDUCE},
                 {"Relu", KIND_UNARY},         {"Resize", KIND_RESIZE},     {"Sigmoid", KIND_UNARY},    {"Slice", KIND_SLICE},
                 {"Softmax", KIND_SOFTMAX},    {"Softplus", KIND_UNARY},    {"Split", KIND_SPLIT},      {"Sqrt", KIND_UNARY},
                 {"Sub", KIND_BINARY},         {"Swish", KIND_UNARY},       {"Tanh", KIND_UNARY}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(node->type, kinds[i].type) == 0) return kinds[i].kind;
    return KIND_NONE;
}

/* Input `index` comes from a Transpose to channels last. */
static bool is_turned(const Node *node, int index, Permutation *p)
{
    const Value *value = only_input(node, index);
    return value && value->producer && permutation_of(value->producer, p) && is_to_channels_last(p);
}

/* Nobody but nodes that can be sunk through, and Transposes, reads it: else the Transpose would stay and another one come. */
static bool may_sink(const Value *value)
{
    for (int i = 0; i < value->use_count; i++)
        if (!is_type(value->uses[i].node, "Transpose") && kind_of(value->uses[i].node) == KIND_NONE) return false;
    return true;
}

static bool axis_of(const Node *node, int rank, int64_t otherwise, int64_t *axis)
{
    *axis = node_integer(node, "axis", otherwise);
    if (*axis < 0) *axis += rank;
    return *axis >= 0 && *axis < rank;
}

static bool reduced_axes(const Node *node, const Permutation *p, int64_t *axes, int *count)
{
    bool gone[ESPQ_MAX_RANK] = {0};
    *count = integers_of(node, 1, "axes", axes, ESPQ_MAX_RANK);
    if (*count < 1) return false;
    for (int i = 0; i < *count; i++) {
        if (axes[i] < 0) axes[i] += p->rank;
        if (axes[i] < 0 || axes[i] >= p->rank) return false;
        gone[axes[i]] = true;
        axes[i] = p->axes[axes[i]];
    }
    if (node_integer(node, "keepdims", 1)) return true;
    /* Without the reduced axes the others must stand in one order in both layouts: then nothing is to be turned behind it. */
    int64_t last = -1;
    for (int i = 0; i < p->rank; i++) {
        if (gone[i]) continue;
        if (p->axes[i] < last) return false;
        last = p->axes[i];
    }
    return true;
}

/* All of this can be said in the other layout? */
static bool can_sink(const Node *node, Permutation *p)
{
    Permutation other;
    int64_t numbers[2 * ESPQ_MAX_RANK], axis;
    int count;
    Kind kind = kind_of(node);
    if (kind == KIND_NONE || node->output_count < 1 || (node->domain && node->domain[0])) return false;
    for (int i = 0; i < node->output_count; i++)
        if (!node->outputs[i] || !node->outputs[i]->shaped) return false;
    int turned = 0, data = kind == KIND_BINARY || kind == KIND_CONCAT ? node->input_count : 1;
    for (int i = 0; i < data; i++) {
        const Value *value = only_input(node, i);
        if (!value) return false;
        if (kind == KIND_BINARY && value->constant) continue;
        if (!is_turned(node, i, &other) || !may_sink(value) || (turned && !same_permutation(p, &other))) return false;
        *p = other;
        turned++;
    }
    if (!turned) return false;
    for (int i = 0; i < data; i++) /* a constant must not bring axes of its own */
        if (node->inputs[i]->constant && node->inputs[i]->shape.rank > p->rank) return false;
    for (int i = data; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant) return false;
    switch (kind) {
    case KIND_CONCAT: return axis_of(node, p->rank, p->rank, &axis);
    case KIND_SPLIT: return axis_of(node, p->rank, 0, &axis);
    case KIND_SOFTMAX: return node->opset >= 13 && axis_of(node, p->rank, -1, &axis);
    case KIND_PAD: return node->input_count < 4 && integers_of(node, 1, "pads", numbers, 2 * ESPQ_MAX_RANK) == 2 * p->rank;
    case KIND_REDUCE: return reduced_axes(node, p, numbers, &count);
    case KIND_SLICE: return input_constant(node, 3) != NULL;
    case KIND_RESIZE:
        return !node_attribute(node, "axes") && strcmp(node_string(node, "coordinate_transformation_mode", ""), "tf_crop_and_resize") != 0;
    default: return true;
    }
}

static Tensor *turned_constant(Tensor *constant, const Permutation *p, Error *error)
{
    Shape shape = {.rank = p->rank};
    int permutation[ESPQ_MAX_RANK], excess = p->rank - constant->shape.rank;
    for (int i = 0; i < p->rank; i++) {
        shape.dims[i] = i < excess ? 1 : constant->shape.dims[i - excess];
        permutation[p->axes[i]] = i;
    }
    Tensor *view = tensor_view(constant, &shape, error), *turned = view ? tensor_transpose(view, permutation, error) : NULL;
    tensor_release(view);
    return turned;
}

static bool turn_constants(Graph *graph, Node *node, const Permutation *p, Error *error)
{
    for (int i = 0; i < node->input_count; i++) {
        Tensor *constant = input_constant(node, i);
        if (!constant || tensor_count(constant) == 1) continue;
        if (!replace_constant(graph, node, i, turned_constant(constant, p, error), error)) return false;
    }
    return true;
}

/* A list with a number (or, pairs, two) for each axis, as input `index`. */
static bool turn_list(Graph *graph, Node *node, int index, const Permutation *p, bool pairs, Error *error)
{
    const Tensor *old = input_constant(node, index);
    int count = pairs ? 2 * p->rank : p->rank;
    if (!old || tensor_count(old) != count) return true; /* left out or empty */
    Tensor *list = tensor_copy(old, error);
    for (int i = 0; list && i < p->rank; i++) {
        tensor_set(list, p->axes[i], tensor_get(old, i));
        if (pairs) tensor_set(list, p->axes[i] + p->rank, tensor_get(old, i + p->rank));
    }
    return replace_constant(graph, node, index, list, error);
}

static bool turn_axes_input(Graph *graph, Node *node, const int64_t *axes, int count, Error *error)
{
    if (input_constant(node, 1)) return replace_constant(graph, node, 1, tensor_from_integers(axes, count, error), error);
    return node_set_integers(graph, node, "axes", axes, count) || fail_memory(error, 0);
}

static bool turn_slice(Graph *graph, Node *node, const Permutation *p, Error *error)
{
    int64_t axes[ESPQ_MAX_RANK];
    int count = integers_of(node, 3, "", axes, ESPQ_MAX_RANK);
    for (int i = 0; i < count; i++)
        axes[i] = p->axes[axes[i] < 0 ? axes[i] + p->rank : axes[i]];
    return replace_constant(graph, node, 3, tensor_from_integers(axes, count > 0 ? count : 0, error), error);
}

/* What the node says about axes, in the layout before the Transpose. */
static bool turn_node(Graph *graph, Node *node, const Permutation *p, Error *error)
{
    int64_t axis = 0, axes[ESPQ_MAX_RANK], pads[2 * ESPQ_MAX_RANK], turned[2 * ESPQ_MAX_RANK];
    int count;
    switch (kind_of(node)) {
    case KIND_BINARY: return turn_constants(graph, node, p, error);
    case KIND_CONCAT:
    case KIND_SPLIT:
    case KIND_SOFTMAX:
        axis_of(node, p->rank, kind_of(node) == KIND_SPLIT ? 0 : -1, &axis);
        return node_set_integer(graph, node, "axis", p->axes[axis]) || fail_memory(error, 0);
    case KIND_PAD:
        if (input_constant(node, 1)) return turn_list(graph, node, 1, p, true, error);
        node_integers(node, "pads", pads, 2 * ESPQ_MAX_RANK);
        for (int i = 0; i < p->rank; i++) {
            turned[p->axes[i]] = pads[i];
            turned[p->axes[i] + p->rank] = pads[i + p->rank];
        }
        return node_set_integers(graph, node, "pads", turned, 2 * p->rank) || fail_memory(error, 0);
    case KIND_REDUCE: reduced_axes(node, p, axes, &count); return turn_axes_input(graph, node, axes, count, error);
    case KIND_SLICE: return turn_slice(graph, node, p, error);
    case KIND_RESIZE:
        if (node->input_count == 2) return turn_list(graph, node, 1, p, false, error);
        return turn_list(graph, node, 1, p, true, error) && turn_list(graph, node, 2, p, false, error) &&
               turn_list(graph, node, 3, p, false, error);
    default: return true;
    }
}

/* A new Transpose makes what the node made; the node makes the same in the other layout. */
static bool turn_output(Graph *graph, Node *node, int index, const Permutation *p, Error *error)
{
    Value *output = node->outputs[index];
    const char *value_name = arena_format(&graph->arena, "%s_nchw", output->name),
               *name = arena_format(&graph->arena, "%s_to_nhwc", output->name);
    if (!value_name || !name) return fail_memory(error, 64);
    while (value_name && graph_value(graph, value_name))
        value_name = arena_format(&graph->arena, "%s_", value_name);
    if (!value_name) return fail_memory(error, 64);
    Value *made = graph_add_value(graph, value_name, error);
    Node *transpose = made ? add_node(graph, "Transpose", name, error) : NULL;
    if (!transpose) return false;
    made->dtype = output->dtype;
    made->shaped = true;
    made->shape.rank = p->rank;
    for (int i = 0; i < p->rank; i++)
        made->shape.dims[p->axes[i]] = output->shape.dims[i];
    if (!node_set_integers(graph, transpose, "perm", p->axes, p->rank)) return fail_memory(error, 0);
    return node_set_output(graph, node, index, made, error) && node_add_input(graph, transpose, made, error) &&
           node_add_output(graph, transpose, output, error);
}

static bool sink(Graph *graph, Node *node, const Permutation *p, Error *error)
{
    bool keeps_rank = kind_of(node) != KIND_REDUCE || node_integer(node, "keepdims", 1) != 0;
    if (!turn_node(graph, node, p, error)) return false;
    for (int i = 0; i < node->input_count; i++) {
        Permutation same;
        if (!is_turned(node, i, &same)) continue;
        Value *turned = node->inputs[i];
        if (!node_set_input(graph, node, i, turned->producer->inputs[0], error)) return false;
        if (turned->use_count == 0 && !value_is_output(graph, turned)) drop_node(graph, turned->producer);
    }
    for (int i = 0; keeps_rank && i < node->output_count; i++)
        if (!turn_output(graph, node, i, p, error)) return false;
    return true;
}

static bool pass_once(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    int count = graph->node_count;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0; ok && i < count; i++) {
        Permutation p;
        if (nodes[i]->removed) continue;
        if (is_type(nodes[i], "Transpose")) {
            ok = merge(graph, nodes[i], options, changes, error);
        } else if (can_sink(nodes[i], &p)) {
            ok = sink(graph, nodes[i], &p, error);
            ++*changes;
        }
    }
    memory_free(nodes);
    return ok;
}

bool rewrite_transposes(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    /* Every round moves a Transpose down or takes one away; a graph has no more rounds in it than nodes. */
    for (int round = 0, most = graph->node_count + 2; round < most; round++) {
        int before = *changes;
        if (!pass_once(graph, options, changes, error)) return false;
        if (*changes == before) break;
    }
    return true;
}
