/* Rounding is one function a mode, in one place, used by simulation, export and chip alike (QUANT §3). */
#ifndef ESPQ_BASE_ROUNDING_H
#define ESPQ_BASE_ROUNDING_H

#include <math.h>

typedef enum {
    ROUND_HALF_EVEN, /* esp32p4, esp32s31 */
    ROUND_HALF_UP,   /* floor(x + 0.5): esp32s3 and the C targets */
    ROUND_HALF_DOWN,
    ROUND_HALF_TOWARDS_ZERO,
    ROUND_HALF_FAR_FROM_ZERO,
    ROUND_UP,
    ROUND_DOWN
} Rounding;

static inline float round_float(float x, Rounding mode)
{
    switch (mode) {
    case ROUND_HALF_EVEN: return rintf(x);
    case ROUND_HALF_UP: return floorf(x + 0.5f);
    case ROUND_HALF_DOWN: return ceilf(x - 0.5f);
    case ROUND_HALF_TOWARDS_ZERO: return copysignf(1.0f, x) * ceilf(fabsf(x) - 0.5f);
    case ROUND_HALF_FAR_FROM_ZERO: return copysignf(1.0f, x) * floorf(fabsf(x) + 0.5f);
    case ROUND_UP: return ceilf(x);
    case ROUND_DOWN: return floorf(x);
    }
    return x;
}

static inline double round_double(double x, Rounding mode)
{
    switch (mode) {
    case ROUND_HALF_EVEN: return rint(x);
    case ROUND_HALF_UP: return floor(x + 0.5);
    case ROUND_HALF_DOWN: return ceil(x - 0.5);
    case ROUND_HALF_TOWARDS_ZERO: return copysign(1.0, x) * ceil(fabs(x) - 0.5);
    case ROUND_HALF_FAR_FROM_ZERO: return copysign(1.0, x) * floor(fabs(x) + 0.5);
    case ROUND_UP: return ceil(x);
    case ROUND_DOWN: return floor(x);
    }
    return x;
}

#endif
