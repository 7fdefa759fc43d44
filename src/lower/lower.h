/* Inside of the room: what the lowering steps share. A step is a file and a row in lower.c; it sees the device graph being made
 * and changes it. Steps ask the columns of a node's row (graph/operator.h); where EXPORT gives a rule to one type by name, the
 * step names it too, at one place. */
#ifndef ESPQ_LOWER_LOWER_H
#define ESPQ_LOWER_LOWER_H

#include "graph/operator.h"
#include "lower/device.h"

/* The parameter whose numbers lie farthest beyond what its exponents reach. */
typedef struct WorstCut {
    const Node *node;
    const Value *value;
    int64_t lost;
    int bits;
    double farthest; /* in multiples of the range */
} WorstCut;

typedef struct Lowering {
    Graph *graph;
    const LowerOptions *options;
    int tables;    /* made so far: the <k> of <Type>_lut_<k> */
    int cut_count; /* parameters of which numbers were cut */
    WorstCut worst_cut;
} Lowering;

typedef bool (*LowerStep)(Lowering *lowering, Error *error);

/* The steps, in order of time (EXPORT §1.3). */
bool lower_refuse(Lowering *lowering, Error *error);            /* refuse.c: all nodes that cannot be exported, in one message */
bool lower_repair(Lowering *lowering, Error *error);            /* repair.c: what the reference leaves wrong (switches) */
bool lower_inputs(Lowering *lowering, Error *error);            /* relu.c: 2.1 attributes that become inputs */
bool lower_fuse_relu(Lowering *lowering, Error *error);         /* relu.c: 2.3 */
bool lower_matmul_operand(Lowering *lowering, Error *error);    /* matmul_operand.c: 2.4 */
bool lower_layout(Lowering *lowering, Error *error);            /* layout.c: 4.1 – 4.7 */
bool lower_transposes_around(Lowering *lowering, Error *error); /* transposes.c: 4.8 */
bool lower_transposes(Lowering *lowering, Error *error);        /* transposes.c: 4.9 */
bool lower_quantize(Lowering *lowering, Error *error);          /* conversions.c: 3.2 */
bool lower_requantize(Lowering *lowering, Error *error);        /* conversions.c: 3.3 */
bool lower_dequantize(Lowering *lowering, Error *error);        /* conversions.c: 3.4 */
bool lower_quant_types(Lowering *lowering, Error *error);       /* integers.c: 3.5 */
bool lower_integers(Lowering *lowering, Error *error);          /* integers.c: 5 */
bool lower_pack(Lowering *lowering, Error *error);              /* pack.c: 6 */
bool lower_gates(Lowering *lowering, Error *error);             /* integers.c: 2.5 */
bool lower_unary_tables(Lowering *lowering, Error *error);      /* table.c: switch unary_as_lut */
bool lower_tables(Lowering *lowering, Error *error);            /* table.c: 7 */
bool lower_describe(Lowering *lowering, Error *error);          /* integers.c: stored shapes and types of all values */
bool lower_share(Lowering *lowering, Error *error);             /* share.c: equal weights are stored once */

/* ---- walking ---- */

/* Call visit for every node in topological order as it is now; nodes made or removed by visits are left out. */
bool lower_walk(Lowering *lowering, bool (*visit)(Lowering *lowering, Node *node, Error *error), Error *error);

/* ---- making ---- */

Node *lower_add_node(Lowering *lowering, const char *type, const Platform *platform, Error *error);
Value *lower_add_value(Lowering *lowering, Dtype dtype, const Shape *shape, Error *error);
Value *lower_add_constant(Lowering *lowering, Tensor *constant, Error *error); /* takes the reference over; NULL constant: NULL */
Value *lower_add_integers(Lowering *lowering, const int64_t *numbers, int count, Error *error);
/* The constant at an input, read by this node alone (a copy is put there when others read it too). */
Value *lower_own_constant(Lowering *lowering, Node *node, int index, Error *error);
bool lower_give_device(Lowering *lowering, Value *value, Error *error);

/* Slots of a node that was put before an end: one a linked end, all at the scheme of `like`. */
bool lower_share_slots(Lowering *lowering, Node *node, const Slot *like, Error *error);
void lower_copy_slot(Slot *to, const Slot *like);
void lower_free_slot(Slot *to, const Slot *like); /* an end of the same width that is never quantized */

/* A plain or quantized Transpose before input `index` of a node (EXPORT §4.3). */
bool lower_insert_transpose(Lowering *lowering, Node *node, int index, const int *perm, int rank, Error *error);

/* ---- permutations (EXPORT §4.1); negative entries count from the end ---- */

void perm_identity(int *perm, int rank);
void perm_compose(const int *p, const int *q, int rank, int *out); /* out[i] = p[q[i]] */
void perm_inverse(const int *p, int rank, int *out);
bool perm_is_identity(const int *perm, int rank);
int perm_position(const int *perm, int rank, int axis);
void perm_channels_last(int rank, int *perm); /* [0, 2, 3, 1] or [0, 2, 1] */
bool perm_is_channels_last(const int *perm, int rank);
void device_set_perm(Value *value, const int *perm, int rank);
Shape device_stored_shape(const Value *value); /* value->shape by its perm */

/* ---- asking ---- */

bool slot_exportable(Slot *slot);          /* EXPORT §5.1 */
bool node_is_conversion(const Node *node); /* QuantizeLinear, RequantizeLinear, DequantizeLinear */
bool node_is(const Node *node, const char *type);
int node_default_integer(const Node *node, const char *name, int otherwise); /* the row's default of an attribute */
static inline const Setting *lower_setting(const Lowering *lowering)
{
    return lowering->options->setting;
}

#endif
