/* Convolution over one or two spatial axes, with groups. Weights [channels out, channels in / group, kernel…]. */
#include <string.h>

#include "base/memory.h"
#include "kernel/gradient.h"
#include "kernel/winograd.h"
#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"
#include "ops/window.h"

typedef struct ConvState {
    ConvF32 conv;
    bool wide, winograd;
    float *packed;                        /* NULL: the weights come at run time */
    int64_t crop[2], whole[2];            /* negative leading pads: rows and columns cut off before, and the sizes before the cut */
    size_t crop_at, packed_at, kernel_at; /* in scratch */
} ConvState;

static bool check_bias(const Node *node, int64_t channels, Error *error)
{
    Shape bias;
    if (!has_input(node, 2)) return true;
    if (!input_shape(node, 2, &bias, error)) return false;
    if (bias.rank == 1 && bias.dims[0] == channels) return true;
    char text[160];
    return fail_node(error, node, "a bias has one number an output channel", "bias %s does not fit %lld output channels",
                     shape_text(&bias, text), (long long)channels);
}

static bool check_kernel_shape(const Node *node, const Shape *weights, Error *error)
{
    int64_t kernel[ESPQ_MAX_SPATIAL];
    if (!node_attribute(node, "kernel_shape")) return true;
    if (!attribute_integers(node, "kernel_shape", 1, kernel, weights->rank - 2, error)) return false;
    char text[160];
    for (int i = 0; i < weights->rank - 2; i++) {
        if (kernel[i] != weights->dims[i + 2])
            return fail_node(error, node, "repair the attribute in the model", "kernel_shape does not agree with the weights %s",
                             shape_text(weights, text));
    }
    return true;
}

static bool conv_shapes(const Node *node, const Shape *x, const Shape *weights, Window *window, Error *error)
{
    char a[160], b[160];
    int64_t group = node_integer(node, "group", 1);
    if (!require_rank(node, x, 3, 5, "input", error)) return false;
    if (weights->rank != x->rank) {
        return fail_node(error, node, "weights are [out, in / group, kernel]", "input %s and weights %s have different ranks",
                         shape_text(x, a), shape_text(weights, b));
    }
    if (group < 1 || weights->dims[1] * group != x->dims[1] || weights->dims[0] % group != 0) {
        return fail_node(error, node, "input channels must be group * weights[1], output channels a multiple of group",
                         "input %s, weights %s and group %lld do not fit", shape_text(x, a), shape_text(weights, b), (long long)group);
    }
    return window_resolve(node, x, weights->dims + 2, window, error);
}

static bool conv_infer(Graph *graph, Node *node, Error *error)
{
    Shape x, weights;
    Window window;
    if (!input_shape(node, 0, &x, error) || !input_shape(node, 1, &weights, error)) return false;
    for (int i = 0; i < 3; i++) {
        if (!require_float32(node, i, error)) return false;
    }
    if (!conv_shapes(node, &x, &weights, &window, error) || !check_kernel_shape(node, &weights, error) ||
        !check_bias(node, weights.dims[0], error))
        return false;
    if (!window_settle(graph, node, &window, error)) return false;
    Shape out = window_output(x.dims[0], weights.dims[0], &window);
    set_output(node, 0, DTYPE_FLOAT32, &out);
    return true;
}

static void conv_release(void *state)
{
    ConvState *conv = state;
    memory_free(conv->packed);
    memory_free(conv);
}

/* The kernel knows two axes; a 1-D convolution has one row. */
static void set_axes(ConvState *state, const Window *window)
{
    ConvF32 *conv = &state->conv;
    for (int axis = 0; axis < 2; axis++) {
        int i = axis - (2 - window->spatial);
        state->whole[axis] = i < 0 ? 1 : window->in[i];
        state->crop[axis] = i < 0 || window->pad_begin[i] >= 0 ? 0 : -window->pad_begin[i];
        conv->in[axis] = (int)(state->whole[axis] - state->crop[axis]);
        conv->out[axis] = i < 0 ? 1 : (int)window->out[i];
        conv->kernel[axis] = i < 0 ? 1 : (int)window->kernel[i];
        conv->stride[axis] = i < 0 ? 1 : (int)window->stride[i];
        conv->dilation[axis] = i < 0 ? 1 : (int)window->dilation[i];
        conv->pad[axis] = i < 0 || window->pad_begin[i] < 0 ? 0 : (int)window->pad_begin[i];
    }
}

static bool conv_prepare(Prepare *prepare, Error *error)
{
    const Shape *x = &prepare->input_shapes[0], *weights = &prepare->input_shapes[1];
    Window window;
    if (!conv_shapes(prepare->node, x, weights, &window, error)) return false;
    if (window.spatial > 2) {
        return fail_node(error, prepare->node, "write it as 2-D convolutions over slices, or cut the model before it (--outputs)",
                         "a 3-D convolution cannot be run or quantized: the chip has none");
    }
    ConvState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    ConvF32 *conv = &state->conv;
    conv->batch = (int)x->dims[0];
    conv->groups = (int)node_integer(prepare->node, "group", 1);
    conv->channels_in = (int)weights->dims[1];
    conv->channels_out = (int)(weights->dims[0] / conv->groups);
    set_axes(state, &window);
    state->wide = prepare->wide;
    if (state->crop[0] || state->crop[1])
        state->crop_at =
            scratch_add(prepare, (size_t)(x->dims[0] * x->dims[1]) * (size_t)conv->in[0] * (size_t)conv->in[1] * sizeof(float));
    if (prepare->wide) return true;
    state->kernel_at = scratch_add(prepare, conv_f32_scratch_bytes(conv));
    state->winograd = prepare->approximate && prepare->constants[1] && winograd_f32_pays(conv);
    size_t bytes = state->winograd ? winograd_f32_packed_bytes(conv) : conv_f32_packed_bytes(conv);
    if (!prepare->constants[1]) {
        state->packed_at = scratch_add(prepare, bytes);
        return true;
    }
    state->packed = memory_new_aligned(bytes);
    if (!state->packed) return fail_memory(error, bytes);
    if (state->winograd)
        winograd_f32_pack(conv, tensor_floats(prepare->constants[1]), state->packed);
    else
        conv_f32_pack(conv, tensor_floats(prepare->constants[1]), state->packed);
    return true;
}

static const float *crop(const ConvState *state, const float *x, char *scratch)
{
    const ConvF32 *conv = &state->conv;
    if (!state->crop[0] && !state->crop[1]) return x;
    float *out = (float *)(void *)(scratch + state->crop_at), *to = out;
    for (int64_t plane = 0; plane < (int64_t)conv->batch * conv->groups * conv->channels_in; plane++) {
        for (int row = 0; row < conv->in[0]; row++, to += conv->in[1])
            memcpy(to, x + (plane * state->whole[0] + state->crop[0] + row) * state->whole[1] + state->crop[1],
                   (size_t)conv->in[1] * sizeof *to);
    }
    return out;
}

/* `batch` samples. */
static void run_samples(const Run *run, int batch, const float *given, float *y)
{
    const ConvState *state = run->state;
    ConvF32 conv = state->conv;
    char *scratch = run->scratch;
    const float *x = crop(state, given, scratch), *weights = tensor_floats(run->inputs[1]);
    const float *bias = run->node->input_count > 2 && run->inputs[2] ? tensor_floats(run->inputs[2]) : NULL;
    conv.batch = batch;
    if (state->wide) {
        conv_f64_reference(&conv, x, weights, bias, y);
        return;
    }
    const float *packed = state->packed;
    if (!packed) {
        float *made = (float *)(void *)(scratch + state->packed_at);
        conv_f32_pack(&conv, weights, made);
        packed = made;
    }
    if (state->winograd)
        winograd_f32(&conv, x, packed, bias, y);
    else
        conv_f32(&conv, x, packed, bias, y, scratch + state->kernel_at);
}

/* All samples at once, except where the scratch holds cut copies of the prepared ones only. */
static void conv_run(const Run *run)
{
    const ConvState *state = run->state;
    const Tensor *x = run->inputs[0], *y = run->outputs[0];
    int batch = (int)x->shape.dims[0], step = state->crop[0] || state->crop[1] ? state->conv.batch : batch;
    for (int first = 0; first < batch; first += step)
        run_samples(run, step, tensor_floats(x) + first * x->strides[0], tensor_floats(y) + first * y->strides[0]);
}

static size_t align_bytes(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t conv_gradient_scratch(const Prepare *prepare)
{
    const ConvState *state = prepare->state;
    const ConvF32 *conv = &state->conv;
    size_t planes = (size_t)conv->batch * conv->groups * conv->channels_in,
           bytes = align_bytes(conv_f32_input_gradient_scratch_bytes(conv));
    if (state->crop[0] || state->crop[1]) /* a cut copy of x, and its gradient */
        bytes += 2 * align_bytes(planes * (size_t)conv->in[0] * (size_t)conv->in[1] * sizeof(float));
    return bytes;
}

/* What the cut rows and columns gain is nothing. */
static void uncrop(const ConvState *state, const float *cut, float *to)
{
    const ConvF32 *conv = &state->conv;
    int64_t planes = (int64_t)conv->batch * conv->groups * conv->channels_in;
    memset(to, 0, (size_t)(planes * state->whole[0] * state->whole[1]) * sizeof *to);
    for (int64_t plane = 0; plane < planes; plane++)
        for (int row = 0; row < conv->in[0]; row++, cut += conv->in[1])
            memcpy(to + (plane * state->whole[0] + state->crop[0] + row) * state->whole[1] + state->crop[1], cut,
                   (size_t)conv->in[1] * sizeof *to);
}

static void conv_gradient(const Gradient *gradient)
{
    const ConvState *state = gradient->state;
    const ConvF32 *conv = &state->conv;
    const float *dy = tensor_floats(gradient->output_gradients[0]);
    float *dx = gradient_wanted(gradient, 0), *dw = gradient_wanted(gradient, 1), *db = gradient_wanted(gradient, 2);
    bool cropped = state->crop[0] || state->crop[1];
    char *parts = (char *)gradient->scratch + align_bytes(conv_f32_input_gradient_scratch_bytes(conv));
    if (dw) {
        ConvState copy = *state;
        copy.crop_at = 0;
        conv_f32_weight_gradient(conv, crop(&copy, tensor_floats(gradient->inputs[0]), parts), dy, dw);
    }
    if (dx) {
        size_t planes = (size_t)conv->batch * conv->groups * conv->channels_in;
        float *part = (float *)(void *)(parts + align_bytes(planes * (size_t)conv->in[0] * (size_t)conv->in[1] * sizeof(float)));
        conv_f32_input_gradient(conv, tensor_floats(gradient->inputs[1]), dy, cropped ? part : dx, gradient->scratch);
        if (cropped) uncrop(state, part, dx);
    }
    if (db) channel_sums_f32(dy, conv->batch, (int64_t)conv->groups * conv->channels_out, (int64_t)conv->out[0] * conv->out[1], db);
}

static void conv_cost(const Node *node, Cost *cost)
{
    const Value *weights = input_value(node, 1), *out = node->outputs[0];
    cost->parameter_bytes = parameter_bytes(node);
    cost->macs = 0;
    if (!weights || !weights->shaped || !out->shaped || weights->shape.dims[0] == 0) return;
    cost->macs = shape_count(&out->shape) * (shape_count(&weights->shape) / weights->shape.dims[0]);
}

const Operator op_conv = {
    .name = "Conv",
    .help = "Convolution over one or two axes, with groups, strides, dilations and pads.",
    .inputs = {2, 3},
    .outputs = {1, 1},
    .attributes = {{.name = "auto_pad", .kind = ATTRIBUTE_STRING, .text = "NOTSET", .words = "NOTSET|SAME_UPPER|SAME_LOWER|VALID"},
                   {.name = "dilations", .kind = ATTRIBUTE_INTS},
                   {.name = "group", .kind = ATTRIBUTE_INT, .number = 1},
                   {.name = "kernel_shape", .kind = ATTRIBUTE_INTS},
                   {.name = "pads", .kind = ATTRIBUTE_INTS},
                   {.name = "strides", .kind = ATTRIBUTE_INTS}},
    .infer = conv_infer,
    .prepare = conv_prepare,
    .release = conv_release,
    .run = conv_run,
    .gradient = conv_gradient,
    .gradient_scratch = conv_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_COMPUTING | OPERATOR_WEIGHTED | OPERATOR_ANY_BATCH | OPERATOR_CHANNEL_SUM,
    .layout = LAYOUT_CONV,
    .pack = PACK_CONV,
    .fuses_relu = true,
    .module = MODULE_S8 | MODULE_S16,
    .cost = conv_cost,
};
