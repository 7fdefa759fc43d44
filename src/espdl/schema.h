/* Slots of the .espdl schema (EXPORT §10), and the numbers of its enums. */
#ifndef ESPQ_ESPDL_SCHEMA_H
#define ESPQ_ESPDL_SCHEMA_H

#include "tensor/dtype.h"

enum { MODEL_IR_VERSION = 0, MODEL_OPSET_IMPORT = 1, MODEL_VERSION = 5, MODEL_GRAPH = 7, MODEL_METADATA = 8 };
enum {
    GRAPH_NODE = 0,
    GRAPH_NAME = 1,
    GRAPH_INITIALIZER = 2,
    GRAPH_INPUT = 4,
    GRAPH_OUTPUT = 5,
    GRAPH_VALUE_INFO = 6,
    GRAPH_TEST_INPUTS = 8,
    GRAPH_TEST_OUTPUTS = 9
};
enum { NODE_INPUT = 0, NODE_OUTPUT = 1, NODE_NAME = 2, NODE_TYPE = 3, NODE_DOMAIN = 4, NODE_ATTRIBUTE = 5 };
enum {
    ATTRIBUTE_SLOT_NAME = 0,
    ATTRIBUTE_SLOT_TYPE = 3,
    ATTRIBUTE_SLOT_F = 4,
    ATTRIBUTE_SLOT_I = 5,
    ATTRIBUTE_SLOT_S = 6,
    ATTRIBUTE_SLOT_T = 7,
    ATTRIBUTE_SLOT_FLOATS = 10,
    ATTRIBUTE_SLOT_INTS = 11,
    ATTRIBUTE_SLOT_STRINGS = 12
};
enum {
    TENSOR_DIMS = 0,
    TENSOR_TYPE_SLOT = 1,
    TENSOR_FLOAT_DATA = 2,
    TENSOR_INT32_DATA = 3,
    TENSOR_STRING_DATA = 4,
    TENSOR_INT64_DATA = 5,
    TENSOR_NAME = 6,
    TENSOR_DOC = 7,
    TENSOR_RAW_DATA = 8,
    TENSOR_DOUBLE_DATA = 11,
    TENSOR_UINT64_DATA = 12,
    TENSOR_EXPONENTS = 13
};
enum { VALUE_NAME = 0, VALUE_TYPE = 1, VALUE_EXPONENTS = 3 };
enum { TYPE_TAG = 0, TYPE_VALUE = 1, TYPE_TAG_TENSOR = 1 };
enum { TYPED_ELEMENT = 0, TYPED_SHAPE = 1, SHAPE_DIM = 0, DIMENSION_VALUE = 0 };
enum { DIM_KIND = 0, DIM_NUMBER = 1, DIM_KIND_NUMBER = 1 };
enum { PAIR_KEY = 0, PAIR_VALUE = 1 };

enum { ESPDL_FLOAT = 1, ESPDL_INT = 2, ESPDL_STRING = 3, ESPDL_TENSOR = 4, ESPDL_FLOATS = 6, ESPDL_INTS = 7, ESPDL_STRINGS = 8 };

/* Bytes of an element, 0 for a type that espq does not read; the types have ONNX's numbers. */
static inline size_t espdl_element_bytes(int data_type)
{
    Dtype dtype = dtype_from_onnx(data_type);
    return dtype == DTYPE_NONE ? 0 : dtype_bytes(dtype);
}

#endif
