/* RMSNormalization and LpNormalization written in parts (QUANT §2.8), with the checks that the reference leaves out (D20), and espq's
 * LayerNormalization. */
#include "simplify/rules.h"

#include <math.h>

/* Are these the last axes of a tensor of this rank? *first gets the smallest as it was written. */
static bool are_trailing(const int64_t *axes, int count, int rank, int64_t *first)
{
    bool seen[ESPQ_MAX_RANK] = {0};
    if (count < 1 || count > rank) return false;
    *first = axes[0];
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < rank - count || axis >= rank || seen[axis] || (axes[i] < 0) != (axes[0] < 0)) return false;
        seen[axis] = true;
        if (axes[i] < *first) *first = axes[i];
    }
    return true;
}

static bool reduces_trailing(const Node *reduce, const Value *x, int64_t *axis, int *count)
{
    int64_t axes[ESPQ_MAX_RANK];
    *count = integers_of(reduce, 1, "axes", axes, ESPQ_MAX_RANK);
    return x->shaped && *count > 0 && node_integer(reduce, "keepdims", 1) == 1 && are_trailing(axes, *count, x->shape.rank, axis);
}

static bool is_scalar(const Value *value, double wanted)
{
    double found = 0;
    return value && scalar_of(value->constant, &found) && found == wanted;
}

/* Scale (or bias) of the normalised axes: [.., sizes of those axes] with ones before, as [sizes]. NULL when it is another shape. */
static Tensor *over_trailing(Tensor *constant, const Shape *x, int count, Error *error)
{
    Shape shape = {.rank = count};
    int64_t elements = 1;
    for (int i = 0; i < count; i++)
        elements *= shape.dims[i] = x->dims[x->rank - count + i];
    int excess = constant->shape.rank - count;
    for (int i = 0; i < constant->shape.rank; i++)
        if (constant->shape.dims[i] != (i < excess ? 1 : shape.dims[i - excess])) return NULL;
    return elements == tensor_count(constant) ? tensor_view(constant, &shape, error) : NULL;
}

static bool replace_by(Graph *graph, Match *match, const char *type, const char *ending, Value *const *inputs, int input_count, Node **made,
                       Error *error)
{
    const char *name = arena_format(&graph->arena, "%s_%s", match->nodes[0]->name, ending);
    if (!name) return fail_memory(error, 64);
    Node *node = add_node(graph, type, name, error);
    if (!node) return false;
    for (int i = 0; i < input_count; i++)
        if (!node_add_input(graph, node, inputs[i], error)) return false;
    *made = node;
    return match_replace(graph, match, node, error);
}

/* A constant input that should have this tensor: itself, or (when the shape differs) a new one. */
static Value *reshaped_parameter(Graph *graph, Value *value, Tensor *tensor, Error *error)
{
    if (shape_equal(&tensor->shape, &value->constant->shape)) {
        tensor_release(tensor);
        return value;
    }
    return add_named_constant(graph, NULL, tensor, error);
}

/* ---- RMSNormalization ---- */

static bool fuse_rms(Graph *graph, Match *match, int *changes, Error *error)
{
    Value *x = match_value(match, "x"), *scale = match_value(match, "scale"), *one = match_value(match, "one"),
          *epsilon_value = match_value(match, "epsilon");
    int64_t axis = 0;
    int count = 0;
    double epsilon = 1e-5; /* the reference's, where nothing is added */
    if (x->constant || !is_scalar(match_value(match, "two"), 2) || (one && !is_scalar(one, 1))) return true;
    if (!reduces_trailing(match_node(match, "mean"), x, &axis, &count)) return true;
    if (epsilon_value && !scalar_of(epsilon_value->constant, &epsilon)) return true;
    if (scale->constant) {
        Error local = {0};
        Tensor *tensor = over_trailing(scale->constant, &x->shape, count, &local);
        if (!tensor && local.code == ERROR_NONE) return true;
        if (!tensor) *error = local;
        if (!tensor || !(scale = reshaped_parameter(graph, scale, tensor, error))) return false;
    } else if (!scale->shaped || scale->shape.rank != count) {
        return true;
    }
    Node *node = NULL;
    if (!replace_by(graph, match, "RMSNormalization", "rmsnorm", (Value *[]){x, scale}, 2, &node, error)) return false;
    ++*changes;
    return (node_set_integer(graph, node, "axis", axis) && node_set_number(graph, node, "epsilon", (float)epsilon) &&
            node_set_integer(graph, node, "stash_type", 1)) ||
           fail_memory(error, 0);
}

static bool for_each_match(Graph *graph, const char *const *patterns, const char *root, bool (*apply)(Graph *, Match *, int *, Error *),
                           int *changes, Error *error)
{
    for (; *patterns; patterns++) {
        Pattern pattern;
        if (!pattern_parse(&pattern, *patterns, error)) return false;
        Node **nodes = nodes_now(graph, error);
        bool ok = nodes != NULL;
        for (int i = 0, count = graph->node_count; ok && i < count; i++) {
            Match match;
            if (!nodes[i]->removed && is_type(nodes[i], root) && pattern_match(&pattern, graph, nodes[i], &match))
                ok = apply(graph, &match, changes, error);
        }
        memory_free(nodes);
        if (!ok) return false;
    }
    return true;
}

#define MEAN_OF_SQUARES "mean:ReduceMean(Pow(x, #two), ...)"
#define ROOT_MEAN_SQUARE "Sqrt(Add(" MEAN_OF_SQUARES ", #epsilon))"
#define BARE_ROOT "Sqrt(" MEAN_OF_SQUARES ")"

bool rewrite_rms_norm(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    static const char *const patterns[] = {"Mul(Mul(x, Reciprocal(" ROOT_MEAN_SQUARE ")), scale)",
                                           "Mul(Div(x, " ROOT_MEAN_SQUARE "), scale)",
                                           "Mul(Mul(x, Div(#one, " ROOT_MEAN_SQUARE ")), scale)",
                                           "Mul(Mul(x, Reciprocal(" BARE_ROOT ")), scale)",
                                           "Mul(Div(x, " BARE_ROOT "), scale)",
                                           "Mul(Mul(x, Div(#one, " BARE_ROOT ")), scale)",
                                           NULL};
    return for_each_match(graph, patterns, "Mul", fuse_rms, changes, error);
}

/* ---- LpNormalization ---- */

/* The bound must be one that LpNormalization has too: at least 1e-12 there, and nothing above. */
static bool is_harmless_clip(const Node *clip)
{
    double least = node_number(clip, "min", -INFINITY), most = node_number(clip, "max", INFINITY);
    if (only_input(clip, 1) && !scalar_of(input_constant(clip, 1), &least)) return false;
    if (only_input(clip, 2) && !scalar_of(input_constant(clip, 2), &most)) return false;
    return least <= 1e-6 && most >= 1e30;
}

static bool fuse_lp(Graph *graph, Match *match, int *changes, Error *error)
{
    Value *x = match_value(match, "x");
    int64_t axis = 0;
    const Node *reduce = match_node(match, "norm"), *expand = match_node(match, "expand");
    const Value *spread = expand->outputs[0];
    if (x->constant || integers_of(reduce, 1, "axes", &axis, 1) != 1 || node_integer(reduce, "keepdims", 1) != 1) return true;
    if (!is_harmless_clip(match_node(match, "clip")) || !x->shaped || !spread->shaped || !shape_equal(&x->shape, &spread->shape))
        return true;
    Node *node = NULL;
    if (!replace_by(graph, match, "LpNormalization", "lpnorm", &x, 1, &node, error)) return false;
    ++*changes;
    return (node_set_integer(graph, node, "axis", axis) && node_set_integer(graph, node, "p", 2)) || fail_memory(error, 0);
}

bool rewrite_lp_norm(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    static const char *const patterns[] = {"Div(x, expand:Expand(clip:Clip(norm:ReduceL2(x, ...), ...), ...))", NULL};
    return for_each_match(graph, patterns, "Div", fuse_lp, changes, error);
}

/* ---- LayerNormalization: the nine nodes of exporters before opset 17 ---- */

static bool fuse_layer(Graph *graph, Match *match, int *changes, Error *error)
{
    Value *x = match_value(match, "x"), *scale = match_value(match, "scale"), *bias = match_value(match, "bias"),
          *two = match_value(match, "two");
    int64_t axis = 0, second = 0;
    int count = 0, again = 0;
    double epsilon = 0;
    if (x->constant || (two && !is_scalar(two, 2)) || !scalar_of(match_value(match, "epsilon")->constant, &epsilon)) return true;
    if (!reduces_trailing(match_node(match, "mean"), x, &axis, &count) ||
        !reduces_trailing(match_node(match, "variance"), x, &second, &again) || count != again)
        return true;
    Value *inputs[3] = {x, scale, bias};
    for (int i = 1; i < 3; i++) {
        if (!inputs[i]) break;
        Error local = {0};
        Tensor *tensor = over_trailing(inputs[i]->constant, &x->shape, count, &local);
        if (!tensor && local.code == ERROR_NONE) return true;
        if (!tensor) *error = local;
        if (!tensor || !(inputs[i] = reshaped_parameter(graph, inputs[i], tensor, error))) return false;
    }
    Node *node = NULL;
    if (!replace_by(graph, match, "LayerNormalization", "layernorm", inputs, bias ? 3 : 2, &node, error)) return false;
    ++*changes;
    return (node_set_integer(graph, node, "axis", axis < 0 ? axis : axis - x->shape.rank) &&
            node_set_number(graph, node, "epsilon", (float)epsilon)) ||
           fail_memory(error, 0);
}

#define CENTRED "d=Sub(x, mean:ReduceMean(x, ...))"
#define NORMED(square) "Div(" CENTRED ", Sqrt(Add(variance:ReduceMean(" square ", ...), #epsilon)))"
#define NORMED_TWICE(square) "Div(Sub(x, mean:ReduceMean(x, ...)), Sqrt(Add(variance:ReduceMean(" square ", ...), #epsilon)))"

bool rewrite_layer_norm(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    static const char *const with_bias[] = {"Add(Mul(" NORMED("Pow(d, #two)") ", #scale), #bias)",
                                            "Add(Mul(" NORMED("Mul(d, d)") ", #scale), #bias)",
                                            "Add(Mul(" NORMED_TWICE("Pow(Sub(x, ReduceMean(x, ...)), #two)") ", #scale), #bias)", NULL};
    static const char *const bare[] = {"Mul(" NORMED("Pow(d, #two)") ", #scale)", "Mul(" NORMED("Mul(d, d)") ", #scale)", NULL};
    return for_each_match(graph, with_bias, "Add", fuse_layer, changes, error) &&
           for_each_match(graph, bare, "Mul", fuse_layer, changes, error);
}
