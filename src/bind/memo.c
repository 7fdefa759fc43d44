#include "bind/memo.h"

#include "bind/box.h"

#define MEMO_TYPE "espq.memo"

int memo_lua(lua_State *L)
{
    size_t limit = (size_t)check_integer(L, 1, "a number of bytes");
    Error error;
    error_begin(&error);
    Box *box = push_box(L, MEMO_TYPE);
    box->object = memo_new(limit, &error);
    return box->object ? 1 : raise_error(L, &error);
}

static int memo_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, MEMO_TYPE);
    memo_free(box->object);
    box->object = NULL;
    return 0;
}

void make_memo_type(lua_State *L)
{
    make_type(L, MEMO_TYPE, NULL, NULL, memo_release);
}

Memo *field_memo(lua_State *L, int table)
{
    Memo *memo = NULL;
    if (lua_getfield(L, table, "memo") != LUA_TNIL) memo = check_box(L, lua_gettop(L), MEMO_TYPE, "what earlier runs gave");
    lua_pop(L, 1); /* the table keeps it */
    return memo;
}
