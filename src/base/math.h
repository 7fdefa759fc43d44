/* Own elementary functions: what a file contains depends on float only through these and src/kernel, so that the same inputs
 * give the same bytes with every C library. Within 1 ulp of the exact value in float32 (computed in double, rounded once). */
#ifndef ESPQ_BASE_MATH_H
#define ESPQ_BASE_MATH_H

#include <stdint.h>

double espq_exp(double x);
double espq_log(double x);
double espq_tanh(double x);
double espq_erf(double x);
double espq_sin(double x);
double espq_cos(double x);
double espq_pow(double x, double y);
float espq_expf(float x);
float espq_logf(float x);
float espq_tanhf(float x);
float espq_sigmoidf(float x);
float espq_erff(float x);

/* Exponents of scales, by frexp and exact comparison: no rounding of a logarithm decides (QUANT §8). s > 0. */
int ceil_log2(double s);    /* smallest e with s <= 2^e */
int nearest_log2(double s); /* floor(log2(s) + 0.5) */

#endif
