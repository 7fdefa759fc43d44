/* The small functions that CHIP §1 defines; every module uses these and nothing of its own. */
#ifndef ESPQ_CHIP_ARITHMETIC_H
#define ESPQ_CHIP_ARITHMETIC_H

#include <math.h>

#include "chip/module.h"

static inline int64_t saturate(int64_t v, int bits)
{
    int64_t high = (INT64_C(1) << (bits - 1)) - 1;
    return v > high ? high : v < -high - 1 ? -high - 1 : v;
}

/* v / 2^shift, rounded half up or half to even (CHIP §1.2 RHU, RHE); shift <= 0: v * 2^-shift, saturated to `bits`. */
static inline int64_t shift_and_round(int64_t v, int shift, Rounding rounding, int bits)
{
    if (shift <= 0) {
        if (v == 0) return 0;
        if (shift <= -62) return saturate(v > 0 ? INT64_MAX : INT64_MIN, bits);
        int64_t limit = INT64_MAX >> -shift;
        if (v > limit || v < -limit) return saturate(v > 0 ? INT64_MAX : INT64_MIN, bits);
        return saturate(v * (INT64_C(1) << -shift), bits);
    }
    if (shift > 62) return 0;
    int64_t floor = v >> shift, rest = v - floor * (INT64_C(1) << shift), half = INT64_C(1) << (shift - 1);
    if (rounding == ROUND_HALF_UP) return floor + (rest >= half);
    return floor + (rest > half || (rest == half && (floor & 1)));
}

/* A float to an integer of `bits`, as tool::round and truncate do (CHIP §1.2 rndf); NaN gives the highest, as both
 * processors convert it. */
static inline int64_t round_saturate(float x, Rounding rounding, int bits)
{
    float limit = (float)(INT64_C(1) << (bits - 1)), rounded = rounding == ROUND_HALF_UP ? floorf(x + 0.5f) : rintf(x);
    if (!(rounded < limit)) return (INT64_C(1) << (bits - 1)) - 1;
    if (rounded < -limit) return -(INT64_C(1) << (bits - 1));
    return (int64_t)rounded;
}

/* The same of a double: exact half up; half to even is made in software there, with a tolerance that makes a tie of 2.5000002. */
static inline int64_t round_double_saturate(double x, Rounding rounding, int bits)
{
    double limit = (double)(INT64_C(1) << (bits - 1));
    if (!(x < limit)) return (INT64_C(1) << (bits - 1)) - 1;
    if (x <= -limit - 1) return -(INT64_C(1) << (bits - 1));
    if (rounding == ROUND_HALF_UP) return saturate((int64_t)floor(x + 0.5), bits);
    double moved = x < 0 ? x - 0.5 : x + 0.5;
    int64_t whole = (int64_t)moved;
    if (fabs(moved - (double)whole) < 1e-6 && whole & 1) whole += x < 0 ? 1 : -1;
    return saturate(whole, bits);
}

/* 2^exponent and 2^-exponent as floats: exact for what a file may hold. */
static inline float scale_of(int exponent)
{
    return ldexpf(1.0f, exponent);
}

static inline int64_t read_integer(const void *data, int64_t index, int bits)
{
    return bits == 8 ? ((const int8_t *)data)[index] : ((const int16_t *)data)[index];
}
static inline void write_integer(void *data, int64_t index, int bits, int64_t value)
{
    if (bits == 8)
        ((int8_t *)data)[index] = (int8_t)value;
    else
        ((int16_t *)data)[index] = (int16_t)value;
}

/* The runtime's square root: Newton's steps until they are below 1e-5, absolutely (CHIP §2.16, C32); mended: the real one. */
static inline float newton_sqrt(const Chip *chip, float x)
{
    if (!chip_has(chip, TRAIT_NEWTON_SQRT) || !(x > 0) || isinf(x)) return sqrtf(x);
    float root = x;
    for (int step = 0; step < 200; step++) {
        float next = (root + x / root) * 0.5f;
        float change = fabsf(next - root);
        root = next;
        if (change <= 1e-5f) break;
    }
    return root;
}

#endif
