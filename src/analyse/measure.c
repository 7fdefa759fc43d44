#include "analyse/measure.h"

#include <math.h>
#include <strings.h>

#include "base/text.h"
#include "kernel/quantize.h"

static const char *const names[] = {"snr", "cosine", "mse"};

bool measure_from_name(const char *name, Measure *measure, Error *error)
{
    for (int i = 0; i < 3; i++) {
        if (strcasecmp(name, names[i]) != 0) continue;
        *measure = (Measure)i;
        return true;
    }
    int near = text_nearest(name, names, 3);
    return fail(error, name, near < 0 ? "known are snr, cosine and mse" : names[near], "unknown measure '%s'%s%s%s", name,
                near < 0 ? "" : " (did you mean '", near < 0 ? "" : names[near], near < 0 ? "" : "'?)");
}

typedef struct Sums {
    double noise, power, dot, square;
} Sums;

/* Only what the measure needs; blocks of 4096 like noise_power_f32. */
static Sums sum_row(Measure measure, const float *floating, const float *quantized, int64_t count)
{
    Sums sums = {0};
    noise_power_f32(quantized, floating, count, &sums.noise, &sums.power);
    if (measure != MEASURE_COSINE) return sums;
    for (int64_t begin = 0; begin < count; begin += 4096) {
        double dot = 0, square = 0;
        for (int64_t i = begin; i < count && i < begin + 4096; i++) {
            dot += (double)floating[i] * quantized[i];
            square += (double)quantized[i] * quantized[i];
        }
        sums.dot += dot;
        sums.square += square;
    }
    return sums;
}

static double finish(Measure measure, const Sums *sums, int64_t count)
{
    switch (measure) {
    case MEASURE_SNR: return sums->noise / (sums->power + 1e-7);
    case MEASURE_COSINE: return sums->dot / fmax(sqrt(sums->power) * sqrt(sums->square), 1e-8);
    case MEASURE_MSE: return count ? sums->noise / (double)count : 0;
    }
    return 0;
}

void part_add_rows(Part *part, Measure measure, const float *floating, const float *quantized, int64_t rows, int64_t count)
{
    for (int64_t i = 0; i < rows; i++) {
        Sums sums = sum_row(measure, floating + i * count, quantized + i * count, count);
        part->measured += finish(measure, &sums, count);
    }
    part->rows += rows;
    part->weight += rows;
}

void part_add_stretch(Part *part, const float *floating, const float *quantized, int64_t count)
{
    Sums sums = sum_row(MEASURE_COSINE, floating, quantized, count);
    part->noise += sums.noise;
    part->power += sums.power;
    part->dot += sums.dot;
    part->square += sums.square;
    part->elements += count;
    part->weight += count;
}

void recorder_update(Recorder *recorder, Measure measure, const Part *parts, int count, int64_t stride)
{
    Part all = {0};
    for (int i = 0; i < count; i++) {
        const Part *part = parts + i * stride;
        all.measured += part->measured;
        all.rows += part->rows;
        all.noise += part->noise;
        all.power += part->power;
        all.dot += part->dot;
        all.square += part->square;
        all.elements += part->elements;
        all.weight += part->weight;
    }
    if (all.weight == 0) return;
    Sums sums = {all.noise, all.power, all.dot, all.square};
    double value = all.rows ? all.measured / (double)all.rows : finish(measure, &sums, all.elements);
    double before = recorder->value * (double)recorder->weight;
    recorder->weight += all.weight;
    recorder->value = (before + value * (double)all.weight) / (double)recorder->weight;
    recorder->any = true;
}

double recorder_value(const Recorder *recorder, Measure measure)
{
    return recorder->any ? recorder->value : measure == MEASURE_COSINE ? 1 : 0;
}
