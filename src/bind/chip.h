/* The integer executor in Lua: a device graph, of a file or lowered from a graph, with the chip that it is run for. */
#ifndef ESPQ_BIND_CHIP_H
#define ESPQ_BIND_CHIP_H

#include "bind/box.h"
#include "chip/chip.h"

#define CHIP_TYPE "espq.chip"

typedef struct ChipEngine {
    Graph *device;
    Chip chip;
    ChipPlan *plan; /* made at the first run, and again when the watch changes */
    bool original, headroom;
    Value **wanted; /* NULL: the graph outputs */
    int wanted_count;
    bool watching, watch_all;
    Map watched; /* names → anything; the texts are the device graph's */
    lua_State *L;
} ChipEngine;

ChipEngine *check_chip(lua_State *L, int index);
/* Fields version, mended and traits (name → on) of the table at `table`; raises on unknown ones. */
void check_chip_options(lua_State *L, int table, const Target *target, Chip *chip);
const Target *check_target(lua_State *L, const char *name);

#endif
