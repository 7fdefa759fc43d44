/* The program: arguments, one Lua state, exit code. Everything it does besides is Lua (lua/espq/cli). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "base/cancel.h"
#include "base/file.h"
#include "base/memory.h"
#include "bind/core.h"
#include "bind/embedded.h"

#ifdef ESPQ_WITH_LFS
int luaopen_lfs(lua_State *L);
#endif

enum { EXIT_DONE = 0, EXIT_WORK_FAILED = 1, EXIT_INTERRUPTED = 130 };

static lua_State *interrupted_state;

static void *allocate(void *context, void *block, size_t old_size, size_t new_size)
{
    (void)context;
    (void)old_size;
    if (new_size == 0) {
        memory_free(block);
        return NULL;
    }
    return memory_resize(block, new_size);
}

static void stop_script(lua_State *L, lua_Debug *debug)
{
    (void)debug;
    lua_sethook(L, NULL, 0, 0);
    bind_raise_interrupted(L);
}

/* Ends the program by the signal, and leaves nothing half-written behind. */
static void on_end(int number)
{
    file_remove_temporaries();
    signal(number, SIG_DFL);
    kill(getpid(), number);
}

/* Lua code stops at its next instruction, the engine between nodes and batches. A second Ctrl-C ends the program at once. */
static void on_interrupt(int number)
{
    int saved = errno;
    signal(number, on_end);
    cancel_request();
    if (interrupted_state) lua_sethook(interrupted_state, stop_script, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
    errno = saved;
}

static int load_embedded(lua_State *L)
{
    const EmbeddedFile *file = lua_touserdata(L, lua_upvalueindex(1));
    if (luaL_loadbufferx(L, (const char *)file->text, file->length, file->chunk, "t") != LUA_OK) return lua_error(L);
    lua_pushvalue(L, 1);
    lua_pushstring(L, file->chunk);
    lua_call(L, 2, 1);
    return 1;
}

static int set_up(lua_State *L)
{
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    for (const EmbeddedFile *file = embedded_files; file->module; file++) {
        lua_pushlightuserdata(L, (void *)file);
        lua_pushcclosure(L, load_embedded, 1);
        lua_setfield(L, -2, file->module);
    }
    lua_pushcfunction(L, luaopen_espq_core);
    lua_setfield(L, -2, "espq.core");
#ifdef ESPQ_WITH_LFS
    lua_pushcfunction(L, luaopen_lfs);
    lua_setfield(L, -2, "lfs");
#endif
    lua_pop(L, 1);
    return 0;
}

/* require("espq.cli")(argv): its result is the exit code. */
static int run(lua_State *L)
{
    int count = (int)lua_tointeger(L, 1);
    char **arguments = lua_touserdata(L, 2);
    set_up(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "espq.cli");
    lua_call(L, 1, 1);
    lua_createtable(L, count, 1);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, arguments[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
    return 1;
}

/* Batches and arenas of some megabytes come and go: memory that was given back to the system would have to be cleared page by page again. */
static void keep_freed_memory(void)
{
#ifdef __GLIBC__
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
#endif
}

int main(int count, char **arguments)
{
    keep_freed_memory();
    lua_State *L = lua_newstate(allocate, NULL);
    if (!L) {
        fputs("espq: not enough memory to start\n", stderr);
        return EXIT_WORK_FAILED;
    }
    interrupted_state = L;
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_end);
    signal(SIGPIPE, on_end);
    if (signal(SIGHUP, on_end) == SIG_IGN) signal(SIGHUP, SIG_IGN); /* nohup */
    lua_pushcfunction(L, run);
    lua_pushinteger(L, count);
    lua_pushlightuserdata(L, arguments);
    int status = lua_pcall(L, 2, 1, 0);
    int code = EXIT_DONE;
    if (status == LUA_OK) {
        code = (int)lua_tointeger(L, -1);
    } else {
        const char *message = lua_tostring(L, -1);
        fprintf(stderr, "espq: %s\n", message ? message : "an error that is no text");
        code = EXIT_WORK_FAILED;
    }
    errno = 0;
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == EXIT_DONE) {
        fprintf(stderr, "espq: cannot write all of the output%s%s; make room, or send it elsewhere\n", errno ? ": " : "",
                errno ? strerror(errno) : "");
        code = EXIT_WORK_FAILED;
    }
    signal(SIGINT, SIG_DFL);
    interrupted_state = NULL;
    lua_sethook(L, NULL, 0, 0);
    lua_close(L);
    if (cancel_requested()) return EXIT_INTERRUPTED;
    return code;
}
