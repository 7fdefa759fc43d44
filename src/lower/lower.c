/* The road from a quantized graph to a device graph, and the helpers of its steps. */
#include "lower/lower.h"

#include <string.h>

#include "base/memory.h"

typedef struct StepRow {
    const char *name;
    LowerStep run;
} StepRow;

/* Order in time (EXPORT §1.3): every step walks the graph as the one before it left it. */
static const StepRow steps[] = {
    {"refuse", lower_refuse},
    {"inputs", lower_inputs},
    {"repair", lower_repair},
    {"relu", lower_fuse_relu},
    {"matmul operand", lower_matmul_operand},
    {"layout", lower_layout},
    {"transposes around activations", lower_transposes_around},
    {"transposes", lower_transposes},
    {"quantize", lower_quantize},
    {"requantize", lower_requantize},
    {"dequantize", lower_dequantize},
    {"unary tables", lower_unary_tables},
    {"quant types", lower_quant_types},
    {"integers", lower_integers},
    {"pack", lower_pack},
    {"gates", lower_gates},
    {"tables", lower_tables},
    {"describe", lower_describe},
    {"share", lower_share},
};

Graph *lower_graph(const Graph *graph, const LowerOptions *options, Error *error)
{
    Lowering lowering = {.graph = graph_copy(graph, error), .options = options};
    bool ok = lowering.graph != NULL;
    if (ok) text_free(&lowering.graph->notes); /* what was said before is not said again */
    for (int i = 0; ok && i < lowering.graph->value_count; i++)
        ok = lower_give_device(&lowering, lowering.graph->values[i], error);
    for (size_t i = 0; ok && i < sizeof steps / sizeof steps[0]; i++) {
        if (steps[i].run(&lowering, error)) continue;
        ok = false;
        error_within(error, steps[i].name);
    }
    if (ok) return lowering.graph;
    graph_free(lowering.graph);
    return NULL;
}

bool lower_walk(Lowering *lowering, bool (*visit)(Lowering *lowering, Node *node, Error *error), Error *error)
{
    Node **order;
    int count = lowering->graph->node_count;
    if (!graph_sort(lowering->graph, &order, error)) return false;
    bool ok = true;
    for (int i = 0; ok && i < count; i++)
        ok = order[i]->removed || visit(lowering, order[i], error);
    memory_free(order);
    return ok;
}

/* ---- making ---- */

bool lower_give_device(Lowering *lowering, Value *value, Error *error)
{
    value->device = arena_new(&lowering->graph->arena, sizeof *value->device);
    if (!value->device) return fail_memory(error, sizeof *value->device);
    value->device->layout = value->constant ? "UNK" : NULL;
    return true;
}

Node *lower_add_node(Lowering *lowering, const char *type, const Platform *platform, Error *error)
{
    Node *node = graph_add_node(lowering->graph, type, NULL, error);
    if (node) node->platform = platform;
    return node;
}

Value *lower_add_value(Lowering *lowering, Dtype dtype, const Shape *shape, Error *error)
{
    Value *value = graph_add_value(lowering->graph, NULL, error);
    if (!value || !lower_give_device(lowering, value, error)) return NULL;
    value->dtype = dtype;
    value->shape = *shape;
    value->shaped = true;
    return value;
}

Value *lower_add_constant(Lowering *lowering, Tensor *constant, Error *error)
{
    if (!constant) return NULL;
    Value *value = graph_add_constant(lowering->graph, NULL, constant, error);
    tensor_release(constant);
    return value && lower_give_device(lowering, value, error) ? value : NULL;
}

Value *lower_add_integers(Lowering *lowering, const int64_t *numbers, int count, Error *error)
{
    return lower_add_constant(lowering, tensor_from_integers(numbers, count, error), error);
}

Value *lower_own_constant(Lowering *lowering, Node *node, int index, Error *error)
{
    Value *value = node->inputs[index];
    if (value->use_count < 2) return value;
    Value *own = lower_add_constant(lowering, tensor_retain(value->constant), error);
    return own && node_set_input(lowering->graph, node, index, own, error) ? own : NULL;
}

void lower_copy_slot(Slot *to, const Slot *like)
{
    Slot *root = slot_root((Slot *)like);
    Slot kept = *to;
    *to = *like;
    to->node = kept.node;
    to->is_output = kept.is_output;
    to->index = kept.index;
    to->is_parameter = kept.is_parameter;
    to->parent = root;
}

void lower_free_slot(Slot *to, const Slot *like)
{
    lower_copy_slot(to, like);
    to->state = SLOT_FP32;
}

bool lower_share_slots(Lowering *lowering, Node *node, const Slot *like, Error *error)
{
    if (!node_make_slots(lowering->graph, node, error)) return false;
    for (int i = 0; i < node->input_count; i++) {
        bool index_input = node->inputs[i] && node->inputs[i]->constant; /* shapes, starts, axes: integers of their own */
        if (index_input)
            lower_free_slot(node->input_slots[i], like);
        else
            lower_copy_slot(node->input_slots[i], like);
    }
    for (int i = 0; i < node->output_count; i++)
        lower_copy_slot(node->output_slots[i], like);
    return true;
}

bool lower_insert_transpose(Lowering *lowering, Node *node, int index, const int *perm, int rank, Error *error)
{
    Graph *graph = lowering->graph;
    Value *value = node->inputs[index];
    Node *transpose = lower_add_node(lowering, "Transpose", node->quantized ? node->platform : NULL, error);
    if (!transpose) return false;
    int64_t axes[ESPQ_MAX_RANK];
    Shape shape = {.rank = rank}, from = lower_setting(lowering)->switches.exact_shapes ? device_stored_shape(value) : value->shape;
    for (int i = 0; i < rank; i++) {
        axes[i] = perm[i];
        shape.dims[i] = from.dims[perm[i]]; /* the reference permutes the original shape, whatever the stored one is (E5) */
    }
    if (!node_set_integers(graph, transpose, "perm", axes, rank)) return fail_memory(error, sizeof axes);
    Value *made = lower_add_value(lowering, value->dtype, &shape, error);
    if (!made || !graph_insert_before_use(graph, transpose, value, (Use){node, index}, made, error)) return false;
    int identity[ESPQ_MAX_RANK];
    perm_identity(identity, rank);
    device_set_perm(made, identity, rank);
    return !node->quantized || lower_share_slots(lowering, transpose, node->input_slots[index], error);
}

/* ---- permutations ---- */

void perm_identity(int *perm, int rank)
{
    for (int i = 0; i < rank; i++)
        perm[i] = i;
}

void perm_compose(const int *p, const int *q, int rank, int *out)
{
    int composed[ESPQ_MAX_RANK];
    for (int i = 0; i < rank; i++)
        composed[i] = p[q[i] < 0 ? q[i] + rank : q[i]];
    memcpy(out, composed, sizeof *out * (size_t)rank);
}

void perm_inverse(const int *p, int rank, int *out)
{
    for (int i = 0; i < rank; i++)
        out[p[i]] = i;
}

bool perm_is_identity(const int *perm, int rank)
{
    for (int i = 0; i < rank; i++) {
        if (perm[i] != i) return false;
    }
    return true;
}

int perm_position(const int *perm, int rank, int axis)
{
    for (int i = 0; i < rank; i++) {
        if (perm[i] == axis) return i;
    }
    return axis;
}

void perm_channels_last(int rank, int *perm)
{
    perm[0] = 0;
    for (int i = 1; i + 1 < rank; i++)
        perm[i] = i + 1;
    perm[rank - 1] = 1;
}

bool perm_is_channels_last(const int *perm, int rank)
{
    int wanted[ESPQ_MAX_RANK];
    if (rank != 3 && rank != 4) return false;
    perm_channels_last(rank, wanted);
    return memcmp(perm, wanted, sizeof *perm * (size_t)rank) == 0;
}

void device_set_perm(Value *value, const int *perm, int rank)
{
    DeviceValue *device = value->device;
    device->perm_known = true;
    device->perm_rank = rank;
    memmove(device->perm, perm, sizeof *perm * (size_t)rank);
}

Shape device_stored_shape(const Value *value)
{
    const DeviceValue *device = value->device;
    Shape stored = value->shape;
    if (value->constant || !device->perm_known) return stored;
    stored.rank = device->perm_rank;
    for (int i = 0; i < stored.rank; i++) {
        /* A tensor reduced to nothing has the perm [0]: the chip knows no tensor without dimensions. */
        stored.dims[i] = device->perm[i] < value->shape.rank ? value->shape.dims[device->perm[i]] : 1;
    }
    return stored;
}

/* ---- asking ---- */

bool slot_exportable(Slot *slot)
{
    switch (slot->state) {
    case SLOT_ACTIVATED:
    case SLOT_PASSIVE:
    case SLOT_BAKED:
    case SLOT_PASSIVE_BAKED:
    case SLOT_OVERLAPPED: return slot->visibility != VISIBILITY_INTERNAL && slot_exponent_count(slot) > 0;
    case SLOT_INITIAL:
    case SLOT_PASSIVE_INIT:
    case SLOT_FP32: break;
    }
    return false;
}

bool node_is(const Node *node, const char *type)
{
    return strcmp(node->type, type) == 0;
}

bool node_is_conversion(const Node *node)
{
    return node_is(node, "QuantizeLinear") || node_is(node, "RequantizeLinear") || node_is(node, "DequantizeLinear");
}

int node_default_integer(const Node *node, const char *name, int otherwise)
{
    for (int i = 0; node->op && i < (int)(sizeof node->op->attributes / sizeof node->op->attributes[0]) && node->op->attributes[i].name;
         i++) {
        if (strcmp(node->op->attributes[i].name, name) == 0) return (int)node->op->attributes[i].number;
    }
    return otherwise;
}
