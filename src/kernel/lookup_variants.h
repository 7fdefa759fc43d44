/* What a variant of the look-up provides; inside the room only. */
#ifndef ESPQ_KERNEL_LOOKUP_VARIANTS_H
#define ESPQ_KERNEL_LOOKUP_VARIANTS_H

#include "kernel/lookup.h"

typedef struct LookupKernel {
    bool (*available)(void);
    void (*run)(const int8_t *table, const int8_t *x, int8_t *y, int64_t count); /* one thread's share */
} LookupKernel;

static inline void lookup_rest(const int8_t *table, const int8_t *x, int8_t *y, int64_t begin, int64_t end)
{
    for (int64_t i = begin; i < end; i++)
        y[i] = table[x[i] + 128];
}

#if defined(__x86_64__)
extern const LookupKernel lookup_avx2, lookup_avx512, lookup_avx512vbmi;
#endif

#endif
