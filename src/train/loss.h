/* Losses: how far outputs are from what they should be, and which way is better. Sums are made in float64 in an order of their own, so
 * that losses and gradients are the same bits on any number of threads and every instruction set. */
#ifndef ESPQ_TRAIN_LOSS_H
#define ESPQ_TRAIN_LOSS_H

#include "tensor/tensor.h"

typedef struct LossCall {
    const Tensor *output; /* float32, contiguous, samples along axis 0 */
    /* mse, kl, cosine: float32 of the output's shape. cross_entropy: that (probabilities), or whole numbers, one class a row: the output's
     * shape without axis 1, or with 1 there; a class below 0 is left out. */
    const Tensor *target;
    double weight;      /* of this loss: scales value and gradient */
    double temperature; /* kl: logits are divided by it, and the loss is multiplied by its square */
    double smoothing;   /* cross_entropy: share of the target spread over all classes */
    Tensor *gradient;   /* float32, contiguous, of the output's shape: d loss / d output; NULL: only the value */
} LossCall;

/* Rows, found by name:
 *   mse            mean of (output - target)^2 over all elements
 *   cross_entropy  mean over rows of -log softmax(output)[class], classes along axis 1
 *   kl             mean over rows of KL(softmax(target / T), softmax(output / T)) * T^2, classes along axis 1
 *   cosine         mean over samples of 1 - cos(output, target), a sample's elements taken together */
typedef struct LossRow {
    const char *name, *help;
    bool classes; /* target may be whole numbers */
    void (*run)(const LossCall *call, double *value);
} LossRow;

const LossRow *loss_row_at(int index);                    /* NULL behind the last */
const LossRow *loss_find(const char *name, Error *error); /* an unknown name fails with the nearest */
/* *value = the loss times its weight; fills call->gradient. Fails for shapes, types and classes that do not fit. */
bool loss_run(const LossRow *row, const LossCall *call, double *value, Error *error);

#endif
