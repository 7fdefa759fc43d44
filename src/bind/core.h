/* What the program and the module know of the binding. */
#ifndef ESPQ_BIND_CORE_H
#define ESPQ_BIND_CORE_H

#include <lua.h>

__attribute__((visibility("default"))) int luaopen_espq_core(lua_State *L);
void bind_raise_interrupted(lua_State *L); /* raises the error object of Ctrl-C */

#endif
