/* The trainer at work: forward, back, and a step. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/threads.h"
#include "kernel/quantize.h"
#include "train/trainer_parts.h"

#define ADD_GRAIN 32768
#define MOST_EXPONENT 60 /* a trained scale beyond 2^±60 is no scale of anything */

/* ---- walks ---- */

void trainer_walk_free(TrainerWalk *walk)
{
    backward_free(walk->walk);
    memory_free(walk->parameters);
    memory_free(walk->scales);
    memory_free(walk->shapes);
    *walk = (TrainerWalk){.piece = -1};
}

static bool carries_samples(const Trainer *trainer, const Tensor *given)
{
    return given->shape.rank > 0 && given->shape.dims[0] == trainer->samples;
}

static Shape piece_shape(const Trainer *trainer, int input, int64_t samples)
{
    Shape shape = trainer->inputs[input]->shape;
    if (carries_samples(trainer, trainer->inputs[input])) shape.dims[0] = samples;
    return shape;
}

static bool walk_make(Trainer *trainer, TrainerWalk *walk, int64_t samples, Error *error)
{
    walk->shapes = memory_new_array((size_t)trainer->graph->input_count + 1, sizeof *walk->shapes);
    walk->parameters = memory_new_array((size_t)trainer->use_count + 1, sizeof *walk->parameters);
    walk->scales = memory_new_array((size_t)trainer->scale_count + 1, sizeof *walk->scales);
    if (!walk->shapes || !walk->parameters || !walk->scales)
        return fail_memory(error, (size_t)trainer->use_count * sizeof *walk->parameters);
    for (int i = 0; i < trainer->graph->input_count; i++)
        walk->shapes[i] = piece_shape(trainer, i, samples);
    for (int i = 0; i < trainer->use_count; i++)
        walk->parameters[i] = (BackwardParameter){.node = trainer->uses[i].node, .index = trainer->uses[i].index};
    for (int i = 0; i < trainer->scale_count; i++)
        walk->scales[i] = (BackwardScale){.slot = trainer->scales[i].slot};
    BackwardOptions options = {.exact = trainer->options.exact,
                               .masks_channels = trainer->scale_count > 0,
                               .wanted = trainer->wanted,
                               .wanted_count = trainer->wanted_count,
                               .parameters = walk->parameters,
                               .parameter_count = trainer->use_count,
                               .scales = walk->scales,
                               .scale_count = trainer->scale_count};
    walk->walk = backward_new(trainer->graph, &options, walk->shapes, error);
    walk->piece = -1;
    walk->version = 0;
    return walk->walk != NULL;
}

static bool fits(const Trainer *trainer, const TrainerWalk *walk, int64_t samples)
{
    for (int i = 0; walk->walk && i < trainer->graph->input_count; i++) {
        Shape shape = piece_shape(trainer, i, samples);
        if (!shape_equal(&shape, &walk->shapes[i])) return false;
    }
    return walk->walk != NULL;
}

/* The walk for so many samples: one that stands, or a new one in place of that used longest ago. */
static TrainerWalk *walk_for(Trainer *trainer, int64_t samples, Error *error)
{
    TrainerWalk *walk = &trainer->walks[0];
    for (int i = 0; i < TRAINER_WALKS; i++) {
        TrainerWalk *other = &trainer->walks[i];
        if (fits(trainer, other, samples)) {
            other->used = ++trainer->clock;
            return other;
        }
        if (!other->walk || (walk->walk && other->used < walk->used)) walk = other;
    }
    trainer_walk_free(walk);
    if (!walk_make(trainer, walk, samples, error)) {
        trainer_walk_free(walk);
        return NULL;
    }
    walk->used = ++trainer->clock;
    return walk;
}

static void give_values(const Trainer *trainer, TrainerWalk *walk)
{
    if (walk->version == trainer->version) return;
    for (int i = 0; i < trainer->use_count; i++) {
        const TrainedConstant *constant = &trainer->constants[trainer->uses[i].constant];
        memcpy(walk->parameters[i].values, constant->values, (size_t)constant->count * sizeof(float));
    }
    for (int i = 0; i < trainer->scale_count; i++)
        memcpy(walk->scales[i].log2, trainer->scales[i].log2, (size_t)trainer->scales[i].count * sizeof(float));
    walk->version = trainer->version;
    walk->piece = -1;
}

/* ---- pieces of a batch ---- */

/* What a walk of `samples` would hold; the memory is asked for, and given back untouched. */
static bool measure(Trainer *trainer, int64_t samples, size_t *bytes, Error *error)
{
    TrainerWalk walk = {0};
    bool made = walk_make(trainer, &walk, samples, error);
    if (made) *bytes = backward_bytes(walk.walk);
    trainer_walk_free(&walk);
    return made;
}

/* How many samples go through at once: as many as the limit allows, in equal pieces where that costs less than half of them. */
static bool choose_piece(Trainer *trainer, Error *error)
{
    int64_t unit = trainer->unit, units = trainer->samples / unit;
    trainer->piece = trainer->samples;
    if (trainer->options.memory_limit && units > 1 && trainer->samples % unit == 0) {
        size_t one, two;
        if (!trainer->unit_bytes) {
            if (!measure(trainer, unit, &one, error) || !measure(trainer, 2 * unit, &two, error)) return false;
            trainer->unit_bytes = two > one ? two - one : 1;
            trainer->fixed_bytes = one > trainer->unit_bytes ? one - trainer->unit_bytes : 0;
        }
        size_t limit = trainer->options.memory_limit, left = limit > trainer->fixed_bytes ? limit - trainer->fixed_bytes : 0;
        int64_t most = (int64_t)(left / trainer->unit_bytes);
        if (most < 1) most = 1;
        if (most > units) most = units;
        int64_t equal = most;
        while (units % equal != 0 && equal > (most + 1) / 2)
            equal--;
        if (units % equal == 0) most = equal;
        trainer->piece = most * unit;
    }
    trainer->piece_count = (int)((trainer->samples + trainer->piece - 1) / trainer->piece);
    return true;
}

static int64_t piece_begin(const Trainer *trainer, int piece)
{
    return trainer->piece * piece;
}

static int64_t piece_samples(const Trainer *trainer, int piece)
{
    int64_t left = trainer->samples - piece_begin(trainer, piece);
    return left < trainer->piece ? left : trainer->piece;
}

/* Rows first … first + count - 1 along axis 0. */
static Tensor *rows_of(Tensor *tensor, int64_t first, int64_t count, Error *error)
{
    if (tensor->shape.dims[0] == count && first == 0) return tensor_retain(tensor);
    Shape shape = tensor->shape;
    shape.dims[0] = count;
    return tensor_view_strided(tensor, &shape, tensor->strides, first * tensor->strides[0], error);
}

static void release_all(Tensor **tensors, int count)
{
    for (int i = 0; tensors && i < count; i++)
        tensor_release(tensors[i]);
    memory_free(tensors);
}

/* ---- forward ---- */

static bool run_piece(Trainer *trainer, int piece, TrainerWalk **used, const Tensor **outputs, Error *error)
{
    int count = trainer->graph->input_count;
    TrainerWalk *walk = walk_for(trainer, piece_samples(trainer, piece), error);
    Tensor **inputs = walk ? memory_new_array((size_t)count + 1, sizeof(Tensor *)) : NULL;
    if (!inputs) return walk ? fail_memory(error, sizeof(Tensor *)) : false;
    give_values(trainer, walk);
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        Tensor *whole = trainer->inputs[i];
        inputs[i] = carries_samples(trainer, whole) && trainer->piece_count > 1
                        ? rows_of(whole, piece_begin(trainer, piece), piece_samples(trainer, piece), error)
                        : tensor_retain(whole);
        ok = inputs[i] != NULL;
    }
    walk->piece = -1;
    ok = ok && backward_forward(walk->walk, inputs, outputs, error);
    if (ok) walk->piece = piece;
    release_all(inputs, count);
    *used = walk;
    return ok;
}

static bool check_inputs(Trainer *trainer, Tensor *const *inputs, Error *error)
{
    const Graph *graph = trainer->graph;
    int carrier = -1;
    for (int i = 0; i < graph->input_count; i++) {
        const Value *input = graph->inputs[i];
        const Shape *given = &inputs[i]->shape;
        bool fits = given->rank > 0 && (!input->shaped || given->rank == input->shape.rank);
        for (int k = 1; fits && input->shaped && k < given->rank; k++)
            fits = input->shape.dims[k] < 0 || input->shape.dims[k] == given->dims[k];
        char have[160], want[160];
        if (!fits)
            return fail(error, input->name, "the first axis counts the samples, the others must be the graph's",
                        "the batch has shape %s, input '%s' has shape %s", shape_text(given, have), input->name,
                        shape_text(&input->shape, want));
        if (shape_count(given) == 0)
            return fail(error, input->name, "give at least one sample", "the batch is empty: shape %s", shape_text(given, have));
        int64_t bad = inputs[i]->dtype == DTYPE_FLOAT32 ? find_not_finite_f32(tensor_floats(inputs[i]), shape_count(given)) : -1;
        if (bad >= 0)
            return fail(error, input->name, "remove the sample or repair its data", "sample %lld of the batch is not finite in input %s",
                        (long long)(bad / (shape_count(given) / given->dims[0])), input->name);
        if (input->shaped && shape_equal(&input->shape, given) && graph->input_count > 1) continue; /* it may serve all samples */
        if (carrier >= 0 && inputs[carrier]->shape.dims[0] != given->dims[0])
            return fail(error, input->name, "give all inputs of a batch the same number of samples",
                        "input %s has %lld samples, input %s has %lld", input->name, (long long)given->dims[0],
                        graph->inputs[carrier]->name, (long long)inputs[carrier]->shape.dims[0]);
        carrier = i;
    }
    trainer->samples = graph->input_count ? inputs[carrier < 0 ? 0 : carrier]->shape.dims[0] : 1;
    return true;
}

/* Room for the whole batch, by what its first piece gave. */
static Tensor *whole_output(const Trainer *trainer, const Tensor *part, const char *name, Error *error)
{
    Shape shape = part->shape;
    if (trainer->piece_count > 1) {
        if (shape.rank == 0 || shape.dims[0] % trainer->piece != 0) {
            fail(error, name, "train without a memory limit, or with smaller batches",
                 "the batch cannot go through in pieces: this output does not grow with it");
            return NULL;
        }
        shape.dims[0] = shape.dims[0] / trainer->piece * trainer->samples;
    }
    return tensor_new_unset(part->dtype, &shape, error);
}

static bool join(const Trainer *trainer, int piece, const Tensor *const *parts, Tensor **outputs, Error *error)
{
    for (int i = 0; i < trainer->wanted_count; i++) {
        if (piece == 0 && !(outputs[i] = whole_output(trainer, parts[i], trainer->wanted[i]->name, error))) return false;
        size_t sample = tensor_bytes(outputs[i]) / (size_t)trainer->samples;
        size_t begin = piece == 0 ? 0 : (size_t)piece_begin(trainer, piece) * sample;
        memcpy(outputs[i]->data + begin, parts[i]->data, tensor_bytes(parts[i]));
    }
    return true;
}

void trainer_forget(Trainer *trainer)
{
    release_all(trainer->inputs, trainer->inputs ? trainer->graph->input_count : 0);
    trainer->inputs = NULL;
    for (int i = 0; i < TRAINER_WALKS; i++)
        trainer->walks[i].piece = -1;
}

bool trainer_forward(Trainer *trainer, Tensor *const *inputs, Tensor **outputs, Error *error)
{
    int count = trainer->graph->input_count;
    trainer_forget(trainer);
    for (int i = 0; i < trainer->wanted_count; i++)
        outputs[i] = NULL;
    if (!check_inputs(trainer, inputs, error)) return false;
    trainer->inputs = memory_new_array((size_t)count + 1, sizeof(Tensor *));
    const Tensor **parts = memory_new_array((size_t)trainer->wanted_count + 1, sizeof(Tensor *));
    bool ok = (trainer->inputs && parts) || fail_memory(error, sizeof(Tensor *));
    for (int i = 0; ok && i < count; i++)
        trainer->inputs[i] = tensor_retain(inputs[i]);
    ok = ok && choose_piece(trainer, error);
    for (int piece = 0; ok && piece < trainer->piece_count; piece++) {
        TrainerWalk *walk;
        ok = run_piece(trainer, piece, &walk, parts, error) && join(trainer, piece, parts, outputs, error);
    }
    memory_free(parts);
    if (ok) return true;
    for (int i = 0; i < trainer->wanted_count; i++) {
        tensor_release(outputs[i]);
        outputs[i] = NULL;
    }
    trainer_forget(trainer);
    return false;
}

/* ---- back ---- */

typedef struct AddTask {
    const float *from;
    float *to;
    bool first;
} AddTask;

static void add_body(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const AddTask *task = context;
    for (int64_t i = begin; i < end; i++)
        task->to[i] = task->first ? task->from[i] : task->to[i] + task->from[i];
}

static void add(float *to, const float *from, int64_t count, bool first)
{
    AddTask task = {from, to, first};
    threads_for(count, ADD_GRAIN, add_body, &task);
}

static void add_gradients(Trainer *trainer, const TrainerWalk *walk, bool first)
{
    for (int i = 0; i < trainer->constant_count; i++) {
        const TrainedConstant *constant = &trainer->constants[i];
        for (int k = 0; trainer_moves_constants(trainer) && k < constant->use_count; k++)
            add(constant->sum, walk->parameters[constant->first_use + k].gradient, constant->count, first && k == 0);
    }
    for (int i = 0; i < trainer->scale_count; i++)
        add(trainer->scales[i].sum, walk->scales[i].gradient, trainer->scales[i].count, first);
}

static bool back_piece(Trainer *trainer, int piece, Tensor *const *gradients, bool first, Error *error)
{
    TrainerWalk *walk = walk_for(trainer, piece_samples(trainer, piece), error);
    if (!walk) return false;
    Tensor **parts = memory_new_array((size_t)trainer->wanted_count + 1, sizeof(Tensor *));
    const Tensor **outputs = memory_new_array((size_t)trainer->wanted_count + 1, sizeof(Tensor *));
    bool ok = (parts && outputs) || fail_memory(error, sizeof(Tensor *));
    if (ok && walk->piece != piece) ok = run_piece(trainer, piece, &walk, outputs, error);
    for (int i = 0; ok && i < trainer->wanted_count; i++) {
        if (!gradients[i]) continue;
        int64_t rows = trainer->piece_count > 1 ? gradients[i]->shape.dims[0] / trainer->samples : 0;
        parts[i] = rows ? rows_of(gradients[i], piece_begin(trainer, piece) * rows, piece_samples(trainer, piece) * rows, error)
                        : tensor_retain(gradients[i]);
        ok = parts[i] != NULL;
    }
    ok = ok && backward_back(walk->walk, parts, error);
    if (ok) add_gradients(trainer, walk, first);
    release_all(parts, trainer->wanted_count);
    memory_free(outputs);
    return ok;
}

/* ---- the step ---- */

static bool check_finite(Trainer *trainer, const float *x, int64_t count, const char *name, Error *error)
{
    if (find_not_finite_f32(x, count) < 0) return true;
    trainer->diverged = true;
    return fail(error, name, "take a lower rate, or look for NaN in what the loss gives",
                "training diverges: the gradient is not finite in step %lld at rate %g", (long long)trainer_steps(trainer) + 1,
                trainer_rate(trainer));
}

static bool list_gradients(Trainer *trainer, Error *error)
{
    int group = 0;
    for (int i = 0; trainer_moves_constants(trainer) && i < trainer->constant_count; i++) {
        const TrainedConstant *constant = &trainer->constants[i];
        if (!check_finite(trainer, constant->sum, constant->count, trainer->graph->values[constant->value]->name, error)) return false;
        trainer->group_gradients[group++] = constant->sum;
    }
    for (int i = 0; i < trainer->scale_count; i++) {
        const TrainedScale *scale = &trainer->scales[i];
        if (!check_finite(trainer, scale->sum, scale->count, scale->slot->node->name, error)) return false;
        trainer->group_gradients[group++] = scale->sum;
    }
    return true;
}

static bool settle_scales(Trainer *trainer, Error *error)
{
    for (int i = 0; i < trainer->scale_count; i++)
        for (int c = 0; c < trainer->scales[i].count; c++)
            trainer->scales[i].log2[c] = fminf(fmaxf(trainer->scales[i].log2[c], -MOST_EXPONENT), MOST_EXPONENT);
    bool changed;
    if (!trainer_follow(trainer, trainer->graph, &changed, error)) return false;
    for (int i = 0; changed && i < TRAINER_WALKS; i++)
        if (trainer->walks[i].walk && !backward_refresh(trainer->walks[i].walk, error)) return false;
    return true;
}

bool trainer_back(Trainer *trainer, Tensor *const *gradients, Error *error)
{
    if (!trainer->inputs) return fail_as(error, ERROR_INTERNAL, trainer->graph->name, NULL, "a way back without a forward");
    bool ok = true;
    trainer->diverged = false;
    for (int piece = trainer->piece_count - 1; ok && piece >= 0; piece--) /* the last one still stands in its walk */
        ok = back_piece(trainer, piece, gradients, piece == trainer->piece_count - 1, error);
    ok = ok && list_gradients(trainer, error);
    trainer_forget(trainer);
    if (!ok) return false;
    optimizer_step(trainer->optimizer, trainer_rate(trainer), trainer->group_values, trainer->group_gradients);
    trainer->version++;
    return settle_scales(trainer, error);
}

int64_t trainer_piece(const Trainer *trainer, int64_t samples)
{
    return trainer->piece && trainer->piece < samples ? trainer->piece : samples;
}
