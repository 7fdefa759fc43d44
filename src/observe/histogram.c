/* Observers that walk twice: first the range, then a histogram of |x| over it: kl and mse (QUANT §8.4, §8.5). */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernel/quantize.h"
#include "observe/observer.h"

#define SMALLEST_SCALE 1e-8

enum {
    KL_BINS = 4096,          /* without the slot's own number (parameters) */
    MSE_BINS = 2048,         /* whatever the slot says */
    PARTS = 8,               /* most pieces of a batch that are counted side by side */
    PART_LEAST = 32768,      /* elements below which a piece is not worth a thread */
    PARALLEL_BINS = 1 << 16, /* histograms above it are counted by one thread: copies would not stay in its cache */
    BATCH_LIMIT = 1 << 24    /* most counts of a bin and batch: the reference counts a batch in float32 */
};

typedef struct Histogram {
    int64_t bins;
    double range;
    int parts;
    int32_t *counts; /* parts times bins */
    int64_t held;    /* elements counted there */
    int64_t *totals; /* bins, once counts might overflow; NULL before */
} Histogram;

static void histogram_release(Observer *observer)
{
    Histogram *state = observer->state;
    memory_free(state->counts);
    memory_free(state->totals);
}

static int64_t level_count(const Slot *slot)
{
    return (int64_t)1 << (slot->bits - 1);
}

/* At least one bin a level: 16-bit parameters have no number of their own, and the reference stops there. */
static int64_t kl_bins(const Slot *slot)
{
    int64_t bins = slot->bins > 0 ? slot->bins : KL_BINS;
    return bins < level_count(slot) ? 32 * level_count(slot) : bins;
}

static bool histogram_begin(Observer *observer, int64_t bins, Error *error)
{
    Histogram *state = observer->state;
    state->bins = bins;
    state->range = fmax(fabs(observer->seen_minimum), fabs(observer->seen_maximum));
    state->parts = bins > PARALLEL_BINS ? 1 : threads_count() < PARTS ? threads_count() : PARTS;
    state->counts = memory_new_array((size_t)(state->parts * bins), sizeof *state->counts);
    return state->counts ? true : fail_memory(error, (size_t)(state->parts * bins) * sizeof *state->counts);
}

static bool histogram_spill(Histogram *state, Error *error)
{
    if (!state->totals) {
        state->totals = memory_new_array((size_t)state->bins, sizeof *state->totals);
        if (!state->totals) return fail_memory(error, (size_t)state->bins * sizeof *state->totals);
    }
    for (int p = 0; p < state->parts; p++) {
        for (int64_t i = 0; i < state->bins; i++)
            state->totals[i] += state->counts[p * state->bins + i];
    }
    memset(state->counts, 0, (size_t)(state->parts * state->bins) * sizeof *state->counts);
    state->held = 0;
    return true;
}

typedef struct Count {
    const Histogram *state;
    const float *x;
    int64_t count;
    int parts;
} Count;

static void count_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Count *work = context;
    for (int64_t part = begin; part < end; part++) {
        int64_t from = work->count * part / work->parts, to = work->count * (part + 1) / work->parts;
        histogram_f32(work->x + from, to - from, (float)work->state->range, work->state->bins,
                      work->state->counts + part * work->state->bins);
    }
}

static bool histogram_observe(Observer *observer, const Tensor *batch, int walk, Error *error)
{
    Histogram *state = observer->state;
    int64_t count = tensor_count(batch);
    if (walk == 0 || !(state->range > 0)) return true; /* nothing but zeros: the smallest scale, whatever is counted */
    bool limited = count > BATCH_LIMIT;
    if ((limited || state->held + count > INT32_MAX) && state->held && !histogram_spill(state, error)) return false;
    for (int64_t done = 0; done < count;) { /* a batch of more elements than int32 counts */
        int64_t piece = count - done < INT32_MAX ? count - done : INT32_MAX;
        if (state->held && state->held + piece > INT32_MAX)
            return fail(error, observer->value_name, "use smaller batches", "a batch has too many elements");
        int64_t parts = piece / PART_LEAST;
        Count work = {state, tensor_floats(batch) + done, piece, parts < 1 ? 1 : parts > state->parts ? state->parts : (int)parts};
        threads_for(work.parts, 1, count_part, &work);
        state->held += piece;
        done += piece;
    }
    if (!limited) return true;
    for (int64_t i = 0; i < state->bins; i++) { /* spilled before: the counts are this batch's alone */
        int64_t sum = 0;
        for (int p = 0; p < state->parts; p++)
            sum += state->counts[p * state->bins + i];
        for (int p = 1; p < state->parts; p++)
            state->counts[p * state->bins + i] = 0;
        state->counts[i] = sum < BATCH_LIMIT ? (int32_t)sum : BATCH_LIMIT;
    }
    return histogram_spill(state, error);
}

static int64_t histogram_at(const Histogram *state, int64_t bin)
{
    int64_t sum = state->totals ? state->totals[bin] : 0;
    for (int p = 0; p < state->parts; p++)
        sum += state->counts[p * state->bins + bin];
    return sum;
}

/* ---- kl ---- */

static bool kl_between(Observer *observer, Error *error)
{
    return histogram_begin(observer, kl_bins(observer->slot), error);
}

static bool kl_exponents(Observer *observer, int *exponents, Error *error)
{
    Histogram *state = observer->state;
    double scale = 0;
    if (state->range > 0) {
        float *counts = memory_new_array((size_t)state->bins, sizeof *counts);
        if (!counts) return fail_memory(error, (size_t)state->bins * sizeof *counts);
        for (int64_t i = 0; i < state->bins; i++)
            counts[i] = (float)histogram_at(state, i);
        bool ok = kl_scale(counts, state->bins, state->range, level_count(observer->slot), &scale, NULL, error);
        memory_free(counts);
        if (!ok) return false;
    }
    *exponents = nearest_log2(scale > SMALLEST_SCALE ? scale : SMALLEST_SCALE);
    return true;
}

const ObserverRow observer_kl = {
    .name = "kl",
    .help = "the clipping that changes the distribution least (Kullback-Leibler divergence)",
    .walks = 2,
    .per_channel = true,
    .parallel = true,
    .any_order = true,
    .state_bytes = sizeof(Histogram),
    .observe = histogram_observe,
    .between = kl_between,
    .exponents = kl_exponents,
    .release = histogram_release,
};

/* ---- mse ---- */

static double squared_error_sum(const double *histogram, int64_t bins, int64_t step, int64_t end, double total)
{
    double loss = 0;
    for (int64_t i = 0; i < bins; i++) {
        double distance;
        if (i > end) {
            distance = (double)(i - end) + 0.5;
        } else {
            int64_t left = i % step, right = step - left - 1;
            distance = left == right ? (double)left + 0.25 : (double)(left < right ? left : right) + 0.5;
        }
        loss += histogram[i] * distance * distance / total;
    }
    return loss;
}

static double total_of(const double *histogram, int64_t bins)
{
    double total = 0;
    for (int64_t i = 0; i < bins; i++)
        total += histogram[i];
    return total;
}

int64_t mse_end(const double *histogram, int64_t bins, int64_t quant_minimum, int64_t quant_maximum)
{
    int64_t levels = quant_maximum - quant_minimum + 1, steps = bins / levels;
    double total = total_of(histogram, bins);
    int64_t best = levels * (steps + 1);
    double least = squared_error_sum(histogram, bins, steps + 1, best, total);
    for (int64_t step = 1; step <= steps; step++) {
        double loss = squared_error_sum(histogram, bins, step, levels * step, total);
        if (loss < least) least = loss, best = levels * step;
    }
    return best;
}

int64_t mse_end_fixed(const double *histogram, int64_t bins, int64_t levels)
{
    double total = total_of(histogram, bins), least = INFINITY;
    int64_t best = bins;
    for (int64_t step = 1; step * levels <= bins; step++) {
        double loss = 0;
        for (int64_t i = 0; i < bins; i++) {
            int64_t left = i % step;
            double distance =
                i >= step * levels ? (double)(i - step * levels) + 0.5 : fmin((double)left + 0.5, (double)(step - left) - 0.5);
            loss += histogram[i] * distance * distance / total;
        }
        if (loss < least) least = loss, best = levels * step;
    }
    return best;
}

static bool mse_between(Observer *observer, Error *error)
{
    /* The reference's 2048 bins hold less than one bin a level at 16 bits (QUANT D7). */
    return histogram_begin(observer, observer->mse_fixed ? 32 * level_count(observer->slot) : MSE_BINS, error);
}

static bool mse_exponents(Observer *observer, int *exponents, Error *error)
{
    Histogram *state = observer->state;
    const Slot *slot = observer->slot;
    double end = 0;
    if (state->range > 0) {
        double *counts = memory_new_array((size_t)state->bins, sizeof *counts);
        if (!counts) return fail_memory(error, (size_t)state->bins * sizeof *counts);
        for (int64_t i = 0; i < state->bins; i++)
            counts[i] = (double)histogram_at(state, i);
        int64_t bins = observer->mse_fixed ? mse_end_fixed(counts, state->bins, level_count(slot))
                                           : mse_end(counts, state->bins, slot->minimum, slot->maximum);
        end = (double)bins * (state->range / (double)state->bins);
        memory_free(counts);
    }
    *exponents = exponent_of_range(-end, end, slot->minimum, slot->maximum, SMALLEST_SCALE);
    return true;
}

const ObserverRow observer_mse = {
    .name = "mse",
    .help = "the clipping with the least mean squared error",
    .walks = 2,
    .per_channel = true,
    .parallel = true,
    .any_order = true,
    .state_bytes = sizeof(Histogram),
    .observe = histogram_observe,
    .between = mse_between,
    .exponents = mse_exponents,
    .release = histogram_release,
};
