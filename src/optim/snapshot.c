#include "optim/snapshot.h"

#include "base/memory.h"

typedef struct SnapshotValue {
    Value *value;
    Tensor *constant, *unbaked;
} SnapshotValue;

/* Calls visit for each slot, in one order. */
static size_t each_slot(const Graph *graph, Slot *slots, void (*visit)(Slot *slot, Slot *copy))
{
    size_t count = 0;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        if (!node->quantized) continue;
        for (int k = 0; k < node->input_count; k++, count++)
            if (visit) visit(node->input_slots[k], &slots[count]);
        for (int k = 0; k < node->output_count; k++, count++)
            if (visit) visit(node->output_slots[k], &slots[count]);
    }
    return count;
}

/* Exponents lie in the graph's arena, and are never written to where they lie. */
static void keep_slot(Slot *slot, Slot *copy)
{
    *copy = *slot;
}

static void put_slot(Slot *slot, Slot *copy)
{
    *slot = *copy;
}

bool snapshot_take(Snapshot *snapshot, Graph *graph, Error *error)
{
    size_t count = each_slot(graph, NULL, NULL);
    *snapshot = (Snapshot){.graph = graph};
    snapshot->values = memory_new_array((size_t)graph->value_count + 1, sizeof *snapshot->values);
    snapshot->slots = memory_new_array(count + 1, sizeof *snapshot->slots);
    if (!snapshot->values || !snapshot->slots) {
        snapshot_free(snapshot);
        return fail_memory(error, count * sizeof *snapshot->slots);
    }
    for (int i = 0; i < graph->value_count; i++) {
        Value *value = graph->values[i];
        if (!value->constant) continue;
        snapshot->values[snapshot->value_count++] =
            (SnapshotValue){value, tensor_retain(value->constant), value->unbaked ? tensor_retain(value->unbaked) : NULL};
    }
    each_slot(graph, snapshot->slots, keep_slot);
    return true;
}

void snapshot_restore(const Snapshot *snapshot)
{
    for (int i = 0; i < snapshot->value_count; i++) {
        const SnapshotValue *kept = &snapshot->values[i];
        Tensor *constant = kept->value->constant, *unbaked = kept->value->unbaked;
        kept->value->constant = tensor_retain(kept->constant);
        kept->value->unbaked = kept->unbaked ? tensor_retain(kept->unbaked) : NULL;
        tensor_release(constant);
        tensor_release(unbaked);
    }
    each_slot(snapshot->graph, snapshot->slots, put_slot);
}

void snapshot_free(Snapshot *snapshot)
{
    for (int i = 0; i < snapshot->value_count; i++) {
        tensor_release(snapshot->values[i].constant);
        tensor_release(snapshot->values[i].unbaked);
    }
    memory_free(snapshot->values);
    memory_free(snapshot->slots);
    *snapshot = (Snapshot){0};
}
