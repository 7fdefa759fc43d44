/* Inside of the room: elements brought into another order; what only moves data is one of these. */
#ifndef ESPQ_CHIP_COPY_H
#define ESPQ_CHIP_COPY_H

#include "tensor/tensor.h"

typedef struct Copy {
    int rank;
    int64_t dims[ESPQ_MAX_RANK];  /* of the result, in its order */
    int64_t steps[ESPQ_MAX_RANK]; /* bytes in the source from one to the next along that axis */
    int64_t offset;               /* bytes to the first */
    size_t run;                   /* bytes that lie together on both sides */
} Copy;

/* dims: of the result; strides and offset: of the source, in elements. Axes that follow each other on both sides become one. */
void copy_set(Copy *copy, size_t element, int rank, const int64_t *dims, const int64_t *strides, int64_t offset);
void copy_run(const Copy *copy, const void *from, void *to); /* threads inside */

#endif
