/* One operator on given tensors, through infer, prepare and run, as exec does it. Each run is made twice, with one thread and
 * with three, on poisoned scratch and output memory: the results must be the same bytes. */
#ifndef ESPQ_TESTS_RUN_OPERATOR_H
#define ESPQ_TESTS_RUN_OPERATOR_H

#include "base/random.h"
#include "check.h"
#include "graph/operator.h"

#define OPERATOR_ENDS 8

typedef struct OperatorRun {
    Graph *graph;
    Node *node;
    Tensor *inputs[OPERATOR_ENDS];
    int input_count, output_count;
    Tensor *outputs[OPERATOR_ENDS]; /* after operator_run */
    bool exact, wide, simulated;    /* exact is on after operator_open */
    Error error;
} OperatorRun;

/* A graph of one node with `outputs` outputs. Attributes are set on run->node with node_set_…; false (noted) when the type is unknown. */
bool operator_open(OperatorRun *run, const char *type, int outputs);
/* The next input; the tensor is taken over. NULL: left out. */
void operator_input(OperatorRun *run, Tensor *tensor, bool constant);
/* False when infer or prepare refuse (run->error says why), or when a promise of the harness is broken (noted as a failure). */
bool operator_run(OperatorRun *run);
void operator_close(OperatorRun *run);

/* Tensors for tests. */
Tensor *test_tensor(int rank, const int64_t *dims);                 /* float32 zeros */
Tensor *test_random(Random *random, int rank, const int64_t *dims); /* normal */
Tensor *test_values(int rank, const int64_t *dims, const float *values);
Tensor *test_integers(int count, const int64_t *values); /* int64 */
#define DIMS(...)                                                                                                                          \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[])                                                                 \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }
#define FLOATS(...)                                                                                                                        \
    (const float[])                                                                                                                        \
    {                                                                                                                                      \
        __VA_ARGS__                                                                                                                        \
    }
#define INTS(...) (const int64_t[]){__VA_ARGS__}, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

/* |a - b| <= tolerance * (1 + |b|), NaN equal to NaN. */
bool test_close(double a, double b, double tolerance);

#endif
