#include "tensor/npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"

/* ---- .npy ---- */

typedef struct NpyHeader {
    Dtype dtype;
    bool big_endian, column_order;
    Shape shape;
} NpyHeader;

/* The header is a Python dictionary; this reads the three fields NumPy writes, in any order. */
static const char *field(const char *header, const char *key)
{
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s'", key);
    const char *at = strstr(header, quoted);
    if (!at) {
        snprintf(quoted, sizeof quoted, "\"%s\"", key);
        at = strstr(header, quoted);
    }
    if (!at) return NULL;
    at += strlen(quoted);
    while (*at == ' ' || *at == ':')
        at++;
    return at;
}

static bool read_dtype(const char *text, NpyHeader *header)
{
    if (*text != '\'' && *text != '"') return false;
    char order = text[1], code[4] = {0};
    if (!order || !strchr("<>|=", order)) return false;
    for (int i = 0; i < 3 && text[2 + i] && text[2 + i] != *text; i++)
        code[i] = text[2 + i];
    header->big_endian = order == '>';
    for (int i = 1; i < DTYPE_COUNT; i++)
        if (strcmp(dtype_rows[i].npy + 1, code) == 0) {
            header->dtype = (Dtype)i;
            return true;
        }
    return false;
}

static bool read_shape(const char *text, Shape *shape)
{
    if (*text++ != '(') return false;
    shape->rank = 0;
    for (;;) {
        while (*text == ' ' || *text == ',')
            text++;
        if (*text == ')') return true;
        char *end;
        long long dim = strtoll(text, &end, 10);
        if (end == text || dim < 0 || shape->rank == ESPQ_MAX_RANK) return false;
        shape->dims[shape->rank++] = dim;
        text = *end == 'L' ? end + 1 : end;
    }
}

static bool read_header(const char *text, const char *where, NpyHeader *header, Error *error)
{
    const char *descr = field(text, "descr"), *order = field(text, "fortran_order"), *shape = field(text, "shape");
    if (!descr || !order || !shape) return fail(error, where, "save the array again with numpy.save", "the .npy header is damaged");
    if (!read_dtype(descr, header))
        return fail(error, where, "convert the array, for example with array.astype('float32')", "elements of type %.12s are not supported",
                    descr);
    if (!read_shape(shape, &header->shape))
        return fail(error, where, "save the array again with numpy.save",
                    "the shape in the .npy header is damaged or has more than %d dimensions", ESPQ_MAX_RANK);
    header->column_order = strncmp(order, "True", 4) == 0;
    return true;
}

static void swap_bytes(char *data, int64_t count, size_t item)
{
    for (int64_t i = 0; i < count; i++, data += item)
        for (size_t k = 0; k < item / 2; k++) {
            char kept = data[k];
            data[k] = data[item - 1 - k];
            data[item - 1 - k] = kept;
        }
}

Tensor *npy_parse(const uint8_t *bytes, size_t count, const char *where, Error *error)
{
    static const char magic[] = "\x93NUMPY";
    const char *again = "save the array again with numpy.save";
    if (count < 10 || memcmp(bytes, magic, 6) != 0) {
        fail(error, where, again, "this is not a .npy file");
        return NULL;
    }
    bool wide = bytes[6] >= 2;
    size_t start = wide ? 12 : 10;
    size_t length = (size_t)bytes[8] | (size_t)bytes[9] << 8;
    if (wide && count >= 12) length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (count < start || length > count - start || length > 65536) {
        fail(error, where, again, "the .npy header runs past the end of the file");
        return NULL;
    }
    char *text = memory_new(length + 1);
    if (!text) {
        fail_memory(error, length);
        return NULL;
    }
    memcpy(text, bytes + start, length);
    NpyHeader header = {0};
    bool ok = read_header(text, where, &header, error);
    memory_free(text);
    if (!ok) return NULL;

    size_t item = dtype_bytes(header.dtype), left = count - start - length, wanted = item;
    char shape[160];
    for (int i = 0; i < header.shape.rank; i++) {
        size_t dim = (size_t)header.shape.dims[i];
        if (dim && wanted > SIZE_MAX / 2 / dim)
            wanted = SIZE_MAX / 2;
        else
            wanted *= dim;
    }
    if (left < wanted) {
        fail(error, where, again, "the file holds %zu bytes of data, shape %s needs %zu", left, shape_text(&header.shape, shape), wanted);
        return NULL;
    }
    Shape stored = header.shape;
    if (header.column_order)
        for (int i = 0; i < stored.rank; i++)
            stored.dims[i] = header.shape.dims[stored.rank - 1 - i];
    Tensor *tensor = tensor_from_data(header.dtype, &stored, bytes + start + length, error);
    if (tensor && header.big_endian && item > 1) swap_bytes(tensor->data, tensor_count(tensor), item);
    if (tensor && header.column_order && stored.rank > 1) {
        int reversed[ESPQ_MAX_RANK];
        for (int i = 0; i < stored.rank; i++)
            reversed[i] = stored.rank - 1 - i;
        Tensor *rows = tensor_transpose(tensor, reversed, error);
        tensor_release(tensor);
        tensor = rows;
    }
    return tensor;
}

Tensor *npy_read(const char *path, Error *error)
{
    uint8_t *bytes;
    size_t count;
    if (!file_read(path, &bytes, &count, error)) return NULL;
    Tensor *tensor = npy_parse(bytes, count, path, error);
    memory_free(bytes);
    return tensor;
}

/* The whole file in `out`; the header is padded so that data start at a multiple of 64, as NumPy does. */
static bool format_npy(Tensor *tensor, Text *out, Error *error)
{
    Text header = {0};
    Tensor *rows = tensor_contiguous(tensor, error);
    if (!rows) return false;
    text_format(&header, "{'descr': '%s', 'fortran_order': False, 'shape': (", dtype_rows[rows->dtype].npy);
    for (int i = 0; i < rows->shape.rank; i++)
        text_format(&header, rows->shape.rank == 1 ? "%lld," : i ? ", %lld" : "%lld", (long long)rows->shape.dims[i]);
    text_add(&header, "), }");
    while (!header.failed && (header.length + 11) % 64)
        text_add_bytes(&header, " ", 1);
    text_add(&header, "\n");
    uint8_t start[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)header.length, (uint8_t)(header.length >> 8)};
    text_add_bytes(out, start, sizeof start);
    text_add_bytes(out, header.data, header.length);
    text_add_bytes(out, rows->data, tensor_bytes(rows));
    bool ok = !header.failed && !out->failed;
    text_free(&header);
    tensor_release(rows);
    return ok || fail_memory(error, out->capacity);
}

bool npy_write(const char *path, Tensor *tensor, Error *error)
{
    Text out = {0};
    bool ok = format_npy(tensor, &out, error) && file_write(path, out.data, out.length, error);
    text_free(&out);
    return ok;
}

/* ---- .npz: zip, stored or deflated ---- */

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

static bool inflate_raw(const uint8_t *from, size_t from_bytes, uint8_t *to, size_t to_bytes)
{
    z_stream stream = {0};
    if (from_bytes > UINT32_MAX || to_bytes > UINT32_MAX || inflateInit2(&stream, -15) != Z_OK) return false;
    stream.next_in = (Bytef *)from;
    stream.avail_in = (uInt)from_bytes;
    stream.next_out = to;
    stream.avail_out = (uInt)to_bytes;
    int code = inflate(&stream, Z_FINISH);
    bool ok = code == Z_STREAM_END && stream.total_out == to_bytes;
    inflateEnd(&stream);
    return ok;
}

/* One member, from its row in the central directory (46 bytes and names, at `row`). */
static Tensor *read_member(const uint8_t *bytes, size_t count, const uint8_t *row, const char *where, Error *error)
{
    uint32_t method = get16(row + 10), packed = get32(row + 20), size = get32(row + 24), at = get32(row + 42);
    const char *again = "save the arrays again with numpy.savez";
    if (at > count || count - at < 30 || memcmp(bytes + at, "PK\3\4", 4) != 0) {
        fail(error, where, again, "the .npz file is damaged");
        return NULL;
    }
    size_t data = (size_t)at + 30 + get16(bytes + at + 26) + get16(bytes + at + 28);
    if (data > count || packed > count - data) {
        fail(error, where, again, "the .npz file ends in the middle of an array");
        return NULL;
    }
    if (method == 0) return npy_parse(bytes + data, packed, where, error);
    /* Deflate reaches at most 1032 : 1, so that a larger size is a lie. */
    if (method != 8 || size / 1040 > packed) {
        fail(error, where, again, "the .npz file uses a compression that is not supported");
        return NULL;
    }
    uint8_t *plain = memory_new(size);
    Tensor *tensor = NULL;
    if (!plain)
        fail_memory(error, size);
    else if (!inflate_raw(bytes + data, packed, plain, size))
        fail(error, where, again, "the compressed data are damaged");
    else
        tensor = npy_parse(plain, size, where, error);
    memory_free(plain);
    return tensor;
}

static bool add_member(const uint8_t *bytes, size_t count, const uint8_t *row, const char *path, NpzEntry *entry, Error *error)
{
    size_t length = get16(row + 28);
    char where[512];
    if (length > 4 && memcmp(row + 46 + length - 4, ".npy", 4) == 0) length -= 4;
    if (!(entry->name = memory_new(length + 1))) return fail_memory(error, length);
    memcpy(entry->name, row + 46, length);
    snprintf(where, sizeof where, "%s: %s", path, entry->name);
    return (entry->tensor = read_member(bytes, count, row, where, error)) != NULL;
}

static bool read_directory(const uint8_t *bytes, size_t count, const char *path, NpzEntry **entries, int *entry_count, Error *error)
{
    const char *again = "save the arrays again with numpy.savez";
    size_t end = count < 22 ? 0 : count - 22;
    while (end > 0 && memcmp(bytes + end, "PK\5\6", 4) != 0)
        end--;
    if (count < 22 || memcmp(bytes + end, "PK\5\6", 4) != 0) return fail(error, path, again, "this is not a .npz file");
    size_t rows = get16(bytes + end + 10), at = get32(bytes + end + 16), packed = 0;
    if (!(*entries = memory_new_array(rows + 1, sizeof **entries))) return fail_memory(error, rows * sizeof **entries);
    for (size_t i = 0; i < rows; i++) {
        if (at > end || end - at < 46 || memcmp(bytes + at, "PK\1\2", 4) != 0)
            return fail(error, path, again, "the list of arrays is damaged");
        size_t length = (size_t)46 + get16(bytes + at + 28) + get16(bytes + at + 30) + get16(bytes + at + 32);
        packed += length > end - at ? 0 : get32(bytes + at + 20); /* arrays that share their bytes could ask for any amount of memory */
        if (length > end - at || packed > count) return fail(error, path, again, "the list of arrays is damaged");
        (*entry_count)++;
        if (!add_member(bytes, count, bytes + at, path, &(*entries)[i], error)) return false;
        at += length;
    }
    return true;
}

bool npz_parse(const uint8_t *bytes, size_t size, const char *where, NpzEntry **entries, int *count, Error *error)
{
    *entries = NULL;
    *count = 0;
    if (read_directory(bytes, size, where, entries, count, error)) return true;
    npz_free(*entries, *count);
    *entries = NULL;
    *count = 0;
    return false;
}

bool npz_read(const char *path, NpzEntry **entries, int *count, Error *error)
{
    uint8_t *bytes;
    size_t size;
    *entries = NULL;
    *count = 0;
    if (!file_read(path, &bytes, &size, error)) return false;
    bool ok = npz_parse(bytes, size, path, entries, count, error);
    memory_free(bytes);
    return ok;
}

void npz_free(NpzEntry *entries, int count)
{
    for (int i = 0; entries && i < count; i++) {
        memory_free(entries[i].name);
        tensor_release(entries[i].tensor);
    }
    memory_free(entries);
}

static void put(Text *out, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i);
        text_add_bytes(out, &byte, 1);
    }
}

/* What local header and directory row share: version 20, stored, 1980-01-01 (the same bytes every time). */
static void put_member(Text *out, const char *name, uint32_t check, size_t bytes)
{
    put(out, 20, 2);
    put(out, 0, 2);
    put(out, 0, 2);
    put(out, 0, 2);
    put(out, 33, 2);
    put(out, check, 4);
    put(out, bytes, 4);
    put(out, bytes, 4);
    put(out, strlen(name) + 4, 2);
    put(out, 0, 2);
}

static bool format_npz(const NpzEntry *entries, int count, Text *out, Text *directory, Error *error)
{
    for (int i = 0; i < count; i++) {
        Text member = {0};
        size_t at = out->length;
        bool ok = format_npy(entries[i].tensor, &member, error);
        if (ok && member.length > UINT32_MAX - 1)
            ok = fail(error, entries[i].name, "save it as .npy", "an array in a .npz file is limited to 4 GB");
        if (ok) {
            uint32_t check = (uint32_t)crc32(0, (const Bytef *)member.data, (uInt)member.length);
            text_add_bytes(out, "PK\3\4", 4);
            put_member(out, entries[i].name, check, member.length);
            text_format(out, "%s.npy", entries[i].name);
            text_add_bytes(out, member.data, member.length);
            text_add_bytes(directory, "PK\1\2", 4);
            put(directory, 20, 2);
            put_member(directory, entries[i].name, check, member.length);
            put(directory, 0, 8);
            put(directory, 0, 2);
            put(directory, at, 4);
            text_format(directory, "%s.npy", entries[i].name);
        }
        text_free(&member);
        if (!ok) return false;
    }
    size_t start = out->length;
    text_add_bytes(out, directory->data, directory->length);
    text_add_bytes(out, "PK\5\6", 4);
    put(out, 0, 4);
    put(out, (uint64_t)count, 2);
    put(out, (uint64_t)count, 2);
    put(out, directory->length, 4);
    put(out, start, 4);
    put(out, 0, 2);
    return (!out->failed && !directory->failed) || fail_memory(error, out->capacity);
}

bool npz_write(const char *path, const NpzEntry *entries, int count, Error *error)
{
    Text out = {0}, directory = {0};
    bool ok = format_npz(entries, count, &out, &directory, error) && file_write(path, out.data, out.length, error);
    text_free(&out);
    text_free(&directory);
    return ok;
}
