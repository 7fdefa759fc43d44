/* A lock on a folder: a file in it that the holder keeps locked (flock) and that says who holds it. The system gives it back when the
 * process ends, however it ends. */
#ifndef ESPQ_BASE_LOCK_H
#define ESPQ_BASE_LOCK_H

#include <stdbool.h>

#include "base/error.h"

typedef struct Lock {
    int file;  /* -1: not held */
    bool held; /* by another, who kept it from being taken */
} Lock;

/* `holder` is written into the file. Held by another: an error with what that one wrote there. */
bool lock_take(Lock *lock, const char *path, const char *holder, Error *error);
void lock_release(Lock *lock); /* may be called again; the file stays, empty */
void lock_forget(Lock *lock);  /* in a child of the holder: closes it, the parent goes on holding */

#endif
