/* Names of the values of a run: equal where all that a value depends on is equal (operators, constants, quantizations, edges, the data),
 * whatever graph it stands in. Names of graphs that differ in a late bias are equal up to there. */
#ifndef ESPQ_EXEC_NAMES_H
#define ESPQ_EXEC_NAMES_H

#include "exec/memo.h"
#include "exec/plan.h"
#include "exec/value_index.h"

typedef struct Names {
    Graph *graph;
    ExecMode mode;
    bool exact;
    Node **order; /* of execution */
    int node_count;
    ValueIndex index;
    Name *alone;  /* one an entry of order: what the node does to its inputs */
    Name *values; /* one a value: over any data */
    bool *worth;  /* one a value: all that is alive where little is alive; a run that begins there needs no earlier value */
} Names;

/* The graph's nodes and edges must not change while the names live. */
bool names_make(Names *names, Graph *graph, ExecMode mode, bool exact, Error *error);
void names_free(Names *names);
/* Constants or slots of these nodes have changed. Without memory what lies behind them has no name. */
void names_changed(Names *names, Node *const *nodes, int count);
/* The value when it is made from a batch of that name. */
Name names_of(const Names *names, const Value *value, const Name *batch);

/* Of the graph's inputs. */
Name name_of_batch(const Graph *graph, Tensor *const *inputs);
/* Of what depends on all of these. */
Name name_of_all(const char *what, const Name *const *names, int count);

#endif
