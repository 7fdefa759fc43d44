/* Targets and platforms are data. Target: a chip. Platform: what a slot is quantized for (family × width × precision).
 * Code asks the row; code never asks which target it is. */
#ifndef ESPQ_QUANT_TARGET_H
#define ESPQ_QUANT_TARGET_H

#include "base/rounding.h"
#include "graph/graph.h"

typedef struct Platform {
    const char *name; /* of the .json "dispatchings": INT8 and so on, as the reference names them */
    int id;           /* the reference's number: 551 …; 0 FP32, -1 SOI, -2 UNSPECIFIED */
    int bits;         /* 8, 16; 32 for float */
    int bias_bits;
    bool per_channel; /* weights of Conv, ConvTranspose, Gemm */
    bool wide;        /* simulated with float64 sums (hi_precision) */
    bool quantizes;
    bool plain_layout;      /* C family: weights NHWC, not packed by A (EXPORT §6) */
    const char *quant_type; /* "S8", "S16", "F32" */
} Platform;

typedef struct Target {
    const char *name; /* "esp32p4" */
    const char *help; /* one line: chip and kernels */
    Rounding rounding;
    const Platform *platforms[3]; /* 8 bits, 16 bits, 16 bits hi_precision */
} Target;

extern const Platform platform_float, platform_unspecified, platform_shape;
const Target *target_find(const char *name); /* case-insensitive; NULL when unknown */
const Target *target_at(int index);
const char *target_nearest(const char *name);
const Platform *platform_find(int id);
const Platform *target_platform(const Target *target, int bits, bool hi_precision); /* NULL for an unknown width */

#endif
