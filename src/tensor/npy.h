/* NumPy's files: .npy (one tensor) and .npz (a zip of them). Column order and big-endian files come out in row order and this
 * machine's byte order. Hostile input is refused: sizes are checked before anything is allocated from them. */
#ifndef ESPQ_TENSOR_NPY_H
#define ESPQ_TENSOR_NPY_H

#include "tensor/tensor.h"

typedef struct NpzEntry {
    char *name; /* without ".npy"; memory_free */
    Tensor *tensor;
} NpzEntry;

Tensor *npy_read(const char *path, Error *error);
Tensor *npy_parse(const uint8_t *bytes, size_t count, const char *where, Error *error);
bool npy_write(const char *path, Tensor *tensor, Error *error); /* atomically */

bool npz_read(const char *path, NpzEntry **entries, int *count, Error *error); /* in the file's order */
bool npz_parse(const uint8_t *bytes, size_t size, const char *where, NpzEntry **entries, int *count, Error *error);
bool npz_write(const char *path, const NpzEntry *entries, int count, Error *error); /* stored, not compressed */
void npz_free(NpzEntry *entries, int count);

#endif
