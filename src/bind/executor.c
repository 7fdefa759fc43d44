/* Executors: a plan kept for the shapes seen last, made anew when the graph or the shapes change. */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "bind/batches.h"
#include "bind/graph.h"
#include "bind/tensor.h"
#include "exec/plan.h"

#define EXECUTOR_TYPE "espq.executor"
#define MAX_WANTED 256

/* User value 1: the graph's box. User value 2: what is watched, name → list of functions. */
typedef struct Executor {
    GraphHolder *holder;
    uint64_t revision;
    Plan *plan;
    Shape shapes[ESPQ_MAX_INPUTS];
    ExecMode mode;
    bool exact;
    Value *wanted[MAX_WANTED];
    int wanted_count; /* 0: the graph's outputs */
    Value *watched[MAX_WANTED];
    int watched_count;
    Watcher watcher;
    lua_State *L;
} Executor;

typedef struct Sighting {
    Executor *executor;
    const Value *value;
    const Watched *watched;
} Sighting;

static int executor_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, EXECUTOR_TYPE);
    Executor *executor = box->object;
    box->object = NULL;
    if (!executor) return 0;
    plan_free(executor->plan);
    memory_free(executor);
    return 0;
}

static Value *end_value(const Node *node, bool is_output, int index)
{
    return is_output ? node->outputs[index] : node->inputs[index];
}

/* A tensor is seen where it is made; what nothing makes (an input, a parameter) where it is read first. */
static bool wants(void *context, const Node *node, bool is_output, int index)
{
    const Executor *executor = context;
    const Value *value = end_value(node, is_output, index);
    if (!value || (!is_output && (value->producer || value->uses[0].node != node || value->uses[0].index != index))) return false;
    for (int i = 0; i < executor->watched_count; i++)
        if (executor->watched[i] == value) return true;
    return false;
}

static int watch_body(lua_State *L)
{
    const Sighting *sighting = lua_touserdata(L, 1);
    push_remembered(L, sighting->executor);
    lua_getiuservalue(L, -1, 2);
    lua_getfield(L, -1, sighting->value->name);
    int functions = lua_gettop(L);
    int count = (int)lua_rawlen(L, functions);
    push_tensor_copy(L, sighting->watched->seen);
    push_tensor_copy(L, sighting->watched->raw);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, functions, i);
        lua_pushvalue(L, functions + 1);
        lua_pushvalue(L, functions + 2);
        lua_call(L, 2, 0);
    }
    return 0;
}

static bool watch(void *context, const Watched *watched, Error *error)
{
    Executor *executor = context;
    const Value *value = end_value(watched->node, watched->is_output, watched->index);
    bool asked = false;
    for (int i = 0; i < executor->watched_count; i++)
        asked = asked || executor->watched[i] == value;
    if (!asked) return true;
    Sighting sighting = {executor, value, watched};
    return door(executor->L, watch_body, &sighting, error);
}

/* make(graph, { mode = "float"|"simulated", exact = bool, wanted = {name, …} }) */
static int executor_make(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    ExecMode mode = strcmp(field_text(L, 2, "mode", "simulated"), "float") == 0 ? EXEC_FLOAT : EXEC_SIMULATED;
    bool exact = field_boolean(L, 2, "exact", true);
    Box *box = push_box(L, EXECUTOR_TYPE);
    int self = lua_gettop(L);
    Executor *executor = memory_new(sizeof *executor);
    if (!executor) return raise_text(L, NULL, NULL, "not enough memory");
    box->object = executor;
    executor->holder = holder;
    executor->mode = mode;
    executor->exact = exact;
    executor->watcher = (Watcher){.context = executor, .wants = wants, .watch = watch};
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, self, 1);
    lua_newtable(L);
    lua_setiuservalue(L, self, 2);
    remember(L, self, executor);
    if (lua_getfield(L, 2, "wanted") == LUA_TTABLE) {
        int list = lua_gettop(L);
        int count = (int)lua_rawlen(L, list);
        if (count > MAX_WANTED) return raise_text(L, NULL, NULL, "at most %d tensors can be asked for", MAX_WANTED);
        for (int i = 0; i < count; i++) {
            lua_rawgeti(L, list, i + 1);
            executor->wanted[i] = check_value(L, lua_gettop(L), holder->graph);
            lua_pop(L, 1);
        }
        executor->wanted_count = count;
    }
    lua_settop(L, self);
    return 1;
}

static int executor_watch(lua_State *L)
{
    Executor *executor = check_box(L, 1, EXECUTOR_TYPE, "an executor");
    Value *value = check_value(L, 2, executor->holder->graph);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    bool known = false;
    for (int i = 0; i < executor->watched_count; i++)
        known = known || executor->watched[i] == value;
    if (!known && executor->watched_count == MAX_WANTED) return raise_text(L, NULL, NULL, "at most %d tensors can be watched", MAX_WANTED);
    lua_getiuservalue(L, 1, 2);
    luaL_getsubtable(L, -1, value->name);
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    if (!known) executor->watched[executor->watched_count++] = value;
    plan_free(executor->plan);
    executor->plan = NULL;
    return 0;
}

static bool make_plan(Executor *executor, const Shape *shapes, int count, Error *error)
{
    bool same = executor->plan && executor->revision == executor->holder->revision;
    for (int i = 0; same && i < count; i++)
        same = shape_equal(&shapes[i], &executor->shapes[i]);
    if (same) return true;
    plan_free(executor->plan);
    executor->plan = NULL;
    for (int i = 0; i < executor->wanted_count; i++)
        if (executor->wanted[i]->removed) return fail(error, executor->wanted[i]->name, NULL, "the tensor was removed from the graph");
    PlanOptions options = {
        .mode = executor->mode, .exact = executor->exact, .watcher = executor->watched_count ? &executor->watcher : NULL};
    if (executor->wanted_count) {
        options.wanted = executor->wanted;
        options.wanted_count = executor->wanted_count;
    }
    executor->plan = plan_new(executor->holder->graph, &options, shapes, error);
    if (!executor->plan) return false;
    memcpy(executor->shapes, shapes, sizeof *shapes * (size_t)count);
    executor->revision = executor->holder->revision;
    return true;
}

/* Any number of samples runs, but at least one, and each of the size that the graph takes. */
static void check_given(lua_State *L, const Value *input, const Shape *given)
{
    char have[160], want[160];
    if (shape_count(given) == 0)
        raise_text(L, input->name, "give at least one sample", "the batch is empty: shape %s", shape_text(given, have));
    if (!input->shaped) return;
    bool fits = given->rank == input->shape.rank;
    for (int i = 1; fits && i < given->rank; i++)
        fits = input->shape.dims[i] < 0 || given->dims[i] == input->shape.dims[i];
    if (!fits)
        raise_text(L, input->name, "the first axis counts the samples, the others must be the graph's",
                   "the batch has shape %s, input '%s' has shape %s", shape_text(given, have), input->name,
                   shape_text(&input->shape, want));
}

/* run(executor, {tensor, …} in the graph's order): the list of outputs. */
static int executor_run(lua_State *L)
{
    Executor *executor = check_box(L, 1, EXECUTOR_TYPE, "an executor");
    luaL_checktype(L, 2, LUA_TTABLE);
    const Graph *graph = executor->holder->graph;
    int count = graph->input_count, outputs = executor->wanted_count ? executor->wanted_count : graph->output_count;
    if (count > ESPQ_MAX_INPUTS) return raise_text(L, NULL, NULL, "the graph has %d inputs, more than %d", count, ESPQ_MAX_INPUTS);
    enter(L);
    executor->L = L;
    Shape shapes[ESPQ_MAX_INPUTS];
    Error error;
    error_begin(&error);
    luaL_checkstack(L, count + 8, "inputs");
    /* Every input in a box of its own, in the dtype the graph takes, so that a failure on the way frees it. */
    Tensor *inputs[ESPQ_MAX_INPUTS];
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 2, i + 1);
        Tensor *given = check_tensor(L, lua_gettop(L));
        check_given(L, graph->inputs[i], &given->shape);
        Dtype dtype = graph->inputs[i]->dtype == DTYPE_NONE ? DTYPE_FLOAT32 : graph->inputs[i]->dtype;
        Box *box = push_tensor_box(L);
        Box *converted = push_tensor_box(L);
        box->object = tensor_contiguous(given, &error);
        if (!box->object) return raise_error(L, &error);
        converted->object = tensor_convert(box->object, dtype, &error);
        if (!converted->object) return raise_error(L, &error);
        inputs[i] = converted->object;
        shapes[i] = inputs[i]->shape;
        lua_remove(L, -2);
        lua_remove(L, -2);
    }
    lua_createtable(L, outputs, 0);
    Box **boxes = push_memory(L, sizeof *boxes * (size_t)outputs);
    Tensor **results = push_memory(L, sizeof *results * (size_t)outputs);
    int list = lua_gettop(L) - 2;
    for (int i = 0; i < outputs; i++) {
        boxes[i] = push_tensor_box(L);
        lua_rawseti(L, list, i + 1);
    }
    bool done = make_plan(executor, shapes, count, &error) && plan_run(executor->plan, inputs, results, &error);
    size_t bytes = 0;
    for (int i = 0; i < outputs; i++) {
        boxes[i]->object = results[i];
        if (results[i]) bytes += tensor_bytes(results[i]);
    }
    if (callback_failed(&error)) done = false;
    if (!done) return raise_error(L, &error);
    account(L, bytes);
    lua_settop(L, list);
    return 1;
}

static int executor_outputs(lua_State *L)
{
    Executor *executor = check_box(L, 1, EXECUTOR_TYPE, "an executor");
    const Graph *graph = executor->holder->graph;
    int count = executor->wanted_count ? executor->wanted_count : graph->output_count;
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, executor->wanted_count ? executor->wanted[i]->name : graph->outputs[i]->name);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int executor_graph(lua_State *L)
{
    check_box(L, 1, EXECUTOR_TYPE, "an executor");
    lua_getiuservalue(L, 1, 1);
    return 1;
}

static int threads_lua(lua_State *L)
{
    if (!lua_isnoneornil(L, 1)) {
        int64_t count = check_integer(L, 1, "a number of threads");
        if (count < 1 || count > ESPQ_MAX_THREADS)
            return raise_text(L, NULL, NULL, "threads: 1 … %d can be had, not %lld", ESPQ_MAX_THREADS, (long long)count);
        threads_set_count((int)count);
    }
    lua_pushinteger(L, threads_count());
    return 1;
}

void open_executor(lua_State *L)
{
    static const luaL_Reg functions[] = {{"make", executor_make},
                                         {"run", executor_run},
                                         {"watch", executor_watch},
                                         {"outputs", executor_outputs},
                                         {"graph", executor_graph},
                                         {"threads", threads_lua},
                                         {NULL, NULL}};
    open_batches(L);
    make_type(L, EXECUTOR_TYPE, NULL, NULL, executor_release);
    luaL_newlib(L, functions);
}
