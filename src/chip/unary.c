/* Functions of one element (CHIP §2.9). int8: a table of 256, the file's where it has one, else made of the formula here. int16: the
 * formula, element by element, or a table of all values where the tensor is large; Gelu and LUT: the file's nearest entry. */
#include "chip/unary.h"

#include <float.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "chip/rows.h"
#include "chip/types.h"
#include "kernel/lookup.h"

#define ALL_WORTH 8192 /* elements from which on a table of all int16 values pays in a few runs */

typedef struct UnaryKind UnaryKind;

typedef struct Unary {
    const UnaryKind *kind;
    Rounding rounding;
    int bits, step_bits;
    bool same_exponents;
    float alpha, beta;
    float in_scale, out_scale; /* 2^e_in, 2^-e_out */
    int low, high;             /* Clip of integers */
    float lowest, highest;     /* Clip of floats */
    bool bounds_vary;          /* Clip: they are no constants */
    const int8_t *table8;      /* of int8 */
    const int16_t *table16;    /* of Gelu and LUT; with step_bits */
    int8_t own8[256];
    int16_t *all; /* of every int16 value, behind this struct; NULL: not worth it */
} Unary;

struct UnaryKind {
    const char *type;
    float (*function)(const Unary *unary, float x);    /* of real values; NULL: tables only */
    int64_t (*integer)(const Unary *unary, int64_t q); /* NULL: round(function(q * 2^e_in) * 2^-e_out) */
    bool table8, table16;                              /* which widths look at the file's table */
    float alpha;                                       /* default of the attribute */
};

/* ---- formulas: one rounding for each operation that is written ---- */

static float sigmoid(float x)
{
    return (float)(1.0 / (1.0 + (double)espq_expf(-x)));
}
static float sigmoid_of(const Unary *unary, float x)
{
    (void)unary;
    return sigmoid(x);
}
static float tanh_of(const Unary *unary, float x)
{
    (void)unary;
    return 2.0f * sigmoid(2.0f * x) - 1.0f;
}
static float swish_of(const Unary *unary, float x)
{
    (void)unary;
    return sigmoid(x) * x;
}
static float hard_sigmoid_of(const Unary *unary, float x)
{
    float t = unary->alpha * x + unary->beta;
    t = t > 1.0f ? 1.0f : t;
    return t > 0.0f ? t : 0.0f;
}
static float hard_swish_of(const Unary *unary, float x)
{
    (void)unary;
    double t = 0.166667 * (double)x + 0.5;
    t = t > 1.0 ? 1.0 : t;
    return (float)((t > 0.0 ? t : 0.0) * (double)x);
}
static float elu_of(const Unary *unary, float x)
{
    return x >= 0.0f ? x : unary->alpha * (espq_expf(x) - 1.0f);
}
static float exp_of(const Unary *unary, float x)
{
    (void)unary;
    return espq_expf(x);
}
static float log_of(const Unary *unary, float x)
{
    (void)unary;
    return espq_logf(x);
}
static float sqrt_of(const Unary *unary, float x)
{
    (void)unary;
    return sqrtf(x);
}
static float leaky_relu_of(const Unary *unary, float x)
{
    return x >= 0.0f ? x : x * unary->alpha;
}
static float relu_of(const Unary *unary, float x)
{
    (void)unary;
    return x >= 0.0f ? x : 0.0f;
}
static float negative_of(const Unary *unary, float x)
{
    (void)unary;
    return -x;
}
static float clip_of(const Unary *unary, float x)
{
    return x < unary->lowest ? unary->lowest : x > unary->highest ? unary->highest : x;
}

/* The slope comes behind the rescaling. */
static int64_t leaky_relu_integer(const Unary *unary, int64_t q)
{
    float scaled = (float)q * unary->in_scale * unary->out_scale;
    return round_saturate(q >= 0 ? scaled : scaled * unary->alpha, unary->rounding, unary->bits);
}
static int64_t relu_integer(const Unary *unary, int64_t q)
{
    if (q < 0) return 0;
    return unary->same_exponents ? q : round_saturate((float)q * unary->in_scale * unary->out_scale, unary->rounding, unary->bits);
}
static int64_t negative_integer(const Unary *unary, int64_t q)
{
    return saturate(-q, unary->bits);
}
static int64_t clip_integer(const Unary *unary, int64_t q)
{
    q = q < unary->low ? unary->low : q > unary->high ? unary->high : q;
    return round_saturate((float)q * (unary->in_scale * unary->out_scale), unary->rounding, unary->bits);
}

static const UnaryKind kinds[] = {
    {"Relu", relu_of, relu_integer, true, false, 0},
    {"LeakyRelu", leaky_relu_of, leaky_relu_integer, true, false, 0.01f},
    {"Clip", clip_of, clip_integer, true, false, 0},
    {"Sigmoid", sigmoid_of, NULL, true, false, 0},
    {"Tanh", tanh_of, NULL, true, false, 0},
    {"HardSigmoid", hard_sigmoid_of, NULL, true, false, 0.2f},
    {"HardSwish", hard_swish_of, NULL, true, false, 0},
    {"Swish", swish_of, NULL, true, false, 0},
    {"Elu", elu_of, NULL, true, false, 1.0f},
    {"Exp", exp_of, NULL, true, false, 0},
    {"Log", log_of, NULL, true, false, 0},
    {"Sqrt", sqrt_of, NULL, true, false, 0},
    {"Gelu", NULL, NULL, true, true, 0},
    {"LUT", NULL, NULL, true, true, 0},
    {"Neg", negative_of, negative_integer, false, false, 0},
};

static const UnaryKind *kind_of(const char *type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].type, type) == 0) return &kinds[i];
    }
    return NULL;
}

static int64_t integer_of(const Unary *unary, int64_t q)
{
    if (unary->kind->integer) return unary->kind->integer(unary, q);
    float x = (float)q * unary->in_scale;
    return round_saturate(unary->kind->function(unary, x) * unary->out_scale, unary->rounding, unary->bits);
}

/* ---- runs ---- */

typedef struct Walk {
    const Unary *unary;
    const void *x;
    void *y;
} Walk;

ROW_INLINE void relu_block(const int16_t *x, int16_t *y, int length)
{
    int16_t result[ROW_BLOCK];
    for (int i = 0; i < length; i++)
        result[i] = x[i] > 0 ? x[i] : 0;
    memcpy(y, result, (size_t)length * sizeof *y);
}

/* The nearest entry is the code shifted with the chip's rounding. */
ROW_INLINE void nearest_block(const Unary *unary, const int16_t *x, int16_t *y, int length, Rounding rounding)
{
    int entries[ROW_BLOCK];
    const int16_t *table = unary->table16;
    int bits = unary->step_bits, half = (1 << (bits - 1)) + 32768;
    for (int i = 0; i < length; i++)
        entries[i] = rounding == ROUND_HALF_UP ? (x[i] + half) >> bits : (x[i] + half - 1 + ((x[i] + 32768) >> bits & 1)) >> bits;
    for (int i = 0; i < length; i++)
        y[i] = table[entries[i]];
}

static void walk_int16(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const Unary *unary = walk->unary;
    const int16_t *x = (const int16_t *)walk->x + begin;
    int16_t *y = (int16_t *)walk->y + begin;
    int64_t count = end - begin;
    if (unary->table16 && unary->step_bits) {
        if (unary->rounding == ROUND_HALF_UP)
            ROW_EACH(count, at, length, nearest_block(unary, x + at, y + at, length, ROUND_HALF_UP));
        else
            ROW_EACH(count, at, length, nearest_block(unary, x + at, y + at, length, ROUND_HALF_EVEN));
    } else if (unary->table16 || unary->all) {
        const int16_t *table = unary->table16 ? unary->table16 : unary->all;
        for (int64_t i = 0; i < count; i++)
            y[i] = table[x[i] + 32768];
    } else if (unary->kind->integer == relu_integer && unary->same_exponents) {
        ROW_EACH(count, at, length, relu_block(x + at, y + at, length));
    } else {
        for (int64_t i = 0; i < count; i++)
            y[i] = (int16_t)integer_of(unary, x[i]);
    }
}

static void walk_float(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Walk *walk = context;
    const float *x = walk->x;
    float *y = walk->y;
    for (int64_t i = begin; i < end; i++)
        y[i] = walk->unary->kind->function(walk->unary, x[i]);
}

static void unary_run(const ChipRun *run)
{
    const Unary *unary = run->node->state;
    int64_t count = end_count(&run->node->outputs[0]);
    Walk walk = {unary, run->inputs[0], run->outputs[0]};
    if (unary->bits == 8)
        lookup_int8(unary->table8, run->inputs[0], run->outputs[0], count);
    else
        threads_for(count, ROW_GRAIN / 8, unary->bits == 16 ? walk_int16 : walk_float, &walk);
}

/* Bounds that come at run time, or none at all: then a copy as of an assignment. */
static void clip_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Unary *prepared = node->state;
    const ChipEnd *from = &node->inputs[0], *to = &node->outputs[0];
    if (node->input_count < 2 && !prepared->table8) {
        const char *undefined = NULL;
        chip_assign(node->chip, from->dtype, from->exponent, run->inputs[0], to->dtype, to->exponent, run->outputs[0], end_count(to),
                    &undefined);
        return;
    }
    if (!prepared->bounds_vary) {
        unary_run(run);
        return;
    }
    Unary unary = *prepared;
    if (unary.bits == 32) {
        if (has_input(node, 1)) unary.lowest = *(const float *)run->inputs[1];
        if (has_input(node, 2)) unary.highest = *(const float *)run->inputs[2];
        walk_float(&(Walk){&unary, run->inputs[0], run->outputs[0]}, 0, end_count(to), 0);
        return;
    }
    if (has_input(node, 1)) unary.low = (int)read_integer(run->inputs[1], 0, unary.bits);
    if (has_input(node, 2)) unary.high = (int)read_integer(run->inputs[2], 0, unary.bits);
    for (int64_t i = 0; i < end_count(to); i++)
        write_integer(run->outputs[0], i, unary.bits, clip_integer(&unary, read_integer(run->inputs[0], i, unary.bits)));
}

/* ---- preparation ---- */

bool unary_table(const ChipNode *node, int *step_bits, Error *error)
{
    const Tensor *table = node->table;
    int64_t entries = tensor_count(table);
    *step_bits = 0;
    if (table->dtype != node_dtype(node))
        return refuse(node, error, "export the model again", "its table holds %s, its width asks for %s", dtype_name(table->dtype),
                      dtype_name(node_dtype(node)));
    if (node->bits == 8) {
        if (entries >= 256) return true;
        return refuse(node, error, "export the model again", "its table has %lld entries, not 256", (long long)entries);
    }
    if (entries == 65536) return true;
    while (*step_bits < 16 && (65536 >> *step_bits) + 1 != entries)
        ++*step_bits;
    if (*step_bits < 16) return true;
    return refuse(node, error, "export the model again with an int16_lut_step that is a power of two",
                  "its table has %lld entries; 65536 / step + 1 is meant, step a power of two", (long long)entries);
}

static void read_bounds(const ChipNode *node, Unary *unary)
{
    unary->low = node->bits == 8 ? INT8_MIN : INT16_MIN;
    unary->high = node->bits == 8 ? INT8_MAX : INT16_MAX;
    unary->lowest = chip_has(node->chip, TRAIT_CLIP_SMALLEST) ? FLT_MIN : -FLT_MAX;
    unary->highest = FLT_MAX;
    for (int i = 1; i < 3; i++) {
        if (!has_input(node, i)) continue;
        const Tensor *bound = node->inputs[i].constant;
        if (!bound) {
            unary->bounds_vary = true;
        } else if (node->bits == 32) {
            *(i == 1 ? &unary->lowest : &unary->highest) = *(const float *)(const void *)bound->data;
        } else {
            *(i == 1 ? &unary->low : &unary->high) = (int)read_integer(bound->data, 0, node->bits);
        }
    }
}

static bool bounds_fit(const ChipNode *node, Error *error)
{
    for (int i = 1; i < 3; i++) {
        if (!has_input(node, i)) continue;
        if (!needs_dtype(node, &node->inputs[i], node_dtype(node), error)) return false;
        if (end_count(&node->inputs[i]) < 1) return refuse(node, error, "export the model again", "bound %d is empty", i);
    }
    return true;
}

static void fill_all(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    Unary *unary = context;
    for (int64_t i = begin; i < end; i++)
        unary->all[i] = (int16_t)integer_of(unary, i - 32768);
}

static bool unary_prepare(ChipNode *node, Error *error)
{
    if (!needs_one_type(node, error)) return false;
    const UnaryKind *kind = kind_of(node->module->type);
    bool looks = node->table && (node->bits == 8 ? kind->table8 : node->bits == 16 && kind->table16);
    if (!kind->function && !looks)
        return refuse(node, error, "export the model again, in 8 or 16 bits", "%s needs a table, and there is none for its width",
                      kind->type);
    bool clips = kind->function == clip_of;
    if (clips && !looks && !bounds_fit(node, error)) return false;
    int step_bits = 0;
    if (looks && !unary_table(node, &step_bits, error)) return false;
    bool all = node->bits == 16 && !looks && kind->integer != relu_integer && end_count(&node->outputs[0]) > ALL_WORTH;
    size_t bytes = sizeof(Unary) + (all ? 65536 * sizeof(int16_t) : 0);
    Unary *unary = memory_new(bytes);
    if (!unary) return fail_memory(error, bytes);
    node->state = unary;
    int in = node->inputs[0].exponent, out = node->outputs[0].exponent;
    unary->kind = kind;
    unary->rounding = node->chip->rounding;
    unary->bits = node->bits;
    unary->step_bits = step_bits;
    unary->same_exponents = in == out;
    unary->alpha = node_number(node->node, "alpha", kind->alpha);
    unary->beta = node_number(node->node, "beta", 0.5f);
    unary->in_scale = scale_of(in);
    unary->out_scale = scale_of(-out);
    if (clips && !looks) read_bounds(node, unary);
    if (looks) {
        if (node->bits == 8)
            unary->table8 = (const int8_t *)node->table->data;
        else
            unary->table16 = (const int16_t *)(const void *)node->table->data;
        return true;
    }
    if (clips && (node->input_count < 2 || unary->bounds_vary)) return true;
    if (node->bits == 8) {
        for (int q = -128; q < 128; q++)
            unary->own8[q + 128] = (int8_t)integer_of(unary, q);
        unary->table8 = unary->own8;
    }
    if (all) {
        unary->all = (int16_t *)(void *)(unary + 1);
        threads_for(65536, 1024, fill_all, unary);
    }
    return true;
}

#define UNARY(name)                                                                                                                        \
    {                                                                                                                                      \
        .type = name, .in_place = IN_PLACE_CHANGED, .prepare = unary_prepare, .run = unary_run                                             \
    }

const ChipModule chip_unary_modules[] = {
    UNARY("Relu"),
    {.type = "PRelu", .in_place = IN_PLACE_CHANGED, .prepare = prelu_prepare, .run = prelu_run},
    UNARY("LeakyRelu"),
    {.type = "Clip", .in_place = IN_PLACE_CHANGED, .prepare = unary_prepare, .run = clip_run},
    UNARY("Sigmoid"),
    UNARY("Tanh"),
    UNARY("HardSigmoid"),
    UNARY("HardSwish"),
    UNARY("Swish"),
    UNARY("Elu"),
    UNARY("Exp"),
    UNARY("Log"),
    UNARY("Sqrt"),
    UNARY("Gelu"),
    UNARY("LUT"),
    UNARY("Neg"),
    {0},
};
