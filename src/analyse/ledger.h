/* Parts of all figures of a graph-wide analysis, by unit, and the table that comes of them. */
#ifndef ESPQ_ANALYSE_LEDGER_H
#define ESPQ_ANALYSE_LEDGER_H

#include "analyse/measure.h"
#include "exec/feed.h"

typedef struct Ledger {
    Node **nodes; /* measured, in graph order */
    int node_count;
    int outputs; /* figures a node: 1, or one a graph output */
    Part *parts; /* [unit][node][output] */
    int units;
} Ledger;

bool ledger_begin(Ledger *ledger, const Graph *graph, int outputs, Error *error); /* quantized computing nodes (K of QUANT §6) */
bool ledger_grow(Ledger *ledger, int units, Error *error);
Part *ledger_part(const Ledger *ledger, int unit, int node, int output);
bool ledger_table(const Ledger *ledger, const Feed *feed, Measure measure, AnalyseTable *table, Error *error);
void ledger_end(Ledger *ledger);

/* The rows of a tensor that shows `units` units: rows of a unit, elements of a row. One axis or none: a unit is one stretch (*rows 0). */
void unit_rows(const Tensor *tensor, int units, int64_t *rows, int64_t *count);

#endif
