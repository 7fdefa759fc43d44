/* Gradients of operators with broadcast operands. What an operand gains is made in the order of the output, and where the operand is
 * broadcast, summed in float64 in that order. */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"

/* gain[i] = dy[i] times the slope at operands a, b (of the piece, `step` 0 or 1) and output y. */
typedef void (*Gains)(const float *dy, const float *y, const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t count,
                      float *gain);

typedef struct BinaryTask {
    Gains gains;
    const float *dy, *y, *a, *b;
    float *to;    /* an operand that is not broadcast */
    double *sums; /* one that is */
} BinaryTask;

#define SUM_LANES 8

/* Operands 0 and 1: a and b, operand 2: the one that gains. */
static void gain_piece(void *context, const int64_t *offsets, const int64_t *steps, int64_t at, int64_t count)
{
    const BinaryTask *task = context;
    float gain[ELEMENT_BLOCK];
    double lanes[SUM_LANES] = {0};
    for (int64_t done = 0, part; done < count; done += part) {
        part = count - done < ELEMENT_BLOCK ? count - done : ELEMENT_BLOCK;
        task->gains(task->dy + at + done, task->y + at + done, task->a + offsets[0] + done * steps[0], steps[0],
                    task->b + offsets[1] + done * steps[1], steps[1], part, task->sums ? gain : task->to + offsets[2] + done);
        if (!task->sums) continue;
        if (steps[2]) {
            for (int64_t i = 0; i < part; i++)
                task->sums[offsets[2] + done + i] += (double)gain[i];
        } else {
            for (int64_t i = 0; i < part; i++)
                lanes[i % SUM_LANES] += (double)gain[i];
        }
    }
    if (!task->sums || steps[2]) return;
    for (int i = 0; i < SUM_LANES; i++)
        task->sums[offsets[2]] += lanes[i];
}

/* The gain of the operand of shape `shape`, by its gradient tensor `to`. */
static void gain_of(const Gradient *gradient, Gains gains, const Tensor *a, const Shape *a_shape, const Tensor *b, const Shape *b_shape,
                    const Shape *shape, Tensor *to)
{
    const Tensor *y = gradient->outputs[0];
    BinaryTask task = {.gains = gains,
                       .dy = tensor_floats(gradient->output_gradients[0]),
                       .y = tensor_floats(y),
                       .a = tensor_floats(a),
                       .b = tensor_floats(b),
                       .to = tensor_floats(to)};
    Broadcast broadcast;
    const Shape *shapes[] = {a_shape, b_shape, shape};
    int64_t count = tensor_count(to);
    broadcast_make(&broadcast, &y->shape, shapes, 3);
    if (count == tensor_count(y)) {
        broadcast_run(&broadcast, gain_piece, &task);
        return;
    }
    task.sums = gradient->scratch;
    memset(task.sums, 0, (size_t)count * sizeof *task.sums);
    broadcast_run_in_order(&broadcast, gain_piece, &task);
    for (int64_t i = 0; i < count; i++)
        task.to[i] = (float)task.sums[i];
}

size_t gradient_broadcast_scratch(const Prepare *prepare)
{
    int64_t most = 0;
    for (int i = 0; i < prepare->node->input_count; i++)
        if (prepare->input_shapes[i].rank >= 0 && shape_count(&prepare->input_shapes[i]) > most)
            most = shape_count(&prepare->input_shapes[i]);
    return (size_t)most * sizeof(double);
}

#define GAINS(name, expression)                                                                                                            \
    static void name(const float *dy, const float *y, const float *a, int64_t step_a, const float *b, int64_t step_b, int64_t count,       \
                     float *gain)                                                                                                          \
    {                                                                                                                                      \
        for (int64_t i = 0; i < count; i++) {                                                                                              \
            const float d = dy[i], w = y[i], p = a[i * step_a], q = b[i * step_b];                                                         \
            (void)w, (void)p, (void)q;                                                                                                     \
            gain[i] = (float)(expression);                                                                                                 \
        }                                                                                                                                  \
    }

GAINS(pass, d)
GAINS(pass_minus, -d)
GAINS(times_b, d *q)
GAINS(times_a, d *p)
GAINS(over_b, d / q)
GAINS(minus_quotient_over_b, -d *w / q)
GAINS(of_base, p == 0 && q == 1 ? (double)d : q == 2 ? 2.0 * (double)d * (double)p : (double)d * (double)q * espq_pow(p, (double)q - 1))
GAINS(of_exponent, p > 0 ? (double)d * (double)w * espq_log(p) : 0.0)
GAINS(times_a_below_zero, p > 0 ? 0 : d * p)
GAINS(sloped, p > 0 ? d : d * q)

static void two_operands(const Gradient *gradient, Gains left, Gains right)
{
    const Tensor *a = gradient->inputs[0], *b = gradient->inputs[1];
    for (int i = 0; i < 2; i++)
        if (gradient->input_gradients[i])
            gain_of(gradient, i ? right : left, a, &a->shape, b, &b->shape, &gradient->inputs[i]->shape, gradient->input_gradients[i]);
}

void gradient_sub(const Gradient *gradient)
{
    two_operands(gradient, pass, pass_minus);
}
void gradient_mul(const Gradient *gradient)
{
    two_operands(gradient, times_b, times_a);
}
void gradient_div(const Gradient *gradient)
{
    two_operands(gradient, over_b, minus_quotient_over_b);
}
void gradient_pow(const Gradient *gradient)
{
    two_operands(gradient, of_base, of_exponent);
}

/* Any number of operands, each looked at by itself. */
static void each_operand(const Gradient *gradient, Gains gains)
{
    for (int i = 0; i < gradient->node->input_count; i++) {
        const Tensor *x = gradient->inputs[i];
        if (gradient->input_gradients[i]) gain_of(gradient, gains, x, &x->shape, x, &x->shape, &x->shape, gradient->input_gradients[i]);
    }
}

void gradient_add(const Gradient *gradient)
{
    each_operand(gradient, pass);
}

void gradient_mean(const Gradient *gradient)
{
    each_operand(gradient, pass);
    for (int i = 0; i < gradient->node->input_count; i++) {
        float *dx = gradient_wanted(gradient, i);
        for (int64_t k = 0; dx && k < tensor_count(gradient->inputs[i]); k++)
            dx[k] /= (float)gradient->node->input_count;
    }
}

/* Where element `flat` of the output lies in an operand. */
static int64_t broadcast_place(const Shape *shape, const Shape *out, int64_t flat)
{
    int64_t strides[ESPQ_MAX_RANK], place = 0;
    broadcast_strides(shape, out, strides);
    for (int i = out->rank - 1; i >= 0; i--) {
        place += flat % out->dims[i] * strides[i];
        flat /= out->dims[i];
    }
    return place;
}

/* Operands equal to the result share what it gains. */
void gradient_extreme(const Gradient *gradient)
{
    const Tensor *y = gradient->outputs[0];
    const float *dy = tensor_floats(gradient->output_gradients[0]), *value = tensor_floats(y);
    int inputs = gradient->node->input_count;
    int64_t count = tensor_count(y);
    double *sums = gradient->scratch;
    for (int i = 0; i < inputs; i++) {
        if (!gradient->input_gradients[i]) continue;
        int64_t own = tensor_count(gradient->inputs[i]);
        memset(sums, 0, (size_t)own * sizeof *sums);
        for (int64_t k = 0; k < count; k++) {
            int64_t place = broadcast_place(&gradient->inputs[i]->shape, &y->shape, k);
            if (tensor_floats(gradient->inputs[i])[place] != value[k]) continue;
            int equal = 0;
            for (int j = 0; j < inputs; j++)
                equal += tensor_floats(gradient->inputs[j])[broadcast_place(&gradient->inputs[j]->shape, &y->shape, k)] == value[k];
            sums[place] += (double)dy[k] / equal;
        }
        for (int64_t k = 0; k < own; k++)
            tensor_floats(gradient->input_gradients[i])[k] = (float)sums[k];
    }
}

void gradient_where(const Gradient *gradient)
{
    const Tensor *y = gradient->outputs[0], *condition = gradient->inputs[0];
    const float *dy = tensor_floats(gradient->output_gradients[0]);
    double *sums = gradient->scratch;
    for (int i = 1; i < 3; i++) {
        if (!gradient->input_gradients[i]) continue;
        int64_t own = tensor_count(gradient->inputs[i]);
        memset(sums, 0, (size_t)own * sizeof *sums);
        for (int64_t k = 0; k < tensor_count(y); k++) {
            bool first = tensor_get_integer(condition, broadcast_place(&condition->shape, &y->shape, k)) != 0;
            if (first == (i == 1)) sums[broadcast_place(&gradient->inputs[i]->shape, &y->shape, k)] += (double)dy[k];
        }
        for (int64_t k = 0; k < own; k++)
            tensor_floats(gradient->input_gradients[i])[k] = (float)sums[k];
    }
}

void gradient_prelu_slope(const Gradient *gradient, const Shape *slope)
{
    const Tensor *x = gradient->inputs[0], *slopes = gradient->inputs[1];
    if (gradient->input_gradients[0]) gain_of(gradient, sloped, x, &x->shape, slopes, slope, &x->shape, gradient->input_gradients[0]);
    if (gradient->input_gradients[1])
        gain_of(gradient, times_a_below_zero, x, &x->shape, slopes, slope, slope, gradient->input_gradients[1]);
}
