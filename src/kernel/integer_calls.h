/* What the integer templates are called with. */
#ifndef ESPQ_KERNEL_INTEGER_CALLS_H
#define ESPQ_KERNEL_INTEGER_CALLS_H

#include <stdint.h>

/* A tile of pixels times a block of channels. Constants begin at the block's first channel. */
typedef struct TileCall {
    const char *const *pixels; /* [taps][rows of a tile]: where a pixel's quads begin */
    int taps, steps;           /* quads of a tap */
    const char *weights;
    const void *start, *shift, *low;
    char *y;
    int64_t y_row; /* bytes from pixel to pixel */
    int count;     /* channels to store */
    int floor;     /* no result is smaller: 0 for ReLU */
    /* only where saturation is emulated */
    const int32_t *words; /* [step][4][rows of a tile] */
    const void *bias, *round;
    int64_t weights_step; /* bytes */
} TileCall;

typedef void Tile(const TileCall *call);

/* By the number of vectors - 1. */
typedef struct TileRow {
    Tile *bytes[4], *words[2], *emulated;
} TileRow;

typedef struct DepthwiseCall {
    const char *const *pixels; /* [count][groups][4 taps, at 16 bits 2]: channel 0 of a tap's pixel */
    const char *row[3];        /* instead, for outputs beside each other of a 3 x 3 kernel: channel 0 of the first pixel of each row */
    int64_t column[3];         /* and the bytes from pixel to pixel; 0 in a row of padding */
    int count, groups;
    int channel, channels; /* first; how many, or as many as a block has */
    const char *weights;
    const void *start, *shift, *low;
    char *y; /* of `channel` */
    int64_t y_row;
    int floor;
} DepthwiseCall;

#endif
