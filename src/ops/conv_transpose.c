/* Transposed convolution, by its definition, and InsertZeros, which together with a plain convolution replaces it on the chip
 * (QUANT §2.9). Weights [channels in, channels out / group, kernel…]. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "kernel/gradient.h"
#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"
#include "ops/window.h"
#include "quant/slots.h"

/* The kernel elements that meet data at one output position along an axis: k, k + step …, each with the input position behind. */
typedef struct Taps {
    int64_t k, index, count;
} Taps;

typedef struct TransposedState {
    Window window;
    int64_t batch, groups, channels_in, channels_out; /* channels a group */
    Taps *taps[ESPQ_MAX_SPATIAL];                     /* one an output position */
    int64_t k_step[ESPQ_MAX_SPATIAL], index_step[ESPQ_MAX_SPATIAL];
    bool wide;
} TransposedState;

static bool transposed_shapes(const Node *node, const Shape *x, const Shape *weights, Window *window, Error *error)
{
    char a[160], b[160];
    int64_t group = node_integer(node, "group", 1);
    if (!require_rank(node, x, 3, 5, "input", error)) return false;
    if (weights->rank != x->rank) {
        return fail_node(error, node, "weights are [in, out / group, kernel]", "input %s and weights %s have different ranks",
                         shape_text(x, a), shape_text(weights, b));
    }
    if (group < 1 || weights->dims[0] != x->dims[1] || weights->dims[0] % group != 0) {
        return fail_node(error, node, "input channels must equal weights[0] and be a multiple of group",
                         "input %s, weights %s and group %lld do not fit", shape_text(x, a), shape_text(weights, b), (long long)group);
    }
    return window_resolve_transposed(node, x, weights->dims + 2, window, error);
}

/* auto_pad and output_shape become pads and output_padding, from which the decomposition (QUANT §2.9) starts. */
static bool settle_transposed(Graph *graph, Node *node, const Window *window, Error *error)
{
    const Attribute *asked = node_attribute(node, "output_shape");
    bool by_shape = asked && asked->count > 0;
    bool same = !node_attribute(node, "pads") && strncmp(node_string(node, "auto_pad", "NOTSET"), "SAME", 4) == 0;
    if (!by_shape && !same) return true;
    int64_t pads[2 * ESPQ_MAX_SPATIAL], padding[ESPQ_MAX_SPATIAL];
    for (int i = 0; i < window->spatial; i++) {
        pads[i] = window->pad_begin[i];
        pads[i + window->spatial] = window->pad_end[i];
        int64_t extent = (window->kernel[i] - 1) * window->dilation[i] + 1;
        padding[i] = window->out[i] + pads[i] + pads[i + window->spatial] - window->stride[i] * (window->in[i] - 1) - extent;
    }
    if (!node_set_integers(graph, node, "pads", pads, 2 * window->spatial) ||
        !node_set_integers(graph, node, "output_padding", padding, window->spatial))
        return fail_memory(error, sizeof pads);
    node_remove_attribute(node, "auto_pad");
    node_remove_attribute(node, "output_shape");
    return true;
}

static bool transposed_infer(Graph *graph, Node *node, Error *error)
{
    Shape x, weights, bias;
    Window window;
    char text[160];
    if (!input_shape(node, 0, &x, error) || !input_shape(node, 1, &weights, error)) return false;
    for (int i = 0; i < 3; i++) {
        if (!require_float32(node, i, error)) return false;
    }
    if (!transposed_shapes(node, &x, &weights, &window, error)) return false;
    int64_t channels = weights.dims[1] * node_integer(node, "group", 1);
    if (has_input(node, 2)) {
        if (!input_shape(node, 2, &bias, error)) return false;
        if (bias.rank != 1 || bias.dims[0] != channels) {
            return fail_node(error, node, "a bias has one number an output channel", "bias %s does not fit %lld output channels",
                             shape_text(&bias, text), (long long)channels);
        }
    }
    if (!settle_transposed(graph, node, &window, error)) return false;
    Shape out = window_output(x.dims[0], channels, &window);
    set_output(node, 0, DTYPE_FLOAT32, &out);
    return true;
}

static void transposed_release(void *pointer)
{
    TransposedState *state = pointer;
    for (int axis = 0; axis < ESPQ_MAX_SPATIAL; axis++)
        memory_free(state->taps[axis]);
    memory_free(state);
}

/* Output position p meets input i by kernel element k when p + pad = i * stride + k * dilation; solutions lie stride / gcd apart. */
static bool find_taps(TransposedState *state, int axis, Error *error)
{
    const Window *window = &state->window;
    int64_t stride = window->stride[axis], dilation = window->dilation[axis], a = stride, b = dilation;
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    state->k_step[axis] = stride / a;
    state->index_step[axis] = dilation / a;
    state->taps[axis] = memory_new_array((size_t)window->out[axis], sizeof(Taps));
    if (!state->taps[axis]) return fail_memory(error, (size_t)window->out[axis] * sizeof(Taps));
    for (int64_t p = 0; p < window->out[axis]; p++) {
        Taps *taps = &state->taps[axis][p];
        for (int64_t k = 0; k < window->kernel[axis]; k++) {
            int64_t offset = p + window->pad_begin[axis] - k * dilation;
            if (offset < 0 || offset % stride != 0 || offset / stride >= window->in[axis]) continue;
            if (taps->count++ == 0) *taps = (Taps){k, offset / stride, 1};
        }
    }
    return true;
}

static bool transposed_prepare(Prepare *prepare, Error *error)
{
    const Shape *x = &prepare->input_shapes[0], *weights = &prepare->input_shapes[1];
    TransposedState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    if (!transposed_shapes(prepare->node, x, weights, &state->window, error)) return false;
    window_three_axes(&state->window);
    state->batch = x->dims[0];
    state->groups = node_integer(prepare->node, "group", 1);
    state->channels_in = weights->dims[0] / state->groups;
    state->channels_out = weights->dims[1];
    state->wide = prepare->wide;
    for (int axis = 0; axis < ESPQ_MAX_SPATIAL; axis++) {
        if (!find_taps(state, axis, error)) return false;
    }
    return true;
}

typedef struct TransposedTask {
    const TransposedState *state;
    const float *x, *weights, *bias;
    float *y;
} TransposedTask;

/* Sum of one output element: bias first, then input channel, kernel plane, row, column. */
static float transposed_element(const TransposedState *state, const float *x, const float *weights, float start, const Taps *depth,
                                const Taps *row, const Taps *column)
{
    const Window *window = &state->window;
    int64_t in_plane = window->in[0] * window->in[1] * window->in[2], taps = window->kernel[0] * window->kernel[1] * window->kernel[2];
    float sum = start;
    double wide_sum = start;
    for (int64_t c = 0; c < state->channels_in; c++, x += in_plane, weights += state->channels_out * taps) {
        for (int64_t d = 0; d < depth->count; d++) {
            int64_t kernel_plane = depth->k + d * state->k_step[0], plane = depth->index - d * state->index_step[0];
            for (int64_t i = 0; i < row->count; i++) {
                const float *weight =
                    weights + (kernel_plane * window->kernel[1] + row->k + i * state->k_step[1]) * window->kernel[2] + column->k;
                const float *from = x + (plane * window->in[1] + row->index - i * state->index_step[1]) * window->in[2] + column->index;
                for (int64_t j = 0; j < column->count; j++) {
                    float factor = weight[j * state->k_step[2]], value = from[-j * state->index_step[2]];
                    if (state->wide)
                        wide_sum += (double)factor * value;
                    else
                        sum = fmaf(factor, value, sum);
                }
            }
        }
    }
    return state->wide ? (float)wide_sum : sum;
}

static void transposed_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const TransposedTask *task = context;
    const TransposedState *state = task->state;
    const Window *window = &state->window;
    int64_t taps = window->kernel[0] * window->kernel[1] * window->kernel[2], in_plane = window->in[0] * window->in[1] * window->in[2];
    int64_t channels = state->groups * state->channels_out, out_plane = window->out[0] * window->out[1] * window->out[2];
    for (int64_t item = begin; item < end; item++) {
        int64_t image = item / channels, channel = item % channels, group = channel / state->channels_out;
        const float *x = task->x + (image * state->groups + group) * state->channels_in * in_plane;
        const float *weights = task->weights + (group * state->channels_in * state->channels_out + channel % state->channels_out) * taps;
        float start = task->bias ? task->bias[channel] : 0.0f, *y = task->y + item * out_plane;
        for (int64_t d = 0; d < window->out[0]; d++) {
            for (int64_t i = 0; i < window->out[1]; i++) {
                for (int64_t j = 0; j < window->out[2]; j++)
                    *y++ = transposed_element(state, x, weights, start, &state->taps[0][d], &state->taps[1][i], &state->taps[2][j]);
            }
        }
    }
}

static void transposed_run(const Run *run)
{
    const TransposedState *state = run->state;
    const float *bias = run->node->input_count > 2 && run->inputs[2] ? tensor_floats(run->inputs[2]) : NULL;
    TransposedTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->inputs[1]), bias, tensor_floats(run->outputs[0])};
    threads_for(state->batch * state->groups * state->channels_out, 1, transposed_part, &task);
}

/* Back through a transposed convolution goes the convolution whose gradient to the input it is. */
static ConvF32 forward_conv(const TransposedState *state)
{
    const Window *window = &state->window;
    ConvF32 conv = {.batch = (int)state->batch,
                    .groups = (int)state->groups,
                    .channels_in = (int)state->channels_out,
                    .channels_out = (int)state->channels_in};
    for (int axis = 0; axis < 2; axis++) {
        conv.in[axis] = (int)window->out[axis + 1];
        conv.out[axis] = (int)window->in[axis + 1];
        conv.kernel[axis] = (int)window->kernel[axis + 1];
        conv.stride[axis] = (int)window->stride[axis + 1];
        conv.dilation[axis] = (int)window->dilation[axis + 1];
        conv.pad[axis] = (int)window->pad_begin[axis + 1];
    }
    return conv;
}

static size_t transposed_gradient_scratch(const Prepare *prepare)
{
    const TransposedState *state = prepare->state;
    const Window *window = &state->window;
    if (window->out[0] != 1 || window->kernel[0] != 1 || window->pad_begin[1] < 0 || window->pad_begin[2] < 0) return SIZE_MAX;
    ConvF32 conv = forward_conv(state);
    return conv_f32_packed_bytes(&conv);
}

static void transposed_gradient(const Gradient *gradient)
{
    const TransposedState *state = gradient->state;
    ConvF32 conv = forward_conv(state);
    const float *dy = tensor_floats(gradient->output_gradients[0]);
    float *dx = gradient_wanted(gradient, 0), *dw = gradient_wanted(gradient, 1), *db = gradient_wanted(gradient, 2);
    if (dx) {
        conv_f32_pack(&conv, tensor_floats(gradient->inputs[1]), gradient->scratch);
        conv_f32(&conv, dy, gradient->scratch, NULL, dx, NULL);
    }
    if (dw) conv_f32_weight_gradient(&conv, dy, tensor_floats(gradient->inputs[0]), dw);
    if (db) channel_sums_f32(dy, state->batch, state->groups * state->channels_out, (int64_t)conv.in[0] * conv.in[1], db);
}

static void transposed_cost(const Node *node, Cost *cost)
{
    const Value *x = input_value(node, 0), *weights = input_value(node, 1);
    cost->parameter_bytes = parameter_bytes(node);
    cost->macs = 0;
    if (!x || !weights || !x->shaped || !weights->shaped || weights->shape.dims[0] == 0) return;
    cost->macs = shape_count(&x->shape) * (shape_count(&weights->shape) / weights->shape.dims[0]);
}

const Operator op_conv_transpose = {
    .name = "ConvTranspose",
    .help = "Transposed convolution; on the chip InsertZeros and Conv.",
    .inputs = {2, 3},
    .outputs = {1, 1},
    .attributes = {{.name = "auto_pad", .kind = ATTRIBUTE_STRING, .text = "NOTSET", .words = "NOTSET|SAME_UPPER|SAME_LOWER|VALID"},
                   {.name = "dilations", .kind = ATTRIBUTE_INTS},
                   {.name = "group", .kind = ATTRIBUTE_INT, .number = 1},
                   {.name = "kernel_shape", .kind = ATTRIBUTE_INTS},
                   {.name = "output_padding", .kind = ATTRIBUTE_INTS},
                   {.name = "output_shape", .kind = ATTRIBUTE_INTS},
                   {.name = "pads", .kind = ATTRIBUTE_INTS},
                   {.name = "strides", .kind = ATTRIBUTE_INTS}},
    .infer = transposed_infer,
    .prepare = transposed_prepare,
    .release = transposed_release,
    .run = transposed_run,
    .gradient = transposed_gradient,
    .gradient_scratch = transposed_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_COMPUTING | OPERATOR_WEIGHTED,
    .slots = slots_conv_transpose,
    .layout = LAYOUT_CONV,
    .module_cure = "leave setting.convtranspose_decomposition on: it becomes InsertZeros and Conv",
    .cost = transposed_cost,
};

/* stride and output_padding: one entry for all spatial axes, or one each. */
static bool zeros_attribute(const Node *node, const char *name, int64_t otherwise, int64_t least, int64_t *out, int spatial, Error *error)
{
    const Attribute *attribute = node_attribute(node, name);
    if (attribute && attribute->kind == ATTRIBUTE_INTS && attribute->count == 1)
        otherwise = attribute->integers[0];
    else if (attribute && attribute->kind == ATTRIBUTE_INT)
        otherwise = attribute->integer;
    else if (!attribute_integers(node, name, otherwise, out, spatial, error))
        return false;
    else
        attribute = NULL;
    for (int i = 0; i < spatial; i++) {
        if (attribute) out[i] = otherwise;
        if (out[i] < least || out[i] > INT32_MAX)
            return fail_node(error, node, "repair the attribute", "%s has an entry of %lld", name, (long long)out[i]);
    }
    return true;
}

static bool zeros_shape(const Node *node, const Shape *x, int64_t *stride, Shape *out, Error *error)
{
    int64_t padding[ESPQ_MAX_SPATIAL];
    if (!require_rank(node, x, 3, 5, "input", error)) return false;
    if (!zeros_attribute(node, "stride", 1, 1, stride, x->rank - 2, error)) return false;
    if (!zeros_attribute(node, "output_padding", 0, 0, padding, x->rank - 2, error)) return false;
    *out = *x;
    for (int i = 2; i < x->rank; i++) {
        if (x->dims[i] > 0) out->dims[i] = (x->dims[i] - 1) * stride[i - 2] + 1 + padding[i - 2];
    }
    return true;
}

static bool zeros_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x, out;
    int64_t stride[ESPQ_MAX_SPATIAL];
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !zeros_shape(node, &x, stride, &out, error)) return false;
    set_output(node, 0, node->inputs[0]->dtype, &out);
    return true;
}

static bool zeros_prepare(Prepare *prepare, Error *error)
{
    Window *window = memory_new(sizeof *window);
    if (!window) return fail_memory(error, sizeof *window);
    prepare->state = window;
    Shape out;
    const Shape *x = &prepare->input_shapes[0];
    if (!zeros_shape(prepare->node, x, window->stride, &out, error)) return false;
    window->spatial = x->rank - 2;
    memcpy(window->in, x->dims + 2, (size_t)window->spatial * sizeof *window->in);
    memcpy(window->out, out.dims + 2, (size_t)window->spatial * sizeof *window->out);
    window_three_axes(window);
    return true;
}

static void zeros_run(const Run *run)
{
    const Window *window = run->state;
    const float *x = tensor_floats(run->inputs[0]);
    float *y = tensor_floats(run->outputs[0]);
    int64_t planes = run->inputs[0]->shape.dims[0] * run->inputs[0]->shape.dims[1];
    memset(y, 0, tensor_bytes(run->outputs[0]));
    for (int64_t plane = 0; plane < planes; plane++, y += window->out[0] * window->out[1] * window->out[2]) {
        for (int64_t d = 0; d < window->in[0]; d++) {
            for (int64_t i = 0; i < window->in[1]; i++) {
                float *row = y + (d * window->stride[0] * window->out[1] + i * window->stride[1]) * window->out[2];
                for (int64_t j = 0; j < window->in[2]; j++)
                    row[j * window->stride[2]] = *x++;
            }
        }
    }
}

const Operator op_insert_zeros = {
    .name = "InsertZeros",
    .help = "Zeros between the elements of the spatial axes: the first half of a transposed convolution.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{.name = "stride", .kind = ATTRIBUTE_INTS}, {.name = "output_padding", .kind = ATTRIBUTE_INTS}},
    .infer = zeros_infer,
    .prepare = zeros_prepare,
    .run = zeros_run,
    .gradient = gradient_moves,
    .gradient_scratch = gradient_moves_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_CONV,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
