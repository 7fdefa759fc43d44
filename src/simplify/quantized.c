/* Models that were quantized before (CASES C17): the scales they give are kept beside the tensors, QuantizeLinear and DequantizeLinear go. */
#include "simplify/rules.h"

#include <math.h>

static bool integer_range(Dtype dtype, int64_t *low, int64_t *high)
{
    static const struct {
        Dtype dtype;
        int64_t low, high;
    } ranges[] = {{DTYPE_INT8, -128, 127}, {DTYPE_UINT8, 0, 255}, {DTYPE_INT16, -32768, 32767}, {DTYPE_UINT16, 0, 65535}};
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        if (ranges[i].dtype != dtype) continue;
        *low = ranges[i].low;
        *high = ranges[i].high;
        return true;
    }
    return false;
}

/* The type of the integers: that of the zero point, of the constant, or the standard's default. */
static Dtype integer_type(const Node *node)
{
    const Tensor *zero = input_constant(node, 2), *constant = input_constant(node, 0);
    return zero ? zero->dtype : constant ? constant->dtype : DTYPE_UINT8;
}

/* What a DequantizeLinear says of its result; NULL in *given where that is nothing usable (int32 of a bias, scales made at run time). */
static bool read_given(Graph *graph, const Node *node, const Given **given, Error *error)
{
    const Tensor *scale = input_constant(node, 1), *zero = input_constant(node, 2);
    int64_t low, high, count = scale ? tensor_count(scale) : 0, least = 0, most = 0;
    *given = NULL;
    if (!tensor_is_float(scale) || count < 1 || count > 1 << 20 || scale->shape.rank > 1 || (only_input(node, 2) && !zero)) return true;
    if (!integer_range(integer_type(node), &low, &high)) return true;
    for (int64_t i = 0; i < count; i++)
        if (!(tensor_floats(scale)[i] > 0) || !isfinite(tensor_floats(scale)[i])) return true;
    for (int64_t i = 0, zeros = zero ? tensor_count(zero) : 0; i < zeros; i++) {
        int64_t number = (int64_t)tensor_get(zero, i);
        least = i == 0 || number < least ? number : least;
        most = i == 0 || number > most ? number : most;
    }
    Given made = {.count = (int)count, .low = low - most, .high = high - least};
    made.scales = arena_copy(&graph->arena, tensor_floats(scale), (size_t)count * sizeof(float));
    *given = made.scales ? arena_copy(&graph->arena, &made, sizeof made) : NULL;
    return *given || fail_memory(error, sizeof made);
}

/* Before constants are folded: weights that come through DequantizeLinear are floats after that. */
bool rewrite_given_scales(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    (void)options, (void)changes; /* no shape changes */
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (!is_type(node, "DequantizeLinear") || node->output_count < 1 || !node->outputs[0]) continue;
        if (!read_given(graph, node, &node->outputs[0]->given, error)) return false;
    }
    return true;
}

/* Each activation goes through QuantizeLinear and DequantizeLinear. The pair goes, what it says stays with the tensor. */
bool rewrite_quantize_pairs(Graph *graph, const SimplifyOptions *options, int *changes, Error *error)
{
    Node **nodes = nodes_now(graph, error);
    bool ok = nodes != NULL;
    for (int i = 0, count = graph->node_count; ok && i < count; i++) {
        Node *second = nodes[i],
             *first = !second->removed && is_type(second, "DequantizeLinear") && only_input(second, 0) ? second->inputs[0]->producer : NULL;
        bool removed = false;
        if (!is_type(first, "QuantizeLinear") || !first->inputs[0] || value_is_output(graph, second->inputs[0])) continue;
        Value *between = second->inputs[0], *data = first->inputs[0];
        if (!data->given) data->given = second->outputs[0]->given;
        if (!data->given) graph_note(graph, "tensor %s: the scale that the model gives is no constant; it is calibrated anew", data->name);
        ok = node_set_input(graph, second, 0, data, error);
        if (ok && between->use_count == 0) drop_node(graph, first);
        ok = ok && bypass_node(graph, second, options, &removed, error);
        if (ok && !removed) set_type(second, "Identity");
        while (ok && !removed && second->input_count > 1)
            node_remove_input(graph, second, second->input_count - 1);
        ++*changes;
    }
    memory_free(nodes);
    return ok;
}
