/* What changed from one .espdl file to another: structure, exponents, parameters, test values, metadata. */
#ifndef ESPQ_ESPDL_DIFF_H
#define ESPQ_ESPDL_DIFF_H

#include "espdl/model.h"

typedef enum {
    DIFF_STRUCTURE, /* nodes, their types, links and attributes; inputs and outputs; shapes and types of tensors */
    DIFF_EXPONENT,
    DIFF_WEIGHT,
    DIFF_BIAS,
    DIFF_TABLE, /* of an activation */
    DIFF_CONSTANT,
    DIFF_TEST,
    DIFF_METADATA,
    DIFF_KINDS
} DiffKind;

typedef struct DiffRow {
    DiffKind kind;
    const char *name; /* of the node, tensor or key */
    const char *what; /* "exponents [-5] -> [-4]", "only in the second file" */
    int64_t differing, count;
    double largest, mean; /* of |difference| of the stored numbers, over those that differ; 0 when numbers are not compared */
} DiffRow;

typedef struct EspdlDiff {
    Arena arena;
    DiffRow *rows; /* in the order of the kinds, inside of one in the order of the first file */
    int count;
    size_t capacity;
} EspdlDiff;

const char *diff_kind_name(DiffKind kind); /* "structure" … */

/* Nodes and tensors are matched by their names. No rows: the models are the same, whatever their bytes. The texts are the diff's own. */
bool espdl_diff(const EspdlModel *a, const EspdlModel *b, EspdlDiff *diff, Error *error);
void espdl_diff_free(EspdlDiff *diff);

#endif
