/* How the vector variants of the integer kernels lay out a packed block; inside the room only. */
#ifndef ESPQ_KERNEL_INTEGER_PACK_H
#define ESPQ_KERNEL_INTEGER_PACK_H

#include "kernel/integer.h"

/* What the layout depends on in a variant. A "quad" is what one 32-bit lane takes in one step: four int8 or two int16. */
typedef struct IntForm {
    int lanes;      /* 32-bit lanes of a vector */
    int vectors;    /* of a dense block at 8 bits; at 16 bits half as many */
    int rows;       /* pixels of a tile */
    bool narrow;    /* what is left behind whole blocks runs in vectors of half the width where that suffices */
    int quad_bytes; /* of four int8 weights: 4, or 8 where they are spread to int16 (channels 0 and 2 of all lanes, then 1 and 3) */
    int x_offset;   /* 128: bytes of x are taken as unsigned ones, 128 higher */
} IntForm;

enum {
    INT_TAP_POINTERS = 8192,   /* of a chunk of pixels */
    INT_GATHER_BYTES = 65536,  /* of the taps of a chunk that lie partly in the padding */
    INT_EMULATE_WORDS = 32768, /* of a tile whose saturation is emulated */
    INT_CHUNK_BYTES = 24576,   /* of x that stays in the first cache while a block of channels passes */
    INT_CHUNK_PIXELS = 96,
    INT_DEPTHWISE_TAPS = 128 /* no more fit 16-bit sums into 32 bits */
};

/* A packed block, offsets from its begin. Constants are one a channel: 32 bits for int8, 64 for int16. */
typedef struct IntLayout {
    bool possible; /* false: the block is that of the plain variant */
    bool rows;     /* a tap is a row of the kernel, whose pixels lie beside each other; else a pixel */
    int taps;
    int tap_elements, tap_steps; /* the last quad of a tap may reach beyond its elements: its weights are 0 there */
    size_t weights;
    size_t start, shift, low; /* what a sum begins with (bias, rounding, the correction of x_offset), its shift, the bits of a tie */
    size_t bias, round;       /* apart from each other, for emulation */
    size_t limit;             /* float, one an 8 channels: largest sum of squares of x for which nothing saturates; < 0: unknown */
    size_t zeros;             /* a tap of zeros */
    size_t own;               /* the block of the plain variant, for channels of unknown limit */
    size_t bytes;
} IntLayout;

/* Blocks of channels. Dense ones follow each other, the last may be narrow or lack channels. Depthwise ones are whole wherever there are
 * enough channels: the last overlaps the one before it. */
typedef struct IntBlock {
    int channel, count;
    bool narrow;
    int lanes, vectors;
    size_t weights, constants; /* offset in the weights; index of the first constant */
} IntBlock;

IntLayout int_layout(const IntForm *form, const ConvInt *conv);
void int_pack(const IntForm *form, const ConvInt *conv, const void *weights, void *packed);
bool int_next_block(const IntForm *form, const IntLayout *layout, const ConvInt *conv, IntBlock *block); /* begins with zeros */

/* Taps of a depthwise kernel take slots, so many to a quad. Rows of three bytes get a quad of their own. */
static inline int depthwise_slots(const ConvInt *conv)
{
    int row = conv->bytes == 1 && conv->kernel[1] == 3 ? 4 : conv->kernel[1], each = 4 / conv->bytes;
    return (conv->kernel[0] * row + each - 1) / each * each;
}

static inline int depthwise_tap(const ConvInt *conv, int slot)
{
    if (conv->bytes == 2 || conv->kernel[1] != 3) return slot < conv->kernel[0] * conv->kernel[1] ? slot : -1;
    return slot % 4 < 3 ? slot / 4 * 3 + slot % 4 : -1;
}

/* The channel of a lane of a depthwise block: interleaving and narrowing work within 128 bits. */
static inline int depthwise_channel(int vectors, int vector, int lane)
{
    return lane / 4 * 4 * vectors + 4 * vector + lane % 4;
}

#endif
