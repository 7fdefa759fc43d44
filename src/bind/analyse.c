/* The analyses in Lua: tables of rows. Names of measures are the reference's. */
#include "analyse/analyse.h"

#include <string.h>

#include "bind/batches.h"
#include "bind/fields.h"
#include "bind/graph.h"
#include "bind/memo.h"

#define TABLE_TYPE "espq.analysis"

typedef struct Results {
    AnalyseTable table;
    StatisticalTable statistical;
    ParameterTable parameters;
} Results;

static int results_release(lua_State *L)
{
    Results *results = luaL_checkudata(L, 1, TABLE_TYPE);
    analyse_table_free(&results->table);
    statistical_table_free(&results->statistical);
    parameter_table_free(&results->parameters);
    memset(results, 0, sizeof *results);
    return 0;
}

static Results *push_results(lua_State *L)
{
    Results *results = lua_newuserdatauv(L, sizeof *results, 0);
    memset(results, 0, sizeof *results);
    luaL_setmetatable(L, TABLE_TYPE);
    return results;
}

#define SAMPLES_TYPE "espq.samples"

static int samples_release(lua_State *L)
{
    Box *box = luaL_checkudata(L, 1, SAMPLES_TYPE);
    float_samples_free(box->object);
    box->object = NULL;
    return 0;
}

/* samples(bytes): where graphwise keeps its float half. */
static int samples_lua(lua_State *L)
{
    size_t limit = (size_t)check_integer(L, 1, "a number of bytes");
    Error error;
    error_begin(&error);
    Box *box = push_box(L, SAMPLES_TYPE);
    box->object = float_samples_new(limit, &error);
    return box->object ? 1 : raise_error(L, &error);
}

static AnalyseOptions check_options(lua_State *L, int table)
{
    luaL_checktype(L, table, LUA_TTABLE);
    AnalyseOptions options = {.steps = (int)field_integer(L, table, "steps", 8), .exact = field_boolean(L, table, "exact", true)};
    Error error;
    error_begin(&error);
    if (!measure_from_name(field_text(L, table, "method", "snr"), &options.measure, &error)) raise_error(L, &error);
    options.samples_key = field_text(L, table, "samples_key", NULL);
    if (options.samples_key) {
        lua_getfield(L, table, "samples");
        options.samples = check_box(L, lua_gettop(L), SAMPLES_TYPE, "a keeper of samples");
        lua_pop(L, 1); /* the table keeps it */
    }
    options.memo = field_memo(L, table);
    return options;
}

/* graphwise(graph, walk, { method =, steps =, exact =, samples =, samples_key =, memo = }): rows, and the printed table. */
static int ranked(lua_State *L, bool (*analyse)(Graph *, Batches *, const AnalyseOptions *, AnalyseTable *, Error *))
{
    static const char *const fields[] = {"snr", "cosine", "mse"};
    GraphHolder *holder = check_graph(L, 1);
    AnalyseOptions options = check_options(L, 3);
    Batches *batches = push_batches(L, 2, holder->graph);
    Results *results = push_results(L);
    enter(L);
    Error error;
    error_begin(&error);
    bool done = analyse(holder->graph, batches, &options, &results->table, &error);
    if (callback_failed(&error)) done = false;
    if (!done) return raise_error(L, &error);
    lua_createtable(L, results->table.count, 0);
    for (int i = 0; i < results->table.count; i++) {
        const AnalyseRow *row = &results->table.rows[i];
        lua_createtable(L, 0, 3);
        set_text(L, "name", row->name);
        set_text(L, "type", row->type);
        set_number(L, fields[options.measure], row->value);
        lua_rawseti(L, -2, i + 1);
    }
    Text *text = push_text(L);
    if (results->table.count) analyse_print(&results->table, text);
    finish_text(L, text);
    lua_remove(L, -2);
    return 2;
}

static int graphwise_lua(lua_State *L)
{
    return ranked(L, analyse_graphwise);
}
static int layerwise_lua(lua_State *L)
{
    return ranked(L, analyse_layerwise);
}

static void push_moments(lua_State *L, const Moments *moments)
{
    lua_createtable(L, 0, 7);
    set_number(L, "mean", moments->mean);
    set_number(L, "std", moments->deviation);
    set_number(L, "skewness", moments->skewness);
    set_number(L, "kurtosis", moments->kurtosis);
    set_number(L, "min", moments->minimum);
    set_number(L, "max", moments->maximum);
    lua_createtable(L, 32, 0);
    for (int i = 0; i < 32; i++) {
        lua_pushinteger(L, moments->histogram[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "hist");
}

static int statistical_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    AnalyseOptions options = check_options(L, 3);
    Batches *batches = push_batches(L, 2, holder->graph);
    Results *results = push_results(L);
    enter(L);
    Error error;
    error_begin(&error);
    bool done = analyse_statistical(holder->graph, batches, &options, &results->statistical, &error);
    if (callback_failed(&error)) done = false;
    if (!done) return raise_error(L, &error);
    lua_createtable(L, results->statistical.count, 0);
    for (int i = 0; i < results->statistical.count; i++) {
        const StatisticalRow *row = &results->statistical.rows[i];
        lua_createtable(L, 0, 10);
        set_text(L, "op", row->name);
        set_text(L, "type", row->type);
        set_text(L, "variable", row->variable);
        set_boolean(L, "is_parameter", row->is_parameter);
        set_boolean(L, "is_input", row->is_input);
        set_boolean(L, "is_output", row->is_output);
        set_number(L, "snr", row->snr);
        push_moments(L, &row->noise);
        lua_setfield(L, -2, "noise");
        push_moments(L, &row->quantized);
        lua_setfield(L, -2, "quantized");
        push_moments(L, &row->floating);
        lua_setfield(L, -2, "float");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int parameters_lua(lua_State *L)
{
    GraphHolder *holder = check_graph(L, 1);
    Results *results = push_results(L);
    Error error;
    error_begin(&error);
    if (!analyse_parameters(holder->graph, &results->parameters, &error)) return raise_error(L, &error);
    lua_createtable(L, results->parameters.count, 0);
    for (int i = 0; i < results->parameters.count; i++) {
        const ParameterRow *row = &results->parameters.rows[i];
        lua_createtable(L, 0, 5);
        set_text(L, "variable", row->variable);
        set_text(L, "op", row->node);
        set_number(L, "range", row->range);
        set_number(L, "std", row->deviation);
        set_number(L, "mean_abs", row->mean_abs);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

void open_analyse(lua_State *L)
{
    static const luaL_Reg functions[] = {{"graphwise", graphwise_lua},     {"samples", samples_lua},       {"layerwise", layerwise_lua},
                                         {"statistical", statistical_lua}, {"parameters", parameters_lua}, {NULL, NULL}};
    make_type(L, SAMPLES_TYPE, NULL, NULL, samples_release);
    make_type(L, TABLE_TYPE, NULL, NULL, results_release);
    luaL_newlib(L, functions);
}
