/* Batches from a Lua walk. The engine asks, the door is opened, Lua answers with tensors. */
#include "bind/batches.h"

#include <string.h>

#include "bind/tensor.h"

#define BATCHES_TYPE "espq.batches"

typedef struct LuaBatches {
    Batches batches;
    lua_State *L;
    Tensor *staged[ESPQ_MAX_INPUTS]; /* what the last call of Lua gave, until the engine takes it */
    bool done;
} LuaBatches;

static void release_staged(LuaBatches *lua)
{
    for (int i = 0; i < lua->batches.input_count; i++) {
        tensor_release(lua->staged[i]);
        lua->staged[i] = NULL;
    }
}

static int batches_release(lua_State *L)
{
    release_staged(luaL_checkudata(L, 1, BATCHES_TYPE));
    return 0;
}

static int begin_body(lua_State *L)
{
    LuaBatches *lua = lua_touserdata(L, 1);
    push_remembered(L, lua);
    lua_getiuservalue(L, -1, 1);
    lua_call(L, 0, 1);
    lua_setiuservalue(L, -2, 2);
    return 0;
}

static bool begin(void *context, Error *error)
{
    LuaBatches *lua = context;
    release_staged(lua);
    return door(lua->L, begin_body, lua, error);
}

static int next_body(lua_State *L)
{
    LuaBatches *lua = lua_touserdata(L, 1);
    push_remembered(L, lua);
    lua_getiuservalue(L, -1, 2);
    lua_call(L, 0, 1);
    lua->done = lua_isnil(L, -1);
    if (lua->done) return 0;
    luaL_checktype(L, -1, LUA_TTABLE);
    Error error;
    error_begin(&error);
    for (int i = 0; i < lua->batches.input_count; i++) {
        lua_rawgeti(L, -1, i + 1);
        Tensor *tensor = check_tensor(L, lua_gettop(L));
        lua->staged[i] = tensor_contiguous(tensor, &error); /* exec/batches.c judges shape, type and numbers */
        if (!lua->staged[i]) return raise_error(L, &error);
        lua_pop(L, 1);
    }
    return 0;
}

static bool next(void *context, Tensor **inputs, bool *done, Error *error)
{
    LuaBatches *lua = context;
    release_staged(lua);
    if (!door(lua->L, next_body, lua, error)) return false;
    *done = lua->done;
    if (*done) return true;
    memcpy(inputs, lua->staged, sizeof *inputs * (size_t)lua->batches.input_count);
    memset(lua->staged, 0, sizeof lua->staged);
    return true;
}

Batches *push_batches(lua_State *L, int index, const Graph *graph)
{
    index = lua_absindex(L, index);
    if (lua_isnil(L, index)) {
        lua_pushnil(L);
        return NULL;
    }
    luaL_checktype(L, index, LUA_TFUNCTION);
    if (graph->input_count > ESPQ_MAX_INPUTS)
        raise_text(L, graph->name, NULL, "the graph has %d inputs, more than %d", graph->input_count, ESPQ_MAX_INPUTS);
    LuaBatches *lua = lua_newuserdatauv(L, sizeof *lua, 2);
    memset(lua, 0, sizeof *lua);
    luaL_setmetatable(L, BATCHES_TYPE);
    lua->L = L;
    lua->batches = (Batches){lua, graph->input_count, begin, next};
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, 1);
    remember(L, -1, lua);
    return &lua->batches;
}

void open_batches(lua_State *L)
{
    make_type(L, BATCHES_TYPE, NULL, NULL, batches_release);
}
