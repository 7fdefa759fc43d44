/* Elementary functions by argument reduction and power series in float64; a handful of units in the last place of a double, so that
 * rounding once gives float32 within 1 ulp. Only operations that IEEE 754 defines exactly are used (+ - * / sqrt fma, rint, ldexp). */
#include "base/math.h"

#include <math.h>
#include <stdbool.h>

static const double LOG2_E = 1.4426950408889634074;
static const double LN2_HIGH = 0x1.62e42fee00000p-1; /* ln 2 in two parts; the first has 20 zero bits, so n * LN2_HIGH is exact */
static const double LN2_LOW = 0x1.a39ef35793c76p-33;

/* e^r - 1 for |r| <= ln 2 / 2: the series, whose 14th term is below half an ulp. */
static double expm1_small(double r)
{
    double sum = 0.0;
    for (int n = 14; n >= 1; n--)
        sum = (1.0 + sum) * (r / n);
    return sum;
}

/* x = n ln 2 + r */
static double reduce_ln2(double x, int *n)
{
    double k = rint(x * LOG2_E);
    *n = (int)k;
    return fma(-k, LN2_LOW, fma(-k, LN2_HIGH, x));
}

double espq_exp(double x)
{
    if (isnan(x)) return x;
    if (x > 710.0) return INFINITY;
    if (x < -746.0) return 0.0;
    int n;
    double r = reduce_ln2(x, &n);
    return ldexp(1.0 + expm1_small(r), n);
}

/* Accurate near 0 as well. */
static double expm1_double(double x)
{
    int n;
    double r = reduce_ln2(x, &n);
    double small = expm1_small(r);
    if (n == 0) return small;
    double power = ldexp(1.0, n);
    return fma(power, small, power - 1.0);
}

/* log(m 2^e) = e ln 2 + 2 artanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt(2)): 23 odd terms' tail is below half an ulp. */
double espq_log(double x)
{
    if (isnan(x) || x < 0.0) return NAN;
    if (x == 0.0) return -INFINITY;
    if (isinf(x)) return x;
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752440) {
        m *= 2.0;
        e--;
    }
    double s = (m - 1.0) / (m + 1.0), square = s * s, sum = 0.0;
    for (int n = 23; n >= 3; n -= 2)
        sum = fma(sum, square, 1.0 / n);
    double series = 2.0 * s + 2.0 * s * square * sum;
    return fma(e, LN2_HIGH, fma(e, LN2_LOW, series));
}

double espq_tanh(double x)
{
    if (isnan(x)) return x;
    double magnitude = fabs(x);
    if (magnitude > 20.0) return copysign(1.0, x);
    double e = expm1_double(2.0 * magnitude);
    return copysign(e / (e + 2.0), x);
}

/* Below 3: erf x = 2 / sqrt(pi) e^(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!, whose terms all have one sign.
 * From 3 on: 1 - erfc x, by the continued fraction of erfc. */
double espq_erf(double x)
{
    if (isnan(x)) return x;
    double magnitude = fabs(x), square = x * x;
    if (magnitude > 6.0) return copysign(1.0, x);
    if (magnitude < 3.0) {
        double term = x, sum = x;
        for (int n = 1; n < 80; n++) {
            term *= 2.0 * square / (2 * n + 1);
            sum += term;
        }
        return 1.1283791670955125739 * espq_exp(-square) * sum;
    }
    double fraction = 0.0;
    for (int n = 60; n >= 1; n--)
        fraction = 0.5 * n / (magnitude + fraction);
    double erfc = 0.56418958354775628695 * espq_exp(-square) / (magnitude + fraction);
    return copysign(1.0 - erfc, x);
}

/* x = quadrant pi / 2 + r, |r| <= pi / 4. Exact to a double up to 2^20; beyond, fmod by a rounded 2 pi comes first and the error of the
 * angle grows with it. */
static double reduce_quadrant(double x, int *quadrant)
{
    if (fabs(x) > 0x1p20) x = fmod(x, 6.28318530717958647692);
    double k = rint(x * 0.63661977236758134308);
    *quadrant = (int)((int64_t)k & 3);
    double r = fma(-k, 0x1.921fb54400000p+0, x);
    r = fma(-k, 0x1.0b4611a600000p-34, r);
    return fma(-k, 0x1.3198a2e037073p-69, r);
}

static double sin_small(double r)
{
    double square = r * r, term = r, sum = 0.0;
    for (int n = 2; n <= 20; n += 2) {
        term *= -square / (n * (n + 1));
        sum += term;
    }
    return r + sum;
}

static double cos_small(double r)
{
    double square = r * r, term = 1.0, sum = 0.0;
    for (int n = 1; n <= 19; n += 2) {
        term *= -square / (n * (n + 1));
        sum += term;
    }
    return 1.0 + sum;
}

static double sine_of_quadrant(double r, int quadrant)
{
    double value = quadrant & 1 ? cos_small(r) : sin_small(r);
    return quadrant & 2 ? -value : value;
}

double espq_sin(double x)
{
    if (!isfinite(x)) return NAN;
    int quadrant;
    double r = reduce_quadrant(x, &quadrant);
    return sine_of_quadrant(r, quadrant);
}

double espq_cos(double x)
{
    if (!isfinite(x)) return NAN;
    int quadrant;
    double r = reduce_quadrant(x, &quadrant);
    return sine_of_quadrant(r, quadrant + 1);
}

static double power_integer(double x, int n)
{
    double result = 1.0;
    for (int rest = n < 0 ? -n : n; rest > 0; rest >>= 1) {
        if (rest & 1) result *= x;
        x *= x;
    }
    return n < 0 ? 1.0 / result : result;
}

/* Small whole exponents by multiplication, so that squares are squares; else through exp and log. Special cases as C's pow. */
double espq_pow(double x, double y)
{
    if (y == 0.0 || x == 1.0) return 1.0;
    if (isnan(x) || isnan(y)) return NAN;
    bool whole = rint(y) == y, odd = whole && fabs(y) < 0x1p53 && fmod(y, 2.0) != 0.0;
    if (whole && fabs(y) <= 64.0) return power_integer(x, (int)y);
    if (y == 0.5 && x >= 0.0) return sqrt(x);
    if (x == 0.0) return y > 0.0 ? (odd ? x : 0.0) : (odd ? 1.0 / x : INFINITY);
    if (isinf(y)) return fabs(x) == 1.0 ? 1.0 : (fabs(x) > 1.0) == (y > 0.0) ? INFINITY : 0.0;
    if (isinf(x)) {
        double value = y > 0.0 ? INFINITY : 0.0;
        return x < 0.0 && odd ? -value : value;
    }
    if (x < 0.0 && !whole) return NAN;
    double value = espq_exp(y * espq_log(fabs(x)));
    return x < 0.0 && odd ? -value : value;
}

float espq_expf(float x)
{
    return (float)espq_exp(x);
}

float espq_logf(float x)
{
    return (float)espq_log(x);
}

float espq_tanhf(float x)
{
    return (float)espq_tanh(x);
}

float espq_sigmoidf(float x)
{
    double e = espq_exp(-fabs((double)x));
    return (float)(x < 0.0f ? e / (1.0 + e) : 1.0 / (1.0 + e));
}

float espq_erff(float x)
{
    return (float)espq_erf(x);
}

int ceil_log2(double s)
{
    int e;
    return frexp(s, &e) == 0.5 ? e - 1 : e;
}

/* m >= sqrt(1/2); the constant is the smallest double above that irrational. */
int nearest_log2(double s)
{
    int e;
    return frexp(s, &e) >= 0x1.6a09e667f3bcdp-1 ? e : e - 1;
}
