/* Files on the disk: what is in a .espdl, and what is wrong with it. */
#include <string.h>

#include "base/memory.h"
#include "bind/espdl.h"
#include "espdl/pack.h"
#include "espdl/verify.h"

#define PACK_TYPE "espq.pack"
#define FINDINGS_TYPE "espq.findings"

static int model_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, ESPDL_TYPE);
    EspdlModel *model = box->object;
    box->object = NULL;
    espdl_model_free(model);
    return 0;
}

static int findings_release(lua_State *L)
{
    Findings *findings = luaL_checkudata(L, 1, FINDINGS_TYPE);
    findings_free(findings);
    memset(findings, 0, sizeof *findings);
    return 0;
}

/* load(path [, model]): model names one of a package. */
static int load_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path"), *name = lua_isnoneornil(L, 2) ? NULL : check_text(L, 2, "a model's name");
    Error error;
    error_begin(&error);
    Box *box = push_box(L, ESPDL_TYPE);
    EspdlModel *model = espdl_load_model(path, name, &error);
    if (!model) return raise_error(L, &error);
    box->object = model;
    account(L, model->arena.bytes);
    return 1;
}

static int pack_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, PACK_TYPE);
    EspdlPack *pack = box->object;
    box->object = NULL;
    espdl_pack_free(pack);
    return 0;
}

/* pack(path): { container =, version =, models = names, packed = a package and no plain file }. */
static int pack_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    Error error;
    error_begin(&error);
    Box *box = push_box(L, PACK_TYPE);
    EspdlPack *pack = espdl_pack_load(path, &error);
    if (!pack) return raise_error(L, &error);
    box->object = pack;
    lua_createtable(L, 0, 4);
    lua_pushstring(L, pack->container);
    lua_setfield(L, -2, "container");
    lua_pushboolean(L, pack->container[0] == 'P');
    lua_setfield(L, -2, "packed");
    if (pack->version) {
        lua_pushstring(L, pack->version);
        lua_setfield(L, -2, "version");
    }
    lua_createtable(L, pack->count, 0);
    for (int i = 0; i < pack->count; i++) {
        lua_pushstring(L, pack->entries[i].name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "models");
    return 1;
}

/* pack_bytes(paths, format): the bytes of a package. */
static int pack_bytes_lua(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *format = check_text(L, 2, "a format");
    int count = (int)luaL_len(L, 1);
    const char **paths = push_memory(L, (size_t)(count + 1) * sizeof *paths);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 1, i + 1); /* the table keeps the text */
        paths[i] = check_text(L, -1, "a path");
        lua_pop(L, 1);
    }
    Error error;
    error_begin(&error);
    Text *text = push_text(L);
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (!espdl_pack_write(paths, count, format, &bytes, &size, &error)) return raise_error(L, &error);
    text_add_bytes(text, bytes, size);
    memory_free(bytes);
    return finish_text(L, text);
}

static int text_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    Error error;
    error_begin(&error);
    Text *text = push_text(L);
    if (!espdl_info_text(model, text, &error)) return raise_error(L, &error);
    return finish_text(L, text);
}

Findings *push_findings(lua_State *L)
{
    Findings *findings = lua_newuserdatauv(L, sizeof *findings, 0);
    memset(findings, 0, sizeof *findings);
    luaL_setmetatable(L, FINDINGS_TYPE);
    return findings;
}

int list_findings(lua_State *L, const Findings *findings)
{
    lua_createtable(L, findings->count, 0);
    for (int i = 0; i < findings->count; i++) {
        const Finding *finding = &findings->rows[i];
        lua_createtable(L, 0, 4);
        lua_pushstring(L, finding->level == FINDING_ERROR ? "error" : "warning");
        lua_setfield(L, -2, "level");
        lua_pushstring(L, finding->rule);
        lua_setfield(L, -2, "rule");
        lua_pushstring(L, finding->where);
        lua_setfield(L, -2, "where");
        lua_pushstring(L, finding->text);
        lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int verify_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    const char *target = luaL_optstring(L, 2, NULL);
    Error error;
    error_begin(&error);
    Findings *findings = push_findings(L);
    if (!espdl_verify(model, target, findings, &error)) return raise_error(L, &error);
    return list_findings(L, findings);
}

static void push_numbers(lua_State *L, const int64_t *numbers, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushinteger(L, numbers[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

static void set_type(lua_State *L, int type)
{
    lua_pushstring(L, dtype_rows[dtype_from_onnx(type)].label);
    lua_setfield(L, -2, "dtype");
}

static void push_ends(lua_State *L, const EspdlValue *values, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_createtable(L, 0, 4);
        lua_pushstring(L, values[i].name);
        lua_setfield(L, -2, "name");
        set_type(L, values[i].elem_type);
        push_numbers(L, values[i].dims, values[i].rank);
        lua_setfield(L, -2, "shape");
        push_numbers(L, values[i].exponents, values[i].exponent_count);
        lua_setfield(L, -2, "exponents");
        lua_rawseti(L, -2, i + 1);
    }
}

static void push_tensors(lua_State *L, const EspdlTensor *tensors, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_createtable(L, 0, 6);
        lua_pushstring(L, tensors[i].name);
        lua_setfield(L, -2, "name");
        set_type(L, tensors[i].data_type);
        push_numbers(L, tensors[i].dims, tensors[i].rank);
        lua_setfield(L, -2, "shape");
        push_numbers(L, tensors[i].exponents, tensors[i].exponent_count);
        lua_setfield(L, -2, "exponents");
        lua_pushinteger(L, (lua_Integer)tensors[i].data_bytes);
        lua_setfield(L, -2, "bytes");
        if (tensors[i].doc) {
            lua_pushstring(L, tensors[i].doc);
            lua_setfield(L, -2, "layout");
        }
        lua_rawseti(L, -2, i + 1);
    }
}

static void push_attribute(lua_State *L, const Attribute *attribute)
{
    switch (attribute->kind) {
    case ATTRIBUTE_INT: lua_pushinteger(L, attribute->integer); return;
    case ATTRIBUTE_FLOAT: lua_pushnumber(L, attribute->number); return;
    case ATTRIBUTE_STRING: lua_pushstring(L, attribute->string); return;
    case ATTRIBUTE_INTS: push_numbers(L, attribute->integers, attribute->count); return;
    case ATTRIBUTE_FLOATS:
    case ATTRIBUTE_STRINGS:
        lua_createtable(L, attribute->count, 0);
        for (int i = 0; i < attribute->count; i++) {
            if (attribute->kind == ATTRIBUTE_FLOATS)
                lua_pushnumber(L, attribute->numbers[i]);
            else
                lua_pushstring(L, attribute->strings[i]);
            lua_rawseti(L, -2, i + 1);
        }
        return;
    case ATTRIBUTE_TENSOR: lua_pushstring(L, "tensor"); return;
    }
    lua_pushnil(L);
}

static void push_attributes(lua_State *L, const EspdlNode *node)
{
    lua_createtable(L, 0, node->attribute_count);
    for (int i = 0; i < node->attribute_count; i++) {
        push_attribute(L, &node->attributes[i]);
        lua_setfield(L, -2, node->attributes[i].name);
    }
}

/* data(model, "test_inputs" | "test_outputs" | "initializers", i): the numbers of one tensor, as a list. */
static int data_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    const char *kind = check_text(L, 2, "a kind of tensor");
    bool input = strcmp(kind, "test_inputs") == 0, output = strcmp(kind, "test_outputs") == 0;
    const EspdlTensor *list = input ? model->test_inputs : output ? model->test_outputs : model->initializers;
    int count = input ? model->test_input_count : output ? model->test_output_count : model->initializer_count;
    int64_t position = check_integer(L, 3, "a position from 1");
    if (position < 1 || position > count)
        return raise_text(L, NULL, NULL, "the model has %d %s, not %lld", count, kind, (long long)position);
    const EspdlTensor *tensor = &list[position - 1];
    Dtype dtype = dtype_from_onnx(tensor->data_type);
    int64_t items = dtype == DTYPE_NONE ? 0 : (int64_t)(tensor->data_bytes / dtype_bytes(dtype));
    lua_createtable(L, (int)items, 0);
    for (int64_t i = 0; i < items; i++) {
        /* the file's bytes need not be aligned for their type */
        union {
            int64_t align;
            char bytes[8];
        } room;
        memcpy(room.bytes, (const char *)tensor->data + i * (int64_t)dtype_bytes(dtype), dtype_bytes(dtype));
        Tensor element = {.dtype = dtype, .data = room.bytes};
        if (dtype_rows[dtype].is_float)
            lua_pushnumber(L, tensor_get(&element, 0));
        else
            lua_pushinteger(L, tensor_get_integer(&element, 0));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int table_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    lua_createtable(L, 0, 10);
    lua_pushstring(L, model->container);
    lua_setfield(L, -2, "container");
    lua_pushstring(L, model->graph_name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, model->model_version);
    lua_setfield(L, -2, "model_version");
    push_ends(L, model->inputs, model->input_count);
    lua_setfield(L, -2, "inputs");
    push_ends(L, model->outputs, model->output_count);
    lua_setfield(L, -2, "outputs");
    push_ends(L, model->values, model->value_count);
    lua_setfield(L, -2, "values");
    push_tensors(L, model->initializers, model->initializer_count);
    lua_setfield(L, -2, "initializers");
    push_tensors(L, model->test_inputs, model->test_input_count);
    lua_setfield(L, -2, "test_inputs");
    push_tensors(L, model->test_outputs, model->test_output_count);
    lua_setfield(L, -2, "test_outputs");
    lua_createtable(L, model->node_count, 0);
    for (int i = 0; i < model->node_count; i++) {
        const EspdlNode *node = &model->nodes[i];
        lua_createtable(L, 0, 5);
        lua_pushstring(L, node->name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, node->type);
        lua_setfield(L, -2, "type");
        for (int side = 0; side < 2; side++) {
            int count = side ? node->output_count : node->input_count;
            lua_createtable(L, count, 0);
            for (int k = 0; k < count; k++) {
                lua_pushstring(L, side ? node->outputs[k] : node->inputs[k]);
                lua_rawseti(L, -2, k + 1);
            }
            lua_setfield(L, -2, side ? "outputs" : "inputs");
        }
        push_attributes(L, node);
        lua_setfield(L, -2, "attributes");
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "nodes");
    lua_createtable(L, model->metadata_count, 0);
    for (int i = 0; i < model->metadata_count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushstring(L, model->metadata[i].key);
        lua_rawseti(L, -2, 1);
        lua_pushstring(L, model->metadata[i].value);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "metadata");
    return 1;
}

void open_espdl(lua_State *L)
{
    static const luaL_Reg functions[] = {{"load", load_lua}, {"text", text_lua}, {"verify", verify_lua},         {"table", table_lua},
                                         {"data", data_lua}, {"pack", pack_lua}, {"pack_bytes", pack_bytes_lua}, {NULL, NULL}};
    make_type(L, PACK_TYPE, NULL, NULL, pack_release);
    make_type(L, ESPDL_TYPE, NULL, NULL, model_release);
    make_type(L, FINDINGS_TYPE, NULL, NULL, findings_release);
    luaL_newlib(L, functions);
    add_inspection(L);
}
