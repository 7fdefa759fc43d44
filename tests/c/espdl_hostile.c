#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "check.h"
#include "espdl/selftest.h"
#include "espdl_models.h"

/* Runs it as a chip would. */
static bool run_as(const EspdlModel *model, const char *target, Findings *findings, Error *error)
{
    Chip chip;
    return chip_init(&chip, target_find(target), NULL, false, error) && espdl_self_test(model, &chip, findings, error);
}

/* Parse, and when it is accepted list, judge and run it: none of it may crash or leak. Returns whether it was accepted. */
static bool use(const uint8_t *bytes, size_t count)
{
    Error error = {0};
    Text text = {0};
    Findings findings = {0};
    EspdlModel *model = espdl_parse(bytes, count, "hostile", &error);
    if (model) {
        CHECK(espdl_info_text(model, &text, &error) && espdl_verify(model, NULL, &findings, &error), "%s", error.what);
        CHECK(run_as(model, "esp32p4", &findings, &error) && run_as(model, "esp32s3", &findings, &error) &&
                  run_as(model, "c", &findings, &error),
              "%s", error.what);
    } else {
        CHECK(*error.what && *error.cure, "an error without words");
    }
    text_free(&text);
    findings_free(&findings);
    espdl_model_free(model);
    return model != NULL;
}

/* Promise: a file cut at any length is refused. */
TEST(truncated_files_are_refused)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    REQUIRE(write_small(true, &bytes, &count), "not written");
    long before = fault_blocks();
    CHECK(use(bytes, count), "the whole file is refused");
    for (size_t length = 0; length < count; length++) {
        uint8_t *cut = memory_new(length + 1); /* its own block, so that a sanitizer sees reading past the end */
        memcpy(cut, bytes, length);
        CHECK(!use(cut, length), "accepted at %zu of %zu bytes", length, count);
        if (length >= 16) {
            uint32_t said = (uint32_t)(length - 16); /* the header agrees with the cut */
            memcpy(cut + 8, &said, 4);
            use(cut, length);
        }
        memory_free(cut);
    }
    CHECK(fault_blocks() == before, "blocks leak");
    memory_free(bytes);
}

/* Promise: no change of a byte crashes the reader, the listing or the verifier, or makes them leak. */
TEST(changed_bytes_do_no_harm)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    REQUIRE(write_small(true, &bytes, &count), "not written");
    long before = fault_blocks();
    static const uint8_t changes[] = {0x01, 0x04, 0x80, 0xFF};
    for (size_t at = 0; at < count; at++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            bytes[at] ^= changes[k];
            use(bytes, count);
            bytes[at] ^= changes[k];
        }
    }
    CHECK(fault_blocks() == before, "blocks leak");
    memory_free(bytes);
}

static const char *refusal(const char *magic, uint32_t flag)
{
    static Error error;
    uint8_t *bytes = NULL;
    size_t count = 0;
    error = (Error){0};
    if (!write_small(false, &bytes, &count)) return "";
    memcpy(bytes, magic, 4);
    memcpy(bytes + 4, &flag, 4);
    EspdlModel *model = espdl_parse(bytes, count, "file", &error);
    CHECK(!model, "%s with flag %u is accepted", magic, flag);
    espdl_model_free(model);
    memory_free(bytes);
    return error.what;
}

/* Promise: what is no plain .espdl file is called by its name: encrypted, a package, something else. */
TEST(other_containers_are_named)
{
    CHECK(strstr(refusal("EDL2", 1), "encrypted"), "%s", refusal("EDL2", 1));
    CHECK(strstr(refusal("PDL2", 0), "package"), "%s", refusal("PDL2", 0));
    CHECK(strstr(refusal("ONNX", 0), "not a .espdl file"), "%s", refusal("ONNX", 0));
    CHECK(strstr(refusal("EDL2", 7), "second word"), "%s", refusal("EDL2", 7));
}

/* Promise: the older container EDL1, with its 12-byte header, is read as well. */
TEST(old_container_is_read)
{
    Error error = {0};
    uint8_t *bytes = NULL;
    size_t count = 0;
    REQUIRE(write_small(true, &bytes, &count), "not written");
    memmove(bytes + 12, bytes + 16, count - 16);
    memcpy(bytes, "EDL1", 4);
    EspdlModel *model = espdl_parse(bytes, count - 4, "old", &error), *small = small_model(true);
    REQUIRE(model, "%s", error.what);
    CHECK(same_models(model, small), "it reads differently");
    espdl_model_free(model);
    espdl_model_free(small);
    memory_free(bytes);
}

/* Promise: a small file that refers to one long list again and again is refused before it fills the memory. */
TEST(shared_offsets_do_not_multiply)
{
    Error error = {0};
    EspdlModel *model = small_model(false);
    enum { NODES = 3000 };
    EspdlNode *nodes = arena_new(&model->arena, NODES * sizeof *nodes);
    const char **inputs = arena_new(&model->arena, NODES * sizeof *inputs);
    for (int i = 0; i < NODES; i++) {
        nodes[i] = model->nodes[1];
        inputs[i] = "c";
    }
    nodes[NODES - 1].inputs = inputs;
    nodes[NODES - 1].input_count = NODES;
    model->nodes = nodes;
    model->node_count = NODES;
    uint8_t *bytes = NULL;
    size_t count = 0;
    REQUIRE(espdl_write(model, &bytes, &count, &error), "%s", error.what);
    /* Let every node be the last one: find the list of nodes by its length, and the last node by its offset. */
    size_t list = 0;
    for (size_t at = 16; at + 4 <= count && !list; at += 4) {
        uint32_t length;
        memcpy(&length, bytes + at, 4);
        if (length == NODES) list = at + 4;
    }
    uint32_t offset;
    memcpy(&offset, bytes + list + 4 * (NODES - 1), 4);
    size_t last = list + 4 * (NODES - 1) + offset;
    for (size_t i = 0; i < NODES; i++) {
        offset = (uint32_t)(last - list - 4 * i);
        memcpy(bytes + list + 4 * i, &offset, 4);
    }
    EspdlModel *parsed = espdl_parse(bytes, count, "shared", &error);
    CHECK(!parsed && strstr(error.what, "far more than it holds"), "%s", parsed ? "accepted" : error.what);
    espdl_model_free(parsed);
    memory_free(bytes);
    model->node_count = 1; /* the nodes share their attributes: released once */
    espdl_model_free(model);
}
