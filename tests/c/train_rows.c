/* Optimizers, schedules and losses against their formulas, and the kernels under them against their definitions. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/threads.h"
#include "check.h"
#include "exec_graphs.h"
#include "kernel/float32.h"
#include "kernel/update.h"
#include "train/loss.h"
#include "train/optimizer.h"
#include "train/schedule.h"

enum { COUNT = 40001, SMALL = 6 };

static void fill(float *x, uint64_t seed)
{
    Random random;
    random_seed(&random, seed);
    for (int i = 0; i < COUNT; i++)
        x[i] = (float)random_normal(&random);
}

/* One run of each kernel of update.h; results lie in x[0 … 4]. */
static void update(float *x[5])
{
    const AdamF32 adam = {0.01f, 1.5f, 0.1f, 0.999f, 0.001f, 1e-8f, 0.99f, 0.1f};
    const MomentumF32 momentum = {0.1f, 0.9f, 0.01f, true};
    const SoftRoundF32 round = {0.25f, -2, 1, 0.01f, 5};
    for (int i = 0; i < 5; i++)
        fill(x[i], (uint64_t)i);
    for (int i = 0; i < COUNT; i++) {
        x[2][i] = fabsf(x[2][i]);
        x[4][i] *= 4;
    }
    adam_f32(&adam, x[0], x[1], x[2], x[3], COUNT);
    momentum_f32(&momentum, x[0], x[1], x[3], COUNT);
    soft_round_gradient_f32(&round, x[1], x[4], x[0], x[2], COUNT);
    soft_round_f32(&round, x[1], x[4], x[3], COUNT);
}

/* Promise: updates and soft rounding give the bits of their definitions on every variant and number of threads. */
TEST(updates_equal_their_definitions)
{
    float *x[10];
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (int i = 0; i < 10; i++)
        x[i] = memory_new_array(COUNT, sizeof(float));
    kernel_set_variant(KERNEL_PLAIN);
    threads_set_count(1);
    update(x);
    for (KernelVariant other = KERNEL_PLAIN; other < KERNEL_VARIANTS; other++) {
        if (!kernel_variant_available(other)) continue;
        kernel_set_variant(other);
        threads_set_count(3);
        update(x + 5);
        for (int i = 0; i < 5; i++)
            CHECK(memcmp(x[i], x[i + 5], COUNT * sizeof(float)) == 0, "%s: array %d", kernel_variant_name(other), i);
    }
    kernel_set_variant(variant);
    threads_set_count(threads);
    for (int i = 0; i < 10; i++)
        memory_free(x[i]);
}

/* w, m, v of one element, in double. */
typedef struct Plain {
    double w, m, v;
} Plain;

static void plain_step(Plain *plain, const OptimizerOptions *options, double rate, double g, int t)
{
    if (options->row->memories == 2) {
        bool decoupled = strcmp(options->row->name, "adamw") == 0;
        g += decoupled ? 0 : options->decay * plain->w;
        plain->w *= decoupled ? 1 - rate * options->decay : 1;
        plain->m = options->beta1 * plain->m + (1 - options->beta1) * g;
        plain->v = options->beta2 * plain->v + (1 - options->beta2) * g * g;
        plain->w -= rate * plain->m / (1 - pow(options->beta1, t)) / (sqrt(plain->v / (1 - pow(options->beta2, t))) + options->epsilon);
        return;
    }
    g += options->decay * plain->w;
    plain->m = options->momentum * plain->m + g;
    plain->w -= rate * (options->nesterov ? g + options->momentum * plain->m : plain->m);
}

/* Promise: each optimizer makes the steps of its formula, group by group with the group's own rate and decay. */
TEST(optimizers_step_as_their_formulas_say)
{
    for (int kind = 0; kind < 5; kind++) {
        Error error;
        OptimizerOptions options = optimizer_defaults(optimizer_row_at(kind < 3 ? kind : 2));
        options.decay = 0.1;
        options.momentum = kind < 3 ? 0 : 0.9;
        options.nesterov = kind == 4;
        OptimizerGroup groups[] = {{SMALL, 1, true}, {SMALL, 0.5, false}};
        Optimizer *optimizer = optimizer_new(&options, groups, 2, &error);
        float w[2][SMALL], g[2][SMALL], *values[] = {w[0], w[1]};
        const float *gradients[] = {g[0], g[1]};
        Plain plain[2][SMALL] = {0};
        CHECK(optimizer != NULL, "no optimizer");
        if (!optimizer) return;
        for (int i = 0; i < 2 * SMALL; i++)
            plain[i / SMALL][i % SMALL].w = w[i / SMALL][i % SMALL] = (float)(i - 5) / 4;
        for (int t = 1; t <= 20; t++) {
            for (int i = 0; i < 2 * SMALL; i++) {
                OptimizerOptions own = options;
                if (i >= SMALL) own.decay = 0;
                g[i / SMALL][i % SMALL] = (float)((i * 7 + t * 3) % 11 - 5) / 8;
                plain_step(&plain[i / SMALL][i % SMALL], &own, i < SMALL ? 0.01 : 0.005, (double)g[i / SMALL][i % SMALL], t);
            }
            optimizer_step(optimizer, 0.01, values, gradients);
        }
        for (int i = 0; i < 2 * SMALL; i++)
            CHECK(fabs((double)w[i / SMALL][i % SMALL] - plain[i / SMALL][i % SMALL].w) < 1e-5, "%s %d, value %d: %g, expected %g",
                  options.row->name, kind, i, (double)w[i / SMALL][i % SMALL], plain[i / SMALL][i % SMALL].w);
        optimizer_free(optimizer);
    }
}

/* Promise: a schedule begins with its warmup, and ends where it says. */
TEST(schedules_follow_their_formulas)
{
    Error error;
    Schedule cosine = {.row = schedule_find("cosine", &error), .rate = 2, .steps = 13, .warmup = 2, .end = 0.5};
    const double expected[][2] = {{0, 1}, {1, 2}, {2, 2}, {7, 1.5}, {12, 1}};
    for (int i = 0; i < 5; i++)
        CHECK(fabs(schedule_rate(&cosine, (int64_t)expected[i][0]) - expected[i][1]) < 1e-9, "cosine, step %g", expected[i][0]);
    Schedule step = {.row = schedule_find("step", &error), .rate = 2, .steps = 10, .factor = 0.1, .every = 4};
    CHECK(schedule_rate(&step, 3) == 2 && fabs(schedule_rate(&step, 4) - 0.2) < 1e-12 && fabs(schedule_rate(&step, 9) - 0.02) < 1e-12,
          "step");
    CHECK(!schedule_find("cosin", &error) && strstr(error.what, "cosine"), "%s", error.what);
}

static double loss_of(const LossRow *row, LossCall *call)
{
    Error error;
    double value = NAN;
    CHECK(loss_run(row, call, &value, &error), "%s: %s", row->name, error.what);
    return value;
}

static void check_slope(const LossRow *row, LossCall *call)
{
    Error error;
    Tensor *gradient = tensor_new(DTYPE_FLOAT32, &call->output->shape, &error);
    call->gradient = gradient;
    loss_of(row, call);
    call->gradient = NULL;
    for (int64_t i = 0; gradient && i < tensor_count(gradient); i++) {
        float *x = &tensor_floats(call->output)[i], kept = *x;
        *x = kept + 1.0f / 1024;
        double above = loss_of(row, call);
        *x = kept - 1.0f / 1024;
        double slope = (above - loss_of(row, call)) * 512;
        *x = kept;
        CHECK(fabs(slope - (double)tensor_floats(gradient)[i]) < 1e-3, "%s, element %d: %g, differences say %g", row->name, (int)i,
              (double)tensor_floats(gradient)[i], slope);
    }
    tensor_release(gradient);
}

/* Promise: the gradient of each loss is its slope, with weight, temperature, smoothing, and classes left out. */
TEST(losses_have_their_slopes_as_gradients)
{
    Error error;
    Shape shape = {3, {2, 4, 3}}, classes_shape = {2, {2, 3}};
    Tensor *output = random_tensor(&shape, 3), *target = random_tensor(&shape, 4);
    Tensor *classes = tensor_new(DTYPE_INT64, &classes_shape, &error);
    for (int i = 0; i < 6; i++)
        ((int64_t *)(void *)classes->data)[i] = i == 4 ? -1 : i % 4;
    LossCall call = {.output = output, .target = target, .weight = 1.5, .temperature = 2, .smoothing = 0.1};
    for (int i = 0; loss_row_at(i); i++)
        check_slope(loss_row_at(i), &call);
    call.target = classes;
    check_slope(loss_find("cross_entropy", &error), &call);
    ((int64_t *)(void *)classes->data)[0] = 4;
    double value;
    CHECK(!loss_run(loss_find("cross_entropy", &error), &call, &value, &error) && strstr(error.what, "class 4"), "%s", error.what);
    CHECK(!loss_run(loss_find("mse", &error), &call, &value, &error), "classes for mse");
    tensor_release(output);
    tensor_release(target);
    tensor_release(classes);
}

/* Promise: losses have the values of their formulas: ln 2 for even odds, 0 for what is equal, 1 for what is at right angles. */
TEST(losses_have_the_values_of_their_formulas)
{
    Error error;
    Shape shape = {2, {1, 2}}, one = {1, {1}};
    Tensor *output = tensor_new(DTYPE_FLOAT32, &shape, &error), *target = tensor_new(DTYPE_FLOAT32, &shape, &error);
    Tensor *class = tensor_new(DTYPE_INT64, &one, &error);
    LossCall call = {.output = output, .target = target, .weight = 1, .temperature = 1};
    CHECK(loss_of(loss_find("kl", &error), &call) == 0, "kl of equals");
    tensor_floats(output)[0] = 2;
    tensor_floats(target)[1] = 4;
    CHECK(fabs(loss_of(loss_find("mse", &error), &call) - 10) < 1e-9, "mse");
    CHECK(fabs(loss_of(loss_find("cosine", &error), &call) - 1) < 1e-9, "cosine");
    tensor_floats(output)[1] = 2;
    call.target = class;
    CHECK(fabs(loss_of(loss_find("cross_entropy", &error), &call) - log(2)) < 1e-9, "cross entropy");
    tensor_release(output);
    tensor_release(target);
    tensor_release(class);
}
