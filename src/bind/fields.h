/* Fields of the table on top of the stack. */
#ifndef ESPQ_BIND_FIELDS_H
#define ESPQ_BIND_FIELDS_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

static inline void set_text(lua_State *L, const char *field, const char *text) /* NULL: the field is left out */
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, field);
}

static inline void set_integer(lua_State *L, const char *field, int64_t value)
{
    lua_pushinteger(L, value);
    lua_setfield(L, -2, field);
}

static inline void set_number(lua_State *L, const char *field, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, field);
}

static inline void set_boolean(lua_State *L, const char *field, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, field);
}

#endif
