/* Joining, cutting and printing tensors. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tensor/arithmetic.h"

static bool normal_axis(int axis, int rank, int *out, Error *error)
{
    if (axis < -rank || axis >= rank)
        return fail(error, NULL, "axes count from 0, negative ones from the end", "axis %d is outside a tensor of %d dimensions", axis,
                    rank);
    *out = axis < 0 ? axis + rank : axis;
    return true;
}

Tensor *tensor_cat(Tensor *const *tensors, int count, int axis, Error *error)
{
    char first[160], other[160];
    int at;
    if (count < 1) {
        fail(error, NULL, NULL, "nothing to join");
        return NULL;
    }
    if (!normal_axis(axis, tensors[0]->shape.rank, &at, error)) return NULL;
    Shape shape = tensors[0]->shape;
    shape.dims[at] = 0;
    for (int i = 0; i < count; i++) {
        bool fits = tensors[i]->shape.rank == shape.rank && tensors[i]->dtype == tensors[0]->dtype;
        for (int d = 0; fits && d < shape.rank; d++)
            fits = d == at || tensors[i]->shape.dims[d] == tensors[0]->shape.dims[d];
        if (!fits) {
            fail(error, NULL, "all sizes but that of the axis must be equal, and the types too",
                 "%s %s and %s %s cannot be joined on axis %d", dtype_name(tensors[0]->dtype), shape_text(&tensors[0]->shape, first),
                 dtype_name(tensors[i]->dtype), shape_text(&tensors[i]->shape, other), axis);
            return NULL;
        }
        shape.dims[at] += tensors[i]->shape.dims[at];
    }
    Tensor *out = tensor_new(tensors[0]->dtype, &shape, error);
    if (!out) return NULL;
    int64_t outer = 1;
    size_t inner = dtype_bytes(out->dtype), offset = 0;
    for (int d = 0; d < at; d++)
        outer *= shape.dims[d];
    for (int d = at + 1; d < shape.rank; d++)
        inner *= (size_t)shape.dims[d];
    for (int i = 0; i < count; i++) {
        Tensor *part = tensor_contiguous(tensors[i], error);
        if (!part) {
            tensor_release(out);
            return NULL;
        }
        size_t bytes = (size_t)part->shape.dims[at] * inner;
        for (int64_t k = 0; k < outer; k++)
            memcpy(out->data + (size_t)k * (size_t)shape.dims[at] * inner + offset, part->data + (size_t)k * bytes, bytes);
        offset += bytes;
        tensor_release(part);
    }
    return out;
}

Tensor *tensor_stack(Tensor *const *tensors, int count, int axis, Error *error)
{
    char first[160], other[160];
    int at;
    if (count < 1) {
        fail(error, NULL, NULL, "nothing to stack");
        return NULL;
    }
    for (int i = 1; i < count; i++)
        if (!shape_equal(&tensors[i]->shape, &tensors[0]->shape)) {
            fail(error, NULL, NULL, "%s and %s cannot be stacked", shape_text(&tensors[0]->shape, first),
                 shape_text(&tensors[i]->shape, other));
            return NULL;
        }
    int rank = tensors[0]->shape.rank + 1;
    if (rank > ESPQ_MAX_RANK || !normal_axis(axis, rank, &at, error)) {
        if (rank > ESPQ_MAX_RANK) fail(error, NULL, NULL, "at most %d dimensions are possible", ESPQ_MAX_RANK);
        return NULL;
    }
    Tensor *joined = NULL;
    for (int i = 0; i < count; i++) {
        Shape shape = {.rank = rank};
        for (int d = 0; d < rank; d++)
            shape.dims[d] = d == at ? 1 : tensors[i]->shape.dims[d < at ? d : d - 1];
        Tensor *rows = tensor_contiguous(tensors[i], error), *slice = rows ? tensor_view(rows, &shape, error) : NULL;
        tensor_release(rows);
        if (i == 0 && slice) {
            shape.dims[at] = count;
            joined = tensor_new_unset(slice->dtype, &shape, error);
        }
        if (!slice || !joined || slice->dtype != joined->dtype) {
            if (slice && joined) fail(error, NULL, "convert them with :to()", "tensors of different types cannot be stacked");
            tensor_release(slice);
            tensor_release(joined);
            return NULL;
        }
        size_t inner = dtype_bytes(slice->dtype);
        int64_t outer = 1;
        for (int d = 0; d < at; d++)
            outer *= shape.dims[d];
        for (int d = at + 1; d < rank; d++)
            inner *= (size_t)shape.dims[d];
        for (int64_t k = 0; k < outer; k++)
            memcpy(joined->data + ((size_t)k * (size_t)count + (size_t)i) * inner, slice->data + (size_t)k * inner, inner);
        tensor_release(slice);
    }
    return joined;
}

Tensor *tensor_pad(Tensor *a, const int64_t *before, const int64_t *after, double value, Error *error)
{
    Shape shape = a->shape;
    for (int i = 0; i < shape.rank; i++) {
        if (before[i] < 0 || after[i] < 0) {
            fail(error, NULL, "cut with :slice()", "a negative padding of axis %d", i);
            return NULL;
        }
        shape.dims[i] += before[i] + after[i];
    }
    Tensor *out = tensor_full(&shape, a->dtype, value, error), *rows = out ? tensor_contiguous(a, error) : NULL;
    size_t item = dtype_bytes(a->dtype);
    int64_t width = 1; /* what lies in one piece: the last axis that is padded, and those behind it */
    int inner = shape.rank - 1;
    while (inner > 0 && !before[inner] && !after[inner])
        inner--;
    for (int d = inner < 0 ? 0 : inner; d < shape.rank; d++)
        width *= a->shape.dims[d];
    for (int64_t i = 0, count = rows ? tensor_count(rows) : 0; i < count; i += width) {
        int64_t rest = i, at = 0;
        for (int d = shape.rank - 1; d >= 0; d--) {
            at += (rest % a->shape.dims[d] + before[d]) * out->strides[d];
            rest /= a->shape.dims[d];
        }
        memcpy(out->data + (size_t)at * item, rows->data + (size_t)i * item, (size_t)width * item);
    }
    if (!rows) {
        tensor_release(out);
        return NULL;
    }
    tensor_release(rows);
    return out;
}

Tensor *tensor_flip(Tensor *a, int axis, Error *error)
{
    int at;
    if (!normal_axis(axis, a->shape.rank, &at, error)) return NULL;
    int64_t strides[ESPQ_MAX_RANK];
    memcpy(strides, a->strides, sizeof strides);
    int64_t length = a->shape.dims[at], offset = length ? (length - 1) * a->strides[at] : 0;
    strides[at] = -strides[at];
    Tensor *view = tensor_view_strided(a, &a->shape, strides, offset, error);
    Tensor *out = view ? tensor_copy(view, error) : NULL;
    tensor_release(view);
    return out;
}

Tensor *tensor_slice(Tensor *a, int axis, int64_t start, int64_t stop, int64_t step, Error *error)
{
    int at;
    if (!normal_axis(axis, a->shape.rank, &at, error)) return NULL;
    if (step < 1) {
        fail(error, NULL, "use :flip() to turn an axis round", "a step of %lld", (long long)step);
        return NULL;
    }
    int64_t length = a->shape.dims[at];
    if (start < 0) start += length;
    if (stop < 0) stop += length;
    if (stop > length) stop = length;
    if (start < 0 || start > length) {
        fail(error, NULL, "positions count from 0", "position %lld is outside an axis of %lld", (long long)start, (long long)length);
        return NULL;
    }
    Shape shape = a->shape;
    int64_t strides[ESPQ_MAX_RANK];
    memcpy(strides, a->strides, sizeof strides);
    shape.dims[at] = stop > start ? (stop - start + step - 1) / step : 0;
    strides[at] *= step;
    return tensor_view_strided(a, &shape, strides, start * a->strides[at], error);
}

Tensor *tensor_select(Tensor *a, int axis, int64_t index, Error *error)
{
    int at;
    if (!normal_axis(axis, a->shape.rank, &at, error)) return NULL;
    int64_t length = a->shape.dims[at], place = index < 0 ? index + length : index;
    if (place < 0 || place >= length) {
        fail(error, NULL, "positions inside a tensor count from 0", "position %lld is outside an axis of %lld", (long long)index,
             (long long)length);
        return NULL;
    }
    Shape shape = {.rank = a->shape.rank - 1};
    int64_t strides[ESPQ_MAX_RANK];
    for (int i = 0; i < shape.rank; i++) {
        shape.dims[i] = a->shape.dims[i < at ? i : i + 1];
        strides[i] = a->strides[i < at ? i : i + 1];
    }
    return tensor_view_strided(a, &shape, strides, place * a->strides[at], error);
}

/* ---- printing ---- */

enum { EDGE = 3, SUMMARIZE_ABOVE = 1000, LINE = 75 };

typedef struct Printer {
    Tensor *tensor;
    Text *text;
    int width, digits; /* of a number; digits behind the point */
    bool exponent, summarize;
} Printer;

static void number(const Printer *printer, double value, char out[48])
{
    Dtype dtype = printer->tensor->dtype;
    if (dtype == DTYPE_BOOL)
        snprintf(out, 48, "%s", value != 0 ? "True" : "False");
    else if (!dtype_rows[dtype].is_float)
        snprintf(out, 48, "%.0f", value);
    else if (!isfinite(value))
        snprintf(out, 48, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    else if (printer->exponent)
        snprintf(out, 48, "%.*e", printer->digits, value);
    else
        snprintf(out, 48, "%.*f", printer->digits, value);
}

static bool left_out(const Printer *printer, int64_t i, int64_t length)
{
    return printer->summarize && length > 2 * EDGE && i >= EDGE && i < length - EDGE;
}

/* Widths over the numbers that will be shown. */
static void measure(Printer *printer, int axis, int64_t offset)
{
    Tensor *a = printer->tensor;
    if (axis == a->shape.rank) {
        char out[48];
        number(printer, tensor_get(a, offset), out);
        int length = (int)strlen(out);
        if (length > printer->width) printer->width = length;
        return;
    }
    for (int64_t i = 0; i < a->shape.dims[axis]; i++)
        if (!left_out(printer, i, a->shape.dims[axis])) measure(printer, axis + 1, offset + i * a->strides[axis]);
}

static void print_axis(const Printer *printer, int axis, int64_t offset)
{
    Tensor *a = printer->tensor;
    Text *text = printer->text;
    char out[48];
    if (axis == a->shape.rank) {
        number(printer, tensor_get(a, offset), out);
        text_format(text, "%*s", printer->width, out);
        return;
    }
    int64_t length = a->shape.dims[axis];
    bool last = axis == a->shape.rank - 1, gap = false;
    int column = axis + 8;
    text_add(text, "[");
    for (int64_t i = 0; i < length; i++) {
        bool out_of_sight = left_out(printer, i, length);
        if (out_of_sight && gap) continue;
        if (i) {
            text_add(text, last ? ", " : ",");
            column += printer->width + 2;
            if (!last || column + printer->width > LINE) {
                text_format(text, "\n%*s", axis + 8, "");
                column = axis + 8;
            }
        }
        if (out_of_sight)
            text_add(text, "...");
        else
            print_axis(printer, axis + 1, offset + i * a->strides[axis]);
        gap = out_of_sight;
    }
    text_add(text, "]");
}

void tensor_print(Tensor *a, Text *text)
{
    Error error;
    char shape[160];
    Tensor *rows = tensor_contiguous(a, &error);
    if (!rows) return;
    Printer printer = {rows, text, 1, 0, false, tensor_count(rows) > SUMMARIZE_ABOVE};
    if (dtype_rows[rows->dtype].is_float) {
        double most = 0, least = INFINITY;
        bool whole = true;
        for (int64_t i = 0, count = tensor_count(rows); i < count; i++) {
            double x = fabs(tensor_get(rows, i));
            if (!isfinite(x)) continue;
            if (x > most) most = x;
            if (x > 0 && x < least) least = x;
            whole = whole && x == floor(x);
        }
        printer.exponent = most >= 1e8 || (least < INFINITY && (least < 1e-4 || most / least > 1e6));
        printer.digits = whole && !printer.exponent ? 1 : printer.exponent ? 4 : 4;
    }
    measure(&printer, 0, 0);
    text_add(text, "tensor(");
    print_axis(&printer, 0, 0);
    text_format(text, ", shape=%s, dtype=%s)", shape_text(&a->shape, shape), dtype_name(a->dtype));
    tensor_release(rows);
}
