/* Fuzz target: whatever bytes come as a model, loading and simplifying end in a graph that passes graph_check or in an error; no crash,
 * no leak, no memory beyond what the bytes can ask for.
 *
 *   make BUILD=build/fuzz CC=clang CFLAGS="-O1 -g -fsanitize=fuzzer-no-link,address,undefined" ROOMS="base tensor kernel graph ops onnx exec simplify quant observe" engine
 *   clang -std=c17 -D_GNU_SOURCE -g -fsanitize=fuzzer,address,undefined -Isrc tests/fuzz/onnx_fuzz.c build/fuzz/libengine.a \
 *         -lprotobuf-c -lcjson -lpng -ljpeg -lz -lm -pthread -o build/fuzz/onnx_fuzz
 *   build/fuzz/onnx_fuzz -max_total_time=60 -rss_limit_mb=1024 -malloc_limit_mb=512 tests/fuzz/corpus_onnx
 */
#include <stdlib.h>

#include "onnx/onnx.h"
#include "simplify/simplify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Error error = {0};
    /* Symbols of any name get sizes by position, so that the fuzzer comes past them. */
    const InputShape shapes[] = {{NULL, {4, {1, 3, 8, 8}}}, {NULL, {2, {1, 4}}}};
    OnnxOptions options = {shapes, 2};
    Graph *graph = onnx_load_bytes(data, size, NULL, NULL, &error);
    if (!graph) graph = onnx_load_bytes(data, size, NULL, &options, &error);
    if (!graph) return 0;
    SimplifyOptions simplify = {.extra_rewrites = size & 1, .exact = true, .split_groups = true};
    bool ok = simplify_graph(graph, &simplify, &error);
    if (ok && !graph_check(graph, &error)) abort();
    if (ok) check_exportable(graph, 8, &error);
    graph_free(graph);
    return 0;
}
