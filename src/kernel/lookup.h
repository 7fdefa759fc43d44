/* Tables of all 256 values of int8: every activation of an 8-bit network is one look-up an element. Variants give the same bytes. */
#ifndef ESPQ_KERNEL_LOOKUP_H
#define ESPQ_KERNEL_LOOKUP_H

#include <stdbool.h>
#include <stdint.h>

/* y[i] = table[x[i] + 128]; threads inside; y may be x. */
void lookup_int8(const int8_t table[256], const int8_t *x, int8_t *y, int64_t count);

/* The same in this thread, with the variant of row `row` (0: this processor's best); false: no such row here. For tests. */
bool lookup_int8_on(int row, const int8_t table[256], const int8_t *x, int8_t *y, int64_t count);

#endif
