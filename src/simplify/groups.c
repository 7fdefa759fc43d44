/* Convolutions in groups. The runtime takes every group number above 1 for a depthwise convolution and computes nonsense on the others
 * (EXPORT E26): they become one Conv a group between Split and Concat, or, where the groups are many and thin (a depthwise convolution with
 * several outputs a channel among them), one Conv whose weight is filled with zeros: that is one node instead of dozens, and the
 * chip works on 8 or 16 channels at once anyway. */
#include "simplify/rules.h"

#include <stdio.h>

typedef struct Groups {
    int64_t count, in, out; /* channels in and out of one group */
    const Tensor *weight, *bias;
} Groups;

static bool read_groups(const Node *node, Groups *groups)
{
    const Tensor *weight = input_constant(node, 1);
    int64_t count = node_integer(node, "group", 1);
    if (!is_type(node, "Conv") || count < 2 || !tensor_is_float(weight) || weight->shape.rank < 3 || weight->shape.dims[0] % count)
        return false;
    *groups = (Groups){count, weight->shape.dims[1], weight->shape.dims[0] / count, weight, input_constant(node, 2)};
    if (only_input(node, 2) && !tensor_is_float(groups->bias)) return false;
    return groups->in != 1 || groups->out != 1; /* depthwise stays */
}

/* [out, in of a group, …] → [out, in, …], zeros elsewhere. */
static Tensor *filled_weight(const Groups *groups, Error *error)
{
    Shape shape = groups->weight->shape;
    int64_t spatial = 1;
    for (int i = 2; i < shape.rank; i++)
        spatial *= shape.dims[i];
    shape.dims[1] = groups->count * groups->in;
    Tensor *filled = tensor_new(DTYPE_FLOAT32, &shape, error);
    size_t bytes = (size_t)(groups->in * spatial) * sizeof(float);
    for (int64_t o = 0; filled && o < shape.dims[0]; o++)
        memcpy(tensor_floats(filled) + (o * shape.dims[1] + o / groups->out * groups->in) * spatial,
               tensor_floats(groups->weight) + o * groups->in * spatial, bytes);
    return filled;
}

/* ConvTranspose: [in, out of a group, …] → [in, out, …]. It becomes a Conv later, which keeps the groups. */
static Tensor *filled_transposed(const Tensor *weight, int64_t count, Error *error)
{
    Shape shape = weight->shape;
    int64_t spatial = 1, out = shape.dims[1], in = shape.dims[0] / count;
    for (int i = 2; i < shape.rank; i++)
        spatial *= shape.dims[i];
    shape.dims[1] = count * out;
    Tensor *filled = tensor_new(DTYPE_FLOAT32, &shape, error);
    for (int64_t i = 0; filled && i < shape.dims[0]; i++)
        memcpy(tensor_floats(filled) + (i * shape.dims[1] + i / in * out) * spatial, tensor_floats(weight) + i * out * spatial,
               (size_t)(out * spatial) * sizeof(float));
    return filled;
}

static bool fill_transposed(Graph *graph, Node *node, int *changes, Error *error)
{
    const Tensor *weight = input_constant(node, 1);
    int64_t count = node_integer(node, "group", 1);
    if (count < 2 || !tensor_is_float(weight) || weight->shape.rank < 3 || weight->shape.dims[0] % count) return true;
    if (weight->shape.dims[0] == count && weight->shape.dims[1] == 1) return true; /* depthwise stays */
    ++*changes;
    return replace_constant(graph, node, 1, filled_transposed(weight, count, error), error) &&
           (node_set_integer(graph, node, "group", 1) || fail_memory(error, 0));
}

static Tensor *rows_of(const Tensor *tensor, int64_t first, int64_t count, Error *error)
{
    Shape shape = tensor->shape;
    int64_t row = tensor_count(tensor) / shape.dims[0];
    shape.dims[0] = count;
    return tensor_from_data(tensor->dtype, &shape, tensor_floats(tensor) + first * row, error);
}

static bool add_part(Graph *graph, const Node *node, const Groups *groups, int64_t k, Value *input, Value **output, Error *error)
{
    char ending[32];
    snprintf(ending, sizeof ending, "group_%lld", (long long)k);
    const char *name = arena_format(&graph->arena, "%s_%s", node->name, ending),
               *weight_name = arena_format(&graph->arena, "%s_%s_weight", node->name, ending),
               *bias_name = arena_format(&graph->arena, "%s_%s_bias", node->name, ending);
    if (!name || !weight_name || !bias_name) return fail_memory(error, 64);
    Node *part = add_node(graph, "Conv", name, error);
    if (!part) return false;
    if (!node_copy_attributes(graph, part, node) || !node_set_integer(graph, part, "group", 1)) return fail_memory(error, 0);
    if (!node_add_input(graph, part, input, error)) return false;
    if (!add_constant_input(graph, part, weight_name, rows_of(groups->weight, k * groups->out, groups->out, error), error)) return false;
    if (groups->bias && !add_constant_input(graph, part, bias_name, rows_of(groups->bias, k * groups->out, groups->out, error), error))
        return false;
    *output = graph_add_value(graph, NULL, error);
    return *output && node_add_output(graph, part, *output, error);
}

static bool split_apart(Graph *graph, Node *node, const Groups *groups, Error *error)
{
    const char *split_name = arena_format(&graph->arena, "%s_split", node->name),
               *concat_name = arena_format(&graph->arena, "%s_concat", node->name);
    int64_t *sizes = arena_new(&graph->arena, (size_t)groups->count * sizeof *sizes);
    if (!split_name || !concat_name || !sizes) return fail_memory(error, 64);
    for (int64_t k = 0; k < groups->count; k++)
        sizes[k] = groups->in;
    Node *split = add_node(graph, "Split", split_name, error), *concat = split ? add_node(graph, "Concat", concat_name, error) : NULL;
    if (!concat) return false;
    if (!node_set_integer(graph, split, "axis", 1) || !node_set_integer(graph, concat, "axis", 1)) return fail_memory(error, 0);
    if (!node_add_input(graph, split, node->inputs[0], error)) return false;
    if (!add_constant_input(graph, split, NULL, tensor_from_integers(sizes, (int)groups->count, error), error)) return false;
    for (int64_t k = 0; k < groups->count; k++) {
        Value *input = graph_add_value(graph, NULL, error), *output = NULL;
        if (!input || !node_add_output(graph, split, input, error) || !add_part(graph, node, groups, k, input, &output, error))
            return false;
        if (!node_add_input(graph, concat, output, error)) return false;
    }
    if (!node_add_output(graph, concat, node->outputs[0], error)) return false;
    drop_node(graph, node);
    return true;
}

bool rewrite_groups(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    if (!options->split_groups) return true;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Groups groups;
        if (is_type(nodes[i], "ConvTranspose")) ok = fill_transposed(graph, nodes[i], changes, error);
        if (!ok || !read_groups(nodes[i], &groups)) continue;
        bool fill = groups.in < 8 && groups.count * groups.in * groups.weight->shape.dims[0] <= 65536;
        ++*changes;
        if (fill)
            ok = replace_constant(graph, nodes[i], 1, filled_weight(&groups, error), error) &&
                 (node_set_integer(graph, nodes[i], "group", 1) || fail_memory(error, 0));
        else
            ok = split_apart(graph, nodes[i], &groups, error);
    }
    memory_free(nodes);
    return ok;
}
