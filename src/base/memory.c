#include "base/memory.h"

#include <pthread.h>
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

#define HUGE_PAGE ((size_t)2 << 20)
#define LARGE (4 * HUGE_PAGE)

/* Large blocks are walked from end to end: with huge pages where the system has them, faults and misses of the page table are few. The
 * system clears each page that it gives, which costs as much as filling it: blocks that were freed serve again. Together with those in
 * use they never take more than were once in use at the same time, so that the process does not grow by it. */
#define LARGE_MOST 256

/* The address sanitizer has to see every block go. */
#ifdef __SANITIZE_ADDRESS__ /* gcc */
#define REUSES 0
#elif defined __has_feature /* clang */
#define REUSES (!__has_feature(address_sanitizer))
#else
#define REUSES 1
#endif

typedef struct Large {
    void *block;
    size_t bytes;
    bool used;
} Large;

static struct {
    pthread_mutex_t mutex;
    Large blocks[LARGE_MOST];
    int count;
    size_t used, spare, peak; /* bytes; peak: of those used */
} large = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* The smallest spare block that fits; one that is much larger only where others would have to go for a new one. */
static void *take_spare(size_t bytes)
{
    bool roomy = large.used + large.spare + bytes <= large.peak;
    int best = -1;
    for (int i = 0; i < large.count; i++) {
        const Large *entry = &large.blocks[i];
        if (entry->used || entry->bytes < bytes || (roomy && entry->bytes - bytes > bytes / 4)) continue;
        if (best < 0 || entry->bytes < large.blocks[best].bytes) best = i;
    }
    if (best < 0) return NULL;
    large.blocks[best].used = true;
    large.spare -= large.blocks[best].bytes;
    large.used += large.blocks[best].bytes;
    return large.blocks[best].block;
}

static void drop_spares(size_t most)
{
    for (int i = large.count - 1; i >= 0 && large.spare > most; i--) {
        if (large.blocks[i].used) continue;
        free(large.blocks[i].block);
        large.spare -= large.blocks[i].bytes;
        large.blocks[i] = large.blocks[--large.count];
    }
}

static void *new_large(size_t bytes)
{
    pthread_mutex_lock(&large.mutex);
    void *block = take_spare(bytes);
    if (!block) {
        size_t room = large.peak > large.used + bytes ? large.peak - large.used - bytes : 0;
        drop_spares(room);
        block = aligned_alloc(HUGE_PAGE, bytes);
        if (!block) {
            drop_spares(0);
            block = aligned_alloc(HUGE_PAGE, bytes);
        }
#ifdef MADV_HUGEPAGE
        if (block) (void)madvise(block, bytes, MADV_HUGEPAGE); /* advice: without it the block is as good */
#endif
        if (block && large.count < LARGE_MOST) {
            large.blocks[large.count++] = (Large){block, bytes, true};
            large.used += bytes;
        }
    }
    if (large.used > large.peak) large.peak = large.used;
    pthread_mutex_unlock(&large.mutex);
    return block;
}

static bool keep_large(void *block)
{
    bool kept = false;
    pthread_mutex_lock(&large.mutex);
    for (int i = 0; i < large.count; i++) {
        if (large.blocks[i].block != block) continue;
        large.blocks[i].used = false;
        large.used -= large.blocks[i].bytes;
        large.spare += large.blocks[i].bytes;
        kept = true;
        break;
    }
    pthread_mutex_unlock(&large.mutex);
    return kept;
}

/* It leaves by another way. */
static void no_large(const void *block)
{
    pthread_mutex_lock(&large.mutex);
    for (int i = 0; i < large.count; i++) {
        if (large.blocks[i].block != block) continue;
        large.used -= large.blocks[i].bytes;
        large.blocks[i] = large.blocks[--large.count];
        break;
    }
    pthread_mutex_unlock(&large.mutex);
}

void *memory_resize(void *block, size_t bytes)
{
    if (fault_reached(FAULT_ALLOCATION)) return NULL;
    if (block && (uintptr_t)block % HUGE_PAGE == 0) no_large(block);
    void *moved = realloc(block, bytes ? bytes : 1);
    return block ? moved : counted(moved);
}

void memory_free(void *block)
{
    if (!block) return;
    atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
    if (REUSES && (uintptr_t)block % HUGE_PAGE == 0 && keep_large(block)) return;
    if (!REUSES) no_large(block);
    free(block);
}

void *memory_new_aligned(size_t bytes)
{
    if (bytes > SIZE_MAX - HUGE_PAGE || fault_reached(FAULT_ALLOCATION)) return NULL;
    size_t unit = bytes >= LARGE ? HUGE_PAGE : 64; /* sanitizers ask for whole units */
    size_t rounded = bytes ? (bytes + unit - 1) / unit * unit : unit;
    return counted(rounded >= LARGE ? new_large(rounded) : aligned_alloc(64, rounded));
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
