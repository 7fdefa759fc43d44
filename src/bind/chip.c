/* Running device graphs from Lua, and the list of what chips do. */
#include "bind/chip.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "bind/batches.h"
#include "bind/espdl.h"
#include "bind/fields.h"
#include "bind/graph.h"
#include "bind/setting.h"
#include "bind/tensor.h"
#include "espdl/device.h"
#include "espdl/pack.h"
#include "espdl/selftest.h"
#include "espdl/sha256.h"

static int chip_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, CHIP_TYPE);
    ChipEngine *engine = box->object;
    box->object = NULL;
    if (!engine) return 0;
    chip_plan_free(engine->plan);
    graph_free(engine->device);
    map_free(&engine->watched);
    memory_free(engine->wanted);
    memory_free(engine);
    return 0;
}

ChipEngine *check_chip(lua_State *L, int index)
{
    return check_box(L, index, CHIP_TYPE, "an integer executor");
}

const Target *check_target(lua_State *L, const char *name)
{
    const Target *target = target_find(name);
    if (target) return target;
    const char *nearest = target_nearest(name);
    raise_text(L, NULL, "`espq targets` lists them all", "unknown target '%s'%s%s%s", name, nearest ? " (did you mean '" : "",
               nearest ? nearest : "", nearest ? "'?)" : "");
    return NULL;
}

void check_chip_options(lua_State *L, int table, const Target *target, Chip *chip)
{
    Error error;
    error_begin(&error);
    if (!chip_init(chip, target, field_text(L, table, "version", NULL), field_boolean(L, table, "mended", false), &error))
        raise_error(L, &error);
    if (lua_getfield(L, table, "traits") == LUA_TTABLE) {
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "";
            int trait = chip_trait_find(name);
            if (trait < 0) raise_text(L, NULL, "`espq targets --defects` lists them", "unknown trait '%s'", name);
            chip_set(chip, (ChipTrait)trait, lua_toboolean(L, -1));
        }
    }
    lua_pop(L, 1);
}

/* An empty engine in its box, which stays on the stack. User value 1: what is called with what is seen. */
static ChipEngine *push_engine(lua_State *L)
{
    Box *box = push_box(L, CHIP_TYPE);
    ChipEngine *engine = memory_new(sizeof *engine);
    if (!engine) raise_text(L, NULL, NULL, "not enough memory");
    box->object = engine;
    remember(L, lua_gettop(L), engine);
    return engine;
}

/* load(path, { target=, version=, mended=, traits=, model= }): engine, the target's name, sure, how it was found out. */
static int load_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    luaL_checktype(L, 2, LUA_TTABLE);
    const char *name = field_text(L, 2, "target", NULL), *inner = field_text(L, 2, "model", NULL);
    const Target *target = name ? check_target(L, name) : NULL;
    bool sure = true;
    char why[200] = "the caller says so";
    ChipEngine *engine = push_engine(L);
    Error error;
    error_begin(&error);
    EspdlModel *model = espdl_load_model(path, inner, &error);
    if (model) {
        engine->device = espdl_device(model, &error);
        if (!target) target = espdl_target(model, &sure, why);
        espdl_model_free(model);
    }
    if (!engine->device) return raise_error(L, &error);
    account(L, engine->device->arena.bytes);
    check_chip_options(L, 2, target, &engine->chip);
    lua_pushstring(L, target->name);
    lua_pushboolean(L, sure);
    lua_pushstring(L, why);
    return 4;
}

/* lower(graph, { setting=, target=, int16_lut_step=, version=, mended=, traits= }): an engine whose ends are those of the float graph. */
static int lower_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_getfield(L, 2, "setting");
    const Setting *setting = check_setting(L, lua_gettop(L));
    LowerOptions options = {setting, check_target(L, field_text(L, 2, "target", "esp32p4")), field_integer(L, 2, "int16_lut_step", 256)};
    ChipEngine *engine = push_engine(L);
    int self = lua_gettop(L);
    check_chip_options(L, 2, options.target, &engine->chip);
    Error error;
    error_begin(&error);
    engine->original = !field_boolean(L, 2, "raw", false);
    engine->device = lower_graph(holder->graph, &options, &error);
    if (!engine->device) return raise_error(L, &error);
    account(L, engine->device->arena.bytes);
    lua_settop(L, self);
    return 1;
}

/* The device graph's tensor of that name, or of the one that took its place. */
static Value *check_device_value(lua_State *L, const ChipEngine *engine, const char *name)
{
    const char *found = lower_test_name(engine->device, name);
    Value *value = graph_value(engine->device, found ? found : name);
    if (!value)
        raise_text(L, name, "`espq info M.espdl --full` lists the tensors",
                   "the chip does not make this tensor: its node was fused with another, or there is none of this name");
    return value;
}

/* want(engine, { name, … }) */
static int want_lua(lua_State *L)
{
    ChipEngine *engine = check_chip(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int count = (int)lua_rawlen(L, 2);
    Value **wanted = memory_new_array((size_t)count + 1, sizeof *wanted);
    if (!wanted) return raise_text(L, NULL, NULL, "not enough memory");
    memory_free(engine->wanted);
    engine->wanted = wanted;
    engine->wanted_count = 0;
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        wanted[i] = check_device_value(L, engine, check_text(L, lua_gettop(L), "a list of names"));
        lua_pop(L, 1);
        engine->wanted_count++;
    }
    chip_plan_free(engine->plan);
    engine->plan = NULL;
    return 0;
}

/* ---- watching ---- */

typedef struct Sighting {
    ChipEngine *engine;
    const ChipSeen *seen;
} Sighting;

static int watch_body(lua_State *L)
{
    const Sighting *sighting = lua_touserdata(L, 1);
    push_remembered(L, sighting->engine);
    lua_getiuservalue(L, -1, 1);
    lua_pushstring(L, sighting->seen->value->name);
    push_tensor_copy(L, sighting->seen->tensor);
    if (sighting->seen->undefined)
        lua_pushstring(L, sighting->seen->undefined);
    else
        lua_pushnil(L);
    lua_pushinteger(L, sighting->seen->sample);
    if (sighting->seen->node)
        lua_pushstring(L, sighting->seen->node->name);
    else
        lua_pushnil(L);
    lua_call(L, 5, 0);
    return 0;
}

static bool watch(void *context, const ChipSeen *seen, Error *error)
{
    ChipEngine *engine = context;
    if (!engine->watch_all && !map_has(&engine->watched, seen->value->name)) return true;
    Sighting sighting = {engine, seen};
    return door(engine->L, watch_body, &sighting, error);
}

/* watch(engine, function(name, tensor, undefined, sample, node), names or nil): nil names: all; nil function: nothing any more. */
static int watch_lua(lua_State *L)
{
    ChipEngine *engine = check_chip(L, 1);
    lua_settop(L, 3);
    engine->watching = !lua_isnil(L, 2);
    if (engine->watching) luaL_checktype(L, 2, LUA_TFUNCTION);
    engine->watch_all = lua_isnil(L, 3);
    int count = lua_istable(L, 3) ? (int)lua_rawlen(L, 3) : 0;
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 3, i + 1);
        Value *value = check_device_value(L, engine, check_text(L, lua_gettop(L), "a list of names"));
        if (!map_set(&engine->watched, value->name, value)) return raise_text(L, NULL, NULL, "not enough memory");
        lua_pop(L, 1);
    }
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 1, 1);
    chip_plan_free(engine->plan);
    engine->plan = NULL;
    return 0;
}

/* ---- running ---- */

static bool make_plan(ChipEngine *engine, Error *error)
{
    if (engine->plan) return true;
    ChipOptions options = {.chip = &engine->chip,
                           .wanted = engine->wanted,
                           .wanted_count = engine->wanted_count,
                           .original = engine->original,
                           .headroom = engine->headroom};
    if (engine->watching) {
        options.watch = watch;
        options.watch_context = engine;
    }
    engine->plan = chip_plan_new(engine->device, &options, error);
    return engine->plan != NULL;
}

/* run(engine, { tensor, … } in the order of the inputs): the list of outputs. */
static int run_lua(lua_State *L)
{
    ChipEngine *engine = check_chip(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int count = engine->device->input_count, outputs = engine->wanted ? engine->wanted_count : engine->device->output_count;
    if (count > ESPQ_MAX_INPUTS) return raise_text(L, NULL, NULL, "the model has %d inputs, more than %d", count, ESPQ_MAX_INPUTS);
    enter(L);
    engine->L = L;
    Error error;
    error_begin(&error);
    luaL_checkstack(L, count + 8, "inputs");
    Tensor *inputs[ESPQ_MAX_INPUTS];
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        inputs[i] = check_tensor(L, lua_gettop(L)); /* kept by the table */
        lua_pop(L, 1);
    }
    lua_createtable(L, outputs, 0);
    Box **boxes = push_memory(L, sizeof *boxes * (size_t)outputs + 1);
    Tensor **results = push_memory(L, sizeof *results * (size_t)outputs + 1);
    int list = lua_gettop(L) - 2;
    for (int i = 0; i < outputs; i++) {
        boxes[i] = push_tensor_box(L);
        lua_rawseti(L, list, i + 1);
    }
    bool done = make_plan(engine, &error) && chip_plan_run(engine->plan, inputs, results, &error);
    size_t bytes = 0;
    for (int i = 0; i < outputs; i++) {
        boxes[i]->object = results[i];
        if (results[i]) bytes += tensor_bytes(results[i]);
    }
    if (!done) return raise_error(L, &error);
    account(L, bytes);
    lua_settop(L, list);
    return 1;
}

static int reset_lua(lua_State *L)
{
    ChipEngine *engine = check_chip(L, 1);
    if (engine->plan) chip_plan_reset(engine->plan);
    return 0;
}

/* ---- asking ---- */

static void push_end(lua_State *L, const ChipEngine *engine, const Value *value)
{
    const DeviceValue *device = value->device;
    lua_createtable(L, 0, 6);
    lua_pushstring(L, value->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, dtype_name(device->dtype));
    lua_setfield(L, -2, "dtype");
    Shape shape = device->shape;
    bool turned = engine->original && device->perm_known && device->perm_rank == shape.rank;
    for (int i = 0; turned && i < shape.rank; i++)
        shape.dims[device->perm[i]] = device->shape.dims[i];
    push_shape(L, &shape);
    lua_setfield(L, -2, "shape");
    lua_pushinteger(L, device->exponent_count ? device->exponents[0] : 0);
    lua_setfield(L, -2, "exponent");
    if (turned) {
        lua_createtable(L, shape.rank, 0);
        for (int i = 0; i < shape.rank; i++) {
            lua_pushinteger(L, device->perm[i]);
            lua_rawseti(L, -2, i + 1);
        }
        lua_setfield(L, -2, "perm");
    }
    const char *undefined = engine->plan ? chip_plan_undefined(engine->plan, value) : NULL;
    if (undefined) {
        lua_pushstring(L, undefined);
        lua_setfield(L, -2, "undefined");
    }
}

static void push_ends(lua_State *L, const ChipEngine *engine, Value *const *values, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        push_end(L, engine, values[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

/* ends(engine): { inputs = {…}, outputs = {…} }, each { name, dtype, shape, exponent, perm = list or nil, undefined = why or nil }. */
static int ends_lua(lua_State *L)
{
    const ChipEngine *engine = check_chip(L, 1);
    lua_createtable(L, 0, 2);
    push_ends(L, engine, engine->device->inputs, engine->device->input_count);
    lua_setfield(L, -2, "inputs");
    push_ends(L, engine, engine->wanted ? engine->wanted : engine->device->outputs,
              engine->wanted ? engine->wanted_count : engine->device->output_count);
    lua_setfield(L, -2, "outputs");
    return 1;
}

/* value(engine, name): the same of one tensor, or of the one that took its place. */
static int value_lua(lua_State *L)
{
    const ChipEngine *engine = check_chip(L, 1);
    push_end(L, engine, check_device_value(L, engine, check_text(L, 2, "the name of a tensor")));
    return 1;
}

/* revision(graph): grows with every change of the graph. */
static int revision_lua(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_graph(L, 1)->revision);
    return 1;
}

/* headroom(engine): a list { node =, type =, largest =, limit =, saturated =, clipped =, count = } over all runs since the first call; the first call
 * makes the runs that follow measure. */
static int headroom_lua(lua_State *L)
{
    ChipEngine *engine = check_chip(L, 1);
    if (!engine->headroom) {
        engine->headroom = true;
        chip_plan_free(engine->plan);
        engine->plan = NULL;
    }
    lua_newtable(L);
    for (int i = 0, listed = 0; engine->plan && i < engine->device->node_count; i++) {
        const Node *node = engine->device->nodes[i];
        const Headroom *room = chip_plan_headroom(engine->plan, node);
        if (!room || !room->count) continue;
        lua_createtable(L, 0, 7);
        set_text(L, "node", node->name);
        set_text(L, "type", node->type);
        lua_pushnumber(L, room->largest);
        lua_setfield(L, -2, "largest");
        lua_pushnumber(L, room->limit);
        lua_setfield(L, -2, "limit");
        lua_pushinteger(L, room->saturated);
        lua_setfield(L, -2, "saturated");
        lua_pushinteger(L, room->clipped);
        lua_setfield(L, -2, "clipped");
        lua_pushinteger(L, room->count);
        lua_setfield(L, -2, "count");
        lua_rawseti(L, -2, ++listed);
    }
    return 1;
}

/* ---- files ---- */

/* target(model): the name of the chip a file is for, whether that is sure, how it was found out. */
static int target_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    bool sure = true;
    char why[200];
    const Target *target = espdl_target(model, &sure, why);
    lua_pushstring(L, target->name);
    lua_pushboolean(L, sure);
    lua_pushstring(L, why);
    return 3;
}

/* self_test(model, { target=, version=, mended=, traits=, accumulators = true: follow them as well }): findings, as core.espdl.verify gives them. */
static int self_test_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    luaL_checktype(L, 2, LUA_TTABLE);
    Chip chip;
    check_chip_options(L, 2, check_target(L, field_text(L, 2, "target", "esp32p4")), &chip);
    Error error;
    error_begin(&error);
    Findings *findings = push_findings(L);
    if (!espdl_self_test(model, &chip, findings, &error)) return raise_error(L, &error);
    if (field_boolean(L, 2, "accumulators", false) && !espdl_test_accumulators(model, &chip, findings, &error))
        return raise_error(L, &error);
    return list_findings(L, findings);
}

/* traits(target, version): what is in force there; target nil: all rows. */
static int traits_lua(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, NULL), *version = luaL_optstring(L, 2, NULL);
    const Target *target = name ? check_target(L, name) : NULL;
    Chip chip = {0};
    Error error;
    error_begin(&error);
    if (!chip_init(&chip, target ? target : target_at(0), version, false, &error)) return raise_error(L, &error);
    lua_newtable(L);
    for (int i = 0, listed = 0; i < TRAIT_COUNT; i++) {
        const ChipTraitRow *row = chip_trait((ChipTrait)i);
        if (target && !chip_has(&chip, (ChipTrait)i)) continue;
        lua_createtable(L, 0, 8);
        set_text(L, "name", row->name);
        set_text(L, "id", row->id);
        set_text(L, "help", row->help);
        set_text(L, "cure", row->cure);
        set_text(L, "since", row->since);
        set_text(L, "before", row->until);
        lua_pushboolean(L, row->defect);
        lua_setfield(L, -2, "defect");
        lua_createtable(L, 3, 0);
        static const struct {
            ChipFamily family;
            const char *name;
        } families[] = {{FAMILY_PLAIN, "c"}, {FAMILY_S3, "esp32s3"}, {FAMILY_P4, "esp32p4"}};
        for (int k = 0, count = 0; k < 3; k++) {
            if (!(row->families & families[k].family)) continue;
            lua_pushstring(L, families[k].name);
            lua_rawseti(L, -2, ++count);
        }
        lua_setfield(L, -2, "chips");
        lua_rawseti(L, -2, ++listed);
    }
    return 1;
}

/* sha256(tensor): of its bytes in order, as hexadecimal digits. */
static int sha256_lua(lua_State *L)
{
    const Tensor *tensor = push_contiguous_tensor(L, 1);
    uint8_t digest[32];
    char text[65];
    sha256((const uint8_t *)tensor->data, tensor_bytes(tensor), digest);
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    lua_pushstring(L, text);
    return 1;
}

static int versions_lua(lua_State *L)
{
    const char *const *versions = chip_versions();
    lua_newtable(L);
    for (int i = 0; versions[i]; i++) {
        lua_pushstring(L, versions[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

void open_chip(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"load", load_lua},         {"lower", lower_lua},   {"want", want_lua},           {"watch", watch_lua},
        {"run", run_lua},           {"reset", reset_lua},   {"ends", ends_lua},           {"value", value_lua},
        {"revision", revision_lua}, {"traits", traits_lua}, {"versions", versions_lua},   {"sha256", sha256_lua},
        {"headroom", headroom_lua}, {"target", target_lua}, {"self_test", self_test_lua}, {NULL, NULL}};
    make_type(L, CHIP_TYPE, NULL, NULL, chip_release);
    luaL_newlib(L, functions);
}
