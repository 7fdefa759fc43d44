#include "quant/given.h"

#include <math.h>

#include "base/memory.h"
#include "quant/parameters.h"

/* The smallest power of two, not under the scale, in whose steps the slot reaches as far as the given integers do. */
static int exponent_of(const Given *given, int channel, const Slot *slot)
{
    int exponent;
    double scale = given->scales[given->count == 1 ? 0 : channel], fraction = frexp(scale, &exponent);
    if (fraction == 0.5) exponent--;
    while ((double)given->low * scale < ldexp((double)slot->minimum, exponent) ||
           (double)given->high * scale > ldexp((double)slot->maximum, exponent))
        exponent++;
    return exponent;
}

static bool keep(Graph *graph, Slot *slot, const int *exponents, int count, Error *error)
{
    if (!slot_set_exponents(graph, slot, exponents, count)) return fail_memory(error, (size_t)count * sizeof(int));
    slot->state = SLOT_ACTIVATED;
    slot->overridden = true;
    return true;
}

/* ---- activations ---- */

static bool apply_to_end(Graph *graph, Slot *slot, const Value *value, bool *applied, Error *error)
{
    if (slot->state != SLOT_INITIAL) return true;
    int exponent = exponent_of(value->given, 0, slot);
    for (int c = 1; c < value->given->count; c++) {
        int other = exponent_of(value->given, c, slot);
        if (other > exponent) exponent = other;
    }
    double scale = value->given->scales[0], step = ldexp(1.0, exponent);
    if (!*applied && (step != scale || value->given->count > 1))
        graph_note(graph,
                   "tensor %s: the model gives the scale %g and integers from %lld to %lld around its zero point; steps of %g are used, "
                   "%.3g times as coarse",
                   value->name, scale, (long long)value->given->low, (long long)value->given->high, step, step / scale);
    *applied = true;
    return keep(graph, slot, &exponent, 1, error);
}

static bool apply_to_activation(Graph *graph, Value *value, Error *error)
{
    bool applied = false;
    const Node *producer = value->producer;
    if (producer && producer->quantized && !apply_to_end(graph, producer->output_slots[value->producer_index], value, &applied, error))
        return false;
    for (int i = 0; i < value->use_count; i++) {
        const Node *reader = value->uses[i].node;
        if (!reader->quantized || (applied && producer && producer->platform == reader->platform)) continue; /* `join` links the two ends */
        if (!apply_to_end(graph, reader->input_slots[value->uses[i].index], value, &applied, error)) return false;
    }
    if (!applied)
        graph_note(graph, "tensor %s: the scale %g that the model gives has no effect: it stays float", value->name,
                   (double)value->given->scales[0]);
    return true;
}

/* ---- parameters ---- */

/* Are all numbers whole steps that fit? Elsewise the weights are no longer those that were given (a factor was folded into them). */
static bool is_exact(const Tensor *constant, const Slot *slot, const int *exponents, int count)
{
    int64_t inner = 1;
    for (int i = slot->channel_axis + 1; count > 1 && i < constant->shape.rank; i++)
        inner *= constant->shape.dims[i];
    for (int64_t i = 0, all = tensor_count(constant); i < all; i++) {
        double steps = ldexp((double)tensor_floats(constant)[i], -exponents[count > 1 ? i / inner % count : 0]);
        if (steps != floor(steps) || steps < (double)slot->minimum || steps > (double)slot->maximum) return false;
    }
    return true;
}

static bool is_power_of_two(double scale)
{
    int exponent;
    return frexp(scale, &exponent) == 0.5;
}

static bool apply_to_weight(Graph *graph, Slot *slot, const Value *value, Error *error)
{
    const Given *given = value->given;
    int count = parameter_channels(slot, value), least = 0, most = 0;
    if (slot->state != SLOT_INITIAL || value->constant->dtype != DTYPE_FLOAT32) return true;
    for (int c = 0; c < given->count; c++) {
        if (!is_power_of_two(given->scales[c])) {
            graph_note(graph,
                       "%s of %s: the scale %g that the model gives is no power of two: its numbers are rounded a second time, by up to "
                       "half a step",
                       value->name, slot->node->name, (double)given->scales[c]);
            return true;
        }
        int exponent = exponent_of(given, c, slot);
        least = c == 0 || exponent < least ? exponent : least;
        most = c == 0 || exponent > most ? exponent : most;
    }
    bool together = count == 1 && given->count > 1, fits = given->count == 1 || given->count == count || together;
    int *exponents = memory_new_array((size_t)count, sizeof *exponents);
    if (!exponents) return fail_memory(error, (size_t)count * sizeof *exponents);
    for (int c = 0; fits && c < count; c++)
        exponents[c] = together ? most : exponent_of(given, c, slot);
    bool ok = true;
    if (fits && (together || is_exact(value->constant, slot, exponents, count)))
        ok = keep(graph, slot, exponents, count, error);
    else
        graph_note(graph, "%s of %s: the scales that the model gives no longer fit (a factor was folded into it): chosen anew", value->name,
                   slot->node->name);
    if (ok && together && least != most)
        graph_note(graph, "%s of %s: the model gives one exponent a channel, %d to %d; this target has one a tensor, %d", value->name,
                   slot->node->name, least, most, most);
    memory_free(exponents);
    return ok;
}

bool given_apply(Graph *graph, Error *error)
{
    for (int i = 0; i < graph->value_count; i++) {
        Value *value = graph->values[i];
        if (!value->given) continue;
        if (!value->constant && !apply_to_activation(graph, value, error)) return false;
        for (int u = 0; value->constant && u < value->use_count; u++) {
            const Node *reader = value->uses[u].node;
            if (reader->quantized && !apply_to_weight(graph, reader->input_slots[value->uses[u].index], value, error)) return false;
        }
    }
    return true;
}

void given_note_changes(Graph *graph)
{
    for (int i = 0; i < graph->value_count; i++) {
        const Value *value = graph->values[i];
        const Node *producer = value->producer;
        if (!value->given || !producer || !producer->quantized) continue;
        Slot *slot = producer->output_slots[value->producer_index];
        if (!slot->overridden || slot->parent == slot || !slot_exponent_count(slot)) continue;
        int given = slot->exponents[0], now = slot_exponent(slot, 0);
        if (given != now)
            graph_note(graph, "tensor %s: the model gives the exponent %d, it has %d: the operators around it share one", value->name,
                       given, now);
    }
}
