/* Memory that is freed at once: what a graph consists of. */
#ifndef ESPQ_BASE_ARENA_H
#define ESPQ_BASE_ARENA_H

#include <stddef.h>

typedef struct ArenaBlock ArenaBlock;
typedef struct Arena {
    ArenaBlock *blocks;
    size_t bytes; /* handed out so far */
} Arena;          /* all zero: empty */

void *arena_new(Arena *arena, size_t bytes);      /* zeroed, 16-byte aligned; NULL when memory ends */
char *arena_text(Arena *arena, const char *text); /* a copy */
char *arena_text_length(Arena *arena, const char *text, size_t length);
char *arena_format(Arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *arena_copy(Arena *arena, const void *data, size_t bytes);
void arena_free(Arena *arena);

#endif
