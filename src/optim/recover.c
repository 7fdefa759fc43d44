/* Recovery: the sequence of its steps, the test that each has to pass, and the taking over of what came out best. */
#include "optim/recover.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/memory.h"
#include "base/progress.h"
#include "graph/operator.h"
#include "optim/layers.h"
#include "optim/optim.h"

/* Steps are planned for the budget by what they cost, whatever the clock says, so that the same budget gives the same bytes; only at so
 * many times of it, on a machine far slower than the plan's, the clock ends work. */
#define CLOCK_FACTOR 4

static double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double recovery_seconds_left(const Recovery *recovery)
{
    return recovery->budget * CLOCK_FACTOR - (clock_seconds() - recovery->began);
}

bool recovery_may_skip(const Error *error)
{
    return error->code == ERROR_INPUT;
}

void recovery_set_constant(Value *value, Tensor *constant)
{
    tensor_retain(constant);
    if (value->unbaked)
        tensor_release(value->constant);
    else
        value->unbaked = value->constant;
    value->constant = constant;
}

/* ---- the test ---- */

double noise_over_all(const RecoverySamples *samples, const Noise *noise)
{
    double held = (double)(samples->units - samples->learned);
    return noise->learned * (double)samples->learned + (samples->parted ? noise->held * held : 0);
}

static bool is_better(const Recovery *recovery, const Noise *noise)
{
    const Noise *best = &recovery->noise;
    bool nearer = noise->held < best->held || noise->typical_held < best->typical_held;
    return nearer && noise->held < recovery->plain.held &&
           noise_over_all(&recovery->samples, noise) < noise_over_all(&recovery->samples, best);
}

bool recovery_offer(Recovery *recovery, Graph *candidate, const char *step, bool *kept, Error *error)
{
    Noise noise;
    char line[320];
    *kept = false;
    if (!samples_judge(&recovery->samples, candidate, recovery->exact, &noise, error)) {
        graph_free(candidate);
        return false;
    }
    *kept = is_better(recovery, &noise);
    snprintf(line, sizeof line, "%s: noise on samples held back %.5f -> %.5f, of the typical one %.5f -> %.5f%s", step,
             recovery->noise.held, noise.held, recovery->noise.typical_held, noise.typical_held, *kept ? "" : ": not taken");
    text_format(&recovery->story, "%s\n", line);
    if (progress_level >= 1) progress_note("recover: %s", line);
    if (*kept) {
        graph_free(recovery->best);
        recovery->best = candidate;
        recovery->noise = noise;
    } else {
        graph_free(candidate);
    }
    return true;
}

/* ---- taking over ---- */

/* Slots of one copy of a graph as slots of another: by node and end; those of nodes that are gone are copied. */
static Slot *slot_there(Graph *graph, const Slot *slot)
{
    Node *node = slot->node && !slot->node->removed ? graph_node(graph, slot->node->name) : NULL;
    if (node && node->quantized) {
        Slot **list = slot->is_output ? slot->node->output_slots : slot->node->input_slots;
        int count = slot->is_output ? slot->node->output_count : slot->node->input_count;
        if (slot->index < count && list[slot->index] == slot)
            return slot->is_output ? node->output_slots[slot->index] : node->input_slots[slot->index];
    }
    Slot *copy = arena_copy(&graph->arena, slot, sizeof *slot);
    if (!copy) return NULL;
    if (slot->exponent_count) copy->exponents = arena_copy(&graph->arena, slot->exponents, (size_t)slot->exponent_count * sizeof(int));
    if (slot->exponent_count && !copy->exponents) return NULL;
    copy->node = node;
    copy->parent = slot->parent == slot ? copy : slot_there(graph, slot->parent);
    return copy->parent ? copy : NULL;
}

/* What a slot of the graph becomes: made first, written when nothing can fail any more. */
typedef struct Moved {
    Slot *slot, becomes;
} Moved;

static bool prepare_slot(Graph *graph, Moved *moved, Slot *to, const Slot *from)
{
    *moved = (Moved){to, *from};
    if (from->exponent_count) {
        moved->becomes.exponents = arena_copy(&graph->arena, from->exponents, (size_t)from->exponent_count * sizeof(int));
        if (!moved->becomes.exponents) return false;
    }
    moved->becomes.node = to->node;
    moved->becomes.id = to->id;
    moved->becomes.parent = from->parent == from ? to : slot_there(graph, from->parent);
    return moved->becomes.parent != NULL;
}

static int64_t count_slots(const Graph *graph)
{
    int64_t count = 0;
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->quantized) count += graph->nodes[i]->input_count + graph->nodes[i]->output_count;
    return count;
}

static bool same_form(const Graph *a, const Graph *b)
{
    bool same = a->node_count == b->node_count && a->value_count == b->value_count && count_slots(a) == count_slots(b);
    for (int i = 0; same && i < a->node_count; i++)
        same = a->nodes[i]->quantized == b->nodes[i]->quantized && a->nodes[i]->input_count == b->nodes[i]->input_count &&
               a->nodes[i]->output_count == b->nodes[i]->output_count;
    return same;
}

static bool take_over(Graph *graph, const Graph *best, Error *error)
{
    if (!same_form(graph, best)) return fail_as(error, ERROR_INTERNAL, graph->source, NULL, "recovery lost the form of the graph");
    Moved *moved = memory_new_array((size_t)count_slots(graph) + 1, sizeof *moved);
    if (!moved) return fail_memory(error, (size_t)count_slots(graph) * sizeof *moved);
    int64_t count = 0;
    bool ok = true;
    for (int i = 0; ok && i < graph->node_count; i++) {
        const Node *to = graph->nodes[i], *from = best->nodes[i];
        for (int k = 0; ok && to->quantized && k < to->input_count; k++)
            ok = prepare_slot(graph, &moved[count++], to->input_slots[k], from->input_slots[k]);
        for (int k = 0; ok && to->quantized && k < to->output_count; k++)
            ok = prepare_slot(graph, &moved[count++], to->output_slots[k], from->output_slots[k]);
    }
    for (int64_t i = 0; ok && i < count; i++)
        *moved[i].slot = moved[i].becomes;
    for (int i = 0; ok && i < graph->value_count; i++) {
        Value *to = graph->values[i], old = *to;
        const Value *from = best->values[i];
        to->constant = tensor_retain(from->constant);
        to->unbaked = tensor_retain(from->unbaked);
        tensor_release(old.constant);
        tensor_release(old.unbaked);
    }
    for (int i = 0; ok && i < graph->node_count; i++) {
        graph->nodes[i]->platform = best->nodes[i]->platform;
        graph->nodes[i]->wide = best->nodes[i]->wide;
    }
    memory_free(moved);
    return ok || fail_memory(error, sizeof(Slot));
}

/* ---- the sequence ---- */

/* Steps write to constants of nodes by themselves: each gets its own. */
static bool part_shared_constants(Graph *graph, Error *error)
{
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        for (int k = 1; is_layer(node) && k < node->input_count; k++) {
            Value *value = node->inputs[k];
            if (!value || !value->constant || value->use_count == 1) continue;
            Tensor *exact = value->unbaked;
            if (!layer_set_constant(graph, node, k, value->constant, error)) return false;
            if (exact) node->inputs[k]->unbaked = tensor_retain(exact);
        }
    }
    return true;
}

static void find_facts(Recovery *recovery)
{
    const Graph *graph = recovery->graph;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        Cost cost = {0};
        if (node->op && node->op->cost) node->op->cost(node, &cost);
        recovery->macs += (double)cost.macs;
        for (int k = 0; node->quantized && k < node->output_count; k++)
            recovery->retouched = recovery->retouched || node->output_slots[k]->overridden;
    }
}

typedef struct Step {
    const char *name;
    bool (*run)(Recovery *recovery, Error *error);
    bool (*wanted)(const Recovery *recovery); /* NULL: always */
} Step;

static const Step steps[] = {
    {"roads", recover_choose_road, NULL},      {"16 bits", recover_width, recovery_wants_width},
    {"exponents alone", recover_alone, NULL},  {"rounding", recover_rounding, NULL},
    {"bias correction", recover_biases, NULL}, {"exponents", recover_exponents, NULL},
    {"blocks", recover_blocks, NULL},          {"training", recover_training, NULL},
};

static bool run_steps(Recovery *recovery, Error *error)
{
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (steps[i].wanted && !steps[i].wanted(recovery)) continue;
        if (recovery_seconds_left(recovery) <= 0) {
            text_format(&recovery->story, "%s: left out, the time was over\n", steps[i].name);
            continue;
        }
        if (steps[i].run(recovery, error)) continue;
        if (!recovery_may_skip(error)) return false;
        text_format(&recovery->story, "%s: left out: %s\n", steps[i].name, error->what);
    }
    return true;
}

static void tell(Recovery *recovery)
{
    Graph *graph = recovery->graph;
    const RecoverySamples *samples = &recovery->samples;
    graph_note(graph, "recover: noise of the outputs %.5f -> %.5f on %lld of %lld samples, seed %llu", recovery->plain.held,
               recovery->noise.held, (long long)((samples->parted ? samples->units - samples->learned : samples->units) * samples->unit),
               (long long)(samples->units * samples->unit), (unsigned long long)recovery->context->setting->recover_setting.seed);
    for (char *line = recovery->story.data; line && *line;) {
        char *end = line;
        while (*end && *end != '\n')
            end++;
        graph_note(graph, "recover: %.*s", (int)(end - line), line);
        line = *end ? end + 1 : end;
    }
}

static bool recover(Recovery *recovery, Error *error)
{
    Graph *graph = recovery->graph;
    if (!part_shared_constants(graph, error) || !samples_read(&recovery->samples, graph, recovery->context, error)) return false;
    if (!recovery->samples.output_count) {
        graph_note(graph, "recover: nothing was done, no output of the graph is float");
        return true;
    }
    if (!(recovery->setting = setting_copy(recovery->context->setting, error)) || !(recovery->best = graph_copy(graph, error)) ||
        !samples_judge(&recovery->samples, graph, recovery->exact, &recovery->plain, error))
        return false;
    recovery->noise = recovery->plain;
    find_facts(recovery);
    if (!run_steps(recovery, error) || !take_over(graph, recovery->best, error)) return false;
    tell(recovery);
    return true;
}

bool pass_recover(Graph *graph, PassContext *context, Error *error)
{
    const Setting *setting = context->setting;
    double budget = setting->recover_setting.budget;
    if (!context->batches) return fail(error, graph->source, "give a dataloader", "recovery needs data");
    if (!(budget >= 0) || isinf(budget)) return fail(error, "recover_setting.budget", "give seconds, 0 or more", "%g is no budget", budget);
    if (!(setting->recover_setting.bits16_budget >= 0 && setting->recover_setting.bits16_budget <= 1))
        return fail(error, "recover_setting.bits16_budget", "give a share of the products from 0 to 1", "%g is no share",
                    setting->recover_setting.bits16_budget);
    if (budget == 0) {
        graph_note(graph, "recover: nothing was done, the budget is 0");
        return true;
    }
    Recovery recovery = {
        .graph = graph, .context = context, .exact = setting->switches.onnx_exact_ops, .budget = budget, .began = clock_seconds()};
    random_seed(&recovery.random, (uint64_t)setting->recover_setting.seed);
    bool ok = recover(&recovery, error);
    graph_free(recovery.best);
    setting_free(recovery.setting);
    samples_free(&recovery.samples);
    text_free(&recovery.story);
    return ok;
}
