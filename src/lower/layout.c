/* The layout pass (EXPORT §4): every activation gets the order in which the chip stores it. Convolutions and their kin want
 * channels last; what does not care takes what comes; the rest gets its inputs turned back. Decided node by node, in order of
 * execution: the first consumer decides for a graph input. */
#include <stdlib.h>
#include <string.h>

#include "lower/lower.h"

static Value *input_at(const Node *node, int index)
{
    return index < node->input_count ? node->inputs[index] : NULL;
}

/* An activation at this input; parameters are never turned by the general rules. */
static Value *activation_at(const Node *node, int index)
{
    Value *value = input_at(node, index);
    return value && !value->constant ? value : NULL;
}

static void settle_identity(Value *value)
{
    int identity[ESPQ_MAX_RANK];
    perm_identity(identity, value->shape.rank);
    if (!value->device->perm_known) device_set_perm(value, identity, value->shape.rank);
}

static void set_outputs(Node *node, const int *perm, int rank)
{
    for (int i = 0; i < node->output_count; i++) {
        if (node->outputs[i]) device_set_perm(node->outputs[i], perm, rank);
    }
}

static void set_outputs_identity(Node *node)
{
    int identity[ESPQ_MAX_RANK];
    perm_identity(identity, ESPQ_MAX_RANK);
    for (int i = 0; i < node->output_count; i++) {
        if (node->outputs[i]) device_set_perm(node->outputs[i], identity, node->outputs[i]->shape.rank);
    }
}

static void set_outputs_channels_last(Node *node)
{
    int perm[ESPQ_MAX_RANK];
    for (int i = 0; i < node->output_count; i++) {
        Value *value = node->outputs[i];
        if (!value || value->shape.rank < 2) continue;
        perm_channels_last(value->shape.rank, perm);
        device_set_perm(value, perm, value->shape.rank);
    }
}

/* Bring an input into the order `target`: set it where nothing is decided yet, else a Transpose before this end. */
static bool bring(Lowering *lowering, Node *node, int index, const int *target, int rank, Error *error)
{
    Value *value = activation_at(node, index);
    if (!value) return true;
    DeviceValue *device = value->device;
    if (!device->perm_known) {
        device_set_perm(value, target, rank);
        return true;
    }
    if (memcmp(device->perm, target, sizeof *target * (size_t)rank) == 0) return true;
    int turn[ESPQ_MAX_RANK];
    perm_inverse(device->perm, rank, turn);
    perm_compose(turn, target, rank, turn);
    return lower_insert_transpose(lowering, node, index, turn, rank, error);
}

static bool restore(Lowering *lowering, Node *node, Error *error)
{
    int identity[ESPQ_MAX_RANK];
    perm_identity(identity, ESPQ_MAX_RANK);
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = activation_at(node, i);
        if (value && !bring(lowering, node, i, identity, value->device->perm_known ? value->device->perm_rank : value->shape.rank, error))
            return false;
    }
    set_outputs_identity(node);
    return true;
}

static bool layout_conv(Lowering *lowering, Node *node, Error *error)
{
    for (int i = 0; i < node->input_count; i++) {
        int target[ESPQ_MAX_RANK];
        const Value *value = activation_at(node, i);
        if (!value) continue;
        perm_channels_last(value->shape.rank, target);
        if (!bring(lowering, node, i, target, value->shape.rank, error)) return false;
    }
    set_outputs_channels_last(node);
    return true;
}

static bool layout_passive(Lowering *lowering, Node *node, Error *error)
{
    (void)lowering;
    (void)error;
    Value *value = input_at(node, 0);
    if (!value) return true;
    settle_identity(value);
    set_outputs(node, value->device->perm, value->device->perm_rank);
    return true;
}

/* ---- two operands ---- */

/* A constant beside turned data: the reference leaves it as it is, and the chip then adds channels to columns (E9). One number
 * fits any order. */
static bool turn_constant(Lowering *lowering, Node *node, int index, const int *perm, int rank, Error *error)
{
    if (perm_is_identity(perm, rank) || tensor_count(node->inputs[index]->constant) == 1 || node->inputs[index]->shape.rank > rank)
        return true;
    Value *value = lower_own_constant(lowering, node, index, error);
    if (!value) return false;
    Shape shape = {.rank = rank};
    int missing = rank - value->shape.rank;
    for (int i = 0; i < rank; i++)
        shape.dims[i] = i < missing ? 1 : value->shape.dims[i - missing];
    Tensor *padded = tensor_view(value->constant, &shape, error);
    Tensor *turned = padded ? tensor_transpose(padded, perm, error) : NULL;
    tensor_release(padded);
    if (!turned) return false;
    value_set_constant(lowering->graph, value, turned);
    tensor_release(turned);
    return true;
}

static bool layout_with_constant(Lowering *lowering, Node *node, int constant, Error *error)
{
    Value *data = input_at(node, 1 - constant);
    const DeviceValue *device = data ? data->device : NULL;
    if (!device || !device->perm_known || !node->outputs[0] || device->perm_rank != node->outputs[0]->shape.rank)
        return restore(lowering, node, error);
    set_outputs(node, device->perm, device->perm_rank);
    return turn_constant(lowering, node, constant, device->perm, device->perm_rank, error);
}

static bool layout_add(Lowering *lowering, Node *node, Error *error)
{
    Value *a = input_at(node, 0), *b = input_at(node, 1);
    if (b && b->constant) return layout_with_constant(lowering, node, 1, error);
    if (a && a->constant) return layout_with_constant(lowering, node, 0, error);
    if (!a || !b || !node->outputs[0]) return restore(lowering, node, error);
    settle_identity(a);
    settle_identity(b);
    const DeviceValue *p = a->device, *q = b->device;
    int rank = p->perm_rank, target[ESPQ_MAX_RANK];
    if (rank != q->perm_rank) return restore(lowering, node, error);
    bool last_p = perm_is_channels_last(p->perm, rank), last_q = perm_is_channels_last(q->perm, rank);
    bool plain_p = perm_is_identity(p->perm, rank), plain_q = perm_is_identity(q->perm, rank);
    bool takes_q = last_p != last_q ? last_q : plain_p && !plain_q;
    memcpy(target, takes_q ? q->perm : p->perm, sizeof target);
    if (!bring(lowering, node, 0, target, rank, error) || !bring(lowering, node, 1, target, rank, error)) return false;
    set_outputs(node, target, rank);
    return true;
}

/* ---- along an axis ---- */

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The axes of a reduction as they count in turned data. */
static bool turn_axes(Lowering *lowering, Node *node, const DeviceValue *device, Error *error)
{
    Value *value = lower_own_constant(lowering, node, 1, error);
    if (!value) return false;
    int count = (int)tensor_count(value->constant);
    int64_t axes[ESPQ_MAX_RANK];
    if (count > ESPQ_MAX_RANK) return true;
    for (int i = 0; i < count; i++) {
        int64_t axis = tensor_get_integer(value->constant, i);
        axes[i] = perm_position(device->perm, device->perm_rank, (int)(axis < 0 ? axis + device->perm_rank : axis));
    }
    qsort(axes, (size_t)count, sizeof axes[0], by_size);
    Tensor *turned = tensor_from_integers(axes, count, error);
    if (!turned) return false;
    value_set_constant(lowering->graph, value, turned);
    tensor_release(turned);
    return true;
}

/* What is left of a perm when dimensions vanish (keepdims 0). The rule is the reference's: positions are removed, numbers above
 * the removed one move down. */
static void shrink_perm(const Tensor *axes, int *perm, int *rank)
{
    int64_t sorted[ESPQ_MAX_RANK];
    int count = axes ? (int)tensor_count(axes) : 0;
    for (int i = 0; i < count && i < ESPQ_MAX_RANK; i++)
        sorted[i] = tensor_get_integer(axes, i);
    if (count) qsort(sorted, (size_t)count, sizeof sorted[0], by_size);
    for (int i = count - 1; i >= 0; i--) {
        int position = (int)(sorted[i] < 0 ? sorted[i] + *rank : sorted[i]);
        if (position < 0 || position >= *rank) continue;
        int removed = perm[position];
        memmove(&perm[position], &perm[position + 1], sizeof *perm * (size_t)(*rank - position - 1));
        (*rank)--;
        for (int k = 0; k < *rank; k++)
            perm[k] -= perm[k] > removed;
    }
    if (*rank && count) return;
    *rank = 1;
    perm[0] = 0;
}

static bool layout_axis(Lowering *lowering, Node *node, Error *error)
{
    Value *data = input_at(node, 0), *axes = input_at(node, 1);
    if (!data) return true;
    settle_identity(data);
    const DeviceValue *device = data->device;
    bool reduces = node->op && node->op->becomes_input && strcmp(node->op->becomes_input, "axes") == 0;
    bool listed = reduces && axes && axes->constant && tensor_count(axes->constant) > 0;
    if (!perm_is_identity(device->perm, device->perm_rank)) {
        if (listed && !turn_axes(lowering, node, device, error)) return false;
        if (!reduces) {
            int64_t axis = node_integer(node, "axis", node_default_integer(node, "axis", -1));
            if (axis < 0) axis += device->perm_rank;
            if (!node_set_integer(lowering->graph, node, "axis", perm_position(device->perm, device->perm_rank, (int)axis)))
                return fail_memory(error, sizeof axis);
        }
    }
    int perm[ESPQ_MAX_RANK], rank = device->perm_rank;
    memcpy(perm, device->perm, sizeof perm);
    bool all = !listed && !node_integer(node, "noop_with_empty_axes", 0);
    if (reduces && !node_integer(node, "keepdims", 1) && (listed || all))
        shrink_perm(listed ? node->inputs[1]->constant : NULL, perm, &rank);
    set_outputs(node, perm, rank);
    return true;
}

static bool layout_concat(Lowering *lowering, Node *node, Error *error)
{
    const DeviceValue *first = node->input_count && node->inputs[0] ? node->inputs[0]->device : NULL;
    bool same = first && first->perm_known;
    for (int i = 1; same && i < node->input_count; i++) {
        const DeviceValue *other = node->inputs[i] ? node->inputs[i]->device : NULL;
        same = other && other->perm_known && other->perm_rank == first->perm_rank &&
               memcmp(other->perm, first->perm, sizeof *first->perm * (size_t)first->perm_rank) == 0;
    }
    if (!same) return restore(lowering, node, error);
    int64_t axis = node_integer(node, "axis", 0);
    if (axis < 0) axis += first->perm_rank;
    if (!node_set_integer(lowering->graph, node, "axis", perm_position(first->perm, first->perm_rank, (int)axis)))
        return fail_memory(error, sizeof axis);
    set_outputs(node, first->perm, first->perm_rank);
    return true;
}

/* ---- Resize: its lists stay in the model's order, of full rank ---- */

static bool replace_constant(Lowering *lowering, Node *node, int index, Dtype dtype, const double *numbers, int count, Error *error)
{
    Value *value = lower_own_constant(lowering, node, index, error);
    Shape shape = {.rank = 1, .dims = {count}};
    Tensor *made = value ? tensor_new(dtype, &shape, error) : NULL;
    if (!made) return false;
    for (int i = 0; i < count; i++)
        tensor_set(made, i, numbers[i]);
    value_set_constant(lowering->graph, value, made);
    tensor_release(made);
    return true;
}

static const Tensor *filled_constant(const Node *node, int index)
{
    const Value *value = input_at(node, index);
    return value && value->constant && tensor_count(value->constant) > 0 ? value->constant : NULL;
}

/* Lists that name some axes only (attribute axes) become full ones. */
static bool expand_lists(Lowering *lowering, Node *node, const int64_t *axes, int count, Error *error)
{
    const Shape *shape = &node->inputs[0]->shape;
    int rank = shape->rank;
    for (int input = 1; input < 4; input++) {
        const Tensor *given = filled_constant(node, input);
        double full[2 * ESPQ_MAX_RANK];
        int length = input == 1 ? 2 * rank : rank;
        if (!given || tensor_count(given) != (input == 1 ? 2 : 1) * count) continue;
        for (int i = 0; i < length; i++)
            full[i] = input == 3 ? (double)shape->dims[i] : input == 2 ? 1 : i >= rank;
        for (int i = 0; i < count; i++) {
            int axis = (int)(axes[i] < 0 ? axes[i] + rank : axes[i]);
            if (axis < 0 || axis >= rank) return true;
            full[axis] = tensor_get(given, i);
            if (input == 1) full[axis + rank] = tensor_get(given, i + count);
        }
        if (!replace_constant(lowering, node, input, input == 3 ? DTYPE_INT64 : given->dtype, full, length, error)) return false;
    }
    return true;
}

/* Sizes rule: factors follow from them, and with an aspect policy one factor for all axes. */
static bool settle_sizes(Lowering *lowering, Node *node, const int64_t *axes, int count, Error *error)
{
    const Shape *shape = &node->inputs[0]->shape;
    const Tensor *given = filled_constant(node, 3);
    if (!given || tensor_count(given) != shape->rank) return true;
    const char *policy = node_string(node, "keep_aspect_ratio_policy", "stretch");
    double sizes[ESPQ_MAX_RANK], factors[ESPQ_MAX_RANK];
    for (int i = 0; i < shape->rank; i++) {
        sizes[i] = (double)tensor_get_integer(given, i);
        factors[i] = sizes[i] / (double)shape->dims[i];
    }
    bool smaller = strcmp(policy, "not_smaller") == 0;
    if (smaller || strcmp(policy, "not_larger") == 0) {
        double common = 0;
        for (int i = 0; i < count; i++) {
            double factor = factors[axes[i] < 0 ? axes[i] + shape->rank : axes[i]];
            common = i == 0 || (smaller ? factor > common : factor < common) ? factor : common;
        }
        for (int i = 0; i < shape->rank; i++) {
            bool named = false;
            for (int k = 0; k < count; k++)
                named = named || (axes[k] < 0 ? axes[k] + shape->rank : axes[k]) == i;
            factors[i] = named ? common : 1;
            sizes[i] = named ? (double)(int64_t)(common * (double)shape->dims[i] + 0.5) : (double)shape->dims[i];
        }
    }
    const Value *scales = input_at(node, 2);
    if (scales && scales->constant && !replace_constant(lowering, node, 2, DTYPE_FLOAT32, factors, shape->rank, error)) return false;
    return replace_constant(lowering, node, 3, DTYPE_INT64, sizes, shape->rank, error);
}

static bool layout_resize(Lowering *lowering, Node *node, Error *error)
{
    int64_t axes[ESPQ_MAX_RANK];
    int target[ESPQ_MAX_RANK], count = node_integers(node, "axes", axes, ESPQ_MAX_RANK);
    Value *data = input_at(node, 0);
    if (!data) return true;
    if (count >= 0 && !expand_lists(lowering, node, axes, count, error)) return false;
    if (count < 0) {
        count = data->shape.rank;
        for (int i = 0; i < count; i++)
            axes[i] = i;
    }
    if (!settle_sizes(lowering, node, axes, count, error)) return false;
    perm_channels_last(data->shape.rank, target);
    if (!bring(lowering, node, 0, target, data->shape.rank, error)) return false;
    for (int i = 1; i < node->input_count; i++) {
        if (activation_at(node, i)) settle_identity(node->inputs[i]);
    }
    set_outputs_channels_last(node);
    return true;
}

static bool layout_node(Lowering *lowering, Node *node, Error *error)
{
    /* A type that the reference's pass does not know stops its export (E7); here its inputs are turned back, as for the others. */
    switch (node->op ? node->op->layout : LAYOUT_NONE) {
    case LAYOUT_CONV: return layout_conv(lowering, node, error);
    case LAYOUT_PASSIVE: return layout_passive(lowering, node, error);
    case LAYOUT_ADD: return layout_add(lowering, node, error);
    case LAYOUT_AXIS: return layout_axis(lowering, node, error);
    case LAYOUT_CONCAT: return layout_concat(lowering, node, error);
    case LAYOUT_RESIZE: return layout_resize(lowering, node, error);
    case LAYOUT_NONE:
    case LAYOUT_OTHER: break;
    }
    return restore(lowering, node, error);
}

bool lower_layout(Lowering *lowering, Error *error)
{
    if (!lower_walk(lowering, layout_node, error)) return false;
    for (int i = 0; i < lowering->graph->value_count; i++) {
        Value *value = lowering->graph->values[i];
        if (!value->constant && value->shaped) settle_identity(value); /* graph inputs that nobody reads */
    }
    return true;
}
