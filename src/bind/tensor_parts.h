/* Between the files of the tensor binding. */
#ifndef ESPQ_BIND_TENSOR_PARTS_H
#define ESPQ_BIND_TENSOR_PARTS_H

#include "bind/tensor.h"

Tensor *push_contiguous(lua_State *L, Tensor *tensor); /* in a box of its own, which stays on the stack */
int check_axis(lua_State *L, int index, int rank);     /* negative from the end; raises outside */
void push_element(lua_State *L, const Tensor *tensor, int64_t offset);
void add_tensor_operators(lua_State *L); /* to the metatable on the top of the stack: + - * … */
void add_tensor_methods(lua_State *L);   /* to the table on the top: arithmetic */
void add_tensor_joins(lua_State *L);     /* to the table on the top: cat, stack, where as functions */
void add_tensor_functions(lua_State *L); /* to the table on the top: making and reading */

#endif
