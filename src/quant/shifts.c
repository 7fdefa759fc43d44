/* The chip's products are shifted to the right only (CHIP §1.8, C4): it crashes, or makes zeros, where an output is finer than its products. */
#include <string.h>

#include "base/memory.h"
#include "quant/parameters.h"

static bool multiplies(const Node *node)
{
    static const char *const types[] = {"Conv", "Gemm", "MatMul", "Mul"};
    for (size_t i = 0; node->quantized && node->input_count > 1 && i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(node->type, types[i]) == 0) return true;
    }
    return false;
}

/* The largest exponent over the channels; *known is false where the end carries floats. */
static int largest_exponent(Slot *slot, bool *known)
{
    int count = slot_exponent_count(slot);
    if (slot->state == SLOT_FP32 || count < 1) *known = false;
    int largest = count < 1 ? 0 : slot_exponent(slot, 0);
    for (int i = 1; i < count; i++)
        if (slot_exponent(slot, i) > largest) largest = slot_exponent(slot, i);
    return largest;
}

static bool raise_output(Graph *graph, Node *node, Error *error)
{
    bool known = true;
    int products = largest_exponent(node->input_slots[0], &known) + largest_exponent(node->input_slots[1], &known);
    Slot *root = slot_root(node->output_slots[0]);
    int made = largest_exponent(node->output_slots[0], &known);
    if (!known || made >= products || root->overridden || (root->state != SLOT_ACTIVATED && root->state != SLOT_PASSIVE)) return true;
    graph_note(graph, "%s: the exponent of its output is raised from %d to %d, that of its products: the chip shifts to the right only",
               node->name, made, products);
    return slot_set_exponents(graph, root, &products, 1) || fail_memory(error, sizeof products);
}

bool raise_fine_outputs(Graph *graph, Error *error)
{
    Node **order = NULL;
    if (!graph_sort(graph, &order, error)) return false;
    bool fine = true;
    for (int i = 0; fine && i < graph->node_count; i++)
        if (multiplies(order[i])) fine = raise_output(graph, order[i], error);
    memory_free(order);
    return fine;
}
