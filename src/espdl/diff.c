#include "espdl/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "espdl/schema.h"

typedef struct Differ {
    const EspdlModel *a, *b;
    EspdlDiff *diff;
    Map ends;    /* names of graph inputs and outputs of the first model */
    bool failed; /* memory */
} Differ;

const char *diff_kind_name(DiffKind kind)
{
    static const char *const names[DIFF_KINDS] = {"structure", "exponent", "weight", "bias", "table", "constant", "test value", "metadata"};
    return names[kind];
}

static DiffRow *add_row(Differ *differ, DiffKind kind, const char *name, const char *format, ...) __attribute__((format(printf, 4, 5)));
static DiffRow *add_row(Differ *differ, DiffKind kind, const char *name, const char *format, ...)
{
    EspdlDiff *diff = differ->diff;
    DiffRow *rows = memory_grow(diff->rows, (size_t)diff->count, &diff->capacity, sizeof *rows);
    if (rows) diff->rows = rows;
    Text text = {0};
    va_list list;
    va_start(list, format);
    text_format_list(&text, format, list);
    va_end(list);
    const char *what = text.failed ? NULL : arena_text(&diff->arena, text.data ? text.data : ""), *copy = arena_text(&diff->arena, name);
    text_free(&text);
    if (!rows || !what || !copy) {
        differ->failed = true;
        return NULL;
    }
    rows[diff->count] = (DiffRow){.kind = kind, .name = copy, .what = what};
    return &rows[diff->count++];
}

static void add_numbers(Text *text, const int64_t *numbers, int count)
{
    text_add(text, "[");
    for (int i = 0; i < count && i < 8; i++)
        text_format(text, "%s%lld", i ? ", " : "", (long long)numbers[i]);
    if (count > 8) text_format(text, ", … (%d)", count);
    text_add(text, "]");
}

static bool same_numbers(const int64_t *a, int a_count, const int64_t *b, int b_count)
{
    return a_count == b_count && (a_count == 0 || memcmp(a, b, (size_t)a_count * sizeof *a) == 0);
}

static void compare_lists(Differ *differ, DiffKind kind, const char *name, const char *what, const int64_t *a, int a_count,
                          const int64_t *b, int b_count)
{
    if (same_numbers(a, a_count, b, b_count)) return;
    Text text = {0};
    text_format(&text, "%s ", what);
    add_numbers(&text, a, a_count);
    text_add(&text, " -> ");
    add_numbers(&text, b, b_count);
    if (text.failed)
        differ->failed = true;
    else
        add_row(differ, kind, name, "%s", text.data);
    text_free(&text);
}

/* ---- nodes ---- */

static void add_attribute(Text *text, const Attribute *attribute)
{
    char number[32];
    int count = attribute->count < 8 ? attribute->count : 8;
    switch (attribute->kind) {
    case ATTRIBUTE_INT: text_format(text, "%lld", (long long)attribute->integer); return;
    case ATTRIBUTE_FLOAT:
        text_from_float(number, attribute->number);
        text_add(text, number);
        return;
    case ATTRIBUTE_STRING: text_format(text, "'%.60s'", attribute->string); return;
    case ATTRIBUTE_INTS: add_numbers(text, attribute->integers, attribute->count); return;
    case ATTRIBUTE_FLOATS:
        text_add(text, "[");
        for (int i = 0; i < count; i++) {
            text_from_float(number, attribute->numbers[i]);
            text_format(text, "%s%s", i ? ", " : "", number);
        }
        text_add(text, count < attribute->count ? ", …]" : "]");
        return;
    case ATTRIBUTE_STRINGS:
        text_add(text, "[");
        for (int i = 0; i < count; i++)
            text_format(text, "%s'%.30s'", i ? ", " : "", attribute->strings[i]);
        text_add(text, count < attribute->count ? ", …]" : "]");
        return;
    case ATTRIBUTE_TENSOR: text_add(text, "a tensor"); return;
    }
}

static bool same_attribute(const Attribute *a, const Attribute *b)
{
    if (a->kind != b->kind || a->count != b->count) return false;
    switch (a->kind) {
    case ATTRIBUTE_INT: return a->integer == b->integer;
    case ATTRIBUTE_FLOAT: return memcmp(&a->number, &b->number, sizeof a->number) == 0;
    case ATTRIBUTE_STRING: return strcmp(a->string, b->string) == 0;
    case ATTRIBUTE_INTS: return same_numbers(a->integers, a->count, b->integers, b->count);
    case ATTRIBUTE_FLOATS: return a->count == 0 || memcmp(a->numbers, b->numbers, (size_t)a->count * sizeof *a->numbers) == 0;
    case ATTRIBUTE_STRINGS:
        for (int i = 0; i < a->count; i++) {
            if (strcmp(a->strings[i], b->strings[i]) != 0) return false;
        }
        return true;
    case ATTRIBUTE_TENSOR: return a->tensor && b->tensor && tensor_equal(a->tensor, b->tensor);
    }
    return false;
}

static const Attribute *find_attribute(const EspdlNode *node, const char *name)
{
    for (int i = 0; i < node->attribute_count; i++) {
        if (strcmp(node->attributes[i].name, name) == 0) return &node->attributes[i];
    }
    return NULL;
}

static void compare_attributes(Differ *differ, const EspdlNode *a, const EspdlNode *b)
{
    for (int i = 0; i < a->attribute_count; i++) {
        const Attribute *before = &a->attributes[i], *after = find_attribute(b, before->name);
        if (after && same_attribute(before, after)) continue;
        Text text = {0};
        add_attribute(&text, before);
        text_add(&text, " -> ");
        if (after)
            add_attribute(&text, after);
        else
            text_add(&text, "(absent)");
        add_row(differ, DIFF_STRUCTURE, a->name, "%s: attribute %s %s", a->type, before->name, text.data ? text.data : "");
        text_free(&text);
    }
    for (int i = 0; i < b->attribute_count; i++) {
        if (find_attribute(a, b->attributes[i].name)) continue;
        Text text = {0};
        add_attribute(&text, &b->attributes[i]);
        add_row(differ, DIFF_STRUCTURE, b->name, "%s: attribute %s (absent) -> %s", b->type, b->attributes[i].name,
                text.data ? text.data : "");
        text_free(&text);
    }
}

static void compare_links(Differ *differ, const EspdlNode *a, const EspdlNode *b, bool outputs)
{
    const char *const *before = outputs ? a->outputs : a->inputs, *const *after = outputs ? b->outputs : b->inputs;
    int before_count = outputs ? a->output_count : a->input_count, after_count = outputs ? b->output_count : b->input_count;
    const char *what = outputs ? "output" : "input";
    if (before_count != after_count) add_row(differ, DIFF_STRUCTURE, a->name, "%s: %d %ss -> %d", a->type, before_count, what, after_count);
    for (int i = 0; i < before_count && i < after_count; i++) {
        if (strcmp(before[i], after[i]) != 0)
            add_row(differ, DIFF_STRUCTURE, a->name, "%s: %s %d '%s' -> '%s'", a->type, what, i, before[i], after[i]);
    }
}

static bool index_nodes(Differ *differ, Map *map, const EspdlModel *model)
{
    for (int i = 0; i < model->node_count; i++) {
        if (!map_set(map, model->nodes[i].name, &model->nodes[i])) differ->failed = true;
    }
    return !differ->failed;
}

static void compare_nodes(Differ *differ)
{
    Map before = {0}, after = {0};
    bool fine = index_nodes(differ, &before, differ->a) && index_nodes(differ, &after, differ->b);
    for (int i = 0; fine && i < differ->a->node_count; i++) {
        const EspdlNode *a = &differ->a->nodes[i], *b = map_get(&after, a->name);
        if (!b) {
            add_row(differ, DIFF_STRUCTURE, a->name, "%s: only in the first file", a->type);
            continue;
        }
        if (strcmp(a->type, b->type) != 0) add_row(differ, DIFF_STRUCTURE, a->name, "type %s -> %s", a->type, b->type);
        compare_attributes(differ, a, b);
        compare_links(differ, a, b, false);
        compare_links(differ, a, b, true);
    }
    for (int i = 0; fine && i < differ->b->node_count; i++) {
        const EspdlNode *b = &differ->b->nodes[i];
        if (!map_has(&before, b->name)) add_row(differ, DIFF_STRUCTURE, b->name, "%s: only in the second file", b->type);
    }
    map_free(&before);
    map_free(&after);
}

/* ---- descriptions ---- */

static const char *type_name(int type)
{
    Dtype dtype = dtype_from_onnx(type);
    return dtype == DTYPE_NONE ? "of an unknown type" : dtype_rows[dtype].label;
}

static void compare_values(Differ *differ, const EspdlValue *a, int a_count, const EspdlValue *b, int b_count, const char *what)
{
    Map before = {0}, after = {0};
    for (int i = 0; i < a_count; i++)
        differ->failed |= !map_set(&before, a[i].name, (void *)(uintptr_t)&a[i]);
    for (int i = 0; i < b_count; i++)
        differ->failed |= !map_set(&after, b[i].name, (void *)(uintptr_t)&b[i]);
    for (int i = 0; !differ->failed && i < a_count; i++) {
        if (!what && map_has(&differ->ends, a[i].name)) continue; /* described twice */
        const EspdlValue *other = map_get(&after, a[i].name);
        if (!other) {
            if (what) add_row(differ, DIFF_STRUCTURE, a[i].name, "%s: only in the first file", what);
            continue;
        }
        if (a[i].elem_type != other->elem_type)
            add_row(differ, DIFF_STRUCTURE, a[i].name, "%s -> %s", type_name(a[i].elem_type), type_name(other->elem_type));
        compare_lists(differ, DIFF_STRUCTURE, a[i].name, "shape", a[i].dims, a[i].rank, other->dims, other->rank);
        compare_lists(differ, DIFF_EXPONENT, a[i].name, "exponents", a[i].exponents, a[i].exponent_count, other->exponents,
                      other->exponent_count);
    }
    for (int i = 0; what && !differ->failed && i < b_count; i++) {
        if (!map_has(&before, b[i].name)) add_row(differ, DIFF_STRUCTURE, b[i].name, "%s: only in the second file", what);
    }
    map_free(&before);
    map_free(&after);
}

/* ---- tensors ---- */

static double number_at(const EspdlTensor *tensor, Dtype dtype, int64_t index)
{
    union {
        int64_t align;
        char bytes[8];
    } room;
    size_t width = dtype_bytes(dtype);
    memcpy(room.bytes, (const char *)tensor->data + (size_t)index * width, width); /* the file's bytes need not be aligned */
    Tensor element = {.dtype = dtype, .data = room.bytes};
    return dtype_rows[dtype].is_integer ? (double)tensor_get_integer(&element, 0) : tensor_get(&element, 0);
}

static void compare_data(Differ *differ, DiffKind kind, const EspdlTensor *a, const EspdlTensor *b)
{
    Dtype dtype = dtype_from_onnx(a->data_type);
    if (a->data_type != b->data_type) {
        add_row(differ, kind, a->name, "%s -> %s", type_name(a->data_type), type_name(b->data_type));
        return;
    }
    if (!same_numbers(a->dims, a->rank, b->dims, b->rank)) {
        compare_lists(differ, kind, a->name, "shape", a->dims, a->rank, b->dims, b->rank);
        return;
    }
    const char *before = a->doc ? a->doc : "", *after = b->doc ? b->doc : "";
    if (strcmp(before, after) != 0) {
        add_row(differ, kind, a->name, "packed otherwise ('%s' -> '%s'): numbers are not compared", before, after);
        return;
    }
    if (dtype == DTYPE_NONE || a->data_bytes != b->data_bytes) return;
    if (a->data_bytes == 0 || memcmp(a->data, b->data, a->data_bytes) == 0) return;
    int64_t count = (int64_t)(a->data_bytes / dtype_bytes(dtype)), differing = 0, first = -1;
    double largest = 0, sum = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = number_at(a, dtype, i), y = number_at(b, dtype, i), distance = fabs(x - y);
        if (x == y || (isnan(x) && isnan(y))) continue;
        if (first < 0) first = i;
        differing++;
        sum += distance;
        if (distance > largest || isnan(distance)) largest = distance;
    }
    if (!differing) return; /* 0 and -0 */
    char x[32], y[32];
    text_from_double(x, number_at(a, dtype, first));
    text_from_double(y, number_at(b, dtype, first));
    DiffRow *row = add_row(differ, kind, a->name, "%lld of %lld numbers differ, the first at %lld: %s -> %s", (long long)differing,
                           (long long)count, (long long)first, x, y);
    if (!row) return;
    row->differing = differing;
    row->count = count;
    row->largest = largest;
    row->mean = sum / (double)differing;
}

/* Index of the input at which a node reads each parameter, + 1; tables are named by an attribute and read by none. */
static void find_roles(Differ *differ, Map *roles, const EspdlModel *model)
{
    for (int i = 0; i < model->node_count; i++) {
        const EspdlNode *node = &model->nodes[i];
        bool weighted = strcmp(node->type, "Conv") == 0 || strcmp(node->type, "Gemm") == 0 || strcmp(node->type, "MatMul") == 0;
        for (int k = 0; weighted && k < node->input_count; k++)
            differ->failed |= !map_set(roles, node->inputs[k], (void *)(intptr_t)(k == 2 ? DIFF_BIAS : DIFF_WEIGHT));
        const Attribute *table = find_attribute(node, "lut");
        if (table && table->kind == ATTRIBUTE_STRING) differ->failed |= !map_set(roles, table->string, (void *)(intptr_t)DIFF_TABLE);
    }
}

static void compare_tensors(Differ *differ, const EspdlTensor *a, int a_count, const EspdlTensor *b, int b_count, const Map *roles)
{
    Map before = {0}, after = {0};
    for (int i = 0; i < a_count; i++)
        differ->failed |= !map_set(&before, a[i].name, (void *)(uintptr_t)&a[i]);
    for (int i = 0; i < b_count; i++)
        differ->failed |= !map_set(&after, b[i].name, (void *)(uintptr_t)&b[i]);
    for (int i = 0; !differ->failed && i < a_count; i++) {
        const EspdlTensor *other = map_get(&after, a[i].name);
        DiffKind role = roles ? (DiffKind)(intptr_t)map_get(roles, a[i].name) : DIFF_TEST, kind = role ? role : DIFF_CONSTANT;
        if (!other) {
            add_row(differ, kind, a[i].name, "only in the first file");
            continue;
        }
        compare_lists(differ, DIFF_EXPONENT, a[i].name, "exponents", a[i].exponents, a[i].exponent_count, other->exponents,
                      other->exponent_count);
        compare_data(differ, kind, &a[i], other);
    }
    for (int i = 0; !differ->failed && i < b_count; i++) {
        DiffKind role = roles ? (DiffKind)(intptr_t)map_get(roles, b[i].name) : DIFF_TEST;
        if (!map_has(&before, b[i].name)) add_row(differ, role ? role : DIFF_CONSTANT, b[i].name, "only in the second file");
    }
    map_free(&before);
    map_free(&after);
}

static void compare_metadata(Differ *differ)
{
    for (int i = 0; i < differ->a->metadata_count; i++) {
        const EspdlPair *pair = &differ->a->metadata[i];
        const char *other = NULL;
        for (int k = 0; k < differ->b->metadata_count; k++) {
            if (strcmp(differ->b->metadata[k].key, pair->key) == 0) other = differ->b->metadata[k].value;
        }
        if (!other)
            add_row(differ, DIFF_METADATA, pair->key, "'%.200s' -> (absent)", pair->value);
        else if (strcmp(other, pair->value) != 0)
            add_row(differ, DIFF_METADATA, pair->key, "'%.200s' -> '%.200s'", pair->value, other);
    }
    for (int i = 0; i < differ->b->metadata_count; i++) {
        bool known = false;
        for (int k = 0; k < differ->a->metadata_count && !known; k++)
            known = strcmp(differ->a->metadata[k].key, differ->b->metadata[i].key) == 0;
        if (!known) add_row(differ, DIFF_METADATA, differ->b->metadata[i].key, "(absent) -> '%.200s'", differ->b->metadata[i].value);
    }
    if (differ->a->model_version != differ->b->model_version)
        add_row(differ, DIFF_METADATA, "model version", "%lld -> %lld", (long long)differ->a->model_version,
                (long long)differ->b->model_version);
}

/* By kind, keeping the order in which they were found; a row's place breaks ties. */
static void sort_rows(EspdlDiff *diff, DiffRow *room)
{
    int made = 0;
    for (int kind = 0; kind < DIFF_KINDS; kind++) {
        for (int i = 0; i < diff->count; i++) {
            if ((int)diff->rows[i].kind == kind) room[made++] = diff->rows[i];
        }
    }
    if (made) memcpy(diff->rows, room, (size_t)made * sizeof *room);
}

bool espdl_diff(const EspdlModel *a, const EspdlModel *b, EspdlDiff *diff, Error *error)
{
    memset(diff, 0, sizeof *diff);
    Differ differ = {.a = a, .b = b, .diff = diff};
    for (int i = 0; i < a->input_count; i++)
        differ.failed |= !map_set(&differ.ends, a->inputs[i].name, diff);
    for (int i = 0; i < a->output_count; i++)
        differ.failed |= !map_set(&differ.ends, a->outputs[i].name, diff);
    Map roles = {0};
    find_roles(&differ, &roles, b);
    find_roles(&differ, &roles, a);
    compare_nodes(&differ);
    compare_values(&differ, a->inputs, a->input_count, b->inputs, b->input_count, "graph input");
    compare_values(&differ, a->outputs, a->output_count, b->outputs, b->output_count, "graph output");
    compare_values(&differ, a->values, a->value_count, b->values, b->value_count, NULL);
    compare_tensors(&differ, a->initializers, a->initializer_count, b->initializers, b->initializer_count, &roles);
    compare_tensors(&differ, a->test_inputs, a->test_input_count, b->test_inputs, b->test_input_count, NULL);
    compare_tensors(&differ, a->test_outputs, a->test_output_count, b->test_outputs, b->test_output_count, NULL);
    compare_metadata(&differ);
    map_free(&roles);
    map_free(&differ.ends);
    DiffRow *room = differ.failed ? NULL : memory_new_array((size_t)diff->count + 1, sizeof *room);
    if (room) sort_rows(diff, room);
    memory_free(room);
    if (room) return true;
    espdl_diff_free(diff);
    return fail_memory(error, sizeof(DiffRow));
}

void espdl_diff_free(EspdlDiff *diff)
{
    arena_free(&diff->arena);
    memory_free(diff->rows);
    memset(diff, 0, sizeof *diff);
}
