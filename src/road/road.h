/* The road: the list of all passes from file to file, and its one driver. */
#ifndef ESPQ_ROAD_ROAD_H
#define ESPQ_ROAD_ROAD_H

#include "exec/batches.h"
#include "exec/memo.h"
#include "graph/pass.h"
#include "lower/device.h"
#include "onnx/onnx.h"
#include "quant/observed.h"
#include "quant/quantize.h"

/* All passes in order: load simplify dispatch weight_split channel_split equalization convtranspose slots ssd_equalization fuse join
 * parameters calibrate modify align passive bias_correct lsq tqt blockwise baking lower export. Rows without `run` stand for the road's
 * own steps (load, simplify, lower, export). Passes of scripts are inserted behind the row they name. */
const Pass *road_pass_at(int index); /* NULL behind the last */
const Pass *road_pass(const char *name);
/* A Lua pass, behind the row named; the row is copied, its texts are kept by the caller for good. `lua` comes back as context->lua. */
bool road_insert(const Pass *pass, const char *after, void *lua, Error *error);

typedef struct RoadOptions {
    const Setting *setting;
    const Target *target;
    int bits;
    bool hi_precision;
    Batches *batches;   /* NULL: passes that need data are refused */
    Observed *observed; /* of calibration, shared by settings that differ in the method only; NULL: not shared */
    Memo *memo;         /* of passes that run the graph, shared by graphs that have much in common; NULL: not shared */
    bool check;         /* graph_check after every pass */
    /* After each pass; stop the road by setting *stop (dump --after). NULL: nothing. */
    bool (*after)(void *context, const Pass *pass, Graph *graph, bool *stop, Error *error);
    void *after_context;
} RoadOptions;

/* load → simplify, with everything unsupported in one error. */
Graph *road_load(const char *path, const OnnxOptions *onnx, const RoadOptions *options, Error *error);
/* simplify a graph that was not loaded from a file (built or edited by a script), as road_load does. */
bool road_simplify(Graph *graph, const RoadOptions *options, Error *error);
/* One pass alone, in place; the graph is checked afterwards. Fails for a name that is none, or a row that is no step of its own. */
bool road_apply(Graph *graph, const char *pass, const RoadOptions *options, Error *error);
/* dispatch … baking on a simplified float graph, in place. */
bool road_quantize(Graph *graph, const RoadOptions *options, Error *error);
/* A part of it: the rows from `first` (NULL: what stands behind simplify) up to, not including, `end`, in place. A search walks the road in
 * such parts and keeps what trials have in common between them. */
bool road_quantize_part(Graph *graph, const char *first, const char *end, const RoadOptions *options, Error *error);
/* The name of the graph's contents: equal for graphs that every pass, run and export treats alike. Notes for the user do not count. */
bool road_digest(const Graph *graph, char hex[41], Error *error);
/* The same of what float runs see, and of which nodes are quantized at all: equal for graphs whose analyses have the same float values. */
bool road_float_digest(const Graph *graph, char hex[41], Error *error);

typedef struct ExportOptions {
    const char *path;   /* .espdl; .json and .info beside it by base name */
    bool export_config; /* .json and .info */
    const TestValue *test_inputs, *test_outputs;
    int test_input_count, test_output_count;
    int64_t model_version, int16_lut_step;
    const char *const *metadata; /* key, value, key, value … */
    int metadata_count;          /* pairs */
    bool simulated_tests;        /* test outputs of the simulation: where the chip computes others is worth a warning, no fault */
    bool strict;                 /* faults found in the file written fail the export; else they are warnings (reference mode) */
} ExportOptions;

/* lower → write, read back, verify (EXPORT §17), rename: three files that appear together. warnings: one line each. */
bool road_export(const Graph *graph, const RoadOptions *options, const ExportOptions *export_options, Text *warnings, Error *error);

#endif
