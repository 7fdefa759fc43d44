/* Measures of QUANT §12.2 and where their parts are kept until all samples have been seen. */
#ifndef ESPQ_ANALYSE_MEASURE_H
#define ESPQ_ANALYSE_MEASURE_H

#include "analyse/analyse.h"

/* What a unit (the samples of one traced batch) adds to a figure. Rows are measured one by one; of tensors of one axis the whole
 * batch is one row, so its sums are kept. */
typedef struct Part {
    double measured; /* sum of the rows' measures */
    int64_t rows;
    double noise, power, dot, square;
    int64_t elements; /* of the one row */
    int64_t weight;   /* entries along the first axis */
} Part;

/* Add the rows of one piece: `count` elements a row, `rows` rows. */
void part_add_rows(Part *part, Measure measure, const float *floating, const float *quantized, int64_t rows, int64_t count);
/* Add a stretch of a batch that is one row. */
void part_add_stretch(Part *part, const float *floating, const float *quantized, int64_t count);

/* A running mean over batches, weighted by their first axis. */
typedef struct Recorder {
    double value;
    int64_t weight;
    bool any;
} Recorder;

/* One batch: its parts lie `stride` apart. */
void recorder_update(Recorder *recorder, Measure measure, const Part *parts, int count, int64_t stride);
double recorder_value(const Recorder *recorder, Measure measure); /* of equal tensors when nothing was measured */

/* Positions of QUANT §12.1: seed mod n, one after the other. */
#define ESPQ_SAMPLE_SEED 10086u
static inline uint32_t next_seed(uint32_t seed)
{
    return 214013u * seed + 2531011u;
}

#endif
