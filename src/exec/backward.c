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

/* Room of a value whose samples lie one behind the other. */
static Place take_value(Backward *walk, const ProgramValue *value)
{
    Place place = take(walk, value->bytes, pieces_of(walk, value));
    if (walk->unit_program && value->batched) place.apart = value->bytes / (size_t)walk->units;
    return place;
}

static bool make_step(Backward *walk, const Program *whole, WalkStep *step, ProgramStep *program, Error *error)
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
        const ProgramValue *value = &whole->values[from->value];
        frame_header(&end->seen, value->dtype, &value->shape);
        frame_header(&end->gradient, value->dtype, &value->shape);
    }
    step->in_blocks = blocks_fit(walk, step);
    return true;
}

/* Which gradients are needed, in the order of execution; an operator without one on the way is an error. used: these steps are walked, not
 * those of the other size. */
static bool find_needs(Backward *walk, WalkStep *step, bool used, Error *error)
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
    if (used && passes && scratch > walk->scratch.apart) walk->scratch.apart = scratch;
    return true;
}

/* ---- places of gradients: a value's lives from its last reader to its producer ---- */

typedef struct Room {
    size_t bytes, offset;
    bool taken;
    int segment;  /* of the last that took it, where that goes by units; -1: none */
    bool passing; /* taken for one unit at a time */
} Room;

typedef struct Rooms {
    Room *items;
    int count;
} Rooms;

/* A segment that goes by units is walked again and again: within it only what is kept for one unit may follow on each other. */
static bool is_free(const Room *room, int segment, bool passing)
{
    return !room->taken && (segment < 0 || room->segment != segment || (passing && room->passing));
}

/* The smallest free room that is large enough, or the largest free one made larger, or a new one. */
static int rooms_take(Rooms *rooms, size_t bytes, int segment, bool passing)
{
    int best = -1;
    for (int i = 0; i < rooms->count; i++) {
        const Room *room = &rooms->items[i];
        if (!is_free(room, segment, passing)) continue;
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
    room->segment = segment;
    room->passing = passing;
    return best;
}

/* segment: that takes it, by units; -1: one of the whole batch, or none yet. */
static void enter_room(Backward *walk, Rooms *rooms, int value, int segment)
{
    WalkValue *own = &walk->values[value];
    if (!own->needs || own->room >= 0) return;
    bool passing = own->segment >= 0;
    own->room = rooms_take(rooms, walk->program->values[value].bytes / (size_t)(passing ? walk->units : 1), segment, passing);
}

/* Which values' gradients are read and written in one segment only that goes by units. */
static void find_segments_of_values(Backward *walk)
{
    const Program *program = walk->program;
    enum { UNSEEN = -2 };
    for (int i = 0; i < program->value_count; i++)
        walk->values[i].segment = UNSEEN;
    for (int i = 0; i < program->wanted_count; i++)
        walk->values[program->wanted_index[i]].segment = -1;
    for (int i = 0; i < program->given_count; i++)
        walk->values[program_value(program, program->given[i])].segment = -1;
    for (int n = 0; n < walk->segment_count; n++) {
        const WalkSegment *segment = &walk->segments[n];
        for (int i = segment->first; i < segment->end; i++) {
            const ProgramStep *step = &program->steps[i];
            for (int k = 0; k < step->node->input_count + step->node->output_count; k++) {
                int value = k < step->node->input_count ? step->inputs[k].value : step->outputs[k - step->node->input_count].value;
                if (value < 0) continue;
                int *own = &walk->values[value].segment;
                *own = !segment->by_unit || (*own != UNSEEN && *own != n) ? -1 : n;
            }
        }
    }
}

static void free_rooms_of_step(const Backward *walk, Rooms *rooms, const WalkStep *step, bool by_unit, bool passing)
{
    for (int k = 0; k < step->program->node->output_count; k++) {
        int value = step->program->outputs[k].value;
        if (value < 0 || walk->values[value].room < 0 || (by_unit && (walk->values[value].segment >= 0) != passing)) continue;
        rooms->items[walk->values[value].room].taken = false;
    }
}

static bool place_gradients(Backward *walk, Error *error)
{
    const Program *program = walk->program;
    Rooms rooms = {memory_new_array((size_t)program->value_count + 1, sizeof(Room)), 0};
    if (!rooms.items) return fail_memory(error, (size_t)program->value_count * sizeof(Room));
    for (int i = 0; i < program->value_count; i++)
        walk->values[i].room = -1;
    find_segments_of_values(walk);
    for (int i = 0; i < program->wanted_count; i++)
        enter_room(walk, &rooms, program->wanted_index[i], -1);
    for (int n = walk->segment_count - 1; n >= 0; n--) {
        const WalkSegment *segment = &walk->segments[n];
        for (int i = segment->end - 1; i >= segment->first; i--) {
            const WalkStep *step = &walk->steps[i];
            for (int k = 0; k < step->program->node->input_count; k++)
                if (step->inputs[k].wants && step->inputs[k].parameter < 0)
                    enter_room(walk, &rooms, step->program->inputs[k].value, segment->by_unit ? n : -1);
            free_rooms_of_step(walk, &rooms, step, segment->by_unit, true);
        }
        for (int i = segment->first; segment->by_unit && i < segment->end; i++) /* the next unit may still read them until here */
            free_rooms_of_step(walk, &rooms, &walk->steps[i], true, false);
    }
    for (int i = 0; i < rooms.count; i++)
        rooms.items[i].offset = take(walk, rooms.items[i].bytes, 1).offset;
    for (int i = 0; i < program->value_count; i++) {
        WalkValue *own = &walk->values[i];
        if (own->room < 0) continue;
        own->gradient = (Place){.offset = rooms.items[own->room].offset, .used = true};
        if (walk->unit_program && own->segment < 0 && program->values[i].batched)
            own->gradient.apart = program->values[i].bytes / (size_t)walk->units;
    }
    memory_free(rooms.items);
    return true;
}

/* Where the gradients of a step's inputs stand beside others; returns the bytes. */
static size_t place_beside(const Program *program, WalkStep *step)
{
    size_t beside = 0;
    for (int i = 0; i < step->program->node->input_count; i++) {
        if (!step->inputs[i].wants) continue;
        step->inputs[i].spare = beside;
        beside += (program->values[step->program->inputs[i].value].bytes + 63) / 64 * 64;
    }
    return beside;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Everything else: values, copies, parameters, scratch. */
static void place_numbers(Backward *walk)
{
    const Program *program = walk->program;
    size_t spare = 0, scratch = larger(walk->scratch.apart, program->scratch_bytes);
    if (walk->unit_program) scratch = larger(scratch, walk->unit_program->scratch_bytes);
    for (int n = 0; n < walk->segment_count; n++)
        for (int s = walk->segments[n].first; s < walk->segments[n].end; s++)
            spare = larger(spare, walk->segments[n].by_unit ? place_beside(walk->unit_program, &walk->unit_steps[s])
                                                            : place_beside(program, &walk->steps[s]));
    for (int s = 0; s < program->step_count; s++) {
        WalkStep *step = &walk->steps[s];
        const Node *node = step->program->node;
        for (int i = 0; i < node->input_count + node->output_count; i++) {
            bool is_output = i >= node->input_count;
            int index = is_output ? i - node->input_count : i;
            const ProgramEnd *end = is_output ? &step->program->outputs[index] : &step->program->inputs[index];
            WalkEnd *own = is_output ? &step->outputs[index] : &step->inputs[index];
            if (end->value < 0) continue;
            const ProgramValue *value = &program->values[end->value];
            if (is_output) walk->values[end->value].place = take_value(walk, value);
            if (end->quantization.on && own->parameter < 0 && (is_output ? !step->in_blocks : !step->program->constants[index]))
                own->copy = take_value(walk, value);
        }
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
        for (int i = 0; i < step->program->node->input_count; i++) {
            settle(walk, &step->inputs[i].copy);
            if (walk->unit_program) walk->unit_steps[s].inputs[i].copy = step->inputs[i].copy;
        }
        for (int i = 0; i < step->program->node->output_count; i++) {
            settle(walk, &step->outputs[i].copy);
            if (walk->unit_program) walk->unit_steps[s].outputs[i].copy = step->outputs[i].copy;
        }
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

/* ---- segments ---- */

#define CACHE_BYTES ((size_t)2 << 20) /* what all units of a step may read and write before it goes by units */

/* Is it faster unit by unit? Its numbers do not fit in the cache together, and its constants weigh little beside them. Hangs on shapes
 * only: the order of the sums does. */
static bool goes_by_unit(const Backward *walk, const Program *units, int index)
{
    const ProgramStep *step = &walk->program->steps[index];
    const Node *node = step->node;
    size_t bytes = 0, constants = 0;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const ProgramEnd *end = i < node->input_count ? &step->inputs[i] : &step->outputs[i - node->input_count];
        if (end->value < 0) continue;
        const ProgramValue *value = &walk->program->values[end->value];
        if (value->constant) {
            constants += value->bytes;
            continue;
        }
        if (!value->batched || value->bytes != units->values[end->value].bytes * (size_t)walk->units) return false;
        bytes += value->bytes;
    }
    return bytes > CACHE_BYTES && constants <= bytes / (size_t)walk->units;
}

/* Runs of steps that go by units, and what lies between them. */
static void cut_segments(Backward *walk, const Program *units)
{
    walk->segment_count = 0;
    for (int i = 0; i < walk->program->step_count; i++) {
        bool by_unit = units && goes_by_unit(walk, units, i);
        WalkSegment *last = walk->segment_count ? &walk->segments[walk->segment_count - 1] : NULL;
        if (!last || last->by_unit != by_unit) {
            last = &walk->segments[walk->segment_count++];
            *last = (WalkSegment){.first = i, .by_unit = by_unit};
        }
        last->end = i + 1;
    }
}

static bool same_steps(const Program *a, const Program *b)
{
    if (a->step_count != b->step_count) return false;
    for (int i = 0; i < a->step_count; i++)
        if (a->steps[i].node != b->steps[i].node) return false;
    return true;
}

/* Segments, and where some go by units a program and steps for those. */
static bool make_segments(Backward *walk, Graph *graph, const PlanOptions *plan, Error *error)
{
    Program *program = walk->program;
    size_t steps = (size_t)program->step_count + 1, given = (size_t)program->given_count + 1;
    walk->segments = memory_new_array(steps, sizeof *walk->segments);
    if (!walk->segments) return fail_memory(error, steps * sizeof *walk->segments);
    walk->units = 1;
    cut_segments(walk, NULL);
    if (program->pieces > 1 || !program->traced || program->samples % program->traced || program->samples == program->traced) return true;
    Shape *shapes = memory_new_array(given, sizeof *shapes);
    if (!shapes) return fail_memory(error, given * sizeof *shapes);
    for (int i = 0; i < program->given_count; i++)
        shapes[i] = program->given[i]->shape;
    Program *units = program_new(graph, plan, shapes, error);
    memory_free(shapes);
    if (!units) return false;
    walk->unit_program = units;
    walk->units = (int)(program->samples / program->traced);
    if (same_steps(program, units)) cut_segments(walk, units);
    if (walk->segment_count > 1 || (walk->segment_count && walk->segments[0].by_unit)) {
        if (!(walk->unit_steps = memory_new_array(steps, sizeof *walk->unit_steps))) return fail_memory(error, steps * sizeof *walk->steps);
        return true;
    }
    program_free(units);
    walk->unit_program = NULL;
    walk->units = 1;
    return true;
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
    if (!make_segments(walk, graph, &plan, error)) return false;
    for (int n = 0; n < walk->segment_count; n++)
        for (int i = walk->segments[n].first; i < walk->segments[n].end; i++) {
            bool by_unit = walk->segments[n].by_unit;
            if (!make_step(walk, program, &walk->steps[i], &program->steps[i], error)) return false;
            if (walk->unit_program && !make_step(walk, walk->unit_program, &walk->unit_steps[i], &walk->unit_program->steps[i], error))
                return false;
            walk->steps[i].ahead = walk->units - 1;
            if (!find_needs(walk, &walk->steps[i], !by_unit, error)) return false;
            if (walk->unit_program && !find_needs(walk, &walk->unit_steps[i], by_unit, error)) return false;
        }
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

static void free_steps(WalkStep *steps, int count)
{
    for (int i = 0; steps && i < count; i++) {
        memory_free(steps[i].inputs);
        memory_free(steps[i].outputs);
        memory_free(steps[i].seen_inputs);
    }
    memory_free(steps);
}

void backward_free(Backward *walk)
{
    if (!walk) return;
    if (walk->program) free_steps(walk->steps, walk->program->step_count);
    if (walk->unit_program) free_steps(walk->unit_steps, walk->unit_program->step_count);
    for (int i = 0; walk->program && walk->inputs && i < walk->program->given_count; i++)
        tensor_release(walk->inputs[i]);
    for (int i = 0; walk->scale_memory && i < walk->options.scale_count; i++)
        memory_free(walk->scale_memory[i]);
    program_free(walk->program);
    program_free(walk->unit_program);
    memory_free(walk->segments);
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
    if (walk->unit_program && !program_refresh(walk->unit_program, error)) return false;
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
