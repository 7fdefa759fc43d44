/* The elementary functions of base/math.h against the C library's long double, and the exponents of scales. */
#include <math.h>
#include <stdlib.h>

#include "base/math.h"
#include "base/random.h"
#include "check.h"

/* Largest error of `own` against `exact` over [low, high], in units of the last place of float32. */
static double worst_float(float (*own)(float), long double (*exact)(long double), double low, double high, float *at)
{
    Random random;
    random_seed(&random, 11);
    double worst = 0.0;
    for (int i = 0; i < 5000; i++) {
        float x = (float)(low + (high - low) * random_uniform(&random));
        long double value = exact(x);
        float rounded = (float)fabsl(value);
        double error = (double)(fabsl((long double)own(x) - value) / (nextafterf(rounded, INFINITY) - rounded));
        if (error > worst) {
            worst = error;
            *at = x;
        }
    }
    return worst;
}

static long double exact_sigmoid(long double x)
{
    return 1.0L / (1.0L + expl(-x));
}

/* Promise: float32 results are the exact value rounded once, up to the rare near tie (0.51 units). */
TEST(functions_are_accurate_in_float32)
{
    static const struct {
        const char *name;
        float (*own)(float);
        long double (*exact)(long double);
        double low, high;
    } rows[] = {{"expf", espq_expf, expl, -85, 88},        {"logf", espq_logf, logl, 1e-5, 5},
                {"logf", espq_logf, logl, 0.99, 1.01},     {"tanhf", espq_tanhf, tanhl, -9, 9},
                {"tanhf", espq_tanhf, tanhl, -0.01, 0.01}, {"sigmoidf", espq_sigmoidf, exact_sigmoid, -80, 20},
                {"erff", espq_erff, erfl, -5, 5},          {"erff", espq_erff, erfl, -0.01, 0.01}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        float at = 0.0f;
        double worst = worst_float(rows[i].own, rows[i].exact, rows[i].low, rows[i].high, &at);
        CHECK(worst <= 0.51, "%s is off by %.3f units at %.9g", rows[i].name, worst, at);
    }
}

/* Promise: float64 results are good to 1e-14 of the value. */
TEST(functions_are_accurate_in_float64)
{
    static const struct {
        const char *name;
        double (*own)(double);
        long double (*exact)(long double);
        double low, high;
    } rows[] = {{"exp", espq_exp, expl, -700, 700},     {"log", espq_log, logl, 1e-9, 2000}, {"tanh", espq_tanh, tanhl, -4, 4},
                {"erf", espq_erf, erfl, -6, 6},         {"sin", espq_sin, sinl, 0.1, 3},     {"cos", espq_cos, cosl, -1.5, 1.5},
                {"sin", espq_sin, sinl, 1000.0, 1000.5}};
    Random random;
    random_seed(&random, 12);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int n = 0; n < 2000; n++) {
            double x = rows[i].low + (rows[i].high - rows[i].low) * random_uniform(&random);
            long double exact = rows[i].exact(x);
            REQUIRE(fabsl((long double)rows[i].own(x) - exact) <= 1e-14L * fabsl(exact), "%s(%.17g) is %.17g", rows[i].name, x,
                    rows[i].own(x));
        }
    }
}

/* Promise: powers are exact where users expect it, and follow C's special cases. */
TEST(powers)
{
    CHECK(espq_pow(3.0, 2.0) == 9.0 && espq_pow(-2.0, 3.0) == -8.0 && espq_pow(2.0, -1.0) == 0.5 && espq_pow(9.0, 0.5) == 3.0,
          "small powers are not exact");
    CHECK(espq_pow(0.0, 0.0) == 1.0 && isinf(espq_pow(0.0, -1.5)) && espq_pow(0.0, 1.5) == 0.0, "powers of zero");
    CHECK(isnan(espq_pow(-1.5, 0.3)) && isnan(espq_pow(NAN, 1.0)), "a negative base has no broken power");
    CHECK(fabs(espq_pow(1.7, 2.3) / pow(1.7, 2.3) - 1.0) < 1e-14, "1.7^2.3 is %.17g", espq_pow(1.7, 2.3));
}

/* Promise: exponents of scales never depend on a rounded logarithm: exact at powers of two and one step beside them. */
TEST(exponents_of_scales)
{
    for (int e = -60; e <= 60; e++) {
        double power = ldexp(1.0, e), middle = ldexp(sqrt(2.0) / 2.0, e);
        CHECK(ceil_log2(power) == e && ceil_log2(nextafter(power, INFINITY)) == e + 1 && ceil_log2(nextafter(power, 0.0)) == e,
              "ceil_log2 near 2^%d", e);
        CHECK(nearest_log2(power) == e && nearest_log2(middle * 1.0000001) == e && nearest_log2(middle * 0.9999999) == e - 1,
              "nearest_log2 near 2^%d", e);
    }
}
