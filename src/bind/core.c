/* espq.core: what the Lua files of espq stand on. Users see none of it. */
#include "bind/core.h"

#include "base/cancel.h"
#include "base/file.h"
#include "base/progress.h"
#include "bind/box.h"
#include "bind/fields.h"
#include "graph/operator.h"
#include "observe/observer.h"

/* nearest(word, list of names): the nearest name, or nil. */
static int nearest_lua(lua_State *L)
{
    const char *word = check_text(L, 1, "a word");
    luaL_checktype(L, 2, LUA_TTABLE);
    int count = (int)lua_rawlen(L, 2);
    const char **names = push_memory(L, sizeof *names * (size_t)count);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        names[i] = check_text(L, lua_gettop(L), "a list of names");
        lua_pop(L, 1);
    }
    int nearest = text_nearest(word, names, count);
    if (nearest < 0)
        lua_pushnil(L);
    else
        lua_pushstring(L, names[nearest]);
    return 1;
}

static int matches_lua(lua_State *L)
{
    lua_pushboolean(L, text_matches(check_text(L, 1, "a pattern"), check_text(L, 2, "a text")));
    return 1;
}

static int verbose_lua(lua_State *L)
{
    if (!lua_isnoneornil(L, 1)) progress_level = (int)check_integer(L, 1, "0, 1 or 2");
    lua_pushinteger(L, progress_level);
    return 1;
}

static int note_lua(lua_State *L)
{
    progress_note("%s", check_text(L, 1, "a text"));
    return 0;
}

static int progress_lua(lua_State *L)
{
    if (lua_isnoneornil(L, 1))
        progress_end();
    else if (lua_type(L, 1) == LUA_TNUMBER)
        progress_step(lua_tointeger(L, 1));
    else
        progress_begin(check_text(L, 1, "a stage"), luaL_optinteger(L, 2, 0));
    return 0;
}

static int number_lua(lua_State *L)
{
    char text[32];
    text_from_double(text, check_number(L, 1, "a number"));
    lua_pushstring(L, text);
    return 1;
}

/* write(path, text): whole or not at all. */
static int write_lua(lua_State *L)
{
    size_t length;
    const char *path = check_text(L, 1, "a path");
    check_text(L, 2, "a text");
    const char *text = lua_tolstring(L, 2, &length);
    Error error;
    error_begin(&error);
    if (!file_write(path, text, length, &error)) return raise_error(L, &error);
    return 0;
}

static int exists_lua(lua_State *L)
{
    lua_pushboolean(L, file_exists(check_text(L, 1, "a path")));
    return 1;
}

static int same_file_lua(lua_State *L)
{
    lua_pushboolean(L, file_same(check_text(L, 1, "a path"), check_text(L, 2, "a path")));
    return 1;
}

static int check_writable_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    if (!file_check_writable(check_text(L, 1, "a path"), &error)) return raise_error(L, &error);
    return 0;
}

static int check_cancel_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    if (!cancel_check(&error)) return raise_error(L, &error);
    return 0;
}

/* operators(): every row and what it has; a missing column is a fact. */
static int operators_lua(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; operator_at(i); i++) {
        const Operator *op = operator_at(i);
        lua_createtable(L, 0, 13);
        lua_pushstring(L, op->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, op->help);
        lua_setfield(L, -2, "help");
        set_boolean(L, "run", op->run != NULL);
        set_boolean(L, "infer", op->infer != NULL);
        set_boolean(L, "quantizable", (op->flags & OPERATOR_QUANTIZABLE) != 0);
        set_boolean(L, "computing", (op->flags & OPERATOR_COMPUTING) != 0);
        set_boolean(L, "passive", (op->flags & OPERATOR_PASSIVE) != 0);
        set_boolean(L, "table", op->table != NULL);
        set_boolean(L, "gradient", op->gradient != NULL);
        set_boolean(L, "s8", (op->module & MODULE_S8) != 0);
        set_boolean(L, "s16", (op->module & MODULE_S16) != 0);
        set_boolean(L, "f32", (op->module & MODULE_F32) != 0);
        lua_pushstring(L, op->module_cure);
        lua_setfield(L, -2, "cure");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int nearest_operator_lua(lua_State *L)
{
    lua_pushstring(L, operator_nearest(check_text(L, 1, "a type")));
    return 1;
}

static int observers_lua(lua_State *L)
{
    lua_newtable(L);
    for (int i = 0; observer_row_at(i); i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, observer_row_at(i)->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, observer_row_at(i)->help);
        lua_setfield(L, -2, "help");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

void open_base(lua_State *L)
{
    static const luaL_Reg functions[] = {{"nearest", nearest_lua},
                                         {"matches", matches_lua},
                                         {"verbose", verbose_lua},
                                         {"note", note_lua},
                                         {"progress", progress_lua},
                                         {"number", number_lua},
                                         {"write", write_lua},
                                         {"exists", exists_lua},
                                         {"same_file", same_file_lua},
                                         {"check_writable", check_writable_lua},
                                         {"check_cancel", check_cancel_lua},
                                         {"operators", operators_lua},
                                         {"nearest_operator", nearest_operator_lua},
                                         {"observers", observers_lua},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
}

int luaopen_espq_core(lua_State *L)
{
    static const struct {
        const char *name;
        void (*open)(lua_State *);
    } parts[] = {{"error", open_error},       {"tensor", open_tensor},   {"setting", open_setting}, {"graph", open_graph},
                 {"executor", open_executor}, {"road", open_road},       {"analyse", open_analyse}, {"espdl", open_espdl},
                 {"compare", open_compare},   {"chip", open_chip},       {"custom", open_custom},   {"base", open_base},
                 {"system", open_system},     {"process", open_process}, {"train", open_train}};
    /* lua5.4 starts in generational mode, in which a tensor is old before it can die: steps by its size (account) would never free one.
     * Measured: 400 temporaries of 4 MB held 1.7 GB so, and hold 50 MB in incremental mode. */
    lua_gc(L, LUA_GCINC, 0, 0, 0);
    enter(L);
    lua_createtable(L, 0, (int)(sizeof parts / sizeof parts[0]));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        parts[i].open(L);
        lua_setfield(L, -2, parts[i].name);
    }
    return 1;
}
