/* Graphs in Lua: loading, building, editing, saving. */
#include "bind/graph.h"

#include <string.h>

#include "base/memory.h"
#include "bind/tensor.h"
#include "graph/operator.h"
#include "onnx/onnx.h"

static void note_graph(lua_State *L, int index);

GraphHolder *push_graph(lua_State *L)
{
    Box *box = push_box(L, GRAPH_TYPE);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_setiuservalue(L, -2, 1);
    lua_newtable(L);
    lua_setiuservalue(L, -2, 2);
    GraphHolder *holder = memory_new(sizeof *holder);
    if (!holder) {
        Error error;
        error_begin(&error);
        fail_memory(&error, sizeof *holder);
        raise_error(L, &error);
    }
    box->object = holder;
    note_graph(L, -1);
    return holder;
}

GraphHolder *check_graph(lua_State *L, int index)
{
    GraphHolder *holder = check_box(L, index, GRAPH_TYPE, "a graph");
    if (!holder->graph) raise_text(L, NULL, NULL, "the graph is empty");
    return holder;
}

/* The engine hands a Graph to callbacks; the holder that has it is found through the link made here. */
static const char graphs_key = 'g';

static void note_graph(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &graphs_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_createtable(L, 0, 1);
        lua_pushliteral(L, "k");
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &graphs_key);
    }
    lua_pushvalue(L, index);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

void push_current_graph(lua_State *L, const Graph *graph)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &graphs_key) == LUA_TTABLE) {
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            lua_pop(L, 1);
            Box *box = lua_touserdata(L, -1);
            GraphHolder *holder = box->object;
            if (holder && holder->graph == graph) {
                lua_remove(L, -2);
                return;
            }
        }
    }
    raise_text(L, NULL, NULL, "the graph of a callback is not known to Lua");
}

static int graph_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, GRAPH_TYPE);
    GraphHolder *holder = box->object;
    box->object = NULL;
    if (!holder) return 0;
    graph_free(holder->graph);
    for (size_t i = 0; i < holder->retired_count; i++)
        graph_free(holder->retired[i]);
    memory_free(holder->retired);
    memory_free(holder);
    return 0;
}

bool holder_restore(GraphHolder *holder, Graph *copy, Error *error)
{
    Graph **retired = memory_grow(holder->retired, holder->retired_count, &holder->retired_capacity, sizeof *retired);
    if (!retired) return fail_memory(error, sizeof *retired);
    holder->retired = retired;
    Graph *damaged = holder->graph;
    for (int i = 0; i < damaged->node_count; i++)
        damaged->nodes[i]->removed = true;
    for (int i = 0; i < damaged->value_count; i++)
        damaged->values[i]->removed = true;
    retired[holder->retired_count++] = damaged;
    holder->graph = copy;
    holder->revision++;
    return true;
}

static int graph_done(lua_State *L, GraphHolder *holder, bool done, const Error *error)
{
    holder->revision++;
    return done ? 0 : raise_error(L, error);
}

/* load(path, {{name=, shape=}, …}): an ONNX file in canonical form, nothing rewritten. */
static int graph_load(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    OnnxOptions options = {0};
    if (lua_istable(L, 2)) {
        options.input_shape_count = (int)lua_rawlen(L, 2);
        InputShape *shapes = push_memory(L, sizeof *shapes * (size_t)options.input_shape_count);
        options.input_shapes = shapes;
        for (int i = 0; i < options.input_shape_count; i++) {
            lua_rawgeti(L, 2, i + 1);
            shapes[i].name = field_text(L, -1, "name", NULL);
            lua_getfield(L, -1, "shape");
            shapes[i].shape = check_shape(L, lua_gettop(L), "input_shape");
            lua_pop(L, 2);
        }
    }
    Error error;
    error_begin(&error);
    enter(L);
    GraphHolder *holder = push_graph(L);
    holder->graph = onnx_load(path, &options, &error);
    if (!holder->graph) return raise_error(L, &error);
    /* Shapes for whoever looks. Behind arithmetic on shapes they are known after simplification only: that is no fault of the file. */
    graph_infer(holder->graph, &error);
    account(L, holder->graph->arena.bytes);
    return 1;
}

static int graph_save(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Error error;
    error_begin(&error);
    if (!onnx_save(holder->graph, check_text(L, 2, "a path"), &error)) return raise_error(L, &error);
    return 0;
}

static int graph_make(lua_State *L)
{
    const char *name = luaL_optstring(L, 1, "graph");
    Error error;
    error_begin(&error);
    GraphHolder *holder = push_graph(L);
    holder->graph = graph_new(name, &error);
    if (!holder->graph) return raise_error(L, &error);
    holder->graph->ir_version = 8;
    holder->graph->opset = 18;
    return 1;
}

static int graph_copy_lua(lua_State *L)
{
    GraphHolder *from = check_graph(L, 1);
    Error error;
    error_begin(&error);
    GraphHolder *holder = push_graph(L);
    holder->graph = graph_copy(from->graph, &error);
    if (!holder->graph) return raise_error(L, &error);
    lua_getiuservalue(L, 1, 2);
    lua_getiuservalue(L, -2, 2);
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_pop(L, 2);
    account(L, holder->graph->arena.bytes);
    return 1;
}

/* ---- making ---- */

/* add_value(graph, name, dtype, shape) */
static int graph_add_value_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *name = luaL_optstring(L, 2, NULL);
    Dtype dtype = check_dtype(L, 3, DTYPE_NONE);
    bool shaped = !lua_isnoneornil(L, 4);
    Shape shape = {0};
    if (shaped) shape = check_shape(L, 4, "shape");
    Error error;
    error_begin(&error);
    Value *value = graph_add_value(holder->graph, name, &error);
    if (!value) return raise_error(L, &error);
    value->dtype = dtype;
    value->shaped = shaped;
    value->shape = shape;
    holder->revision++;
    push_value(L, 1, value);
    return 1;
}

static int graph_add_constant_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *name = luaL_optstring(L, 2, NULL);
    Tensor *tensor = check_tensor(L, 3);
    Error error;
    error_begin(&error);
    Tensor *copy = tensor_copy(tensor, &error);
    if (!copy) return raise_error(L, &error);
    Value *value = graph_add_constant(holder->graph, name, copy, &error);
    tensor_release(copy);
    if (!value) return raise_error(L, &error);
    holder->revision++;
    push_value(L, 1, value);
    return 1;
}

static int graph_add_node_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *type = check_text(L, 2, "an operator's type"), *name = luaL_optstring(L, 3, NULL);
    Error error;
    error_begin(&error);
    Node *node = graph_add_node(holder->graph, type, name, &error);
    if (!node) return raise_error(L, &error);
    holder->revision++;
    push_node(L, 1, node);
    return 1;
}

static int graph_mark(lua_State *L, bool (*mark)(Graph *, Value *, Error *))
{
    GraphHolder *holder = check_graph(L, 1);
    Value *value = check_value(L, 2, holder->graph);
    Error error;
    error_begin(&error);
    bool done = mark(holder->graph, value, &error);
    return graph_done(L, holder, done, &error);
}

static int graph_add_input_lua(lua_State *L)
{
    return graph_mark(L, graph_add_input);
}
static int graph_add_output_lua(lua_State *L)
{
    return graph_mark(L, graph_add_output);
}

/* clear_outputs(graph), clear_inputs(graph): before the ends are set anew (extract). */
static int graph_clear_outputs(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    holder->graph->output_count = 0;
    holder->revision++;
    return 0;
}

static int graph_clear_inputs(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    holder->graph->input_count = 0;
    holder->revision++;
    return 0;
}

/* ---- editing ---- */

static int graph_remove_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    graph_remove_node(holder->graph, check_node(L, 2, holder->graph));
    holder->revision++;
    return 0;
}

static int graph_remove_value_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Value *value = check_value(L, 2, holder->graph);
    if (value->producer || value->use_count) return raise_text(L, NULL, NULL, "tensor '%s' is still in use", value->name);
    graph_remove_value(holder->graph, value);
    holder->revision++;
    return 0;
}

static int graph_remove_unused_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    graph_remove_unused(holder->graph);
    holder->revision++;
    return 0;
}

/* replace_uses(graph, from, to): every consumer of from reads to; a graph output stays where it is. */
static int graph_replace_uses_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Value *from = check_value(L, 2, holder->graph), *to = check_value(L, 3, holder->graph);
    Error error;
    error_begin(&error);
    bool done = value_replace_uses(holder->graph, from, to, &error);
    return graph_done(L, holder, done, &error);
}

static int graph_infer_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Error error;
    error_begin(&error);
    enter(L);
    bool done = graph_infer(holder->graph, &error);
    return graph_done(L, holder, done, &error);
}

static int graph_check_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Error error;
    error_begin(&error);
    if (!graph_check(holder->graph, &error)) return raise_error(L, &error);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---- asking ---- */

static int graph_list_nodes(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    int count = holder->graph->node_count;
    lua_createtable(L, count, 0);
    for (int i = 0; i < holder->graph->node_count; i++) {
        push_node(L, 1, holder->graph->nodes[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int graph_list_tensors(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    push_values(L, 1, holder->graph->values, holder->graph->value_count);
    return 1;
}

/* sorted(graph): the nodes in the order of execution. */
static int graph_sorted(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    int count = holder->graph->node_count;
    Error error;
    error_begin(&error);
    Node **order = NULL;
    Node **kept = push_memory(L, sizeof *kept * (size_t)count);
    if (!graph_sort(holder->graph, &order, &error)) return raise_error(L, &error);
    if (count) memcpy(kept, order, sizeof *kept * (size_t)count);
    memory_free(order);
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        push_node(L, 1, kept[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* node(graph, name), tensor(graph, name): nil when there is none; the Lua side makes errors with the nearest name. */
static int graph_find_node(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    push_node(L, 1, graph_node(holder->graph, check_text(L, 2, "a name")));
    return 1;
}

static int graph_find_tensor(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    push_value(L, 1, graph_value(holder->graph, check_text(L, 2, "a name")));
    return 1;
}

static int graph_text(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Text *text = push_text(L);
    graph_print(holder->graph, text);
    return finish_text(L, text);
}

static int graph_notes(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    lua_pushlstring(L, holder->graph->notes.data ? holder->graph->notes.data : "", holder->graph->notes.length);
    return 1;
}

static int graph_about(lua_State *L)
{
    check_graph(L, 1);
    lua_getiuservalue(L, 1, 2);
    return 1;
}

static int graph_index(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    const char *field = check_text(L, 2, "the name of a field");
    Graph *graph = holder->graph;
    if (strcmp(field, "name") == 0)
        lua_pushstring(L, graph->name);
    else if (strcmp(field, "source") == 0)
        lua_pushstring(L, graph->source);
    else if (strcmp(field, "opset") == 0)
        lua_pushinteger(L, graph->opset);
    else if (strcmp(field, "inputs") == 0)
        push_values(L, 1, graph->inputs, graph->input_count);
    else if (strcmp(field, "outputs") == 0)
        push_values(L, 1, graph->outputs, graph->output_count);
    else {
        luaL_getmetafield(L, 1, "methods");
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) == LUA_TNIL)
            return raise_text(L, NULL, "it has name, source, opset, inputs, outputs and the methods of the manual",
                              "a graph has no field '%s'", field);
    }
    return 1;
}

static int graph_length(lua_State *L)
{
    lua_pushinteger(L, check_graph(L, 1)->graph->node_count);
    return 1;
}

void open_graph(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__index", graph_index}, {"__tostring", graph_text}, {"__len", graph_length}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"load", graph_load},
                                         {"save", graph_save},
                                         {"make", graph_make},
                                         {"copy", graph_copy_lua},
                                         {"add_value", graph_add_value_lua},
                                         {"add_constant", graph_add_constant_lua},
                                         {"add_node", graph_add_node_lua},
                                         {"add_input", graph_add_input_lua},
                                         {"add_output", graph_add_output_lua},
                                         {"clear_inputs", graph_clear_inputs},
                                         {"clear_outputs", graph_clear_outputs},
                                         {"remove", graph_remove_lua},
                                         {"remove_tensor", graph_remove_value_lua},
                                         {"remove_unused", graph_remove_unused_lua},
                                         {"replace_uses", graph_replace_uses_lua},
                                         {"infer", graph_infer_lua},
                                         {"check", graph_check_lua},
                                         {"list_nodes", graph_list_nodes},
                                         {"list_tensors", graph_list_tensors},
                                         {"sorted", graph_sorted},
                                         {"find_node", graph_find_node},
                                         {"find_tensor", graph_find_tensor},
                                         {"notes", graph_notes},
                                         {"about", graph_about},
                                         {NULL, NULL}};
    make_type(L, GRAPH_TYPE, NULL, meta, graph_release);
    open_handles(L);
    luaL_newlib(L, functions);
    luaL_getmetatable(L, GRAPH_TYPE);
    lua_getfield(L, -1, "methods");
    lua_setfield(L, -3, "methods"); /* lua/espq/graph.lua adds the methods users see */
    lua_pop(L, 1);
}
