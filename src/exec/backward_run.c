/* The training walk at work: forward, keeping everything, and back. Allocates nothing. */
#include <math.h>
#include <string.h>

#include "base/cancel.h"
#include "base/math.h"
#include "base/threads.h"
#include "exec/backward_walk.h"
#include "kernel/gradient.h"

#define ADD_GRAIN 32768

static char *at_piece(const Place *place, int piece)
{
    return place->base + (size_t)piece * place->apart;
}

static float *floats_at(const Place *place, int piece)
{
    return (float *)(void *)at_piece(place, piece);
}

/* ---- fake quantization by a trained scale ---- */

/* 2^exponent, an exponent of a normal number. */
static float power_of_two(int exponent)
{
    uint32_t bits = (uint32_t)(exponent + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

float walk_scale(const Backward *walk, const Quantization *quantization, int scale, int channel)
{
    if (scale < 0) {
        int exponent = quantization->exponents ? quantization->exponents[channel] : quantization->exponent;
        return exponent >= -126 && exponent <= 126 ? power_of_two(exponent) : ldexpf(1.0f, exponent);
    }
    const BackwardScale *trained = &walk->options.scales[scale];
    float log2 = trained->log2[channel];
    if (trained->whole) return power_of_two(!(log2 > -126.0f) ? -126 : log2 > 126.0f ? 126 : (int)rintf(log2));
    return (float)espq_exp((double)log2 * LN2);
}

/* [outer][channels][inner]: numbers of one channel lie together. */
static ChannelsF32 channels_of(const Backward *walk, const Quantization *quantization, int scale, const Shape *shape)
{
    ChannelsF32 channels = {.outer = 1,
                            .channels = quantization->count,
                            .inner = 1,
                            .scales = walk->channel_scales,
                            .minimum = quantization->minimum,
                            .maximum = quantization->maximum,
                            .rounding = quantization->rounding};
    for (int i = 0; i < shape->rank; i++) {
        if (quantization->count > 1 && i < quantization->axis) channels.outer *= shape->dims[i];
        if (quantization->count == 1 || i > quantization->axis) channels.inner *= shape->dims[i];
    }
    for (int i = 0; i < quantization->count; i++)
        walk->channel_scales[i] = walk_scale(walk, quantization, scale, i);
    return channels;
}

/* Their power of two is a normal float32 both ways: all that are real. */
static bool has_usual_exponents(const Quantization *quantization)
{
    for (int i = 0; i < quantization->count; i++)
        if (quantization->exponents[i] < -126 || quantization->exponents[i] > 126) return false;
    return true;
}

static void quantize_end(const Backward *walk, const Quantization *quantization, int scale, const Shape *shape, const float *x, float *y)
{
    bool by_channel = quantization->count > 1 && (scale >= 0 || has_usual_exponents(quantization));
    if (scale < 0 && !by_channel) {
        quantization_apply(quantization, shape, x, y);
        return;
    }
    ChannelsF32 channels = channels_of(walk, quantization, scale, shape);
    if (by_channel)
        fake_quantize_channels_f32(&channels, x, y);
    else
        fake_quantize_scale_f32(x, y, channels.inner, channels.scales[0], channels.minimum, channels.maximum, channels.rounding);
}

/* g, the gradient behind the quantization, becomes that before it. */
static void unquantize_end(Backward *walk, const Quantization *quantization, int scale, const Shape *shape, const float *x, float *g)
{
    if (scale < 0 && quantization->count > 1 && !walk->options.masks_channels) return;
    ChannelsF32 channels = channels_of(walk, quantization, scale, shape);
    if (channels.channels > 1)
        fake_quantize_channels_gradient_f32(&channels, x, g, g, walk->sums);
    else
        walk->sums[0] =
            fake_quantize_gradient_f32(x, g, g, channels.inner, channels.scales[0], channels.minimum, channels.maximum, channels.rounding);
    for (int i = 0; scale >= 0 && i < channels.channels; i++)
        walk->options.scales[scale].gradient[i] += (float)(walk->sums[i] * (double)channels.scales[i] * LN2);
}

/* ---- forward ---- */

static void see_parameters(Backward *walk)
{
    for (int i = 0; i < walk->options.parameter_count; i++) {
        const BackwardParameter *parameter = &walk->options.parameters[i];
        const WalkStep *step = walk->parameters[i].step;
        float *seen = floats_at(&walk->parameters[i].seen, 0);
        if (parameter->replacement) continue;
        if (step && step->program->inputs[parameter->index].quantization.on)
            quantize_end(walk, &step->program->inputs[parameter->index].quantization, step->inputs[parameter->index].scale,
                         &parameter->shape, parameter->values, seen);
        else
            memcpy(seen, parameter->values, (size_t)parameter->count * sizeof *seen);
    }
}

/* Was the value left by its producer so that this end's quantization changes nothing? */
static bool is_kept(const WalkValue *value, const ProgramEnd *end, const WalkEnd *own)
{
    return value->made && !value->made_trained && own->scale < 0 && quantization_keeps(value->made, &end->quantization);
}

static bool copies_input(const Backward *walk, const WalkStep *step, int index)
{
    const ProgramEnd *end = &step->program->inputs[index];
    const WalkEnd *own = &step->inputs[index];
    return own->copy.used && end->quantization.on && !is_kept(&walk->values[end->value], end, own);
}

static void see_input(const Backward *walk, const WalkStep *step, int index, int piece)
{
    const ProgramEnd *end = &step->program->inputs[index];
    WalkEnd *own = &step->inputs[index];
    if (own->parameter >= 0) {
        own->seen.data = (char *)backward_seen(walk, &walk->options.parameters[own->parameter]);
    } else if (step->program->constants[index]) {
        own->seen.data = step->program->constants[index]->data;
    } else if (copies_input(walk, step, index)) {
        own->seen.data = at_piece(&own->copy, piece);
    } else {
        own->seen.data = at_piece(&walk->values[end->value].place, piece);
    }
}

/* Pointers to the inputs as run sees them and the outputs as it leaves them. */
static void bind_step(const Backward *walk, const WalkStep *step, int piece)
{
    const Node *node = step->program->node;
    for (int i = 0; i < node->input_count; i++) {
        step->seen_inputs[i] = NULL;
        if (step->program->inputs[i].value < 0) continue;
        see_input(walk, step, i, piece);
        step->seen_inputs[i] = &step->inputs[i].seen;
    }
    for (int i = 0; i < node->output_count; i++) {
        const ProgramEnd *end = &step->program->outputs[i];
        WalkEnd *own = &step->outputs[i];
        step->left_outputs[i] = NULL;
        if (end->value < 0) continue;
        own->seen.data = at_piece(own->copy.used && end->quantization.on ? &own->copy : &walk->values[end->value].place, piece);
        step->left_outputs[i] = &own->seen;
    }
}

static void run_step(const Backward *walk, const WalkStep *step, int piece)
{
    const Node *node = step->program->node;
    for (int i = 0; i < node->output_count; i++) {
        const ProgramEnd *end = &step->program->outputs[i];
        if (end->value < 0) continue;
        walk->values[end->value].made = &end->quantization;
        walk->values[end->value].made_trained = step->outputs[i].scale >= 0;
    }
    bind_step(walk, step, piece);
    for (int i = 0; i < node->input_count; i++) {
        const ProgramEnd *end = &step->program->inputs[i];
        WalkEnd *own = &step->inputs[i];
        if (end->value < 0 || own->parameter >= 0 || step->program->constants[i] || !copies_input(walk, step, i)) continue;
        quantize_end(walk, &end->quantization, own->scale, &own->seen.shape, floats_at(&walk->values[end->value].place, piece),
                     tensor_floats(&own->seen));
    }
    if (step->in_blocks) {
        blocks_run(walk, step, floats_at(&walk->values[step->program->outputs[0].value].place, piece));
        return;
    }
    Run run = {.node = node,
               .inputs = step->seen_inputs,
               .outputs = step->left_outputs,
               .state = step->program->prepare.state,
               .scratch = walk->scratch.base};
    node->op->run(&run);
    for (int i = 0; i < node->output_count; i++) {
        const ProgramEnd *end = &step->program->outputs[i];
        const WalkEnd *own = &step->outputs[i];
        if (end->value < 0 || !own->copy.used || !end->quantization.on) continue;
        quantize_end(walk, &end->quantization, own->scale, &own->seen.shape, tensor_floats(&own->seen),
                     floats_at(&walk->values[end->value].place, piece));
    }
}

static bool take_inputs(Backward *walk, Tensor *const *inputs, Error *error)
{
    const Program *program = walk->program;
    for (int i = 0; i < program->given_count; i++) {
        int index = program_value(program, program->given[i]);
        const ProgramValue *value = &program->values[index];
        Tensor *input = program_take_input(program, i, inputs[i], error);
        if (!input) return false;
        tensor_release(walk->inputs[i]);
        walk->inputs[i] = input;
        walk->values[index].place =
            (Place){.base = input->data, .apart = value->batched ? value->bytes / (size_t)walk->units : 0, .used = true};
        walk->values[index].made = NULL;
    }
    return true;
}

bool backward_forward(Backward *walk, Tensor *const *inputs, const Tensor **outputs, Error *error)
{
    const Program *program = walk->program;
    if (!take_inputs(walk, inputs, error)) return false;
    see_parameters(walk);
    for (int piece = 0; piece < program->pieces; piece++) {
        for (int n = 0; n < walk->segment_count; n++) {
            const WalkSegment *segment = &walk->segments[n];
            for (int unit = 0; unit < (segment->by_unit ? walk->units : 1); unit++) {
                if (!cancel_check(error)) return false;
                for (int i = segment->first; i < segment->end; i++)
                    run_step(walk, segment->by_unit ? &walk->unit_steps[i] : &walk->steps[i], segment->by_unit ? unit : piece);
            }
        }
    }
    for (int i = 0; i < program->wanted_count; i++) {
        walk->outputs[i].data = walk->values[program->wanted_index[i]].place.base;
        outputs[i] = &walk->outputs[i];
    }
    return true;
}

/* ---- back ---- */

typedef struct AddTask {
    const float *from;
    float *to;
} AddTask;

static void add_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const AddTask *task = context;
    const float *from = task->from;
    float *to = task->to;
    for (int64_t i = begin; i < end; i++)
        to[i] += from[i];
}

static void add_floats(const float *from, float *to, int64_t count)
{
    AddTask task = {from, to};
    threads_for(count, ADD_GRAIN, add_body, &task);
}

/* Does the gradient stand, of all that the step reads and writes at this piece (or unit)? */
static bool stands(const WalkValue *value, const WalkStep *step, int piece)
{
    return value->begun > piece + step->ahead;
}

static void begin_value(WalkValue *value, const WalkStep *step, int piece)
{
    value->begun = piece + step->ahead + 1;
}

/* The loss' own gradients at the outputs, for one piece; what was padded gains nothing. */
static void begin_gradients(Backward *walk, Tensor *const *gradients, int piece)
{
    const Program *program = walk->program;
    for (int i = 0; i < program->value_count; i++)
        walk->values[i].begun = 0;
    for (int i = 0; i < program->wanted_count; i++) {
        const ProgramValue *value = &program->values[program->wanted_index[i]];
        WalkValue *own = &walk->values[program->wanted_index[i]];
        size_t first = value->batched ? (size_t)piece * value->bytes : 0, all = gradients[i] ? tensor_bytes(gradients[i]) : 0;
        if (!gradients[i] || !own->needs || (piece > 0 && !value->batched)) continue;
        size_t bytes = first >= all ? 0 : all - first < value->bytes ? all - first : value->bytes;
        if (own->begun) {
            add_floats((const float *)(const void *)(gradients[i]->data + first), floats_at(&own->gradient, 0),
                       (int64_t)(bytes / sizeof(float)));
            continue;
        }
        memcpy(own->gradient.base, gradients[i]->data + first, bytes);
        memset(own->gradient.base + bytes, 0, value->bytes - bytes);
        own->begun = piece + walk->units;
    }
}

/* Gradients of the outputs as run left them. False: the loss hangs on none. */
static bool take_output_gradients(Backward *walk, const WalkStep *step, int piece)
{
    const Node *node = step->program->node;
    bool any = false;
    for (int i = 0; i < node->output_count; i++) {
        const ProgramEnd *end = &step->program->outputs[i];
        WalkEnd *own = &step->outputs[i];
        step->output_gradients[i] = NULL;
        if (end->value < 0 || !stands(&walk->values[end->value], step, piece)) continue;
        own->gradient.data = at_piece(&walk->values[end->value].gradient, piece);
        if (own->copy.used && end->quantization.on)
            unquantize_end(walk, &end->quantization, own->scale, &own->seen.shape, tensor_floats(&own->seen),
                           tensor_floats(&own->gradient));
        step->output_gradients[i] = &own->gradient;
        any = true;
    }
    return any;
}

/* Where the gradient of each input is made: at once in its place, where nothing stands there yet. */
static void place_input_gradients(Backward *walk, const WalkStep *step, int piece)
{
    const Node *node = step->program->node;
    for (int i = 0; i < node->input_count; i++) {
        WalkEnd *own = &step->inputs[i];
        step->input_gradients[i] = NULL;
        if (!own->wants) continue;
        step->input_gradients[i] = &own->gradient;
        own->gradient.data = walk->spare.base + own->spare;
        if (own->parameter >= 0) {
            WalkParameter *parameter = &walk->parameters[own->parameter];
            if (!parameter->written) own->gradient.data = parameter->gradient.base;
            continue;
        }
        WalkValue *value = &walk->values[step->program->inputs[i].value];
        if (!value->gradient.used || stands(value, step, piece)) continue;
        own->gradient.data = at_piece(&value->gradient, piece);
        begin_value(value, step, piece);
    }
}

static void finish_parameter(Backward *walk, const WalkStep *step, int index)
{
    const WalkEnd *own = &step->inputs[index];
    WalkParameter *parameter = &walk->parameters[own->parameter];
    const BackwardParameter *given = &walk->options.parameters[own->parameter];
    const Quantization *quantization = &step->program->inputs[index].quantization;
    if (quantization->on && !given->replacement)
        unquantize_end(walk, quantization, own->scale, &given->shape, given->values, tensor_floats(&own->gradient));
    if (own->gradient.data != parameter->gradient.base) add_floats(tensor_floats(&own->gradient), given->gradient, given->count);
    parameter->written = true;
}

static void finish_input(Backward *walk, const WalkStep *step, int index, int piece)
{
    const ProgramEnd *end = &step->program->inputs[index];
    const WalkEnd *own = &step->inputs[index];
    const WalkValue *value = &walk->values[end->value];
    if (!step->program->constants[index] && copies_input(walk, step, index))
        unquantize_end(walk, &end->quantization, own->scale, &own->seen.shape, floats_at(&value->place, piece),
                       tensor_floats(&own->gradient));
    if (value->gradient.used && own->gradient.data != at_piece(&value->gradient, piece))
        add_floats(tensor_floats(&own->gradient), floats_at(&value->gradient, piece), tensor_count(&own->gradient));
}

static void back_step(Backward *walk, const WalkStep *step, int piece)
{
    const Node *node = step->program->node;
    bool wants = false;
    bind_step(walk, step, piece);
    if (!take_output_gradients(walk, step, piece)) return;
    for (int i = 0; i < node->input_count; i++)
        wants = wants || step->inputs[i].wants;
    if (wants) place_input_gradients(walk, step, piece);
    if (step->in_blocks) blocks_back(walk, step);
    if (!wants) return;
    Gradient gradient = {.node = node,
                         .inputs = step->seen_inputs,
                         .outputs = step->left_outputs,
                         .output_gradients = step->output_gradients,
                         .input_gradients = step->input_gradients,
                         .state = step->program->prepare.state,
                         .scratch = walk->scratch.base};
    if (!step->in_blocks) node->op->gradient(&gradient);
    for (int i = 0; i < node->input_count; i++) {
        if (!step->inputs[i].wants) continue;
        if (step->inputs[i].parameter >= 0)
            finish_parameter(walk, step, i);
        else
            finish_input(walk, step, i, piece);
    }
}

static void back_segment(Backward *walk, const WalkSegment *segment, int piece)
{
    for (int unit = 0; unit < (segment->by_unit ? walk->units : 1); unit++)
        for (int i = segment->end - 1; i >= segment->first; i--) {
            const WalkStep *step = segment->by_unit ? &walk->unit_steps[i] : &walk->steps[i];
            if (step->back) back_step(walk, step, segment->by_unit ? unit : piece);
        }
}

static void keep_input_gradients(const Backward *walk, int piece)
{
    const Program *program = walk->program;
    for (int i = 0; walk->options.input_gradients && i < program->given_count; i++) {
        int index = program_value(program, program->given[i]);
        const WalkValue *value = &walk->values[index];
        size_t bytes = program->values[index].bytes;
        if (!value->needs) continue;
        char *to = walk->input_places[i].base + (program->values[index].batched ? (size_t)piece * bytes : 0);
        if (!program->values[index].batched && piece > 0) {
            if (value->begun) add_floats(floats_at(&value->gradient, 0), (float *)(void *)to, (int64_t)(bytes / sizeof(float)));
        } else if (value->begun) {
            memcpy(to, value->gradient.base, bytes);
        } else {
            memset(to, 0, bytes);
        }
    }
}

bool backward_back(Backward *walk, Tensor *const *gradients, Error *error)
{
    const Program *program = walk->program;
    for (int i = 0; i < walk->options.parameter_count; i++)
        walk->parameters[i].written = false;
    for (int i = 0; i < walk->options.scale_count; i++)
        memset(walk->options.scales[i].gradient, 0, (size_t)walk->options.scales[i].count * sizeof(float));
    for (int piece = 0; piece < program->pieces; piece++) {
        if (!cancel_check(error)) return false;
        begin_gradients(walk, gradients, piece);
        for (int n = walk->segment_count - 1; n >= 0; n--)
            back_segment(walk, &walk->segments[n], piece);
        keep_input_gradients(walk, piece);
    }
    for (int i = 0; i < walk->options.parameter_count; i++)
        if (!walk->parameters[i].written)
            memset(walk->options.parameters[i].gradient, 0, (size_t)walk->options.parameters[i].count * sizeof(float));
    return true;
}
