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
#include "optim/pull.h"
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

/* ---- single steps ---- */

typedef struct Stepping {
    TestBatches data;
    Setting *setting;
    PassContext context;
    Recovery recovery;
} Stepping;

/* Recovery as it is before its first step. `spoiled`: a node whose output is quantized eight times too coarse. */
static bool stepping_begin(Stepping *stepping, const char *spoiled, Error *error)
{
    *stepping = (Stepping){.setting = setting_new(SETTING_ESPDL, error)};
    test_batches(&stepping->data, sizes, 8, batch);
    Graph *graph =
        text_graph("x[1,2,6,6]; a = Conv:one(x, #w[6,2,3,3], #b[6]); s = Sigmoid:bend(a); y = Conv:two(s, #v[3,6,3,3], #c[3]); > y");
    RoadOptions options = {.setting = stepping->setting, .target = target_find("esp32s3"), .bits = 8, .batches = &stepping->data.batches};
    progress_level = 0;
    if (!graph || !stepping->setting || !graph_infer(graph, error) || !road_quantize(graph, &options, error)) return false;
    if (spoiled) slot_root(graph_node(graph, spoiled)->output_slots[0])->exponents[0] += 3;
    stepping->context = (PassContext){.setting = stepping->setting, .target = options.target, .bits = 8, .batches = options.batches};
    Recovery *recovery = &stepping->recovery;
    *recovery = (Recovery){.graph = graph, .context = &stepping->context, .budget = 1000, .macs = 6 * 18 * 16 + 3 * 54 * 4};
    recovery->began = 1e9; /* the clock never ends it */
    random_seed(&recovery->random, 1);
    recovery->setting = setting_copy(stepping->setting, error);
    return recovery->setting && samples_read(&recovery->samples, graph, &stepping->context, error) &&
           (recovery->best = graph_copy(graph, error)) && samples_judge(&recovery->samples, graph, false, &recovery->plain, error) &&
           (recovery->noise = recovery->plain, true);
}

static void stepping_end(Stepping *stepping)
{
    samples_free(&stepping->recovery.samples); /* asks its graph how many inputs there are */
    graph_free(stepping->recovery.graph);
    graph_free(stepping->recovery.best);
    setting_free(stepping->recovery.setting);
    setting_free(stepping->setting);
    text_free(&stepping->recovery.story);
}

/* Promise: an exponent that is too coarse by three steps is found by looking at it alone, and set right. */
TEST(recovery_finds_an_exponent_that_is_wrong)
{
    Error error = {0};
    Stepping stepping;
    REQUIRE(stepping_begin(&stepping, "two", &error), "%s", error.what);
    const Recovery *recovery = &stepping.recovery;
    int before = slot_exponent(graph_node(recovery->best, "two")->output_slots[0], 0);
    CHECK(recover_alone(&stepping.recovery, &error), "%s", error.what);
    int after = slot_exponent(graph_node(recovery->best, "two")->output_slots[0], 0);
    CHECK(after == before - 3 || after == before - 2, "%d -> %d: %s", before, after, recovery->story.data);
    CHECK(recovery->noise.held < recovery->plain.held, "%g -> %g", recovery->plain.held, recovery->noise.held);
    stepping_end(&stepping);
}

/* Promise: a bias that is off by much comes back by the mean error of its layer. */
TEST(recovery_corrects_a_bias)
{
    Error error = {0};
    Stepping stepping;
    REQUIRE(stepping_begin(&stepping, NULL, &error), "%s", error.what);
    Recovery *recovery = &stepping.recovery;
    Value *bias = graph_node(recovery->best, "two")->inputs[2];
    Tensor *off = tensor_copy(bias->constant, &error);
    REQUIRE(off, "%s", error.what);
    tensor_floats(off)[1] += 4;
    recovery_set_constant(bias, off);
    tensor_release(off);
    CHECK(samples_judge(&recovery->samples, recovery->best, false, &recovery->plain, &error), "%s", error.what);
    recovery->noise = recovery->plain;
    CHECK(recover_biases(recovery, &error), "%s", error.what);
    CHECK(recovery->noise.held < 0.1 * recovery->plain.held, "%g -> %g", recovery->plain.held, recovery->noise.held);
    stepping_end(&stepping);
}

/* Promise: training block by block brings the samples learned from nearer to the float network, and leaves what float runs read. */
TEST(recovery_trains_block_by_block)
{
    Error error = {0};
    Stepping stepping;
    REQUIRE(stepping_begin(&stepping, NULL, &error), "%s", error.what);
    const Recovery *recovery = &stepping.recovery;
    CHECK(recover_blocks(&stepping.recovery, &error), "%s", error.what);
    CHECK(recovery->story.data && strstr(recovery->story.data, "training block by block"), "no word of it");
    CHECK(recovery->noise.learned <= recovery->plain.learned, "%g -> %g", recovery->plain.learned, recovery->noise.learned);
    stepping_end(&stepping);
}

/* Promise: mixed pictures lie between dimmed and bright ones of the samples, and are the same for the same numbers. */
TEST(mixed_pictures_are_made_of_the_samples)
{
    Error error = {0};
    Tensor *pictures = tensor_new(DTYPE_FLOAT32, &(Shape){4, {4, 3, 40, 32}}, &error);
    REQUIRE(pictures, "%s", error.what);
    int64_t size = tensor_count(pictures) / 4;
    for (int64_t i = 0; i < 4 * size; i++)
        tensor_floats(pictures)[i] = (float)(i / size + 1);
    Graph graph = {.input_count = 1};
    RecoverySamples samples = {.graph = &graph, .inputs = &pictures, .unit = 1, .units = 4, .learned = 3, .parted = true};
    float first[3 * 40 * 32], again[3 * 40 * 32];
    bool covered = false;
    CHECK(samples_are_pictures(&samples), "pictures are not seen as such");
    for (uint64_t seed = 0; seed < 20; seed++) {
        Random random, twin;
        random_seed(&random, seed);
        random_seed(&twin, seed);
        Mixture mixture = mixture_any(&random, &samples, 1), other = mixture_any(&twin, &samples, 1);
        mixture_fill(&mixture, &samples, first);
        mixture_fill(&other, &samples, again);
        CHECK(memcmp(first, again, sizeof first) == 0, "seed %d gives two pictures", (int)seed);
        for (int64_t i = 0; i < size; i++) {
            bool own = first[i] >= 1.499f && first[i] <= 2.001f, others = first[i] >= 0.749f && first[i] <= 3.001f;
            REQUIRE(own || (mixture.other >= 0 && others), "seed %d, value %g: not of what is learned from", (int)seed, (double)first[i]);
            covered = covered || !own;
        }
    }
    CHECK(covered, "no picture covers another one");
    tensor_release(pictures);
}

/* Promise: weights are drawn to where they were, in proportion to the way; biases are not. */
TEST(pull_leads_weights_back)
{
    float values[2][2] = {{3, 1}, {3, 1}}, gradients[2][2] = {{1, -1}, {1, -1}};
    Graph *graph = text_graph("x[1,2]; y = Gemm:g(x, #w[2,1], #b[1]); > y");
    REQUIRE(graph, "no graph");
    Node *node = graph_node(graph, "g");
    float *start = tensor_floats(node->inputs[1]->constant);
    start[0] = start[1] = 1;
    BackwardParameter parameters[2];
    for (int i = 0; i < 2; i++)
        parameters[i] = (BackwardParameter){.node = node, .index = i + 1, .count = 2, .values = values[i], .gradient = gradients[i]};
    pull_to_start(parameters, 2, 0.5);
    CHECK(gradients[0][0] == 2 && gradients[0][1] == -1, "%g %g", (double)gradients[0][0], (double)gradients[0][1]);
    CHECK(gradients[1][0] == 1 && gradients[1][1] == -1, "a bias was drawn");
    graph_free(graph);
}
