/* Inside of the room: what a graphwise analysis keeps of its float half. */
#ifndef ESPQ_ANALYSE_FLOAT_SAMPLES_H
#define ESPQ_ANALYSE_FLOAT_SAMPLES_H

#include "analyse/analyse.h"

/* The samples of chunk number `chunk` of an earlier analysis of this key: [unit][node], NULL when they are not there. Owned by `samples`. */
float **float_samples_find(const FloatSamples *samples, const char *key, int chunk, int units, int nodes);
/* Begin to collect for another key: what was kept is given up. */
bool float_samples_begin(FloatSamples *samples, const char *key, Error *error);
/* Keep a chunk's samples. True: they belong to `samples` now. False: too much to be kept, or no memory; they stay the caller's. */
bool float_samples_keep(FloatSamples *samples, int chunk, int units, int nodes, float **sampled, size_t bytes);
/* All chunks came: they may be used from now on. */
void float_samples_end(FloatSamples *samples, int chunks);

#endif
