/* Running a plan: samples one after another on one frame, or spread over threads, a frame each. Nothing is allocated per node. */
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"
#include "chip/plan.h"

/* ---- frames ---- */

static void frame_free(ChipFrame *frame)
{
    memory_free(frame->arena);
    memory_free(frame->scratch);
    memory_free(frame->turning);
    memory_free(frame->ends);
    *frame = (ChipFrame){0};
}

void frames_free(ChipPlan *plan)
{
    for (int i = 0; i < plan->frame_count; i++)
        frame_free(&plan->frames[i]);
    memory_free(plan->frames);
    plan->frames = NULL;
    plan->frame_count = 0;
}

static bool frame_make(const ChipPlan *plan, ChipFrame *frame, Error *error)
{
    frame->arena = memory_new_aligned(plan->arena_bytes + 64);
    frame->scratch = memory_new_aligned(plan->scratch_bytes + 64);
    frame->turning = memory_new_aligned(plan->turning_bytes + 64);
    frame->ends = memory_new_array((size_t)plan->end_count + 1, sizeof *frame->ends);
    if (!frame->arena || !frame->scratch || !frame->turning || !frame->ends) {
        frame_free(frame);
        return fail_memory(error, plan->arena_bytes + plan->scratch_bytes);
    }
    memset(frame->arena, 0, plan->arena_bytes + 64); /* as the chip's memory is before the first run */
    for (int i = 0; i < plan->step_count; i++) {
        const PlanStep *step = &plan->steps[i];
        for (int k = 0; k < step->end_count; k++) {
            if (step->values[k] < 0) continue;
            const PlanValue *value = &plan->values[step->values[k]];
            frame->ends[step->first_end + k] = value->value->constant ? value->value->constant->data : frame->arena + value->offset;
        }
    }
    return true;
}

static bool frames_make(ChipPlan *plan, int count, Error *error)
{
    if (count <= plan->frame_count) return true;
    ChipFrame *frames = memory_resize(plan->frames, (size_t)count * sizeof *frames);
    if (!frames) return fail_memory(error, (size_t)count * sizeof *frames);
    plan->frames = frames;
    while (plan->frame_count < count) {
        frames[plan->frame_count] = (ChipFrame){0};
        if (!frame_make(plan, &frames[plan->frame_count], error)) return false;
        plan->frame_count++;
    }
    return true;
}

/* ---- one sample ---- */

static void *where_is(const PlanRun *run, const ChipFrame *frame, const PlanValue *value, int64_t sample)
{
    void *direct = value->input >= 0 ? NULL : ends_direct(run, value, sample);
    return direct ? direct : frame->arena + value->offset;
}

static void bind_ends(const PlanRun *run, ChipFrame *frame, int64_t sample, void *const *inputs)
{
    const ChipPlan *plan = run->plan;
    for (int i = 0; i < plan->patch_count; i++) {
        const PlanValue *value = &plan->values[plan->patches[i].value];
        frame->ends[plan->patches[i].end] = value->input >= 0 ? inputs[value->input] : where_is(run, frame, value, sample);
    }
}

static bool show(const PlanRun *run, const Node *node, int output, const PlanValue *value, void *data, int64_t sample, Error *error)
{
    const ChipOptions *options = &run->plan->options;
    Tensor tensor = {.references = 1, .dtype = value->dtype, .shape = value->shape, .data = data};
    int64_t stride = 1;
    for (int i = value->shape.rank - 1; i >= 0; i--) {
        tensor.strides[i] = stride;
        stride *= value->shape.dims[i];
    }
    ChipSeen seen = {node, output, value->value, &tensor, sample, value->undefined};
    return options->watch(options->watch_context, &seen, error);
}

static bool show_inputs(const PlanRun *run, void *const *inputs, int64_t sample, Error *error)
{
    const ChipPlan *plan = run->plan;
    for (int i = 0; i < plan->value_count; i++) {
        const PlanValue *value = &plan->values[i];
        if (value->input >= 0 && !show(run, NULL, value->input, value, inputs[value->input], sample, error)) return false;
    }
    return true;
}

static bool run_steps(const PlanRun *run, ChipFrame *frame, int64_t sample, Error *error)
{
    ChipPlan *plan = run->plan;
    for (int i = 0; i < plan->step_count; i++) {
        PlanStep *step = &plan->steps[i];
        if (!step->needed) continue;
        if (error ? !cancel_check(error) : cancel_requested()) return false;
        void **ends = frame->ends + step->first_end;
        ChipRun call = {.node = &step->node, .inputs = ends, .outputs = ends + step->node.input_count, .scratch = frame->scratch};
        if (plan->memory) call.memory = plan->memory + step->memory_offset;
        int before = step->values[step->end_count - 1];
        if (before >= 0) call.before = (const char *)ends[step->end_count - 1] + plan->values[before].bytes;
        if (plan->options.headroom && step->node.module->headroom) step->node.module->headroom(&call, &step->headroom);
        step->node.module->run(&call);
        for (int k = 0; plan->options.watch && k < step->node.output_count; k++) {
            int place = step->values[step->node.input_count + k];
            if (place >= 0 && !show(run, step->node.node, k, &plan->values[place], call.outputs[k], sample, error)) return false;
        }
    }
    return true;
}

/* error NULL: on a thread of the pool; who called looks for the reason. */
static bool run_sample(const PlanRun *run, ChipFrame *frame, int64_t sample, void **inputs, Error *error)
{
    const ChipPlan *plan = run->plan;
    for (int i = 0; i < plan->value_count; i++) {
        const PlanValue *value = &plan->values[i];
        if (value->input >= 0) inputs[value->input] = ends_input(run, frame, value, sample);
    }
    bind_ends(run, frame, sample, inputs);
    if (plan->options.watch && !show_inputs(run, inputs, sample, error)) return false;
    if (!run_steps(run, frame, sample, error)) return false;
    for (int i = 0; i < plan->wanted_count; i++) {
        const PlanValue *value = &plan->values[plan->wanted[i]];
        if (value->value->constant) continue;
        void *data = value->input >= 0 ? inputs[value->input] : where_is(run, frame, value, sample);
        ends_give(run, i, sample, data);
    }
    return true;
}

/* ---- all of them ---- */

enum { MOST_INPUTS = 256 };

static void run_piece(void *context, int64_t begin, int64_t end, int thread)
{
    PlanRun *run = context;
    void *inputs[MOST_INPUTS];
    for (int64_t sample = begin; sample < end && !atomic_load(&run->stopped); sample++) {
        if (!run_sample(run, &run->plan->frames[thread], sample, inputs, NULL)) atomic_store(&run->stopped, true);
    }
}

static bool run_all(PlanRun *run, Error *error)
{
    ChipPlan *plan = run->plan;
    bool spread = run->samples > 1 && !plan->in_order && threads_count() > 1;
    if (!frames_make(plan, spread ? threads_count() : 1, error)) return false;
    if (spread) {
        threads_for(run->samples, 1, run_piece, run);
        return !atomic_load(&run->stopped) || cancel_check(error);
    }
    void *inputs[MOST_INPUTS];
    for (int64_t sample = 0; sample < run->samples; sample++) {
        if (!run_sample(run, &plan->frames[0], sample, inputs, error)) return false;
    }
    return true;
}

bool chip_plan_run(ChipPlan *plan, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    PlanRun run = {.plan = plan};
    memset(outputs, 0, (size_t)plan->wanted_count * sizeof *outputs);
    if (plan->graph->input_count > MOST_INPUTS)
        return fail(error, NULL, NULL, "the model has %d inputs, at most %d can be run", plan->graph->input_count, MOST_INPUTS);
    bool ok = ends_take(&run, inputs, error) && ends_make(&run, error) && run_all(&run, error);
    for (int i = 0; ok && i < plan->wanted_count; i++)
        outputs[i] = tensor_retain(run.results[i]);
    ends_release(&run);
    return ok;
}
