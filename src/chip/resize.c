/* Resize: nearest and linear (CHIP §2.14). Images are [N, H, W, C] or [N, W, C]; scales and sizes are in the order N, C, (H,) W. */
#include <limits.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "chip/arithmetic.h"
#include "chip/ends.h"
#include "chip/pool.h"
#include "chip/rows.h"

typedef struct Resize {
    int64_t samples, computed, channels; /* computed: samples that the chip computes */
    int64_t in[2], out[2];               /* rows, columns; rank 3: one row */
    float inverse[2];                    /* of the scales */
    bool linear, corners, nothing;       /* nothing: the chip's function is empty */
    int axes;
    float in_scale, out_scale;
    int shift;        /* nearest: right shift of the result */
    float multiplier; /* nearest: what it is multiplied with before */
    bool wraps;       /* nearest: the result keeps its low bits */
} Resize;

static bool read_resize(const ChipNode *node, Resize *resize, Error *error)
{
    const Shape *shape = &node->inputs[0].shape;
    *resize = (Resize){.axes = shape->rank - 2, .in = {1, 1}, .out = {1, 1}, .inverse = {1, 1}};
    if (resize->axes != 1 && resize->axes != 2)
        return refuse(node, error, "the runtime takes [N, H, W, C] or [N, W, C]", "an image of %d axes", shape->rank);
    resize->samples = shape->dims[0];
    resize->channels = shape->dims[shape->rank - 1];
    int64_t sizes[ESPQ_MAX_RANK];
    int count = 0;
    const Tensor *scales = has_input(node, 2) ? node->inputs[2].constant : NULL;
    if (has_input(node, 3) && node->inputs[3].constant && tensor_count(node->inputs[3].constant) > 0) {
        if (!needs_numbers(node, 3, sizes, ESPQ_MAX_RANK, &count, error)) return false;
    } else if (!scales || scales->dtype != DTYPE_FLOAT32 || tensor_count(scales) > ESPQ_MAX_RANK) {
        return refuse(node, error, "give it constant scales (float32) or sizes (int64)", "neither scales nor sizes are constant");
    }
    if ((count ? count : (int)tensor_count(scales)) != shape->rank)
        return refuse(node, error, "give one number an axis, in the order N, C, (H,) W", "%d numbers for %d axes",
                      count ? count : (int)tensor_count(scales), shape->rank);
    for (int i = 0; i < resize->axes; i++) {
        int at = i + 2 - resize->axes;
        int64_t in = shape->dims[1 + i];
        float scale = count ? (float)sizes[2 + i] / (float)in : tensor_floats(scales)[2 + i];
        float wanted = count ? (float)sizes[2 + i] : (float)in * scale;
        if (in < 1 || !(wanted >= 1.0f) || !(wanted < 16777216.0f))
            return refuse(node, error, "export the model again", "%lld elements to %g along axis %d", (long long)in, (double)wanted, 1 + i);
        resize->in[at] = in;
        resize->out[at] = count ? sizes[2 + i] : (int64_t)wanted;
        resize->inverse[at] = 1.0f / scale;
    }
    return true;
}

bool resize_infer(ChipNode *node, Error *error)
{
    Resize resize;
    if (!needs(node, 1, 1, error) || !read_resize(node, &resize, error)) return false;
    Shape *out = &node->outputs[0].shape;
    *out = node->inputs[0].shape;
    for (int i = 0; i < resize.axes; i++)
        out->dims[1 + i] = resize.out[i + 2 - resize.axes];
    return true;
}

static bool twice(const Resize *resize)
{
    return resize->axes == 2 && resize->inverse[0] == 0.5f && resize->inverse[1] == 0.5f;
}

static void set_nearest(ChipNode *node, Resize *resize)
{
    const Chip *chip = node->chip;
    int difference = node->outputs[0].exponent - node->inputs[0].exponent;
    resize->shift = difference > 0 ? difference : 0;
    resize->multiplier = scale_of(difference < 0 ? -difference : 0);
    resize->wraps = chip_has(chip, TRAIT_RESIZE_WRAPS);
    if (chip_has(chip, TRAIT_NARROW_MULTIPLIER) && difference <= -7) resize->multiplier = difference == -7 ? -128 : 0; /* one byte, C6 */
    if (chip_has(chip, TRAIT_RESIZE_UNSET) && resize->channels < 16 && !twice(resize))
        node->undefined = "C34: nearest Resize of fewer than 16 channels reads registers that nothing set";
}

bool resize_prepare(ChipNode *node, Error *error)
{
    if (node->bits != 8 && node->bits != 16) return refuse(node, error, "quantize it to 8 bits", "Resize has no float kernel");
    if (!needs_kernel_type(node, &node->inputs[0], "input 0", error) || !needs_kernel_type(node, &node->outputs[0], "the output", error))
        return false;
    Resize *resize = memory_new(sizeof *resize);
    if (!resize) return fail_memory(error, sizeof *resize);
    node->state = resize;
    if (!read_resize(node, resize, error)) return false;
    const char *mode = node_string(node->node, "mode", "nearest");
    resize->linear = strcmp(mode, "linear") == 0;
    if (!resize->linear && strcmp(mode, "nearest") != 0)
        return refuse(node, error, "use nearest or linear", "mode \"%s\"; the runtime knows nearest and linear", mode);
    resize->corners = strcmp(node_string(node->node, "coordinate_transformation_mode", ""), "align_corners") == 0;
    resize->in_scale = scale_of(node->inputs[0].exponent);
    resize->out_scale = scale_of(-node->outputs[0].exponent);
    resize->computed = resize->samples;
    if (resize->samples > 1 && chip_has(node->chip, TRAIT_FIRST_SAMPLE_ONLY)) {
        resize->computed = 1;
        node->undefined = "C22: Resize computes the first sample of a batch only";
    }
    if (!resize->linear) set_nearest(node, resize);
    if (node->bits == 16 && chip_has(node->chip, TRAIT_NO_WIDE_RESIZE)) {
        resize->nothing = true;
        node->undefined = "C8: Resize of 16 bits does nothing";
    }
    return true;
}

typedef struct ResizeRun { /* of one sample */
    const Resize *resize;
    const ChipNode *node;
    const char *x;
    char *y;
} ResizeRun;

static int64_t nearest_index(int64_t out, float inverse, int64_t length)
{
    int64_t index = (int64_t)((float)out * inverse);
    return index < length ? index : length - 1;
}

static void nearest_pixel(const ResizeRun *run, const char *x, char *y)
{
    const Resize *r = run->resize;
    int bits = run->node->bits;
    if (r->shift == 0 && r->multiplier == 1.0f) {
        memcpy(y, x, (size_t)r->channels * (size_t)bits / 8);
        return;
    }
    float scale = r->multiplier * scale_of(-r->shift);
    for (int64_t c = 0; c < r->channels; c++) {
        float v = (float)read_integer(x, c, bits) * scale;
        write_integer(y, c, bits, round_saturate(v, run->node->chip->rounding, r->wraps ? 32 : bits));
    }
}

/* Which two elements, and the weight of the second. */
typedef struct Mix {
    int64_t first, second;
    float weight;
} Mix;

static Mix mix_at(const Resize *r, int axis, int64_t out)
{
    int64_t length = r->in[axis];
    float inverse = r->inverse[axis], at;
    if (r->corners) {
        float span = (float)(r->out[axis] - 1) / (float)(length - 1);
        at = (float)out * (1.0f / span);
    } else {
        at = ((float)out + 0.5f) * inverse - 0.5f;
    }
    if (!(fabsf(at) < 16777216.0f)) at = 0; /* one output: the step between corners is infinite */
    Mix mix = {.first = (int64_t)floorf(at)};
    mix.weight = at - (float)mix.first;
    if (mix.first < 0) mix = (Mix){0};
    if (mix.first >= length - 1) mix = (Mix){.first = length > 1 ? length - 2 : 0, .weight = 1.0f};
    mix.second = length > 1 ? mix.first + 1 : 0;
    return mix;
}

ROW_INLINE float mixed(const Resize *r, const char *row, const Mix *mix, int64_t channel, int bits)
{
    float a = (float)read_integer(row, mix->first * r->channels + channel, bits) * r->in_scale;
    float b = (float)read_integer(row, mix->second * r->channels + channel, bits) * r->in_scale;
    return a * (1.0f - mix->weight) + b * mix->weight;
}

ROW_INLINE void mix_pixel(const Resize *r, const char *upper, const char *lower, float weight, const Mix *mix, char *y, Rounding rounding,
                          int bits)
{
    for (int64_t c = 0; c < r->channels; c++) {
        float v = mixed(r, upper, mix, c, bits);
        if (r->axes == 2) v = v * (1.0f - weight) + mixed(r, lower, mix, c, bits) * weight;
        write_integer(y, c, bits, row_round(v * r->out_scale, rounding, bits));
    }
}

static void linear_pixel(const ResizeRun *run, const char *upper, const char *lower, float weight, const Mix *mix, char *y)
{
    Rounding rounding = run->node->chip->rounding;
    if (run->node->bits == 8)
        mix_pixel(run->resize, upper, lower, weight, mix, y, rounding, 8);
    else
        mix_pixel(run->resize, upper, lower, weight, mix, y, rounding, 16);
}

static void resize_rows(void *context, int64_t begin, int64_t end, int thread)
{
    const ResizeRun *run = context;
    const Resize *r = run->resize;
    size_t pixel = (size_t)r->channels * (size_t)run->node->bits / 8, row_bytes = (size_t)r->in[1] * pixel;
    (void)thread;
    for (int64_t row = begin; row < end; row++) {
        char *y = run->y + (size_t)(row * r->out[1]) * pixel;
        Mix rows =
            r->linear && r->axes == 2 ? mix_at(r, 0, row) : (Mix){.first = r->axes == 2 ? nearest_index(row, r->inverse[0], r->in[0]) : 0};
        const char *upper = run->x + (size_t)rows.first * row_bytes, *lower = run->x + (size_t)rows.second * row_bytes;
        for (int64_t column = 0; column < r->out[1]; column++, y += pixel) {
            if (r->linear) {
                Mix mix = mix_at(r, 1, column);
                linear_pixel(run, upper, lower, rows.weight, &mix, y);
            } else {
                nearest_pixel(run, upper + (size_t)nearest_index(column, r->inverse[1], r->in[1]) * pixel, y);
            }
        }
    }
}

void resize_run(const ChipRun *run)
{
    const Resize *r = run->node->state;
    size_t bytes = (size_t)run->node->bits / 8;
    size_t image = (size_t)(r->in[0] * r->in[1] * r->channels) * bytes, result = (size_t)(r->out[0] * r->out[1] * r->channels) * bytes;
    if (r->nothing) {
        memset(run->outputs[0], 0, result * (size_t)r->samples);
        return;
    }
    ResizeRun one = {.resize = r, .node = run->node, .x = run->inputs[0], .y = run->outputs[0]};
    int64_t grain = 100000 / (r->out[1] * r->channels);
    for (int64_t n = 0; n < r->computed; n++) {
        threads_for(r->out[0], grain > 0 ? grain : 1, resize_rows, &one);
        one.x += image;
        one.y += result;
    }
    memset(one.y, 0, result * (size_t)(r->samples - r->computed));
}
