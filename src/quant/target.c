/* Chips and what their slots are quantized for (QUANT §4.1, §4.2). */
#include "quant/target.h"

#include <strings.h>

const Platform platform_float = {.name = "FP32", .id = 0, .bits = 32, .bias_bits = 32, .quant_type = "F32"};
const Platform platform_shape = {.name = "SOI", .id = -1, .bits = 32, .bias_bits = 32, .quant_type = "F32"};
const Platform platform_unspecified = {.name = "UNSPECIFIED", .id = -2, .bits = 32, .bias_bits = 32, .quant_type = "F32"};

/* name, id, bits, bias bits, per channel, float64 sums, plain layout */
#define QUANTIZING(name_, id_, bits_, bias_, channel_, wide_, plain_)                                                                      \
    {                                                                                                                                      \
        .name = name_, .id = id_, .bits = bits_, .bias_bits = bias_, .per_channel = channel_, .wide = wide_, .quantizes = true,            \
        .plain_layout = plain_, .quant_type = bits_ == 8 ? "S8" : "S16",                                                                   \
    }

enum { V2_8, V2_16, S3_8, S3_16, V2_WIDE, S3_WIDE, C_8, C_16, C_WIDE, PLATFORMS };

static const Platform platforms[PLATFORMS] = {
    [V2_8] = QUANTIZING("ESPDL_INT8", 551, 8, 32, true, false, false),
    [V2_16] = QUANTIZING("ESPDL_INT16", 552, 16, 40, true, false, false),
    [S3_8] = QUANTIZING("ESPDL_S3_INT8", 553, 8, 20, false, false, false),
    [S3_16] = QUANTIZING("ESPDL_S3_INT16", 554, 16, 40, false, false, false),
    [V2_WIDE] = QUANTIZING("ESPDL_H_PRE_INT16", 555, 16, 40, true, true, false),
    [S3_WIDE] = QUANTIZING("ESPDL_S3_H_PRE_INT16", 556, 16, 40, false, true, false),
    [C_8] = QUANTIZING("ESPDL_C_INT8", 557, 8, 32, false, false, true),
    [C_16] = QUANTIZING("ESPDL_C_INT16", 558, 16, 64, false, false, true),
    [C_WIDE] = QUANTIZING("ESPDL_C_H_PRE_INT16", 559, 16, 64, false, true, true),
};

#define FAMILY_C                                                                                                                           \
    ROUND_HALF_UP,                                                                                                                         \
    {                                                                                                                                      \
        &platforms[C_8], &platforms[C_16], &platforms[C_WIDE]                                                                              \
    }
#define FAMILY_S3                                                                                                                          \
    ROUND_HALF_UP,                                                                                                                         \
    {                                                                                                                                      \
        &platforms[S3_8], &platforms[S3_16], &platforms[S3_WIDE]                                                                           \
    }
#define FAMILY_V2                                                                                                                          \
    ROUND_HALF_EVEN,                                                                                                                       \
    {                                                                                                                                      \
        &platforms[V2_8], &platforms[V2_16], &platforms[V2_WIDE]                                                                           \
    }

static const Target targets[] = {
    {"c", "any chip, kernels in plain C; weights per tensor, round half up", FAMILY_C},
    {"esp32", "ESP32, kernels in plain C", FAMILY_C},
    {"esp32s2", "ESP32-S2, kernels in plain C", FAMILY_C},
    {"esp32c2", "ESP32-C2, kernels in plain C", FAMILY_C},
    {"esp32c3", "ESP32-C3, kernels in plain C", FAMILY_C},
    {"esp32c5", "ESP32-C5, kernels in plain C", FAMILY_C},
    {"esp32c6", "ESP32-C6, kernels in plain C", FAMILY_C},
    {"esp32s3", "ESP32-S3, vector kernels; weights per tensor, round half up, 20-bit biases at 8 bits", FAMILY_S3},
    {"esp32p4", "ESP32-P4, vector kernels; weights per channel, round half to even", FAMILY_V2},
    {"esp32s31", "ESP32-S31, as the ESP32-P4", FAMILY_V2},
};
enum { TARGETS = sizeof targets / sizeof targets[0] };

const Target *target_at(int index)
{
    return index >= 0 && index < TARGETS ? &targets[index] : NULL;
}

const Target *target_find(const char *name)
{
    for (int i = 0; i < TARGETS; i++) {
        if (strcasecmp(targets[i].name, name) == 0) return &targets[i];
    }
    return NULL;
}

const char *target_nearest(const char *name)
{
    const char *names[TARGETS];
    for (int i = 0; i < TARGETS; i++)
        names[i] = targets[i].name;
    int nearest = text_nearest(name, names, TARGETS);
    return nearest < 0 ? NULL : names[nearest];
}

const Platform *platform_find(int id)
{
    static const Platform *const others[] = {&platform_float, &platform_shape, &platform_unspecified};
    for (int i = 0; i < PLATFORMS; i++) {
        if (platforms[i].id == id) return &platforms[i];
    }
    for (int i = 0; i < 3; i++) {
        if (others[i]->id == id) return others[i];
    }
    return NULL;
}

const Platform *target_platform(const Target *target, int bits, bool hi_precision)
{
    if (bits == 8) return target->platforms[0];
    if (bits == 16) return target->platforms[hi_precision ? 2 : 1];
    return NULL;
}
