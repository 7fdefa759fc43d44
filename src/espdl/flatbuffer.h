/* A FlatBuffers builder that writes front to back: a table leaves 32-bit places for what it refers to, each place is linked when
 * the thing is written behind it. Same calls, same bytes. Positions are counted from the start of the buffer, which lies at a
 * multiple of 16 in the file. Failures stick: the caller asks once at the end (`failed`). */
#ifndef ESPQ_ESPDL_FLATBUFFER_H
#define ESPQ_ESPDL_FLATBUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct FlatBuffer {
    uint8_t *data;
    size_t size, capacity;
    size_t *vtables; /* positions of the different vtables */
    size_t vtable_count, vtable_capacity;
    bool failed; /* memory ended, or 2 GiB are not enough */
} FlatBuffer;

typedef enum { FLAT_OFFSET, FLAT_BYTE, FLAT_WORD, FLAT_LONG } FlatKind; /* 4 bytes linked later, 1, 4, 8 bytes */

typedef struct FlatField {
    int slot; /* ascending, below FLAT_MAX_SLOTS */
    FlatKind kind;
    int64_t value; /* of the scalars, as bits */
} FlatField;

#define FLAT_MAX_SLOTS 16

/* A table of these fields; places[i] is where field i lies. Returns the table's position. */
size_t flat_table(FlatBuffer *buffer, const FlatField *fields, int count, size_t *places);

/* Let the place refer to what lies at `target`, which is behind it. */
void flat_link(FlatBuffer *buffer, size_t place, size_t target);

/* These write a thing at the end and link the place to it. */
void flat_string(FlatBuffer *buffer, size_t place, const char *text);
void flat_bytes(FlatBuffer *buffer, size_t place, const void *bytes, size_t count);
void flat_words(FlatBuffer *buffer, size_t place, const void *values, size_t count); /* 4 bytes an element */
void flat_longs(FlatBuffer *buffer, size_t place, const int64_t *values, size_t count);
void flat_blocks(FlatBuffer *buffer, size_t place, const void *bytes, size_t count); /* 16-byte blocks, the last filled with zeros */
size_t flat_offsets(FlatBuffer *buffer, size_t place, size_t count);                 /* place of the first element; 4 bytes each */

void flat_align(FlatBuffer *buffer, size_t alignment, size_t ahead); /* zeros until size + ahead is a multiple */
void flat_put(FlatBuffer *buffer, const void *bytes, size_t count);
void flat_free(FlatBuffer *buffer);

#endif
