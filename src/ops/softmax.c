/* Softmax and LogSoftmax along one axis; before opset 13 over everything from the axis on (ONNX), which the reference never does. */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernel/quantize.h"
#include "ops/common.h"
#include "ops/rows.h"

typedef struct SoftmaxState {
    AxisView view;
    bool logarithm;
    bool of_softmax; /* LogSoftmax as log(softmax(x)), the reference's: -inf where softmax is 0 */
} SoftmaxState;

static bool softmax_axis(const Node *node, int rank, int *axis, Error *error)
{
    int64_t otherwise = node->opset < 13 ? 1 : -1;
    if (rank == 0) {
        *axis = 0;
        return true;
    }
    return normalize_axis(node, node_integer(node, "axis", rank == 1 ? -1 : otherwise), rank, axis, error);
}

static bool softmax_infer(Graph *graph, Node *node, Error *error)
{
    int axis;
    return infer_same_shape_float(graph, node, error) && softmax_axis(node, node->inputs[0]->shape.rank, &axis, error);
}

static bool softmax_prepare_as(Prepare *prepare, bool logarithm, Error *error)
{
    const Shape *shape = &prepare->input_shapes[0];
    int axis;
    SoftmaxState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    if (!softmax_axis(prepare->node, shape->rank, &axis, error)) return false;
    state->view = shape->rank == 0 ? (AxisView){1, 1, 1} : axis_view(shape, axis);
    if (prepare->exact && prepare->node->opset < 13) state->view = (AxisView){state->view.outer, state->view.length * state->view.inner, 1};
    state->logarithm = logarithm;
    state->of_softmax = !prepare->exact;
    return true;
}

static bool softmax_prepare(Prepare *prepare, Error *error)
{
    return softmax_prepare_as(prepare, false, error);
}

static bool log_softmax_prepare(Prepare *prepare, Error *error)
{
    return softmax_prepare_as(prepare, true, error);
}

typedef struct SoftmaxTask {
    const SoftmaxState *state;
    const float *x;
    float *y;
} SoftmaxTask;

/* One row that lies together. The sum is made in float64, in order. */
static void softmax_row(const SoftmaxState *state, const float *x, float *y)
{
    int64_t length = state->view.length;
    float largest = -INFINITY;
    for (int64_t i = 0; i < length; i++)
        largest = x[i] > largest || isnan(x[i]) ? x[i] : largest;
    for (int64_t i = 0; i < length; i++)
        y[i] = x[i] - largest;
    exp_f32(y, y, length);
    double sum = 0;
    for (int64_t i = 0; i < length; i++)
        sum += y[i];
    float divisor = (float)sum;
    if (!state->logarithm) {
        const float inverse = 1.0f / divisor; /* a product, as the reference's kernel has it: the last bit of its test outputs shows it */
        for (int64_t i = 0; i < length; i++)
            y[i] *= inverse;
    } else if (state->of_softmax) {
        for (int64_t i = 0; i < length; i++)
            y[i] = espq_logf(y[i] / divisor);
    } else {
        float shift = espq_logf(divisor);
        for (int64_t i = 0; i < length; i++)
            y[i] = x[i] - largest - shift;
    }
}

enum { COLUMNS = 64 };

/* Up to COLUMNS neighbouring columns at once, walked along the axis with a stride. */
static void softmax_columns(const SoftmaxState *state, const float *x, float *y, int columns)
{
    int64_t length = state->view.length, stride = state->view.inner;
    float largest[COLUMNS], last[COLUMNS];
    double sum[COLUMNS];
    for (int c = 0; c < columns; c++) {
        largest[c] = -INFINITY;
        sum[c] = 0;
    }
    for (int64_t i = 0; i < length; i++) {
        for (int c = 0; c < columns; c++) {
            float value = x[i * stride + c];
            largest[c] = value > largest[c] || isnan(value) ? value : largest[c];
        }
    }
    for (int64_t i = 0; i < length; i++) {
        float *row = y + i * stride;
        for (int c = 0; c < columns; c++)
            row[c] = x[i * stride + c] - largest[c];
        exp_f32(row, row, columns);
        for (int c = 0; c < columns; c++)
            sum[c] += row[c];
    }
    for (int c = 0; c < columns; c++)
        last[c] = state->logarithm && !state->of_softmax ? espq_logf((float)sum[c]) : (float)sum[c];
    for (int64_t i = 0; i < length; i++) {
        for (int c = 0; c < columns; c++) {
            float *to = y + i * stride + c;
            if (!state->logarithm)
                *to /= last[c];
            else if (state->of_softmax)
                *to = espq_logf(*to / last[c]);
            else
                *to = x[i * stride + c] - largest[c] - last[c];
        }
    }
}

static void softmax_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const SoftmaxTask *task = context;
    const AxisView *view = &task->state->view;
    int64_t blocks = (view->inner + COLUMNS - 1) / COLUMNS;
    for (int64_t item = begin; item < end; item++) {
        int64_t at = item / blocks * view->length * view->inner, first = item % blocks * COLUMNS;
        if (view->inner == 1) {
            softmax_row(task->state, task->x + at, task->y + at);
        } else {
            int columns = view->inner - first < COLUMNS ? (int)(view->inner - first) : COLUMNS;
            softmax_columns(task->state, task->x + at + first, task->y + at + first, columns);
        }
    }
}

static void softmax_run(const Run *run)
{
    const SoftmaxState *state = run->state;
    SoftmaxTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->outputs[0])};
    int64_t items = state->view.outer * ((state->view.inner + COLUMNS - 1) / COLUMNS),
            item = state->view.length * (state->view.inner < COLUMNS ? state->view.inner : COLUMNS);
    if (item > 0) threads_for(items, 1 + OPS_GRAIN / 8 / item, softmax_part, &task);
}

typedef struct SoftmaxGradientTask {
    const SoftmaxState *state;
    const float *y, *dy;
    float *dx;
} SoftmaxGradientTask;

static void softmax_gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const SoftmaxGradientTask *task = context;
    const AxisView *view = &task->state->view;
    for (int64_t item = begin; item < end; item++) {
        int64_t at = item / view->inner * view->length * view->inner + item % view->inner;
        const float *y = task->y + at, *dy = task->dy + at;
        float *dx = task->dx + at;
        double sum = 0;
        for (int64_t i = 0, k = 0; i < view->length; i++, k += view->inner)
            sum += task->state->logarithm ? (double)dy[k] : (double)y[k] * (double)dy[k];
        for (int64_t i = 0, k = 0; i < view->length; i++, k += view->inner)
            dx[k] = (float)(task->state->logarithm ? (double)dy[k] - espq_exp((double)y[k]) * sum : (double)y[k] * ((double)dy[k] - sum));
    }
}

static void softmax_gradient(const Gradient *gradient)
{
    const SoftmaxState *state = gradient->state;
    if (!gradient->input_gradients[0]) return;
    SoftmaxGradientTask task = {state, tensor_floats(gradient->outputs[0]), tensor_floats(gradient->output_gradients[0]),
                                tensor_floats(gradient->input_gradients[0])};
    if (state->view.length > 0)
        threads_for(state->view.outer * state->view.inner, 1 + OPS_GRAIN / 8 / state->view.length, softmax_gradient_part, &task);
}

const Operator op_softmax = {
    .name = "Softmax",
    .help = "exp(x) over its sum along an axis; the output stays float32.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{.name = "axis", .kind = ATTRIBUTE_INT, .number = -1}},
    .infer = softmax_infer,
    .prepare = softmax_prepare,
    .run = softmax_run,
    .gradient = softmax_gradient,
    .flags = OPERATOR_QUANTIZABLE,
    .float_outputs = 1u << 0,
    .layout = LAYOUT_AXIS,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_log_softmax = {
    .name = "LogSoftmax",
    .help = "Logarithm of Softmax; the output stays float32.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{.name = "axis", .kind = ATTRIBUTE_INT, .number = -1}},
    .infer = softmax_infer,
    .prepare = log_softmax_prepare,
    .run = softmax_run,
    .gradient = softmax_gradient,
    .flags = OPERATOR_QUANTIZABLE,
    .float_outputs = 1u << 0,
    .layout = LAYOUT_AXIS,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
