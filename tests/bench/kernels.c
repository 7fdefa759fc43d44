/* Speed of the float32 and the integer kernels on one thread, beside oneDNN's: all distinct convolutions of MobileNetV2 (224) and YOLO11n (320) and
 * some matrix products, each variant against oneDNN held to the same instruction set. In each round both run in turn; the fastest
 * round counts. oneDNN runs in the layout of its choice ("any": reorders are not counted), and in plain NCHW as espq has it; in integers
 * both are channels-last, sums are rounded to int8, and oneDNN takes int8 as espq does, or uint8, which it likes better. It has no int16.
 *
 *   cc -O2 -D_GNU_SOURCE -std=c17 -Isrc tests/bench/kernels.c build/libengine.a -ldnnl -lm -pthread -o build/bench_kernels
 *   build/bench_kernels [kernels.json] [part of a layer's name]
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <oneapi/dnnl/dnnl.h>

#include "base/threads.h"
#include "kernel/float32.h"
#include "kernel/integer.h"

typedef struct Layer {
    const char *model;
    int count; /* how often the model has it */
    int groups, channels_in, channels_out, in[2], out[2], kernel[2], stride[2], pad[2];
} Layer;

/* clang-format off */
static const Layer layers[] = {
    /* model, count, groups, in and out channels of a group, in h w, out h w, kernel, stride, pad */
    {"mobilenetv2", 1, 1, 3, 32, {224, 224}, {112, 112}, {3, 3}, {2, 2}, {1, 1}},
    {"mobilenetv2", 1, 32, 1, 1, {112, 112}, {112, 112}, {3, 3}, {1, 1}, {1, 1}},
    {"mobilenetv2", 1, 1, 32, 16, {112, 112}, {112, 112}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 1, 16, 96, {112, 112}, {112, 112}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 96, 1, 1, {112, 112}, {56, 56}, {3, 3}, {2, 2}, {1, 1}},
    {"mobilenetv2", 1, 1, 96, 24, {56, 56}, {56, 56}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 2, 1, 24, 144, {56, 56}, {56, 56}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 144, 1, 1, {56, 56}, {56, 56}, {3, 3}, {1, 1}, {1, 1}},
    {"mobilenetv2", 1, 1, 144, 24, {56, 56}, {56, 56}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 144, 1, 1, {56, 56}, {28, 28}, {3, 3}, {2, 2}, {1, 1}},
    {"mobilenetv2", 1, 1, 144, 32, {28, 28}, {28, 28}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 3, 1, 32, 192, {28, 28}, {28, 28}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 2, 192, 1, 1, {28, 28}, {28, 28}, {3, 3}, {1, 1}, {1, 1}},
    {"mobilenetv2", 2, 1, 192, 32, {28, 28}, {28, 28}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 192, 1, 1, {28, 28}, {14, 14}, {3, 3}, {2, 2}, {1, 1}},
    {"mobilenetv2", 1, 1, 192, 64, {14, 14}, {14, 14}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 4, 1, 64, 384, {14, 14}, {14, 14}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 4, 384, 1, 1, {14, 14}, {14, 14}, {3, 3}, {1, 1}, {1, 1}},
    {"mobilenetv2", 3, 1, 384, 64, {14, 14}, {14, 14}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 1, 384, 96, {14, 14}, {14, 14}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 3, 1, 96, 576, {14, 14}, {14, 14}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 2, 576, 1, 1, {14, 14}, {14, 14}, {3, 3}, {1, 1}, {1, 1}},
    {"mobilenetv2", 2, 1, 576, 96, {14, 14}, {14, 14}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 576, 1, 1, {14, 14}, {7, 7}, {3, 3}, {2, 2}, {1, 1}},
    {"mobilenetv2", 1, 1, 576, 160, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 3, 1, 160, 960, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 3, 960, 1, 1, {7, 7}, {7, 7}, {3, 3}, {1, 1}, {1, 1}},
    {"mobilenetv2", 2, 1, 960, 160, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 1, 960, 320, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {0, 0}},
    {"mobilenetv2", 1, 1, 320, 1280, {7, 7}, {7, 7}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 3, 16, {320, 320}, {160, 160}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 1, 1, 16, 32, {160, 160}, {80, 80}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 1, 1, 32, 32, {80, 80}, {80, 80}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 16, 8, {80, 80}, {80, 80}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 8, 16, {80, 80}, {80, 80}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 48, 64, {80, 80}, {80, 80}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 64, 64, {80, 80}, {40, 40}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 2, 1, 64, 64, {40, 40}, {40, 40}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 2, 1, 32, 16, {40, 40}, {40, 40}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 2, 1, 16, 32, {40, 40}, {40, 40}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 96, 128, {40, 40}, {40, 40}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 128, 128, {40, 40}, {20, 20}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 1, 1, 128, 128, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 2, 1, 64, 32, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 4, 1, 32, 32, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 2, 1, 64, 64, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 4, 1, 192, 128, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 128, 256, {20, 20}, {10, 10}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 3, 1, 256, 256, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 4, 1, 128, 64, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 9, 1, 64, 64, {10, 10}, {10, 10}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 3, 1, 128, 128, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 3, 1, 384, 256, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 2, 1, 256, 128, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 512, 256, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 2, 1, 128, 256, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 128, 1, 1, {10, 10}, {10, 10}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 384, 128, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 2, 1, 64, 32, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 2, 1, 32, 64, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 256, 64, {40, 40}, {40, 40}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 96, 64, {40, 40}, {40, 40}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 64, 64, {40, 40}, {20, 20}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 1, 1, 128, 128, {20, 20}, {10, 10}, {3, 3}, {2, 2}, {1, 1}},
    {"yolo11n", 2, 1, 64, 64, {40, 40}, {40, 40}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 64, 1, 1, {40, 40}, {40, 40}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 64, 80, {40, 40}, {40, 40}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 80, 1, 1, {40, 40}, {40, 40}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 2, 1, 80, 80, {40, 40}, {40, 40}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 128, 64, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 64, 64, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 128, 1, 1, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 128, 80, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 80, 1, 1, {20, 20}, {20, 20}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 2, 1, 80, 80, {20, 20}, {20, 20}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 1, 256, 64, {10, 10}, {10, 10}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 64, 64, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 256, 1, 1, {10, 10}, {10, 10}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 1, 1, 256, 80, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
    {"yolo11n", 1, 80, 1, 1, {10, 10}, {10, 10}, {3, 3}, {1, 1}, {1, 1}},
    {"yolo11n", 2, 1, 80, 80, {10, 10}, {10, 10}, {1, 1}, {1, 1}, {0, 0}},
};
/* clang-format on */

static const int products[][3] = {{1, 1000, 1280}, {32, 1000, 1280}, {128, 128, 128}, {256, 256, 256}, {512, 512, 512}, {197, 768, 768}};

enum { ROUNDS = 9, LAYERS = sizeof layers / sizeof *layers, PRODUCTS = sizeof products / sizeof *products };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void need(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "bench_kernels: %s failed\n", what);
    exit(1);
}

static float *numbers(size_t count)
{
    float *x = aligned_alloc(64, (count * sizeof *x + 63) / 64 * 64);
    need(x != NULL, "memory");
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(rand() % 2001 - 1000) / 1000.0f;
    return x;
}

/* One thing to time. */
typedef struct Run {
    void (*run)(void *context);
    void *context;
    double best;
} Run;

static void time_runs(Run *runs, int count)
{
    int repeats[4];
    for (int i = 0; i < count; i++) {
        runs[i].run(runs[i].context);
        double start = now();
        runs[i].run(runs[i].context);
        double once = now() - start;
        repeats[i] = once > 2e-3 ? 1 : (int)(2e-3 / once) + 1;
        runs[i].best = 1e9;
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < count; i++) {
            double start = now();
            for (int n = 0; n < repeats[i]; n++)
                runs[i].run(runs[i].context);
            double each = (now() - start) / repeats[i];
            if (each < runs[i].best) runs[i].best = each;
        }
    }
}

typedef struct OwnConv {
    ConvF32 conv;
    float *x, *packed, *bias, *y;
} OwnConv;

static void own_conv_run(void *context)
{
    OwnConv *own = context;
    conv_f32(&own->conv, own->x, own->packed, own->bias, own->y, NULL);
}

typedef struct OwnMatmul {
    MatmulF32 matmul;
    float *a, *packed, *bias, *c;
} OwnMatmul;

static void own_matmul_run(void *context)
{
    OwnMatmul *own = context;
    matmul_f32_packed(&own->matmul, own->a, own->packed, own->bias, own->c);
}

static dnnl_engine_t engine;
static dnnl_stream_t stream;

typedef struct Theirs {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[4];
} Theirs;

static void theirs_run(void *context)
{
    Theirs *theirs = context;
    need(dnnl_primitive_execute(theirs->primitive, stream, 4, theirs->arguments) == dnnl_success, "execute");
    dnnl_stream_wait(stream);
}

static void theirs_memory(Theirs *theirs, int index, int argument, const_dnnl_primitive_desc_t pd, dnnl_query_t query)
{
    const dnnl_memory_desc_t *md =
        dnnl_primitive_desc_query_md(pd, query, query == dnnl_query_weights_md && argument == DNNL_ARG_BIAS ? 1 : 0);
    dnnl_memory_t memory;
    need(dnnl_memory_create(&memory, md, engine, DNNL_MEMORY_ALLOCATE) == dnnl_success, "memory_create");
    float *data;
    dnnl_memory_get_data_handle(memory, (void **)&data);
    size_t count = dnnl_memory_desc_get_size(md) / sizeof *data;
    for (size_t i = 0; i < count; i++)
        data[i] = (float)(rand() % 2001 - 1000) / 1000.0f;
    theirs->arguments[index] = (dnnl_exec_arg_t){argument, memory};
}

static void theirs_make(Theirs *theirs, const void *description, const_dnnl_primitive_attr_t attributes)
{
    dnnl_primitive_desc_t pd;
    need(dnnl_primitive_desc_create(&pd, description, attributes, engine, NULL) == dnnl_success, "primitive_desc_create");
    need(dnnl_primitive_create(&theirs->primitive, pd) == dnnl_success, "primitive_create");
    theirs_memory(theirs, 0, DNNL_ARG_SRC, pd, dnnl_query_src_md);
    theirs_memory(theirs, 1, DNNL_ARG_WEIGHTS, pd, dnnl_query_weights_md);
    theirs_memory(theirs, 2, DNNL_ARG_BIAS, pd, dnnl_query_weights_md);
    theirs_memory(theirs, 3, DNNL_ARG_DST, pd, dnnl_query_dst_md);
    dnnl_primitive_desc_destroy(pd);
}

static void theirs_free(Theirs *theirs)
{
    for (int i = 0; i < 4; i++)
        dnnl_memory_destroy(theirs->arguments[i].memory);
    dnnl_primitive_destroy(theirs->primitive);
}

/* x, y: their types; f32 also for weights and bias, else those are s8 and s32, and sums are scaled by 2^-9. */
static void theirs_conv(Theirs *theirs, const Layer *layer, dnnl_format_tag_t data, dnnl_data_type_t x, dnnl_data_type_t y)
{
    bool floats = x == dnnl_f32;
    int64_t g = layer->groups, ci = layer->channels_in, co = layer->channels_out;
    dnnl_dims_t src = {1, g * ci, layer->in[0], layer->in[1]}, dst = {1, g * co, layer->out[0], layer->out[1]}, bias = {g * co};
    dnnl_dims_t grouped = {g, co, ci, layer->kernel[0], layer->kernel[1]}, plain = {co, ci, layer->kernel[0], layer->kernel[1]};
    dnnl_dims_t strides = {layer->stride[0], layer->stride[1]}, before = {layer->pad[0], layer->pad[1]}, after;
    for (int i = 0; i < 2; i++)
        after[i] = (layer->out[i] - 1) * layer->stride[i] + layer->kernel[i] - layer->in[i] - layer->pad[i];
    dnnl_memory_desc_t s, w, b, d;
    dnnl_memory_desc_init_by_tag(&s, 4, src, x, data);
    dnnl_memory_desc_init_by_tag(&w, g > 1 ? 5 : 4, g > 1 ? grouped : plain, floats ? dnnl_f32 : dnnl_s8, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&b, 1, bias, floats ? dnnl_f32 : dnnl_s32, dnnl_a);
    dnnl_memory_desc_init_by_tag(&d, 4, dst, y, data);
    dnnl_convolution_desc_t description;
    need(dnnl_convolution_forward_desc_init(&description, dnnl_forward_inference, dnnl_convolution_direct, &s, &w, &b, &d, strides, before,
                                            after) == dnnl_success,
         "convolution_desc");
    dnnl_primitive_attr_t attributes;
    need(dnnl_primitive_attr_create(&attributes) == dnnl_success, "attr_create");
    float scale = 1.0f / 512;
    if (!floats) dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &scale);
    theirs_make(theirs, &description, attributes);
    dnnl_primitive_attr_destroy(attributes);
}

static void theirs_matmul(Theirs *theirs, const int size[3])
{
    dnnl_dims_t a = {size[0], size[2]}, b = {size[2], size[1]}, bias = {1, size[1]}, c = {size[0], size[1]};
    dnnl_memory_desc_t s, w, d, e;
    dnnl_memory_desc_init_by_tag(&s, 2, a, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&w, 2, b, dnnl_f32, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&e, 2, bias, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&d, 2, c, dnnl_f32, dnnl_ab);
    dnnl_matmul_desc_t description;
    need(dnnl_matmul_desc_init(&description, &s, &w, &e, &d) == dnnl_success, "matmul_desc");
    theirs_make(theirs, &description, NULL);
}

/* What is measured of one layer: multiply-adds, seconds of espq and of oneDNN in its own and in plain layout. */
typedef struct Result {
    char name[96];
    int kind; /* 0 convolution, 1 depthwise, 2 product */
    int count;
    const char *model;
    double work, seconds[4]; /* espq, oneDNN twice; integers: espq at 16 bits */
} Result;

static void name_result(const Layer *layer, Result *result)
{
    result->work = (double)layer->groups * layer->channels_out * layer->channels_in * layer->kernel[0] * layer->kernel[1] * layer->out[0] *
                   layer->out[1];
    result->kind = layer->groups > 1 && layer->channels_in == 1;
    result->count = layer->count;
    result->model = layer->model;
    snprintf(result->name, sizeof result->name, "%s %d>%d %dx%d k%d s%d%s", layer->model, layer->groups * layer->channels_in,
             layer->groups * layer->channels_out, layer->in[0], layer->in[1], layer->kernel[0], layer->stride[0],
             result->kind ? " depthwise" : "");
}

static void measure_layer(const Layer *layer, Result *result)
{
    OwnConv own = {.conv = {1,
                            layer->groups,
                            layer->channels_in,
                            layer->channels_out,
                            {layer->in[0], layer->in[1]},
                            {layer->out[0], layer->out[1]},
                            {layer->kernel[0], layer->kernel[1]},
                            {layer->stride[0], layer->stride[1]},
                            {1, 1},
                            {layer->pad[0], layer->pad[1]}}};
    size_t weights = (size_t)layer->groups * layer->channels_out * layer->channels_in * layer->kernel[0] * layer->kernel[1];
    size_t pixels = (size_t)layer->out[0] * layer->out[1];
    float *w = numbers(weights);
    own.x = numbers((size_t)layer->groups * layer->channels_in * layer->in[0] * layer->in[1]);
    own.bias = numbers((size_t)layer->groups * layer->channels_out);
    own.y = numbers((size_t)layer->groups * layer->channels_out * pixels);
    own.packed = aligned_alloc(64, (conv_f32_packed_bytes(&own.conv) + 63) / 64 * 64);
    need(own.packed != NULL, "memory");
    conv_f32_pack(&own.conv, w, own.packed);
    Theirs any, plain;
    theirs_conv(&any, layer, dnnl_format_tag_any, dnnl_f32, dnnl_f32);
    theirs_conv(&plain, layer, dnnl_nchw, dnnl_f32, dnnl_f32);
    Run runs[3] = {{own_conv_run, &own, 0}, {theirs_run, &any, 0}, {theirs_run, &plain, 0}};
    time_runs(runs, 3);
    for (int i = 0; i < 3; i++)
        result->seconds[i] = runs[i].best;
    name_result(layer, result);
    theirs_free(&any);
    theirs_free(&plain);
    free(w);
    free(own.x);
    free(own.bias);
    free(own.y);
    free(own.packed);
}

typedef struct OwnInt {
    ConvInt conv;
    void *x, *packed, *y;
} OwnInt;

static void own_int_run(void *context)
{
    OwnInt *own = context;
    conv_int(&own->conv, own->x, own->packed, own->y, NULL);
}

static void *small_integers(size_t count, int bytes)
{
    void *data = aligned_alloc(64, (count * (size_t)bytes + 127) / 64 * 64);
    need(data != NULL, "memory");
    for (size_t i = 0; i < count; i++) {
        int v = rand() % 61 - 30;
        if (bytes == 1)
            ((int8_t *)data)[i] = (int8_t)v;
        else
            ((int16_t *)data)[i] = (int16_t)(v * 256 + rand() % 256);
    }
    return data;
}

/* With the accumulators and the rounding of the esp32p4. */
static void own_int_make(OwnInt *own, const Layer *layer, int bytes)
{
    static const int shifts[] = {0, 9, 16};
    int in = layer->groups * layer->channels_in, out = layer->groups * layer->channels_out;
    own->conv = (ConvInt){.bytes = bytes,
                          .depthwise = layer->groups > 1,
                          .channels_in = in,
                          .channels_out = out,
                          .rounding = ROUND_HALF_EVEN,
                          .vector_channels = out / 16 * 16,
                          .lane_bits = 32 * bytes,
                          .scalar_bits = 40,
                          .scalar_group = 16 / bytes,
                          .shifts = &shifts[bytes],
                          .shift_count = 1};
    for (int i = 0; i < 2; i++) {
        own->conv.in[i] = layer->in[i];
        own->conv.out[i] = layer->out[i];
        own->conv.kernel[i] = layer->kernel[i];
        own->conv.stride[i] = layer->stride[i];
        own->conv.dilation[i] = 1;
        own->conv.pad[i] = layer->pad[i];
    }
    size_t taps = (size_t)layer->kernel[0] * layer->kernel[1];
    void *weights = small_integers(taps * layer->channels_in * out, bytes);
    own->x = small_integers((size_t)in * layer->in[0] * layer->in[1], bytes);
    own->y = small_integers((size_t)out * layer->out[0] * layer->out[1], bytes);
    own->packed = aligned_alloc(64, (conv_int_packed_bytes(&own->conv) + 63) / 64 * 64);
    need(own->packed != NULL, "memory");
    conv_int_pack(&own->conv, weights, own->packed);
    free(weights);
}

static void own_int_free(OwnInt *own)
{
    free(own->x);
    free(own->packed);
    free(own->y);
}

static void measure_integers(const Layer *layer, Result *result)
{
    OwnInt narrow, wide;
    own_int_make(&narrow, layer, 1);
    own_int_make(&wide, layer, 2);
    Theirs like, other;
    theirs_conv(&like, layer, dnnl_nhwc, dnnl_s8, dnnl_s8);
    theirs_conv(&other, layer, dnnl_nhwc, dnnl_u8, dnnl_s8);
    Run runs[4] = {{own_int_run, &narrow, 0}, {theirs_run, &like, 0}, {theirs_run, &other, 0}, {own_int_run, &wide, 0}};
    time_runs(runs, 4);
    for (int i = 0; i < 4; i++)
        result->seconds[i] = runs[i].best;
    name_result(layer, result);
    theirs_free(&like);
    theirs_free(&other);
    own_int_free(&narrow);
    own_int_free(&wide);
}

static void measure_product(const int size[3], Result *result)
{
    OwnMatmul own = {.matmul = {size[0], size[1], size[2], size[2], size[1], size[1]}};
    float *b = numbers((size_t)size[1] * size[2]);
    own.a = numbers((size_t)size[0] * size[2]);
    own.bias = numbers((size_t)size[1]);
    own.c = numbers((size_t)size[0] * size[1]);
    own.packed = aligned_alloc(64, (matmul_f32_packed_bytes(size[2], size[1]) + 63) / 64 * 64);
    need(own.packed != NULL, "memory");
    matmul_f32_pack(size[2], size[1], b, size[1], 1, own.packed);
    Theirs theirs;
    theirs_matmul(&theirs, size);
    Run runs[2] = {{own_matmul_run, &own, 0}, {theirs_run, &theirs, 0}};
    time_runs(runs, 2);
    result->seconds[0] = runs[0].best;
    result->seconds[1] = result->seconds[2] = runs[1].best;
    result->work = (double)size[0] * size[1] * size[2];
    result->kind = 2;
    result->count = 1;
    result->model = "product";
    snprintf(result->name, sizeof result->name, "product %dx%dx%d", size[0], size[1], size[2]);
    theirs_free(&theirs);
    free(b);
    free(own.a);
    free(own.bias);
    free(own.c);
    free(own.packed);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median over results of one kind (of a model, or of all for NULL) of theirs / ours. */
static double median_ratio(const Result *results, int count, int kind, const char *model, int theirs)
{
    double ratios[LAYERS + PRODUCTS];
    int found = 0;
    for (int i = 0; i < count; i++)
        if (results[i].kind == kind && (!model || strcmp(model, results[i].model) == 0))
            ratios[found++] = results[i].seconds[theirs] / results[i].seconds[0];
    qsort(ratios, (size_t)found, sizeof *ratios, compare_doubles);
    return found ? ratios[found / 2] : 0.0;
}

/* Medians of each kind, and sums over the models' convolutions: printed, and kept beside the rows. */
static void sum_up(KernelVariant variant, const Result *results, int count, const char *const *kinds, int kind_count,
                   const char *const others[2], FILE *json)
{
    static const char *const models[] = {"mobilenetv2", "yolo11n"};
    for (int kind = 0; kind < kind_count; kind++) {
        double first = median_ratio(results, count, kind, NULL, 1), second = median_ratio(results, count, kind, NULL, 2);
        printf("  median of %s: %.2f of oneDNN %s, %.2f %s\n", kinds[kind], first, others[0], second, others[1]);
        fprintf(json, ",\n    {\"variant\": \"%s\", \"median\": \"%s\", \"of_onednn %s\": %.3f, \"of_onednn %s\": %.3f}",
                kernel_variant_name(variant), kinds[kind], others[0], first, others[1], second);
    }
    for (int k = 0; k < 2; k++) {
        double sum[3] = {0};
        for (int i = 0; i < count; i++)
            for (int j = 0; j < 3 && strcmp(results[i].model, models[k]) == 0; j++)
                sum[j] += 1e3 * results[i].count * results[i].seconds[j];
        printf("  %s: all convolutions %.2f ms, oneDNN %.2f (%s), %.2f (%s)\n", models[k], sum[0], sum[1], others[0], sum[2], others[1]);
        fprintf(json, ",\n    {\"variant\": \"%s\", \"model\": \"%s\", \"ms\": %.3f, \"onednn_ms %s\": %.3f, \"onednn_ms %s\": %.3f}",
                kernel_variant_name(variant), models[k], sum[0], others[0], sum[1], others[1], sum[2]);
    }
}

static void start_onednn(KernelVariant variant, dnnl_cpu_isa_t isa)
{
    kernel_set_variant(variant);
    threads_set_count(1);
    dnnl_set_max_cpu_isa(variant == KERNEL_AVX2 ? dnnl_cpu_isa_avx2 : isa);
    need(dnnl_engine_create(&engine, dnnl_cpu, 0) == dnnl_success, "engine_create");
    need(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags) == dnnl_success, "stream_create");
}

static void measure(KernelVariant variant, const char *part, FILE *json)
{
    static const char *const kinds[] = {"convolution", "depthwise", "product"};
    start_onednn(variant, dnnl_cpu_isa_avx512_core);
    static Result results[LAYERS + PRODUCTS];
    int count = 0;
    printf("%s: GMAC/s of espq, of oneDNN in its own layout, in NCHW; espq's speed relative to both\n", kernel_variant_name(variant));
    for (int i = 0; i < LAYERS + PRODUCTS; i++) {
        Result *r = &results[count];
        if (part && i < LAYERS && !strstr(layers[i].model, part)) continue;
        if (part && i >= LAYERS && !strstr("product", part)) continue;
        if (i < LAYERS)
            measure_layer(&layers[i], r);
        else
            measure_product(products[i - LAYERS], r);
        printf("  %-42s %7.1f %7.1f %7.1f   %5.2f %5.2f\n", r->name, r->work / r->seconds[0] * 1e-9, r->work / r->seconds[1] * 1e-9,
               r->work / r->seconds[2] * 1e-9, r->seconds[1] / r->seconds[0], r->seconds[2] / r->seconds[0]);
        fflush(stdout);
        fprintf(json,
                "%s\n    {\"variant\": \"%s\", \"layer\": \"%s\", \"kind\": \"%s\", \"gmac_s\": %.3f, \"onednn_gmac_s\": %.3f, "
                "\"onednn_nchw_gmac_s\": %.3f}",
                count || variant != KERNEL_AVX2 ? "," : "", kernel_variant_name(variant), r->name, kinds[r->kind],
                r->work / r->seconds[0] * 1e-9, r->work / r->seconds[1] * 1e-9, r->work / r->seconds[2] * 1e-9);
        count++;
    }
    sum_up(variant, results, count, kinds, 3, (const char *const[]){"in its own layout", "in NCHW"}, json);
}

static void measure_all_integers(KernelVariant variant, const char *part, FILE *json)
{
    static const char *const kinds[] = {"int8 convolution", "int8 depthwise"};
    static Result results[LAYERS];
    int count = 0;
    start_onednn(variant, dnnl_cpu_isa_all);
    printf("%s: int8 GMAC/s of espq, of oneDNN from int8, from uint8; espq's speed relative to both; GMAC/s of espq at int16\n",
           kernel_variant_name(variant));
    for (int i = 0; i < LAYERS; i++) {
        Result *r = &results[count];
        if (part && !strstr(layers[i].model, part)) continue;
        measure_integers(&layers[i], r);
        double speed[4];
        for (int j = 0; j < 4; j++)
            speed[j] = r->work / r->seconds[j] * 1e-9;
        printf("  %-42s %7.1f %7.1f %7.1f   %5.2f %5.2f %7.1f\n", r->name, speed[0], speed[1], speed[2], speed[0] / speed[1],
               speed[0] / speed[2], speed[3]);
        fflush(stdout);
        fprintf(json,
                ",\n    {\"variant\": \"%s\", \"layer\": \"%s\", \"kind\": \"%s\", \"gmac_s\": %.3f, \"onednn_gmac_s\": %.3f, "
                "\"onednn_uint8_gmac_s\": %.3f, \"int16_gmac_s\": %.3f}",
                kernel_variant_name(variant), r->name, kinds[r->kind], speed[0], speed[1], speed[2], speed[3]);
        count++;
    }
    sum_up(variant, results, count, kinds, 2, (const char *const[]){"from int8", "from uint8"}, json);
}

/* oneDNN's instruction set and OpenMP's threads are chosen once a process: each variant runs in a child. */
static void in_child(void (*run)(KernelVariant, const char *, FILE *), KernelVariant variant, const char *part, FILE *json)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        run(variant, part, json);
        fflush(NULL);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    need(status == 0, "a variant");
    fseek(json, 0, SEEK_END);
}

int main(int count, char **arguments)
{
    if (!getenv("OMP_NUM_THREADS")) {
        setenv("OMP_NUM_THREADS", "1", 1);
        execv("/proc/self/exe", arguments);
    }
    const char *path = count > 1 ? arguments[1] : "/dev/null";
    FILE *json = fopen(path, "w");
    need(json != NULL, path);
    fprintf(json, "{\n  \"kernels\": [");
    for (KernelVariant variant = KERNEL_AVX2; variant < KERNEL_VARIANTS; variant++) {
        if (!kernel_variant_available(variant)) continue;
        in_child(measure, variant, count > 2 ? arguments[2] : NULL, json);
        in_child(measure_all_integers, variant, count > 2 ? arguments[2] : NULL, json);
    }
    fprintf(json, "\n  ]\n}\n");
    fclose(json);
    return 0;
}
