/* Rows that put elements into another order or together: Transpose, Concat, Split, Expand, Tile, ReverseSequence. */
#include <string.h>

#include "base/memory.h"
#include "ops/block.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* ---- Transpose ---- */

static bool transpose_order(const Node *node, int rank, int *order, Error *error)
{
    const Attribute *attribute = node_attribute(node, "perm");
    int64_t perm[ESPQ_MAX_RANK];
    bool seen[ESPQ_MAX_RANK] = {false};
    if (!attribute) {
        for (int i = 0; i < rank; i++)
            order[i] = rank - 1 - i;
        return true;
    }
    if (attribute->count != rank) {
        return fail_node(error, node, "perm names each axis once", "perm has %d entries, the input has rank %d", attribute->count, rank);
    }
    node_integers(node, "perm", perm, ESPQ_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        if (!normalize_axis(node, perm[i], rank, &order[i], error)) return false;
        if (seen[order[i]]) return fail_node(error, node, "perm names each axis once", "perm names axis %d twice", order[i]);
        seen[order[i]] = true;
    }
    return true;
}

static bool transpose_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape from, to;
    int order[ESPQ_MAX_RANK];
    if (!input_shape(node, 0, &from, error) || !transpose_order(node, from.rank, order, error)) return false;
    to.rank = from.rank;
    for (int i = 0; i < from.rank; i++)
        to.dims[i] = from.dims[order[i]];
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

static void transpose_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    int64_t from[ESPQ_MAX_RANK], to[ESPQ_MAX_RANK];
    int order[ESPQ_MAX_RANK];
    if (!transpose_order(run->node, x->shape.rank, order, NULL)) return; /* infer has refused this */
    contiguous_strides(&x->shape, from);
    contiguous_strides(&y->shape, to);
    Block block = {0};
    for (int i = 0; i < y->shape.rank; i++)
        block_add(&block, y->shape.dims[i], from[order[i]], to[i]);
    block_move(&block, x->data, y->data, dtype_bytes(x->dtype));
}

/* ---- Concat ---- */

static bool concat_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape, other;
    int axis;
    if (!input_shape(node, 0, &shape, error) || !normalize_axis(node, node_integer(node, "axis", 0), shape.rank, &axis, error))
        return false;
    for (int i = 1; i < node->input_count; i++) {
        if (!input_shape(node, i, &other, error)) return false;
        bool fits = other.rank == shape.rank;
        for (int k = 0; k < shape.rank && fits; k++)
            fits = k == axis || other.dims[k] == shape.dims[k];
        if (!fits) {
            char a[160], b[160];
            return fail_node(error, node, "only the joined axis may differ", "input 0 %s and input %d %s cannot be joined on axis %d",
                             shape_text(&node->inputs[0]->shape, a), i, shape_text(&other, b), axis);
        }
        if (node->inputs[i]->dtype != node->inputs[0]->dtype && node->inputs[i]->dtype != DTYPE_NONE) {
            return fail_node(error, node, "put a Cast before one of them", "input 0 is %s, input %d is %s",
                             dtype_name(node->inputs[0]->dtype), i, dtype_name(node->inputs[i]->dtype));
        }
        shape.dims[axis] += other.dims[axis];
    }
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

/* A part of an axis: [outer][length][inner] of the part, beginning at `start` of the whole. */
static void move_part_of_axis(const Tensor *whole, const Tensor *part, int axis, int64_t start, bool into_whole)
{
    AxisView all = axis_view(&whole->shape, axis), some = axis_view(&part->shape, axis);
    size_t bytes = dtype_bytes(whole->dtype);
    int64_t row = some.length * some.inner, whole_row = all.length * all.inner;
    char *place = whole->data + (size_t)(start * all.inner) * bytes;
    Block block = {0};
    block_add(&block, some.outer, into_whole ? row : whole_row, into_whole ? whole_row : row);
    block_add(&block, row, 1, 1);
    if (into_whole) {
        block_move(&block, part->data, place, bytes);
    } else {
        block_move(&block, place, part->data, bytes);
    }
}

static int axis_of(const Node *node, int rank)
{
    int64_t axis = node_integer(node, "axis", 0);
    return (int)(axis < 0 ? axis + rank : axis);
}

static void concat_run(const Run *run)
{
    Tensor *y = run->outputs[0];
    int axis = axis_of(run->node, y->shape.rank);
    int64_t start = 0;
    for (int i = 0; i < run->node->input_count; i++) {
        move_part_of_axis(y, run->inputs[i], axis, start, true);
        start += run->inputs[i]->shape.dims[axis];
    }
}

/* ---- Split: sizes as input 1, as attribute `split`, or equal parts (num_outputs of opset 18; the last may be smaller) ---- */

static bool split_sizes(const Node *node, int64_t length, int64_t *sizes, Error *error)
{
    int parts = node->output_count, count;
    const Value *given = input_value(node, 1);
    if (given && given->constant && tensor_count(given->constant) != parts) {
        return fail_node(error, node, "give one size an output", "split has %lld sizes, the node has %d outputs",
                         (long long)tensor_count(given->constant), parts);
    }
    if (!input_integers(node, 1, sizes, parts, &count, error)) return false;
    const Attribute *attribute = node_attribute(node, "split");
    if (count < 0 && attribute && attribute->kind == ATTRIBUTE_INTS) {
        if (attribute->count != parts) {
            return fail_node(error, node, "give one size an output", "split has %d sizes, the node has %d outputs", attribute->count,
                             parts);
        }
        count = node_integers(node, "split", sizes, parts);
    }
    int64_t total = 0;
    if (count < 0) {
        int64_t size = (length + parts - 1) / parts;
        for (int i = 0; i < parts; i++) {
            int64_t rest = length - size * i;
            sizes[i] = rest < 0 ? 0 : rest < size ? rest : size;
        }
        bool uneven = length % parts != 0 && node_integer(node, "num_outputs", 0) == 0;
        if (uneven) {
            return fail_node(error, node, "give the sizes (input split)", "%lld elements of the axis cannot be split into %d equal parts",
                             (long long)length, parts);
        }
        return true;
    }
    for (int i = 0; i < parts; i++) {
        if (sizes[i] < 0 || sizes[i] > length)
            return fail_node(error, node, "check split", "size %lld of part %d is outside of the axis of %lld", (long long)sizes[i], i,
                             (long long)length);
        total += sizes[i];
    }
    if (total == length) return true;
    return fail_node(error, node, "the sizes add up to the axis", "the sizes of split add up to %lld, the axis has %lld", (long long)total,
                     (long long)length);
}

static bool split_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    int axis;
    if (!input_shape(node, 0, &shape, error) || !normalize_axis(node, node_integer(node, "axis", 0), shape.rank, &axis, error))
        return false;
    int64_t wanted = node_integer(node, "num_outputs", node->output_count);
    if (wanted != node->output_count) {
        return fail_node(error, node, "name every output", "num_outputs is %lld, the node has %d outputs", (long long)wanted,
                         node->output_count);
    }
    int64_t *sizes = memory_new_array((size_t)node->output_count + 1, sizeof *sizes);
    if (!sizes) return fail_memory(error, (size_t)node->output_count * sizeof *sizes);
    bool ok = split_sizes(node, shape.dims[axis], sizes, error);
    for (int i = 0; i < node->output_count && ok; i++) {
        shape.dims[axis] = sizes[i];
        set_output(node, i, node->inputs[0]->dtype, &shape);
    }
    memory_free(sizes);
    return ok;
}

static void release_sizes(void *state)
{
    memory_free(state);
}

/* run must know where each part starts, also when an output in between is left out. */
static bool split_prepare(Prepare *prepare, Error *error)
{
    const Node *node = prepare->node;
    int64_t *sizes = memory_new_array((size_t)node->output_count + 1, sizeof *sizes);
    if (!sizes) return fail_memory(error, (size_t)node->output_count * sizeof *sizes);
    prepare->state = sizes;
    const Shape *shape = &prepare->input_shapes[0];
    return split_sizes(node, shape->dims[axis_of(node, shape->rank)], sizes, error);
}

static void split_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    const int64_t *sizes = run->state;
    int axis = axis_of(run->node, x->shape.rank);
    int64_t start = 0;
    for (int i = 0; i < run->node->output_count; i++) {
        if (run->outputs[i]) move_part_of_axis(x, run->outputs[i], axis, start, false);
        start += sizes[i];
    }
}

static void concat_gradient(const Gradient *gradient)
{
    const Tensor *dy = gradient->output_gradients[0];
    int axis = axis_of(gradient->node, dy->shape.rank);
    int64_t start = 0;
    for (int i = 0; i < gradient->node->input_count; i++) {
        if (gradient->input_gradients[i]) move_part_of_axis(dy, gradient->input_gradients[i], axis, start, false);
        start += gradient->inputs[i]->shape.dims[axis];
    }
}

static void split_gradient(const Gradient *gradient)
{
    Tensor *dx = gradient->input_gradients[0];
    const int64_t *sizes = gradient->state;
    if (!dx) return;
    int axis = axis_of(gradient->node, dx->shape.rank);
    int64_t start = 0;
    memset(dx->data, 0, tensor_bytes(dx));
    for (int i = 0; i < gradient->node->output_count; i++) {
        if (gradient->output_gradients[i]) move_part_of_axis(dx, gradient->output_gradients[i], axis, start, true);
        start += sizes[i];
    }
}

/* ---- Expand, Tile ---- */

static bool expand_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape from, asked, to;
    int count;
    if (!input_shape(node, 0, &from, error) || !input_integers(node, 1, asked.dims, ESPQ_MAX_RANK, &count, error)) return false;
    asked.rank = count < 0 ? 0 : count;
    char a[160], b[160];
    for (int i = 0; i < asked.rank; i++) {
        if (asked.dims[i] < 0)
            return fail_node(error, node, "sizes are 0 or more", "the asked shape %s has a negative size", shape_text(&asked, b));
    }
    if (!shape_broadcast(&from, &asked, &to)) {
        return fail_node(error, node, "right-aligned dimensions must be equal or 1", "input %s cannot be expanded to %s",
                         shape_text(&from, a), shape_text(&asked, b));
    }
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

static void expand_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    int64_t from[ESPQ_MAX_RANK], to[ESPQ_MAX_RANK];
    broadcast_strides(&x->shape, &y->shape, from);
    contiguous_strides(&y->shape, to);
    Block block = {0};
    for (int i = 0; i < y->shape.rank; i++)
        block_add(&block, y->shape.dims[i], from[i], to[i]);
    block_move(&block, x->data, y->data, dtype_bytes(x->dtype));
}

static bool tile_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    int64_t repeats[ESPQ_MAX_RANK];
    int count;
    if (!input_shape(node, 0, &shape, error) || !input_integers(node, 1, repeats, ESPQ_MAX_RANK, &count, error)) return false;
    if (count != shape.rank)
        return fail_node(error, node, "give one number an axis", "repeats has %d entries, the input has rank %d", count < 0 ? 0 : count,
                         shape.rank);
    for (int i = 0; i < shape.rank; i++) {
        if (repeats[i] < 0 || __builtin_mul_overflow(shape.dims[i], repeats[i], &shape.dims[i])) {
            return fail_node(error, node, "repeats are 0 or more", "repeats[%d] is %lld", i, (long long)repeats[i]);
        }
    }
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

static void tile_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    int64_t from[ESPQ_MAX_RANK], to[ESPQ_MAX_RANK];
    contiguous_strides(&x->shape, from);
    contiguous_strides(&y->shape, to);
    Block block = {.empty = tensor_count(y) == 0};
    if (block.empty) return;
    for (int i = 0; i < x->shape.rank; i++) {
        block_add(&block, y->shape.dims[i] / x->shape.dims[i], 0, x->shape.dims[i] * to[i]);
        block_add(&block, x->shape.dims[i], from[i], to[i]);
    }
    block_move(&block, x->data, y->data, dtype_bytes(x->dtype));
}

/* ---- ReverseSequence ---- */

static bool reverse_sequence_infer(Graph *graph, Node *node, Error *error)
{
    Shape shape, lengths;
    if (!input_shape(node, 0, &shape, error) || !input_shape(node, 1, &lengths, error)) return false;
    int64_t time = node_integer(node, "time_axis", 0), batch = node_integer(node, "batch_axis", 1);
    if (shape.rank < 2 || time == batch || time < 0 || time > 1 || batch < 0 || batch > 1) {
        return fail_node(error, node, "batch_axis and time_axis are 0 and 1, one each", "batch_axis %lld and time_axis %lld do not fit",
                         (long long)batch, (long long)time);
    }
    if (shape_count(&lengths) != shape.dims[batch]) {
        char a[160], b[160];
        return fail_node(error, node, "give one length a batch entry", "sequence_lens %s do not fit input %s", shape_text(&lengths, a),
                         shape_text(&shape, b));
    }
    return infer_same_shape(graph, node, error);
}

static void reverse_sequence_run(const Run *run)
{
    const Tensor *x = run->inputs[0], *lengths = run->inputs[1];
    Tensor *y = run->outputs[0];
    int time_axis = (int)node_integer(run->node, "time_axis", 0), batch_axis = 1 - time_axis;
    int64_t steps = x->shape.dims[time_axis], batches = x->shape.dims[batch_axis], inner = 1;
    for (int i = 2; i < x->shape.rank; i++)
        inner *= x->shape.dims[i];
    size_t bytes = (size_t)inner * dtype_bytes(x->dtype);
    for (int64_t batch = 0; batch < batches; batch++) {
        int64_t length = tensor_get_integer(lengths, batch);
        if (length > steps) length = steps;
        for (int64_t step = 0; step < steps; step++) {
            int64_t source = step < length ? length - 1 - step : step;
            int64_t to = time_axis == 0 ? step * batches + batch : batch * steps + step;
            int64_t from = time_axis == 0 ? source * batches + batch : batch * steps + source;
            memcpy(y->data + (size_t)to * bytes, x->data + (size_t)from * bytes, bytes);
        }
    }
}

/* ---- rows ---- */

#define PASSIVE_FLAGS .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE
#define ANY_NUMBER 100000

const Operator op_transpose = {
    .name = "Transpose",
    .help = "Axes in another order.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"perm", ATTRIBUTE_INTS}},
    .infer = transpose_infer,
    .run = transpose_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    PASSIVE_FLAGS,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_concat = {
    .name = "Concat",
    .help = "Tensors joined on one axis.",
    .inputs = {1, ANY_NUMBER},
    .outputs = {1, 1},
    .attributes = {{"axis", ATTRIBUTE_INT, .required = true}},
    .infer = concat_infer,
    .run = concat_run,
    .gradient = concat_gradient,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_JOINS,
    .align = ALIGN_CONCAT,
    .layout = LAYOUT_CONCAT,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_split = {
    .name = "Split",
    .help = "One axis cut into parts.",
    .inputs = {1, 2},
    .outputs = {1, ANY_NUMBER},
    .attributes = {{"axis", ATTRIBUTE_INT, .number = 0}, {"split", ATTRIBUTE_INTS}, {"num_outputs", ATTRIBUTE_INT}},
    .infer = split_infer,
    .prepare = split_prepare,
    .release = release_sizes,
    .run = split_run,
    .gradient = split_gradient,
    PASSIVE_FLAGS,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_AXIS,
    .becomes_input = "split",
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_expand = {
    .name = "Expand",
    .help = "Broadcast to a shape.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = expand_infer,
    .run = expand_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "leave it out where what follows broadcasts by itself (Add, Mul …)",
};

const Operator op_tile = {
    .name = "Tile",
    .help = "Repeated along each axis.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = tile_infer,
    .run = tile_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .float_inputs = 1 << 1 | 1 << 2,
    .layout = LAYOUT_OTHER,
    .cost = cost_elementwise,
    .module_cure = "write it as Concat of the tensor with itself, or leave it out where what follows broadcasts",
};

const Operator op_reverse_sequence = {
    .name = "ReverseSequence",
    .help = "The first steps of each sequence in reverse.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{"batch_axis", ATTRIBUTE_INT, .number = 1}, {"time_axis", ATTRIBUTE_INT, .number = 0}},
    .infer = reverse_sequence_infer,
    .run = reverse_sequence_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE | OPERATOR_SEQUENCE,
    .float_inputs = 1 << 1,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
