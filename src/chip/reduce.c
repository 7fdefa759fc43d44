/* The ten reductions (CHIP §2.16). Axes are merged to at most four groups, kept and reduced in turn; the elements of one result are taken
 * from outer to inner, ascending. Where the innermost axis is kept, its results add up side by side, which changes no order. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "chip/rows.h"
#include "chip/types.h"

#define GROUPS 4

typedef struct Reduce Reduce;
typedef struct ReduceKind ReduceKind;

/* Takes x[first + i * step], i in [0, count), into total i (lanes: step is 1) or all into one total. */
typedef void (*ReduceRow)(const Reduce *reduce, const void *x, int64_t first, int64_t step, int64_t count, void *totals, bool lanes);

typedef enum { TOTAL_INT32, TOTAL_INT64, TOTAL_FLOAT, TOTAL_DOUBLE } TotalType;

typedef struct Total { /* of which one field is filled in */
    int64_t whole;
    double real; /* a float is exact in it */
} Total;

typedef struct Run {
    int64_t count, stride;
} Run;

struct Reduce {
    const ReduceKind *kind;
    ReduceRow row;
    TotalType total;
    Run kept[2], reduced[2]; /* 0: the outer group, 1: the inner one */
    int64_t count;           /* of elements in one result */
    float in_scale;          /* 2^e_in */
    float exponentials[256]; /* LogSumExp of int8 */
};

struct ReduceKind {
    const char *type;
    ReduceRow rows[3]; /* int8, int16, float32 */
    TotalType totals[3];
    double start; /* of the totals; -INFINITY and INFINITY: the lowest and the highest of the type */
    bool squares; /* the integer sum has twice the input's exponent */
    int64_t (*whole)(const ChipNode *node, const Reduce *reduce, int64_t total); /* the result of an integer total, NULL: by `real` */
    float (*real)(const ChipNode *node, const Reduce *reduce, float total);      /* of a real total: the result as a real value */
};

/* ---- rows ---- */

/* `expression` makes the new total from T x and TOTAL total. */
#define REDUCE_ROW(name, T, TOTAL, expression)                                                                                             \
    ROW_INLINE void name##_block(const Reduce *reduce, const T *restrict values, TOTAL *restrict totals, int length)                       \
    {                                                                                                                                      \
        (void)reduce;                                                                                                                      \
        for (int i = 0; i < length; i++) {                                                                                                 \
            const T x = values[i];                                                                                                         \
            const TOTAL total = totals[i];                                                                                                 \
            totals[i] = (TOTAL)(expression);                                                                                               \
        }                                                                                                                                  \
    }                                                                                                                                      \
    static void name(const Reduce *reduce, const void *data, int64_t first, int64_t step, int64_t count, void *totals_data, bool lanes)    \
    {                                                                                                                                      \
        (void)reduce;                                                                                                                      \
        const T *values = (const T *)data + first;                                                                                         \
        TOTAL *totals = totals_data;                                                                                                       \
        if (lanes) {                                                                                                                       \
            ROW_EACH(count, at, length, name##_block(reduce, values + at, totals + at, length));                                           \
            return;                                                                                                                        \
        }                                                                                                                                  \
        TOTAL total = *totals;                                                                                                             \
        for (int64_t i = 0; i < count; i++) {                                                                                              \
            const T x = values[i * step];                                                                                                  \
            total = (TOTAL)(expression);                                                                                                   \
        }                                                                                                                                  \
        *totals = total;                                                                                                                   \
    }

/* Sums of int8 wrap in 32 bits: unsigned arithmetic does. */
REDUCE_ROW(sum_int8, int8_t, uint32_t, total + (uint32_t)x)
REDUCE_ROW(sum_int16, int16_t, int64_t, total + x)
REDUCE_ROW(sum_float, float, float, total + x)
REDUCE_ROW(absolute_int8, int8_t, uint32_t, total + (uint32_t)(x < 0 ? -x : x))
REDUCE_ROW(absolute_int16, int16_t, int64_t, total + (x < 0 ? -x : x))
REDUCE_ROW(absolute_float, float, float, total + fabsf(x))
REDUCE_ROW(square_int8, int8_t, uint32_t, total + (uint32_t)(x * x))
REDUCE_ROW(square_int16, int16_t, int64_t, total + x * x)
REDUCE_ROW(square_float, float, float, total + x * x)
REDUCE_ROW(maximum_int8, int8_t, int32_t, x > total ? x : total)
REDUCE_ROW(maximum_int16, int16_t, int32_t, x > total ? x : total)
REDUCE_ROW(maximum_float, float, float, x > total ? x : total)
REDUCE_ROW(minimum_int8, int8_t, int32_t, x < total ? x : total)
REDUCE_ROW(minimum_int16, int16_t, int32_t, x < total ? x : total)
REDUCE_ROW(minimum_float, float, float, x < total ? x : total)
REDUCE_ROW(product_int8, int8_t, float, total *((float)x * reduce->in_scale))
REDUCE_ROW(product_int16, int16_t, double, total *(double)((float)x * reduce->in_scale))
REDUCE_ROW(product_float, float, float, total *x)
REDUCE_ROW(exponential_int8, int8_t, float, total + reduce->exponentials[x + 128])
REDUCE_ROW(exponential_int16, int16_t, float, total + espq_expf((float)x * reduce->in_scale))
REDUCE_ROW(exponential_float, float, float, total + espq_expf(x))

/* ---- results ---- */

static int64_t as_it_is(const ChipNode *node, const Reduce *reduce, int64_t total)
{
    (void)node;
    (void)reduce;
    return total;
}

static int64_t shifted(const ChipNode *node, const Reduce *reduce, int64_t total)
{
    int shift = node->outputs[0].exponent - node->inputs[0].exponent * (reduce->kind->squares ? 2 : 1);
    return saturate(shift_and_round(total, shift, node->chip->rounding, node->bits == 8 ? 32 : 48), node->bits);
}

static float same(const ChipNode *node, const Reduce *reduce, float total)
{
    (void)node;
    (void)reduce;
    return total;
}
static float mean(const ChipNode *node, const Reduce *reduce, float total)
{
    (void)node;
    return total / (float)reduce->count;
}
static float root(const ChipNode *node, const Reduce *reduce, float total)
{
    (void)reduce;
    return newton_sqrt(node->chip, total);
}
static float logarithm(const ChipNode *node, const Reduce *reduce, float total)
{
    (void)node;
    (void)reduce;
    return espq_logf(total);
}

#define EXACT                                                                                                                              \
    {                                                                                                                                      \
        TOTAL_INT32, TOTAL_INT64, TOTAL_FLOAT                                                                                              \
    }
#define REAL                                                                                                                               \
    {                                                                                                                                      \
        TOTAL_FLOAT, TOTAL_FLOAT, TOTAL_FLOAT                                                                                              \
    }

static const ReduceKind kinds[] = {
    {"ReduceSum", {sum_int8, sum_int16, sum_float}, EXACT, 0, false, shifted, same},
    {"ReduceL1", {absolute_int8, absolute_int16, absolute_float}, EXACT, 0, false, shifted, same},
    {"ReduceSumSquare", {square_int8, square_int16, square_float}, EXACT, 0, true, shifted, same},
    {"ReduceMax", {maximum_int8, maximum_int16, maximum_float}, {TOTAL_INT32, TOTAL_INT32, TOTAL_FLOAT}, -INFINITY, false, as_it_is, same},
    {"ReduceMin", {minimum_int8, minimum_int16, minimum_float}, {TOTAL_INT32, TOTAL_INT32, TOTAL_FLOAT}, INFINITY, false, as_it_is, same},
    {"ReduceMean", {sum_int8, sum_int16, sum_float}, EXACT, 0, false, NULL, mean},
    {"ReduceL2", {square_int8, square_int16, square_float}, EXACT, 0, true, NULL, root},
    {"ReduceLogSum", {sum_int8, sum_int16, sum_float}, EXACT, 0, false, NULL, logarithm},
    {"ReduceLogSumExp", {exponential_int8, exponential_int16, exponential_float}, REAL, 0, false, NULL, logarithm},
    {"ReduceProd", {product_int8, product_int16, product_float}, {TOTAL_FLOAT, TOTAL_DOUBLE, TOTAL_FLOAT}, 1, false, NULL, same},
};

static Total read_total(TotalType type, const void *totals, int64_t i)
{
    switch (type) {
    case TOTAL_INT32: return (Total){.whole = ((const int32_t *)totals)[i]};
    case TOTAL_INT64: return (Total){.whole = ((const int64_t *)totals)[i]};
    case TOTAL_FLOAT: return (Total){.real = (double)((const float *)totals)[i]};
    case TOTAL_DOUBLE: return (Total){.real = ((const double *)totals)[i]};
    }
    return (Total){0};
}

static void start_total(const ChipNode *node, const Reduce *reduce, void *totals, int64_t i)
{
    double start = reduce->kind->start;
    if (isinf(start))
        start = node->bits == 32 ? copysign((double)FLT_MAX, start) : copysign(ldexp(1.0, node->bits - 1), start) - (start > 0);
    switch (reduce->total) {
    case TOTAL_INT32: ((int32_t *)totals)[i] = (int32_t)start; break;
    case TOTAL_INT64: ((int64_t *)totals)[i] = (int64_t)start; break;
    case TOTAL_FLOAT: ((float *)totals)[i] = (float)start; break;
    case TOTAL_DOUBLE: ((double *)totals)[i] = start; break;
    }
}

static void finish(const ChipNode *node, const Reduce *reduce, const void *totals, int64_t i, void *out, int64_t at)
{
    const ReduceKind *kind = reduce->kind;
    Total total = read_total(reduce->total, totals, i);
    if (node->bits == 32) {
        ((float *)out)[at] = kind->real(node, reduce, (float)total.real);
        return;
    }
    bool exact = reduce->total == TOTAL_INT32 || reduce->total == TOTAL_INT64;
    Rounding rounding = node->chip->rounding;
    float out_scale = scale_of(-node->outputs[0].exponent);
    int64_t result;
    if (kind->whole) {
        result = kind->whole(node, reduce, total.whole);
    } else if (reduce->total == TOTAL_DOUBLE) {
        result = round_double_saturate(total.real * (double)out_scale, rounding, node->bits);
    } else {
        float scale = kind->squares ? scale_of(2 * node->inputs[0].exponent) : reduce->in_scale;
        float value = exact ? (float)total.whole * scale : (float)total.real;
        result = round_saturate(kind->real(node, reduce, value) * out_scale, rounding, node->bits);
    }
    write_integer(out, at, node->bits, result);
}

static void reduce_run(const ChipRun *run)
{
    const ChipNode *node = run->node;
    const Reduce *reduce = node->state;
    const Run *outer = &reduce->reduced[0], *inner = &reduce->reduced[1], *kept = &reduce->kept[1];
    bool lanes = kept->stride == 1;
    for (int64_t a = 0; a < reduce->kept[0].count; a++) {
        int64_t first = a * reduce->kept[0].stride, at = a * kept->count;
        for (int64_t b = 0; b < kept->count; b += lanes ? kept->count : 1) {
            int64_t count = lanes ? kept->count : 1;
            for (int64_t i = 0; i < count; i++)
                start_total(node, reduce, run->scratch, i);
            for (int64_t r = 0; r < outer->count; r++) {
                int64_t from = first + b * kept->stride + r * outer->stride;
                for (int64_t q = 0; lanes && q < inner->count; q++)
                    reduce->row(reduce, run->inputs[0], from + q * inner->stride, 1, count, run->scratch, true);
                if (!lanes) reduce->row(reduce, run->inputs[0], from, inner->stride, inner->count, run->scratch, false);
            }
            for (int64_t i = 0; i < count; i++)
                finish(node, reduce, run->scratch, i, run->outputs[0], at + b + i);
        }
    }
}

/* ---- preparation ---- */

static bool read_axes(const ChipNode *node, bool reduced[ESPQ_MAX_RANK], Error *error)
{
    int rank = node->inputs[0].shape.rank, count = 0;
    int64_t axes[ESPQ_MAX_RANK];
    for (int axis = 0; axis < rank; axis++)
        reduced[axis] = false;
    if (has_input(node, 1) && !needs_numbers(node, 1, axes, ESPQ_MAX_RANK, &count, error)) return false;
    for (int i = 0; i < count; i++) {
        int axis;
        if (!needs_axis(node, axes[i], rank, &axis, error)) return false;
        reduced[axis] = true;
    }
    for (int axis = 0; count == 0 && axis < rank; axis++)
        reduced[axis] = !node_integer(node->node, "noop_with_empty_axes", 0);
    return true;
}

static bool reduce_infer(ChipNode *node, Error *error)
{
    bool reduced[ESPQ_MAX_RANK];
    if (!needs(node, 1, 1, error) || !read_axes(node, reduced, error)) return false;
    const Shape *in = &node->inputs[0].shape;
    Shape *out = &node->outputs[0].shape;
    bool keeps = node_integer(node->node, "keepdims", 1) != 0;
    out->rank = 0;
    for (int axis = 0; axis < in->rank; axis++) {
        if (keeps || !reduced[axis]) out->dims[out->rank++] = reduced[axis] ? 1 : in->dims[axis];
    }
    if (out->rank == 0) out->dims[out->rank++] = 1;
    return true;
}

/* Neighbours that are both kept or both reduced become one group. */
static bool group_axes(const ChipNode *node, Reduce *reduce, Error *error)
{
    bool reduced[ESPQ_MAX_RANK], flags[ESPQ_MAX_RANK];
    int64_t dims[ESPQ_MAX_RANK];
    const Shape *shape = &node->inputs[0].shape;
    if (!read_axes(node, reduced, error)) return false;
    int groups = 0, of_reduced = 0;
    for (int axis = 0; axis < shape->rank; axis++) {
        if (groups == 0 || flags[groups - 1] != reduced[axis]) {
            flags[groups] = reduced[axis];
            dims[groups++] = 1;
            of_reduced += reduced[axis];
        }
        dims[groups - 1] *= shape->dims[axis];
    }
    if (groups > GROUPS)
        return refuse(node, error, "reshape, so that reduced and kept axes take turns less often",
                      "kept and reduced axes make %d groups; the chip has loops for %d", groups, GROUPS);
    if (of_reduced == 0) return refuse(node, error, "leave the node out", "it reduces no axis: the chip would reduce all, to one element");
    for (int i = 0; i < 2; i++)
        reduce->kept[i] = reduce->reduced[i] = (Run){1, 0};
    int64_t stride = 1;
    int kept_at = 1, reduced_at = 1;
    for (int group = groups - 1; group >= 0; group--) {
        Run run = {dims[group], stride};
        if (flags[group])
            reduce->reduced[reduced_at--] = run;
        else
            reduce->kept[kept_at--] = run;
        stride *= dims[group];
    }
    reduce->count = reduce->reduced[0].count * reduce->reduced[1].count;
    return true;
}

static bool reduce_prepare(ChipNode *node, Error *error)
{
    if (!needs_one_type(node, error)) return false;
    Reduce *reduce = memory_new(sizeof *reduce);
    if (!reduce) return fail_memory(error, sizeof *reduce);
    node->state = reduce;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i].type, node->module->type) == 0) reduce->kind = &kinds[i];
    }
    int width = node->bits == 8 ? 0 : node->bits == 16 ? 1 : 2;
    reduce->row = reduce->kind->rows[width];
    reduce->total = reduce->kind->totals[width];
    reduce->in_scale = node->bits == 32 ? 1.0f : scale_of(node->inputs[0].exponent);
    if (reduce->row == exponential_int8) {
        for (int i = 0; i < 256; i++)
            reduce->exponentials[i] = espq_expf(reduce->in_scale * (float)(i - 128));
    }
    if (node->bits != 32 && strcmp(reduce->kind->type, "ReduceL2") == 0 && abs(2 * node->inputs[0].exponent) > 30)
        node->undefined = "C14: ReduceL2 doubles the exponent of its input, and the chip's shift ends at 30";
    if (!group_axes(node, reduce, error)) return false;
    node->scratch_bytes = (size_t)(reduce->kept[1].stride == 1 ? reduce->kept[1].count : 1) * sizeof(int64_t);
    return true;
}

#define REDUCE(name)                                                                                                                       \
    {                                                                                                                                      \
        .type = name, .in_place = IN_PLACE_CHANGED, .infer = reduce_infer, .prepare = reduce_prepare, .run = reduce_run                    \
    }

const ChipModule chip_reduce_modules[] = {
    REDUCE("ReduceSum"),
    REDUCE("ReduceL1"),
    REDUCE("ReduceSumSquare"),
    REDUCE("ReduceMax"),
    REDUCE("ReduceMin"),
    REDUCE("ReduceMean"),
    REDUCE("ReduceLogSum"),
    REDUCE("ReduceL2"),
    REDUCE("ReduceProd"),
    REDUCE("ReduceLogSumExp"),
    {0},
};
