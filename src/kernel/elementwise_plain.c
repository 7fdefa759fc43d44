/* Plain definitions of the elementwise functions, in float32 step by step as the vector variants take them. NaN comes back as it is. */
#include <math.h>
#include <string.h>

#include "kernel/elementwise_constants.h"
#include "kernel/plain.h"

/* c[0] + c[1] x + … by Horner's rule */
static float polynomial(const float *c, int terms, float x)
{
    float sum = c[terms - 1];
    for (int i = terms - 2; i >= 0; i--)
        sum = fmaf(sum, x, c[i]);
    return sum;
}

static float power_of_two(int n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* e^x for a number; 2^n in two factors, of which only the second can round. */
static float exponential(float x)
{
    x = x < EXP_LOWEST ? EXP_LOWEST : x;
    x = x > EXP_HIGHEST ? EXP_HIGHEST : x;
    float n = rintf(x * EXP_LOG2_E);
    float r = fmaf(n, -EXP_LN2_LOW, fmaf(n, -EXP_LN2_HIGH, x));
    float value = 1.0f + fmaf(polynomial(exp_terms, EXP_TERMS, r) * r, r, r);
    int whole = (int)n, half = whole >> 1;
    return value * power_of_two(half) * power_of_two(whole - half);
}

/* Below -88 the power overflows: 0, where the exact value is below 1e-38. */
static float sigmoid(float x)
{
    return 1.0f / (1.0f + exponential(-x));
}

static float swish(float x)
{
    return x / (1.0f + exponential(-x));
}

static float hyperbolic_tangent(float x)
{
    float magnitude = fabsf(x), square = x * x;
    if (magnitude < TANH_SMALL) return copysignf(fmaf(polynomial(tanh_terms, TANH_TERMS, square) * square, x, x), x);
    float e = exponential(-2.0f * magnitude);
    return copysignf((1.0f - e) / (1.0f + e), x);
}

static float error_function(float x)
{
    float magnitude = fabsf(x);
    if (magnitude < ERF_SMALL) return fmaf(polynomial(erf_terms, ERF_TERMS, x * x), x, x);
    magnitude = magnitude > ERF_LARGE ? ERF_LARGE : magnitude;
    return copysignf(1.0f - exponential(-polynomial(erfc_terms, ERFC_TERMS, magnitude - ERF_MIDDLE)), x);
}

static float relu(float x)
{
    return x < 0 ? 0 : x;
}

static void each(const float *x, float *y, int64_t count, float (*function)(float))
{
    for (int64_t i = 0; i < count; i++)
        y[i] = isnan(x[i]) ? x[i] : function(x[i]);
}

void plain_exp(const float *x, float *y, int64_t count)
{
    each(x, y, count, exponential);
}

void plain_sigmoid(const float *x, float *y, int64_t count)
{
    each(x, y, count, sigmoid);
}

void plain_swish(const float *x, float *y, int64_t count)
{
    each(x, y, count, swish);
}

void plain_tanh(const float *x, float *y, int64_t count)
{
    each(x, y, count, hyperbolic_tangent);
}

void plain_erf(const float *x, float *y, int64_t count)
{
    each(x, y, count, error_function);
}

void plain_relu(const float *x, float *y, int64_t count)
{
    each(x, y, count, relu);
}
