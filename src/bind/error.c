/* Error objects: what, where, cure; tostring gives one paragraph, .. works on them. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "bind/box.h"
#include "bind/core.h"

/* What a callback raised waits in the registry under this key; the entry exists from the start, so that filling it in cannot fail. */
static const char callback_key = 'c';

static const char *const code_names[] = {"none", "input", "memory", "file", "interrupted", "callback", "internal"};

static void push_error(lua_State *L, const char *code, const char *what, const char *where, const char *cure)
{
    lua_createtable(L, 0, 4);
    lua_pushstring(L, what);
    lua_setfield(L, -2, "what");
    if (where && *where) {
        lua_pushstring(L, where);
        lua_setfield(L, -2, "where");
    }
    if (cure && *cure) {
        lua_pushstring(L, cure);
        lua_setfield(L, -2, "cure");
    }
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
    luaL_setmetatable(L, ERROR_TYPE);
}

int raise_error(lua_State *L, const Error *error)
{
    luaL_checkstack(L, 8, "raising an error");
    if (error->code == ERROR_CALLBACK) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &callback_key);
        lua_pushboolean(L, 0);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &callback_key);
        if (lua_toboolean(L, -1)) return lua_error(L);
        lua_pop(L, 1);
    }
    push_error(L, code_names[error->code], error->what, error->where, error->cure);
    return lua_error(L);
}

int raise_text(lua_State *L, const char *where, const char *cure, const char *format, ...)
{
    Error error;
    error_begin(&error);
    error.code = ERROR_INPUT;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.what, sizeof error.what, format, arguments);
    va_end(arguments);
    if (where) snprintf(error.where, sizeof error.where, "%s", where);
    if (cure) snprintf(error.cure, sizeof error.cure, "%s", cure);
    return raise_error(L, &error);
}

int raise_argument(lua_State *L, int index, const char *wanted)
{
    lua_Debug debug;
    const char *function = "", *got = luaL_typename(L, index);
    if (lua_getstack(L, 0, &debug)) {
        lua_getinfo(L, "nS", &debug);
        if (debug.name) function = debug.name;
        if (strcmp(debug.namewhat, "method") == 0) index--;
        if (strcmp(debug.namewhat, "metamethod") == 0) index = 0;
    }
    if (index == 0) return raise_text(L, NULL, NULL, "%s: %s is wanted", function, wanted);
    return raise_text(L, NULL, NULL, "%s%sargument %d: %s is wanted, this is a %s", function, *function ? ": " : "", index, wanted, got);
}

void bind_raise_interrupted(lua_State *L)
{
    Error error;
    error_begin(&error);
    cancel_check(&error);
    if (error.code == ERROR_NONE) {
        error.code = ERROR_INTERRUPTED;
        snprintf(error.what, sizeof error.what, "interrupted");
    }
    raise_error(L, &error);
}

static int error_text(lua_State *L)
{
    luaL_Buffer buffer;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "where");
    lua_getfield(L, 1, "what");
    lua_getfield(L, 1, "cure");
    const char *where = lua_tostring(L, 2), *what = lua_tostring(L, 3), *cure = lua_tostring(L, 4);
    luaL_buffinit(L, &buffer);
    if (where) {
        luaL_addstring(&buffer, where);
        luaL_addstring(&buffer, ": ");
    }
    luaL_addstring(&buffer, what ? what : "an error");
    if (cure) {
        size_t length = what ? strlen(what) : 0;
        bool list = what && strchr(what, '\n'); /* of lines: the cure stands below them */
        luaL_addstring(&buffer, list ? (what[length - 1] == '\n' ? "" : "\n") : length && strchr(".?!", what[length - 1]) ? " " : "; ");
        luaL_addstring(&buffer, cure);
    }
    luaL_pushresult(&buffer);
    return 1;
}

static int error_concat(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

/* fail{ what=, where=, cure=, code= }: raised from Lua, an object of the same kind. */
static int error_raise(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_setmetatable(L, ERROR_TYPE);
    return lua_error(L);
}

static int is_error(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TTABLE || !lua_getmetatable(L, 1)) {
        lua_pushboolean(L, 0);
        return 1;
    }
    luaL_getmetatable(L, ERROR_TYPE);
    lua_pushboolean(L, lua_rawequal(L, -1, -2));
    return 1;
}

void open_error(lua_State *L)
{
    static const luaL_Reg metamethods[] = {{"__tostring", error_text}, {"__concat", error_concat}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"raise", error_raise}, {"is_error", is_error}, {NULL, NULL}};
    make_type(L, ERROR_TYPE, NULL, metamethods, NULL);
    lua_pushboolean(L, 0);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &callback_key);
    luaL_newlib(L, functions);
}

/* Keep what was raised as it is; a text gets the traceback of the place where it was raised, since that is gone afterwards. */
static int add_traceback(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING) {
        const char *text = lua_tostring(L, 1);
        if (!strstr(text, "\nstack traceback:")) luaL_traceback(L, L, text, 1);
    }
    return 1;
}

static lua_State *active;
static bool failure_noted;

void enter(lua_State *L)
{
    active = L;
    failure_noted = false;
}

lua_State *entered(void)
{
    return active;
}
void note_callback_failure(void)
{
    failure_noted = true;
}

bool callback_failed(Error *error)
{
    if (!failure_noted) return false;
    failure_noted = false;
    fail_as(error, ERROR_CALLBACK, NULL, NULL, "a Lua function raised an error");
    return true;
}

bool door(lua_State *L, lua_CFunction body, void *payload, Error *error)
{
    if (!lua_checkstack(L, 8)) return fail_memory(error, 0);
    lua_State *outer = active; /* the callback may enter the engine again, from a coroutine too */
    bool outer_failure = failure_noted;
    int top = lua_gettop(L);
    lua_pushcfunction(L, add_traceback);
    lua_pushcfunction(L, body);
    lua_pushlightuserdata(L, payload);
    int status = lua_pcall(L, 1, 0, top + 1);
    active = outer;
    failure_noted = outer_failure;
    if (status != LUA_OK) {
        lua_rawsetp(L, LUA_REGISTRYINDEX, &callback_key);
        lua_settop(L, top);
        return fail_as(error, ERROR_CALLBACK, NULL, NULL, "a Lua function raised an error");
    }
    lua_settop(L, top);
    return true;
}
