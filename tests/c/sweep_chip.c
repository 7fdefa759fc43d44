/* Sweeps over the integer executor: a file becomes a device graph, a plan, a run, a judgement. */
#include "sweep.h"

#include <string.h>

#include "base/memory.h"
#include "check.h"
#include "espdl/device.h"
#include "espdl/selftest.h"
#include "espdl_models.h"

typedef struct Running {
    EspdlModel *model;
    Chip chip;
    Graph *device;
    ChipPlan *plan;
    Tensor *input, *output;
    Findings findings;
} Running;

static bool running_begin(Running *running)
{
    Error error = {0};
    *running = (Running){.model = small_model(true)};
    Shape shape = shape_of(4, (int64_t[]){3, 2, 2, 2});
    running->input = tensor_new(DTYPE_FLOAT32, &shape, &error);
    bool ok = running->model && running->input && chip_init(&running->chip, target_find("esp32p4"), NULL, false, &error);
    for (int i = 0; ok && i < 24; i++)
        tensor_floats(running->input)[i] = (float)(i - 12) / 4;
    CHECK(ok, "%s", error.what);
    return ok;
}

static bool run_file(void *fixture, Error *error)
{
    Running *running = fixture;
    running->device = espdl_device(running->model, error);
    if (!running->device) return false;
    running->plan = chip_plan_new(running->device, &(ChipOptions){.chip = &running->chip}, error);
    return running->plan && chip_plan_run(running->plan, &running->input, &running->output, error);
}

static uint64_t settle_run(void *fixture, bool ok)
{
    Running *running = fixture;
    uint64_t digest = ok ? digest_bytes(0, running->output->data, tensor_bytes(running->output)) : 0;
    CHECK(ok || !running->output, "an output after a failure");
    tensor_release(running->output);
    chip_plan_free(running->plan);
    graph_free(running->device);
    running->output = NULL;
    running->plan = NULL;
    running->device = NULL;
    return digest;
}

static bool judge_file(void *fixture, Error *error)
{
    Running *running = fixture;
    return espdl_self_test(running->model, &running->chip, &running->findings, error);
}

static uint64_t settle_judge(void *fixture, bool ok)
{
    Running *running = fixture;
    uint64_t digest = 0;
    for (int i = 0; ok && i < running->findings.count; i++)
        digest = digest_bytes(digest, running->findings.rows[i].text, strlen(running->findings.rows[i].text));
    findings_free(&running->findings);
    return digest;
}

/* Promise: whatever allocation fails while a file is prepared, run or judged, the answer is an error or the same result; nothing leaks. */
TEST(running_a_file_survives_faults)
{
    Running running;
    if (!running_begin(&running)) return;
    sweep_memory(&(Sweep){"run .espdl", run_file, settle_run, &running});
    sweep_memory(&(Sweep){"self-test", judge_file, settle_judge, &running});
    tensor_release(running.input);
    espdl_model_free(running.model);
}
