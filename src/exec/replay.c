#include "exec/replay.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"
#include "exec/frame.h"
#include "exec/sums.h"

#define TOGETHER 5 /* more pieces side by side would leave the caches */

/* Memory in which one thread replays: its own values behind a layer, kept ones elsewhere. */
typedef struct Stage {
    Tensor *tensors; /* one a value: header of the piece at hand */
    bool *changed;   /* one a value: differs from the kept one, lies in the arena */
    int first_piece; /* of those that are replayed together */
    Tensor **ends;   /* inputs and outputs of the step at hand */
    Tensor *copies;  /* headers of quantized inputs */
    char *arena;
    void *scratch;
} Stage;

struct Replay {
    Program *program; /* in float, of all samples */
    Node **layers;
    int layer_count;
    int *layer_steps;       /* index of the step, -1: its outputs reach nothing that is wanted */
    ProgramStep *simulated; /* one a layer: its step with slots on */
    size_t scratch_bytes;   /* of all steps, simulated ones as well */
    bool *kept;             /* one a value: a replay reads it */
    size_t *kept_offset;    /* in the kept memory, times the pieces of a group */
    size_t kept_bytes;      /* of one piece */
    char *memory;           /* kept values of a group of pieces */
    int group;              /* pieces kept at a time */
    int together;           /* pieces replayed side by side, so that weights are read once for all of them */
    size_t *offsets;        /* one a value: where a replay writes it in a stage's arena */
    size_t arena_bytes, copies_offset, sums_offset;
    Sums sums;
    int widest; /* most ends of a step */
    Stage *stages;
    int stage_count;
    Frame *frames; /* of the float walk */
    int frame_count;
};

static size_t round_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

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

static void mark_outputs(const ProgramStep *step, bool *changed)
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

/* Is a step behind the layer run again? */
static bool reached(const Replay *replay, int index, const bool *changed)
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
        mark_outputs(&program->steps[first], changed);
        for (int k = first + 1; k < program->step_count; k++) {
            if (!reached(replay, k, changed)) continue;
            keep_unchanged(replay, k, changed);
            mark_outputs(&program->steps[k], changed);
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

static bool make_stages(Replay *replay, Error *error)
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

/* ---- one group of pieces ---- */

typedef struct Job {
    Replay *replay;
    Tensor *const *inputs; /* whole batch, padded to whole pieces */
    int first, count;      /* pieces of this group */
    void (*compare)(void *context, const Replayed *replayed);
    void *context;
    atomic_bool stopped; /* somebody asked for it */
} Job;

/* Where the kept or given form of a value lies; piece counts within the group. */
static char *kept_data(const Job *job, int value, int piece)
{
    const Replay *replay = job->replay;
    const ProgramValue *info = &replay->program->values[value];
    if (info->given >= 0) return job->inputs[info->given]->data + (info->batched ? (size_t)(job->first + piece) * info->bytes : 0);
    char *base = replay->memory + replay->kept_offset[value] * (size_t)replay->group;
    return base + (info->batched ? (size_t)piece * info->bytes : 0);
}

/* Where a part's result lies: kept ones in the kept memory, else with the stage's own. small: before it is enlarged. */
static char *part_data(const Job *job, const Stage *stage, const Sum *sum, int part, int piece, bool kept, char **small)
{
    const Replay *replay = job->replay;
    size_t together = (size_t)replay->together;
    char *own = stage->arena + replay->sums_offset * together;
    if (small) *small = own;
    if (kept) return replay->memory + sum->parts[part].kept_offset * (size_t)replay->group + (size_t)piece * sum->bytes;
    return own + (sum->small_bytes + (size_t)part * sum->bytes) * together;
}

/* The float walk makes sums as replays do, so that what a layer does not change comes out bit by bit. */
static void walk_sum(const Job *job, Frame *frame, const Sum *sum, int piece, const Stage *stage)
{
    char *parts[sum->part_count], *small;
    for (int i = 0; i < sum->part_count; i++) {
        const SumPart *part = &sum->parts[i];
        parts[i] = part_data(job, stage, sum, i, piece, part->kept, &small);
        sum_part_run(frame->program, sum, part, 1, frame->tensors[part->value].data, parts[i], small, stage->scratch);
    }
    sum_add(frame->program, sum, 1, parts, frame->tensors[sum->output].data);
}

static void walk_pieces(void *context, int64_t begin, int64_t end, int thread)
{
    Job *job = context;
    const Replay *replay = job->replay;
    const Program *program = replay->program;
    Frame *frame = &replay->frames[thread];
    for (int i = 0; i < program->value_count; i++)
        if (program->values[i].outside) frame->bases[i] = kept_data(job, i, 0);
    for (int64_t piece = begin; piece < end; piece++) {
        frame_bind_all(frame, (int)piece);
        for (int i = 0; i < program->step_count; i++) {
            if (cancel_requested()) atomic_store(&job->stopped, true);
            if (atomic_load_explicit(&job->stopped, memory_order_relaxed)) return;
            if (replay->sums.of_step[i])
                walk_sum(job, frame, replay->sums.of_step[i], (int)piece, &replay->stages[thread]);
            else
                frame_run(frame, &program->steps[i], i, (int)piece);
        }
    }
}

/* ---- one layer ---- */

/* A value that a replay changed. */
static char *changed_data(const Job *job, const Stage *stage, int value, int piece)
{
    const Replay *replay = job->replay;
    return stage->arena + replay->offsets[value] * (size_t)replay->together +
           (size_t)(piece - stage->first_piece) * replay->program->values[value].bytes;
}

static void bind_ends(const Job *job, Stage *stage, const ProgramStep *step, int piece, int count)
{
    const Program *program = job->replay->program;
    int inputs = step->node->input_count;
    for (int i = 0; i < inputs + step->node->output_count; i++) {
        const ProgramEnd *end = i < inputs ? &step->inputs[i] : &step->outputs[i - inputs];
        stage->ends[i] = NULL;
        if (end->value < 0) continue;
        Tensor *tensor = &stage->tensors[end->value];
        stage->ends[i] = tensor;
        if (i < inputs && step->constants[i]) {
            stage->ends[i] = step->constants[i];
            continue;
        }
        if (program->values[end->value].shape.rank > 0) tensor->shape.dims[0] = program->values[end->value].shape.dims[0] * count;
        if (i >= inputs || stage->changed[end->value])
            tensor->data = changed_data(job, stage, end->value, piece);
        else
            tensor->data = kept_data(job, end->value, piece);
    }
}

static void quantize_inputs(const Replay *replay, Stage *stage, const ProgramStep *step)
{
    size_t offset = replay->copies_offset * (size_t)replay->together;
    for (int i = 0; i < step->node->input_count; i++) {
        const ProgramEnd *end = &step->inputs[i];
        if (end->value < 0 || !end->copies) continue;
        const Tensor *raw = stage->ends[i];
        stage->copies[i] = *raw;
        stage->copies[i].data = stage->arena + offset;
        offset += round_up(replay->program->values[end->value].bytes) * (size_t)replay->together;
        quantization_apply(&end->quantization, &raw->shape, tensor_floats(raw), tensor_floats(&stage->copies[i]));
        stage->ends[i] = &stage->copies[i];
    }
}

/* May the samples of several pieces be given to the kernel at once? They lie side by side everywhere. */
static bool joins(const Program *program, const ProgramStep *step)
{
    if (!(step->node->op->flags & OPERATOR_ANY_BATCH)) return false;
    for (int i = 0; i < step->node->input_count; i++) {
        int value = step->inputs[i].value;
        if (value >= 0 && (i == 0 ? step->constants[i] || !program->values[value].batched : !step->constants[i])) return false;
    }
    return step->outputs[0].value >= 0 && program->values[step->outputs[0].value].batched;
}

static void run_pieces(const Job *job, Stage *stage, const ProgramStep *step, int piece, int count)
{
    const Node *node = step->node;
    bind_ends(job, stage, step, piece, count);
    if (step->quantized) quantize_inputs(job->replay, stage, step);
    Tensor **outputs = stage->ends + node->input_count;
    Run run = {.node = node, .inputs = stage->ends, .outputs = outputs, .state = step->prepare.state, .scratch = stage->scratch};
    node->op->run(&run);
    for (int i = 0; i < node->output_count; i++) {
        const Quantization *quantization = &step->outputs[i].quantization;
        if (step->outputs[i].value < 0 || !quantization->on) continue;
        quantization_apply(quantization, &outputs[i]->shape, tensor_floats(outputs[i]), tensor_floats(outputs[i]));
    }
}

static void run_step(const Job *job, Stage *stage, const ProgramStep *step, int piece, int count)
{
    int together = joins(job->replay->program, step) ? count : 1;
    for (int i = 0; i < count; i += together)
        run_pieces(job, stage, step, piece + i, together);
}

static void run_sum(const Job *job, Stage *stage, const Sum *sum, int piece, int count)
{
    const Program *program = job->replay->program;
    char *parts[sum->part_count], *small;
    for (int i = 0; i < sum->part_count; i++) {
        const SumPart *part = &sum->parts[i];
        bool changed = stage->changed[part->value];
        parts[i] = part_data(job, stage, sum, i, piece, !changed, &small);
        if (changed) sum_part_run(program, sum, part, count, changed_data(job, stage, part->value, piece), parts[i], small, stage->scratch);
    }
    sum_add(program, sum, count, parts, changed_data(job, stage, sum->output, piece));
}

/* The form of a wanted value that no replay changed. */
static char *float_data(const Job *job, int value, int piece)
{
    const Tensor *constant = job->replay->program->values[value].constant;
    return constant ? constant->data : kept_data(job, value, piece);
}

static void compare_outputs(const Job *job, const Stage *stage, int layer, int piece)
{
    const Program *program = job->replay->program;
    int64_t first = (job->first + piece) * program->piece, left = program->samples - first;
    for (int i = 0; i < program->wanted_count; i++) {
        int value = program->wanted_index[i];
        Replayed shown = {.layer = layer, .output = i, .sample = first, .samples = left < program->piece ? left : program->piece};
        Shape shape = program_whole_shape(program, &program->values[value], shown.samples);
        Tensor floating, replayed;
        frame_header(&floating, program->values[value].dtype, &shape);
        floating.data = float_data(job, value, piece);
        replayed = floating;
        if (stage->changed[value]) replayed.data = changed_data(job, stage, value, piece);
        shown.floating = &floating;
        shown.replayed = &replayed;
        job->compare(job->context, &shown);
    }
}

static bool replay_pieces(Job *job, Stage *stage, int layer, int piece, int count)
{
    const Program *program = job->replay->program;
    int first = job->replay->layer_steps[layer];
    stage->first_piece = piece;
    memset(stage->changed, 0, (size_t)program->value_count);
    for (int i = first < 0 ? program->step_count : first; i < program->step_count; i++) {
        const ProgramStep *step = i == first ? &job->replay->simulated[layer] : &program->steps[i];
        if (i > first && !reached(job->replay, i, stage->changed)) continue;
        if (cancel_requested()) atomic_store(&job->stopped, true);
        if (atomic_load_explicit(&job->stopped, memory_order_relaxed)) return false;
        if (i > first && job->replay->sums.of_step[i])
            run_sum(job, stage, job->replay->sums.of_step[i], piece, count);
        else
            run_step(job, stage, step, piece, count);
        mark_outputs(step, stage->changed);
    }
    for (int i = 0; i < count; i++)
        compare_outputs(job, stage, layer, piece + i);
    return true;
}

static void replay_tasks(void *context, int64_t begin, int64_t end, int thread)
{
    Job *job = context;
    Replay *replay = job->replay;
    Stage *stage = &replay->stages[thread];
    int parts = (job->count + replay->together - 1) / replay->together;
    for (int64_t task = begin; task < end; task++) {
        int piece = (int)(task % parts) * replay->together, left = job->count - piece;
        if (!replay_pieces(job, stage, (int)(task / parts), piece, left < replay->together ? left : replay->together)) return;
    }
}

static bool run_group(Job *job, Error *error)
{
    Replay *replay = job->replay;
    int threads = replay->stage_count;
    int shared = threads > 1 ? job->count - job->count % threads : 0; /* the rest piece by piece, all threads within a step */
    if (shared) threads_for(shared, 1, walk_pieces, job);
    walk_pieces(job, shared, job->count, 0);
    int64_t tasks = (int64_t)replay->layer_count * ((job->count + replay->together - 1) / replay->together);
    if (threads > 1 && tasks >= threads)
        threads_for(tasks, 1, replay_tasks, job);
    else
        replay_tasks(job, 0, tasks, 0);
    return !atomic_load(&job->stopped) || cancel_check(error);
}

bool replay_run(Replay *replay, Tensor *const *inputs, void (*compare)(void *context, const Replayed *replayed), void *context,
                Error *error)
{
    const Program *program = replay->program;
    Tensor **ready = memory_new_array((size_t)program->given_count + 1, sizeof *ready);
    if (!ready) return fail_memory(error, sizeof *ready);
    bool done = make_stages(replay, error);
    for (int i = 0; i < program->given_count && done; i++)
        done = (ready[i] = program_take_input(program, i, inputs[i], error)) != NULL;
    for (int first = 0; first < program->pieces && done; first += replay->group) {
        int left = program->pieces - first;
        Job job = {.replay = replay,
                   .inputs = ready,
                   .first = first,
                   .count = left < replay->group ? left : replay->group,
                   .compare = compare,
                   .context = context};
        done = run_group(&job, error);
    }
    for (int i = 0; i < program->given_count; i++)
        tensor_release(ready[i]);
    memory_free(ready);
    return done;
}
