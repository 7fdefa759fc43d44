/* What lies in front of a tensor in the runtime's memory: an index of -1 reads it (C16). Where the network's author means the last step of a
 * sequence, the tensor that lies there is often the same sequence in another layout, and the result is right by luck. */
#include "chip/memory_plan.h"
#include "chip/plan.h"

static const Shape *shape_of_value(const void *context, const Value *value)
{
    const ChipPlan *plan = context;
    const PlanValue *known = &plan->values[plan_value(plan, value)];
    return known->shape.rank < 0 ? NULL : &known->shape;
}

static int find(const MemoryPlan *memory, const Value *value)
{
    for (int i = 0; i < memory->count; i++)
        if (memory->tensors[i].value == value) return i;
    return -1;
}

static int64_t offset_of(const MemoryPlan *memory, int tensor)
{
    int leader = memory->tensors[tensor].leader;
    return memory->tensors[leader < 0 ? tensor : leader].offset;
}

/* The one written last of all that lie in [from, to); -1 when it does not reach over all of that, or ends elsewhere. */
static int last_writer(const ChipPlan *plan, const MemoryPlan *memory, int64_t from, int64_t to, int step)
{
    int found = -1, when = -2;
    for (int i = 0; i < memory->count; i++) {
        const MemoryTensor *tensor = &memory->tensors[i];
        int64_t offset = offset_of(memory, i);
        int written = plan->values[plan_value(plan, tensor->value)].input >= 0 ? -1 : tensor->begin;
        if (written >= step || written < when || offset >= to || offset + tensor->bytes <= from) continue;
        found = i;
        when = written;
    }
    if (found < 0) return -1;
    int64_t offset = offset_of(memory, found);
    return offset <= from && offset + memory->tensors[found].bytes == to ? found : -1;
}

bool plan_before(ChipPlan *plan, int step, int *value, Error *error)
{
    MemoryPlan memory = {0};
    MemoryPlanOptions options = {.order = plan->order, .count = plan->graph->node_count, .shape = shape_of_value, .context = plan};
    const ChipNode *node = &plan->steps[step].node;
    if (!memory_plan(plan->graph, &options, &memory, error)) return false;
    int input = find(&memory, node->inputs[0].value);
    int64_t to = input < 0 ? 0 : offset_of(&memory, input), from = to - (int64_t)node->reaches_before;
    int found = input < 0 || from < 0 ? -1 : last_writer(plan, &memory, from, to, step);
    *value = found < 0 ? -1 : plan_value(plan, memory.tensors[found].value);
    memory_plan_free(&memory);
    return true;
}
