/* Plain definitions of the gradients: convolutions, sums, fake quantization. */
#include <math.h>

#include "base/threads.h"
#include "kernel/plain.h"

float plain_lanes_sum(const float lanes[GRADIENT_LANES])
{
    float sums[GRADIENT_LANES / 2];
    for (int i = 0; i < GRADIENT_LANES / 2; i++)
        sums[i] = lanes[i] + lanes[i + GRADIENT_LANES / 2];
    for (int half = GRADIENT_LANES / 4; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            sums[i] += sums[i + half];
    return sums[0];
}

float plain_block_sum(const float *x, int64_t count)
{
    float lanes[GRADIENT_LANES] = {0};
    for (int64_t i = 0; i < count; i++)
        lanes[i % GRADIENT_LANES] += x[i];
    return plain_lanes_sum(lanes);
}

void plain_range_gradient(const float *x, const float *dy, float *dx, int64_t count, float low, float high)
{
    for (int64_t i = 0; i < count; i++)
        dx[i] = x[i] >= low && x[i] <= high ? dy[i] : 0.0f;
}

float plain_fake_quantize_gradient(const float *x, const float *dy, float *dx, int64_t count, float inverse, float minimum, float maximum,
                                   Rounding rounding)
{
    float lanes[GRADIENT_LANES] = {0};
    for (int64_t i = 0; i < count; i++) {
        float scaled = x[i] * inverse, q = round_float(scaled, rounding), given = dy[i];
        float slope = q < minimum ? minimum : q > maximum ? maximum : q - scaled;
        lanes[i % GRADIENT_LANES] = fmaf(given, slope, lanes[i % GRADIENT_LANES]);
        if (dx) dx[i] = q < minimum || q > maximum ? 0.0f : given;
    }
    return plain_lanes_sum(lanes);
}

void plain_swish_gradient(const float *x, const float *dy, float *dx, int64_t count, float factor)
{
    for (int64_t i = 0; i < count; i++) {
        float scaled = factor * x[i], sigmoid;
        plain_sigmoid(&scaled, &sigmoid, 1);
        dx[i] = dy[i] * (sigmoid * (1.0f + scaled * (1.0f - sigmoid)));
    }
}

/* ---- convolution ---- */

typedef struct ConvGradientTask {
    const ConvF32 *conv;
    const float *x, *weights, *dy;
    float *to;
} ConvGradientTask;

/* The output position that x[at] reaches through a tap; -1: none. */
static int reached(int at, int tap, int stride, int dilation, int pad, int out)
{
    int from = at + pad - tap * dilation;
    return from >= 0 && from % stride == 0 && from / stride < out ? from / stride : -1;
}

static void input_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ConvGradientTask *task = context;
    const ConvF32 *conv = task->conv;
    int64_t channels = (int64_t)conv->groups * conv->channels_in, pixels = (int64_t)conv->out[0] * conv->out[1];
    int64_t taps = (int64_t)conv->kernel[0] * conv->kernel[1];
    for (int64_t plane = begin; plane < end; plane++) {
        int64_t image = plane / channels, channel = plane % channels, group = channel / conv->channels_in;
        const float *dy = task->dy + (image * conv->groups + group) * conv->channels_out * pixels;
        const float *weights = task->weights + (group * conv->channels_out * conv->channels_in + channel % conv->channels_in) * taps;
        float *to = task->to + plane * conv->in[0] * conv->in[1];
        for (int y = 0; y < conv->in[0]; y++) {
            for (int x = 0; x < conv->in[1]; x++) {
                float sum = 0.0f;
                for (int64_t out = 0; out < conv->channels_out; out++)
                    for (int i = conv->kernel[0] - 1; i >= 0; i--)
                        for (int j = conv->kernel[1] - 1; j >= 0; j--) {
                            int row = reached(y, i, conv->stride[0], conv->dilation[0], conv->pad[0], conv->out[0]);
                            int column = reached(x, j, conv->stride[1], conv->dilation[1], conv->pad[1], conv->out[1]);
                            if (row < 0 || column < 0) continue;
                            sum = fmaf(weights[out * conv->channels_in * taps + i * conv->kernel[1] + j],
                                       dy[out * pixels + (int64_t)row * conv->out[1] + column], sum);
                        }
                *to++ = sum;
            }
        }
    }
}

void conv_f32_input_gradient_reference(const ConvF32 *conv, const float *weights, const float *dy, float *dx)
{
    ConvGradientTask task = {.conv = conv, .weights = weights, .dy = dy, .to = dx};
    threads_for((int64_t)conv->batch * conv->groups * conv->channels_in, 1, input_gradient_body, &task);
}

static float pixel(const ConvF32 *conv, const float *plane, int row, int column)
{
    bool inside = row >= 0 && row < conv->in[0] && column >= 0 && column < conv->in[1];
    return inside ? plane[(int64_t)row * conv->in[1] + column] : 0.0f;
}

/* Output pixels [begin, end) of one image, one weight, added to `sum`. */
static float block_product(const ConvF32 *conv, const float *x, const float *dy, int i, int j, int64_t begin, int64_t end, float sum)
{
    for (int64_t p = begin; p < end; p++) {
        int row = (int)(p / conv->out[1]), column = (int)(p % conv->out[1]);
        sum = fmaf(dy[p],
                   pixel(conv, x, row * conv->stride[0] - conv->pad[0] + i * conv->dilation[0],
                         column * conv->stride[1] - conv->pad[1] + j * conv->dilation[1]),
                   sum);
    }
    return sum;
}

/* Rows [begin, end) of one image in strips of GRADIENT_LANES columns. */
static float strips_product(const ConvF32 *conv, const float *x, const float *dy, int i, int j, int begin, int end)
{
    float sums[GRADIENT_LANES] = {0};
    for (int strip = 0; strip < conv->out[1]; strip += GRADIENT_LANES)
        for (int row = begin; row < end; row++)
            for (int lane = 0; lane < GRADIENT_LANES && strip + lane < conv->out[1]; lane++) {
                int64_t p = (int64_t)row * conv->out[1] + strip + lane;
                sums[lane] = block_product(conv, x, dy, i, j, p, p + 1, sums[lane]);
            }
    return plain_lanes_sum(sums);
}

static float weight_sum(const ConvGradientTask *task, int64_t channel, int64_t in, int i, int j)
{
    const ConvF32 *conv = task->conv;
    int64_t pixels = (int64_t)conv->out[0] * conv->out[1], in_plane = (int64_t)conv->in[0] * conv->in[1],
            group = channel / conv->channels_out;
    int64_t channels = (int64_t)conv->groups * conv->channels_out, images = pixels ? GRADIENT_BLOCK / pixels : 0;
    int rows = conv->out[1] && conv->out[1] < GRADIENT_BLOCK ? GRADIENT_BLOCK / conv->out[1] : 1;
    float total = 0.0f, sum = 0.0f;
    bool begun = false;
    if (images < 1 || conv->channels_in == 1) images = 1;
    for (int64_t image = 0; image < conv->batch; image++) {
        const float *x = task->x + ((image * conv->groups + group) * conv->channels_in + in) * in_plane;
        const float *dy = task->dy + (image * channels + channel) * pixels;
        int64_t block = conv->channels_in == 1 ? (int64_t)rows * conv->out[1] : GRADIENT_BLOCK;
        for (int64_t p = 0; p < pixels; p += block) {
            int64_t end = p + block < pixels ? p + block : pixels;
            if (conv->channels_in == 1)
                sum = strips_product(conv, x, dy, i, j, (int)(p / conv->out[1]), (int)(end / conv->out[1]));
            else
                sum = block_product(conv, x, dy, i, j, p, end, image % images == 0 ? 0.0f : sum);
            if (image % images != images - 1 && image != conv->batch - 1) continue;
            total = begun ? total + sum : sum;
            begun = true;
        }
    }
    return total;
}

static void weight_gradient_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const ConvGradientTask *task = context;
    const ConvF32 *conv = task->conv;
    for (int64_t plane = begin; plane < end; plane++) {
        float *to = task->to + plane * conv->kernel[0] * conv->kernel[1];
        for (int i = 0; i < conv->kernel[0]; i++)
            for (int j = 0; j < conv->kernel[1]; j++)
                *to++ = weight_sum(task, plane / conv->channels_in, plane % conv->channels_in, i, j);
    }
}

void conv_f32_weight_gradient_reference(const ConvF32 *conv, const float *x, const float *dy, float *dw)
{
    ConvGradientTask task = {.conv = conv, .x = x, .dy = dy, .to = dw};
    threads_for((int64_t)conv->groups * conv->channels_out * conv->channels_in, 1, weight_gradient_body, &task);
}
