/* What many rows share: checking inputs, setting outputs, constant integers, axes, broadcasting, cost. */
#ifndef ESPQ_OPS_COMMON_H
#define ESPQ_OPS_COMMON_H

#include "graph/operator.h"

/* Elementwise work is handed to threads in pieces of at least this many elements. */
#define OPS_GRAIN 16384

/* ---- messages ---- */

/* fail() with the node as place; returns false. */
bool fail_node(Error *error, const Node *node, const char *cure, const char *what, ...) __attribute__((format(printf, 4, 5)));

/* ---- inputs and outputs in infer ---- */

Value *input_value(const Node *node, int index); /* NULL: absent, or left out */
static inline bool has_input(const Node *node, int index)
{
    return input_value(node, index) != NULL;
}

/* Shape of an input that must be there. Fails when it is absent or not known. */
bool input_shape(const Node *node, int index, Shape *shape, Error *error);

/* Input must be float32 (inputs absent or of unknown type pass). */
bool require_float32(const Node *node, int index, Error *error);

/* Rank of a shape must lie in [least, most]; `what` names it ("input", "weight"). */
bool require_rank(const Node *node, const Shape *shape, int least, int most, const char *what, Error *error);

/* Dtype and shape of an output; one that is left out is skipped. */
void set_output(Node *node, int index, Dtype dtype, const Shape *shape);

/* Ready-made infer columns. */
bool infer_same_shape(Graph *graph, Node *node, Error *error);       /* output 0 = dtype and shape of input 0 */
bool infer_same_shape_float(Graph *graph, Node *node, Error *error); /* the same, float32 only */
bool infer_broadcast(Graph *graph, Node *node, Error *error);        /* all inputs broadcast; one dtype, the output's */
bool infer_broadcast_bool(Graph *graph, Node *node, Error *error);   /* the same, output bool */

/* ---- constants and attributes ---- */

/* An integer input that must be constant: at most `capacity` values. *count = -1 when the input is absent. */
bool input_integers(const Node *node, int index, int64_t *out, int capacity, int *count, Error *error);
/* Axes given as input `index` or else as attribute "axes"; normalised, in the order given. *count = -1 when neither is there. */
bool input_or_attribute_axes(const Node *node, int index, int rank, int *axes, int *count, Error *error);
bool normalize_axis(const Node *node, int64_t axis, int rank, int *out, Error *error);
/* A whole list attribute of exactly `count` integers, or `otherwise` repeated when it is absent; a list of another length fails. */
bool attribute_integers(const Node *node, const char *name, int64_t otherwise, int64_t *out, int count, Error *error);

/* Does this run follow the chip (and the reference) where they part from ONNX (QUANT D19)? In the reference's mode always;
 * else where a quantized node is simulated: the chip knows no other way, and the figures must say so. */
bool follows_chip(const Prepare *prepare);

/* ---- walking ---- */

/* A tensor seen along one axis: [outer][length][inner]. */
typedef struct AxisView {
    int64_t outer, length, inner;
} AxisView;
AxisView axis_view(const Shape *shape, int axis);

/* Element strides of a contiguous `from` walked in the index space of `to` (right-aligned; 0 where it is broadcast). */
void broadcast_strides(const Shape *from, const Shape *to, int64_t strides[ESPQ_MAX_RANK]);
void contiguous_strides(const Shape *shape, int64_t strides[ESPQ_MAX_RANK]);
/* Write `from`, broadcast to the shape `to`, in order. */
void broadcast_floats(const float *from, const Shape *from_shape, const Shape *to_shape, float *to);

/* Scratch memory in pieces: the offset of the next `bytes`, 64-byte aligned. */
size_t scratch_add(Prepare *prepare, size_t bytes);

/* Ready-made run: bytes of input 0 to output 0 (Reshape, Identity, …). Inputs behind the first are not looked at. */
void run_copy(const Run *run);

/* ---- cost ---- */

int64_t parameter_bytes(const Node *node);           /* of the float constants, one byte an element at 8 bits: counted as elements */
void cost_elementwise(const Node *node, Cost *cost); /* no products, parameters only */

#endif
