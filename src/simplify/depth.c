/* DepthToSpace and SpaceToDepth whose channels the chip takes in another order than ONNX (CHIP C17), in operators that it runs rightly. */
#include "simplify/rules.h"

#define MOST_WIDE 4096

static Node *named_node(Graph *graph, const char *type, const Node *like, const char *ending, Error *error)
{
    const char *name = arena_format(&graph->arena, "%s_%s", like->name, ending);
    if (name) return add_node(graph, type, name, error);
    fail_memory(error, 64);
    return NULL;
}

/* A Gather of channels between two values; indices are the caller's. */
static Node *gather_channels(Graph *graph, const Node *like, Value *from, Value *to, const int64_t *indices, int64_t count, Error *error)
{
    Node *gather = named_node(graph, "Gather", like, "gather", error);
    bool ok = gather && node_add_input(graph, gather, from, error) &&
              add_constant_input(graph, gather, NULL, tensor_from_integers(indices, (int)count, error), error) &&
              node_add_output(graph, gather, to, error) && (node_set_integer(graph, gather, "axis", 1) || fail_memory(error, 64));
    return ok ? gather : NULL;
}

/* DepthToSpace of mode DCR: channels are put in the order of mode CRD, which the chip has right. Where as many channels are left as the block
 * is wide, DCR works. */
static bool order_before(Graph *graph, Node *node, int64_t block, int *changes, Error *error)
{
    int64_t deep = node->inputs[0]->shape.dims[1], channels = deep / (block * block);
    if (strcmp(node_string(node, "mode", "DCR"), "DCR") != 0 || channels == block) return true;
    int64_t *indices = memory_new_array((size_t)deep + 1, sizeof *indices);
    if (!indices) return fail_memory(error, (size_t)deep * sizeof *indices);
    for (int64_t i = 0; i < deep; i++)
        indices[i] = i % (block * block) * channels + i / (block * block);
    Value *ordered = graph_add_value(graph, NULL, error);
    bool ok = ordered && gather_channels(graph, node, node->inputs[0], ordered, indices, deep, error) &&
              node_set_input(graph, node, 0, ordered, error) && (node_set_string(graph, node, "mode", "CRD") || fail_memory(error, 64));
    memory_free(indices);
    ++*changes;
    return ok;
}

/* SpaceToDepth makes its channels in the chip's order, and they are put into ONNX's behind it. */
static bool order_behind(Graph *graph, Node *node, int64_t block, int *changes, Error *error)
{
    int64_t channels = node->inputs[0]->shape.dims[1], deep = channels * block * block;
    Value *made = node->outputs[0];
    if (channels == 1 || strcmp(node_string(node, "mode", "DCR"), "CRD") == 0) return true;
    int64_t *indices = memory_new_array((size_t)deep + 1, sizeof *indices);
    if (!indices) return fail_memory(error, (size_t)deep * sizeof *indices);
    for (int64_t i = 0; i < deep; i++)
        indices[i] = i % channels * block * block + i / channels;
    Value *unordered = graph_add_value(graph, NULL, error);
    bool ok = unordered && node_set_output(graph, node, 0, unordered, error) &&
              gather_channels(graph, node, unordered, made, indices, deep, error) &&
              (node_set_string(graph, node, "mode", "CRD") || fail_memory(error, 64));
    memory_free(indices);
    ++*changes;
    return ok;
}

bool rewrite_depth_order(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *node = nodes[i];
        if (node->removed || node->input_count < 1 || !node->inputs[0]->shaped || node->inputs[0]->shape.rank != 4) continue;
        int64_t block = node_integer(node, "blocksize", 0);
        if (block < 2 || block > MOST_WIDE || !node->output_count || !node->outputs[0]) continue;
        if (is_type(node, "DepthToSpace"))
            ok = order_before(graph, node, block, changes, error);
        else if (is_type(node, "SpaceToDepth"))
            ok = order_behind(graph, node, block, changes, error);
    }
    memory_free(nodes);
    return ok;
}
