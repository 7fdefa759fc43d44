#include "train/loss.h"

#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/text.h"
#include "base/threads.h"
#include "kernel/quantize.h"

#define GRAIN 16384 /* elements a thread takes at least */

/* ---- mse ---- */

typedef struct DifferenceTask {
    const float *output, *target;
    float *gradient, factor;
} DifferenceTask;

static void difference_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const DifferenceTask *task = context;
    const float *output = task->output, *target = task->target, factor = task->factor;
    float *gradient = task->gradient;
    for (int64_t i = begin; i < end; i++)
        gradient[i] = (output[i] - target[i]) * factor;
}

static void mse_run(const LossCall *call, double *value)
{
    int64_t count = tensor_count(call->output);
    double noise, power;
    noise_power_f32(tensor_floats(call->output), tensor_floats(call->target), count, &noise, &power);
    *value = noise / (double)count * call->weight;
    if (!call->gradient) return;
    DifferenceTask task = {tensor_floats(call->output), tensor_floats(call->target), tensor_floats(call->gradient),
                           (float)(2 * call->weight / (double)count)};
    threads_for(count, GRAIN, difference_body, &task);
}

/* ---- rows of classes: [samples][classes][inner] ---- */

typedef struct Rows {
    int64_t count, classes, inner; /* count: samples * inner */
} Rows;

static Rows rows_of(const Tensor *tensor)
{
    Rows rows = {1, tensor->shape.rank > 1 ? tensor->shape.dims[1] : tensor_count(tensor), 1};
    for (int i = 2; i < tensor->shape.rank; i++)
        rows.inner *= tensor->shape.dims[i];
    rows.count = (tensor->shape.rank > 1 ? tensor->shape.dims[0] : 1) * rows.inner;
    return rows;
}

static int64_t row_begin(const Rows *rows, int64_t row)
{
    return row / rows->inner * rows->classes * rows->inner + row % rows->inner;
}

/* log of the sum of e^(x / temperature) */
static double log_sum(const float *x, const Rows *rows, double temperature)
{
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < rows->classes; c++)
        most = fmax(most, (double)x[c * rows->inner]);
    for (int64_t c = 0; c < rows->classes; c++)
        sum += espq_exp(((double)x[c * rows->inner] - most) / temperature);
    return most / temperature + espq_log(sum);
}

static int64_t class_of(const Tensor *target, int64_t row)
{
    switch (target->dtype) {
    case DTYPE_INT64: return ((const int64_t *)(const void *)target->data)[row];
    case DTYPE_INT32: return ((const int32_t *)(const void *)target->data)[row];
    default: return (int64_t)((const float *)(const void *)target->data)[row];
    }
}

static bool has_classes(const LossCall *call)
{
    return !shape_equal(&call->target->shape, &call->output->shape);
}

static void cross_entropy_run(const LossCall *call, double *value)
{
    Rows rows = rows_of(call->output);
    bool whole = has_classes(call);
    int64_t used = 0;
    double sum = 0;
    for (int64_t row = 0; row < rows.count; row++)
        used += !whole || class_of(call->target, row) >= 0;
    double share = used ? call->weight / (double)used : 0;
    for (int64_t row = 0; row < rows.count; row++) {
        const float *x = tensor_floats(call->output) + row_begin(&rows, row);
        const float *given = whole ? NULL : tensor_floats(call->target) + row_begin(&rows, row);
        int64_t class = whole ? class_of(call->target, row) : 0;
        double all = log_sum(x, &rows, 1), mass = 0;
        for (int64_t c = 0; c < rows.classes; c++)
            mass += whole ? 0 : (double)given[c * rows.inner];
        if (whole) mass = class >= 0;
        for (int64_t c = 0; c < rows.classes; c++) {
            double target = whole ? class >= 0 && c == class : (double)given[c * rows.inner];
            target = target * (1 - call->smoothing) + mass * call->smoothing / (double)rows.classes;
            double log = (double)x[c * rows.inner] - all;
            if (target != 0) sum -= target * log;
            if (call->gradient)
                tensor_floats(call->gradient)[row_begin(&rows, row) + c * rows.inner] = (float)((mass * espq_exp(log) - target) * share);
        }
    }
    *value = sum * share;
}

static void kl_run(const LossCall *call, double *value)
{
    Rows rows = rows_of(call->output);
    double t = call->temperature, share = call->weight / (double)rows.count, sum = 0;
    for (int64_t row = 0; row < rows.count; row++) {
        int64_t begin = row_begin(&rows, row);
        const float *x = tensor_floats(call->output) + begin, *given = tensor_floats(call->target) + begin;
        double all = log_sum(x, &rows, t), given_all = log_sum(given, &rows, t);
        for (int64_t c = 0; c < rows.classes; c++) {
            double log = (double)x[c * rows.inner] / t - all, given_log = (double)given[c * rows.inner] / t - given_all;
            double p = espq_exp(given_log);
            sum += p * (given_log - log);
            if (call->gradient) tensor_floats(call->gradient)[begin + c * rows.inner] = (float)((espq_exp(log) - p) * t * share);
        }
    }
    *value = sum * t * t * share;
}

/* ---- cosine ---- */

static void cosine_run(const LossCall *call, double *value)
{
    int64_t samples = call->output->shape.rank ? call->output->shape.dims[0] : 1, count = tensor_count(call->output) / samples;
    double share = call->weight / (double)samples, total = 0;
    for (int64_t n = 0; n < samples; n++) {
        const float *x = tensor_floats(call->output) + n * count, *y = tensor_floats(call->target) + n * count;
        double xx = 0, yy = 0, xy = 0;
        for (int64_t i = 0; i < count; i++) {
            xx += (double)x[i] * (double)x[i];
            yy += (double)y[i] * (double)y[i];
            xy += (double)x[i] * (double)y[i];
        }
        double size = sqrt(xx) * sqrt(yy), cosine = size > 0 ? xy / size : 0;
        total += 1 - cosine;
        float *gradient = call->gradient ? tensor_floats(call->gradient) + n * count : NULL;
        for (int64_t i = 0; gradient && i < count; i++)
            gradient[i] = size > 0 ? (float)((cosine * (double)x[i] / xx - (double)y[i] / size) * share) : 0.0f;
    }
    *value = total * share;
}

/* ---- rows ---- */

static const LossRow rows[] = {
    {"mse", "mean squared difference", false, mse_run},
    {"cross_entropy", "classes, from logits", true, cross_entropy_run},
    {"kl", "another model's classes, from its logits", false, kl_run},
    {"cosine", "1 - cosine of the angle, sample by sample", false, cosine_run},
};

#define ROWS ((int)(sizeof rows / sizeof *rows))

const LossRow *loss_row_at(int index)
{
    return index >= 0 && index < ROWS ? &rows[index] : NULL;
}

const LossRow *loss_find(const char *name, Error *error)
{
    const char *names[ROWS];
    for (int i = 0; i < ROWS; i++) {
        names[i] = rows[i].name;
        if (strcmp(rows[i].name, name) == 0) return &rows[i];
    }
    int nearest = text_nearest(name, names, ROWS);
    fail(error, name, "mse, cross_entropy, kl, cosine, or a function", "there is no loss '%s' (did you mean '%s'?)", name,
         names[nearest < 0 ? 0 : nearest]);
    return NULL;
}

static bool check_classes(const LossRow *row, const LossCall *call, Error *error)
{
    const Tensor *target = call->target;
    Rows classes = rows_of(call->output);
    bool whole = target->dtype == DTYPE_INT64 || target->dtype == DTYPE_INT32 || target->dtype == DTYPE_FLOAT32;
    if (!row->classes || !whole || tensor_count(target) != classes.count)
        return fail(error, row->name,
                    row->classes ? "give one class number a row, or as many probabilities as there are outputs"
                                 : "give a target of its shape",
                    "the target does not fit the output: %lld elements, the output has %lld", (long long)tensor_count(target),
                    (long long)tensor_count(call->output));
    for (int64_t i = 0; i < classes.count; i++)
        if (class_of(target, i) >= classes.classes)
            return fail(error, row->name, "classes are numbered from 0", "the target names class %lld, the output has %lld",
                        (long long)class_of(target, i), (long long)classes.classes);
    return true;
}

bool loss_run(const LossRow *row, const LossCall *call, double *value, Error *error)
{
    if (call->output->dtype != DTYPE_FLOAT32)
        return fail(error, row->name, "take an output of type float32", "a loss needs float32 outputs");
    if (tensor_count(call->output) == 0) return fail(error, row->name, NULL, "the output is empty: it has no loss");
    if (has_classes(call)) {
        if (!check_classes(row, call, error)) return false;
    } else if (call->target->dtype != DTYPE_FLOAT32) {
        return fail(error, row->name, "turn it into float32", "a target of the output's shape has to be float32");
    }
    row->run(call, value);
    return true;
}
