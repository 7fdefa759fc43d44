/* Inside of the room: rows of elements, written so that a compiler makes vectors of them at -O2: blocks of a constant length, results in
 * a local array first, so that an output may lie where an input lies. Same values as arithmetic.h, for int8 and int16. */
#ifndef ESPQ_CHIP_ROWS_H
#define ESPQ_CHIP_ROWS_H

#include <string.h>

#include "chip/arithmetic.h"

#define ROW_INLINE static inline __attribute__((always_inline))
#define ROW_BLOCK 64        /* elements of a block */
#define ROW_GRAIN (1 << 15) /* elements that are worth a thread */

/* Calls block(begin, length) over [0, count): whole blocks with a constant length, then quarters of one, then the rest. */
#define ROW_EACH(count_, begin_, length_, block)                                                                                           \
    do {                                                                                                                                   \
        int64_t begin_ = 0;                                                                                                                \
        for (; begin_ + ROW_BLOCK <= (count_); begin_ += ROW_BLOCK) {                                                                      \
            enum { length_ = ROW_BLOCK };                                                                                                  \
            block;                                                                                                                         \
        }                                                                                                                                  \
        for (; begin_ + ROW_BLOCK / 4 <= (count_); begin_ += ROW_BLOCK / 4) {                                                              \
            enum { length_ = ROW_BLOCK / 4 };                                                                                              \
            block;                                                                                                                         \
        }                                                                                                                                  \
        if (begin_ < (count_)) {                                                                                                           \
            int length_ = (int)((count_)-begin_);                                                                                          \
            block;                                                                                                                         \
        }                                                                                                                                  \
    } while (0)

/* Limits of int8 and int16 as floats. */
#define ROW_LOW(bits) (-(float)(1 << ((bits)-1)))
#define ROW_HIGH(bits) ((float)((1 << ((bits)-1)) - 1))

/* round_saturate without calls: bits is 8 or 16. */
ROW_INLINE int row_round(float x, Rounding rounding, int bits)
{
    x = x == x ? x : ROW_HIGH(bits);
    if (rounding == ROUND_HALF_UP) {
        x += 0.5f;
        x = x < ROW_LOW(bits) ? ROW_LOW(bits) : x;
        x = x > ROW_HIGH(bits) ? ROW_HIGH(bits) : x;
        int whole = (int)x;
        return whole - ((float)whole > x);
    }
    x = x < ROW_LOW(bits) ? ROW_LOW(bits) : x;
    x = x > ROW_HIGH(bits) ? ROW_HIGH(bits) : x;
    return (int)((x + 12582912.0f) - 12582912.0f); /* 1.5 * 2^23: the sum has no place for fractions and rounds them to even */
}

/* shift_and_round for |v| < 2^30 and 0 <= shift <= 30, not saturated. */
ROW_INLINE int row_shift(int v, int shift, Rounding rounding)
{
    if (shift == 0) return v;
    int half = 1 << (shift - 1);
    return rounding == ROUND_HALF_UP ? (v + half) >> shift : (v + half - 1 + (v >> shift & 1)) >> shift;
}

ROW_INLINE int row_saturate(int v, int bits)
{
    int high = (1 << (bits - 1)) - 1, low = -high - 1;
    v = v > high ? high : v;
    return v < low ? low : v;
}

#endif
