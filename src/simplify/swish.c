/* x * sigmoid(x) → Swish (QUANT §2.7). */
#include "simplify/rules.h"

/* The reference's sources: computing types and passive ones. */
static bool is_source(const Node *node)
{
    static const char *const computing[] = {"Conv", "Gemm", "ConvTranspose", "MatMul", "Attention", "PPQBiasFusedMatMul", "LSTM", NULL};
    return node && node->op && (node->op->flags & OPERATOR_PASSIVE || is_one_of(node->type, computing));
}

/* x and Mul of the pair, when `sigmoid` is one: its result goes into one Mul only, whose other input is x. */
static Node *product_of(const Graph *graph, const Node *sigmoid, Value **x)
{
    Node *product = is_type(sigmoid, "Sigmoid") ? only_consumer(graph, sigmoid) : NULL;
    *x = only_input(sigmoid, 0);
    if (!*x || !is_type(product, "Mul") || product->input_count != 2 || product->inputs[0] == product->inputs[1]) return NULL;
    return product->inputs[0] == *x || product->inputs[1] == *x ? product : NULL;
}

static bool replace(Graph *graph, Node *sigmoid, Node *product, Value *x, const char *stem, Error *error)
{
    const char *name = arena_format(&graph->arena, "%s/Swish", stem);
    if (!name) return fail_memory(error, 64);
    Value *output = product->outputs[0];
    Node *swish = add_node(graph, "Swish", name, error);
    if (!swish || !node_add_input(graph, swish, x, error) || !node_add_output(graph, swish, output, error)) return false;
    drop_node(graph, product);
    drop_node(graph, sigmoid);
    return true;
}

/* Exclusive, as the reference asks: the source feeds these two and nothing else. */
bool rewrite_swish(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *source = nodes[i];
        if (source->removed || !is_source(source) || node_consumer_count(source) != 2) continue;
        for (int k = 0; ok && k < source->output_count && !source->removed; k++) {
            Value *x = source->outputs[k], *input = NULL;
            if (!x || x->use_count != 2) continue;
            Node *sigmoid = is_type(x->uses[0].node, "Sigmoid") ? x->uses[0].node : x->uses[1].node;
            Node *product = product_of(graph, sigmoid, &input);
            if (!product) continue;
            ok = replace(graph, sigmoid, product, x, source->name, error);
            ++*changes;
            break;
        }
    }
    memory_free(nodes);
    return ok;
}

bool rewrite_any_swish(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options;
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Value *x = NULL;
        Node *product = nodes[i]->removed ? NULL : product_of(graph, nodes[i], &x);
        if (!product || x->constant) continue;
        ok = replace(graph, nodes[i], product, x, x->producer ? x->producer->name : product->name, error);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}
