/* Inside of the room: the element type that a node's width asks for. */
#ifndef ESPQ_CHIP_TYPES_H
#define ESPQ_CHIP_TYPES_H

#include "chip/ends.h"

static inline Dtype node_dtype(const ChipNode *node)
{
    return node->bits == 8 ? DTYPE_INT8 : node->bits == 16 ? DTYPE_INT16 : DTYPE_FLOAT32;
}

/* `end` holds elements of `dtype`: the module takes its memory for that. */
static inline bool needs_dtype(const ChipNode *node, const ChipEnd *end, Dtype dtype, Error *error)
{
    if (end->dtype == dtype) return true;
    return refuse(node, error, "put a Quantize-, Dequantize- or RequantizeLinear between, or give both one width",
                  "%s is %s, a node of %s reads and writes %s there: %s", end->value ? end->value->name : "an end", dtype_name(end->dtype),
                  node->bits == 8    ? "S8"
                  : node->bits == 16 ? "S16"
                                     : "F32",
                  dtype_name(dtype), "the chip would take its memory for another type");
}

/* Input 0 and output 0 are there and hold what the width says. */
static inline bool needs_one_type(const ChipNode *node, Error *error)
{
    return needs(node, 1, 1, error) && needs_dtype(node, &node->inputs[0], node_dtype(node), error) &&
           needs_dtype(node, &node->outputs[0], node_dtype(node), error);
}

#endif
