/* The .native file: what is written is read back, and nothing else is. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/sha1.h"
#include "lower_graphs.h"
#include "road/native.h"
#include "road/road.h"
#include "sweep.h"
#include "text_graph.h"

static Graph *small(void)
{
    Graph *graph = text_graph("x[1,2,4,4]; c = Conv:conv1(x, #w[3,2,1,1], #b[3]) kernel_shape=[1,1]; r = Relu:act(c); y = Add:sum(r, r); "
                              "z = Clip(y, #k=0.0, #l=6.0); > z, r");
    if (!graph) return NULL;
    quantize_graph(graph, "esp32p4", 8);
    Node *add = graph_node(graph, "sum");
    slot_dominate(add->input_slots[0], graph_node(graph, "act")->output_slots[0]);
    add->output_slots[0]->overridden = true;
    add->output_slots[0]->observer = "kl";
    Error error = {0};
    Value *bias = graph_node(graph, "conv1")->inputs[2];
    bias->unbaked = tensor_copy(bias->constant, &error);
    graph_note(graph, "a note of %d words", 4);
    return graph;
}

static bool written(const Graph *graph, Text *bytes)
{
    Error error = {0};
    bool ok = native_bytes(graph, "about it", true, bytes, &error);
    CHECK(ok, "%s", error.what);
    return ok;
}

/* Promise: a graph comes back with all that a pass, a run or an export can see, its notes and the caller's text, and is written as the same bytes. */
TEST(native_files_bring_the_graph_back)
{
    Error error = {0};
    Graph *graph = small();
    REQUIRE(graph, "no graph");
    Text bytes = {0}, about = {0}, again = {0};
    REQUIRE(written(graph, &bytes), "not written");
    Graph *read = native_parse(bytes.data, bytes.length, "file", &about, &error);
    REQUIRE(read, "%s", error.what);
    char names[2][41];
    CHECK(road_digest(graph, names[0], &error) && road_digest(read, names[1], &error), "%s", error.what);
    CHECK(strcmp(names[0], names[1]) == 0, "it is another graph");
    CHECK(strcmp(about.data, "about it") == 0 && strcmp(read->notes.data, graph->notes.data) == 0, "texts are lost");
    CHECK(written(read, &again) && again.length == bytes.length && memcmp(again.data, bytes.data, bytes.length) == 0, "other bytes");
    text_free(&bytes);
    text_free(&again);
    text_free(&about);
    graph_free(read);
    graph_free(graph);
}

/* The checksum would refuse every change: it is made to fit, so that the reader itself has to see. */
static void seal(char *bytes, size_t count)
{
    char checksum[41];
    Sha1 sha1;
    sha1_begin(&sha1);
    sha1_add_fast(&sha1, bytes, count - NATIVE_CHECKSUM);
    sha1_end(&sha1, checksum);
    memcpy(bytes + count - NATIVE_CHECKSUM, checksum, NATIVE_CHECKSUM);
}

/* Parse, and when it is accepted write it, and ask all that uses slots. Returns whether it was accepted. */
static bool use(const char *bytes, size_t count)
{
    Error error = {0};
    Text about = {0}, again = {0};
    char name[41];
    Graph *graph = native_parse(bytes, count, "file", &about, &error);
    if (graph) {
        CHECK(graph_check(graph, &error) && road_digest(graph, name, &error), "%s", error.what);
        written(graph, &again);
        graph_print(graph, &again);
    } else {
        CHECK(*error.what && error.code != ERROR_NONE, "an error without words");
    }
    text_free(&about);
    text_free(&again);
    graph_free(graph);
    return graph != NULL;
}

/* Promise: no change of a byte, and no other number in place of one, crashes the reader or makes it leak, even where the checksum agrees. */
TEST(native_files_that_are_changed_do_no_harm)
{
    Graph *graph = small();
    REQUIRE(graph, "no graph");
    Text bytes = {0};
    REQUIRE(written(graph, &bytes), "not written");
    graph_free(graph);
    long before = fault_blocks();
    char *copy = memory_new(bytes.length);
    CHECK(!use(bytes.data, 10), "a head alone is accepted");
    static const uint8_t changes[] = {0x01, 0x02, 0x80, 0xFF};
    for (size_t at = 0; at + NATIVE_CHECKSUM < bytes.length; at++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            memcpy(copy, bytes.data, bytes.length);
            copy[at] = (char)((uint8_t)copy[at] ^ changes[k]);
            if (k == 0) CHECK(!use(copy, bytes.length), "byte %zu changed, and not noticed", at);
            seal(copy, bytes.length);
            use(copy, bytes.length);
        }
    }
    static const int64_t numbers[] = {-1, 0, INT64_MAX, INT64_MIN, 1 << 20, 3};
    for (size_t at = NATIVE_HEAD; at + 8 + NATIVE_CHECKSUM <= bytes.length; at++) {
        for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
            memcpy(copy, bytes.data, bytes.length);
            memcpy(copy + at, &numbers[k], 8);
            seal(copy, bytes.length);
            use(copy, bytes.length);
        }
    }
    memory_free(copy);
    CHECK(fault_blocks() == before, "blocks leak");
    text_free(&bytes);
}

/* Promise: a file cut at any length is refused, also when its head and checksum agree with the cut. */
TEST(native_files_that_are_cut_are_refused)
{
    Graph *graph = small();
    REQUIRE(graph, "no graph");
    Text bytes = {0};
    REQUIRE(written(graph, &bytes), "not written");
    graph_free(graph);
    for (size_t length = 0; length < bytes.length; length++) {
        char *cut = memory_new(length + 1);
        memcpy(cut, bytes.data, length);
        CHECK(!use(cut, length), "accepted at %zu of %zu bytes", length, bytes.length);
        if (length >= NATIVE_HEAD + NATIVE_CHECKSUM) {
            uint64_t body = length - NATIVE_HEAD - NATIVE_CHECKSUM;
            memcpy(cut + 16, &body, 8);
            seal(cut, length);
            CHECK(!use(cut, length), "accepted at %zu of %zu bytes", length, bytes.length);
        }
        memory_free(cut);
    }
    text_free(&bytes);
}

/* Promise: when writing fails, the file that was there before stays. */
TEST(native_files_appear_whole_or_not_at_all)
{
    Error error = {0};
    Graph *graph = small();
    REQUIRE(graph, "no graph");
    char path[] = "/tmp/espq_native_XXXXXX";
    int handle = mkstemp(path);
    REQUIRE(handle >= 0, "no temporary file");
    close(handle);
    REQUIRE(native_save(graph, "before", true, path, &error), "%s", error.what);
    static const FaultKind kinds[] = {FAULT_WRITE, FAULT_SYNC, FAULT_RENAME};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        fault_arm(kinds[i], FAULT_ONCE, 0);
        bool saved = native_save(graph, "after", true, path, &error);
        CHECK(fault_disarm() && !saved, "fault %zu was not seen", i);
        Text about = {0};
        Graph *read = native_load(path, &about, &error);
        CHECK(read && strcmp(about.data, "before") == 0, "fault %zu: the file is another: %s", i, read ? about.data : error.what);
        text_free(&about);
        graph_free(read);
    }
    remove(path);
    graph_free(graph);
}

typedef struct RoundTrip {
    Graph *graph, *read;
    Text bytes, about;
} RoundTrip;

static bool go_round(void *fixture, Error *error)
{
    RoundTrip *trip = fixture;
    if (!native_bytes(trip->graph, "about it", true, &trip->bytes, error)) return false;
    trip->read = native_parse(trip->bytes.data, trip->bytes.length, "file", &trip->about, error);
    return trip->read != NULL;
}

static uint64_t settle_round(void *fixture, bool ok)
{
    RoundTrip *trip = fixture;
    uint64_t digest = ok ? digest_graph("what was read", trip->read) : 0;
    graph_free(trip->read);
    trip->read = NULL;
    text_free(&trip->about);
    return digest_text(digest, &trip->bytes);
}

/* Promise: whatever allocation fails while a .native file is made or read, nothing leaks and nothing half-made is handed out. */
TEST(native_files_survive_memory_that_ends)
{
    RoundTrip trip = {.graph = small()};
    REQUIRE(trip.graph, "no graph");
    sweep_memory(&(Sweep){"a .native file", go_round, settle_round, &trip});
    graph_free(trip.graph);
}
