/* PRelu (CHIP §2.9): a table where the file has one, else a kernel with a slope a channel, of which each family has its own rounding. */
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "chip/rows.h"
#include "chip/types.h"
#include "chip/unary.h"
#include "kernel/lookup.h"

typedef struct PRelu {
    int bits;
    int64_t rows, channels, inner; /* element = (row * channels + channel) * inner + i; inner is 1 unless the defect C36 is mended */
    bool floors, wraps;            /* the negative side: cut downward; low bits kept instead of saturating */
    bool raw;                      /* the positive side keeps its integers */
    Rounding rounding;
    int shift, positive_shift, multiplier; /* negative: x * slope >> shift; positive: x * multiplier >> positive_shift */
    const int8_t *table;                   /* NULL: the kernel */
    const float *slopes_float;
    int slopes[]; /* of each channel, integers */
} PRelu;

static int64_t negative_side(const PRelu *prelu, int64_t product)
{
    int64_t value;
    if (prelu->floors && prelu->shift > 0)
        value = product >> (prelu->shift > 62 ? 62 : prelu->shift);
    else
        value = shift_and_round(product, prelu->shift, prelu->rounding, 32);
    if (prelu->wraps) return prelu->bits == 8 ? (int8_t)(uint8_t)value : (int16_t)(uint16_t)value;
    return saturate(value, prelu->bits);
}

static int64_t positive_side(const PRelu *prelu, int64_t x)
{
    if (prelu->raw) return x;
    return saturate(shift_and_round(x * prelu->multiplier, prelu->positive_shift, prelu->rounding, 32), prelu->bits);
}

typedef struct Walk {
    const PRelu *prelu;
    const void *x;
    void *y;
} Walk;

static void walk_rows(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const PRelu *prelu = walk->prelu;
    int64_t at = begin * prelu->channels * prelu->inner;
    for (int64_t row = begin; row < end; row++) {
        for (int64_t c = 0; c < prelu->channels; c++) {
            for (int64_t i = 0; i < prelu->inner; i++, at++) {
                int64_t x = read_integer(walk->x, at, prelu->bits);
                int64_t y = x < 0 ? negative_side(prelu, x * prelu->slopes[c]) : positive_side(prelu, x);
                write_integer(walk->y, at, prelu->bits, y);
            }
        }
    }
}

static void walk_float(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const PRelu *prelu = walk->prelu;
    const float *x = walk->x;
    float *y = walk->y;
    int64_t at = begin * prelu->channels * prelu->inner;
    for (int64_t row = begin; row < end; row++) {
        for (int64_t c = 0; c < prelu->channels; c++) {
            for (int64_t i = 0; i < prelu->inner; i++, at++)
                y[at] = x[at] >= 0.0f ? x[at] : x[at] * prelu->slopes_float[c];
        }
    }
}

void prelu_run(const ChipRun *run)
{
    const PRelu *prelu = run->node->state;
    if (prelu->table) {
        lookup_int8(prelu->table, run->inputs[0], run->outputs[0], end_count(&run->node->outputs[0]));
        return;
    }
    Walk walk = {prelu, run->inputs[0], run->outputs[0]};
    int64_t length = prelu->channels * prelu->inner;
    if (prelu->rows * length > 0) threads_for(prelu->rows, ROW_GRAIN / 4 / length + 1, prelu->bits == 32 ? walk_float : walk_rows, &walk);
}

static bool table_prepare(ChipNode *node, Error *error)
{
    int step_bits;
    if (!unary_table(node, &step_bits, error)) return false;
    PRelu *prelu = memory_new(sizeof *prelu);
    if (!prelu) return fail_memory(error, sizeof *prelu);
    prelu->table = (const int8_t *)node->table->data;
    node->state = prelu;
    return true;
}

/* The last axis holds the channels for the kernel, whatever the layout is (C36). */
static int channel_axis(const ChipNode *node, int64_t slopes)
{
    const int64_t *dims = node->inputs[0].shape.dims;
    if (chip_has(node->chip, TRAIT_PRELU_LAST_AXIS) || dims[3] == slopes || dims[1] != slopes) return 3;
    return 1;
}

/* int16: one slope for all where their number is not that of the channels. int8: the kernel reads on behind the slopes, where the file
 * has zeros up to 16 bytes and then anything. */
static int slope_of(const ChipNode *node, const Tensor *slopes, int64_t count, int64_t channels, int64_t channel)
{
    if (node->bits == 16) return ((const int16_t *)(const void *)slopes->data)[count == channels ? channel : 0];
    return channel < count ? ((const int8_t *)slopes->data)[channel] : 0;
}

static void set_shifts(const ChipNode *node, PRelu *prelu)
{
    const Chip *chip = node->chip;
    bool kernel8 = chip->vector_bytes && node->bits == 8, up = chip->rounding == ROUND_HALF_UP;
    int out = node->outputs[0].exponent, in = node->inputs[0].exponent, away = out - in;
    prelu->rounding = chip->rounding;
    prelu->floors = kernel8 ? chip_has(chip, TRAIT_PRELU_FLOOR_VECTOR) : chip_has(chip, TRAIT_PRELU_FLOOR);
    prelu->raw = !kernel8 && chip_has(chip, TRAIT_PRELU_POSITIVE_RAW);
    /* The vector instruction that multiplies and shifts keeps low bits; int8 half up goes through the accumulator instead. */
    prelu->wraps = chip->vector_bytes && chip_has(chip, TRAIT_PRELU_FLOOR) && (node->bits == 16) == up;
    prelu->shift = away - node->inputs[1].exponent;
    prelu->positive_shift = away > 0 ? away : 0;
    prelu->multiplier = 1;
    if (away < 0) {
        prelu->multiplier = away > -20 ? 1 << -away : 1 << 20;
        if (kernel8 && chip_has(chip, TRAIT_NARROW_MULTIPLIER)) prelu->multiplier = (int8_t)(uint8_t)(away > -8 ? prelu->multiplier : 0);
    }
}

bool prelu_prepare(ChipNode *node, Error *error)
{
    if (!needs_one_type(node, error)) return false;
    if (node->bits == 8 && node->table) return table_prepare(node, error);
    const Shape *shape = &node->inputs[0].shape;
    if (!has_input(node, 1) || !node->inputs[1].constant)
        return refuse(node, error, "make the slopes a constant",
                      "its slopes are no constant: the runtime reads them when it loads the model");
    const Tensor *slopes = node->inputs[1].constant;
    if (!needs_dtype(node, &node->inputs[1], node_dtype(node), error)) return false;
    if (shape->rank != 4 || slopes->shape.rank != 3)
        return refuse(node, error, "give it an image of 4 axes and slopes [C, 1, 1], or one slope at 8 bits (a table)",
                      "the kernel takes an input of 4 axes and slopes of 3, here they have %d and %d", shape->rank, slopes->shape.rank);
    int64_t count = tensor_count(slopes);
    int axis = channel_axis(node, count);
    int64_t channels = shape->dims[axis];
    if (count < 1 || (node->bits == 32 && count != 1 && count != channels))
        return refuse(node, error, "one slope, or one a channel", "%lld slopes for %lld channels", (long long)count, (long long)channels);
    size_t bytes = sizeof(PRelu) + (size_t)channels * (sizeof(int) + sizeof(float));
    PRelu *prelu = memory_new(bytes);
    if (!prelu) return fail_memory(error, bytes);
    node->state = prelu;
    prelu->bits = node->bits;
    prelu->channels = channels;
    prelu->inner = dims_product(shape, axis + 1, 4);
    prelu->rows = dims_product(shape, 0, axis);
    if (node->bits == 32) {
        float *values = (float *)(void *)(prelu->slopes + channels);
        for (int64_t c = 0; c < channels; c++)
            values[c] = tensor_floats(slopes)[count == 1 ? 0 : c];
        prelu->slopes_float = values;
        return true;
    }
    for (int64_t c = 0; c < channels; c++)
        prelu->slopes[c] = slope_of(node, slopes, count, channels, c);
    set_shifts(node, prelu);
    if (node->bits == 8 && channels > (count + 15) / 16 * 16)
        node->undefined = "C36: PRelu takes the last axis for channels and reads behind its slopes";
    if (prelu->shift < 0 && node->chip->vector_bytes && chip_has(node->chip, TRAIT_NO_NEGATIVE_SHIFT) && !prelu->floors)
        node->undefined = "C4: PRelu shifts by a negative count: its output is finer than its products";
    if (shape->dims[0] > 1 && chip_has(node->chip, TRAIT_FIRST_SAMPLE_ONLY))
        node->undefined = "C22: PRelu computes the first sample of a batch only";
    return true;
}
