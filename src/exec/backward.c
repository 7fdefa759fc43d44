#include "exec/backward.h"

#include <string.h>

#include "base/memory.h"
#include "exec/backward_walk.h"
#include "exec/frame.h"

/* ---- what is trained ---- */

/* Does the operator give a gradient for this input? */
static bool gains(const Node *node, int index)
{
    return node->op->gradient && !(index < 32 && node->op->gradient_fixed >> index & 1);
}

bool backward_can_train(const Node *node, int index)
{
    const Value *value = index < node->input_count ? node->inputs[index] : NULL;
    return node->op && gains(node, index) && value && value->constant && value->constant->dtype == DTYPE_FLOAT32;
}

static int parameter_at(const BackwardOptions *options, const Node *node, int index)
{
    for (int i = 0; i < options->parameter_count; i++)
        if (options->parameters[i].node == node && options->parameters[i].index == index) return i;
    return -1;
}

static int scale_at(const BackwardOptions *options, const Node *node, bool is_output, int index)
{
    for (int i = 0; i < options->scale_count; i++) {
        const Slot *slot = options->scales[i].slot;
        if (slot->node == node && slot->is_output == is_output && slot->index == index) return i;
    }
    return -1;
}

static bool changes(void *context, const Node *node, int input)
{
    return parameter_at(context, node, input) >= 0;
}

/* ---- making ---- */

static Place take(Backward *walk, size_t bytes, size_t pieces)
{
    Place place = {.offset = walk->bytes, .apart = pieces > 1 ? bytes : 0, .used = true};
    walk->bytes += (bytes * pieces + 63) / 64 * 64;
    return place;
}

static size_t pieces_of(const Backward *walk, const ProgramValue *value)
{
    return value->batched ? (size_t)walk->program->pieces : 1;
}

static bool make_step(Backward *walk, WalkStep *step, ProgramStep *program, Error *error)
{
    const Node *node = program->node;
    size_t inputs = (size_t)node->input_count + 1, outputs = (size_t)node->output_count + 1;
    step->program = program;
    step->inputs = memory_new_array(inputs, sizeof *step->inputs);
    step->outputs = memory_new_array(outputs, sizeof *step->outputs);
    step->seen_inputs = memory_new_array(2 * (inputs + outputs), sizeof(Tensor *));
    if (!step->inputs || !step->outputs || !step->seen_inputs) return fail_memory(error, (inputs + outputs) * sizeof *step->inputs);
    step->input_gradients = step->seen_inputs + inputs;
    step->left_outputs = step->input_gradients + inputs;
    step->output_gradients = step->left_outputs + outputs;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        bool is_output = i >= node->input_count;
        int index = is_output ? i - node->input_count : i;
        const ProgramEnd *from = is_output ? &program->outputs[index] : &program->inputs[index];
        WalkEnd *end = is_output ? &step->outputs[index] : &step->inputs[index];
        end->parameter = is_output ? -1 : parameter_at(&walk->options, node, index);
        if (end->parameter >= 0) walk->parameters[end->parameter].step = step;
        end->scale = scale_at(&walk->options, node, is_output, index);
        if (from->value < 0) continue;
        const ProgramValue *value = &walk->program->values[from->value];
        frame_header(&end->seen, value->dtype, &value->shape);
        frame_header(&end->gradient, value->dtype, &value->shape);
    }
    step->in_blocks = blocks_fit(walk, step);
    return true;
}

/* Which gradients are needed, in the order of execution; an operator without one on the way is an error. */
static bool find_needs(Backward *walk, WalkStep *step, Error *error)
{
    const ProgramStep *program = step->program;
    const Node *node = program->node;
    bool any = false;
    for (int i = 0; i < node->input_count; i++) {
        WalkEnd *end = &step->inputs[i];
        int value = program->inputs[i].value;
        if (value < 0 || walk->program->values[value].dtype != DTYPE_FLOAT32) continue;
        if (node->op->gradient && !gains(node, i)) continue;
        end->wants = end->parameter >= 0 || end->scale >= 0 || walk->values[value].needs;
        any = any || end->wants;
    }
    size_t scratch = any && node->op->gradient && node->op->gradient_scratch ? node->op->gradient_scratch(&program->prepare) : 0;
    bool passes = node->op->gradient && scratch != SIZE_MAX;
    step->back = any && passes;
    for (int i = 0; i < node->output_count; i++) {
        int value = program->outputs[i].value;
        if (value < 0 || walk->program->values[value].dtype != DTYPE_FLOAT32) continue;
        if (any && !passes) {
            char where[256];
            return fail(error, node_where(node, where), "leave this layer's block out (interested_layers), or train behind it",
                        "no gradient goes back through operator %s%s", node->type, scratch == SIZE_MAX ? " with these attributes" : "");
        }
        walk->values[value].needs = any || step->outputs[i].scale >= 0;
        step->back = step->back || step->outputs[i].scale >= 0;
    }
    if (passes && scratch > walk->scratch.apart) walk->scratch.apart = scratch;
    return true;
}

/* ---- places of gradients: a value's lives from its last reader to its producer ---- */

typedef struct Room {
    size_t bytes, offset;
    bool taken;
} Room;

typedef struct Rooms {
    Room *items;
    int count;
} Rooms;

/* The smallest free room that is large enough, or the largest free one made larger, or a new one. */
static int rooms_take(Rooms *rooms, size_t bytes)
{
    int best = -1;
    for (int i = 0; i < rooms->count; i++) {
        const Room *room = &rooms->items[i];
        if (room->taken) continue;
        if (best < 0) {
            best = i;
            continue;
        }
        bool fits = room->bytes >= bytes, best_fits = rooms->items[best].bytes >= bytes;
        if (fits ? !best_fits || room->bytes < rooms->items[best].bytes : !best_fits && room->bytes > rooms->items[best].bytes) best = i;
    }
    if (best < 0) best = rooms->count++;
    Room *room = &rooms->items[best];
    if (room->bytes < bytes) room->bytes = bytes;
    room->taken = true;
    return best;
}

static void enter_room(Backward *walk, Rooms *rooms, int value)
{
    if (walk->values[value].needs && walk->values[value].room < 0)
        walk->values[value].room = rooms_take(rooms, walk->program->values[value].bytes);
}

static bool place_gradients(Backward *walk, Error *error)
{
    const Program *program = walk->program;
    Rooms rooms = {memory_new_array((size_t)program->value_count + 1, sizeof(Room)), 0};
    if (!rooms.items) return fail_memory(error, (size_t)program->value_count * sizeof(Room));
    for (int i = 0; i < program->value_count; i++)
        walk->values[i].room = -1;
    for (int i = 0; i < program->wanted_count; i++)
        enter_room(walk, &rooms, program->wanted_index[i]);
    for (int i = program->step_count - 1; i >= 0; i--) {
        const WalkStep *step = &walk->steps[i];
        const Node *node = step->program->node;
        for (int k = 0; k < node->input_count; k++)
            if (step->inputs[k].wants && step->inputs[k].parameter < 0) enter_room(walk, &rooms, step->program->inputs[k].value);
        for (int k = 0; k < node->output_count; k++) {
            int value = step->program->outputs[k].value;
            if (value >= 0 && walk->values[value].room >= 0) rooms.items[walk->values[value].room].taken = false;
        }
    }
    for (int i = 0; i < rooms.count; i++)
        rooms.items[i].offset = take(walk, rooms.items[i].bytes, 1).offset;
    for (int i = 0; i < program->value_count; i++)
        if (walk->values[i].room >= 0) walk->values[i].gradient = (Place){.offset = rooms.items[walk->values[i].room].offset, .used = true};
    memory_free(rooms.items);
    return true;
}

/* Everything else: values, copies, parameters, scratch. */
static void place_numbers(Backward *walk)
{
    const Program *program = walk->program;
    size_t spare = 0, scratch = walk->scratch.apart > program->scratch_bytes ? walk->scratch.apart : program->scratch_bytes;
    for (int s = 0; s < program->step_count; s++) {
        WalkStep *step = &walk->steps[s];
        const Node *node = step->program->node;
        size_t beside = 0;
        for (int i = 0; i < node->input_count + node->output_count; i++) {
            bool is_output = i >= node->input_count;
            int index = is_output ? i - node->input_count : i;
            const ProgramEnd *end = is_output ? &step->program->outputs[index] : &step->program->inputs[index];
            WalkEnd *own = is_output ? &step->outputs[index] : &step->inputs[index];
            if (end->value < 0) continue;
            const ProgramValue *value = &program->values[end->value];
            if (is_output) walk->values[end->value].place = take(walk, value->bytes, pieces_of(walk, value));
            if (end->quantization.on && own->parameter < 0 && (is_output ? !step->in_blocks : !step->program->constants[index]))
                own->copy = take(walk, value->bytes, pieces_of(walk, value));
            if (is_output || !own->wants) continue;
            own->spare = beside;
            beside += (value->bytes + 63) / 64 * 64;
        }
        if (beside > spare) spare = beside;
    }
    for (int i = 0; i < walk->options.parameter_count; i++) {
        size_t bytes = (size_t)walk->options.parameters[i].count * sizeof(float);
        WalkParameter *own = &walk->parameters[i];
        own->values = take(walk, bytes, 1);
        own->seen = take(walk, bytes, 1);
        own->gradient = take(walk, bytes, 1);
    }
    for (int i = 0; walk->options.input_gradients && i < program->given_count; i++) {
        const ProgramValue *value = &program->values[program_value(program, program->given[i])];
        walk->input_places[i] = take(walk, value->bytes, (size_t)program->pieces);
    }
    walk->scratch = take(walk, scratch, 1);
    walk->spare = take(walk, spare, 1);
}

static void settle(const Backward *walk, Place *place)
{
    if (place->used) place->base = walk->memory + place->offset;
}

static bool make_memory(Backward *walk, Error *error)
{
    const Program *program = walk->program;
    if (!(walk->memory = memory_new_aligned(walk->bytes + 64))) return fail_memory(error, walk->bytes);
    settle(walk, &walk->scratch);
    settle(walk, &walk->spare);
    for (int i = 0; i < program->value_count; i++) {
        settle(walk, &walk->values[i].place);
        settle(walk, &walk->values[i].gradient);
        if (program->values[i].constant) walk->values[i].place = (Place){.base = program->values[i].constant->data, .used = true};
    }
    for (int s = 0; s < program->step_count; s++) {
        const WalkStep *step = &walk->steps[s];
        for (int i = 0; i < step->program->node->input_count; i++)
            settle(walk, &step->inputs[i].copy);
        for (int i = 0; i < step->program->node->output_count; i++)
            settle(walk, &step->outputs[i].copy);
    }
    for (int i = 0; i < program->given_count; i++)
        settle(walk, &walk->input_places[i]);
    for (int i = 0; i < walk->options.parameter_count; i++) {
        BackwardParameter *parameter = &walk->options.parameters[i];
        WalkParameter *own = &walk->parameters[i];
        settle(walk, &own->values);
        settle(walk, &own->seen);
        settle(walk, &own->gradient);
        parameter->values = (float *)(void *)own->values.base;
        parameter->gradient = (float *)(void *)own->gradient.base;
        parameter->replacement = NULL;
        memcpy(parameter->values, parameter->node->inputs[parameter->index]->constant->data, (size_t)parameter->count * sizeof(float));
        memset(parameter->gradient, 0, (size_t)parameter->count * sizeof(float));
    }
    return true;
}

/* Headers of what the caller is shown: all pieces joined. */
static void make_headers(Backward *walk)
{
    const Program *program = walk->program;
    for (int i = 0; i < program->wanted_count; i++) {
        const ProgramValue *value = &program->values[program->wanted_index[i]];
        Shape shape = program_whole_shape(program, value, program->samples);
        frame_header(&walk->outputs[i], value->dtype, &shape);
    }
    for (int i = 0; i < program->given_count; i++) {
        const ProgramValue *value = &program->values[program_value(program, program->given[i])];
        Shape shape = program_whole_shape(program, value, program->samples);
        frame_header(&walk->input_gradients[i], value->dtype, &shape);
        walk->input_gradients[i].data = walk->input_places[i].base;
    }
}

/* ---- parameters and scales ---- */

static bool take_parameters(Backward *walk, Error *error)
{
    for (int i = 0; i < walk->options.parameter_count; i++) {
        BackwardParameter *parameter = &walk->options.parameters[i];
        char where[256];
        if (!backward_can_train(parameter->node, parameter->index))
            return fail_as(error, ERROR_INTERNAL, node_where(parameter->node, where), NULL, "input %d cannot be trained", parameter->index);
        parameter->shape = parameter->node->inputs[parameter->index]->constant->shape;
        parameter->count = shape_count(&parameter->shape);
    }
    return true;
}

static bool take_scales(Backward *walk, Error *error)
{
    int64_t most = 1;
    for (int i = 0; i < walk->program->value_count; i++) {
        const Shape *shape = &walk->program->values[i].shape;
        for (int k = 0; k < shape->rank; k++)
            if (shape->dims[k] > most) most = shape->dims[k];
    }
    for (int i = 0; i < walk->options.scale_count; i++) {
        BackwardScale *scale = &walk->options.scales[i];
        char where[256];
        if (!slot_quantizes(scale->slot))
            return fail_as(error, ERROR_INTERNAL, node_where(scale->slot->node, where), NULL, "a trained scale does not quantize");
        if (scale->slot->is_parameter && parameter_at(&walk->options, scale->slot->node, scale->slot->index) < 0)
            return fail_as(error, ERROR_INTERNAL, node_where(scale->slot->node, where), NULL,
                           "the scale of a constant is trained without it");
        scale->count = slot_exponent_count(scale->slot);
        scale->log2 = memory_new_array((size_t)scale->count * 2, sizeof(float));
        if (!scale->log2) return fail_memory(error, (size_t)scale->count * sizeof(float));
        walk->scale_memory[i] = scale->log2;
        scale->gradient = scale->log2 + scale->count;
        scale->whole = true;
        for (int k = 0; k < scale->count; k++)
            scale->log2[k] = (float)slot_exponent(scale->slot, k);
        if (scale->count > most) most = scale->count;
    }
    walk->sums = memory_new_array((size_t)most, sizeof *walk->sums);
    walk->channel_scales = memory_new_array((size_t)most, sizeof *walk->channel_scales);
    return (walk->sums && walk->channel_scales) || fail_memory(error, (size_t)most * sizeof *walk->sums);
}

/* ---- life ---- */

static bool make_arrays(Backward *walk, Error *error)
{
    const Program *program = walk->program;
    size_t values = (size_t)program->value_count + 1, given = (size_t)program->given_count + 1;
    walk->steps = memory_new_array((size_t)program->step_count + 1, sizeof *walk->steps);
    walk->values = memory_new_array(values, sizeof *walk->values);
    walk->parameters = memory_new_array((size_t)walk->options.parameter_count + 1, sizeof *walk->parameters);
    walk->scale_memory = memory_new_array((size_t)walk->options.scale_count + 1, sizeof *walk->scale_memory);
    walk->inputs = memory_new_array(given, sizeof *walk->inputs);
    walk->input_gradients = memory_new_array(given, sizeof *walk->input_gradients);
    walk->input_places = memory_new_array(given, sizeof *walk->input_places);
    walk->outputs = memory_new_array((size_t)program->wanted_count + 1, sizeof *walk->outputs);
    if (!walk->steps || !walk->values || !walk->parameters || !walk->scale_memory || !walk->inputs || !walk->input_gradients ||
        !walk->input_places || !walk->outputs)
        return fail_memory(error, values * sizeof *walk->values);
    return true;
}

static bool build(Backward *walk, Graph *graph, const Shape *shapes, Error *error)
{
    const BackwardOptions *options = &walk->options;
    PlanOptions plan = {.mode = options->floating ? EXEC_FLOAT : EXEC_SIMULATED,
                        .exact = options->exact,
                        .wanted = options->wanted,
                        .wanted_count = options->wanted_count,
                        .given = options->given,
                        .given_count = options->given_count,
                        .changes = changes,
                        .changes_context = &walk->options,
                        .whole_batch = true};
    if (!take_parameters(walk, error) || !(walk->program = program_new(graph, &plan, shapes, error))) return false;
    if (!make_arrays(walk, error) || !take_scales(walk, error)) return false;
    const Program *program = walk->program;
    for (int i = 0; options->input_gradients && i < program->given_count; i++) {
        int value = program_value(program, program->given[i]);
        walk->values[value].needs = program->values[value].dtype == DTYPE_FLOAT32;
    }
    for (int i = 0; i < program->step_count; i++)
        if (!make_step(walk, &walk->steps[i], &program->steps[i], error) || !find_needs(walk, &walk->steps[i], error)) return false;
    place_numbers(walk);
    if (!place_gradients(walk, error) || !make_memory(walk, error)) return false;
    make_headers(walk);
    return true;
}

Backward *backward_new(Graph *graph, const BackwardOptions *options, const Shape *shapes, Error *error)
{
    Backward *walk = memory_new(sizeof *walk);
    if (!walk) {
        fail_memory(error, sizeof *walk);
        return NULL;
    }
    walk->options = *options;
    if (build(walk, graph, shapes, error)) return walk;
    backward_free(walk);
    return NULL;
}

void backward_free(Backward *walk)
{
    if (!walk) return;
    for (int i = 0; walk->program && walk->steps && i < walk->program->step_count; i++) {
        memory_free(walk->steps[i].inputs);
        memory_free(walk->steps[i].outputs);
        memory_free(walk->steps[i].seen_inputs);
    }
    for (int i = 0; walk->program && walk->inputs && i < walk->program->given_count; i++)
        tensor_release(walk->inputs[i]);
    for (int i = 0; walk->scale_memory && i < walk->options.scale_count; i++)
        memory_free(walk->scale_memory[i]);
    program_free(walk->program);
    memory_free(walk->steps);
    memory_free(walk->values);
    memory_free(walk->parameters);
    memory_free(walk->scale_memory);
    memory_free(walk->inputs);
    memory_free(walk->input_gradients);
    memory_free(walk->input_places);
    memory_free(walk->outputs);
    memory_free(walk->sums);
    memory_free(walk->channel_scales);
    memory_free(walk->memory);
    memory_free(walk);
}

bool backward_refresh(Backward *walk, Error *error)
{
    if (!program_refresh(walk->program, error)) return false;
    for (int i = 0; i < walk->program->value_count; i++)
        if (walk->program->values[i].constant) walk->values[i].place.base = walk->program->values[i].constant->data;
    return true;
}

const float *backward_seen(const Backward *walk, const BackwardParameter *parameter)
{
    if (parameter->replacement) return parameter->replacement;
    return (const float *)(const void *)walk->parameters[parameter - walk->options.parameters].seen.base;
}

const Tensor *backward_input_gradient(const Backward *walk, int index)
{
    int value = program_value(walk->program, walk->program->given[index]);
    return walk->options.input_gradients && walk->values[value].needs ? &walk->input_gradients[index] : NULL;
}

size_t backward_bytes(const Backward *walk)
{
    return walk->bytes;
}
