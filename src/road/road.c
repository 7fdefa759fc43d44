/* The driver: run a row, check the graph, time it, say where it failed. */
#include "road/road.h"

#include <string.h>

#include "base/cancel.h"
#include "base/progress.h"
#include "road/passes.h"
#include "simplify/simplify.h"

static SimplifyOptions simplify_options(const Setting *setting)
{
    return (SimplifyOptions){.extra_rewrites = setting->switches.extra_rewrites,
                             .keep_output_names = setting->switches.keep_output_names,
                             .split_groups = setting->switches.split_groups,
                             .exact = setting->switches.onnx_exact_ops};
}

static PassContext pass_context(const RoadOptions *options)
{
    return (PassContext){.setting = options->setting,
                         .target = options->target,
                         .bits = options->bits,
                         .batches = options->batches,
                         .observed = options->observed,
                         .memo = options->memo,
                         .hi_precision = options->hi_precision};
}

static bool told_to_stop(const RoadOptions *options, const Pass *pass, Graph *graph, bool *stop, Error *error)
{
    *stop = false;
    return !options->after || options->after(options->after_context, pass, graph, stop, error);
}

/* One row with a function. A script's pass is always checked: it may have done anything. */
static bool run_row(const RoadRow *row, Graph *graph, const RoadOptions *options, Error *error)
{
    if (!cancel_check(error)) return false;
    PassContext context = pass_context(options);
    context.lua = row->lua;
    if (!row->pass.run(graph, &context, error)) return error->code == ERROR_CALLBACK ? false : error_within(error, row->pass.name);
    if ((options->check || row->lua) && !graph_check(graph, error)) return error_within(error, row->pass.name);
    return true;
}

/* The rows behind `first` and before `last`, those of them that are switched on. */
static bool run_between(const char *first, const char *last, Graph *graph, const RoadOptions *options, bool *stop, Error *error)
{
    const RoadRow *rows;
    size_t count;
    bool inside = false;
    if (!road_rows(&rows, &count, error)) return false;
    for (size_t i = 0; i < count && !*stop; i++) {
        const Pass *pass = &rows[i].pass;
        if (strcmp(pass->name, last) == 0) break;
        if (inside) {
            bool asked = pass->run && (!pass->when || pass->when(options->setting));
            if (asked && !run_row(&rows[i], graph, options, error)) return false;
            if (!told_to_stop(options, pass, graph, stop, error)) return false;
        }
        if (strcmp(pass->name, first) == 0) inside = true;
    }
    return true;
}

bool road_simplify(Graph *graph, const RoadOptions *options, Error *error)
{
    SimplifyOptions simplify = simplify_options(options->setting);
    if (!simplify_graph(graph, &simplify, error)) return error->code == ERROR_CALLBACK ? false : error_within(error, "simplify");
    if (options->check && !graph_check(graph, error)) return error_within(error, "simplify");
    return check_supported(graph, error);
}

Graph *road_load(const char *path, const OnnxOptions *onnx, const RoadOptions *options, Error *error)
{
    bool stop = false;
    Graph *graph = onnx_load(path, onnx, error);
    if (!graph) return NULL;
    bool fine = !options->setting->switches.reference_order || onnx_reference_order(graph, error);
    fine = fine && told_to_stop(options, road_pass("load"), graph, &stop, error);
    if (fine && !stop) fine = road_simplify(graph, options, error);
    if (fine && !stop) fine = told_to_stop(options, road_pass("simplify"), graph, &stop, error);
    if (fine) return graph;
    graph_free(graph);
    return NULL;
}

static bool is_quantized(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->quantized) return true;
    return false;
}

bool road_quantize(Graph *graph, const RoadOptions *options, Error *error)
{
    bool stop = false;
    if (is_quantized(graph))
        return fail(error, graph->name, "quantize a copy that was made before: graph:copy()", "the graph is quantized already");
    /* The reference writes whatever it can; else what the chip cannot take is said before any data are read. */
    if (options->setting->switches.extra_rewrites && !check_exportable(graph, options->bits, error)) return false;
    if (!run_between("simplify", "lower", graph, options, &stop, error)) return false;
    if (progress_level >= 2 && !stop) {
        Text text = {0};
        quantize_snapshot(graph, &text);
        if (text.data) progress_note("%s", text.data);
        text_free(&text);
    }
    return true;
}

bool road_quantize_part(Graph *graph, const char *first, const char *end, const RoadOptions *options, Error *error)
{
    const RoadRow *rows;
    size_t count;
    bool stop = false;
    if (first && !road_pass(first)) return road_fail_unknown(first, error);
    if (!road_pass(end)) return road_fail_unknown(end, error);
    if (!first && options->setting->switches.extra_rewrites && !check_exportable(graph, options->bits, error)) return false;
    const char *before = "simplify";
    if (!road_rows(&rows, &count, error)) return false;
    for (size_t i = 1; first && i < count; i++)
        if (strcmp(rows[i].pass.name, first) == 0) before = rows[i - 1].pass.name;
    return run_between(before, end, graph, options, &stop, error);
}

bool road_apply(Graph *graph, const char *name, const RoadOptions *options, Error *error)
{
    const RoadRow *rows;
    size_t count;
    if (!road_rows(&rows, &count, error)) return false;
    for (size_t i = 0; i < count; i++) {
        const Pass *pass = &rows[i].pass;
        if (strcmp(pass->name, name) != 0) continue;
        if (strcmp(name, "simplify") == 0) return road_simplify(graph, options, error);
        if (!pass->run) return fail(error, NULL, "it is a step of quantize_onnx and export", "pass '%s' cannot be applied alone", name);
        if (pass->after_slots && !is_quantized(graph))
            return fail(error, NULL, "apply 'dispatch' and 'slots' first, or quantize the graph", "pass '%s' needs a graph with slots",
                        name);
        if (!run_row(&rows[i], graph, options, error)) return false;
        return graph_check(graph, error);
    }
    return road_fail_unknown(name, error);
}
