#include "exec/plan.h"

#include <stdatomic.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/threads.h"
#include "exec/frame.h"

struct Plan {
    Program *program;
    Frame *frames;              /* one a thread that runs pieces */
    int frame_count;
    char *arena;                /* of a watched plan: all frames work in it */
    Tensor **inputs;            /* of the run at hand, one a given value: contiguous, of the right type, padded to whole pieces */
    Tensor **outputs;           /* of the run at hand, one a wanted value */
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
    free_frames(plan);          /* places may have moved; the next run makes them again */
    return program_refresh(plan->program, error);
}

/* Frames for so many threads. */
static bool make_frames(Plan *plan, int count, Error *error)
{
    const Program *program = plan->program;
    if (plan->frame_count >= count) return true;
    if (program->options.watcher && !plan->arena && !(plan->arena = memory_new_aligned(program->arena_bytes + 64)))
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

static Shape whole_shape(const Program *program, const ProgramValue *value, int64_t samples)
{
    Shape shape = value->shape;
    if (!value->batched || program->pieces == 1) return shape;
    if (shape.rank == 0) {
        shape.rank = 1;
        shape.dims[0] = program->pieces;
    } else if (shape.dims[0] % program->piece == 0) {
        shape.dims[0] = shape.dims[0] / program->piece * samples;
    } else {
        shape.dims[0] *= program->pieces;     /* its first axis does not count samples: all pieces are shown */
    }
    return shape;
}

/* The last piece may be short: its last sample is repeated, and what comes of it is never shown. */
static Tensor *pad_samples(const Program *program, const ProgramValue *value, Tensor *input, Error *error)
{
    Shape shape = input->shape;
    shape.dims[0] = program->piece * program->pieces;
    Tensor *padded = tensor_new(input->dtype, &shape, error);
    if (!padded) return NULL;
    size_t row = value->bytes / (size_t)program->piece, rows = (size_t)program->samples;
    memcpy(padded->data, input->data, row * rows);
    for (size_t i = rows; i < (size_t)shape.dims[0]; i++)
        memcpy(padded->data + i * row, input->data + (rows - 1) * row, row);
    return padded;
}

static bool take_input(Plan *plan, int index, Tensor *input, Error *error)
{
    const Program *program = plan->program;
    const ProgramValue *value = &program->values[program_value(program, program->given[index])];
    Shape shape = whole_shape(program, value, program->samples);
    char is[160], must[160];
    if (!input) return fail(error, value->value->name, "give it a value", "input %s is missing", value->value->name);
    if (!shape_equal(&input->shape, &shape))
        return fail(error, value->value->name, "the plan was made for another shape", "input %s has shape %s, expected %s", value->value->name,
                    shape_text(&input->shape, is), shape_text(&shape, must));
    Tensor *converted = tensor_convert(input, value->dtype, error);
    if (!converted) return false;
    Tensor *ready = tensor_contiguous(converted, error);
    tensor_release(converted);
    if (ready && value->batched && program->samples % program->piece) {
        Tensor *padded = pad_samples(program, value, ready, error);
        tensor_release(ready);
        ready = padded;
    }
    plan->inputs[index] = ready;
    return ready != NULL;
}

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
        if (value->given >= 0) plan->outputs[i] = tensor_retain(plan->inputs[value->given]);
        else if (value->constant) plan->outputs[i] = tensor_retain(value->constant);
        else {
            Shape shape = whole_shape(program, value, program->piece * program->pieces);
            if (!(plan->outputs[i] = tensor_new(value->dtype, &shape, error))) return false;
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
        Shape shape = whole_shape(program, value, program->samples);
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

/* ---- piece by piece ---- */

typedef struct Walk {
    Plan *plan;
    int step;                   /* breadth: the step at hand */
    atomic_bool stopped;
    atomic_int ran;             /* a frame that ran a piece */
} Walk;

static void run_pieces(void *context, int64_t begin, int64_t end, int thread)
{
    Walk *walk = context;
    Frame *frame = &walk->plan->frames[thread];
    const Program *program = walk->plan->program;
    atomic_store(&walk->ran, thread);
    for (int64_t piece = begin; piece < end; piece++) {
        frame_bind_all(frame, (int)piece);
        for (int i = 0; i < program->step_count; i++) {
            if (cancel_requested()) {
                atomic_store(&walk->stopped, true);
                return;
            }
            frame_run(frame, &program->steps[i], i, (int)piece);
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

/* Show one end to the watcher. */
static bool show(const Plan *plan, const ProgramStep *step, bool is_output, int index, const Tensor *raw, const Tensor *seen, Error *error)
{
    const Watcher *watcher = plan->program->options.watcher;
    Node *node = step->node;
    Watched watched = {.node = node, .is_output = is_output, .index = index, .raw = raw, .seen = seen};
    if (node->quantized) watched.slot = is_output ? node->output_slots[index] : node->input_slots[index];
    return watcher->watch(watcher->context, &watched, error);
}

/* The whole batch of an end: all pieces lie one behind the other. */
static Tensor whole(const Program *program, const ProgramEnd *end, char *data)
{
    const ProgramValue *value = &program->values[end->value];
    Tensor tensor = {.references = 1, .dtype = value->dtype, .shape = whole_shape(program, value, program->samples), .data = data};
    int64_t stride = 1;
    for (int i = tensor.shape.rank - 1; i >= 0; i--) {
        tensor.strides[i] = stride;
        stride *= tensor.shape.dims[i];
    }
    return tensor;
}

static bool show_step(const Plan *plan, const ProgramStep *step, Error *error)
{
    const Program *program = plan->program;
    const Node *node = step->node;
    char *const *bases = plan->frames[0].bases;
    for (int i = 0; i < node->input_count; i++) {
        const ProgramEnd *end = &step->inputs[i];
        if (!end->watched) continue;
        Tensor raw = whole(program, end, bases[end->value]), seen = raw;
        if (step->constants[i]) seen.data = step->constants[i]->data;
        else if (end->copies) seen.data = plan->arena + end->offset;
        if (!show(plan, step, false, i, &raw, &seen, error)) return false;
    }
    for (int i = 0; i < node->output_count; i++) {
        const ProgramEnd *end = &step->outputs[i];
        if (!end->watched) continue;
        Tensor seen = whole(program, end, bases[end->value]), raw = seen;
        if (end->copies) raw.data = plan->arena + end->offset;
        if (!show(plan, step, true, i, &raw, &seen, error)) return false;
    }
    return true;
}

static bool walk_nodes(Plan *plan, Walk *walk, int workers, Error *error)
{
    const Program *program = plan->program;
    for (int i = 0; i < program->step_count; i++) {
        const ProgramStep *step = &program->steps[i];
        if (!cancel_check(error)) return false;
        walk->step = i;
        int pieces = step->batched ? program->pieces : 1;
        if (workers > 1 && pieces > 1) threads_for(pieces, 1, run_step_pieces, walk);
        else
            for (int piece = 0; piece < pieces; piece++)
                run_step_pieces(walk, piece, piece + 1, 0);
        if (!show_step(plan, step, error)) return false;
    }
    return true;
}

static bool walk_samples(Plan *plan, Walk *walk, int workers, Error *error)
{
    int pieces = plan->program->pieces;
    if (workers > 1) threads_for(pieces, 1, run_pieces, walk);
    else
        for (int piece = 0; piece < pieces; piece++)
            run_pieces(walk, piece, piece + 1, 0);
    return !atomic_load(&walk->stopped) || cancel_check(error);
}

static bool run(Plan *plan, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    const Program *program = plan->program;
    int threads = threads_count(), workers = program->pieces >= 2 * threads && !program->one_thread ? threads : 1;
    Walk walk = {.plan = plan};
    for (int i = 0; i < program->given_count; i++)
        if (!take_input(plan, i, inputs[i], error)) return false;
    if (!make_outputs(plan, error) || !make_frames(plan, workers, error)) return false;
    for (int i = 0; i < plan->frame_count; i++)
        bind_outside(plan, &plan->frames[i]);
    bool watched = program->options.watcher != NULL;
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
