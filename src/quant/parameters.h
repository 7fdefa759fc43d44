/* Parameters' exponents, for the passes `parameters` and `calibrate`. */
#ifndef ESPQ_QUANT_PARAMETERS_H
#define ESPQ_QUANT_PARAMETERS_H

#include "observe/observer.h"
#include "quant/quantize.h"

int parameter_channels(const Slot *slot, const Value *value); /* how many exponents it gets */
/* `times`: how often the second walk shows the constant, see observer_constant. Safe in several threads. */
bool parameter_exponents(const ObserverRow *row, Slot *slot, const Value *value, int64_t times, const Setting *setting, int *exponents,
                         Error *error);
/* The row of a slot's method; an unknown one fails with the nearest name. */
const ObserverRow *find_observer(const char *name, const Node *node, Error *error);

/* Outputs of products whose exponent is below the sum of their factors' exponents take that sum, in order of execution (CHIP C4). */
bool raise_fine_outputs(Graph *graph, Error *error);

#endif
