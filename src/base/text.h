/* Growing text, and the helpers of messages: nearest name, escaping. */
#ifndef ESPQ_BASE_TEXT_H
#define ESPQ_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct Text {
    char *data; /* NUL-terminated once something was added; NULL before */
    size_t length, capacity;
    bool failed; /* an addition found no memory: the text is cut, the caller asks once at the end */
} Text;          /* all zero: empty */

void text_add(Text *text, const char *string);
void text_add_bytes(Text *text, const void *bytes, size_t count);
void text_format(Text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void text_format_list(Text *text, const char *format, va_list arguments);
void text_free(Text *text);

/* Numbers as text, independent of the locale. `out` has at least 32 characters. Shortest form that reads back equal. */
void text_from_float(char out[32], float value);
void text_from_double(char out[32], double value);

/* Index of the name nearest to `wanted` (edit distance, case ignored), or -1 when none is near. */
int text_nearest(const char *wanted, const char *const *names, int count);

/* Does `text` match `pattern` with * and ? ? */
bool text_matches(const char *pattern, const char *text);

/* Copy with control characters written as \n, \x07 …; cut with "…" when it does not fit. Returns out. */
const char *text_escape(char *out, size_t size, const char *text);

#endif
