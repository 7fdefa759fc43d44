/* Making tensors from Lua tables, numbers, files and pictures. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "bind/tensor_parts.h"
#include "tensor/arithmetic.h"
#include "tensor/image.h"
#include "tensor/npy.h"

static Random script_random = {0}; /* of randn and rand without a seed of their own; espq.seed(n) starts it */

static int seed_lua(lua_State *L)
{
    random_seed(&script_random, (uint64_t)check_integer(L, 1, "a whole number"));
    return 0;
}

/* ---- nested tables ---- */

/* Every level asks how long it is and whether the tables below agree. */
static void measure(lua_State *L, int index, int axis, Shape *shape, bool *floats, bool *booleans)
{
    if (lua_type(L, index) != LUA_TTABLE) {
        if (lua_isboolean(L, index))
            *booleans = true;
        else if (lua_type(L, index) != LUA_TNUMBER)
            raise_text(L, NULL, NULL, "tensor: a %s stands among the numbers", luaL_typename(L, index));
        else if (!lua_isinteger(L, index))
            *floats = true;
        if (shape->rank != axis)
            raise_text(L, NULL, NULL, "tensor: the table is not regular: a number stands where a list of %lld was",
                       (long long)shape->dims[axis]);
        return;
    }
    int64_t length = (int64_t)lua_rawlen(L, index);
    if (axis >= ESPQ_MAX_RANK) raise_text(L, NULL, NULL, "tensor: at most %d levels of tables", ESPQ_MAX_RANK);
    if (shape->dims[axis] < 0) {
        shape->dims[axis] = length;
        shape->rank = axis + 1;
    } else if (axis >= shape->rank || shape->dims[axis] != length) {
        raise_text(L, NULL, NULL, "tensor: the table is not regular: axis %d has lists of %lld and of %lld", axis,
                   (long long)shape->dims[axis], (long long)length);
    }
    luaL_checkstack(L, 4, "tensor");
    for (int64_t i = 1; i <= length; i++) {
        lua_rawgeti(L, index, i);
        measure(L, lua_gettop(L), axis + 1, shape, floats, booleans);
        lua_pop(L, 1);
    }
}

static void fill(lua_State *L, int index, Tensor *tensor, int64_t *position)
{
    if (lua_type(L, index) == LUA_TTABLE) {
        int64_t length = (int64_t)lua_rawlen(L, index);
        for (int64_t i = 1; i <= length; i++) {
            lua_rawgeti(L, index, i);
            fill(L, lua_gettop(L), tensor, position);
            lua_pop(L, 1);
        }
        return;
    }
    if (tensor->dtype == DTYPE_INT64 && lua_isinteger(L, index))
        ((int64_t *)(void *)tensor->data)[(*position)++] = lua_tointeger(L, index);
    else
        tensor_set(tensor, (*position)++, lua_isboolean(L, index) ? lua_toboolean(L, index) : lua_tonumber(L, index));
}

static const char *const dtype_only[] = {"dtype", NULL};

static Dtype option_dtype(lua_State *L, int index, Dtype otherwise)
{
    if (!lua_istable(L, index)) return check_dtype(L, index, otherwise);
    lua_getfield(L, index, "dtype");
    Dtype dtype = check_dtype(L, lua_gettop(L), otherwise);
    lua_pop(L, 1);
    return dtype;
}

/* tensor(nested table or number, dtype); tensor{ shape = {…}, dtype = } makes zeros. */
static int tensor_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    if (test_tensor(L, 1)) {
        Tensor *plain = push_contiguous(L, check_tensor(L, 1));
        Dtype dtype = option_dtype(L, 2, plain->dtype);
        Box *box = push_tensor_box(L);
        Tensor *made = dtype == plain->dtype ? tensor_copy(plain, &error) : tensor_convert(plain, dtype, &error);
        return finish_tensor(L, box, made, &error);
    }
    if (lua_istable(L, 1) && lua_getfield(L, 1, "shape") == LUA_TTABLE) {
        Shape shape = check_shape(L, lua_gettop(L), "shape");
        Dtype dtype = option_dtype(L, 1, DTYPE_FLOAT32);
        Box *box = push_tensor_box(L);
        return finish_tensor(L, box, tensor_new(dtype, &shape, &error), &error);
    }
    lua_settop(L, 2);
    if (lua_type(L, 1) != LUA_TTABLE && lua_type(L, 1) != LUA_TNUMBER && lua_type(L, 1) != LUA_TBOOLEAN)
        return raise_argument(L, 1, "a table of numbers or a number");
    Shape shape = {0};
    for (int i = 0; i < ESPQ_MAX_RANK; i++)
        shape.dims[i] = -1;
    bool floats = false, booleans = false;
    measure(L, 1, 0, &shape, &floats, &booleans);
    check_option_names(L, 2, dtype_only);
    Dtype dtype = option_dtype(L, 2, floats ? DTYPE_FLOAT32 : booleans ? DTYPE_BOOL : DTYPE_INT64);
    Box *box = push_tensor_box(L);
    finish_tensor(L, box, tensor_new(dtype, &shape, &error), &error);
    int64_t position = 0;
    fill(L, 1, box->object, &position);
    return 1;
}

static int full(lua_State *L, double value, int options)
{
    Shape shape = check_shape(L, 1, "a shape");
    check_option_names(L, options, dtype_only);
    Dtype dtype = option_dtype(L, options, DTYPE_FLOAT32);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_full(&shape, dtype, value, &error), &error);
}

static int zeros_lua(lua_State *L)
{
    return full(L, 0, 2);
}
static int ones_lua(lua_State *L)
{
    return full(L, 1, 2);
}
static int full_lua(lua_State *L)
{
    return full(L, check_number(L, 2, "a number"), 3);
}

/* arange(stop), arange(start, stop, step), each with { dtype = } at the end. */
static int arange_lua(lua_State *L)
{
    int count = 0;
    bool whole = true;
    double values[3] = {0, 0, 1};
    while (count < 3 && lua_type(L, count + 1) == LUA_TNUMBER) {
        values[count] = lua_tonumber(L, count + 1);
        whole = whole && lua_isinteger(L, count + 1);
        count++;
    }
    if (count == 0) return raise_argument(L, 1, "a number");
    if (count == 1) {
        values[1] = values[0];
        values[0] = 0;
    }
    check_option_names(L, count + 1, dtype_only);
    Dtype dtype = option_dtype(L, count + 1, whole ? DTYPE_INT64 : DTYPE_FLOAT32);
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, tensor_arange(values[0], values[1], values[2], dtype, &error), &error);
}

static int random_lua(lua_State *L, Tensor *(*make)(const Shape *, Dtype, Random *, Error *))
{
    Shape shape = check_shape(L, 1, "a shape");
    check_option_names(L, 2, (const char *const[]){"dtype", "seed", NULL});
    Dtype dtype = option_dtype(L, 2, DTYPE_FLOAT32);
    Random own, *random = &script_random;
    if (lua_istable(L, 2) && lua_getfield(L, 2, "seed") != LUA_TNIL) {
        random_seed(&own, (uint64_t)check_integer(L, lua_gettop(L), "a whole number as seed"));
        random = &own;
    }
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, make(&shape, dtype, random, &error), &error);
}

static int randn_lua(lua_State *L)
{
    return random_lua(L, tensor_random_normal);
}
static int rand_lua(lua_State *L)
{
    return random_lua(L, tensor_random_uniform);
}

/* ---- files ---- */

static int from_npy_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, npy_read(path, &error), &error);
}

#define ENTRIES_TYPE "espq.npz"

typedef struct Entries {
    NpzEntry *entries;
    int count;
} Entries;

static int entries_release(lua_State *L)
{
    Entries *entries = luaL_checkudata(L, 1, ENTRIES_TYPE);
    npz_free(entries->entries, entries->count);
    *entries = (Entries){NULL, 0};
    return 0;
}

/* from_npz(path): name → tensor, and the list of names in the file's order. */
static int from_npz_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    Error error;
    error_begin(&error);
    Entries *entries = lua_newuserdatauv(L, sizeof *entries, 0);
    *entries = (Entries){NULL, 0};
    luaL_setmetatable(L, ENTRIES_TYPE);
    if (!npz_read(path, &entries->entries, &entries->count, &error)) return raise_error(L, &error);
    lua_createtable(L, 0, entries->count);
    lua_createtable(L, entries->count, 0);
    size_t bytes = 0;
    for (int i = 0; i < entries->count; i++) {
        push_tensor_retained(L, entries->entries[i].tensor);
        lua_setfield(L, -3, entries->entries[i].name);
        lua_pushstring(L, entries->entries[i].name);
        lua_rawseti(L, -2, i + 1);
        bytes += tensor_bytes(entries->entries[i].tensor);
    }
    account(L, bytes);
    return 2;
}

/* save_npz(path, {{name, tensor}, …}) */
static int save_npz_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    luaL_checktype(L, 2, LUA_TTABLE);
    int count = (int)lua_rawlen(L, 2);
    NpzEntry *entries = push_memory(L, sizeof *entries * (size_t)count);
    luaL_checkstack(L, count * 2 + 8, "save_npz");
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        int item = lua_gettop(L);
        lua_rawgeti(L, item, 1);
        entries[i].name = (char *)check_text(L, lua_gettop(L), "a name");
        lua_rawgeti(L, item, 2);
        entries[i].tensor = push_contiguous(L, check_tensor(L, lua_gettop(L)));
        lua_replace(L, item); /* the box stays on the stack, what led to it goes */
        lua_settop(L, item);
    }
    Error error;
    error_begin(&error);
    if (!npz_write(path, entries, count, &error)) return raise_error(L, &error);
    return 0;
}

/* ---- pictures ---- */

/* image(path, { mode = "RGB" }): uint8 [height, width, channels] */
static int image_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    Error error;
    error_begin(&error);
    ImageMode mode = IMAGE_RGB;
    check_option_names(L, 2, (const char *const[]){"mode", NULL});
    const char *name = lua_istable(L, 2) ? field_text(L, 2, "mode", NULL) : NULL;
    if (name && !image_mode_from_name(name, &mode, &error)) return raise_error(L, &error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, image_read(path, mode, &error), &error);
}

/* resize(image, height, width, filter) */
static int resize_lua(lua_State *L)
{
    Tensor *image = push_contiguous(L, check_tensor(L, 1));
    int64_t height = check_integer(L, 2, "a height"), width = check_integer(L, 3, "a width");
    ImageFilter filter = FILTER_BILINEAR;
    Error error;
    error_begin(&error);
    if (!lua_isnoneornil(L, 4) && lua_type(L, 4) == LUA_TSTRING && !image_filter_from_name(lua_tostring(L, 4), &filter, &error))
        return raise_error(L, &error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, image_resize(image, height, width, filter, &error), &error);
}

/* planes(image, scale, mean, std): float32 [channels, height, width], mean and std float32 with one number a channel */
static int planes_lua(lua_State *L)
{
    Tensor *image = push_contiguous(L, check_tensor(L, 1));
    float scale = (float)check_number(L, 2, "a scale");
    Tensor *mean = push_contiguous(L, check_tensor(L, 3)), *std = push_contiguous(L, check_tensor(L, 4));
    if (image->dtype != DTYPE_UINT8 || image->shape.rank != 3) return raise_argument(L, 1, "a picture as espq.image makes it");
    for (int i = 3; i <= 4; i++) {
        const Tensor *numbers = i == 3 ? mean : std;
        if (numbers->dtype != DTYPE_FLOAT32 || tensor_count(numbers) != image->shape.dims[2])
            return raise_argument(L, i, "a float32 tensor of one number a channel");
    }
    Error error;
    error_begin(&error);
    Box *box = push_tensor_box(L);
    return finish_tensor(L, box, image_planes(image, scale, tensor_floats(mean), tensor_floats(std), &error), &error);
}

static int is_tensor(lua_State *L)
{
    lua_pushboolean(L, luaL_testudata(L, 1, TENSOR_TYPE) != NULL);
    return 1;
}

void add_tensor_functions(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"tensor", tensor_lua},     {"zeros", zeros_lua},       {"ones", ones_lua},       {"full", full_lua},
        {"arange", arange_lua},     {"randn", randn_lua},       {"rand", rand_lua},       {"from_npy", from_npy_lua},
        {"from_npz", from_npz_lua}, {"save_npz", save_npz_lua}, {"image", image_lua},     {"resize", resize_lua},
        {"planes", planes_lua},     {"seed", seed_lua},         {"is_tensor", is_tensor}, {NULL, NULL}};
    luaL_newmetatable(L, ENTRIES_TYPE);
    lua_pushcfunction(L, entries_release);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    random_seed(&script_random, 0);
    luaL_setfuncs(L, functions, 0);
}
