/* Parameters: one for each use, alpha and beta of Gemm in them, biases of Add nodes in the node before. */
#include "simplify/rules.h"

/* QUANT §2.3-3. The tensor itself stays shared: constants are copied when they are written. */
bool rewrite_split_parameters(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0, count = graph->value_count; i < count; i++) {
        Value *value = graph->values[i];
        if (!value->constant || value->use_count < 2) continue;
        while (value->use_count) {
            Use use = value->uses[0];
            Value *copy = graph_add_constant(graph, NULL, value->constant, error);
            if (!copy || !node_set_input(graph, use.node, use.index, copy, error)) return false;
        }
        ++*changes;
        if (value_is_output(graph, value)) continue;
        graph_remove_value(graph, value);
        i--;
        count--;
    }
    return true;
}

/* ---- factors of Gemm ---- */

static Tensor *scaled(const Tensor *tensor, float factor, Error *error)
{
    Tensor *copy = tensor_copy(tensor, error);
    for (int64_t i = 0, count = copy ? tensor_count(copy) : 0; i < count; i++)
        tensor_floats(copy)[i] *= factor;
    return copy;
}

static bool fold_factor(Graph *graph, Node *node, const char *name, int index, int *changes, Error *error)
{
    float factor = node_number(node, name, 1);
    const Tensor *constant = input_constant(node, index);
    if (factor == 1) return true;
    if (only_input(node, index) && !tensor_is_float(constant)) return true; /* made at run time: stays with the node */
    if (constant && !replace_constant(graph, node, index, scaled(constant, factor, error), error)) return false;
    ++*changes;
    return node_set_number(graph, node, name, 1) || fail_memory(error, 0);
}

/* The reference stops at export when alpha or beta is not 1. */
bool rewrite_gemm_factors(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (!is_type(node, "Gemm")) continue;
        if (!fold_factor(graph, node, "alpha", 1, changes, error) || !fold_factor(graph, node, "beta", 2, changes, error)) return false;
    }
    return true;
}

/* ---- bias of an Add (QUANT §2.4) ---- */

static int64_t outputs_of(const Node *node, const Tensor *weight)
{
    const Shape *shape = &weight->shape;
    if (is_type(node, "ConvTranspose")) return shape->rank > 1 ? shape->dims[1] * node_integer(node, "group", 1) : 0;
    if (is_type(node, "Gemm")) return shape->rank == 2 ? shape->dims[node_integer(node, "transB", 0) ? 0 : 1] : 0;
    return shape->rank > 0 ? shape->dims[0] : 0;
}

/* Conv and ConvTranspose: [1, C, 1, …] only. Gemm: whatever does not widen its output. */
static bool is_bias(const Node *node, const Tensor *weight, const Tensor *bias, const Node *add)
{
    if (!tensor_is_float(bias) || !tensor_is_float(weight)) return false;
    if (is_type(node, "Gemm")) {
        const Value *before = node->outputs[0], *behind = add->outputs[0];
        return before->shaped && behind->shaped && shape_equal(&before->shape, &behind->shape);
    }
    if (bias->shape.rank != weight->shape.rank || bias->shape.rank < 2) return false;
    for (int i = 0; i < bias->shape.rank; i++)
        if (i != 1 && bias->shape.dims[i] != 1) return false;
    return bias->shape.dims[1] != 1 && bias->shape.dims[1] == outputs_of(node, weight);
}

static int constant_inputs(const Node *node, int *index)
{
    int count = 0;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && node->inputs[i]->constant) {
            count++;
            *index = i;
        }
    return count;
}

/* The Add behind `node` whose one parameter can be its bias. */
static Node *bias_add_behind(const Graph *graph, const Node *node, int *index)
{
    Node *add = only_consumer(graph, node);
    if (!is_type(add, "Add") || add->input_count != 2 || constant_inputs(add, index) != 1) return NULL;
    const Tensor *weight = input_constant(node, 1);
    return weight && is_bias(node, weight, add->inputs[*index]->constant, add) ? add : NULL;
}

static Tensor *as_bias(const Node *node, Tensor *constant, Error *error)
{
    if (is_type(node, "Gemm")) return tensor_retain(constant);
    Shape flat = {.rank = 1, .dims = {tensor_count(constant)}};
    return tensor_view(constant, &flat, error);
}

/* The Add goes as bypass_node does it; its activation must be its input 0 for that. */
static bool remove_add(Graph *graph, Node *add, int constant_index, const SimplifyOptions *options, Error *error)
{
    Value *constant = add->inputs[constant_index];
    bool removed = false;
    node_remove_input(graph, add, constant_index);
    drop_if_free(graph, constant);
    return bypass_node(graph, add, options, &removed, error);
}

bool rewrite_bias_add(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    static const char *const types[] = {"Conv", "ConvTranspose", "Gemm", NULL};
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *node = nodes[i];
        int index = 0;
        if (node->removed || !is_one_of(node->type, types) || (node->input_count != 2 && !(node->input_count == 3 && !node->inputs[2])))
            continue;
        Node *add = bias_add_behind(graph, node, &index);
        if (!add) continue;
        if (node->input_count == 3) node_remove_input(graph, node, 2);
        const char *name = options->extra_rewrites ? add->inputs[index]->name : NULL; /* the reference makes one up */
        Tensor *bias = as_bias(node, add->inputs[index]->constant, error);
        ok = bias && remove_add(graph, add, index, options, error);
        if (ok)
            ok = add_constant_input(graph, node, name, bias, error);
        else
            tensor_release(bias);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}

/* Where there is a bias already the reference leaves the Add (and spoils its constant, D2); one sum is the same and cheaper. */
static Tensor *summed_bias(const Tensor *old, const Tensor *more, int64_t outputs, Error *error)
{
    int64_t counts[2] = {tensor_count(old), tensor_count(more)};
    if ((counts[0] != outputs && counts[0] != 1) || (counts[1] != outputs && counts[1] != 1)) return NULL;
    Shape shape = {.rank = 1, .dims = {outputs}};
    Tensor *sum = tensor_new(DTYPE_FLOAT32, &shape, error);
    for (int64_t i = 0; sum && i < outputs; i++)
        tensor_floats(sum)[i] = tensor_floats(old)[counts[0] == 1 ? 0 : i] + tensor_floats(more)[counts[1] == 1 ? 0 : i];
    return sum;
}

static bool is_one_row(const Tensor *tensor)
{
    for (int i = 0; i + 1 < tensor->shape.rank; i++)
        if (tensor->shape.dims[i] != 1) return false;
    return true;
}

bool rewrite_bias_sum(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    static const char *const types[] = {"Conv", "ConvTranspose", "Gemm", NULL};
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *node = nodes[i];
        int index = 0;
        const Tensor *old = node->removed ? NULL : input_constant(node, 2);
        if (!tensor_is_float(old) || !is_one_of(node->type, types) || (is_type(node, "Gemm") && !is_one_row(old))) continue;
        Node *add = bias_add_behind(graph, node, &index);
        const Tensor *more = add ? add->inputs[index]->constant : NULL;
        if (!add || (is_type(node, "Gemm") && !is_one_row(more))) continue;
        Error local = {0};
        Tensor *sum = summed_bias(old, more, outputs_of(node, input_constant(node, 1)), &local);
        if (!sum && local.code == ERROR_NONE) continue;
        if (!sum) *error = local;
        ok = replace_constant(graph, node, 2, sum, error) && remove_add(graph, add, index, options, error);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}

/* Gemm may have its bias as a scalar, a row or a matrix of equal rows; the chip has one number an output. */
static Tensor *bias_vector(const Tensor *bias, int64_t outputs, Error *error)
{
    int64_t count = tensor_count(bias);
    Shape shape = {.rank = 1, .dims = {outputs}};
    if ((bias->shape.rank == 1 && count == outputs) || (count != 1 && (count != outputs || !is_one_row(bias)))) return NULL;
    Tensor *vector = tensor_new(DTYPE_FLOAT32, &shape, error);
    for (int64_t i = 0; vector && i < outputs; i++)
        tensor_floats(vector)[i] = tensor_floats(bias)[count == 1 ? 0 : i];
    return vector;
}

bool rewrite_gemm_bias(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        const Tensor *weight = input_constant(node, 1), *bias = input_constant(node, 2);
        if (!is_type(node, "Gemm") || !weight || !tensor_is_float(bias)) continue;
        Error local = {0};
        Tensor *vector = bias_vector(bias, outputs_of(node, weight), &local);
        if (!vector && local.code == ERROR_NONE) continue;
        if (!vector) *error = local;
        if (!replace_constant(graph, node, 2, vector, error)) return false;
        ++*changes;
    }
    return true;
}
