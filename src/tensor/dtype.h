/* Element types, with ONNX's numbers beside them. */
#ifndef ESPQ_TENSOR_DTYPE_H
#define ESPQ_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    DTYPE_NONE, /* not known yet */
    DTYPE_FLOAT32,
    DTYPE_FLOAT64,
    DTYPE_FLOAT16,
    DTYPE_INT8,
    DTYPE_UINT8,
    DTYPE_INT16,
    DTYPE_UINT16,
    DTYPE_INT32,
    DTYPE_UINT32,
    DTYPE_INT64,
    DTYPE_UINT64,
    DTYPE_BOOL,
    DTYPE_COUNT
} Dtype;

typedef struct DtypeRow {
    const char *name; /* as in NumPy: "float32" */
    size_t bytes;
    bool is_float, is_integer, is_signed;
    int onnx;          /* TensorProto.DataType */
    int espdl;         /* TensorDataType of the .espdl schema: the same numbers as ONNX's for these types */
    const char *label; /* as in .info: "FLOAT", "INT8" */
    const char *npy;   /* as in .npy headers: "<f4" */
} DtypeRow;

extern const DtypeRow dtype_rows[DTYPE_COUNT];

static inline size_t dtype_bytes(Dtype dtype)
{
    return dtype_rows[dtype].bytes;
}
static inline const char *dtype_name(Dtype dtype)
{
    return dtype_rows[dtype].name;
}
Dtype dtype_from_name(const char *name); /* DTYPE_NONE when unknown */
Dtype dtype_from_onnx(int number);

#endif
