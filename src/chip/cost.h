/* What a device graph costs on a chip, without a board: products, bytes, the static memory plan, and an estimate of time.
 *
 * The time is an estimate from a small model whose figures (a row a chip, cost.c) were fitted to latencies that Espressif publishes: 6 kernels
 * (operator_performance.md) and the model zoo's READMEs, 22 models for esp32s3 and 28 for esp32p4 (CHIP §5). A node's cycles are
 *   node + vector instructions * product (or product_unaligned, or tap of a depthwise one) + stored vectors * vector
 *        + weight bytes fetched again for each output pixel * refetch + elements * element (moved) or float_element (computed in float).
 * The published figures come from several boards and settings (caches, PSRAM clock, one core or two), which limits any such model. Its error on
 * the very models it was fitted to: mean 18 %, at most 45 % on esp32s3; 11 % and 43 % on esp32p4. On kinds of models (YOLO11, MobileNetV2 …)
 * left out of the fit one after another: 30 % and 63 %; 17 % and 62 %. That is what to expect of a new model. On the six kernels: mean 7 % on
 * esp32s3, 21 % on esp32p4. cost_published_at lists published models for a check. */
#ifndef ESPQ_CHIP_COST_H
#define ESPQ_CHIP_COST_H

#include "chip/memory_plan.h"
#include "quant/target.h"

typedef struct CostNode {
    const Node *node;
    int64_t macs;            /* products of Conv, Gemm, MatMul, GRU, LSTM; taps in the padding counted */
    int64_t parameter_bytes; /* constants it reads, tables included */
    int64_t moved_bytes;     /* activations read and written */
    int64_t refetched_bytes; /* weights that do not fit the cache and come anew from PSRAM for each output pixel */
    bool unaligned;          /* channels that do not fill the vectors */
    double microseconds;     /* estimated; negative: no published figure for this chip */
} CostNode;

typedef struct CostReport {
    CostNode *nodes; /* in the order of execution */
    int count;
    int64_t macs, parameter_bytes, moved_bytes, refetched_bytes; /* sums; parameters that nodes share are counted once */
    bool timed;
    double milliseconds;
    MemoryPlan memory;
    bool computed;     /* shapes are those that the modules compute; false: as recorded, since the modules refuse the model */
    char refusal[200]; /* why, then */
} CostReport;

/* order: of execution, NULL for the order of the graph's nodes (that of a file). target: as whose the kernels are timed. */
bool cost_estimate(Graph *device, Node *const *order, int count, const Target *target, int64_t max_internal_bytes, CostReport *report,
                   Error *error);
void cost_free(CostReport *report);

/* Does this node only move, add, compare or look up integers? Others, but for those of products, compute in float (CHIP §2). */
bool cost_in_integers(const Node *node);

/* Why there is no time for this chip, and how good the time is for others: one line. */
const char *cost_about(const Target *target);

/* Latencies that were published (CHIP §5, model part only), for models by the names of their files. */
typedef struct CostPublished {
    const char *model;  /* as in the model zoo */
    const char *input;  /* "224x224x3" */
    const char *target; /* "esp32s3" */
    double milliseconds;
    const char *file; /* that has this structure, in ../shared/data */
} CostPublished;
const CostPublished *cost_published_at(int index); /* NULL behind the last */

#endif
