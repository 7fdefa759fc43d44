#include <string.h>

#include "base/fault.h"
#include "base/memory.h"
#include "check.h"
#include "chip/cost.h"
#include "espdl/board.h"
#include "espdl/device.h"
#include "espdl/diff.h"
#include "espdl/pack.h"
#include "espdl_models.h"

/* All that looks into a model; false: one of it refused or memory ended, and said so. */
static bool look(const EspdlModel *model, const EspdlModel *other, Error *error)
{
    const Target *target = target_find("esp32p4");
    Text text = {0};
    EspdlDiff diff = {0};
    CostReport cost = {0};
    BoardRun run = {0};
    Graph *device = espdl_device(model, error);
    bool fine = device && espdl_device_text(device, false, &text, error) && cost_estimate(device, NULL, 0, target, 100, &cost, error);
    fine = espdl_diff(other, model, &diff, error) && fine;
    for (int i = 0; i < model->input_count && i < 4; i++)
        fine = espdl_input_code(model, i, target, &text, error) && fine;
    fine =
        fine && board_run(model, target, &run, error) && board_code(model, target, &run, &text, error) && board_vectors(&run, &text, error);
    espdl_diff_free(&diff);
    cost_free(&cost);
    board_run_free(&run);
    graph_free(device);
    text_free(&text);
    return fine;
}

/* Promise: no change of a byte makes looking into a model crash or leak; what is refused is refused with words. */
TEST(looking_into_changed_files_does_no_harm)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    REQUIRE(write_small(true, &bytes, &count), "not written");
    EspdlModel *whole = small_model(true);
    long before = fault_blocks();
    for (size_t at = 16; at < count; at += 1) {
        bytes[at] ^= at % 3 ? 0x80 : 0x7F;
        Error error = {0};
        EspdlModel *model = espdl_parse(bytes, count, "changed", &error);
        if (model && !look(model, whole, &error)) CHECK(*error.what, "byte %zu: refused without a word", at);
        espdl_model_free(model);
        bytes[at] ^= at % 3 ? 0x80 : 0x7F;
    }
    CHECK(fault_blocks() == before, "blocks leak");
    espdl_model_free(whole);
    memory_free(bytes);
}

/* Promise: whatever allocation fails while a model is looked into, the answer is an error and nothing leaks. */
TEST(looking_without_memory_is_an_error)
{
    EspdlModel *model = small_model(true), *other = small_model(false);
    for (long n = 0;; n++) {
        long before = fault_blocks();
        Error error = {0};
        fault_arm(FAULT_ALLOCATION, FAULT_FROM, n);
        bool fine = look(model, other, &error), hit = fault_disarm();
        CHECK(fine || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
        CHECK(fault_blocks() == before, "allocation %ld: a leak", n);
        if (!hit) {
            CHECK(fine, "never succeeds: %s", error.what);
            break;
        }
    }
    espdl_model_free(model);
    espdl_model_free(other);
}

/* Promise: two models that differ in one weight, one exponent and one attribute differ in exactly these. */
TEST(differences_are_the_ones_made)
{
    Error error = {0};
    EspdlModel *a = small_model(true), *b = small_model(true);
    REQUIRE(a && b, "no models");
    EspdlDiff diff;
    REQUIRE(espdl_diff(a, b, &diff, &error), "%s", error.what);
    CHECK(diff.count == 0, "equal models differ: %s %s", diff.count ? diff.rows[0].name : "", diff.count ? diff.rows[0].what : "");
    espdl_diff_free(&diff);
    b->outputs[0].exponents[0]++;
    for (int i = 0; i < b->initializer_count; i++) {
        EspdlTensor *tensor = &b->initializers[i];
        if (strcmp(tensor->name, b->nodes[0].inputs[1]) != 0) continue;
        int8_t *copy = arena_copy(&b->arena, tensor->data, tensor->data_bytes);
        copy[1] = (int8_t)(copy[1] - 5);
        tensor->data = copy;
    }
    b->nodes[0].type = "Gemm";
    REQUIRE(espdl_diff(a, b, &diff, &error), "%s", error.what);
    int kinds[DIFF_KINDS] = {0};
    for (int i = 0; i < diff.count; i++)
        kinds[diff.rows[i].kind]++;
    CHECK(diff.count == 3 && kinds[DIFF_STRUCTURE] == 1 && kinds[DIFF_EXPONENT] == 1 && kinds[DIFF_WEIGHT] == 1,
          "%d rows, the first: %s %s", diff.count, diff.rows[0].name, diff.rows[0].what);
    const DiffRow *weight = &diff.rows[diff.count - 1];
    CHECK(weight->differing == 1 && weight->largest == 5 && weight->mean == 5, "%lld differ by %g", (long long)weight->differing,
          weight->largest);
    espdl_diff_free(&diff);
    espdl_model_free(a);
    espdl_model_free(b);
}
