/* Faults on purpose, for tests: the n-th allocation, write, sync or rename fails. Nothing is armed in normal use. */
#ifndef ESPQ_BASE_FAULT_H
#define ESPQ_BASE_FAULT_H

#include <stdbool.h>

typedef enum { FAULT_ALLOCATION, FAULT_WRITE, FAULT_SYNC, FAULT_RENAME, FAULT_INTERRUPT, FAULT_KINDS } FaultKind;
typedef enum { FAULT_ONCE, FAULT_FROM } FaultExtent; /* only the n-th, or the n-th and all after it */

void fault_arm(FaultKind kind, FaultExtent extent, long n); /* n counts from 0 */
bool fault_disarm(void);                                    /* true when the fault was reached */
bool fault_reached(FaultKind kind);                         /* for the doors: does this call fail? */
long fault_blocks(void);                                    /* allocated blocks that were not freed yet */

#endif
