/* A temporary file without a name: it vanishes when it is freed, and however the program ends. In the folder TMPDIR names, else /tmp.
 * For values that do not fit in memory. One thread at a time. */
#ifndef ESPQ_BASE_SCRATCH_H
#define ESPQ_BASE_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

typedef struct Scratch Scratch;

Scratch *scratch_new(Error *error);  /* the file is made with the first bytes */
void scratch_free(Scratch *scratch); /* NULL is fine */

/* Writes where there is room; *place says where. Fails for a full disk, and leaves what was written before. */
bool scratch_put(Scratch *scratch, const void *data, size_t bytes, int64_t *place, Error *error);
bool scratch_get(const Scratch *scratch, int64_t place, void *data, size_t bytes, Error *error);
void scratch_drop(Scratch *scratch, int64_t place, size_t bytes); /* its room may be used again */
int64_t scratch_bytes(const Scratch *scratch);                    /* length of the file */

#endif
