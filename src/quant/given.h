/* Scales that a model which was quantized before gives (Value.given), as exponents of slots. */
#ifndef ESPQ_QUANT_GIVEN_H
#define ESPQ_QUANT_GIVEN_H

#include "graph/graph.h"

/* Slots that wait for an exponent and whose tensor has a given scale get it (Slot.overridden) and wait no more: powers of two exactly,
 * anything else rounded up so that nothing given is clipped, with one note a tensor that says what it costs. */
bool given_apply(Graph *graph, Error *error);
/* One note for each given exponent that did not stay, because operators share one. */
void given_note_changes(Graph *graph);

#endif
