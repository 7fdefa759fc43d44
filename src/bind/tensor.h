/* Tensors in Lua. */
#ifndef ESPQ_BIND_TENSOR_H
#define ESPQ_BIND_TENSOR_H

#include "bind/box.h"
#include "tensor/tensor.h"

#define TENSOR_TYPE "espq.tensor"

Tensor *check_tensor(lua_State *L, int index);
Tensor *test_tensor(lua_State *L, int index);            /* NULL when it is something else */
void push_tensor_retained(lua_State *L, Tensor *tensor); /* a new box with a reference of its own */
Tensor *push_contiguous_tensor(lua_State *L, int index); /* of the tensor at index, in a box of its own */
void push_tensor_copy(lua_State *L, const Tensor *tensor);
Box *push_tensor_box(lua_State *L);                                          /* empty */
int finish_tensor(lua_State *L, Box *box, Tensor *made, const Error *error); /* box it and return 1, or raise when made is NULL */

#endif
