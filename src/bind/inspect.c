/* Looking into .espdl files: what they cost, how two differ, the board kit, and what a board printed. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "bind/chip.h"
#include "bind/espdl.h"
#include "bind/fields.h"
#include "bind/tensor.h"
#include "chip/cost.h"
#include "espdl/board.h"
#include "espdl/device.h"
#include "espdl/diff.h"

#define COST_TYPE "espq.cost"
#define DIFF_TYPE "espq.diff"
#define RUN_TYPE "espq.board_run"
#define LOG_TYPE "espq.log"
#define ROWS_TYPE "espq.board_rows"

/* Each box holds a zeroed structure, whose parts its release frees. */
static void *push_structure(lua_State *L, const char *type, size_t bytes)
{
    Box *box = push_box(L, type);
    box->object = memory_new(bytes);
    if (!box->object) raise_text(L, NULL, NULL, "not enough memory");
    return box->object;
}

#define RELEASE(name, type, structure, free_parts)                                                                                         \
    static int name(lua_State *L)                                                                                                          \
    {                                                                                                                                      \
        Box *box = luaL_checkudata(L, 1, type);                                                                                            \
        structure *held = box->object;                                                                                                     \
        box->object = NULL;                                                                                                                \
        if (held) free_parts(held);                                                                                                        \
        memory_free(held);                                                                                                                 \
        return 0;                                                                                                                          \
    }
RELEASE(cost_release, COST_TYPE, CostReport, cost_free)
RELEASE(diff_release, DIFF_TYPE, EspdlDiff, espdl_diff_free)
RELEASE(run_release, RUN_TYPE, BoardRun, board_run_free)
RELEASE(log_release, LOG_TYPE, SerialLog, serial_free)

/* ---- cost ---- */

static void push_cost_node(lua_State *L, const CostNode *cost, bool timed)
{
    lua_createtable(L, 0, 8);
    set_text(L, "name", cost->node->name);
    set_text(L, "type", cost->node->type);
    set_integer(L, "macs", cost->macs);
    set_integer(L, "parameter_bytes", cost->parameter_bytes);
    set_integer(L, "moved_bytes", cost->moved_bytes);
    set_integer(L, "refetched_bytes", cost->refetched_bytes);
    set_boolean(L, "unaligned", cost->unaligned);
    if (timed) set_number(L, "us", cost->microseconds);
}

static void push_memory_plan(lua_State *L, const CostReport *report)
{
    const MemoryPlan *plan = &report->memory;
    lua_createtable(L, 0, 5);
    set_integer(L, "variable", plan->variable_bytes);
    set_integer(L, "internal", plan->internal_bytes);
    set_integer(L, "live", plan->live_bytes);
    if (plan->live_step < report->count) set_text(L, "live_node", report->nodes[plan->live_step].node->name);
    lua_createtable(L, plan->count, 0);
    for (int i = 0; i < plan->count; i++) {
        const MemoryTensor *tensor = &plan->tensors[i];
        lua_createtable(L, 0, 7);
        set_text(L, "name", tensor->value->name);
        set_integer(L, "bytes", tensor->bytes);
        set_integer(L, "first", tensor->begin);
        if (tensor->end >= 0) set_integer(L, "last", tensor->end - 1);
        set_integer(L, "offset", tensor->offset);
        set_boolean(L, "internal", tensor->internal);
        if (tensor->leader >= 0) set_text(L, "shares", plan->tensors[tensor->leader].value->name);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "tensors");
}

/* cost(engine, target, max_internal_bytes, sorted): sorted: the nodes of a lowered graph are in no order of execution yet. */
static int cost_lua(lua_State *L)
{
    ChipEngine *engine = check_chip(L, 1);
    const Target *target = check_target(L, check_text(L, 2, "a target"));
    int64_t internal = luaL_optinteger(L, 3, 0);
    bool sorted = lua_toboolean(L, 4);
    CostReport *report = push_structure(L, COST_TYPE, sizeof *report);
    Error error;
    error_begin(&error);
    Node **order = NULL;
    bool fine = !sorted || graph_sort(engine->device, &order, &error);
    fine = fine && cost_estimate(engine->device, order, engine->device->node_count, target, internal, report, &error);
    memory_free(order);
    if (!fine) return raise_error(L, &error);
    lua_createtable(L, 0, 12);
    set_text(L, "target", target->name);
    set_integer(L, "macs", report->macs);
    set_integer(L, "parameter_bytes", report->parameter_bytes);
    set_integer(L, "moved_bytes", report->moved_bytes);
    set_integer(L, "refetched_bytes", report->refetched_bytes);
    if (report->timed) set_number(L, "ms", report->milliseconds);
    set_text(L, "about", cost_about(target));
    set_boolean(L, "computed", report->computed);
    if (!report->computed) set_text(L, "refusal", report->refusal);
    push_memory_plan(L, report);
    lua_setfield(L, -2, "memory");
    lua_createtable(L, report->count, 0);
    for (int i = 0; i < report->count; i++) {
        push_cost_node(L, &report->nodes[i], report->timed);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "nodes");
    return 1;
}

/* print(engine, sorted): the device graph as text. */
static int print_lua(lua_State *L)
{
    const ChipEngine *engine = check_chip(L, 1);
    bool sorted = lua_toboolean(L, 2);
    Error error;
    error_begin(&error);
    Text *text = push_text(L);
    if (!espdl_device_text(engine->device, sorted, text, &error)) return raise_error(L, &error);
    return finish_text(L, text);
}

static int published_lua(lua_State *L)
{
    const CostPublished *row;
    lua_newtable(L);
    for (int i = 0; (row = cost_published_at(i)); i++) {
        lua_createtable(L, 0, 5);
        set_text(L, "model", row->model);
        set_text(L, "input", row->input);
        set_text(L, "target", row->target);
        set_text(L, "file", row->file);
        set_number(L, "ms", row->milliseconds);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* ---- differences ---- */

static int diff_lua(lua_State *L)
{
    const EspdlModel *a = check_box(L, 1, ESPDL_TYPE, "a model"), *b = check_box(L, 2, ESPDL_TYPE, "a model");
    EspdlDiff *diff = push_structure(L, DIFF_TYPE, sizeof *diff);
    Error error;
    error_begin(&error);
    if (!espdl_diff(a, b, diff, &error)) return raise_error(L, &error);
    lua_createtable(L, diff->count, 0);
    for (int i = 0; i < diff->count; i++) {
        const DiffRow *row = &diff->rows[i];
        lua_createtable(L, 0, 7);
        set_text(L, "kind", diff_kind_name(row->kind));
        set_text(L, "name", row->name);
        set_text(L, "what", row->what);
        if (row->count) {
            set_integer(L, "differing", row->differing);
            set_integer(L, "count", row->count);
            set_number(L, "largest", row->largest);
            set_number(L, "mean", row->mean);
        }
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* ---- the board kit ---- */

static int check_input_number(lua_State *L, const EspdlModel *model, int index)
{
    int64_t number = check_integer(L, index, "the number of an input");
    if (number < 1 || number > model->input_count) raise_text(L, NULL, NULL, "the model has %d inputs", model->input_count);
    return (int)number - 1;
}

/* input_code(model, number, target): C++ for filling this input, and its layout ("N H W C") or nil. */
static int input_code_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    int number = check_input_number(L, model, 2);
    const Target *target = check_target(L, check_text(L, 3, "a target"));
    Error error;
    error_begin(&error);
    Text *text = push_text(L);
    if (!espdl_input_code(model, number, target, text, &error)) return raise_error(L, &error);
    finish_text(L, text);
    lua_pushstring(L, espdl_input_layout(model, number));
    return 2;
}

static void push_run(lua_State *L, const BoardRun *run)
{
    lua_createtable(L, run->count, 0);
    for (int i = 0; i < run->count; i++) {
        const BoardTensor *tensor = &run->tensors[i];
        lua_createtable(L, 0, 6);
        set_text(L, "name", tensor->name);
        set_text(L, "node", tensor->node);
        set_text(L, "type", tensor->type);
        set_text(L, "undefined", tensor->undefined);
        set_integer(L, "exponent", tensor->exponent);
        push_tensor_retained(L, tensor->tensor);
        lua_setfield(L, -2, "tensor");
        lua_rawseti(L, -2, i + 1);
    }
}

static BoardRun *run_model(lua_State *L, const EspdlModel *model, const Target *target)
{
    BoardRun *run = push_structure(L, RUN_TYPE, sizeof *run);
    Error error;
    error_begin(&error);
    if (!board_run(model, target, run, &error)) raise_error(L, &error);
    return run;
}

/* kit(model, target): { code =, vectors = texts, tensors = what it should compute, pattern = true when the inputs are the kit's own } */
static int kit_lua(lua_State *L)
{
    const EspdlModel *model = check_box(L, 1, ESPDL_TYPE, "a model");
    const Target *target = check_target(L, check_text(L, 2, "a target"));
    Error error;
    error_begin(&error);
    BoardRun *run = run_model(L, model, target);
    lua_createtable(L, 0, 4);
    Text *text = push_text(L);
    if (!board_code(model, target, run, text, &error)) return raise_error(L, &error);
    finish_text(L, text);
    lua_setfield(L, -3, "code");
    lua_pop(L, 1);
    text = push_text(L);
    if (!board_vectors(run, text, &error)) return raise_error(L, &error);
    finish_text(L, text);
    lua_setfield(L, -3, "vectors");
    lua_pop(L, 1);
    push_run(L, run);
    lua_setfield(L, -2, "tensors");
    set_boolean(L, "pattern", run->pattern);
    return 1;
}

/* ---- logs ---- */

static void push_modules(lua_State *L, const SerialLog *log)
{
    lua_createtable(L, log->module_count, 0);
    for (int i = 0; i < log->module_count; i++) {
        lua_createtable(L, 0, 4);
        set_text(L, "name", log->modules[i].name);
        set_text(L, "type", log->modules[i].type);
        set_number(L, log->modules[i].cycles ? "cycles" : "us", log->modules[i].amount);
        lua_rawseti(L, -2, i + 1);
    }
}

static void push_memory_rows(lua_State *L, const SerialLog *log)
{
    static const char *const columns[] = {"internal", "psram", "flash"};
    lua_createtable(L, log->memory_count, 0);
    for (int i = 0; i < log->memory_count; i++) {
        lua_createtable(L, 0, 4);
        set_text(L, "name", log->memory[i].name);
        for (int k = 0; k < 3; k++) {
            if (log->memory[i].kilobytes[k] >= 0) set_number(L, columns[k], log->memory[i].kilobytes[k]);
        }
        lua_rawseti(L, -2, i + 1);
    }
}

/* log(path): what a board printed, as a handle for log_compare, and as a table. */
static int log_lua(lua_State *L)
{
    const char *path = check_text(L, 1, "a path");
    SerialLog *log = push_structure(L, LOG_TYPE, sizeof *log);
    Error error;
    error_begin(&error);
    uint8_t *bytes = NULL;
    size_t count = 0;
    bool fine = file_read(path, &bytes, &count, &error) && serial_read((const char *)bytes, count, path, log, &error);
    memory_free(bytes);
    if (!fine) return raise_error(L, &error);
    lua_createtable(L, 0, 12);
    set_text(L, "model", log->model);
    set_integer(L, "tensors", log->tensor_count);
    set_integer(L, "lines", log->lines);
    set_integer(L, "damaged", log->damaged);
    set_integer(L, "node_count", log->nodes);
    set_boolean(L, "ended", log->ended);
    set_boolean(L, "test_passed", log->test_passed);
    set_text(L, "test_failed", log->test_failed);
    set_text(L, "test_values", log->test_values);
    if (log->total >= 0) set_number(L, "total", log->total);
    push_modules(L, log);
    lua_setfield(L, -2, "modules");
    push_memory_rows(L, log);
    lua_setfield(L, -2, "memory");
    return 2;
}

/* log_compare(log, model, target): one row a tensor, and whether the inputs are the kit's own numbers. */
static int log_compare_lua(lua_State *L)
{
    static const char *const states[] = {"equal", "differs", "missing", "undefined"};
    SerialLog *log = check_box(L, 1, LOG_TYPE, "a log");
    const EspdlModel *model = check_box(L, 2, ESPDL_TYPE, "a model");
    const Target *target = check_target(L, check_text(L, 3, "a target"));
    Error error;
    error_begin(&error);
    BoardRun *run = run_model(L, model, target);
    Box *box = push_box(L, ROWS_TYPE);
    BoardRow *rows = NULL;
    if (!board_compare(run, log, &rows, &error)) return raise_error(L, &error);
    box->object = rows;
    lua_createtable(L, run->count, 0);
    for (int i = 0; i < run->count; i++) {
        const BoardRow *row = &rows[i];
        lua_createtable(L, 0, 12);
        set_text(L, "name", row->expected->name);
        set_text(L, "node", row->expected->node);
        set_text(L, "type", row->expected->type);
        set_text(L, "state", states[row->state]);
        set_text(L, "what", row->what ? row->what : row->expected->undefined);
        if (row->printed >= 0) {
            set_integer(L, "differing", row->differing);
            set_integer(L, "printed", row->printed);
        }
        set_integer(L, "count", tensor_count(row->expected->tensor));
        if (row->first >= 0) {
            set_integer(L, "first", row->first);
            push_shape(L, &row->expected->tensor->shape);
            lua_setfield(L, -2, "shape");
            set_number(L, "wanted", row->wanted);
            set_number(L, "found", row->found);
        }
        lua_rawseti(L, -2, i + 1);
    }
    lua_pushboolean(L, run->pattern);
    return 2;
}

static int rows_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, ROWS_TYPE);
    memory_free(box->object);
    box->object = NULL;
    return 0;
}

void add_inspection(lua_State *L)
{
    static const luaL_Reg functions[] = {{"cost", cost_lua},
                                         {"print", print_lua},
                                         {"published", published_lua},
                                         {"diff", diff_lua},
                                         {"kit", kit_lua},
                                         {"input_code", input_code_lua},
                                         {"log", log_lua},
                                         {"log_compare", log_compare_lua},
                                         {NULL, NULL}};
    make_type(L, COST_TYPE, NULL, NULL, cost_release);
    make_type(L, DIFF_TYPE, NULL, NULL, diff_release);
    make_type(L, RUN_TYPE, NULL, NULL, run_release);
    make_type(L, LOG_TYPE, NULL, NULL, log_release);
    make_type(L, ROWS_TYPE, NULL, NULL, rows_release);
    luaL_setfuncs(L, functions, 0);
}
