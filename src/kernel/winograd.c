/* Winograd convolution: its definition in plain C, what is the same for all variants, and its public face. */
#include "kernel/winograd.h"

#include <math.h>

#include "kernel/plain.h"

#define W(name) w_##name
typedef float w_Number;
static inline float w_all(float value)
{
    return value;
}
static inline float w_fma(float a, float b, float c)
{
    return fmaf(a, b, c);
}
#include "kernel/winograd_steps.h"

/* The 36 weights of a 3 x 3 kernel: in float64, rounded once. */
void winograd_weights(const float *kernel, float *to)
{
    static const double near = WINOGRAD_NEAR, far = WINOGRAD_FAR;
    static const double at_zero = 1 / (near * near * far * far), at_near = 1 / (2 * near * near * (near * near - far * far)),
                        at_far = 1 / (2 * far * far * (far * far - near * near));
    double columns[WINOGRAD_POINTS][3];
    for (int axis = 0; axis < 2; axis++) {
        for (int i = 0; i < (axis ? WINOGRAD_POINTS : 3); i++) {
            double a = axis ? columns[i][0] : kernel[i], b = axis ? columns[i][1] : kernel[3 + i], c = axis ? columns[i][2] : kernel[6 + i];
            double even = a + near * near * c, odd = near * b, far_even = a + far * far * c, far_odd = far * b;
            double points[WINOGRAD_POINTS] = {a * at_zero,
                                              (even + odd) * at_near,
                                              (even - odd) * at_near,
                                              (far_even + far_odd) * at_far,
                                              (far_even - far_odd) * at_far,
                                              c};
            for (int p = 0; p < WINOGRAD_POINTS; p++) {
                if (axis)
                    to[i * WINOGRAD_POINTS + p] = (float)points[p];
                else
                    columns[p][i] = points[p];
            }
        }
    }
}

/* x of a tile of one input channel, transformed. */
static void forward_tile(const ConvF32 *conv, const float *plane, int top, int left, float to[WINOGRAD_SUMS])
{
    float columns[WINOGRAD_POINTS][WINOGRAD_POINTS]; /* [column][point] */
    for (int j = 0; j < WINOGRAD_POINTS; j++) {
        float x[WINOGRAD_POINTS];
        for (int i = 0; i < WINOGRAD_POINTS; i++) {
            bool inside = top + i >= 0 && top + i < conv->in[0] && left + j >= 0 && left + j < conv->in[1];
            x[i] = inside ? plane[(int64_t)(top + i) * conv->in[1] + left + j] : 0.0f;
        }
        w_winograd_forward(x, columns[j]);
    }
    for (int i = 0; i < WINOGRAD_POINTS; i++) {
        float row[WINOGRAD_POINTS];
        for (int j = 0; j < WINOGRAD_POINTS; j++)
            row[j] = columns[j][i];
        w_winograd_forward(row, to + i * WINOGRAD_POINTS);
    }
}

static void back_tile(const ConvF32 *conv, const float sums[WINOGRAD_SUMS], float bias, int top, int left, float *plane)
{
    float columns[WINOGRAD_POINTS][WINOGRAD_TILE];
    for (int j = 0; j < WINOGRAD_POINTS; j++) {
        float column[WINOGRAD_POINTS];
        for (int i = 0; i < WINOGRAD_POINTS; i++)
            column[i] = sums[i * WINOGRAD_POINTS + j];
        w_winograd_back(column, columns[j]);
    }
    for (int i = 0; i < WINOGRAD_TILE && top + i < conv->out[0]; i++) {
        float row[WINOGRAD_POINTS], y[WINOGRAD_TILE];
        for (int j = 0; j < WINOGRAD_POINTS; j++)
            row[j] = columns[j][i];
        w_winograd_back(row, y);
        for (int j = 0; j < WINOGRAD_TILE && left + j < conv->out[1]; j++)
            plane[(int64_t)(top + i) * conv->out[1] + left + j] = y[j] + bias;
    }
}

/* weights: [36 of a kernel][input channel], output channel after output channel. */
void winograd_plain(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y)
{
    int64_t in_plane = (int64_t)conv->in[0] * conv->in[1], out_plane = (int64_t)conv->out[0] * conv->out[1];
    float inputs[WINOGRAD_CHANNELS][WINOGRAD_SUMS];
    for (int image = 0; image < conv->batch; image++, x += conv->channels_in * in_plane, y += conv->channels_out * out_plane) {
        for (int top = 0; top < conv->out[0]; top += WINOGRAD_TILE) {
            for (int left = 0; left < conv->out[1]; left += WINOGRAD_TILE) {
                for (int k = 0; k < conv->channels_in; k++)
                    forward_tile(conv, x + k * in_plane, top - conv->pad[0], left - conv->pad[1], inputs[k]);
                for (int channel = 0; channel < conv->channels_out; channel++) {
                    const float *kernel = weights + (int64_t)channel * conv->channels_in * WINOGRAD_SUMS;
                    float sums[WINOGRAD_SUMS] = {0};
                    for (int k = 0; k < conv->channels_in; k++)
                        for (int s = 0; s < WINOGRAD_SUMS; s++)
                            sums[s] = fmaf(kernel[k * WINOGRAD_SUMS + s], inputs[k][s], sums[s]);
                    back_tile(conv, sums, bias ? bias[channel] : 0.0f, top, left, y + channel * out_plane);
                }
            }
        }
    }
}

size_t winograd_plain_packed_floats(const ConvF32 *conv)
{
    return (size_t)conv->channels_out * (size_t)conv->channels_in * WINOGRAD_SUMS;
}

void winograd_plain_pack(const ConvF32 *conv, const float *weights, float *packed)
{
    for (int64_t i = 0; i < (int64_t)conv->channels_out * conv->channels_in; i++)
        winograd_weights(weights + i * 9, packed + i * WINOGRAD_SUMS);
}

bool winograd_f32_fits(const ConvF32 *conv)
{
    if (conv->groups != 1 || conv->channels_in > WINOGRAD_CHANNELS) return false;
    for (int axis = 0; axis < 2; axis++)
        if (conv->kernel[axis] != 3 || conv->stride[axis] != 1 || conv->dilation[axis] != 1) return false;
    return true;
}

bool winograd_f32_pays(const ConvF32 *conv)
{
    return winograd_f32_fits(conv) && conv->channels_in >= 8 && conv->channels_out >= 8 && conv->out[0] >= 3 && conv->out[1] >= 3;
}

size_t winograd_f32_packed_bytes(const ConvF32 *conv)
{
    return (PACKED_HEADER_FLOATS + kernels()->winograd_packed_floats(conv)) * sizeof(float);
}

void winograd_f32_pack(const ConvF32 *conv, const float *weights, float *packed)
{
    kernels()->winograd_pack(conv, weights, packed + PACKED_HEADER_FLOATS);
    set_packed_header(packed, kernel_variant(), 0);
}

void winograd_f32(const ConvF32 *conv, const float *x, const float *packed, const float *bias, float *y)
{
    KernelVariant variant = (KernelVariant)packed_header(packed).variant;
    kernels_of(variant)->winograd(conv, x, packed + PACKED_HEADER_FLOATS, bias, y);
}
