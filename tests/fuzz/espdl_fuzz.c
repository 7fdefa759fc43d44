/* Fuzz target: whatever bytes come as a .espdl file, reading ends in a model or in an error; a model can be listed, judged, run and
 * written again, and what was written reads back; no crash, no leak, no memory beyond what the bytes can ask for.
 *
 *   make BUILD=build/fuzz CC=clang CFLAGS="-O1 -g -fsanitize=fuzzer-no-link,address,undefined" ROOMS="base tensor kernel graph ops exec observe quant lower chip espdl" engine
 *   clang -std=c17 -D_GNU_SOURCE -g -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/espdl_fuzz.c build/fuzz/libengine.a \
 *         -lprotobuf-c -lcjson -lpng -ljpeg -lz -lm -pthread -o build/fuzz/espdl_fuzz
 *   build/fuzz/espdl_fuzz -max_total_time=60 -rss_limit_mb=1024 -malloc_limit_mb=512 tests/fuzz/corpus_espdl
 */
#include <stdlib.h>

#include "base/memory.h"
#include "chip/cost.h"
#include "espdl/board.h"
#include "espdl/device.h"
#include "espdl/diff.h"
#include "espdl/pack.h"
#include "espdl/selftest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What info, cost, diff, dump and boardkit do. */
static void inspect(const EspdlModel *model, size_t size)
{
    static const char *const targets[] = {"esp32s3", "esp32p4", "esp32"};
    const Target *target = target_find(targets[size % 3]);
    Error error = {0};
    Text text = {0};
    EspdlDiff diff;
    CostReport cost;
    BoardRun run;
    if (espdl_diff(model, model, &diff, &error)) espdl_diff_free(&diff);
    for (int i = 0; i < model->input_count && i < 4; i++)
        espdl_input_code(model, i, target, &text, &error);
    Graph *device = espdl_device(model, &error);
    if (device) espdl_device_text(device, false, &text, &error);
    if (device && cost_estimate(device, NULL, 0, target, size % 4 * 100, &cost, &error)) cost_free(&cost);
    graph_free(device);
    if (board_run(model, target, &run, &error)) {
        board_code(model, target, &run, &text, &error);
        board_vectors(&run, &text, &error);
        board_run_free(&run);
    }
    text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    EspdlPack *pack = espdl_pack_parse(data, size, "fuzz", &error);
    for (int i = 0; pack && pack->container[0] == 'P' && i < pack->count; i++)
        espdl_model_free(espdl_pack_model(pack, i, &error));
    espdl_pack_free(pack);
    EspdlModel *model = espdl_parse(data, size, "fuzz", &error);
    if (!model) return 0;
    inspect(model, size);
    Text text = {0};
    Findings findings = {0};
    uint8_t *bytes = NULL;
    size_t count = 0;
    espdl_info_text(model, &text, &error);
    espdl_verify(model, size & 1 ? "esp32s3" : NULL, &findings, &error);
    static const char *const targets[] = {"esp32p4", "esp32s3", "c"};
    Chip chip;
    if (chip_init(&chip, target_find(targets[size % 3]), NULL, false, &error)) espdl_self_test(model, &chip, &findings, &error);
    if (espdl_write(model, &bytes, &count, &error)) {
        EspdlModel *again = espdl_parse(bytes, count, "written", &error);
        if (!again) abort();
        espdl_model_free(again);
    }
    memory_free(bytes);
    findings_free(&findings);
    text_free(&text);
    espdl_model_free(model);
    return 0;
}
