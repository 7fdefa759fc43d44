#include "base/text.h"

#include <ctype.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool reserve(Text *text, size_t more)
{
    if (text->failed) return false;
    if (text->length + more + 1 <= text->capacity) return true;
    size_t capacity = text->capacity ? text->capacity : 64;
    while (capacity < text->length + more + 1)
        capacity *= 2;
    char *data = memory_resize(text->data, capacity);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->capacity = capacity;
    return true;
}

void text_add_bytes(Text *text, const void *bytes, size_t count)
{
    if (!reserve(text, count)) return;
    if (count) memcpy(text->data + text->length, bytes, count);
    text->length += count;
    text->data[text->length] = 0;
}

void text_add(Text *text, const char *string)
{
    text_add_bytes(text, string, strlen(string));
}

void text_format_list(Text *text, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length >= 0 && reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->length, (size_t)length + 1, format, again);
        text->length += (size_t)length;
    }
    va_end(again);
}

void text_format(Text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    text_format_list(text, format, arguments);
    va_end(arguments);
}

void text_free(Text *text)
{
    memory_free(text->data);
    *text = (Text){0};
}

/* printf and strtod use the locale's decimal point; the program never calls setlocale, but a module in a foreign host may meet
 * another one: the point is put back. */
static void point(char *out)
{
    const char *mark = localeconv()->decimal_point;
    if (mark[0] == '.' && !mark[1]) return;
    char *at = strstr(out, mark);
    if (!at) return;
    size_t length = strlen(mark);
    *at = '.';
    memmove(at + 1, at + length, strlen(at + length) + 1);
}

static void special(char out[32], double value)
{
    snprintf(out, 32, "%s", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

/* Files repeat a few numbers (scales) thousands of times: those last written are remembered, each thread its own. */
static _Thread_local struct {
    uint64_t bits;
    char text[32];
} written[64];

void text_from_double(char out[32], double value)
{
    if (!isfinite(value)) {
        special(out, value);
        return;
    }
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    size_t place = (size_t)(bits * 0x9e3779b97f4a7c15u >> 58);
    if (written[place].bits == bits && written[place].text[0]) {
        memcpy(out, written[place].text, 32);
        return;
    }
    for (int digits = 1; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    point(out);
    written[place].bits = bits;
    memcpy(written[place].text, out, strlen(out) + 1);
}

void text_from_float(char out[32], float value)
{
    if (!isfinite(value)) {
        special(out, (double)value);
        return;
    }
    for (int digits = 1; digits <= FLT_DECIMAL_DIG; digits++) {
        snprintf(out, 32, "%.*g", digits, (double)value);
        if (strtof(out, NULL) == value) break;
    }
    point(out);
}

/* Edit distance with exchanges of neighbours, letters compared without case; names longer than 63 count as far. */
static int distance(const char *a, const char *b)
{
    int n = (int)strlen(a), m = (int)strlen(b), rows[3][64];
    if (n > 63 || m > 63) return 64;
    for (int j = 0; j <= m; j++)
        rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *before = rows[(i + 2) % 3], *twice = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            int best = before[j - 1] + (x != y);
            if (before[j] + 1 < best) best = before[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) && y == tolower((unsigned char)a[i - 2]) && twice[j - 2] + 1 < best)
                best = twice[j - 2] + 1;
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}

int text_nearest(const char *wanted, const char *const *names, int count)
{
    int best = -1, least = 1000;
    for (int i = 0; i < count; i++) {
        int length = (int)strlen(wanted), other = (int)strlen(names[i]);
        int limit = (length > other ? length : other) / 3 + 1, d = distance(wanted, names[i]);
        if (d <= limit && d < least) {
            least = d;
            best = i;
        }
    }
    return best;
}

bool text_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *back = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            back = text;
        } else if (*pattern == '?' || *pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++back;
        } else {
            return false;
        }
    }
    while (*pattern == '*')
        pattern++;
    return !*pattern;
}

const char *text_escape(char *out, size_t size, const char *text)
{
    size_t used = 0;
    for (; *text; text++) {
        char piece[8];
        unsigned char c = (unsigned char)*text;
        if (c == '\n')
            snprintf(piece, sizeof piece, "\\n");
        else if (c == '\t')
            snprintf(piece, sizeof piece, "\\t");
        else if (c < 32 || c == 127)
            snprintf(piece, sizeof piece, "\\x%02x", c);
        else
            snprintf(piece, sizeof piece, "%c", *text);
        size_t length = strlen(piece);
        if (used + length + 4 > size) {
            if (size > used + 3) {
                memcpy(out + used, "\xe2\x80\xa6", 3); /* … */
                used += 3;
            }
            break;
        }
        memcpy(out + used, piece, length);
        used += length;
    }
    if (size) out[used < size ? used : size - 1] = 0;
    return out;
}
