/* How one end of a node is quantized in this run: its slot, read once when the plan is made. */
#ifndef ESPQ_EXEC_QUANTIZATION_H
#define ESPQ_EXEC_QUANTIZATION_H

#include "graph/graph.h"

typedef struct Quantization {
    bool on;
    int count;      /* exponents: 1, or one a channel */
    int exponent;   /* the first */
    int *exponents; /* NULL with one; owned */
    int axis;
    int64_t minimum, maximum;
    Rounding rounding;
} Quantization;

/* slot NULL, a slot that does not quantize, or an end that is not float: off. */
bool quantization_read(Quantization *quantization, const Slot *slot, Dtype dtype, Error *error);
void quantization_clear(Quantization *quantization);
bool quantization_equal(const Quantization *a, const Quantization *b);

/* Does quantizing by `second` leave everything as it is that was quantized by `first`? True when the steps of first are steps of
 * second and its range lies within. */
bool quantization_keeps(const Quantization *first, const Quantization *second);

/* y = fake quantization of x (QUANT §9); x may equal y. Threads inside. Fails never: shapes were checked by quantization_fits. */
void quantization_apply(const Quantization *quantization, const Shape *shape, const float *x, float *y);
bool quantization_fits(const Quantization *quantization, const Shape *shape); /* one exponent, or as many as the axis is long */

#endif
