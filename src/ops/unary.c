/* Mathematical functions of one element. Only Neg and Exp are quantized by the reference; the rest stay float. */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "kernel/quantize.h"
#include "ops/elementwise.h"
#include "ops/gradient.h"
#include "ops/rows.h"

static int64_t same_integer(int64_t x)
{
    return x;
}
static int64_t abs_integer(int64_t x)
{
    return x < 0 ? (int64_t)(0 - (uint64_t)x) : x;
}
static int64_t neg_integer(int64_t x)
{
    return (int64_t)(0 - (uint64_t)x);
}
static int64_t sign_integer(int64_t x)
{
    return (x > 0) - (x < 0);
}

FLOAT_KERNEL(abs_floats, fabsf(v))
ELEMENT(abs_element, fabs(v))
static const UnaryKernel abs_kernel = {abs_floats, abs_element, abs_integer};
COLUMNS(abs, "", 0, "", 0)

FLOAT_KERNEL(neg_floats, -v)
ELEMENT(neg_element, -v)
static const UnaryKernel neg_kernel = {neg_floats, neg_element, neg_integer};
COLUMNS(neg, "", 0, "", 0)

VECTOR_KERNEL(exp_floats, exp_f32)
ELEMENT(exp_element, espq_exp(v))
static const UnaryKernel exp_kernel = {exp_floats, exp_element, NULL};
COLUMNS(exp, "", 0, "", 0)

ELEMENT(log_element, espq_log(v))
static const UnaryKernel log_kernel = {NULL, log_element, NULL};
COLUMNS(log, "", 0, "", 0)

FLOAT_KERNEL(sqrt_floats, sqrtf(v))
ELEMENT(sqrt_element, sqrt(v))
static const UnaryKernel sqrt_kernel = {sqrt_floats, sqrt_element, NULL};
COLUMNS(sqrt, "", 0, "", 0)

FLOAT_KERNEL(reciprocal_floats, 1 / v)
ELEMENT(reciprocal_element, 1 / v)
static const UnaryKernel reciprocal_kernel = {reciprocal_floats, reciprocal_element, NULL};
COLUMNS(reciprocal, "", 0, "", 0)

FLOAT_KERNEL(floor_floats, floorf(v))
ELEMENT(floor_element, floor(v))
static const UnaryKernel floor_kernel = {floor_floats, floor_element, same_integer};
COLUMNS(floor, "", 0, "", 0)

FLOAT_KERNEL(ceil_floats, ceilf(v))
ELEMENT(ceil_element, ceil(v))
static const UnaryKernel ceil_kernel = {ceil_floats, ceil_element, same_integer};
COLUMNS(ceil, "", 0, "", 0)

FLOAT_KERNEL(round_floats, rintf(v))
ELEMENT(round_element, rint(v))
static const UnaryKernel round_kernel = {round_floats, round_element, same_integer};
COLUMNS(round, "", 0, "", 0)

ELEMENT(sin_element, espq_sin(v))
static const UnaryKernel sin_kernel = {NULL, sin_element, NULL};
COLUMNS(sin, "", 0, "", 0)

ELEMENT(cos_element, espq_cos(v))
static const UnaryKernel cos_kernel = {NULL, cos_element, NULL};
COLUMNS(cos, "", 0, "", 0)

ELEMENT(tan_element, espq_sin(v) / espq_cos(v))
static const UnaryKernel tan_kernel = {NULL, tan_element, NULL};
COLUMNS(tan, "", 0, "", 0)

VECTOR_KERNEL(erf_floats, erf_f32)
ELEMENT(erf_element, espq_erf(v))
static const UnaryKernel erf_kernel = {erf_floats, erf_element, NULL};
COLUMNS(erf, "", 0, "", 0)

FLOAT_KERNEL(sign_floats, v > 0 ? 1 : v < 0 ? -1 : v) /* zeros and NaN stay */
ELEMENT(sign_element, v > 0 ? 1 : v < 0 ? -1 : v)
static const UnaryKernel sign_kernel = {sign_floats, sign_element, sign_integer};
COLUMNS(sign, "", 0, "", 0)

#define ONE_TO_ONE .inputs = {1, 1}, .outputs = {1, 1}, .infer = infer_same_shape, .layout = LAYOUT_PASSIVE, .cost = cost_elementwise
#define TABLE_CURE .module_cure = "it runs as a table at 8 bits; at 16 bits compute it before or behind the model"

const Operator op_abs = {
    .name = "Abs", .help = "Magnitude.", ONE_TO_ONE, .run = abs_run, .gradient = gradient_abs, .table = abs_table, TABLE_CURE};
const Operator op_neg = {
    .name = "Neg",
    .help = "-x.",
    ONE_TO_ONE,
    .run = neg_run,
    .gradient = gradient_neg,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE,
    .table = neg_table,
    .module = MODULE_ALL,
};
const Operator op_exp = {
    .name = "Exp",
    .help = "e to the power of x.",
    ONE_TO_ONE,
    .run = exp_run,
    .gradient = gradient_exp,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_IN_PLACE,
    .table = exp_table,
    .module = MODULE_ALL,
};
const Operator op_log = {.name = "Log",
                         .help = "Natural logarithm.",
                         ONE_TO_ONE,
                         .run = log_run,
                         .gradient = gradient_log,
                         .table = log_table,
                         .module = MODULE_ALL};
const Operator op_sqrt = {.name = "Sqrt",
                          .help = "Square root.",
                          ONE_TO_ONE,
                          .run = sqrt_run,
                          .gradient = gradient_sqrt,
                          .table = sqrt_table,
                          .module = MODULE_ALL};
const Operator op_reciprocal = {
    .name = "Reciprocal",
    .help = "1 / x.",
    ONE_TO_ONE,
    .run = reciprocal_run,
    .gradient = gradient_reciprocal,
    .table = reciprocal_table,
    .module_cure = "write it as Div with the constant 1 as dividend",
};
const Operator op_floor = {.name = "Floor", .help = "Round down.", ONE_TO_ONE, .run = floor_run, .table = floor_table, TABLE_CURE};
const Operator op_ceil = {.name = "Ceil", .help = "Round up.", ONE_TO_ONE, .run = ceil_run, .table = ceil_table, TABLE_CURE};
const Operator op_round = {
    .name = "Round",
    .help = "Round to the nearest integer, halves to even.",
    ONE_TO_ONE,
    .run = round_run,
    .table = round_table,
    TABLE_CURE,
};
const Operator op_sin = {
    .name = "Sin", .help = "Sine.", ONE_TO_ONE, .run = sin_run, .gradient = gradient_sin, .table = sin_table, TABLE_CURE};
const Operator op_cos = {
    .name = "Cos", .help = "Cosine.", ONE_TO_ONE, .run = cos_run, .gradient = gradient_cos, .table = cos_table, TABLE_CURE};
const Operator op_tan = {
    .name = "Tan", .help = "Tangent.", ONE_TO_ONE, .run = tan_run, .gradient = gradient_tan, .table = tan_table, TABLE_CURE};
const Operator op_erf = {
    .name = "Erf",
    .help = "Error function.",
    ONE_TO_ONE,
    .run = erf_run,
    .gradient = gradient_erf,
    .table = erf_table,
    .swaps_transpose = true,
    .module_cure = "it runs as a table at 8 bits; as part of a Gelu export with opset 20 (Gelu), or replace it by Swish",
};
const Operator op_sign = {.name = "Sign", .help = "-1, 0 or 1.", ONE_TO_ONE, .run = sign_run, .table = sign_table, TABLE_CURE};
