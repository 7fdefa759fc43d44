#include "exec/plan.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"
#include "exec/frame.h"

struct Plan {
    Program *program;
    Frame *frames; /* one a thread that runs pieces */
    int frame_count;
    char *arena;      /* of a watched plan: all frames work in it */
    Tensor **inputs;  /* of the run at hand, one a given value: contiguous, of the right type, padded to whole pieces */
    Tensor **outputs; /* of the run at hand, one a wanted value */
};

/* ---- life ---- */

static void free_frames(Plan *plan)
{
    for (int i = 0; i < plan->frame_count; i++)
        frame_free(&plan->frames[i]);
    memory_free(plan->frames);
    memory_free(plan->arena);
    plan->frames = NULL;
    plan->arena = NULL;
    plan->frame_count = 0;
}

Plan *plan_new(Graph *graph, const PlanOptions *options, const Shape *shapes, Error *error)
{
    Plan *plan = memory_new(sizeof *plan);
    if (!plan) {
        fail_memory(error, sizeof *plan);
        return NULL;
    }
    plan->program = program_new(graph, options, shapes, error);
    if (plan->program) {
        plan->inputs = memory_new_array((size_t)plan->program->given_count + 1, sizeof *plan->inputs);
        plan->outputs = memory_new_array((size_t)plan->program->wanted_count + 1, sizeof *plan->outputs);
        if (plan->inputs && plan->outputs) return plan;
        fail_memory(error, sizeof(Tensor *));
    }
    plan_free(plan);
    return NULL;
}

void plan_free(Plan *plan)
{
    if (!plan) return;
    free_frames(plan);
    program_free(plan->program);
    memory_free(plan->inputs);
    memory_free(plan->outputs);
    memory_free(plan);
}

bool plan_refresh(Plan *plan, Error *error)
{
    free_frames(plan); /* places may have moved; the next run makes them again */
    return program_refresh(plan->program, error);
}

/* Frames for so many threads. */
static bool make_frames(Plan *plan, int count, Error *error)
{
    const Program *program = plan->program;
    if (plan->frame_count >= count) return true;
    bool shared = program->options.watcher && !program->options.watcher->by_piece;
    if (shared && !plan->arena && !(plan->arena = memory_new_aligned(program->arena_bytes + 64)))
        return fail_memory(error, program->arena_bytes);
    Frame *frames = memory_resize(plan->frames, (size_t)count * sizeof *frames);
    if (!frames) return fail_memory(error, (size_t)count * sizeof *frames);
    plan->frames = frames;
    while (plan->frame_count < count) {
        if (!frame_new(&frames[plan->frame_count], program, plan->arena, error)) {
            frame_free(&frames[plan->frame_count]);
            return false;
        }
        plan->frame_count++;
    }
    return true;
}

/* ---- inputs and outputs ---- */

static bool make_outputs(Plan *plan, Error *error)
{
    const Program *program = plan->program;
    for (int i = 0; i < program->wanted_count; i++) {
        int index = program->wanted_index[i];
        const ProgramValue *value = &program->values[index];
        bool repeated = false;
        for (int k = 0; k < i && !repeated; k++)
            if ((repeated = program->wanted_index[k] == index)) plan->outputs[i] = tensor_retain(plan->outputs[k]);
        if (repeated) continue;
        if (value->given >= 0)
            plan->outputs[i] = tensor_retain(plan->inputs[value->given]);
        else if (value->constant)
            plan->outputs[i] = tensor_retain(value->constant);
        else {
            Shape shape = program_whole_shape(program, value, program->piece * program->pieces);
            if (!(plan->outputs[i] = tensor_new_unset(value->dtype, &shape, error))) return false;
        }
    }
    return true;
}

static void bind_outside(const Plan *plan, Frame *frame)
{
    const Program *program = plan->program;
    for (int i = 0; i < program->given_count; i++)
        frame->bases[program_value(program, program->given[i])] = plan->inputs[i]->data;
    for (int i = 0; i < program->wanted_count; i++)
        if (program->values[program->wanted_index[i]].outside) frame->bases[program->wanted_index[i]] = plan->outputs[i]->data;
}

/* Values that do not hang on the samples were made in the frame; padding is cut off. */
static bool give_outputs(Plan *plan, const Frame *frame, Tensor **outputs, Error *error)
{
    const Program *program = plan->program;
    for (int i = 0; i < program->wanted_count; i++) {
        const ProgramValue *value = &program->values[program->wanted_index[i]];
        Shape shape = program_whole_shape(program, value, program->samples);
        if (!value->outside && !value->constant)
            memcpy(plan->outputs[i]->data, frame->tensors[program->wanted_index[i]].data, value->bytes);
        if (shape_equal(&shape, &plan->outputs[i]->shape)) {
            outputs[i] = tensor_retain(plan->outputs[i]);
            continue;
        }
        if (!(outputs[i] = tensor_from_data(value->dtype, &shape, plan->outputs[i]->data, error))) return false;
    }
    return true;
}

/* ---- watching ---- */

/* Show one end to the watcher. */
static bool show(const Program *program, const ProgramStep *step, const Watched *shown, Error *error)
{
    const Watcher *watcher = program->options.watcher;
    Watched watched = *shown;
    watched.node = step->node;
    if (step->node->quantized)
        watched.slot = shown->is_output ? step->node->output_slots[shown->index] : step->node->input_slots[shown->index];
    return watcher->watch(watcher->context, &watched, error);
}

/* An end over the samples shown. All pieces lie one behind the other. */
static Tensor shown_header(const Program *program, const ProgramEnd *end, int64_t samples, char *data)
{
    const ProgramValue *value = &program->values[end->value];
    Shape shape = program_whole_shape(program, value, samples);
    Tensor tensor;
    frame_header(&tensor, value->dtype, &shape);
    tensor.data = data;
    return tensor;
}

/* What the frame's step just read and wrote: at `piece`, or at 0 for all of it. */
static bool show_step(const Program *program, const Frame *frame, const ProgramStep *step, int piece, int64_t samples, Error *error)
{
    const Node *node = step->node;
    int64_t first = piece * program->piece;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        bool is_output = i >= node->input_count;
        int index = is_output ? i - node->input_count : i;
        const ProgramEnd *end = is_output ? &step->outputs[index] : &step->inputs[index];
        if (!end->watched) continue;
        char *data = frame->bases[end->value] + (size_t)piece * frame_distance(program, &program->values[end->value]);
        Tensor raw = shown_header(program, end, samples, data), seen = raw;
        if (is_output && end->copies)
            raw.data = frame->arena + end->offset;
        else if (!is_output && step->constants[index])
            seen.data = step->constants[index]->data;
        else if (end->copies)
            seen.data = frame->arena + end->offset;
        const Tensor *before = program->options.watcher->seen_only ? &seen : &raw;
        Watched watched = {.is_output = is_output, .index = index, .raw = before, .seen = &seen, .sample = first, .samples = samples};
        if (!show(program, step, &watched, error)) return false;
    }
    return true;
}

/* ---- piece by piece ---- */

typedef struct Walk {
    Plan *plan;
    int step; /* node by node: the step at hand */
    atomic_bool stopped;
    atomic_flag failed; /* the first failure of several threads is the one that is told */
    Error *error;
    atomic_int ran; /* a frame that ran a piece */
} Walk;

static bool show_piece(Walk *walk, Frame *frame, int index, int piece)
{
    const Program *program = walk->plan->program;
    int64_t first = piece * program->piece, left = program->samples - first;
    bool shown = show_step(program, frame, &program->steps[index], piece, left < program->piece ? left : program->piece, &frame->error);
    if (!shown && !atomic_flag_test_and_set(&walk->failed)) *walk->error = frame->error;
    if (!shown) atomic_store(&walk->stopped, true);
    return shown;
}

static void run_pieces(void *context, int64_t begin, int64_t end, int thread)
{
    Walk *walk = context;
    Frame *frame = &walk->plan->frames[thread];
    const Program *program = walk->plan->program;
    bool watched = program->options.watcher != NULL;
    atomic_store(&walk->ran, thread);
    for (int64_t piece = begin; piece < end; piece++) {
        frame_bind_all(frame, (int)piece);
        for (int i = 0; i < program->step_count; i++) {
            if (cancel_requested()) atomic_store(&walk->stopped, true);
            if (atomic_load_explicit(&walk->stopped, memory_order_relaxed)) return;
            frame_run(frame, &program->steps[i], i, (int)piece);
            if (watched && !show_piece(walk, frame, i, (int)piece)) return;
        }
    }
}

/* ---- node by node, all pieces of each: a watcher sees whole batches ---- */

static void bind_step(Frame *frame, const ProgramStep *step, int piece)
{
    for (int i = 0; i < step->node->input_count; i++)
        if (step->inputs[i].value >= 0) frame_bind(frame, step->inputs[i].value, piece);
    for (int i = 0; i < step->node->output_count; i++)
        if (step->outputs[i].value >= 0) frame_bind(frame, step->outputs[i].value, piece);
}

static void run_step_pieces(void *context, int64_t begin, int64_t end, int thread)
{
    Walk *walk = context;
    Frame *frame = &walk->plan->frames[thread];
    const ProgramStep *step = &walk->plan->program->steps[walk->step];
    for (int64_t piece = begin; piece < end; piece++) {
        bind_step(frame, step, (int)piece);
        frame_run(frame, step, walk->step, (int)piece);
    }
}

static bool walk_nodes(Plan *plan, Walk *walk, int workers, Error *error)
{
    const Program *program = plan->program;
    for (int i = 0; i < program->step_count; i++) {
        const ProgramStep *step = &program->steps[i];
        if (!cancel_check(error)) return false;
        walk->step = i;
        int pieces = step->batched ? program->pieces : 1;
        if (workers > 1 && pieces > 1)
            threads_for(pieces, 1, run_step_pieces, walk);
        else
            for (int piece = 0; piece < pieces; piece++)
                run_step_pieces(walk, piece, piece + 1, 0);
        if (!show_step(program, &plan->frames[0], step, 0, program->samples, error)) return false;
    }
    return true;
}

static bool walk_samples(Plan *plan, Walk *walk, int workers, Error *error)
{
    int pieces = plan->program->pieces;
    if (workers > 1)
        threads_for(pieces, 1, run_pieces, walk);
    else
        for (int piece = 0; piece < pieces; piece++)
            run_pieces(walk, piece, piece + 1, 0);
    if (!atomic_load(&walk->stopped)) return true;
    if (!atomic_flag_test_and_set(&walk->failed)) cancel_check(error);
    return false;
}

static bool run(Plan *plan, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    const Program *program = plan->program;
    int threads = threads_count(), workers = program->pieces >= 2 * threads && !program->one_thread ? threads : 1;
    Walk walk = {.plan = plan, .failed = ATOMIC_FLAG_INIT, .error = error};
    for (int i = 0; i < program->given_count; i++)
        if (!(plan->inputs[i] = program_take_input(program, i, inputs[i], error))) return false;
    if (!make_outputs(plan, error) || !make_frames(plan, workers, error)) return false;
    for (int i = 0; i < plan->frame_count; i++)
        bind_outside(plan, &plan->frames[i]);
    bool watched = program->options.watcher && !program->options.watcher->by_piece;
    if (!(watched ? walk_nodes : walk_samples)(plan, &walk, workers, error)) return false;
    return give_outputs(plan, &plan->frames[watched ? 0 : atomic_load(&walk.ran)], outputs, error);
}

bool plan_run(Plan *plan, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    const Program *program = plan->program;
    for (int i = 0; i < program->wanted_count; i++)
        outputs[i] = NULL;
    bool done = run(plan, inputs, outputs, error);
    for (int i = 0; i < program->given_count; i++) {
        tensor_release(plan->inputs[i]);
        plan->inputs[i] = NULL;
    }
    for (int i = 0; i < program->wanted_count; i++) {
        tensor_release(plan->outputs[i]);
        plan->outputs[i] = NULL;
        if (done) continue;
        tensor_release(outputs[i]);
        outputs[i] = NULL;
    }
    return done;
}
