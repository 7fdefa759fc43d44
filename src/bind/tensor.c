/* Tensors in Lua: the userdata, its fields, elements and views. Positions and axes count from 0, as in ONNX and NumPy. */
#include "bind/tensor.h"

#include <stdlib.h>
#include <string.h>

#include "bind/tensor_parts.h"
#include "tensor/arithmetic.h"
#include "tensor/npy.h"

Tensor *check_tensor(lua_State *L, int index)
{
    return check_box(L, index, TENSOR_TYPE, "a tensor");
}
Tensor *test_tensor(lua_State *L, int index)
{
    return test_box(L, index, TENSOR_TYPE);
}
Box *push_tensor_box(lua_State *L)
{
    Box *box = lua_newuserdatauv(L, sizeof *box, 0);
    box->object = NULL;
    luaL_setmetatable(L, TENSOR_TYPE);
    return box;
}

int finish_tensor(lua_State *L, Box *box, Tensor *made, const Error *error)
{
    if (!made) return raise_error(L, error);
    box->object = made;
    if (!made->base) account(L, tensor_bytes(made));
    return 1;
}

void push_tensor_retained(lua_State *L, Tensor *tensor)
{
    Box *box = push_tensor_box(L);
    box->object = tensor_retain(tensor);
}

void push_tensor_copy(lua_State *L, const Tensor *tensor)
{
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    finish_tensor(L, box, tensor_copy(tensor, &error), &error);
}

Tensor *push_contiguous(lua_State *L, Tensor *tensor)
{
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    finish_tensor(L, box, tensor_contiguous(tensor, &error), &error);
    return box->object;
}

Tensor *push_contiguous_tensor(lua_State *L, int index)
{
    return push_contiguous(L, check_tensor(L, index));
}

int check_axis(lua_State *L, int index, int rank)
{
    int64_t axis = check_integer(L, index, "an axis");
    int64_t positive = axis < 0 ? axis + rank : axis;
    if (positive < 0 || positive >= rank)
        raise_text(L, NULL, NULL, "axis %lld is outside a tensor of rank %d (axes count from 0)", (long long)axis, rank);
    return (int)positive;
}

static int tensor_release_lua(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, TENSOR_TYPE);
    Tensor *tensor = box->object;
    box->object = NULL;
    tensor_release(tensor);
    return 0;
}

/* ---- elements ---- */

void push_element(lua_State *L, const Tensor *tensor, int64_t offset)
{
    Tensor element = {.dtype = tensor->dtype, .data = tensor->data + offset * (int64_t)dtype_bytes(tensor->dtype)};
    if (tensor->dtype == DTYPE_BOOL)
        lua_pushboolean(L, tensor_get_integer(&element, 0) != 0);
    else if (dtype_rows[tensor->dtype].is_float)
        lua_pushnumber(L, tensor_get(&element, 0));
    else
        lua_pushinteger(L, tensor_get_integer(&element, 0));
}

static void set_element(Tensor *tensor, int64_t offset, double value, int64_t integer, bool is_integer)
{
    Tensor element = {.dtype = tensor->dtype, .data = tensor->data + offset * (int64_t)dtype_bytes(tensor->dtype)};
    if (is_integer && tensor->dtype == DTYPE_INT64)
        memcpy(element.data, &integer, sizeof integer); /* a double would lose the last digits */
    else
        tensor_set(&element, 0, value);
}

static double check_value_number(lua_State *L, int index, int64_t *integer, bool *is_integer)
{
    *is_integer = false;
    *integer = 0;
    if (lua_isboolean(L, index)) return lua_toboolean(L, index);
    if (test_tensor(L, index)) {
        Tensor *tensor = test_tensor(L, index);
        if (tensor_count(tensor) != 1)
            raise_text(L, NULL, NULL, "a number or a tensor of one element is wanted, this one has %lld", (long long)tensor_count(tensor));
        return tensor_get(tensor, 0);
    }
    double value = check_number(L, index, "a number");
    *is_integer = lua_isinteger(L, index);
    if (*is_integer) *integer = lua_tointeger(L, index);
    return value;
}

/* The offset of the element whose positions are the arguments from `first`. */
static int64_t check_position(lua_State *L, const Tensor *tensor, int first, int count)
{
    if (count != tensor->shape.rank)
        raise_text(L, NULL, NULL, "%d positions are wanted for a tensor of rank %d, %d are given", tensor->shape.rank, tensor->shape.rank,
                   count);
    int64_t offset = 0;
    for (int axis = 0; axis < count; axis++) {
        int64_t position = check_integer(L, first + axis, "a position from 0"), size = tensor->shape.dims[axis];
        int64_t positive = position < 0 ? position + size : position;
        if (positive < 0 || positive >= size)
            raise_text(L, NULL, NULL, "position %lld is outside axis %d of size %lld (positions count from 0)", (long long)position, axis,
                       (long long)size);
        offset += positive * tensor->strides[axis];
    }
    return offset;
}

static int tensor_get_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    push_element(L, tensor, check_position(L, tensor, 2, lua_gettop(L) - 1));
    return 1;
}

static int tensor_set_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int top = lua_gettop(L);
    int64_t offset = check_position(L, tensor, 2, top - 2), integer;
    bool is_integer;
    double value = check_value_number(L, top, &integer, &is_integer);
    set_element(tensor, offset, value, integer, is_integer);
    lua_settop(L, 1);
    return 1;
}

static int tensor_item(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    if (tensor_count(tensor) != 1) {
        char shape[160];
        return raise_text(L, NULL, NULL, "item: only a tensor of one element has one, this has shape %s",
                          shape_text(&tensor->shape, shape));
    }
    push_element(L, tensor, 0);
    return 1;
}

static void push_list(lua_State *L, const Tensor *tensor, int axis, int64_t offset)
{
    if (axis == tensor->shape.rank) {
        push_element(L, tensor, offset);
        return;
    }
    luaL_checkstack(L, 4, "tolist");
    lua_createtable(L, (int)tensor->shape.dims[axis], 0);
    for (int64_t i = 0; i < tensor->shape.dims[axis]; i++) {
        push_list(L, tensor, axis + 1, offset + i * tensor->strides[axis]);
        lua_rawseti(L, -2, i + 1);
    }
}

static int tensor_tolist(lua_State *L)
{
    push_list(L, check_tensor(L, 1), 0, 0);
    return 1;
}

/* ---- views ---- */

static int tensor_view_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    Shape shape = {0};
    int64_t count = 1, unknown = -1;
    if (lua_istable(L, 2))
        shape.rank = check_integers(L, 2, shape.dims, ESPQ_MAX_RANK, "a shape");
    else
        for (shape.rank = 0; shape.rank < lua_gettop(L) - 1 && shape.rank < ESPQ_MAX_RANK; shape.rank++)
            shape.dims[shape.rank] = check_integer(L, shape.rank + 2, "a size");
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dims[i] == -1 && unknown < 0)
            unknown = i;
        else if (shape.dims[i] < 0)
            return raise_text(L, NULL, NULL, "view: size %lld of axis %d", (long long)shape.dims[i], i);
        else
            count *= shape.dims[i];
    }
    if (unknown >= 0) shape.dims[unknown] = count ? tensor_count(tensor) / count : 0;
    if (shape_count(&shape) != tensor_count(tensor)) {
        char from[160], to[160];
        if (unknown >= 0) shape.dims[unknown] = -1;
        return raise_text(L, NULL, NULL, "view: %lld elements of shape %s do not fit into %s", (long long)tensor_count(tensor),
                          shape_text(&tensor->shape, from), shape_text(&shape, to));
    }
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_view(plain, &shape, &error), &error);
}

static int reshaped(lua_State *L, Tensor *tensor, const Shape *shape)
{
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_view(plain, shape, &error), &error);
}

static int tensor_flatten(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    Shape shape = {.rank = 1, .dims = {tensor_count(tensor)}};
    return reshaped(L, tensor, &shape);
}

static int tensor_unsqueeze(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int rank = tensor->shape.rank, axis = check_axis(L, 2, rank + 1);
    if (rank == ESPQ_MAX_RANK) return raise_text(L, NULL, NULL, "unsqueeze: a tensor has at most %d axes", ESPQ_MAX_RANK);
    Shape shape = {.rank = rank + 1};
    for (int i = 0; i <= rank; i++)
        shape.dims[i] = i < axis ? tensor->shape.dims[i] : i == axis ? 1 : tensor->shape.dims[i - 1];
    return reshaped(L, tensor, &shape);
}

static int tensor_squeeze(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int axis = lua_isnoneornil(L, 2) ? -1 : check_axis(L, 2, tensor->shape.rank);
    if (axis >= 0 && tensor->shape.dims[axis] != 1)
        return raise_text(L, NULL, NULL, "squeeze: axis %d has size %lld, not 1", axis, (long long)tensor->shape.dims[axis]);
    Shape shape = {0};
    for (int i = 0; i < tensor->shape.rank; i++)
        if (axis >= 0 ? i != axis : tensor->shape.dims[i] != 1) shape.dims[shape.rank++] = tensor->shape.dims[i];
    return reshaped(L, tensor, &shape);
}

static int tensor_permute(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int64_t axes[ESPQ_MAX_RANK];
    int rank = tensor->shape.rank, permutation[ESPQ_MAX_RANK];
    bool seen[ESPQ_MAX_RANK] = {false};
    int count = 0;
    if (lua_istable(L, 2))
        count = check_integers(L, 2, axes, ESPQ_MAX_RANK, "a list of axes");
    else
        for (; count < lua_gettop(L) - 1 && count < ESPQ_MAX_RANK; count++)
            axes[count] = check_integer(L, count + 2, "an axis");
    if (count != rank) return raise_text(L, NULL, NULL, "permute: %d axes are wanted, %d are given", rank, count);
    for (int i = 0; i < rank; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank || seen[axis])
            return raise_text(L, NULL, NULL, "permute: axis %lld is outside, or there twice", (long long)axes[i]);
        seen[axis] = true;
        permutation[i] = (int)axis;
    }
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_transpose(plain, permutation, &error), &error);
}

/* transpose(a, b): two axes change places; without arguments the last two. */
static int tensor_transpose_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int rank = tensor->shape.rank, permutation[ESPQ_MAX_RANK];
    if (rank < 2 && lua_isnoneornil(L, 2)) return raise_text(L, NULL, NULL, "transpose: the tensor has rank %d", rank);
    int a = lua_isnoneornil(L, 2) ? rank - 2 : check_axis(L, 2, rank), b = lua_isnoneornil(L, 3) ? rank - 1 : check_axis(L, 3, rank);
    for (int i = 0; i < rank; i++)
        permutation[i] = i == a ? b : i == b ? a : i;
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_transpose(plain, permutation, &error), &error);
}

/* slice(start, stop) on axis 0, or slice{ axis =, start =, stop =, step = }: a view. */
static int tensor_slice_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int axis = 0;
    int64_t start = 0, stop = INT64_MAX, step = 1;
    if (tensor->shape.rank == 0) return raise_text(L, NULL, NULL, "slice: the tensor has rank 0");
    check_option_names(L, 2, (const char *const[]){"axis", "start", "stop", "step", NULL});
    if (lua_istable(L, 2)) {
        if (lua_getfield(L, 2, "axis") != LUA_TNIL) axis = check_axis(L, lua_gettop(L), tensor->shape.rank);
        start = field_integer(L, 2, "start", 0);
        stop = field_integer(L, 2, "stop", INT64_MAX);
        step = field_integer(L, 2, "step", 1);
    } else {
        start = check_integer(L, 2, "a position");
        if (!lua_isnoneornil(L, 3)) stop = check_integer(L, 3, "a position");
    }
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_slice(tensor, axis, start, stop, step, &error), &error);
}

static int push_row(lua_State *L, Tensor *tensor, int64_t position)
{
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_select(tensor, 0, position, &error), &error);
}

static int tensor_select_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int axis = check_axis(L, 2, tensor->shape.rank);
    int64_t position = check_integer(L, 3, "a position from 0");
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_select(tensor, axis, position, &error), &error);
}

static int rows_next(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int64_t i = lua_isnil(L, 2) ? 0 : lua_tointeger(L, 2) + 1;
    if (i >= tensor->shape.dims[0]) return 0;
    lua_pushinteger(L, i);
    push_row(L, tensor, i);
    return 2;
}

static int tensor_rows(lua_State *L)
{
    if (check_tensor(L, 1)->shape.rank == 0) return raise_text(L, NULL, NULL, "rows: the tensor has rank 0");
    lua_pushcfunction(L, rows_next);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* ---- assigning a part: t[i] = tensor or number ---- */

static void assign(Tensor *to, int axis, int64_t to_offset, const Tensor *from, int64_t from_offset)
{
    if (axis == to->shape.rank) {
        Tensor element = {.dtype = from->dtype, .data = from->data + from_offset * (int64_t)dtype_bytes(from->dtype)};
        set_element(to, to_offset, tensor_get(&element, 0), from->dtype == DTYPE_INT64 ? tensor_get_integer(&element, 0) : 0,
                    from->dtype == DTYPE_INT64);
        return;
    }
    int from_axis = axis - (to->shape.rank - from->shape.rank);
    int64_t step = from_axis < 0 || from->shape.dims[from_axis] == 1 ? 0 : from->strides[from_axis];
    for (int64_t i = 0; i < to->shape.dims[axis]; i++)
        assign(to, axis + 1, to_offset + i * to->strides[axis], from, from_offset + i * step);
}

static int tensor_newindex(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    if (lua_type(L, 2) != LUA_TNUMBER)
        return raise_text(L, NULL, NULL, "field '%s' of a tensor cannot be assigned", luaL_tolstring(L, 2, NULL));
    push_row(L, tensor, check_integer(L, 2, "a position from 0"));
    Tensor *row = check_tensor(L, 4), *value = test_tensor(L, 3);
    Error error;
    error_begin(&error);
    if (!value) {
        Box *box = push_tensor_box(L);
        finish_tensor(
            L, box,
            tensor_scalar(DTYPE_FLOAT64, lua_isboolean(L, 3) ? lua_toboolean(L, 3) : check_number(L, 3, "a tensor or a number"), &error),
            &error);
        value = box->object;
    }
    Shape together;
    if (!shape_broadcast(&row->shape, &value->shape, &together) || !shape_equal(&together, &row->shape)) {
        char to[160], from[160];
        return raise_text(L, NULL, NULL, "a tensor of shape %s cannot be put into %s", shape_text(&value->shape, from),
                          shape_text(&row->shape, to));
    }
    assign(row, 0, 0, value, 0);
    return 0;
}

/* ---- fields ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* methods: where their table lies on the stack. */
static int raise_unknown(lua_State *L, int methods, const char *field)
{
    static const char *const fields[] = {"shape", "dtype", "ndim", "size"};
    enum { MOST = 128, FIELDS = sizeof fields / sizeof *fields };
    const char *names[MOST];
    int count = 0;
    for (; count < FIELDS; count++)
        names[count] = fields[count];
    for (lua_pushnil(L); lua_next(L, methods) && count < MOST; lua_pop(L, 1))
        if (lua_type(L, -2) == LUA_TSTRING) names[count++] = lua_tostring(L, -2);
    qsort(names, (size_t)count, sizeof *names, compare_names); /* of names equally near always the same */
    int nearest = text_nearest(field, names, count);
    return raise_text(L, NULL, NULL, "a tensor has no field or method '%s'%s%s%s", field, nearest < 0 ? "" : " (did you mean '",
                      nearest < 0 ? "" : names[nearest], nearest < 0 ? "" : "'?)");
}

static int tensor_index(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    if (lua_type(L, 2) == LUA_TNUMBER) {
        int64_t position = check_integer(L, 2, "a position from 0");
        if (tensor->shape.rank == 0) return raise_text(L, NULL, "its number is t:item()", "a tensor of rank 0 has no positions");
        return push_row(L, tensor, position);
    }
    const char *field = check_text(L, 2, "a position or the name of a field");
    if (strcmp(field, "shape") == 0)
        push_shape(L, &tensor->shape);
    else if (strcmp(field, "dtype") == 0)
        lua_pushstring(L, dtype_name(tensor->dtype));
    else if (strcmp(field, "ndim") == 0)
        lua_pushinteger(L, tensor->shape.rank);
    else if (strcmp(field, "size") == 0)
        lua_pushinteger(L, tensor_count(tensor));
    else {
        luaL_getmetafield(L, 1, "methods");
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) == LUA_TNIL) return raise_unknown(L, lua_gettop(L) - 1, field);
    }
    return 1;
}

static int tensor_length(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    lua_pushinteger(L, tensor->shape.rank ? tensor->shape.dims[0] : 0);
    return 1;
}

static int tensor_text(lua_State *L)
{
    Tensor *tensor = test_tensor(L, 1);
    if (!tensor) {
        lua_pushliteral(L, "tensor (closed)");
        return 1;
    }
    Tensor *plain = push_contiguous(L, tensor);
    Text *text = push_text(L);
    tensor_print(plain, text);
    return finish_text(L, text);
}

static int tensor_concat(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    luaL_tolstring(L, 2, NULL);
    lua_concat(L, 2);
    return 1;
}

static int tensor_save(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    const char *path = check_text(L, 2, "a path");
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    if (!npy_write(path, plain, &error)) return raise_error(L, &error);
    return 0;
}

static int tensor_copy_lua(lua_State *L)
{
    push_tensor_copy(L, check_tensor(L, 1));
    return 1;
}

static int tensor_to(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    Dtype dtype = check_dtype(L, 2, tensor->dtype);
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_convert(plain, dtype, &error), &error);
}

void open_tensor(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__index", tensor_index},   {"__newindex", tensor_newindex}, {"__len", tensor_length},
                                    {"__tostring", tensor_text}, {"__concat", tensor_concat},     {NULL, NULL}};
    static const luaL_Reg methods[] = {{"get", tensor_get_lua},
                                       {"set", tensor_set_lua},
                                       {"item", tensor_item},
                                       {"tolist", tensor_tolist},
                                       {"view", tensor_view_lua},
                                       {"reshape", tensor_view_lua},
                                       {"flatten", tensor_flatten},
                                       {"unsqueeze", tensor_unsqueeze},
                                       {"squeeze", tensor_squeeze},
                                       {"permute", tensor_permute},
                                       {"transpose", tensor_transpose_lua},
                                       {"slice", tensor_slice_lua},
                                       {"select", tensor_select_lua},
                                       {"rows", tensor_rows},
                                       {"save", tensor_save},
                                       {"copy", tensor_copy_lua},
                                       {"clone", tensor_copy_lua},
                                       {"to", tensor_to},
                                       {NULL, NULL}};
    make_type(L, TENSOR_TYPE, methods, meta, tensor_release_lua);
    luaL_getmetatable(L, TENSOR_TYPE);
    add_tensor_operators(L);
    lua_getfield(L, -1, "methods");
    add_tensor_methods(L);
    lua_pop(L, 2);
    lua_newtable(L);
    add_tensor_functions(L);
    add_tensor_joins(L);
}
