/* Where the simulation and the chip part: fake-quantized floats beside the chip's integers, tensor by tensor, on the user's own data. */
#ifndef ESPQ_ANALYSE_COMPARE_H
#define ESPQ_ANALYSE_COMPARE_H

#include "chip/chip.h"
#include "exec/batches.h"
#include "lower/device.h"

/* How two versions of a tensor differ: in steps of its exponent, or in its own numbers where the chip holds floats. */
typedef struct Parting {
    int64_t differing; /* elements half a step apart or more; of floats: a millionth or more */
    double largest, sum;
} Parting;

typedef struct CompareRow {
    const char *node, *type, *tensor; /* of the user's graph; live as long as it */
    int bits;                         /* of the chip's integers; 32: floats */
    double step;                      /* 2^exponent; 0 for floats */
    int64_t count;                    /* elements seen */
    Parting alone;                    /* the node simulated on the chip's own inputs: what it adds by itself */
    Parting together;                 /* both run from the model's inputs */
    bool isolated, followed;          /* `alone` was measured; `together` was */
    Headroom headroom;                /* count 0: not followed, or sums cannot leave the accumulators */
    const char *cause;                /* why simulation and chip differ here, one line; NULL: nothing of the kind is known */
} CompareRow;

typedef struct CompareTable {
    int count;
    CompareRow *rows; /* in the order in which the chip runs */
    int64_t samples;
} CompareTable;

typedef struct CompareOptions {
    const LowerOptions *lower; /* how the graph goes to the chip */
    const Chip *chip;
    bool exact;      /* onnx_exact_ops of the simulation */
    int batches;     /* to read at most */
    int64_t samples; /* to run at most; 0: all of them */
    bool alone;      /* nodes by themselves only: half the work */
    bool headroom;   /* follow the accumulators as well: slow */
} CompareOptions;

bool analyse_compare(Graph *graph, Batches *batches, const CompareOptions *options, CompareTable *table, Error *error);
void compare_table_free(CompareTable *table);

#endif
