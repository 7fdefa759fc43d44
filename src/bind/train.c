/* Training in Lua: the trainer, and the losses. What is trained on what is lua/espq/train.lua's. */
#include <string.h>

#include "base/memory.h"
#include "bind/batches.h"
#include "bind/graph.h"
#include "bind/setting.h"
#include "bind/tensor.h"
#include "optim/optim.h"
#include "train/loss.h"
#include "train/trainer.h"

#define TRAINER_TYPE "espq.trainer"

static int trainer_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, TRAINER_TYPE);
    Trainer *trainer = box->object;
    box->object = NULL;
    trainer_free(trainer);
    return 0;
}

static Trainer *check_trainer(lua_State *L, int index)
{
    return check_box(L, index, TRAINER_TYPE, "a trainer");
}

/* Fields optimizer, beta1, beta2, epsilon, momentum, nesterov, weight_decay. */
static OptimizerOptions check_optimizer(lua_State *L, int table)
{
    Error error;
    error_begin(&error);
    const OptimizerRow *row = optimizer_find(field_text(L, table, "optimizer", "adam"), &error);
    if (!row) raise_error(L, &error);
    OptimizerOptions options = optimizer_defaults(row);
    options.beta1 = field_number(L, table, "beta1", options.beta1);
    options.beta2 = field_number(L, table, "beta2", options.beta2);
    options.epsilon = field_number(L, table, "epsilon", options.epsilon);
    options.momentum = field_number(L, table, "momentum", options.momentum);
    options.nesterov = field_boolean(L, table, "nesterov", options.nesterov);
    options.decay = field_number(L, table, "weight_decay", options.decay);
    return options;
}

/* Fields schedule, lr, steps, warmup, end_factor, factor, every. */
static Schedule check_schedule(lua_State *L, int table)
{
    Error error;
    error_begin(&error);
    Schedule schedule = {.row = schedule_find(field_text(L, table, "schedule", "constant"), &error)};
    if (!schedule.row) raise_error(L, &error);
    schedule.rate = field_number(L, table, "lr", 1e-5);
    schedule.steps = field_integer(L, table, "steps", 0);
    schedule.warmup = field_integer(L, table, "warmup", 0);
    schedule.end = field_number(L, table, "end_factor", 0);
    schedule.factor = field_number(L, table, "factor", 0.1);
    schedule.every = field_integer(L, table, "every", 0);
    return schedule;
}

/* make(graph, options): those of check_optimizer and check_schedule, and setting, exact, weights, scales, bias_rate, scale_rate, memory,
 * outputs, identity. */
static int trainer_make(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    TrainerOptions options = {.exact = field_boolean(L, 2, "exact", true),
                              .optimizer = check_optimizer(L, 2),
                              .schedule = check_schedule(L, 2),
                              .bias_rate = field_number(L, 2, "bias_rate", 1),
                              .scale_rate = field_number(L, 2, "scale_rate", 1),
                              .memory_limit = (size_t)field_integer(L, 2, "memory", 0),
                              .identity = field_text(L, 2, "identity", "")};
    options.parts |= field_boolean(L, 2, "weights", true) ? TRAIN_WEIGHTS : 0u;
    options.parts |= field_boolean(L, 2, "scales", false) ? TRAIN_SCALES : 0u;
    lua_getfield(L, 2, "setting");
    options.setting = check_setting(L, lua_gettop(L));
    if (lua_getfield(L, 2, "outputs") == LUA_TTABLE) {
        int list = lua_gettop(L);
        options.output_count = (int)lua_rawlen(L, list);
        const char **names = push_memory(L, sizeof *names * ((size_t)options.output_count + 1));
        for (int i = 0; i < options.output_count; i++) {
            lua_rawgeti(L, list, i + 1);
            names[i] = check_text(L, lua_gettop(L), "a list of names");
            lua_pop(L, 1);
        }
        options.outputs = names;
    }
    Error error;
    error_begin(&error);
    Box *box = push_box(L, TRAINER_TYPE);
    box->object = trainer_new(holder->graph, &options, &error);
    return box->object ? 1 : raise_error(L, &error);
}

/* check_layers(graph, setting): fails for layers that the setting names and that are not there. */
static int check_layers_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Error error;
    error_begin(&error);
    return optim_check_layers(holder->graph, check_setting(L, 2), &error) ? 0 : raise_error(L, &error);
}

static int trainer_outputs(lua_State *L)
{
    const Trainer *trainer = check_trainer(L, 1);
    lua_newtable(L);
    for (int i = 0; i < trainer_output_count(trainer); i++) {
        lua_pushstring(L, trainer_output_name(trainer, i));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* forward(trainer, {tensor, …} in the graph's order, {dtype, …}): the list of outputs. */
static int trainer_forward_lua(lua_State *L)
{
    Trainer *trainer = check_trainer(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    int count = (int)lua_rawlen(L, 2), outputs = trainer_output_count(trainer);
    Error error;
    error_begin(&error);
    luaL_checkstack(L, 2 * count + 8, "inputs");
    Tensor **inputs = push_memory(L, sizeof *inputs * ((size_t)count + 1));
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 3, i + 1);
        Dtype dtype = check_dtype(L, lua_gettop(L), DTYPE_FLOAT32);
        lua_pop(L, 1);
        lua_rawgeti(L, 2, i + 1);
        Tensor *given = push_contiguous_tensor(L, lua_gettop(L));
        Box *box = push_tensor_box(L);
        box->object = tensor_convert(given, dtype, &error);
        if (!box->object) return raise_error(L, &error);
        inputs[i] = box->object;
        lua_replace(L, -3);
        lua_settop(L, -2);
    }
    lua_createtable(L, outputs, 0);
    int list = lua_gettop(L);
    Tensor **results = push_memory(L, sizeof *results * ((size_t)outputs + 1));
    Box **boxes = push_memory(L, sizeof *boxes * ((size_t)outputs + 1));
    for (int i = 0; i < outputs; i++) {
        boxes[i] = push_tensor_box(L);
        lua_rawseti(L, list, i + 1);
    }
    enter(L);
    bool done = trainer_forward(trainer, inputs, results, &error);
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

/* back(trainer, {tensor or false, …}): a step. Gives the rate it was made at. */
static int trainer_back_lua(lua_State *L)
{
    Trainer *trainer = check_trainer(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    int outputs = trainer_output_count(trainer);
    luaL_checkstack(L, outputs + 8, "gradients");
    Tensor **gradients = push_memory(L, sizeof *gradients * ((size_t)outputs + 1));
    for (int i = 0; i < outputs; i++) {
        lua_rawgeti(L, 2, i + 1);
        gradients[i] = lua_toboolean(L, -1) ? push_contiguous_tensor(L, lua_gettop(L)) : NULL;
    }
    double rate = trainer_rate(trainer);
    Error error;
    error_begin(&error);
    enter(L);
    bool done = trainer_back(trainer, gradients, &error);
    if (callback_failed(&error)) done = false;
    if (!done) return raise_error(L, &error);
    lua_pushnumber(L, rate);
    return 1;
}

/* apply(trainer, graph): puts what was learnt into it. */
static int trainer_apply_lua(lua_State *L)
{
    const Trainer *trainer = check_trainer(L, 1);
    GraphHolder *holder = check_graph(L, 2);
    Error error;
    error_begin(&error);
    bool done = trainer_apply(trainer, holder->graph, &error);
    holder->revision++;
    return done ? 0 : raise_error(L, &error);
}

/* save(trainer, path, note) */
static int trainer_save_lua(lua_State *L)
{
    Trainer *trainer = check_trainer(L, 1);
    const char *path = check_text(L, 2, "a path");
    check_text(L, 3, "a text");
    size_t length;
    const char *note = lua_tolstring(L, 3, &length);
    Error error;
    error_begin(&error);
    if (!trainer_save(trainer, path, note, length, &error)) return raise_error(L, &error);
    return 0;
}

/* load(trainer, path): the note. */
static int trainer_load_lua(lua_State *L)
{
    Trainer *trainer = check_trainer(L, 1);
    const char *path = check_text(L, 2, "a path");
    Text *text = push_text(L);
    Error error;
    error_begin(&error);
    char *note;
    size_t length;
    if (!trainer_load(trainer, path, &note, &length, &error)) return raise_error(L, &error);
    text_add_bytes(text, note, length);
    memory_free(note);
    return finish_text(L, text);
}

/* about(trainer): { steps =, rate =, weights = { tensors, numbers }, biases =, slopes =, norms =, scales = } */
static int trainer_about(lua_State *L)
{
    static const struct {
        const char *name;
        TrainedKind kind;
    } parts[] = {
        {"scales", TRAINED_NOT}, {"weights", TRAINED_WEIGHT}, {"biases", TRAINED_BIAS}, {"slopes", TRAINED_SLOPE}, {"norms", TRAINED_NORM}};
    const Trainer *trainer = check_trainer(L, 1);
    lua_createtable(L, 0, 7);
    lua_pushinteger(L, trainer_steps(trainer));
    lua_setfield(L, -2, "steps");
    lua_pushnumber(L, trainer_rate(trainer));
    lua_setfield(L, -2, "rate");
    lua_pushboolean(L, trainer_diverged(trainer));
    lua_setfield(L, -2, "diverged");
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int tensors;
        int64_t numbers = trainer_count(trainer, parts[i].kind, &tensors);
        lua_createtable(L, 2, 0);
        lua_pushinteger(L, tensors);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, numbers);
        lua_rawseti(L, -2, 2);
        lua_setfield(L, -2, parts[i].name);
    }
    return 1;
}

/* piece(trainer, samples): how many samples of the last batch went through at once. */
static int trainer_piece_lua(lua_State *L)
{
    lua_pushinteger(L, trainer_piece(check_trainer(L, 1), check_integer(L, 2, "a number of samples")));
    return 1;
}

/* loss(name, output, target, { weight =, temperature =, smoothing = }): the value, and its gradient. */
static int loss_lua(lua_State *L)
{
    Error error;
    error_begin(&error);
    const LossRow *row = loss_find(check_text(L, 1, "a loss's name"), &error);
    if (!row) return raise_error(L, &error);
    luaL_checktype(L, 4, LUA_TTABLE);
    LossCall call = {.weight = field_number(L, 4, "weight", 1),
                     .temperature = field_number(L, 4, "temperature", 1),
                     .smoothing = field_number(L, 4, "smoothing", 0)};
    call.output = push_contiguous_tensor(L, 2);
    call.target = push_contiguous_tensor(L, 3);
    Box *box = push_tensor_box(L);
    box->object = call.gradient = tensor_new(DTYPE_FLOAT32, &call.output->shape, &error);
    if (!box->object) return raise_error(L, &error);
    double value;
    if (!loss_run(row, &call, &value, &error)) return raise_error(L, &error);
    account(L, tensor_bytes(call.gradient));
    lua_pushnumber(L, value);
    lua_insert(L, -2);
    return 2;
}

/* names(): known losses, optimizers, schedules, a list each. */
static int names_lua(lua_State *L)
{
    lua_createtable(L, 0, 3);
    lua_newtable(L);
    for (int i = 0; loss_row_at(i); i++) {
        lua_pushstring(L, loss_row_at(i)->name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "loss");
    lua_newtable(L);
    for (int i = 0; optimizer_row_at(i); i++) {
        lua_pushstring(L, optimizer_row_at(i)->name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "optimizer");
    lua_newtable(L);
    for (int i = 0; schedule_row_at(i); i++) {
        lua_pushstring(L, schedule_row_at(i)->name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "schedule");
    return 1;
}

void open_train(lua_State *L)
{
    static const luaL_Reg functions[] = {{"make", trainer_make},
                                         {"outputs", trainer_outputs},
                                         {"forward", trainer_forward_lua},
                                         {"check_layers", check_layers_lua},
                                         {"back", trainer_back_lua},
                                         {"apply", trainer_apply_lua},
                                         {"save", trainer_save_lua},
                                         {"load", trainer_load_lua},
                                         {"about", trainer_about},
                                         {"piece", trainer_piece_lua},
                                         {"loss", loss_lua},
                                         {"names", names_lua},
                                         {NULL, NULL}};
    make_type(L, TRAINER_TYPE, NULL, NULL, trainer_release);
    luaL_newlib(L, functions);
}
