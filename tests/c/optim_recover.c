/* Recovery inside of the engine: interrupted, it leaves the graph as it was. */
#include "check.h"
#include "exec_graphs.h"
#include "text_graph.h"

#include <math.h>
#include <string.h>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/threads.h"
#include "kernel/float32.h"
#include "optim/optim.h"
#include "optim/recover.h"
#include "quant/quantize.h"
#include "road/road.h"

static const int64_t sizes[] = {1, 1, 1, 1, 1, 1, 1, 1};
static bool (*next_of_data)(void *, Tensor **, bool *, Error *);

static Tensor *batch(int number, int64_t samples)
{
    return random_tensor(&(Shape){4, {samples, 2, 6, 6}}, 100 + (uint64_t)number);
}

/* Ctrl-C at the end of the data: what follows is trials and training. */
static bool next_and_cancel(void *context, Tensor **inputs, bool *done, Error *error)
{
    bool ok = next_of_data(context, inputs, done, error);
    if (ok && *done) cancel_request();
    return ok;
}

/* Promise: Ctrl-C in the middle of recovery fails as interrupted, and the graph is the one that went in. */
TEST(recovery_that_is_interrupted_changes_nothing)
{
    Error error = {0};
    char before[41], after[41];
    TestBatches data;
    progress_level = 0;
    test_batches(&data, sizes, 8, batch);
    Graph *graph = text_graph("x[1,2,6,6]; a = Conv:one(x, #w[6,2,3,3]); r = Relu:relu(a); y = Conv:two(r, #v[3,6,3,3]); > y");
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    REQUIRE(graph && setting, "%s", error.what);
    RoadOptions options = {.setting = setting, .target = target_find("esp32p4"), .bits = 8, .batches = &data.batches};
    REQUIRE(graph_infer(graph, &error) && road_quantize(graph, &options, &error), "%s", error.what);
    REQUIRE(road_digest(graph, before, &error), "%s", error.what);
    next_of_data = data.batches.next;
    data.batches.next = next_and_cancel;
    bool done = road_apply(graph, "recover", &options, &error);
    cancel_clear();
    CHECK(!done && error.code == ERROR_INTERRUPTED, "done %d, code %d", done, (int)error.code);
    CHECK(graph_check(graph, &error), "%s", error.what);
    REQUIRE(road_digest(graph, after, &error), "%s", error.what);
    CHECK(strcmp(before, after) == 0, "the graph has changed");
    data.batches.next = next_of_data;
    CHECK(road_apply(graph, "recover", &options, &error), "%s", error.what);
    REQUIRE(road_digest(graph, after, &error), "%s", error.what);
    CHECK(strcmp(before, after) != 0, "recovery changed nothing");
    graph_free(graph);
    setting_free(setting);
}

static void digest_after_recovery(char hex[41], int threads)
{
    Error error = {0};
    TestBatches data;
    threads_set_count(threads);
    test_batches(&data, sizes, 8, batch);
    Graph *graph = text_graph("x[1,2,6,6]; a = Conv:one(x, #w[6,2,3,3]); r = Relu:relu(a); y = Conv:two(r, #v[3,6,3,3]); > y");
    Setting *setting = setting_new(SETTING_ESPDL, &error);
    RoadOptions options = {.setting = setting, .target = target_find("esp32p4"), .bits = 8, .batches = &data.batches};
    bool ok = graph && setting && setting_set(setting, "recover_setting.budget", "1000", &error); /* the clock never ends it */
    ok = ok && graph_infer(graph, &error) && road_quantize(graph, &options, &error) && road_apply(graph, "recover", &options, &error);
    CHECK(ok && road_digest(graph, hex, &error), "%s", error.what);
    graph_free(graph);
    setting_free(setting);
}

/* Promise: recovery gives the same graph on every instruction set and any number of threads. */
TEST(recovery_is_repeatable)
{
    char first[41] = "", other[41] = "";
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    progress_level = 0;
    kernel_set_variant(KERNEL_PLAIN);
    digest_after_recovery(first, 1);
    for (KernelVariant k = KERNEL_PLAIN; k < KERNEL_VARIANTS; k++) {
        if (!kernel_variant_available(k)) continue;
        kernel_set_variant(k);
        digest_after_recovery(other, 3);
        CHECK(strcmp(first, other) == 0, "%s gives another graph", kernel_variant_name(k));
    }
    kernel_set_variant(variant);
    threads_set_count(threads);
}

/* ---- second-order rounding ---- */

#define COLUMNS 4
#define STEP 0.25f

/* Loss of rounded weights: d' H d. */
static double loss_of(const double *moments, const float *a, const float *b)
{
    double loss = 0;
    for (int i = 0; i < COLUMNS; i++)
        for (int k = 0; k < COLUMNS; k++)
            loss += moments[i * COLUMNS + k] * (a[i] - b[i]) * (double)(a[k] - b[k]);
    return loss;
}

static double least_loss(const double *moments, const float *weights)
{
    double least = INFINITY;
    for (int choice = 0; choice < 1 << COLUMNS; choice++) {
        float rounded[COLUMNS];
        for (int i = 0; i < COLUMNS; i++)
            rounded[i] = (floorf(weights[i] / STEP) + (float)(choice >> i & 1)) * STEP;
        double loss = loss_of(moments, rounded, weights);
        if (loss < least) least = loss;
    }
    return least;
}

/* Promise: on correlated inputs, second-order rounding loses less than rounding to the nearest in all, seldom more in one case, and comes
 * near the best of all roundings up and down. */
TEST(rounding_by_moments_comes_near_the_best_of_all)
{
    Random random;
    Error error = {0};
    double nearest = 0, found = 0, best = 0;
    int exponent = -2;
    random_seed(&random, 5);
    for (int turn = 0; turn < 200; turn++) {
        double moments[COLUMNS * COLUMNS] = {0}, used[COLUMNS * COLUMNS];
        float weights[COLUMNS], rounded[COLUMNS], plain[COLUMNS];
        for (int p = 0; p < 20; p++) {
            double common = random_normal(&random), x[COLUMNS];
            for (int i = 0; i < COLUMNS; i++)
                x[i] = common + 0.5 * random_normal(&random);
            for (int i = 0; i < COLUMNS * COLUMNS; i++)
                moments[i] += x[i / COLUMNS] * x[i % COLUMNS];
        }
        for (int i = 0; i < COLUMNS; i++) {
            weights[i] = rounded[i] = (float)random_normal(&random);
            plain[i] = rintf(weights[i] / STEP) * STEP;
        }
        memcpy(used, moments, sizeof used);
        REQUIRE(round_by_moments(used, COLUMNS, 1, 0, rounded, &exponent, 1, -128, 127, &error), "%s", error.what);
        for (int i = 0; i < COLUMNS; i++)
            CHECK(rounded[i] == rintf(rounded[i] / STEP) * STEP, "%g is no step", (double)rounded[i]);
        nearest += loss_of(moments, plain, weights);
        found += loss_of(moments, rounded, weights);
        best += least_loss(moments, weights);
    }
    CHECK(found < 0.5 * nearest, "found %g, nearest %g", found, nearest);
    CHECK(found < 1.5 * best, "found %g, best %g", found, best);
}

/* Promise: inputs that have nothing to do with each other, and inputs that are always zero, are rounded to the nearest, and the range is
 * kept. */
TEST(rounding_by_moments_of_single_inputs_is_to_the_nearest)
{
    Error error = {0};
    double moments[] = {2, 0, 0, 0, 0, 0, 0, 0, 5};
    float weights[] = {0.6f, -0.4f, 3.1f, 1.4f, 0.2f, -9.0f};
    const int exponents[] = {0, 1};
    const float expected[] = {1, 0, 3, 2, 0, -8};
    REQUIRE(round_by_moments(moments, 3, 2, 0.01, weights, exponents, 2, -4, 3, &error), "%s", error.what);
    for (int i = 0; i < 6; i++)
        CHECK(weights[i] == expected[i], "%d: %g instead of %g", i, (double)weights[i], (double)expected[i]);
}
