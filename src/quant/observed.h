/* What one calibration saw, for all methods that a search will ask for: the data are walked once, and each method's exponents are drawn
 * from the same observations. Valid for one graph as it stands before `calibrate`, the same data, and settings that differ in the method only. */
#ifndef ESPQ_QUANT_OBSERVED_H
#define ESPQ_QUANT_OBSERVED_H

#include "base/error.h"
#include "observe/observer.h"

enum { OBSERVED_METHODS = 8 };

typedef struct Observed {
    const ObserverRow *rows[OBSERVED_METHODS];
    int method_count;
    bool tried;      /* the data were walked for this */
    int *exponents;  /* [method][slot that waited]; NULL: they cannot be had together, each method walks for itself */
    double *seen;    /* [slot][smallest, largest] */
    size_t count;    /* of slots */
    int64_t batches; /* of the data */
} Observed;

/* Unknown methods, those of scripts, and more than there is room for are left out: they walk for themselves. */
Observed *observed_new(const char *const *methods, int count, Error *error);
void observed_free(Observed *observed); /* NULL is fine */
int observed_method(const Observed *observed, const ObserverRow *row); /* its number, -1: not among them */

#endif
