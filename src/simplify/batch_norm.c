/* BatchNormalization into what stands before it, or alone (QUANT §2.5, §2.6). All in float32 and in the reference's order of operations:
 * the last bits of the weights decide exponents. */
#include "simplify/rules.h"

#include <math.h>

typedef struct Statistics {
    int64_t channels;
    float epsilon;
    const float *gamma, *beta, *mean, *variance;
} Statistics;

static bool read_statistics(const Node *node, Statistics *statistics)
{
    const float *values[4];
    for (int i = 0; i < 4; i++) {
        const Tensor *constant = input_constant(node, i + 1);
        if (!tensor_is_float(constant) || tensor_count(constant) != tensor_count(input_constant(node, 1))) return false;
        values[i] = tensor_floats(constant);
    }
    if (node->input_count != 5) return false;
    *statistics = (Statistics){
        tensor_count(input_constant(node, 1)), node_number(node, "epsilon", 1e-5f), values[0], values[1], values[2], values[3]};
    return true;
}

static float deviation(const Statistics *s, int64_t channel)
{
    return sqrtf(s->variance[channel] + s->epsilon);
}
static float factor(const Statistics *s, int64_t channel)
{
    return s->gamma[channel] / deviation(s, channel);
}
static float shifted(const Statistics *s, int64_t channel, float bias)
{
    return s->gamma[channel] * (bias - s->mean[channel]) / deviation(s, channel) + s->beta[channel];
}

/* ---- folding ---- */

/* Output channel of each weight element: element i belongs to (i / inner) % length, plus what the group adds. */
static int64_t channel_of(const Node *node, const Shape *shape, int64_t i)
{
    if (is_type(node, "Gemm")) return node_integer(node, "transB", 0) ? i / shape->dims[1] : i % shape->dims[1];
    int64_t inner = 1;
    for (int k = is_type(node, "ConvTranspose") ? 2 : 1; k < shape->rank; k++)
        inner *= shape->dims[k];
    if (!is_type(node, "ConvTranspose")) return i / inner;
    int64_t group = node_integer(node, "group", 1), row = i / (inner * shape->dims[1]);
    return row / (shape->dims[0] / group) * shape->dims[1] + i / inner % shape->dims[1];
}

static int64_t output_channels(const Node *node, const Shape *shape)
{
    if (is_type(node, "ConvTranspose")) {
        int64_t group = node_integer(node, "group", 1);
        return shape->rank < 3 || group < 1 || shape->dims[0] % group ? -1 : shape->dims[1] * group;
    }
    if (is_type(node, "Gemm")) return shape->rank != 2 ? -1 : shape->dims[node_integer(node, "transB", 0) ? 0 : 1];
    return shape->rank < 3 ? -1 : shape->dims[0];
}

/* Can the statistics go into this node? Also a Gemm bias must be one row (or one number) then. */
static bool can_fold(const Node *node, const Statistics *statistics)
{
    const Tensor *weight = input_constant(node, 1), *bias = input_constant(node, 2);
    if (!tensor_is_float(weight) || tensor_count(weight) == 0 || output_channels(node, &weight->shape) != statistics->channels)
        return false;
    if (only_input(node, 2) && !tensor_is_float(bias)) return false;
    if (bias && tensor_count(bias) != statistics->channels && tensor_count(bias) != 1) return false;
    return node->input_count <= 3 && node_number(node, "alpha", 1) == 1 && node_number(node, "beta", 1) == 1;
}

static bool folded_parameters(const Node *node, const Statistics *statistics, Tensor **weight, Tensor **bias, Error *error)
{
    const Tensor *old_weight = input_constant(node, 1), *old_bias = input_constant(node, 2);
    Shape shape = {.rank = 1, .dims = {statistics->channels}};
    if (old_bias && tensor_count(old_bias) == statistics->channels) shape = old_bias->shape;
    *weight = tensor_copy(old_weight, error);
    *bias = *weight ? tensor_new(DTYPE_FLOAT32, &shape, error) : NULL;
    float *factors = *bias ? memory_new_array((size_t)statistics->channels, sizeof *factors) : NULL;
    if (!factors) {
        tensor_release(*weight);
        tensor_release(*bias);
        return error->code != ERROR_NONE ? false : fail_memory(error, 0);
    }
    for (int64_t c = 0; c < statistics->channels; c++) {
        float old = !old_bias ? 0.0f : tensor_floats(old_bias)[tensor_count(old_bias) == 1 ? 0 : c];
        factors[c] = factor(statistics, c);
        tensor_floats(*bias)[c] = shifted(statistics, c, old);
    }
    for (int64_t i = 0, count = tensor_count(*weight); i < count; i++)
        tensor_floats(*weight)[i] *= factors[channel_of(node, &old_weight->shape, i)];
    memory_free(factors);
    return true;
}

/* As the reference: a new node of the old name behind all others, parameters <node>_weight and <node>_bias, the normalization's output. */
static bool fold(Graph *graph, Node *compute, Node *norm, const Statistics *statistics, Error *error)
{
    const char *name = compute->name, *weight_name = arena_format(&graph->arena, "%s_weight", name),
               *bias_name = arena_format(&graph->arena, "%s_bias", name);
    if (!weight_name || !bias_name) return fail_memory(error, 64);
    int next_operation = graph->next_operation;
    Node *merged = add_node(graph, compute->type, NULL, error); /* gets the name once the old node has left it */
    graph->next_operation = next_operation;
    if (!merged) return false;
    if (!node_copy_attributes(graph, merged, compute)) return fail_memory(error, 0);
    Tensor *weight = NULL, *bias = NULL;
    if (!folded_parameters(compute, statistics, &weight, &bias, error)) return false;
    bool ok = node_add_input(graph, merged, compute->inputs[0], error) && node_add_output(graph, merged, norm->outputs[0], error);
    if (ok) {
        drop_node(graph, norm);
        drop_node(graph, compute);
        ok = graph_rename_node(graph, merged, name, error);
    }
    if (ok) ok = add_constant_input(graph, merged, weight_name, tensor_retain(weight), error);
    if (ok) ok = add_constant_input(graph, merged, bias_name, tensor_retain(bias), error);
    tensor_release(weight);
    tensor_release(bias);
    return ok;
}

bool rewrite_batch_norm(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    static const char *const types[] = {"Conv", "Gemm", "ConvTranspose", NULL};
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Statistics statistics;
        if (nodes[i]->removed || !is_one_of(nodes[i]->type, types)) continue;
        Node *norm = only_consumer(graph, nodes[i]);
        if (!is_type(norm, "BatchNormalization") || norm->inputs[0] != nodes[i]->outputs[0]) continue;
        if (!read_statistics(norm, &statistics) || !can_fold(nodes[i], &statistics)) continue;
        ok = fold(graph, nodes[i], norm, &statistics, error);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}

/* ---- alone ---- */

static bool become_conv(Graph *graph, Node *node, int64_t channels, int spatial)
{
    int64_t ones[ESPQ_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1}, zeros[2 * ESPQ_MAX_RANK] = {0};
    while (node->attribute_count)
        node_remove_attribute(node, node->attributes[0].name);
    set_type(node, "Conv");
    return node_set_integers(graph, node, "kernel_shape", ones, spatial) && node_set_integers(graph, node, "strides", ones, spatial) &&
           node_set_integers(graph, node, "dilations", ones, spatial) && node_set_integers(graph, node, "pads", zeros, 2 * spatial) &&
           node_set_integer(graph, node, "group", channels);
}

/* On a matrix there is no convolution: Mul in its place, Add behind it. */
static bool become_mul_add(Graph *graph, Node *node, Tensor *shift, Error *error)
{
    Value *output = node->outputs[0], *shift_value = node->inputs[2];
    const char *name = arena_format(&graph->arena, "%s_add", node->name);
    Value *product = graph_add_value(graph, NULL, error);
    Node *add = name && product ? add_node(graph, "Add", name, error) : NULL;
    if (!add) return name ? false : fail_memory(error, 64);
    while (node->attribute_count)
        node_remove_attribute(node, node->attributes[0].name);
    node_remove_input(graph, node, 2);
    drop_if_free(graph, shift_value);
    set_type(node, "Mul");
    return node_set_output(graph, node, 0, product, error) && node_add_input(graph, add, product, error) &&
           add_constant_input(graph, add, NULL, tensor_retain(shift), error) && node_add_output(graph, add, output, error);
}

static bool stand_alone(Graph *graph, Node *node, const Statistics *statistics, int rank, Error *error)
{
    int spatial = rank - 2;
    Shape weight_shape = {.rank = rank == 2 ? 1 : rank, .dims = {statistics->channels}},
          shape = {.rank = 1, .dims = {statistics->channels}};
    for (int i = 1; i < rank; i++)
        weight_shape.dims[i] = 1;
    Tensor *weight = tensor_new(DTYPE_FLOAT32, &weight_shape, error), *bias = weight ? tensor_new(DTYPE_FLOAT32, &shape, error) : NULL;
    bool ok = bias != NULL;
    for (int64_t c = 0; ok && c < statistics->channels; c++) {
        tensor_floats(weight)[c] = factor(statistics, c);
        tensor_floats(bias)[c] = statistics->gamma[c] * -statistics->mean[c] / deviation(statistics, c) + statistics->beta[c];
    }
    for (int i = 4; ok && i > 2; i--) {
        Value *old = node->inputs[i];
        node_remove_input(graph, node, i);
        drop_if_free(graph, old);
    }
    ok = ok && replace_constant(graph, node, 1, tensor_retain(weight), error) &&
         replace_constant(graph, node, 2, tensor_retain(bias), error);
    if (ok && rank > 2)
        ok = become_conv(graph, node, statistics->channels, spatial) || fail_memory(error, 0);
    else if (ok)
        ok = become_mul_add(graph, node, bias, error);
    tensor_release(weight);
    tensor_release(bias);
    return ok;
}

bool rewrite_isolated_batch_norm(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    for (int i = 0, count = graph->node_count; i < count; i++) {
        Node *node = graph->nodes[i];
        Statistics statistics;
        const Value *input = only_input(node, 0);
        if (!is_type(node, "BatchNormalization") || !read_statistics(node, &statistics) || !input || !input->shaped) continue;
        if (input->shape.rank < 2 || input->shape.dims[1] != statistics.channels) continue; /* its row says so */
        if (!stand_alone(graph, node, &statistics, input->shape.rank, error)) return false;
        graph_note(graph, "%s: a BatchNormalization with no convolution before it becomes a 1x1 depthwise one", node->name);
        ++*changes;
    }
    return true;
}
