#include "ops/common.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/threads.h"

bool fail_node(Error *error, const Node *node, const char *cure, const char *what, ...)
{
    char message[1024], where[256];
    va_list arguments;
    va_start(arguments, what);
    vsnprintf(message, sizeof message, what, arguments);
    va_end(arguments);
    return fail(error, node_where(node, where), cure, "%s", message);
}

/* No tensor of any model that a chip takes comes near. */
#define MOST_ELEMENTS ((int64_t)1 << 40)

Value *input_value(const Node *node, int index)
{
    return index < node->input_count ? node->inputs[index] : NULL;
}

bool input_shape(const Node *node, int index, Shape *shape, Error *error)
{
    const Value *value = input_value(node, index);
    if (!value) return fail_node(error, node, "give the input, or repair the model", "input %d is missing", index);
    if (!value->shaped) {
        return fail_node(error, node, "give input_shape for every graph input; shapes that depend on data cannot be planned",
                         "the shape of input %d (%s) is not known", index, value->name);
    }
    /* Sums and products of sizes below never overflow, whatever a file claims. */
    int64_t count = 1;
    for (int i = 0; i < value->shape.rank; i++) {
        int64_t size = value->shape.dims[i];
        if (size < 0 || size > INT32_MAX || (size > 0 && count > MOST_ELEMENTS / size)) {
            char text[160];
            return fail_node(error, node, "check the model's shapes and input_shape", "input %d (%s) has an impossible size: %s", index,
                             value->name, shape_text(&value->shape, text));
        }
        if (size > 0) count *= size;
    }
    *shape = value->shape;
    return true;
}

bool require_float32(const Node *node, int index, Error *error)
{
    const Value *value = input_value(node, index);
    if (!value || value->dtype == DTYPE_NONE || value->dtype == DTYPE_FLOAT32) return true;
    return fail_node(error, node, "put a Cast to float32 before it", "input %d (%s) is %s; %s computes in float32 only", index, value->name,
                     dtype_name(value->dtype), node->type);
}

bool require_rank(const Node *node, const Shape *shape, int least, int most, const char *what, Error *error)
{
    if (shape->rank >= least && shape->rank <= most) return true;
    char text[160];
    if (least == most) {
        return fail_node(error, node, "check the model's shapes, or reshape before it", "%s %s has rank %d, wanted is %d", what,
                         shape_text(shape, text), shape->rank, least);
    }
    return fail_node(error, node, "check the model's shapes, or reshape before it", "%s %s has rank %d, wanted are %d to %d", what,
                     shape_text(shape, text), shape->rank, least, most);
}

void set_output(Node *node, int index, Dtype dtype, const Shape *shape)
{
    if (index >= node->output_count || !node->outputs[index]) return;
    Value *value = node->outputs[index];
    value->dtype = dtype;
    value->shape = *shape;
    value->shaped = true;
}

bool infer_same_shape(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error)) return false;
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

bool infer_same_shape_float(Graph *graph, Node *node, Error *error)
{
    return require_float32(node, 0, error) && infer_same_shape(graph, node, error);
}

static bool broadcast_inputs(const Node *node, Dtype *dtype, Shape *shape, Error *error)
{
    if (!input_shape(node, 0, shape, error)) return false;
    *dtype = node->inputs[0]->dtype;
    for (int i = 1; i < node->input_count; i++) {
        Shape other, together;
        if (!input_shape(node, i, &other, error)) return false;
        if (!shape_broadcast(shape, &other, &together)) {
            char a[160], b[160];
            return fail_node(error, node, "right-aligned dimensions must be equal or 1", "input shapes %s and %s do not broadcast",
                             shape_text(shape, a), shape_text(&other, b));
        }
        *shape = together;
        Dtype type = node->inputs[i]->dtype;
        if (*dtype == DTYPE_NONE) *dtype = type;
        if (type != DTYPE_NONE && type != *dtype) {
            return fail_node(error, node, "put a Cast before one of them", "inputs are %s and %s; both must be of one type",
                             dtype_name(*dtype), dtype_name(type));
        }
    }
    return true;
}

bool infer_broadcast(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Dtype dtype;
    Shape shape;
    if (!broadcast_inputs(node, &dtype, &shape, error)) return false;
    set_output(node, 0, dtype, &shape);
    return true;
}

bool infer_broadcast_bool(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Dtype dtype;
    Shape shape;
    if (!broadcast_inputs(node, &dtype, &shape, error)) return false;
    set_output(node, 0, DTYPE_BOOL, &shape);
    return true;
}

bool input_integers(const Node *node, int index, int64_t *out, int capacity, int *count, Error *error)
{
    const Value *value = input_value(node, index);
    *count = -1;
    if (!value) return true;
    const Tensor *constant = value->constant;
    if (!constant) {
        return fail_node(error, node, "make it an initializer, or export the model with fixed shapes", "input %d (%s) must be a constant",
                         index, value->name);
    }
    if (!dtype_rows[constant->dtype].is_integer) {
        return fail_node(error, node, "give it as int64", "input %d (%s) is %s, wanted are integers", index, value->name,
                         dtype_name(constant->dtype));
    }
    int64_t elements = tensor_count(constant);
    if (elements > capacity) {
        return fail_node(error, node, "check the model", "input %d (%s) has %lld elements, at most %d fit", index, value->name,
                         (long long)elements, capacity);
    }
    for (int64_t i = 0; i < elements; i++)
        out[i] = tensor_get_integer(constant, i);
    *count = (int)elements;
    return true;
}

bool normalize_axis(const Node *node, int64_t axis, int rank, int *out, Error *error)
{
    if (axis < -rank || axis >= rank) {
        return fail_node(error, node, "an axis counts from 0, or from the end with -1", "axis %lld is outside of rank %d", (long long)axis,
                         rank);
    }
    *out = (int)(axis < 0 ? axis + rank : axis);
    return true;
}

bool input_or_attribute_axes(const Node *node, int index, int rank, int *axes, int *count, Error *error)
{
    int64_t values[ESPQ_MAX_RANK];
    if (!input_integers(node, index, values, ESPQ_MAX_RANK, count, error)) return false;
    if (*count < 0) {
        const Attribute *attribute = node_attribute(node, "axes");
        if (attribute && attribute->count > ESPQ_MAX_RANK)
            return fail_node(error, node, "check the model", "axes has %d entries", attribute->count);
        *count = node_integers(node, "axes", values, ESPQ_MAX_RANK);
    }
    for (int i = 0; i < *count; i++) {
        if (!normalize_axis(node, values[i], rank, &axes[i], error)) return false;
        for (int k = 0; k < i; k++) {
            if (axes[k] == axes[i]) return fail_node(error, node, "name each axis once", "axis %d is named twice", axes[i]);
        }
    }
    return true;
}

bool attribute_integers(const Node *node, const char *name, int64_t otherwise, int64_t *out, int count, Error *error)
{
    const Attribute *attribute = node_attribute(node, name);
    if (!attribute || attribute->kind != ATTRIBUTE_INTS || attribute->count == 0) {
        for (int i = 0; i < count; i++)
            out[i] = otherwise;
        return true;
    }
    if (attribute->count != count)
        return fail_node(error, node, "one entry an axis is wanted", "%s has %d entries, wanted are %d", name, attribute->count, count);
    memcpy(out, attribute->integers, (size_t)count * sizeof *out);
    return true;
}

bool follows_chip(const Prepare *prepare)
{
    return !prepare->exact || (prepare->simulated && prepare->node->quantized);
}

size_t scratch_add(Prepare *prepare, size_t bytes)
{
    size_t offset = (prepare->scratch_bytes + 63) / 64 * 64;
    prepare->scratch_bytes = offset + bytes;
    return offset;
}

AxisView axis_view(const Shape *shape, int axis)
{
    AxisView view = {1, shape->dims[axis], 1};
    for (int i = 0; i < axis; i++)
        view.outer *= shape->dims[i];
    for (int i = axis + 1; i < shape->rank; i++)
        view.inner *= shape->dims[i];
    return view;
}

void contiguous_strides(const Shape *shape, int64_t strides[ESPQ_MAX_RANK])
{
    int64_t stride = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= shape->dims[i];
    }
}

void broadcast_strides(const Shape *from, const Shape *to, int64_t strides[ESPQ_MAX_RANK])
{
    int64_t own[ESPQ_MAX_RANK];
    contiguous_strides(from, own);
    for (int i = 0; i < to->rank; i++) {
        int k = i - (to->rank - from->rank);
        strides[i] = k < 0 || from->dims[k] == 1 ? 0 : own[k];
    }
}

void broadcast_floats(const float *from, const Shape *from_shape, const Shape *to_shape, float *to)
{
    int64_t strides[ESPQ_MAX_RANK], index[ESPQ_MAX_RANK] = {0}, count = shape_count(to_shape), at = 0;
    broadcast_strides(from_shape, to_shape, strides);
    for (int64_t i = 0; i < count; i++) {
        to[i] = from[at];
        for (int k = to_shape->rank - 1; k >= 0; k--) {
            at += strides[k];
            if (++index[k] < to_shape->dims[k]) break;
            at -= strides[k] * to_shape->dims[k];
            index[k] = 0;
        }
    }
}

typedef struct Copy {
    const char *from;
    char *to;
} Copy;

static void copy_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Copy *copy = context;
    memcpy(copy->to + begin, copy->from + begin, (size_t)(end - begin));
}

void run_copy(const Run *run)
{
    Copy copy = {run->inputs[0]->data, run->outputs[0]->data};
    size_t bytes = tensor_bytes(run->outputs[0]);
    if (copy.from != copy.to) threads_for((int64_t)bytes, 1 << 20, copy_part, &copy);
}

int64_t parameter_bytes(const Node *node)
{
    int64_t elements = 0;
    for (int i = 0; i < node->input_count; i++) {
        const Value *value = node->inputs[i];
        if (value && value->constant && value->constant->dtype == DTYPE_FLOAT32) elements += tensor_count(value->constant);
    }
    return elements;
}

void cost_elementwise(const Node *node, Cost *cost)
{
    cost->macs = 0;
    cost->parameter_bytes = parameter_bytes(node);
}
