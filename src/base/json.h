/* Writing JSON: integers and floats kept apart, shortest numbers that read back equal, independent of the locale.
 * (cJSON reads JSON.) The writer keeps commas and indents; nothing else. */
#ifndef ESPQ_BASE_JSON_H
#define ESPQ_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

typedef struct Json {
    Text text;
    int depth, indent; /* indent: blanks a level, 0: one line */
    bool first, after_key;
} Json;

void json_begin_object(Json *json);
void json_end_object(Json *json);
void json_begin_array(Json *json);
void json_end_array(Json *json);
void json_key(Json *json, const char *key);
void json_string(Json *json, const char *value);
void json_integer(Json *json, int64_t value);
void json_number(Json *json, double value); /* always with a point or an exponent; nan and inf as null */
void json_boolean(Json *json, bool value);
void json_null(Json *json);

#endif
