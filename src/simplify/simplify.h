/* The load-time rewrites (QUANT §2): a table of rows, pattern + function, in the reference's order. */
#ifndef ESPQ_SIMPLIFY_SIMPLIFY_H
#define ESPQ_SIMPLIFY_SIMPLIFY_H

#include "graph/pass.h"

typedef struct SimplifyOptions {
    bool extra_rewrites;    /* espq's own: dense layers, LayerNormalization, Gelu, Transpose round trips … */
    bool keep_output_names; /* QUANT D16 */
    bool exact;             /* onnx_exact_ops, for folding */
    bool split_groups;      /* EXPORT E26: convolutions in groups become what the chip has */
} SimplifyOptions;

typedef struct Rewrite {
    const char *name, *help;
    bool extra;                                                                              /* only with extra_rewrites */
    bool (*apply)(Graph *graph, const SimplifyOptions *options, int *changes, Error *error); /* over the whole graph */
} Rewrite;

extern const Rewrite rewrites[]; /* ends with a NULL name */

bool simplify_graph(Graph *graph, const SimplifyOptions *options,
                    Error *error); /* all rows, in order; shapes are inferred before and after */
bool simplify_fold(Graph *graph, const SimplifyOptions *options, int *changes, Error *error);

/* Refuse, in one error, every node that cannot run, with a cure each: unknown operators, rows without `run`, weights that are not
 * numbers. Reference mode asks this one: float operators go into the file there, whatever the chip says. */
bool check_supported(const Graph *graph, Error *error);
/* The same, and every node that the chip has no module for or cannot take as it is (run-time weights, 3-D convolution). What has a table
 * goes at 8 bits (EXPORT E24); operators that a script registered are left to the export. */
bool check_exportable(const Graph *graph, int bits, Error *error);

#endif
