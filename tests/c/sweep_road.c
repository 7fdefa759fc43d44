/* Sweeps over the road: import, simplify, every pass, runs, analyses, lowering and export of one small network. */
#include "sweep.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyse/analyse.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "check.h"
#include "espdl/export.h"
#include "exec/plan.h"
#include "road/road.h"
#include "text_graph.h"

/* Products with and without bias, a shared input, all kinds of alignment, something passive, bounds, tables. */
static const char network[] =
    "x[1,2,6,6]; c = Conv(x, #w[4,2,3,3], #b[4]) pads=[1,1,1,1]; n = BatchNormalization(c, #g[4], #h[4], #m[4], #v[4]); "
    "r = Relu(n); d = Conv:depth(r, #u[4,1,3,3]) group=4 pads=[1,1,1,1]; a = Add(r, d); s = Sigmoid(d); "
    "k = Concat(a, s) axis=1; p = AveragePool(k) kernel_shape=[2,2] strides=[2,2]; "
    "q = MaxPool(p) kernel_shape=[3,3] strides=[3,3]; f = Flatten(q); z = Gemm(f, #t[8,3], #e[3]); l = Clip(z) max=3.0; > l";

typedef struct Road {
    Graph *graph; /* the fixture: whole before and after */
    uint64_t before;
    Setting *setting;
    RoadOptions options;
    Batches batches;
    int batch, batch_count;
    const Pass *pass;
    uint8_t *bytes;
    size_t byte_count;
    char folder[64], path[96];
    /* what an act made */
    Graph *made;
    Tensor *output;
    AnalyseTable table;
    StatisticalTable statistics;
    Text text;
} Road;

static bool begin(void *context, Error *error)
{
    (void)error;
    ((Road *)context)->batch = 0;
    return true;
}

static Tensor *sample(int batch, Error *error)
{
    Shape shape = shape_of(4, (int64_t[]){1, 2, 6, 6});
    Tensor *tensor = tensor_new(DTYPE_FLOAT32, &shape, error);
    for (int i = 0; tensor && i < 72; i++)
        tensor_floats(tensor)[i] = (float)((i * 37 + batch * 11) % 41) / 20 - 1;
    return tensor;
}

static bool next(void *context, Tensor **inputs, bool *done, Error *error)
{
    Road *road = context;
    *done = road->batch == road->batch_count;
    if (*done) return true;
    inputs[0] = sample(road->batch, error);
    if (!inputs[0]) return false;
    road->batch++;
    return true;
}

/* A graph as it is behind `pass` (NULL: as it was loaded; "simplify", or a pass of the quantization). */
static bool road_begin(Road *road, const char *pass)
{
    Error error = {0};
    memset(road, 0, sizeof *road);
    progress_level = 0;
    road->setting = setting_new(SETTING_ESPDL, &error);
    road->batches = (Batches){road, 1, begin, next};
    road->batch_count = 3;
    road->options = (RoadOptions){.setting = road->setting, .target = target_find("esp32p4"), .bits = 8, .batches = &road->batches};
    road->graph = text_graph(network);
    bool ok = road->setting && road->graph && graph_infer(road->graph, &error);
    if (ok && pass) ok = road_simplify(road->graph, &road->options, &error);
    if (ok && pass && strcmp(pass, "simplify") != 0) {
        ok = false;
        for (int i = 0; (road->pass = road_pass_at(i)); i++) {
            if (road->pass->run && (!road->pass->when || road->pass->when(road->setting)))
                ok = road_apply(road->graph, road->pass->name, &road->options, &error);
            if (strcmp(road->pass->name, pass) == 0 || (road->pass->run && error.code != ERROR_NONE)) break;
        }
    }
    CHECK(ok, "%s", error.what);
    if (ok) road->before = digest_graph("fixture", road->graph);
    return ok;
}

static void road_end(Road *road)
{
    graph_free(road->graph);
    setting_free(road->setting);
    memory_free(road->bytes);
}

static uint64_t settle(void *fixture, bool ok)
{
    Road *road = fixture;
    uint64_t digest = 0;
    if (road->made) digest = digest_graph(ok ? "result" : "what a failure left", road->made);
    if (road->output) digest = digest_bytes(digest, road->output->data, tensor_bytes(road->output));
    for (int i = 0; i < road->table.count; i++)
        digest = digest_bytes(digest, &road->table.rows[i].value, sizeof(double));
    for (int i = 0; i < road->statistics.count; i++)
        digest = digest_bytes(digest, &road->statistics.rows[i].snr, sizeof(double));
    digest = digest_text(digest, &road->text);
    graph_free(road->made);
    tensor_release(road->output);
    analyse_table_free(&road->table);
    statistical_table_free(&road->statistics);
    memset(&road->table, 0, sizeof road->table);
    memset(&road->statistics, 0, sizeof road->statistics);
    road->made = NULL;
    road->output = NULL;
    if (road->graph) CHECK(digest_graph("fixture", road->graph) == road->before, "the fixture has changed");
    return digest;
}

static bool act_import(void *fixture, Error *error)
{
    Road *road = fixture;
    road->made = onnx_load_bytes(road->bytes, road->byte_count, "model.onnx", NULL, error);
    return road->made != NULL;
}

static bool act_simplify(void *fixture, Error *error)
{
    Road *road = fixture;
    road->made = graph_copy(road->graph, error);
    return road->made && road_simplify(road->made, &road->options, error);
}

static bool act_pass(void *fixture, Error *error)
{
    Road *road = fixture;
    PassContext context = {.setting = road->setting, .target = road->options.target, .bits = 8, .batches = &road->batches};
    road->made = graph_copy(road->graph, error);
    return road->made && road->pass->run(road->made, &context, error);
}

/* Promise: whatever allocation fails during import or simplification, the answer is a memory error or the same graph, and nothing leaks. */
TEST(sweep_import_and_simplify)
{
    Road road;
    Error error = {0};
    char path[] = "/tmp/espq_sweep_XXXXXX";
    int file = mkstemp(path);
    REQUIRE(file >= 0, "no temporary file");
    close(file);
    if (road_begin(&road, NULL) && onnx_save(road.graph, path, &error) && file_read(path, &road.bytes, &road.byte_count, &error)) {
        sweep_memory(&(Sweep){"import", act_import, settle, &road});
        sweep_memory(&(Sweep){"simplify", act_simplify, settle, &road});
    } else {
        CHECK(false, "%s", error.what);
    }
    unlink(path);
    road_end(&road);
}

/* Promise: whatever allocation fails in a quantization pass, the answer is a memory error or what the pass does otherwise, the graph stays
 * legal, and nothing leaks. */
TEST(sweep_passes)
{
    Road road;
    Error error = {0};
    if (!road_begin(&road, "simplify")) return;
    for (int i = 0; (road.pass = road_pass_at(i)); i++) {
        if (!road.pass->run || (road.pass->when && !road.pass->when(road.setting))) continue;
        sweep_memory(&(Sweep){road.pass->name, act_pass, settle, &road});
        REQUIRE(road_apply(road.graph, road.pass->name, &road.options, &error), "%s", error.what);
        road.before = digest_graph("fixture", road.graph);
    }
    road_end(&road);
}

/* Promise: every calibration method survives failing allocations, with the same exponents when it says yes. */
TEST(sweep_calibration_methods)
{
    static const char *const methods[] = {"minmax", "percentile", "kl", "mse"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        Road road;
        Error error = {0};
        if (!road_begin(&road, "simplify")) return;
        bool ok = setting_set(road.setting, "quantize_activation_setting.calib_algorithm", methods[i], &error);
        for (int k = 0; ok && (road.pass = road_pass_at(k)) && strcmp(road.pass->name, "calibrate") != 0; k++) {
            if (road.pass->run && (!road.pass->when || road.pass->when(road.setting)))
                ok = road_apply(road.graph, road.pass->name, &road.options, &error);
        }
        CHECK(ok, "%s", error.what);
        road.before = digest_graph("fixture", road.graph);
        if (ok) sweep_memory(&(Sweep){methods[i], act_pass, settle, &road});
        road_end(&road);
    }
}

static bool run(Road *road, ExecMode mode, Error *error)
{
    PlanOptions options = {.mode = mode};
    Tensor *input = sample(0, error);
    Plan *plan = input ? plan_new(road->graph, &options, &input->shape, error) : NULL;
    bool ok = plan && plan_run(plan, &input, &road->output, error);
    plan_free(plan);
    tensor_release(input);
    return ok;
}

static bool act_float(void *fixture, Error *error)
{
    return run(fixture, EXEC_FLOAT, error);
}

static bool act_simulated(void *fixture, Error *error)
{
    return run(fixture, EXEC_SIMULATED, error);
}

static bool act_graphwise(void *fixture, Error *error)
{
    Road *road = fixture;
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 1};
    return analyse_graphwise(road->graph, &road->batches, &options, &road->table, error);
}

static bool act_layerwise(void *fixture, Error *error)
{
    Road *road = fixture;
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 1};
    return analyse_layerwise(road->graph, &road->batches, &options, &road->table, error);
}

static bool act_statistical(void *fixture, Error *error)
{
    Road *road = fixture;
    AnalyseOptions options = {.measure = MEASURE_SNR, .steps = 1};
    return analyse_statistical(road->graph, &road->batches, &options, &road->statistics, error);
}

/* Promise: whatever allocation fails while a quantized network runs or is judged, the answer is a memory error or the same numbers. */
TEST(sweep_runs_and_analyses)
{
    static const struct {
        const char *what;
        bool (*act)(void *fixture, Error *error);
    } rows[] = {{"float run", act_float},
                {"simulated run", act_simulated},
                {"graphwise", act_graphwise},
                {"layerwise", act_layerwise},
                {"statistical", act_statistical}};
    Road road;
    if (!road_begin(&road, "baking")) return;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        sweep_memory(&(Sweep){rows[i].what, rows[i].act, settle, &road});
    road_end(&road);
}

static bool act_export(void *fixture, Error *error)
{
    Road *road = fixture;
    Text warnings = {0};
    TestValue input = {"x", sample(1, error)}, output = {"l", NULL};
    PlanOptions options = {.mode = EXEC_SIMULATED};
    Plan *plan = input.tensor ? plan_new(road->graph, &options, &input.tensor->shape, error) : NULL;
    ExportOptions export = {.path = road->path,
                            .export_config = true,
                            .test_inputs = &input,
                            .test_input_count = 1,
                            .test_outputs = &output,
                            .test_output_count = 1,
                            .int16_lut_step = 256,
                            .strict = true};
    bool ok =
        plan && plan_run(plan, &input.tensor, &output.tensor, error) && road_export(road->graph, &road->options, &export, &warnings, error);
    text_free(&warnings);
    plan_free(plan);
    tensor_release(output.tensor);
    tensor_release(input.tensor);
    return ok;
}

/* The three files are all there or none is, and nothing lies beside them; a rename that failed may leave what was renamed before it. */
static uint64_t settle_files(void *fixture, bool ok)
{
    static const char *const names[] = {"net.espdl", "net.info", "net.json"};
    Road *road = fixture;
    uint64_t digest = 0;
    int found = 0, others = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        uint8_t *bytes;
        size_t count;
        Error error;
        snprintf(path, sizeof path, "%s/%s", road->folder, names[i]);
        if (!file_exists(path)) continue;
        found++;
        if (file_read(path, &bytes, &count, &error)) {
            digest = digest_bytes(digest, bytes, count);
            memory_free(bytes);
        }
        unlink(path);
    }
    DIR *folder = opendir(road->folder);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        others += entry->d_name[0] != '.';
    if (folder) closedir(folder);
    CHECK(others == 0, "%d files lie in the folder that should not", others);
    CHECK(found == (ok ? 3 : 0), "%d files after an export that %s", found, ok ? "succeeded" : "failed");
    settle(road, ok);
    return digest;
}

/* Promise: whatever fails during an export (memory, a full disk, a sync, a rename, Ctrl-C), there are three whole files or none. */
TEST(sweep_export)
{
    Road road;
    if (!road_begin(&road, "baking")) return;
    strcpy(road.folder, "/tmp/espq_sweep_XXXXXX");
    REQUIRE(mkdtemp(road.folder), "no temporary folder");
    snprintf(road.path, sizeof road.path, "%s/net.espdl", road.folder);
    Sweep sweep = {"export", act_export, settle_files, &road};
    sweep_files(&sweep);
    sweep_memory(&sweep);
    rmdir(road.folder);
    road_end(&road);
}

static bool act_info(void *fixture, Error *error)
{
    Road *road = fixture;
    EspdlModel *model = espdl_parse(road->bytes, road->byte_count, "net.espdl", error);
    bool ok = model && espdl_info_text(model, &road->text, error);
    espdl_model_free(model);
    return ok;
}

static bool act_write(void *fixture, Error *error)
{
    Road *road = fixture;
    uint8_t *bytes = NULL;
    size_t count = 0;
    EspdlModel *model = espdl_parse(road->bytes, road->byte_count, "net.espdl", error);
    bool ok = model && espdl_write(model, &bytes, &count, error);
    if (ok) {
        text_add_bytes(&road->text, bytes, count);
        ok = !road->text.failed || fail_memory(error, count);
    }
    memory_free(bytes);
    espdl_model_free(model);
    return ok;
}

/* Promise: whatever allocation fails while a .espdl file is parsed, listed or written again, the answer is a memory error or the same text. */
TEST(sweep_espdl)
{
    Road road;
    Error error = {0};
    if (!road_begin(&road, "baking")) return;
    LowerOptions lower = {road.setting, road.options.target, 256};
    EspdlExtra extra = {.model_version = 1};
    Graph *device = lower_graph(road.graph, &lower, &error);
    EspdlModel *model = device ? espdl_from_device(device, &extra, &error) : NULL;
    if (model && espdl_write(model, &road.bytes, &road.byte_count, &error)) {
        sweep_memory(&(Sweep){"info", act_info, settle, &road});
        sweep_memory(&(Sweep){"parse and write", act_write, settle, &road});
    } else {
        CHECK(false, "%s", error.what);
    }
    espdl_model_free(model);
    graph_free(device);
    road_end(&road);
}
