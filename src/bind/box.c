/* Boxes, arguments, the door for callbacks, the collector's share. */
#include "bind/box.h"

#include <string.h>

#define TEXT_TYPE "espq.text"

Box *push_box(lua_State *L, const char *type)
{
    Box *box = lua_newuserdatauv(L, sizeof *box, 2);
    box->object = NULL;
    luaL_setmetatable(L, type);
    return box;
}

void *test_box(lua_State *L, int index, const char *type)
{
    Box *box = luaL_testudata(L, index, type);
    return box ? box->object : NULL;
}

void *check_box(lua_State *L, int index, const char *type, const char *what)
{
    Box *box = luaL_testudata(L, index, type);
    if (!box) raise_argument(L, index, what);
    if (!box->object) raise_text(L, NULL, NULL, "this %s is closed", what);
    return box->object;
}

void make_type(lua_State *L, const char *type, const luaL_Reg *methods, const luaL_Reg *metamethods, lua_CFunction release)
{
    luaL_newmetatable(L, type);
    if (metamethods) luaL_setfuncs(L, metamethods, 0);
    lua_newtable(L);
    if (methods) luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "methods");
    if (lua_getfield(L, -2, "__index") == LUA_TNIL) {
        lua_pushvalue(L, -2);
        lua_setfield(L, -4, "__index");
    }
    lua_pop(L, 2);
    if (release) {
        lua_pushcfunction(L, release);
        lua_setfield(L, -2, "__gc");
        lua_pushcfunction(L, release);
        lua_setfield(L, -2, "__close");
    }
    lua_pop(L, 1);
}

static int text_release(lua_State *L)
{
    text_free(lua_touserdata(L, 1));
    return 0;
}

Text *push_text(lua_State *L)
{
    Text *text = lua_newuserdatauv(L, sizeof *text, 0);
    memset(text, 0, sizeof *text);
    if (luaL_newmetatable(L, TEXT_TYPE)) {
        lua_pushcfunction(L, text_release);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return text;
}

int finish_text(lua_State *L, Text *text)
{
    if (text->failed) {
        Error error;
        error_begin(&error);
        fail_memory(&error, text->capacity);
        return raise_error(L, &error);
    }
    lua_pushlstring(L, text->data ? text->data : "", text->length);
    text_free(text);
    memset(text, 0, sizeof *text);
    return 1;
}

void *push_memory(lua_State *L, size_t bytes)
{
    void *memory = lua_newuserdatauv(L, bytes ? bytes : 1, 0);
    memset(memory, 0, bytes ? bytes : 1);
    return memory;
}

int64_t check_integer(lua_State *L, int index, const char *what)
{
    int is_integer;
    lua_Integer value = lua_tointegerx(L, index, &is_integer);
    if (!is_integer || lua_type(L, index) != LUA_TNUMBER) raise_argument(L, index, what);
    return value;
}

double check_number(lua_State *L, int index, const char *what)
{
    if (lua_type(L, index) != LUA_TNUMBER) raise_argument(L, index, what);
    return lua_tonumber(L, index);
}

const char *check_text(lua_State *L, int index, const char *what)
{
    if (lua_type(L, index) != LUA_TSTRING) raise_argument(L, index, what);
    return lua_tostring(L, index);
}

int check_integers(lua_State *L, int index, int64_t *out, int capacity, const char *what)
{
    if (lua_type(L, index) == LUA_TNUMBER) {
        out[0] = check_integer(L, index, what);
        return 1;
    }
    if (lua_type(L, index) != LUA_TTABLE) raise_argument(L, index, what);
    lua_Unsigned count = lua_rawlen(L, index);
    if (count > (lua_Unsigned)capacity)
        raise_text(L, NULL, NULL, "%s: at most %d numbers, these are %llu", what, capacity, (unsigned long long)count);
    for (lua_Unsigned i = 0; i < count; i++) {
        int is_integer;
        lua_rawgeti(L, index, (lua_Integer)i + 1);
        out[i] = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer)
            raise_text(L, NULL, NULL, "%s: item %llu is no whole number but %s", what, (unsigned long long)i + 1, luaL_typename(L, -1));
        lua_pop(L, 1);
    }
    return (int)count;
}

Shape check_shape(lua_State *L, int index, const char *what)
{
    Shape shape = {0};
    shape.rank = check_integers(L, index, shape.dims, ESPQ_MAX_RANK, what);
    for (int i = 0; i < shape.rank; i++)
        if (shape.dims[i] < 0) raise_text(L, NULL, NULL, "%s: size %lld of axis %d is negative", what, (long long)shape.dims[i], i);
    return shape;
}

Dtype check_dtype(lua_State *L, int index, Dtype otherwise)
{
    if (lua_isnoneornil(L, index)) return otherwise;
    const char *name = check_text(L, index, "the name of a dtype");
    Dtype dtype = dtype_from_name(name);
    if (dtype == DTYPE_NONE) {
        const char *names[DTYPE_COUNT];
        for (int i = 1; i < DTYPE_COUNT; i++)
            names[i - 1] = dtype_rows[i].name;
        int nearest = text_nearest(name, names, DTYPE_COUNT - 1);
        raise_text(L, NULL, NULL, "unknown dtype '%s'%s%s%s", name, nearest >= 0 ? " (did you mean '" : "",
                   nearest >= 0 ? names[nearest] : "", nearest >= 0 ? "'?)" : "");
    }
    return dtype;
}

void check_option_names(lua_State *L, int index, const char *const *names)
{
    int count = 0;
    if (!lua_istable(L, index)) return;
    while (names[count])
        count++;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING) raise_text(L, NULL, NULL, "options have names: { %s = … }", names[0]);
        const char *given = lua_tostring(L, -2);
        int nearest = text_nearest(given, names, count);
        if (nearest >= 0 && strcmp(names[nearest], given) == 0) continue;
        raise_text(L, NULL, NULL, "unknown option '%s'%s%s%s", given, nearest < 0 ? "; one that is known is '" : " (did you mean '",
                   names[nearest < 0 ? 0 : nearest], nearest < 0 ? "'" : "'?)");
    }
}

bool field_boolean(lua_State *L, int table, const char *name, bool otherwise)
{
    bool value = lua_getfield(L, table, name) == LUA_TNIL ? otherwise : lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

int64_t field_integer(lua_State *L, int table, const char *name, int64_t otherwise)
{
    int64_t value = otherwise;
    if (lua_getfield(L, table, name) != LUA_TNIL) {
        int is_integer;
        value = lua_tointegerx(L, -1, &is_integer);
        if (!is_integer) raise_text(L, NULL, NULL, "field '%s': a whole number is wanted, this is a %s", name, luaL_typename(L, -1));
    }
    lua_pop(L, 1);
    return value;
}

double field_number(lua_State *L, int table, const char *name, double otherwise)
{
    double value = otherwise;
    if (lua_getfield(L, table, name) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TNUMBER)
            raise_text(L, NULL, NULL, "field '%s': a number is wanted, this is a %s", name, luaL_typename(L, -1));
        value = lua_tonumber(L, -1);
    }
    lua_pop(L, 1);
    return value;
}

const char *field_text(lua_State *L, int table, const char *name, const char *otherwise)
{
    const char *value = otherwise;
    if (lua_getfield(L, table, name) != LUA_TNIL) {
        if (lua_type(L, -1) != LUA_TSTRING)
            raise_text(L, NULL, NULL, "field '%s': a text is wanted, this is a %s", name, luaL_typename(L, -1));
        value = lua_tostring(L, -1);
    }
    lua_pop(L, 1);
    return value;
}

static int shape_to_text(lua_State *L)
{
    luaL_Buffer text;
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_buffinit(L, &text);
    luaL_addchar(&text, '[');
    for (lua_Integer i = 1, rank = (lua_Integer)lua_rawlen(L, 1); i <= rank; i++) {
        if (i > 1) luaL_addstring(&text, ", ");
        lua_rawgeti(L, 1, i);
        luaL_tolstring(L, -1, NULL);
        lua_remove(L, -2);
        luaL_addvalue(&text);
    }
    luaL_addchar(&text, ']');
    luaL_pushresult(&text);
    return 1;
}

void push_shape(lua_State *L, const Shape *shape)
{
    lua_createtable(L, shape->rank, 0);
    for (int i = 0; i < shape->rank; i++) {
        lua_pushinteger(L, shape->dims[i]);
        lua_rawseti(L, -2, i + 1);
    }
    if (luaL_newmetatable(L, "espq.shape")) {
        lua_pushcfunction(L, shape_to_text);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setmetatable(L, -2);
}

/* Lua sees 16 bytes where a tensor has a megabyte: its collector is stepped by what was really made. */
void account(lua_State *L, size_t bytes)
{
    static size_t pending;
    pending += bytes;
    if (pending < 4096) return;
    size_t kilobytes = pending / 1024;
    pending = 0;
    lua_gc(L, LUA_GCSTEP, (int)(kilobytes > 1000000 ? 1000000 : kilobytes));
}

static const char links_key = 'l';

static void push_links(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &links_key) == LUA_TTABLE) return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &links_key);
}

void remember(lua_State *L, int index, const void *pointer)
{
    index = lua_absindex(L, index);
    push_links(L);
    lua_pushvalue(L, index);
    lua_rawsetp(L, -2, pointer);
    lua_pop(L, 1);
}

void push_remembered(lua_State *L, const void *pointer)
{
    push_links(L);
    lua_rawgetp(L, -1, pointer);
    lua_remove(L, -2);
}

int keep(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

void push_kept(lua_State *L, int reference)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, reference);
}

void drop(lua_State *L, int reference)
{
    luaL_unref(L, LUA_REGISTRYINDEX, reference);
}
