/* The load-time rewrites (QUANT §2): a table of rows, pattern + function, in the reference's order. */
#ifndef ESPQ_SIMPLIFY_SIMPLIFY_H
#define ESPQ_SIMPLIFY_SIMPLIFY_H

#include "graph/pass.h"

typedef struct SimplifyOptions {
    bool extra_rewrites;           /* espq's own: dense layers, LayerNormalization, Gelu, Transpose round trips … */
    bool keep_output_names;        /* QUANT D16 */
    bool exact;                    /* onnx_exact_ops, for folding */
} SimplifyOptions;

typedef struct Rewrite {
    const char *name, *help;
    bool extra;                    /* only with extra_rewrites */
    bool (*apply)(Graph *graph, const SimplifyOptions *options, int *changes, Error *error);   /* over the whole graph */
} Rewrite;

extern const Rewrite rewrites[];   /* ends with a NULL name */

bool simplify_graph(Graph *graph, const SimplifyOptions *options, Error *error);   /* all rows, in order; shapes are inferred before and after */
bool simplify_fold(Graph *graph, const SimplifyOptions *options, int *changes, Error *error);

/* Refuse, in one error, every node that cannot run or cannot be exported, with a cure each. */
bool check_supported(const Graph *graph, Error *error);

#endif
