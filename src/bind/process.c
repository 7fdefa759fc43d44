/* Workers in Lua: fork, messages, ends. */
#include "base/process.h"

#include <string.h>

#include "base/memory.h"
#include "bind/box.h"

#define WORKER_TYPE "espq.worker"

static Channel *check_worker(lua_State *L, int index)
{
    return luaL_checkudata(L, index, WORKER_TYPE);
}

/* fork(): a worker; in the worker itself nil, and its channel to the parent. */
static int fork_lua(lua_State *L)
{
    Channel *channel = lua_newuserdatauv(L, sizeof *channel, 0);
    *channel = (Channel){-1, -1};
    luaL_setmetatable(L, WORKER_TYPE);
    Error error;
    error_begin(&error);
    if (!process_fork(channel, &error)) return raise_error(L, &error);
    if (channel->pid != 0) return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

/* worker:send(text) */
static int send_lua(lua_State *L)
{
    Channel *channel = check_worker(L, 1);
    size_t length;
    check_text(L, 2, "a text");
    const char *text = lua_tolstring(L, 2, &length);
    Error error;
    error_begin(&error);
    if (!process_send(channel, text, length, &error)) return raise_error(L, &error);
    return 0;
}

/* worker:receive(): a text, nil when the other side has ended. */
static int receive_lua(lua_State *L)
{
    Channel *channel = check_worker(L, 1);
    Text *text = push_text(L);
    char *data;
    size_t length;
    Error error;
    error_begin(&error);
    if (!process_receive(channel, &data, &length, &error)) return raise_error(L, &error);
    if (!data) {
        lua_pushnil(L);
        return 1;
    }
    *text = (Text){.data = data, .length = length, .capacity = length + 1}; /* the box frees it, whatever Lua does */
    return finish_text(L, text);
}

/* wait(workers, seconds or nil): the positions of those that have a message or have ended. */
static int wait_lua(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    double seconds = lua_isnoneornil(L, 2) ? -1.0 : check_number(L, 2, "seconds");
    int count = (int)lua_rawlen(L, 1);
    Channel **channels = push_memory(L, sizeof *channels * (size_t)(count + 1));
    bool *ready = push_memory(L, sizeof *ready * (size_t)(count + 1));
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        channels[i] = check_worker(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    Error error;
    error_begin(&error);
    if (!process_wait(channels, count, seconds, ready, &error)) return raise_error(L, &error);
    lua_newtable(L);
    int found = 0;
    for (int i = 0; i < count; i++) {
        if (!ready[i]) continue;
        lua_pushinteger(L, i + 1);
        lua_rawseti(L, -2, ++found);
    }
    return 1;
}

/* worker:finish(): "exit" or "signal", and the number. */
static int finish_lua(lua_State *L)
{
    int code;
    WorkerEnd end = process_finish(check_worker(L, 1), &code);
    lua_pushstring(L, end == WORKER_KILLED ? "signal" : "exit");
    lua_pushinteger(L, code);
    return 2;
}

static int kill_lua(lua_State *L)
{
    process_kill(check_worker(L, 1));
    return 0;
}

static int close_lua(lua_State *L)
{
    process_close(check_worker(L, 1));
    return 0;
}

/* A worker that nobody waits for any more is ended. */
static int worker_release(lua_State *L)
{
    Channel *channel = luaL_checkudata(L, 1, WORKER_TYPE);
    int code;
    if (channel->pid > 0) {
        process_kill(channel);
        process_finish(channel, &code);
    }
    process_close(channel);
    return 0;
}

static int redirect_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    if (!process_redirect(check_text(L, 1, "a path"), &error)) return raise_error(L, &error);
    return 0;
}

static int exit_lua(lua_State *L)
{
    process_exit((int)check_integer(L, 1, "an exit code"));
    return 0;
}

void open_process(lua_State *L)
{
    static const luaL_Reg methods[] = {{"send", send_lua}, {"receive", receive_lua}, {"finish", finish_lua},
                                       {"kill", kill_lua}, {"close", close_lua},     {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"fork", fork_lua}, {"wait", wait_lua}, {"redirect", redirect_lua}, {"exit", exit_lua}, {NULL, NULL}};
    make_type(L, WORKER_TYPE, methods, NULL, worker_release);
    luaL_newlib(L, functions);
}
