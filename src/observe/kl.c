/* The search of the kl method (QUANT §8.4): 32 candidates for the upper end, each judged by the divergence between the histogram and
 * what is left of it after quantization.
 *
 * The histogram's part of the divergence is the same for all candidates but for the last bin, and within a group of bins that fall onto
 * one level all quantized probabilities are equal. Running sums over the bins thus leave one logarithm a level and candidate (at 16 bits
 * 32 times 32,768 of them instead of 2 times 17 million). The running sums carry a compensation: what is left of them is the rounding of
 * one double. */
#include <math.h>
#include <string.h>

#include "base/math.h"
#include "base/memory.h"
#include "observe/observer.h"

#define LOG10_OF_2 0.30102999566398119521
#define LOG10_OF_E 0.43429448190325182765
#define NOTHING 1e-30 /* added to each probability */

/* log10 of a positive normal number, absolute error below 1e-15: a table over the mantissa's first 7 bits, a polynomial behind it. */
enum { TABLE = 128 };

typedef struct LogTable {
    double inverse[TABLE], log10[TABLE];
} LogTable;

static void log_table_fill(LogTable *table)
{
    for (int i = 0; i < TABLE; i++) {
        table->inverse[i] = 1 / (1 + (i + 0.5) / TABLE);
        table->log10[i] = -espq_log(table->inverse[i]) * LOG10_OF_E;
    }
}

static inline double fast_log10(const LogTable *table, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023, index = (int)(bits >> 45 & (TABLE - 1));
    bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
    double mantissa;
    memcpy(&mantissa, &bits, sizeof mantissa);
    double r = mantissa * table->inverse[index] - 1;
    double series = r * (1 + r * (-1.0 / 2 + r * (1.0 / 3 + r * (-1.0 / 4 + r * (1.0 / 5 + r * (-1.0 / 6 + r * (1.0 / 7)))))));
    return exponent * LOG10_OF_2 + table->log10[index] + series * LOG10_OF_E;
}

/* Sums over the bins below an index. */
typedef struct Sums {
    double *count;       /* of the histogram: whole numbers, exact */
    double *probability; /* p = count / total in float32 */
    double *entropy;     /* p * log10(p) */
    int32_t *filled;     /* bins that are not empty */
} Sums;

typedef struct Compensated {
    double sum, rest;
} Compensated;

static inline void compensated_add(Compensated *to, double value)
{
    double sum = to->sum + value;
    to->rest += fabs(to->sum) >= fabs(value) ? (to->sum - sum) + value : (value - sum) + to->sum;
    to->sum = sum;
}

static float sums_fill(Sums *sums, const float *histogram, int64_t bins, const LogTable *table)
{
    sums->count[0] = sums->probability[0] = sums->entropy[0] = 0;
    sums->filled[0] = 0;
    for (int64_t i = 0; i < bins; i++)
        sums->count[i + 1] = sums->count[i] + (double)histogram[i];
    float total = (float)sums->count[bins];
    Compensated probability = {0, 0}, entropy = {0, 0};
    for (int64_t i = 0; i < bins; i++) {
        if (histogram[i] > 0) {
            double p = (double)(histogram[i] / total);
            compensated_add(&probability, p);
            compensated_add(&entropy, p * fast_log10(table, p + NOTHING));
        }
        sums->probability[i + 1] = probability.sum + probability.rest;
        sums->entropy[i + 1] = entropy.sum + entropy.rest;
        sums->filled[i + 1] = sums->filled[i] + (histogram[i] > 0);
    }
    return total;
}

/* What one bin of [from, to) holds after quantization, in counts; 0 when all are empty. */
static inline float level_value(const Sums *sums, int64_t from, int64_t to)
{
    int32_t filled = sums->filled[to] - sums->filled[from];
    return filled ? (float)(sums->count[to] - sums->count[from]) / (float)filled : 0.0f;
}

/* The divergence when bins from `range` on are clipped into bin range-1. */
static double divergence(const Sums *sums, const float *histogram, int64_t bins, int64_t range, int64_t levels, float total,
                         const LogTable *table)
{
    int64_t width = range / levels;
    double quantized = 0;
    for (int64_t from = 0; from < range; from += width) {
        quantized += (double)level_value(sums, from, from + width) * (double)(sums->filled[from + width] - sums->filled[from]);
    }
    float quantized_total = (float)quantized;
    float clipped = (float)(sums->count[bins] - sums->count[range]);
    double last = (double)((histogram[range - 1] + clipped) / total);
    Compensated sum = {sums->entropy[range - 1], 0};
    if (last > 0) compensated_add(&sum, last * fast_log10(table, last + NOTHING));
    for (int64_t from = 0; from < range; from += width) {
        float value = level_value(sums, from, from + width);
        bool ends = from + width == range;
        double probability = sums->probability[ends ? range - 1 : from + width] - sums->probability[from];
        if (ends && histogram[range - 1] > 0) probability += last;
        if (value > 0) compensated_add(&sum, -probability * fast_log10(table, (double)(value / quantized_total) + NOTHING));
    }
    if (!(histogram[range - 1] > 0) && last > 0) compensated_add(&sum, -last * fast_log10(table, NOTHING));
    return sum.sum + sum.rest;
}

bool kl_scale(float *histogram, int64_t bins, double range, int64_t levels, double *scale, int64_t *best, Error *error)
{
    size_t items = (size_t)bins + 1, bytes = items * (3 * sizeof(double) + sizeof(int32_t)) + sizeof(LogTable);
    char *memory = memory_new(bytes);
    if (!memory) return fail_memory(error, bytes);
    LogTable *table = (LogTable *)(void *)memory;
    double *numbers = (double *)(void *)(table + 1);
    Sums sums = {numbers, numbers + items, numbers + 2 * items, (int32_t *)(void *)(numbers + 3 * items)};
    log_table_fill(table);

    int64_t head = (int64_t)((double)bins * 0.002);
    for (int64_t i = 0; i < head; i++)
        histogram[i] = 0;
    histogram[head] = 1;
    float total = sums_fill(&sums, histogram, bins, table);
    double least = INFINITY;
    int64_t winner = bins;
    for (int64_t end = levels; end <= bins; end += levels) {
        double loss = divergence(&sums, histogram, bins, end, levels, total, table);
        if (loss < least) least = loss, winner = end;
    }
    *scale = (double)winner / (double)bins * (range / (double)bins) * ((double)bins / (double)levels);
    if (best) *best = winner;
    memory_free(memory);
    return true;
}
