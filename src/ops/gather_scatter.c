/* Elements picked or placed by indices: Gather GatherElements GatherND ScatterElements ScatterND. Negative indices count from the
 * end. Constant indices are checked when shapes are inferred; others, which nobody can refuse any more while running, are held
 * inside of the axis. */
#include <string.h>

#include "base/threads.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/rows.h"

static int64_t index_within(int64_t index, int64_t dim)
{
    if (index < 0) index += dim;
    return index < 0 ? 0 : index >= dim ? dim - 1 : index;
}

static bool check_indices(const Node *node, const Tensor *indices, int64_t dim, Error *error)
{
    if (!indices) return true;
    for (int64_t i = 0, count = tensor_count(indices); i < count; i++) {
        int64_t index = tensor_get_integer(indices, i);
        if (index < -dim || index >= dim) {
            return fail_node(error, node, "indices run from 0, or from the end with -1",
                             "index %lld (element %lld) is outside of an axis of %lld", (long long)index, (long long)i, (long long)dim);
        }
    }
    return true;
}

static bool indices_input(const Node *node, int index, Shape *shape, Error *error)
{
    if (!input_shape(node, index, shape, error)) return false;
    const Value *value = node->inputs[index];
    if (value->dtype == DTYPE_NONE || value->dtype == DTYPE_INT64 || value->dtype == DTYPE_INT32) return true;
    return fail_node(error, node, "put a Cast to int64 before it", "the indices (%s) are %s, wanted are integers", value->name,
                     dtype_name(value->dtype));
}

/* ---- Gather ---- */

static bool gather_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape data, indices, to;
    int axis;
    if (!input_shape(node, 0, &data, error) || !indices_input(node, 1, &indices, error)) return false;
    if (!require_rank(node, &data, 1, ESPQ_MAX_RANK, "input", error)) return false;
    if (!normalize_axis(node, node_integer(node, "axis", 0), data.rank, &axis, error)) return false;
    if (!check_indices(node, node->inputs[1]->constant, data.dims[axis], error)) return false;
    to.rank = data.rank - 1 + indices.rank;
    if (to.rank > ESPQ_MAX_RANK) return fail_node(error, node, "use indices of fewer dimensions", "the result would have rank %d", to.rank);
    int at = 0;
    for (int i = 0; i < axis; i++)
        to.dims[at++] = data.dims[i];
    for (int i = 0; i < indices.rank; i++)
        to.dims[at++] = indices.dims[i];
    for (int i = axis + 1; i < data.rank; i++)
        to.dims[at++] = data.dims[i];
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

/* The reference hands the data on unchanged when a float Gather has a negative axis (QUANT §10.3). Where the shapes agree that is
 * done here too (state NULL), else its figures cannot be had. Integers are shape arithmetic and always exact. */
static bool gather_prepare(Prepare *prepare, Error *error)
{
    bool reference = !prepare->exact && dtype_rows[prepare->input_dtypes[0]].is_float && node_integer(prepare->node, "axis", 0) < 0;
    if (reference && !shape_equal(&prepare->input_shapes[0], &prepare->output_shapes[0])) {
        return fail_node(error, prepare->node, "count the axis from 0, or set switches.onnx_exact_ops = true",
                         "the reference does not know a negative axis and would hand its input on");
    }
    Prepare exact = *prepare;
    exact.exact = !reference;
    bool ok = prepare_exact(&exact, error);
    prepare->state = exact.state;
    return ok;
}

typedef struct Gather {
    const Tensor *data, *indices;
    Tensor *y;
    AxisView view;
    int64_t count;
} Gather;

static void gather_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Gather *gather = context;
    size_t bytes = (size_t)gather->view.inner * dtype_bytes(gather->data->dtype);
    for (int64_t i = begin; i < end; i++) {
        int64_t outer = i / gather->count,
                index = index_within(tensor_get_integer(gather->indices, i % gather->count), gather->view.length);
        memcpy(gather->y->data + (size_t)i * bytes, gather->data->data + (size_t)(outer * gather->view.length + index) * bytes, bytes);
    }
}

static void gather_run(const Run *run)
{
    const Tensor *data = run->inputs[0];
    if (!run->state) {
        run_copy(run);
        return;
    }
    int64_t axis = node_integer(run->node, "axis", 0);
    AxisView view = axis_view(&data->shape, (int)(axis < 0 ? axis + data->shape.rank : axis));
    Gather gather = {data, run->inputs[1], run->outputs[0], view, tensor_count(run->inputs[1])};
    if (tensor_count(run->outputs[0]) == 0 || view.length == 0) return;
    threads_for(view.outer * gather.count, OPS_GRAIN / view.inner + 1, gather_part, &gather);
}

/* ---- GatherElements, ScatterElements: one index an element, along one axis ---- */

static bool elements_axis(const Node *node, const Shape *data, const Shape *indices, int *axis, Error *error)
{
    if (!normalize_axis(node, node_integer(node, "axis", 0), data->rank, axis, error)) return false;
    bool fits = data->rank == indices->rank;
    for (int i = 0; i < data->rank && fits; i++)
        fits = i == *axis || indices->dims[i] <= data->dims[i];
    if (fits) return true;
    char a[160], b[160];
    return fail_node(error, node, "indices have the rank of the data, and no larger dimensions but on the axis",
                     "indices %s do not fit data %s on axis %d", shape_text(indices, b), shape_text(data, a), *axis);
}

/* Place in the data of index element `flat`. */
static int64_t element_place(const Shape *data, const Shape *indices, int axis, int64_t flat, int64_t index)
{
    int64_t place = 0, stride = 1;
    for (int i = data->rank - 1; i >= 0; i--) {
        int64_t at = i == axis ? index_within(index, data->dims[i]) : flat % indices->dims[i];
        flat /= indices->dims[i];
        place += at * stride;
        stride *= data->dims[i];
    }
    return place;
}

static bool gather_elements_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape data, indices;
    int axis;
    if (!input_shape(node, 0, &data, error) || !indices_input(node, 1, &indices, error) ||
        !elements_axis(node, &data, &indices, &axis, error))
        return false;
    if (!check_indices(node, node->inputs[1]->constant, data.dims[axis], error)) return false;
    set_output(node, 0, node->inputs[0]->dtype, &indices);
    return true;
}

static int axis_of(const Node *node, int rank)
{
    int64_t axis = node_integer(node, "axis", 0);
    return (int)(axis < 0 ? axis + rank : axis);
}

static void gather_elements_run(const Run *run)
{
    const Tensor *data = run->inputs[0], *indices = run->inputs[1];
    size_t bytes = dtype_bytes(data->dtype);
    int axis = axis_of(run->node, data->shape.rank);
    if (tensor_count(data) == 0) return;
    for (int64_t i = 0, count = tensor_count(indices); i < count; i++) {
        int64_t place = element_place(&data->shape, &indices->shape, axis, i, tensor_get_integer(indices, i));
        memcpy(run->outputs[0]->data + (size_t)i * bytes, data->data + (size_t)place * bytes, bytes);
    }
}

typedef enum { SCATTER_SET, SCATTER_ADD, SCATTER_MUL, SCATTER_MAX, SCATTER_MIN, SCATTER_KINDS } ScatterKind;

static ScatterKind scatter_kind(const Node *node)
{
    static const char *const words[] = {"none", "add", "mul", "max", "min"};
    const char *word = node_string(node, "reduction", "none");
    for (int i = 0; i < SCATTER_KINDS; i++) {
        if (strcmp(word, words[i]) == 0) return (ScatterKind)i;
    }
    return SCATTER_KINDS;
}

static bool check_kind(const Node *node, Error *error)
{
    if (scatter_kind(node) != SCATTER_KINDS) return true;
    return fail_node(error, node, "known are none, add, mul, max and min", "reduction \"%s\" is not known",
                     node_string(node, "reduction", ""));
}

#define COMBINED(kind, a, b)                                                                                                               \
    ((kind) == SCATTER_ADD   ? (a) + (b)                                                                                                   \
     : (kind) == SCATTER_MUL ? (a) * (b)                                                                                                   \
     : (kind) == SCATTER_MAX ? ((a) > (b) ? (a) : (b))                                                                                     \
     : (a) < (b)             ? (a)                                                                                                         \
                             : (b))

static void combine(const Tensor *y, int64_t place, const Tensor *updates, int64_t from, int64_t count, ScatterKind kind)
{
    size_t bytes = dtype_bytes(y->dtype);
    if (kind == SCATTER_SET) {
        memcpy(y->data + (size_t)place * bytes, updates->data + (size_t)from * bytes, (size_t)count * bytes);
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (numbers_of(y->dtype) == NUMBERS_INTEGER) {
            int64_t a, b;
            load_integers(y, place + i, 1, 1, &a);
            load_integers(updates, from + i, 1, 1, &b);
            a = kind == SCATTER_ADD   ? (int64_t)((uint64_t)a + (uint64_t)b)
                : kind == SCATTER_MUL ? (int64_t)((uint64_t)a * (uint64_t)b)
                                      : COMBINED(kind, a, b);
            store_integers(y, place + i, 1, &a);
        } else if (y->dtype == DTYPE_FLOAT64) {
            double a, b;
            load_doubles(y, place + i, 1, 1, &a);
            load_doubles(updates, from + i, 1, 1, &b);
            a = COMBINED(kind, a, b);
            store_doubles(y, place + i, 1, &a);
        } else {
            float a, b;
            load_floats(y, place + i, 1, 1, &a);
            load_floats(updates, from + i, 1, 1, &b);
            a = COMBINED(kind, a, b);
            store_floats(y, place + i, 1, &a);
        }
    }
}

static bool same_type_updates(const Node *node, Error *error)
{
    const Value *data = input_value(node, 0), *updates = input_value(node, 2);
    if (data->dtype == updates->dtype || data->dtype == DTYPE_NONE || updates->dtype == DTYPE_NONE) return true;
    return fail_node(error, node, "put a Cast before one of them", "data are %s, updates are %s", dtype_name(data->dtype),
                     dtype_name(updates->dtype));
}

static bool scatter_elements_infer(Graph *graph, Node *node, Error *error)
{
    Shape data, indices, updates;
    int axis;
    if (!input_shape(node, 0, &data, error) || !indices_input(node, 1, &indices, error) || !input_shape(node, 2, &updates, error))
        return false;
    if (!elements_axis(node, &data, &indices, &axis, error) || !check_kind(node, error) || !same_type_updates(node, error)) return false;
    if (!check_indices(node, node->inputs[1]->constant, data.dims[axis], error)) return false;
    if (!shape_equal(&indices, &updates)) {
        char a[160], b[160];
        return fail_node(error, node, "give one update an index", "updates %s do not fit indices %s", shape_text(&updates, a),
                         shape_text(&indices, b));
    }
    return infer_same_shape(graph, node, error);
}

static void scatter_elements_run(const Run *run)
{
    const Tensor *data = run->inputs[0], *indices = run->inputs[1];
    ScatterKind kind = scatter_kind(run->node);
    int axis = axis_of(run->node, data->shape.rank);
    run_copy(run);
    if (tensor_count(data) == 0) return;
    for (int64_t i = 0, count = tensor_count(indices); i < count; i++) {
        int64_t place = element_place(&data->shape, &indices->shape, axis, i, tensor_get_integer(indices, i));
        combine(run->outputs[0], place, run->inputs[2], i, 1, kind);
    }
}

/* ---- GatherND, ScatterND: the last axis of the indices is a place in the first axes of the data ---- */

static bool check_tuples(const Node *node, const Tensor *indices, const Shape *data, int first_axis, Error *error)
{
    if (!indices) return true;
    int64_t width = indices->shape.dims[indices->shape.rank - 1];
    for (int64_t i = 0, count = tensor_count(indices); i < count; i++) {
        int64_t index = tensor_get_integer(indices, i), dim = data->dims[first_axis + i % width];
        if (index < -dim || index >= dim) {
            return fail_node(error, node, "indices run from 0, or from the end with -1",
                             "index %lld (element %lld) is outside of an axis of %lld", (long long)index, (long long)i, (long long)dim);
        }
    }
    return true;
}

/* Place of tuple `tuple` in the data, counted in slices behind the indexed axes. */
static int64_t tuple_place(const Shape *data, int first_axis, const Tensor *indices, int64_t width, int64_t tuple)
{
    int64_t place = 0;
    for (int64_t k = 0; k < width; k++) {
        int64_t dim = data->dims[first_axis + k];
        place = place * dim + index_within(tensor_get_integer(indices, tuple * width + k), dim);
    }
    return place;
}

static bool gather_nd_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape data, indices, to = {0};
    if (!input_shape(node, 0, &data, error) || !indices_input(node, 1, &indices, error)) return false;
    int64_t batch = node_integer(node, "batch_dims", 0), width = indices.rank > 0 ? indices.dims[indices.rank - 1] : 0;
    bool fits = indices.rank > 0 && batch >= 0 && batch < indices.rank && width >= 1 && batch + width <= data.rank;
    for (int i = 0; i < batch && fits; i++)
        fits = data.dims[i] == indices.dims[i];
    int64_t rank = indices.rank - 1 + data.rank - batch - width;
    if (!fits || rank > ESPQ_MAX_RANK) {
        char a[160], b[160];
        return fail_node(error, node, "the last axis of the indices counts the axes of the data that it points into",
                         "indices %s with batch_dims %lld do not fit data %s", shape_text(&indices, b), (long long)batch,
                         shape_text(&data, a));
    }
    if (!check_tuples(node, node->inputs[1]->constant, &data, (int)batch, error)) return false;
    for (int i = 0; i < indices.rank - 1; i++)
        to.dims[to.rank++] = indices.dims[i];
    for (int i = (int)(batch + width); i < data.rank; i++)
        to.dims[to.rank++] = data.dims[i];
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

static void gather_nd_run(const Run *run)
{
    const Tensor *data = run->inputs[0], *indices = run->inputs[1];
    Tensor *y = run->outputs[0];
    int batch = (int)node_integer(run->node, "batch_dims", 0);
    int64_t width = indices->shape.dims[indices->shape.rank - 1], batches = 1, slices = 1, inner = 1;
    for (int i = 0; i < batch; i++)
        batches *= data->shape.dims[i];
    for (int i = batch; i < batch + width; i++)
        slices *= data->shape.dims[i];
    for (int i = batch + (int)width; i < data->shape.rank; i++)
        inner *= data->shape.dims[i];
    if (tensor_count(y) == 0 || tensor_count(data) == 0) return;
    int64_t tuples = tensor_count(indices) / width, tuples_a_batch = tuples / batches;
    size_t bytes = (size_t)inner * dtype_bytes(data->dtype);
    for (int64_t i = 0; i < tuples; i++) {
        int64_t place = i / tuples_a_batch * slices + tuple_place(&data->shape, batch, indices, width, i);
        memcpy(y->data + (size_t)i * bytes, data->data + (size_t)place * bytes, bytes);
    }
}

static bool scatter_nd_infer(Graph *graph, Node *node, Error *error)
{
    Shape data, indices, updates, wanted = {0};
    if (!input_shape(node, 0, &data, error) || !indices_input(node, 1, &indices, error) || !input_shape(node, 2, &updates, error))
        return false;
    int64_t width = indices.rank > 0 ? indices.dims[indices.rank - 1] : 0;
    bool fits = width >= 1 && width <= data.rank && indices.rank - 1 + data.rank - width <= ESPQ_MAX_RANK;
    for (int i = 0; fits && i < indices.rank - 1; i++)
        wanted.dims[wanted.rank++] = indices.dims[i];
    for (int i = (int)width; fits && i < data.rank; i++)
        wanted.dims[wanted.rank++] = data.dims[i];
    if (!fits || !shape_equal(&wanted, &updates)) {
        char a[160], b[160], c[160];
        return fail_node(
            error, node, "updates are indices.shape without its last axis, followed by the axes of the data that are not indexed",
            "data %s, indices %s and updates %s do not fit", shape_text(&data, a), shape_text(&indices, b), shape_text(&updates, c));
    }
    if (!check_kind(node, error) || !same_type_updates(node, error) || !check_tuples(node, node->inputs[1]->constant, &data, 0, error))
        return false;
    return infer_same_shape(graph, node, error);
}

static void scatter_nd_run(const Run *run)
{
    const Tensor *data = run->inputs[0], *indices = run->inputs[1];
    ScatterKind kind = scatter_kind(run->node);
    int64_t width = indices->shape.dims[indices->shape.rank - 1], inner = 1;
    for (int i = (int)width; i < data->shape.rank; i++)
        inner *= data->shape.dims[i];
    run_copy(run);
    if (tensor_count(data) == 0) return;
    for (int64_t i = 0, tuples = tensor_count(indices) / width; i < tuples; i++) {
        combine(run->outputs[0], tuple_place(&data->shape, 0, indices, width, i) * inner, run->inputs[2], i * inner, inner, kind);
    }
}

/* ---- rows ---- */

/* Where updates are added or multiplied, elements are no copies any more. */
static size_t scatter_gradient_scratch(const Prepare *prepare)
{
    bool copies = strcmp(node_string(prepare->node, "reduction", "none"), "none") == 0;
    return copies ? gradient_moves_scratch(prepare) : SIZE_MAX;
}

const Operator op_gather = {
    .name = "Gather",
    .help = "Entries of one axis by index.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = 0}},
    .infer = gather_infer,
    .prepare = gather_prepare,
    .release = release_nothing,
    .run = gather_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_gather_elements = {
    .name = "GatherElements",
    .help = "One element an index, along one axis.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = 0}},
    .infer = gather_elements_infer,
    .run = gather_elements_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "use Gather where all rows take the same indices, or cut the model before it",
};

const Operator op_gather_nd = {
    .name = "GatherND",
    .help = "Slices by index tuples.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{"batch_dims", ATTRIBUTE_INT, .number = 0}},
    .infer = gather_nd_infer,
    .run = gather_nd_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "use Gather or Slice, or cut the model before it",
};

const Operator op_scatter_elements = {
    .name = "ScatterElements",
    .help = "One element an index put in, along one axis.",
    .inputs = {3, 3},
    .outputs = {1, 1},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = 0}, {"reduction", ATTRIBUTE_STRING, .text = "none", .words = "none|add|mul|max|min"}},
    .infer = scatter_elements_infer,
    .run = scatter_elements_run,
    .gradient = gradient_moves,
    .gradient_scratch = scatter_gradient_scratch,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "use ScatterND, or Concat of parts",
};

const Operator op_scatter_nd = {
    .name = "ScatterND",
    .help = "Slices put in by index tuples.",
    .inputs = {3, 3},
    .outputs = {1, 1},
    .attributes = {{"reduction", ATTRIBUTE_STRING, .text = "none", .words = "none|add|mul|max|min"}},
    .infer = scatter_nd_infer,
    .run = scatter_nd_run,
    .gradient = gradient_moves,
    .gradient_scratch = scatter_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .float_inputs = 1 << 1,
    .align = ALIGN_CONCAT,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
