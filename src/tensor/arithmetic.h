/* Arithmetic of tensors, for scripts: NumPy's rules of broadcasting and (nearly) of types. All functions make new contiguous
 * tensors. Sums are made in float64 in index order. */
#ifndef ESPQ_TENSOR_ARITHMETIC_H
#define ESPQ_TENSOR_ARITHMETIC_H

#include "base/random.h"
#include "base/text.h"
#include "tensor/tensor.h"

typedef enum {
    BINARY_ADD,
    BINARY_SUBTRACT,
    BINARY_MULTIPLY,
    BINARY_DIVIDE,
    BINARY_FLOOR_DIVIDE,
    BINARY_MODULO,
    BINARY_POWER,
    BINARY_MAXIMUM,
    BINARY_MINIMUM,
    BINARY_EQUAL,
    BINARY_NOT_EQUAL,
    BINARY_LESS,
    BINARY_LESS_EQUAL,
    BINARY_GREATER,
    BINARY_GREATER_EQUAL /* these make bool */
} BinaryKind;

typedef enum {
    UNARY_NEGATIVE,
    UNARY_ABSOLUTE,
    UNARY_EXP,
    UNARY_LOG,
    UNARY_SQRT,
    UNARY_ROUND /* half to even */,
    UNARY_FLOOR,
    UNARY_CEIL,
    UNARY_SIGMOID,
    UNARY_TANH,
    UNARY_SIN,
    UNARY_COS
} UnaryKind;

typedef enum {
    REDUCE_SUM,
    REDUCE_MEAN,
    REDUCE_MINIMUM,
    REDUCE_MAXIMUM,
    REDUCE_ARGMIN,
    REDUCE_ARGMAX,
    REDUCE_STD /* biased, as NumPy */,
    REDUCE_NORM /* 2-norm */,
    REDUCE_PRODUCT
} ReduceKind;

/* The type of a result: the wider of two; float before integer; integers with float32 give float32 (as PyTorch); division and
 * functions of integers give float32. A Lua number with a tensor takes the tensor's type (float32 when it has a fraction). */
Tensor *tensor_binary(BinaryKind kind, Tensor *a, Tensor *b, Error *error);
Tensor *tensor_binary_number(BinaryKind kind, Tensor *a, double number, bool number_first, Error *error);
Tensor *tensor_unary(UnaryKind kind, Tensor *a, Error *error);
Tensor *tensor_clamp(Tensor *a, double least, double most, Error *error);
Tensor *tensor_where(Tensor *condition, Tensor *a, Tensor *b, Error *error);

/* Over one axis (negative from the end), or over everything with `all`. argmin, argmax: int64, the first of equals. */
Tensor *tensor_reduce(ReduceKind kind, Tensor *a, bool all, int axis, bool keepdims, Error *error);
Tensor *tensor_softmax(Tensor *a, int axis, Error *error);
Tensor *tensor_matmul(Tensor *a, Tensor *b, Error *error); /* ranks 1 and up, batches broadcast */
bool tensor_topk(Tensor *a, int64_t k, int axis, Tensor **values, Tensor **indices,
                 Error *error); /* largest first, the first of equals first */
bool tensor_sort(Tensor *a, int axis, bool descending, Tensor **values, Tensor **indices, Error *error); /* stable; either may be NULL */
Tensor *tensor_cat(Tensor *const *tensors, int count, int axis, Error *error);
Tensor *tensor_stack(Tensor *const *tensors, int count, int axis, Error *error);
Tensor *tensor_pad(Tensor *a, const int64_t *before, const int64_t *after, double value, Error *error);
Tensor *tensor_flip(Tensor *a, int axis, Error *error);
/* A view: start, stop (exclusive), step on one axis; negative positions count from the end, stop is clipped. */
Tensor *tensor_slice(Tensor *a, int axis, int64_t start, int64_t stop, int64_t step, Error *error);
Tensor *tensor_select(Tensor *a, int axis, int64_t index, Error *error); /* a view without that axis; outside is an error */

Tensor *tensor_full(const Shape *shape, Dtype dtype, double value, Error *error);
Tensor *tensor_arange(double start, double stop, double step, Dtype dtype, Error *error);
Tensor *tensor_random_normal(const Shape *shape, Dtype dtype, Random *random, Error *error);
Tensor *tensor_random_uniform(const Shape *shape, Dtype dtype, Random *random, Error *error);
bool tensor_allclose(Tensor *a, Tensor *b, double rtol, double atol); /* |a-b| <= atol + rtol*|b|, same shape */

/* As NumPy prints arrays: aligned, the middle left out of large ones. */
void tensor_print(Tensor *a, Text *text);

#endif
