#include "exec/program.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* ---- steps ---- */

void step_clear(ProgramStep *step)
{
    const Node *node = step->node;
    if (step->prepare.state) { /* also when prepare failed half-way */
        if (node->op->release)
            node->op->release(step->prepare.state);
        else
            memory_free(step->prepare.state);
    }
    for (int i = 0; step->inputs && i < node->input_count; i++)
        quantization_clear(&step->inputs[i].quantization);
    for (int i = 0; step->outputs && i < node->output_count; i++)
        quantization_clear(&step->outputs[i].quantization);
    for (int i = 0; i < node->input_count; i++) {
        if (step->constants) tensor_release(step->constants[i]);
        if (step->sources) tensor_release(step->sources[i]);
    }
    memory_free(step->inputs);
    memory_free(step->outputs);
    memory_free(step->constants);
    memory_free(step->sources);
    memory_free((void *)step->prepare.input_shapes);
    memory_free((void *)step->prepare.input_dtypes);
    *step = (ProgramStep){.node = step->node, .place = step->place};
}

/* Room for what hangs on the ends, and their shapes. */
static bool make_ends(const Program *program, ProgramStep *step, Error *error)
{
    const Node *node = step->node;
    size_t inputs = (size_t)node->input_count, outputs = (size_t)node->output_count;
    step->inputs = memory_new_array(inputs + 1, sizeof *step->inputs);
    step->outputs = memory_new_array(outputs + 1, sizeof *step->outputs);
    step->constants = memory_new_array(inputs + 1, sizeof *step->constants);
    step->sources = memory_new_array(inputs + 1, sizeof *step->sources);
    Shape *shapes = memory_new_array(inputs + outputs + 1, sizeof *shapes);
    Dtype *dtypes = memory_new_array(inputs + outputs + 1, sizeof *dtypes);
    step->prepare = (Prepare){.node = node,
                              .input_shapes = shapes,
                              .output_shapes = shapes + inputs,
                              .input_dtypes = dtypes,
                              .output_dtypes = dtypes + inputs,
                              .exact = program->options.exact,
                              .wide = node->wide && step->quantized,
                              .simulated = step->quantized,
                              .approximate = program->options.approximate};
    if (!step->inputs || !step->outputs || !step->constants || !step->sources || !shapes || !dtypes)
        return fail_memory(error, (inputs + outputs) * sizeof *shapes);
    step->prepare.constants = (const Tensor *const *)step->constants;
    for (size_t i = 0; i < inputs + outputs; i++) {
        const Value *value = i < inputs ? node->inputs[i] : node->outputs[i - inputs];
        ProgramEnd *end = i < inputs ? &step->inputs[i] : &step->outputs[i - inputs];
        end->value = value ? program_value(program, value) : -1;
        shapes[i].rank = -1;
        if (!value) continue;
        shapes[i] = program->values[end->value].shape;
        dtypes[i] = program->values[end->value].dtype;
    }
    return true;
}

static Tensor *see_constant(const Quantization *quantization, Tensor *constant, const Node *node, int index, Error *error)
{
    if (!quantization->on) return tensor_retain(constant);
    char where[256], shape[160];
    if (!quantization_fits(quantization, &constant->shape)) {
        fail(error, node_where(node, where), "choose its exponents again", "input %d has %d exponents along axis %d and shape %s", index,
             quantization->count, quantization->axis, shape_text(&constant->shape, shape));
        return NULL;
    }
    Tensor *seen = tensor_copy(constant, error);
    if (seen) quantization_apply(quantization, &seen->shape, tensor_floats(seen), tensor_floats(seen));
    return seen;
}

static Slot *end_slot(const ProgramStep *step, bool is_output, int index)
{
    if (!step->quantized) return NULL;
    return is_output ? step->node->output_slots[index] : step->node->input_slots[index];
}

/* Quantizations and constants as the slots are now. *changed: another kernel must be prepared. */
static bool read_ends(const Program *program, ProgramStep *step, bool *changed, Error *error)
{
    const Node *node = step->node;
    *changed = !step->prepared;
    for (int i = 0; i < node->input_count; i++) {
        ProgramEnd *end = &step->inputs[i];
        Quantization before = end->quantization;
        if (end->value < 0) continue;
        const ProgramValue *value = &program->values[end->value];
        if (!quantization_read(&end->quantization, end_slot(step, false, i), value->dtype, error)) {
            end->quantization = before;
            return false;
        }
        Tensor *constant = !step->quantized && value->value->unbaked ? value->value->unbaked : value->constant;
        const PlanOptions *options = &program->options;
        if (options->changes && options->changes(options->changes_context, node, i)) constant = NULL;
        bool same = quantization_equal(&before, &end->quantization) && step->sources[i] == constant;
        quantization_clear(&before);
        if (!constant || (same && step->constants[i])) continue;
        *changed = true;
        tensor_release(step->constants[i]);
        tensor_release(step->sources[i]);
        step->sources[i] = tensor_retain(constant);
        if (!(step->constants[i] = see_constant(&end->quantization, constant, node, i, error))) return false;
    }
    for (int i = 0; i < node->output_count; i++) {
        ProgramEnd *end = &step->outputs[i];
        quantization_clear(&end->quantization);
        if (end->value < 0) continue;
        if (!quantization_read(&end->quantization, end_slot(step, true, i), program->values[end->value].dtype, error)) return false;
    }
    return true;
}

static bool prepare_kernel(ProgramStep *step, Error *error)
{
    const Operator *op = step->node->op;
    if (step->prepare.state) { /* also when prepare failed half-way */
        if (op->release)
            op->release(step->prepare.state);
        else
            memory_free(step->prepare.state);
    }
    step->prepared = false;
    step->prepare.state = NULL;
    step->prepare.scratch_bytes = 0;
    if (op->prepare && !op->prepare(&step->prepare, error)) return false;
    step->prepared = true;
    return true;
}

/* An activation with one exponent a channel must have that many. */
static bool check_activations(const Program *program, const ProgramStep *step, Error *error)
{
    const Node *node = step->node;
    for (int i = 0; i < node->input_count + node->output_count; i++) {
        const ProgramEnd *end = i < node->input_count ? &step->inputs[i] : &step->outputs[i - node->input_count];
        char where[256], shape[160];
        if (end->value < 0 || quantization_fits(&end->quantization, &program->values[end->value].shape)) continue;
        return fail(error, node_where(node, where), "choose its exponents again", "%s has %d exponents along axis %d and shape %s",
                    program->values[end->value].value->name, end->quantization.count, end->quantization.axis,
                    shape_text(&program->values[end->value].shape, shape));
    }
    return true;
}

/* Everything of a step that follows from slots and constants. */
static bool update_step(const Program *program, ProgramStep *step, Error *error)
{
    bool changed;
    return read_ends(program, step, &changed, error) && check_activations(program, step, error) &&
           (!changed || prepare_kernel(step, error));
}

bool step_prepare(const Program *program, ProgramStep *step, const ProgramStep *like, bool quantized, Error *error)
{
    *step =
        (ProgramStep){.node = like->node, .place = like->place, .batched = like->batched, .quantized = quantized && like->node->quantized};
    if (!make_ends(program, step, error) || !update_step(program, step, error)) return false;
    for (int i = 0; i < step->node->input_count; i++)
        step->inputs[i].copies = step->inputs[i].quantization.on && !step->constants[i];
    return true;
}

/* ---- the program ---- */

static bool watches(const Program *program, const Node *node, bool is_output, int index)
{
    const Watcher *watcher = program->options.watcher;
    return watcher && (!watcher->wants || watcher->wants(watcher->context, node, is_output, index));
}

/* Which ends need a copy. An input is quantized into a copy unless its producer already left it so; the raw form of an output is
 * kept for a watcher. made: how each value was left by the step that wrote it. */
static void find_copies(Program *program, const Quantization **made)
{
    for (int i = 0; i < program->step_count; i++) {
        ProgramStep *step = &program->steps[i];
        for (int k = 0; k < step->node->input_count; k++) {
            ProgramEnd *end = &step->inputs[k];
            end->copies = false;
            if (end->value < 0 || step->constants[k] || !end->quantization.on) continue;
            end->copies = !made[end->value] || !quantization_keeps(made[end->value], &end->quantization);
        }
        for (int k = 0; k < step->node->output_count; k++) {
            ProgramEnd *end = &step->outputs[k];
            end->copies = false;
            if (end->value < 0) continue;
            made[end->value] = &end->quantization;
            end->copies = end->quantization.on && end->watched && !program->options.watcher->seen_only;
        }
    }
}

bool program_settle(Program *program, Error *error)
{
    const Quantization **made = memory_new_array((size_t)program->value_count + 1, sizeof *made);
    if (!made) return fail_memory(error, (size_t)program->value_count * sizeof *made);
    find_copies(program, made);
    memory_free(made);
    program->scratch_bytes = 0;
    for (int i = 0; i < program->step_count; i++)
        if (program->steps[i].prepare.scratch_bytes > program->scratch_bytes)
            program->scratch_bytes = program->steps[i].prepare.scratch_bytes;
    return program_place(program, error);
}

static bool make_step(Program *program, ProgramStep *step, Error *error)
{
    const PlanOptions *options = &program->options;
    Node *node = step->node;
    step->quantized =
        options->mode == EXEC_SIMULATED && node->quantized && (!options->quantizes || options->quantizes(options->quantizes_context, node));
    if (!make_ends(program, step, error)) return false;
    for (int i = 0; i < node->input_count; i++) {
        if (step->inputs[i].value < 0) continue;
        step->inputs[i].watched = watches(program, node, false, i);
        step->batched |= program->values[step->inputs[i].value].batched;
    }
    for (int i = 0; i < node->output_count; i++)
        if (step->outputs[i].value >= 0) step->outputs[i].watched = watches(program, node, true, i);
    return update_step(program, step, error);
}

/* Steps whose results are known already (shape arithmetic) do not run. */
static void drop_known(Program *program)
{
    int kept = 0;
    for (int i = 0; i < program->step_count; i++) {
        const Node *node = program->steps[i].node;
        bool known = true;
        for (int k = 0; k < node->output_count && known; k++)
            known = !node->outputs[k] || program->values[program_value(program, node->outputs[k])].constant != NULL;
        if (!known) program->steps[kept++] = program->steps[i];
    }
    program->step_count = kept;
}

static int compare_keys(const void *a, const void *b)
{
    const void *const *left = a, *const *right = b;
    return (uintptr_t)*left < (uintptr_t)*right ? -1 : (uintptr_t)*left > (uintptr_t)*right;
}

static bool make_index(Program *program, Error *error)
{
    Graph *graph = program->graph;
    program->value_count = graph->value_count;
    program->values = memory_new_array((size_t)graph->value_count + 1, sizeof *program->values);
    program->index = memory_new_array((size_t)graph->value_count + 1, sizeof *program->index);
    if (!program->values || !program->index) return fail_memory(error, (size_t)graph->value_count * sizeof *program->values);
    for (int i = 0; i < graph->value_count; i++) {
        program->values[i].value = graph->values[i];
        program->values[i].given = -1;
        program->index[i].key = graph->values[i];
        program->index[i].index = i;
    }
    qsort(program->index, (size_t)graph->value_count, sizeof *program->index, compare_keys);
    return true;
}

static bool copy_list(Value *const *from, int count, Value ***to, Error *error)
{
    *to = memory_new_array((size_t)count + 1, sizeof **to);
    if (!*to) return fail_memory(error, (size_t)count * sizeof **to);
    memcpy(*to, from, (size_t)count * sizeof **to);
    return true;
}

static bool take_options(Program *program, const PlanOptions *options, Error *error)
{
    Graph *graph = program->graph;
    program->options = *options;
    program->given_count = options->given ? options->given_count : graph->input_count;
    program->wanted_count = options->wanted ? options->wanted_count : graph->output_count;
    if (!copy_list(options->given ? options->given : graph->inputs, program->given_count, &program->given, error)) return false;
    if (!copy_list(options->wanted ? options->wanted : graph->outputs, program->wanted_count, &program->wanted, error)) return false;
    program->wanted_index = memory_new_array((size_t)program->wanted_count + 1, sizeof *program->wanted_index);
    program->input_shapes = memory_new_array((size_t)program->given_count + 1, sizeof *program->input_shapes);
    if (!program->wanted_index || !program->input_shapes) return fail_memory(error, (size_t)program->given_count * sizeof(Shape));
    for (int i = 0; i < program->given_count + program->wanted_count; i++) {
        Value *value = i < program->given_count ? program->given[i] : program->wanted[i - program->given_count];
        int index = program_value(program, value);
        if (index < 0) return fail_as(error, ERROR_INTERNAL, value->name, NULL, "value %s is not in the graph", value->name);
        if (i < program->given_count)
            program->values[index].given = i;
        else
            program->wanted_index[i - program->given_count] = index;
    }
    return true;
}

static void mark_outside(Program *program)
{
    for (int i = 0; i < program->wanted_count; i++)
        program->values[program->wanted_index[i]].wanted = true;
    for (int i = 0; i < program->value_count; i++) {
        ProgramValue *value = &program->values[i];
        if (value->shape.rank < 0) continue;
        value->bytes = (size_t)shape_count(&value->shape) * dtype_bytes(value->dtype);
        value->outside = value->given >= 0 || (value->wanted && (value->batched || program->pieces == 1));
    }
    const Watcher *watcher = program->options.watcher;
    program->arena_pieces = watcher && !watcher->by_piece ? program->pieces : 1;
}

static bool build(Program *program, const PlanOptions *options, const Shape *shapes, Error *error)
{
    if (!make_index(program, error) || !take_options(program, options, error) || !program_find_steps(program, error) ||
        !program_find_pieces(program, shapes, error))
        return false;
    drop_known(program);
    mark_outside(program);
    for (int i = 0; i < program->step_count; i++)
        if (!make_step(program, &program->steps[i], error)) return false;
    return program_settle(program, error);
}

Program *program_new(Graph *graph, const PlanOptions *options, const Shape *shapes, Error *error)
{
    Program *program = memory_new(sizeof *program);
    if (!program) {
        fail_memory(error, sizeof *program);
        return NULL;
    }
    program->graph = graph;
    if (build(program, options, shapes, error)) return program;
    program_free(program);
    return NULL;
}

void program_free(Program *program)
{
    if (!program) return;
    for (int i = 0; i < program->step_count; i++)
        step_clear(&program->steps[i]);
    for (int i = 0; program->values && i < program->value_count; i++)
        tensor_release(program->values[i].constant);
    memory_free(program->steps);
    memory_free(program->values);
    memory_free(program->index);
    memory_free(program->given);
    memory_free(program->wanted);
    memory_free(program->wanted_index);
    memory_free(program->input_shapes);
    memory_free(program);
}

bool program_refresh(Program *program, Error *error)
{
    for (int i = 0; i < program->value_count; i++) {
        ProgramValue *value = &program->values[i];
        Tensor *constant = value->value->constant;
        if (!constant || constant == value->constant) continue;
        tensor_release(value->constant);
        value->constant = tensor_retain(constant);
    }
    for (int i = 0; i < program->step_count; i++)
        if (!update_step(program, &program->steps[i], error)) return false;
    return program_settle(program, error);
}

Shape program_whole_shape(const Program *program, const ProgramValue *value, int64_t samples)
{
    Shape shape = value->shape;
    int64_t pieces = (samples + program->piece - 1) / program->piece;
    if (!value->batched || samples == program->piece) return shape;
    if (shape.rank == 0) {
        shape.rank = 1;
        shape.dims[0] = pieces;
    } else if (shape.dims[0] % program->piece == 0) {
        shape.dims[0] = shape.dims[0] / program->piece * samples;
    } else {
        shape.dims[0] *= pieces; /* its first axis does not count samples: all pieces are shown */
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

Tensor *program_take_input(const Program *program, int index, Tensor *input, Error *error)
{
    const ProgramValue *value = &program->values[program_value(program, program->given[index])];
    const char *name = value->value->name;
    Shape shape = program_whole_shape(program, value, program->samples);
    char is[160], must[160];
    if (!input) {
        fail(error, name, "give it a value", "input %s is missing", name);
        return NULL;
    }
    if (!shape_equal(&input->shape, &shape)) {
        fail(error, name, "give it the shape that was planned", "input %s has shape %s, expected %s", name, shape_text(&input->shape, is),
             shape_text(&shape, must));
        return NULL;
    }
    Tensor *converted = tensor_convert(input, value->dtype, error);
    Tensor *ready = converted ? tensor_contiguous(converted, error) : NULL;
    tensor_release(converted);
    if (!ready || !value->batched || program->samples % program->piece == 0) return ready;
    Tensor *padded = pad_samples(program, value, ready, error);
    tensor_release(ready);
    return padded;
}
