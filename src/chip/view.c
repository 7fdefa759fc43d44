/* Reshape, Flatten, Squeeze, Unsqueeze, Identity: another shape of the same elements. Where input and output do not share memory the
 * runtime assigns one to the other, which converts between types and exponents (CHIP §2.18). */
#include <string.h>

#include "chip/ends.h"

static bool reshape_infer(ChipNode *node, Error *error)
{
    int64_t wanted[ESPQ_MAX_RANK], known = 1, count;
    int rank, open = -1;
    if (!needs(node, 2, 1, error) || !needs_numbers(node, 1, wanted, ESPQ_MAX_RANK, &rank, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    Shape *out = &node->outputs[0].shape;
    bool keep_zero = node_integer(node->node, "allowzero", 0) != 0;
    count = shape_count(in);
    *out = (Shape){.rank = rank};
    for (int axis = 0; axis < rank; axis++) {
        int64_t dim = wanted[axis];
        if (dim == 0 && !keep_zero && axis < in->rank) dim = in->dims[axis];
        if (dim == -1 && open < 0) {
            open = axis;
            continue;
        }
        if (dim < 1 || dim > count)
            return refuse(node, error, "export the model again", "%lld along axis %d for %lld elements", (long long)wanted[axis], axis,
                          (long long)count);
        out->dims[axis] = dim;
        known = known > count / dim ? count + 1 : known * dim;
    }
    if (open >= 0 && known <= count) out->dims[open] = count / known;
    if (known > count || shape_count(out) != count) {
        char from[160];
        return refuse(node, error, "export the model for this input shape", "%s cannot take the shape that input 1 asks for",
                      shape_text(in, from));
    }
    return true;
}

static bool flatten_infer(ChipNode *node, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    int64_t axis = node_integer(node->node, "axis", 1);
    if (axis < 0) axis += in->rank;
    if (axis < 0 || axis > in->rank)
        return refuse(node, error, "export the model again", "axis %lld of a tensor with %d axes", (long long)axis, in->rank);
    node->outputs[0].shape = (Shape){2, {dims_product(in, 0, (int)axis), dims_product(in, (int)axis, in->rank)}};
    return true;
}

/* Which axes of a tensor with `rank` axes input 1 names. */
static bool read_axes(const ChipNode *node, int rank, bool named[ESPQ_MAX_RANK], Error *error)
{
    int64_t axes[ESPQ_MAX_RANK];
    int count;
    if (!needs_numbers(node, 1, axes, ESPQ_MAX_RANK, &count, error)) return false;
    for (int i = 0; i < count; i++) {
        int axis;
        if (!needs_axis(node, axes[i], rank, &axis, error)) return false;
        named[axis] = true;
    }
    return true;
}

static bool squeeze_infer(ChipNode *node, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    Shape *out = &node->outputs[0].shape;
    bool named[ESPQ_MAX_RANK] = {false}, all = !has_input(node, 1);
    if (!all && !read_axes(node, in->rank, named, error)) return false;
    *out = (Shape){0};
    for (int axis = 0; axis < in->rank; axis++) {
        if (in->dims[axis] != 1 || !(all || named[axis])) out->dims[out->rank++] = in->dims[axis]; /* a longer axis stays, named or not */
    }
    return true;
}

static bool unsqueeze_infer(ChipNode *node, Error *error)
{
    if (!needs(node, 2, 1, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    Shape *out = &node->outputs[0].shape;
    int64_t axes[ESPQ_MAX_RANK];
    int count, next = 0;
    bool named[ESPQ_MAX_RANK] = {false};
    if (!needs_numbers(node, 1, axes, ESPQ_MAX_RANK, &count, error)) return false;
    if (in->rank + count > ESPQ_MAX_RANK)
        return refuse(node, error, "use fewer axes", "%d axes and %d more; espq takes %d", in->rank, count, ESPQ_MAX_RANK);
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + in->rank + 1 : axes[i]; /* the runtime adds one whatever the number of axes */
        if (axis < 0 || axis >= in->rank + count || named[axis])
            return refuse(node, error, "write the axes from 0, each once", "axis %lld of the %d behind it", (long long)axes[i],
                          in->rank + count);
        named[axis] = true;
    }
    *out = (Shape){.rank = in->rank + count};
    for (int axis = 0; axis < out->rank; axis++)
        out->dims[axis] = named[axis] ? 1 : in->dims[next++];
    return true;
}

static bool view_prepare(ChipNode *node, Error *error)
{
    const ChipEnd *in = &node->inputs[0], *out = &node->outputs[0];
    if (!needs(node, 1, 1, error)) return false;
    if (end_count(in) != end_count(out)) return refuse(node, error, "export the model again", "the shapes differ in their elements");
    bool numbers = in->dtype == DTYPE_INT8 || in->dtype == DTYPE_INT16 || in->dtype == DTYPE_FLOAT32;
    bool converted = out->dtype == DTYPE_INT8 || out->dtype == DTYPE_INT16 || out->dtype == DTYPE_FLOAT32;
    if (in->dtype == out->dtype || (numbers && converted)) return true;
    return refuse(node, error, "convert between them with a node of its own", "the runtime cannot assign %s to %s", dtype_name(in->dtype),
                  dtype_name(out->dtype));
}

static void view_run(const ChipRun *run)
{
    const ChipEnd *in = &run->node->inputs[0], *out = &run->node->outputs[0];
    const char *undefined = NULL;
    if (run->inputs[0] == run->outputs[0]) return;
    bool same = in->dtype == out->dtype && (in->exponent == out->exponent || (in->dtype != DTYPE_INT8 && in->dtype != DTYPE_INT16));
    if (same)
        memcpy(run->outputs[0], run->inputs[0], end_bytes(in));
    else
        chip_assign(run->node->chip, in->dtype, in->exponent, run->inputs[0], out->dtype, out->exponent, run->outputs[0], end_count(in),
                    &undefined);
}

const ChipModule chip_view_modules[] = {
    {.type = "Reshape", .in_place = IN_PLACE_UNCHANGED, .infer = reshape_infer, .prepare = view_prepare, .run = view_run},
    {.type = "Flatten", .in_place = IN_PLACE_UNCHANGED, .infer = flatten_infer, .prepare = view_prepare, .run = view_run},
    {.type = "Squeeze", .in_place = IN_PLACE_UNCHANGED, .infer = squeeze_infer, .prepare = view_prepare, .run = view_run},
    {.type = "Unsqueeze", .in_place = IN_PLACE_UNCHANGED, .infer = unsqueeze_infer, .prepare = view_prepare, .run = view_run},
    {.type = "Identity", .in_place = IN_PLACE_UNCHANGED, .prepare = view_prepare, .run = view_run},
    {0},
};
