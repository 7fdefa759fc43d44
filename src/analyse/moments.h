/* Moments of samples as QUANT §12.6 defines them. */
#ifndef ESPQ_ANALYSE_MOMENTS_H
#define ESPQ_ANALYSE_MOMENTS_H

#include "analyse/analyse.h"

void moments_of(const float *x, int64_t count, Moments *moments);

#endif
