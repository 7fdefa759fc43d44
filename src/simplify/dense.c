/* Dense layers and their surroundings: one spelling, so that what means the same becomes the same file (CASES C05, C08, C09, C13). */
#include "simplify/rules.h"

/* ---- MatMul of a matrix by a constant matrix is a Gemm ---- */

bool rewrite_matmul_add(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    (void)error;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        const Value *x = only_input(node, 0);
        const Tensor *weight = input_constant(node, 1);
        if (!is_type(node, "MatMul") || !x || x->constant || !x->shaped || x->shape.rank != 2) continue;
        if (!tensor_is_float(weight) || weight->shape.rank != 2) continue;
        set_type(node, "Gemm"); /* bias_add takes the Add behind it */
        node->opset = 18;
        ++*changes;
    }
    return true;
}

/* Weight as [out, in], input as it is. */
static bool transpose_weight(Graph *graph, Node *node, Error *error)
{
    static const int swap[] = {1, 0};
    Tensor *transposed = tensor_transpose(node->inputs[1]->constant, swap, error);
    return replace_constant(graph, node, 1, transposed, error);
}

static bool transpose_input(Graph *graph, Node *node, Error *error)
{
    static const int64_t swap[] = {1, 0};
    const char *name = arena_format(&graph->arena, "%s_transpose", node->name);
    Node *transpose = name ? add_node(graph, "Transpose", name, error) : NULL;
    Value *made = transpose ? graph_add_value(graph, NULL, error) : NULL;
    if (!made) return name ? false : fail_memory(error, 64);
    return (node_set_integers(graph, transpose, "perm", swap, 2) || fail_memory(error, 0)) &&
           node_add_input(graph, transpose, node->inputs[0], error) && node_add_output(graph, transpose, made, error) &&
           node_set_input(graph, node, 0, made, error);
}

bool rewrite_gemm_transpose(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0, count = graph->node_count; i < count; i++) {
        Node *node = graph->nodes[i];
        const Tensor *weight = input_constant(node, 1);
        if (!is_type(node, "Gemm")) continue;
        bool turn_input = node_integer(node, "transA", 0) != 0,
             turn_weight = weight && weight->shape.rank == 2 && node_integer(node, "transB", 0) == 0;
        if (turn_input && !transpose_input(graph, node, error)) return false;
        if (turn_weight && !transpose_weight(graph, node, error)) return false;
        if (turn_input) node_remove_attribute(node, "transA");
        if (turn_weight && !node_set_integer(graph, node, "transB", 1)) return fail_memory(error, 0);
        *changes += turn_input || turn_weight;
    }
    return true;
}

/* ---- Flatten and Reshape ---- */

static bool set_shape_input(Graph *graph, Node *node, const Shape *shape, Error *error)
{
    Tensor *numbers = tensor_from_integers(shape->dims, shape->rank, error);
    if (node->input_count > 1) return replace_constant(graph, node, 1, numbers, error);
    return add_constant_input(graph, node, NULL, numbers, error);
}

static bool says_numbers(const Node *node, const Shape *shape)
{
    const Tensor *numbers = input_constant(node, 1);
    if (!numbers || tensor_count(numbers) != shape->rank) return false;
    for (int i = 0; i < shape->rank; i++)
        if (tensor_get_integer(numbers, i) != shape->dims[i]) return false;
    return true;
}

/* What keeps the first axis and makes one of the others is a Flatten on axis 1, which takes any batch; all else is a Reshape that says
 * numbers, no 0 and no -1. */
static bool flatten_or_reshape(Graph *graph, Node *node, int *changes, Error *error)
{
    const Shape *in = &node->inputs[0]->shape, *out = &node->outputs[0]->shape;
    bool is_flatten = in->rank >= 2 && out->rank == 2 && in->dims[0] == out->dims[0];
    if (is_flatten) {
        if (is_type(node, "Flatten") && node_integer(node, "axis", 1) == 1)
            return node_attribute(node, "axis") || node_set_integer(graph, node, "axis", 1) || fail_memory(error, 0);
        while (node->input_count > 1) {
            Value *old = node->inputs[1];
            node_remove_input(graph, node, 1);
            drop_if_free(graph, old);
        }
    } else if (is_type(node, "Reshape") && says_numbers(node, out) && !node_attribute(node, "allowzero")) {
        return true;
    } else if (!set_shape_input(graph, node, out, error)) {
        return false;
    }
    ++*changes;
    while (node->attribute_count)
        node_remove_attribute(node, node->attributes[0].name);
    set_type(node, is_flatten ? "Flatten" : "Reshape");
    return !is_flatten || node_set_integer(graph, node, "axis", 1) || fail_memory(error, 0);
}

/* What only gives the same numbers another shape. */
static bool only_reshapes(const Node *node)
{
    static const char *const types[] = {"Flatten", "Squeeze", "Unsqueeze", NULL};
    const Value *in = only_input(node, 0);
    if (!is_one_of(node->type, types) && !(is_type(node, "Reshape") && input_constant(node, 1))) return false;
    return in && in->shaped && !in->constant && node->output_count == 1 && node->outputs[0] && node->outputs[0]->shaped;
}

/* Several in a row, nobody else looking: the last alone, as a Reshape. */
static bool join_reshapes(Graph *graph, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *first = nodes[i], *second = first->removed || !only_reshapes(first) ? NULL : only_consumer(graph, first);
        if (!second || !only_reshapes(second) || second->inputs[0] != first->outputs[0]) continue;
        ok = node_set_input(graph, second, 0, first->inputs[0], error);
        if (ok) drop_node(graph, first);
        ok = ok && set_shape_input(graph, second, &second->outputs[0]->shape, error);
        while (second->attribute_count)
            node_remove_attribute(second, second->attributes[0].name);
        set_type(second, "Reshape");
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}

bool rewrite_flatten(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    if (!join_reshapes(graph, changes, error)) return false;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *node = nodes[i];
        bool removed = false;
        if (!is_type(node, "Flatten") && !(is_type(node, "Reshape") && input_constant(node, 1))) continue;
        if (!node->inputs[0] || !node->inputs[0]->shaped || !node->outputs[0] || !node->outputs[0]->shaped) continue;
        if (shape_equal(&node->inputs[0]->shape, &node->outputs[0]->shape)) ok = bypass_node(graph, node, options, &removed, error);
        *changes += removed;
        if (ok && !removed) ok = flatten_or_reshape(graph, node, changes, error);
    }
    memory_free(nodes);
    return ok;
}

/* ---- ReduceMean over rows and columns ---- */

static bool is_global_mean(const Node *node)
{
    int64_t axes[ESPQ_MAX_RANK];
    const Value *x = only_input(node, 0);
    if (!is_type(node, "ReduceMean") || !x || !x->shaped || x->shape.rank != 4 || x->dtype != DTYPE_FLOAT32) return false;
    if (integers_of(node, 1, "axes", axes, ESPQ_MAX_RANK) != 2) return false;
    int64_t a = axes[0] < 0 ? axes[0] + 4 : axes[0], b = axes[1] < 0 ? axes[1] + 4 : axes[1];
    return (a == 2 && b == 3) || (a == 3 && b == 2);
}

/* keepdims=0: a Flatten behind it. */
static bool flatten_behind(Graph *graph, Node *node, Error *error)
{
    const char *name = arena_format(&graph->arena, "%s_flatten", node->name);
    Value *output = node->outputs[0], *made = name ? graph_add_value(graph, NULL, error) : NULL;
    Node *flatten = made ? add_node(graph, "Flatten", name, error) : NULL;
    if (!flatten) return name ? false : fail_memory(error, 64);
    return node_set_output(graph, node, 0, made, error) && (node_set_integer(graph, flatten, "axis", 1) || fail_memory(error, 0)) &&
           node_add_input(graph, flatten, made, error) && node_add_output(graph, flatten, output, error);
}

bool rewrite_global_pool(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0, count = graph->node_count; i < count; i++) {
        Node *node = graph->nodes[i];
        if (!is_global_mean(node)) continue;
        bool keeps = node_integer(node, "keepdims", 1) != 0;
        while (node->input_count > 1) {
            Value *axes = node->inputs[1];
            node_remove_input(graph, node, 1);
            drop_if_free(graph, axes);
        }
        while (node->attribute_count)
            node_remove_attribute(node, node->attributes[0].name);
        set_type(node, "GlobalAveragePool");
        if (!keeps && !flatten_behind(graph, node, error)) return false;
        ++*changes;
    }
    return true;
}

/* ---- DepthToSpace in six dimensions ---- */

/* Reshape to [N, C, r, r, H, W] and perm 0 1 4 2 5 3 (CRD), or [N, r, r, C, H, W] and perm 0 3 4 1 5 2 (DCR), then [N, C, H r, W r]. */
static const char *shuffle_mode(const Match *match, int64_t *block)
{
    static const int64_t crd[] = {0, 1, 4, 2, 5, 3}, dcr[] = {0, 3, 4, 1, 5, 2};
    const Value *x = match_value(match, "x"), *parts = match_node(match, "parts")->outputs[0], *y = match->nodes[0]->outputs[0];
    int64_t perm[6];
    if (!x->shaped || !parts->shaped || !y->shaped || x->shape.rank != 4 || parts->shape.rank != 6 || y->shape.rank != 4) return NULL;
    if (node_integers(match_node(match, "turn"), "perm", perm, 6) != 6) return NULL;
    bool is_crd = memcmp(perm, crd, sizeof perm) == 0, is_dcr = memcmp(perm, dcr, sizeof perm) == 0;
    if (!is_crd && !is_dcr) return NULL;
    const int64_t *d = parts->shape.dims, *in = x->shape.dims, *out = y->shape.dims;
    *block = is_crd ? d[2] : d[1];
    int64_t second = is_crd ? d[3] : d[2], channels = is_crd ? d[1] : d[3];
    bool fits = *block == second && d[0] == in[0] && d[4] == in[2] && d[5] == in[3] && channels * *block * *block == in[1];
    fits = fits && out[0] == in[0] && out[1] == channels && out[2] == in[2] * *block && out[3] == in[3] * *block;
    return fits ? is_crd ? "CRD" : "DCR" : NULL;
}

bool rewrite_pixel_shuffle(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    Pattern pattern;
    if (!pattern_parse(&pattern, "Reshape(turn:Transpose(parts:Reshape(x, #shape)), #last)", error)) return false;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Match match;
        int64_t block = 0;
        if (nodes[i]->removed || !is_type(nodes[i], "Reshape") || !pattern_match(&pattern, graph, nodes[i], &match)) continue;
        const char *mode = shuffle_mode(&match, &block);
        if (!mode) continue;
        const char *name = arena_format(&graph->arena, "%s_depthtospace", nodes[i]->name);
        Node *node = name ? add_node(graph, "DepthToSpace", name, error) : NULL;
        ok = node || (!name && fail_memory(error, 64));
        ok = ok &&
             ((node_set_integer(graph, node, "blocksize", block) && node_set_string(graph, node, "mode", mode)) || fail_memory(error, 0));
        ok = ok && node_add_input(graph, node, match_value(&match, "x"), error) && match_replace(graph, &match, node, error);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}

/* ---- Einsum that is a matrix product ---- */

/* "abij,abjk->abik" (any letters, both operands with the same leading ones), and the second transposed: "…ij,…kj->…ik". */
static bool is_matrix_product(const char *equation, int *rank, bool *turned)
{
    char parts[3][16] = {"", "", ""};
    int part = 0, length = 0;
    for (const char *c = equation; *c; c++) {
        if (*c == ' ') continue;
        bool arrow = c[0] == '-' && c[1] == '>';
        if (*c == ',' || arrow) {
            if (++part > 2) return false;
            length = 0;
            c += arrow;
            continue;
        }
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z')) || length == 15 || strchr(parts[part], *c)) return false;
        parts[part][length++] = *c;
    }
    size_t n = strlen(parts[0]);
    if (part != 2 || n < 2 || n > ESPQ_MAX_RANK || strlen(parts[1]) != n || strlen(parts[2]) != n) return false;
    if (memcmp(parts[0], parts[1], n - 2) != 0 || memcmp(parts[0], parts[2], n - 2) != 0) return false;
    char i = parts[0][n - 2], j = parts[0][n - 1], k = parts[2][n - 1];
    if (parts[2][n - 2] != i || k == i || k == j) return false;
    *rank = (int)n;
    *turned = parts[1][n - 2] == k && parts[1][n - 1] == j;
    return *turned || (parts[1][n - 2] == j && parts[1][n - 1] == k);
}

static bool transpose_second(Graph *graph, Node *node, int rank, Error *error)
{
    int64_t perm[ESPQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        perm[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    const char *name = arena_format(&graph->arena, "%s_transpose", node->name);
    Node *transpose = name ? add_node(graph, "Transpose", name, error) : NULL;
    Value *made = transpose ? graph_add_value(graph, NULL, error) : NULL;
    if (!made) return name ? false : fail_memory(error, 64);
    return (node_set_integers(graph, transpose, "perm", perm, rank) || fail_memory(error, 0)) &&
           node_add_input(graph, transpose, node->inputs[1], error) && node_add_output(graph, transpose, made, error) &&
           node_set_input(graph, node, 1, made, error);
}

bool rewrite_einsum(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0, count = graph->node_count; i < count; i++) {
        Node *node = graph->nodes[i];
        int rank = 0;
        bool turned = false;
        if (!is_type(node, "Einsum") || node->input_count != 2 || !node->inputs[0] || !node->inputs[1]) continue;
        if (!is_matrix_product(node_string(node, "equation", ""), &rank, &turned)) continue;
        if (turned && !transpose_second(graph, node, rank, error)) return false;
        while (node->attribute_count)
            node_remove_attribute(node, node->attributes[0].name);
        set_type(node, "MatMul");
        ++*changes;
    }
    return true;
}
