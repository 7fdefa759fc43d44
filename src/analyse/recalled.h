/* Inside of the room: what a graphwise analysis needs not find out again (exec/memo.h). */
#ifndef ESPQ_ANALYSE_RECALLED_H
#define ESPQ_ANALYSE_RECALLED_H

#include "analyse/ledger.h"
#include "exec/names.h"

typedef struct Recalled {
    Memo *memo; /* NULL: nothing is known, nothing is kept */
    Measure measure;
    Names floats, simulated;
    Name batch;             /* of the chunk at hand */
    Name *figures;          /* one a node of the ledger: of its figures in this chunk */
    bool *known;            /* one a node of the ledger */
    bool all;               /* every one is known: nothing has to run */
    Value **given, **noted; /* where a run of the others begins, and what of it is left for later runs */
    int given_count, noted_count;
    Shape *shapes;               /* of those given */
    Tensor **tensors, **results; /* of those given, of those noted */
    bool *marked;
} Recalled;

bool recalled_begin(Recalled *recalled, Graph *graph, const AnalyseOptions *options, Error *error);
void recalled_end(Recalled *recalled);
/* For a chunk (a batch): figures that are known go into the ledger; the rest is told by what has to be run. */
void recalled_find(Recalled *recalled, const Ledger *ledger, const Chunk *chunk);
bool recalled_knows(const Recalled *recalled, int node);
/* The others have run: their figures, and the values noted, are kept. */
void recalled_keep(Recalled *recalled, const Ledger *ledger, const Chunk *chunk);

#endif
