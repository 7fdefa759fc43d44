/* Error analyses (QUANT §12): the reference's sampling and formulas. */
#ifndef ESPQ_ANALYSE_ANALYSE_H
#define ESPQ_ANALYSE_ANALYSE_H

#include "exec/batches.h"
#include "exec/memo.h"
#include "graph/graph.h"

typedef enum { MEASURE_SNR, MEASURE_COSINE, MEASURE_MSE } Measure;
bool measure_from_name(const char *name, Measure *measure, Error *error); /* unknown: names the nearest */

typedef struct AnalyseRow {
    const char *name, *type; /* of the node; live as long as the graph */
    double value;
} AnalyseRow;

typedef struct AnalyseTable { /* graphwise, layerwise */
    Measure measure;
    int count;
    AnalyseRow *rows; /* graph order */
} AnalyseTable;

typedef struct Moments {
    double mean, deviation, skewness, kurtosis, minimum, maximum;
    int64_t histogram[32];
} Moments;

typedef struct StatisticalRow {
    const char *name, *type, *variable;
    bool is_parameter, is_input, is_output;
    double snr;
    Moments noise, quantized, floating;
} StatisticalRow;

typedef struct StatisticalTable {
    int count;
    StatisticalRow *rows;
} StatisticalTable;

typedef struct ParameterRow {
    const char *variable, *node;
    double range, deviation, mean_abs;
} ParameterRow;
typedef struct ParameterTable {
    int count;
    ParameterRow *rows;
} ParameterTable;

/* Float values of one graphwise analysis, for the next of a graph that is the same in float: a search judges many such. */
typedef struct FloatSamples FloatSamples;
FloatSamples *float_samples_new(size_t limit, Error *error); /* limit: bytes; more are not kept */
void float_samples_free(FloatSamples *samples);              /* NULL is fine */

typedef struct AnalyseOptions {
    Measure measure;
    int steps;           /* 8: batches 0 … steps are read, steps + 1 of them (QUANT §12) */
    bool exact;          /* onnx_exact_ops, as the plan that is judged */
    size_t memory_limit; /* bytes for the cache of float values; 0: 80 MB, at least one sample */
    /* Graphwise: samples of the last analysis are used when it had the same key, else made anew. The key names the float graph and the
     * data: whoever gives an equal one promises that both are. NULL: nothing is kept. */
    FloatSamples *samples;
    const char *samples_key;
    Memo *memo; /* graphwise: figures of nodes that an earlier graph had as well; NULL: nothing is shared */
} AnalyseOptions;

bool analyse_graphwise(Graph *graph, Batches *batches, const AnalyseOptions *options, AnalyseTable *table, Error *error);
bool analyse_layerwise(Graph *graph, Batches *batches, const AnalyseOptions *options, AnalyseTable *table, Error *error);
bool analyse_statistical(Graph *graph, Batches *batches, const AnalyseOptions *options, StatisticalTable *table, Error *error);
bool analyse_parameters(const Graph *graph, ParameterTable *table, Error *error);
void analyse_table_free(AnalyseTable *table);
void statistical_table_free(StatisticalTable *table);
void parameter_table_free(ParameterTable *table);
void analyse_print(const AnalyseTable *table, Text *text); /* the reference's bar table (QUANT §12.5) */

#endif
