/* What the files of this room share while one model is read. Nothing here is seen outside. */
#ifndef ESPQ_ONNX_READ_H
#define ESPQ_ONNX_READ_H

#include "onnx/onnx.h"

#include "onnx.pb-c.h"

#define ONNX_OPSET_LEAST 7
#define ONNX_OPSET_MOST 21
/* Elements of one tensor: far above any model for a microcontroller, far below what overflows an int64 of bytes. */
#define ONNX_MOST_ELEMENTS ((int64_t)1 << 40)

/* TensorProto.DataType and AttributeProto.AttributeType, as far as they are named in code. */
enum { ONNX_FLOAT = 1, ONNX_STRING = 8, ONNX_FLOAT16 = 10, ONNX_DOUBLE = 11, ONNX_BFLOAT16 = 16 };
enum {
    ONNX_ATTRIBUTE_FLOAT = 1,
    ONNX_ATTRIBUTE_INT,
    ONNX_ATTRIBUTE_STRING,
    ONNX_ATTRIBUTE_TENSOR,
    ONNX_ATTRIBUTE_GRAPH,
    ONNX_ATTRIBUTE_FLOATS,
    ONNX_ATTRIBUTE_INTS,
    ONNX_ATTRIBUTE_STRINGS,
    ONNX_ATTRIBUTE_TENSORS,
    ONNX_ATTRIBUTE_GRAPHS
};

typedef struct Reading {
    const Onnx__ModelProto *model;
    const char *path; /* of the model, for messages and external data; NULL: from memory only */
    Graph *graph;
    Map initializers; /* name → Onnx__TensorProto */
    Text problems;    /* what is refused, one line each: the user hears of all at once */
    int problem_count;
    char shown[512]; /* path or "model", escaped */
} Reading;

/* Note one thing that is refused; the caller goes on looking. */
void reading_problem(Reading *reading, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Is text valid UTF-8? */
bool onnx_is_utf8(const char *text, size_t length);

/* The tensor a TensorProto says, floats of any width as float32. `what` names it in errors ("initializer w"). Every size is checked
 * against the data that are there before anything is allocated. */
Tensor *onnx_read_tensor(Reading *reading, const Onnx__TensorProto *proto, const char *what, Error *error);
const char *onnx_dtype_label(int number); /* "FLOAT16", for messages */

/* Raw bytes of external data, straight into out; checks location, offset and length. Nothing outside the model's folder is opened. */
bool onnx_read_external(Reading *reading, const Onnx__TensorProto *proto, const char *what, size_t bytes, void *out, Error *error);

/* All attributes of a node. Kinds that espq cannot hold are noted as problems. */
bool onnx_read_attributes(Reading *reading, Node *node, const Onnx__NodeProto *proto, Error *error);
/* What a Constant node holds, in any of its forms. */
Tensor *onnx_read_constant(Reading *reading, const Onnx__NodeProto *proto, const char *name, Error *error);

/* Graph inputs: shapes and dtypes, symbolic dimensions fixed by options. */
bool onnx_read_inputs(Reading *reading, const OnnxOptions *options, Error *error);

/* One spelling for all opsets; after all links are made. */
bool onnx_make_canonical(Reading *reading, Error *error);

#endif
