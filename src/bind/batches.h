/* Calibration data: a Lua walk as the engine's batches. */
#ifndef ESPQ_BIND_BATCHES_H
#define ESPQ_BIND_BATCHES_H

#include "bind/box.h"
#include "exec/batches.h"
#include "graph/graph.h"

#define ESPQ_MAX_INPUTS 64

/* From the function at `index`, called once a walk; it returns a function that gives the next batch, a list of tensors in the order of the
 * graph's inputs, and nil at the end. Leaves a userdata on the stack that must stay there while the batches are in use. nil: NULL (nothing
 * is left but the nil). */
Batches *push_batches(lua_State *L, int index, const Graph *graph);
void open_batches(lua_State *L);

#endif
