#include "exec/replay.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "exec/replay_state.h"

#define TOGETHER 5 /* more pieces side by side would leave the caches */

/* ---- what is kept ---- */

static bool is_activation(const Program *program, int value)
{
    return value >= 0 && !program->values[value].constant;
}

/* Is a step touched by changed values? */
static bool touched(const ProgramStep *step, const bool *changed)
{
    for (int i = 0; i < step->node->input_count; i++)
        if (step->inputs[i].value >= 0 && changed[step->inputs[i].value]) return true;
    return false;
}

void replay_mark_outputs(const ProgramStep *step, bool *changed)
{
    for (int i = 0; i < step->node->output_count; i++)
        if (step->outputs[i].value >= 0) changed[step->outputs[i].value] = true;
}

static void keep_inputs(Replay *replay, const ProgramStep *step, const bool *changed)
{
    for (int i = 0; i < step->node->input_count; i++) {
        int value = step->inputs[i].value;
        if (is_activation(replay->program, value) && !changed[value]) replay->kept[value] = true;
    }
}

bool replay_reaches(const Replay *replay, int index, const bool *changed)
{
    if (replay->sums.skipped[index]) return false;
    const Sum *sum = replay->sums.of_step[index];
    return sum ? sum_touched(sum, changed) : touched(&replay->program->steps[index], changed);
}

/* What a step behind the layer reads unchanged. */
static void keep_unchanged(Replay *replay, int index, const bool *changed)
{
    Sum *sum = replay->sums.of_step[index];
    if (!sum) {
        keep_inputs(replay, &replay->program->steps[index], changed);
        return;
    }
    for (int i = 0; i < sum->part_count; i++)
        if (!changed[sum->parts[i].value]) sum->parts[i].kept = true;
}

static bool find_sums(Replay *replay, Error *error)
{
    const Program *program = replay->program;
    for (int i = 0; i < replay->layer_count; i++) {
        replay->layer_steps[i] = -1;
        for (int k = 0; k < program->step_count && replay->layer_steps[i] < 0; k++)
            if (program->steps[k].node == replay->layers[i]) replay->layer_steps[i] = k;
    }
    return sums_find(&replay->sums, replay->program, replay->layer_steps, replay->layer_count, error);
}

static bool find_kept(Replay *replay, Error *error)
{
    const Program *program = replay->program;
    bool *changed = memory_new_array((size_t)program->value_count + 1, sizeof *changed);
    if (!changed) return fail_memory(error, (size_t)program->value_count);
    for (int i = 0; i < replay->layer_count; i++) {
        int first = replay->layer_steps[i];
        if (first < 0) continue;
        memset(changed, 0, (size_t)program->value_count);
        keep_inputs(replay, &program->steps[first], changed);
        replay_mark_outputs(&program->steps[first], changed);
        for (int k = first + 1; k < program->step_count; k++) {
            if (!replay_reaches(replay, k, changed)) continue;
            keep_unchanged(replay, k, changed);
            replay_mark_outputs(&program->steps[k], changed);
        }
    }
    for (int i = 0; i < program->wanted_count; i++)
        if (is_activation(program, program->wanted_index[i])) replay->kept[program->wanted_index[i]] = true;
    memory_free(changed);
    return true;
}

/* Two layouts: one in which replays run, nothing kept, and the program's own, in which kept values lie outside the arena. */
static bool lay_out(Replay *replay, Error *error)
{
    Program *program = replay->program;
    for (int i = 0; i < program->value_count; i++)
        program->values[i].outside = program->values[i].given >= 0;
    if (!program_settle(program, error)) return false;
    size_t copies = 0;
    for (int i = 0; i < program->value_count; i++)
        replay->offsets[i] = program->values[i].offset;
    for (int i = 0; i < replay->layer_count; i++) {
        size_t bytes = 0;
        if (replay->layer_steps[i] < 0) continue;
        const ProgramStep *step = &program->steps[replay->layer_steps[i]];
        for (int k = 0; k < step->node->input_count; k++)
            if (is_activation(program, step->inputs[k].value)) bytes += round_up(program->values[step->inputs[k].value].bytes);
        if (bytes > copies) copies = bytes;
    }
    replay->copies_offset = round_up(program->arena_bytes);
    replay->sums_offset = replay->copies_offset + copies;
    replay->arena_bytes = replay->sums_offset + round_up(replay->sums.memory_bytes);
    for (int i = 0; i < program->value_count; i++) {
        ProgramValue *value = &program->values[i];
        if (!replay->kept[i] || value->outside) continue;
        value->outside = true;
        replay->kept_offset[i] = replay->kept_bytes;
        replay->kept_bytes += round_up(value->bytes);
    }
    for (int i = 0; i < replay->sums.count; i++)
        for (int k = 0; k < replay->sums.items[i].part_count; k++) {
            SumPart *part = &replay->sums.items[i].parts[k];
            if (!part->kept) continue;
            part->kept_offset = replay->kept_bytes;
            replay->kept_bytes += round_up(replay->sums.items[i].bytes);
        }
    return program_settle(program, error);
}

/* ---- life ---- */

static bool new_stage(Replay *replay, Stage *stage, Error *error)
{
    const Program *program = replay->program;
    size_t values = (size_t)program->value_count + 1, widest = (size_t)replay->widest + 1;
    stage->tensors = memory_new_array(values, sizeof *stage->tensors);
    stage->changed = memory_new_array(values, sizeof *stage->changed);
    stage->ends = memory_new_array(widest, sizeof *stage->ends);
    stage->copies = memory_new_array(widest, sizeof *stage->copies);
    stage->arena = memory_new_aligned(replay->arena_bytes * (size_t)replay->together + 64);
    stage->scratch = memory_new_aligned(replay->scratch_bytes + 64);
    if (!stage->tensors || !stage->changed || !stage->ends || !stage->copies || !stage->arena || !stage->scratch)
        return fail_memory(error, replay->arena_bytes * (size_t)replay->together);
    for (int i = 0; i < program->value_count; i++)
        if (program->values[i].shape.rank >= 0) frame_header(&stage->tensors[i], program->values[i].dtype, &program->values[i].shape);
    return true;
}

static void free_stage(Stage *stage)
{
    memory_free(stage->tensors);
    memory_free(stage->changed);
    memory_free(stage->ends);
    memory_free(stage->copies);
    memory_free(stage->arena);
    memory_free(stage->scratch);
}

bool replay_make_stages(Replay *replay, Error *error)
{
    int threads = replay->program->one_thread ? 1 : threads_count();
    if (replay->stage_count >= threads) return true;
    Stage *stages = memory_resize(replay->stages, (size_t)threads * sizeof *stages);
    if (!stages) return fail_memory(error, (size_t)threads * sizeof *stages);
    replay->stages = stages;
    Frame *frames = memory_resize(replay->frames, (size_t)threads * sizeof *frames);
    if (!frames) return fail_memory(error, (size_t)threads * sizeof *frames);
    replay->frames = frames;
    while (replay->stage_count < threads) {
        Stage *stage = &stages[replay->stage_count];
        memset(stage, 0, sizeof *stage);
        if (!new_stage(replay, stage, error)) {
            free_stage(stage);
            return false;
        }
        replay->stage_count++;
    }
    while (replay->frame_count < threads) {
        if (!frame_new(&frames[replay->frame_count], replay->program, NULL, error)) {
            frame_free(&frames[replay->frame_count]);
            return false;
        }
        replay->frame_count++;
    }
    return true;
}

static bool make_tables(Replay *replay, const ReplayOptions *options, Error *error)
{
    const Program *program = replay->program;
    size_t values = (size_t)program->value_count + 1, layers = (size_t)options->layer_count + 1;
    replay->layer_count = options->layer_count;
    replay->layers = memory_new_array(layers, sizeof *replay->layers);
    replay->layer_steps = memory_new_array(layers, sizeof *replay->layer_steps);
    replay->kept = memory_new_array(values, sizeof *replay->kept);
    replay->kept_offset = memory_new_array(values, sizeof *replay->kept_offset);
    replay->offsets = memory_new_array(values, sizeof *replay->offsets);
    replay->simulated = memory_new_array(layers, sizeof *replay->simulated);
    if (!replay->layers || !replay->layer_steps || !replay->simulated || !replay->kept || !replay->kept_offset || !replay->offsets)
        return fail_memory(error, values * sizeof(size_t));
    memcpy(replay->layers, options->layers, (size_t)options->layer_count * sizeof *replay->layers);
    for (int i = 0; i < program->step_count; i++) {
        int ends = program->steps[i].node->input_count + program->steps[i].node->output_count;
        if (ends > replay->widest) replay->widest = ends;
    }
    return true;
}

typedef struct Preparation {
    Replay *replay;
    Error *errors;     /* one a thread */
    atomic_int failed; /* thread + 1 of a failure */
} Preparation;

static void prepare_layers(void *context, int64_t begin, int64_t end, int thread)
{
    Preparation *preparation = context;
    Replay *replay = preparation->replay;
    for (int64_t i = begin; i < end && !atomic_load(&preparation->failed); i++) {
        int index = replay->layer_steps[i];
        if (index < 0) continue;
        const ProgramStep *step = &replay->program->steps[index];
        if (!step_prepare(replay->program, &replay->simulated[i], step, true, &preparation->errors[thread])) {
            int none = 0;
            atomic_compare_exchange_strong(&preparation->failed, &none, thread + 1);
        }
    }
}

/* Weights quantized and packed once for all groups. */
static bool make_layers(Replay *replay, Error *error)
{
    int threads = replay->program->one_thread ? 1 : threads_count();
    Preparation preparation = {.replay = replay, .errors = memory_new_array((size_t)threads, sizeof(Error))};
    if (!preparation.errors) return fail_memory(error, (size_t)threads * sizeof(Error));
    if (threads > 1)
        threads_for(replay->layer_count, 1, prepare_layers, &preparation);
    else
        prepare_layers(&preparation, 0, replay->layer_count, 0);
    int failed = atomic_load(&preparation.failed);
    if (failed) *error = preparation.errors[failed - 1];
    memory_free(preparation.errors);
    replay->scratch_bytes = replay->program->scratch_bytes;
    if (replay->sums.scratch_bytes > replay->scratch_bytes) replay->scratch_bytes = replay->sums.scratch_bytes;
    for (int i = 0; i < replay->layer_count; i++)
        if (replay->simulated[i].prepare.scratch_bytes > replay->scratch_bytes)
            replay->scratch_bytes = replay->simulated[i].prepare.scratch_bytes;
    return !failed;
}

/* Equal parts of the pieces of a group, and enough of them that no thread waits. */
static int together_of(int group, int layers)
{
    int parts = (group + TOGETHER - 1) / TOGETHER;
    while (parts < group && parts * layers < 8 * threads_count())
        parts++;
    return (group + parts - 1) / parts;
}

static bool make_memory(Replay *replay, size_t limit, Error *error)
{
    int pieces = replay->program->pieces;
    size_t fitting = replay->kept_bytes ? limit / replay->kept_bytes : (size_t)pieces;
    replay->group = fitting < 1 ? 1 : fitting < (size_t)pieces ? (int)fitting : pieces;
    /* Groups of equal size: the last one shall not be a single piece that one thread works on alone. */
    int groups = (pieces + replay->group - 1) / replay->group;
    replay->group = (pieces + groups - 1) / groups;
    replay->together = together_of(replay->group, replay->layer_count);
    replay->memory = memory_new_aligned(replay->kept_bytes * (size_t)replay->group + 64);
    return replay->memory ? true : fail_memory(error, replay->kept_bytes * (size_t)replay->group);
}

/* Wider than 8 bits, a bias apart: it adds next to nothing to what 8-bit weights do. */
static bool is_wide(const Node *node, const Slot *slot)
{
    bool bias = slot && slot->is_parameter && slot->index >= 2 && node->op->flags & OPERATOR_WEIGHTED;
    return slot && slot_quantizes(slot) && slot->bits > 8 && !bias;
}

/* Figures of 8-bit layers (1e-6 and more) are far above the noise of sums in another order (1e-12); those of 16-bit ones are not. */
static bool may_approximate(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (!node->quantized) continue;
        for (int k = 0; k < node->input_count; k++)
            if (is_wide(node, node->input_slots[k])) return false;
        for (int k = 0; k < node->output_count; k++)
            if (is_wide(node, node->output_slots[k])) return false;
    }
    return true;
}

Replay *replay_new(Graph *graph, const ReplayOptions *options, const Shape *shapes, Error *error)
{
    Replay *replay = memory_new(sizeof *replay);
    if (!replay) {
        fail_memory(error, sizeof *replay);
        return NULL;
    }
    PlanOptions plan = {.mode = EXEC_FLOAT, .exact = options->exact, .approximate = may_approximate(graph)};
    replay->program = program_new(graph, &plan, shapes, error);
    if (replay->program && make_tables(replay, options, error) && find_sums(replay, error) && find_kept(replay, error) &&
        lay_out(replay, error) && make_memory(replay, options->memory_limit, error) && make_layers(replay, error))
        return replay;
    replay_free(replay);
    return NULL;
}

void replay_free(Replay *replay)
{
    if (!replay) return;
    for (int i = 0; i < replay->stage_count; i++)
        free_stage(&replay->stages[i]);
    for (int i = 0; i < replay->frame_count; i++)
        frame_free(&replay->frames[i]);
    for (int i = 0; replay->simulated && i < replay->layer_count; i++)
        if (replay->simulated[i].node) step_clear(&replay->simulated[i]);
    memory_free(replay->simulated);
    memory_free(replay->stages);
    memory_free(replay->frames);
    memory_free(replay->layers);
    memory_free(replay->layer_steps);
    memory_free(replay->kept);
    memory_free(replay->kept_offset);
    memory_free(replay->offsets);
    memory_free(replay->memory);
    sums_free(&replay->sums);
    program_free(replay->program);
    memory_free(replay);
}
