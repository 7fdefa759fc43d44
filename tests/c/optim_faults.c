/* Optimizations when memory ends, and where a graph is cut into blocks. */
#include "check.h"
#include "exec_graphs.h"
#include "sweep.h"
#include "text_graph.h"

#include <string.h>

#include "base/progress.h"
#include "optim/blocks.h"
#include "optim/optim.h"
#include "quant/quantize.h"

typedef struct Faults {
    Graph *graph, *made;
    uint64_t before; /* of a graph that a failure leaves as it was; 0: it need not */
    Setting *setting;
    TestBatches data;
    bool (*run)(Graph *graph, PassContext *context, Error *error);
} Faults;

static Tensor *batch(int number, int64_t samples)
{
    Error error;
    Shape shape = {4, {samples, 2, 4, 4}};
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, &shape, &error); /* NULL: the sweep has made it fail */
    for (int64_t i = 0; tensor && i < tensor_count(tensor); i++)
        tensor_floats(tensor)[i] = (float)((i * 7 + number * 3) % 13) / 7 - 0.9f;
    return tensor;
}

static bool act(void *fixture, Error *error)
{
    Faults *faults = fixture;
    PassContext context = {.setting = faults->setting, .target = target_find("esp32s3"), .bits = 8, .batches = &faults->data.batches};
    faults->made = graph_copy(faults->graph, error);
    return faults->made && faults->run(faults->made, &context, error);
}

static uint64_t settle(void *fixture, bool ok)
{
    Faults *faults = fixture;
    uint64_t digest = faults->made ? digest_graph(ok ? "result" : "what a failure left", faults->made) : 0;
    CHECK(ok || !faults->made || !faults->before || digest == faults->before, "a failure left another graph");
    graph_free(faults->made);
    faults->made = NULL;
    return digest;
}

/* Passes of the quantization up to and with `last`. */
static bool quantize(Faults *faults, const char *last, Error *error)
{
    PassContext context = {.setting = faults->setting, .target = target_find("esp32s3"), .bits = 8, .batches = &faults->data.batches};
    for (const Pass *pass = quantization_passes; pass->name; pass++) {
        if (pass->when && !pass->when(faults->setting)) continue;
        if (!pass->run(faults->graph, &context, error)) return false;
        if (strcmp(pass->name, last) == 0) break;
    }
    return true;
}

#define MINMAX "quantize_activation_setting.calib_algorithm", "minmax"

typedef struct FaultsRow {
    const char *name, *after, *settings[8];
    bool (*run)(Graph *graph, PassContext *context, Error *error);
} FaultsRow;

/* Passes on a quantized graph leave it as it was when they fail; those before it is one need not: the road is given up then. */
static void sweep_row(const FaultsRow *row, void (*sweep)(const Sweep *sweep))
{
    static const int64_t sizes[] = {1, 2, 1, 1};
    Error error = {0};
    Faults faults = {.run = row->run, .setting = setting_new(SETTING_ESPDL, &error)};
    progress_level = 0;
    test_batches(&faults.data, sizes, row->run == pass_ssd_equalization ? 1 : row->run == pass_recover ? 4 : 2, batch);
    faults.graph = text_graph("x[1,2,4,4]; a = Conv:one(x, #w[4,2,3,3], #b[4]) pads=[1,1,1,1]; r = Relu:r(a); "
                              "y = Conv:two(r, #v[3,4,1,1], #e[3]); > y");
    bool ok = faults.graph && faults.setting && graph_infer(faults.graph, &error);
    for (int k = 0; ok && k < 8 && row->settings[k]; k += 2)
        ok = setting_set(faults.setting, row->settings[k], row->settings[k + 1], &error);
    if (ok && row->after) ok = quantize(&faults, row->after, &error);
    CHECK(ok, "%s: %s", row->name, error.what);
    if (ok && row->after && strcmp(row->after, "passive") == 0) faults.before = digest_graph(row->name, faults.graph);
    if (ok) sweep(&(Sweep){row->name, act, settle, &faults});
    graph_free(faults.graph);
    setting_free(faults.setting);
}

static const FaultsRow rows[] = {
    {"equalization", NULL, {"equalization_setting.including_act", "true", "equalization_setting.opt_level", "2"}, pass_equalization},
    {"channel_split", NULL, {"channel_split_setting.iterations", "2"}, pass_channel_split},
    {"weight_split",
     NULL,
     {"weight_split_setting.interested_layers", "[\"one\"]", "weight_split_setting.value_threshold", "0.5"},
     pass_weight_split},
    {"ssd_equalization", "slots", {"ssd_setting.iteration", "1", "ssd_setting.layer_norm", "true"}, pass_ssd_equalization},
    {"bias_correct", "passive", {MINMAX, "bias_correct_setting.block_size", "0"}, pass_bias_correct},
    {"lsq", "passive", {MINMAX, "lsq_optimization_setting.steps", "2", "lsq_optimization_setting.block_size", "1"}, pass_lsq},
    {"tqt",
     "passive",
     {MINMAX, "tqt_optimization_setting.steps", "2", "tqt_optimization_setting.scale_lr", "0.6", "keep_best", "1"},
     pass_tqt},
    {"blockwise", "passive", {MINMAX, "blockwise_reconstruction_setting.steps", "2", "keep_best", "1"}, pass_blockwise},
};

/* Promise: whatever allocation fails in an optimization, the answer is a memory error or the same graph, a quantized graph is as it was
 * before, and nothing leaks. */
TEST(sweep_optimizations)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        sweep_row(&rows[i], sweep_memory);
}

/* Promise: Ctrl-C at any place where it is looked for, and a disk that is full while values lie in a temporary file, leave a quantized
 * graph as it was before. */
TEST(sweep_training_interrupted)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        FaultsRow row = rows[i];
        if (!row.after || strcmp(row.after, "passive") != 0) continue;
        row.settings[6] = "block_memory";
        row.settings[7] = "0";
        sweep_row(&row, sweep_files);
    }
}

static void sweep_few(const Sweep *sweep)
{
    sweep_some(sweep, 41);
}

/* Promise: the same holds for recovery, whatever step it is in. */
TEST(sweep_recovery)
{
    static const FaultsRow row = {"recover", "passive", {MINMAX, "recover_setting.budget", "1000"}, pass_recover};
    sweep_row(&row, sweep_few);
}

/* "one two|three": names of the nodes of each block. */
static void check_blocks(const char *text, int64_t size, const char *wanted)
{
    Error error = {0};
    Blocks blocks;
    Text found = {0};
    Faults faults = {.setting = setting_new(SETTING_ESPDL, &error)};
    faults.graph = text_graph(text);
    if (faults.graph && graph_infer(faults.graph, &error) && quantize(&faults, "slots", &error) &&
        blocks_find(&blocks, faults.graph, size, &error)) {
        for (int i = 0; i < blocks.count; i++)
            for (int k = 0; k < blocks.items[i].node_count; k++)
                text_format(&found, "%s%s", k ? " " : i ? "|" : "", blocks.items[i].nodes[k]->name);
        CHECK(found.data && strcmp(found.data, wanted) == 0, "size %lld: %s, not %s", (long long)size, found.data, wanted);
        blocks_free(&blocks);
    } else {
        CHECK(false, "%s", error.what);
    }
    text_free(&found);
    graph_free(faults.graph);
    setting_free(faults.setting);
}

/* Promise: blocks are as long as their size allows, close over branches that meet again, never overlap, and nothing outside reads or feeds
 * their inside. */
TEST(optim_blocks_have_one_entry_and_one_exit)
{
    static const char chain[] = "x[1,2,4,4]; a = Conv:a(x, #w[2,2,1,1]); b = Relu:b(a); c = Conv:c(b, #v[2,2,1,1]); d = Relu:d(c); > d";
    static const char branches[] = "x[1,2,4,4]; a = Conv:a(x, #w[2,2,1,1]); b = Relu:b(a); c = Conv:c(a, #v[2,2,1,1]); d = Add:d(b, c); "
                                   "e = Relu:e(d); > e";
    static const char leak[] =
        "x[1,2,4,4]; a = Conv:a(x, #w[2,2,1,1]); b = Relu:b(a); c = Sigmoid:c(a); d = Add:d(b, c); g = Relu:g(a); > d, g";
    static const char fed[] = "x[1,2,4,4]; k[1,2,4,4]; a = Conv:a(x, #w[2,2,1,1]); b = Relu:b(a); c = Mul:c(a, k); d = Add:d(b, c); > d";
    check_blocks(chain, 1, "a b|c d");
    check_blocks(chain, 2, "a b c");
    check_blocks(chain, 4, "a b c d");
    check_blocks(branches, 1, "a|c");
    check_blocks(branches, 3, "a b c d e");
    check_blocks(leak, 4, "a");
    check_blocks(fed, 4, "a");
}
