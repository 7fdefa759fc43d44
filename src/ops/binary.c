/* Add Sub Mul Div Pow Mod, and Max Min Sum Mean of any number of operands: broadcasting, floats and integers (shape arithmetic
 * passes through these rows). */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/rows.h"

/* ---- kernels ---- */

#define BOTH(i) const number p = a[i], q = b[i]
#define LEFT(i) const number p = a[i]
#define RIGHT(i) const number q = b[i]
#define KERNEL(name, type, expression)                                                                                                     \
    static void name(const type *a, const type *b, type *y, int64_t count, int64_t step_a, int64_t step_b)                                 \
    {                                                                                                                                      \
        typedef type number;                                                                                                               \
        if (step_a && step_b) {                                                                                                            \
            ELEMENT_LOOP(number, y, count, BOTH, expression);                                                                              \
        } else if (step_a) {                                                                                                               \
            const number q = b[0];                                                                                                         \
            ELEMENT_LOOP(number, y, count, LEFT, expression);                                                                              \
        } else if (step_b) {                                                                                                               \
            const number p = a[0];                                                                                                         \
            ELEMENT_LOOP(number, y, count, RIGHT, expression);                                                                             \
        } else {                                                                                                                           \
            const number p = a[0], q = b[0], r = (expression);                                                                             \
            for (int64_t i = 0; i < count; i++)                                                                                            \
                y[i] = r;                                                                                                                  \
        }                                                                                                                                  \
    }

/* Integers wrap; a division by zero, undefined in ONNX, is 0. Division cuts towards zero as ONNX says. */
static int64_t wrapping_add(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}
static int64_t wrapping_subtract(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a - (uint64_t)b);
}
static int64_t wrapping_multiply(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a * (uint64_t)b);
}
static int64_t cut_quotient(int64_t a, int64_t b)
{
    return b == 0 ? 0 : b == -1 ? wrapping_subtract(0, a) : a / b;
}
static int64_t cut_remainder(int64_t a, int64_t b)
{
    return b == 0 || b == -1 ? 0 : a % b;
}

static int64_t floor_remainder(int64_t a, int64_t b)
{
    int64_t remainder = cut_remainder(a, b);
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

static int64_t integer_power(int64_t base, int64_t exponent)
{
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    int64_t power = 1;
    for (; exponent > 0; exponent >>= 1, base = wrapping_multiply(base, base)) {
        if (exponent & 1) power = wrapping_multiply(power, base);
    }
    return power;
}

static double power(double base, double exponent)
{
    if (exponent == 2) return base * base;
    if (exponent == 1) return base;
    if (exponent == 0.5 && base >= 0) return sqrt(base) + 0.0; /* pow(-0, 0.5) is +0 */
    return espq_pow(base, exponent);
}

KERNEL(add_floats, float, p + q)
KERNEL(add_doubles, double, p + q)
KERNEL(add_integers, int64_t, wrapping_add(p, q))
KERNEL(sub_floats, float, p - q)
KERNEL(sub_doubles, double, p - q)
KERNEL(sub_integers, int64_t, wrapping_subtract(p, q))
KERNEL(mul_floats, float, p *q)
KERNEL(mul_doubles, double, p *q)
KERNEL(mul_integers, int64_t, wrapping_multiply(p, q))
KERNEL(div_floats, float, p / q)
KERNEL(div_doubles, double, p / q)
KERNEL(div_integers, int64_t, cut_quotient(p, q))
KERNEL(pow_floats, float, (float)power(p, q))
KERNEL(pow_doubles, double, power(p, q))
KERNEL(pow_integers, int64_t, integer_power(p, q))
KERNEL(fmod_floats, float, fmodf(p, q))
KERNEL(fmod_doubles, double, fmod(p, q))
KERNEL(fmod_integers, int64_t, cut_remainder(p, q))
KERNEL(mod_integers, int64_t, floor_remainder(p, q))
/* NaN wins on either side. */
KERNEL(max_floats, float, (p > q || p != p) ? p : q)
KERNEL(max_doubles, double, (p > q || p != p) ? p : q)
KERNEL(max_integers, int64_t, p > q ? p : q)
KERNEL(min_floats, float, (p < q || p != p) ? p : q)
KERNEL(min_doubles, double, (p < q || p != p) ? p : q)
KERNEL(min_integers, int64_t, p < q ? p : q)

static const BinaryKernel add_kernel = {add_floats, add_doubles, add_integers};
static const BinaryKernel sub_kernel = {sub_floats, sub_doubles, sub_integers};
static const BinaryKernel mul_kernel = {mul_floats, mul_doubles, mul_integers};
static const BinaryKernel div_kernel = {div_floats, div_doubles, div_integers};
static const BinaryKernel pow_kernel = {pow_floats, pow_doubles, pow_integers};
static const BinaryKernel fmod_kernel = {fmod_floats, fmod_doubles, fmod_integers};
static const BinaryKernel mod_kernel = {NULL, NULL, mod_integers};
static const BinaryKernel max_kernel = {max_floats, max_doubles, max_integers};
static const BinaryKernel min_kernel = {min_floats, min_doubles, min_integers};

static void run_two(const Run *run, const BinaryKernel *kernel)
{
    binary_run(kernel, run->inputs[0], run->inputs[1], run->outputs[0]);
}

static void sub_run(const Run *run)
{
    run_two(run, &sub_kernel);
}
static void mul_run(const Run *run)
{
    run_two(run, &mul_kernel);
}
static void div_run(const Run *run)
{
    run_two(run, &div_kernel);
}
static void pow_run(const Run *run)
{
    run_two(run, &pow_kernel);
}

/* ---- any number of operands ---- */

/* From left to right; a single operand is copied (by adding -0, which changes nothing). */
static void run_many(const Run *run, const BinaryKernel *kernel)
{
    Tensor *y = run->outputs[0];
    if (run->node->input_count == 1) {
        run_copy(run);
        return;
    }
    binary_run(kernel, run->inputs[0], run->inputs[1], y);
    for (int i = 2; i < run->node->input_count; i++)
        binary_run(kernel, y, run->inputs[i], y);
}

static void add_run(const Run *run)
{
    run_many(run, &add_kernel);
}
static void max_run(const Run *run)
{
    run_many(run, &max_kernel);
}
static void min_run(const Run *run)
{
    run_many(run, &min_kernel);
}

static void mean_run(const Run *run)
{
    run_many(run, &add_kernel);
    Tensor *y = run->outputs[0];
    double count = run->node->input_count;
    Tensor divisor = {.dtype = DTYPE_FLOAT64, .data = (char *)&count};
    if (run->node->input_count > 1) binary_run(&div_kernel, y, &divisor, y);
}

/* ---- rows ---- */

static bool mod_infer(Graph *graph, Node *node, Error *error)
{
    if (!infer_broadcast(graph, node, error)) return false;
    const Value *x = input_value(node, 0);
    if (node_integer(node, "fmod", 0) == 0 && dtype_rows[x->dtype].is_float) {
        return fail_node(error, node, "set fmod = 1 (the remainder with the sign of the dividend)",
                         "fmod = 0 is defined for integers only, inputs are %s", dtype_name(x->dtype));
    }
    return true;
}

static void mod_run(const Run *run)
{
    run_two(run, node_integer(run->node, "fmod", 0) ? &fmod_kernel : &mod_kernel);
}

/* The exponent may be of another type; the result has the base's. */
static bool pow_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape base, exponent, shape;
    if (!input_shape(node, 0, &base, error) || !input_shape(node, 1, &exponent, error)) return false;
    if (!shape_broadcast(&base, &exponent, &shape)) {
        char a[160], b[160];
        return fail_node(error, node, "right-aligned dimensions must be equal or 1", "input shapes %s and %s do not broadcast",
                         shape_text(&base, a), shape_text(&exponent, b));
    }
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

#define ALL_INPUTS 1000

const Operator op_add = {
    .name = "Add",
    .help = "a + b, broadcasting.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = add_run,
    .gradient = gradient_add,
    .gradient_scratch = gradient_broadcast_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE,
    .align = ALIGN_ELEMENTWISE,
    .layout = LAYOUT_ADD,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_sub = {
    .name = "Sub",
    .help = "a - b, broadcasting.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = sub_run,
    .gradient = gradient_sub,
    .gradient_scratch = gradient_broadcast_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE,
    .align = ALIGN_ELEMENTWISE,
    .layout = LAYOUT_ADD,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_mul = {
    .name = "Mul",
    .help = "a * b, broadcasting.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = mul_run,
    .gradient = gradient_mul,
    .gradient_scratch = gradient_broadcast_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE,
    .layout = LAYOUT_ADD,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_div = {
    .name = "Div",
    .help = "a / b, broadcasting; integers are cut towards zero.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = div_run,
    .gradient = gradient_div,
    .gradient_scratch = gradient_broadcast_scratch,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE,
    .layout = LAYOUT_ADD,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_pow = {
    .name = "Pow",
    .help = "a to the power of b, broadcasting.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = pow_infer,
    .run = pow_run,
    .gradient = gradient_pow,
    .gradient_scratch = gradient_broadcast_scratch,
    .layout = LAYOUT_ADD,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_mod = {
    .name = "Mod",
    .help = "Remainder of a / b, broadcasting.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .attributes = {{"fmod", ATTRIBUTE_INT, .number = 0}},
    .infer = mod_infer,
    .run = mod_run,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_ADD,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_max = {
    .name = "Max",
    .help = "The larger of its inputs, broadcasting.",
    .inputs = {1, ALL_INPUTS},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = max_run,
    .gradient = gradient_extreme,
    .gradient_scratch = gradient_broadcast_scratch,
    .flags = OPERATOR_QUANTIZABLE,
    .layout = LAYOUT_OTHER,
    .module_cure = "write it as Relu or Clip where one input is a constant: max(a, b) = b + Relu(a - b)",
    .cost = cost_elementwise,
};

const Operator op_min = {
    .name = "Min",
    .help = "The smaller of its inputs, broadcasting.",
    .inputs = {1, ALL_INPUTS},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = min_run,
    .gradient = gradient_extreme,
    .gradient_scratch = gradient_broadcast_scratch,
    .layout = LAYOUT_OTHER,
    .module_cure = "write it as Clip where one input is a constant: min(a, b) = b - Relu(b - a)",
    .cost = cost_elementwise,
};

const Operator op_sum = {
    .name = "Sum",
    .help = "Sum of its inputs, broadcasting.",
    .inputs = {1, ALL_INPUTS},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = add_run,
    .gradient = gradient_add,
    .gradient_scratch = gradient_broadcast_scratch,
    .align = ALIGN_ELEMENTWISE,
    .layout = LAYOUT_OTHER,
    .module_cure = "write it as a chain of Add",
    .cost = cost_elementwise,
};

const Operator op_mean = {
    .name = "Mean",
    .help = "Mean of its inputs, broadcasting.",
    .inputs = {1, ALL_INPUTS},
    .outputs = {1, 1},
    .infer = infer_broadcast,
    .run = mean_run,
    .gradient = gradient_mean,
    .gradient_scratch = gradient_broadcast_scratch,
    .layout = LAYOUT_OTHER,
    .module_cure = "write it as a chain of Add and a Mul by 1 / n",
    .cost = cost_elementwise,
};
