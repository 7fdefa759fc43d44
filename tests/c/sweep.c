#include "sweep.h"

#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "check.h"

typedef struct FaultRow {
    FaultKind kind;
    FaultExtent extent;
    const char *name;
    ErrorCode code; /* the error that is right */
} FaultRow;

static const FaultRow memory_rows[] = {{FAULT_ALLOCATION, FAULT_FROM, "memory ends for good", ERROR_MEMORY},
                                       {FAULT_ALLOCATION, FAULT_ONCE, "memory ends once", ERROR_MEMORY}};
static const FaultRow file_rows[] = {{FAULT_WRITE, FAULT_FROM, "full disk", ERROR_FILE},
                                     {FAULT_SYNC, FAULT_FROM, "sync", ERROR_FILE},
                                     {FAULT_RENAME, FAULT_FROM, "rename", ERROR_FILE},
                                     {FAULT_INTERRUPT, FAULT_FROM, "Ctrl-C", ERROR_INTERRUPTED}};

static long sweep_row(const Sweep *sweep, const FaultRow *row, long stride, Error *error, uint64_t expected)
{
    for (long n = 0;; n += stride) {
        long blocks = fault_blocks();
        error->code = ERROR_NONE;
        error->what[0] = error->where[0] = error->cure[0] = 0;
        fault_arm(row->kind, row->extent, n);
        bool ok = sweep->act(sweep->fixture, error), reached = fault_disarm();
        uint64_t digest = sweep->settle(sweep->fixture, ok);
        CHECK(ok || error->code == row->code, "%s, %s, %ld: \"%s\", code %d", sweep->what, row->name, n, error->what, error->code);
        CHECK(!ok || digest == expected, "%s, %s, %ld: it says yes and did something else", sweep->what, row->name, n);
        CHECK(fault_blocks() == blocks, "%s, %s, %ld: %ld blocks leak", sweep->what, row->name, n, fault_blocks() - blocks);
        if (!reached) {
            CHECK(ok, "%s, %s: never succeeds: %s", sweep->what, row->name, error->what);
            return n;
        }
        if (n >= 200000) {
            CHECK(false, "%s, %s: never ends", sweep->what, row->name);
            return n;
        }
    }
}

static void sweep_rows(const Sweep *sweep, const FaultRow *rows, size_t count, long stride)
{
    Error *error = memory_new(sizeof *error);
    if (!error) return;
    int threads = threads_count(), level = progress_level;
    long steps = 0;
    threads_set_count(1);
    progress_level = 0;
    bool ok = sweep->act(sweep->fixture, error); /* tables made at the first use are there from now on */
    uint64_t expected = sweep->settle(sweep->fixture, ok);
    CHECK(ok, "%s fails without a fault: %s", sweep->what, error->what);
    for (size_t i = 0; ok && i < count; i++)
        steps += sweep_row(sweep, &rows[i], stride, error, expected) / stride;
    printf("%s: %ld faults survived\n", sweep->what, steps);
    progress_level = level;
    threads_set_count(threads);
    memory_free(error);
}

void sweep_memory(const Sweep *sweep)
{
    sweep_rows(sweep, memory_rows, sizeof memory_rows / sizeof memory_rows[0], 1);
}

void sweep_files(const Sweep *sweep)
{
    sweep_rows(sweep, file_rows, sizeof file_rows / sizeof file_rows[0], 1);
}

void sweep_some(const Sweep *sweep, long stride)
{
    sweep_rows(sweep, memory_rows, sizeof memory_rows / sizeof memory_rows[0], stride);
    sweep_rows(sweep, file_rows, sizeof file_rows / sizeof file_rows[0], stride);
}

uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;
    for (size_t i = 0; i < count; i++)
        digest = (digest ^ at[i]) * 0x100000001b3u + 1;
    return digest;
}

uint64_t digest_text(uint64_t digest, Text *text)
{
    digest = text->failed ? 0 : digest_bytes(digest, text->data ? text->data : "", text->length);
    text_free(text);
    return digest;
}

uint64_t digest_graph(const char *what, const Graph *graph)
{
    Error *error = memory_new(sizeof *error);
    CHECK(error && graph_check(graph, error), "%s: the graph is damaged: %s", what, error ? error->what : "");
    memory_free(error);
    Text text = {0};
    graph_print(graph, &text);
    uint64_t digest = digest_text(0, &text);
    for (int i = 0; i < graph->value_count; i++) {
        const Tensor *constant = graph->values[i]->constant, *unbaked = graph->values[i]->unbaked;
        if (constant) digest = digest_bytes(digest, constant->data, tensor_bytes(constant));
        if (unbaked) digest = digest_bytes(digest, unbaked->data, tensor_bytes(unbaked));
    }
    return digest;
}
