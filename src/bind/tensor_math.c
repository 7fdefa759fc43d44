/* Arithmetic of tensors in Lua. */
#include <math.h>
#include <string.h>

#include "bind/tensor_parts.h"
#include "tensor/arithmetic.h"

static int binary(lua_State *L, BinaryKind kind)
{
    Tensor *a = test_tensor(L, 1), *b = test_tensor(L, 2);
    if (!a && !b) return raise_argument(L, 1, "a tensor");
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    if (a && b) return finish_tensor(L, box, tensor_binary(kind, a, b, &error), &error);
    int other = a ? 2 : 1;
    double number = lua_isboolean(L, other) ? lua_toboolean(L, other) : check_number(L, other, "a tensor or a number");
    return finish_tensor(L, box, tensor_binary_number(kind, a ? a : b, number, !a, &error), &error);
}

static int binary_lua(lua_State *L)
{
    return binary(L, (BinaryKind)lua_tointeger(L, lua_upvalueindex(1)));
}

static int unary_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_unary((UnaryKind)lua_tointeger(L, lua_upvalueindex(1)), tensor, &error), &error);
}

/* Tensors of one element compare with < and <= as numbers do; for others there are lt, le, gt, ge. */
static double single(lua_State *L, int index)
{
    Tensor *tensor = test_tensor(L, index);
    if (!tensor) return check_number(L, index, "a number or a tensor of one element");
    if (tensor_count(tensor) != 1)
        raise_text(L, NULL, "t:lt(u), t:le(u), t:gt(u), t:ge(u) compare element by element",
                   "only tensors of one element compare with < and <=");
    return tensor_get(tensor, 0);
}

static int less_lua(lua_State *L)
{
    lua_pushboolean(L, single(L, 1) < single(L, 2));
    return 1;
}

static int less_equal_lua(lua_State *L)
{
    lua_pushboolean(L, single(L, 1) <= single(L, 2));
    return 1;
}

/* The tensor with the axes listed moved to the end and made one: how a reduction over several axes becomes one over the last. */
static Tensor *push_merged(lua_State *L, Tensor *tensor, const bool *chosen)
{
    int rank = tensor->shape.rank, permutation[ESPQ_MAX_RANK], count = 0;
    Shape shape = {0};
    int64_t merged = 1;
    for (int i = 0; i < rank; i++)
        if (!chosen[i]) {
            shape.dims[shape.rank++] = tensor->shape.dims[i];
            permutation[count++] = i;
        }
    for (int i = 0; i < rank; i++)
        if (chosen[i]) {
            merged *= tensor->shape.dims[i];
            permutation[count++] = i;
        }
    shape.dims[shape.rank++] = merged;
    Error error;
    error_begin(&error);
    Tensor *plain = push_contiguous(L, tensor);
    Box *box = push_tensor_box(L);
    finish_tensor(L, box, tensor_transpose(plain, permutation, &error), &error);
    Box *view = push_tensor_box(L);
    finish_tensor(L, view, tensor_view(box->object, &shape, &error), &error);
    return view->object;
}

static int reduce_axes(lua_State *L, ReduceKind kind, Tensor *tensor, int list, bool keepdims)
{
    int64_t axes[ESPQ_MAX_RANK];
    bool chosen[ESPQ_MAX_RANK] = {false};
    int rank = tensor->shape.rank, count = check_integers(L, list, axes, ESPQ_MAX_RANK, "a list of axes");
    for (int i = 0; i < count; i++) {
        int64_t axis = axes[i] < 0 ? axes[i] + rank : axes[i];
        if (axis < 0 || axis >= rank || chosen[axis])
            return raise_text(L, NULL, NULL, "axis %lld is outside, or there twice", (long long)axes[i]);
        chosen[axis] = true;
    }
    Tensor *merged = push_merged(L, tensor, chosen);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    finish_tensor(L, box, tensor_reduce(kind, merged, false, -1, false, &error), &error);
    if (!keepdims) return 1;
    Shape shape = tensor->shape;
    for (int i = 0; i < rank; i++)
        if (chosen[i]) shape.dims[i] = 1;
    Box *view = push_tensor_box(L);
    return finish_tensor(L, view, tensor_view(box->object, &shape, &error), &error);
}

/* sum(), sum(axis), sum{ axis = 1 or {2, 3}, keepdims = true } */
static int reduce_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    ReduceKind kind = (ReduceKind)lua_tointeger(L, lua_upvalueindex(1));
    bool keepdims = false, all = true;
    int axis = 0;
    check_option_names(L, 2, (const char *const[]){"axis", "keepdims", NULL});
    if (lua_istable(L, 2)) {
        keepdims = field_boolean(L, 2, "keepdims", false);
        int type = lua_getfield(L, 2, "axis");
        if (type == LUA_TTABLE) return reduce_axes(L, kind, tensor, lua_gettop(L), keepdims);
        if (type != LUA_TNIL) {
            axis = check_axis(L, lua_gettop(L), tensor->shape.rank);
            all = false;
        }
    } else if (!lua_isnoneornil(L, 2)) {
        axis = check_axis(L, 2, tensor->shape.rank);
        all = false;
    }
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_reduce(kind, tensor, all, axis, keepdims, &error), &error);
}

static const char *const axis_only[] = {"axis", NULL};

/* The axis of argument `index`: a number, a table's field `axis`, or the one given. */
static int option_axis(lua_State *L, int index, int rank, int otherwise)
{
    if (lua_istable(L, index)) {
        int axis = otherwise;
        if (lua_getfield(L, index, "axis") != LUA_TNIL) axis = check_axis(L, lua_gettop(L), rank);
        lua_pop(L, 1);
        return axis;
    }
    return lua_isnoneornil(L, index) ? otherwise : check_axis(L, index, rank);
}

static int softmax_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    check_option_names(L, 2, axis_only);
    int axis = option_axis(L, 2, tensor->shape.rank, tensor->shape.rank - 1);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_softmax(tensor, axis, &error), &error);
}

static int clamp_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    double least = lua_isnoneornil(L, 2) ? -INFINITY : check_number(L, 2, "a number"),
           most = lua_isnoneornil(L, 3) ? INFINITY : check_number(L, 3, "a number");
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_clamp(tensor, least, most, &error), &error);
}

static Tensor *push_as_tensor(lua_State *L, int index)
{
    Tensor *tensor = test_tensor(L, index);
    if (tensor) {
        lua_pushvalue(L, index);
        return tensor;
    }
    Error error;
    error_begin(&error);
    double number = check_number(L, index, "a tensor or a number");
    Box *box = push_tensor_box(L);
    finish_tensor(L, box, tensor_scalar(DTYPE_FLOAT32, number, &error), &error);
    return box->object;
}

static int where_lua(lua_State *L)
{
    Tensor *condition = check_tensor(L, 1);
    lua_settop(L, 3);
    Tensor *a = push_as_tensor(L, 2), *b = push_as_tensor(L, 3);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_where(condition, a, b, &error), &error);
}

static int matmul_lua(lua_State *L)
{
    Tensor *a = check_tensor(L, 1), *b = check_tensor(L, 2);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_matmul(a, b, &error), &error);
}

/* topk(k, { axis = -1 }): values and positions, largest first. */
static int topk_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    int64_t k = check_integer(L, 2, "how many");
    check_option_names(L, 3, axis_only);
    int axis = option_axis(L, 3, tensor->shape.rank, tensor->shape.rank - 1);
    Error error;
    error_begin(&error);
    Box *values = push_tensor_box(L), *positions = push_tensor_box(L);
    Tensor *value = NULL, *position = NULL;
    if (!tensor_topk(tensor, k, axis, &value, &position, &error)) return raise_error(L, &error);
    values->object = value;
    positions->object = position;
    return 2;
}

static int sort(lua_State *L, bool want_values)
{
    Tensor *tensor = check_tensor(L, 1);
    check_option_names(L, 2, (const char *const[]){"axis", "descending", NULL});
    int axis = option_axis(L, 2, tensor->shape.rank, tensor->shape.rank - 1);
    bool descending = lua_istable(L, 2) && field_boolean(L, 2, "descending", false);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    Tensor *made = NULL;
    if (!tensor_sort(tensor, axis, descending, want_values ? &made : NULL, want_values ? NULL : &made, &error))
        return raise_error(L, &error);
    return finish_tensor(L, box, made, &error);
}

static int sort_lua(lua_State *L)
{
    return sort(L, true);
}
static int argsort_lua(lua_State *L)
{
    return sort(L, false);
}

/* cat(list, { axis = 0 }), stack(list, { axis = 0 }); as methods the tensor itself stands first: t:cat(u), t:cat({u, v}, { axis = 1 }). */
static int join(lua_State *L, bool stacking)
{
    Tensor *first = test_tensor(L, 1);
    int list = first ? 2 : 1, count = first ? 1 : 0;
    if (first && test_tensor(L, 2)) {
        lua_createtable(L, 1, 0);
        lua_pushvalue(L, 2);
        lua_rawseti(L, -2, 1);
        lua_replace(L, 2);
    }
    if (!lua_istable(L, list)) return raise_argument(L, list, "a list of tensors");
    int items = (int)lua_rawlen(L, list);
    lua_settop(L, list + 1);
    Tensor **tensors = push_memory(L, sizeof *tensors * (size_t)(items + 1));
    if (first) tensors[0] = first;
    for (int i = 1; i <= items; i++) {
        lua_rawgeti(L, list, i);
        tensors[count++] = check_tensor(L, lua_gettop(L));
        lua_pop(L, 1);
    }
    if (count == 0) return raise_text(L, NULL, NULL, "%s: the list is empty", stacking ? "stack" : "cat");
    check_option_names(L, list + 1, axis_only);
    int axis = option_axis(L, list + 1, tensors[0]->shape.rank + stacking, 0);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, stacking ? tensor_stack(tensors, count, axis, &error) : tensor_cat(tensors, count, axis, &error), &error);
}

static int cat_lua(lua_State *L)
{
    return join(L, false);
}
static int stack_lua(lua_State *L)
{
    return join(L, true);
}

/* pad{ before = {0, 0, 1, 1}, after = {…}, value = 0 } */
static int pad_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    if (!lua_istable(L, 2)) return raise_argument(L, 2, "a table { before = {…}, after = {…}, value = 0 }");
    check_option_names(L, 2, (const char *const[]){"before", "after", "value", NULL});
    int64_t before[ESPQ_MAX_RANK] = {0}, after[ESPQ_MAX_RANK] = {0};
    static const char *const names[] = {"before", "after"};
    for (int side = 0; side < 2; side++) {
        if (lua_getfield(L, 2, names[side]) != LUA_TNIL) {
            int count = check_integers(L, lua_gettop(L), side ? after : before, ESPQ_MAX_RANK, names[side]);
            if (count != tensor->shape.rank)
                return raise_text(L, NULL, NULL, "pad: %s has %d numbers, the tensor rank %d", names[side], count, tensor->shape.rank);
        }
        lua_pop(L, 1);
    }
    double value = field_number(L, 2, "value", 0);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_pad(tensor, before, after, value, &error), &error);
}

static int flip_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    check_option_names(L, 2, axis_only);
    int axis = option_axis(L, 2, tensor->shape.rank, 0);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_flip(tensor, axis, &error), &error);
}

static int equal_lua(lua_State *L)
{
    Tensor *a = push_contiguous(L, check_tensor(L, 1)), *b = push_contiguous(L, check_tensor(L, 2));
    lua_pushboolean(L, tensor_equal(a, b));
    return 1;
}

static int allclose_lua(lua_State *L)
{
    Tensor *a = check_tensor(L, 1), *b = check_tensor(L, 2);
    double rtol = 1e-5, atol = 1e-8;
    check_option_names(L, 3, (const char *const[]){"rtol", "atol", NULL});
    if (lua_istable(L, 3)) {
        rtol = field_number(L, 3, "rtol", rtol);
        atol = field_number(L, 3, "atol", atol);
    }
    lua_pushboolean(L, tensor_allclose(a, b, rtol, atol));
    return 1;
}

/* apply(function(x) … end): a new tensor of the same type. */
static int apply_lua(lua_State *L)
{
    Tensor *tensor = check_tensor(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    push_tensor_copy(L, tensor);
    Tensor *made = check_tensor(L, 3);
    for (int64_t i = 0; i < tensor_count(made); i++) {
        lua_pushvalue(L, 2);
        push_element(L, made, i);
        lua_call(L, 1, 1);
        if (lua_type(L, -1) != LUA_TNUMBER && lua_type(L, -1) != LUA_TBOOLEAN)
            return raise_text(L, NULL, NULL, "apply: the function has to return a number, not a %s", luaL_typename(L, -1));
        tensor_set(made, i, lua_isboolean(L, -1) ? lua_toboolean(L, -1) : lua_tonumber(L, -1));
        lua_pop(L, 1);
    }
    return 1;
}

typedef struct Kind {
    const char *name;
    int kind;
} Kind;

static void add_kinds(lua_State *L, const Kind *kinds, lua_CFunction function)
{
    for (; kinds->name; kinds++) {
        lua_pushinteger(L, kinds->kind);
        lua_pushcclosure(L, function, 1);
        lua_setfield(L, -2, kinds->name);
    }
}

void add_tensor_operators(lua_State *L)
{
    static const Kind binaries[] = {
        {"__add", BINARY_ADD},           {"__sub", BINARY_SUBTRACT}, {"__mul", BINARY_MULTIPLY}, {"__div", BINARY_DIVIDE},
        {"__idiv", BINARY_FLOOR_DIVIDE}, {"__mod", BINARY_MODULO},   {"__pow", BINARY_POWER},    {NULL, 0}};
    static const Kind unaries[] = {{"__unm", UNARY_NEGATIVE}, {NULL, 0}};
    static const luaL_Reg comparisons[] = {{"__lt", less_lua}, {"__le", less_equal_lua}, {NULL, NULL}};
    add_kinds(L, binaries, binary_lua);
    add_kinds(L, unaries, unary_lua);
    luaL_setfuncs(L, comparisons, 0);
}

void add_tensor_joins(lua_State *L)
{
    static const luaL_Reg functions[] = {{"cat", cat_lua}, {"stack", stack_lua}, {"where", where_lua}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}

void add_tensor_methods(lua_State *L)
{
    static const Kind binaries[] = {{"eq", BINARY_EQUAL},        {"ne", BINARY_NOT_EQUAL},
                                    {"lt", BINARY_LESS},         {"le", BINARY_LESS_EQUAL},
                                    {"gt", BINARY_GREATER},      {"ge", BINARY_GREATER_EQUAL},
                                    {"maximum", BINARY_MAXIMUM}, {"minimum", BINARY_MINIMUM},
                                    {"pow", BINARY_POWER},       {NULL, 0}};
    static const Kind unaries[] = {{"exp", UNARY_EXP},
                                   {"log", UNARY_LOG},
                                   {"sqrt", UNARY_SQRT},
                                   {"abs", UNARY_ABSOLUTE},
                                   {"round", UNARY_ROUND},
                                   {"floor", UNARY_FLOOR},
                                   {"ceil", UNARY_CEIL},
                                   {"sigmoid", UNARY_SIGMOID},
                                   {"tanh", UNARY_TANH},
                                   {"sin", UNARY_SIN},
                                   {"cos", UNARY_COS},
                                   {"neg", UNARY_NEGATIVE},
                                   {NULL, 0}};
    static const Kind reductions[] = {
        {"sum", REDUCE_SUM},       {"mean", REDUCE_MEAN}, {"min", REDUCE_MINIMUM}, {"max", REDUCE_MAXIMUM},  {"argmax", REDUCE_ARGMAX},
        {"argmin", REDUCE_ARGMIN}, {"std", REDUCE_STD},   {"norm", REDUCE_NORM},   {"prod", REDUCE_PRODUCT}, {NULL, 0}};
    static const luaL_Reg others[] = {
        {"softmax", softmax_lua}, {"clamp", clamp_lua},     {"where", where_lua},       {"matmul", matmul_lua}, {"topk", topk_lua},
        {"sort", sort_lua},       {"argsort", argsort_lua}, {"cat", cat_lua},           {"stack", stack_lua},   {"pad", pad_lua},
        {"flip", flip_lua},       {"equal", equal_lua},     {"allclose", allclose_lua}, {"apply", apply_lua},   {NULL, NULL}};
    add_kinds(L, binaries, binary_lua);
    add_kinds(L, unaries, unary_lua);
    add_kinds(L, reductions, reduce_lua);
    luaL_setfuncs(L, others, 0);
}
