/* Simulation beside chip, and what a device graph does on a chip, as tables of rows. */
#include "analyse/compare.h"

#include <string.h>

#include "analyse/device.h"
#include "bind/batches.h"
#include "bind/chip.h"
#include "bind/fields.h"
#include "bind/graph.h"
#include "bind/setting.h"

#define COMPARE_TYPE "espq.comparison"

typedef struct Results {
    CompareTable table;
    DeviceTable device;
} Results;

static int results_release(lua_State *L)
{
    Results *results = luaL_checkudata(L, 1, COMPARE_TYPE);
    compare_table_free(&results->table);
    device_table_free(&results->device);
    return 0;
}

static Results *push_results(lua_State *L)
{
    Results *results = lua_newuserdatauv(L, sizeof *results, 0);
    memset(results, 0, sizeof *results);
    luaL_setmetatable(L, COMPARE_TYPE);
    return results;
}

static void push_compare_row(lua_State *L, const CompareRow *row)
{
    double count = (double)(row->count ? row->count : 1);
    lua_createtable(L, 0, 16);
    set_text(L, "node", row->node);
    set_text(L, "type", row->type);
    set_text(L, "tensor", row->tensor);
    set_integer(L, "bits", row->bits);
    set_number(L, "step", row->step);
    set_integer(L, "count", row->count);
    if (row->isolated) {
        set_number(L, "alone", (double)row->alone.differing / count);
        set_number(L, "alone_largest", row->alone.largest);
        set_number(L, "alone_mean", row->alone.sum / count);
    }
    if (row->followed) {
        set_number(L, "differ", (double)row->together.differing / count);
        set_number(L, "largest", row->together.largest);
        set_number(L, "mean", row->together.sum / count);
    }
    if (row->headroom.count) {
        set_number(L, "sum_largest", row->headroom.largest);
        set_number(L, "sum_limit", row->headroom.limit);
        set_number(L, "saturated", (double)row->headroom.saturated / (double)row->headroom.count);
        set_number(L, "clipped", (double)row->headroom.clipped / (double)row->headroom.count);
    }
    set_text(L, "cause", row->cause);
}

/* compare(graph, walk, { setting=, target=, int16_lut_step=, version=, mended=, traits=, exact=, batches=, samples=, alone=, headroom= }): rows in the
 * order in which the chip runs, and how many samples were run. */
static int compare_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    luaL_checktype(L, 3, LUA_TTABLE);
    const Target *target = check_target(L, field_text(L, 3, "target", "esp32p4"));
    Chip chip;
    check_chip_options(L, 3, target, &chip);
    lua_getfield(L, 3, "setting");
    LowerOptions lower = {check_setting(L, lua_gettop(L)), target, field_integer(L, 3, "int16_lut_step", 256)};
    CompareOptions options = {.lower = &lower,
                              .chip = &chip,
                              .exact = field_boolean(L, 3, "exact", true),
                              .batches = (int)field_integer(L, 3, "batches", 8),
                              .samples = field_integer(L, 3, "samples", 0),
                              .alone = field_boolean(L, 3, "alone", false),
                              .headroom = field_boolean(L, 3, "headroom", false)};
    Batches *batches = push_batches(L, 2, holder->graph);
    Results *results = push_results(L);
    enter(L);
    Error error;
    error_begin(&error);
    bool done = analyse_compare(holder->graph, batches, &options, &results->table, &error);
    if (callback_failed(&error)) done = false;
    if (!done) return raise_error(L, &error);
    lua_createtable(L, results->table.count, 0);
    for (int i = 0; i < results->table.count; i++) {
        push_compare_row(L, &results->table.rows[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushinteger(L, (lua_Integer)results->table.samples);
    return 2;
}

/* device(engine of a lowered graph, the graph): a row a node. */
static int device_lua(lua_State *L)
{
    static const char *const places[] = {"integers", "floats inside", "floats"};
    const ChipEngine *engine = check_chip(L, 1);
    GraphHolder *holder = check_graph(L, 2);
    Results *results = push_results(L);
    enter(L);
    Error error;
    error_begin(&error);
    if (!analyse_device(engine->device, holder->graph, &engine->chip, &results->device, &error)) return raise_error(L, &error);
    lua_createtable(L, results->device.count, 0);
    for (int i = 0; i < results->device.count; i++) {
        const DeviceRow *row = &results->device.rows[i];
        lua_createtable(L, 0, 8);
        set_text(L, "node", row->node);
        set_text(L, "type", row->type);
        set_text(L, "width", row->width);
        set_text(L, "computes", places[row->computes]);
        if (row->shifts) set_integer(L, "shift", row->shift);
        if (row->entries) set_integer(L, "entries", row->entries);
        if (row->judged) {
            set_number(L, "table_largest", row->table_largest);
            set_number(L, "table_mean", row->table_mean);
        }
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

void open_compare(lua_State *L)
{
    static const luaL_Reg functions[] = {{"compare", compare_lua}, {"device", device_lua}, {NULL, NULL}};
    make_type(L, COMPARE_TYPE, NULL, NULL, results_release);
    luaL_newlib(L, functions);
}
