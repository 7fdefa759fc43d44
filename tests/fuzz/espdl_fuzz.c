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
#include "espdl/selftest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    EspdlModel *model = espdl_parse(data, size, "fuzz", &error);
    if (!model) return 0;
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
