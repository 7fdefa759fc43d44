/* Arithmetic along an axis: reductions, softmax, sorting, matrix products. An axis divides a contiguous tensor into
 * outer × length × inner. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "tensor/arithmetic.h"

typedef struct Along {
    int axis;
    int64_t outer, length, inner;
} Along;

static bool along(const Tensor *a, int axis, Along *out, Error *error)
{
    int rank = a->shape.rank;
    char shape[160];
    if (axis < -rank || axis >= rank)
        return fail(error, NULL, "axes count from 0, negative ones from the end", "axis %d is outside a tensor of shape %s", axis,
                    shape_text(&a->shape, shape));
    *out = (Along){axis < 0 ? axis + rank : axis, 1, 0, 1};
    for (int i = 0; i < rank; i++) {
        if (i < out->axis) out->outer *= a->shape.dims[i];
        if (i > out->axis) out->inner *= a->shape.dims[i];
    }
    out->length = a->shape.dims[out->axis];
    return true;
}

static double reduce_line(ReduceKind kind, const Tensor *a, int64_t start, int64_t step, int64_t length)
{
    double sum = kind == REDUCE_PRODUCT, best = NAN;
    int64_t place = 0;
    switch (kind) {
    case REDUCE_SUM:
    case REDUCE_MEAN:
    case REDUCE_STD:
        for (int64_t i = 0; i < length; i++)
            sum += tensor_get(a, start + i * step);
        if (kind == REDUCE_SUM) return sum;
        sum /= (double)length;
        if (kind == REDUCE_MEAN) return sum;
        best = 0;
        for (int64_t i = 0; i < length; i++) {
            double d = tensor_get(a, start + i * step) - sum;
            best += d * d;
        }
        return sqrt(best / (double)length);
    case REDUCE_NORM:
        for (int64_t i = 0; i < length; i++) {
            double x = tensor_get(a, start + i * step);
            sum += x * x;
        }
        return sqrt(sum);
    case REDUCE_PRODUCT:
        for (int64_t i = 0; i < length; i++)
            sum *= tensor_get(a, start + i * step);
        return sum;
    default:
        for (int64_t i = 0; i < length; i++) {
            double x = tensor_get(a, start + i * step);
            bool better = kind == REDUCE_MINIMUM || kind == REDUCE_ARGMIN ? x < best : x > best;
            if (i == 0 || better || (x != x && best == best)) { /* a NaN wins, as in NumPy */
                if (i && best != best) break;
                best = x;
                place = i;
            }
        }
        return kind == REDUCE_ARGMIN || kind == REDUCE_ARGMAX ? (double)place : best;
    }
}

Tensor *tensor_reduce(ReduceKind kind, Tensor *a, bool all, int axis, bool keepdims, Error *error)
{
    Tensor *x = tensor_contiguous(a, error), *flat = NULL, *out = NULL;
    Along line = {0};
    Shape shape = {0};
    if (!x) return NULL;
    if (all) {
        flat = tensor_view(x, &(Shape){1, {tensor_count(x)}}, error);
        tensor_release(x);
        if (!(x = flat)) return NULL;
        axis = 0;
    }
    bool ok = along(x, axis, &line, error);
    bool needs_one = kind != REDUCE_SUM && kind != REDUCE_PRODUCT && kind != REDUCE_NORM;
    if (ok && needs_one && line.length == 0) ok = fail(error, NULL, NULL, "an empty axis has no minimum, maximum or mean");
    if (ok) {
        if (all) {
            shape.rank = keepdims ? a->shape.rank : 0;
            for (int i = 0; i < shape.rank; i++)
                shape.dims[i] = 1;
        } else {
            for (int i = 0; i < a->shape.rank; i++)
                if (i != line.axis || keepdims) shape.dims[shape.rank++] = i == line.axis ? 1 : a->shape.dims[i];
        }
        bool place = kind == REDUCE_ARGMIN || kind == REDUCE_ARGMAX, keeps = kind == REDUCE_MINIMUM || kind == REDUCE_MAXIMUM;
        Dtype dtype = place                                          ? DTYPE_INT64
                      : keeps || dtype_rows[a->dtype].is_float       ? a->dtype
                      : kind == REDUCE_SUM || kind == REDUCE_PRODUCT ? DTYPE_INT64
                                                                     : DTYPE_FLOAT32;
        out = tensor_new(dtype, &shape, error);
    }
    for (int64_t i = 0; out && i < line.outer * line.inner; i++)
        tensor_set(out, i, reduce_line(kind, x, i / line.inner * line.length * line.inner + i % line.inner, line.inner, line.length));
    tensor_release(x);
    return out;
}

Tensor *tensor_softmax(Tensor *a, int axis, Error *error)
{
    Along line;
    if (!along(a, axis, &line, error)) return NULL;
    Tensor *x = tensor_contiguous(a, error),
           *out = x ? tensor_new(a->dtype == DTYPE_FLOAT64 ? DTYPE_FLOAT64 : DTYPE_FLOAT32, &a->shape, error) : NULL;
    for (int64_t i = 0; out && i < line.outer * line.inner; i++) {
        int64_t start = i / line.inner * line.length * line.inner + i % line.inner;
        double most = reduce_line(REDUCE_MAXIMUM, x, start, line.inner, line.length), sum = 0;
        for (int64_t k = 0; k < line.length; k++)
            sum += espq_exp(tensor_get(x, start + k * line.inner) - most);
        for (int64_t k = 0; k < line.length; k++)
            tensor_set(out, start + k * line.inner, espq_exp(tensor_get(x, start + k * line.inner) - most) / sum);
    }
    tensor_release(x);
    return out;
}

/* ---- sorting ---- */

typedef struct Ranked {
    double value;
    int64_t place;
} Ranked;

/* NaN behind everything, equal values in their order. */
static int ascending(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    bool no_x = isnan(x->value), no_y = isnan(y->value);
    if (no_x != no_y) return no_x ? 1 : -1;
    if (!no_x && x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->place < y->place ? -1 : 1;
}

static int descending_order(const void *a, const void *b)
{
    const Ranked *x = a, *y = b;
    if (!isnan(x->value) && !isnan(y->value) && x->value != y->value) return x->value > y->value ? -1 : 1;
    return ascending(a, b);
}

static bool sort_first(Tensor *a, int axis, int64_t keep, bool descending, Tensor **values, Tensor **indices, Error *error)
{
    Along line;
    if (values) *values = NULL;
    if (indices) *indices = NULL;
    if (!along(a, axis, &line, error)) return false;
    if (keep < 0 || keep > line.length)
        return fail(error, NULL, NULL, "the axis has %lld elements, %lld are asked for", (long long)line.length, (long long)keep);
    Shape shape = a->shape;
    shape.dims[line.axis] = keep;
    Tensor *x = tensor_contiguous(a, error);
    Ranked *ranked = memory_new_array((size_t)line.length + 1, sizeof *ranked);
    bool ok = x && (ranked || fail_memory(error, (size_t)line.length * sizeof *ranked));
    if (ok && values) ok = (*values = tensor_new(a->dtype, &shape, error)) != NULL;
    if (ok && indices) ok = (*indices = tensor_new(DTYPE_INT64, &shape, error)) != NULL;
    size_t item = dtype_bytes(a->dtype);
    for (int64_t i = 0; ok && i < line.outer * line.inner; i++) {
        int64_t start = i / line.inner * line.length * line.inner + i % line.inner,
                out = i / line.inner * keep * line.inner + i % line.inner;
        for (int64_t k = 0; k < line.length; k++)
            ranked[k] = (Ranked){tensor_get(x, start + k * line.inner), k};
        qsort(ranked, (size_t)line.length, sizeof *ranked, descending ? descending_order : ascending);
        for (int64_t k = 0; k < keep; k++) {
            if (values)
                memcpy((*values)->data + (size_t)(out + k * line.inner) * item,
                       x->data + (size_t)(start + ranked[k].place * line.inner) * item, item);
            if (indices) ((int64_t *)(void *)(*indices)->data)[out + k * line.inner] = ranked[k].place;
        }
    }
    memory_free(ranked);
    tensor_release(x);
    if (!ok) {
        if (values) tensor_release(*values);
        if (indices) tensor_release(*indices);
    }
    return ok;
}

bool tensor_topk(Tensor *a, int64_t k, int axis, Tensor **values, Tensor **indices, Error *error)
{
    return sort_first(a, axis, k, true, values, indices, error);
}

bool tensor_sort(Tensor *a, int axis, bool descending, Tensor **values, Tensor **indices, Error *error)
{
    Along line;
    return along(a, axis, &line, error) && sort_first(a, axis, line.length, descending, values, indices, error);
}

/* ---- matrix product ---- */

static void product(const double *a, const double *b, double *out, int64_t m, int64_t k, int64_t n)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t p = 0; p < k; p++)
            for (int64_t j = 0; j < n; j++)
                out[i * n + j] += a[i * k + p] * b[p * n + j];
}

/* Rank 1 becomes a row (left) or a column (right), and the axis goes again at the end. */
static Tensor *as_matrix(Tensor *a, bool left, Error *error)
{
    Tensor *wide = tensor_convert(a, DTYPE_FLOAT64, error), *rows = wide ? tensor_contiguous(wide, error) : NULL;
    tensor_release(wide);
    if (!rows || rows->shape.rank != 1) return rows;
    int64_t n = rows->shape.dims[0];
    Tensor *matrix = tensor_view(rows, &(Shape){2, {left ? 1 : n, left ? n : 1}}, error);
    tensor_release(rows);
    return matrix;
}

Tensor *tensor_matmul(Tensor *a, Tensor *b, Error *error)
{
    char left[160], right[160];
    Shape batch_a, batch_b, shape = {0};
    if (!a->shape.rank || !b->shape.rank) {
        fail(error, NULL, "use * for numbers", "a matrix product needs tensors of one dimension or more");
        return NULL;
    }
    Tensor *x = as_matrix(a, true, error), *y = x ? as_matrix(b, false, error) : NULL, *out = NULL, *result = NULL;
    if (y) {
        int rank_x = x->shape.rank, rank_y = y->shape.rank;
        int64_t m = x->shape.dims[rank_x - 2], k = x->shape.dims[rank_x - 1], n = y->shape.dims[rank_y - 1];
        batch_a = shape_of(rank_x - 2, x->shape.dims);
        batch_b = shape_of(rank_y - 2, y->shape.dims);
        if (k != y->shape.dims[rank_y - 2] || !shape_broadcast(&batch_a, &batch_b, &shape)) {
            fail(error, NULL, NULL, "shapes %s and %s cannot be multiplied", shape_text(&a->shape, left), shape_text(&b->shape, right));
        } else {
            int64_t batches = shape_count(&shape);
            Shape batch = shape;
            shape.dims[shape.rank++] = m;
            shape.dims[shape.rank++] = n;
            out = tensor_new(DTYPE_FLOAT64, &shape, error);
            for (int64_t i = 0; out && i < batches; i++) {
                int64_t at_x = 0, at_y = 0, rest = i, step_x = 1, step_y = 1;
                for (int d = batch.rank - 1; d >= 0; d--) {
                    int64_t index = rest % batch.dims[d];
                    int dx = d - (batch.rank - batch_a.rank), dy = d - (batch.rank - batch_b.rank);
                    rest /= batch.dims[d];
                    if (dx >= 0) {
                        at_x += (batch_a.dims[dx] == 1 ? 0 : index) * step_x;
                        step_x *= batch_a.dims[dx];
                    }
                    if (dy >= 0) {
                        at_y += (batch_b.dims[dy] == 1 ? 0 : index) * step_y;
                        step_y *= batch_b.dims[dy];
                    }
                }
                product((double *)(void *)x->data + at_x * m * k, (double *)(void *)y->data + at_y * k * n,
                        (double *)(void *)out->data + i * m * n, m, k, n);
            }
        }
    }
    if (out) {
        Shape final = {0};
        for (int i = 0; i < out->shape.rank; i++)
            if (!(i == out->shape.rank - 2 && a->shape.rank == 1) && !(i == out->shape.rank - 1 && b->shape.rank == 1))
                final.dims[final.rank++] = out->shape.dims[i];
        Tensor *shaped = tensor_view(out, &final, error);
        bool wide = a->dtype == DTYPE_FLOAT64 || b->dtype == DTYPE_FLOAT64,
             whole = !dtype_rows[a->dtype].is_float && !dtype_rows[b->dtype].is_float;
        result = shaped ? tensor_convert(shaped, wide ? DTYPE_FLOAT64 : whole ? DTYPE_INT64 : DTYPE_FLOAT32, error) : NULL;
        tensor_release(shaped);
    }
    tensor_release(out);
    tensor_release(x);
    tensor_release(y);
    return result;
}
