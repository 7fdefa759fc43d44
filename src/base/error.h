/* Errors are values: what happened, where, and what to do about it.
 * An Error has fixed fields, so that passing it on, or turning it into a Lua error, frees nothing. */
#ifndef ESPQ_BASE_ERROR_H
#define ESPQ_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

typedef enum {
    ERROR_NONE,
    ERROR_INPUT,       /* a file, an argument or data of the user: exit code 1 */
    ERROR_MEMORY,      /* an allocation failed */
    ERROR_FILE,        /* the system refused to read or write */
    ERROR_INTERRUPTED, /* Ctrl-C: exit code 130 */
    ERROR_CALLBACK,    /* a Lua function of the user raised; the binding holds its error object */
    ERROR_INTERNAL     /* a promise of espq's own is broken */
} ErrorCode;

typedef struct Error {
    ErrorCode code;
    char what[8192];
    char where[1024];
    char cure[2048];
} Error;

/* Fill in `error` (code ERROR_INPUT) and return false, so that a caller writes `return fail(error, where, cure, "…%d", n);`.
 * `where` names file, node or tensor, `cure` says what to do; either may be NULL or "". Control characters are escaped. */
void error_fill(Error *error, ErrorCode code, const char *where, const char *cure, const char *what, ...)
    __attribute__((format(printf, 5, 6)));

/* Macros, so that the compiler sees the `false`: it then knows which variables are set behind a call that succeeded. */
static inline bool error_false(void)
{
    return false;
}
#define fail(error, where, cure, ...) (error_fill(error, ERROR_INPUT, where, cure, __VA_ARGS__), error_false())
#define fail_as(error, code, where, cure, ...) (error_fill(error, code, where, cure, __VA_ARGS__), error_false())
bool fail_memory(Error *error, size_t bytes);

/* Put "stage: " before what happened, once, and return false. */
bool error_within(Error *error, const char *stage);

#endif
