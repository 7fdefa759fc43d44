/* A plan: a graph prepared to run in one mode for given input shapes. It fixes order, buffer reuse and prepared kernels once;
 * a run only executes. One run at a time a plan; several plans may run in several threads. */
#ifndef ESPQ_EXEC_PLAN_H
#define ESPQ_EXEC_PLAN_H

#include "graph/graph.h"

typedef enum { EXEC_FLOAT, EXEC_SIMULATED } ExecMode; /* EXEC_FLOAT: all slots off, constants as they are */

typedef struct Plan Plan;

/* What a watcher sees, once for each end it asked for. A batch is seen whole, also when the graph is walked sample by sample. */
typedef struct Watched {
    Node *node;
    Slot *slot; /* NULL for a float node */
    bool is_output;
    int index;
    const Tensor *raw;       /* before fake quantization (the value itself for an input) */
    const Tensor *seen;      /* after it; equal to raw where nothing is quantized */
    int64_t sample, samples; /* first sample shown, and how many: the whole batch, or a piece of it */
} Watched;

typedef struct Watcher {
    void *context;
    /* Called when the plan is made: which ends does this watcher want? NULL: all. */
    bool (*wants)(void *context, const Node *node, bool is_output, int index);
    bool (*watch)(void *context, const Watched *watched, Error *error);
    bool seen_only; /* raw is not looked at (and is then equal to seen): no copy of it is kept */
    bool by_piece;  /* takes pieces of a batch, in any order and from several threads: takes less memory than whole batches */
} Watcher;

typedef struct PlanOptions {
    ExecMode mode;
    bool exact;           /* onnx_exact_ops, see Prepare */
    bool approximate;     /* see Prepare */
    Value *const *wanted; /* values to compute; NULL: the graph outputs */
    int wanted_count;
    const Watcher *watcher; /* NULL: none */
    /* Which node's slots are on; NULL: all (EXEC_SIMULATED). The layerwise analysis switches on one node at a time. */
    bool (*quantizes)(void *context, const Node *node);
    void *quantizes_context;
    /* Constants that are read at each run instead of being prepared: those a training walk changes. NULL: none. Not for plan_run. */
    bool (*changes)(void *context, const Node *node, int input);
    void *changes_context;
    bool whole_batch; /* a batch is one piece wherever the graph grows with it: pieces then do not depend on the number of threads */
    /* Values that are given instead of computed (the node outputs behind which a replay starts): only what depends on neither
     * them nor needs recomputing is skipped. NULL: the graph inputs. */
    Value *const *given;
    int given_count;
} PlanOptions;

/* shapes: one an input (given value, or graph input). Any batch size works on any graph: where a shape is baked in, samples are
 * walked one by one behind this interface. The graph must not change while the plan lives, except slots' exponents and states
 * followed by plan_refresh. Fails for an unknown operator, shapes that do not fit, memory. */
Plan *plan_new(Graph *graph, const PlanOptions *options, const Shape *shapes, Error *error);
void plan_free(Plan *plan);
bool plan_refresh(Plan *plan, Error *error); /* constants and slots changed: quantize constants and prepare again */

/* Run: inputs in the order of `given` (or the graph's); outputs[i] gets a new reference to wanted value i. */
bool plan_run(Plan *plan, Tensor *const *inputs, Tensor **outputs, Error *error);

/* One node on given tensors, for constant folding: outputs are new tensors. */
bool exec_node(Graph *graph, Node *node, Tensor *const *inputs, Tensor **outputs, Error *error); /* as ONNX says */
bool exec_node_exact(Node *node, Tensor *const *inputs, Tensor **outputs, bool exact, Error *error);

#endif
