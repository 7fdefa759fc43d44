/* Inside of the room: what modules ask of the inputs and outputs of a node, with the errors that go with it. */
#ifndef ESPQ_CHIP_ENDS_H
#define ESPQ_CHIP_ENDS_H

#include "chip/module.h"

/* `return refuse(node, error, cure, "…", …);` names the node. */
#define refuse(node_, error, cure, ...) fail(error, node_where((node_)->node, (char[256]){0}), cure, __VA_ARGS__)

static inline bool has_input(const ChipNode *node, int index)
{
    return index < node->input_count && node->inputs[index].value;
}
static inline bool has_output(const ChipNode *node, int index)
{
    return index < node->output_count && node->outputs[index].value;
}
static inline int64_t end_count(const ChipEnd *end)
{
    return shape_count(&end->shape);
}
static inline size_t end_bytes(const ChipEnd *end)
{
    return (size_t)end_count(end) * dtype_bytes(end->dtype);
}

/* The first `inputs` inputs and the first `outputs` outputs are there. */
bool needs(const ChipNode *node, int inputs, int outputs, Error *error);
/* What the attribute quant_type says the kernels of this node read and write. */
static inline Dtype kernel_type(const ChipNode *node)
{
    return node->bits == 8 ? DTYPE_INT8 : node->bits == 16 ? DTYPE_INT16 : DTYPE_FLOAT32;
}
/* This end holds elements of that type; `name` of it for the message: "input 0". */
bool needs_kernel_type(const ChipNode *node, const ChipEnd *end, const char *name, Error *error);
/* Input and output hold elements of one type: what only moves data would misread another. */
bool needs_same_type(const ChipNode *node, int input, int output, Error *error);
/* The numbers of a constant input of type int32 or int64, at most `capacity`. */
bool needs_numbers(const ChipNode *node, int input, int64_t *numbers, int capacity, int *count, Error *error);
/* -rank … rank-1 to 0 … rank-1. */
bool needs_axis(const ChipNode *node, int64_t axis, int rank, int *out, Error *error);

/* Product of the dimensions begin … end-1. */
static inline int64_t dims_product(const Shape *shape, int begin, int end)
{
    int64_t product = 1;
    for (int axis = begin; axis < end; axis++)
        product *= shape->dims[axis];
    return product;
}

#endif
