#include "exec/frame.h"

#include <string.h>

#include "base/memory.h"

void frame_header(Tensor *tensor, Dtype dtype, const Shape *shape)
{
    int64_t stride = 1;
    *tensor = (Tensor){.references = 1, .dtype = dtype, .shape = *shape};
    for (int i = shape->rank - 1; i >= 0; i--) {
        tensor->strides[i] = stride;
        stride *= shape->dims[i];
    }
}

static int count_ends(const Program *program)
{
    int count = 0;
    for (int i = 0; i < program->step_count; i++)
        count += program->steps[i].node->input_count + program->steps[i].node->output_count;
    return count;
}

/* Everything but the arena's own addresses. */
static void point(Frame *frame)
{
    const Program *program = frame->program;
    int start = 0;
    for (int i = 0; i < program->value_count; i++)
        if (program->values[i].shape.rank >= 0) frame_header(&frame->tensors[i], program->values[i].dtype, &program->values[i].shape);
    for (int i = 0; i < program->step_count; i++) {
        const ProgramStep *step = &program->steps[i];
        frame->copy_start[i] = start;
        for (int k = 0; k < step->node->input_count + step->node->output_count; k++, start++) {
            const ProgramEnd *end = k < step->node->input_count ? &step->inputs[k] : &step->outputs[k - step->node->input_count];
            frame->pointers[start] = NULL;
            if (end->value < 0) continue;
            frame_header(&frame->copies[start], program->values[end->value].dtype, &program->values[end->value].shape);
            frame->pointers[start] = &frame->tensors[end->value];
        }
    }
}

bool frame_refresh(Frame *frame, char *arena, Error *error)
{
    const Program *program = frame->program;
    if (frame->owns_arena) memory_free(frame->arena);
    memory_free(frame->scratch);
    frame->owns_arena = !arena;
    frame->scratch = NULL;
    frame->arena = arena ? arena : memory_new_aligned(program->arena_bytes + 64);
    if (!frame->arena) return fail_memory(error, program->arena_bytes);
    if (program->scratch_bytes && !(frame->scratch = memory_new_aligned(program->scratch_bytes)))
        return fail_memory(error, program->scratch_bytes);
    for (int i = 0; i < program->value_count; i++) {
        const ProgramValue *value = &program->values[i];
        if (value->constant)
            frame->bases[i] = value->constant->data;
        else if (!value->outside && value->first >= 0)
            frame->bases[i] = frame->arena + value->offset;
    }
    return true;
}

bool frame_new(Frame *frame, const Program *program, char *arena, Error *error)
{
    size_t values = (size_t)program->value_count + 1, ends = (size_t)count_ends(program) + 1;
    *frame = (Frame){.program = program};
    frame->tensors = memory_new_array(values, sizeof *frame->tensors);
    frame->bases = memory_new_array(values, sizeof *frame->bases);
    frame->copies = memory_new_array(ends, sizeof *frame->copies);
    frame->pointers = memory_new_array(ends, sizeof *frame->pointers);
    frame->copy_start = memory_new_array((size_t)program->step_count + 1, sizeof *frame->copy_start);
    if (!frame->tensors || !frame->bases || !frame->copies || !frame->pointers || !frame->copy_start)
        return fail_memory(error, ends * sizeof *frame->copies);
    point(frame);
    return frame_refresh(frame, arena, error);
}

void frame_free(Frame *frame)
{
    if (frame->owns_arena) memory_free(frame->arena);
    memory_free(frame->scratch);
    memory_free(frame->tensors);
    memory_free(frame->bases);
    memory_free(frame->copies);
    memory_free(frame->pointers);
    memory_free(frame->copy_start);
    *frame = (Frame){0};
}

/* Pieces lie one behind the other: in the arena where it holds them all, and in what comes from outside. */
size_t frame_distance(const Program *program, const ProgramValue *value)
{
    return value->batched && (value->outside || program->arena_pieces > 1) ? value->bytes : 0;
}

void frame_bind(Frame *frame, int value, int piece)
{
    char *base = frame->bases[value];
    if (base) frame->tensors[value].data = base + (size_t)piece * frame_distance(frame->program, &frame->program->values[value]);
}

void frame_bind_all(Frame *frame, int piece)
{
    for (int i = 0; i < frame->program->value_count; i++)
        frame_bind(frame, i, piece);
}

static void bind_copy(Frame *frame, const ProgramEnd *end, int at, int piece)
{
    const ProgramValue *value = &frame->program->values[end->value];
    size_t apart = value->batched && frame->program->arena_pieces > 1 ? value->bytes : 0;
    frame->copies[at].data = frame->arena + end->offset + (size_t)piece * apart;
}

void frame_run(Frame *frame, const ProgramStep *step, int index, int piece)
{
    const Node *node = step->node;
    int start = frame->copy_start[index];
    Tensor **inputs = frame->pointers + start, **outputs = inputs + node->input_count;
    for (int i = 0; i < node->input_count; i++) {
        const ProgramEnd *end = &step->inputs[i];
        if (end->value < 0) continue;
        inputs[i] = step->constants[i] ? step->constants[i] : &frame->tensors[end->value];
        if (!end->copies) continue;
        bind_copy(frame, end, start + i, piece);
        inputs[i] = &frame->copies[start + i];
        const Tensor *raw = &frame->tensors[end->value];
        quantization_apply(&end->quantization, &raw->shape, tensor_floats(raw), tensor_floats(inputs[i]));
    }
    Run run = {.node = node, .inputs = inputs, .outputs = outputs, .state = step->prepare.state, .scratch = frame->scratch};
    node->op->run(&run);
    for (int i = 0; i < node->output_count; i++) {
        const ProgramEnd *end = &step->outputs[i];
        if (end->value < 0 || !end->quantization.on) continue;
        Tensor *output = outputs[i];
        if (end->copies) {
            bind_copy(frame, end, start + node->input_count + i, piece);
            memcpy(frame->copies[start + node->input_count + i].data, output->data, tensor_bytes(output));
        }
        quantization_apply(&end->quantization, &output->shape, tensor_floats(output), tensor_floats(output));
    }
}
