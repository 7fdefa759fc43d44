/* The walk of a replay: a group of pieces in float, then one layer after the other simulated and what lies behind it again. */
#include <stdatomic.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"
#include "exec/replay_state.h"

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
        if (i > first && !replay_reaches(job->replay, i, stage->changed)) continue;
        if (cancel_requested()) atomic_store(&job->stopped, true);
        if (atomic_load_explicit(&job->stopped, memory_order_relaxed)) return false;
        if (i > first && job->replay->sums.of_step[i])
            run_sum(job, stage, job->replay->sums.of_step[i], piece, count);
        else
            run_step(job, stage, step, piece, count);
        replay_mark_outputs(step, stage->changed);
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
    bool done = replay_make_stages(replay, error);
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
