/* The .info file: a listing of the finished model for people (EXPORT §13). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "espdl/array_text.h"
#include "espdl/model.h"
#include "espdl/schema.h"

enum { LONGEST_TEXT = 64 }; /* texts of attributes are cut behind so many characters */

static const char *type_label(int data_type)
{
    Dtype dtype = dtype_from_onnx(data_type);
    return dtype == DTYPE_NONE ? "UNDEFINED" : dtype_rows[dtype].label;
}

/* "[1, -2]" */
static void list(Text *text, const int64_t *numbers, int count)
{
    text_add(text, "[");
    for (int i = 0; i < count; i++)
        text_format(text, i ? ", %" PRId64 : "%" PRId64, numbers[i]);
    text_add(text, "]");
}

/* A text as Python shows it: in single quotes (double when it has single ones itself), odd bytes escaped. */
static void quoted(Text *text, const char *string, bool bytes)
{
    char quote = strchr(string, '\'') && !strchr(string, '"') ? '"' : '\'';
    text_add_bytes(text, &quote, 1);
    for (const unsigned char *at = (const unsigned char *)string; *at; at++) {
        if (*at == (unsigned char)quote || *at == '\\')
            text_format(text, "\\%c", *at);
        else if (*at == '\n' || *at == '\t' || *at == '\r')
            text_format(text, "\\%c", *at == '\n' ? 'n' : *at == '\t' ? 't' : 'r');
        else if (*at < 32 || *at == 127 || (bytes && *at > 127))
            text_format(text, "\\x%02x", *at);
        else
            text_add_bytes(text, at, 1);
    }
    text_add_bytes(text, &quote, 1);
}

/* The same of at most 64 characters, with the number of those left out. */
static void quoted_cut(Text *text, const char *string)
{
    size_t characters = 0, cut = strlen(string);
    for (size_t i = 0; string[i]; i++) {
        if (((unsigned char)string[i] & 0xC0) == 0x80) continue;
        if (characters++ == LONGEST_TEXT) cut = i;
    }
    if (characters < LONGEST_TEXT) {
        quoted(text, string, false);
        return;
    }
    Text shown = {0};
    text_add_bytes(&shown, string, cut);
    text_format(&shown, "...<+len=%zu>", characters - LONGEST_TEXT);
    quoted(text, shown.data ? shown.data : "", false);
    text->failed = text->failed || shown.failed;
    text_free(&shown);
}

/* 15 significant digits, whatever the locale calls the point. */
static void number(Text *text, float value)
{
    char digits[64];
    snprintf(digits, sizeof digits, "%.15g", (double)value);
    for (char *at = digits; *at; at++) {
        if (strchr("0123456789+-einfa", *at)) continue;
        *at = '.';
        size_t rest = 1;
        while (at[rest] && !strchr("0123456789+-e", at[rest]))
            rest++;
        memmove(at + 1, at + rest, strlen(at + rest) + 1);
    }
    text_add(text, strncmp(digits, "-nan", 4) == 0 ? "nan" : digits);
}

static void attribute(Text *text, const Attribute *shown)
{
    text_format(text, "%s = ", shown->name);
    switch (shown->kind) {
    case ATTRIBUTE_INT: text_format(text, "%" PRId64, shown->integer); break;
    case ATTRIBUTE_FLOAT: number(text, shown->number); break;
    case ATTRIBUTE_STRING: quoted_cut(text, shown->string); break;
    case ATTRIBUTE_INTS: list(text, shown->integers, shown->count); break;
    case ATTRIBUTE_FLOATS:
    case ATTRIBUTE_STRINGS:
        text_add(text, "[");
        for (int i = 0; i < shown->count; i++) {
            if (i) text_add(text, ", ");
            if (shown->kind == ATTRIBUTE_FLOATS)
                number(text, shown->numbers[i]);
            else
                quoted_cut(text, shown->strings[i]);
        }
        text_add(text, "]");
        break;
    case ATTRIBUTE_TENSOR: text_add(text, "<Tensor>"); break;
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(((const Text *)a)->data, ((const Text *)b)->data);
}

static bool attributes(Text *text, const EspdlNode *node)
{
    Text *shown = memory_new_array((size_t)node->attribute_count, sizeof *shown);
    bool ok = shown != NULL;
    for (int i = 0; ok && i < node->attribute_count; i++) {
        attribute(&shown[i], &node->attributes[i]);
        ok = shown[i].data && !shown[i].failed;
    }
    if (ok) qsort(shown, (size_t)node->attribute_count, sizeof *shown, by_text);
    for (int i = 0; ok && i < node->attribute_count; i++) {
        if (i) text_add(text, ", ");
        text_add(text, shown[i].data);
    }
    for (int i = 0; shown && i < node->attribute_count; i++)
        text_free(&shown[i]);
    memory_free(shown);
    return ok;
}

static void names(Text *text, const char **listed, int count)
{
    for (int i = 0; i < count; i++)
        text_format(text, i ? ", %%%s" : "%%%s", listed[i]);
}

static bool node(Text *text, const EspdlNode *shown)
{
    text_add(text, "  ");
    names(text, shown->outputs, shown->output_count);
    text_format(text, shown->output_count ? " = %s" : "%s", shown->type);
    bool ok = true;
    if (shown->attribute_count) {
        text_add(text, "[");
        ok = attributes(text, shown);
        text_add(text, "]");
    }
    text_add(text, "(");
    names(text, shown->inputs, shown->input_count);
    text_add(text, ")\n");
    return ok;
}

static void dims(Text *text, const int64_t *sizes, int rank)
{
    if (!rank) text_add(text, ", scalar");
    for (int i = 0; i < rank; i++) {
        text_add(text, i ? "x" : ", ");
        if (sizes[i] < 0)
            text_add(text, "?");
        else
            text_format(text, "%" PRId64, sizes[i]);
    }
}

static void value(Text *text, const EspdlValue *shown)
{
    text_format(text, "%%%s[%s", shown->name, type_label(shown->elem_type));
    if (shown->shaped) dims(text, shown->dims, shown->rank);
    text_add(text, "]");
    if (!shown->exponent_count) return;
    text_add(text, ", exponents: ");
    list(text, shown->exponents, shown->exponent_count);
}

/* The numbers of a tensor with the zeros that fill its last 16 bytes: the reference prints what lies in the file. */
static bool contents(Text *text, const EspdlTensor *shown)
{
    Dtype dtype = dtype_from_onnx(shown->data_type);
    size_t bytes = shown->stored_bytes ? shown->stored_bytes : (shown->data_bytes + 15) / 16 * 16;
    if (dtype == DTYPE_NONE || !shown->data_bytes) {
        text_add(text, "value: []");
        return true;
    }
    text_add(text, "\nvalue: ");
    if (shown->stored_bytes) return array_text(text, dtype, shown->data, bytes / dtype_bytes(dtype));
    char *padded = memory_new(bytes);
    if (!padded) return false;
    memcpy(padded, shown->data, shown->data_bytes);
    bool ok = array_text(text, dtype, padded, bytes / dtype_bytes(dtype));
    memory_free(padded);
    return ok;
}

static bool tensors(Text *text, const char *title, const EspdlTensor *shown, int count)
{
    text_format(text, "\n\n\n%s\n", title);
    for (int i = 0; i < count; i++) {
        if (i) text_add(text, "\n");
        text_format(text, "%%%s, shape: ", shown[i].name ? shown[i].name : "");
        list(text, shown[i].dims, shown[i].rank);
        text_add(text, ", exponents: ");
        list(text, shown[i].exponents, shown[i].exponent_count);
        text_add(text, ", ");
        if (shown[i].doc) {
            text_add(text, "docString: b");
            quoted(text, shown[i].doc, true);
            text_add(text, ", ");
        }
        if (!contents(text, &shown[i])) return false;
    }
    return true;
}

static void header(Text *text, const EspdlModel *model)
{
    text_add(text, "model properties:\nmetadata_props:\n");
    for (int i = 0; i < model->metadata_count; i++)
        text_format(text, "%s: %s\n", model->metadata[i].key, model->metadata[i].value);
    text_format(text, "\n\ngraph %s ", model->graph_name ? model->graph_name : "");
    if (model->input_count) {
        text_add(text, "(\n");
        for (int i = 0; i < model->input_count; i++) {
            text_add(text, "  ");
            value(text, &model->inputs[i]);
            text_add(text, "\n");
        }
        text_add(text, ") ");
        if (model->initializer_count) text_add(text, "initializers (\n");
        for (int i = 0; i < model->initializer_count; i++) {
            text_format(text, "  %%%s[%s", model->initializers[i].name, type_label(model->initializers[i].data_type));
            dims(text, model->initializers[i].dims, model->initializers[i].rank);
            text_add(text, "]\n");
        }
        if (model->initializer_count) text_add(text, ") ");
    }
    text_add(text, "{\n");
}

bool espdl_info_text(const EspdlModel *model, Text *text, Error *error)
{
    bool ok = true;
    header(text, model);
    for (int i = 0; ok && i < model->node_count; i++)
        ok = node(text, &model->nodes[i]);
    text_add(text, model->output_count ? "  return " : "  return");
    for (int i = 0; i < model->output_count; i++)
        text_format(text, i ? ", %%%s" : "%%%s", model->outputs[i].name);
    text_add(text, "\n}");
    ok = ok && tensors(text, "initializers value:", model->initializers, model->initializer_count);
    text_add(text, "\n\n\nvalues info:\n");
    for (int i = 0; i < model->value_count; i++) {
        if (i) text_add(text, "\n");
        value(text, &model->values[i]);
    }
    ok = ok && tensors(text, "test inputs value:", model->test_inputs, model->test_input_count) &&
         tensors(text, "test outputs value:", model->test_outputs, model->test_output_count);
    return (ok && !text->failed) || fail_memory(error, text->length);
}
