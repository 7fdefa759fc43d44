/* The search of the kl method (QUANT §8.4): 32 candidates for the upper end, each judged by the divergence between the histogram and
 * what is left of it after quantization.
 *
 * The histogram's part of the divergence is the same for all candidates but for the last bin, and within a group of bins that fall onto
 * one level all quantized probabilities are equal. Running sums over the bins thus leave one logarithm a level and candidate (at 16 bits
 * 32 times 32,768 of them instead of 2 times 17 million). The running sums carry a compensation: what is left of them is the rounding of
 * one double. Empty bins add nothing, and at 16 bits most of the million are empty: only filled ones are kept and walked. */
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

typedef struct Compensated {
    double sum, rest;
} Compensated;

static inline void compensated_add(Compensated *to, double value)
{
    double sum = to->sum + value;
    to->rest += fabs(to->sum) >= fabs(value) ? (to->sum - sum) + value : (value - sum) + to->sum;
    to->sum = sum;
}

/* The filled bins, and sums over those before each (and, behind the last, over all). */
typedef struct Filled {
    int64_t number;
    int64_t *index;      /* of the bin, ascending */
    float *content;      /* its count */
    double *count;       /* sums: whole numbers, exact */
    double *probability; /* p = count / total in float32 */
    double *entropy;     /* p * log10(p) */
} Filled;

/* The reference's view of a histogram: what lies below 1/500 of it is one count at that place (QUANT §8.4). */
static int64_t count_filled(const float *histogram, int64_t bins, int64_t head)
{
    int64_t number = 1;
    for (int64_t i = head + 1; i < bins; i++)
        number += histogram[i] > 0;
    return number;
}

static void fill(Filled *filled, const float *histogram, int64_t bins, int64_t head)
{
    filled->number = 1;
    filled->index[0] = head;
    filled->content[0] = 1;
    for (int64_t i = head + 1; i < bins; i++) {
        if (!(histogram[i] > 0)) continue;
        filled->index[filled->number] = i;
        filled->content[filled->number++] = histogram[i];
    }
}

static float sum_up(Filled *filled, const LogTable *table)
{
    int64_t number = filled->number;
    filled->count[0] = filled->probability[0] = filled->entropy[0] = 0;
    for (int64_t k = 0; k < number; k++)
        filled->count[k + 1] = filled->count[k] + (double)filled->content[k];
    float total = (float)filled->count[number];
    Compensated probability = {0, 0}, entropy = {0, 0};
    for (int64_t k = 0; k < number; k++) {
        double p = (double)(filled->content[k] / total);
        compensated_add(&probability, p);
        compensated_add(&entropy, p * fast_log10(table, p + NOTHING));
        filled->probability[k + 1] = probability.sum + probability.rest;
        filled->entropy[k + 1] = entropy.sum + entropy.rest;
    }
    return total;
}

/* The filled bins from `from` on that fall onto one level; *value is what each of them holds after quantization, in counts. */
static inline int64_t level_end(const Filled *filled, int64_t from, int64_t below, int64_t width, int64_t *end, float *value)
{
    int64_t to = from + 1;
    *end = (filled->index[from] / width + 1) * width;
    while (to < below && filled->index[to] < *end)
        to++;
    *value = (float)(filled->count[to] - filled->count[from]) / (float)(to - from);
    return to;
}

/* The divergence when bins from `range` on are clipped into bin range-1; `below`: how many filled bins lie under range. */
static double divergence(const Filled *filled, int64_t below, int64_t range, int64_t levels, float total, const LogTable *table)
{
    int64_t width = range / levels, end;
    bool last_filled = below > 0 && filled->index[below - 1] == range - 1;
    int64_t before_last = last_filled ? below - 1 : below;
    double quantized = 0;
    float value;
    for (int64_t from = 0, to; from < below; from = to) {
        to = level_end(filled, from, below, width, &end, &value);
        quantized += (double)value * (double)(to - from);
    }
    float quantized_total = (float)quantized;
    float clipped = (float)(filled->count[filled->number] - filled->count[below]);
    double last = (double)(((last_filled ? filled->content[below - 1] : 0.0f) + clipped) / total);
    Compensated sum = {filled->entropy[before_last], 0};
    if (last > 0) compensated_add(&sum, last * fast_log10(table, last + NOTHING));
    for (int64_t from = 0, to; from < below; from = to) {
        to = level_end(filled, from, below, width, &end, &value);
        double probability = filled->probability[end == range ? before_last : to] - filled->probability[from];
        if (end == range && last_filled) probability += last;
        compensated_add(&sum, -probability * fast_log10(table, (double)(value / quantized_total) + NOTHING));
    }
    if (!last_filled && last > 0) compensated_add(&sum, -last * fast_log10(table, NOTHING));
    return sum.sum + sum.rest;
}

bool kl_scale(const float *histogram, int64_t bins, double range, int64_t levels, double *scale, int64_t *best, Error *error)
{
    int64_t head = (int64_t)((double)bins * 0.002), number = count_filled(histogram, bins, head);
    size_t items = (size_t)number + 1, bytes = sizeof(LogTable) + items * (3 * sizeof(double) + sizeof(int64_t) + sizeof(float));
    char *memory = memory_new(bytes);
    if (!memory) return fail_memory(error, bytes);
    LogTable *table = (LogTable *)(void *)memory;
    double *numbers = (double *)(void *)(table + 1);
    int64_t *index = (int64_t *)(void *)(numbers + 3 * items);
    Filled filled = {number, index, (float *)(void *)(index + items), numbers, numbers + items, numbers + 2 * items};
    log_table_fill(table);
    fill(&filled, histogram, bins, head);
    float total = sum_up(&filled, table);
    double least = INFINITY;
    int64_t winner = bins, below = 0;
    for (int64_t end = levels; end <= bins; end += levels) {
        while (below < number && filled.index[below] < end)
            below++;
        double loss = divergence(&filled, below, end, levels, total, table);
        if (loss < least) least = loss, winner = end;
    }
    *scale = (double)winner / (double)bins * (range / (double)bins) * ((double)bins / (double)levels);
    if (best) *best = winner;
    memory_free(memory);
    return true;
}
