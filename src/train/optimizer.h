/* Optimizers: what turns gradients into better values. One works on a fixed list of float arrays (weights, biases, log2 of scales,
 * rounding variables), each with a rate of its own, and keeps what it remembers between steps.
 *
 *     OptimizerGroup groups[] = {{count of the weight, 1, true}, {count of the bias, 1, false}, …};
 *     Optimizer *optimizer = optimizer_new(&options, groups, count, error);
 *     for each step:
 *         … gradients …
 *         optimizer_step(optimizer, schedule_rate(&schedule, step), values, gradients);
 *     optimizer_free(optimizer);
 *
 * The result is the same bits on any number of threads and every instruction set (kernel/update.h). */
#ifndef ESPQ_TRAIN_OPTIMIZER_H
#define ESPQ_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Rows, found by name: "adam" (PyTorch's, decay added to the gradient), "adamw" (decay taken off the values), "sgd". */
typedef struct OptimizerRow {
    const char *name, *help;
    int memories; /* arrays it keeps for each of the values' */
} OptimizerRow;

const OptimizerRow *optimizer_row_at(int index);                    /* NULL behind the last */
const OptimizerRow *optimizer_find(const char *name, Error *error); /* an unknown name fails with the nearest */

typedef struct OptimizerOptions {
    const OptimizerRow *row;
    double beta1, beta2, epsilon; /* adam, adamw */
    double momentum;              /* sgd; 0: none */
    bool nesterov;                /* sgd */
    double decay;                 /* weight decay, of the groups that take it */
} OptimizerOptions;

/* The row's defaults, PyTorch's: betas 0.9 and 0.999, epsilon 1e-8; momentum 0; no decay (adamw: 0.01). */
OptimizerOptions optimizer_defaults(const OptimizerRow *row);

typedef struct OptimizerGroup {
    int64_t count; /* floats */
    double rate;   /* times that of the step */
    bool decays;
} OptimizerGroup;

typedef struct Optimizer Optimizer;

Optimizer *optimizer_new(const OptimizerOptions *options, const OptimizerGroup *groups, int count, Error *error); /* groups are copied */
void optimizer_free(Optimizer *optimizer);                                                                        /* NULL is fine */
/* values[i], gradients[i]: of group i. They may lie elsewhere at each step. */
void optimizer_step(Optimizer *optimizer, double rate, float *const *values, const float *const *gradients);

/* For checkpoints: steps made, and what is remembered of group i (`memories` arrays, one behind the other). */
int64_t optimizer_steps(const Optimizer *optimizer);
void optimizer_set_steps(Optimizer *optimizer, int64_t steps);
float *optimizer_memory(Optimizer *optimizer, int group, int64_t *count);

#endif
