/* Small graphs for the tests of exec and analyse. */
#ifndef ESPQ_TESTS_EXEC_GRAPHS_H
#define ESPQ_TESTS_EXEC_GRAPHS_H

#include "exec/batches.h"
#include "exec/plan.h"

Tensor *random_tensor(const Shape *shape, uint64_t seed);
Value *make_input(Graph *graph, const char *name, const Shape *shape);
Value *make_parameter(Graph *graph, const char *name, const Shape *shape, uint64_t seed);
Node *make_node(Graph *graph, const char *type, const char *name, const char *inputs, const char *output); /* inputs by blanks */

/* x [batch,2,5,5] -> Conv 3x3 -> Relu -> Conv 1x1 -> Add with the Relu -> (baked: Reshape to [batch,75] -> Gemm of 4) -> y. */
Graph *make_net(int64_t batch, bool baked);
/* Slots with one exponent for all ends of float32: -5, weights -7, biases -12. */
void quantize_net(Graph *graph);

Shape net_shape(int64_t batch);
/* Float or simulated run of a whole graph on one input; NULL and a failed test when it fails. */
Tensor *run_net(Graph *graph, ExecMode mode, Tensor *input);

/* Batches of random samples: sizes[i] samples in batch i. */
typedef struct TestBatches {
    Batches batches;
    const int64_t *sizes;
    int count, next;
    Tensor *(*make)(int batch, int64_t samples);
} TestBatches;
void test_batches(TestBatches *data, const int64_t *sizes, int count, Tensor *(*make)(int batch, int64_t samples));
Tensor *net_batch(int batch, int64_t samples); /* sample k of the whole data is the same however it is cut: seeds are counted */

#endif
