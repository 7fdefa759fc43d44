/* What the reference leaves for the chip to stumble over, put right where a switch of the setting says so (EXPORT §15). */
#include <float.h>
#include <string.h>

#include "lower/lower.h"
#include "quant/slots.h"

static int spatial_rank(const Node *node)
{
    return node->input_count && node->inputs[0] && node->inputs[0]->shaped ? node->inputs[0]->shape.rank - 2 : 0;
}

static bool lists(const Node *node, const char *name)
{
    for (size_t i = 0; i < sizeof node->op->attributes / sizeof node->op->attributes[0] && node->op->attributes[i].name; i++) {
        if (strcmp(node->op->attributes[i].name, name) == 0) return node->op->attributes[i].kind == ATTRIBUTE_INTS;
    }
    return false;
}

/* A list attribute of the row that the model leaves out although the runtime has no default for it (E22). */
static bool fill_list(Lowering *lowering, Node *node, const char *name, const int64_t *numbers, int count, Error *error)
{
    if (!lists(node, name) || node_attribute(node, name)) return true;
    return node_set_integers(lowering->graph, node, name, numbers, count) || fail_memory(error, 64);
}

static bool fill_defaults(Lowering *lowering, Node *node, Error *error)
{
    static const int64_t ones[2 * ESPQ_MAX_RANK] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, zeros[2 * ESPQ_MAX_RANK];
    int spatial = spatial_rank(node);
    if (node->op->layout == LAYOUT_CONV && spatial > 0) {
        const Value *weight = node->op->pack == PACK_CONV && node->input_count > 1 ? node->inputs[1] : NULL;
        if (!fill_list(lowering, node, "strides", ones, spatial, error) || !fill_list(lowering, node, "pads", zeros, 2 * spatial, error))
            return false;
        if (weight && (!fill_list(lowering, node, "dilations", ones, spatial, error) ||
                       !fill_list(lowering, node, "kernel_shape", weight->shape.dims + 2, spatial, error)))
            return false;
    }
    if (node_is(node, "Pad") && !node_attribute(node, "mode") && !node_set_string(lowering->graph, node, "mode", "constant"))
        return fail_memory(error, 64);
    if (node_is(node, "Reshape") && !node_attribute(node, "allowzero") && node->input_count > 1 && node->inputs[1] &&
        node->inputs[1]->constant) {
        const Tensor *shape = node->inputs[1]->constant;
        bool zero = false;
        for (int64_t i = 0; i < tensor_count(shape); i++)
            zero = zero || tensor_get_integer(shape, i) == 0;
        if (zero && !node_set_integer(lowering->graph, node, "allowzero", 0)) return fail_memory(error, 64);
    }
    return true;
}

/* The chip does not count indices from the end (CHIP C16). */
static bool count_from_start(Lowering *lowering, Node *node, Error *error)
{
    if (!node_is(node, "Gather") || node->input_count < 2 || !node->inputs[1] || !node->inputs[1]->constant || !node->inputs[0]->shaped)
        return true;
    const Tensor *indices = node->inputs[1]->constant;
    int64_t axis = node_integer(node, "axis", 0), count = tensor_count(indices);
    if (axis < 0) axis += node->inputs[0]->shape.rank;
    bool negative = false;
    for (int64_t i = 0; i < count; i++)
        negative = negative || tensor_get_integer(indices, i) < 0;
    if (!negative || axis < 0 || axis >= node->inputs[0]->shape.rank) return true;
    Value *own = lower_own_constant(lowering, node, 1, error);
    Tensor *counted = own ? tensor_copy(own->constant, error) : NULL;
    if (!counted) return false;
    for (int64_t i = 0; i < count; i++) {
        int64_t index = tensor_get_integer(counted, i);
        if (index < 0) tensor_set(counted, i, (double)(index + node->inputs[0]->shape.dims[axis]));
    }
    value_set_constant(lowering->graph, own, counted);
    tensor_release(counted);
    return true;
}

/* The chip's float Clip starts at the smallest positive number where the lower bound is left out (CHIP C24). */
static bool bound_clip(Lowering *lowering, Node *node, Error *error)
{
    if (!node_is(node, "Clip") || (node->input_count > 1 && node->inputs[1]) || node_attribute(node, "min")) return true;
    Value *bound = lower_add_constant(lowering, tensor_scalar(DTYPE_FLOAT32, -FLT_MAX, error), error);
    if (!bound) return false;
    if (node->input_count > 1) return node_set_input(lowering->graph, node, 1, bound, error);
    return node_add_input(lowering->graph, node, bound, error);
}

/* MaxPool that rounds sizes up: the chip rounds down, but counts padding, which never wins a maximum (E23). */
static bool pad_ceil(Lowering *lowering, Node *node, Error *error)
{
    int spatial = spatial_rank(node);
    int64_t pads[2 * ESPQ_MAX_RANK] = {0}, strides[ESPQ_MAX_RANK], kernel[ESPQ_MAX_RANK], dilations[ESPQ_MAX_RANK];
    if (!node_is(node, "MaxPool") || !node_integer(node, "ceil_mode", 0) || !node->outputs[0] || spatial < 1) return true;
    if (node_integers(node, "kernel_shape", kernel, ESPQ_MAX_RANK) != spatial) return true;
    for (int i = 0; i < spatial; i++)
        strides[i] = dilations[i] = 1;
    node_integers(node, "pads", pads, 2 * ESPQ_MAX_RANK);
    node_integers(node, "strides", strides, ESPQ_MAX_RANK);
    node_integers(node, "dilations", dilations, ESPQ_MAX_RANK);
    for (int i = 0; i < spatial; i++) {
        int64_t size = node->inputs[0]->shape.dims[2 + i], out = node->outputs[0]->shape.dims[2 + i];
        int64_t needed = (out - 1) * strides[i] + dilations[i] * (kernel[i] - 1) + 1 - size - pads[i];
        if (needed > pads[spatial + i]) pads[spatial + i] = needed;
    }
    return (node_set_integers(lowering->graph, node, "pads", pads, 2 * spatial) &&
            node_set_integer(lowering->graph, node, "ceil_mode", 0)) ||
           fail_memory(error, 64);
}

/* The slot of an end of GRU or LSTM that was not there when slots were made: as the passes would have left it. */
static bool give_slot(Lowering *lowering, const Node *node, Slot *slot, const Slot *like, Error *error)
{
    static const int exponent = ESPQ_RECURRENT_EXPONENT;
    if (!node->quantized) return true;
    if (like) {
        lower_copy_slot(slot, like);
        return true;
    }
    slot_set_width(slot, ESPQ_RECURRENT_BITS);
    slot->state = SLOT_PASSIVE;
    return slot_set_exponents(lowering->graph, slot, &exponent, 1) || fail_memory(error, sizeof exponent);
}

/* Zeros for an input that is left out; `like` NULL: in the steps of the gates. */
static bool add_zeros(Lowering *lowering, Node *node, int index, const Shape *shape, const Slot *like, Error *error)
{
    if (index < node->input_count && node->inputs[index]) return true;
    while (node->input_count < index)
        if (!node_add_input(lowering->graph, node, NULL, error)) return false;
    Value *zeros = lower_add_constant(lowering, tensor_new(DTYPE_FLOAT32, shape, error), error);
    return zeros &&
           (index < node->input_count ? node_set_input(lowering->graph, node, index, zeros, error)
                                      : node_add_input(lowering->graph, node, zeros, error)) &&
           give_slot(lowering, node, node->input_slots ? node->input_slots[index] : NULL, like, error);
}

/* GRU and LSTM write all of their outputs on the chip, whoever reads them, and start from bias and states in the file; ONNX may leave out any. */
static bool add_states(Lowering *lowering, Node *node, Error *error)
{
    if (!node->op || node->op->align != ALIGN_RECURRENT) return true;
    int before = node->output_count, wanted = node_is(node, "LSTM") ? 3 : 2, like = 0;
    while (like < before && !node->outputs[like])
        like++;
    if (like == before) return true;
    char where[256];
    if (like > 1)
        return fail(error, node_where(node, where), "let the graph read or return the sequence or the last state too",
                    "only the cell state is read: nothing says in which steps the chip keeps the others");
    const Slot *steps = node->quantized ? node->output_slots[like] : NULL;
    for (int i = 0; i < wanted; i++) {
        if (i < before && node->outputs[i]) continue;
        Value *state = lower_add_value(lowering, DTYPE_FLOAT32, &node->outputs[like]->shape, error);
        if (!state) return false;
        if (!(i < node->output_count ? node_set_output(lowering->graph, node, i, state, error)
                                     : node_add_output(lowering->graph, node, state, error)))
            return false;
        if (!give_slot(lowering, node, node->output_slots ? node->output_slots[i] : NULL, i < 2 ? steps : NULL, error)) return false;
    }
    if (!node->op->infer(lowering->graph, node, error)) return false; /* shapes of the states */
    const Shape *w = &node->inputs[1]->shape, *state = &node->outputs[1]->shape;
    Shape bias = {.rank = 2, .dims = {w->dims[0], 2 * w->dims[1]}};
    return add_zeros(lowering, node, 3, &bias, NULL, error) && add_zeros(lowering, node, 5, state, steps, error) &&
           (wanted == 2 || add_zeros(lowering, node, 6, state, NULL, error));
}

bool lower_repair(Lowering *lowering, Error *error)
{
    Graph *graph = lowering->graph;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (lower_setting(lowering)->switches.write_defaults &&
            (!fill_defaults(lowering, node, error) || !bound_clip(lowering, node, error) || !count_from_start(lowering, node, error) ||
             !add_states(lowering, node, error)))
            return false;
        if (lower_setting(lowering)->switches.ceil_mode_pads && !pad_ceil(lowering, node, error)) return false;
    }
    return true;
}
