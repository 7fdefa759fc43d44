/* Moving blocks of elements of any dtype: a rectangle with its own strides on both sides. Transpose, Slice, Concat, Split,
 * Expand, Tile and Pad are such moves. */
#ifndef ESPQ_OPS_BLOCK_H
#define ESPQ_OPS_BLOCK_H

#include "ops/common.h"

#define BLOCK_DIMENSIONS (2 * ESPQ_MAX_RANK)

typedef struct Block {
    int rank;
    int64_t dims[BLOCK_DIMENSIONS], from[BLOCK_DIMENSIONS], to[BLOCK_DIMENSIONS]; /* strides in elements; from may be 0 or negative */
    bool empty;
} Block; /* all zero: one element */

/* One more dimension, inside of those added before; joined with its neighbour where both sides run on. */
void block_add(Block *block, int64_t dim, int64_t from, int64_t to);

/* Copy. from and to are the places of the first element, `bytes` of an element 1, 2, 4 or 8. In threads when it is large. */
void block_move(const Block *block, const char *from, char *to, size_t bytes);

/* Fill `count` elements with one. */
void block_fill(char *to, int64_t count, const void *element, size_t bytes);

#endif
