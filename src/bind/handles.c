/* Handles of nodes, values and slots: they keep their graph alive and know when a pass has removed what they stand for. */
#include <string.h>

#include "base/memory.h"
#include "bind/graph.h"
#include "bind/tensor.h"
#include "graph/operator.h"
#include "quant/target.h"

typedef struct Handle {
    void *object;
    GraphHolder *holder;
} Handle;

/* One handle an object, so that handles can be compared and used as keys. */
static void push_handle(lua_State *L, int graph, void *object, const char *type)
{
    if (!object) {
        lua_pushnil(L);
        return;
    }
    graph = lua_absindex(L, graph);
    GraphHolder *holder = check_graph(L, graph);
    lua_getiuservalue(L, graph, 1);
    if (lua_rawgetp(L, -1, object) == LUA_TNIL) {
        lua_pop(L, 1);
        Handle *handle = lua_newuserdatauv(L, sizeof *handle, 1);
        *handle = (Handle){object, holder};
        luaL_setmetatable(L, type);
        lua_pushvalue(L, graph);
        lua_setiuservalue(L, -2, 1);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, -3, object);
    }
    lua_remove(L, -2);
}

void push_node(lua_State *L, int graph, Node *node)
{
    push_handle(L, graph, node, NODE_TYPE);
}
void push_value(lua_State *L, int graph, Value *value)
{
    push_handle(L, graph, value, VALUE_TYPE);
}
void push_slot(lua_State *L, int graph, Slot *slot)
{
    push_handle(L, graph, slot, SLOT_TYPE);
}

void push_values(lua_State *L, int graph, Value *const *values, int count)
{
    graph = lua_absindex(L, graph);
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        if (values[i])
            push_value(L, graph, values[i]);
        else
            lua_pushboolean(L, 0); /* an end left out: false, so that # counts it */
        lua_rawseti(L, -2, i + 1);
    }
}

void push_slots(lua_State *L, int graph, Slot *const *slots, int count)
{
    graph = lua_absindex(L, graph);
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        push_slot(L, graph, slots[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

static Handle *check_handle(lua_State *L, int index, const char *type, const char *what)
{
    Handle *handle = luaL_testudata(L, index, type);
    if (!handle) raise_argument(L, index, what);
    return handle;
}

static bool holder_knows(const GraphHolder *holder, const Graph *graph)
{
    return !graph || holder->graph == graph;
}

Node *check_node(lua_State *L, int index, const Graph *graph)
{
    Handle *handle = check_handle(L, index, NODE_TYPE, "a node");
    Node *node = handle->object;
    if (node->removed)
        raise_text(L, NULL, "ask the graph for the node again: graph:node(name)", "node '%s' was removed from its graph", node->name);
    if (!holder_knows(handle->holder, graph)) raise_text(L, NULL, NULL, "node '%s' belongs to another graph", node->name);
    return node;
}

Value *check_value(lua_State *L, int index, const Graph *graph)
{
    if (graph && lua_type(L, index) == LUA_TSTRING) {
        const char *name = lua_tostring(L, index);
        Value *value = graph_value(graph, name);
        if (!value) raise_text(L, NULL, NULL, "the graph has no tensor '%s'", name);
        return value;
    }
    Handle *handle = check_handle(L, index, VALUE_TYPE, "a tensor of the graph, or its name,");
    Value *value = handle->object;
    if (value->removed)
        raise_text(L, NULL, "ask the graph for it again: graph:tensor(name)", "tensor '%s' was removed from its graph", value->name);
    if (!holder_knows(handle->holder, graph)) raise_text(L, NULL, NULL, "tensor '%s' belongs to another graph", value->name);
    return value;
}

/* ---- attributes ---- */

void push_attribute(lua_State *L, const Attribute *attribute)
{
    switch (attribute->kind) {
    case ATTRIBUTE_INT: lua_pushinteger(L, attribute->integer); return;
    case ATTRIBUTE_FLOAT: lua_pushnumber(L, (double)attribute->number); return;
    case ATTRIBUTE_STRING: lua_pushstring(L, attribute->string); return;
    case ATTRIBUTE_TENSOR: push_tensor_copy(L, attribute->tensor); return;
    default: break;
    }
    lua_createtable(L, attribute->count, 0);
    for (int i = 0; i < attribute->count; i++) {
        if (attribute->kind == ATTRIBUTE_INTS)
            lua_pushinteger(L, attribute->integers[i]);
        else if (attribute->kind == ATTRIBUTE_FLOATS)
            lua_pushnumber(L, (double)attribute->numbers[i]);
        else
            lua_pushstring(L, attribute->strings[i]);
        lua_rawseti(L, -2, i + 1);
    }
}

static const AttributeSpec *attribute_spec(const Node *node, const char *name)
{
    if (!node->op) return NULL;
    for (const AttributeSpec *spec = node->op->attributes; spec < node->op->attributes + 14 && spec->name; spec++)
        if (strcmp(spec->name, name) == 0) return spec;
    return NULL;
}

static void list_attribute(lua_State *L, Attribute *attribute, int index, bool floats)
{
    int count = (int)lua_rawlen(L, index);
    bool texts = false;
    for (int i = 1; i <= count; i++) {
        int type = lua_rawgeti(L, index, i);
        if (type == LUA_TSTRING)
            texts = true;
        else if (type != LUA_TNUMBER)
            raise_text(L, NULL, NULL, "attribute '%s': item %d is a %s", attribute->name, i, luaL_typename(L, -1));
        else if (!lua_isinteger(L, -1))
            floats = true;
        lua_pop(L, 1);
    }
    attribute->count = count;
    attribute->kind = texts ? ATTRIBUTE_STRINGS : floats ? ATTRIBUTE_FLOATS : ATTRIBUTE_INTS;
    size_t item = texts ? sizeof(char *) : floats ? sizeof(float) : sizeof(int64_t);
    void *memory = push_memory(L, item * (size_t)count);
    attribute->strings = memory;
    attribute->numbers = memory;
    attribute->integers = memory;
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, index, i + 1);
        if (texts && lua_type(L, -1) != LUA_TSTRING) raise_text(L, NULL, NULL, "attribute '%s' mixes texts and numbers", attribute->name);
        if (texts)
            attribute->strings[i] = lua_tostring(L, -1);
        else if (floats)
            attribute->numbers[i] = (float)lua_tonumber(L, -1);
        else
            attribute->integers[i] = lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
}

void set_attribute(lua_State *L, Graph *graph, Node *node, const char *name, int index)
{
    Attribute attribute = {.name = name};
    const AttributeSpec *spec = attribute_spec(node, name);
    int top = lua_gettop(L);
    index = lua_absindex(L, index);
    switch (lua_type(L, index)) {
    case LUA_TNIL: node_remove_attribute(node, name); return;
    case LUA_TBOOLEAN: attribute.integer = lua_toboolean(L, index); break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index) && !(spec && spec->kind == ATTRIBUTE_FLOAT)) {
            attribute.integer = lua_tointeger(L, index);
        } else {
            attribute.kind = ATTRIBUTE_FLOAT;
            attribute.number = (float)lua_tonumber(L, index);
        }
        break;
    case LUA_TSTRING:
        attribute.kind = ATTRIBUTE_STRING;
        attribute.string = lua_tostring(L, index);
        break;
    case LUA_TTABLE: list_attribute(L, &attribute, index, spec && spec->kind == ATTRIBUTE_FLOATS); break;
    default: attribute.kind = ATTRIBUTE_TENSOR; attribute.tensor = check_tensor(L, index);
    }
    if (!node_set_attribute(graph, node, &attribute)) {
        Error error;
        error_begin(&error);
        fail_memory(&error, 0);
        raise_error(L, &error);
    }
    lua_settop(L, top);
}

/* ---- nodes ---- */

static int node_index(lua_State *L)
{
    Handle *handle = luaL_checkudata(L, 1, NODE_TYPE);
    const char *field = check_text(L, 2, "the name of a field");
    Node *node = handle->object;
    if (strcmp(field, "removed") == 0) {
        lua_pushboolean(L, node->removed);
        return 1;
    }
    if (strcmp(field, "name") == 0) {
        lua_pushstring(L, node->name);
        return 1;
    }
    check_node(L, 1, NULL);
    lua_getiuservalue(L, 1, 1);
    int graph = lua_gettop(L);
    if (strcmp(field, "type") == 0)
        lua_pushstring(L, node->type);
    else if (strcmp(field, "domain") == 0)
        lua_pushstring(L, node->domain ? node->domain : "");
    else if (strcmp(field, "platform") == 0)
        lua_pushstring(L, node->platform ? node->platform->name : platform_unspecified.name);
    else if (strcmp(field, "quantized") == 0)
        lua_pushboolean(L, node->quantized);
    else if (strcmp(field, "inputs") == 0)
        push_values(L, graph, node->inputs, node->input_count);
    else if (strcmp(field, "outputs") == 0)
        push_values(L, graph, node->outputs, node->output_count);
    else if (strcmp(field, "input_config") == 0)
        push_slots(L, graph, node->input_slots, node->quantized ? node->input_count : 0);
    else if (strcmp(field, "output_config") == 0)
        push_slots(L, graph, node->output_slots, node->quantized ? node->output_count : 0);
    else if (strcmp(field, "graph") == 0)
        lua_pushvalue(L, graph);
    else if (strcmp(field, "attributes") == 0) {
        lua_createtable(L, 0, node->attribute_count);
        for (int i = 0; i < node->attribute_count; i++) {
            push_attribute(L, &node->attributes[i]);
            lua_setfield(L, -2, node->attributes[i].name);
        }
    } else {
        luaL_getmetafield(L, 1, "methods");
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) == LUA_TNIL)
            raise_text(L, NULL,
                       "a node has name, type, domain, platform, quantized, inputs, outputs, attributes, input_config, output_config, "
                       "graph, removed",
                       "a node has no field '%s'", field);
    }
    return 1;
}

static int node_newindex(lua_State *L)
{
    Node *node = check_node(L, 1, NULL);
    GraphHolder *holder = ((Handle *)lua_touserdata(L, 1))->holder;
    const char *field = check_text(L, 2, "the name of a field");
    Error error;
    error_begin(&error);
    if (strcmp(field, "name") == 0) {
        if (!graph_rename_node(holder->graph, node, check_text(L, 3, "a name"), &error)) return raise_error(L, &error);
    } else if (strcmp(field, "attributes") == 0) {
        luaL_checktype(L, 3, LUA_TTABLE);
        while (node->attribute_count)
            node_remove_attribute(node, node->attributes[0].name);
        lua_pushnil(L);
        while (lua_next(L, 3)) {
            set_attribute(L, holder->graph, node, check_text(L, -2, "an attribute's name"), -1);
            lua_pop(L, 1);
        }
    } else {
        return raise_text(
            L, NULL, "name, attributes can be; edges change by node:set_input(i, tensor), attributes one by one by node:set(name, value)",
            "field '%s' of a node cannot be assigned", field);
    }
    holder->revision++;
    return 0;
}

static int node_get(lua_State *L)
{
    const Attribute *attribute = node_attribute(check_node(L, 1, NULL), check_text(L, 2, "an attribute's name"));
    if (attribute)
        push_attribute(L, attribute);
    else
        lua_pushvalue(L, lua_gettop(L) >= 3 ? 3 : (lua_pushnil(L), -1));
    return 1;
}

static int node_set(lua_State *L)
{
    Node *node = check_node(L, 1, NULL);
    GraphHolder *holder = ((Handle *)lua_touserdata(L, 1))->holder;
    lua_settop(L, 3);
    set_attribute(L, holder->graph, node, check_text(L, 2, "an attribute's name"), 3);
    holder->revision++;
    return 0;
}

static int node_edge(lua_State *L, bool output)
{
    Node *node = check_node(L, 1, NULL);
    GraphHolder *holder = ((Handle *)lua_touserdata(L, 1))->holder;
    int64_t position = check_integer(L, 2, "a position from 1");
    Value *value = lua_toboolean(L, 3) ? check_value(L, 3, holder->graph) : NULL;
    int count = output ? node->output_count : node->input_count;
    Error error;
    error_begin(&error);
    if (position < 1 || position > count + 1)
        return raise_text(L, NULL, NULL, "node '%s' has no %s %lld", node->name, output ? "output" : "input", (long long)position);
    bool done = position > count
                    ? (output ? node_add_output(holder->graph, node, value, &error) : node_add_input(holder->graph, node, value, &error))
                : output ? node_set_output(holder->graph, node, (int)position - 1, value, &error)
                         : node_set_input(holder->graph, node, (int)position - 1, value, &error);
    if (!done) return raise_error(L, &error);
    holder->revision++;
    return 0;
}

static int node_set_input_lua(lua_State *L)
{
    return node_edge(L, false);
}
static int node_set_output_lua(lua_State *L)
{
    return node_edge(L, true);
}

static int node_text(lua_State *L)
{
    Node *node = ((Handle *)luaL_checkudata(L, 1, NODE_TYPE))->object;
    char where[256];
    lua_pushfstring(L, "node %s%s", node_where(node, where), node->removed ? " (removed)" : "");
    return 1;
}

/* ---- values ---- */

static int value_index(lua_State *L)
{
    Handle *handle = luaL_checkudata(L, 1, VALUE_TYPE);
    const char *field = check_text(L, 2, "the name of a field");
    Value *value = handle->object;
    if (strcmp(field, "removed") == 0) {
        lua_pushboolean(L, value->removed);
        return 1;
    }
    if (strcmp(field, "name") == 0) {
        lua_pushstring(L, value->name);
        return 1;
    }
    check_value(L, 1, NULL);
    lua_getiuservalue(L, 1, 1);
    int graph = lua_gettop(L);
    if (strcmp(field, "dtype") == 0) {
        if (value->dtype == DTYPE_NONE)
            lua_pushnil(L);
        else
            lua_pushstring(L, dtype_name(value->dtype));
    } else if (strcmp(field, "shape") == 0) {
        if (value->shaped)
            push_shape(L, &value->shape);
        else
            lua_pushnil(L);
    } else if (strcmp(field, "value") == 0) {
        if (value->constant)
            push_tensor_copy(L, value->constant); /* constants are shared between graphs: a script writes into its own */
        else
            lua_pushnil(L);
    } else if (strcmp(field, "is_parameter") == 0)
        lua_pushboolean(L, value->constant != NULL);
    else if (strcmp(field, "is_input") == 0)
        lua_pushboolean(L, value_is_input(handle->holder->graph, value));
    else if (strcmp(field, "is_output") == 0)
        lua_pushboolean(L, value_is_output(handle->holder->graph, value));
    else if (strcmp(field, "producer") == 0)
        push_node(L, graph, value->producer);
    else if (strcmp(field, "graph") == 0)
        lua_pushvalue(L, graph);
    else if (strcmp(field, "consumers") == 0) {
        lua_createtable(L, value->use_count, 0);
        for (int i = 0; i < value->use_count; i++) {
            push_node(L, graph, value->uses[i].node);
            lua_rawseti(L, -2, i + 1);
        }
    } else {
        return raise_text(L, NULL,
                          "it has name, dtype, shape, value, is_parameter, is_input, is_output, producer, consumers, graph, removed",
                          "a tensor of a graph has no field '%s'", field);
    }
    return 1;
}

static int value_newindex(lua_State *L)
{
    Value *value = check_value(L, 1, NULL);
    GraphHolder *holder = ((Handle *)lua_touserdata(L, 1))->holder;
    const char *field = check_text(L, 2, "the name of a field");
    Error error;
    error_begin(&error);
    if (strcmp(field, "value") == 0) {
        if (value->producer)
            return raise_text(L, NULL, NULL, "tensor '%s' is what %s computes; only a parameter's value can be assigned", value->name,
                              value->producer->name);
        Tensor *tensor = check_tensor(L, 3);
        if (value->constant && !shape_equal(&value->constant->shape, &tensor->shape)) {
            char wanted[160], given[160];
            return raise_text(L, NULL, NULL, "tensor '%s' has shape %s, the value given %s", value->name,
                              shape_text(&value->constant->shape, wanted), shape_text(&tensor->shape, given));
        }
        Tensor *plain = tensor_copy(tensor, &error);
        if (!plain) return raise_error(L, &error);
        Tensor *converted = value->constant ? tensor_convert(plain, value->constant->dtype, &error) : tensor_retain(plain);
        tensor_release(plain);
        if (!converted) return raise_error(L, &error);
        bool done = value_set_constant(holder->graph, value, converted);
        tensor_release(converted);
        if (!done) {
            fail_memory(&error, 0);
            return raise_error(L, &error);
        }
    } else if (strcmp(field, "name") == 0) {
        if (!graph_rename_value(holder->graph, value, check_text(L, 3, "a name"), &error)) return raise_error(L, &error);
    } else {
        return raise_text(L, NULL, NULL, "field '%s' of a tensor of a graph cannot be assigned; name and value can", field);
    }
    holder->revision++;
    return 0;
}

static int value_text(lua_State *L)
{
    Value *value = ((Handle *)luaL_checkudata(L, 1, VALUE_TYPE))->object;
    char shape[160], name[256];
    text_escape(name, sizeof name, value->name);
    lua_pushfstring(L, "tensor %s %s %s%s", name, value->dtype ? dtype_name(value->dtype) : "?",
                    value->shaped ? shape_text(&value->shape, shape) : "?", value->removed ? " (removed)" : "");
    return 1;
}

/* ---- slots ---- */

static const char *const rounding_names[] = {"ROUND_HALF_EVEN",          "ROUND_HALF_UP", "ROUND_HALF_DOWN", "ROUND_HALF_TOWARDS_ZERO",
                                             "ROUND_HALF_FAR_FROM_ZERO", "ROUND_UP",      "ROUND_DOWN"};

static Slot *check_slot(lua_State *L, int index)
{
    Slot *slot = check_handle(L, index, SLOT_TYPE, "a slot")->object;
    if (slot->node && slot->node->removed) raise_text(L, NULL, NULL, "the slot's node '%s' was removed from its graph", slot->node->name);
    return slot;
}

static int slot_index(lua_State *L)
{
    Slot *slot = check_slot(L, 1);
    const char *field = check_text(L, 2, "the name of a field");
    lua_getiuservalue(L, 1, 1);
    int graph = lua_gettop(L);
    if (strcmp(field, "exponent") == 0) {
        int count = slot_exponent_count(slot);
        if (count == 0) {
            lua_pushnil(L);
        } else if (count == 1) {
            lua_pushinteger(L, slot_exponent(slot, 0));
        } else {
            lua_createtable(L, count, 0);
            for (int i = 0; i < count; i++) {
                lua_pushinteger(L, slot_exponent(slot, i));
                lua_rawseti(L, -2, i + 1);
            }
        }
    } else if (strcmp(field, "state") == 0)
        lua_pushstring(L, slot_state_name(slot->state));
    else if (strcmp(field, "bits") == 0)
        lua_pushinteger(L, slot->bits);
    else if (strcmp(field, "minimum") == 0)
        lua_pushinteger(L, slot->minimum);
    else if (strcmp(field, "maximum") == 0)
        lua_pushinteger(L, slot->maximum);
    else if (strcmp(field, "rounding") == 0)
        lua_pushstring(L, rounding_names[slot->rounding]);
    else if (strcmp(field, "per_channel") == 0)
        lua_pushboolean(L, slot->per_channel);
    else if (strcmp(field, "channel_axis") == 0)
        lua_pushinteger(L, slot->channel_axis);
    else if (strcmp(field, "observer") == 0)
        lua_pushstring(L, slot->observer);
    else if (strcmp(field, "bins") == 0)
        lua_pushinteger(L, slot->bins);
    else if (strcmp(field, "percentile") == 0)
        lua_pushnumber(L, slot->percentile);
    else if (strcmp(field, "overridden") == 0)
        lua_pushboolean(L, slot->overridden);
    else if (strcmp(field, "is_parameter") == 0)
        lua_pushboolean(L, slot->is_parameter);
    else if (strcmp(field, "is_output") == 0)
        lua_pushboolean(L, slot->is_output);
    else if (strcmp(field, "quantizes") == 0)
        lua_pushboolean(L, slot_quantizes(slot));
    else if (strcmp(field, "master") == 0) {
        Slot *root = slot_root(slot);
        push_slot(L, graph, root == slot ? NULL : root);
    } else if (strcmp(field, "node") == 0)
        push_node(L, graph, slot->node);
    else if (strcmp(field, "tensor") == 0)
        push_value(L, graph, slot->is_output ? slot->node->outputs[slot->index] : slot->node->inputs[slot->index]);
    else
        return raise_text(L, NULL,
                          "a slot has state, bits, exponent, rounding, minimum, maximum, per_channel, channel_axis, observer, bins, "
                          "percentile, master, node, "
                          "tensor, overridden, quantizes, is_parameter, is_output",
                          "a slot has no field '%s'", field);
    return 1;
}

/* An exponent is written where it is owned: on the root, for all that follow it. */
static int slot_newindex(lua_State *L)
{
    Slot *slot = check_slot(L, 1);
    GraphHolder *holder = ((Handle *)lua_touserdata(L, 1))->holder;
    const char *field = check_text(L, 2, "the name of a field");
    if (strcmp(field, "exponent") == 0) {
        Slot *root = slot_root(slot);
        int64_t values[1] = {0};
        int count = 1;
        int *exponents;
        if (lua_type(L, 3) == LUA_TNUMBER) {
            check_integers(L, 3, values, 1, "an exponent");
            exponents = push_memory(L, sizeof *exponents);
            exponents[0] = (int)values[0];
        } else {
            luaL_checktype(L, 3, LUA_TTABLE);
            count = (int)lua_rawlen(L, 3);
            exponents = push_memory(L, sizeof *exponents * (size_t)count);
            for (int i = 0; i < count; i++) {
                lua_rawgeti(L, 3, i + 1);
                exponents[i] = (int)check_integer(L, -1, "a list of whole numbers");
                lua_pop(L, 1);
            }
        }
        if (count != 1 && root->exponent_count && count != root->exponent_count)
            return raise_text(L, NULL, NULL, "the slot has %d exponents, %d are given", root->exponent_count, count);
        for (int i = 0; i < count; i++)
            if (exponents[i] < -126 || exponents[i] > 126)
                return raise_text(L, NULL, NULL, "exponent %d is outside -126 … 126", exponents[i]);
        if (!slot_set_exponents(holder->graph, root, exponents, count))
            return raise_text(L, NULL, NULL, "a slot in state %s takes no exponent", slot_state_name(root->state));
        root->overridden = true;
    } else if (strcmp(field, "observer") == 0) {
        const char *name = arena_text(&holder->graph->arena, check_text(L, 3, "an observer's name"));
        if (!name) return raise_text(L, NULL, NULL, "not enough memory");
        slot->observer = name;
    } else if (strcmp(field, "bins") == 0) {
        slot->bins = check_integer(L, 3, "a whole number");
    } else if (strcmp(field, "percentile") == 0) {
        slot->percentile = check_number(L, 3, "a number");
    } else {
        return raise_text(L, NULL, "exponent, observer, bins and percentile can be", "field '%s' of a slot cannot be assigned", field);
    }
    holder->revision++;
    return 0;
}

static int slot_text(lua_State *L)
{
    Slot *slot = ((Handle *)luaL_checkudata(L, 1, SLOT_TYPE))->object;
    if (slot_exponent_count(slot) == 0)
        lua_pushfstring(L, "slot %s %d bits, no exponent", slot_state_name(slot->state), slot->bits);
    else
        lua_pushfstring(L, "slot %s %d bits, exponent %d%s", slot_state_name(slot->state), slot->bits, slot_exponent(slot, 0),
                        slot_exponent_count(slot) > 1 ? " …" : "");
    return 1;
}

void open_handles(lua_State *L)
{
    static const luaL_Reg node_methods[] = {
        {"get", node_get}, {"set", node_set}, {"set_input", node_set_input_lua}, {"set_output", node_set_output_lua}, {NULL, NULL}};
    static const luaL_Reg node_meta[] = {{"__index", node_index}, {"__newindex", node_newindex}, {"__tostring", node_text}, {NULL, NULL}};
    static const luaL_Reg value_meta[] = {
        {"__index", value_index}, {"__newindex", value_newindex}, {"__tostring", value_text}, {NULL, NULL}};
    static const luaL_Reg slot_meta[] = {{"__index", slot_index}, {"__newindex", slot_newindex}, {"__tostring", slot_text}, {NULL, NULL}};
    make_type(L, NODE_TYPE, node_methods, node_meta, NULL);
    make_type(L, VALUE_TYPE, NULL, value_meta, NULL);
    make_type(L, SLOT_TYPE, NULL, slot_meta, NULL);
}
