#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void line(Json *json)
{
    if (!json->indent) return;
    text_add(&json->text, "\n");
    for (int i = 0; i < json->depth * json->indent; i++)
        text_add_bytes(&json->text, " ", 1);
}

static void before_value(Json *json)
{
    if (json->after_key) {
        json->after_key = false;
        return;
    }
    if (json->depth) {
        if (!json->first) text_add(&json->text, ",");
        line(json);
    }
    json->first = false;
}

static void begin(Json *json, const char *bracket)
{
    before_value(json);
    text_add(&json->text, bracket);
    json->depth++;
    json->first = true;
}

static void end(Json *json, const char *bracket)
{
    bool empty = json->first;
    json->depth--;
    if (!empty) line(json);
    text_add(&json->text, bracket);
    json->first = false;
}

void json_begin_object(Json *json)
{
    begin(json, "{");
}
void json_end_object(Json *json)
{
    end(json, "}");
}
void json_begin_array(Json *json)
{
    begin(json, "[");
}
void json_end_array(Json *json)
{
    end(json, "]");
}

static void quoted(Text *text, const char *value)
{
    text_add(text, "\"");
    for (const char *c = value; *c; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte == '"' || byte == '\\')
            text_format(text, "\\%c", *c);
        else if (byte == '\n')
            text_add(text, "\\n");
        else if (byte < 32 || byte == 127)
            text_format(text, "\\u%04x", byte);
        else
            text_add_bytes(text, c, 1);
    }
    text_add(text, "\"");
}

void json_key(Json *json, const char *key)
{
    before_value(json);
    quoted(&json->text, key);
    text_add(&json->text, json->indent ? ": " : ":");
    json->after_key = true;
}

void json_string(Json *json, const char *value)
{
    before_value(json);
    quoted(&json->text, value);
}

void json_integer(Json *json, int64_t value)
{
    before_value(json);
    text_format(&json->text, "%" PRId64, value);
}

void json_number(Json *json, double value)
{
    char out[32];
    before_value(json);
    if (!isfinite(value)) {
        text_add(&json->text, "null");
        return;
    }
    text_from_double(out, value);
    text_add(&json->text, out);
    if (!strpbrk(out, ".en")) text_add(&json->text, ".0");
}

void json_boolean(Json *json, bool value)
{
    before_value(json);
    text_add(&json->text, value ? "true" : "false");
}

void json_null(Json *json)
{
    before_value(json);
    text_add(&json->text, "null");
}
