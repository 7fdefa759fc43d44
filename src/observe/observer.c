/* What all observers share: the list of rows, the check of the numbers, one channel after the other for constants. */
#include "observe/observer.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "kernel/quantize.h"

#define FLOATING_ONLY "it chooses scales of floating formats (FP8); ESP-DL's formats are integers times powers of two"

static const ObserverRow observer_constant_row = {
    .name = "constant", .help = "scale 1, for floating formats", .walks = 1, .refused = FLOATING_ONLY};
static const ObserverRow observer_floating_row = {
    .name = "floating", .help = "best of seven scales, for floating formats", .walks = 1, .refused = FLOATING_ONLY};

static const ObserverRow *const built_in[] = {&observer_kl,      &observer_minmax,       &observer_percentile,  &observer_mse,
                                              &observer_isotone, &observer_constant_row, &observer_floating_row};
enum { BUILT_IN = sizeof built_in / sizeof built_in[0] };

static const ObserverRow **registered;
static size_t registered_count, registered_capacity;

const ObserverRow *observer_row_at(int index)
{
    if (index < 0) return NULL;
    if (index < BUILT_IN) return built_in[index];
    size_t behind = (size_t)index - BUILT_IN;
    return behind < registered_count ? registered[behind] : NULL;
}

const ObserverRow *observer_row(const char *name)
{
    for (int i = 0;; i++) {
        const ObserverRow *row = observer_row_at(i);
        if (!row || strcasecmp(row->name, name) == 0) return row;
    }
}

const char *observer_nearest(const char *name)
{
    int count = BUILT_IN + (int)registered_count;
    const char **names = memory_new_array((size_t)count, sizeof *names);
    if (!names) return NULL;
    for (int i = 0; i < count; i++)
        names[i] = observer_row_at(i)->name;
    int nearest = text_nearest(name, names, count);
    memory_free(names);
    return nearest < 0 ? NULL : observer_row_at(nearest)->name;
}

bool observer_register(const ObserverRow *row)
{
    if (observer_row(row->name)) return false;
    const ObserverRow **grown = memory_grow(registered, registered_count, &registered_capacity, sizeof *registered);
    if (!grown) return false;
    registered = grown;
    registered[registered_count++] = row;
    return true;
}

void observer_unregister(const char *name)
{
    for (size_t i = 0; i < registered_count; i++) {
        if (strcasecmp(registered[i]->name, name) != 0) continue;
        memmove(registered + i, registered + i + 1, (registered_count - i - 1) * sizeof *registered);
        registered_count--;
        break;
    }
    if (registered_count) return;
    memory_free(registered);
    registered = NULL;
    registered_capacity = 0;
}

/* ---- one observer ---- */

Observer *observer_new(const ObserverRow *row, Slot *slot, const char *value_name, int channels, Error *error)
{
    if (row->refused) {
        fail(error, value_name, "use kl, minmax, percentile, mse or isotone", "calibration method '%s' cannot be used here: %s", row->name,
             row->refused);
        return NULL;
    }
    if (channels != 1) {
        fail_as(error, ERROR_INTERNAL, value_name, NULL, "an observer sees one channel, asked for %d", channels);
        return NULL;
    }
    Observer *observer = memory_new(sizeof *observer);
    void *state = observer ? memory_new(row->state_bytes) : NULL;
    if (!state) {
        memory_free(observer);
        fail_memory(error, sizeof *observer + row->state_bytes);
        return NULL;
    }
    *observer = (Observer){.row = row, .slot = slot, .value_name = value_name, .channels = channels, .state = state};
    observer->seen_minimum = INFINITY;
    observer->seen_maximum = -INFINITY;
    return observer;
}

void observer_free(Observer *observer)
{
    if (!observer) return;
    if (observer->row->release) observer->row->release(observer);
    memory_free(observer->state);
    memory_free(observer);
}

/* Range and finiteness in one visit of each cache-sized piece; threads split the pieces, extremes do not depend on their order. */
enum { PIECE = 16384 };

typedef struct Survey {
    const float *x;
    int64_t count;
    float minimum[ESPQ_MAX_THREADS], maximum[ESPQ_MAX_THREADS];
    atomic_llong fault; /* smallest index of what is not finite; count: none */
} Survey;

static void survey_pieces(void *context, int64_t begin, int64_t end, int thread)
{
    Survey *survey = context;
    for (int64_t piece = begin; piece < end; piece++) {
        int64_t from = piece * PIECE, count = survey->count - from < PIECE ? survey->count - from : PIECE;
        int64_t fault = find_not_finite_f32(survey->x + from, count);
        if (fault >= 0) {
            long long known = atomic_load(&survey->fault);
            while (from + fault < known && !atomic_compare_exchange_weak(&survey->fault, &known, from + fault))
                continue;
            continue;
        }
        float low, high;
        minmax_f32(survey->x + from, count, &low, &high);
        if (low < survey->minimum[thread]) survey->minimum[thread] = low;
        if (high > survey->maximum[thread]) survey->maximum[thread] = high;
    }
}

static bool survey_batch(Observer *observer, const Tensor *batch, Error *error)
{
    Survey survey = {.x = tensor_floats(batch), .count = tensor_count(batch)};
    int threads = threads_count();
    for (int i = 0; i < threads; i++)
        survey.minimum[i] = INFINITY, survey.maximum[i] = -INFINITY;
    atomic_init(&survey.fault, survey.count);
    threads_for((survey.count + PIECE - 1) / PIECE, 8, survey_pieces, &survey);
    long long fault = atomic_load(&survey.fault);
    if (fault < survey.count) {
        float value = survey.x[fault];
        return fail(error, observer->value_name, "look at the calibration data and at the weights before this tensor",
                    "tensor %s has %s at flat index %lld in calibration batch %lld", observer->value_name,
                    isnan(value) ? "NaN" : "an infinite number", fault, (long long)observer->batches);
    }
    for (int i = 0; i < threads; i++) {
        if (survey.minimum[i] < observer->seen_minimum) observer->seen_minimum = survey.minimum[i];
        if (survey.maximum[i] > observer->seen_maximum) observer->seen_maximum = survey.maximum[i];
    }
    return true;
}

bool observer_observe(Observer *observer, const Tensor *batch, int walk, Error *error)
{
    if (batch->dtype != DTYPE_FLOAT32) {
        return fail(error, observer->value_name, "leave the operator at float by the dispatching table",
                    "tensor %s has numbers of type %s, only float32 is calibrated", observer->value_name, dtype_name(batch->dtype));
    }
    if (tensor_count(batch) == 0)
        return fail(error, observer->value_name, "give data that reach it", "tensor %s has no elements", observer->value_name);
    if (walk == 0) {
        if (!survey_batch(observer, batch, error)) return false;
        observer->batches++;
    }
    return !observer->row->observe || observer->row->observe(observer, batch, walk, error);
}

bool observer_between(Observer *observer, Error *error)
{
    return !observer->row->between || observer->row->between(observer, error);
}

bool observer_exponents(Observer *observer, int *exponents, Error *error)
{
    if (observer->batches == 0) {
        return fail(error, observer->value_name, "give at least one batch; a node that never runs cannot be calibrated",
                    "tensor %s was never seen during calibration", observer->value_name);
    }
    return observer->row->exponents(observer, exponents, error);
}

int exponent_of_range(double minimum, double maximum, int64_t quant_minimum, int64_t quant_maximum, double floor_scale)
{
    if (minimum > 0) minimum = 0;
    if (maximum < 0) maximum = 0;
    double largest = fabs(maximum) > fabs(minimum) ? fabs(maximum) : fabs(minimum);
    double scale = 2 * largest / (double)(quant_maximum - quant_minimum);
    if (scale < floor_scale) scale = floor_scale;
    return ceil_log2(scale);
}

/* ---- constants ---- */

static bool observe_slice(const ObserverRow *row, Slot *slot, const char *value_name, const Tensor *slice, int64_t times, bool mse_fixed,
                          int *exponent, Error *error)
{
    Observer *observer = observer_new(row, slot, value_name, 1, error);
    if (!observer) return false;
    observer->mse_fixed = mse_fixed;
    bool ok = observer_observe(observer, slice, 0, error);
    if (ok && row->walks > 1) {
        ok = observer_between(observer, error);
        for (int64_t i = 0; ok && i < times; i++)
            ok = observer_observe(observer, slice, 1, error);
    }
    ok = ok && observer_exponents(observer, exponent, error);
    observer_free(observer);
    return ok;
}

bool observer_constant(const ObserverRow *row, Slot *slot, const char *value_name, const Tensor *constant, int64_t times, bool mse_fixed,
                       int *exponents, Error *error)
{
    if (!slot->per_channel) return observe_slice(row, slot, value_name, constant, times, mse_fixed, exponents, error);
    if (!row->per_channel) {
        return fail(error, value_name, "use minmax, percentile, kl or mse",
                    "calibration method '%s' chooses one exponent a tensor, %s has one a channel", row->name, value_name);
    }
    if (constant->dtype != DTYPE_FLOAT32) return fail(error, value_name, NULL, "constant %s is not float32", value_name);
    int axis = slot->channel_axis;
    int64_t outer = 1, inner = 1, channels = constant->shape.dims[axis];
    for (int i = 0; i < axis; i++)
        outer *= constant->shape.dims[i];
    for (int i = axis + 1; i < constant->shape.rank; i++)
        inner *= constant->shape.dims[i];
    int64_t dims[1] = {outer * inner};
    Shape shape = shape_of(1, dims);
    Tensor *slice = tensor_new(DTYPE_FLOAT32, &shape, error);
    if (!slice) return false;
    bool ok = true;
    for (int64_t c = 0; ok && c < channels; c++) {
        for (int64_t o = 0; o < outer; o++) {
            memcpy(tensor_floats(slice) + o * inner, tensor_floats(constant) + (o * channels + c) * inner, (size_t)inner * sizeof(float));
        }
        ok = observe_slice(row, slot, value_name, slice, times, mse_fixed, exponents + c, error);
    }
    tensor_release(slice);
    return ok;
}
