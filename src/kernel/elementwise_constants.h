/* Numbers of the elementwise functions, for the plain definition and the vector ones. The polynomials are least-maximum fits, weighted by
 * their part in the result; their errors are below 1e-8 of it, each coefficient being
 * rounded before those behind it were fitted. */
#ifndef ESPQ_KERNEL_ELEMENTWISE_CONSTANTS_H
#define ESPQ_KERNEL_ELEMENTWISE_CONSTANTS_H

#define EXP_LOWEST -104.0f /* e^x rounds to 0 from here on */
#define EXP_HIGHEST 89.0f  /* e^x overflows */
#define EXP_LOG2_E 0x1.715476p+0f
#define EXP_LN2_HIGH 0x1.62e4p-1f /* 16 bits: times a whole number of 8 bits it is exact */
#define EXP_LN2_LOW 0x1.7f7d1cp-20f
#define TANH_SMALL 0.625f /* below: a polynomial; above: by e^(-2 x) */
#define ERF_SMALL 1.0f
#define ERF_LARGE 4.0f /* 1 from here on */
#define ERF_MIDDLE 2.5f

/* e^r = 1 + r + r^2 (…), |r| <= ln 2 / 2 */
#define EXP_TERMS 5
static const float exp_terms[EXP_TERMS] = {0x1.000000p-1f, 0x1.55548ep-3f, 0x1.55545ep-5f, 0x1.123be0p-7f, 0x1.6db4e4p-10f};

/* tanh x = x + x x^2 (…), in x^2 */
#define TANH_TERMS 6
static const float tanh_terms[TANH_TERMS] = {-0x1.555554p-2f, 0x1.11106cp-3f,  -0x1.b9ef7cp-5f,
                                             0x1.6394d8p-6f,  -0x1.0c213ep-7f, 0x1.197b62p-9f};

/* erf x = x + x (…), in x^2 */
#define ERF_TERMS 7
static const float erf_terms[ERF_TERMS] = {0x1.06eba8p-3f, -0x1.812740p-2f,  0x1.ce2d50p-4f, -0x1.b7fe90p-6f,
                                           0x1.542e10p-8f, -0x1.a50b0ep-11f, 0x1.4c344ep-14f};

/* erf x = 1 - e^-(…), in x - ERF_MIDDLE */
#define ERFC_TERMS 7
static const float erfc_terms[ERFC_TERMS] = {0x1.f3a2e8p+2f,  0x1.569290p+2f,  0x1.e34580p-1f,  0x1.5f6654p-7f,
                                             -0x1.4186bcp-9f, 0x1.4b200cp-13f, -0x1.848896p-13f};

#endif
