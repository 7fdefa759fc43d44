/* Normalizations: BatchNormalization, InstanceNormalization, LayerNormalization, RMSNormalization.
 * Sums and what is drawn from them are float64, made in order; each element is rounded once. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* [rows][length]: what is normalized together lies together. */
typedef struct NormState {
    int64_t rows, length;
    double epsilon;
    bool centered; /* subtract the mean (LayerNormalization) or not (RMSNormalization) */
    Shape tail;    /* the normalized axes */
    Shape scale, bias;
    size_t scale_at, bias_at; /* in scratch, broadcast to the tail */
    int64_t channels;         /* InstanceNormalization, BatchNormalization: scale and bias by row */
} NormState;

typedef struct NormTask {
    const NormState *state;
    const float *x, *scale, *bias;
    float *y;
} NormTask;

static NormState *norm_state(Prepare *prepare, Error *error)
{
    NormState *state = memory_new(sizeof *state);
    if (!state) fail_memory(error, sizeof *state);
    prepare->state = state;
    return state;
}

/* Mean (0 unless centered) and 1 / deviation of a row. */
static void row_statistics(const NormState *state, const float *x, double *mean, double *factor)
{
    double sum = 0, squares = 0;
    if (state->centered) {
        for (int64_t i = 0; i < state->length; i++)
            sum += x[i];
    }
    *mean = sum / (double)state->length;
    for (int64_t i = 0; i < state->length; i++) {
        double d = x[i] - *mean;
        squares += d * d;
    }
    *factor = 1.0 / sqrt(squares / (double)state->length + state->epsilon);
}

static void layer_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const NormTask *task = context;
    const NormState *state = task->state;
    for (int64_t row = begin; row < end; row++) {
        const float *x = task->x + row * state->length;
        float *y = task->y + row * state->length;
        double mean, factor;
        row_statistics(state, x, &mean, &factor);
        for (int64_t i = 0; i < state->length; i++) {
            double scaled = (x[i] - mean) * factor * task->scale[i];
            y[i] = (float)(task->bias ? scaled + task->bias[i] : scaled);
        }
    }
}

static bool layer_axis(const Node *node, const Shape *x, int *axis, Error *error)
{
    return require_rank(node, x, 1, ESPQ_MAX_RANK, "input", error) &&
           normalize_axis(node, node_integer(node, "axis", -1), x->rank, axis, error);
}

static bool layer_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x;
    int axis;
    if (!input_shape(node, 0, &x, error) || !require_float32(node, 0, error) || !layer_axis(node, &x, &axis, error)) return false;
    Shape tail = shape_of(x.rank - axis, x.dims + axis);
    for (int i = 1; i < 3; i++) {
        Shape shape, together;
        if (i > 1 && !has_input(node, i)) continue;
        if (!input_shape(node, i, &shape, error) || !require_float32(node, i, error)) return false;
        while (shape.rank > tail.rank && shape.dims[0] == 1)
            shape = shape_of(shape.rank - 1, shape.dims + 1);
        if (!shape_broadcast(&shape, &tail, &together) || !shape_equal(&together, &tail)) {
            char a[160], b[160];
            return fail_node(error, node, "scale and bias have the shape of the normalized axes",
                             "input %d %s does not fit the normalized axes %s of the input", i, shape_text(&node->inputs[i]->shape, a),
                             shape_text(&tail, b));
        }
    }
    for (int i = 1; i < node->output_count; i++) {
        if (node->outputs[i])
            return fail_node(error, node, "remove what reads mean and deviation, or write the normalization out",
                             "output %d (%s) is not supported", i, node->outputs[i]->name);
    }
    set_output(node, 0, DTYPE_FLOAT32, &x);
    return true;
}

static bool layer_prepare_as(Prepare *prepare, bool centered, Error *error)
{
    const Shape *x = &prepare->input_shapes[0];
    int axis;
    NormState *state = norm_state(prepare, error);
    if (!state || !layer_axis(prepare->node, x, &axis, error)) return false;
    state->tail = shape_of(x->rank - axis, x->dims + axis);
    state->length = shape_count(&state->tail);
    state->rows = 1;
    for (int i = 0; i < axis; i++)
        state->rows *= x->dims[i];
    state->centered = centered;
    state->epsilon = node_number(prepare->node, "epsilon", 1e-5f);
    state->scale = prepare->input_shapes[1];
    state->scale_at = scratch_add(prepare, (size_t)state->length * sizeof(float));
    if (has_input(prepare->node, 2)) {
        state->bias = prepare->input_shapes[2];
        state->bias_at = scratch_add(prepare, (size_t)state->length * sizeof(float));
    }
    return true;
}

static bool layer_prepare(Prepare *prepare, Error *error)
{
    return layer_prepare_as(prepare, true, error);
}

static bool rms_prepare(Prepare *prepare, Error *error)
{
    return layer_prepare_as(prepare, false, error);
}

/* Scale or bias, one number an element of the normalized axes. */
static const float *spread(const Tensor *tensor, const Shape *shape, const NormState *state, float *scratch)
{
    if (shape_count(shape) == state->length) return tensor_floats(tensor);
    Shape own = *shape;
    while (own.rank > state->tail.rank)
        own = shape_of(own.rank - 1, own.dims + 1);
    broadcast_floats(tensor_floats(tensor), &own, &state->tail, scratch);
    return scratch;
}

static void layer_run(const Run *run)
{
    const NormState *state = run->state;
    char *scratch = run->scratch;
    bool has_bias = run->node->input_count > 2 && run->inputs[2];
    NormTask task = {state, tensor_floats(run->inputs[0]),
                     spread(run->inputs[1], &state->scale, state, (float *)(void *)(scratch + state->scale_at)),
                     has_bias ? spread(run->inputs[2], &state->bias, state, (float *)(void *)(scratch + state->bias_at)) : NULL,
                     tensor_floats(run->outputs[0])};
    if (state->length > 0) threads_for(state->rows, 1 + OPS_GRAIN / 4 / state->length, layer_part, &task);
}

typedef struct NormGradientTask {
    const NormState *state;
    const float *x, *dy, *scale;
    float *dx;
    bool by_row; /* one scale a row (InstanceNormalization), not one an element of it */
} NormGradientTask;

/* With n = (x - mean) / deviation and g = dy * scale: dx = (g - mean(g) - n * mean(g * n)) / deviation; not centered: without mean(g). */
static void norm_gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const NormGradientTask *task = context;
    const NormState *state = task->state;
    for (int64_t row = begin; row < end; row++) {
        const float *x = task->x + row * state->length, *dy = task->dy + row * state->length;
        const float *scale = task->by_row ? task->scale + row % state->channels : task->scale;
        int step = task->by_row ? 0 : 1;
        double mean, factor, sum = 0, product = 0;
        row_statistics(state, x, &mean, &factor);
        for (int64_t i = 0; i < state->length; i++) {
            double g = (double)dy[i] * (double)scale[i * step];
            sum += g;
            product += g * ((double)x[i] - mean) * factor;
        }
        sum = state->centered ? sum / (double)state->length : 0;
        product /= (double)state->length;
        for (int64_t i = 0; i < state->length; i++) {
            double g = (double)dy[i] * (double)scale[i * step], n = ((double)x[i] - mean) * factor;
            task->dx[row * state->length + i] = (float)((g - sum - n * product) * factor);
        }
    }
}

/* Sums over the rows, in their order: of dy * n (scale) and of dy (bias), for each element of the normalized axes. */
static void layer_parameter_sums(const NormState *state, const float *x, const float *dy, double *scale, double *bias)
{
    memset(scale, 0, (size_t)state->length * sizeof *scale);
    memset(bias, 0, (size_t)state->length * sizeof *bias);
    for (int64_t row = 0; row < state->rows; row++, x += state->length, dy += state->length) {
        double mean, factor;
        row_statistics(state, x, &mean, &factor);
        for (int64_t i = 0; i < state->length; i++) {
            scale[i] += (double)dy[i] * ((double)x[i] - mean) * factor;
            bias[i] += (double)dy[i];
        }
    }
}

/* Sums of what was spread over the normalized axes, to the shape it came from. */
static void gather_spread(const NormState *state, const Shape *shape, const double *sums, double *joined, float *to)
{
    int64_t strides[ESPQ_MAX_RANK], count = shape_count(shape);
    Shape own = *shape;
    while (own.rank > state->tail.rank)
        own = shape_of(own.rank - 1, own.dims + 1);
    broadcast_strides(&own, &state->tail, strides);
    memset(joined, 0, (size_t)count * sizeof *joined);
    for (int64_t i = 0; i < state->length; i++) {
        int64_t place = 0, rest = i;
        for (int axis = state->tail.rank - 1; axis >= 0; axis--) {
            place += rest % state->tail.dims[axis] * strides[axis];
            rest /= state->tail.dims[axis];
        }
        joined[place] += sums[i];
    }
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)joined[i];
}

static size_t layer_gradient_scratch(const Prepare *prepare)
{
    const NormState *state = prepare->state;
    return (size_t)state->length * (3 * sizeof(double) + sizeof(float));
}

static void layer_gradient(const Gradient *gradient)
{
    const NormState *state = gradient->state;
    double *sums = gradient->scratch, *bias_sums = sums + state->length, *joined = bias_sums + state->length;
    const float *x = tensor_floats(gradient->inputs[0]), *dy = tensor_floats(gradient->output_gradients[0]);
    float *dx = gradient_wanted(gradient, 0), *dscale = gradient_wanted(gradient, 1), *dbias = gradient_wanted(gradient, 2);
    NormGradientTask task = {.state = state, .x = x, .dy = dy, .dx = dx};
    if (dx && state->length > 0) {
        task.scale = spread(gradient->inputs[1], &state->scale, state, (float *)(void *)(joined + state->length));
        threads_for(state->rows, 1 + OPS_GRAIN / 8 / state->length, norm_gradient_part, &task);
    }
    if (!dscale && !dbias) return;
    layer_parameter_sums(state, x, dy, sums, bias_sums);
    if (dscale) gather_spread(state, &state->scale, sums, joined, dscale);
    if (dbias) gather_spread(state, &state->bias, bias_sums, joined, dbias);
}

const Operator op_layer_normalization = {
    .name = "LayerNormalization",
    .help = "Mean 0 and deviation 1 over the last axes, then scale and bias.",
    .inputs = {2, 3},
    .outputs = {1, 3},
    .attributes = {{.name = "axis", .kind = ATTRIBUTE_INT, .number = -1},
                   {.name = "epsilon", .kind = ATTRIBUTE_FLOAT, .number = 1e-5f},
                   {.name = "stash_type", .kind = ATTRIBUTE_INT, .number = 1}},
    .infer = layer_infer,
    .prepare = layer_prepare,
    .run = layer_run,
    .gradient = layer_gradient,
    .gradient_scratch = layer_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_rms_normalization = {
    .name = "RMSNormalization",
    .help = "Divided by the root of the mean square over the last axes, then scaled.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{.name = "axis", .kind = ATTRIBUTE_INT, .number = -1},
                   {.name = "epsilon", .kind = ATTRIBUTE_FLOAT, .number = 1e-5f},
                   {.name = "stash_type", .kind = ATTRIBUTE_INT, .number = 1}},
    .infer = layer_infer,
    .prepare = rms_prepare,
    .run = layer_run,
    .gradient = layer_gradient,
    .gradient_scratch = layer_gradient_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .float_inputs = 1u << 1,
    .layout = LAYOUT_OTHER,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

/* ---- by channel ---- */

static bool channels_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape x, shape;
    char a[160], b[160];
    if (!input_shape(node, 0, &x, error) || !require_rank(node, &x, 2, ESPQ_MAX_RANK, "input", error)) return false;
    for (int i = 0; i < node->input_count; i++) {
        if (!require_float32(node, i, error)) return false;
        if (i == 0) continue;
        if (!input_shape(node, i, &shape, error)) return false;
        if (shape.rank != 1 || shape.dims[0] != x.dims[1]) {
            return fail_node(error, node, "one number a channel (axis 1) is wanted", "input %d %s does not fit the channels of %s", i,
                             shape_text(&shape, a), shape_text(&x, b));
        }
    }
    set_output(node, 0, DTYPE_FLOAT32, &x);
    return true;
}

static bool batch_infer(Graph *graph, Node *node, Error *error)
{
    if (node_integer(node, "training_mode", 0) != 0)
        return fail_node(error, node, "export the model in evaluation mode (model.eval())", "training_mode is on");
    if (node_integer(node, "spatial", 1) != 1)
        return fail_node(error, node, "export it with one statistic a channel", "spatial = 0 is not supported");
    for (int i = 1; i < node->output_count; i++) {
        const Value *value = node->outputs[i];
        if (value && (value->use_count > 0 || value_is_output(graph, value)))
            return fail_node(error, node, "export the model in evaluation mode (model.eval())", "output %d (%s) exists in training only", i,
                             value->name);
    }
    return channels_infer(graph, node, error);
}

static bool rows_prepare(Prepare *prepare, double epsilon, Error *error)
{
    const Shape *x = &prepare->input_shapes[0];
    NormState *state = norm_state(prepare, error);
    if (!state) return false;
    state->channels = x->dims[1];
    state->rows = x->dims[0] * x->dims[1];
    state->length = state->rows > 0 ? shape_count(x) / state->rows : 0;
    state->centered = true;
    state->epsilon = epsilon;
    return true;
}

static bool batch_prepare(Prepare *prepare, Error *error)
{
    return rows_prepare(prepare, node_number(prepare->node, "epsilon", 1e-5f), error);
}

/* The reference reads an attribute "eps" that ONNX does not have. */
static bool instance_prepare(Prepare *prepare, Error *error)
{
    return rows_prepare(prepare, prepare->exact ? node_number(prepare->node, "epsilon", 1e-5f) : node_number(prepare->node, "eps", 1e-5f),
                        error);
}

static void instance_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const NormTask *task = context;
    const NormState *state = task->state;
    for (int64_t row = begin; row < end; row++) {
        const float *x = task->x + row * state->length;
        float *y = task->y + row * state->length;
        double mean, factor, scale = task->scale[row % state->channels], bias = task->bias[row % state->channels];
        row_statistics(state, x, &mean, &factor);
        for (int64_t i = 0; i < state->length; i++)
            y[i] = (float)((x[i] - mean) * factor * scale + bias);
    }
}

static void instance_run(const Run *run)
{
    const NormState *state = run->state;
    NormTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->inputs[1]), tensor_floats(run->inputs[2]),
                     tensor_floats(run->outputs[0])};
    if (state->length > 0) threads_for(state->rows, 1 + OPS_GRAIN / 4 / state->length, instance_part, &task);
}

/* Sums over samples and pixels of each channel, in their order; mean and 1 / deviation of a row come from its own numbers, or from
 * training (statistics). */
static void channel_gradients(const Gradient *gradient, const float *means, const float *variances)
{
    const NormState *state = gradient->state;
    float *dscale = gradient_wanted(gradient, 1), *dbias = gradient_wanted(gradient, 2);
    if (!dscale && !dbias) return;
    for (int64_t channel = 0; channel < state->channels; channel++) {
        double scale = 0, bias = 0;
        for (int64_t row = channel; row < state->rows; row += state->channels) {
            const float *x = tensor_floats(gradient->inputs[0]) + row * state->length;
            const float *dy = tensor_floats(gradient->output_gradients[0]) + row * state->length;
            double mean, factor;
            if (means) {
                mean = (double)means[channel];
                factor = 1.0 / sqrt((double)variances[channel] + state->epsilon);
            } else {
                row_statistics(state, x, &mean, &factor);
            }
            for (int64_t i = 0; i < state->length; i++) {
                scale += (double)dy[i] * ((double)x[i] - mean) * factor;
                bias += (double)dy[i];
            }
        }
        if (dscale) dscale[channel] = (float)scale;
        if (dbias) dbias[channel] = (float)bias;
    }
}

static void instance_gradient(const Gradient *gradient)
{
    const NormState *state = gradient->state;
    NormGradientTask task = {.state = state,
                             .x = tensor_floats(gradient->inputs[0]),
                             .dy = tensor_floats(gradient->output_gradients[0]),
                             .scale = tensor_floats(gradient->inputs[1]),
                             .dx = gradient_wanted(gradient, 0),
                             .by_row = true};
    if (task.dx && state->length > 0) threads_for(state->rows, 1 + OPS_GRAIN / 8 / state->length, norm_gradient_part, &task);
    channel_gradients(gradient, NULL, NULL);
}

/* The statistics of training stay as they are. */
static void batch_gradient(const Gradient *gradient)
{
    const NormState *state = gradient->state;
    const float *scale = tensor_floats(gradient->inputs[1]), *means = tensor_floats(gradient->inputs[3]);
    const float *variances = tensor_floats(gradient->inputs[4]), *dy = tensor_floats(gradient->output_gradients[0]);
    float *dx = gradient_wanted(gradient, 0);
    for (int64_t row = 0; dx && row < state->rows; row++) {
        int64_t channel = row % state->channels;
        double factor = (double)scale[channel] / sqrt((double)variances[channel] + state->epsilon);
        for (int64_t i = row * state->length; i < (row + 1) * state->length; i++)
            dx[i] = (float)((double)dy[i] * factor);
    }
    channel_gradients(gradient, means, variances);
}

typedef struct BatchTask {
    const NormState *state;
    const float *x, *scale, *bias, *mean, *variance;
    float *y;
} BatchTask;

static void batch_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const BatchTask *task = context;
    const NormState *state = task->state;
    for (int64_t row = begin; row < end; row++) {
        int64_t channel = row % state->channels;
        double factor = task->scale[channel] / sqrt(task->variance[channel] + state->epsilon);
        double shift = task->bias[channel] - task->mean[channel] * factor;
        const float *x = task->x + row * state->length;
        float *y = task->y + row * state->length;
        for (int64_t i = 0; i < state->length; i++)
            y[i] = (float)(x[i] * factor + shift);
    }
}

static void batch_run(const Run *run)
{
    const NormState *state = run->state;
    BatchTask task = {state,
                      tensor_floats(run->inputs[0]),
                      tensor_floats(run->inputs[1]),
                      tensor_floats(run->inputs[2]),
                      tensor_floats(run->inputs[3]),
                      tensor_floats(run->inputs[4]),
                      tensor_floats(run->outputs[0])};
    if (state->length > 0) threads_for(state->rows, 1 + OPS_GRAIN / state->length, batch_part, &task);
}

const Operator op_batch_normalization = {
    .name = "BatchNormalization",
    .help = "Scale and shift by channel, with statistics from training.",
    .inputs = {5, 5},
    .outputs = {1, 5},
    .attributes = {{.name = "epsilon", .kind = ATTRIBUTE_FLOAT, .number = 1e-5f},
                   {.name = "momentum", .kind = ATTRIBUTE_FLOAT, .number = 0.9f},
                   {.name = "training_mode", .kind = ATTRIBUTE_INT},
                   {.name = "spatial", .kind = ATTRIBUTE_INT, .number = 1}},
    .infer = batch_infer,
    .prepare = batch_prepare,
    .run = batch_run,
    .gradient = batch_gradient,
    .gradient_fixed = 1u << 3 | 1u << 4,
    .module_cure =
        "it is folded into a Conv, Gemm or ConvTranspose before it, or becomes a depthwise Conv; inputs 1 to 4 must be constants",
    .cost = cost_elementwise,
};

const Operator op_instance_normalization = {
    .name = "InstanceNormalization",
    .help = "Mean 0 and deviation 1 of each sample's channel, then scale and bias.",
    .inputs = {3, 3},
    .outputs = {1, 1},
    .attributes = {{.name = "epsilon", .kind = ATTRIBUTE_FLOAT, .number = 1e-5f}},
    .infer = channels_infer,
    .prepare = instance_prepare,
    .run = instance_run,
    .gradient = instance_gradient,
    .module_cure = "train with BatchNormalization, or write it as Reshape and LayerNormalization",
    .cost = cost_elementwise,
};
