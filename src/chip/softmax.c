/* Softmax and LogSoftmax along one axis, to float32 (CHIP §2.15). Sums run along the axis in order; neighbours that share an axis position
 * are walked side by side, which changes no sum. */
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "chip/rows.h"
#include "chip/types.h"

typedef struct Softmax {
    bool logarithm;
    bool table;                   /* exponentials of int8 from a table, without the maximum off */
    int64_t outer, length, inner; /* element = (outer * length + along) * inner + i */
    float scale;                  /* 2^e_in */
    float exponentials[256];
} Softmax;

static bool softmax_prepare(ChipNode *node, Error *error)
{
    if (!needs(node, 1, 1, error) || !needs_dtype(node, &node->inputs[0], node_dtype(node), error) ||
        !needs_dtype(node, &node->outputs[0], DTYPE_FLOAT32, error))
        return false;
    const Shape *shape = &node->inputs[0].shape;
    int axis = 0;
    if (shape->rank && !needs_axis(node, node_integer(node->node, "axis", -1), shape->rank, &axis, error)) return false;
    Softmax *softmax = memory_new(sizeof *softmax);
    if (!softmax) return fail_memory(error, sizeof *softmax);
    node->state = softmax;
    softmax->logarithm = strcmp(node->module->type, "LogSoftmax") == 0;
    softmax->table = node->bits == 8 && chip_has(node->chip, TRAIT_SOFTMAX_NO_MAXIMUM);
    softmax->outer = dims_product(shape, 0, axis);
    softmax->length = shape->rank ? shape->dims[axis] : 1;
    softmax->inner = dims_product(shape, axis + 1, shape->rank);
    softmax->scale = scale_of(node->inputs[0].exponent);
    for (int i = 0; softmax->table && i < 256; i++)
        softmax->exponentials[i] = espq_expf(softmax->scale * (float)(i - 128));
    node->scratch_bytes = 2 * (size_t)softmax->inner * sizeof(float);
    return true;
}

static float element(const ChipNode *node, const Softmax *softmax, const void *x, int64_t i)
{
    return node->bits == 32 ? ((const float *)x)[i] : softmax->scale * (float)read_integer(x, i, node->bits);
}

/* Along the last axis: one sum, which stays in a register. */
static void row_by_table(const Softmax *softmax, const int8_t *x, float *y)
{
    const float *exponentials = softmax->exponentials + 128;
    float sum = 0.0f;
    for (int64_t i = 0; i < softmax->length; i++) {
        float e = exponentials[x[i]];
        y[i] = e;
        sum += e;
    }
    if (softmax->logarithm) sum = espq_logf(sum);
    for (int64_t i = 0; i < softmax->length; i++)
        y[i] = softmax->logarithm ? softmax->scale * (float)x[i] - sum : y[i] / sum;
}

/* Of int8: neither maximum nor formula. */
static void group_by_table(const Softmax *softmax, const int8_t *x, float *y, float *sums)
{
    const float *exponentials = softmax->exponentials + 128;
    int64_t inner = softmax->inner, length = softmax->length;
    for (int64_t i = 0; i < inner; i++)
        sums[i] = 0.0f;
    for (int64_t at = 0, along = 0; along < length; along++) {
        for (int64_t i = 0; i < inner; i++, at++) {
            float e = exponentials[x[at]];
            y[at] = e;
            sums[i] += e;
        }
    }
    if (softmax->logarithm) {
        for (int64_t i = 0; i < inner; i++)
            sums[i] = espq_logf(sums[i]);
    }
    for (int64_t at = 0, along = 0; along < length; along++) {
        for (int64_t i = 0; i < inner; i++, at++)
            y[at] = softmax->logarithm ? softmax->scale * (float)x[at] - sums[i] : y[at] / sums[i];
    }
}

static void group_by_formula(const ChipNode *node, const Softmax *softmax, const void *x, int64_t first, float *y, float *maxima,
                             float *sums)
{
    int64_t inner = softmax->inner, length = softmax->length;
    for (int64_t at = 0, along = 0; along < length; along++) {
        for (int64_t i = 0; i < inner; i++, at++) {
            float v = element(node, softmax, x, first + at);
            y[at] = v;
            if (along == 0 || v > maxima[i]) maxima[i] = v;
        }
    }
    for (int64_t i = 0; i < inner; i++)
        sums[i] = 0.0f;
    for (int64_t at = 0, along = 0; along < length; along++) {
        for (int64_t i = 0; i < inner; i++, at++) {
            float away = y[at] - maxima[i], e = espq_expf(away);
            y[at] = softmax->logarithm ? away : e;
            sums[i] += e;
        }
    }
    if (softmax->logarithm) {
        for (int64_t i = 0; i < inner; i++)
            sums[i] = espq_logf(sums[i]);
    }
    for (int64_t at = 0, along = 0; along < length; along++) {
        for (int64_t i = 0; i < inner; i++, at++)
            y[at] = softmax->logarithm ? y[at] - sums[i] : y[at] / sums[i];
    }
}

static void softmax_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Softmax *softmax = node->state;
    float *y = run->outputs[0], *sums = run->scratch, *maxima = sums + softmax->inner;
    if (node->inputs[0].shape.rank == 0) {
        *y = softmax->logarithm ? 0.0f : 1.0f;
        return;
    }
    int64_t group = softmax->length * softmax->inner;
    for (int64_t outer = 0; outer < softmax->outer; outer++) {
        const int8_t *x = (const int8_t *)run->inputs[0] + outer * group;
        if (softmax->table && softmax->inner == 1)
            row_by_table(softmax, x, y + outer * group);
        else if (softmax->table)
            group_by_table(softmax, x, y + outer * group, sums);
        else
            group_by_formula(node, softmax, run->inputs[0], outer * group, y + outer * group, maxima, sums);
    }
}

const ChipModule chip_softmax_modules[] = {
    {.type = "Softmax", .in_place = IN_PLACE_NONE, .prepare = softmax_prepare, .run = softmax_run},
    {.type = "LogSoftmax", .in_place = IN_PLACE_NONE, .prepare = softmax_prepare, .run = softmax_run},
    {0},
};
