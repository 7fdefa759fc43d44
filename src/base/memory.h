/* The only door to the allocator. Every allocation of the engine passes here, so that tests can make each of them fail
 * (ARCHITECTURE "Errors are values"), and so that blocks are counted. */
#ifndef ESPQ_BASE_MEMORY_H
#define ESPQ_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

void *memory_new(size_t bytes);                     /* zeroed; NULL when there is none; a block for 0 bytes too */
void *memory_new_array(size_t count, size_t bytes); /* zeroed; NULL on overflow as well */
void *memory_resize(void *block, size_t bytes);     /* as realloc; the old block stays when NULL is returned */
void memory_free(void *block);                      /* NULL is fine; works for aligned blocks as well */
void *memory_new_aligned(size_t bytes);             /* 64-byte aligned, not zeroed, size rounded up to 64 */

/* A growing array: makes room for one more item and returns the array, NULL when memory ends (the old array stays). */
void *memory_grow(void *array, size_t count, size_t *capacity, size_t item_bytes);

#endif
