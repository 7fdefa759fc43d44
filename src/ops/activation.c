/* Activations: one input, same shape, element by element. On the chip mostly a table of 256 entries at 8 bits (EXPORT §7). */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/threads.h"
#include "kernel/quantize.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* The upper bound wins where bounds cross; NaN stays. */
static double clamp(double v, double least, double most)
{
    v = v < least ? least : v;
    return v > most ? most : v;
}

static double sigmoid(double v)
{
    return v >= 0 ? 1 / (1 + espq_exp(-v)) : espq_exp(v) / (1 + espq_exp(v));
}
static double softplus(double v)
{
    return (v > 0 ? v : 0) + espq_log(1 + espq_exp(v > 0 ? -v : v));
}
static float clampf(float v, float least, float most)
{
    v = v < least ? least : v;
    return v > most ? most : v;
}

/* v, below zero slope * v: as a sum of two halves it vectorises; a product in a branch does not. NaN stays. */
static inline float sloped(float v, float slope)
{
    return (v < 0 ? 0 : v) + slope * (v < 0 ? v : 0);
}

static int64_t relu_integer(int64_t x)
{
    return x > 0 ? x : 0;
}

VECTOR_KERNEL(relu_floats, relu_f32)
ELEMENT(relu_element, v > 0 ? v : v == v ? 0 : v)
static const UnaryKernel relu_kernel = {relu_floats, relu_element, relu_integer};
COLUMNS(relu, "", 0, "", 0)

FLOAT_KERNEL(leaky_relu_floats, sloped(v, first))
ELEMENT(leaky_relu_element, v < 0 ? first * v : v)
static const UnaryKernel leaky_relu_kernel = {leaky_relu_floats, leaky_relu_element, NULL};
COLUMNS(leaky_relu, "alpha", 0.01f, "", 0)

ELEMENT(elu_element, v > 0 ? v : first * (espq_exp(v) - 1))
static const UnaryKernel elu_kernel = {NULL, elu_element, NULL};
COLUMNS(elu, "alpha", 1, "", 0)

VECTOR_KERNEL(sigmoid_floats, sigmoid_f32)
ELEMENT(sigmoid_element, sigmoid(v))
static const UnaryKernel sigmoid_kernel = {sigmoid_floats, sigmoid_element, NULL};
COLUMNS(sigmoid, "", 0, "", 0)

VECTOR_KERNEL(tanh_floats, tanh_f32)
ELEMENT(tanh_element, espq_tanh(v))
static const UnaryKernel tanh_kernel = {tanh_floats, tanh_element, NULL};
COLUMNS(tanh, "", 0, "", 0)

FLOAT_KERNEL(hard_sigmoid_floats, clampf(first *v + second, 0, 1))
ELEMENT(hard_sigmoid_element, clamp(first *v + second, 0, 1))
static const UnaryKernel hard_sigmoid_kernel = {hard_sigmoid_floats, hard_sigmoid_element, NULL};
COLUMNS(hard_sigmoid, "alpha", 0.2f, "beta", 0.5f)

FLOAT_KERNEL(hard_swish_floats, v *clampf(v + 3, 0, 6) / 6)
ELEMENT(hard_swish_element, v *clamp(v + 3, 0, 6) / 6)
static const UnaryKernel hard_swish_kernel = {hard_swish_floats, hard_swish_element, NULL};
COLUMNS(hard_swish, "", 0, "", 0)

/* Opset 24's Swish has a factor alpha; espq's own (fused from x * Sigmoid(x)) has none. */
static void swish_floats(const float *x, float *y, int64_t count, float first, float second)
{
    (void)second;
    if (first == 1) {
        swish_f32(x, y, count);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        y[i] = (float)((double)x[i] * sigmoid((double)first * (double)x[i]));
}
ELEMENT(swish_element, v *sigmoid(first *v))
static const UnaryKernel swish_kernel = {swish_floats, swish_element, NULL};
COLUMNS(swish, "alpha", 1, "", 0)

ELEMENT(softplus_element, softplus(v))
static const UnaryKernel softplus_kernel = {NULL, softplus_element, NULL};
COLUMNS(softplus, "", 0, "", 0)

ELEMENT(mish_element, v *espq_tanh(softplus(v)))
static const UnaryKernel mish_kernel = {NULL, mish_element, NULL};
COLUMNS(mish, "", 0, "", 0)

ELEMENT(selu_element, second *(v > 0 ? v : first * (espq_exp(v) - 1)))
static const UnaryKernel selu_kernel = {NULL, selu_element, NULL};
COLUMNS(selu, "alpha", 1.67326319217681884765625f, "gamma", 1.05070102214813232421875f)

ELEMENT(celu_element, v > 0 ? v : first * (espq_exp(v / first) - 1))
static const UnaryKernel celu_kernel = {NULL, celu_element, NULL};
COLUMNS(celu, "alpha", 1, "", 0)

FLOAT_KERNEL(thresholded_relu_floats, v > first ? v : 0)
ELEMENT(thresholded_relu_element, v > first ? v : 0)
static const UnaryKernel thresholded_relu_kernel = {thresholded_relu_floats, thresholded_relu_element, NULL};
COLUMNS(thresholded_relu, "alpha", 1, "", 0)

FLOAT_KERNEL(softsign_floats, v / (1 + fabsf(v)))
ELEMENT(softsign_element, v / (1 + fabs(v)))
static const UnaryKernel softsign_kernel = {softsign_floats, softsign_element, NULL};
COLUMNS(softsign, "", 0, "", 0)

FLOAT_KERNEL(shrink_floats, v<-first ? v + second : v> first ? v - second : 0)
ELEMENT(shrink_element, v<-first ? v + second : v> first ? v - second : 0)
static const UnaryKernel shrink_kernel = {shrink_floats, shrink_element, NULL};
COLUMNS(shrink, "lambd", 0.5f, "bias", 0)

/* ---- Gelu: x * Phi(x); the reference knows the exact form only and ignores `approximate` ---- */

static bool is_tanh_form(const Node *node)
{
    return strcmp(node_string(node, "approximate", "none"), "tanh") == 0;
}

#define GELU_INNER 0.7978845608028654 /* sqrt(2 / pi) */

static double gelu_element(double v, double first, double second)
{
    (void)second;
    if (first != 0) return 0.5 * v * (1 + espq_tanh(GELU_INNER * (v + 0.044715 * v * v * v)));
    return 0.5 * v * (1 + espq_erf(v * 0.70710678118654752440));
}

static void gelu_floats(const float *x, float *y, int64_t count, float first, float second)
{
    (void)second;
    float inner[ELEMENT_BLOCK];
    for (int64_t done = 0; done < count; done += ELEMENT_BLOCK) {
        int64_t part = count - done < ELEMENT_BLOCK ? count - done : ELEMENT_BLOCK;
        const float *from = x + done;
        if (first != 0) {
            for (int64_t i = 0; i < part; i++)
                inner[i] = (float)GELU_INNER * (from[i] + 0.044715f * from[i] * from[i] * from[i]);
            tanh_f32(inner, inner, part);
        } else {
            for (int64_t i = 0; i < part; i++)
                inner[i] = from[i] * 0.70710678f;
            erf_f32(inner, inner, part);
        }
        for (int64_t i = 0; i < part; i++)
            y[done + i] = 0.5f * from[i] * (1 + inner[i]);
    }
}
static const UnaryKernel gelu_kernel = {gelu_floats, gelu_element, NULL};

static void gelu_run(const Run *run)
{
    unary_run(&gelu_kernel, run, run->state && is_tanh_form(run->node) ? 1 : 0, 0);
}

static double gelu_table(const Node *node, double x, const double *parameters, int parameter_count)
{
    (void)parameters, (void)parameter_count;
    return gelu_element(x, is_tanh_form(node) ? 1 : 0, 0);
}

/* ---- Clip: bounds are inputs 1 and 2 (attributes before opset 11, made inputs at load) ---- */

FLOAT_KERNEL(clip_floats, clampf(v, first, second))
ELEMENT(clip_element, clamp(v, first, second))
static const UnaryKernel clip_kernel = {clip_floats, clip_element, NULL};

static bool clip_infer(Graph *graph, Node *node, Error *error)
{
    for (int i = 1; i < 3; i++) {
        const Value *bound = input_value(node, i);
        if (bound && bound->shaped && shape_count(&bound->shape) != 1) {
            char text[160];
            return fail_node(error, node, "use Max and Min for bounds that differ", "%s (%s) must be one number, its shape is %s",
                             i == 1 ? "min" : "max", bound->name, shape_text(&bound->shape, text));
        }
    }
    return infer_same_shape(graph, node, error);
}

static double clip_bound(const Run *run, int index, const char *attribute, float otherwise)
{
    const Tensor *bound = index < run->node->input_count ? run->inputs[index] : NULL;
    return bound ? tensor_get(bound, 0) : (double)node_number(run->node, attribute, otherwise);
}

static void clip_run(const Run *run)
{
    unary_run(&clip_kernel, run, clip_bound(run, 1, "min", -INFINITY), clip_bound(run, 2, "max", INFINITY));
}

static double clip_table(const Node *node, double x, const double *parameters, int parameter_count)
{
    double least = parameter_count > 0 ? parameters[0] : NAN, most = parameter_count > 1 ? parameters[1] : NAN;
    if (isnan(least)) least = (double)node_number(node, "min", -INFINITY);
    if (isnan(most)) most = (double)node_number(node, "max", INFINITY);
    return clamp(x, least, most);
}

/* ---- PRelu: ONNX broadcasts the slope from the right; the reference squeezes it and takes it for axis 1 ---- */

#define BOTH(i) const float p = a[i], q = b[i]
#define LEFT(i) const float p = a[i]
static void prelu_floats(const float *a, const float *b, float *y, int64_t count, int64_t step_a, int64_t step_b)
{
    (void)step_a; /* x is never broadcast */
    if (step_b) {
        ELEMENT_LOOP(float, y, count, BOTH, sloped(p, q));
    } else {
        const float q = b[0];
        ELEMENT_LOOP(float, y, count, LEFT, sloped(p, q));
    }
}

static void prelu_doubles(const double *a, const double *b, double *y, int64_t count, int64_t step_a, int64_t step_b)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = a[i * step_a] < 0 ? a[i * step_a] * b[i * step_b] : a[i * step_a];
}
static void prelu_integers(const int64_t *a, const int64_t *b, int64_t *y, int64_t count, int64_t step_a, int64_t step_b)
{
    for (int64_t i = 0; i < count; i++)
        y[i] = a[i * step_a] < 0 ? a[i * step_a] * b[i * step_b] : a[i * step_a];
}
static const BinaryKernel prelu_kernel = {prelu_floats, prelu_doubles, prelu_integers};

/* A slope of one number an entry of axis 1, whatever ones stand around it. */
static bool slope_of_axis_1(const Shape *x, const Shape *slope, Shape *out)
{
    int64_t count = shape_count(slope);
    int longer = 0;
    for (int i = 0; i < slope->rank; i++)
        longer += slope->dims[i] != 1;
    if (longer > 1 || x->rank < 2 || (count != 1 && count != x->dims[1])) return false;
    out->rank = x->rank;
    for (int i = 0; i < x->rank; i++)
        out->dims[i] = i == 1 ? count : 1;
    return true;
}

static bool prelu_infer(Graph *graph, Node *node, Error *error)
{
    Shape x, slope, together;
    if (!input_shape(node, 0, &x, error) || !input_shape(node, 1, &slope, error)) return false;
    bool fits = (shape_broadcast(&x, &slope, &together) && shape_equal(&x, &together)) || slope_of_axis_1(&x, &slope, &together);
    if (!fits) {
        char a[160], b[160];
        return fail_node(error, node, "give one slope, or one a channel as [C, 1, 1]", "slope %s does not fit input %s",
                         shape_text(&slope, b), shape_text(&x, a));
    }
    return infer_same_shape(graph, node, error);
}

/* exact: ONNX's own meaning is wanted. */
static Shape broadcast_slope(const Shape *x, const Shape *given, bool exact)
{
    Shape slope = *given, together;
    bool broadcasts = shape_broadcast(x, given, &together) && shape_equal(x, &together);
    if (!exact || !broadcasts) slope_of_axis_1(x, given, &slope);
    return slope;
}

static void prelu_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    Tensor slope = {.dtype = run->inputs[1]->dtype, .data = run->inputs[1]->data};
    slope.shape = broadcast_slope(&x->shape, &run->inputs[1]->shape, run->state != NULL);
    binary_run(&prelu_kernel, x, &slope, run->outputs[0]);
}

static void prelu_gradient(const Gradient *gradient)
{
    Shape slope = broadcast_slope(&gradient->inputs[0]->shape, &gradient->inputs[1]->shape, gradient->state != NULL);
    gradient_prelu_slope(gradient, &slope);
}

static double prelu_table(const Node *node, double x, const double *parameters, int parameter_count)
{
    (void)node;
    return x < 0 && parameter_count > 0 ? x * parameters[0] : x;
}

/* ---- rows ---- */

#define ONE_TO_ONE .inputs = {1, 1}, .outputs = {1, 1}
/* Of QUANT §4.4, with a runtime module, and on EXPORT's activation list (§4.8). */
#define ACTIVATION                                                                                                                         \
    .infer = infer_same_shape, .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE | OPERATOR_ELEMENTWISE, .layout = LAYOUT_PASSIVE,         \
    .swaps_transpose = true, .cost = cost_elementwise
#define FLOAT_ONLY                                                                                                                         \
    .infer = infer_same_shape, .layout = LAYOUT_PASSIVE, .cost = cost_elementwise,                                                         \
    .module_cure = "it runs as a table at 8 bits, or replace it by Relu, HardSwish or Swish"

const Operator op_relu = {
    .name = "Relu",
    .help = "max(x, 0).",
    ONE_TO_ONE,
    .infer = infer_same_shape,
    .run = relu_run,
    .gradient = gradient_relu,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_CLAMP | OPERATOR_IN_PLACE | OPERATOR_ELEMENTWISE,
    .layout = LAYOUT_PASSIVE,
    .table = relu_table,
    .swaps_transpose = true,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_leaky_relu = {
    .name = "LeakyRelu",
    .help = "x, below zero alpha * x.",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 0.01}},
    ACTIVATION,
    .run = leaky_relu_run,
    .gradient = gradient_leaky_relu,
    .table = leaky_relu_table,
    .module = MODULE_ALL,
};

const Operator op_elu = {
    .name = "Elu",
    .help = "x, below zero alpha * (exp(x) - 1).",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 1}},
    ACTIVATION,
    .run = elu_run,
    .gradient = gradient_elu,
    .table = elu_table,
    .module = MODULE_ALL,
};

const Operator op_sigmoid = {
    .name = "Sigmoid",
    .help = "1 / (1 + exp(-x)).",
    ONE_TO_ONE,
    ACTIVATION,
    .run = sigmoid_run,
    .gradient = gradient_sigmoid,
    .table = sigmoid_table,
    .module = MODULE_ALL,
};

const Operator op_tanh = {
    .name = "Tanh",
    .help = "Hyperbolic tangent.",
    ONE_TO_ONE,
    ACTIVATION,
    .run = tanh_run,
    .gradient = gradient_tanh,
    .table = tanh_table,
    .module = MODULE_ALL,
};

const Operator op_hard_sigmoid = {
    .name = "HardSigmoid",
    .help = "alpha * x + beta, between 0 and 1.",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 0.2}, {"beta", ATTRIBUTE_FLOAT, .number = 0.5}},
    ACTIVATION,
    .run = hard_sigmoid_run,
    .gradient = gradient_hard_sigmoid,
    .table = hard_sigmoid_table,
    .module = MODULE_ALL,
};

const Operator op_hard_swish = {
    .name = "HardSwish",
    .help = "x * clip(x + 3, 0, 6) / 6.",
    ONE_TO_ONE,
    ACTIVATION,
    .run = hard_swish_run,
    .gradient = gradient_hard_swish,
    .table = hard_swish_table,
    .module = MODULE_ALL,
};

const Operator op_swish = {
    .name = "Swish",
    .help = "x * sigmoid(x), fused from Sigmoid and Mul.",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 1}},
    ACTIVATION,
    .run = swish_run,
    .gradient = gradient_swish,
    .table = swish_table,
    .module = MODULE_ALL,
};

const Operator op_gelu = {
    .name = "Gelu",
    .help = "x * Phi(x), by erf or tanh.",
    ONE_TO_ONE,
    .attributes = {{"approximate", ATTRIBUTE_STRING, .text = "none", .words = "none|tanh"}},
    ACTIVATION,
    .prepare = prepare_exact,
    .release = release_nothing,
    .run = gelu_run,
    .gradient = gradient_gelu,
    .table = gelu_table,
    .module = MODULE_S8 | MODULE_S16,
};

const Operator op_clip = {
    .name = "Clip",
    .help = "x between two bounds.",
    .inputs = {1, 3},
    .outputs = {1, 1},
    .infer = clip_infer,
    .run = clip_run,
    .gradient = gradient_clip,
    .gradient_fixed = 1u << 1 | 1u << 2,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_CLAMP | OPERATOR_IN_PLACE | OPERATOR_ELEMENTWISE,
    .float_inputs = 1 << 1 | 1 << 2,
    .scaled_inputs = 1 << 1 | 1 << 2,
    .layout = LAYOUT_PASSIVE,
    .table = clip_table,
    .swaps_transpose = true,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_prelu = {
    .name = "PRelu",
    .help = "x, below zero slope * x.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = prelu_infer,
    .prepare = prepare_exact,
    .release = release_nothing,
    .run = prelu_run,
    .gradient = prelu_gradient,
    .gradient_scratch = gradient_broadcast_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_PASSIVE,
    .table = prelu_table,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_softplus = {
    .name = "Softplus",
    .help = "log(exp(x) + 1).",
    ONE_TO_ONE,
    FLOAT_ONLY,
    .run = softplus_run,
    .gradient = gradient_softplus,
    .table = softplus_table,
    .swaps_transpose = true,
};

const Operator op_mish = {.name = "Mish",
                          .help = "x * tanh(softplus(x)).",
                          ONE_TO_ONE,
                          FLOAT_ONLY,
                          .run = mish_run,
                          .gradient = gradient_mish,
                          .table = mish_table};

const Operator op_selu = {
    .name = "Selu",
    .help = "gamma * x, below zero gamma * alpha * (exp(x) - 1).",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 1.67326319217681884765625},
                   {"gamma", ATTRIBUTE_FLOAT, .number = 1.05070102214813232421875}},
    FLOAT_ONLY,
    .run = selu_run,
    .gradient = gradient_selu,
    .table = selu_table,
};

const Operator op_celu = {
    .name = "Celu",
    .help = "x, below zero alpha * (exp(x / alpha) - 1).",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 1}},
    FLOAT_ONLY,
    .run = celu_run,
    .gradient = gradient_celu,
    .table = celu_table,
};

const Operator op_thresholded_relu = {
    .name = "ThresholdedRelu",
    .help = "x above alpha, else 0.",
    ONE_TO_ONE,
    .attributes = {{"alpha", ATTRIBUTE_FLOAT, .number = 1}},
    FLOAT_ONLY,
    .run = thresholded_relu_run,
    .gradient = gradient_thresholded_relu,
    .table = thresholded_relu_table,
};

const Operator op_softsign = {
    .name = "Softsign",
    .help = "x / (1 + |x|).",
    ONE_TO_ONE,
    FLOAT_ONLY,
    .run = softsign_run,
    .gradient = gradient_softsign,
    .table = softsign_table,
};

const Operator op_shrink = {
    .name = "Shrink",
    .help = "x outside of -lambd … lambd moved towards zero by bias, else 0.",
    ONE_TO_ONE,
    .attributes = {{"lambd", ATTRIBUTE_FLOAT, .number = 0.5}, {"bias", ATTRIBUTE_FLOAT, .number = 0}},
    FLOAT_ONLY,
    .run = shrink_run,
    .gradient = gradient_shrink,
    .table = shrink_table,
};
