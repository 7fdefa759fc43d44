#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* ---- shapes ---- */

Shape shape_of(int rank, const int64_t *dims)
{
    Shape shape = {.rank = rank};
    for (int i = 0; i < rank && i < ESPQ_MAX_RANK; i++)
        shape.dims[i] = dims[i];
    return shape;
}

int64_t shape_count(const Shape *shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++)
        count *= shape->dims[i];
    return count;
}

bool shape_equal(const Shape *a, const Shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

bool shape_broadcast(const Shape *a, const Shape *b, Shape *out)
{
    int rank = a->rank > b->rank ? a->rank : b->rank;
    Shape result = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        int at_a = i - (rank - a->rank), at_b = i - (rank - b->rank);
        int64_t x = at_a < 0 ? 1 : a->dims[at_a], y = at_b < 0 ? 1 : b->dims[at_b];
        if (x != y && x != 1 && y != 1) return false;
        result.dims[i] = x == 1 ? y : x;
    }
    *out = result;
    return true;
}

const char *shape_text(const Shape *shape, char out[160])
{
    size_t used = 1;
    out[0] = '[';
    for (int i = 0; i < shape->rank && used < 156; i++)
        used += (size_t)snprintf(out + used, 156 - used, "%s%lld", i ? ", " : "", (long long)shape->dims[i]);
    if (used > 155) used = 155; /* absurd sizes are cut */
    snprintf(out + used, 160 - used, used == 155 ? "…" : "]");
    return out;
}

/* ---- making ---- */

static void set_contiguous_strides(Tensor *tensor)
{
    int64_t step = 1;
    for (int i = tensor->shape.rank - 1; i >= 0; i--) {
        tensor->strides[i] = step;
        step *= tensor->shape.dims[i];
    }
}

Tensor *tensor_new(Dtype dtype, const Shape *shape, Error *error)
{
    Tensor *tensor = tensor_new_unset(dtype, shape, error);
    if (tensor) memset(tensor->data, 0, tensor_bytes(tensor));
    return tensor;
}

Tensor *tensor_new_unset(Dtype dtype, const Shape *shape, Error *error)
{
    char text[160];
    size_t bytes = dtype_bytes(dtype);
    bool empty = false; /* an axis of 0 excuses none of the others: strides are computed from them */
    if (shape->rank < 0 || shape->rank > ESPQ_MAX_RANK) {
        fail(error, NULL, NULL, "a tensor of %d dimensions: at most %d are possible", shape->rank, ESPQ_MAX_RANK);
        return NULL;
    }
    for (int i = 0; i < shape->rank; i++) {
        int64_t dim = shape->dims[i];
        if (dim < 0 || (dim > 0 && bytes > (SIZE_MAX / 4) / (size_t)dim)) {
            fail(error, NULL, NULL, "a tensor of shape %s is not possible", shape_text(shape, text));
            return NULL;
        }
        if (dim) bytes *= (size_t)dim;
        empty = empty || dim == 0;
    }
    if (empty) bytes = 0;
    Tensor *tensor = memory_new(sizeof *tensor);
    if (tensor) tensor->data = memory_new_aligned(bytes);
    if (!tensor || !tensor->data) {
        memory_free(tensor);
        fail_memory(error, bytes);
        return NULL;
    }
    atomic_init(&tensor->references, 1);
    tensor->dtype = dtype;
    tensor->shape = *shape;
    set_contiguous_strides(tensor);
    return tensor;
}

Tensor *tensor_from_data(Dtype dtype, const Shape *shape, const void *data, Error *error)
{
    Tensor *tensor = tensor_new_unset(dtype, shape, error);
    if (tensor) memcpy(tensor->data, data, tensor_bytes(tensor));
    return tensor;
}

Tensor *tensor_scalar(Dtype dtype, double value, Error *error)
{
    Tensor *tensor = tensor_new(dtype, &(Shape){0}, error);
    if (tensor) tensor_set(tensor, 0, value);
    return tensor;
}

Tensor *tensor_from_integers(const int64_t *values, int count, Error *error)
{
    return tensor_from_data(DTYPE_INT64, &(Shape){1, {count}}, values, error);
}

Tensor *tensor_retain(Tensor *tensor)
{
    if (tensor) atomic_fetch_add_explicit(&tensor->references, 1, memory_order_relaxed);
    return tensor;
}

void tensor_release(Tensor *tensor)
{
    while (tensor && atomic_fetch_sub_explicit(&tensor->references, 1, memory_order_acq_rel) == 1) {
        Tensor *base = tensor->base;
        if (!base) memory_free(tensor->data);
        memory_free(tensor);
        tensor = base;
    }
}

Tensor *tensor_view_strided(Tensor *tensor, const Shape *shape, const int64_t *strides, int64_t offset, Error *error)
{
    Tensor *view = memory_new(sizeof *view);
    if (!view) {
        fail_memory(error, sizeof *view);
        return NULL;
    }
    atomic_init(&view->references, 1);
    view->dtype = tensor->dtype;
    view->shape = *shape;
    for (int i = 0; i < shape->rank; i++)
        view->strides[i] = strides[i];
    view->base = tensor_retain(tensor->base ? tensor->base : tensor);
    view->data = tensor->data + offset * (int64_t)dtype_bytes(tensor->dtype);
    return view;
}

Tensor *tensor_view(Tensor *tensor, const Shape *shape, Error *error)
{
    char from[160], to[160];
    if (shape_count(shape) != tensor_count(tensor)) {
        fail(error, NULL, NULL, "shape %s does not hold the elements of %s", shape_text(shape, to), shape_text(&tensor->shape, from));
        return NULL;
    }
    int64_t strides[ESPQ_MAX_RANK], step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        strides[i] = step;
        step *= shape->dims[i];
    }
    return tensor_view_strided(tensor, shape, strides, 0, error);
}

bool tensor_is_contiguous(const Tensor *tensor)
{
    int64_t step = 1;
    for (int i = tensor->shape.rank - 1; i >= 0; i--) {
        if (tensor->shape.dims[i] != 1 && tensor->strides[i] != step) return false;
        step *= tensor->shape.dims[i];
    }
    return true;
}

/* Copy element by element in row-major order of `from`'s shape; the last axis in one inner loop. */
static void copy_strided(const Tensor *from, char *to)
{
    size_t item = dtype_bytes(from->dtype);
    int rank = from->shape.rank;
    int64_t count = tensor_count(from), inner = rank ? from->shape.dims[rank - 1] : 1, index[ESPQ_MAX_RANK] = {0};
    int64_t step = rank ? from->strides[rank - 1] * (int64_t)item : 0;
    if (!count) return;
    for (;;) {
        int64_t offset = 0;
        for (int i = 0; i < rank - 1; i++)
            offset += index[i] * from->strides[i];
        const char *source = from->data + offset * (int64_t)item;
        switch (item) {
        case 1:
            for (int64_t i = 0; i < inner; i++)
                to[i] = source[i * step];
            break;
        case 4:
            for (int64_t i = 0; i < inner; i++)
                memcpy(to + i * 4, source + i * step, 4);
            break;
        default:
            for (int64_t i = 0; i < inner; i++)
                memcpy(to + i * (int64_t)item, source + i * step, item);
        }
        to += inner * (int64_t)item;
        int axis = rank - 2;
        while (axis >= 0 && ++index[axis] == from->shape.dims[axis])
            index[axis--] = 0;
        if (axis < 0) return;
    }
}

Tensor *tensor_copy(const Tensor *tensor, Error *error)
{
    Tensor *copy = tensor_new_unset(tensor->dtype, &tensor->shape, error);
    if (!copy) return NULL;
    if (tensor_is_contiguous(tensor))
        memcpy(copy->data, tensor->data, tensor_bytes(tensor));
    else
        copy_strided(tensor, copy->data);
    return copy;
}

Tensor *tensor_contiguous(Tensor *tensor, Error *error)
{
    return tensor_is_contiguous(tensor) ? tensor_retain(tensor) : tensor_copy(tensor, error);
}

Tensor *tensor_transpose(Tensor *tensor, const int *permutation, Error *error)
{
    Shape shape = {.rank = tensor->shape.rank};
    int64_t strides[ESPQ_MAX_RANK];
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = tensor->shape.dims[permutation[i]];
        strides[i] = tensor->strides[permutation[i]];
    }
    Tensor *view = tensor_view_strided(tensor, &shape, strides, 0, error);
    Tensor *copy = view ? tensor_copy(view, error) : NULL;
    tensor_release(view);
    return copy;
}

/* ---- elements ---- */

#define EACH_INTEGER_TYPE(X)                                                                                                               \
    X(DTYPE_INT8, int8_t, -0x1p7, 0x1p7 - 1)                                                                                               \
    X(DTYPE_UINT8, uint8_t, 0, 0x1p8 - 1)                                                                                                  \
    X(DTYPE_INT16, int16_t, -0x1p15, 0x1p15 - 1)                                                                                           \
    X(DTYPE_UINT16, uint16_t, 0, 0x1p16 - 1)                                                                                               \
    X(DTYPE_INT32, int32_t, -0x1p31, 0x1p31 - 1)                                                                                           \
    X(DTYPE_UINT32, uint32_t, 0, 0x1p32 - 1)                                                                                               \
    X(DTYPE_INT64, int64_t, -0x1p63, 0x1p63)                                                                                               \
    X(DTYPE_UINT64, uint64_t, 0, 0x1p64)

double tensor_get(const Tensor *tensor, int64_t flat)
{
    switch (tensor->dtype) {
    case DTYPE_FLOAT32: return (double)((const float *)(void *)tensor->data)[flat];
    case DTYPE_FLOAT64: return ((const double *)(void *)tensor->data)[flat];
    case DTYPE_FLOAT16: return (double)half_to_float(((const uint16_t *)(void *)tensor->data)[flat]);
    case DTYPE_BOOL: return tensor->data[flat] != 0;
#define GET(dtype, type, low, high)                                                                                                        \
    case dtype: return (double)((const type *)(void *)tensor->data)[flat];
        EACH_INTEGER_TYPE(GET)
#undef GET
    default: return 0;
    }
}

int64_t tensor_get_integer(const Tensor *tensor, int64_t flat)
{
    switch (tensor->dtype) {
    case DTYPE_BOOL: return tensor->data[flat] != 0;
#define GET(dtype, type, low, high)                                                                                                        \
    case dtype: return (int64_t)((const type *)(void *)tensor->data)[flat];
        EACH_INTEGER_TYPE(GET)
#undef GET
    default: {
        double value = tensor_get(tensor, flat);
        return isnan(value) ? 0 : value >= 0x1p63 ? INT64_MAX : value <= -0x1p63 ? INT64_MIN : (int64_t)value;
    }
    }
}

void tensor_set(Tensor *tensor, int64_t flat, double value)
{
    switch (tensor->dtype) {
    case DTYPE_FLOAT32: ((float *)(void *)tensor->data)[flat] = (float)value; return;
    case DTYPE_FLOAT64: ((double *)(void *)tensor->data)[flat] = value; return;
    case DTYPE_FLOAT16: ((uint16_t *)(void *)tensor->data)[flat] = float_to_half((float)value); return;
    case DTYPE_BOOL: tensor->data[flat] = value != 0; return;
#define SET(dtype, type, low, high)                                                                                                        \
    case dtype: {                                                                                                                          \
        type *out = &((type *)(void *)tensor->data)[flat];                                                                                 \
        type least = (type)(low), most = (type)(sizeof(type) == 8 ? ((type)-1 > 0 ? (type)-1 : (type)INT64_MAX) : (type)(high));           \
        *out = isnan(value) ? 0 : value <= (low) ? least : value >= (high) ? most : (type)value;                                           \
        return;                                                                                                                            \
    }
        EACH_INTEGER_TYPE(SET)
#undef SET
    default: return;
    }
}

/* The narrow integers to floats: pictures, and what a chip computes. false: another pair of types. */
static bool widen(const Tensor *from, Tensor *to)
{
    int64_t count = tensor_count(from);
    float *floats = tensor_floats(to);
    if (to->dtype != DTYPE_FLOAT32) return false;
    if (from->dtype == DTYPE_UINT8)
        for (int64_t i = 0; i < count; i++)
            floats[i] = (float)(uint8_t)from->data[i];
    else if (from->dtype == DTYPE_INT8)
        for (int64_t i = 0; i < count; i++)
            floats[i] = (float)(int8_t)from->data[i];
    else if (from->dtype == DTYPE_INT16)
        for (int64_t i = 0; i < count; i++)
            floats[i] = (float)((const int16_t *)(const void *)from->data)[i];
    else
        return false;
    return true;
}

Tensor *tensor_convert(Tensor *tensor, Dtype dtype, Error *error)
{
    if (tensor->dtype == dtype) return tensor_retain(tensor);
    Tensor *from = tensor_contiguous(tensor, error);
    Tensor *to = from ? tensor_new_unset(dtype, &tensor->shape, error) : NULL;
    if (to) {
        int64_t count = tensor_count(from);
        /* 64-bit integers do not fit a double: between integers go through int64 */
        bool exact = dtype_rows[dtype].is_integer && dtype_rows[from->dtype].bytes == 8 && dtype_rows[from->dtype].is_integer;
        if (exact && dtype == DTYPE_INT64)
            memcpy(to->data, from->data, tensor_bytes(from));
        else if (!widen(from, to))
            for (int64_t i = 0; i < count; i++)
                tensor_set(to, i, tensor_get(from, i));
    }
    tensor_release(from);
    return to;
}

bool tensor_equal(const Tensor *a, const Tensor *b)
{
    if (a->dtype != b->dtype || !shape_equal(&a->shape, &b->shape)) return false;
    return memcmp(a->data, b->data, tensor_bytes(a)) == 0;
}

/* ---- float16 (IEEE 754 binary16) ---- */

float half_to_float(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? ldexpf((float)(fraction + 1024), exponent - 25)
                                     : ldexpf((float)fraction, -24);
    return half & 0x8000 ? -magnitude : magnitude;
}

uint16_t float_to_half(float value)
{
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    float magnitude = fabsf(value);
    if (isnan(value)) return sign | 0x7e00;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    if (magnitude < 0x1p-14f) return (uint16_t)(sign | (uint16_t)rintf(ldexpf(magnitude, 24)));
    int exponent;
    float fraction = frexpf(magnitude, &exponent);   /* 0.5 … 1 */
    int mantissa = (int)rintf(ldexpf(fraction, 11)); /* 1024 … 2048 */
    return (uint16_t)(sign | (uint16_t)(((exponent + 13) << 10) + mantissa));
}
