#include "optim/training.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "base/math.h"
#include "base/memory.h"
#include "base/random.h"
#include "graph/operator.h"
#include "kernel/quantize.h"
#include "optim/layers.h"
#include "optim/pull.h"
#include "quant/quantize.h"
#include "train/loss.h"

#define PI 3.14159265358979323846

/* ---- what is trained ---- */

/* The reference trains every constant of computing operators, Add and Mul, and of the others what is quantized (OPTIM §6.4). */
static bool trains_constant(const Training *training, const Node *node, int index)
{
    const TrainMethod *method = training->method;
    if (!node->quantized || !backward_can_train(node, index)) return false;
    const Slot *slot = node->input_slots[index];
    if (method->rounding) return slot_quantizes(slot) && (slot->state == SLOT_ACTIVATED || method->biases);
    bool all = node->op->flags & OPERATOR_COMPUTING || strcmp(node->type, "Add") == 0 || strcmp(node->type, "Mul") == 0;
    return all || slot_quantizes(slot);
}

static bool trains_rounding(const Training *training, const Slot *slot)
{
    return training->method->rounding && slot->state == SLOT_ACTIVATED;
}

/* Roots only: what follows them keeps its exponent, or keeps up (O19). */
static void add_scale(Training *training, Slot *slot, const Value *value)
{
    bool there = value && value->dtype == DTYPE_FLOAT32 && slot->state == SLOT_ACTIVATED && slot->parent == slot && slot_quantizes(slot);
    if (there && value->constant) {
        there = false;
        for (int i = 0; i < training->parameter_count; i++)
            there = there || (training->parameters[i].node == slot->node && training->parameters[i].index == slot->index);
    }
    if (!there) return;
    training->starts[training->scale_count] = slot->exponents;
    training->scales[training->scale_count++] = slot;
}

static void list_trained(Training *training)
{
    const Block *block = training->block;
    for (int i = 0; i < block->node_count; i++)
        for (int k = 0; k < block->nodes[i]->input_count; k++)
            if (trains_constant(training, block->nodes[i], k))
                training->parameters[training->parameter_count++] = (BackwardParameter){.node = block->nodes[i], .index = k};
    for (int i = 0; training->method->scales && i < block->node_count; i++) {
        const Node *node = block->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++)
            add_scale(training, node->input_slots[k], node->inputs[k]);
        for (int k = 0; node->quantized && k < node->output_count; k++)
            add_scale(training, node->output_slots[k], node->outputs[k]);
    }
}

static bool is_listed(Value *const *values, int count, const Value *value)
{
    for (int i = 0; i < count; i++)
        if (values[i] == value) return true;
    return false;
}

bool training_begin(Training *training, Graph *graph, const Block *block, const TrainMethod *method, Error *error)
{
    size_t ends = 1, inputs = (size_t)block->first->input_count, outputs = (size_t)block->last->output_count;
    for (int i = 0; i < block->node_count; i++)
        ends += (size_t)(block->nodes[i]->input_count + block->nodes[i]->output_count);
    *training = (Training){.graph = graph, .block = block, .method = method};
    training->inputs = memory_new_array(inputs + outputs + 1, sizeof(Value *));
    training->rows = memory_new_array((inputs + outputs) * 2 + 1, sizeof(Tensor *));
    training->results = memory_new_array(outputs + 1, sizeof(Tensor *));
    training->parameters = memory_new_array(ends, sizeof *training->parameters);
    training->scales = memory_new_array(ends, sizeof(Slot *));
    training->starts = memory_new_array(ends, sizeof *training->starts);
    training->rounding = memory_new_array(ends, sizeof *training->rounding);
    training->values = memory_new_array(ends * 2, sizeof *training->values);
    training->gradients = memory_new_array(ends * 2, sizeof *training->gradients);
    if (!training->inputs || !training->rows || !training->results || !training->parameters || !training->scales || !training->starts ||
        !training->rounding || !training->values || !training->gradients)
        return fail_memory(error, ends * sizeof *training->parameters);
    training->outputs = training->inputs + inputs;
    for (size_t i = 0; i < inputs; i++) {
        Value *value = block->first->inputs[i];
        if (value && !value->constant && !is_listed(training->inputs, training->input_count, value))
            training->inputs[training->input_count++] = value;
    }
    for (size_t i = 0; i < outputs; i++)
        if (block->last->outputs[i] && block->last->outputs[i]->dtype == DTYPE_FLOAT32)
            training->outputs[training->output_count++] = block->last->outputs[i];
    list_trained(training);
    return true;
}

bool training_has_work(const Training *training)
{
    return training->parameter_count + training->scale_count > 0 && training->output_count > 0;
}

int training_moved(const Training *training, int scale)
{
    const Slot *slot = training->scales[scale];
    int moved = 0;
    for (int i = 0; i < slot->exponent_count; i++)
        moved += slot->exponents[i] != training->starts[scale][i];
    return moved;
}

/* ---- walks, one for each shape of batches ---- */

static void clear_walk(TrainingWalk *walk, int outputs)
{
    backward_free(walk->walk);
    for (int i = 0; walk->gradients && i < outputs; i++)
        tensor_release(walk->gradients[i]);
    memory_free(walk->gradients);
    memory_free(walk->shapes);
    memory_free(walk->parameters);
    memory_free(walk->scales);
    *walk = (TrainingWalk){0};
}

void training_end(Training *training)
{
    for (int i = 0; i < TRAINING_WALKS; i++)
        clear_walk(&training->walks[i], training->output_count);
    for (int i = 0; training->rounding && i < training->parameter_count; i++)
        soft_rounding_end(&training->rounding[i]);
    optimizer_free(training->optimizer);
    memory_free(training->inputs);
    memory_free(training->rows);
    memory_free(training->results);
    memory_free(training->parameters);
    memory_free(training->scales);
    memory_free(training->starts);
    memory_free(training->rounding);
    memory_free(training->values);
    memory_free(training->gradients);
    *training = (Training){0};
}

/* Softly rounded weights in place of quantized ones, once that is trained. */
static void replace_values(const Training *training, TrainingWalk *walk)
{
    for (int i = 0; i < training->parameter_count; i++)
        if (training->rounding[i].slot) walk->parameters[i].replacement = training->rounding[i].seen;
}

static bool make_walk(Training *training, TrainingWalk *walk, Tensor *const *inputs, Error *error)
{
    size_t parameters = (size_t)training->parameter_count + 1, scales = (size_t)training->scale_count + 1;
    walk->shapes = memory_new_array((size_t)training->input_count + 1, sizeof *walk->shapes);
    walk->gradients = memory_new_array((size_t)training->output_count + 1, sizeof *walk->gradients);
    walk->parameters = memory_new_array(parameters, sizeof *walk->parameters);
    walk->scales = memory_new_array(scales, sizeof *walk->scales);
    if (!walk->shapes || !walk->gradients || !walk->parameters || !walk->scales) return fail_memory(error, parameters * sizeof(float *));
    for (int i = 0; i < training->input_count; i++)
        walk->shapes[i] = inputs[i]->shape;
    for (int i = 0; i < training->parameter_count; i++)
        walk->parameters[i] = training->parameters[i];
    for (int i = 0; i < training->scale_count; i++)
        walk->scales[i].slot = training->scales[i];
    BackwardOptions options = {.exact = training->method->all->switches.onnx_exact_ops,
                               .masks_channels = !training->method->rounding || training->method->biases,
                               .given = training->inputs,
                               .given_count = training->input_count,
                               .wanted = training->outputs,
                               .wanted_count = training->output_count,
                               .parameters = walk->parameters,
                               .parameter_count = training->parameter_count,
                               .scales = walk->scales,
                               .scale_count = training->scale_count};
    walk->walk = backward_new(training->graph, &options, walk->shapes, error);
    if (walk->walk) replace_values(training, walk);
    return walk->walk != NULL;
}

static void bind_values(Training *training)
{
    TrainingWalk *walk = &training->walks[training->current];
    for (int i = 0; i < training->parameter_count; i++) {
        bool rounds = training->rounding[i].slot != NULL;
        training->values[i] = rounds ? training->rounding[i].v : walk->parameters[i].values;
        training->gradients[i] = rounds ? training->rounding[i].gradient : walk->parameters[i].gradient;
    }
    for (int i = 0; i < training->scale_count; i++) {
        training->values[training->parameter_count + i] = walk->scales[i].log2;
        training->gradients[training->parameter_count + i] = walk->scales[i].gradient;
    }
}

static void copy_values(const Training *training, const TrainingWalk *from, TrainingWalk *to)
{
    for (int i = 0; i < training->parameter_count; i++)
        memcpy(to->parameters[i].values, from->parameters[i].values, (size_t)from->parameters[i].count * sizeof(float));
    for (int i = 0; i < training->scale_count; i++)
        memcpy(to->scales[i].log2, from->scales[i].log2, (size_t)from->scales[i].count * sizeof(float));
}

/* The walk for batches of these shapes, with the present values. */
static bool choose_walk(Training *training, Tensor *const *inputs, Error *error)
{
    for (int k = 0; k < training->walk_count; k++) {
        const TrainingWalk *walk = &training->walks[k];
        bool same = true;
        for (int i = 0; i < training->input_count; i++)
            same = same && shape_equal(&walk->shapes[i], &inputs[i]->shape);
        if (!same) continue;
        if (k != training->current) {
            copy_values(training, &training->walks[training->current], &training->walks[k]);
            training->current = k;
            bind_values(training);
        }
        return true;
    }
    int next = training->walk_count ? (training->current + 1) % TRAINING_WALKS : 0;
    TrainingWalk *walk = &training->walks[next];
    clear_walk(walk, training->output_count);
    if (!make_walk(training, walk, inputs, error)) return false;
    if (training->walk_count) copy_values(training, &training->walks[training->current], walk);
    if (next >= training->walk_count) training->walk_count = next + 1;
    training->current = next;
    bind_values(training);
    return true;
}

/* ---- loss ---- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bool run_forward(Training *training, double *loss, bool gradients, Error *error)
{
    Tensor **inputs = training->rows + training->output_count;
    if (!choose_walk(training, inputs, error)) return false;
    TrainingWalk *walk = &training->walks[training->current];
    if (!backward_forward(walk->walk, inputs, training->results, error)) return false;
    *loss = 0;
    for (int i = 0; i < training->output_count; i++) {
        Error ignored;
        double value;
        if (gradients && !walk->gradients[i] &&
            !(walk->gradients[i] = tensor_new_unset(DTYPE_FLOAT32, &training->results[i]->shape, error)))
            return false;
        LossCall call = {
            .output = training->results[i], .target = training->rows[i], .weight = 1, .gradient = gradients ? walk->gradients[i] : NULL};
        if (tensor_count(call.output) == 0) continue;
        if (!loss_run(loss_find("mse", &ignored), &call, &value, error)) return false;
        *loss += value;
    }
    return true;
}

static bool forward(Training *training, int64_t batch, double *loss, bool gradients, Error *error)
{
    if (!cache_row(training->cache, batch, training->rows, training->rows + training->output_count, error)) return false;
    bool ok = run_forward(training, loss, gradients, error);
    for (int i = 0; i < training->output_count + training->input_count; i++)
        tensor_release(training->rows[i]);
    return ok;
}

bool training_loss(Training *training, double *loss, Error *error)
{
    double sum = 0;
    for (int64_t i = 0; i < training->judging; i++) {
        double value;
        if (!forward(training, training->first_judge + i, &value, false, error)) return false;
        sum += value;
    }
    *loss = sum / (double)training->judging;
    return true;
}

/* ---- steps ---- */

/* Floats of one of the arrays that training moves: parameters, then scales. */
static int64_t moved_count(const Training *training, int index)
{
    const TrainingWalk *walk = &training->walks[training->current];
    int scale = index - training->parameter_count;
    return scale < 0 ? walk->parameters[index].count : walk->scales[scale].count;
}

static bool make_optimizer(Training *training, Error *error)
{
    const TrainMethod *method = training->method;
    int parameters = training->parameter_count, count = parameters + training->scale_count;
    double scale_rate = method->setting->scale_lr > 0 && method->setting->lr > 0 ? method->setting->scale_lr / method->setting->lr : 1;
    OptimizerGroup *groups = memory_new_array((size_t)count + 1, sizeof *groups);
    if (!groups) return fail_memory(error, (size_t)count * sizeof *groups);
    for (int i = 0; i < count; i++)
        groups[i] = (OptimizerGroup){.count = moved_count(training, i), .rate = i < parameters ? 1 : scale_rate};
    OptimizerOptions options = optimizer_defaults(optimizer_row_at(0));
    training->optimizer = optimizer_new(&options, groups, count, error);
    memory_free(groups);
    return training->optimizer != NULL;
}

/* 2 * lambda * (log2 - rint(log2)) / n (OPTIM §7.3) */
static void pull_to_integers(const Training *training, double lambda)
{
    TrainingWalk *walk = (TrainingWalk *)&training->walks[training->current];
    for (int i = 0; i < training->scale_count; i++) {
        BackwardScale *scale = &walk->scales[i];
        for (int k = 0; k < scale->count; k++)
            scale->gradient[k] += (float)(2 * lambda * (double)(scale->log2[k] - rintf(scale->log2[k])) / scale->count);
    }
}

/* gamma * MSE(W, Q(W)): has a gradient only where one scale serves the whole weight and clips it (O9). */
static void pull_clipped(const Training *training, double gamma)
{
    const TrainingWalk *walk = &training->walks[training->current];
    for (int i = 0; i < training->parameter_count; i++) {
        const BackwardParameter *parameter = &walk->parameters[i];
        Slot *slot = parameter->node->input_slots[parameter->index];
        if (!(parameter->node->op->flags & OPERATOR_COMPUTING) || parameter->index != 1 || !slot_quantizes(slot) ||
            slot_exponent_count(slot) > 1)
            continue;
        const Slot *root = slot_root(slot);
        const float *seen = backward_seen(walk->walk, parameter);
        float inverse = ldexpf(1.0f, -slot_exponent(slot, 0)), factor = (float)(2 * gamma / (double)parameter->count);
        for (int64_t k = 0; k < parameter->count; k++) {
            float whole = round_float(parameter->values[k] * inverse, slot->rounding);
            if (whole < (float)root->minimum || whole > (float)root->maximum)
                parameter->gradient[k] += (parameter->values[k] - seen[k]) * factor;
        }
    }
}

/* The reference's schedule (OPTIM §9): off for a fifth of the steps, then from 20 down to 2. Whole powers are made by products. */
static void round_back(Training *training, int64_t step)
{
    const TrainingWalk *walk = &training->walks[training->current];
    double done = ((double)step / (double)training->method->setting->steps - 0.2) / 0.8;
    bool pulls = !training->method->soft && done >= 0;
    int power = pulls ? (int)rint(2 + 9 * (1 + espq_cos(PI * done))) : 0;
    float pull = pulls ? (float)(0.01 * training->method->setting->gamma) : 0.0f;
    for (int i = 0; i < training->parameter_count; i++)
        if (training->rounding[i].slot) soft_rounding_back(&training->rounding[i], walk->parameters[i].gradient, pull, power);
}

static void see_rounding(const Training *training)
{
    for (int i = 0; training->method->rounding && i < training->parameter_count; i++)
        if (training->rounding[i].slot) soft_rounding_see(&training->rounding[i]);
}

static int whole_log2(float log2)
{
    return (int)fminf(fmaxf(rintf(log2), -126.0f), 126.0f);
}

/* Exponents of trained scales, to the graph. */
static bool set_scales(Training *training, bool *moved, Error *error)
{
    const TrainingWalk *walk = &training->walks[training->current];
    *moved = false;
    for (int i = 0; i < training->scale_count; i++) {
        const BackwardScale *scale = &walk->scales[i];
        bool own = false;
        for (int k = 0; k < scale->count; k++)
            own = own || whole_log2(scale->log2[k]) != slot_exponent(scale->slot, k);
        if (!own) continue;
        int *exponents = memory_new_array((size_t)scale->count, sizeof *exponents);
        if (!exponents) return fail_memory(error, (size_t)scale->count * sizeof *exponents);
        for (int k = 0; k < scale->count; k++)
            exponents[k] = whole_log2(scale->log2[k]);
        bool ok = slot_set_exponents(training->graph, scale->slot, exponents, scale->count);
        memory_free(exponents);
        if (!ok) return fail_memory(error, (size_t)scale->count * sizeof *exponents);
        *moved = true;
    }
    return true;
}

static bool follow_scales(Training *training, Error *error)
{
    bool moved;
    if (!set_scales(training, &moved, error)) return false;
    if (!moved) return true;
    if (!passive_follow(training->graph, training->method->all, error)) return false;
    for (int i = 0; i < training->walk_count; i++)
        if (!backward_refresh(training->walks[i].walk, error)) return false;
    return true;
}

static double rate_at(const TrainMethod *method, int64_t step)
{
    double done = (double)step / (double)method->setting->steps;
    return method->setting->lr * (method->cosine ? 0.5 * (1 + espq_cos(PI * done)) : 1);
}

static bool make_step(Training *training, int64_t step, int64_t batch, bool *finite, Error *error)
{
    const TrainSetting *setting = training->method->setting;
    double begin = seconds(), loss = 0;
    if (!forward(training, batch, &loss, true, error)) return false;
    double went = seconds();
    training->times->forward += went - begin;
    if (!(*finite = isfinite(loss))) return true;
    TrainingWalk *walk = &training->walks[training->current];
    if (!backward_back(walk->walk, walk->gradients, error)) return false;
    begin = seconds();
    training->times->backward += begin - went;
    if (training->method->rounding) round_back(training, step);
    if (training->method->pull > 0) pull_to_start(walk->parameters, training->parameter_count, training->method->pull);
    if (setting->int_lambda > 0) pull_to_integers(training, setting->int_lambda);
    if (setting->gamma != 0 && !training->method->rounding) pull_clipped(training, setting->gamma);
    optimizer_step(training->optimizer, rate_at(training->method, step), training->values, training->gradients);
    see_rounding(training);
    bool ok = !training->method->follows || !training->scale_count || follow_scales(training, error);
    training->times->update += seconds() - begin;
    return ok;
}

/* ---- the best state seen (keep_best, OPTIM §12) ---- */

typedef struct BestState {
    double loss;
    float *values; /* one array of training->values behind the other */
} BestState;

/* Everything that training moves, to `kept` or from it. */
static void copy_state(Training *training, float *kept, bool back)
{
    for (int i = 0; i < training->parameter_count + training->scale_count; i++) {
        size_t count = (size_t)moved_count(training, i);
        memcpy(back ? training->values[i] : kept, back ? kept : training->values[i], count * sizeof *kept);
        kept += count;
    }
}

static size_t state_floats(const Training *training)
{
    size_t count = 0;
    for (int i = 0; i < training->parameter_count + training->scale_count; i++)
        count += (size_t)moved_count(training, i);
    return count;
}

static void harden_rounding(const Training *training)
{
    for (int i = 0; training->method->rounding && !training->method->soft && i < training->parameter_count; i++)
        if (training->rounding[i].slot) soft_rounding_harden(&training->rounding[i]);
}

/* Judges as it is judged in the end; keeps a state that is better than the best so far. */
static bool look(Training *training, int64_t step, BestState *best, Error *error)
{
    double loss;
    harden_rounding(training);
    if (!training_loss(training, &loss, error)) return false;
    see_rounding(training);
    if (!(loss < best->loss)) return true;
    best->loss = loss;
    training->best_step = step;
    copy_state(training, best->values, false);
    return true;
}

static bool take_best(Training *training, const BestState *best, Error *error)
{
    if (!training->best_step) return true;
    copy_state(training, best->values, true);
    see_rounding(training);
    return !training->method->follows || !training->scale_count || follow_scales(training, error);
}

/* A new order of the batches, for each round. */
static void shuffle(Random *random, int64_t *order, int64_t count)
{
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t other = (int64_t)(random_uniform(random) * (double)(i + 1)), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
}

static bool make_steps(Training *training, int64_t *order, BestState *best, bool *finite, Error *error)
{
    Random random;
    int64_t seed = training->method->all->block_seed, batches = training->learning, steps = training->method->setting->steps;
    int64_t every = training->method->all->keep_best;
    random_seed(&random, (uint64_t)seed);
    for (int64_t i = 0; i < batches; i++)
        order[i] = i;
    for (int64_t step = 0; *finite && step < steps; step++) {
        if (seed && step % batches == 0) shuffle(&random, order, batches);
        if (!make_step(training, step, order[step % batches], finite, error)) return false;
        bool looks = every && *finite && ((step + 1) % every == 0 || step + 1 == steps);
        if (looks && !look(training, step + 1, best, error)) return false;
    }
    return !every || !*finite || take_best(training, best, error);
}

static bool begin_rounding(Training *training, Error *error)
{
    for (int i = 0; training->method->rounding && i < training->parameter_count; i++) {
        const BackwardParameter *parameter = &training->parameters[i];
        Slot *slot = parameter->node->input_slots[parameter->index];
        if (!trains_rounding(training, slot)) continue;
        if (!soft_rounding_begin(&training->rounding[i], slot, parameter->node->inputs[parameter->index]->constant, error)) return false;
        soft_rounding_see(&training->rounding[i]);
    }
    for (int i = 0; i < training->walk_count; i++)
        replace_values(training, &training->walks[i]);
    bind_values(training);
    return true;
}

static bool run_steps(Training *training, bool *finite, Error *error)
{
    bool keeps = training->method->all->keep_best > 0;
    size_t floats = keeps ? state_floats(training) : 0;
    BestState best = {.loss = INFINITY, .values = keeps ? memory_new_array(floats + 1, sizeof *best.values) : NULL};
    int64_t *order = memory_new_array((size_t)training->learning + 1, sizeof *order);
    bool ok = (order && (!keeps || best.values)) || fail_memory(error, (size_t)training->learning * sizeof *order);
    ok = ok && make_steps(training, order, &best, finite, error);
    memory_free(order);
    memory_free(best.values);
    return ok;
}

bool training_run(Training *training, bool *finite, Error *error)
{
    *finite = true;
    training->best_step = 0;
    bool ok = begin_rounding(training, error) && make_optimizer(training, error) && run_steps(training, finite, error);
    if (ok && *finite) harden_rounding(training);
    return ok;
}

/* ---- what is kept ---- */

static bool is_finite(const Training *training)
{
    const TrainingWalk *walk = &training->walks[training->current];
    bool finite = true;
    for (int i = 0; i < training->parameter_count; i++)
        finite = finite && find_not_finite_f32(training->values[i], walk->parameters[i].count) < 0;
    for (int i = 0; i < training->scale_count; i++)
        finite = finite && find_not_finite_f32(walk->scales[i].log2, walk->scales[i].count) < 0;
    return finite;
}

/* Float runs go on with the constant as it was loaded: later blocks are judged by it, and the analyses too. */
static bool set_constant(Training *training, int index, Error *error)
{
    const BackwardParameter *own = &training->parameters[index];
    Value *value = own->node->inputs[own->index];
    SoftRounding *rounding = &training->rounding[index];
    Tensor *tensor = tensor_new_unset(DTYPE_FLOAT32, &value->constant->shape, error);
    if (!tensor) return false;
    if (rounding->slot) soft_rounding_harden(rounding);
    memcpy(tensor->data, rounding->slot ? rounding->seen : training->values[index], tensor_bytes(tensor));
    Tensor *exact = tensor_retain(value->unbaked ? value->unbaked : value->constant);
    bool ok = layer_set_constant(training->graph, own->node, own->index, tensor, error);
    if (ok)
        own->node->inputs[own->index]->unbaked = exact;
    else
        tensor_release(exact);
    tensor_release(tensor);
    return ok;
}

bool training_keep(Training *training, bool *finite, Error *error)
{
    bool moved;
    if (!(*finite = is_finite(training))) return true;
    for (int i = 0; i < training->parameter_count; i++)
        if (!set_constant(training, i, error)) return false;
    return set_scales(training, &moved, error);
}
