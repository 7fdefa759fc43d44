/* Observers that need one walk: minmax, percentile, isotone (QUANT §8.2, §8.3, §8.6). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "observe/observer.h"

#define SMALLEST_SCALE 1e-8 /* QUANT §14 "minimum scale" */

/* ---- minmax: the range over everything, which every observer knows ---- */

static bool minmax_exponents(Observer *observer, int *exponents, Error *error)
{
    (void)error;
    *exponents =
        exponent_of_range(observer->seen_minimum, observer->seen_maximum, observer->slot->minimum, observer->slot->maximum, SMALLEST_SCALE);
    return true;
}

const ObserverRow observer_minmax = {.name = "minmax",
                                     .help = "the whole range of the data",
                                     .walks = 1,
                                     .per_channel = true,
                                     .parallel = true,
                                     .any_order = true,
                                     .exponents = minmax_exponents};

/* ---- percentile ---- */

void percentile_positions(int64_t n, double percentile, int64_t *low, int64_t *high)
{
    int64_t below = (int64_t)((double)n * (1 - percentile)), above = (int64_t)((double)n * percentile);
    if (below < 0) below = 0;
    if (above > n - 1) above = n - 1;
    *low = below + 1;
    *high = above + 1;
}

/* Floats as unsigned numbers in the same order. */
static inline uint32_t key_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static inline float float_of(uint32_t key)
{
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Selection by digits of 11, 11 and 10 bits: the first pass finds the bucket by counting, the later ones only see what lies in it. */
enum { DIGIT_BUCKETS = 1 << 11, PART_COUNT = 1 << 13 /* fewer numbers are one part */ };

typedef struct Wanted {
    int64_t rank; /* 0-based within what `prefix` leaves */
    uint32_t prefix, mask;
} Wanted;

static uint32_t narrow(Wanted *wanted, const int64_t *counts, int shift, int bits)
{
    uint32_t digit = 0;
    while (wanted->rank >= counts[digit])
        wanted->rank -= counts[digit++];
    wanted->prefix |= digit << shift;
    wanted->mask |= ((1u << bits) - 1) << shift;
    return digit;
}

/* Of the keys that agree with wanted's prefix, keep those in keys[0 … returned). x is read when keys are still empty. */
static int64_t select_last(Wanted *wanted, uint32_t *keys, int64_t count)
{
    static const struct {
        int shift, bits;
    } digits[] = {{10, 11}, {0, 10}};
    for (int d = 0; d < 2; d++) {
        int64_t counts[DIGIT_BUCKETS] = {0};
        for (int64_t i = 0; i < count; i++)
            counts[keys[i] >> digits[d].shift & ((1u << digits[d].bits) - 1)]++;
        narrow(wanted, counts, digits[d].shift, digits[d].bits);
        int64_t kept = 0;
        for (int64_t i = 0; i < count; i++) {
            if ((keys[i] & wanted->mask) == wanted->prefix) keys[kept++] = keys[i];
        }
        count = kept;
    }
    return count;
}

/* The numbers are counted, then sorted out, in parts; each part knows where the ones before it end. */
typedef struct Part {
    int64_t counts[2][DIGIT_BUCKETS]; /* of every other number: equal neighbours do not wait for one another */
    int64_t filled[2];
} Part;

typedef struct Selection {
    const float *x;
    int64_t n;
    Part *parts;
    int64_t part_count;
    Wanted wanted[2];
    uint32_t *keys[2];
} Selection;

static void count_parts(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Selection *selection = context;
    for (int64_t p = begin; p < end; p++) {
        Part *part = &selection->parts[p];
        int64_t i = selection->n * p / selection->part_count, last = selection->n * (p + 1) / selection->part_count;
        for (; i + 1 < last; i += 2) {
            part->counts[0][key_of(selection->x[i]) >> 21]++;
            part->counts[1][key_of(selection->x[i + 1]) >> 21]++;
        }
        if (i < last) part->counts[0][key_of(selection->x[i]) >> 21]++;
    }
}

static void fill_parts(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Selection *selection = context;
    uint32_t mask = selection->wanted[0].mask, low = selection->wanted[0].prefix, high = selection->wanted[1].prefix;
    for (int64_t p = begin; p < end; p++) {
        const Part *part = &selection->parts[p];
        uint32_t *lower = selection->keys[0] + part->filled[0], *upper = selection->keys[1] + part->filled[1];
        for (int64_t i = selection->n * p / selection->part_count; i < selection->n * (p + 1) / selection->part_count; i++) {
            uint32_t key = key_of(selection->x[i]), digit = key & mask;
            if (digit == low) *lower++ = key;
            if (digit == high) *upper++ = key;
        }
    }
}

static int64_t count_of(const Part *part, uint32_t digit)
{
    return part->counts[0][digit] + part->counts[1][digit];
}

bool order_statistics_f32(const float *x, int64_t n, int64_t low, int64_t high, float *at_low, float *at_high, Error *error)
{
    Selection selection = {.x = x, .n = n, .part_count = n < PART_COUNT ? 1 : threads_count()};
    selection.wanted[0].rank = low - 1;
    selection.wanted[1].rank = high - 1;
    selection.parts = memory_new_array((size_t)selection.part_count, sizeof *selection.parts);
    if (!selection.parts) return fail_memory(error, (size_t)selection.part_count * sizeof *selection.parts);
    threads_for(selection.part_count, 1, count_parts, &selection);
    int64_t counts[DIGIT_BUCKETS] = {0}, sizes[2];
    for (int64_t p = 0; p < selection.part_count; p++)
        for (uint32_t digit = 0; digit < DIGIT_BUCKETS; digit++)
            counts[digit] += count_of(&selection.parts[p], digit);
    for (int w = 0; w < 2; w++) {
        uint32_t digit = narrow(&selection.wanted[w], counts, 21, 11);
        sizes[w] = 0;
        for (int64_t p = 0; p < selection.part_count; p++) {
            selection.parts[p].filled[w] = sizes[w];
            sizes[w] += count_of(&selection.parts[p], digit);
        }
    }
    size_t bytes = (size_t)(sizes[0] + sizes[1]) * sizeof(uint32_t);
    uint32_t *keys = memory_new(bytes);
    selection.keys[0] = keys;
    selection.keys[1] = keys ? keys + sizes[0] : NULL;
    if (keys) threads_for(selection.part_count, 1, fill_parts, &selection);
    memory_free(selection.parts);
    if (!keys) return fail_memory(error, bytes);
    for (int w = 0; w < 2; w++)
        select_last(&selection.wanted[w], selection.keys[w], sizes[w]);
    *at_low = float_of(selection.wanted[0].prefix);
    *at_high = float_of(selection.wanted[1].prefix);
    memory_free(keys);
    return true;
}

typedef struct Percentiles {
    float *pairs; /* high, low of each batch */
    size_t count, capacity;
} Percentiles;

static bool percentile_observe(Observer *observer, const Tensor *batch, int walk, Error *error)
{
    (void)walk;
    Percentiles *state = observer->state;
    int64_t n = tensor_count(batch), low, high;
    percentile_positions(n, observer->slot->percentile > 0 ? observer->slot->percentile : 0.9999, &low, &high);
    float *grown = memory_grow(state->pairs, state->count, &state->capacity, 2 * sizeof *grown);
    if (!grown) return fail_memory(error, (state->count + 1) * 2 * sizeof *grown);
    state->pairs = grown;
    float *pair = grown + 2 * state->count;
    if (!order_statistics_f32(tensor_floats(batch), n, low, high, &pair[1], &pair[0], error)) return false;
    state->count++;
    return true;
}

/* The float32 sum of every fourth pair from `first` on, `count` of them, in levels of 16: how the reference's library adds a column.
 * With equal rounding the mean cannot fall to another side of a power of two. */
static float sum_cascaded(const float *pairs, size_t first, size_t count)
{
    float levels[4] = {0};
    size_t power = 4, i = 0;
    while ((size_t)1 << (4 * power) < count)
        power++;
    size_t step = (size_t)1 << power, mask = step - 1;
    while (i + step <= count) {
        for (size_t j = 0; j < step; j++, i++)
            levels[0] += pairs[2 * (first + 4 * i)];
        for (size_t level = 1; level < 4; level++) {
            levels[level] += levels[level - 1];
            levels[level - 1] = 0;
            if (i & (mask << (level * power))) break;
        }
    }
    for (; i < count; i++)
        levels[0] += pairs[2 * (first + 4 * i)];
    for (size_t level = 1; level < 4; level++)
        levels[0] += levels[level];
    return levels[0];
}

static float mean_of_pairs(const float *pairs, size_t count)
{
    float part[4];
    for (size_t k = 0; k < 4; k++)
        part[k] = sum_cascaded(pairs, k, count / 4);
    for (size_t i = count / 4 * 4; i < count; i++)
        part[0] += pairs[2 * i];
    for (size_t k = 1; k < 4; k++)
        part[0] += part[k];
    return part[0] / (float)count;
}

static bool percentile_exponents(Observer *observer, int *exponents, Error *error)
{
    (void)error;
    const Percentiles *state = observer->state;
    float high = mean_of_pairs(state->pairs, state->count), low = mean_of_pairs(state->pairs + 1, state->count);
    *exponents = exponent_of_range(low, high, observer->slot->minimum, observer->slot->maximum, SMALLEST_SCALE);
    return true;
}

static void percentile_release(Observer *observer)
{
    memory_free(((Percentiles *)observer->state)->pairs);
}

const ObserverRow observer_percentile = {
    .name = "percentile",
    .help = "mean over batches of the 99.99 % range of each",
    .walks = 1,
    .per_channel = true,
    .parallel = true,
    .state_bytes = sizeof(Percentiles),
    .observe = percentile_observe,
    .exponents = percentile_exponents,
    .release = percentile_release,
};

/* ---- isotone: keep the order of the two largest of each row ---- */

typedef struct Isotone {
    float *pairs; /* largest, second largest of each row */
    size_t count, capacity;
} Isotone;

static bool isotone_observe(Observer *observer, const Tensor *batch, int walk, Error *error)
{
    (void)walk;
    Isotone *state = observer->state;
    int rank = batch->shape.rank;
    int64_t width = rank ? batch->shape.dims[rank - 1] : 1, rows = tensor_count(batch) / width;
    if (width < 2) {
        return fail(error, observer->value_name, "use kl or minmax for it",
                    "isotone compares the two largest numbers of the last axis, %s has only one there", observer->value_name);
    }
    for (int64_t r = 0; r < rows; r++) {
        const float *x = tensor_floats(batch) + r * width;
        float first = -INFINITY, second = -INFINITY;
        for (int64_t i = 0; i < width; i++) {
            if (x[i] > first)
                second = first, first = x[i];
            else if (x[i] > second)
                second = x[i];
        }
        float *grown = memory_grow(state->pairs, state->count, &state->capacity, 2 * sizeof *grown);
        if (!grown) return fail_memory(error, (state->count + 1) * 2 * sizeof *grown);
        state->pairs = grown;
        grown[2 * state->count] = first;
        grown[2 * state->count++ + 1] = second;
    }
    return true;
}

typedef struct EndPoint {
    double at;
    int opens; /* 1: an interval starts here, 0: it ends; ends come first ('max' < 'min') */
} EndPoint;

static int compare_end_points(const void *a, const void *b)
{
    const EndPoint *x = a, *y = b;
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return x->opens - y->opens;
}

/* The smallest end point at which most intervals overlap; rounded up to a power of two, which the reference leaves out (QUANT D8). */
static bool isotone_exponents(Observer *observer, int *exponents, Error *error)
{
    const Isotone *state = observer->state;
    EndPoint *points = memory_new_array(2 * state->count, sizeof *points);
    if (!points) return fail_memory(error, 2 * state->count * sizeof *points);
    size_t count = 0;
    double last = 0;
    for (size_t i = 0; i < state->count; i++) {
        double largest = fabs((double)state->pairs[2 * i]), second = fabs((double)state->pairs[2 * i + 1]);
        double low = second / ((double)observer->slot->maximum - 0.51), high = 2 * (double)((float)largest - (float)second);
        last = largest;
        if (!(high > low) || !(largest > 0)) continue;
        points[count++] = (EndPoint){low, 1};
        points[count++] = (EndPoint){high, 0};
    }
    if (count == 0) {
        *exponents = exponent_of_range(0, last, observer->slot->minimum, observer->slot->maximum, SMALLEST_SCALE);
    } else {
        qsort(points, count, sizeof *points, compare_end_points);
        int64_t overlap = 0, most = 0;
        double scale = SMALLEST_SCALE;
        for (size_t i = 0; i < count; i++) {
            overlap += points[i].opens ? 1 : -1;
            if (overlap > most) most = overlap, scale = points[i].at;
        }
        *exponents = ceil_log2(scale > SMALLEST_SCALE ? scale : SMALLEST_SCALE);
    }
    memory_free(points);
    return true;
}

static void isotone_release(Observer *observer)
{
    memory_free(((Isotone *)observer->state)->pairs);
}

const ObserverRow observer_isotone = {
    .name = "isotone",
    .help = "keeps the order of the two largest numbers of the last axis (classifier outputs)",
    .walks = 1,
    .parallel = true,
    .state_bytes = sizeof(Isotone),
    .observe = isotone_observe,
    .exponents = isotone_exponents,
    .release = isotone_release,
};
