/* Exponents of activations, one after the other from the outputs upwards, a step up or down, judged at the outputs (OPTIM §17.3). What few
 * samples call better is often chance: a change has to gain something that counts, and all of them together pass the test on the samples
 * held back. */
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/memory.h"
#include "base/progress.h"
#include "optim/recover.h"
#include "quant/quantize.h"

#define LEAST_GAIN 0.997 /* of the noise before */
#define MOST_UNITS 16    /* that judge a trial */
#define SHARE 0.02       /* of the budget */
#define TRIAL_SECONDS(macs, nodes) ((macs)*1.3e-11 * MOST_UNITS + (nodes)*4e-5)

typedef struct Search {
    Recovery *recovery;
    Graph *graph;
    RecoverySamples few; /* the first of those that are learned from: views */
    double noise;
    int tried, moved, most, fine_outputs;
} Search;

static bool is_choice(const Slot *slot)
{
    return slot->parent == slot && !slot->is_parameter && !slot->overridden && slot_quantizes(slot) && slot->exponent_count == 1;
}

static bool multiplies(const Node *node)
{
    static const char *const types[] = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"};
    for (size_t i = 0; node->quantized && node->input_count > 1 && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(node->type, types[i]) == 0)
            return slot_exponent_count(node->input_slots[0]) && slot_exponent_count(node->output_slots[0]);
    return false;
}

int recovery_fine_outputs(const Graph *graph)
{
    int count = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (!multiplies(node)) continue;
        Slot *input = node->input_slots[0], *weight = node->input_slots[1], *output = node->output_slots[0];
        bool fine = false;
        for (int c = 0; c < slot_exponent_count(weight); c++)
            fine = fine || slot_exponent(output, 0) < slot_exponent(input, 0) + slot_exponent(weight, c);
        count += fine;
    }
    return count;
}

static bool set_exponent(const Search *search, Slot *slot, int exponent, Error *error)
{
    slot->exponents[0] = exponent;
    return passive_follow(search->graph, search->recovery->setting, error);
}

static bool try_exponent(Search *search, Slot *slot, int step, bool *better, Error *error)
{
    int before = slot->exponents[0];
    Noise noise;
    *better = false;
    if (!cancel_check(error) || !set_exponent(search, slot, before + step, error)) return false;
    if (recovery_fine_outputs(search->graph) <= search->fine_outputs) {
        search->tried++;
        if (!samples_judge(&search->few, search->graph, search->recovery->exact, &noise, error)) return false;
        *better = noise.typical_learned < search->noise * LEAST_GAIN;
    }
    if (!*better) return set_exponent(search, slot, before, error);
    search->noise = noise.typical_learned;
    search->moved++;
    return true;
}

static bool try_slot(Search *search, Slot *slot, Error *error)
{
    bool better = false;
    if (!is_choice(slot) || search->tried >= search->most || recovery_seconds_left(search->recovery) <= 0) return true;
    if (!try_exponent(search, slot, -1, &better, error)) return false;
    return better || try_exponent(search, slot, 1, &better, error);
}

static bool try_node(Search *search, Node *node, Error *error)
{
    bool ok = true;
    for (int k = 0; ok && node->quantized && k < node->output_count; k++)
        ok = try_slot(search, node->output_slots[k], error);
    for (int k = 0; ok && node->quantized && k < node->input_count; k++)
        ok = try_slot(search, node->input_slots[k], error);
    return ok;
}

/* The answers of whole chunks are there already: the first chunks make the few. */
static void take_few(Search *search)
{
    const RecoverySamples *all = &search->recovery->samples;
    search->few = *all;
    int64_t chunks = MOST_UNITS / all->chunk;
    int64_t most = chunks > 0 ? chunks * all->chunk : all->chunk;
    if (all->learned < most) most = all->learned;
    search->few.learned = search->few.units = most;
    search->few.parted = false;
    search->few.chunks = (most + all->chunk - 1) / all->chunk;
}

bool recover_exponents(Recovery *recovery, Error *error)
{
    Search search = {.recovery = recovery, .graph = graph_copy(recovery->best, error)};
    Node **order = NULL;
    Noise noise;
    char step[96];
    bool kept = false;
    if (!search.graph) return false;
    take_few(&search);
    search.fine_outputs = recovery_fine_outputs(search.graph);
    search.most = (int)(recovery->budget * SHARE / TRIAL_SECONDS(recovery->macs, search.graph->node_count));
    bool ok = graph_sort(search.graph, &order, error) && samples_judge(&search.few, search.graph, recovery->exact, &noise, error);
    search.noise = ok ? noise.typical_learned : 0;
    progress_begin("recover: exponents", search.graph->node_count);
    for (int i = search.graph->node_count - 1; ok && i >= 0; i--) {
        ok = try_node(&search, order[i], error);
        progress_step(search.graph->node_count - i);
    }
    progress_end();
    memory_free(order);
    snprintf(step, sizeof step, "exponents, %d of %d changes", search.moved, search.tried);
    if (ok && search.moved) return recovery_offer(recovery, search.graph, step, &kept, error);
    if (ok) text_format(&recovery->story, "%s\n", step);
    graph_free(search.graph);
    return ok;
}
