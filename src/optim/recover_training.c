/* Recovery's last step but one: all weights and biases of the quantized graph are trained together until its outputs, and values on the
 * way to them, come near to what the float network gives for the same inputs (OPTIM §17.7). The float network answers any input, so
 * pictures are also mirrored, moved and enlarged: few calibration samples then do not run out. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/threads.h"
#include "exec/backward.h"
#include "kernel/quantize.h"
#include "optim/layers.h"
#include "optim/pull.h"
#include "optim/recover.h"
#include "train/optimizer.h"
#include "train/schedule.h"

#define BATCH 4   /* units a step */
#define RATE 2e-4 /* of a parameter's root mean square */
#define PULL 20.0 /* see optim/pull.h */
#define LEAST_STEPS 16
#define MOST_STEPS 400
#define SHARE 0.45        /* of the budget */
#define CHECKS 4          /* judged so often on what is held back */
#define INNER_VALUES 24   /* values inside that are compared, too */
#define INNER_WEIGHT 25.0 /* of all of them together; the outputs count 1: without, few samples are learned by heart */
#define MOST_BYTES ((size_t)1200 << 20)

typedef struct Training {
    Recovery *recovery;
    Graph *graph; /* the copy that is trained */
    Value **wanted;
    int wanted_count;
    BackwardParameter *parameters;
    int parameter_count;
    Backward *walk;
    Runner teacher;
    Optimizer *optimizer;
    int64_t batch, steps;
    Tensor **inputs, **answers, **gradients;
    const Tensor **outputs;
    float **values;
    const float **slopes;
    int64_t *order; /* of the units, shuffled */
    int64_t turn;
    double loss; /* of the outputs, since the last check */
} Training;

/* ---- what is trained and compared ---- */

static bool is_trained(const Node *node, int index)
{
    if (!node->quantized || !(is_layer(node) || strcmp(node->type, "MatMul") == 0)) return false;
    const Value *value = node->inputs[index];
    return value && value->constant && value->use_count == 1 && slot_quantizes(node->input_slots[index]) && backward_can_train(node, index);
}

static bool find_parameters(Training *training, Error *error)
{
    const Graph *graph = training->graph;
    int count = 0;
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            count += is_trained(graph->nodes[i], k);
    training->parameters = memory_new_array((size_t)count + 1, sizeof *training->parameters);
    training->values = memory_new_array((size_t)count + 1, sizeof *training->values);
    training->slopes = memory_new_array((size_t)count + 1, sizeof *training->slopes);
    if (!training->parameters || !training->values || !training->slopes)
        return fail_memory(error, (size_t)count * sizeof *training->parameters);
    for (int i = 0; i < graph->node_count; i++)
        for (int k = 0; k < graph->nodes[i]->input_count; k++)
            if (is_trained(graph->nodes[i], k))
                training->parameters[training->parameter_count++] = (BackwardParameter){.node = graph->nodes[i], .index = k};
    return true;
}

/* Where branches meet again, or a layer's result is read by another layer: values that every later one hangs on. */
static bool is_inner(const Graph *graph, const Node *node)
{
    if (!node->quantized || node->output_count != 1) return false;
    const Value *value = node->outputs[0];
    if (!value || value->dtype != DTYPE_FLOAT32 || value_is_output(graph, value) || !slot_quantizes(node->output_slots[0])) return false;
    return strcmp(node->type, "Add") == 0 || strcmp(node->type, "Concat") == 0 || is_layer(node) || value->use_count > 1;
}

static bool find_wanted(Training *training, Error *error)
{
    const RecoverySamples *samples = &training->recovery->samples;
    Graph *graph = training->graph;
    size_t most = (size_t)samples->output_count + INNER_VALUES;
    Node **order;
    training->wanted = memory_new_array(most, sizeof(Value *));
    if (!training->wanted) return fail_memory(error, most * sizeof(Value *));
    for (int i = 0; i < samples->output_count; i++)
        training->wanted[training->wanted_count++] = graph->outputs[samples->outputs[i]];
    if (!graph_sort(graph, &order, error)) return false;
    int count = 0, seen = 0;
    for (int i = 0; i < graph->node_count; i++)
        count += is_inner(graph, order[i]);
    for (int i = 0; i < graph->node_count; i++) {
        if (!is_inner(graph, order[i])) continue;
        seen++;
        if (seen * INNER_VALUES / count > (seen - 1) * INNER_VALUES / count)
            training->wanted[training->wanted_count++] = order[i]->outputs[0];
        if (training->wanted_count == (int)most) break;
    }
    memory_free(order);
    return true;
}

/* ---- inputs ---- */

static int64_t next_unit(Training *training)
{
    int64_t learned = training->recovery->samples.learned;
    if (training->turn == learned) {
        for (int64_t i = learned - 1; i > 0; i--) {
            int64_t other = (int64_t)(random_uniform(&training->recovery->random) * (double)(i + 1)), kept = training->order[i];
            training->order[i] = training->order[other];
            training->order[other] = kept;
        }
        training->turn = 0;
    }
    return training->order[training->turn++];
}

typedef struct Filling { /* of one input */
    const Training *training;
    int input;
    bool pictures;
    int64_t units[BATCH];
    Mixture mixtures[BATCH];
} Filling;

static void fill_units(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Filling *filling = context;
    const RecoverySamples *samples = &filling->training->recovery->samples;
    const Tensor *all = samples->inputs[filling->input];
    size_t bytes = tensor_bytes(all) / (size_t)samples->units;
    for (int64_t k = begin; k < end; k++) {
        const char *from = all->data + (size_t)filling->units[k] * bytes;
        char *to = filling->training->inputs[filling->input]->data + (size_t)k * bytes;
        if (!filling->pictures) {
            memcpy(to, from, bytes);
            continue;
        }
        mixture_fill(&filling->mixtures[k], samples, (float *)(void *)to);
    }
}

static void fill_inputs(Training *training)
{
    const RecoverySamples *samples = &training->recovery->samples;
    Filling filling = {.training = training, .pictures = samples_are_pictures(samples)};
    for (int64_t k = 0; k < training->batch; k++) {
        filling.units[k] = next_unit(training);
        if (filling.pictures) filling.mixtures[k] = mixture_any(&training->recovery->random, samples, filling.units[k]);
    }
    for (filling.input = 0; filling.input < samples->graph->input_count; filling.input++)
        threads_for(training->batch, 1, fill_units, &filling);
}

/* ---- a step ---- */

typedef struct Distance { /* of one value, unit by unit */
    const Tensor *seen, *exact;
    Tensor *gradient;
    double weight, *losses;
    int64_t count;
} Distance;

/* Losses of units are spread over threads, each summed in one order. */
static void add_distance(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Distance *distance = context;
    for (int64_t u = begin; u < end; u++) {
        const float *a = tensor_floats(distance->seen) + u * distance->count, *b = tensor_floats(distance->exact) + u * distance->count;
        float *g = tensor_floats(distance->gradient) + u * distance->count;
        double noise, power;
        noise_power_f32(a, b, distance->count, &noise, &power);
        if (power < NOISE_LEAST_POWER) power = NOISE_LEAST_POWER;
        distance->losses[u] = noise / power;
        float factor = (float)(2 * distance->weight / power);
        for (int64_t i = 0; i < distance->count; i++)
            g[i] = factor * (a[i] - b[i]);
    }
}

static double compare(Training *training)
{
    double losses[BATCH], loss = 0;
    int outputs = training->recovery->samples.output_count, inner = training->wanted_count - outputs;
    for (int i = 0; i < training->wanted_count; i++) {
        double weight = i < outputs ? 1.0 / outputs : INNER_WEIGHT / inner;
        Distance distance = {training->outputs[i],
                             training->answers[i],
                             training->gradients[i],
                             weight / (double)training->batch,
                             losses,
                             tensor_count(training->answers[i]) / training->batch};
        threads_for(training->batch, 1, add_distance, &distance);
        for (int64_t u = 0; i < outputs && u < training->batch; u++)
            loss += losses[u] * weight / (double)training->batch;
    }
    return loss;
}

static bool make_gradients(Training *training, Error *error)
{
    for (int i = 0; i < training->wanted_count; i++)
        if (!training->gradients[i] && !(training->gradients[i] = tensor_new(DTYPE_FLOAT32, &training->answers[i]->shape, error)))
            return false;
    return true;
}

static bool make_step(Training *training, const Schedule *schedule, int64_t step, Error *error)
{
    fill_inputs(training);
    if (!cancel_check(error) || !runner_run(&training->teacher, training->inputs, training->answers, error)) return false;
    bool ok = make_gradients(training, error) && backward_forward(training->walk, training->inputs, training->outputs, error);
    if (ok) training->loss += compare(training);
    for (int i = 0; i < training->wanted_count; i++)
        tensor_release(training->answers[i]);
    if (!ok || !backward_back(training->walk, training->gradients, error)) return false;
    pull_to_start(training->parameters, training->parameter_count, PULL);
    optimizer_step(training->optimizer, schedule_rate(schedule, step), training->values, training->slopes);
    return true;
}

/* ---- beginning and end ---- */

static bool make_optimizer(Training *training, Error *error)
{
    OptimizerGroup *groups = memory_new_array((size_t)training->parameter_count, sizeof *groups);
    if (!groups) return fail_memory(error, (size_t)training->parameter_count * sizeof *groups);
    for (int i = 0; i < training->parameter_count; i++) {
        const BackwardParameter *parameter = &training->parameters[i];
        groups[i] = (OptimizerGroup){parameter->count, root_mean_square(parameter->values, parameter->count), false};
        training->values[i] = parameter->values;
        training->slopes[i] = parameter->gradient;
    }
    const OptimizerRow *adam = optimizer_find("adam", error);
    if (adam) {
        OptimizerOptions options = optimizer_defaults(adam);
        training->optimizer = optimizer_new(&options, groups, training->parameter_count, error);
    }
    memory_free(groups);
    return training->optimizer != NULL;
}

/* The walk of the largest batch that memory allows. */
static bool make_walk(Training *training, Error *error)
{
    const RecoverySamples *samples = &training->recovery->samples;
    int inputs = samples->graph->input_count;
    Shape *shapes = memory_new_array((size_t)inputs, sizeof *shapes);
    if (!shapes) return fail_memory(error, (size_t)inputs * sizeof *shapes);
    BackwardOptions options = {.exact = training->recovery->exact,
                               .masks_channels = true,
                               .wanted = training->wanted,
                               .wanted_count = training->wanted_count,
                               .parameters = training->parameters,
                               .parameter_count = training->parameter_count};
    bool ok = true, fits = false;
    for (training->batch = BATCH < samples->learned ? BATCH : samples->learned; ok && !fits; training->batch /= 2) {
        for (int i = 0; i < inputs; i++) {
            shapes[i] = samples->inputs[i]->shape;
            shapes[i].dims[0] = training->batch * samples->unit;
        }
        backward_free(training->walk);
        ok = (training->walk = backward_new(training->graph, &options, shapes, error)) != NULL;
        fits = ok && (training->batch == 1 || backward_bytes(training->walk) <= MOST_BYTES);
        if (fits) break;
    }
    for (int i = 0; ok && i < inputs; i++)
        ok = (training->inputs[i] = tensor_new(samples->inputs[i]->dtype, &shapes[i], error)) != NULL;
    memory_free(shapes);
    return ok;
}

static bool training_begin(Training *training, Recovery *recovery, Error *error)
{
    const RecoverySamples *samples = &recovery->samples;
    *training = (Training){.recovery = recovery, .turn = samples->learned};
    if (!(training->graph = graph_copy(recovery->best, error)) || !find_parameters(training, error) || !find_wanted(training, error))
        return false;
    if (!training->parameter_count) return fail(error, samples->graph->source, "leave recover off", "there is no weight to train");
    size_t wanted = (size_t)training->wanted_count, inputs = (size_t)samples->graph->input_count;
    training->inputs = memory_new_array(inputs, sizeof(Tensor *));
    training->answers = memory_new_array(wanted, sizeof(Tensor *));
    training->gradients = memory_new_array(wanted, sizeof(Tensor *));
    training->outputs = memory_new_array(wanted, sizeof(Tensor *));
    training->order = memory_new_array((size_t)samples->learned, sizeof *training->order);
    if (!training->inputs || !training->answers || !training->gradients || !training->outputs || !training->order)
        return fail_memory(error, wanted * sizeof(Tensor *));
    for (int64_t i = 0; i < samples->learned; i++)
        training->order[i] = i;
    training->teacher = (Runner){
        .graph = training->graph,
        .options = {.mode = EXEC_FLOAT, .exact = recovery->exact, .wanted = training->wanted, .wanted_count = training->wanted_count}};
    return make_walk(training, error) && make_optimizer(training, error);
}

static void training_end(Training *training)
{
    backward_free(training->walk);
    optimizer_free(training->optimizer);
    runner_end(&training->teacher);
    for (int i = 0; training->inputs && i < training->recovery->samples.graph->input_count; i++)
        tensor_release(training->inputs[i]);
    for (int i = 0; training->gradients && i < training->wanted_count; i++)
        tensor_release(training->gradients[i]);
    memory_free(training->inputs);
    memory_free(training->answers);
    memory_free(training->gradients);
    memory_free(training->outputs);
    memory_free(training->order);
    memory_free(training->parameters);
    memory_free(training->values);
    memory_free(training->slopes);
    memory_free(training->wanted);
    graph_free(training->graph);
}

/* A copy of the graph with the weights as they are now. */
static Graph *trained_graph(const Training *training, Error *error)
{
    Graph *graph = graph_copy(training->graph, error);
    for (int i = 0; graph && i < training->parameter_count; i++) {
        const BackwardParameter *parameter = &training->parameters[i];
        Tensor *tensor = tensor_from_data(DTYPE_FLOAT32, &parameter->shape, parameter->values, error);
        if (!tensor) {
            graph_free(graph);
            return NULL;
        }
        recovery_set_constant(graph_node(graph, parameter->node->name)->inputs[parameter->index], tensor);
        tensor_release(tensor);
    }
    return graph;
}

/* Measured on two cores with AVX-512: forward and back of MobileNetV2, and of the small models, whose layers cost by their number. */
static double step_seconds(const Training *training)
{
    double layers = training->graph->node_count;
    return (double)training->batch * (training->recovery->macs * 1.3e-10 + layers * 1e-5) + 2e-3;
}

static bool run_steps(Training *training, int64_t *made, Error *error)
{
    Recovery *recovery = training->recovery;
    Schedule schedule = {.row = schedule_find("cosine", error), .rate = RATE, .steps = training->steps};
    if (!schedule.row) return false;
    for (int64_t step = 0; step < training->steps; step++) {
        bool kept, check = (step + 1) * CHECKS / training->steps > step * CHECKS / training->steps;
        bool late = recovery_seconds_left(recovery) < recovery->budget * 0.08;
        if (!make_step(training, &schedule, step, error)) return false;
        progress_step(*made = step + 1);
        if (!check && !late) continue;
        if (!isfinite(training->loss))
            return fail(error, NULL, "leave recover off, or lower its budget", "the training ran away at step %lld", (long long)step + 1);
        char name[96];
        snprintf(name, sizeof name, "training, step %lld of %lld%s", (long long)step + 1, (long long)training->steps,
                 late ? ", where the time was over" : "");
        Graph *graph = trained_graph(training, error);
        if (!graph || !recovery_offer(recovery, graph, name, &kept, error)) return false;
        training->loss = 0;
        if (late) break;
    }
    return true;
}

bool recover_training(Recovery *recovery, Error *error)
{
    if (!recovery->samples.parted) {
        text_format(&recovery->story, "training: left out, it takes at least four calibration samples to hold one back\n");
        return true;
    }
    Training training;
    int64_t made = 0;
    bool ok = training_begin(&training, recovery, error);
    if (ok) {
        double steps = recovery->budget * SHARE / step_seconds(&training);
        training.steps = steps > MOST_STEPS ? MOST_STEPS : (int64_t)steps;
        if (training.steps < LEAST_STEPS) {
            text_format(&recovery->story, "training: left out, the budget is good for %lld steps only\n", (long long)training.steps);
        } else {
            progress_begin("recover: training", training.steps);
            ok = run_steps(&training, &made, error);
            progress_end();
        }
    }
    training_end(&training);
    return ok;
}
