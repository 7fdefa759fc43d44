/* LpNormalization. Norms are float64, summed in order; each element is rounded once. */
#include <math.h>

#include "base/memory.h"
#include "base/threads.h"
#include "ops/common.h"
#include "ops/gradient.h"
#include "ops/rows.h"

typedef struct LpState {
    AxisView view;
    int64_t p;
} LpState;

static bool lp_check(const Node *node, const Shape *x, int *axis, Error *error)
{
    int64_t p = node_integer(node, "p", 2);
    if (p != 1 && p != 2) return fail_node(error, node, "use p 1 or 2", "p is %lld", (long long)p);
    return require_rank(node, x, 1, ESPQ_MAX_RANK, "input", error) &&
           normalize_axis(node, node_integer(node, "axis", -1), x->rank, axis, error);
}

static bool lp_infer(Graph *graph, Node *node, Error *error)
{
    int axis;
    return infer_same_shape_float(graph, node, error) && lp_check(node, &node->inputs[0]->shape, &axis, error);
}

static bool lp_prepare(Prepare *prepare, Error *error)
{
    int axis;
    LpState *state = memory_new(sizeof *state);
    if (!state) return fail_memory(error, sizeof *state);
    prepare->state = state;
    if (!lp_check(prepare->node, &prepare->input_shapes[0], &axis, error)) return false;
    state->view = axis_view(&prepare->input_shapes[0], axis);
    state->p = node_integer(prepare->node, "p", 2);
    return true;
}

typedef struct LpTask {
    const LpState *state;
    const float *x;
    float *y;
} LpTask;

/* The norm is held above 1e-12, so that a row of zeros stays zero (QUANT 10.3, and ONNX). */
static void lp_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const LpTask *task = context;
    const AxisView *view = &task->state->view;
    for (int64_t item = begin; item < end; item++) {
        int64_t at = item / view->inner * view->length * view->inner + item % view->inner;
        double sum = 0;
        for (int64_t i = 0; i < view->length; i++) {
            double value = task->x[at + i * view->inner];
            sum += task->state->p == 1 ? fabs(value) : value * value;
        }
        double norm = task->state->p == 1 ? sum : sqrt(sum);
        if (norm < 1e-12) norm = 1e-12;
        for (int64_t i = 0; i < view->length; i++)
            task->y[at + i * view->inner] = (float)(task->x[at + i * view->inner] / norm);
    }
}

static void lp_run(const Run *run)
{
    const LpState *state = run->state;
    LpTask task = {state, tensor_floats(run->inputs[0]), tensor_floats(run->outputs[0])};
    if (state->view.length > 0) threads_for(state->view.outer * state->view.inner, 1 + OPS_GRAIN / 4 / state->view.length, lp_part, &task);
}

static void lp_gradient(const Gradient *gradient)
{
    const LpState *state = gradient->state;
    const AxisView *view = &state->view;
    const float *all = tensor_floats(gradient->inputs[0]), *given = tensor_floats(gradient->output_gradients[0]);
    float *dx = gradient_wanted(gradient, 0);
    for (int64_t item = 0; dx && item < view->outer * view->inner; item++) {
        int64_t at = item / view->inner * view->length * view->inner + item % view->inner;
        const float *x = all + at, *dy = given + at;
        double norm = 0, product = 0;
        for (int64_t i = 0, k = 0; i < view->length; i++, k += view->inner) {
            norm += state->p == 1 ? fabs((double)x[k]) : (double)x[k] * (double)x[k];
            product += (double)x[k] * (double)dy[k];
        }
        if (state->p == 2) norm = sqrt(norm);
        bool held = norm < 1e-12;
        if (held) norm = 1e-12;
        for (int64_t i = 0, k = 0; i < view->length; i++, k += view->inner) {
            double slope = held ? 0 : state->p == 2 ? (double)x[k] / norm : x[k] > 0 ? 1 : x[k] < 0 ? -1 : 0;
            dx[at + k] = (float)((double)dy[k] / norm - slope * product / (norm * norm));
        }
    }
}

const Operator op_lp_normalization = {
    .name = "LpNormalization",
    .help = "Divided by the 1-norm or 2-norm along an axis.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{.name = "axis", .kind = ATTRIBUTE_INT, .number = -1}, {.name = "p", .kind = ATTRIBUTE_INT, .number = 2}},
    .infer = lp_infer,
    .prepare = lp_prepare,
    .run = lp_run,
    .gradient = lp_gradient,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_AXIS,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
