/* Plain definitions of the elementwise functions. */
#include "base/math.h"
#include "kernel/plain.h"

void plain_exp(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = espq_expf(x[i]);
}

void plain_sigmoid(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = espq_sigmoidf(x[i]);
}

void plain_swish(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = x[i] * espq_sigmoidf(x[i]);
}

void plain_tanh(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = espq_tanhf(x[i]);
}

void plain_erf(const float *x, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) y[i] = espq_erff(x[i]);
}
