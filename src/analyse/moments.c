#include "analyse/moments.h"

#include <math.h>

#define BINS 32

/* As torch.histc in float32: equal ends are moved apart by one on each side; the last bin holds its upper end. */
static void fill_histogram(const float *x, int64_t count, Moments *moments)
{
    float low = (float)moments->minimum, high = (float)moments->maximum;
    if (low == high) {
        low -= 1;
        high += 1;
    }
    if (!isfinite(low) || !isfinite(high)) return;
    for (int64_t i = 0; i < count; i++) {
        if (isnan(x[i])) continue;
        int bin = (int)((x[i] - low) * BINS / (high - low));
        moments->histogram[bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin]++;
    }
}

void moments_of(const float *x, int64_t count, Moments *moments)
{
    double sum = 0, squares = 0, cubes = 0, fourths = 0;
    *moments = (Moments){.mean = NAN, .deviation = NAN, .skewness = NAN, .kurtosis = NAN, .minimum = NAN, .maximum = NAN};
    if (count == 0) return;
    moments->minimum = moments->maximum = x[0];
    for (int64_t i = 0; i < count; i++) {
        sum += x[i];
        if (x[i] < moments->minimum || isnan(x[i])) moments->minimum = x[i];
        if (x[i] > moments->maximum || isnan(x[i])) moments->maximum = x[i];
    }
    moments->mean = sum / (double)count;
    for (int64_t i = 0; i < count; i++)
        squares += (x[i] - moments->mean) * (x[i] - moments->mean);
    if (count > 1) moments->deviation = sqrt(squares / (double)(count - 1));
    if (moments->deviation > 0) {
        for (int64_t i = 0; i < count; i++) {
            double z = (x[i] - moments->mean) / moments->deviation;
            cubes += z * z * z;
            fourths += z * z * z * z;
        }
        moments->skewness = cubes / (double)count;
        moments->kurtosis = fourths / (double)count - 3;
    }
    fill_histogram(x, count, moments);
}
