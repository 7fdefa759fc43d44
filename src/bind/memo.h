/* What runs gave, for runs to come (exec/memo.h), as Lua holds it. */
#ifndef ESPQ_BIND_MEMO_H
#define ESPQ_BIND_MEMO_H

#include <lua.h>

#include "exec/memo.h"

int memo_lua(lua_State *L);                /* memo(bytes) */
void make_memo_type(lua_State *L);         /* once */
Memo *field_memo(lua_State *L, int table); /* the field `memo`, which the table keeps; NULL: there is none */

#endif
