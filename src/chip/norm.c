/* LayerNormalization, RMSNormalization and LpNormalization in the runtime's float32 steps (CHIP §2.17). */
#include <string.h>

#include "base/memory.h"
#include "chip/rows.h"
#include "chip/types.h"

typedef struct Norm {
    int64_t outer, length, inner; /* element = (outer * length + along) * inner + i; inner is 1 but for LpNormalization */
    float epsilon;
    int p;
    float in_scale, out_scale; /* 2^e_in, 2^-e_out; 1 of floats */
} Norm;

static Norm *norm_new(ChipNode *node, bool to_the_end, Error *error)
{
    if (!needs_one_type(node, error)) return NULL;
    const Shape *shape = &node->inputs[0].shape;
    int axis = 0;
    if (shape->rank && !needs_axis(node, node_integer(node->node, "axis", -1), shape->rank, &axis, error)) return NULL;
    Norm *norm = memory_new(sizeof *norm);
    if (!norm) {
        fail_memory(error, sizeof *norm);
        return NULL;
    }
    node->state = norm;
    bool floats = node->bits == 32;
    norm->outer = dims_product(shape, 0, axis);
    norm->length = to_the_end ? dims_product(shape, axis, shape->rank) : shape->rank ? shape->dims[axis] : 1;
    norm->inner = to_the_end ? 1 : dims_product(shape, axis + 1, shape->rank);
    norm->epsilon = node_number(node->node, "epsilon", 1e-5f);
    norm->in_scale = floats ? 1.0f : scale_of(node->inputs[0].exponent);
    norm->out_scale = floats ? 1.0f : scale_of(-node->outputs[0].exponent);
    return norm;
}

/* A parameter with an element for each of a slice. */
static bool needs_parameter(const ChipNode *node, int input, Dtype dtype, const char *what, Error *error)
{
    const Norm *norm = node->state;
    if (!needs_dtype(node, &node->inputs[input], dtype, error)) return false;
    if (end_count(&node->inputs[input]) >= norm->length) return true;
    return refuse(node, error, "give it the shape of the normalized axes",
                  "%s has %lld elements, a slice has %lld: the chip reads behind it", what, (long long)end_count(&node->inputs[input]),
                  (long long)norm->length);
}

static float read_value(const void *data, int64_t i, int bits, float scale)
{
    return bits == 32 ? ((const float *)data)[i] : (float)read_integer(data, i, bits) * scale;
}

static void write_value(const ChipNode *node, void *data, int64_t i, float value)
{
    if (node->bits == 32)
        ((float *)data)[i] = value;
    else
        write_integer(data, i, node->bits, round_saturate(value, node->chip->rounding, node->bits));
}

/* ---- LayerNormalization ---- */

static bool layer_infer(ChipNode *node, Error *error)
{
    if (!needs(node, 1, 1, error)) return false;
    Shape *shape = &node->outputs[0].shape;
    *shape = node->inputs[0].shape;
    int axis = 0;
    if (shape->rank && !needs_axis(node, node_integer(node->node, "axis", -1), shape->rank, &axis, error)) return false;
    for (int i = 1; i < node->output_count && i < 3; i++) {
        node->outputs[i].shape = *shape;
        for (int k = axis; k < shape->rank; k++)
            node->outputs[i].shape.dims[k] = 1;
    }
    return true;
}

static bool layer_prepare(ChipNode *node, Error *error)
{
    if (!norm_new(node, true, error)) return false;
    if (has_input(node, 1) && !needs_parameter(node, 1, node_dtype(node), "the scale", error)) return false;
    if (has_input(node, 2) && !needs_parameter(node, 2, node_dtype(node), "the bias", error)) return false;
    for (int i = 1; i < 3; i++) {
        if (has_output(node, i) && !needs_dtype(node, &node->outputs[i], node_dtype(node), error)) return false;
    }
    return true;
}

/* Mean and variance of a slice of integers, in real values: the sum is int32, the squares add up in float32. */
static void integer_moments(const ChipRun *run, int64_t first, float *mean, float *variance)
{
    const ChipNode *node = run->node;
    const Norm *norm = node->state;
    uint32_t sum = 0;
    for (int64_t i = 0; i < norm->length; i++)
        sum += (uint32_t)read_integer(run->inputs[0], first + i, node->bits);
    float middle = (float)((double)(int32_t)sum / (double)norm->length), squares = 0.0f;
    for (int64_t i = 0; i < norm->length; i++) {
        float away = (float)read_integer(run->inputs[0], first + i, node->bits) - middle;
        squares += away * away;
    }
    *mean = middle * norm->in_scale;
    *variance = squares * (norm->in_scale * norm->in_scale) / (float)norm->length;
}

static void float_moments(const float *x, int64_t length, float *mean, float *variance)
{
    float sum = 0.0f, squares = 0.0f;
    for (int64_t i = 0; i < length; i++)
        sum += x[i];
    *mean = sum / (float)length;
    for (int64_t i = 0; i < length; i++) {
        float away = x[i] - *mean;
        squares += away * away;
    }
    *variance = squares / (float)length;
}

static void layer_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Norm *norm = node->state;
    float out_scales[3], gain_scale = 1.0f, bias_scale = 1.0f;
    for (int i = 0; i < 3; i++)
        out_scales[i] = has_output(node, i) && node->bits != 32 ? scale_of(-node->outputs[i].exponent) : 1.0f;
    if (has_input(node, 1) && node->bits != 32) gain_scale = scale_of(node->inputs[1].exponent);
    if (has_input(node, 2) && node->bits != 32) bias_scale = scale_of(node->inputs[2].exponent);
    for (int64_t outer = 0; outer < norm->outer; outer++) {
        int64_t first = outer * norm->length;
        float mean, variance;
        if (node->bits == 32)
            float_moments((const float *)run->inputs[0] + first, norm->length, &mean, &variance);
        else
            integer_moments(run, first, &mean, &variance);
        float inverse = 1.0f / newton_sqrt(node->chip, variance + norm->epsilon);
        if (has_output(node, 1)) write_value(node, run->outputs[1], outer, mean * out_scales[1]);
        if (has_output(node, 2)) write_value(node, run->outputs[2], outer, inverse * out_scales[2]);
        for (int64_t i = 0; i < norm->length; i++) {
            float normalized = (read_value(run->inputs[0], first + i, node->bits, norm->in_scale) - mean) * inverse;
            float gain = has_input(node, 1) ? read_value(run->inputs[1], i, node->bits, gain_scale) : 1.0f;
            float bias = has_input(node, 2) ? read_value(run->inputs[2], i, node->bits, bias_scale) : 0.0f;
            float result = normalized * gain + bias;
            write_value(node, run->outputs[0], first + i, result * out_scales[0]);
        }
    }
}

/* ---- RMSNormalization ---- */

static bool rms_prepare(ChipNode *node, Error *error)
{
    return needs(node, 2, 1, error) && norm_new(node, true, error) && needs_parameter(node, 1, DTYPE_FLOAT32, "the scale", error);
}

/* Σ x² of integers: exact, as wide as the runtime's sum. */
static float sum_of_squares(const void *x, int64_t first, int64_t count, int64_t step, int bits)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t v = read_integer(x, first + i * step, bits);
        sum += (uint64_t)(v * v);
    }
    return bits == 8 ? (float)(int32_t)(uint32_t)sum : (float)(int64_t)sum;
}

static void rms_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Norm *norm = node->state;
    const float *gains = run->inputs[1];
    for (int64_t outer = 0; outer < norm->outer; outer++) {
        int64_t first = outer * norm->length;
        float squares = 0.0f;
        if (node->bits == 32) {
            const float *x = (const float *)run->inputs[0] + first;
            for (int64_t i = 0; i < norm->length; i++)
                squares += x[i] * x[i];
        } else {
            squares = sum_of_squares(run->inputs[0], first, norm->length, 1, node->bits) * (norm->in_scale * norm->in_scale);
        }
        float factor = 1.0f / sqrtf(squares / (float)norm->length + norm->epsilon);
        if (node->bits != 32) factor *= norm->in_scale * norm->out_scale;
        for (int64_t i = 0; i < norm->length; i++)
            write_value(node, run->outputs[0], first + i, read_value(run->inputs[0], first + i, node->bits, 1.0f) * factor * gains[i]);
    }
}

/* ---- LpNormalization ---- */

static bool lp_prepare(ChipNode *node, Error *error)
{
    Norm *norm = norm_new(node, false, error);
    if (!norm) return false;
    norm->p = (int)node_integer(node->node, "p", 2);
    return true;
}

/* Squares of floats that lie side by side add up four at a time. */
static float float_squares(const float *x, int64_t count, int64_t step)
{
    float sum = 0.0f;
    int64_t i = 0;
    for (; step == 1 && i + 3 < count; i += 4) {
        float a = x[i] * x[i], b = x[i + 1] * x[i + 1], c = x[i + 2] * x[i + 2], d = x[i + 3] * x[i + 3];
        sum += a + b + c + d;
    }
    for (; i < count; i++)
        sum += x[i * step] * x[i * step];
    return sum;
}

static float inverse_norm(const ChipNode *node, const Norm *norm, const void *x, int64_t first)
{
    float sum = 0.0f;
    if (norm->p == 1) {
        for (int64_t i = 0; i < norm->length; i++)
            sum += fabsf(read_value(x, first + i * norm->inner, node->bits, 1.0f));
        return sum > 0.0f ? 1.0f / sum : 0.0f;
    }
    sum = node->bits == 32 ? float_squares((const float *)x + first, norm->length, norm->inner)
                           : sum_of_squares(x, first, norm->length, norm->inner, node->bits);
    return sum > 0.0f ? 1.0f / sqrtf(sum) : 0.0f;
}

static void lp_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Norm *norm = node->state;
    if (node->inputs[0].shape.rank == 0) {
        write_value(node, run->outputs[0], 0, 0.0f);
        return;
    }
    for (int64_t outer = 0; outer < norm->outer; outer++) {
        for (int64_t k = 0; k < norm->inner; k++) {
            int64_t first = outer * norm->length * norm->inner + k;
            float factor = inverse_norm(node, norm, run->inputs[0], first) * norm->out_scale;
            for (int64_t i = 0; i < norm->length; i++) {
                int64_t at = first + i * norm->inner;
                write_value(node, run->outputs[0], at, factor > 0.0f ? read_value(run->inputs[0], at, node->bits, 1.0f) * factor : 0.0f);
            }
        }
    }
}

const ChipModule chip_norm_modules[] = {
    {.type = "LayerNormalization", .in_place = IN_PLACE_CHANGED, .infer = layer_infer, .prepare = layer_prepare, .run = layer_run},
    {.type = "RMSNormalization", .in_place = IN_PLACE_CHANGED, .prepare = rms_prepare, .run = rms_run},
    {.type = "LpNormalization", .in_place = IN_PLACE_CHANGED, .prepare = lp_prepare, .run = lp_run},
    {0},
};
