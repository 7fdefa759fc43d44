/* From a quantized graph to three files that appear together: lower, write, read back, verify, rename. */
#include "road/road.h"

#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "espdl/export.h"
#include "espdl/selftest.h"
#include "espdl/verify.h"

typedef struct Exporting {
    const RoadOptions *options;
    const ExportOptions *wanted;
    Text *warnings;
    Graph *device;
    EspdlTest *inputs, *outputs;
    int input_count, output_count;
    EspdlModel *model;
    uint8_t *bytes;
    size_t byte_count;
    FileSet *files;
} Exporting;

static void release_tests(EspdlTest *tests, int count)
{
    for (int i = 0; i < count; i++)
        tensor_release((Tensor *)(uintptr_t)tests[i].tensor);
    memory_free(tests);
}

static void release(Exporting *exporting)
{
    release_tests(exporting->inputs, exporting->input_count);
    release_tests(exporting->outputs, exporting->output_count);
    espdl_model_free(exporting->model);
    memory_free(exporting->bytes);
    fileset_free(exporting->files);
    graph_free(exporting->device);
}

/* base.json for base.espdl: without its last extension. */
static char *beside(const char *path, const char *extension)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t length = dot && (!slash || dot > slash + 1) ? (size_t)(dot - path) : strlen(path);
    size_t bytes = length + strlen(extension) + 1;
    char *name = memory_new(bytes);
    if (name) snprintf(name, bytes, "%.*s%s", (int)length, path, extension);
    return name;
}

static bool keep_source(const Graph *graph, const char *path, Error *error)
{
    if (!graph->source || !file_exists(path) || !file_same(graph->source, path)) return true;
    return fail(error, path, "give the export another name", "the export would overwrite the model it is made from");
}

static bool lower_tests(Exporting *exporting, const Graph *graph, const TestValue *values, int count, EspdlTest **tests, int *test_count,
                        Error *error)
{
    *tests = memory_new_array((size_t)(count ? count : 1), sizeof **tests);
    if (!*tests) return fail_memory(error, (size_t)count * sizeof **tests);
    for (int i = 0; i < count; i++) {
        bool gone = false;
        int exponent = 0;
        Error why = {0};
        Tensor *tensor = lower_test_value(exporting->device, &values[i], &exponent, &gone, &why);
        if (!tensor && !gone) {
            *error = why;
            return false;
        }
        if (gone) {
            const Value *value = graph_value(graph, values[i].name);
            if (value && !value->use_count && value_is_input(graph, value)) continue; /* read by nobody: not in the file */
            text_format(exporting->warnings, "test value '%s' is left out: the tensor vanished when nodes were fused\n", values[i].name);
            continue;
        }
        (*tests)[(*test_count)++] = (EspdlTest){lower_test_name(exporting->device, values[i].name), tensor, exponent};
    }
    return true;
}

static bool make_model(Exporting *exporting, const Graph *graph, Error *error)
{
    const ExportOptions *wanted = exporting->wanted;
    LowerOptions lowering = {exporting->options->setting, exporting->options->target, wanted->int16_lut_step};
    exporting->device = lower_graph(graph, &lowering, error);
    if (!exporting->device) return false;
    if (!lower_tests(exporting, graph, wanted->test_inputs, wanted->test_input_count, &exporting->inputs, &exporting->input_count, error))
        return false;
    if (!lower_tests(exporting, graph, wanted->test_outputs, wanted->test_output_count, &exporting->outputs, &exporting->output_count,
                     error))
        return false;
    EspdlExtra extra = {
        .model_version = wanted->model_version,
        .test_inputs = exporting->inputs,
        .test_input_count = exporting->input_count,
        .test_outputs = exporting->outputs,
        .test_output_count = exporting->output_count,
        .metadata = wanted->metadata,
        .metadata_count = wanted->metadata_count,
        .reference_order = exporting->options->setting->switches.reference_order,
    };
    exporting->model = espdl_from_device(exporting->device, &extra, error);
    return exporting->model && espdl_write(exporting->model, &exporting->bytes, &exporting->byte_count, error);
}

/* The first findings of a kind as lines; the rest as a number. */
static void list_findings(Text *text, const Findings *findings, FindingLevel level, int most)
{
    int listed = 0, more = 0;
    for (int i = 0; i < findings->count; i++) {
        const Finding *finding = &findings->rows[i];
        if (finding->level != level) continue;
        if (listed++ < most)
            text_format(text, "%s: %s (%s%s)\n", finding->where, finding->text, *finding->rule == '1' ? "EXPORT " : "", finding->rule);
        else
            more++;
    }
    if (more) text_format(text, "… and %d more\n", more);
}

/* The file runs from its own bytes, as on the chip. */
static bool run_tests(Exporting *exporting, const EspdlModel *model, Findings *findings, Error *error)
{
    Chip chip;
    int before = findings->count;
    if (!chip_init(&chip, exporting->options->target, NULL, false, error) || !espdl_self_test(model, &chip, findings, error)) return false;
    for (int i = before; i < findings->count && exporting->wanted->simulated_tests; i++)
        if (strcmp(findings->rows[i].rule, SELFTEST_RULE) == 0) findings->rows[i].level = FINDING_WARNING;
    return true;
}

static bool judge(Exporting *exporting, const EspdlModel *model, Error *error)
{
    Findings findings = {0};
    bool fine = espdl_verify(model, exporting->options->target->name, &findings, error) && run_tests(exporting, model, &findings, error);
    int errors = 0;
    for (int i = 0; fine && i < findings.count; i++)
        errors += findings.rows[i].level == FINDING_ERROR;
    if (fine && errors && exporting->wanted->strict) {
        Text list = {0};
        list_findings(&list, &findings, FINDING_ERROR, 20);
        fine = fail(error, exporting->wanted->path,
                    "nothing was written; espq.setting.reference() writes the reference's files, faults included",
                    "the chip would not run this file rightly:\n%s", list.data ? list.data : "");
        text_free(&list);
    } else if (fine) {
        if (errors) list_findings(exporting->warnings, &findings, FINDING_ERROR, 20);
        list_findings(exporting->warnings, &findings, FINDING_WARNING, 20);
    }
    findings_free(&findings);
    return fine;
}

/* What will be on the disk is read from there and judged, not what is in memory. */
static bool read_back(Exporting *exporting, Error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    const char *path = exporting->wanted->path;
    if (!file_read(fileset_temporary(exporting->files, path), &bytes, &count, error)) return false;
    bool fine = count == exporting->byte_count && memcmp(bytes, exporting->bytes, count) == 0;
    if (!fine) fail_as(error, ERROR_FILE, path, "check the disk", "what was written reads back differently");
    EspdlModel *model = fine ? espdl_parse(bytes, count, path, error) : NULL;
    memory_free(bytes);
    fine = model && judge(exporting, model, error);
    espdl_model_free(model);
    return fine;
}

static bool add_text(Exporting *exporting, const char *extension, bool json, const Graph *graph, Error *error)
{
    Text text = {0};
    char *path = beside(exporting->wanted->path, extension);
    bool fine = path || fail_memory(error, strlen(exporting->wanted->path));
    fine = fine && keep_source(graph, path, error);
    fine = fine && (json ? espdl_config_json(exporting->device, &text, error) : espdl_info_text(exporting->model, &text, error));
    if (fine && text.failed) fine = fail_memory(error, text.capacity);
    fine = fine && fileset_add(exporting->files, path, text.data ? text.data : "", text.length, error);
    text_free(&text);
    memory_free(path);
    return fine;
}

static bool write_files(Exporting *exporting, const Graph *graph, Error *error)
{
    const char *path = exporting->wanted->path;
    if (!keep_source(graph, path, error) || !file_make_folder_of(path, error)) return false;
    exporting->files = fileset_new(error);
    if (!exporting->files || !fileset_add(exporting->files, path, exporting->bytes, exporting->byte_count, error)) return false;
    if (!read_back(exporting, error)) return false;
    if (exporting->wanted->export_config &&
        (!add_text(exporting, ".json", true, graph, error) || !add_text(exporting, ".info", false, graph, error)))
        return false;
    return cancel_check(error) && fileset_commit(exporting->files, error);
}

bool road_export(const Graph *graph, const RoadOptions *options, const ExportOptions *export_options, Text *warnings, Error *error)
{
    Exporting exporting = {.options = options, .wanted = export_options, .warnings = warnings};
    progress_begin("export", 0);
    bool fine = make_model(&exporting, graph, error) && write_files(&exporting, graph, error);
    if (fine && exporting.device->notes.data) text_add(warnings, exporting.device->notes.data);
    release(&exporting);
    progress_end();
    return fine || error->code == ERROR_CALLBACK ? fine : error_within(error, "export");
}
