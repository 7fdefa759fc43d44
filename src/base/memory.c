#include "base/memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/fault.h"

static atomic_long blocks;

long fault_blocks(void)
{
    return atomic_load(&blocks);
}

static void *counted(void *block)
{
    if (block) atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
    return block;
}

void *memory_new(size_t bytes)
{
    if (fault_reached(FAULT_ALLOCATION)) return NULL;
    return counted(calloc(1, bytes ? bytes : 1));
}

void *memory_new_array(size_t count, size_t bytes)
{
    if (bytes && count > SIZE_MAX / bytes) return NULL;
    return memory_new(count * bytes);
}

void *memory_resize(void *block, size_t bytes)
{
    if (fault_reached(FAULT_ALLOCATION)) return NULL;
    void *moved = realloc(block, bytes ? bytes : 1);
    return block ? moved : counted(moved);
}

void memory_free(void *block)
{
    if (!block) return;
    atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
    free(block);
}

#define HUGE_PAGE ((size_t)2 << 20)

/* Large blocks are walked from end to end: with huge pages where the system has them, faults and misses of the page table are few. */
static void *new_large(size_t bytes)
{
    void *block = aligned_alloc(HUGE_PAGE, bytes);
#ifdef MADV_HUGEPAGE
    if (block) (void)madvise(block, bytes, MADV_HUGEPAGE); /* advice: without it the block is as good */
#endif
    return block;
}

void *memory_new_aligned(size_t bytes)
{
    if (bytes > SIZE_MAX - HUGE_PAGE || fault_reached(FAULT_ALLOCATION)) return NULL;
    size_t unit = bytes >= 4 * HUGE_PAGE ? HUGE_PAGE : 64; /* sanitizers ask for whole units */
    size_t rounded = bytes ? (bytes + unit - 1) / unit * unit : unit;
    return counted(rounded >= 4 * HUGE_PAGE ? new_large(rounded) : aligned_alloc(64, rounded));
}

void *memory_grow(void *array, size_t count, size_t *capacity, size_t item_bytes)
{
    if (count < *capacity) return array;
    size_t wanted = *capacity ? *capacity * 2 : 8;
    if (wanted > SIZE_MAX / item_bytes) return NULL;
    void *moved = memory_resize(array, wanted * item_bytes);
    if (moved) *capacity = wanted;
    return moved;
}
