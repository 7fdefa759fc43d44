/* Resize and Upsample over the spatial axes: nearest and linear. For each output position along an axis a table holds the one or
 * two input positions it is made of; coordinates as ONNX defines them, or as chip and reference take them (QUANT 10.3). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops/common.h"
#include "ops/rows.h"

enum { AXES = 3 };

typedef struct Tap {
    int64_t low, high; /* input positions */
    float fraction;    /* share of high */
} Tap;

typedef struct ResizeState {
    bool linear;
    bool doubles; /* nearest: each column twice */
    int64_t planes, in[AXES], out[AXES];
    Tap *taps[AXES];
} ResizeState;

typedef struct Sizes {
    Shape out;
    double factors[ESPQ_MAX_RANK]; /* out / in, as given or as the sizes say */
    bool by_sizes;
} Sizes;

static const char cure_spatial[] = "resize spatial axes only, by constant factors or sizes";

static int scales_index(const Node *node)
{
    return strcmp(node->type, "Upsample") == 0 ? 1 : 2;
}

/* Factors of the axes they are for; *count = -1: none given (an empty tensor counts as none). */
static bool read_scales(const Node *node, float *scales, int *count, Error *error)
{
    const Value *value = input_value(node, scales_index(node));
    const Attribute *attribute = node_attribute(node, "scales");
    *count = -1;
    if (value && value->constant && tensor_count(value->constant) > 0) {
        const Tensor *constant = value->constant;
        if (constant->dtype != DTYPE_FLOAT32 || tensor_count(constant) > ESPQ_MAX_RANK)
            return fail_node(error, node, "give scales as float32, one an axis", "scales (%s) are %lld numbers of %s", value->name,
                             (long long)tensor_count(constant), dtype_name(constant->dtype));
        *count = (int)tensor_count(constant);
        memcpy(scales, constant->data, (size_t)*count * sizeof *scales);
    } else if (value && !value->constant && !(value->shaped && shape_count(&value->shape) == 0)) {
        return fail_node(error, node, "make scales an initializer, or export the model with fixed shapes", "scales (%s) must be constant",
                         value->name);
    } else if (!value && attribute && attribute->kind == ATTRIBUTE_FLOATS && attribute->count > 0 && attribute->count <= ESPQ_MAX_RANK) {
        *count = attribute->count;
        memcpy(scales, attribute->numbers, (size_t)*count * sizeof *scales);
    }
    for (int i = 0; i < *count; i++) {
        if (!(scales[i] > 0) || !isfinite(scales[i]))
            return fail_node(error, node, "a factor is a positive number", "scale %d is %g", i, (double)scales[i]);
    }
    return true;
}

/* The size below; 0 for what is no size, which is refused at the end. */
static int64_t whole(double size)
{
    return size >= 0 && size <= INT32_MAX ? (int64_t)size : 0;
}

/* sizes under keep_aspect_ratio_policy: one factor for all axes. */
static bool keep_aspect(const Node *node, const Shape *x, const int *axes, int count, Sizes *sizes, Error *error)
{
    const char *policy = node_string(node, "keep_aspect_ratio_policy", "stretch");
    bool larger = strcmp(policy, "not_smaller") == 0;
    if (strcmp(policy, "stretch") == 0) return true;
    if (!larger && strcmp(policy, "not_larger") != 0)
        return fail_node(error, node, "known are stretch, not_larger, not_smaller", "keep_aspect_ratio_policy is \"%s\"", policy);
    double factor = larger ? 0 : INFINITY;
    for (int i = 0; i < count; i++) {
        double own = sizes->factors[axes[i]];
        factor = larger ? fmax(factor, own) : fmin(factor, own);
    }
    for (int i = 0; i < count; i++) {
        sizes->factors[axes[i]] = factor;
        sizes->out.dims[axes[i]] = whole(factor * (double)x->dims[axes[i]] + 0.5);
    }
    return true;
}

static bool resize_sizes(const Node *node, const Shape *x, Sizes *sizes, Error *error)
{
    float scales[ESPQ_MAX_RANK];
    int64_t wanted[ESPQ_MAX_RANK];
    int axes[ESPQ_MAX_RANK], axis_count, scale_count, size_count;
    char text[160];
    if (!require_rank(node, x, 3, 2 + AXES, "input", error)) return false;
    if (!input_or_attribute_axes(node, ESPQ_MAX_RANK, x->rank, axes, &axis_count, error)) return false;
    if (axis_count < 0) {
        axis_count = x->rank;
        for (int i = 0; i < x->rank; i++)
            axes[i] = i;
    }
    if (!input_integers(node, scales_index(node) + 1, wanted, ESPQ_MAX_RANK, &size_count, error)) return false;
    sizes->by_sizes = size_count > 0;
    scale_count = -1;
    if (!sizes->by_sizes && !read_scales(node, scales, &scale_count, error)) return false;
    if (!sizes->by_sizes && scale_count < 0) return fail_node(error, node, cure_spatial, "neither scales nor sizes are given");
    if ((sizes->by_sizes ? size_count : scale_count) != axis_count) {
        return fail_node(error, node, "one entry an axis is wanted", "%s have %d entries for input %s",
                         sizes->by_sizes ? "sizes" : "scales", sizes->by_sizes ? size_count : scale_count, shape_text(x, text));
    }
    if (shape_count(x) == 0) return fail_node(error, node, "give a larger input_shape", "the input %s is empty", shape_text(x, text));
    sizes->out = *x;
    for (int i = 0; i < x->rank; i++)
        sizes->factors[i] = 1;
    for (int i = 0; i < axis_count; i++) {
        int axis = axes[i];
        if (sizes->by_sizes)
            sizes->out.dims[axis] = wanted[i];
        else
            sizes->out.dims[axis] = whole((double)x->dims[axis] * (double)scales[i]);
        sizes->factors[axis] = sizes->by_sizes ? (double)wanted[i] / (double)x->dims[axis] : (double)scales[i];
    }
    if (sizes->by_sizes && !keep_aspect(node, x, axes, axis_count, sizes, error)) return false;
    for (int i = 0; i < x->rank; i++) {
        if (sizes->out.dims[i] < 1 || sizes->out.dims[i] > INT32_MAX)
            return fail_node(error, node, "check scales and sizes", "axis %d of the output would have %lld elements", i,
                             (long long)sizes->out.dims[i]);
    }
    return true;
}

static bool resize_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x;
    Sizes sizes;
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !resize_sizes(node, &x, &sizes, error)) return false;
    set_output(node, 0, DTYPE_FLOAT32, &sizes.out);
    return true;
}

/* ---- coordinates ---- */

/* Where output position `at` lies in the input, by ONNX's coordinate_transformation_mode. */
static double coordinate(const char *mode, double at, double factor, double in, double out)
{
    if (strcmp(mode, "align_corners") == 0) return out > 1 ? at * (in - 1) / (out - 1) : 0;
    if (strcmp(mode, "asymmetric") == 0) return at / factor;
    if (strcmp(mode, "tf_half_pixel_for_nn") == 0) return (at + 0.5) / factor;
    if (strcmp(mode, "pytorch_half_pixel") == 0) return out > 1 ? (at + 0.5) / factor - 0.5 : 0;
    double centre = strcmp(mode, "half_pixel_symmetric") == 0 ? in / 2 * (1 - out / (factor * in)) : 0;
    return centre + (at + 0.5) / factor - 0.5;
}

static int64_t hold(double position, int64_t in)
{
    return position < 0 ? 0 : position > (double)(in - 1) ? in - 1 : (int64_t)position;
}

static int64_t nearest(const char *mode, double at, int64_t in)
{
    if (strcmp(mode, "floor") == 0) return hold(floor(at), in);
    if (strcmp(mode, "ceil") == 0) return hold(ceil(at), in);
    if (strcmp(mode, "round_prefer_ceil") == 0) return hold(floor(at + 0.5), in);
    return hold(ceil(at - 0.5), in);
}

static Tap between(double at, int64_t in)
{
    Tap tap = {.low = hold(floor(at), in)};
    tap.high = tap.low + 1 < in ? tap.low + 1 : tap.low;
    tap.fraction = at <= 0 || tap.high == tap.low ? 0.0f : (float)(at - (double)tap.low);
    return tap;
}

static void exact_taps(const Node *node, bool linear, double factor, int64_t in, int64_t out, Tap *taps)
{
    bool upsample = strcmp(node->type, "Upsample") == 0;
    const char *mode = node_string(node, "coordinate_transformation_mode", upsample || node->opset < 11 ? "asymmetric" : "half_pixel");
    const char *rounding = node_string(node, "nearest_mode", upsample || node->opset < 11 ? "floor" : "round_prefer_floor");
    for (int64_t i = 0; i < out; i++) {
        double at = coordinate(mode, (double)i, factor, (double)in, (double)out);
        if (linear)
            taps[i] = between(at, in);
        else
            taps[i] = (Tap){.low = nearest(rounding, at, in)};
    }
}

/* Chip and reference: nearest is the floor of at / factor, linear knows half pixels and align_corners; in float32. */
static void chip_taps(const Node *node, bool linear, bool by_sizes, double factor, int64_t in, int64_t out, Tap *taps)
{
    bool corners = strcmp(node_string(node, "coordinate_transformation_mode", "half_pixel"), "align_corners") == 0;
    float step = by_sizes ? (float)in / (float)out : (float)(1.0 / factor);
    if (linear && corners) step = out > 1 ? (float)(in - 1) / (float)(out - 1) : 0.0f;
    for (int64_t i = 0; i < out; i++) {
        if (!linear) {
            taps[i] = (Tap){.low = hold(floorf((float)i * step), in)};
            continue;
        }
        float at = corners ? step * (float)i : step * ((float)i + 0.5f) - 0.5f;
        taps[i] = between(at < 0 ? 0 : at, in);
    }
}

static void resize_release(void *pointer)
{
    ResizeState *state = pointer;
    for (int i = 0; i < AXES; i++)
        memory_free(state->taps[i]);
    memory_free(state);
}

static bool check_mode(const Node *node, bool *linear, Error *error)
{
    const char *mode = node_string(node, "mode", "nearest"),
               *coordinates = node_string(node, "coordinate_transformation_mode", "half_pixel");
    *linear = strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0;
    if (!*linear && strcmp(mode, "nearest") != 0)
        return fail_node(error, node, "use mode nearest or linear",
                         "resizing with mode \"%s\" cannot be run or quantized: the chip has none", mode);
    if (node_integer(node, "antialias", 0) != 0)
        return fail_node(error, node, "export without antialias", "antialias is not supported: the chip has none");
    if (strcmp(coordinates, "tf_crop_and_resize") == 0)
        return fail_node(error, node, "crop with Slice, then resize",
                         "coordinate_transformation_mode \"tf_crop_and_resize\" is not supported");
    return true;
}

static bool resize_prepare(Prepare *prepare, Error *error)
{
    const Node *node = prepare->node;
    const Shape *x = &prepare->input_shapes[0];
    Sizes sizes;
    bool linear;
    if (!check_mode(node, &linear, error) || !resize_sizes(node, x, &sizes, error)) return false;
    for (int i = 0; i < 2; i++) {
        if (sizes.out.dims[i] != x->dims[i])
            return fail_node(error, node, cure_spatial, "axis %d (%s) is resized from %lld to %lld: the chip cannot", i,
                             i ? "channels" : "batch", (long long)x->dims[i], (long long)sizes.out.dims[i]);
    }
    ResizeState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    state->linear = linear;
    state->planes = x->dims[0] * x->dims[1];
    for (int i = 0; i < AXES; i++) {
        int axis = i + x->rank - AXES;
        bool real = axis >= 2;
        state->in[i] = real ? x->dims[axis] : 1;
        state->out[i] = real ? sizes.out.dims[axis] : 1;
        state->taps[i] = memory_new_array((size_t)state->out[i], sizeof(Tap));
        if (!state->taps[i]) return fail_memory(error, (size_t)state->out[i] * sizeof(Tap));
        if (!real) continue;
        if (follows_chip(prepare))
            chip_taps(node, linear, sizes.by_sizes, sizes.factors[axis], state->in[i], state->out[i], state->taps[i]);
        else
            exact_taps(node, linear, sizes.factors[axis], state->in[i], state->out[i], state->taps[i]);
    }
    state->doubles = !linear && state->out[2] == 2 * state->in[2];
    for (int64_t j = 0; j < state->out[2]; j++)
        state->doubles = state->doubles && state->taps[2][j].low == j / 2;
    return true;
}

/* ---- running ---- */

typedef struct ResizeTask {
    const ResizeState *state;
    const float *x;
    float *y;
} ResizeTask;

static float blend(float low, float high, float fraction)
{
    return fraction == 0.0f ? low : (1.0f - fraction) * low + fraction * high;
}

static float linear_row(const float *row, const Tap *tap)
{
    return blend(row[tap->low], row[tap->high], tap->fraction);
}

/* A row of the input at the nearest columns; the usual doubling writes two floats at a time. */
static void nearest_row(const ResizeState *state, const float *row, float *y)
{
    const Tap *columns = state->taps[2];
    for (int64_t j = 0; state->doubles && j < state->in[2]; j++) {
        uint32_t bits;
        memcpy(&bits, row + j, sizeof bits);
        uint64_t twice = (uint64_t)bits << 32 | bits;
        memcpy(y + 2 * j, &twice, sizeof twice);
    }
    for (int64_t j = 0; !state->doubles && j < state->out[2]; j++)
        y[j] = row[columns[j].low];
}

static void nearest_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ResizeTask *task = context;
    const ResizeState *state = task->state;
    int64_t before = -1;
    for (int64_t item = begin; item < end; item++) {
        int64_t row_at = item % state->out[1], depth_at = item / state->out[1] % state->out[0],
                plane = item / state->out[1] / state->out[0];
        int64_t row = (plane * state->in[0] + state->taps[0][depth_at].low) * state->in[1] + state->taps[1][row_at].low;
        float *y = task->y + item * state->out[2];
        if (row == before)
            memcpy(y, y - state->out[2], (size_t)state->out[2] * sizeof *y);
        else
            nearest_row(state, task->x + row * state->in[2], y);
        before = row;
    }
}

static void linear_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ResizeTask *task = context;
    const ResizeState *state = task->state;
    for (int64_t item = begin; item < end; item++) {
        int64_t row_at = item % state->out[1], depth_at = item / state->out[1] % state->out[0],
                plane = item / state->out[1] / state->out[0];
        const Tap *row = &state->taps[1][row_at], *depth = &state->taps[0][depth_at], *columns = state->taps[2];
        const float *x = task->x + plane * state->in[0] * state->in[1] * state->in[2];
        const float *rows[4] = {
            x + (depth->low * state->in[1] + row->low) * state->in[2], x + (depth->low * state->in[1] + row->high) * state->in[2],
            x + (depth->high * state->in[1] + row->low) * state->in[2], x + (depth->high * state->in[1] + row->high) * state->in[2]};
        float *y = task->y + item * state->out[2];
        for (int64_t j = 0; j < state->out[2]; j++) {
            float near = blend(linear_row(rows[0], &columns[j]), linear_row(rows[1], &columns[j]), row->fraction);
            if (depth->fraction != 0.0f)
                near =
                    blend(near, blend(linear_row(rows[2], &columns[j]), linear_row(rows[3], &columns[j]), row->fraction), depth->fraction);
            y[j] = near;
        }
    }
}

static void resize_run(const Run *run)
{
    const ResizeState *state = run->state;
    ResizeTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->outputs[0])};
    threads_for(state->planes * state->out[0] * state->out[1], 1 + OPS_GRAIN / 4 / state->out[2],
                state->linear ? linear_part : nearest_part, &task);
}

/* With sizes given, an axis of channels would be among them. */
static bool resize_repeats(const Node *node)
{
    return !strcmp(node_string(node, "mode", "nearest"), "nearest") && !(node->input_count > 3 && node->inputs[3]);
}

typedef struct ResizeGradientTask {
    const ResizeState *state;
    const float *dy;
    float *dx;
} ResizeGradientTask;

/* The one or two entries that a position is made of along an axis, with their shares. */
static int shares_of(const ResizeState *state, int axis, int64_t out, int64_t at[2], float share[2])
{
    const Tap *tap = &state->taps[axis][out];
    bool one = !state->linear || tap->fraction == 0.0f;
    at[0] = tap->low;
    at[1] = tap->high;
    share[0] = one ? 1.0f : 1.0f - tap->fraction;
    share[1] = tap->fraction;
    return one ? 1 : 2;
}

static void resize_gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ResizeGradientTask *task = context;
    const ResizeState *state = task->state;
    int64_t in_plane = state->in[0] * state->in[1] * state->in[2], depth[2], row[2], column[2];
    float depth_share[2], row_share[2], column_share[2];
    for (int64_t plane = begin; plane < end; plane++) {
        const float *dy = task->dy + plane * state->out[0] * state->out[1] * state->out[2];
        float *dx = task->dx + plane * in_plane;
        memset(dx, 0, (size_t)in_plane * sizeof *dx);
        for (int64_t d = 0; d < state->out[0]; d++) {
            int depths = shares_of(state, 0, d, depth, depth_share);
            for (int64_t i = 0; i < state->out[1]; i++) {
                int rows = shares_of(state, 1, i, row, row_share);
                for (int64_t j = 0; j < state->out[2]; j++, dy++) {
                    int columns = shares_of(state, 2, j, column, column_share);
                    for (int a = 0; a < depths; a++)
                        for (int b = 0; b < rows; b++)
                            for (int c = 0; c < columns; c++)
                                dx[(depth[a] * state->in[1] + row[b]) * state->in[2] + column[c]] +=
                                    depth_share[a] * row_share[b] * column_share[c] * *dy;
                }
            }
        }
    }
}

static void resize_gradient(const Gradient *gradient)
{
    const ResizeState *state = gradient->state;
    if (!gradient->input_gradients[0]) return;
    ResizeGradientTask task = {state, tensor_floats(gradient->output_gradients[0]), tensor_floats(gradient->input_gradients[0])};
    threads_for(state->planes, 1, resize_gradient_part, &task);
}

const Operator op_resize = {
    .name = "Resize",
    .help = "Enlarge or shrink the spatial axes, nearest or linear. 8 bits only on the chip.",
    .inputs = {1, 4},
    .outputs = {1, 1},
    .attributes =
        {{.name = "antialias", .kind = ATTRIBUTE_INT},
         {.name = "axes", .kind = ATTRIBUTE_INTS},
         {.name = "coordinate_transformation_mode",
          .kind = ATTRIBUTE_STRING,
          .text = "half_pixel",
          .words = "half_pixel|half_pixel_symmetric|pytorch_half_pixel|align_corners|asymmetric|tf_half_pixel_for_nn|tf_crop_and_resize"},
         {.name = "cubic_coeff_a", .kind = ATTRIBUTE_FLOAT, .number = -0.75},
         {.name = "exclude_outside", .kind = ATTRIBUTE_INT},
         {.name = "extrapolation_value", .kind = ATTRIBUTE_FLOAT},
         {.name = "keep_aspect_ratio_policy", .kind = ATTRIBUTE_STRING, .text = "stretch", .words = "stretch|not_larger|not_smaller"},
         {.name = "mode", .kind = ATTRIBUTE_STRING, .text = "nearest", .words = "nearest|linear|cubic"},
         {.name = "nearest_mode",
          .kind = ATTRIBUTE_STRING,
          .text = "round_prefer_floor",
          .words = "round_prefer_floor|round_prefer_ceil|floor|ceil"}},
    .infer = resize_infer,
    .prepare = resize_prepare,
    .release = resize_release,
    .run = resize_run,
    .repeats = resize_repeats,
    .gradient = resize_gradient,
    .gradient_fixed = 1u << 1 | 1u << 2 | 1u << 3,
    .flags = OPERATOR_QUANTIZABLE,
    .float_inputs = 1u << 1 | 1u << 2 | 1u << 3,
    .align = ALIGN_RESIZE,
    .layout = LAYOUT_RESIZE,
    .module = MODULE_S8,
    .module_cure = "the runtime's Resize is empty at 16 bits: dispatch it to 8 bits",
    .cost = cost_elementwise,
};

const Operator op_upsample = {
    .name = "Upsample",
    .help = "The older form of Resize; the importer turns it into one.",
    .inputs = {1, 2},
    .outputs = {1, 1},
    .attributes = {{.name = "mode", .kind = ATTRIBUTE_STRING, .text = "nearest", .words = "nearest|linear|bilinear"},
                   {.name = "scales", .kind = ATTRIBUTE_FLOATS}},
    .infer = resize_infer,
    .prepare = resize_prepare,
    .release = resize_release,
    .run = resize_run,
    .gradient = resize_gradient,
    .gradient_fixed = 1u << 1,
    .float_inputs = 1u << 1,
    .module_cure = "write it as Resize (opset 11 or later)",
    .cost = cost_elementwise,
};
