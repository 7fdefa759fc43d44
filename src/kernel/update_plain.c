/* Plain definitions of the optimizers' updates and of soft rounding. */
#include <math.h>

#include "kernel/plain.h"

void plain_adam(const AdamF32 *adam, float *values, float *m, float *v, const float *gradient, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float value = values[i] * adam->shrink, g = fmaf(adam->decay, values[i], gradient[i]);
        m[i] = fmaf(g - m[i], adam->rest1, m[i]);
        v[i] = fmaf(g * adam->rest2, g, v[i] * adam->keep2);
        values[i] = value - adam->step * m[i] / fmaf(sqrtf(v[i]), adam->inverse_root, adam->epsilon);
    }
}

void plain_momentum(const MomentumF32 *momentum, float *values, float *m, const float *gradient, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float g = fmaf(momentum->decay, values[i], gradient[i]), moved = g;
        if (m) {
            m[i] = fmaf(m[i], momentum->keep, g);
            moved = momentum->nesterov ? fmaf(m[i], momentum->keep, g) : m[i];
        }
        values[i] = fmaf(-momentum->rate, moved, values[i]);
    }
}

static float clamped(float x, float low, float high)
{
    return x < low ? low : x > high ? high : x;
}

static float power_of(float x, int power)
{
    float result = 1.0f;
    for (; power > 0; power >>= 1, x *= x)
        if (power & 1) result *= x;
    return result;
}

void plain_soft_round(const SoftRoundF32 *round, const float *floors, const float *v, float *y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float sigmoid;
        plain_sigmoid(&v[i], &sigmoid, 1);
        float h = clamped(fmaf(sigmoid, 1.2f, -0.1f), 0.0f, 1.0f);
        y[i] = clamped(floors[i] + h, round->minimum, round->maximum) * round->scale;
    }
}

void plain_soft_round_gradient(const SoftRoundF32 *round, const float *floors, const float *v, const float *dy, float *dv, int64_t count)
{
    float pull = -2.0f * round->pull * (float)round->power;
    for (int64_t i = 0; i < count; i++) {
        float sigmoid;
        plain_sigmoid(&v[i], &sigmoid, 1);
        float h = fmaf(sigmoid, 1.2f, -0.1f), slope = sigmoid * 1.2f * (1.0f - sigmoid), sum = floors[i] + h;
        float from = sum < round->minimum ? 0.0f : sum > round->maximum ? 0.0f : dy[i] * round->scale;
        if (round->pull != 0.0f) {
            float side = fmaf(h, 2.0f, -1.0f);
            from = fmaf(copysignf(power_of(fabsf(side), round->power - 1), side), pull, from);
        }
        dv[i] = h < 0.0f ? 0.0f : h > 1.0f ? 0.0f : from * slope;
    }
}
