/* MaxPool, AveragePool, GlobalAveragePool (CHIP §2.12, §2.13); Resize stands in resize.c. */
#include "chip/pool.h"

#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "chip/arithmetic.h"
#include "chip/ends.h"
#include "chip/rows.h"
#include "chip/window.h"

#define BLOCK 64 /* channels whose sums are kept at once */

typedef struct Pool {
    Window window;
    int samples; /* that the chip computes */
    bool count_padding;
    float scale[2]; /* of a sum, before and behind the division by the area (CHIP §2.13) */
} Pool;

typedef struct PoolRun { /* of one sample */
    const Pool *pool;
    const ChipNode *node;
    const char *x;
    char *y;
    size_t bytes; /* of an element */
    void (*pixel)(const struct PoolRun *run, int row, int column);
} PoolRun;

/* The taps of a window that lie in the image. */
typedef struct Taps {
    int begin[2], end[2];
    int count;
} Taps;

static Taps taps_at(const Window *w, int row, int column)
{
    Taps taps;
    int at[2] = {row, column};
    for (int i = 0; i < 2; i++) {
        int first = at[i] * w->stride[i] - w->pad[i], last = first + w->kernel[i];
        taps.begin[i] = first < 0 ? 0 : first;
        taps.end[i] = last > w->in[i] ? w->in[i] : last;
    }
    int rows = taps.end[0] - taps.begin[0], columns = taps.end[1] - taps.begin[1];
    taps.count = rows > 0 && columns > 0 ? rows * columns : 0;
    return taps;
}

static inline const char *pixel_at(const PoolRun *run, int row, int column)
{
    const Window *w = &run->pool->window;
    return run->x + ((size_t)row * (size_t)w->in[1] + (size_t)column) * (size_t)w->channels * run->bytes;
}
static inline char *result_at(const PoolRun *run, int row, int column)
{
    const Window *w = &run->pool->window;
    return run->y + ((size_t)row * (size_t)w->out[1] + (size_t)column) * (size_t)w->channels * run->bytes;
}

/* One register of elements each; the compiler has instructions for the comparison on every processor. */
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef int16_t Words __attribute__((vector_size(16)));

static void larger_bytes(int8_t *y, const int8_t *x, int count)
{
    int i = 0;
    for (; i + 16 <= count; i += 16) {
        Bytes a, b;
        memcpy(&a, y + i, sizeof a);
        memcpy(&b, x + i, sizeof b);
        Bytes mask = a > b;
        a = (a & mask) | (b & ~mask);
        memcpy(y + i, &a, sizeof a);
    }
    for (; i < count; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void larger_words(int16_t *y, const int16_t *x, int count)
{
    int i = 0;
    for (; i + 8 <= count; i += 8) {
        Words a, b;
        memcpy(&a, y + i, sizeof a);
        memcpy(&b, x + i, sizeof b);
        Words mask = a > b;
        a = (a & mask) | (b & ~mask);
        memcpy(y + i, &a, sizeof a);
    }
    for (; i < count; i++)
        y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void largest_pixel(const PoolRun *run, int row, int column)
{
    int channels = run->pool->window.channels;
    Taps taps = taps_at(&run->pool->window, row, column);
    char *y = result_at(run, row, column);
    if (!taps.count) { /* all padding: the kernels start from the lowest number */
        for (int c = 0; c < channels; c++)
            write_integer(y, c, run->node->bits, -(INT64_C(1) << (run->node->bits - 1)));
        return;
    }
    memcpy(y, pixel_at(run, taps.begin[0], taps.begin[1]), (size_t)channels * run->bytes);
    for (int i = taps.begin[0]; i < taps.end[0]; i++) {
        for (int j = taps.begin[1]; j < taps.end[1]; j++) {
            const void *x = pixel_at(run, i, j);
            if (run->bytes == 1)
                larger_bytes((int8_t *)y, x, channels);
            else
                larger_words((int16_t *)(void *)y, x, channels);
        }
    }
}

/* What the sum over this window is multiplied with. */
static float area_inverse(const PoolRun *run, const Taps *taps)
{
    const Window *w = &run->pool->window;
    int area = run->pool->count_padding || !taps->count ? w->kernel[0] * w->kernel[1] : taps->count;
    return 1.0f / (float)area;
}

static inline void add(uint32_t *sums, const void *x, int first, int count, int bits)
{
    if (bits == 8) {
        const int8_t *values = (const int8_t *)x + first;
        for (int c = 0; c < count; c++)
            sums[c] += (uint32_t)values[c];
    } else {
        const int16_t *values = (const int16_t *)x + first;
        for (int c = 0; c < count; c++)
            sums[c] += (uint32_t)values[c];
    }
}

static void add_pixel(uint32_t *sums, const void *x, int first, int count, int bits)
{
    if (count == BLOCK)
        add(sums, x, first, BLOCK, bits); /* a constant, so that the compiler makes vectors of it */
    else
        add(sums, x, first, count, bits);
}

static void give_means(const uint32_t *sums, int count, float scale, Rounding rounding, int bits, void *y)
{
    for (int c = 0; c < count; c++) {
        float mean = (float)(int32_t)sums[c] * scale;
        if (bits == 8)
            ((int8_t *)y)[c] = (int8_t)row_round(mean, rounding, 8);
        else
            ((int16_t *)y)[c] = (int16_t)row_round(mean, rounding, 16);
    }
}

static void mean_pixel(const PoolRun *run, int row, int column)
{
    int channels = run->pool->window.channels, bits = run->node->bits;
    Taps taps = taps_at(&run->pool->window, row, column);
    char *y = result_at(run, row, column);
    float scale = run->pool->scale[0] * area_inverse(run, &taps) * run->pool->scale[1];
    for (int first = 0; first < channels; first += BLOCK) {
        int count = channels - first < BLOCK ? channels - first : BLOCK;
        uint32_t sums[BLOCK] = {0}; /* int32 that wraps */
        for (int i = taps.begin[0]; i < taps.end[0]; i++) {
            for (int j = taps.begin[1]; j < taps.end[1]; j++)
                add_pixel(sums, pixel_at(run, i, j), first, count, bits);
        }
        give_means(sums, count, scale, run->node->chip->rounding, bits, y + (size_t)first * run->bytes);
    }
}

static void mean_pixel_float(const PoolRun *run, int row, int column)
{
    int channels = run->pool->window.channels;
    Taps taps = taps_at(&run->pool->window, row, column);
    float *y = (float *)(void *)result_at(run, row, column), scale = area_inverse(run, &taps);
    for (int c = 0; c < channels; c++)
        y[c] = 0;
    for (int i = taps.begin[0]; i < taps.end[0]; i++) {
        for (int j = taps.begin[1]; j < taps.end[1]; j++) {
            const float *x = (const float *)(const void *)pixel_at(run, i, j);
            for (int c = 0; c < channels; c++)
                y[c] += x[c];
        }
    }
    for (int c = 0; c < channels; c++)
        y[c] *= scale;
}

static void pool_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const PoolRun *run = context;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        for (int column = 0; column < run->pool->window.out[1]; column++)
            run->pixel(run, (int)row, column);
    }
}

static void pool_run(const ChipRun *run, void (*pixel)(const PoolRun *, int, int))
{
    const Pool *pool = run->node->state;
    const Window *w = &pool->window;
    PoolRun one = {.pool = pool,
                   .node = run->node,
                   .x = run->inputs[0],
                   .y = run->outputs[0],
                   .bytes = dtype_bytes(run->node->inputs[0].dtype),
                   .pixel = pixel};
    size_t image = (size_t)w->in[0] * (size_t)w->in[1] * (size_t)w->channels * one.bytes;
    size_t result = (size_t)w->out[0] * (size_t)w->out[1] * (size_t)w->channels * one.bytes;
    int64_t row_work = (int64_t)w->out[1] * w->channels * w->kernel[0] * w->kernel[1], grain = 200000 / row_work;
    for (int n = 0; n < pool->samples; n++) {
        threads_for(w->out[0], grain > 0 ? grain : 1, pool_rows, &one);
        one.x += image;
        one.y += result;
    }
    memset(one.y, 0, result * (size_t)(w->samples - pool->samples));
}

static void max_run(const ChipRun *run)
{
    pool_run(run, largest_pixel);
}
static void mean_run(const ChipRun *run)
{
    pool_run(run, run->node->bits == 32 ? mean_pixel_float : mean_pixel);
}

static bool pool_window(const ChipNode *node, Window *window, Error *error)
{
    int64_t kernel[2] = {0};
    if (!needs(node, 1, 1, error)) return false;
    int axes = node->inputs[0].shape.rank - 2, count = node_integers(node->node, "kernel_shape", kernel, 2);
    if (count < axes)
        return refuse(node, error, "give one number an axis of the image", "kernel_shape has %d numbers for %d axes", count < 0 ? 0 : count,
                      axes);
    return window_read(node, kernel, false, window, error);
}

static bool pool_infer(ChipNode *node, Error *error)
{
    Window window;
    if (!pool_window(node, &window, error)) return false;
    node->outputs[0].shape = window_shape(node, &window, window.channels);
    return true;
}

/* One window as large as the image. */
static bool global_window(const ChipNode *node, Window *window, Error *error)
{
    const Shape *shape = &node->inputs[0].shape;
    return needs(node, 1, 1, error) && window_read(node, shape->rank > 2 ? shape->dims + 1 : shape->dims, false, window, error);
}

static bool global_infer(ChipNode *node, Error *error)
{
    Window window;
    if (!global_window(node, &window, error)) return false;
    node->outputs[0].shape = window_shape(node, &window, window.channels);
    return true;
}

static bool pool_prepare(ChipNode *node, const Window *window, bool floats, Error *error)
{
    if (node->bits == 32 && !floats) return refuse(node, error, "quantize it to 8 or 16 bits", "%s has no float kernel", node->node->type);
    if (!needs_kernel_type(node, &node->inputs[0], "input 0", error) || !needs_kernel_type(node, &node->outputs[0], "the output", error))
        return false;
    Pool *pool = memory_new(sizeof *pool);
    if (!pool) return fail_memory(error, sizeof *pool);
    node->state = pool;
    bool first_only = window->samples > 1 && chip_has(node->chip, TRAIT_FIRST_SAMPLE_ONLY);
    if (first_only) node->undefined = "C22: a pool computes the first sample of a batch only";
    *pool =
        (Pool){.window = *window,
               .samples = first_only ? 1 : window->samples,
               .count_padding = chip_has(node->chip, TRAIT_POOL_COUNTS_PADDING) || node_integer(node->node, "count_include_pad", 0) != 0,
               .scale = {scale_of(node->inputs[0].exponent), scale_of(-node->outputs[0].exponent)}};
    return true;
}

static bool max_prepare(ChipNode *node, Error *error)
{
    Window window;
    return pool_window(node, &window, error) && pool_prepare(node, &window, false, error);
}
static bool mean_prepare(ChipNode *node, Error *error)
{
    Window window;
    return pool_window(node, &window, error) && pool_prepare(node, &window, true, error);
}
static bool global_prepare(ChipNode *node, Error *error)
{
    Window window;
    return global_window(node, &window, error) && pool_prepare(node, &window, true, error);
}

const ChipModule chip_pool_modules[] = {
    {.type = "MaxPool", .infer = pool_infer, .prepare = max_prepare, .run = max_run},
    {.type = "AveragePool", .infer = pool_infer, .prepare = mean_prepare, .run = mean_run},
    {.type = "GlobalAveragePool", .infer = global_infer, .prepare = global_prepare, .run = mean_run},
    {.type = "Resize", .infer = resize_infer, .prepare = resize_prepare, .run = resize_run},
    {0},
};
