#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

void error_fill(Error *error, ErrorCode code, const char *where, const char *cure, const char *what, ...)
{
    char raw[sizeof error->what];
    va_list arguments;
    if (!error) return;
    va_start(arguments, what);
    error->code = code;
    vsnprintf(raw, sizeof raw, what, arguments);
    va_end(arguments);
    /* Lines of a list stay lines; other control characters (from a file's names) must not reach a terminal. */
    size_t used = 0;
    for (const char *c = raw; *c && used + 5 < sizeof error->what; c++) {
        if ((unsigned char)*c < 32 && *c != '\n')
            used += (size_t)snprintf(error->what + used, 5, "\\x%02x", (unsigned char)*c);
        else
            error->what[used++] = *c;
    }
    error->what[used] = 0;
    text_escape(error->where, sizeof error->where, where ? where : "");
    snprintf(error->cure, sizeof error->cure, "%s", cure ? cure : "");
}

bool fail_memory(Error *error, size_t bytes)
{
    return fail_as(error, ERROR_MEMORY, NULL, "close other programs, or use a smaller model or batch", "no memory for %zu bytes", bytes);
}

bool error_within(Error *error, const char *stage)
{
    char prefix[128];
    if (!error) return false;
    snprintf(prefix, sizeof prefix, "%s: ", stage);
    size_t length = strlen(prefix), old = strlen(error->what);
    if (strncmp(error->what, prefix, length) == 0) return false;
    if (old + length >= sizeof error->what) old = sizeof error->what - length - 1;
    memmove(error->what + length, error->what, old);
    memcpy(error->what, prefix, length);
    error->what[old + length] = 0;
    return false;
}
