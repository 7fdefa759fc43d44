/* Training block by block: what it makes better, what it leaves alone, and that the same data give the same graph. */
#include "check.h"
#include "exec_graphs.h"
#include "text_graph.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "base/cancel.h"
#include "base/progress.h"
#include "base/threads.h"
#include "kernel/float32.h"
#include "optim/optim.h"
#include "quant/quantize.h"
#include "road/road.h"

#define ONE "x[1,3,6,6]; a = Conv:one(x, #w[8,3,3,3], #b[8]) pads=[1,1,1,1]; r = Relu(a); y = Conv:two(r, #v[4,8,1,1], #c[4]); > y"
#define TWO                                                                                                                                \
    "x[1,3,6,6]; a = Conv:one(x, #w[8,3,3,3], #b[8]) pads=[1,1,1,1]; r = Relu(a); p = Conv:two(r, #v[8,8,1,1], #c[8]); "                   \
    "q = PRelu(p, #s[8,1,1]); t = Add(q, r); y = Conv:three(t, #u[4,8,3,3], #d[4]); > y"

typedef struct Fixture {
    Graph *graph;
    Setting *setting;
    PassContext context;
    TestBatches data;
    Error error;
    bool ok;
} Fixture;

static Tensor *batch(int number, int64_t samples)
{
    return random_tensor(&(Shape){4, {samples, 3, 6, 6}}, 50 + (uint64_t)number);
}

static const int64_t ones[] = {1, 1, 1, 1}, mixed[] = {2, 1, 2, 3, 1};

static void set(Fixture *fixture, const char *path, const char *value)
{
    fixture->ok = fixture->ok && setting_set(fixture->setting, path, value, &fixture->error);
}

static void begin(Fixture *fixture, const char *text, const char *target, bool reference)
{
    memset(fixture, 0, sizeof *fixture);
    progress_level = 0;
    test_batches(&fixture->data, ones, 4, batch);
    fixture->graph = text_graph(text);
    fixture->setting = setting_new(reference ? SETTING_REFERENCE : SETTING_ESPDL, &fixture->error);
    fixture->ok = fixture->graph && fixture->setting && graph_infer(fixture->graph, &fixture->error);
    fixture->context =
        (PassContext){.setting = fixture->setting, .target = target_find(target), .bits = 8, .batches = &fixture->data.batches};
    set(fixture, "quantize_activation_setting.calib_algorithm", "minmax");
    for (const Pass *pass = quantization_passes; fixture->ok && pass->name; pass++)
        if (!pass->when || pass->when(fixture->setting)) fixture->ok = pass->run(fixture->graph, &fixture->context, &fixture->error);
}

static void end(Fixture *fixture)
{
    graph_free(fixture->graph);
    setting_free(fixture->setting);
}

static bool run(Fixture *fixture, bool (*pass)(Graph *graph, PassContext *context, Error *error))
{
    fixture->ok = fixture->ok && pass(fixture->graph, &fixture->context, &fixture->error) && graph_check(fixture->graph, &fixture->error);
    return fixture->ok;
}

static const char *name_of(const Fixture *fixture, char hex[41])
{
    Error error;
    strcpy(hex, "none");
    CHECK(fixture->graph && road_digest(fixture->graph, hex, &error), "no digest");
    return hex;
}

static bool says(const Fixture *fixture, const char *text)
{
    return fixture->graph && fixture->graph->notes.data && strstr(fixture->graph->notes.data, text);
}

/* Mean squared difference of the simulated to the float outputs on the data. */
static double loss(Graph *graph)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        Tensor *x = batch(i, 1), *floating = run_net(graph, EXEC_FLOAT, x), *simulated = run_net(graph, EXEC_SIMULATED, x);
        for (int64_t k = 0; floating && simulated && k < tensor_count(floating); k++) {
            double difference = (double)tensor_floats(simulated)[k] - (double)tensor_floats(floating)[k];
            sum += difference * difference / (double)tensor_count(floating) / 4;
        }
        tensor_release(x);
        tensor_release(floating);
        tensor_release(simulated);
    }
    return sum;
}

static const struct {
    const char *name, *rate, *steps;
    bool (*run)(Graph *graph, PassContext *context, Error *error);
} passes[] = {{"lsq", "lsq_optimization_setting.lr", "lsq_optimization_setting.steps", pass_lsq},
              {"tqt", "tqt_optimization_setting.lr", "tqt_optimization_setting.steps", pass_tqt},
              {"blockwise", "blockwise_reconstruction_setting.lr", "blockwise_reconstruction_setting.steps", pass_blockwise}};

/* Promise: each pass lowers the loss of a block it trains, float runs see the weights as they were, and the notes say so. */
TEST(training_makes_a_block_better)
{
    for (int i = 0; i < 3; i++) {
        Fixture fixture;
        begin(&fixture, ONE, "esp32s3", false);
        REQUIRE(fixture.ok, "%s", fixture.error.what);
        Tensor *x = batch(9, 1), *before = run_net(fixture.graph, EXEC_FLOAT, x);
        double was = loss(fixture.graph);
        set(&fixture, passes[i].rate, i < 2 ? "0.0001" : "0.01");
        set(&fixture, passes[i].steps, "200");
        CHECK(run(&fixture, passes[i].run), "%s: %s", passes[i].name, fixture.error.what);
        double is = loss(fixture.graph);
        CHECK(is < 0.97 * was, "%s: loss %g -> %g: %s", passes[i].name, was, is, fixture.graph->notes.data);
        CHECK(says(&fixture, "kept") && says(&fixture, "seed 0"), "%s: %s", passes[i].name, fixture.graph->notes.data);
        Tensor *after = run_net(fixture.graph, EXEC_FLOAT, x);
        CHECK(before && after && tensor_equal(before, after), "%s: float runs differ", passes[i].name);
        tensor_release(x);
        tensor_release(before);
        tensor_release(after);
        end(&fixture);
    }
}

/* Promise: at any learning rate, even one that leads to no number at all, no block is worse afterwards: what is not better is as it was. */
TEST(training_never_makes_a_block_worse)
{
    static const char *const rates[] = {"0.03", "1.0", "1e+10", "1e+38"};
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 4; k++) {
            Fixture fixture;
            char before[41], after[41];
            begin(&fixture, ONE, k % 2 ? "esp32p4" : "esp32s3", k == 1);
            if (i == 2) set(&fixture, "switches.adaround_reference", "false"); /* the reference judges soft weights (O11) */
            double was = loss(fixture.graph);
            name_of(&fixture, before);
            set(&fixture, passes[i].rate, rates[k]);
            set(&fixture, passes[i].steps, "20");
            CHECK(run(&fixture, passes[i].run), "%s: %s", passes[i].name, fixture.error.what);
            double is = loss(fixture.graph);
            CHECK(is <= was * 1.00001, "%s, rate %s: loss %g -> %g", passes[i].name, rates[k], was, is);
            if (k == 3 && i < 2) CHECK(says(&fixture, "warning: "), "%s, rate %s: %s", passes[i].name, rates[k], fixture.graph->notes.data);
            if (says(&fixture, "put back") && !says(&fixture, "kept"))
                CHECK(strcmp(before, name_of(&fixture, after)) == 0, "%s, rate %s: not as it was", passes[i].name, rates[k]);
            end(&fixture);
        }
    }
}

/* Promise: with keep_best a block ends with the best state seen on the way, not the last one: a rate that goes too far in the end costs
 * nothing, and the note names the step. */
TEST(training_keeps_the_best_state_it_saw)
{
    static const char *const rates[] = {"0.003", "0.003", "0.5"};
    for (int i = 0; i < 3; i++) {
        double was = 0, losses[2];
        for (int keeps = 0; keeps < 2; keeps++) {
            Fixture fixture;
            begin(&fixture, ONE, i % 2 ? "esp32p4" : "esp32s3", false);
            was = fixture.ok ? loss(fixture.graph) : 0;
            set(&fixture, passes[i].rate, rates[i]);
            set(&fixture, passes[i].steps, "60");
            set(&fixture, "keep_best", keeps ? "1" : "0");
            set(&fixture, "tqt_optimization_setting.scale_lr", "0.1");
            CHECK(run(&fixture, passes[i].run), "%s: %s", passes[i].name, fixture.error.what);
            losses[keeps] = loss(fixture.graph);
            CHECK(says(&fixture, "best at step") == (keeps == 1), "%s: %s", passes[i].name, fixture.graph->notes.data);
            end(&fixture);
        }
        CHECK(losses[1] < was && losses[1] < losses[0], "%s: %g, last %g, best %g", passes[i].name, was, losses[0], losses[1]);
    }
}

/* All exponents of a layer's weight made too coarse: the gradient leads back. */
static void coarsen(Fixture *fixture, const char *name, int by)
{
    int exponents[16] = {0};
    Node *node = fixture->ok ? graph_node(fixture->graph, name) : NULL;
    if (!node) return;
    Slot *slot = node->input_slots[1];
    for (int i = 0; i < slot_exponent_count(slot); i++)
        exponents[i] = slot_exponent(slot, i) + by;
    fixture->ok = slot_set_exponents(fixture->graph, slot, exponents, slot_exponent_count(slot)) &&
                  pass_passive(fixture->graph, &fixture->context, &fixture->error);
}

static void digest_of(char hex[41], int pass, const int64_t *sizes, int batches, const char *seed)
{
    Fixture fixture;
    begin(&fixture, TWO, "esp32p4", false);
    coarsen(&fixture, "one", 5);
    test_batches(&fixture.data, sizes, batches, batch);
    set(&fixture, passes[pass].rate, pass < 2 ? "0.0001" : "0.01");
    set(&fixture, passes[pass].steps, "7");
    set(&fixture, "tqt_optimization_setting.scale_lr", "0.1");
    set(&fixture, "block_holdout", "0.3");
    set(&fixture, "block_seed", seed);
    set(&fixture, "keep_best", "3");
    CHECK(run(&fixture, passes[pass].run), "%s: %s", passes[pass].name, fixture.error.what);
    CHECK(pass != 1 || !says(&fixture, " 0 exponents moved"), "%s", fixture.graph->notes.data);
    name_of(&fixture, hex);
    end(&fixture);
}

/* Promise: the same data and seed give the same graph on any number of threads and every instruction set, also with batches of several
 * sizes and exponents that move. Another seed gives another. */
TEST(training_is_repeatable)
{
    KernelVariant variant = kernel_variant();
    int threads = threads_count();
    for (int i = 0; i < 3; i++) {
        char first[41], other[41];
        kernel_set_variant(KERNEL_PLAIN);
        threads_set_count(1);
        digest_of(first, i, mixed, 5, "0");
        for (KernelVariant k = KERNEL_PLAIN; k < KERNEL_VARIANTS; k++) {
            if (!kernel_variant_available(k)) continue;
            kernel_set_variant(k);
            threads_set_count(3);
            digest_of(other, i, mixed, 5, "0");
            CHECK(strcmp(first, other) == 0, "%s: %s gives another graph", passes[i].name, kernel_variant_name(k));
        }
        digest_of(other, i, mixed, 5, "7");
        CHECK(strcmp(first, other) != 0, "%s: the seed has no effect", passes[i].name);
        kernel_set_variant(variant);
        threads_set_count(threads);
    }
}

/* Promise: exponents move when their rate is high, biases follow them at once, and a block that got worse by it has its exponents back. */
TEST(training_moves_exponents_and_biases_follow)
{
    Fixture fixture;
    begin(&fixture, ONE, "esp32s3", false);
    set(&fixture, "tqt_optimization_setting.lr", "1e-05");
    set(&fixture, "tqt_optimization_setting.scale_lr", "0.2");
    set(&fixture, "tqt_optimization_setting.steps", "8");
    Node *node = fixture.ok ? graph_node(fixture.graph, "one") : NULL;
    REQUIRE(node, "%s", fixture.error.what);
    int far = slot_exponent(node->input_slots[1], 0) + 4; /* much too coarse: the gradient leads back */
    fixture.ok =
        slot_set_exponents(fixture.graph, node->input_slots[1], &far, 1) && pass_passive(fixture.graph, &fixture.context, &fixture.error);
    CHECK(run(&fixture, pass_tqt), "%s", fixture.error.what);
    CHECK(slot_exponent(node->input_slots[1], 0) < far, "the exponent stays at %d: %s", far, fixture.graph->notes.data);
    CHECK(slot_exponent(node->input_slots[2], 0) == slot_exponent(node->input_slots[1], 0) + slot_exponent(node->input_slots[0], 0),
          "the bias did not follow");
    end(&fixture);
}

/* Promise: settings that mean nothing are errors with a cure; no steps and no layers are notes, and nothing is changed. */
TEST(training_refuses_what_means_nothing)
{
    static const char *const rows[][3] = {{"tqt_optimization_setting.interested_layers", "[\"tow\"]", "'two'"},
                                          {"tqt_optimization_setting.lr", "-1", "-1"},
                                          {"tqt_optimization_setting.steps", "-1", "-1"},
                                          {"tqt_optimization_setting.block_size", "-1", "-1"},
                                          {"block_holdout", "1.0", "1"},
                                          {"block_batches", "-2", "block_batches cannot be -2"},
                                          {"block_memory", "-1", "block_memory cannot be -1"},
                                          {"keep_best", "-1", "keep_best cannot be -1"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Fixture fixture;
        begin(&fixture, ONE, "esp32s3", false);
        set(&fixture, rows[i][0], rows[i][1]);
        CHECK(!run(&fixture, pass_tqt) && strstr(fixture.error.what, rows[i][2]), "%s: %s", rows[i][0], fixture.error.what);
        end(&fixture);
    }
    char before[41], after[41];
    Fixture fixture;
    begin(&fixture, ONE, "esp32s3", false);
    name_of(&fixture, before);
    set(&fixture, "tqt_optimization_setting.steps", "0");
    CHECK(run(&fixture, pass_tqt) && says(&fixture, "steps is 0"), "%s", fixture.error.what);
    CHECK(strcmp(before, name_of(&fixture, after)) == 0, "no steps changed something");
    set(&fixture, "tqt_optimization_setting.steps", "5");
    fixture.context.batches = NULL;
    CHECK(!run(&fixture, pass_tqt) && strstr(fixture.error.what, "needs data"), "%s", fixture.error.what);
    end(&fixture);
    begin(&fixture, ONE, "esp32s3", false);
    fixture.ok = fixture.ok && pass_baking(fixture.graph, &fixture.context, &fixture.error);
    CHECK(fixture.ok && !pass_tqt(fixture.graph, &fixture.context, &fixture.error) && strstr(fixture.error.what, "baked"), "tqt: %s",
          fixture.error.what);
    CHECK(!pass_bias_correct(fixture.graph, &fixture.context, &fixture.error) && strstr(fixture.error.what, "baked"), "bias_correct: %s",
          fixture.error.what);
    end(&fixture);
    begin(&fixture, ONE, "esp32s3", false);
    test_batches(&fixture.data, ones, 0, batch);
    CHECK(!run(&fixture, pass_tqt), "a loader without batches was accepted");
    end(&fixture);
}

static void interrupt(int number)
{
    (void)number;
    cancel_request();
}

/* Promise: an interruption in the middle of training leaves the graph as it was before the pass. */
TEST(training_that_is_interrupted_leaves_the_graph)
{
    Fixture fixture;
    char before[41], after[41];
    begin(&fixture, TWO, "esp32s3", false);
    set(&fixture, "tqt_optimization_setting.block_size", "1");
    set(&fixture, "tqt_optimization_setting.lr", "0.001");
    set(&fixture, "tqt_optimization_setting.steps", "3000"); /* the first blocks are done when it comes, or none: both must be undone */
    name_of(&fixture, before);
    for (int i = 1; i <= 3; i++) {
        struct itimerval soon = {.it_value = {.tv_usec = 20000 * i}}, never = {0};
        void (*old)(int) = signal(SIGALRM, interrupt);
        setitimer(ITIMER_REAL, &soon, NULL);
        bool went = fixture.ok && pass_tqt(fixture.graph, &fixture.context, &fixture.error);
        setitimer(ITIMER_REAL, &never, NULL);
        signal(SIGALRM, old);
        cancel_clear();
        if (went) continue; /* a quick machine */
        CHECK(fixture.error.code == ERROR_INTERRUPTED, "%s", fixture.error.what);
        CHECK(strcmp(before, name_of(&fixture, after)) == 0, "interrupted after %d ms: the graph differs", 20 * i);
    }
    end(&fixture);
}
