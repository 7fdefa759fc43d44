/* The public face of quantize.h: shares the work among threads, each share on the chosen variant. */
#include "kernel/quantize.h"

#include <math.h>

#include "base/threads.h"
#include "kernel/plain.h"

#define GRAIN 32768 /* elements a thread takes at least: waking one costs as much as some ten thousand */

typedef struct ElementTask {
    const Kernels *kernels;
    const float *x;
    float *y;
    void (*function)(const float *x, float *y, int64_t count);
    float inverse, scale, minimum, maximum;
    Rounding rounding;
} ElementTask;

static void fake_quantize_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ElementTask *task = context;
    task->kernels->fake_quantize(task->x + begin, task->y + begin, end - begin, task->inverse, task->scale, task->minimum, task->maximum,
                                 task->rounding);
}

/* Exponents whose power of two is no normal float32 both ways: nothing real has them; in float64, rounded where float32 would. */
static void fake_quantize_extreme(const float *x, float *y, int64_t count, int exponent, int64_t minimum, int64_t maximum,
                                  Rounding rounding)
{
    for (int64_t i = 0; i < count; i++) {
        float q = round_float((float)ldexp(x[i], -exponent), rounding) + 0.0f;
        q = q < (float)minimum ? (float)minimum : q;
        q = q > (float)maximum ? (float)maximum : q;
        y[i] = (float)ldexp(q, exponent);
    }
}

void fake_quantize_f32(const float *x, float *y, int64_t count, int exponent, int64_t minimum, int64_t maximum, Rounding rounding)
{
    if (exponent < -126 || exponent > 126) {
        fake_quantize_extreme(x, y, count, exponent, minimum, maximum, rounding);
        return;
    }
    ElementTask task = {.kernels = kernels(),
                        .x = x,
                        .y = y,
                        .inverse = ldexpf(1.0f, -exponent),
                        .scale = ldexpf(1.0f, exponent),
                        .minimum = (float)minimum,
                        .maximum = (float)maximum,
                        .rounding = rounding};
    threads_for(count, GRAIN, fake_quantize_body, &task);
}

static int64_t quantize_wide(const float *x, void *out, int bytes, int64_t count, int exponent, int64_t minimum, int64_t maximum,
                             Rounding rounding, int wide)
{
    double low = (double)minimum, high = (double)maximum;
    int64_t clamped = 0;
    for (int64_t i = 0; i < count; i++) {
        double q = wide ? round_double(ldexp(x[i], -exponent), rounding) : round_float((float)ldexp(x[i], -exponent), rounding);
        int64_t integer = isnan(q) ? 0 : q <= low ? minimum : q >= high ? maximum : (int64_t)q;
        clamped += !(q >= low && q <= high);
        switch (bytes) {
        case 1: ((int8_t *)out)[i] = (int8_t)integer; break;
        case 2: ((int16_t *)out)[i] = (int16_t)integer; break;
        case 4: ((int32_t *)out)[i] = (int32_t)integer; break;
        default: ((int64_t *)out)[i] = integer; break;
        }
    }
    return clamped;
}

typedef struct QuantizeTask {
    const Kernels *kernels;
    const float *x;
    void *out;
    int bytes;
    float inverse;
    int64_t minimum, maximum;
    Rounding rounding;
    int64_t clamped;
} QuantizeTask;

static void quantize_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    QuantizeTask *task = context;
    int64_t clamped = task->kernels->quantize(task->x + begin, (char *)task->out + begin * task->bytes, task->bytes, end - begin,
                                              task->inverse, task->minimum, task->maximum, task->rounding);
    __atomic_fetch_add(&task->clamped, clamped, __ATOMIC_RELAXED);
}

int64_t quantize_f32(const float *x, void *out, int bytes, int64_t count, int exponent, int64_t minimum, int64_t maximum, Rounding rounding,
                     int wide)
{
    if (wide || exponent < -126 || exponent > 126) return quantize_wide(x, out, bytes, count, exponent, minimum, maximum, rounding, wide);
    QuantizeTask task = {kernels(), x, out, bytes, ldexpf(1.0f, -exponent), minimum, maximum, rounding, 0};
    threads_for(count, GRAIN, quantize_body, &task);
    return task.clamped;
}

typedef struct MinmaxTask {
    const Kernels *kernels;
    const float *x;
    float minimum[ESPQ_MAX_THREADS], maximum[ESPQ_MAX_THREADS];
} MinmaxTask;

static void minmax_body(void *context, int64_t begin, int64_t end, int thread)
{
    MinmaxTask *task = context;
    float minimum, maximum;
    task->kernels->minmax(task->x + begin, end - begin, &minimum, &maximum);
    if (minimum < task->minimum[thread]) task->minimum[thread] = minimum;
    if (maximum > task->maximum[thread]) task->maximum[thread] = maximum;
}

void minmax_f32(const float *x, int64_t count, float *minimum, float *maximum)
{
    MinmaxTask task = {.kernels = kernels(), .x = x};
    for (int i = 0; i < ESPQ_MAX_THREADS; i++) {
        task.minimum[i] = INFINITY;
        task.maximum[i] = -INFINITY;
    }
    threads_for(count, 2 * GRAIN, minmax_body, &task);
    plain_minmax(task.minimum, ESPQ_MAX_THREADS, minimum, &(float){0.0f});
    plain_minmax(task.maximum, ESPQ_MAX_THREADS, &(float){0.0f}, maximum);
}

int64_t find_not_finite_f32(const float *x, int64_t count)
{
    return kernels()->find_not_finite(x, count);
}

#define SHARED_BINS 4096 /* more do not fit on the stack of each thread */

typedef struct HistogramTask {
    const Kernels *kernels;
    const float *x;
    float range;
    int64_t bins;
    int32_t *counts;
} HistogramTask;

static void histogram_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const HistogramTask *task = context;
    int32_t counts[SHARED_BINS] = {0};
    task->kernels->histogram(task->x + begin, end - begin, task->range, task->bins, counts);
    for (int64_t i = 0; i < task->bins; i++)
        if (counts[i]) __atomic_fetch_add(&task->counts[i], counts[i], __ATOMIC_RELAXED);
}

/* Range 0: only zeros are inside; the reference widens the range to [-1, 1] and finds them in the middle (QUANT §8.4). */
void histogram_f32(const float *x, int64_t count, float range, int64_t bins, int32_t *counts)
{
    HistogramTask task = {kernels(), x, range, bins, counts};
    if (range > 0.0f && bins <= SHARED_BINS && count > 4 * GRAIN) {
        threads_for(count, 4 * GRAIN, histogram_body, &task);
    } else if (range > 0.0f) {
        task.kernels->histogram(x, count, range, bins, counts);
    } else {
        for (int64_t i = 0; i < count; i++)
            if (x[i] == 0.0f) counts[bins / 2]++;
    }
}

#define NOISE_GROUP 256 /* blocks whose sums wait on the stack until they are added in order */

typedef struct NoiseTask {
    const Kernels *kernels;
    const float *a, *b;
    int64_t count;
    double noise[NOISE_GROUP], power[NOISE_GROUP];
} NoiseTask;

static void noise_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    NoiseTask *task = context;
    for (int64_t block = begin; block < end; block++) {
        int64_t first = block * NOISE_BLOCK, count = task->count - first < NOISE_BLOCK ? task->count - first : NOISE_BLOCK;
        task->kernels->noise_block(task->a + first, task->b + first, count, &task->noise[block], &task->power[block]);
    }
}

void noise_power_f32(const float *a, const float *b, int64_t count, double *noise, double *power)
{
    NoiseTask task = {.kernels = kernels()};
    double noise_sum = 0.0, power_sum = 0.0;
    for (int64_t first = 0; first < count; first += (int64_t)NOISE_GROUP * NOISE_BLOCK) {
        int64_t rest = count - first, most = (int64_t)NOISE_GROUP * NOISE_BLOCK;
        task.a = a + first;
        task.b = b + first;
        task.count = rest < most ? rest : most;
        int64_t blocks = (task.count + NOISE_BLOCK - 1) / NOISE_BLOCK;
        threads_for(blocks, GRAIN / NOISE_BLOCK, noise_body, &task);
        for (int64_t block = 0; block < blocks; block++) {
            noise_sum += task.noise[block];
            power_sum += task.power[block];
        }
    }
    *noise = noise_sum;
    *power = power_sum;
}

static void element_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ElementTask *task = context;
    task->function(task->x + begin, task->y + begin, end - begin);
}

static void elementwise(const float *x, float *y, int64_t count, void (*function)(const float *, float *, int64_t))
{
    ElementTask task = {.x = x, .y = y, .function = function};
    threads_for(count, GRAIN / 4, element_body, &task);
}

void exp_f32(const float *x, float *y, int64_t count)
{
    elementwise(x, y, count, kernels()->exp);
}

void sigmoid_f32(const float *x, float *y, int64_t count)
{
    elementwise(x, y, count, kernels()->sigmoid);
}

void swish_f32(const float *x, float *y, int64_t count)
{
    elementwise(x, y, count, kernels()->swish);
}

void tanh_f32(const float *x, float *y, int64_t count)
{
    elementwise(x, y, count, kernels()->tanh);
}

void erf_f32(const float *x, float *y, int64_t count)
{
    elementwise(x, y, count, kernels()->erf);
}

void relu_f32(const float *x, float *y, int64_t count)
{
    elementwise(x, y, count, kernels()->relu);
}
