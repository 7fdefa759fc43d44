/* What a search needs of the system: names by SHA-1, a clock, a lock on a folder, files that grow. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/sha1.h"
#include "bind/box.h"

#define LOCK_TYPE "espq.lock"
#define WRITER_TYPE "espq.writer"

/* sha1(text): 40 hexadecimal digits. */
static int sha1_lua(lua_State *L)
{
    size_t length;
    check_text(L, 1, "a text");
    const char *text = lua_tolstring(L, 1, &length);
    Sha1 sha1;
    char hex[41];
    sha1_begin(&sha1);
    sha1_add(&sha1, text, length);
    sha1_end(&sha1, hex);
    lua_pushlstring(L, hex, 40);
    return 1;
}

/* clock(): seconds from some start, never set back. */
static int clock_lua(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + 1e-9 * (lua_Number)now.tv_nsec);
    return 1;
}

/* process(): this process's number, and the machine's name. */
static int process_lua(lua_State *L)
{
    char host[128] = "";
    if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
    lua_pushinteger(L, (lua_Integer)getpid());
    lua_pushstring(L, host);
    return 2;
}

/* terminal(): is stderr one? */
static int terminal_lua(lua_State *L)
{
    lua_pushboolean(L, isatty(STDERR_FILENO));
    return 1;
}

static int close_stream(lua_State *L)
{
    luaL_Stream *stream = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    return luaL_fileresult(L, fclose(stream->f) == 0, NULL);
}

/* stdout_aside(): the stdout that was, as a file; what is printed from now on goes to stderr. */
static int stdout_aside_lua(lua_State *L)
{
    luaL_Stream *stream = lua_newuserdatauv(L, sizeof *stream, 0);
    stream->closef = NULL;
    luaL_setmetatable(L, LUA_FILEHANDLE);
    fflush(stdout);
    int file = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    stream->f = file >= 0 ? fdopen(file, "w") : NULL;
    if (!stream->f || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        int code = errno;
        if (stream->f)
            fclose(stream->f);
        else if (file >= 0)
            close(file);
        return raise_text(L, NULL, NULL, "cannot put stdout aside: %s", strerror(code));
    }
    stream->closef = close_stream;
    return 1;
}

/* stdout_back(file): prints go there again. */
static int stdout_back_lua(lua_State *L)
{
    luaL_Stream *stream = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    if (!stream->closef) return raise_text(L, NULL, NULL, "this file is closed");
    fflush(stdout);
    fflush(stream->f);
    if (dup2(fileno(stream->f), STDOUT_FILENO) < 0) return raise_text(L, NULL, NULL, "cannot put stdout back: %s", strerror(errno));
    return 0;
}

/* append(path, text): all or nothing; gives the place where it begins. */
static int append_lua(lua_State *L)
{
    size_t length;
    const char *path = check_text(L, 1, "a path");
    check_text(L, 2, "a text");
    const char *text = lua_tolstring(L, 2, &length);
    int64_t offset;
    Error error;
    error_begin(&error);
    if (!file_append(path, text, length, &offset, &error)) return raise_error(L, &error);
    lua_pushinteger(L, offset);
    return 1;
}

static int rename_lua(lua_State *L)
{
    const char *from = check_text(L, 1, "a path"), *to = check_text(L, 2, "a path");
    Error error;
    error_begin(&error);
    if (!file_rename(from, to, &error)) return raise_error(L, &error);
    return 0;
}

/* sync(folder): all that was written so far on its file system is on the disk for good. */
static int sync_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    if (!file_sync_around(check_text(L, 1, "a path"), &error)) return raise_error(L, &error);
    return 0;
}

/* writer(path): a file that is written piece by piece, and appears whole with commit() or not at all. */
static int writer_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    Box *box = push_box(L, WRITER_TYPE);
    Error error;
    error_begin(&error);
    FileSet *set = fileset_new(&error);
    box->object = set;
    if (!set || !fileset_begin(set, path, &error)) return raise_error(L, &error);
    return 1;
}

static int writer_close(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, WRITER_TYPE);
    fileset_free(box->object);
    box->object = NULL;
    return 0;
}

/* writer:put(text) */
static int writer_put(lua_State *L)
{
    FileSet *set = check_box(L, 1, WRITER_TYPE, "a file that is being written");
    size_t length;
    check_text(L, 2, "a text");
    const char *text = lua_tolstring(L, 2, &length);
    Error error;
    error_begin(&error);
    if (fileset_put(set, text, length, &error)) return 0;
    writer_close(L);
    return raise_error(L, &error);
}

static int writer_commit(lua_State *L)
{
    FileSet *set = check_box(L, 1, WRITER_TYPE, "a file that is being written");
    Error error;
    error_begin(&error);
    bool ok = fileset_end(set, &error) && fileset_commit(set, &error);
    writer_close(L);
    return ok ? 0 : raise_error(L, &error);
}

/* durable(boolean): are files synced? */
static int durable_lua(lua_State *L)
{
    file_set_durable(lua_toboolean(L, 1));
    return 0;
}

/* fault(kind, n): for tests: the n-th write, sync or rename from now on fails, counted from 0. fault(): none does; was it reached? */
static int fault_lua(lua_State *L)
{
    static const char *const kinds[] = {"write", "sync", "rename", NULL};
    static const FaultKind numbers[] = {FAULT_WRITE, FAULT_SYNC, FAULT_RENAME};
    if (lua_isnoneornil(L, 1)) {
        lua_pushboolean(L, fault_disarm());
        return 1;
    }
    int kind = luaL_checkoption(L, 1, NULL, kinds);
    fault_arm(numbers[kind], FAULT_ONCE, (long)check_integer(L, 2, "a count"));
    return 0;
}

/* make_folder(path): and those above it. */
static int make_folder_lua(lua_State *L)
{
    check_text(L, 1, "a path");
    lua_settop(L, 1);
    lua_pushliteral(L, "/");
    lua_concat(L, 2);
    Error error;
    error_begin(&error);
    if (!file_make_folder_of(lua_tostring(L, 1), &error)) return raise_error(L, &error);
    return 0;
}

static int lock_close(lua_State *L)
{
    lock_release(luaL_checkudata(L, 1, LOCK_TYPE));
    return 0;
}

/* lock:forget(): in a fork, whose parent goes on holding it. */
static int lock_forget_lua(lua_State *L)
{
    lock_forget(luaL_checkudata(L, 1, LOCK_TYPE));
    return 0;
}

/* lock(path, holder, quietly): an object with close(); held by another is an error that names that one, or nil quietly. */
static int lock_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path"), *holder = check_text(L, 2, "a text");
    bool quietly = lua_toboolean(L, 3);
    Lock *lock = lua_newuserdatauv(L, sizeof *lock, 0);
    lock->file = -1;
    luaL_setmetatable(L, LOCK_TYPE);
    Error error;
    error_begin(&error);
    if (lock_take(lock, path, holder, &error)) return 1;
    if (!lock->held || !quietly) return raise_error(L, &error);
    lua_pushnil(L);
    return 1;
}

void open_system(lua_State *L)
{
    static const luaL_Reg methods[] = {{"close", lock_close}, {"forget", lock_forget_lua}, {NULL, NULL}};
    static const luaL_Reg writing[] = {{"put", writer_put}, {"commit", writer_commit}, {"close", writer_close}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"sha1", sha1_lua},
                                         {"clock", clock_lua},
                                         {"process", process_lua},
                                         {"terminal", terminal_lua},
                                         {"append", append_lua},
                                         {"make_folder", make_folder_lua},
                                         {"lock", lock_lua},
                                         {"durable", durable_lua},
                                         {"rename", rename_lua},
                                         {"sync", sync_lua},
                                         {"writer", writer_lua},
                                         {"stdout_aside", stdout_aside_lua},
                                         {"stdout_back", stdout_back_lua},
                                         {"fault", fault_lua},
                                         {NULL, NULL}};
    make_type(L, LOCK_TYPE, methods, NULL, lock_close);
    make_type(L, WRITER_TYPE, writing, NULL, writer_close);
    luaL_newlib(L, functions);
}
