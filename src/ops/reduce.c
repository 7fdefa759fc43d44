/* The ten reductions. Sums are made in float64 in one fixed order, whatever the number of threads, and rounded once; the axes come as
 * input (opset 13 or 18 on) or as attribute. Integers are reduced in int64. */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/threads.h"
#include "ops/elementwise.h"
#include "ops/rows.h"

typedef enum { REDUCE_SUM, REDUCE_ABS, REDUCE_SQUARE, REDUCE_PRODUCT, REDUCE_MAX, REDUCE_MIN, REDUCE_EXP } Accumulation;
typedef enum { FINISH_NOTHING, FINISH_MEAN, FINISH_ROOT, FINISH_LOG } Finish;

typedef struct Reduction {
    Accumulation accumulation;
    Finish finish;
} Reduction;

/* ---- shapes ---- */

static bool reduced_axes(const Node *node, const Shape *shape, bool *reduced, Error *error)
{
    int axes[ESPQ_MAX_RANK], count;
    if (!input_or_attribute_axes(node, 1, shape->rank, axes, &count, error)) return false;
    bool all = count <= 0 && node_integer(node, "noop_with_empty_axes", 0) == 0;
    for (int i = 0; i < shape->rank; i++)
        reduced[i] = all;
    for (int i = 0; i < count; i++)
        reduced[axes[i]] = true;
    return true;
}

static bool reduce_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape, to = {0};
    bool reduced[ESPQ_MAX_RANK], keep = node_integer(node, "keepdims", 1) != 0;
    if (!input_shape(node, 0, &shape, error) || !reduced_axes(node, &shape, reduced, error)) return false;
    for (int i = 0; i < shape.rank; i++) {
        if (!reduced[i]) {
            to.dims[to.rank++] = shape.dims[i];
        } else if (keep) {
            to.dims[to.rank++] = 1;
        }
    }
    set_output(node, 0, node->inputs[0]->dtype, &to);
    return true;
}

/* ---- the walk: kept dimensions outside, reduced ones inside ---- */

typedef struct Axes {
    int rank;
    int64_t dims[ESPQ_MAX_RANK], strides[ESPQ_MAX_RANK];
    int64_t count;
} Axes;

static void axes_add(Axes *axes, int64_t dim, int64_t stride)
{
    if (axes->rank == 0) axes->count = 1;
    axes->count *= dim;
    if (axes->rank && axes->strides[axes->rank - 1] == stride * dim) {
        axes->dims[axes->rank - 1] *= dim;
        axes->strides[axes->rank - 1] = stride;
        return;
    }
    axes->dims[axes->rank] = dim;
    axes->strides[axes->rank++] = stride;
}

static int64_t axes_offset(const Axes *axes, int64_t flat)
{
    int64_t offset = 0;
    for (int i = axes->rank - 1; i >= 0; i--) {
        offset += flat % axes->dims[i] * axes->strides[i];
        flat /= axes->dims[i];
    }
    return offset;
}

typedef struct Reduce {
    Reduction what;
    const Tensor *x;
    Tensor *y;
    Axes kept, reduced; /* the reduced ones' last is a run of elements `run_step` apart */
} Reduce;

/* ---- float ---- */

static double neutral(Accumulation accumulation)
{
    switch (accumulation) {
    case REDUCE_PRODUCT: return 1;
    case REDUCE_MAX: return -INFINITY;
    case REDUCE_MIN: return INFINITY;
    default: return 0;
    }
}

static double larger(double a, double b)
{
    return a > b || a != a ? a : b;
} /* NaN wins */
static double smaller(double a, double b)
{
    return a < b || a != a ? a : b;
}

/* One run of elements joined to `sum`. Neighbours are added in eight lanes (element i in lane i mod 8), the lanes in one order: the
 * sums do not wait for each other, and the order is the same on every machine. */
#define LANES 8
#define JOIN(one, both)                                                                                                                    \
    do {                                                                                                                                   \
        int64_t i = 0;                                                                                                                     \
        if (step == 1 && count >= 2 * LANES) {                                                                                             \
            double lanes[LANES];                                                                                                           \
            for (int k = 0; k < LANES; k++)                                                                                                \
                lanes[k] = neutral(accumulation);                                                                                          \
            for (; i + LANES <= count; i += LANES) {                                                                                       \
                for (int k = 0; k < LANES; k++) {                                                                                          \
                    const double a = lanes[k], v = (double)x[i + k];                                                                       \
                    lanes[k] = (one);                                                                                                      \
                }                                                                                                                          \
            }                                                                                                                              \
            for (int k = 0; k < LANES; k++) {                                                                                              \
                const double a = sum, v = lanes[k];                                                                                        \
                sum = (both);                                                                                                              \
            }                                                                                                                              \
        }                                                                                                                                  \
        for (; i < count; i++) {                                                                                                           \
            const double a = sum, v = (double)x[i * step];                                                                                 \
            sum = (one);                                                                                                                   \
        }                                                                                                                                  \
    } while (0)

static double join(Accumulation accumulation, const float *x, int64_t step, int64_t count, double sum)
{
    switch (accumulation) {
    case REDUCE_SUM: JOIN(a + v, a + v); break;
    case REDUCE_ABS: JOIN(a + fabs(v), a + v); break;
    case REDUCE_SQUARE: JOIN(a + v * v, a + v); break;
    case REDUCE_PRODUCT: JOIN(a * v, a * v); break;
    case REDUCE_MAX: JOIN(larger(a, v), larger(a, v)); break;
    case REDUCE_MIN: JOIN(smaller(a, v), smaller(a, v)); break;
    case REDUCE_EXP: break; /* in log_sum_exp: it needs the largest element first */
    }
    return sum;
}

static double reduce_all(const Reduce *reduce, Accumulation accumulation, const float *x)
{
    const Axes *axes = &reduce->reduced;
    double sum = neutral(accumulation);
    if (axes->rank == 0) return join(accumulation, x, 1, 1, sum);
    int64_t length = axes->dims[axes->rank - 1], step = axes->strides[axes->rank - 1];
    for (int64_t run = 0; run < axes->count / (length ? length : 1); run++) {
        sum = join(accumulation, x + axes_offset(axes, run * length), step, length, sum);
    }
    return sum;
}

static double log_sum_exp(const Reduce *reduce, const float *x)
{
    const Axes *axes = &reduce->reduced;
    double most = reduce_all(reduce, REDUCE_MAX, x), sum = 0;
    if (!isfinite(most)) return most;
    int64_t count = axes->rank ? axes->count : 1;
    for (int64_t i = 0; i < count; i++)
        sum += espq_exp((double)x[axes_offset(axes, i)] - most);
    return most + espq_log(sum);
}

static double finished(Finish finish, double sum, int64_t count)
{
    switch (finish) {
    case FINISH_MEAN: return sum / (double)count;
    case FINISH_ROOT: return sqrt(sum);
    case FINISH_LOG: return espq_log(sum);
    case FINISH_NOTHING: break;
    }
    return sum;
}

static void reduce_floats(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Reduce *reduce = context;
    int64_t count = reduce->reduced.rank ? reduce->reduced.count : 1;
    for (int64_t i = begin; i < end; i++) {
        const float *x = tensor_floats(reduce->x) + axes_offset(&reduce->kept, i);
        double result = reduce->what.accumulation == REDUCE_EXP
                            ? log_sum_exp(reduce, x)
                            : finished(reduce->what.finish, reduce_all(reduce, reduce->what.accumulation, x), count);
        tensor_floats(reduce->y)[i] = (float)result;
    }
}

/* Where neighbours in memory are kept, a block of columns is reduced at once, each in the order of its elements. */
#define COLUMNS_AT_ONCE 128
#define ADD_COLUMNS(expression)                                                                                                            \
    for (int64_t i = 0; i < width; i++) {                                                                                                  \
        const double v = (double)x[i];                                                                                                     \
        sums[i] = (expression);                                                                                                            \
    }                                                                                                                                      \
    break

static void reduce_columns(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Reduce *reduce = context;
    double sums[COLUMNS_AT_ONCE];
    int64_t columns = reduce->kept.dims[reduce->kept.rank - 1], count = reduce->reduced.count, width;
    for (int64_t at = begin; at < end; at += width) {
        width = columns - at % columns; /* up to the end of this row of columns */
        if (width > end - at) width = end - at;
        if (width > COLUMNS_AT_ONCE) width = COLUMNS_AT_ONCE;
        const float *first = tensor_floats(reduce->x) + axes_offset(&reduce->kept, at);
        for (int64_t i = 0; i < width; i++)
            sums[i] = neutral(reduce->what.accumulation);
        for (int64_t row = 0; row < count; row++) {
            const float *x = first + axes_offset(&reduce->reduced, row);
            switch (reduce->what.accumulation) {
            case REDUCE_SUM: ADD_COLUMNS(sums[i] + v);
            case REDUCE_ABS: ADD_COLUMNS(sums[i] + fabs(v));
            case REDUCE_SQUARE: ADD_COLUMNS(sums[i] + v * v);
            case REDUCE_PRODUCT: ADD_COLUMNS(sums[i] * v);
            case REDUCE_MAX: ADD_COLUMNS(larger(sums[i], v));
            case REDUCE_MIN: ADD_COLUMNS(smaller(sums[i], v));
            case REDUCE_EXP: break;
            }
        }
        for (int64_t i = 0; i < width; i++)
            tensor_floats(reduce->y)[at + i] = (float)finished(reduce->what.finish, sums[i], count);
    }
}

/* ---- every other dtype, element by element ---- */

static void reduce_integers(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Reduce *reduce = context;
    int64_t count = reduce->reduced.rank ? reduce->reduced.count : 1;
    for (int64_t i = begin; i < end; i++) {
        int64_t start = axes_offset(&reduce->kept, i), v;
        uint64_t sum = reduce->what.accumulation == REDUCE_PRODUCT;
        double exponentials = 0;
        for (int64_t k = 0; k < count; k++) {
            load_integers(reduce->x, start + axes_offset(&reduce->reduced, k), 1, 1, &v);
            switch (reduce->what.accumulation) {
            case REDUCE_SUM: sum += (uint64_t)v; break;
            case REDUCE_ABS: sum += v < 0 ? 0 - (uint64_t)v : (uint64_t)v; break;
            case REDUCE_SQUARE: sum += (uint64_t)v * (uint64_t)v; break;
            case REDUCE_PRODUCT: sum *= (uint64_t)v; break;
            case REDUCE_MAX: sum = k == 0 || v > (int64_t)sum ? (uint64_t)v : sum; break;
            case REDUCE_MIN: sum = k == 0 || v < (int64_t)sum ? (uint64_t)v : sum; break;
            case REDUCE_EXP: exponentials += espq_exp((double)v); break;
            }
        }
        int64_t result = (int64_t)sum;
        if (reduce->what.finish == FINISH_MEAN) result = count ? result / count : 0;
        if (reduce->what.finish == FINISH_ROOT || reduce->what.finish == FINISH_LOG) {
            double wide = reduce->what.accumulation == REDUCE_EXP ? exponentials : (double)result;
            wide = finished(reduce->what.finish, wide, count);
            store_doubles(reduce->y, i, 1, &wide);
        } else {
            store_integers(reduce->y, i, 1, &result);
        }
    }
}

static void reduce_doubles(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Reduce *reduce = context;
    int64_t count = reduce->reduced.rank ? reduce->reduced.count : 1;
    for (int64_t i = begin; i < end; i++) {
        int64_t start = axes_offset(&reduce->kept, i);
        double sum = neutral(reduce->what.accumulation), v;
        for (int64_t k = 0; k < count; k++) {
            load_doubles(reduce->x, start + axes_offset(&reduce->reduced, k), 1, 1, &v);
            switch (reduce->what.accumulation) {
            case REDUCE_SUM: sum += v; break;
            case REDUCE_ABS: sum += fabs(v); break;
            case REDUCE_SQUARE: sum += v * v; break;
            case REDUCE_PRODUCT: sum *= v; break;
            case REDUCE_MAX: sum = larger(sum, v); break;
            case REDUCE_MIN: sum = smaller(sum, v); break;
            case REDUCE_EXP: sum += espq_exp(v); break;
            }
        }
        sum = finished(reduce->what.finish, sum, count);
        store_doubles(reduce->y, i, 1, &sum);
    }
}

static Reduce make_reduce(const Node *node, Reduction what, const Tensor *x, Tensor *y)
{
    bool reduced[ESPQ_MAX_RANK] = {false};
    int64_t strides[ESPQ_MAX_RANK];
    Reduce reduce = {.what = what, .x = x, .y = y};
    reduced_axes(node, &x->shape, reduced, NULL); /* infer has refused what fails */
    contiguous_strides(&x->shape, strides);
    for (int i = 0; i < x->shape.rank; i++)
        axes_add(reduced[i] ? &reduce.reduced : &reduce.kept, x->shape.dims[i], strides[i]);
    return reduce;
}

static void reduce_run(const Run *run, Reduction what)
{
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    Reduce reduce = make_reduce(run->node, what, x, y);
    int64_t outputs = tensor_count(y), inputs = reduce.reduced.rank ? reduce.reduced.count : 1;
    if (outputs == 0) return;
    int64_t grain = inputs > OPS_GRAIN ? 1 : OPS_GRAIN / (inputs ? inputs : 1) + 1;
    Numbers numbers = numbers_of(x->dtype);
    bool neighbours_kept = reduce.kept.rank && reduce.kept.strides[reduce.kept.rank - 1] == 1 && reduce.reduced.rank && inputs > 0;
    if (numbers == NUMBERS_INTEGER) {
        threads_for(outputs, grain, reduce_integers, &reduce);
    } else if (x->dtype != DTYPE_FLOAT32) {
        threads_for(outputs, grain, reduce_doubles, &reduce);
    } else if (neighbours_kept && what.accumulation != REDUCE_EXP) {
        threads_for(outputs, grain < COLUMNS_AT_ONCE ? COLUMNS_AT_ONCE : grain, reduce_columns, &reduce);
    } else {
        threads_for(outputs, grain, reduce_floats, &reduce);
    }
}

/* ---- rows ---- */

/* ---- gradients ---- */

typedef struct ReduceGradientTask {
    Reduce reduce;
    const float *dy;
    float *dx;
} ReduceGradientTask;

/* The product of all elements but the one at `place`. */
static double other_elements(const Reduce *reduce, const float *x, int64_t place)
{
    const Axes *axes = &reduce->reduced;
    double product = 1;
    for (int64_t i = 0; i < (axes->rank ? axes->count : 1); i++) {
        int64_t at = axes_offset(axes, i);
        if (at != place) product *= (double)x[at];
    }
    return product;
}

static int64_t count_equal(const Reduce *reduce, const float *x, float value)
{
    const Axes *axes = &reduce->reduced;
    int64_t equal = 0;
    for (int64_t i = 0; i < (axes->rank ? axes->count : 1); i++)
        equal += x[axes_offset(axes, i)] == value;
    return equal;
}

/* What the element at `place` gains for each 1 of the result y; `shares`: how many elements are equal to y, for the extremes. */
static double reduce_slope(const Reduce *reduce, const float *x, int64_t place, double y, double shares)
{
    double v = (double)x[place], count = (double)(reduce->reduced.rank ? reduce->reduced.count : 1);
    switch (reduce->what.accumulation) {
    case REDUCE_SUM: return reduce->what.finish == FINISH_MEAN ? 1 / count : reduce->what.finish == FINISH_LOG ? espq_exp(-y) : 1;
    case REDUCE_ABS: return v > 0 ? 1 : v < 0 ? -1 : 0;
    case REDUCE_SQUARE: return reduce->what.finish == FINISH_ROOT ? (y > 0 ? v / y : 0) : 2 * v;
    case REDUCE_PRODUCT: return v != 0 ? y / v : other_elements(reduce, x, place);
    case REDUCE_MAX:
    case REDUCE_MIN: return v == y ? 1 / shares : 0;
    case REDUCE_EXP: return espq_exp(v - y);
    }
    return 0;
}

static void reduce_gradient_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ReduceGradientTask *task = context;
    const Reduce *reduce = &task->reduce;
    const Axes *axes = &reduce->reduced;
    int64_t count = axes->rank ? axes->count : 1, length = axes->rank ? axes->dims[axes->rank - 1] : 1;
    int64_t step = axes->rank ? axes->strides[axes->rank - 1] : 1;
    bool extreme = reduce->what.accumulation == REDUCE_MAX || reduce->what.accumulation == REDUCE_MIN;
    for (int64_t i = begin; i < end; i++) {
        int64_t start = axes_offset(&reduce->kept, i);
        const float *x = tensor_floats(reduce->x) + start;
        float y = tensor_floats(reduce->y)[i];
        double shares = extreme ? (double)count_equal(reduce, x, y) : 1;
        for (int64_t run = 0; run < count; run += length) {
            int64_t place = axes_offset(axes, run);
            for (int64_t k = 0; k < length; k++, place += step)
                task->dx[start + place] = (float)((double)task->dy[i] * reduce_slope(reduce, x, place, (double)y, shares));
        }
    }
}

static void reduce_gradient(const Gradient *gradient, Reduction what)
{
    Tensor *y = gradient->outputs[0];
    if (!gradient->input_gradients[0]) return;
    ReduceGradientTask task = {.reduce = make_reduce(gradient->node, what, gradient->inputs[0], y),
                               .dy = tensor_floats(gradient->output_gradients[0]),
                               .dx = tensor_floats(gradient->input_gradients[0])};
    int64_t inputs = task.reduce.reduced.rank ? task.reduce.reduced.count : 1;
    if (inputs > 0) threads_for(tensor_count(y), OPS_GRAIN / 4 / inputs + 1, reduce_gradient_part, &task);
}

#define REDUCTION(stem, accumulation, finish)                                                                                              \
    static void stem##_run(const Run *run)                                                                                                 \
    {                                                                                                                                      \
        reduce_run(run, (Reduction){accumulation, finish});                                                                                \
    }                                                                                                                                      \
    static void stem##_gradient(const Gradient *gradient)                                                                                  \
    {                                                                                                                                      \
        reduce_gradient(gradient, (Reduction){accumulation, finish});                                                                      \
    }
REDUCTION(reduce_l1, REDUCE_ABS, FINISH_NOTHING)
REDUCTION(reduce_l2, REDUCE_SQUARE, FINISH_ROOT)
REDUCTION(reduce_log_sum, REDUCE_SUM, FINISH_LOG)
REDUCTION(reduce_log_sum_exp, REDUCE_EXP, FINISH_LOG)
REDUCTION(reduce_max, REDUCE_MAX, FINISH_NOTHING)
REDUCTION(reduce_mean, REDUCE_SUM, FINISH_MEAN)
REDUCTION(reduce_min, REDUCE_MIN, FINISH_NOTHING)
REDUCTION(reduce_prod, REDUCE_PRODUCT, FINISH_NOTHING)
REDUCTION(reduce_sum, REDUCE_SUM, FINISH_NOTHING)
REDUCTION(reduce_sum_square, REDUCE_SQUARE, FINISH_NOTHING)

#define REDUCTION_ROW                                                                                                                      \
    .inputs = {1, 2}, .outputs = {1, 1},                                                                                                   \
    .attributes = {{"axes", ATTRIBUTE_INTS},                                                                                               \
                   {"keepdims", ATTRIBUTE_INT, .number = 1},                                                                               \
                   {"noop_with_empty_axes", ATTRIBUTE_INT, .number = 0}},                                                                  \
    .infer = reduce_infer, .float_inputs = 1 << 1, .layout = LAYOUT_AXIS, .becomes_input = "axes", .module = MODULE_ALL,                   \
    .cost = cost_elementwise

const Operator op_reduce_l1 = {.name = "ReduceL1",
                               .help = "Sum of magnitudes.",
                               REDUCTION_ROW,
                               .run = reduce_l1_run,
                               .gradient = reduce_l1_gradient,
                               .flags = OPERATOR_QUANTIZABLE};
const Operator op_reduce_l2 = {.name = "ReduceL2",
                               .help = "Root of the sum of squares.",
                               REDUCTION_ROW,
                               .run = reduce_l2_run,
                               .gradient = reduce_l2_gradient,
                               .flags = OPERATOR_QUANTIZABLE};
const Operator op_reduce_log_sum = {
    .name = "ReduceLogSum",
    .help = "Logarithm of the sum.",
    REDUCTION_ROW,
    .run = reduce_log_sum_run,
    .gradient = reduce_log_sum_gradient,
    .flags = OPERATOR_QUANTIZABLE,
};
const Operator op_reduce_log_sum_exp = {
    .name = "ReduceLogSumExp",
    .help = "Logarithm of the sum of exponentials.",
    REDUCTION_ROW,
    .run = reduce_log_sum_exp_run,
    .gradient = reduce_log_sum_exp_gradient,
    .flags = OPERATOR_QUANTIZABLE,
};
const Operator op_reduce_max = {
    .name = "ReduceMax",
    .help = "The largest.",
    REDUCTION_ROW,
    .run = reduce_max_run,
    .gradient = reduce_max_gradient,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
};
const Operator op_reduce_mean = {.name = "ReduceMean",
                                 .help = "The mean.",
                                 REDUCTION_ROW,
                                 .run = reduce_mean_run,
                                 .gradient = reduce_mean_gradient,
                                 .flags = OPERATOR_QUANTIZABLE};
const Operator op_reduce_min = {
    .name = "ReduceMin",
    .help = "The smallest.",
    REDUCTION_ROW,
    .run = reduce_min_run,
    .gradient = reduce_min_gradient,
    .flags = OPERATOR_QUANTIZABLE | OPERATOR_PASSIVE,
};
const Operator op_reduce_prod = {.name = "ReduceProd",
                                 .help = "The product.",
                                 REDUCTION_ROW,
                                 .run = reduce_prod_run,
                                 .gradient = reduce_prod_gradient,
                                 .flags = OPERATOR_QUANTIZABLE};
const Operator op_reduce_sum = {.name = "ReduceSum",
                                .help = "The sum.",
                                REDUCTION_ROW,
                                .run = reduce_sum_run,
                                .gradient = reduce_sum_gradient,
                                .flags = OPERATOR_QUANTIZABLE};
const Operator op_reduce_sum_square = {
    .name = "ReduceSumSquare",
    .help = "The sum of squares.",
    REDUCTION_ROW,
    .run = reduce_sum_square_run,
    .gradient = reduce_sum_square_gradient,
    .flags = OPERATOR_QUANTIZABLE,
};
