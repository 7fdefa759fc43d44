/* Files in Lua: a model, and what is wrong with it. */
#ifndef ESPQ_BIND_ESPDL_H
#define ESPQ_BIND_ESPDL_H

#include "bind/box.h"
#include "espdl/verify.h"

#define ESPDL_TYPE "espq.espdl" /* a box with an EspdlModel */

Findings *push_findings(lua_State *L);                     /* empty, freed whatever happens */
int list_findings(lua_State *L, const Findings *findings); /* a list { level =, rule =, where =, text = }; returns 1 */

void add_inspection(lua_State *L); /* cost, differences, board kit and logs: into the table on top of the stack */

#endif
