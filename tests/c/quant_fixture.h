/* Small graphs and data for the tests of src/quant. */
#ifndef ESPQ_TESTS_QUANT_FIXTURE_H
#define ESPQ_TESTS_QUANT_FIXTURE_H

#include "exec/batches.h"
#include "graph/operator.h"
#include "quant/quantize.h"

typedef struct Fixture {
    Graph *graph;
    Setting *setting;
    PassContext context;
    Batches batches;
    int walk_at, walks;
    float first; /* the first number of every batch; the others lie in (-1, 1) */
    Error error;
    bool ok; /* everything since fixture_begin worked */
} Fixture;

/* A graph with one input `x` of these sizes, the espdl setting with minmax, target and width; four batches of data. */
void fixture_begin(Fixture *fixture, const char *target, int bits, int rank, const int64_t *dims);
void fixture_end(Fixture *fixture);

/* A node `name` reading values by name ("" leaves one out), writing `<name>_out`. */
Node *fixture_node(Fixture *fixture, const char *type, const char *name, int inputs, const char *const *names);
/* A float constant filled with a ramp from -scale to scale. */
Value *fixture_constant(Fixture *fixture, const char *name, int rank, const int64_t *dims, float scale);
void fixture_output(Fixture *fixture, const char *name);
void fixture_set(Fixture *fixture, const char *path, const char *value);

/* All passes whose switches are on, up to and with `last` (NULL: all); false with fixture->error. */
bool fixture_run(Fixture *fixture, const char *last);

Slot *fixture_in(const Fixture *fixture, const char *node, int index);
Slot *fixture_out(const Fixture *fixture, const char *node);

#endif
