/* Concat, Split, Slice, Pad, Transpose, DepthToSpace, SpaceToDepth, ReverseSequence (CHIP §2.19): bytes are moved, exponents are not
 * looked at. */
#include <string.h>

#include "base/memory.h"
#include "chip/copy.h"
#include "chip/ends.h"

static void strides_of(const Shape *shape, int64_t strides[ESPQ_MAX_RANK])
{
    int64_t stride = 1;
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        strides[axis] = stride;
        stride *= shape->dims[axis];
    }
}

static void copy_module_run(const ChipRun *run)
{
    copy_run(run->node->state, run->inputs[0], run->outputs[0]);
}

static Copy *copy_new(ChipNode *node, Error *error)
{
    Copy *copy = memory_new(sizeof *copy);
    if (!copy) fail_memory(error, sizeof *copy);
    return node->state = copy;
}

/* ---- Concat ---- */

static bool concat_axis(const ChipNode *node, int *axis, Error *error)
{
    if (!needs(node, node->input_count, 1, error) || !needs(node, 1, 1, error)) return false;
    return needs_axis(node, node_integer(node->node, "axis", 0), node->inputs[0].shape.rank, axis, error);
}

static bool concat_infer(ChipNode *node, Error *error)
{
    int axis;
    if (!concat_axis(node, &axis, error)) return false;
    Shape *out = &node->outputs[0].shape;
    *out = node->inputs[0].shape;
    for (int i = 1; i < node->input_count; i++) {
        Shape in = node->inputs[i].shape;
        int64_t length = axis < in.rank ? in.dims[axis] : 0;
        if (axis < in.rank) in.dims[axis] = out->dims[axis];
        if (!shape_equal(&in, out)) {
            char first[160], other[160];
            return refuse(node, error, "export the model again", "input 0 is %s, input %d is %s: they must differ along axis %d only",
                          shape_text(&node->inputs[0].shape, first), i, shape_text(&node->inputs[i].shape, other), axis);
        }
        out->dims[axis] += length;
    }
    return true;
}

static bool concat_prepare(ChipNode *node, Error *error)
{
    for (int i = 0; i < node->input_count; i++) {
        if (!needs_same_type(node, i, 0, error)) return false;
    }
    return true;
}

static void concat_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Shape *out = &node->outputs[0].shape;
    int64_t given = node_integer(node->node, "axis", 0);
    int axis = (int)(given < 0 ? given + out->rank : given);
    int64_t blocks = dims_product(out, 0, axis);
    size_t element = dtype_bytes(node->outputs[0].dtype), stride = (size_t)dims_product(out, axis, out->rank) * element, at = 0;
    for (int i = 0; i < node->input_count; i++) {
        const Shape *in = &node->inputs[i].shape;
        size_t block = (size_t)dims_product(in, axis, in->rank) * element;
        for (int64_t k = 0; k < blocks; k++)
            memcpy((char *)run->outputs[0] + (size_t)k * stride + at, (const char *)run->inputs[i] + (size_t)k * block, block);
        at += block;
    }
}

/* ---- Split ---- */

static bool split_sizes(const ChipNode *node, int64_t length, int64_t *sizes, Error *error)
{
    int count = 0, outputs = node->output_count;
    if (has_input(node, 1)) {
        if (!needs_numbers(node, 1, sizes, outputs, &count, error)) return false;
    } else {
        bool as_size = chip_has(node->chip, TRAIT_SPLIT_COUNT_AS_SIZE);
        int64_t pieces = node_integer(node->node, "num_outputs", as_size ? 0 : outputs);
        if (pieces < 1)
            return refuse(node, error, "write the sizes of the pieces as input 1",
                          "no sizes and no num_outputs, which the runtime asserts");
        int64_t size = as_size ? pieces : (length + pieces - 1) / pieces;
        for (int64_t left = length; left > 0 && count <= outputs; left -= size) {
            if (count < outputs) sizes[count] = left < size ? left : size;
            count++;
        }
        if (as_size && count != outputs)
            return refuse(node, error, "write the sizes of the pieces as input 1", "num_outputs %lld would be the size of a piece (C15)",
                          (long long)pieces);
    }
    int64_t sum = 0;
    for (int i = 0; i < count && i < outputs; i++) {
        if (sizes[i] < 1 || sizes[i] > length) sum = length + 1;
        sum += sizes[i];
    }
    if (count == outputs && sum == length) return true;
    return refuse(node, error, "export the model again", "%d sizes for %d outputs do not add up to %lld", count, outputs,
                  (long long)length);
}

static bool split_infer(ChipNode *node, Error *error)
{
    int axis;
    if (!needs(node, 1, 0, error) || !needs_axis(node, node_integer(node->node, "axis", 0), node->inputs[0].shape.rank, &axis, error))
        return false;
    int64_t *sizes = memory_new_array((size_t)node->output_count + 1, sizeof *sizes);
    if (!sizes) return fail_memory(error, (size_t)node->output_count * sizeof *sizes);
    bool ok = split_sizes(node, node->inputs[0].shape.dims[axis], sizes, error);
    for (int i = 0; ok && i < node->output_count; i++) {
        node->outputs[i].shape = node->inputs[0].shape;
        node->outputs[i].shape.dims[axis] = sizes[i];
    }
    memory_free(sizes);
    return ok;
}

static bool split_prepare(ChipNode *node, Error *error)
{
    for (int i = 0; i < node->output_count; i++) {
        if (has_output(node, i) && !needs_same_type(node, 0, i, error)) return false;
    }
    return true;
}

static void split_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Shape *in = &node->inputs[0].shape;
    int64_t given = node_integer(node->node, "axis", 0);
    int axis = (int)(given < 0 ? given + in->rank : given);
    int64_t blocks = dims_product(in, 0, axis);
    size_t element = dtype_bytes(node->inputs[0].dtype), stride = (size_t)dims_product(in, axis, in->rank) * element, at = 0;
    for (int i = 0; i < node->output_count; i++) {
        const Shape *out = &node->outputs[i].shape;
        size_t block = (size_t)dims_product(out, axis, out->rank) * element;
        for (int64_t k = 0; run->outputs[i] && k < blocks; k++)
            memcpy((char *)run->outputs[i] + (size_t)k * block, (const char *)run->inputs[0] + (size_t)k * stride + at, block);
        at += block;
    }
}

/* ---- Slice ---- */

typedef struct Cut {
    int64_t start, step, count;
} Cut;

static int64_t as_int32(int64_t value)
{
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value;
}

/* As the runtime does it: a negative step is turned into a positive one that counts from the end. */
static bool cut_axis(const ChipNode *node, int64_t length, int64_t start, int64_t end, int64_t step, Cut *cut, Error *error)
{
    bool backwards = step < 0;
    int64_t from = as_int32(start), to = as_int32(end), pace = backwards ? -step : step;
    if (backwards) {
        from = -from - 1;
        to = -to - 1;
    }
    if (to > length)
        to = length;
    else if (to < 0)
        to += length;
    if (from > length)
        from = length;
    else if (from < 0)
        from += length;
    if (pace < 1 || from < 0 || from >= to)
        return refuse(node, error, "write starts and ends that lie in the axis and leave something",
                      "start %lld, end %lld, step %lld of %lld: %s", (long long)start, (long long)end, (long long)step, (long long)length,
                      "the runtime reads outside of it or asserts");
    *cut = (Cut){.start = backwards ? length - 1 - from : from, .step = step, .count = 1 + (to - from - 1) / pace};
    return true;
}

static bool read_cuts(const ChipNode *node, Cut *cuts, Error *error)
{
    int64_t starts[ESPQ_MAX_RANK], ends[ESPQ_MAX_RANK], axes[ESPQ_MAX_RANK], steps[ESPQ_MAX_RANK];
    int count, end_count, axis_count, step_count;
    if (!needs(node, 3, 1, error)) return false;
    const Shape *shape = &node->inputs[0].shape;
    if (!needs_numbers(node, 1, starts, ESPQ_MAX_RANK, &count, error) || !needs_numbers(node, 2, ends, ESPQ_MAX_RANK, &end_count, error))
        return false;
    axis_count = step_count = count;
    for (int i = 0; i < count; i++) {
        axes[i] = i;
        steps[i] = 1;
    }
    if (has_input(node, 3) && !needs_numbers(node, 3, axes, ESPQ_MAX_RANK, &axis_count, error)) return false;
    if (has_input(node, 4) && !needs_numbers(node, 4, steps, ESPQ_MAX_RANK, &step_count, error)) return false;
    if (end_count != count || axis_count != count || step_count != count)
        return refuse(node, error, "export the model again", "%d starts, %d ends, %d axes, %d steps", count, end_count, axis_count,
                      step_count);
    for (int axis = 0; axis < shape->rank; axis++)
        cuts[axis] = (Cut){.step = 1, .count = shape->dims[axis]};
    for (int i = 0; i < count; i++) {
        int axis;
        if (!needs_axis(node, axes[i], shape->rank, &axis, error)) return false;
        if (!cut_axis(node, shape->dims[axis], starts[i], ends[i], steps[i], &cuts[axis], error)) return false;
    }
    return true;
}

static bool slice_infer(ChipNode *node, Error *error)
{
    Cut cuts[ESPQ_MAX_RANK];
    if (!read_cuts(node, cuts, error)) return false;
    Shape *out = &node->outputs[0].shape;
    out->rank = node->inputs[0].shape.rank;
    for (int axis = 0; axis < out->rank; axis++)
        out->dims[axis] = cuts[axis].count;
    return true;
}

static bool slice_prepare(ChipNode *node, Error *error)
{
    Cut cuts[ESPQ_MAX_RANK];
    Copy *copy = copy_new(node, error);
    if (!copy || !read_cuts(node, cuts, error) || !needs_same_type(node, 0, 0, error)) return false;
    const Shape *shape = &node->inputs[0].shape;
    int64_t strides[ESPQ_MAX_RANK], offset = 0;
    strides_of(shape, strides);
    for (int axis = 0; axis < shape->rank; axis++) {
        offset += cuts[axis].start * strides[axis];
        strides[axis] *= cuts[axis].step;
    }
    copy_set(copy, dtype_bytes(node->inputs[0].dtype), shape->rank, node->outputs[0].shape.dims, strides, offset);
    return true;
}

/* ---- Transpose ---- */

static bool read_permutation(const ChipNode *node, int *perm, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    int rank = node->inputs[0].shape.rank;
    int64_t given[ESPQ_MAX_RANK];
    int count = node_integers(node->node, "perm", given, ESPQ_MAX_RANK);
    bool seen[ESPQ_MAX_RANK] = {false};
    if (count > 0 && count != rank) return refuse(node, error, "export the model again", "perm has %d entries for %d axes", count, rank);
    for (int axis = 0; axis < rank; axis++) {
        if (!needs_axis(node, count > 0 ? given[axis] : rank - 1 - axis, rank, &perm[axis], error)) return false;
        if (seen[perm[axis]]) return refuse(node, error, "export the model again", "perm names axis %d twice", perm[axis]);
        seen[perm[axis]] = true;
    }
    return true;
}

static bool transpose_infer(ChipNode *node, Error *error)
{
    int perm[ESPQ_MAX_RANK];
    if (!read_permutation(node, perm, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    Shape *out = &node->outputs[0].shape;
    out->rank = in->rank;
    for (int axis = 0; axis < in->rank; axis++)
        out->dims[axis] = in->dims[perm[axis]];
    return true;
}

static bool transpose_prepare(ChipNode *node, Error *error)
{
    int perm[ESPQ_MAX_RANK];
    Copy *copy = copy_new(node, error);
    if (!copy || !read_permutation(node, perm, error) || !needs_same_type(node, 0, 0, error)) return false;
    int64_t strides[ESPQ_MAX_RANK], turned[ESPQ_MAX_RANK];
    strides_of(&node->inputs[0].shape, strides);
    for (int axis = 0; axis < node->inputs[0].shape.rank; axis++)
        turned[axis] = strides[perm[axis]];
    copy_set(copy, dtype_bytes(node->inputs[0].dtype), node->inputs[0].shape.rank, node->outputs[0].shape.dims, turned, 0);
    return true;
}

/* ---- DepthToSpace, SpaceToDepth: [N, H, W, C] ---- */

static bool read_block(const ChipNode *node, int64_t *block, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    *block = node_integer(node->node, "blocksize", 0);
    if (node->inputs[0].shape.rank == 4 && *block >= 1 && *block <= 4096) return true;
    return refuse(node, error, "export the model again", "blocksize %lld of a tensor with %d axes; the runtime takes [N, H, W, C]",
                  (long long)*block, node->inputs[0].shape.rank);
}

static bool to_space_infer(ChipNode *node, Error *error)
{
    int64_t block;
    if (!read_block(node, &block, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    if (in->dims[3] % (block * block))
        return refuse(node, error, "export the model again", "%lld channels are no multiple of the block's %lld", (long long)in->dims[3],
                      (long long)(block * block));
    node->outputs[0].shape = (Shape){4, {in->dims[0], in->dims[1] * block, in->dims[2] * block, in->dims[3] / (block * block)}};
    return true;
}

static bool to_space_prepare(ChipNode *node, Error *error)
{
    int64_t block;
    Copy *copy = copy_new(node, error);
    if (!copy || !read_block(node, &block, error) || !needs_same_type(node, 0, 0, error)) return false;
    const int64_t *d = node->inputs[0].shape.dims;
    int64_t channels = d[3] / (block * block), row = d[2] * d[3];
    const char *mode = node_string(node->node, "mode", "DCR");
    bool columns_first = strcmp(mode, "CRD") == 0;
    if (!columns_first && channels != block && chip_has(node->chip, TRAIT_DEPTH_ORDER))
        node->undefined = "C17: DepthToSpace in mode DCR writes to wrong places unless it leaves as many channels as its blocksize";
    int64_t dims[] = {d[0], d[1], block, d[2], block, channels};
    int64_t strides[] = {d[1] * row, row, block, d[3], 1, block * block}; /* CRD */
    if (!columns_first) {
        strides[2] = block * channels;
        strides[4] = channels;
        strides[5] = 1;
    }
    copy_set(copy, dtype_bytes(node->inputs[0].dtype), 6, dims, strides, 0);
    return true;
}

static bool to_depth_infer(ChipNode *node, Error *error)
{
    int64_t block;
    if (!read_block(node, &block, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    if (in->dims[1] % block || in->dims[2] % block)
        return refuse(node, error, "export the model again", "an image of %lld x %lld is not made of blocks of %lld",
                      (long long)in->dims[1], (long long)in->dims[2], (long long)block);
    node->outputs[0].shape = (Shape){4, {in->dims[0], in->dims[1] / block, in->dims[2] / block, in->dims[3] * block * block}};
    return true;
}

static bool to_depth_prepare(ChipNode *node, Error *error)
{
    int64_t block;
    Copy *copy = copy_new(node, error);
    if (!copy || !read_block(node, &block, error) || !needs_same_type(node, 0, 0, error)) return false;
    const int64_t *d = node->inputs[0].shape.dims;
    int64_t row = d[2] * d[3];
    int64_t dims[] = {d[0], d[1] / block, d[2] / block, d[3], block, block};
    int64_t strides[] = {d[1] * row, block * row, block * d[3], 1, row, d[3]}; /* a channel's block together, C17 */
    bool meant = strcmp(node_string(node->node, "mode", "DCR"), "CRD") == 0;   /* espq writes so where it counts on that order */
    if (!meant && !chip_has(node->chip, TRAIT_DEPTH_ORDER)) {                  /* ONNX: a pixel's channels together */
        dims[3] = dims[4] = block;
        dims[5] = d[3];
        strides[3] = row;
        strides[4] = d[3];
        strides[5] = 1;
    }
    copy_set(copy, dtype_bytes(node->inputs[0].dtype), 6, dims, strides, 0);
    return true;
}

/* ---- Pad ---- */

typedef enum { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT } PadMode;

typedef struct Pad {
    PadMode mode;
    int64_t begin[ESPQ_MAX_RANK];
    char value[8];
} Pad;

static bool read_pads(const ChipNode *node, int64_t pads[2 * ESPQ_MAX_RANK], Error *error)
{
    int count;
    if (!needs(node, 2, 1, error) || !needs_numbers(node, 1, pads, 2 * ESPQ_MAX_RANK, &count, error)) return false;
    if (count != 2 * node->inputs[0].shape.rank)
        return refuse(node, error, "give two numbers an axis", "%d pads for %d axes", count, node->inputs[0].shape.rank);
    for (int i = 0; i < count; i++) {
        if (pads[i] < 0 || pads[i] > INT32_MAX)
            return refuse(node, error, "use Slice to take elements off", "a pad of %lld", (long long)pads[i]);
    }
    return true;
}

static bool pad_infer(ChipNode *node, Error *error)
{
    int64_t pads[2 * ESPQ_MAX_RANK];
    if (!read_pads(node, pads, error)) return false;
    Shape *out = &node->outputs[0].shape;
    *out = node->inputs[0].shape;
    for (int axis = 0; axis < out->rank; axis++)
        out->dims[axis] += pads[axis] + pads[out->rank + axis];
    return true;
}

static bool pad_prepare(ChipNode *node, Error *error)
{
    int64_t pads[2 * ESPQ_MAX_RANK];
    Pad *pad = memory_new(sizeof *pad);
    if (!pad) return fail_memory(error, sizeof *pad);
    node->state = pad;
    if (!read_pads(node, pads, error) || !needs_same_type(node, 0, 0, error)) return false;
    const Shape *shape = &node->inputs[0].shape;
    memcpy(pad->begin, pads, (size_t)shape->rank * sizeof *pads);
    const char *mode = node_string(node->node, "mode", "constant");
    if (strcmp(mode, "edge") == 0)
        pad->mode = PAD_EDGE;
    else if (strcmp(mode, "reflect") == 0)
        pad->mode = PAD_REFLECT;
    else if (strcmp(mode, "constant") != 0)
        return refuse(node, error, "use constant, edge or reflect", "mode \"%s\"; the runtime knows constant, edge and reflect", mode);
    int from_axis = shape->rank == 5 && pads[0] == 0 && pads[5] == 0 ? 1 : 0;
    if (pad->mode != PAD_CONSTANT && shape->rank - from_axis > 4)
        return refuse(node, error, "reshape it to four axes", "mode \"%s\" of %d axes", mode, shape->rank);
    for (int axis = 0; pad->mode != PAD_CONSTANT && axis < shape->rank; axis++) {
        int64_t longest = pads[axis] > pads[shape->rank + axis] ? pads[axis] : pads[shape->rank + axis];
        if (shape->dims[axis] < 1 || (pad->mode == PAD_REFLECT && longest >= shape->dims[axis]))
            return refuse(node, error, "use smaller pads", "%lld pads beside %lld elements of axis %d", (long long)longest,
                          (long long)shape->dims[axis], axis);
    }
    if (!has_input(node, 2)) return true;
    const Tensor *value = node->inputs[2].constant;
    if (!value || tensor_count(value) < 1 || value->dtype != node->inputs[0].dtype)
        return refuse(node, error, "store it as a constant in the type of the data", "the value to pad with is %s",
                      value ? dtype_name(value->dtype) : "no constant");
    memcpy(pad->value, value->data, dtype_bytes(value->dtype));
    return true;
}

/* Which element of an axis stands at place `at` of the result; -1: the constant. */
static int64_t pad_source(const Pad *pad, int64_t at, int64_t length)
{
    if (at >= 0 && at < length) return at;
    switch (pad->mode) {
    case PAD_EDGE: return at < 0 ? 0 : length - 1;
    case PAD_REFLECT: return at < 0 ? -at : 2 * (length - 1) - at;
    case PAD_CONSTANT: break;
    }
    return -1;
}

static void pad_fill(const Pad *pad, char *to, int64_t count, size_t element)
{
    for (int64_t i = 0; i < count; i++)
        memcpy(to + (size_t)i * element, pad->value, element);
}

/* Places begin … end-1 of a line along the last axis, in its padding. */
static void pad_beside(const Pad *pad, const char *line, int64_t length, int64_t begin, int64_t end, char *to, size_t element)
{
    for (int64_t at = begin; at < end; at++, to += element) {
        int64_t source = pad_source(pad, at, length);
        memcpy(to, source < 0 ? pad->value : line + (size_t)source * element, element);
    }
}

static void pad_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Pad *pad = node->state;
    const Shape *in = &node->inputs[0].shape, *out = &node->outputs[0].shape;
    size_t element = dtype_bytes(node->inputs[0].dtype);
    int last = out->rank - 1;
    if (last < 0) {
        memcpy(run->outputs[0], run->inputs[0], element);
        return;
    }
    int64_t lines = dims_product(out, 0, last), strides[ESPQ_MAX_RANK];
    strides_of(in, strides);
    for (int64_t i = 0; i < lines; i++) {
        int64_t rest = i, from = 0;
        for (int axis = last - 1; axis >= 0; axis--) {
            int64_t source = pad_source(pad, rest % out->dims[axis] - pad->begin[axis], in->dims[axis]);
            from = source < 0 || from < 0 ? -1 : from + source * strides[axis];
            rest /= out->dims[axis];
        }
        char *to = (char *)run->outputs[0] + (size_t)(i * out->dims[last]) * element;
        if (from < 0) {
            pad_fill(pad, to, out->dims[last], element);
            continue;
        }
        const char *line = (const char *)run->inputs[0] + (size_t)from * element;
        int64_t length = in->dims[last], begin = pad->begin[last], end = out->dims[last] - begin;
        pad_beside(pad, line, length, -begin, 0, to, element);
        memcpy(to + (size_t)begin * element, line, (size_t)length * element);
        pad_beside(pad, line, length, length, end, to + (size_t)(begin + length) * element, element);
    }
}

/* ---- ReverseSequence ---- */

static bool reverse_prepare(ChipNode *node, Error *error)
{
    if (!needs(node, 2, 1, error) || !needs_same_type(node, 0, 0, error)) return false;
    const Shape *shape = &node->inputs[0].shape;
    int64_t batch = node_integer(node->node, "batch_axis", 1), time = node_integer(node->node, "time_axis", 0);
    if (shape->rank < 2 || batch + time != 1 || batch < 0 || time < 0)
        return refuse(node, error, "transpose it so that batch and time come first", "batch_axis %lld and time_axis %lld: %s",
                      (long long)batch, (long long)time, "the runtime takes them for the first two axes");
    if (node->inputs[1].dtype != DTYPE_INT64 || end_count(&node->inputs[1]) != shape->dims[batch])
        return refuse(node, error, "give one int64 a sequence", "%lld lengths of type %s for %lld sequences",
                      (long long)end_count(&node->inputs[1]), dtype_name(node->inputs[1].dtype), (long long)shape->dims[batch]);
    const Tensor *lengths = node->inputs[1].constant;
    for (int64_t i = 0; lengths && i < shape->dims[batch]; i++) {
        int64_t length = tensor_get_integer(lengths, i);
        if (length > shape->dims[time])
            return refuse(node, error, "give lengths within the sequence", "a sequence of %lld in %lld steps", (long long)length,
                          (long long)shape->dims[time]);
    }
    return true;
}

static void swap_bytes(char *a, char *b, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        char kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

static void reverse_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Shape *shape = &node->inputs[0].shape;
    int batch = (int)node_integer(node->node, "batch_axis", 1);
    int64_t steps = shape->dims[1 - batch];
    size_t item = (size_t)dims_product(shape, 2, shape->rank) * dtype_bytes(node->inputs[0].dtype);
    size_t first = (size_t)shape->dims[1] * item, batch_stride = batch == 0 ? first : item, time_stride = batch == 0 ? item : first;
    const int64_t *lengths = run->inputs[1];
    char *y = run->outputs[0];
    if (y != run->inputs[0]) memcpy(y, run->inputs[0], end_bytes(&node->inputs[0]));
    for (int64_t b = 0; b < shape->dims[batch]; b++) {
        int64_t length = lengths[b] < steps ? lengths[b] : steps; /* a length from outside may be anything */
        for (int64_t t = 0; t < length / 2; t++) {
            char *sequence = y + (size_t)b * batch_stride;
            swap_bytes(sequence + (size_t)t * time_stride, sequence + (size_t)(length - 1 - t) * time_stride, item);
        }
    }
}

const ChipModule chip_move_modules[] = {
    {.type = "Concat", .infer = concat_infer, .prepare = concat_prepare, .run = concat_run},
    {.type = "Split", .infer = split_infer, .prepare = split_prepare, .run = split_run},
    {.type = "Slice", .infer = slice_infer, .prepare = slice_prepare, .run = copy_module_run},
    {.type = "Transpose", .infer = transpose_infer, .prepare = transpose_prepare, .run = copy_module_run},
    {.type = "DepthToSpace", .infer = to_space_infer, .prepare = to_space_prepare, .run = copy_module_run},
    {.type = "SpaceToDepth", .infer = to_depth_infer, .prepare = to_depth_prepare, .run = copy_module_run},
    {.type = "Pad", .infer = pad_infer, .prepare = pad_prepare, .run = pad_run},
    {.type = "ReverseSequence", .in_place = IN_PLACE_CHANGED, .prepare = reverse_prepare, .run = reverse_run},
    {0},
};
