#include "espdl/serial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MOST_LINE = 65536 }; /* a longer line is no line of ours */

static const int64_t most_bytes = INT64_C(1) << 26; /* of a tensor: more than any board's memory */

typedef struct Reader {
    SerialLog *log;
    Error *error;
    bool memory; /* ended */
    int table;   /* 0: outside, 1: memory summary, 2: module summary */
    char *line;  /* the present one, without colours */
    size_t length;
} Reader;

static char *keep(Reader *reader, const char *text, size_t length)
{
    char *copy = arena_text_length(&reader->log->arena, text, length);
    if (!copy) reader->memory = true;
    return copy;
}

/* ---- lines of the board kit ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A number at *at, which moves behind it and one blank. */
static bool take_number(const char **at, int base, int64_t *value)
{
    char *end;
    if (!**at || **at == ' ') return false;
    *value = strtoll(*at, &end, base);
    if (end == *at || (*end && *end != ' ')) return false;
    *at = *end ? end + 1 : end;
    return true;
}

static bool take_word(const char **at, char *word, size_t size)
{
    size_t length = strcspn(*at, " ");
    if (length == 0 || length >= size) return false;
    memcpy(word, *at, length);
    word[length] = '\0';
    *at += length + ((*at)[length] == ' ');
    return true;
}

static Dtype dtype_of_label(const char *label)
{
    for (int i = 1; i < DTYPE_COUNT; i++) {
        if (strcmp(dtype_rows[i].label, label) == 0) return (Dtype)i;
    }
    return DTYPE_NONE;
}

static bool read_shape(const char *text, Shape *shape)
{
    *shape = (Shape){0};
    if (strcmp(text, "-") == 0) return true;
    for (;;) {
        char *end;
        long long size = strtoll(text, &end, 10);
        if (end == text || size < 1 || size > most_bytes || shape->rank == ESPQ_MAX_RANK) return false;
        shape->dims[shape->rank++] = size;
        if (!*end) return true;
        if (*end != 'x') return false;
        text = end + 1;
    }
}

static bool shape_fits(const SerialTensor *tensor)
{
    int64_t bytes = (int64_t)dtype_bytes(tensor->dtype);
    for (int i = 0; i < tensor->shape.rank; i++) {
        if (bytes > most_bytes / tensor->shape.dims[i]) return false;
        bytes *= tensor->shape.dims[i];
    }
    return bytes == tensor->bytes;
}

static bool read_tensor(Reader *reader, const char *at)
{
    SerialLog *log = reader->log;
    int64_t index, exponent, crc;
    char type[16], shape[160];
    SerialTensor tensor = {0};
    if (!take_number(&at, 10, &index) || !take_word(&at, type, sizeof type) || !take_number(&at, 10, &exponent) ||
        !take_word(&at, shape, sizeof shape) || !take_number(&at, 10, &tensor.bytes) || !take_number(&at, 16, &crc) || !*at)
        return false;
    tensor.dtype = dtype_of_label(type);
    if (index < 0 || index > INT32_MAX || exponent < -1000 || exponent > 1000 || tensor.dtype == DTYPE_NONE || tensor.bytes < 0 ||
        tensor.bytes > most_bytes || !read_shape(shape, &tensor.shape) || !shape_fits(&tensor))
        return false;
    tensor.index = (int)index;
    tensor.exponent = (int)exponent;
    tensor.crc = (uint32_t)crc;
    tensor.name = keep(reader, at, strlen(at));
    SerialTensor *tensors = memory_grow(log->tensors, (size_t)log->tensor_count, &log->tensor_capacity, sizeof *tensors);
    if (!tensors) reader->memory = true;
    if (reader->memory) return true;
    log->tensors = tensors;
    tensors[log->tensor_count++] = tensor;
    return true;
}

static bool read_data(Reader *reader, const char *at)
{
    SerialLog *log = reader->log;
    int64_t index, offset;
    if (!take_number(&at, 10, &index) || !take_number(&at, 10, &offset)) return false;
    SerialTensor *tensor = NULL;
    for (int i = log->tensor_count - 1; i >= 0 && !tensor; i--) {
        if (log->tensors[i].index == index) tensor = &log->tensors[i];
    }
    size_t digits = strlen(at);
    if (digits % 2 || offset < 0) return false;
    if (!tensor) return true; /* its own line is missing: nothing can be told of the bytes */
    if (offset > tensor->bytes || (int64_t)digits / 2 > tensor->bytes - offset) return false;
    if (!tensor->data) {
        tensor->data = memory_new((size_t)tensor->bytes + 1);
        tensor->have = memory_new((size_t)tensor->bytes + 1);
        if (!tensor->data || !tensor->have) {
            reader->memory = true;
            return true;
        }
    }
    for (size_t i = 0; i < digits; i += 2) {
        int high = hex_digit(at[i]), low = hex_digit(at[i + 1]);
        if (high < 0 || low < 0) return false;
        tensor->data[(size_t)offset + i / 2] = (uint8_t)(high * 16 + low);
        tensor->have[(size_t)offset + i / 2] = 1;
    }
    return true;
}

static void forget_run(SerialLog *log)
{
    for (int i = 0; i < log->tensor_count; i++) {
        memory_free(log->tensors[i].data);
        memory_free(log->tensors[i].have);
    }
    log->tensor_count = 0;
    log->ended = false;
    log->model = NULL;
}

static bool read_begin(Reader *reader, const char *at)
{
    int64_t version, nodes;
    if (!take_number(&at, 10, &version) || version != 1 || !take_number(&at, 10, &nodes) || nodes < 0 || nodes > INT32_MAX) return false;
    forget_run(reader->log);
    reader->log->model = keep(reader, at, strlen(at));
    reader->log->nodes = (int)nodes;
    return true;
}

static bool read_kit_line(Reader *reader, const char *body)
{
    if (strncmp(body, "begin ", 6) == 0) return read_begin(reader, body + 6);
    if (strncmp(body, "t ", 2) == 0) return read_tensor(reader, body + 2);
    if (strncmp(body, "d ", 2) == 0) return read_data(reader, body + 2);
    if (strncmp(body, "end ", 4) == 0) {
        reader->log->ended = true;
        return true;
    }
    return false;
}

/* The body of a line whose sum is right; it is cut out of the line. Several '*' may stand in it: the sum is behind the last one that fits. */
static char *checked_body(char *mark)
{
    for (char *star = strrchr(mark, '*'); star && star > mark; *star = '\0', star = strrchr(mark, '*')) {
        int high = hex_digit(star[1]), low = high < 0 ? -1 : hex_digit(star[2]), sum = 0;
        for (const char *c = mark + 1; c < star; c++)
            sum ^= (unsigned char)*c;
        if (low >= 0 && sum == high * 16 + low) {
            *star = '\0';
            return mark + 6;
        }
    }
    return NULL;
}

/* ---- the runtime's tables ---- */

/* The cells of "| a | b | c |", from the right: the first takes what is left, since names may have bars in them. */
static int cells_of(char *line, char *cells[4], int wanted)
{
    char *begin = strchr(line, '|'), *end = strrchr(line, '|');
    if (!begin || end <= begin) return 0;
    *end = '\0';
    begin++;
    int made = wanted;
    while (made > 1) {
        char *bar = strrchr(begin, '|');
        if (!bar) return 0;
        *bar = '\0';
        cells[--made] = bar + 1;
    }
    cells[0] = begin;
    for (int i = 0; i < wanted; i++) {
        cells[i] += strspn(cells[i], " ");
        for (size_t length = strlen(cells[i]); length && cells[i][length - 1] == ' '; length--)
            cells[i][length - 1] = '\0';
    }
    return wanted;
}

static void read_module(Reader *reader)
{
    SerialLog *log = reader->log;
    char *cells[4], *unit;
    if (!cells_of(reader->line, cells, 3) || !*cells[0]) return;
    double amount = strtod(cells[2], &unit);
    bool cycles = strcmp(unit, "cycle") == 0;
    if (unit == cells[2] || (!cycles && strcmp(unit, "us") != 0) || amount < 0) return;
    if (!*cells[1]) {
        if (strcmp(cells[0], "total") == 0) log->total = amount;
        reader->table = 0;
        return;
    }
    SerialModule *modules = memory_grow(log->modules, (size_t)log->module_count, &log->module_capacity, sizeof *modules);
    if (!modules) {
        reader->memory = true;
        return;
    }
    log->modules = modules;
    modules[log->module_count++] =
        (SerialModule){keep(reader, cells[0], strlen(cells[0])), keep(reader, cells[1], strlen(cells[1])), amount, cycles};
}

static void read_memory(Reader *reader)
{
    static const char *const names[] = {"fbs_model", "parameter", "parameter_copy", "variable", "others", "total"};
    SerialLog *log = reader->log;
    char *cells[4];
    if (!cells_of(reader->line, cells, 4)) return;
    for (int i = 0; i < 4; i++) {
        if (strncmp(cells[i], "-- ", 3) == 0) cells[i] += 3;
    }
    SerialMemory memory = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(cells[0], names[i]) == 0) memory.name = names[i];
    }
    if (!memory.name) return;
    for (int i = 0; i < 3; i++) {
        char *unit;
        double amount = strtod(cells[i + 1], &unit);
        memory.kilobytes[i] = unit != cells[i + 1] && strcmp(unit, "KB") == 0 ? amount : -1;
    }
    SerialMemory *rows = memory_grow(log->memory, (size_t)log->memory_count, &log->memory_capacity, sizeof *rows);
    if (!rows) {
        reader->memory = true;
        return;
    }
    log->memory = rows;
    rows[log->memory_count++] = memory;
    if (strcmp(memory.name, "total") == 0) reader->table = 0;
}

static void read_self_test(Reader *reader)
{
    static const char output[] = "Test output ", refused[] = " does not match";
    SerialLog *log = reader->log;
    const char *at = strstr(reader->line, output), *end = at ? strstr(at, refused) : NULL,
               *values = strstr(reader->line, "Inconsistent values, ");
    if (at && end) {
        at += sizeof output - 1;
        log->test_failed = keep(reader, at, (size_t)(end - at));
    }
    if (values) {
        values += sizeof "Inconsistent values, " - 1;
        log->test_values = keep(reader, values, strlen(values));
    }
    if (strstr(reader->line, "Test Pass!")) log->test_passed = true;
}

/* ---- lines ---- */

/* Without colour escapes, carriage returns and other control characters. */
static void clean(Reader *reader, const char *text, size_t length)
{
    reader->length = 0;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 0x1B && i + 1 < length && text[i + 1] == '[') {
            for (i += 2; i < length && ((unsigned char)text[i] < 0x40 || (unsigned char)text[i] > 0x7E); i++) {
            }
            continue;
        }
        if (c >= 0x20 && c != 0x7F) reader->line[reader->length++] = (char)c;
    }
    reader->line[reader->length] = '\0';
}

static void start_table(Reader *reader, int table)
{
    reader->table = table;
    if (table == 1) reader->log->memory_count = 0; /* the last table counts */
    if (table == 2) {
        reader->log->module_count = 0;
        reader->log->total = -1;
    }
}

static void read_line(Reader *reader)
{
    char *mark = strstr(reader->line, "@espq:");
    if (mark) {
        char *body = checked_body(mark);
        if (!body || !read_kit_line(reader, body)) reader->log->damaged++;
        return;
    }
    if (strchr(reader->line, '|')) {
        if (strstr(reader->line, "memory summary"))
            start_table(reader, 1);
        else if (strstr(reader->line, "module summary"))
            start_table(reader, 2);
        else if (reader->table == 1)
            read_memory(reader);
        else if (reader->table == 2)
            read_module(reader);
        return;
    }
    read_self_test(reader);
}

bool serial_read(const char *text, size_t length, const char *path, SerialLog *log, Error *error)
{
    memset(log, 0, sizeof *log);
    log->total = -1;
    Reader reader = {.log = log, .error = error, .line = memory_new(MOST_LINE + 1)};
    if (!reader.line) return fail_memory(error, MOST_LINE);
    for (size_t at = 0; at < length && !reader.memory;) {
        const char *end = memchr(text + at, '\n', length - at);
        size_t count = end ? (size_t)(end - text) - at : length - at;
        log->lines++;
        if (count <= MOST_LINE) {
            clean(&reader, text + at, count);
            read_line(&reader);
        }
        at += count + 1;
    }
    memory_free(reader.line);
    if (reader.memory) {
        serial_free(log);
        return fail_memory(error, length);
    }
    if (log->model || log->tensor_count || log->module_count || log->memory_count || log->test_passed || log->test_failed) return true;
    int64_t lines = log->lines, damaged = log->damaged;
    serial_free(log);
    return fail(
        error, path,
        "save what the board prints while it runs the code of `espq boardkit`, or model->profile() or model->test(); a monitor that cuts "
        "or wraps lines spoils them",
        "nothing of use is in this log: %lld lines, %lld of them damaged lines of the board kit", (long long)lines, (long long)damaged);
}

void serial_free(SerialLog *log)
{
    forget_run(log);
    arena_free(&log->arena);
    memory_free(log->tensors);
    memory_free(log->modules);
    memory_free(log->memory);
    memset(log, 0, sizeof *log);
}

const SerialTensor *serial_tensor(const SerialLog *log, const char *name)
{
    for (int i = 0; i < log->tensor_count; i++) {
        if (strcmp(log->tensors[i].name, name) == 0) return &log->tensors[i];
    }
    return NULL;
}
