/* Tensors: a shape over shared, counted memory. Views share memory; a tensor of the engine is contiguous unless it is said.
 * Constants are shared between graphs: whoever changes one makes a copy and sets that. */
#ifndef ESPQ_TENSOR_TENSOR_H
#define ESPQ_TENSOR_TENSOR_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

#define ESPQ_MAX_RANK 8

typedef struct Shape {
    int rank; /* 0: a scalar */
    int64_t dims[ESPQ_MAX_RANK];
} Shape;

typedef struct Tensor {
    atomic_int references;
    Dtype dtype;
    Shape shape;
    int64_t strides[ESPQ_MAX_RANK]; /* in elements */
    char *data;                     /* first element */
    struct Tensor *base;            /* the tensor that owns the memory, NULL: this one does */
} Tensor;

/* Shapes */
Shape shape_of(int rank, const int64_t *dims);
int64_t shape_count(const Shape *shape); /* product of dims, 1 for a scalar */
bool shape_equal(const Shape *a, const Shape *b);
bool shape_broadcast(const Shape *a, const Shape *b, Shape *out); /* false when they do not broadcast */
const char *shape_text(const Shape *shape, char out[160]);        /* "[1, 3, 224, 224]" */

/* Making and releasing. A new tensor has one reference; every function that returns one gives it to the caller. */
Tensor *tensor_new(Dtype dtype, const Shape *shape, Error *error);       /* contiguous, zeroed, 64-byte aligned; sizes are checked */
Tensor *tensor_new_unset(Dtype dtype, const Shape *shape, Error *error); /* the same with any contents, for who writes every element */
Tensor *tensor_from_data(Dtype dtype, const Shape *shape, const void *data, Error *error); /* copies */
Tensor *tensor_scalar(Dtype dtype, double value, Error *error);                            /* rank 0 */
Tensor *tensor_from_integers(const int64_t *values, int count, Error *error);              /* int64, rank 1 */
Tensor *tensor_retain(Tensor *tensor);
void tensor_release(Tensor *tensor); /* NULL is fine */

Tensor *tensor_view(Tensor *tensor, const Shape *shape, Error *error); /* same elements, other shape; contiguous only */
Tensor *tensor_view_strided(Tensor *tensor, const Shape *shape, const int64_t *strides, int64_t offset, Error *error);
Tensor *tensor_contiguous(Tensor *tensor, Error *error); /* itself (retained) or a copy in order */
Tensor *tensor_copy(const Tensor *tensor, Error *error); /* contiguous */
Tensor *tensor_convert(Tensor *tensor, Dtype dtype,
                       Error *error); /* itself (retained) or converted; floats to integers cut, saturate; NaN is 0 */
Tensor *tensor_transpose(Tensor *tensor, const int *permutation, Error *error); /* contiguous copy */

bool tensor_is_contiguous(const Tensor *tensor);
static inline int64_t tensor_count(const Tensor *tensor)
{
    return shape_count(&tensor->shape);
}
static inline size_t tensor_bytes(const Tensor *tensor)
{
    return (size_t)tensor_count(tensor) * dtype_bytes(tensor->dtype);
}
static inline float *tensor_floats(const Tensor *tensor)
{
    return (float *)(void *)tensor->data;
}
double tensor_get(const Tensor *tensor, int64_t flat); /* element by flat index, contiguous only */
int64_t tensor_get_integer(const Tensor *tensor, int64_t flat);
void tensor_set(Tensor *tensor, int64_t flat, double value);
bool tensor_equal(const Tensor *a, const Tensor *b); /* dtype, shape and bits */

float half_to_float(uint16_t half);
uint16_t float_to_half(float value);

#endif
