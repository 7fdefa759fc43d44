/* Places in memory: what is alive at the same time lies apart, everything else shares. */
#include "base/memory.h"
#include "chip/plan.h"

/* Loads of whole vectors may reach behind the last element. */
static size_t room(size_t bytes)
{
    return (bytes + 64 + 63) & ~(size_t)63;
}

static void find_lives(ChipPlan *plan)
{
    for (int i = 0; i < plan->step_count; i++) {
        const PlanStep *step = &plan->steps[i];
        if (!step->needed) continue;
        for (int k = 0; k < step->node.output_count; k++) {
            int place = step->values[step->node.input_count + k];
            if (place < 0) continue;
            PlanValue *value = &plan->values[place];
            value->first = i;
            if (value->last < i) value->last = i;
        }
    }
    for (int i = 0; i < plan->value_count; i++) {
        PlanValue *value = &plan->values[i];
        if (value->input >= 0) value->first = 0;
        if (value->wanted >= 0 || (value->input >= 0 && value->last < 0)) value->last = plan->step_count;
    }
}

/* In the order of the steps, each value at the lowest place where nothing that is alive lies. */
static bool place_values(ChipPlan *plan, Error *error)
{
    int *alive = memory_new_array((size_t)plan->value_count + 1, sizeof *alive); /* by offset */
    int *order = memory_new_array((size_t)plan->value_count + 1, sizeof *order);
    int count = 0, placed = 0;
    bool ok = alive && order;
    for (int i = 0; ok && i < plan->value_count; i++)
        if (plan->values[i].input >= 0) order[placed++] = i;
    for (int i = 0; ok && i < plan->step_count; i++) {
        const PlanStep *step = &plan->steps[i];
        for (int k = 0; step->needed && k < step->node.output_count; k++)
            if (step->values[step->node.input_count + k] >= 0) order[placed++] = step->values[step->node.input_count + k];
    }
    for (int i = 0; ok && i < placed; i++) {
        PlanValue *value = &plan->values[order[i]];
        int left = 0;
        for (int k = 0; k < count; k++)
            if (plan->values[alive[k]].last >= value->first) alive[left++] = alive[k];
        count = left;
        size_t at = 0, bytes = room(value->bytes);
        int before = 0;
        while (before < count && plan->values[alive[before]].offset < at + bytes) {
            size_t end = plan->values[alive[before]].offset + room(plan->values[alive[before]].bytes);
            if (end > at) at = end;
            before++;
        }
        value->offset = at;
        for (int k = count++; k > before; k--)
            alive[k] = alive[k - 1];
        alive[before] = order[i];
        if (at + bytes > plan->arena_bytes) plan->arena_bytes = at + bytes;
    }
    memory_free(alive);
    memory_free(order);
    return ok || fail_memory(error, (size_t)plan->value_count * sizeof *alive);
}

/* Ends whose address is the user's, not the frame's. */
static bool find_patches(ChipPlan *plan, Error *error)
{
    plan->patches = arena_new(&plan->arena, (size_t)plan->end_count * sizeof *plan->patches + 1);
    if (!plan->patches) return fail_memory(error, (size_t)plan->end_count * sizeof *plan->patches);
    for (int i = 0; i < plan->step_count; i++) {
        const PlanStep *step = &plan->steps[i];
        for (int k = 0; k < step->end_count; k++) {
            int place = step->values[k];
            if (place < 0 || plan->values[place].value->constant) continue;
            if (plan->values[place].input < 0 && plan->values[place].wanted < 0) continue;
            plan->patches[plan->patch_count++] = (PlanPatch){step->first_end + k, place};
        }
    }
    return true;
}

bool plan_place(ChipPlan *plan, Error *error)
{
    find_lives(plan);
    for (int i = 0; i < plan->value_count; i++)
        if (plan->values[i].input >= 0 && plan->values[i].bytes > plan->turning_bytes) plan->turning_bytes = plan->values[i].bytes;
    return place_values(plan, error) && find_patches(plan, error);
}
