#include "espdl/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "espdl/sha256.h"

static const char *const repack = "the package is damaged: copy it again, or pack its models again with `espq pack`";

/* A PDL3 header: magic, version (16), size, digest (32), count. */
enum { VERSION_AT = 4, VERSION_BYTES = 16, SIZE_AT = 20, DIGEST_AT = 24, DIGEST_BYTES = 32, PDL3_COUNT_AT = 56, ENTRY_BYTES = 12 };

static uint32_t word(const uint8_t *bytes, size_t at)
{
    return (uint32_t)bytes[at] | (uint32_t)bytes[at + 1] << 8 | (uint32_t)bytes[at + 2] << 16 | (uint32_t)bytes[at + 3] << 24;
}

static void put_word(uint8_t *bytes, size_t at, size_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[at + (size_t)i] = (uint8_t)(value >> (8 * i));
}

static bool digest_fits(const EspdlPack *pack, size_t size, Error *error)
{
    uint8_t *copy = memory_new(size), digest[DIGEST_BYTES];
    if (!copy) return fail_memory(error, size);
    memcpy(copy, pack->file, size);
    memset(copy + DIGEST_AT, 0, DIGEST_BYTES);
    sha256(copy, size, digest);
    memory_free(copy);
    if (memcmp(digest, pack->file + DIGEST_AT, DIGEST_BYTES) == 0) return true;
    return fail(error, pack->path, repack, "the digest in the package is not that of its bytes");
}

/* Where the count of a package stands, 0 after an error. */
static size_t read_head(EspdlPack *pack, Error *error)
{
    bool newest = memcmp(pack->file, "PDL3", 4) == 0;
    size_t at = newest ? PDL3_COUNT_AT : 4;
    if (!newest && memcmp(pack->file, "PDL2", 4) != 0 && memcmp(pack->file, "PDL1", 4) != 0)
        return fail(error, pack->path, "update espq, or pack the models again with `espq pack`", "a package of the kind %.4s is not known",
                    pack->container);
    if (pack->file_bytes < at + 4) return fail(error, pack->path, repack, "the package ends inside of its header");
    if (!newest) return at;
    size_t size = word(pack->file, SIZE_AT);
    if (size < at + 4 || size > pack->file_bytes)
        return fail(error, pack->path, repack, "the package says it has %zu bytes, the file has %zu", size, pack->file_bytes);
    pack->version = arena_text_length(&pack->arena, (const char *)pack->file + VERSION_AT,
                                      strnlen((const char *)pack->file + VERSION_AT, VERSION_BYTES));
    if (!pack->version) return fail_memory(error, VERSION_BYTES);
    if (!digest_fits(pack, size, error)) return 0;
    pack->file_bytes = size;
    return at;
}

static bool read_entries(EspdlPack *pack, size_t at, Error *error)
{
    size_t count = word(pack->file, at);
    if (count == 0 || count > (pack->file_bytes - at - 4) / ENTRY_BYTES)
        return fail(error, pack->path, repack, "the package says that it holds %zu models", count);
    pack->entries = arena_new(&pack->arena, count * sizeof *pack->entries);
    if (!pack->entries) return fail_memory(error, count * sizeof *pack->entries);
    pack->count = (int)count;
    for (size_t i = 0; i < count; i++) {
        size_t entry = at + 4 + i * ENTRY_BYTES, name = word(pack->file, entry + 4), length = word(pack->file, entry + 8);
        EspdlPackEntry *made = &pack->entries[i];
        made->offset = word(pack->file, entry);
        if (made->offset >= pack->file_bytes || name > pack->file_bytes || length > pack->file_bytes - name || length > 4096)
            return fail(error, pack->path, repack, "model %zu of the package lies outside of the file", i + 1);
        made->name = arena_text_length(&pack->arena, (const char *)pack->file + name, length);
        if (!made->name) return fail_memory(error, length);
    }
    for (int i = 0; i < pack->count; i++) { /* a model ends where the next one begins */
        size_t end = pack->file_bytes;
        for (int k = 0; k < pack->count; k++) {
            if (pack->entries[k].offset > pack->entries[i].offset && pack->entries[k].offset < end) end = pack->entries[k].offset;
        }
        pack->entries[i].bytes = end - pack->entries[i].offset;
    }
    return true;
}

/* A plain file is a package of one, named by its path's last part. */
static bool read_plain(EspdlPack *pack, Error *error)
{
    const char *slash = strrchr(pack->path, '/');
    pack->entries = arena_new(&pack->arena, sizeof *pack->entries);
    if (!pack->entries) return fail_memory(error, sizeof *pack->entries);
    pack->count = 1;
    pack->entries[0] = (EspdlPackEntry){slash ? slash + 1 : pack->path, 0, pack->file_bytes};
    return true;
}

static EspdlPack *take(uint8_t *bytes, size_t count, const char *path, Error *error)
{
    EspdlPack *pack = memory_new(sizeof *pack);
    if (!pack) {
        memory_free(bytes);
        fail_memory(error, sizeof *pack);
        return NULL;
    }
    pack->file = bytes;
    pack->file_bytes = count;
    pack->path = arena_text(&pack->arena, path ? path : "");
    if (count >= 4) memcpy(pack->container, bytes, 4);
    bool fine;
    if (!pack->path)
        fine = fail_memory(error, strlen(path));
    else if (count >= 4 && memcmp(bytes, "PDL", 3) == 0) {
        size_t at = read_head(pack, error);
        fine = at && read_entries(pack, at, error);
    } else
        fine = read_plain(pack, error);
    if (fine) return pack;
    espdl_pack_free(pack);
    return NULL;
}

EspdlPack *espdl_pack_parse(const uint8_t *bytes, size_t count, const char *path, Error *error)
{
    uint8_t *copy = memory_new(count + 1);
    if (!copy) {
        fail_memory(error, count);
        return NULL;
    }
    if (count) memcpy(copy, bytes, count);
    return take(copy, count, path, error);
}

EspdlPack *espdl_pack_load(const char *path, Error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    if (!file_read(path, &bytes, &count, error)) return NULL;
    return take(bytes, count, path, error);
}

void espdl_pack_free(EspdlPack *pack)
{
    if (!pack) return;
    arena_free(&pack->arena);
    memory_free(pack->file);
    memory_free(pack);
}

EspdlModel *espdl_pack_model(const EspdlPack *pack, int index, Error *error)
{
    const EspdlPackEntry *entry = &pack->entries[index];
    const char *where = pack->path;
    Text text = {0};
    if (pack->container[0] == 'P') {
        text_format(&text, "%s, model %s", pack->path, entry->name);
        if (text.failed) fail_memory(error, strlen(pack->path));
        where = text.failed ? NULL : text.data;
    }
    EspdlModel *model = where ? espdl_parse(pack->file + entry->offset, entry->bytes, where, error) : NULL;
    text_free(&text);
    return model;
}

int espdl_pack_find(const EspdlPack *pack, const char *name)
{
    for (int i = 0; i < pack->count; i++) {
        if (strcmp(pack->entries[i].name, name) == 0) return i;
    }
    for (int i = 0; i < pack->count; i++) {
        size_t length = strlen(pack->entries[i].name);
        if (length > 6 && strcmp(pack->entries[i].name + length - 6, ".espdl") == 0 && length - 6 == strlen(name) &&
            memcmp(pack->entries[i].name, name, length - 6) == 0)
            return i;
    }
    return -1;
}

EspdlModel *espdl_load_model(const char *path, const char *model, Error *error)
{
    EspdlPack *pack = espdl_pack_load(path, error);
    if (!pack) return NULL;
    int index = model ? espdl_pack_find(pack, model) : pack->count == 1 ? 0 : -1;
    EspdlModel *loaded = NULL;
    if (index >= 0)
        loaded = espdl_pack_model(pack, index, error);
    else {
        Text names = {0};
        text_format(&names, "%s", model ? "this file holds " : "say which one (--model NAME, or model = NAME): ");
        for (int i = 0; i < pack->count; i++)
            text_format(&names, "%s%s", i ? ", " : "", pack->entries[i].name);
        if (model)
            fail(error, path, names.data, "there is no model '%s' in it", model);
        else
            fail(error, path, names.data, "this package holds %d models", pack->count);
        text_free(&names);
    }
    espdl_pack_free(pack);
    return loaded;
}

/* ---- writing ---- */

typedef struct Packed {
    const char *path, *name;
    uint8_t *bytes;
    size_t count, padded;
} Packed;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Packed *)a)->name, ((const Packed *)b)->name);
}

static bool read_files(Packed *files, const char *const *paths, int count, Error *error)
{
    for (int i = 0; i < count; i++) {
        const char *slash = strrchr(paths[i], '/');
        files[i].path = paths[i];
        files[i].name = slash ? slash + 1 : paths[i];
        if (!file_read(paths[i], &files[i].bytes, &files[i].count, error)) return false;
        if (files[i].count >= 4 && memcmp(files[i].bytes, "PDL", 3) == 0)
            return fail(error, paths[i], "give the .espdl files themselves", "this is a package already");
        bool encrypted = files[i].count >= 16 && memcmp(files[i].bytes, "EDL2", 4) == 0 && word(files[i].bytes, 4) == 1;
        if (encrypted) continue; /* packed as it is: only the chip can look into it */
        EspdlModel *model = espdl_parse(files[i].bytes, files[i].count, paths[i], error);
        if (!model) return false;
        espdl_model_free(model);
    }
    qsort(files, (size_t)count, sizeof *files, by_name);
    for (int i = 0; i < count; i++) {
        bool older = memcmp(files[i].bytes, "EDL1", 4) == 0;
        if (older != (memcmp(files[0].bytes, "EDL1", 4) == 0))
            return fail(error, files[i].path, "export the older ones again",
                        "files of the containers EDL1 and EDL2 cannot be packed together");
        if (i && strcmp(files[i].name, files[i - 1].name) == 0)
            return fail(error, files[i].path, "rename one of them", "two files have the name %s, by which the chip finds a model",
                        files[i].name);
        files[i].padded = older ? files[i].count : (files[i].count + 15) / 16 * 16;
    }
    return true;
}

static bool write_package(const Packed *files, int count, const char *format, uint8_t **bytes, size_t *size, Error *error)
{
    bool older = memcmp(files[0].bytes, "EDL1", 4) == 0, newest = !older && strcmp(format, "PDL3") == 0;
    size_t count_at = newest ? PDL3_COUNT_AT : 4, name_at = count_at + 4 + (size_t)count * ENTRY_BYTES, data_at = name_at, total;
    for (int i = 0; i < count; i++)
        data_at += strlen(files[i].name);
    if (!older) data_at = (data_at + 15) / 16 * 16;
    total = data_at;
    for (int i = 0; i < count; i++)
        total += files[i].padded;
    if (total > UINT32_MAX) return fail(error, NULL, "make two packages", "the models together have more than 4 GiB");
    uint8_t *made = memory_new(total);
    if (!made) return fail_memory(error, total);
    memcpy(made, older ? "PDL1" : newest ? "PDL3" : "PDL2", 4);
    put_word(made, count_at, (size_t)count);
    for (int i = 0; i < count; i++) {
        size_t entry = count_at + 4 + (size_t)i * ENTRY_BYTES, length = strlen(files[i].name);
        put_word(made, entry, data_at);
        put_word(made, entry + 4, name_at);
        put_word(made, entry + 8, length);
        memcpy(made + name_at, files[i].name, length);
        memcpy(made + data_at, files[i].bytes, files[i].count);
        name_at += length;
        data_at += files[i].padded;
    }
    if (newest) {
        uint8_t digest[DIGEST_BYTES];
        memcpy(made + VERSION_AT, "v1.0", 4);
        put_word(made, SIZE_AT, total);
        sha256(made, total, digest);
        memcpy(made + DIGEST_AT, digest, DIGEST_BYTES);
    }
    *bytes = made;
    *size = total;
    return true;
}

bool espdl_pack_write(const char *const *paths, int count, const char *format, uint8_t **bytes, size_t *size, Error *error)
{
    if (count < 1) return fail(error, NULL, "name the .espdl files to pack", "there is nothing to pack");
    Packed *files = memory_new_array((size_t)count, sizeof *files);
    if (!files) return fail_memory(error, (size_t)count * sizeof *files);
    bool fine = read_files(files, paths, count, error) && write_package(files, count, format, bytes, size, error);
    for (int i = 0; i < count; i++)
        memory_free(files[i].bytes);
    memory_free(files);
    return fine;
}
