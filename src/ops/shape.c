/* Rows of shape arithmetic and constants: Shape Size ConstantOfShape Range NonZero OneHot Constant Trilu EyeLike. They are folded when
 * loading wherever shapes are known. */
#include <math.h>
#include <string.h>

#include "ops/block.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* ---- Shape, Size ---- */

static void shape_range(const Node *node, int rank, int64_t *start, int64_t *end)
{
    *start = node_integer(node, "start", 0);
    *end = node_integer(node, "end", rank);
    if (*start < 0) *start += rank;
    if (*end < 0) *end += rank;
    *start = *start < 0 ? 0 : *start > rank ? rank : *start;
    *end = *end < *start ? *start : *end > rank ? rank : *end;
}

static bool shape_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    int64_t start, end;
    if (!input_shape(node, 0, &shape, error)) return false;
    shape_range(node, shape.rank, &start, &end);
    set_output(node, 0, DTYPE_INT64, &(Shape){.rank = 1, .dims = {end - start}});
    return true;
}

static void shape_run(const Run *run)
{
    const Shape *shape = &run->inputs[0]->shape;
    int64_t start, end;
    shape_range(run->node, shape->rank, &start, &end);
    memcpy(run->outputs[0]->data, shape->dims + start, (size_t)(end - start) * sizeof(int64_t));
}

static bool size_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error)) return false;
    set_output(node, 0, DTYPE_INT64, &(Shape){.rank = 0});
    return true;
}

static void size_run(const Run *run)
{
    int64_t count = tensor_count(run->inputs[0]);
    memcpy(run->outputs[0]->data, &count, sizeof count);
}

/* ---- ConstantOfShape, Constant ---- */

static const Tensor *tensor_attribute(const Node *node, const char *name)
{
    const Attribute *attribute = node_attribute(node, name);
    return attribute && attribute->kind == ATTRIBUTE_TENSOR ? attribute->tensor : NULL;
}

static bool constant_of_shape_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_integers(node, 0, shape.dims, ESPQ_MAX_RANK, &shape.rank, error)) return false;
    if (shape.rank < 0) return fail_node(error, node, "give the shape as input 0", "the shape is missing");
    const Tensor *value = tensor_attribute(node, "value");
    if (value && tensor_count(value) != 1) {
        return fail_node(error, node, "value is one number", "value has %lld elements", (long long)tensor_count(value));
    }
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dims[i] < 0) return fail_node(error, node, "sizes are 0 or more", "size %d is %lld", i, (long long)shape.dims[i]);
    }
    set_output(node, 0, value ? value->dtype : DTYPE_FLOAT32, &shape);
    return true;
}

static void constant_of_shape_run(const Run *run)
{
    static const char zeros[8];
    const Tensor *value = tensor_attribute(run->node, "value");
    Tensor *y = run->outputs[0];
    block_fill(y->data, tensor_count(y), value ? value->data : zeros, dtype_bytes(y->dtype));
}

static bool constant_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    static const struct {
        const char *name;
        AttributeKind kind;
        Dtype dtype;
        int rank;
    } forms[] = {
        {"value_float", ATTRIBUTE_FLOAT, DTYPE_FLOAT32, 0},
        {"value_int", ATTRIBUTE_INT, DTYPE_INT64, 0},
        {"value_floats", ATTRIBUTE_FLOATS, DTYPE_FLOAT32, 1},
        {"value_ints", ATTRIBUTE_INTS, DTYPE_INT64, 1},
    };
    const Tensor *value = tensor_attribute(node, "value");
    if (value) {
        set_output(node, 0, value->dtype, &value->shape);
        return true;
    }
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const Attribute *attribute = node_attribute(node, forms[i].name);
        if (!attribute || attribute->kind != forms[i].kind) continue;
        set_output(node, 0, forms[i].dtype, &(Shape){.rank = forms[i].rank, .dims = {attribute->count}});
        return true;
    }
    return fail_node(error, node, "give it as a tensor (value) or as numbers",
                     "it has none of value, value_float, value_floats, value_int, value_ints");
}

static void constant_run(const Run *run)
{
    const Tensor *value = tensor_attribute(run->node, "value");
    Tensor *y = run->outputs[0];
    if (value) {
        memcpy(y->data, value->data, tensor_bytes(y));
        return;
    }
    bool is_float = y->dtype == DTYPE_FLOAT32;
    if (y->shape.rank == 0) {
        if (is_float) {
            store_floats(y, 0, 1, &(float){node_number(run->node, "value_float", 0)});
        } else {
            store_integers(y, 0, 1, &(int64_t){node_integer(run->node, "value_int", 0)});
        }
        return;
    }
    const Attribute *list = node_attribute(run->node, is_float ? "value_floats" : "value_ints");
    if (is_float) {
        store_floats(y, 0, list->count, list->numbers);
    } else {
        store_integers(y, 0, list->count, list->integers);
    }
}

/* ---- Range ---- */

static bool constant_number(const Node *node, int index, double *out, Error *error)
{
    const Value *value = input_value(node, index);
    if (value && value->constant && tensor_count(value->constant) == 1) {
        *out = tensor_get(value->constant, 0);
        return true;
    }
    return fail_node(error, node, "make it an initializer, or export the model with fixed shapes",
                     "input %d (%s) must be one constant number", index, value ? value->name : "missing");
}

static bool range_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    double start, limit, delta;
    if (!constant_number(node, 0, &start, error) || !constant_number(node, 1, &limit, error) || !constant_number(node, 2, &delta, error))
        return false;
    double count = ceil((limit - start) / delta);
    if (delta == 0 || !(count < 0x1p40)) {
        return fail_node(error, node, "check the three inputs", "a range from %g to %g in steps of %g has no end", start, limit, delta);
    }
    set_output(node, 0, node->inputs[0]->dtype, &(Shape){.rank = 1, .dims = {count > 0 ? (int64_t)count : 0}});
    return true;
}

static void range_run(const Run *run)
{
    Tensor *y = run->outputs[0];
    int64_t count = tensor_count(y), start = 0, delta = 0;
    double first, step;
    load_doubles(run->inputs[0], 0, 1, 1, &first);
    load_doubles(run->inputs[2], 0, 1, 1, &step);
    bool integers = numbers_of(y->dtype) == NUMBERS_INTEGER;
    if (integers) {
        load_integers(run->inputs[0], 0, 1, 1, &start);
        load_integers(run->inputs[2], 0, 1, 1, &delta);
    }
    for (int64_t i = 0; i < count; i++) {
        if (integers) {
            store_integers(y, i, 1, &(int64_t){start + i * delta});
        } else {
            store_doubles(y, i, 1, &(double){first + (double)i * step});
        }
    }
}

/* ---- NonZero: how many there are must be known when shapes are ---- */

static bool is_set(const Tensor *x, int64_t place)
{
    double value;
    load_doubles(x, place, 1, 1, &value);
    return value != 0;
}

static bool non_zero_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error)) return false;
    const Tensor *constant = node->inputs[0]->constant;
    if (!constant) {
        return fail_node(error, node, "cut the model before it (outputs), or replace it by a mask that is multiplied",
                         "how many elements come out depends on the data");
    }
    int64_t found = 0;
    for (int64_t i = 0, count = tensor_count(constant); i < count; i++)
        found += is_set(constant, i);
    set_output(node, 0, DTYPE_INT64, &(Shape){.rank = 2, .dims = {shape.rank, found}});
    return true;
}

static void non_zero_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    int64_t *y = (int64_t *)(void *)run->outputs[0]->data, columns = run->outputs[0]->shape.dims[1], column = 0;
    for (int64_t i = 0, count = tensor_count(x); i < count && column < columns; i++) {
        if (!is_set(x, i)) continue;
        int64_t rest = i;
        for (int axis = x->shape.rank - 1; axis >= 0; axis--) {
            y[axis * columns + column] = rest % x->shape.dims[axis];
            rest /= x->shape.dims[axis];
        }
        column++;
    }
}

/* ---- OneHot ---- */

static int one_hot_axis(const Node *node, int rank)
{
    int64_t axis = node_integer(node, "axis", -1);
    return (int)(axis < 0 ? axis + rank : axis);
}

static bool one_hot_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape indices, to;
    double depth;
    int axis;
    if (!input_shape(node, 0, &indices, error) || !constant_number(node, 1, &depth, error)) return false;
    if (!require_rank(node, &indices, 0, ESPQ_MAX_RANK - 1, "indices", error)) return false;
    to.rank = indices.rank + 1;
    if (!normalize_axis(node, node_integer(node, "axis", -1), to.rank, &axis, error)) return false;
    if (!(depth >= 0 && depth < 0x1p40)) return fail_node(error, node, "depth is 1 or more", "depth is %g", depth);
    for (int i = 0, k = 0; i < to.rank; i++)
        to.dims[i] = i == axis ? (int64_t)depth : indices.dims[k++];
    const Value *values = input_value(node, 2);
    if (!values || (values->shaped && shape_count(&values->shape) != 2)) {
        return fail_node(error, node, "values are [off, on]", "input 2 must have two elements");
    }
    set_output(node, 0, values->dtype, &to);
    return true;
}

static void one_hot_run(const Run *run)
{
    const Tensor *indices = run->inputs[0], *values = run->inputs[2];
    Tensor *y = run->outputs[0];
    AxisView view = axis_view(&y->shape, one_hot_axis(run->node, y->shape.rank));
    size_t bytes = dtype_bytes(y->dtype);
    block_fill(y->data, tensor_count(y), values->data, bytes);
    for (int64_t i = 0; i < view.outer * view.inner; i++) {
        int64_t index = tensor_get_integer(indices, i);
        if (index < 0) index += view.length;
        if (index < 0 || index >= view.length) continue; /* outside: all off, as ONNX says */
        int64_t place = (i / view.inner * view.length + index) * view.inner + i % view.inner;
        memcpy(y->data + (size_t)place * bytes, values->data + bytes, bytes);
    }
}

/* ---- Trilu, EyeLike ---- */

static bool trilu_infer(Graph *graph, Node *node, Error *error)
{
    Shape shape;
    int64_t k;
    int count;
    if (!input_shape(node, 0, &shape, error) || !require_rank(node, &shape, 2, ESPQ_MAX_RANK, "input", error)) return false;
    return input_integers(node, 1, &k, 1, &count, error) && infer_same_shape(graph, node, error);
}

static void trilu_run(const Run *run)
{
    static const char zeros[8];
    const Tensor *x = run->inputs[0], *diagonal = run->node->input_count > 1 ? run->inputs[1] : NULL;
    bool upper = node_integer(run->node, "upper", 1) != 0;
    int64_t k = diagonal ? tensor_get_integer(diagonal, 0) : 0;
    int64_t columns = x->shape.dims[x->shape.rank - 1], rows = x->shape.dims[x->shape.rank - 2];
    size_t bytes = dtype_bytes(x->dtype);
    run_copy(run);
    for (int64_t i = 0, count = tensor_count(x); i < count; i++) {
        int64_t column = i % columns, row = i / columns % rows;
        if (upper ? column < row + k : column > row + k) memcpy(run->outputs[0]->data + (size_t)i * bytes, zeros, bytes);
    }
}

static bool eye_like_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error) || !require_rank(node, &shape, 2, 2, "input", error)) return false;
    int64_t number = node_integer(node, "dtype", 0);
    Dtype dtype = number ? dtype_from_onnx((int)number) : node->inputs[0]->dtype;
    if (dtype == DTYPE_NONE) return fail_node(error, node, "use float32 or int64", "dtype %lld is not known", (long long)number);
    set_output(node, 0, dtype, &shape);
    return true;
}

static void eye_like_run(const Run *run)
{
    Tensor *y = run->outputs[0];
    int64_t k = node_integer(run->node, "k", 0);
    memset(y->data, 0, tensor_bytes(y));
    for (int64_t row = 0; row < y->shape.dims[0]; row++) {
        int64_t column = row + k;
        if (column >= 0 && column < y->shape.dims[1]) store_integers(y, row * y->shape.dims[1] + column, 1, &(int64_t){1});
    }
}

/* ---- rows ---- */

#define FOLDED .cost = cost_elementwise, .module_cure = "it is folded when shapes are known: give input_shape for every graph input"
#define ALL_ENDS UINT32_MAX

const Operator op_shape = {
    .name = "Shape",
    .help = "Sizes of its input.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"start", ATTRIBUTE_INT, .number = 0}, {"end", ATTRIBUTE_INT}},
    .infer = shape_infer,
    .run = shape_run,
    .flags = OPERATOR_SHAPE_ONLY,
    .float_outputs = 1,
    .layout = LAYOUT_OTHER,
    FOLDED,
};

const Operator op_size = {
    .name = "Size",
    .help = "Number of elements.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = size_infer,
    .run = size_run,
    .flags = OPERATOR_SHAPE_ONLY,
    .float_outputs = 1,
    .layout = LAYOUT_OTHER,
    FOLDED,
};

const Operator op_constant_of_shape = {
    .name = "ConstantOfShape",
    .help = "One number in a given shape.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"value", ATTRIBUTE_TENSOR}},
    .infer = constant_of_shape_infer,
    .run = constant_of_shape_run,
    .float_inputs = ALL_ENDS,
    .float_outputs = ALL_ENDS,
    .layout = LAYOUT_OTHER,
    FOLDED,
};

const Operator op_constant = {
    .name = "Constant",
    .help = "A constant.",
    .inputs = {0, 0},
    .outputs = {1, 1},
    .attributes = {{"value", ATTRIBUTE_TENSOR},
                   {"value_float", ATTRIBUTE_FLOAT},
                   {"value_floats", ATTRIBUTE_FLOATS},
                   {"value_int", ATTRIBUTE_INT},
                   {"value_ints", ATTRIBUTE_INTS}},
    .infer = constant_infer,
    .run = constant_run,
    .layout = LAYOUT_OTHER,
    FOLDED,
};

const Operator op_range = {
    .name = "Range",
    .help = "From start to limit in steps of delta.",
    .inputs = {3, 3},
    .outputs = {1, 1},
    .infer = range_infer,
    .run = range_run,
    .float_inputs = ALL_ENDS,
    .float_outputs = ALL_ENDS,
    .layout = LAYOUT_OTHER,
    FOLDED,
};

const Operator op_non_zero = {
    .name = "NonZero",
    .help = "Places of the elements that are not 0.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = non_zero_infer,
    .run = non_zero_run,
    .float_outputs = 1,
    .layout = LAYOUT_OTHER,
    FOLDED,
};

const Operator op_one_hot = {
    .name = "OneHot",
    .help = "One element of an axis on, by index.",
    .inputs = {3, 3},
    .outputs = {1, 1},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = -1}},
    .infer = one_hot_infer,
    .run = one_hot_run,
    .float_inputs = ALL_ENDS,
    .float_outputs = ALL_ENDS,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "cut the model behind it (inputs) and hand in the vectors",
};

const Operator op_trilu = {
    .name = "Trilu",
    .help = "Upper or lower triangle.",
    .inputs = {1, 2},
    .outputs = {1, 1},
    .attributes = {{"upper", ATTRIBUTE_INT, .number = 1}},
    .infer = trilu_infer,
    .run = trilu_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "write it as Mul with a constant mask",
};

const Operator op_eye_like = {
    .name = "EyeLike",
    .help = "Ones on a diagonal.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"dtype", ATTRIBUTE_INT}, {"k", ATTRIBUTE_INT, .number = 0}},
    .infer = eye_like_infer,
    .run = eye_like_run,
    .flags = OPERATOR_SHAPE_ONLY,
    .layout = LAYOUT_OTHER,
    FOLDED,
};
