/* The gradient column of one operator against central differences: the loss is a random sum of the outputs, made in float64 from float32
 * results, so steps are large (1/128) and tolerances wide; corners are to be avoided by the numbers themselves. */
#ifndef ESPQ_TESTS_SLOPES_H
#define ESPQ_TESTS_SLOPES_H

#include "random_tensors.h"

typedef struct Slope {
    OperatorRun *run;
    Shape shapes[2 * OPERATOR_ENDS];
    Dtype dtypes[2 * OPERATOR_ENDS];
    const Tensor *constants[OPERATOR_ENDS];
    Prepare prepare;
    char *scratch;
    Tensor *dy[OPERATOR_ENDS], *dx[OPERATOR_ENDS], *again[OPERATOR_ENDS];
} Slope;

/* Behind operator_run. Floats come at run time, as in training; integers are constants. The caller frees scratch. */
bool slope_prepare(Slope *slope, OperatorRun *run);
/* dx from dy; false: these attributes have no gradient. */
bool slope_gradient(const Slope *slope, Tensor *const *dx, int threads);

/* Compares all float inputs of `inputs` (bits); closes the run. */
void check_slopes(OperatorRun *run, Random *random, unsigned inputs, double tolerance);
/* Was this row compared since the program began? In all: how many rows were. */
bool slopes_checked(const Operator *row);
int slopes_checked_rows(void);

static inline int below(Random *random, int n)
{
    return (int)(random_next(random) % (uint32_t)n);
}

#endif
