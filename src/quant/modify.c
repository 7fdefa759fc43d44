/* The pass `modify` (QUANT §8.9): output exponents set by hand, by operator name. */
#include "base/math.h"
#include "base/memory.h"
#include "quant/quantize.h"

static bool fail_unknown(const Graph *graph, const char *name, Error *error)
{
    const char *cure = "`espq dump --after=simplify` lists the operators";
    const char **names = memory_new_array((size_t)graph->node_count + 1, sizeof *names);
    if (!names) return fail_memory(error, (size_t)graph->node_count * sizeof *names);
    for (int i = 0; i < graph->node_count; i++)
        names[i] = graph->nodes[i]->name;
    int nearest = text_nearest(name, names, graph->node_count);
    memory_free(names);
    if (nearest < 0) return fail(error, name, cure, "custom_config: no operator is called '%s'", name);
    return fail(error, name, cure, "custom_config: no operator is called '%s' (did you mean '%s'?)", name, graph->nodes[nearest]->name);
}

bool pass_modify(Graph *graph, PassContext *context, Error *error)
{
    const Setting *setting = context->setting;
    for (int i = 0; i < setting->quant_config_modify_setting.count; i++) {
        const ConfigEntry *entry = &setting->quant_config_modify_setting.custom_config[i];
        Node *node = graph_node(graph, entry->name);
        if (!node) return fail_unknown(graph, entry->name, error);
        if (!node->quantized || node->output_count == 0) {
            return fail(error, entry->name, "take it out of custom_config, or dispatch the operator to a quantized platform",
                        "custom_config: operator '%s' is float", entry->name);
        }
        Slot *slot = node->output_slots[0];
        if (slot->parent != slot) {
            const Node *owner = slot_root(slot)->node;
            graph_note(graph, "custom_config of %s is skipped: its output has the exponent of %s", entry->name,
                       owner ? owner->name : "another operator");
            continue;
        }
        int exponent = nearest_log2(entry->scale);
        double scale = 1;
        for (int e = exponent; e > 0; e--)
            scale *= 2;
        for (int e = exponent; e < 0; e++)
            scale /= 2;
        if (scale != entry->scale) {
            graph_note(graph, "custom_config of %s: scale %g is no power of two, %g is used", entry->name, entry->scale, scale);
        }
        slot->state = SLOT_INITIAL;
        if (!slot_set_exponents(graph, slot, &exponent, 1)) return fail_memory(error, sizeof exponent);
        slot->state = SLOT_ACTIVATED;
        slot->overridden = true;
    }
    return true;
}
