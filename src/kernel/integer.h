/* Integer kernels: exact sums of int8 or int16 products, rounded and shifted to the type they came from (CHIP §1.4, §1.5), in channels-last
 * layout. One definition in plain C (integer_reference.c), which also emulates accumulators that saturate; variants (plain C, AVX2,
 * AVX-512, VNNI) give the same bits. Where a bound proves that no accumulator can saturate, fast code runs; elsewhere the exact order. */
#ifndef ESPQ_KERNEL_INTEGER_H
#define ESPQ_KERNEL_INTEGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rounding.h"

/* x [height][width][channels_in], y [out height][out width][channels_out]; one sample. Index 0: rows, 1: columns. A matrix product of m rows
 * is a 1x1 convolution over an image of height 1 and width m. Taps in the padding are skipped. */
typedef struct ConvInt {
    int bytes;      /* of an element of x, weights and y: 1 or 2 */
    bool depthwise; /* channels_out == channels_in, one product a tap */
    int channels_in, channels_out;
    int in[2], out[2], kernel[2], stride[2], dilation[2], pad[2];
    Rounding rounding; /* ROUND_HALF_UP or ROUND_HALF_EVEN */
    bool relu;
    /* The accumulators. The first vector_channels channels sum in lanes of lane_bits, which saturate after each product, in the order row,
     * column, input channel; the others in one of scalar_bits, which saturates after each `scalar_group` products (input channels in order,
     * groups begin anew at each tap). 0 bits: as wide as needed (two's complement of 32 bits for int8, 64 for int16). */
    int vector_channels, lane_bits, scalar_bits, scalar_group;
    bool bias_last;      /* the bias is added behind the products, not before */
    const int64_t *bias; /* one an output channel, as the accumulator gets it; NULL: 0 */
    const int *shifts;   /* right shifts: one, or one an output channel (shift_count); negative ones shift left and saturate */
    int shift_count;
} ConvInt;

/* weights: [channels_out][kernel rows][kernel columns][channels_in], depthwise [rows][columns][channels]. Packing copies weights, bias
 * and shifts, so nothing of what conv points to is needed later. */
size_t conv_int_packed_bytes(const ConvInt *conv);
void conv_int_pack(const ConvInt *conv, const void *weights, void *packed);
size_t conv_int_scratch_bytes(const ConvInt *conv);                                            /* for all threads together */
void conv_int(const ConvInt *conv, const void *x, const void *packed, void *y, void *scratch); /* threads inside */
void conv_int_reference(const ConvInt *conv, const void *x, const void *weights, void *y);     /* the definition */

/* What the accumulators go through: the largest |partial sum| in the definition's order without saturation, how many outputs have a
 * partial sum that leaves its accumulator, and how many are cut to the range of the result. A plain loop. */
typedef struct ConvIntRange {
    double largest;
    int64_t saturated, clipped;
} ConvIntRange;
void conv_int_range(const ConvInt *conv, const void *x, const void *weights, ConvIntRange *range);

#endif
