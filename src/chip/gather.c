/* Gather and ScatterND (CHIP §2.19). */
#include <string.h>

#include "base/memory.h"
#include "chip/arithmetic.h"
#include "chip/ends.h"

/* An index as the runtime takes it: negative ones are not counted from the end (C16). */
static bool wrap_index(const ChipNode *node, int64_t *index, int64_t length)
{
    if (*index < 0 && !chip_has(node->chip, TRAIT_GATHER_NO_WRAP)) *index += length;
    return *index >= 0 && *index < length;
}

/* ---- Gather ---- */

typedef struct Gather {
    int axis;
    int64_t count, *indices;
} Gather;

static void gather_free(void *state)
{
    Gather *gather = state;
    if (gather) memory_free(gather->indices);
    memory_free(gather);
}

static bool gather_infer(ChipNode *node, Error *error)
{
    int axis;
    if (!needs(node, 2, 1, error) || !needs_axis(node, node_integer(node->node, "axis", 0), node->inputs[0].shape.rank, &axis, error))
        return false;
    const Shape *in = &node->inputs[0].shape, *indices = &node->inputs[1].shape;
    Shape *out = &node->outputs[0].shape;
    if (in->rank + indices->rank - 1 > ESPQ_MAX_RANK)
        return refuse(node, error, "use fewer axes", "a result of %d axes; espq takes %d", in->rank + indices->rank - 1, ESPQ_MAX_RANK);
    *out = (Shape){0};
    for (int i = 0; i < in->rank; i++) {
        if (i != axis) {
            out->dims[out->rank++] = in->dims[i];
            continue;
        }
        for (int k = 0; k < indices->rank; k++)
            out->dims[out->rank++] = indices->dims[k];
    }
    return true;
}

static bool gather_prepare(ChipNode *node, Error *error)
{
    Gather *gather = memory_new(sizeof *gather);
    if (!gather) return fail_memory(error, sizeof *gather);
    node->state = gather;
    const Shape *in = &node->inputs[0].shape;
    const Tensor *indices = node->inputs[1].constant;
    Dtype dtype = node->inputs[0].dtype;
    if (!needs_same_type(node, 0, 0, error) || !needs_axis(node, node_integer(node->node, "axis", 0), in->rank, &gather->axis, error))
        return false;
    if (dtype != DTYPE_INT8 && dtype != DTYPE_INT16 && dtype != DTYPE_FLOAT32 && dtype != DTYPE_FLOAT64)
        return refuse(node, error, "gather int8, int16 or float32", "the runtime leaves Gather of %s undone", dtype_name(dtype));
    if (!indices) return refuse(node, error, "make them a constant", "the indices are no constant, which the runtime asserts");
    int64_t count = tensor_count(indices);
    int copied;
    if (count > INT32_MAX || !(gather->indices = memory_new_array((size_t)count + 1, sizeof *gather->indices)))
        return fail_memory(error, (size_t)count * sizeof *gather->indices);
    if (!needs_numbers(node, 1, gather->indices, (int)count, &copied, error)) return false;
    gather->count = count;
    size_t item = (size_t)dims_product(in, gather->axis + 1, in->rank) * dtype_bytes(dtype);
    for (int64_t i = 0; i < count; i++) {
        int64_t given = gather->indices[i], length = in->dims[gather->axis];
        bool before = given < 0 && given >= -length && chip_has(node->chip, TRAIT_GATHER_NO_WRAP); /* the block before, or other memory */
        if (before && (size_t)-given * item > node->reaches_before) node->reaches_before = (size_t)-given * item;
        if (!before && !wrap_index(node, &gather->indices[i], length))
            return refuse(node, error, "write indices from 0 (espq's export does)", "index %lld of %lld elements: the chip reads %s",
                          (long long)given, (long long)in->dims[gather->axis], "outside of the tensor (C16)");
    }
    return true;
}

static void gather_run(const ChipRun *run)
{
    const Gather *gather = run->node->state;
    const ChipEnd *in = &run->node->inputs[0];
    size_t item = (size_t)dims_product(&in->shape, gather->axis + 1, in->shape.rank) * dtype_bytes(in->dtype);
    size_t block = (size_t)in->shape.dims[gather->axis] * item;
    int64_t blocks = dims_product(&in->shape, 0, gather->axis);
    char *y = run->outputs[0];
    for (int64_t k = 0; k < blocks; k++) {
        const char *x = (const char *)run->inputs[0] + (size_t)k * block;
        for (int64_t i = 0; i < gather->count; i++, y += item) {
            size_t back = gather->indices[i] < 0 ? (size_t)-gather->indices[i] * item : 0;
            if (back > (size_t)k * block && !run->before)
                memset(y, 0, item);
            else if (back > (size_t)k * block)
                memcpy(y, run->before - back, item);
            else
                memcpy(y, x + gather->indices[i] * (int64_t)item, item);
        }
    }
}

/* ---- ScatterND ---- */

typedef enum { SCATTER_NONE, SCATTER_ADD, SCATTER_MUL, SCATTER_MAX, SCATTER_MIN } Reduction;

typedef struct Scatter {
    Reduction reduction;
    int depth;             /* axes that one index names */
    int64_t slices, items; /* updates, elements of each */
} Scatter;

static bool read_reduction(const ChipNode *node, Reduction *reduction, Error *error)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *name = node_string(node->node, "reduction", "none");
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) == 0) {
            *reduction = (Reduction)i;
            return true;
        }
    }
    return refuse(node, error, "use none, add, mul, max or min", "reduction \"%s\"", name);
}

/* Where an update goes, in elements; false: outside of the tensor. */
static bool scatter_place(const ChipNode *node, const Scatter *scatter, const int64_t *index, int64_t *place)
{
    const Shape *shape = &node->inputs[0].shape;
    int64_t at = 0;
    for (int axis = 0; axis < scatter->depth; axis++) {
        int64_t i = index[axis];
        if (!wrap_index(node, &i, shape->dims[axis])) return false;
        at = at * shape->dims[axis] + i;
    }
    *place = at * scatter->items;
    return true;
}

static bool scatter_prepare(ChipNode *node, Error *error)
{
    Scatter *scatter = memory_new(sizeof *scatter);
    if (!scatter) return fail_memory(error, sizeof *scatter);
    node->state = scatter;
    if (!needs(node, 3, 1, error) || !needs_same_type(node, 0, 0, error) || !needs_same_type(node, 2, 0, error)) return false;
    if (!needs_kernel_type(node, &node->inputs[0], "input 0", error) || !read_reduction(node, &scatter->reduction, error)) return false;
    const Shape *data = &node->inputs[0].shape, *indices = &node->inputs[1].shape;
    if (node->inputs[1].dtype != DTYPE_INT64)
        return refuse(node, error, "store them as int64", "the indices are %s, the runtime reads int64", dtype_name(node->inputs[1].dtype));
    if (indices->rank < 1 || indices->dims[indices->rank - 1] > data->rank || indices->dims[indices->rank - 1] < 1)
        return refuse(node, error, "export the model again", "indices of %lld axes for data of %d",
                      (long long)(indices->rank ? indices->dims[indices->rank - 1] : 0), data->rank);
    scatter->depth = (int)indices->dims[indices->rank - 1];
    scatter->slices = dims_product(indices, 0, indices->rank - 1);
    scatter->items = dims_product(data, scatter->depth, data->rank);
    if (end_count(&node->inputs[2]) != scatter->slices * scatter->items)
        return refuse(node, error, "export the model again", "%lld updates for %lld slices of %lld", (long long)end_count(&node->inputs[2]),
                      (long long)scatter->slices, (long long)scatter->items);
    const Tensor *constant = node->inputs[1].constant;
    for (int64_t i = 0; constant && i < scatter->slices; i++) {
        int64_t place;
        if (!scatter_place(node, scatter, (const int64_t *)(const void *)constant->data + i * scatter->depth, &place))
            return refuse(node, error, "write indices from 0, within the tensor", "update %lld goes outside of the tensor (C16)",
                          (long long)i);
    }
    return true;
}

static int64_t reduce(Reduction reduction, int64_t a, int64_t b, int bits)
{
    switch (reduction) {
    case SCATTER_NONE: return b;
    case SCATTER_ADD: return saturate(a + b, bits);
    case SCATTER_MUL: return saturate(a * b, bits); /* raw integers: exponents are not looked at */
    case SCATTER_MAX: return a > b ? a : b;
    case SCATTER_MIN: return a < b ? a : b;
    }
    return b;
}

static float reduce_float(Reduction reduction, float a, float b)
{
    switch (reduction) {
    case SCATTER_NONE: return b;
    case SCATTER_ADD: return a + b;
    case SCATTER_MUL: return a * b;
    case SCATTER_MAX: return a > b ? a : b;
    case SCATTER_MIN: return a < b ? a : b;
    }
    return b;
}

static void scatter_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Scatter *scatter = node->state;
    char *y = run->outputs[0];
    if (y != run->inputs[0]) memcpy(y, run->inputs[0], end_bytes(&node->inputs[0]));
    const int64_t *indices = run->inputs[1];
    for (int64_t k = 0; k < scatter->slices; k++) {
        int64_t place;
        if (!scatter_place(node, scatter, indices + k * scatter->depth, &place)) continue; /* an index from outside may be anything */
        for (int64_t i = 0; i < scatter->items; i++) {
            int64_t from = k * scatter->items + i, to = place + i;
            if (node->bits == 32) {
                float *floats = (float *)(void *)y;
                floats[to] = reduce_float(scatter->reduction, floats[to], ((const float *)run->inputs[2])[from]);
            } else {
                int64_t value =
                    reduce(scatter->reduction, read_integer(y, to, node->bits), read_integer(run->inputs[2], from, node->bits), node->bits);
                write_integer(y, to, node->bits, value);
            }
        }
    }
}

const ChipModule chip_gather_modules[] = {
    {.type = "Gather", .infer = gather_infer, .prepare = gather_prepare, .run = gather_run, .release = gather_free},
    {.type = "ScatterND", .in_place = IN_PLACE_CHANGED, .prepare = scatter_prepare, .run = scatter_run},
    {0},
};
