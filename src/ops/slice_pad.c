/* Slice (inputs, or attributes before opset 10; negative steps) and Pad (constant, reflect, edge; pads and axes as inputs or attribute). */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops/block.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* ---- Slice ---- */

typedef struct Cut {
    int64_t start[ESPQ_MAX_RANK], step[ESPQ_MAX_RANK], count[ESPQ_MAX_RANK];
} Cut;

static bool slice_list(const Node *node, int index, const char *attribute, int64_t *out, int *count, Error *error)
{
    if (!input_integers(node, index, out, ESPQ_MAX_RANK, count, error)) return false;
    if (*count < 0) *count = node_integers(node, attribute, out, ESPQ_MAX_RANK);
    return *count <= ESPQ_MAX_RANK || fail_node(error, node, "check the model", "%s has %d entries", attribute, *count);
}

static int64_t within(int64_t value, int64_t least, int64_t most)
{
    return value < least ? least : value > most ? most : value;
}

/* The part of each axis, as NumPy cuts. */
static bool slice_cut(const Node *node, const Shape *shape, Cut *cut, Error *error)
{
    int64_t starts[ESPQ_MAX_RANK], ends[ESPQ_MAX_RANK], axes[ESPQ_MAX_RANK], steps[ESPQ_MAX_RANK];
    int start_count, end_count, axis_count, step_count;
    if (!slice_list(node, 1, "starts", starts, &start_count, error) || !slice_list(node, 2, "ends", ends, &end_count, error) ||
        !slice_list(node, 3, "axes", axes, &axis_count, error) || !slice_list(node, 4, "steps", steps, &step_count, error)) {
        return false;
    }
    if (start_count < 0 || end_count != start_count || (axis_count >= 0 && axis_count != start_count) ||
        (step_count >= 0 && step_count != start_count) || start_count > shape->rank) {
        return fail_node(error, node, "starts, ends, axes and steps are equally long",
                         "starts, ends, axes and steps have %d, %d, %d and %d entries (-1: absent)", start_count, end_count, axis_count,
                         step_count);
    }
    for (int i = 0; i < shape->rank; i++) {
        cut->start[i] = 0;
        cut->step[i] = 1;
        cut->count[i] = shape->dims[i];
    }
    for (int i = 0; i < start_count; i++) {
        int axis;
        if (!normalize_axis(node, axis_count < 0 ? i : axes[i], shape->rank, &axis, error)) return false;
        int64_t dim = shape->dims[axis], step = step_count < 0 ? 1 : steps[i], start = starts[i], end = ends[i];
        if (step == 0) return fail_node(error, node, "a step is at least 1, or negative to go backwards", "the step of axis %d is 0", axis);
        if (start < 0) start += dim;
        if (end < 0) end += dim;
        start = step > 0 ? within(start, 0, dim) : within(start, 0, dim - 1);
        end = step > 0 ? within(end, 0, dim) : within(end, -1, dim - 1);
        int64_t span = step > 0 ? end - start : start - end;
        uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
        cut->start[axis] = start;
        cut->step[axis] = step;
        cut->count[axis] = span <= 0 || dim == 0 ? 0 : (int64_t)(((uint64_t)span - 1) / stride) + 1;
    }
    return true;
}

static bool slice_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    Cut cut;
    if (!input_shape(node, 0, &shape, error) || !slice_cut(node, &shape, &cut, error)) return false;
    memcpy(shape.dims, cut.count, sizeof(int64_t) * (size_t)shape.rank);
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

static bool slice_prepare(Prepare *prepare, Error *error)
{
    Cut *cut = memory_new(sizeof *cut);
    if (!cut) return fail_memory(error, sizeof *cut);
    prepare->state = cut;
    return slice_cut(prepare->node, &prepare->input_shapes[0], cut, error);
}

static void slice_run(const Run *run)
{
    const Cut *cut = run->state;
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    int64_t from[ESPQ_MAX_RANK], to[ESPQ_MAX_RANK], first = 0;
    if (tensor_count(y) == 0) return;
    contiguous_strides(&x->shape, from);
    contiguous_strides(&y->shape, to);
    Block block = {0};
    for (int i = 0; i < x->shape.rank; i++) {
        first += cut->start[i] * from[i];
        block_add(&block, y->shape.dims[i], y->shape.dims[i] > 1 ? cut->step[i] * from[i] : from[i], to[i]);
    }
    size_t bytes = dtype_bytes(x->dtype);
    block_move(&block, x->data + first * (int64_t)bytes, y->data, bytes);
}

/* ---- Pad ---- */

typedef enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP, PAD_UNKNOWN } PadMode;

static PadMode pad_mode(const Node *node)
{
    static const char *const words[] = {"constant", "reflect", "edge", "wrap"};
    const char *mode = node_string(node, "mode", "constant");
    for (int i = 0; i < 4; i++) {
        if (strcmp(mode, words[i]) == 0) return (PadMode)i;
    }
    return PAD_UNKNOWN;
}

typedef struct Pad {
    PadMode mode;
    int64_t before[ESPQ_MAX_RANK], after[ESPQ_MAX_RANK]; /* negative: cut away */
} Pad;

static bool pad_sizes(const Node *node, const Shape *shape, Pad *pad, Error *error)
{
    int64_t pads[2 * ESPQ_MAX_RANK];
    int axes[ESPQ_MAX_RANK], count, axis_count;
    memset(pad, 0, sizeof *pad);
    pad->mode = pad_mode(node);
    if (pad->mode == PAD_UNKNOWN) {
        return fail_node(error, node, "known are constant, reflect, edge and wrap", "mode \"%s\" is not known",
                         node_string(node, "mode", ""));
    }
    if (!input_integers(node, 1, pads, 2 * ESPQ_MAX_RANK, &count, error)) return false;
    if (count < 0) count = node_integers(node, "pads", pads, 2 * ESPQ_MAX_RANK);
    if (!input_or_attribute_axes(node, 3, shape->rank, axes, &axis_count, error)) return false;
    if (axis_count < 0) {
        axis_count = shape->rank;
        for (int i = 0; i < shape->rank; i++)
            axes[i] = i;
    }
    if (count != 2 * axis_count) {
        return fail_node(error, node, "give the numbers before for all axes, then the numbers behind", "pads has %d entries, wanted are %d",
                         count < 0 ? 0 : count, 2 * axis_count);
    }
    for (int i = 0; i < axis_count; i++) {
        int axis = axes[i];
        int64_t before = pads[i], after = pads[axis_count + i], dim = shape->dims[axis], size;
        pad->before[axis] = before;
        pad->after[axis] = after;
        bool bad = __builtin_add_overflow(dim, before, &size) || __builtin_add_overflow(size, after, &size) || size < 0;
        int64_t most = pad->mode == PAD_REFLECT ? dim - 1 : dim; /* as far as there is something to mirror */
        bool far = (pad->mode == PAD_REFLECT || pad->mode == PAD_WRAP) && (before > most || after > most);
        if (bad || far || (pad->mode == PAD_EDGE && dim == 0 && (before > 0 || after > 0))) {
            char text[160];
            return fail_node(error, node, "make the pads smaller", "pads %lld and %lld do not fit axis %d of input %s in mode %s",
                             (long long)before, (long long)after, axis, shape_text(shape, text), node_string(node, "mode", "constant"));
        }
    }
    return true;
}

static bool pad_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    Pad pad;
    if (!input_shape(node, 0, &shape, error) || !pad_sizes(node, &shape, &pad, error)) return false;
    const Value *value = input_value(node, 2);
    if (value && value->shaped && shape_count(&value->shape) > 1) {
        return fail_node(error, node, "the value to pad with is one number", "input 2 (%s) has %lld elements", value->name,
                         (long long)shape_count(&value->shape));
    }
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] += pad.before[i] + pad.after[i];
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

/* The reference knows no wrap and no axes, and forgets pads of the batch axis (of rank 5 and more: also of axis 1) where it mirrors
 * (QUANT §10.3); whoever wants its figures must not meet other shapes unawares. */
static bool pad_as_reference(const Node *node, const Pad *pad, int rank, Error *error)
{
    const char *cure = "set switches.onnx_exact_ops = true, which pads as ONNX says";
    if (pad->mode == PAD_WRAP) return fail_node(error, node, cure, "the reference does not know mode wrap");
    if (pad->mode == PAD_CONSTANT) return true;
    int forgotten = rank >= 5 ? 2 : rank >= 2 ? 1 : 0;
    for (int i = 0; i < forgotten; i++) {
        if (pad->before[i] || pad->after[i]) {
            return fail_node(error, node, cure, "the reference leaves axis %d unpadded in mode %s", i, node_string(node, "mode", ""));
        }
    }
    return true;
}

static bool pad_prepare(Prepare *prepare, Error *error)
{
    Pad *pad = memory_new(sizeof *pad);
    if (!pad) return fail_memory(error, sizeof *pad);
    prepare->state = pad;
    const Shape *shape = &prepare->input_shapes[0];
    if (!pad_sizes(prepare->node, shape, pad, error)) return false;
    bool is_float = dtype_rows[prepare->input_dtypes[0]].is_float;
    return prepare->exact || !is_float || pad_as_reference(prepare->node, pad, shape->rank, error);
}

static int64_t pad_source(PadMode mode, int64_t index, int64_t dim)
{
    switch (mode) {
    case PAD_REFLECT: return index < 0 ? -index : index >= dim ? 2 * (dim - 1) - index : index;
    case PAD_WRAP: return index < 0 ? index + dim : index >= dim ? index - dim : index;
    default: return within(index, 0, dim - 1);
    }
}

typedef struct PadRows {
    const Pad *pad;
    const Tensor *x;
    Tensor *y;
} PadRows;

/* Rows of the output, each from the row of the input that the outer axes point at. */
static void pad_rows(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const PadRows *rows = context;
    const Shape *from = &rows->x->shape, *to = &rows->y->shape;
    const Pad *pad = rows->pad;
    int last = to->rank - 1;
    int64_t strides[ESPQ_MAX_RANK], width = to->dims[last], dim = from->dims[last], before = pad->before[last];
    contiguous_strides(from, strides);
    size_t bytes = dtype_bytes(rows->x->dtype);
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, offset = 0;
        for (int axis = last - 1; axis >= 0; axis--) {
            offset += pad_source(pad->mode, rest % to->dims[axis] - pad->before[axis], from->dims[axis]) * strides[axis];
            rest /= to->dims[axis];
        }
        const char *source = rows->x->data + (size_t)offset * bytes;
        char *target = rows->y->data + (size_t)(row * width) * bytes;
        for (int64_t i = 0; i < width; i++) {
            int64_t index = i - before;
            if (index >= 0 && index < dim) { /* the middle at once */
                int64_t count = dim - index < width - i ? dim - index : width - i;
                memcpy(target + (size_t)i * bytes, source + (size_t)index * bytes, (size_t)count * bytes);
                i += count - 1;
            } else {
                memcpy(target + (size_t)i * bytes, source + (size_t)pad_source(pad->mode, index, dim) * bytes, bytes);
            }
        }
    }
}

static void pad_constant(const Pad *pad, const Tensor *x, const Tensor *value, Tensor *y)
{
    static const char zeros[8];
    size_t bytes = dtype_bytes(y->dtype);
    block_fill(y->data, tensor_count(y), value && tensor_count(value) ? value->data : zeros, bytes);
    int64_t from[ESPQ_MAX_RANK], to[ESPQ_MAX_RANK], first_from = 0, first_to = 0;
    contiguous_strides(&x->shape, from);
    contiguous_strides(&y->shape, to);
    Block block = {0};
    for (int i = 0; i < x->shape.rank; i++) {
        int64_t skipped = pad->before[i] < 0 ? -pad->before[i] : 0, cut = pad->after[i] < 0 ? -pad->after[i] : 0;
        first_from += skipped * from[i];
        first_to += (pad->before[i] > 0 ? pad->before[i] : 0) * to[i];
        block_add(&block, x->shape.dims[i] - skipped - cut, from[i], to[i]);
    }
    block_move(&block, x->data + (size_t)first_from * bytes, y->data + (size_t)first_to * bytes, bytes);
}

static void pad_run(const Run *run)
{
    const Pad *pad = run->state;
    const Tensor *x = run->inputs[0], *value = run->node->input_count > 2 ? run->inputs[2] : NULL;
    Tensor *y = run->outputs[0];
    if (tensor_count(y) == 0) return;
    if (pad->mode == PAD_CONSTANT || y->shape.rank == 0) {
        Tensor by_attribute = {.dtype = DTYPE_FLOAT32};
        float number = node_number(run->node, "value", 0);
        if (!value && x->dtype == DTYPE_FLOAT32) {
            by_attribute.data = (char *)&number;
            value = &by_attribute;
        }
        pad_constant(pad, x, value, y);
        return;
    }
    PadRows rows = {pad, x, y};
    int64_t width = y->shape.dims[y->shape.rank - 1];
    threads_for(tensor_count(y) / width, OPS_GRAIN / width + 1, pad_rows, &rows);
}

/* ---- rows ---- */

const Operator op_slice = {
    .name = "Slice",
    .help = "A part of some axes.",
    .inputs = {1, 5},
    .outputs = {1, 1},
    .attributes = {{"starts", ATTRIBUTE_INTS}, {"ends", ATTRIBUTE_INTS}, {"axes", ATTRIBUTE_INTS}, {"steps", ATTRIBUTE_INTS}},
    .infer = slice_infer,
    .prepare = slice_prepare,
    .run = slice_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
    .float_inputs = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_pad = {
    .name = "Pad",
    .help = "Elements before and behind.",
    .inputs = {1, 4},
    .outputs = {1, 1},
    .attributes = {{"mode", ATTRIBUTE_STRING, .text = "constant", .words = "constant|reflect|edge|wrap"},
                   {"pads", ATTRIBUTE_INTS},
                   {"value", ATTRIBUTE_FLOAT}},
    .infer = pad_infer,
    .prepare = pad_prepare,
    .run = pad_run,
    .gradient = gradient_moves,
    .gradient_fixed = 1u << 2,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
    .float_inputs = 1 << 1 | 1 << 2 | 1 << 3,
    .scaled_inputs = 1 << 2,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
