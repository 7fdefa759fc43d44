/* One driver for faults on purpose: an act is run again and again, each time with the next allocation, write, sync or rename failing (or
 * Ctrl-C coming), until it passes untouched. Threads are off meanwhile, so that the n-th call is the same one every time.
 * What cannot be failed: memory inside libjpeg, libpng and Lua's own libraries. */
#ifndef ESPQ_TESTS_SWEEP_H
#define ESPQ_TESTS_SWEEP_H

#include <stdint.h>

#include "base/error.h"
#include "base/fault.h"
#include "base/text.h"
#include "graph/graph.h"

typedef struct Sweep {
    const char *what;
    bool (*act)(void *fixture, Error *error);
    /* Runs without faults after each act: checks that nothing is damaged, releases what the act made, and returns a digest of the result
     * (looked at only when the act succeeded; an act that says yes must have done all of it). */
    uint64_t (*settle)(void *fixture, bool ok);
    void *fixture;
} Sweep;

/* Memory that ends once, and memory that ends for good. */
void sweep_memory(const Sweep *sweep);
/* A disk that is full, a sync and a rename that fail, Ctrl-C. */
void sweep_files(const Sweep *sweep);
/* Both, for long acts: only every stride-th place fails, from the first on. */
void sweep_some(const Sweep *sweep, long stride);

uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t count); /* start with 0 */
uint64_t digest_text(uint64_t digest, Text *text);                       /* and frees it */
/* Nodes, shapes, exponents, constants. A test fails unless the graph is legal. */
uint64_t digest_graph(const char *what, const Graph *graph);

#endif
