/* The second operand of a product of two activations: ordinary operations bring it into the order of a packed 1x1 filter,
 * because the chip multiplies with filters only (EXPORT §2.4). */
#include "lower/lower.h"

typedef struct Chain { /* the operand on its way: the value so far, and the slot that all of it shares */
    Lowering *lowering;
    const Platform *platform;
    const Slot *slot;
    Error *error;
    Value *value; /* NULL after an error */
} Chain;

enum { CHAIN_INPUTS = 4 };

/* One operation behind chain->value. constants: lists of integers, made behind the output. */
static Node *append(Chain *chain, const char *type, const Shape *shape, const int64_t *const *constants, int constant_count, int length)
{
    if (!chain->value) return NULL;
    Lowering *lowering = chain->lowering;
    Node *node = lower_add_node(lowering, type, chain->platform, chain->error);
    Value *made = node ? lower_add_value(lowering, chain->value->dtype, shape, chain->error) : NULL;
    bool ok = made && node_add_input(lowering->graph, node, chain->value, chain->error) &&
              node_add_output(lowering->graph, node, made, chain->error);
    for (int i = 0; ok && i < constant_count; i++) {
        Value *constant = lower_add_integers(lowering, constants[i], length, chain->error);
        ok = constant && node_add_input(lowering->graph, node, constant, chain->error);
    }
    ok = ok && lower_share_slots(lowering, node, chain->slot, chain->error);
    chain->value = ok ? made : NULL;
    return ok ? node : NULL;
}

static void reshape(Chain *chain, const Shape *shape)
{
    Node *node = append(chain, "Reshape", shape, (const int64_t *[]){shape->dims}, 1, shape->rank);
    if (node && !node_set_integer(chain->lowering->graph, node, "allowzero", 0)) chain->value = NULL;
}

static void transpose(Chain *chain, const int *perm, int rank)
{
    if (!chain->value) return;
    Shape shape = {.rank = rank};
    int64_t axes[ESPQ_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        axes[i] = perm[i];
        shape.dims[i] = chain->value->shape.dims[perm[i] < 0 ? perm[i] + rank : perm[i]];
    }
    Node *node = append(chain, "Transpose", &shape, NULL, 0, 0);
    if (node && !node_set_integers(chain->lowering->graph, node, "perm", axes, rank)) chain->value = NULL;
}

/* The last two axes exchanged, named from the end as the reference stores them. */
static void exchange(Chain *chain, int rank)
{
    int perm[ESPQ_MAX_RANK];
    perm_identity(perm, rank);
    perm[rank - 2] = -1;
    perm[rank - 1] = -2;
    transpose(chain, perm, rank);
}

/* Rows begin … end of the axis before the last. */
static void slice_rows(Chain *chain, int64_t begin, int64_t end)
{
    if (!chain->value) return;
    Shape shape = chain->value->shape;
    int rank = shape.rank;
    int64_t starts[ESPQ_MAX_RANK] = {0}, ends[ESPQ_MAX_RANK], axes[ESPQ_MAX_RANK], steps[ESPQ_MAX_RANK];
    for (int i = 0; i < rank; i++) {
        ends[i] = shape.dims[i];
        axes[i] = i;
        steps[i] = 1;
    }
    starts[rank - 2] = begin;
    ends[rank - 2] = end;
    shape.dims[rank - 2] = end - begin;
    Node *node = append(chain, "Slice", &shape, (const int64_t *[]){starts, ends, axes, steps}, CHAIN_INPUTS, rank);
    if (!node) return;
    node->input_slots[0]->state = SLOT_OVERLAPPED;
    node->output_slots[0]->state = SLOT_OVERLAPPED;
}

/* [first…, c, n] with n = k * lanes + rest: the full blocks and the rest go separate ways and are joined again. */
static void blocks_and_rest(Chain *chain, const Shape *original, int64_t lanes)
{
    Lowering *lowering = chain->lowering;
    int rank = original->rank;
    int64_t n = original->dims[rank - 1], full = n / lanes * lanes;
    exchange(chain, rank);
    Value *turned = chain->value;
    slice_rows(chain, 0, full);
    if (!chain->value) return;
    Shape joined = turned->shape, blocks = *original;
    joined.dims[rank - 2] = full;
    blocks.rank = rank + 1;
    blocks.dims[rank - 2] = full / lanes;
    blocks.dims[rank - 1] = lanes;
    blocks.dims[rank] = original->dims[rank - 2];
    reshape(chain, &blocks);
    int perm[ESPQ_MAX_RANK];
    perm_identity(perm, rank + 1);
    perm[rank - 2] = -3;
    perm[rank - 1] = -1;
    perm[rank] = -2;
    transpose(chain, perm, rank + 1);
    reshape(chain, &joined);
    Value *front = chain->value;
    if (!front) return;
    joined.dims[rank - 2] = n;
    Node *concat = append(chain, "Concat", &joined, NULL, 0, 0);
    Value *whole = chain->value;
    chain->value = concat ? turned : NULL;
    slice_rows(chain, full, n);
    Value *rest = chain->value;
    if (!rest || !node_add_input(lowering->graph, concat, rest, chain->error) ||
        !node_set_integer(lowering->graph, concat, "axis", rank - 2)) {
        chain->value = NULL;
        return;
    }
    for (int i = 0; i < 2; i++) {
        lower_copy_slot(concat->input_slots[i], chain->slot);
        concat->input_slots[i]->state = SLOT_PASSIVE;
    }
    chain->value = whole;
    reshape(chain, original);
}

static bool rewrite_operand(Lowering *lowering, Node *node, Error *error)
{
    if (!node->quantized || !node->op || node->op->pack != PACK_MATMUL || node->input_count < 2 || !node->inputs[1] ||
        node->inputs[1]->constant)
        return true;
    const Slot *slot = node->input_slots[1];
    Shape shape = node->inputs[1]->shape;
    int rank = shape.rank;
    if (rank < 2 || rank + 1 > ESPQ_MAX_RANK || (slot->bits != 8 && slot->bits != 16)) return true;
    int64_t lanes = slot->bits == 8 ? 16 : 8, n = shape.dims[rank - 1];
    Chain chain = {lowering, node->platform, slot, error, node->inputs[1]};
    if (node->platform->plain_layout || n < lanes) {
        exchange(&chain, rank);
        reshape(&chain, &shape);
    } else if (n % lanes == 0) {
        Shape blocks = shape;
        int perm[ESPQ_MAX_RANK];
        blocks.rank = rank + 1;
        blocks.dims[rank - 1] = n / lanes;
        blocks.dims[rank] = lanes;
        reshape(&chain, &blocks);
        perm_identity(perm, rank + 1);
        perm[rank - 2] = -2;
        perm[rank - 1] = -3;
        perm[rank] = -1;
        transpose(&chain, perm, rank + 1);
        reshape(&chain, &shape);
    } else {
        blocks_and_rest(&chain, &shape, lanes);
    }
    if (!chain.value) return error->code != ERROR_NONE ? false : fail_memory(error, 64);
    return node_set_input(lowering->graph, node, 1, chain.value, error);
}

bool lower_matmul_operand(Lowering *lowering, Error *error)
{
    return lower_walk(lowering, rewrite_operand, error);
}
