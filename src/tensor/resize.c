/* Resizing as PIL does: each output pixel is a weighted sum of the input pixels under a filter that is widened when the picture
 * shrinks; weights are normalised and rounded to fixed point, columns first, then rows, 8 bits in between. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/threads.h"
#include "tensor/image.h"

enum { FRACTION_BITS = 32 - 8 - 2 }; /* room for the sum's sign and an overshoot of the bicubic filter */
enum { ROW_BLOCK = 1024, ROW_GRAIN = 16 };

static double sinc(double x)
{
    return x == 0 ? 1 : espq_sin(M_PI * x) / (M_PI * x);
}

static double weight_of(ImageFilter filter, double x)
{
    double distance = fabs(x);
    switch (filter) {
    case FILTER_BOX: return x > -0.5 && x <= 0.5;
    case FILTER_BILINEAR: return distance < 1 ? 1 - distance : 0;
    case FILTER_HAMMING: return distance >= 1 ? 0 : sinc(distance) * (0.54 + 0.46 * espq_cos(M_PI * distance));
    case FILTER_BICUBIC: /* Keys, a = -0.5 */
        if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
        return distance < 2 ? -0.5 * (((distance - 5) * distance + 8) * distance - 4) : 0;
    case FILTER_LANCZOS: return distance < 3 ? sinc(x) * sinc(x / 3) : 0;
    case FILTER_NEAREST: break;
    }
    return 0;
}

static double support_of(ImageFilter filter)
{
    static const double support[] = {
        [FILTER_BOX] = 0.5, [FILTER_BILINEAR] = 1, [FILTER_HAMMING] = 1, [FILTER_BICUBIC] = 2, [FILTER_LANCZOS] = 3};
    return support[filter];
}

bool image_filter_from_name(const char *name, ImageFilter *filter, Error *error)
{
    static const char *const names[] = {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"};
    for (int i = 0; i < 6; i++)
        if (strcasecmp(name, names[i]) == 0) {
            *filter = (ImageFilter)i;
            return true;
        }
    return fail(error, NULL, "use nearest, box, bilinear, hamming, bicubic or lanczos", "unknown interpolation '%s'", name);
}

typedef struct Taps {
    int most;           /* weights a pixel has room for */
    int *first, *count; /* one an output pixel */
    int32_t *weights;   /* [output][most], fixed point */
} Taps;

static void taps_free(Taps *taps)
{
    memory_free(taps->first);
    memory_free(taps->count);
    memory_free(taps->weights);
}

static bool taps_make(Taps *taps, int64_t in, int64_t out, ImageFilter filter, Error *error)
{
    double scale = (double)in / (double)out, widening = scale < 1 ? 1 : scale, support = support_of(filter) * widening;
    taps->most = (int)ceil(support) * 2 + 1;
    taps->first = memory_new_array((size_t)out, sizeof(int));
    taps->count = memory_new_array((size_t)out, sizeof(int));
    taps->weights = memory_new_array((size_t)out * (size_t)taps->most, sizeof(int32_t));
    double *exact = memory_new_array((size_t)taps->most, sizeof(double));
    bool ok = taps->first && taps->count && taps->weights && exact;
    for (int64_t i = 0; ok && i < out; i++) {
        double center = ((double)i + 0.5) * scale, sum = 0;
        int64_t first = (int64_t)(center - support + 0.5), end = (int64_t)(center + support + 0.5);
        if (center - support + 0.5 < 0) first = 0;
        if (end > in) end = in;
        int count = (int)(end - first);
        for (int k = 0; k < count; k++)
            sum += exact[k] = weight_of(filter, ((double)(first + k) - center + 0.5) / widening);
        for (int k = 0; k < count; k++) {
            double fixed = (sum != 0 ? exact[k] / sum : exact[k]) * (1 << FRACTION_BITS);
            taps->weights[i * taps->most + k] = (int32_t)(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
        }
        taps->first[i] = (int)first;
        taps->count[i] = count;
    }
    memory_free(exact);
    if (!ok) {
        taps_free(taps);
        return fail_memory(error, (size_t)out * (size_t)taps->most * 4);
    }
    return true;
}

static uint8_t clip(int32_t sum)
{
    sum >>= FRACTION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

typedef struct Pass {
    const uint8_t *from;
    uint8_t *to;
    int64_t in, out, channels; /* columns */
    int64_t items;             /* rows: bytes of a row */
    const Taps *taps;
} Pass;

/* [rows][in][channels] → [rows][out][channels] */
static void resize_columns(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Pass *pass = context;
    const Taps *taps = pass->taps;
    int64_t channels = pass->channels;
    for (int64_t y = begin; y < end; y++)
        for (int64_t x = 0; x < pass->out; x++) {
            const int32_t *weights = taps->weights + x * taps->most;
            const uint8_t *source = pass->from + (y * pass->in + taps->first[x]) * channels;
            for (int64_t c = 0; c < channels; c++) {
                int32_t sum = 1 << (FRACTION_BITS - 1);
                for (int k = 0; k < taps->count[x]; k++)
                    sum += source[k * channels + c] * weights[k];
                pass->to[(y * pass->out + x) * channels + c] = clip(sum);
            }
        }
}

/* [in][items] → [out][items] */
static void resize_rows(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Pass *pass = context;
    const Taps *taps = pass->taps;
    int32_t sums[ROW_BLOCK];
    for (int64_t y = begin; y < end; y++)
        for (int64_t at = 0; at < pass->items; at += ROW_BLOCK) {
            int64_t items = pass->items - at < ROW_BLOCK ? pass->items - at : ROW_BLOCK;
            for (int64_t i = 0; i < items; i++)
                sums[i] = 1 << (FRACTION_BITS - 1);
            for (int k = 0; k < taps->count[y]; k++) {
                const uint8_t *source = pass->from + (taps->first[y] + k) * pass->items + at;
                int32_t weight = taps->weights[y * taps->most + k];
                for (int64_t i = 0; i < items; i++)
                    sums[i] += source[i] * weight;
            }
            for (int64_t i = 0; i < items; i++)
                pass->to[y * pass->items + at + i] = clip(sums[i]);
        }
}

/* Nearest: centres are found by adding the scale step by step, as PIL does, since the sum's rounding decides at pixel borders. */
static void resize_nearest(const Tensor *image, Tensor *result)
{
    int64_t in_height = image->shape.dims[0], in_width = image->shape.dims[1], channels = image->shape.dims[2];
    int64_t height = result->shape.dims[0], width = result->shape.dims[1];
    double scale_y = (double)in_height / (double)height, scale_x = (double)in_width / (double)width, at_y = scale_y * 0.5;
    char *out = result->data;
    for (int64_t y = 0; y < height; y++, at_y += scale_y) {
        int64_t row = (int64_t)at_y < in_height ? (int64_t)at_y : in_height - 1;
        double at_x = scale_x * 0.5;
        for (int64_t x = 0; x < width; x++, at_x += scale_x, out += channels) {
            int64_t column = (int64_t)at_x < in_width ? (int64_t)at_x : in_width - 1;
            memcpy(out, image->data + (row * in_width + column) * channels, (size_t)channels);
        }
    }
}

Tensor *image_resize(const Tensor *image, int64_t height, int64_t width, ImageFilter filter, Error *error)
{
    if (image->dtype != DTYPE_UINT8 || image->shape.rank != 3 || height < 1 || width < 1 || height > 65500 || width > 65500) {
        fail(error, NULL, "give a picture as espq.image makes it, and a size of 1 to 65500", "a picture of this form cannot be resized");
        return NULL;
    }
    int64_t in_height = image->shape.dims[0], in_width = image->shape.dims[1], channels = image->shape.dims[2];
    if (in_height < 1 || in_width < 1) {
        fail(error, NULL, NULL, "an empty picture cannot be resized");
        return NULL;
    }
    Tensor *result = tensor_new_unset(DTYPE_UINT8, &(Shape){3, {height, width, channels}}, error);
    if (!result) return NULL;
    if (filter == FILTER_NEAREST) {
        resize_nearest(image, result);
        return result;
    }
    Taps columns = {0}, rows = {0};
    uint8_t *middle = memory_new((size_t)(in_height * width * channels));
    bool ok = middle != NULL;
    if (!ok) fail_memory(error, (size_t)(in_height * width * channels));
    ok = ok && taps_make(&columns, in_width, width, filter, error);
    if (ok && !taps_make(&rows, in_height, height, filter, error)) {
        taps_free(&columns);
        ok = false;
    }
    if (ok) {
        Pass across = {(const uint8_t *)image->data, middle, in_width, width, channels, 0, &columns};
        Pass down = {.from = middle, .to = (uint8_t *)result->data, .items = width * channels, .taps = &rows};
        threads_for(in_height, ROW_GRAIN, resize_columns, &across);
        threads_for(height, ROW_GRAIN, resize_rows, &down);
        taps_free(&columns);
        taps_free(&rows);
    }
    memory_free(middle);
    if (!ok) {
        tensor_release(result);
        return NULL;
    }
    return result;
}
