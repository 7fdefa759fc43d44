/* Checkpoints of a trainer: everything that the next steps depend on, in the machine's order of bytes (little-endian everywhere espq runs).
 *
 *     "ESPQTRN1"  length of the file
 *     identity of the graph, what is trained how, the caller's note: each a length and its bytes
 *     steps made
 *     constants, log2 of scales, memories of the optimizer: each a count and its floats
 *     SHA-1 of all that, as text */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/sha1.h"
#include "base/text.h"
#include "train/trainer_parts.h"

static const char magic[] = "ESPQTRN1";

#define HEAD (sizeof magic - 1 + sizeof(int64_t))
#define TAIL 40 /* digits of the SHA-1 */

static void describe(const Trainer *trainer, Text *text)
{
    const OptimizerOptions *optimizer = &trainer->options.optimizer;
    text_format(text, "%s, %d arrays", optimizer->row->name, trainer->group_count);
    text_add(text, trainer->options.parts == TRAIN_SCALES    ? " of scales"
                   : trainer->options.parts == TRAIN_WEIGHTS ? " of weights"
                                                             : " of weights and scales");
}

/* ---- writing ---- */

static void put_integer(Text *text, int64_t value)
{
    text_add_bytes(text, &value, sizeof value);
}

static void put_bytes(Text *text, const void *data, size_t length)
{
    put_integer(text, (int64_t)length);
    text_add_bytes(text, data, length);
}

static void put_floats(Text *text, const float *values, int64_t count)
{
    put_integer(text, count);
    text_add_bytes(text, values, (size_t)count * sizeof *values);
}

static void put_all(Trainer *trainer, Text *text, const char *note, size_t note_length)
{
    Text about = {0};
    text_add_bytes(text, magic, sizeof magic - 1);
    put_integer(text, 0);
    describe(trainer, &about);
    put_bytes(text, trainer->identity, strlen(trainer->identity));
    put_bytes(text, about.data, about.length);
    put_bytes(text, note, note_length);
    put_integer(text, trainer_steps(trainer));
    for (int i = 0; i < trainer->constant_count; i++)
        put_floats(text, trainer->constants[i].values, trainer->constants[i].count);
    for (int i = 0; i < trainer->scale_count; i++)
        put_floats(text, trainer->scales[i].log2, trainer->scales[i].count);
    for (int i = 0; i < trainer->group_count; i++) {
        int64_t count;
        const float *memory = optimizer_memory(trainer->optimizer, i, &count);
        put_floats(text, memory, count);
    }
    text->failed = text->failed || about.failed;
    text_free(&about);
}

bool trainer_save(Trainer *trainer, const char *path, const char *note, size_t note_length, Error *error)
{
    Text text = {0};
    put_all(trainer, &text, note, note_length);
    bool ok = !text.failed;
    if (ok) {
        int64_t length = (int64_t)text.length + TAIL;
        memcpy(text.data + sizeof magic - 1, &length, sizeof length);
        Sha1 sha1;
        char hex[41];
        sha1_begin(&sha1);
        sha1_add(&sha1, text.data, text.length);
        sha1_end(&sha1, hex);
        text_add_bytes(&text, hex, TAIL);
        ok = !text.failed;
    }
    ok = ok ? file_write(path, text.data, text.length, error) : fail_memory(error, text.length);
    text_free(&text);
    return ok;
}

/* ---- reading ---- */

typedef struct Reader {
    const char *at, *end;
    bool short_of; /* something wanted more than there is */
} Reader;

static const char *get_bytes(Reader *reader, int64_t length)
{
    if (length < 0 || length > reader->end - reader->at) {
        reader->short_of = true;
        return NULL;
    }
    const char *data = reader->at;
    reader->at += length;
    return data;
}

static int64_t get_integer(Reader *reader)
{
    int64_t value = -1;
    const char *data = get_bytes(reader, sizeof value);
    if (data) memcpy(&value, data, sizeof value);
    return value;
}

/* `to` NULL: only looked at. */
static void get_floats(Reader *reader, float *to, int64_t count)
{
    if (get_integer(reader) != count || count > (int64_t)((size_t)-1 >> 4)) reader->short_of = true;
    const char *data = reader->short_of ? NULL : get_bytes(reader, count * (int64_t)sizeof *to);
    if (data && to && count) memcpy(to, data, (size_t)count * sizeof *to);
}

static void get_numbers(Trainer *trainer, Reader *reader, bool keeps)
{
    for (int i = 0; i < trainer->constant_count; i++)
        get_floats(reader, keeps ? trainer->constants[i].values : NULL, trainer->constants[i].count);
    for (int i = 0; i < trainer->scale_count; i++)
        get_floats(reader, keeps ? trainer->scales[i].log2 : NULL, trainer->scales[i].count);
    for (int i = 0; i < trainer->group_count; i++) {
        int64_t count;
        float *memory = optimizer_memory(trainer->optimizer, i, &count);
        get_floats(reader, keeps ? memory : NULL, count);
    }
}

static bool is_whole(const uint8_t *data, size_t bytes)
{
    if (bytes < HEAD + TAIL) return false;
    int64_t length;
    memcpy(&length, data + sizeof magic - 1, sizeof length);
    if (length < 0 || (uint64_t)length != bytes) return false;
    Sha1 sha1;
    char hex[41];
    sha1_begin(&sha1);
    sha1_add(&sha1, data, bytes - TAIL);
    sha1_end(&sha1, hex);
    return memcmp(hex, data + bytes - TAIL, TAIL) == 0;
}

static bool equals(const char *data, int64_t length, const char *text)
{
    return data && (size_t)length == strlen(text) && memcmp(data, text, (size_t)length) == 0;
}

static bool check_same(const Trainer *trainer, Reader *reader, const char *path, Error *error)
{
    int64_t length = get_integer(reader);
    const char *identity = get_bytes(reader, length);
    if (!equals(identity, length, trainer->identity))
        return fail(error, path, "quantize the model with the settings and data that it was trained with",
                    "the checkpoint is of another graph, or of this one quantized otherwise");
    Text about = {0};
    describe(trainer, &about);
    length = get_integer(reader);
    const char *text = get_bytes(reader, length);
    bool memory = !about.failed && about.data, same = memory && equals(text, length, about.data);
    if (!memory)
        fail_memory(error, 64);
    else if (!same)
        fail(error, path, "go on with the options it was made with", "the checkpoint has %.*s, this trainer %s",
             (int)(text ? (length < 200 ? length : 200) : 0), text ? text : "", about.data);
    text_free(&about);
    return same;
}

static bool read_all(Trainer *trainer, Reader *reader, const char *path, char **note, size_t *note_length, Error *error)
{
    if (!check_same(trainer, reader, path, error)) return false;
    int64_t length = get_integer(reader);
    const char *text = get_bytes(reader, length);
    int64_t steps = get_integer(reader);
    Reader numbers = *reader;
    get_numbers(trainer, reader, false);
    if (!text || steps < 0 || reader->short_of || reader->at != reader->end)
        return fail(error, path, "take an earlier checkpoint", "the checkpoint does not fit this trainer");
    *note = memory_new((size_t)length + 1);
    if (!*note) return fail_memory(error, (size_t)length + 1);
    memcpy(*note, text, (size_t)length);
    *note_length = (size_t)length;
    get_numbers(trainer, &numbers, true);
    optimizer_set_steps(trainer->optimizer, steps);
    trainer_forget(trainer);
    trainer->version++;
    return true;
}

bool trainer_load(Trainer *trainer, const char *path, char **note, size_t *note_length, Error *error)
{
    uint8_t *data;
    size_t bytes;
    *note = NULL;
    *note_length = 0;
    if (!file_read(path, &data, &bytes, error)) return false;
    bool ok;
    if (bytes < HEAD || memcmp(data, magic, sizeof magic - 1) != 0) {
        ok = fail(error, path, "trainer:save writes them", "this is no checkpoint");
    } else if (!is_whole(data, bytes)) {
        ok = fail(error, path, "take an earlier checkpoint, or begin anew", "the checkpoint is cut or damaged");
    } else {
        Reader reader = {(const char *)data + HEAD, (const char *)data + bytes - TAIL, false};
        ok = read_all(trainer, &reader, path, note, note_length, error);
    }
    memory_free(data);
    if (!ok || !trainer->scale_count) return ok;
    bool changed;
    ok = trainer_follow(trainer, trainer->graph, &changed, error);
    for (int i = 0; i < TRAINER_WALKS; i++)
        trainer_walk_free(&trainer->walks[i]);
    if (!ok) {
        memory_free(*note);
        *note = NULL;
    }
    return ok;
}
