#include "tensor/dtype.h"

#include <string.h>

const DtypeRow dtype_rows[DTYPE_COUNT] = {
    /*                name       bytes float  integer signed onnx espdl label      npy */
    [DTYPE_NONE] = {"none", 0, false, false, false, 0, 0, "UNDEFINED", ""},
    [DTYPE_FLOAT32] = {"float32", 4, true, false, true, 1, 1, "FLOAT", "<f4"},
    [DTYPE_FLOAT64] = {"float64", 8, true, false, true, 11, 11, "DOUBLE", "<f8"},
    [DTYPE_FLOAT16] = {"float16", 2, true, false, true, 10, 10, "FLOAT16", "<f2"},
    [DTYPE_INT8] = {"int8", 1, false, true, true, 3, 3, "INT8", "|i1"},
    [DTYPE_UINT8] = {"uint8", 1, false, true, false, 2, 2, "UINT8", "|u1"},
    [DTYPE_INT16] = {"int16", 2, false, true, true, 5, 5, "INT16", "<i2"},
    [DTYPE_UINT16] = {"uint16", 2, false, true, false, 4, 4, "UINT16", "<u2"},
    [DTYPE_INT32] = {"int32", 4, false, true, true, 6, 6, "INT32", "<i4"},
    [DTYPE_UINT32] = {"uint32", 4, false, true, false, 12, 12, "UINT32", "<u4"},
    [DTYPE_INT64] = {"int64", 8, false, true, true, 7, 7, "INT64", "<i8"},
    [DTYPE_UINT64] = {"uint64", 8, false, true, false, 13, 13, "UINT64", "<u8"},
    [DTYPE_BOOL] = {"bool", 1, false, false, false, 9, 9, "BOOL", "|b1"},
};

Dtype dtype_from_name(const char *name)
{
    for (int i = 1; i < DTYPE_COUNT; i++)
        if (strcmp(dtype_rows[i].name, name) == 0) return (Dtype)i;
    return DTYPE_NONE;
}

Dtype dtype_from_onnx(int number)
{
    for (int i = 1; i < DTYPE_COUNT; i++)
        if (dtype_rows[i].onnx == number) return (Dtype)i;
    return DTYPE_NONE;
}
