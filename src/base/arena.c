#include "base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { BLOCK_BYTES = 16384 };

struct ArenaBlock {
    ArenaBlock *next;
    size_t used, size;
    alignas(16) char data[];
};

void *arena_new(Arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = (bytes + 15) / 16 * 16;
    ArenaBlock *block = arena->blocks;
    if (!block || block->size - block->used < bytes) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        ArenaBlock *fresh = memory_new(sizeof *fresh + size);
        if (!fresh) return NULL;
        fresh->size = size;
        /* A large block goes behind the current one, whose rest stays in use. */
        if (block && bytes > BLOCK_BYTES / 4 && block->size - block->used > 64) {
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            arena->blocks = fresh;
        }
        block = fresh;
    }
    void *result = block->data + block->used;
    block->used += bytes;
    arena->bytes += bytes;
    return result;
}

void *arena_copy(Arena *arena, const void *data, size_t bytes)
{
    void *copy = arena_new(arena, bytes);
    if (copy && bytes) memcpy(copy, data, bytes);
    return copy;
}

char *arena_text_length(Arena *arena, const char *text, size_t length)
{
    char *copy = arena_new(arena, length + 1);
    if (copy && length) memcpy(copy, text, length);
    return copy;
}

char *arena_text(Arena *arena, const char *text)
{
    return arena_text_length(arena, text, strlen(text));
}

char *arena_format(Arena *arena, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    char *text = length < 0 ? NULL : arena_new(arena, (size_t)length + 1);
    if (text) vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

void arena_free(Arena *arena)
{
    for (ArenaBlock *block = arena->blocks, *next; block; block = next) {
        next = block->next;
        memory_free(block);
    }
    *arena = (Arena){0};
}
