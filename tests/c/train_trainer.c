/* The trainer when memory or the disk ends, its gradients over pieces of a batch, and what it trains. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "check.h"
#include "exec_graphs.h"
#include "kernel/float32.h"
#include "quant/quantize.h"
#include "sweep.h"
#include "text_graph.h"
#include "train/loss.h"
#include "train/trainer.h"

static const char net[] = "x[1,2,4,4]; a = Conv:one(x, #w[4,2,3,3], #b[4]) pads=[1,1,1,1]; r = PRelu:r(a, #s[4,1,1]); "
                          "c = Conv:two(r, #v[3,4,1,1]); p = GlobalAveragePool:p(c); y = Flatten:f(p); > y";

typedef struct Fixture {
    Graph *graph, *made;
    Setting *setting;
    TestBatches data;
    Tensor *batch, *target;
    unsigned parts;
    size_t memory_limit;
    char path[64];
} Fixture;

static Tensor *numbers(int number, int64_t samples)
{
    Error error;
    Shape shape = {4, {samples, 2, 4, 4}};
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, &shape, &error); /* NULL: the sweep has made it fail */
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = (float)((i * 7 + number * 3) % 13) / 7 - 0.9f;
    return tensor;
}

static bool begin(Fixture *fixture, Error *error)
{
    static const int64_t sizes[] = {2, 3};
    progress_level = 0;
    *fixture = (Fixture){.graph = text_graph(net), .setting = setting_new(SETTING_ESPDL, error), .batch = numbers(4, 5)};
    fixture->target = tensor_new(DTYPE_INT64, &(Shape){1, {5}}, error);
    test_batches(&fixture->data, sizes, 2, numbers);
    if (!fixture->graph || !fixture->setting || !fixture->batch || !fixture->target || !graph_infer(fixture->graph, error)) return false;
    if (!setting_set(fixture->setting, "quantize_activation_setting.calib_algorithm", "minmax", error)) return false;
    for (int i = 0; i < 5; i++)
        tensor_set(fixture->target, i, i % 3);
    PassContext context = {.setting = fixture->setting, .target = target_find("esp32p4"), .bits = 8, .batches = &fixture->data.batches};
    for (const Pass *pass = quantization_passes; pass->name; pass++)
        if ((!pass->when || pass->when(fixture->setting)) && !pass->run(fixture->graph, &context, error)) return false;
    return true;
}

static void end(Fixture *fixture)
{
    if (fixture->path[0]) remove(fixture->path);
    graph_free(fixture->graph);
    setting_free(fixture->setting);
    tensor_release(fixture->batch);
    tensor_release(fixture->target);
}

static Trainer *make(const Fixture *fixture, Error *error)
{
    TrainerOptions options = {.exact = true,
                              .setting = fixture->setting,
                              .optimizer = optimizer_defaults(optimizer_row_at(0)),
                              .schedule = {.row = schedule_row_at(0), .rate = 0.1},
                              .parts = fixture->parts,
                              .bias_rate = 1,
                              .scale_rate = 5,
                              .memory_limit = fixture->memory_limit,
                              .identity = "net"};
    return trainer_new(fixture->graph, &options, error);
}

static bool step(Trainer *trainer, Fixture *fixture, double *loss, Error *error)
{
    Tensor *output, *gradient = NULL;
    if (!trainer_forward(trainer, &fixture->batch, &output, error)) return false;
    bool ok = (gradient = tensor_new(DTYPE_FLOAT32, &output->shape, error)) != NULL;
    LossCall call = {.output = output, .target = fixture->target, .weight = 1, .temperature = 1, .gradient = gradient};
    ok = ok && loss_run(loss_find("cross_entropy", error), &call, loss, error) && trainer_back(trainer, &gradient, error);
    tensor_release(output);
    tensor_release(gradient);
    return ok;
}

static bool act(void *context, Error *error)
{
    Fixture *fixture = context;
    double loss;
    char *note = NULL;
    size_t length;
    Trainer *trainer = make(fixture, error);
    bool ok = trainer && step(trainer, fixture, &loss, error) && step(trainer, fixture, &loss, error);
    ok = ok && (!fixture->path[0] ||
                (trainer_save(trainer, fixture->path, "note", 4, error) && trainer_load(trainer, fixture->path, &note, &length, error)));
    ok = ok && (fixture->made = graph_copy(fixture->graph, error)) && trainer_apply(trainer, fixture->made, error);
    memory_free(note);
    trainer_free(trainer);
    return ok;
}

static uint64_t settle(void *context, bool ok)
{
    Fixture *fixture = context;
    uint64_t digest = fixture->made ? digest_graph(ok ? "result" : "what a failure left", fixture->made) : 0;
    graph_free(fixture->made);
    fixture->made = NULL;
    return digest;
}

/* Promise: whatever allocation fails in a step, the answer is a memory error or the same graph, and nothing leaks. */
TEST(sweep_trainer)
{
    Error error = {0};
    Fixture fixture;
    bool ok = begin(&fixture, &error);
    CHECK(ok, "%s", error.what);
    for (unsigned parts = 1; ok && parts <= 3; parts += 2) { /* weights; weights and scales, in pieces */
        fixture.parts = parts;
        fixture.memory_limit = parts == 3;
        sweep_memory(&(Sweep){"trainer", act, settle, &fixture});
    }
    end(&fixture);
}

static uint64_t digest_after_steps(Fixture *fixture, int threads)
{
    Error error = {0};
    double loss;
    threads_set_count(threads);
    Trainer *trainer = make(fixture, &error);
    bool ok = trainer != NULL;
    for (int i = 0; ok && i < 4; i++)
        ok = step(trainer, fixture, &loss, &error);
    ok = ok && (fixture->made = graph_copy(fixture->graph, &error)) && trainer_apply(trainer, fixture->made, &error);
    CHECK(ok, "%s", error.what);
    trainer_free(trainer);
    return settle(fixture, ok);
}

/* Promise: training with labels gives the same bits on every instruction set and any number of threads. */
TEST(trainer_is_repeatable)
{
    Error error = {0};
    Fixture fixture;
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    REQUIRE(begin(&fixture, &error), "%s", error.what);
    fixture.parts = TRAIN_WEIGHTS | TRAIN_SCALES;
    kernel_set_variant(KERNEL_PLAIN);
    uint64_t first = digest_after_steps(&fixture, 1);
    CHECK(first != digest_graph("before", fixture.graph), "nothing was learnt");
    for (KernelVariant k = KERNEL_PLAIN; k < KERNEL_VARIANTS; k++) {
        if (!kernel_variant_available(k)) continue;
        kernel_set_variant(k);
        CHECK(digest_after_steps(&fixture, 3) == first, "%s gives another graph", kernel_variant_name(k));
    }
    kernel_set_variant(variant);
    threads_set_count(threads);
    end(&fixture);
}

/* Promise: a checkpoint is written whole or not at all when the disk fails. */
TEST(sweep_checkpoint)
{
    Error error = {0};
    Fixture fixture;
    bool ok = begin(&fixture, &error);
    CHECK(ok, "%s", error.what);
    fixture.parts = TRAIN_WEIGHTS;
    snprintf(fixture.path, sizeof fixture.path, "/tmp/espq_trainer_test.ckpt");
    if (ok) sweep_files(&(Sweep){"checkpoint", act, settle, &fixture});
    end(&fixture);
}

/* Promise: pieces of a batch, down to single samples, give the loss of the whole batch and nearly its step. */
TEST(trainer_pieces_equal_the_batch)
{
    Error error = {0};
    Fixture fixture;
    bool ok = begin(&fixture, &error);
    double loss[2] = {0};
    Graph *graphs[2] = {0};
    fixture.parts = TRAIN_WEIGHTS;
    for (int i = 0; ok && i < 2; i++) {
        fixture.memory_limit = i ? 1 : 0;
        Trainer *trainer = make(&fixture, &error);
        ok = trainer && step(trainer, &fixture, &loss[i], &error);
        if (ok) CHECK(trainer_piece(trainer, 5) == (i ? 1 : 5), "%lld samples at once", (long long)trainer_piece(trainer, 5));
        ok = ok && (graphs[i] = graph_copy(fixture.graph, &error)) && trainer_apply(trainer, graphs[i], &error);
        trainer_free(trainer);
    }
    CHECK(ok, "%s", error.what);
    CHECK(loss[0] == loss[1] && loss[0] > 0, "losses %.9g and %.9g", loss[0], loss[1]);
    for (int i = 0; ok && i < graphs[0]->value_count; i++) {
        const Tensor *a = graphs[0]->values[i]->constant, *b = graphs[1]->values[i]->constant;
        for (int64_t k = 0; a && a->dtype == DTYPE_FLOAT32 && k < tensor_count(a); k++)
            CHECK(fabsf(tensor_floats(a)[k] - tensor_floats(b)[k]) < 1e-4f, "%s", graphs[0]->values[i]->name);
    }
    graph_free(graphs[0]);
    graph_free(graphs[1]);
    end(&fixture);
}

static void check_kinds(const char *text, const char *name, int index, TrainedKind wanted)
{
    Error error = {0};
    Graph *graph = text_graph(text);
    bool ok = graph && graph_infer(graph, &error);
    CHECK(ok, "%s", error.what);
    if (ok) {
        TrainedKind kind = trained_kind(graph_node(graph, name), index);
        CHECK(kind == wanted, "input %d of %s: %d, not %d", index, name, (int)kind, (int)wanted);
    }
    graph_free(graph);
}

/* Promise: weights, biases, slopes and norms are trained; bounds, scales of Resize and constants of plain arithmetic are not (OPTIM O14). */
TEST(trainer_trains_parameters_only)
{
    check_kinds(net, "one", 1, TRAINED_WEIGHT);
    check_kinds(net, "one", 2, TRAINED_BIAS);
    check_kinds(net, "one", 0, TRAINED_NOT);
    check_kinds(net, "r", 1, TRAINED_SLOPE);
    check_kinds("x[2,3]; a = MatMul:m(x, #w[3,4]); y = Add:b(a, #b[4]); > y", "b", 1, TRAINED_BIAS);
    check_kinds("x[2,3]; a = MatMul:m(x, #w[3,4]); y = Add:b(a, #b[2,4]); > y", "b", 1, TRAINED_NOT);
    check_kinds("x[2,3]; y = Add:b(x, #b[3]); > y", "b", 1, TRAINED_NOT);
    check_kinds("x[2,3]; y = Mul:b(x, #b[3]); > y", "b", 1, TRAINED_NOT);
    check_kinds("x[2,3]; y = LayerNormalization:n(x, #g[3], #b[3]); > y", "n", 2, TRAINED_NORM);
}
