#include "graph/slot.h"

#include "graph/graph.h"

Slot *slot_root(Slot *slot)
{
    Slot *root = slot;
    while (root->parent != root)
        root = root->parent;
    while (slot != root) { /* path compression */
        Slot *next = slot->parent;
        slot->parent = root;
        slot = next;
    }
    return root;
}

const char *slot_state_name(SlotState state)
{
    static const char *const names[] = {"INITIAL", "ACTIVATED", "PASSIVE_INIT", "PASSIVE", "OVERLAPPED", "BAKED", "PASSIVE_BAKED", "FP32"};
    return names[state];
}

bool slot_quantizes(const Slot *slot)
{
    if (slot->state != SLOT_ACTIVATED && slot->state != SLOT_PASSIVE) return false;
    while (slot->parent != slot)
        slot = slot->parent;
    return slot->exponent_count > 0;
}

int slot_exponent_count(Slot *slot)
{
    return slot_root(slot)->exponent_count;
}

int slot_exponent(Slot *slot, int channel)
{
    const Slot *root = slot_root(slot);
    return root->exponents[root->exponent_count == 1 ? 0 : channel];
}

bool slot_same_scheme(const Slot *a, const Slot *b)
{
    return a->minimum == b->minimum && a->maximum == b->maximum && a->bits == b->bits && a->rounding == b->rounding &&
           a->per_channel == b->per_channel && (!a->per_channel || a->channel_axis == b->channel_axis);
}

bool slot_dominate(Slot *slot, Slot *dominator)
{
    if (slot == dominator) return false;
    Slot *root = slot_root(slot), *top = slot_root(dominator);
    if (slot == top) return false;
    if (root != top) {
        root->parent = top;
        slot->parent = top;
        root->state = SLOT_OVERLAPPED;
        slot->state = SLOT_OVERLAPPED;
    }
    return true;
}

bool slot_master(Slot *slot, Slot *master)
{
    /* The reference does not look for cycles here; one would make every later walk endless. */
    if (slot == master || slot_root(master) == slot) return false;
    slot->parent = master;
    slot->state = slot_root(master)->exponent_count ? SLOT_PASSIVE : SLOT_PASSIVE_INIT;
    return true;
}

bool slot_set_exponents(Graph *graph, Slot *slot, const int *exponents, int count)
{
    if (slot->parent != slot) return false;
    if (slot->state != SLOT_ACTIVATED && slot->state != SLOT_INITIAL && slot->state != SLOT_FP32 && slot->state != SLOT_PASSIVE &&
        slot->state != SLOT_PASSIVE_INIT)
        return false;
    int *copy = arena_copy(&graph->arena, exponents, (size_t)count * sizeof(int));
    if (!copy) return false;
    slot->exponents = copy;
    slot->exponent_count = count;
    return true;
}
