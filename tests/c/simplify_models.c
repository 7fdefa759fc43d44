/* Every model of the shared folder through importer and rewrites; every case of CASES.md as far as these two decide it. */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "check.h"
#include "onnx/onnx.h"
#include "text_graph.h"

static Graph *load_simplified(const char *path, const OnnxOptions *onnx, bool extra, Error *error)
{
    SimplifyOptions options = {.extra_rewrites = extra, .exact = true, .split_groups = extra};
    Graph *graph = onnx_load(path, onnx, error);
    bool ok = graph && simplify_graph(graph, &options, error) && graph_check(graph, error);
    if (ok && extra) ok = check_exportable(graph, 8, error);
    if (ok) return graph;
    graph_free(graph);
    return NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void walk_folder(const char *folder)
{
    char path[2048], base[1024], *names[512];
    int count = 0;
    const char *shared = test_shared(folder);
    if (!shared) {
        test_skip("no ../shared");
        return;
    }
    snprintf(base, sizeof base, "%s", shared);
    DIR *directory = opendir(base);
    for (struct dirent *entry; directory && count < 512 && (entry = readdir(directory));)
        if (strstr(entry->d_name, ".onnx")) names[count++] = strdup(entry->d_name);
    if (directory) closedir(directory);
    qsort(names, (size_t)count, sizeof names[0], compare_names);
    for (int i = 0; i < count; i++) {
        for (int extra = 0; extra < 2; extra++) {
            Error error = {0};
            SimplifyOptions options = {.extra_rewrites = extra, .exact = true, .split_groups = extra};
            snprintf(path, sizeof path, "%s/%s", base, names[i]);
            Graph *graph = onnx_load(path, NULL, &error);
            CHECK(graph && simplify_graph(graph, &options, &error) && graph_check(graph, &error) && check_supported(graph, &error),
                  "%s: %s: %s", names[i], error.where, error.what);
            for (int k = 0; graph && k < graph->value_count; k++)
                CHECK(graph->values[k]->shaped, "%s: %s has no shape", names[i], graph->values[k]->name);
            graph_free(graph);
        }
        free(names[i]);
    }
    CHECK(count > 0, "no models in %s", folder);
}

/* Promise: each model that users hand in here loads, simplifies to a legal graph with all shapes known, in both modes, and nothing leaks. */
TEST(every_model_loads_and_simplifies)
{
    long before = fault_blocks();
    walk_folder("data/models");
    walk_folder("data/reference/ops/models");
    walk_folder("data/reference/road/models");
    CHECK(fault_blocks() == before, "%ld blocks leak", fault_blocks() - before);
}

/* ---- cases ---- */

typedef struct Twin {
    char name[64];
    Tensor *outputs[8];
    int count;
} Twin;

static const char *text_of(const cJSON *item, const char *key)
{
    const cJSON *value = cJSON_GetObjectItem(item, key);
    return value && value->valuestring ? value->valuestring : "";
}

/* Outputs by position, for inputs seeded by position: names differ between twins. */
static bool run_by_position(Graph *graph, Tensor *outputs[8])
{
    for (int i = 0; i < graph->input_count; i++) {
        char name[32];
        Error error = {0};
        snprintf(name, sizeof name, "input %d", i);
        while (graph_value(graph, name))
            name[0]++;
        if (graph->inputs[i]->dtype != DTYPE_FLOAT32 || !graph_rename_value(graph, graph->inputs[i], name, &error)) return false;
    }
    return text_run(graph, outputs);
}

static void compare_twin(const char *file, const Twin *twin, Tensor *const outputs[8], int count)
{
    CHECK(count == twin->count, "%s: %d outputs", file, count);
    for (int i = 0; i < count && i < twin->count; i++) {
        double largest = 0, difference = 0;
        CHECK(shape_equal(&outputs[i]->shape, &twin->outputs[i]->shape), "%s: output %d has another shape than its twin %s", file, i,
              twin->name);
        if (!shape_equal(&outputs[i]->shape, &twin->outputs[i]->shape)) continue;
        for (int64_t k = 0; k < tensor_count(outputs[i]); k++) {
            largest = fmax(largest, fabs(tensor_get(twin->outputs[i], k)));
            difference = fmax(difference, fabs(tensor_get(twin->outputs[i], k) - tensor_get(outputs[i], k)));
        }
        CHECK(difference <= 1e-5 * largest, "%s: differs from its twin by %g of %g", file, difference, largest);
    }
}

static void check_twin(const char *file, const char *group, Graph *graph, Twin *twins, int *twin_count)
{
    Tensor *outputs[8] = {0};
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(group, " "), group);
    if (strstr(group, "transposed") || graph->output_count > 8 || !run_by_position(graph, outputs)) return;
    for (int i = 0; i < *twin_count; i++) {
        if (strcmp(twins[i].name, name) != 0) continue;
        compare_twin(file, &twins[i], outputs, graph->output_count);
        for (int k = 0; k < 8; k++)
            tensor_release(outputs[k]);
        return;
    }
    snprintf(twins[*twin_count].name, sizeof twins[0].name, "%s", name);
    memcpy(twins[*twin_count].outputs, outputs, sizeof outputs);
    twins[(*twin_count)++].count = graph->output_count;
}

static void check_case(const cJSON *item, const char *base, Twin *twins, int *twin_count)
{
    char path[2048];
    Error error = {0};
    InputShape given = {0};
    const char *file = text_of(item, "file"), *expect = text_of(item, "expect"), *group = text_of(item, "twin");
    const cJSON *shape = cJSON_GetObjectItem(item, "input_shape"), *size;
    cJSON_ArrayForEach(size, shape) given.shape.dims[given.shape.rank++] = (int64_t)size->valuedouble;
    OnnxOptions options = {&given, shape ? 1 : 0};
    snprintf(path, sizeof path, "%s/%s", base, file);
    Graph *graph = load_simplified(path, &options, true, &error);
    bool may_fail = strcmp(expect, "ok") != 0, may_pass = strcmp(expect, "error") != 0;
    CHECK(graph || may_fail, "%s: %s: %s", file, error.where, error.what);
    CHECK(!graph || may_pass, "%s: accepted", file);
    CHECK(graph || (error.code != ERROR_NONE && error.cure[0]), "%s: no cure for \"%s\"", file, error.what);
    if (graph && group[0]) check_twin(file, group, graph, twins, twin_count);
    graph_free(graph);
}

/* Promise: cases that must work load, those that must not are refused with a cure, and twins give the same floats. */
TEST(cases_behave_as_written)
{
    static Twin twins[64];
    int twin_count = 0;
    char base[1024];
    uint8_t *text = NULL;
    size_t bytes;
    Error error = {0};
    const char *list = test_shared("data/cases/cases.json");
    if (!list) {
        test_skip("no ../shared");
        return;
    }
    snprintf(base, sizeof base, "%s", list);
    *strrchr(base, '/') = '\0';
    REQUIRE(file_read(list, &text, &bytes, &error), "%s", error.what);
    cJSON *cases = cJSON_Parse((const char *)text);
    const cJSON *item;
    cJSON_ArrayForEach(item, cases)
    {
        const char *file = text_of(item, "file");
        if (strstr(file, ".onnx")) check_case(item, base, twins, &twin_count);
    }
    CHECK(twin_count > 5, "only %d groups of twins", twin_count);
    for (int i = 0; i < twin_count; i++)
        for (int k = 0; k < 8; k++)
            tensor_release(twins[i].outputs[k]);
    memset(twins, 0, sizeof twins);
    cJSON_Delete(cases);
    memory_free(text);
}
