/* What cannot be exported is said before anything is changed, all of it at once. */

#include "lower/lower.h"

static void list(Text *text, int *count, const Node *node, const char *why)
{
    char where[256];
    if ((*count)++ < 20) text_format(text, "%s%s: %s", *count > 1 ? "; " : "", node_where(node, where), why);
}

static bool writable(Dtype dtype)
{
    return dtype != DTYPE_NONE && dtype != DTYPE_UINT16 && dtype != DTYPE_UINT32 && dtype != DTYPE_UINT64;
}

static const char *reason(const Node *node)
{
    const Value *data = node->input_count ? node->inputs[0] : NULL;
    int rank = data && data->shaped ? data->shape.rank : 0;
    if (!node->op) return "an operator that espq does not know";
    for (int i = 0; i < node->output_count; i++) {
        if (node->outputs[i] && !node->outputs[i]->shaped) return "the shape of its output is not known: give input_shape";
    }
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        if (value && value->constant && !writable(value->constant->dtype))
            return "a constant of a type that .espdl files cannot hold: convert it to int32 or int64";
    }
    if ((node->op->layout == LAYOUT_CONV || node->op->layout == LAYOUT_RESIZE) && data && data->shaped && rank != 3 && rank != 4)
        return "only one-dimensional and two-dimensional data (rank 3 and 4) can be stored: reshape the input";
    if (node->quantized && node->op->pack == PACK_GEMM && (node_number(node, "alpha", 1) != 1 || node_number(node, "beta", 1) != 1))
        return "alpha and beta must be 1: fold them into weight and bias";
    return NULL;
}

bool lower_refuse(Lowering *lowering, Error *error)
{
    const Graph *graph = lowering->graph;
    Text text = {0};
    int count = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const char *why = reason(graph->nodes[i]);
        if (why) list(&text, &count, graph->nodes[i], why);
    }
    if (count > 20) text_format(&text, "; and %d more", count - 20);
    bool ok = count == 0                  ? true
              : text.data && !text.failed ? fail(error, graph->name, "change these nodes, or leave them out of the model",
                                                 "%d nodes cannot be exported: %s", count, text.data)
                                          : fail_memory(error, 256);
    text_free(&text);
    return ok;
}
