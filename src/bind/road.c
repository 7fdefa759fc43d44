/* The road in Lua: load, quantize, export, the list of passes, passes of scripts. */
#include "road/road.h"

#include <string.h>

#include "base/memory.h"
#include "bind/batches.h"
#include "bind/graph.h"
#include "bind/memo.h"
#include "bind/setting.h"
#include "bind/tensor.h"
#include "road/native.h"
#include "simplify/simplify.h"

#define OBSERVED_TYPE "espq.observed"

/* Fields setting, target, bits, hi_precision, observed, check of the table at `table`. */
static RoadOptions check_options(lua_State *L, int table)
{
    luaL_checktype(L, table, LUA_TTABLE);
    RoadOptions options = {0};
    lua_getfield(L, table, "setting");
    options.setting = check_setting(L, lua_gettop(L));
    lua_pop(L, 1); /* the table keeps it */
    const char *name = field_text(L, table, "target", "esp32p4");
    options.target = target_find(name);
    if (!options.target) {
        const char *nearest = target_nearest(name);
        raise_text(L, NULL, "`espq targets` lists them all", "unknown target '%s'%s%s%s", name, nearest ? " (did you mean '" : "",
                   nearest ? nearest : "", nearest ? "'?)" : "");
    }
    options.bits = (int)field_integer(L, table, "bits", 8);
    options.hi_precision = field_boolean(L, table, "hi_precision", false);
    if (!target_platform(options.target, options.bits, options.hi_precision))
        raise_text(L, NULL, "num_of_bits is 8 or 16 (hi_precision: 16)", "target %s has no width of %d bits%s", options.target->name,
                   options.bits, options.hi_precision ? " with hi_precision" : "");
    options.check = field_boolean(L, table, "check", false);
    if (lua_getfield(L, table, "observed") != LUA_TNIL)
        options.observed = check_box(L, lua_gettop(L), OBSERVED_TYPE, "what a calibration observed");
    lua_pop(L, 1); /* the table keeps it */
    options.memo = field_memo(L, table);
    return options;
}

/* ---- stopping in the middle, for dump --after ---- */

static bool stop_after(void *context, const Pass *pass, Graph *graph, bool *stop, Error *error)
{
    (void)graph;
    (void)error;
    const char *name = context;
    *stop = strcmp(pass->name, name) == 0;
    return true;
}

static void check_stop(lua_State *L, int table, RoadOptions *options)
{
    const char *name = field_text(L, table, "after", NULL);
    if (!name) return;
    options->after = stop_after;
    options->after_context = (void *)name;
}

/* load(path, {{name=, shape=}, …}, options) */
static int road_load_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    RoadOptions options = check_options(L, 3);
    check_stop(L, 3, &options);
    OnnxOptions onnx = {0};
    if (lua_istable(L, 2)) {
        onnx.input_shape_count = (int)lua_rawlen(L, 2);
        InputShape *shapes = push_memory(L, sizeof *shapes * (size_t)onnx.input_shape_count);
        onnx.input_shapes = shapes;
        for (int i = 0; i < onnx.input_shape_count; i++) {
            lua_rawgeti(L, 2, i + 1);
            shapes[i].name = field_text(L, -1, "name", NULL);
            lua_getfield(L, -1, "shape");
            shapes[i].shape = check_shape(L, lua_gettop(L), "input_shape");
            lua_pop(L, 2);
        }
    }
    enter(L);
    Error error;
    error_begin(&error);
    GraphHolder *holder = push_graph(L);
    holder->graph = road_load(path, &onnx, &options, &error);
    if (!holder->graph) return raise_error(L, &error);
    account(L, holder->graph->arena.bytes);
    return 1;
}

/* quantize(graph, options): in place; when a pass fails the graph is what it was before. */
static int road_quantize_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    RoadOptions options = check_options(L, 2);
    check_stop(L, 2, &options);
    lua_getfield(L, 2, "walk");
    options.batches = push_batches(L, lua_gettop(L), holder->graph);
    enter(L);
    Error error;
    error_begin(&error);
    GraphHolder *backup = push_graph(L);
    backup->graph = graph_copy(holder->graph, &error);
    if (!backup->graph) return raise_error(L, &error);
    bool done = road_quantize(holder->graph, &options, &error);
    holder->revision++;
    if (callback_failed(&error)) done = false;
    if (!done) {
        Error restoring;
        error_begin(&restoring);
        if (holder_restore(holder, backup->graph, &restoring)) backup->graph = NULL;
        return raise_error(L, &error);
    }
    return 0;
}

/* ---- export ---- */

typedef struct TestList {
    TestValue *values;
    int count;
} TestList;

/* {{name=, tensor=}, …} of field `name`; what is made for them stays on the stack. */
static TestList check_tests(lua_State *L, int table, const char *name)
{
    TestList list = {NULL, 0};
    if (lua_getfield(L, table, name) == LUA_TTABLE) {
        int source = lua_gettop(L);
        list.count = (int)lua_rawlen(L, source);
        list.values = push_memory(L, sizeof *list.values * (size_t)list.count);
        luaL_checkstack(L, list.count + 8, "test values");
        for (int i = 0; i < list.count; i++) {
            lua_rawgeti(L, source, i + 1);
            int item = lua_gettop(L);
            list.values[i].name = field_text(L, item, "name", "");
            lua_getfield(L, item, "tensor");
            list.values[i].tensor = push_contiguous_tensor(L, lua_gettop(L));
            lua_replace(L, item);
            lua_settop(L, item);
        }
    }
    return list;
}

static const char *const *check_metadata(lua_State *L, int table, int *pairs)
{
    *pairs = 0;
    if (lua_getfield(L, table, "metadata") != LUA_TTABLE) return NULL;
    int source = lua_gettop(L), count = (int)lua_rawlen(L, source);
    const char **texts = push_memory(L, sizeof *texts * (size_t)count);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, source, i + 1);
        texts[i] = check_text(L, lua_gettop(L), "metadata of texts");
        lua_pop(L, 1);
    }
    *pairs = count / 2;
    return texts;
}

/* export(graph, options): those of check_options, and path, export_config, inputs, outputs, metadata, model_version, int16_lut_step, strict,
 * simulated_tests.
 * Gives the warnings as text. */
static int road_export_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    RoadOptions options = check_options(L, 2);
    ExportOptions wanted = {
        .path = field_text(L, 2, "path", NULL),
        .export_config = field_boolean(L, 2, "export_config", true),
        .model_version = field_integer(L, 2, "model_version", 0),
        .int16_lut_step = field_integer(L, 2, "int16_lut_step", 256),
        .strict = field_boolean(L, 2, "strict", true),
        .simulated_tests = field_boolean(L, 2, "simulated_tests", false),
    };
    if (!wanted.path) return raise_text(L, NULL, NULL, "export: the path is missing");
    TestList inputs = check_tests(L, 2, "inputs"), outputs = check_tests(L, 2, "outputs");
    wanted.test_inputs = inputs.values;
    wanted.test_input_count = inputs.count;
    wanted.test_outputs = outputs.values;
    wanted.test_output_count = outputs.count;
    wanted.metadata = check_metadata(L, 2, &wanted.metadata_count);
    Error error;
    error_begin(&error);
    Text *warnings = push_text(L);
    if (!road_export(holder->graph, &options, &wanted, warnings, &error)) return raise_error(L, &error);
    return finish_text(L, warnings);
}

/* ---- passes ---- */

static int road_passes(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; road_pass_at(i); i++) {
        const Pass *pass = road_pass_at(i);
        lua_createtable(L, 0, 3);
        lua_pushstring(L, pass->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, pass->help);
        lua_setfield(L, -2, "help");
        lua_pushstring(L, pass->when_text);
        lua_setfield(L, -2, "when");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int road_rewrites(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; rewrites[i].name; i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, rewrites[i].name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, rewrites[i].help);
        lua_setfield(L, -2, "help");
        lua_pushboolean(L, rewrites[i].extra);
        lua_setfield(L, -2, "extra");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

typedef struct PassCall {
    Graph *graph;
    int function;
} PassCall;

static int pass_body(lua_State *L)
{
    PassCall *call = lua_touserdata(L, 1);
    push_kept(L, call->function);
    push_current_graph(L, call->graph);
    lua_call(L, 1, 0);
    return 0;
}

static bool run_script_pass(Graph *graph, PassContext *context, Error *error)
{
    PassCall call = {graph, (int)(intptr_t)context->lua};
    return door(entered(), pass_body, &call, error);
}

/* pass(name, help, after, function): the row and its texts live until the program ends, as all rows do. */
static int road_pass_lua(lua_State *L)
{
    const char *texts[3] = {check_text(L, 1, "a name"), check_text(L, 2, "a text"), check_text(L, 3, "a pass's name")};
    luaL_checktype(L, 4, LUA_TFUNCTION);
    for (int i = 0; i < 2; i++)
        keep(L, i + 1); /* strings of Lua stay where they are while something refers to them */
    Pass pass = {.name = texts[0], .help = texts[1], .when_text = "script", .run = run_script_pass};
    Error error;
    error_begin(&error);
    int function = keep(L, 4);
    if (!road_insert(&pass, texts[2], (void *)(intptr_t)function, &error)) {
        drop(L, function);
        return raise_error(L, &error);
    }
    return 0;
}

/* apply(graph, pass, options): one pass alone. */
static int road_apply_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *name = check_text(L, 2, "a pass's name");
    RoadOptions options = check_options(L, 3);
    lua_getfield(L, 3, "walk");
    options.batches = push_batches(L, lua_gettop(L), holder->graph);
    enter(L);
    Error error;
    error_begin(&error);
    GraphHolder *backup = push_graph(L);
    backup->graph = graph_copy(holder->graph, &error);
    if (!backup->graph) return raise_error(L, &error);
    bool done = road_apply(holder->graph, name, &options, &error);
    holder->revision++;
    if (callback_failed(&error)) done = false;
    if (!done) {
        Error restoring;
        error_begin(&restoring);
        if (holder_restore(holder, backup->graph, &restoring)) backup->graph = NULL;
        return raise_error(L, &error);
    }
    return 0;
}

/* part(graph, first or nil, end, options): the rows from first up to end, in place; a graph that fails on the way is of no use any more. */
static int road_part_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *first = lua_isnil(L, 2) ? NULL : check_text(L, 2, "a pass's name"), *end = check_text(L, 3, "a pass's name");
    RoadOptions options = check_options(L, 4);
    lua_getfield(L, 4, "walk");
    options.batches = push_batches(L, lua_gettop(L), holder->graph);
    enter(L);
    Error error;
    error_begin(&error);
    bool done = road_quantize_part(holder->graph, first, end, &options, &error);
    holder->revision++;
    if (callback_failed(&error)) done = false;
    return done ? 0 : raise_error(L, &error);
}

/* digest(graph, floats): the name of its contents, or of what float runs see of them. */
static int road_digest_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    char hex[41];
    Error error;
    error_begin(&error);
    bool done = lua_toboolean(L, 2) ? road_float_digest(holder->graph, hex, &error) : road_digest(holder->graph, hex, &error);
    if (!done) return raise_error(L, &error);
    lua_pushstring(L, hex);
    return 1;
}

/* observed({method, …}): room for what one calibration sees for all of these methods. */
static int observed_lua(lua_State *L)
{
    const char *methods[OBSERVED_METHODS];
    int count = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    for (int i = 1; lua_rawgeti(L, 1, i) != LUA_TNIL && count < OBSERVED_METHODS; i++) {
        methods[count++] = check_text(L, -1, "a method's name");
        lua_pop(L, 1); /* the table keeps it */
    }
    Error error;
    error_begin(&error);
    Box *box = push_box(L, OBSERVED_TYPE);
    box->object = observed_new(methods, count, &error);
    return box->object ? 1 : raise_error(L, &error);
}

static int observed_release(lua_State *L)
{
    Box *box = lua_touserdata(L, 1);
    observed_free(box->object);
    box->object = NULL;
    return 0;
}

/* save_native(graph, path, about, notes) */
static int save_native_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *path = check_text(L, 2, "a path"), *about = check_text(L, 3, "a text");
    Error error;
    error_begin(&error);
    return native_save(holder->graph, about, lua_toboolean(L, 4), path, &error) ? 0 : raise_error(L, &error);
}

/* load_native(path): graph, about. */
static int load_native_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    Error error;
    error_begin(&error);
    GraphHolder *holder = push_graph(L);
    Text *about = push_text(L);
    if (!(holder->graph = native_load(path, about, &error))) return raise_error(L, &error);
    account(L, holder->graph->arena.bytes);
    finish_text(L, about);
    lua_remove(L, -2); /* the text's box */
    return 2;
}

static int simplify_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    RoadOptions options = check_options(L, 2);
    enter(L);
    Error error;
    error_begin(&error);
    bool done = road_simplify(holder->graph, &options, &error);
    holder->revision++;
    if (callback_failed(&error)) done = false;
    return done ? 0 : raise_error(L, &error);
}

/* platform(target, bits, hi_precision): { id, name }; platform("float"). */
static int platform_lua(lua_State *L)
{
    const char *name = check_text(L, 1, "a target's name");
    const Platform *platform = NULL;
    if (strcmp(name, "float") == 0 || strcmp(name, "fp32") == 0) {
        platform = &platform_float;
    } else {
        lua_settop(L, 3);
        const Target *target = target_find(name);
        if (!target) {
            const char *nearest = target_nearest(name);
            return raise_text(L, NULL, "`espq targets` lists them all", "platform: unknown target '%s'%s%s%s", name,
                              nearest ? " (did you mean '" : "", nearest ? nearest : "", nearest ? "'?)" : "");
        }
        int64_t bits = lua_isnil(L, 2) ? 8 : check_integer(L, 2, "a width in bits");
        platform = target_platform(target, (int)bits, lua_toboolean(L, 3));
        if (!platform)
            return raise_text(L, NULL, NULL, "platform: target %s has no width of %lld bits; 8 and 16 can be had", target->name,
                              (long long)bits);
    }
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, platform->id);
    lua_setfield(L, -2, "id");
    lua_pushstring(L, platform->name);
    lua_setfield(L, -2, "name");
    return 1;
}

static int targets_lua(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; target_at(i); i++) {
        const Target *target = target_at(i);
        lua_createtable(L, 0, 3);
        lua_pushstring(L, target->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, target->help);
        lua_setfield(L, -2, "help");
        lua_pushboolean(L, target->platforms[0] && target->platforms[0]->per_channel);
        lua_setfield(L, -2, "per_channel");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

void open_road(lua_State *L)
{
    static const luaL_Reg functions[] = {{"load", road_load_lua},
                                         {"quantize", road_quantize_lua},
                                         {"export", road_export_lua},
                                         {"passes", road_passes},
                                         {"rewrites", road_rewrites},
                                         {"pass", road_pass_lua},
                                         {"apply", road_apply_lua},
                                         {"part", road_part_lua},
                                         {"digest", road_digest_lua},
                                         {"observed", observed_lua},
                                         {"memo", memo_lua},
                                         {"save_native", save_native_lua},
                                         {"load_native", load_native_lua},
                                         {"simplify", simplify_lua},
                                         {"platform", platform_lua},
                                         {"targets", targets_lua},
                                         {NULL, NULL}};
    make_memo_type(L);
    make_type(L, OBSERVED_TYPE, NULL, NULL, observed_release);
    luaL_newlib(L, functions);
}
