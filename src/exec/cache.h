/* Values inside of a graph for all calibration batches, of the float and of the simulated run, stop by stop: what a pass that works block
 * by block needs (OPTIM §6.2). The data are walked once. Each stop's values are computed from those that were kept at the stop before,
 * never again from the graph's inputs, and what no later stop needs is dropped.
 *
 *     CacheStop stops[] = {one a block: its outputs in float, its inputs in simulation};
 *     Cache *cache = cache_new(graph, batches, &options, error);                 walks the data
 *     for each block:
 *         cache_go(cache, block, error);
 *         for each step, any batch in any order:
 *             cache_row(cache, batch, floating, simulated, error);               … use, tensor_release each
 *         … the block's constants and slots change …
 *         cache_changed(cache, EXEC_SIMULATED, nodes, count);
 *     cache_free(cache);
 *
 * Numbers are those of a whole run from the graph's inputs, bit by bit. Memory is bounded: what goes beyond the limit lies in a temporary
 * file that has no name and so vanishes however the program ends. */
#ifndef ESPQ_EXEC_CACHE_H
#define ESPQ_EXEC_CACHE_H

#include "exec/batches.h"
#include "exec/names.h"
#include "exec/plan.h"

/* Values (none of them constant) that are looked at together; either list may be empty. */
typedef struct CacheStop {
    Value *const *floating;
    int floating_count;
    Value *const *simulated;
    int simulated_count;
} CacheStop;

typedef struct CacheOptions {
    bool exact;             /* onnx_exact_ops, see Prepare */
    size_t memory_limit;    /* bytes of values in memory; 0: 256 MB */
    const CacheStop *stops; /* in the order they are gone to, the caller's, live as long as the cache, as do their lists */
    int stop_count;
    /* Values are taken from there where they are known, and left there for later runs. Those taken do not count in memory_limit: they are
     * the memo's, or were when they were taken, so that its limit bounds them at each stop. NULL: nothing is shared. */
    Memo *memo;
} CacheOptions;

typedef struct Cache Cache;

/* Walks all batches and keeps them. The graph's nodes and edges must not change while the cache lives; constants and slots may. */
Cache *cache_new(Graph *graph, Batches *batches, const CacheOptions *options, Error *error);
void cache_free(Cache *cache); /* NULL is fine */

int64_t cache_batch_count(const Cache *cache);
int64_t cache_spilled_bytes(const Cache *cache); /* size of the temporary file so far */

/* Makes the values of a stop for all batches, each node with the constants and slots it has now. Going back to an earlier stop works, but
 * may begin at the graph's inputs. */
bool cache_go(Cache *cache, int stop, Error *error);
/* One batch of the stop gone to last: floating[i] and simulated[i] get a new reference, in the order of its lists. On failure none is
 * held. */
bool cache_row(Cache *cache, int64_t batch, Tensor **floating, Tensor **simulated, Error *error);

/* A value that the caller has made itself, with constants and slots as they are now: the next stop needs not make it again. For all
 * batches in order, from the first, before the next cache_go. It is kept only where there is room in memory. */
bool cache_put(Cache *cache, ExecMode mode, const Value *value, int64_t batch, Tensor *tensor, Error *error);
/* Names of a value of a batch, and of what a node does by itself; nameless without a memo. */
Name cache_name(const Cache *cache, ExecMode mode, const Value *value, int64_t batch);
Name cache_node_name(const Cache *cache, ExecMode mode, const Node *node);

/* Constants or slots of these nodes have changed for this mode: what was kept behind them is forgotten, and made again when a later stop
 * needs it. The stop gone to last must be gone to again before its rows are asked for, if it lies behind them. */
void cache_changed(Cache *cache, ExecMode mode, Node *const *nodes, int count);

#endif
