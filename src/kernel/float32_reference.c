/* The definitions of the float32 kernels: every variant is bit-equal to these loops. */
#include "kernel/float32.h"

#include <math.h>

#include "base/threads.h"

typedef struct ConvTask {
    const ConvF32 *conv;
    const float *x, *weights, *bias;
    float *y;
} ConvTask;

/* Zero outside the image: a padding tap is multiplied like any other. */
static float pixel(const ConvF32 *conv, const float *plane, int row, int column)
{
    bool inside = row >= 0 && row < conv->in[0] && column >= 0 && column < conv->in[1];
    return inside ? plane[(int64_t)row * conv->in[1] + column] : 0.0f;
}

/* One output plane: output channel `channel` (over all groups) of image `image`, in float32. */
static void conv_plane_f32(const ConvTask *task, int64_t image, int64_t channel, float *y)
{
    const ConvF32 *conv = task->conv;
    int64_t group = channel / conv->channels_out, in_plane = (int64_t)conv->in[0] * conv->in[1];
    const float *x = task->x + (image * conv->groups + group) * conv->channels_in * in_plane;
    for (int row = 0; row < conv->out[0]; row++) {
        for (int column = 0; column < conv->out[1]; column++) {
            const float *weight = task->weights + channel * conv->channels_in * conv->kernel[0] * conv->kernel[1];
            float sum = task->bias ? task->bias[channel] : 0.0f;
            for (int input = 0; input < conv->channels_in; input++)
                for (int i = 0; i < conv->kernel[0]; i++)
                    for (int j = 0; j < conv->kernel[1]; j++)
                        sum = fmaf(*weight++,
                                   pixel(conv, x + input * in_plane, row * conv->stride[0] - conv->pad[0] + i * conv->dilation[0],
                                         column * conv->stride[1] - conv->pad[1] + j * conv->dilation[1]),
                                   sum);
            *y++ = sum;
        }
    }
}

static void conv_plane_f64(const ConvTask *task, int64_t image, int64_t channel, float *y)
{
    const ConvF32 *conv = task->conv;
    int64_t group = channel / conv->channels_out, in_plane = (int64_t)conv->in[0] * conv->in[1];
    const float *x = task->x + (image * conv->groups + group) * conv->channels_in * in_plane;
    for (int row = 0; row < conv->out[0]; row++) {
        for (int column = 0; column < conv->out[1]; column++) {
            const float *weight = task->weights + channel * conv->channels_in * conv->kernel[0] * conv->kernel[1];
            double sum = task->bias ? task->bias[channel] : 0.0;
            for (int input = 0; input < conv->channels_in; input++)
                for (int i = 0; i < conv->kernel[0]; i++)
                    for (int j = 0; j < conv->kernel[1]; j++)
                        sum += (double)*weight++ *
                               pixel(conv, x + input * in_plane, row * conv->stride[0] - conv->pad[0] + i * conv->dilation[0],
                                     column * conv->stride[1] - conv->pad[1] + j * conv->dilation[1]); /* exact product */
            *y++ = (float)sum;
        }
    }
}

static void conv_body(const ConvTask *task, int64_t begin, int64_t end, void (*plane)(const ConvTask *, int64_t, int64_t, float *))
{
    int64_t channels = (int64_t)task->conv->groups * task->conv->channels_out, pixels = (int64_t)task->conv->out[0] * task->conv->out[1];
    for (int64_t i = begin; i < end; i++)
        plane(task, i / channels, i % channels, task->y + i * pixels);
}

static void conv_body_f32(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    conv_body(context, begin, end, conv_plane_f32);
}

static void conv_body_f64(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    conv_body(context, begin, end, conv_plane_f64);
}

void conv_f32_reference(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y)
{
    ConvTask task = {conv, x, weights, bias, y};
    threads_for((int64_t)conv->batch * conv->groups * conv->channels_out, 1, conv_body_f32, &task);
}

void conv_f64_reference(const ConvF32 *conv, const float *x, const float *weights, const float *bias, float *y)
{
    ConvTask task = {conv, x, weights, bias, y};
    threads_for((int64_t)conv->batch * conv->groups * conv->channels_out, 1, conv_body_f64, &task);
}

typedef struct MatmulTask {
    const MatmulF32 *matmul;
    const float *a, *b, *bias;
    float *c;
} MatmulTask;

static void matmul_body_f32(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const MatmulTask *task = context;
    const MatmulF32 *matmul = task->matmul;
    for (int64_t m = begin; m < end; m++) {
        float *c = task->c + m * matmul->ldc;
        for (int64_t n = 0; n < matmul->n; n++) {
            float sum = task->bias ? task->bias[n] : 0.0f;
            for (int64_t k = 0; k < matmul->k; k++)
                sum = fmaf(task->a[m * matmul->lda + k], task->b[k * matmul->ldb + n], sum);
            c[n] = sum;
        }
    }
}

static void matmul_body_f64(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const MatmulTask *task = context;
    const MatmulF32 *matmul = task->matmul;
    for (int64_t m = begin; m < end; m++) {
        float *c = task->c + m * matmul->ldc;
        for (int64_t n = 0; n < matmul->n; n++) {
            double sum = task->bias ? task->bias[n] : 0.0;
            for (int64_t k = 0; k < matmul->k; k++)
                sum += (double)task->a[m * matmul->lda + k] * task->b[k * matmul->ldb + n];
            c[n] = (float)sum;
        }
    }
}

void matmul_f32_reference(const MatmulF32 *matmul, const float *a, const float *b, const float *bias, float *c)
{
    MatmulTask task = {matmul, a, b, bias, c};
    threads_for(matmul->m, 1, matmul_body_f32, &task);
}

void matmul_f64_reference(const MatmulF32 *matmul, const float *a, const float *b, const float *bias, float *c)
{
    MatmulTask task = {matmul, a, b, bias, c};
    threads_for(matmul->m, 1, matmul_body_f64, &task);
}
