/* Derivatives of functions of one element. Where the function has a corner the slope is PyTorch's, on whose zeros parity hangs
 * (OPTIM §7.5): Relu lets nothing pass at 0, Clip lets its bounds pass. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/threads.h"
#include "kernel/gradient.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"

/* dx = dy * slope; what `slope` needs of x and of y = f(x). */
typedef void (*Slopes)(const float *x, const float *y, float *slope, int64_t count, float first, float second);

typedef struct SlopeTask {
    Slopes slopes;
    const float *x, *y, *dy;
    float *dx;
    float first, second;
} SlopeTask;

static void slope_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const SlopeTask *task = context;
    float slope[ELEMENT_BLOCK];
    for (int64_t at = begin, count; at < end; at += count) {
        count = end - at < ELEMENT_BLOCK ? end - at : ELEMENT_BLOCK;
        task->slopes(task->x + at, task->y + at, slope, count, task->first, task->second);
        const float *dy = task->dy + at;
        float *dx = task->dx + at;
        for (int64_t i = 0; i < count; i++)
            dx[i] = dy[i] * slope[i];
    }
}

static void gradient_of(const Gradient *gradient, Slopes slopes, double first, double second)
{
    if (!gradient->input_gradients[0]) return;
    SlopeTask task = {slopes,
                      tensor_floats(gradient->inputs[0]),
                      tensor_floats(gradient->outputs[0]),
                      tensor_floats(gradient->output_gradients[0]),
                      tensor_floats(gradient->input_gradients[0]),
                      (float)first,
                      (float)second};
    threads_for(tensor_count(gradient->inputs[0]), OPS_GRAIN / 4, slope_part, &task);
}

/* v: x, w: y = f(x), first and second: attributes. */
#define SLOPES(name, expression)                                                                                                           \
    static void name##_slopes(const float *x, const float *y, float *slope, int64_t count, float first, float second)                      \
    {                                                                                                                                      \
        (void)first, (void)second, (void)x, (void)y;                                                                                       \
        for (int64_t i = 0; i < count; i++) {                                                                                              \
            const float v = x[i], w = y[i];                                                                                                \
            (void)v, (void)w;                                                                                                              \
            slope[i] = (float)(expression);                                                                                                \
        }                                                                                                                                  \
    }
#define GRADIENT(name, attribute_1, default_1, attribute_2, default_2)                                                                     \
    void gradient_##name(const Gradient *gradient)                                                                                         \
    {                                                                                                                                      \
        gradient_of(gradient, name##_slopes, (double)node_number(gradient->node, attribute_1, default_1),                                  \
                    (double)node_number(gradient->node, attribute_2, default_2));                                                          \
    }

static void pass_range(const Gradient *gradient, float low, float high)
{
    if (!gradient->input_gradients[0]) return;
    range_gradient_f32(tensor_floats(gradient->inputs[0]), tensor_floats(gradient->output_gradients[0]),
                       tensor_floats(gradient->input_gradients[0]), tensor_count(gradient->inputs[0]), low, high);
}

/* x > 0 is x >= the least number above 0. */
void gradient_relu(const Gradient *gradient)
{
    pass_range(gradient, FLT_TRUE_MIN, INFINITY);
}

void gradient_clip(const Gradient *gradient)
{
    const Node *node = gradient->node;
    float bounds[2] = {node_number(node, "min", -INFINITY), node_number(node, "max", INFINITY)};
    for (int i = 0; i < 2; i++)
        if (i + 1 < node->input_count && gradient->inputs[i + 1]) bounds[i] = (float)tensor_get(gradient->inputs[i + 1], 0);
    pass_range(gradient, bounds[0], bounds[1]);
}

SLOPES(leaky_relu, v > 0 ? 1 : first)
GRADIENT(leaky_relu, "alpha", 0.01f, "", 0)

SLOPES(elu, v > 0 ? 1.0 : first * espq_exp(v))
GRADIENT(elu, "alpha", 1, "", 0)

SLOPES(sigmoid, w *(1 - w))
GRADIENT(sigmoid, "", 0, "", 0)

SLOPES(tanh, 1 - w * w)
GRADIENT(tanh, "", 0, "", 0)

SLOPES(hard_sigmoid, first *v + second > 0 && first * v + second < 1 ? first : 0)
GRADIENT(hard_sigmoid, "alpha", 0.2f, "beta", 0.5f)

SLOPES(hard_swish, v < -3 ? 0 : v <= 3 ? v / 3 + 0.5f : 1)
GRADIENT(hard_swish, "", 0, "", 0)

void gradient_swish(const Gradient *gradient)
{
    if (!gradient->input_gradients[0]) return;
    swish_gradient_f32(tensor_floats(gradient->inputs[0]), tensor_floats(gradient->output_gradients[0]),
                       tensor_floats(gradient->input_gradients[0]), tensor_count(gradient->inputs[0]),
                       node_number(gradient->node, "alpha", 1));
}

#define INNER 0.7978845608028654 /* sqrt(2 / pi) */
#define HALF_ROOT 0.70710678118654752440
#define DENSITY 0.39894228040143267794 /* 1 / sqrt(2 pi) */

static double gelu_slope(double v, bool by_tanh)
{
    if (!by_tanh) return 0.5 * (1 + espq_erf(v * HALF_ROOT)) + v * DENSITY * espq_exp(-0.5 * v * v);
    double t = espq_tanh(INNER * (v + 0.044715 * v * v * v));
    return 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * INNER * (1 + 3 * 0.044715 * v * v);
}
SLOPES(gelu, gelu_slope(v, first != 0))

/* The reference knows the form with erf only; the state tells that ONNX's own meaning is wanted. */
void gradient_gelu(const Gradient *gradient)
{
    bool by_tanh = gradient->state && strcmp(node_string(gradient->node, "approximate", "none"), "tanh") == 0;
    gradient_of(gradient, gelu_slopes, by_tanh, 0);
}

static double logistic(double v)
{
    return v >= 0 ? 1 / (1 + espq_exp(-v)) : espq_exp(v) / (1 + espq_exp(v));
}

SLOPES(softplus, logistic(v))
GRADIENT(softplus, "", 0, "", 0)

static double mish_slope(double v)
{
    double t = espq_tanh((v > 0 ? v : 0) + espq_log(1 + espq_exp(v > 0 ? -v : v)));
    return t + v * (1 - t * t) * logistic(v);
}
SLOPES(mish, mish_slope(v))
GRADIENT(mish, "", 0, "", 0)

SLOPES(selu, second *(v > 0 ? 1 : first * espq_exp(v)))
GRADIENT(selu, "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f)

SLOPES(celu, v > 0 ? 1 : espq_exp(v / first))
GRADIENT(celu, "alpha", 1, "", 0)

SLOPES(thresholded_relu, v > first ? 1 : 0)
GRADIENT(thresholded_relu, "alpha", 1, "", 0)

SLOPES(softsign, 1 / ((1 + fabsf(v)) * (1 + fabsf(v))))
GRADIENT(softsign, "", 0, "", 0)

SLOPES(shrink, v<-first || v> first ? 1 : 0)
GRADIENT(shrink, "lambd", 0.5f, "bias", 0)

SLOPES(abs, v > 0 ? 1 : v < 0 ? -1 : 0)
GRADIENT(abs, "", 0, "", 0)

SLOPES(neg, -1)
GRADIENT(neg, "", 0, "", 0)

SLOPES(exp, w)
GRADIENT(exp, "", 0, "", 0)

SLOPES(log, 1 / v)
GRADIENT(log, "", 0, "", 0)

SLOPES(sqrt, 0.5f / w)
GRADIENT(sqrt, "", 0, "", 0)

SLOPES(reciprocal, -w *w)
GRADIENT(reciprocal, "", 0, "", 0)

SLOPES(sin, espq_cos(v))
GRADIENT(sin, "", 0, "", 0)

SLOPES(cos, -espq_sin(v))
GRADIENT(cos, "", 0, "", 0)

SLOPES(tan, 1 + w * w)
GRADIENT(tan, "", 0, "", 0)

SLOPES(erf, 2 * INNER * HALF_ROOT * espq_exp(-(double)v * (double)v))
GRADIENT(erf, "", 0, "", 0)
