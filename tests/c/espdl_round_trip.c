#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "check.h"
#include "espdl_models.h"

/* Promise: what is written reads back equal in every field, attributes of every kind, empty tensors and metadata among them. */
TEST(every_field_survives_a_file)
{
    Error error = {0};
    uint8_t *bytes = NULL;
    size_t count = 0;
    EspdlModel *model = small_model(true);
    REQUIRE(espdl_write(model, &bytes, &count, &error), "%s", error.what);
    EspdlModel *again = espdl_parse(bytes, count, "again", &error);
    REQUIRE(again, "%s", error.what);
    CHECK(same_models(model, again), "the models differ");
    const Attribute *kinds = again->nodes[1].attributes;
    CHECK(kinds[1].integer == INT64_MIN && kinds[4].number == 0.1f && kinds[0].numbers[1] == -1e-7f, "numbers of attributes differ");
    CHECK(kinds[6].tensor && tensor_get(kinds[6].tensor, 1) == 2, "the tensor of an attribute differs");
    CHECK(memcmp(again->initializers[0].data, model->initializers[0].data, 256) == 0, "data differ");
    CHECK(again->initializers[3].data_bytes == 0 && again->initializers[3].rank == 1, "the empty tensor differs");
    CHECK(strcmp(again->metadata[1].value, "größer") == 0 && again->model_version == -3, "metadata differ");
    espdl_model_free(again);
    espdl_model_free(model);
    memory_free(bytes);
}

/* Promise: same model, same bytes; the file is a multiple of 16 long and every parameter's data lies at one. */
TEST(files_are_reproducible_and_aligned)
{
    Error error = {0};
    uint8_t *a = NULL, *b = NULL;
    size_t count = 0, other = 0;
    REQUIRE(write_small(true, &a, &count) && write_small(true, &b, &other), "not written");
    CHECK(count == other && memcmp(a, b, count) == 0, "two writings differ");
    CHECK(count % 16 == 0, "%zu bytes", count);
    EspdlModel *model = espdl_parse(a, count, "small", &error);
    REQUIRE(model, "%s", error.what);
    for (int i = 0; i < model->initializer_count; i++)
        CHECK(!model->initializers[i].data_bytes || ((const uint8_t *)model->initializers[i].data - model->file) % 16 == 0,
              "initializer %d", i);
    espdl_model_free(model);
    memory_free(a);
    memory_free(b);
}

/* Promise: the .info of the reference's own files is the reference's, byte by byte. */
TEST(info_equals_the_references)
{
    static const char *const cases[] = {"sin__esp32p4_8", "sin__esp32s3_16", "cnn__esp32p4_8"};
    for (int i = 0; i < 3; i++) {
        char path[256];
        Error error = {0};
        Text text = {0};
        uint8_t *info = NULL;
        size_t count = 0;
        snprintf(path, sizeof path, "data/reference/road/%s/model.espdl", cases[i]);
        const char *file = test_shared(path);
        if (!file) {
            test_skip("the reference files are not here");
            return;
        }
        EspdlModel *model = espdl_load(file, &error);
        REQUIRE(model && espdl_info_text(model, &text, &error), "%s", error.what);
        snprintf(path, sizeof path, "data/reference/road/%s/model.info", cases[i]);
        REQUIRE(file_read(test_shared(path), &info, &count, &error), "%s", error.what);
        CHECK(count == text.length && memcmp(info, text.data, count) == 0, "%s differs", cases[i]);
        memory_free(info);
        text_free(&text);
        espdl_model_free(model);
    }
}

/* Promise: whatever allocation fails while a file is written, read or listed, the answer is an error and nothing leaks. */
TEST(writer_and_reader_survive_failing_allocations)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    REQUIRE(write_small(true, &bytes, &count), "not written");
    EspdlModel *model = small_model(true);
    for (int act = 0; act < 3; act++) {
        for (long n = 0; n < 100000; n++) {
            long before = fault_blocks();
            Error error = {0};
            Text text = {0};
            uint8_t *made = NULL;
            size_t length = 0;
            EspdlModel *parsed = NULL;
            fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
            bool ok = act == 0   ? espdl_write(model, &made, &length, &error)
                      : act == 1 ? (parsed = espdl_parse(bytes, count, "small", &error)) != NULL
                                 : espdl_info_text(model, &text, &error);
            bool reached = fault_disarm();
            memory_free(made);
            espdl_model_free(parsed);
            text_free(&text);
            CHECK(ok != reached || (ok && act == 2), "act %d, allocation %ld: %s", act, n, error.what);
            CHECK(ok || error.code == ERROR_MEMORY, "act %d, allocation %ld: %s", act, n, error.what);
            REQUIRE(fault_blocks() == before, "act %d: allocation %ld leaks", act, n);
            if (!reached) break;
        }
    }
    espdl_model_free(model);
    memory_free(bytes);
}
