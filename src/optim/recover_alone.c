/* Exponents, each by itself: one end after the other is quantized while everything else stays float, a step finer and a step coarser than
 * calibration has it, and judged at the outputs (OPTIM §17.3). Beside an exact network even a small loss stands out, so few samples tell;
 * the losses of single ends about add up, so all that gain are changed at once. */
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "exec/replay.h"
#include "graph/operator.h"
#include "kernel/quantize.h"
#include "optim/recover.h"
#include "quant/quantize.h"

#define MOST_UNITS 4
#define SHARE 0.05             /* of the budget */
#define SECONDS_A_MAC 1.0e-11  /* on two cores */
#define SECONDS_A_LAYER 2.0e-5 /* of each that is run again */
#define FURTHER 2              /* more steps in a direction that was good */
#define LEAST_RATIO 0.8        /* of an end's noise: a change that leaves more is not worth it */
#define LEAST_SHARE 5e-4       /* of the sum of all: what a change has to gain */
#define KEPT_BYTES ((size_t)160 << 20)

typedef struct Choice {
    Node *node;
    Slot *slot;
    SlotState state;
    int exponent, rank;   /* rank: among the choices of its node */
    double noise, best;   /* at the exponent as it was, and at the best one */
    int moved, direction; /* best exponent - exponent; of the last step that was good: 0 none */
} Choice;

typedef struct Alone {
    Recovery *recovery;
    Graph *graph; /* a copy, all of whose slots are off */
    Choice *choices;
    int count, ranks;
    int64_t units, samples; /* that judge */
    Tensor **inputs;
    /* Of the replay at hand. */
    Node **layers;
    int *owners;  /* the choice of each layer */
    double *sums; /* layer by layer, judged output by output, sample by sample */
} Alone;

/* ---- what there is to choose ---- */

static bool is_choice(const Slot *slot)
{
    return slot->parent == slot && slot->state == SLOT_ACTIVATED && !slot->overridden && slot_quantizes(slot) && slot->exponent_count == 1;
}

static void add_choices(Alone *alone, Node *node)
{
    int rank = 0;
    for (int k = 0; k < node->input_count + node->output_count; k++) {
        Slot *slot = k < node->input_count ? node->input_slots[k] : node->output_slots[k - node->input_count];
        if (is_choice(slot))
            alone->choices[alone->count++] =
                (Choice){.node = node, .slot = slot, .state = slot->state, .exponent = slot->exponents[0], .rank = rank++};
    }
    if (rank > alone->ranks) alone->ranks = rank;
}

static void switch_off(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++)
            node->input_slots[k]->state = SLOT_FP32;
        for (int k = 0; node->quantized && k < node->output_count; k++)
            node->output_slots[k]->state = SLOT_FP32;
    }
}

/* Products of all that lies behind each choice, once: what a sample costs, about. */
static double seconds_of_all(const Alone *alone, Node *const *order)
{
    double macs = 0, layers = 0, seconds = 0;
    for (int i = alone->graph->node_count - 1; i >= 0; i--) {
        Cost cost = {0};
        if (order[i]->op && order[i]->op->cost) order[i]->op->cost(order[i], &cost);
        macs += (double)cost.macs;
        layers++;
        for (int c = 0; c < alone->count; c++)
            if (alone->choices[c].node == order[i]) seconds += macs * SECONDS_A_MAC + layers * SECONDS_A_LAYER;
    }
    return 3 * seconds;
}

static bool alone_begin(Alone *alone, Recovery *recovery, Error *error)
{
    const RecoverySamples *samples = &recovery->samples;
    Graph *graph = alone->graph = graph_copy(recovery->best, error);
    Node **order;
    size_t ends = 1;
    if (!graph) return false;
    for (int i = 0; i < graph->node_count; i++)
        ends += (size_t)(graph->nodes[i]->input_count + graph->nodes[i]->output_count);
    size_t inputs = (size_t)graph->input_count + 1;
    alone->choices = memory_new_array(ends, sizeof *alone->choices);
    alone->layers = memory_new_array(ends, sizeof *alone->layers);
    alone->owners = memory_new_array(ends, sizeof *alone->owners);
    alone->inputs = memory_new_array(inputs, sizeof *alone->inputs);
    if (!alone->choices || !alone->layers || !alone->owners || !alone->inputs) return fail_memory(error, ends * sizeof *alone->choices);
    if (!graph_sort(graph, &order, error)) return false;
    for (int i = 0; i < graph->node_count; i++)
        if (order[i]->quantized) add_choices(alone, order[i]);
    double units = recovery->budget * SHARE / (seconds_of_all(alone, order) + 1e-9);
    memory_free(order);
    alone->units = units < MOST_UNITS ? (int64_t)units : MOST_UNITS;
    if (alone->units > samples->learned) alone->units = samples->learned;
    if (alone->units < 1) return true;
    alone->samples = alone->units * samples->unit;
    size_t sums = (size_t)(alone->count * samples->output_count * alone->samples) + 1;
    if (!(alone->sums = memory_new_array(sums, sizeof *alone->sums))) return fail_memory(error, sums * sizeof *alone->sums);
    switch_off(graph);
    return samples_take(samples, 0, alone->units, alone->inputs, error);
}

static void alone_end(Alone *alone)
{
    for (int i = 0; alone->inputs && i < alone->recovery->samples.graph->input_count; i++)
        tensor_release(alone->inputs[i]);
    memory_free(alone->inputs);
    memory_free(alone->choices);
    memory_free(alone->layers);
    memory_free(alone->owners);
    memory_free(alone->sums);
    graph_free(alone->graph);
}

/* ---- one step of one choice of each node ---- */

static void compare(void *context, const Replayed *replayed)
{
    const Alone *alone = context;
    const RecoverySamples *samples = &alone->recovery->samples;
    int judged = 0;
    while (judged < samples->output_count && samples->outputs[judged] != replayed->output)
        judged++;
    int64_t rows = replayed->samples, all = tensor_count(replayed->floating), count = rows && all % rows == 0 ? all / rows : all;
    if (judged == samples->output_count || !count) return;
    double *sums = alone->sums + ((int64_t)replayed->layer * samples->output_count + judged) * alone->samples;
    for (int64_t i = 0; i < all / count && replayed->sample + i < alone->samples; i++) {
        double noise, power;
        noise_power_f32(tensor_floats(replayed->replayed) + i * count, tensor_floats(replayed->floating) + i * count, count, &noise,
                        &power);
        sums[replayed->sample + i] = noise / (power > NOISE_LEAST_POWER ? power : NOISE_LEAST_POWER);
    }
}

static bool is_tried(const Choice *choice, int rank, int step, int direction)
{
    return choice->rank == rank && (direction == 0 || choice->direction == direction) && (direction != 0 || step == 0 || choice->noise > 0);
}

/* direction 0: the choices of a rank at `step` from where they were; else only those whose last step that way was good, a step further. */
static bool try_rank(Alone *alone, int rank, int step, int direction, Error *error)
{
    const RecoverySamples *samples = &alone->recovery->samples;
    Shape *shapes = memory_new_array((size_t)samples->graph->input_count + 1, sizeof *shapes);
    int layers = 0;
    if (!shapes) return fail_memory(error, sizeof *shapes);
    for (int i = 0; i < samples->graph->input_count; i++)
        shapes[i] = alone->inputs[i]->shape;
    for (int c = 0; c < alone->count; c++) {
        Choice *choice = &alone->choices[c];
        if (!is_tried(choice, rank, step, direction)) continue;
        choice->slot->state = choice->state;
        choice->slot->exponents[0] = choice->exponent + (direction ? choice->moved + direction : step);
        alone->owners[layers] = c;
        alone->layers[layers++] = choice->node;
    }
    int64_t each = samples->output_count * alone->samples;
    memset(alone->sums, 0, (size_t)(layers * each) * sizeof *alone->sums);
    ReplayOptions options = {.exact = alone->recovery->exact, .layers = alone->layers, .layer_count = layers, .memory_limit = KEPT_BYTES};
    Replay *replay = layers ? replay_new(alone->graph, &options, shapes, error) : NULL;
    bool ok = !layers || (replay && cancel_check(error) && replay_run(replay, alone->inputs, compare, alone, error));
    replay_free(replay);
    memory_free(shapes);
    for (int i = 0; i < layers; i++) {
        Choice *choice = &alone->choices[alone->owners[i]];
        double noise = 0;
        for (int64_t k = 0; k < each; k++)
            noise += alone->sums[i * each + k] / (double)each;
        if (direction == 0 && step == 0) {
            choice->noise = choice->best = noise;
        } else if (noise < choice->best) {
            choice->best = noise;
            choice->moved = direction ? choice->moved + direction : step;
            choice->direction = direction ? direction : step;
        } else if (direction) {
            choice->direction = 0;
        }
        choice->slot->state = SLOT_FP32;
        choice->slot->exponents[0] = choice->exponent;
    }
    return ok;
}

static bool try_all(Alone *alone, Error *error)
{
    static const int first[] = {0, -1, 1};
    progress_begin("recover: exponents alone", 3 + 2 * FURTHER);
    bool ok = true;
    for (int i = 0; ok && i < 3 + 2 * FURTHER; i++) {
        int direction = i < 3 ? 0 : i % 2 ? -1 : 1;
        for (int rank = 0; ok && rank < alone->ranks && recovery_seconds_left(alone->recovery) > 0; rank++)
            ok = try_rank(alone, rank, direction ? 0 : first[i], direction, error);
        progress_step(i + 1);
    }
    progress_end();
    return ok;
}

/* ---- taking them ---- */

static Slot *slot_in(const Graph *graph, const Slot *slot)
{
    const Node *node = graph_node(graph, slot->node->name);
    return slot->is_output ? node->output_slots[slot->index] : node->input_slots[slot->index];
}

/* What gains, into a copy of the best. A result finer than its products is left: the chip shifts to the right only. */
static bool take_choices(const Alone *alone, Graph *graph, int *moved, Error *error)
{
    double sum = 0;
    int fine = recovery_fine_outputs(graph);
    *moved = 0;
    for (int c = 0; c < alone->count; c++)
        sum += alone->choices[c].noise;
    for (int c = 0; c < alone->count; c++) {
        const Choice *choice = &alone->choices[c];
        if (!choice->moved || !(choice->best < LEAST_RATIO * choice->noise) || choice->noise - choice->best < LEAST_SHARE * sum) continue;
        Slot *slot = slot_in(graph, choice->slot);
        slot->exponents[0] += choice->moved;
        if (!passive_follow(graph, alone->recovery->setting, error)) return false;
        if (recovery_fine_outputs(graph) > fine) {
            slot->exponents[0] -= choice->moved;
            if (!passive_follow(graph, alone->recovery->setting, error)) return false;
        } else {
            ++*moved;
        }
    }
    return true;
}

bool recover_alone(Recovery *recovery, Error *error)
{
    Alone alone = {.recovery = recovery};
    Graph *graph = NULL;
    int moved = 0;
    bool kept, ok = alone_begin(&alone, recovery, error);
    if (ok && alone.units < 1) {
        text_format(&recovery->story, "exponents alone: left out, the budget is too small\n");
    } else if (ok) {
        ok = try_all(&alone, error) && (graph = graph_copy(recovery->best, error)) && take_choices(&alone, graph, &moved, error);
        char step[96];
        snprintf(step, sizeof step, "exponents, each by itself on %lld samples: %d of %d moved", (long long)alone.units, moved,
                 alone.count);
        if (ok && moved) {
            ok = recovery_offer(recovery, graph, step, &kept, error);
            graph = NULL;
        } else if (ok) {
            text_format(&recovery->story, "%s\n", step);
        }
    }
    graph_free(graph);
    alone_end(&alone);
    return ok;
}
