/* Pools over one to three spatial axes, and the global ones. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops/common.h"
#include "ops/rows.h"
#include "ops/window.h"

typedef struct PoolState {
    Window window;
    int64_t planes;
    bool maximum;
    bool padding_counts;  /* AveragePool: divide by taps in the padding too */
    bool padding_is_zero; /* MaxPool: the reference's 1-D and 3-D with unequal pads (QUANT D19) */
} PoolState;

static bool pool_shapes(const Node *node, const Shape *x, Window *window, Error *error)
{
    int64_t kernel[ESPQ_MAX_SPATIAL];
    if (!require_rank(node, x, 3, 5, "input", error)) return false;
    const Attribute *attribute = node_attribute(node, "kernel_shape");
    if (!attribute || attribute->kind != ATTRIBUTE_INTS || attribute->count == 0)
        return fail_node(error, node, "repair the model", "attribute kernel_shape is missing");
    return attribute_integers(node, "kernel_shape", 1, kernel, x->rank - 2, error) && window_resolve(node, x, kernel, window, error);
}

static bool pool_infer(Graph *graph, Node *node, Error *error)
{
    Shape x;
    Window window;
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !pool_shapes(node, &x, &window, error)) return false;
    if (node->output_count > 1 && node->outputs[1]) {
        return fail_node(error, node, "remove what reads the indices (MaxUnpool), or cut the model before it (--outputs)",
                         "the second output (indices) of MaxPool is not supported: the chip has none");
    }
    if (!window_settle(graph, node, &window, error)) return false;
    Shape out = window_output(x.dims[0], x.dims[1], &window);
    set_output(node, 0, DTYPE_FLOAT32, &out);
    return true;
}

static bool global_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x;
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !require_rank(node, &x, 3, 5, "input", error)) return false;
    for (int i = 2; i < x.rank; i++) {
        if (x.dims[i] < 1) return fail_node(error, node, "give a larger input_shape", "axis %d of the input is empty", i);
        x.dims[i] = 1;
    }
    set_output(node, 0, DTYPE_FLOAT32, &x);
    return true;
}

static PoolState *pool_state(Prepare *prepare, Error *error)
{
    PoolState *state = memory_new(sizeof *state);
    if (!state) {
        fail_memory(error, sizeof *state);
        return NULL;
    }
    prepare->state = state;
    state->planes = prepare->input_shapes[0].dims[0] * prepare->input_shapes[0].dims[1];
    return state;
}

static bool equal_pads(const Window *window)
{
    for (int i = 0; i < window->spatial; i++) {
        if (window->pad_begin[i] != window->pad_end[i]) return false;
    }
    return true;
}

static bool max_prepare(Prepare *prepare, Error *error)
{
    PoolState *state = pool_state(prepare, error);
    if (!state || !pool_shapes(prepare->node, &prepare->input_shapes[0], &state->window, error)) return false;
    state->maximum = true;
    state->padding_is_zero = !prepare->exact && state->window.spatial != 2 && !equal_pads(&state->window);
    window_three_axes(&state->window);
    return true;
}

static bool average_prepare(Prepare *prepare, Error *error)
{
    PoolState *state = pool_state(prepare, error);
    if (!state || !pool_shapes(prepare->node, &prepare->input_shapes[0], &state->window, error)) return false;
    state->padding_counts = follows_chip(prepare) || node_integer(prepare->node, "count_include_pad", 0) != 0;
    window_three_axes(&state->window);
    return true;
}

static bool global_prepare(Prepare *prepare, bool maximum, Error *error)
{
    const Shape *x = &prepare->input_shapes[0];
    PoolState *state = pool_state(prepare, error);
    if (!state) return false;
    Window *window = &state->window;
    window->spatial = x->rank - 2;
    for (int i = 0; i < window->spatial; i++) {
        window->in[i] = window->kernel[i] = x->dims[i + 2];
        window->out[i] = window->stride[i] = window->dilation[i] = 1;
    }
    window_three_axes(window);
    state->maximum = maximum;
    return true;
}

static bool global_average_prepare(Prepare *prepare, Error *error)
{
    return global_prepare(prepare, false, error);
}

static bool global_max_prepare(Prepare *prepare, Error *error)
{
    return global_prepare(prepare, true, error);
}

/* The taps of one window along one axis: [first, end) of the kernel lie on data, `counted` on data or padding. */
typedef struct Taps {
    int64_t start, first, end, counted;
} Taps;

static Taps taps_of(const Window *window, int axis, int64_t out)
{
    int64_t dilation = window->dilation[axis], start = out * window->stride[axis] - window->pad_begin[axis];
    Taps taps = {.start = start, .first = start < 0 ? (-start + dilation - 1) / dilation : 0};
    int64_t left = window->in[axis] - start, padded = left + window->pad_end[axis];
    taps.end = left <= 0 ? 0 : (left + dilation - 1) / dilation;
    taps.counted = padded <= 0 ? 0 : (padded + dilation - 1) / dilation;
    if (taps.end > window->kernel[axis]) taps.end = window->kernel[axis];
    if (taps.counted > window->kernel[axis]) taps.counted = window->kernel[axis];
    if (taps.end < taps.first) taps.end = taps.first;
    return taps;
}

static float pool_maximum(const PoolState *state, const float *x, const Taps taps[3])
{
    const Window *window = &state->window;
    bool inside = true;
    for (int axis = 0; axis < 3; axis++)
        inside = inside && taps[axis].end - taps[axis].first == taps[axis].counted;
    float best = state->padding_is_zero && !inside ? 0.0f : -INFINITY;
    for (int64_t d = taps[0].first; d < taps[0].end; d++) {
        for (int64_t i = taps[1].first; i < taps[1].end; i++) {
            const float *row =
                x + ((taps[0].start + d * window->dilation[0]) * window->in[1] + taps[1].start + i * window->dilation[1]) * window->in[2];
            for (int64_t j = taps[2].first; j < taps[2].end; j++) {
                float value = row[taps[2].start + j * window->dilation[2]];
                if (value > best || isnan(value)) best = value; /* NaN wins and stays, as in PyTorch */
            }
        }
    }
    return best;
}

/* The sum is made in float64 and rounded once: exact for what 16 bits hold, whatever the area. */
static float pool_average(const PoolState *state, const float *x, const Taps taps[3])
{
    const Window *window = &state->window;
    double sum = 0;
    int64_t area = 1;
    for (int axis = 0; axis < 3; axis++)
        area *= state->padding_counts ? taps[axis].counted : taps[axis].end - taps[axis].first;
    for (int64_t d = taps[0].first; d < taps[0].end; d++) {
        for (int64_t i = taps[1].first; i < taps[1].end; i++) {
            const float *row =
                x + ((taps[0].start + d * window->dilation[0]) * window->in[1] + taps[1].start + i * window->dilation[1]) * window->in[2];
            for (int64_t j = taps[2].first; j < taps[2].end; j++)
                sum += row[taps[2].start + j * window->dilation[2]];
        }
    }
    return area > 0 ? (float)(sum / (double)area) : 0.0f;
}

typedef struct PoolTask {
    const PoolState *state;
    const float *x;
    float *y;
} PoolTask;

/* ---- the maximum of small planes ---- */

#define SMALL_PLANE 4096 /* elements of a padded plane, on the stack */
#define LANES 16

typedef struct Padded {
    int64_t rows, columns;
} Padded;

/* What the windows of a plane reach over, padding included. */
static Padded padded_size(const Window *window)
{
    return (Padded){(window->out[1] - 1) * window->stride[1] + (window->kernel[1] - 1) * window->dilation[1] + 1,
                    (window->out[2] - 1) * window->stride[2] + (window->kernel[2] - 1) * window->dilation[2] + 1};
}

/* Is it a plane whose padding never counts, small enough, and walked column by column? */
static bool is_small_maximum(const PoolState *state)
{
    const Window *window = &state->window;
    Padded size = padded_size(window);
    return state->maximum && !state->padding_is_zero && window->in[0] == 1 && window->out[0] == 1 && window->kernel[0] == 1 &&
           window->stride[2] == 1 && size.rows * size.columns + 2 * LANES <= SMALL_PLANE;
}

/* y[i] = the largest of `count` elements of x from i on, `apart` from each other; no NaN among them. The first of equals stays, as in
 * pool_maximum. y has room for whole blocks. */
static void slide_maximum(const float *x, float *y, int64_t length, int64_t count, int64_t apart)
{
    float best[LANES];
    for (int64_t i = 0; i < length; i += LANES) {
        memcpy(best, x + i, sizeof best);
        for (int64_t tap = 1; tap < count; tap++) {
            const float *at = x + i + tap * apart;
            for (int k = 0; k < LANES; k++)
                best[k] = at[k] > best[k] ? at[k] : best[k];
        }
        memcpy(y + i, best, sizeof best);
    }
}

static bool any_nan(const float *x, int64_t count)
{
    int64_t i = 0;
    int found = 0;
    for (; i + LANES <= count && !found; i += LANES)
        for (int k = 0; k < LANES; k++)
            found |= x[i + k] != x[i + k];
    for (; i < count; i++)
        found |= x[i] != x[i];
    return found;
}

/* Across, then down: a maximum of maxima. The whole plane is one row of numbers, the ends of its rows are not used. */
static void small_maximum(const Window *window, const float *x, float *y)
{
    Padded size = padded_size(window);
    float plane[SMALL_PLANE], across[SMALL_PLANE], down[SMALL_PLANE];
    int64_t count = size.rows * size.columns, wide = (window->kernel[2] - 1) * window->dilation[2],
            high = (window->kernel[1] - 1) * window->dilation[1];
    for (int64_t i = 0; i < count + 2 * LANES; i++)
        plane[i] = -INFINITY;
    for (int64_t i = 0; i < size.rows; i++) {
        int64_t from = i - window->pad_begin[1], width = size.columns - window->pad_begin[2];
        if (from < 0 || from >= window->in[1] || width <= 0) continue;
        memcpy(plane + i * size.columns + window->pad_begin[2], x + from * window->in[2],
               (size_t)(width < window->in[2] ? width : window->in[2]) * sizeof *x);
    }
    slide_maximum(plane, across, count - wide + LANES, window->kernel[2], window->dilation[2]);
    slide_maximum(across, down, count - wide - high * size.columns, window->kernel[1], window->dilation[1] * size.columns);
    for (int64_t i = 0; i < window->out[1]; i++)
        memcpy(y + i * window->out[2], down + i * window->stride[1] * size.columns, (size_t)window->out[2] * sizeof *y);
}

static void pool_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const PoolTask *task = context;
    const Window *window = &task->state->window;
    int64_t in_plane = window->in[0] * window->in[1] * window->in[2], out_plane = window->out[0] * window->out[1] * window->out[2];
    for (int64_t plane = begin; plane < end; plane++) {
        const float *x = task->x + plane * in_plane;
        float *y = task->y + plane * out_plane;
        Taps taps[3];
        if (is_small_maximum(task->state) && !any_nan(x, in_plane)) {
            small_maximum(window, x, y);
            continue;
        }
        for (int64_t d = 0; d < window->out[0]; d++) {
            taps[0] = taps_of(window, 0, d);
            for (int64_t i = 0; i < window->out[1]; i++) {
                taps[1] = taps_of(window, 1, i);
                for (int64_t j = 0; j < window->out[2]; j++) {
                    taps[2] = taps_of(window, 2, j);
                    *y++ = task->state->maximum ? pool_maximum(task->state, x, taps) : pool_average(task->state, x, taps);
                }
            }
        }
    }
}

static void pool_run(const Run *run)
{
    const PoolState *state = run->state;
    PoolTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->outputs[0])};
    threads_for(state->planes, 1, pool_part, &task);
}

/* ---- gradients ---- */

/* The first largest element of a window in the order of the scan gains all (OPTIM §7.5); zeros in the padding gain nothing. */
static void maximum_gradient(const PoolState *state, const float *x, float dy, const Taps taps[3], float *dx)
{
    const Window *window = &state->window;
    int64_t at = -1;
    bool inside = true;
    for (int axis = 0; axis < 3; axis++)
        inside = inside && taps[axis].end - taps[axis].first == taps[axis].counted;
    for (int64_t d = taps[0].first; d < taps[0].end; d++) {
        for (int64_t i = taps[1].first; i < taps[1].end; i++) {
            int64_t row =
                ((taps[0].start + d * window->dilation[0]) * window->in[1] + taps[1].start + i * window->dilation[1]) * window->in[2];
            for (int64_t j = taps[2].first; j < taps[2].end; j++) {
                int64_t place = row + taps[2].start + j * window->dilation[2];
                if (at < 0 || x[place] > x[at]) at = place;
            }
        }
    }
    if (at >= 0 && !(state->padding_is_zero && !inside && x[at] < 0.0f)) dx[at] += dy;
}

static void average_gradient(const PoolState *state, float dy, const Taps taps[3], float *dx)
{
    const Window *window = &state->window;
    int64_t area = 1;
    for (int axis = 0; axis < 3; axis++)
        area *= state->padding_counts ? taps[axis].counted : taps[axis].end - taps[axis].first;
    float share = area > 0 ? dy / (float)area : 0.0f;
    for (int64_t d = taps[0].first; d < taps[0].end; d++) {
        for (int64_t i = taps[1].first; i < taps[1].end; i++) {
            float *row =
                dx + ((taps[0].start + d * window->dilation[0]) * window->in[1] + taps[1].start + i * window->dilation[1]) * window->in[2];
            for (int64_t j = taps[2].first; j < taps[2].end; j++)
                row[taps[2].start + j * window->dilation[2]] += share;
        }
    }
}

typedef struct PoolGradientTask {
    const PoolState *state;
    const float *x, *dy;
    float *dx;
} PoolGradientTask;

static void pool_gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const PoolGradientTask *task = context;
    const Window *window = &task->state->window;
    int64_t in_plane = window->in[0] * window->in[1] * window->in[2], out_plane = window->out[0] * window->out[1] * window->out[2];
    for (int64_t plane = begin; plane < end; plane++) {
        const float *x = task->x + plane * in_plane, *dy = task->dy + plane * out_plane;
        float *dx = task->dx + plane * in_plane;
        Taps taps[3];
        memset(dx, 0, (size_t)in_plane * sizeof *dx);
        for (int64_t d = 0; d < window->out[0]; d++) {
            taps[0] = taps_of(window, 0, d);
            for (int64_t i = 0; i < window->out[1]; i++) {
                taps[1] = taps_of(window, 1, i);
                for (int64_t j = 0; j < window->out[2]; j++, dy++) {
                    taps[2] = taps_of(window, 2, j);
                    if (task->state->maximum)
                        maximum_gradient(task->state, x, *dy, taps, dx);
                    else
                        average_gradient(task->state, *dy, taps, dx);
                }
            }
        }
    }
}

static void pool_gradient(const Gradient *gradient)
{
    const PoolState *state = gradient->state;
    if (!gradient->input_gradients[0]) return;
    PoolGradientTask task = {state, tensor_floats(gradient->inputs[0]), tensor_floats(gradient->output_gradients[0]),
                             tensor_floats(gradient->input_gradients[0])};
    threads_for(state->planes, 1, pool_gradient_part, &task);
}

#define POOL_ATTRIBUTES                                                                                                                    \
    {.name = "auto_pad", .kind = ATTRIBUTE_STRING, .text = "NOTSET", .words = "NOTSET|SAME_UPPER|SAME_LOWER|VALID"},                       \
        {.name = "ceil_mode", .kind = ATTRIBUTE_INT}, {.name = "dilations", .kind = ATTRIBUTE_INTS},                                       \
        {.name = "kernel_shape", .kind = ATTRIBUTE_INTS, .required = true}, {.name = "pads", .kind = ATTRIBUTE_INTS},                      \
    {                                                                                                                                      \
        .name = "strides", .kind = ATTRIBUTE_INTS                                                                                          \
    }

const Operator op_max_pool = {
    .name = "MaxPool",
    .help = "Largest element under a sliding window.",
    .inputs = {1, 1},
    .outputs = {1, 2},
    .attributes = {POOL_ATTRIBUTES, {.name = "storage_order", .kind = ATTRIBUTE_INT}},
    .infer = pool_infer,
    .prepare = max_prepare,
    .run = pool_run,
    .gradient = pool_gradient,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
    .layout = LAYOUT_CONV,
    .module = MODULE_S8 | MODULE_S16,
    .cost = cost_elementwise,
};

const Operator op_average_pool = {
    .name = "AveragePool",
    .help = "Mean under a sliding window; on the chip the padding counts.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {POOL_ATTRIBUTES, {.name = "count_include_pad", .kind = ATTRIBUTE_INT}},
    .infer = pool_infer,
    .prepare = average_prepare,
    .run = pool_run,
    .gradient = pool_gradient,
    .flags = OPERATOR_QUANTIZABLE,
    .align = ALIGN_POOLING,
    .layout = LAYOUT_CONV,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_global_average_pool = {
    .name = "GlobalAveragePool",
    .help = "Mean over all spatial axes.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = global_infer,
    .prepare = global_average_prepare,
    .run = pool_run,
    .gradient = pool_gradient,
    .flags = OPERATOR_QUANTIZABLE,
    .align = ALIGN_POOLING,
    .layout = LAYOUT_CONV,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_global_max_pool = {
    .name = "GlobalMaxPool",
    .help = "Largest element over all spatial axes.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .infer = global_infer,
    .prepare = global_max_prepare,
    .run = pool_run,
    .gradient = pool_gradient,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
    .layout = LAYOUT_CONV,
    .module_cure = "use MaxPool with the full size as kernel_shape, or ReduceMax over the spatial axes",
    .cost = cost_elementwise,
};
