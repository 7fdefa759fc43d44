#include "espdl/flatbuffer.h"

#include <string.h>

#include "base/memory.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "espq writes the numbers of tensors as they lie in memory: little-endian machines only"
#endif

static bool reserve(FlatBuffer *buffer, size_t more)
{
    if (buffer->failed) return false;
    if (buffer->size + more < buffer->capacity) return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 4096;
    while (capacity <= buffer->size + more)
        capacity *= 2;
    uint8_t *data = more < INT32_MAX && buffer->size + more < INT32_MAX ? memory_resize(buffer->data, capacity) : NULL;
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void flat_put(FlatBuffer *buffer, const void *bytes, size_t count)
{
    if (!count || !reserve(buffer, count)) return;
    memcpy(buffer->data + buffer->size, bytes, count);
    buffer->size += count;
}

void flat_align(FlatBuffer *buffer, size_t alignment, size_t ahead)
{
    static const uint8_t zeros[16];
    size_t over = (buffer->size + ahead) % alignment;
    if (over) flat_put(buffer, zeros, alignment - over);
}

void flat_free(FlatBuffer *buffer)
{
    memory_free(buffer->data);
    memory_free(buffer->vtables);
    *buffer = (FlatBuffer){0};
}

static void put_word(FlatBuffer *buffer, uint32_t value)
{
    flat_put(buffer, &value, sizeof value);
}

void flat_link(FlatBuffer *buffer, size_t place, size_t target)
{
    uint32_t distance = (uint32_t)(target - place);
    if (!buffer->failed) memcpy(buffer->data + place, &distance, sizeof distance);
}

/* An equal vtable that was written before, or a new one. */
static size_t vtable(FlatBuffer *buffer, const uint16_t *entries, size_t bytes)
{
    for (size_t i = 0; i < buffer->vtable_count; i++) {
        size_t at = buffer->vtables[i];
        if (at + bytes <= buffer->size && memcmp(buffer->data + at, entries, bytes) == 0) return at;
    }
    flat_align(buffer, 2, 0);
    size_t at = buffer->size;
    flat_put(buffer, entries, bytes);
    size_t *vtables = memory_grow(buffer->vtables, buffer->vtable_count, &buffer->vtable_capacity, sizeof *vtables);
    if (!vtables) {
        buffer->failed = true;
        return at;
    }
    buffer->vtables = vtables;
    vtables[buffer->vtable_count++] = at;
    return at;
}

static size_t field_bytes(FlatKind kind)
{
    return kind == FLAT_LONG ? 8 : kind == FLAT_BYTE ? 1 : 4;
}

size_t flat_table(FlatBuffer *buffer, const FlatField *fields, int count, size_t *places)
{
    uint16_t entries[2 + FLAT_MAX_SLOTS] = {0};
    size_t inside[FLAT_MAX_SLOTS] = {0}, bytes = 4;
    bool wide = false;
    int slots = count ? fields[count - 1].slot + 1 : 0;
    /* The widest first: with the table 4 bytes before a multiple of 8, nothing needs filling in between. */
    for (size_t width = 8; width; width = width == 8 ? 4 : width == 4 ? 1 : 0) {
        for (int i = 0; i < count; i++) {
            if (field_bytes(fields[i].kind) != width) continue;
            inside[i] = bytes;
            entries[2 + fields[i].slot] = (uint16_t)bytes;
            bytes += width;
            wide = wide || width == 8;
        }
    }
    entries[0] = (uint16_t)(4 + 2 * slots);
    entries[1] = (uint16_t)bytes;
    size_t shape = vtable(buffer, entries, entries[0]);
    flat_align(buffer, wide ? 8 : 4, wide ? 4 : 0);
    size_t table = buffer->size;
    put_word(buffer, (uint32_t)(table - shape));
    static const uint8_t zeros[4 + 8 * FLAT_MAX_SLOTS];
    flat_put(buffer, zeros, bytes - 4);
    if (buffer->failed) memset(inside, 0, sizeof inside);
    for (int i = 0; i < count; i++) {
        places[i] = table + inside[i];
        if (!buffer->failed && fields[i].kind != FLAT_OFFSET)
            memcpy(buffer->data + places[i], &fields[i].value, field_bytes(fields[i].kind));
    }
    return table;
}

/* The length word of a vector whose elements lie at a multiple of `alignment`. */
static void begin_vector(FlatBuffer *buffer, size_t place, size_t count, size_t alignment)
{
    flat_align(buffer, 4, 0);
    flat_align(buffer, alignment, 4);
    flat_link(buffer, place, buffer->size);
    put_word(buffer, (uint32_t)count);
}

void flat_bytes(FlatBuffer *buffer, size_t place, const void *bytes, size_t count)
{
    begin_vector(buffer, place, count, 4);
    flat_put(buffer, bytes, count);
}

void flat_string(FlatBuffer *buffer, size_t place, const char *text)
{
    flat_bytes(buffer, place, text, strlen(text));
    flat_put(buffer, "", 1);
}

void flat_words(FlatBuffer *buffer, size_t place, const void *values, size_t count)
{
    begin_vector(buffer, place, count, 4);
    flat_put(buffer, values, 4 * count);
}

void flat_longs(FlatBuffer *buffer, size_t place, const int64_t *values, size_t count)
{
    begin_vector(buffer, place, count, 8);
    flat_put(buffer, values, 8 * count);
}

void flat_blocks(FlatBuffer *buffer, size_t place, const void *bytes, size_t count)
{
    begin_vector(buffer, place, (count + 15) / 16, 16);
    flat_put(buffer, bytes, count);
    flat_align(buffer, 16, 0);
}

size_t flat_offsets(FlatBuffer *buffer, size_t place, size_t count)
{
    begin_vector(buffer, place, count, 4);
    size_t first = buffer->size;
    for (size_t i = 0; i < count; i++)
        put_word(buffer, 0);
    return first;
}
