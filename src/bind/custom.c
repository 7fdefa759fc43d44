/* Operators and observers of scripts: rows like the built-in ones, whose functions open the door to Lua. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "bind/graph.h"
#include "bind/tensor.h"
#include "graph/operator.h"
#include "observe/observer.h"

/* ---- operators ---- */

typedef struct ScriptOperator {
    Operator row;   /* first: node->op points here */
    int infer, run; /* kept functions */
} ScriptOperator;

typedef struct InferCall {
    Graph *graph;
    Node *node;
} InferCall;

static const ScriptOperator *script_of(const Node *node)
{
    return (const ScriptOperator *)(const void *)node->op;
}

static void set_output(lua_State *L, const Node *node, int index, int shape_index, Dtype dtype)
{
    Value *value = node->outputs[index];
    if (!value) return;
    value->shape = check_shape(L, shape_index, "the shape that infer returns");
    value->shaped = true;
    value->dtype = dtype;
}

/* A node's inputs as infer sees them; the graph may not have a box yet while it is loaded, so that plain tables stand for the ends. */
static void push_ends(lua_State *L, Value *const *values, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        if (!values[i]) {
            lua_pushboolean(L, 0);
        } else {
            lua_createtable(L, 0, 4);
            lua_pushstring(L, values[i]->name);
            lua_setfield(L, -2, "name");
            if (values[i]->shaped) {
                push_shape(L, &values[i]->shape);
                lua_setfield(L, -2, "shape");
            }
            if (values[i]->dtype != DTYPE_NONE) {
                lua_pushstring(L, dtype_name(values[i]->dtype));
                lua_setfield(L, -2, "dtype");
            }
            if (values[i]->constant) {
                push_tensor_copy(L, values[i]->constant);
                lua_setfield(L, -2, "value");
            }
        }
        lua_rawseti(L, -2, i + 1);
    }
}

static void push_node_table(lua_State *L, const Node *node)
{
    lua_createtable(L, 0, 5);
    lua_pushstring(L, node->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, node->type);
    lua_setfield(L, -2, "type");
    push_ends(L, node->inputs, node->input_count);
    lua_setfield(L, -2, "inputs");
    push_ends(L, node->outputs, node->output_count);
    lua_setfield(L, -2, "outputs");
    lua_createtable(L, 0, node->attribute_count);
    for (int i = 0; i < node->attribute_count; i++) {
        push_attribute(L, &node->attributes[i]);
        lua_setfield(L, -2, node->attributes[i].name);
    }
    lua_setfield(L, -2, "attributes");
}

/* infer(node) returns a shape, or a list of { shape =, dtype = }, one an output. */
static int infer_body(lua_State *L)
{
    InferCall *call = lua_touserdata(L, 1);
    Node *node = call->node;
    Dtype first = node->input_count && node->inputs[0] ? node->inputs[0]->dtype : DTYPE_FLOAT32;
    push_kept(L, script_of(node)->infer);
    push_node_table(L, node);
    lua_call(L, 1, 1);
    int result = lua_gettop(L);
    if (!lua_istable(L, result))
        return raise_text(L, node->name, NULL, "infer of %s has to return a shape, or a list of { shape =, dtype = }", node->type);
    if (lua_rawgeti(L, result, 1) != LUA_TTABLE) {
        set_output(L, node, 0, result, first);
        return 0;
    }
    for (int i = 0; i < node->output_count; i++) {
        lua_rawgeti(L, result, i + 1);
        int item = lua_gettop(L);
        if (!lua_istable(L, item)) return raise_text(L, node->name, NULL, "infer of %s returned nothing for output %d", node->type, i + 1);
        lua_getfield(L, item, "dtype");
        Dtype dtype = check_dtype(L, item + 1, first);
        if (lua_getfield(L, item, "shape") != LUA_TTABLE) lua_pushvalue(L, item);
        set_output(L, node, i, lua_gettop(L), dtype);
        lua_settop(L, item - 1);
    }
    return 0;
}

static bool infer_operator(Graph *graph, Node *node, Error *error)
{
    InferCall call = {graph, node};
    return door(entered(), infer_body, &call, error);
}

static void take_output(lua_State *L, const Run *run, int index, int source)
{
    Tensor *to = run->outputs[index];
    if (!to) return;
    Tensor *from = push_contiguous_tensor(L, source);
    if (!shape_equal(&from->shape, &to->shape)) {
        char made[160], wanted[160];
        raise_text(L, run->node->name, NULL, "%s returned shape %s for output %d, infer said %s", run->node->type,
                   shape_text(&from->shape, made), index + 1, shape_text(&to->shape, wanted));
    }
    if (from->dtype == to->dtype)
        memcpy(to->data, from->data, tensor_bytes(to));
    else
        for (int64_t i = 0; i < tensor_count(to); i++)
            tensor_set(to, i, tensor_get(from, i));
}

static int run_body(lua_State *L)
{
    const Run *run = lua_touserdata(L, 1);
    const Node *node = run->node;
    push_kept(L, script_of(node)->run);
    push_node_table(L, node);
    lua_createtable(L, node->input_count, 0);
    for (int i = 0; i < node->input_count; i++) {
        if (run->inputs[i])
            push_tensor_copy(L, run->inputs[i]);
        else
            lua_pushboolean(L, 0);
        lua_rawseti(L, -2, i + 1);
    }
    lua_call(L, 2, 1);
    int result = lua_gettop(L);
    if (test_tensor(L, result)) {
        take_output(L, run, 0, result);
        return 0;
    }
    if (!lua_istable(L, result))
        return raise_text(L, node->name, NULL, "run of %s has to return a tensor, or a list of tensors", node->type);
    for (int i = 0; i < node->output_count; i++) {
        lua_rawgeti(L, result, i + 1);
        take_output(L, run, i, lua_gettop(L));
        lua_settop(L, result);
    }
    return 0;
}

/* A run cannot fail towards the engine: the failure is noted, and raised when the engine is back. */
static void run_operator(const Run *run)
{
    Error error;
    error_begin(&error);
    if (!door(entered(), run_body, (void *)(uintptr_t)run, &error)) note_callback_failure();
}

/* operator(type, help, infer, run): the row lives until the program ends. */
static int operator_lua(lua_State *L)
{
    const char *type = check_text(L, 1, "an operator's type"), *help = check_text(L, 2, "a text");
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_checktype(L, 4, LUA_TFUNCTION);
    if (operator_find(type)) return raise_text(L, NULL, "give it another type", "operator '%s' is there already", type);
    keep(L, 1);
    keep(L, 2);
    int infer = keep(L, 3), run = keep(L, 4);
    ScriptOperator *script = memory_new(sizeof *script);
    if (!script) return raise_text(L, NULL, NULL, "not enough memory");
    script->row =
        (Operator){.name = type,
                   .help = help,
                   .inputs = {0, 255},
                   .outputs = {1, 255},
                   .infer = infer_operator,
                   .run = run_operator,
                   .layout = LAYOUT_OTHER,
                   .module_cure = "an operator of a script runs in float and in simulation only; cut the model there with outputs = {…}"};
    script->infer = infer;
    script->run = run;
    if (!operator_register(&script->row)) {
        memory_free(script);
        return raise_text(L, NULL, NULL, "operator '%s' could not be registered", type);
    }
    return 0;
}

/* ---- observers ---- */

typedef struct ScriptObserver {
    ObserverRow row;           /* first: observer->row points here */
    int begin, observe, scale; /* kept functions; begin LUA_NOREF when there is none */
} ScriptObserver;

typedef struct ObserverState {
    int kept; /* what begin returned; 0: not begun */
} ObserverState;

typedef struct ObserveCall {
    Observer *observer;
    const Tensor *batch;
    int *exponents;
} ObserveCall;

static const ScriptObserver *observer_script(const Observer *observer)
{
    return (const ScriptObserver *)(const void *)observer->row;
}

static void push_slot_table(lua_State *L, const Observer *observer)
{
    const Slot *slot = observer->slot;
    lua_createtable(L, 0, 6);
    lua_pushstring(L, observer->value_name);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, slot->bits);
    lua_setfield(L, -2, "bits");
    lua_pushinteger(L, slot->minimum);
    lua_setfield(L, -2, "minimum");
    lua_pushinteger(L, slot->maximum);
    lua_setfield(L, -2, "maximum");
    lua_pushboolean(L, slot->is_parameter);
    lua_setfield(L, -2, "is_parameter");
    lua_pushinteger(L, observer->channels);
    lua_setfield(L, -2, "channels");
}

static int observe_body(lua_State *L)
{
    ObserveCall *call = lua_touserdata(L, 1);
    ObserverState *state = call->observer->state;
    const ScriptObserver *script = observer_script(call->observer);
    if (!state->kept) {
        if (script->begin == LUA_NOREF) {
            lua_newtable(L);
        } else {
            push_kept(L, script->begin);
            push_slot_table(L, call->observer);
            lua_call(L, 1, 1);
            if (lua_isnil(L, -1)) lua_newtable(L);
        }
        state->kept = keep(L, -1);
    }
    if (!call->batch) {
        push_kept(L, script->scale);
        push_kept(L, state->kept);
        push_slot_table(L, call->observer);
        lua_call(L, 2, 1);
        if (lua_type(L, -1) != LUA_TNUMBER)
            return raise_text(L, call->observer->value_name, NULL, "scale of observer '%s' has to return an exponent", script->row.name);
        int64_t exponent = check_integer(L, lua_gettop(L), "a whole number: the exponent e of the scale 2^e");
        if (exponent < -126 || exponent > 126)
            return raise_text(L, call->observer->value_name, NULL, "observer '%s' chose exponent %lld", script->row.name,
                              (long long)exponent);
        for (int i = 0; i < call->observer->channels; i++)
            call->exponents[i] = (int)exponent;
        return 0;
    }
    push_kept(L, script->observe);
    push_kept(L, state->kept);
    push_tensor_copy(L, call->batch);
    lua_call(L, 2, 0);
    return 0;
}

static bool observe_script(Observer *observer, const Tensor *batch, int walk, Error *error)
{
    (void)walk;
    ObserveCall call = {observer, batch, NULL};
    return door(entered(), observe_body, &call, error);
}

static bool exponents_script(Observer *observer, int *exponents, Error *error)
{
    ObserveCall call = {observer, NULL, exponents};
    return door(entered(), observe_body, &call, error);
}

static void release_script(Observer *observer)
{
    ObserverState *state = observer->state;
    if (state->kept) drop(entered(), state->kept);
    state->kept = 0;
}

/* observer(name, help, begin, observe, scale) */
static int observer_lua(lua_State *L)
{
    const char *name = check_text(L, 1, "an observer's name"), *help = check_text(L, 2, "a text");
    luaL_checktype(L, 4, LUA_TFUNCTION);
    luaL_checktype(L, 5, LUA_TFUNCTION);
    if (observer_row(name)) return raise_text(L, NULL, "give it another name", "observer '%s' is there already", name);
    keep(L, 1);
    keep(L, 2);
    int begin = lua_isnil(L, 3) ? LUA_NOREF : keep(L, 3), observe = keep(L, 4), scale = keep(L, 5);
    ScriptObserver *script = memory_new(sizeof *script);
    if (!script) return raise_text(L, NULL, NULL, "not enough memory");
    script->row = (ObserverRow){.name = name,
                                .help = help,
                                .walks = 1,
                                .state_bytes = sizeof(ObserverState),
                                .observe = observe_script,
                                .exponents = exponents_script,
                                .release = release_script};
    script->begin = begin;
    script->observe = observe;
    script->scale = scale;
    if (!observer_register(&script->row)) {
        memory_free(script);
        return raise_text(L, NULL, NULL, "observer '%s' could not be registered", name);
    }
    return 0;
}

void open_custom(lua_State *L)
{
    static const luaL_Reg functions[] = {{"operator", operator_lua}, {"observer", observer_lua}, {NULL, NULL}};
    luaL_newlib(L, functions);
}
