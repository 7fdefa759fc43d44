#include "exec/sums.h"

#include <string.h>

#include "base/memory.h"
#include "exec/frame.h"

static size_t round_up(size_t bytes)
{
    return (bytes + 63) & ~(size_t)63;
}

static int writer_of(const Program *program, int value)
{
    for (int i = 0; i < program->step_count; i++)
        for (int k = 0; k < program->steps[i].node->output_count; k++)
            if (program->steps[i].outputs[k].value == value) return i;
    return -1;
}

static bool is_plain(const Program *program, int value)
{
    const ProgramValue *info = value < 0 ? NULL : &program->values[value];
    return info && !info->constant && info->batched && info->dtype == DTYPE_FLOAT32 && info->shape.rank > 2;
}

static bool same_pixels(const Shape *a, const Shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 2; i < a->rank; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

/* Every output pixel is a sum over the channels of one input pixel. */
static bool is_pointwise(const Program *program, const ProgramStep *step)
{
    if (!(step->node->op->flags & OPERATOR_CHANNEL_SUM) || step->node->input_count < 2 || !step->constants[1]) return false;
    if (step->node->input_count > 2 && step->inputs[2].value >= 0 && !step->constants[2]) return false;
    if (!is_plain(program, step->inputs[0].value) || !is_plain(program, step->outputs[0].value)) return false;
    const Shape *x = &program->values[step->inputs[0].value].shape, *y = &program->values[step->outputs[0].value].shape;
    const Shape *weights = &step->constants[1]->shape;
    if (weights->rank != x->rank || weights->dims[1] != x->dims[1] || !same_pixels(x, y)) return false;
    for (int i = 2; i < weights->rank; i++)
        if (weights->dims[i] != 1) return false;
    return true;
}

/* Input after input along the channels. */
static bool joins_channels(const Program *program, const ProgramStep *step)
{
    if (!(step->node->op->flags & OPERATOR_JOINS)) return false;
    const Shape *shape = &program->values[step->outputs[0].value].shape;
    int64_t axis = node_integer(step->node, "axis", 0);
    if (axis != 1 && axis + shape->rank != 1) return false;
    for (int i = 0; i < step->node->input_count; i++)
        if (!is_plain(program, step->inputs[i].value)) return false;
    return true;
}

/* The step that made this value larger by repeating pixels; NULL: none. */
static const ProgramStep *enlarger_of(const Program *program, int value)
{
    int writer = writer_of(program, value);
    if (writer < 0) return NULL;
    const ProgramStep *step = &program->steps[writer];
    const Operator *op = step->node->op;
    if (!op->repeats || !op->repeats(step->node) || !is_plain(program, step->inputs[0].value)) return NULL;
    for (int i = 1; i < step->node->input_count; i++)
        if (step->inputs[i].value >= 0 && !step->constants[i]) return NULL;
    const Shape *from = &program->values[step->inputs[0].value].shape, *to = &program->values[value].shape;
    bool larger = from->rank == to->rank && from->dims[0] == to->dims[0] && from->dims[1] == to->dims[1];
    return larger && shape_count(from) < shape_count(to) ? step : NULL;
}

/* ---- making ---- */

/* A step of the same node on other shapes. Its constants from input `first` on are those of `like`. */
static bool begin_step(ProgramStep *step, const ProgramStep *like, int first, Error *error)
{
    size_t inputs = (size_t)like->node->input_count, outputs = (size_t)like->node->output_count;
    *step = (ProgramStep){.node = like->node, .place = like->place, .batched = true, .prepare = like->prepare};
    step->prepare.state = NULL;
    step->prepare.scratch_bytes = 0;
    step->constants = memory_new_array(inputs + 1, sizeof *step->constants);
    Shape *shapes = memory_new_array(inputs + outputs + 1, sizeof *shapes);
    Dtype *dtypes = memory_new_array(inputs + outputs + 1, sizeof *dtypes);
    step->prepare.input_shapes = shapes;
    step->prepare.input_dtypes = dtypes;
    if (!step->constants || !shapes || !dtypes) return fail_memory(error, (inputs + outputs) * sizeof *shapes);
    memcpy(shapes, like->prepare.input_shapes, (inputs + outputs) * sizeof *shapes);
    memcpy(dtypes, like->prepare.input_dtypes, (inputs + outputs) * sizeof *dtypes);
    step->prepare.output_shapes = shapes + inputs;
    step->prepare.output_dtypes = dtypes + inputs;
    step->prepare.constants = (const Tensor *const *)step->constants;
    for (int i = first; i < like->node->input_count; i++)
        if (like->constants[i]) step->constants[i] = tensor_retain(like->constants[i]);
    return true;
}

static bool finish_step(Sums *sums, ProgramStep *step, Error *error)
{
    const Operator *op = step->node->op;
    if (op->prepare && !op->prepare(&step->prepare, error)) return false;
    if (step->prepare.scratch_bytes > sums->scratch_bytes) sums->scratch_bytes = step->prepare.scratch_bytes;
    return true;
}

/* Weights of `count` input channels from `first` on. */
static Tensor *cut_weights(const Tensor *weights, int64_t first, int64_t count, Error *error)
{
    Shape shape = weights->shape;
    int64_t rows = shape.dims[0], all = shape.dims[1];
    shape.dims[1] = count;
    Tensor *cut = tensor_new_unset(weights->dtype, &shape, error);
    for (int64_t i = 0; cut && i < rows; i++)
        memcpy(tensor_floats(cut) + i * count, tensor_floats(weights) + i * all + first, (size_t)count * sizeof(float));
    return cut;
}

static bool make_part(Sums *sums, const Program *program, const ProgramStep *conv, Sum *sum, int64_t channel, int value, bool biased,
                      Error *error)
{
    SumPart *part = &sum->parts[sum->part_count++];
    const ProgramStep *enlarge = enlarger_of(program, value);
    part->value = enlarge ? enlarge->inputs[0].value : value;
    const Shape *x = &program->values[part->value].shape, *y = &program->values[sum->output].shape;
    Shape small = *y;
    for (int i = 2; i < x->rank; i++)
        small.dims[i] = x->dims[i];
    if (!begin_step(&part->conv, conv, biased ? 2 : conv->node->input_count, error)) return false;
    if (!(part->conv.constants[1] = cut_weights(conv->constants[1], channel, x->dims[1], error))) return false;
    Shape *shapes = (Shape *)part->conv.prepare.input_shapes;
    shapes[0] = *x;
    shapes[1] = part->conv.constants[1]->shape;
    if (!biased && conv->node->input_count > 2) shapes[2].rank = -1;
    shapes[conv->node->input_count] = small;
    if (!finish_step(sums, &part->conv, error)) return false;
    if (!enlarge) return true;
    size_t bytes = round_up((size_t)shape_count(&small) * sizeof(float));
    if (bytes > sum->small_bytes) sum->small_bytes = bytes;
    if (!begin_step(&part->enlarge, enlarge, 1, error)) return false;
    shapes = (Shape *)part->enlarge.prepare.input_shapes;
    shapes[0] = small;
    shapes[enlarge->node->input_count] = *y;
    return finish_step(sums, &part->enlarge, error);
}

static bool make_sum(Sums *sums, Program *program, int index, Error *error)
{
    const ProgramStep *conv = &program->steps[index], *join = &program->steps[writer_of(program, conv->inputs[0].value)];
    Sum *sum = &sums->items[sums->count++];
    *sum = (Sum){.step = index, .output = conv->outputs[0].value};
    sum->bytes = program->values[sum->output].bytes;
    sum->parts = memory_new_array((size_t)join->node->input_count, sizeof *sum->parts);
    if (!sum->parts) return fail_memory(error, (size_t)join->node->input_count * sizeof *sum->parts);
    bool biased = false;
    int64_t channel = 0;
    for (int i = 0; i < join->node->input_count; i++) {
        int value = join->inputs[i].value;
        bool takes_bias = !biased && !enlarger_of(program, value);
        if (!make_part(sums, program, conv, sum, channel, value, takes_bias, error)) return false;
        biased = biased || takes_bias;
        channel += program->values[value].shape.dims[1];
        ProgramValue *read = &program->values[sum->parts[i].value];
        if (read->held < index) read->held = index;
    }
    size_t bytes = sum->small_bytes + sum->bytes * (size_t)sum->part_count;
    if (bytes > sums->memory_bytes) sums->memory_bytes = bytes;
    sums->of_step[index] = sum;
    return true;
}

/* ---- which ---- */

static bool contains(const int *steps, int count, int step)
{
    for (int i = 0; i < count; i++)
        if (steps[i] == step) return true;
    return false;
}

/* It pays where a part was enlarged and another, which takes the bias, was not. */
static bool pays(const Program *program, int index, const int *layer_steps, int layer_count)
{
    const ProgramStep *conv = &program->steps[index];
    if (!is_pointwise(program, conv)) return false;
    int writer = writer_of(program, conv->inputs[0].value);
    if (writer < 0 || !joins_channels(program, &program->steps[writer]) || contains(layer_steps, layer_count, writer)) return false;
    int enlarged = 0, parts = program->steps[writer].node->input_count;
    for (int i = 0; i < parts; i++) {
        const ProgramStep *enlarger = enlarger_of(program, program->steps[writer].inputs[i].value);
        if (!enlarger) continue;
        enlarged++;
        if (contains(layer_steps, layer_count, (int)(enlarger - program->steps))) return false;
    }
    return enlarged > 0 && enlarged < parts;
}

/* Is everything that a step gives read by sums only? */
static bool only_sums_read(const Sums *sums, const Program *program, int index)
{
    const ProgramStep *step = &program->steps[index];
    bool read = false;
    for (int k = 0; k < step->node->output_count; k++) {
        int value = step->outputs[k].value;
        if (value < 0) continue;
        if (program->values[value].wanted) return false;
        for (int i = index + 1; i < program->step_count; i++)
            for (int n = 0; n < program->steps[i].node->input_count; n++) {
                if (program->steps[i].inputs[n].value != value) continue;
                if (!sums->of_step[i] && !sums->skipped[i]) return false;
                read = true;
            }
    }
    return read;
}

static bool contains_part(const Sum *sum, int value)
{
    for (int i = 0; i < sum->part_count; i++)
        if (sum->parts[i].value == value) return true;
    return false;
}

/* Joins and enlargers behind which there are only sums that do not read them. */
static void find_skipped(Sums *sums, const Program *program)
{
    for (int i = program->step_count - 1; i >= 0; i--) {
        const ProgramStep *step = &program->steps[i];
        if (!(step->node->op->flags & OPERATOR_JOINS) && !step->node->op->repeats) continue;
        bool read = false;
        for (int k = 0; k < sums->count && !read; k++)
            read = contains_part(&sums->items[k], step->outputs[0].value);
        sums->skipped[i] = !read && only_sums_read(sums, program, i);
    }
}

bool sums_find(Sums *sums, Program *program, const int *layer_steps, int layer_count, Error *error)
{
    size_t steps = (size_t)program->step_count + 1;
    sums->of_step = memory_new_array(steps, sizeof *sums->of_step);
    sums->skipped = memory_new_array(steps, sizeof *sums->skipped);
    if (!sums->of_step || !sums->skipped) return fail_memory(error, steps * sizeof *sums->of_step);
    if (!program->options.approximate) return true;
    int count = 0;
    for (int i = 0; i < program->step_count; i++)
        count += pays(program, i, layer_steps, layer_count);
    if (!count) return true;
    sums->items = memory_new_array((size_t)count, sizeof *sums->items);
    if (!sums->items) return fail_memory(error, (size_t)count * sizeof *sums->items);
    for (int i = 0; i < program->step_count; i++)
        if (pays(program, i, layer_steps, layer_count) && !make_sum(sums, program, i, error)) return false;
    find_skipped(sums, program);
    return true;
}

void sums_free(Sums *sums)
{
    for (int i = 0; i < sums->count; i++) {
        for (int k = 0; k < sums->items[i].part_count; k++) {
            SumPart *part = &sums->items[i].parts[k];
            if (part->conv.node) step_clear(&part->conv);
            if (part->enlarge.node) step_clear(&part->enlarge);
        }
        memory_free(sums->items[i].parts);
    }
    memory_free(sums->items);
    memory_free(sums->of_step);
    memory_free(sums->skipped);
    *sums = (Sums){0};
}

/* ---- running ---- */

bool sum_touched(const Sum *sum, const bool *changed)
{
    for (int i = 0; i < sum->part_count; i++)
        if (changed[sum->parts[i].value]) return true;
    return false;
}

/* count: pieces at once. */
static void run_step(const ProgramStep *step, int count, char *x, char *y, void *scratch)
{
    int inputs = step->node->input_count;
    Tensor in, out, *ends[3 + ESPQ_MAX_RANK] = {0};
    frame_header(&in, DTYPE_FLOAT32, &step->prepare.input_shapes[0]);
    frame_header(&out, DTYPE_FLOAT32, &step->prepare.output_shapes[0]);
    in.shape.dims[0] *= count;
    out.shape.dims[0] *= count;
    in.data = x;
    out.data = y;
    for (int i = 1; i < inputs; i++)
        ends[i] = step->constants[i];
    ends[0] = &in;
    Tensor *output = &out;
    Run run = {.node = step->node, .inputs = ends, .outputs = &output, .state = step->prepare.state, .scratch = scratch};
    step->node->op->run(&run);
}

void sum_part_run(const Program *program, const Sum *sum, const SumPart *part, int count, char *x, char *y, char *small, void *scratch)
{
    bool any_batch = part->conv.node->op->flags & OPERATOR_ANY_BATCH;
    size_t in = program->values[part->value].bytes;
    size_t step = part->enlarge.node ? (size_t)shape_count(&part->conv.prepare.output_shapes[0]) * sizeof(float) : sum->bytes;
    char *to = part->enlarge.node ? small : y;
    for (int i = 0; i < count; i += any_batch ? count : 1)
        run_step(&part->conv, any_batch ? count : 1, x + (size_t)i * in, to + (size_t)i * step, scratch);
    for (int i = 0; i < count && part->enlarge.node; i++)
        run_step(&part->enlarge, 1, small + (size_t)i * step, y + (size_t)i * sum->bytes, scratch);
}

void sum_add(const Program *program, const Sum *sum, int count, char *const *parts, char *y)
{
    int64_t numbers = shape_count(&program->values[sum->output].shape) * count;
    float *to = (float *)(void *)y;
    const float *first = (const float *)(const void *)parts[0], *second = (const float *)(const void *)parts[1];
    for (int64_t i = 0; i < numbers; i++)
        to[i] = first[i] + second[i];
    for (int k = 2; k < sum->part_count; k++) {
        const float *part = (const float *)(const void *)parts[k];
        for (int64_t i = 0; i < numbers; i++)
            to[i] += part[i];
    }
}
