/* The name of a graph's contents: two graphs of one digest behave alike in every pass, run and export. */
#include "graph/contents.h"
#include "road/road.h"

static bool add_value(Sha1 *sha1, const Value *value, bool floats, Error *error)
{
    contents_add_text(sha1, value->name);
    contents_add_integer(sha1, value->dtype);
    contents_add_integer(sha1, value->shaped);
    if (value->shaped) {
        contents_add_integer(sha1, value->shape.rank);
        sha1_add(sha1, value->shape.dims, sizeof value->shape.dims[0] * (size_t)value->shape.rank);
    }
    for (int i = 0; i < value->use_count; i++) {
        contents_add_text(sha1, value->uses[i].node->name);
        contents_add_integer(sha1, value->uses[i].index);
    }
    contents_add_integer(sha1, value->given != NULL);
    if (value->given) {
        contents_add_integer(sha1, value->given->low);
        contents_add_integer(sha1, value->given->high);
        contents_add_integer(sha1, value->given->count);
        sha1_add(sha1, value->given->scales, sizeof(float) * (size_t)value->given->count);
    }
    if (floats) return contents_add_tensor(sha1, value->unbaked ? value->unbaked : value->constant, error);
    return contents_add_tensor(sha1, value->constant, error) && contents_add_tensor(sha1, value->unbaked, error);
}

static void add_slot(Sha1 *sha1, const Slot *slot)
{
    const int64_t numbers[] = {slot->state,       slot->bits,         slot->minimum,        slot->maximum,       slot->rounding,
                               slot->per_channel, slot->channel_axis, slot->bins,           slot->visibility,    slot->is_parameter,
                               slot->overridden,  slot->id,           slot->exponent_count, slot->parent == slot};
    sha1_add(sha1, numbers, sizeof numbers);
    sha1_add(sha1, &slot->percentile, sizeof slot->percentile);
    sha1_add(sha1, slot->exponents, sizeof(int) * (size_t)slot->exponent_count);
    contents_add_text(sha1, slot->observer);
    if (slot->parent && slot->parent != slot) {
        contents_add_integer(sha1, slot->parent->id);
        contents_add_text(sha1, slot->parent->node ? slot->parent->node->name : NULL);
        contents_add_integer(sha1, slot->parent->is_output);
        contents_add_integer(sha1, slot->parent->index);
    }
}

static bool add_node(Sha1 *sha1, const Node *node, bool floats, Error *error)
{
    contents_add_text(sha1, node->name);
    contents_add_text(sha1, node->type);
    contents_add_text(sha1, node->domain);
    contents_add_integer(sha1, node->opset);
    contents_add_integer(sha1, node->platform && !floats ? node->platform->id : INT64_MIN);
    contents_add_integer(sha1, node->quantized);
    contents_add_integer(sha1, node->wide && !floats);
    contents_add_integer(sha1, node->unnamed);
    contents_add_integer(sha1, node->attribute_count);
    for (int i = 0; i < node->attribute_count; i++)
        if (!contents_add_attribute(sha1, &node->attributes[i], error)) return false;
    contents_add_integer(sha1, node->input_count);
    for (int i = 0; i < node->input_count; i++)
        contents_add_text(sha1, node->inputs[i] ? node->inputs[i]->name : NULL);
    contents_add_integer(sha1, node->output_count);
    for (int i = 0; i < node->output_count; i++)
        contents_add_text(sha1, node->outputs[i] ? node->outputs[i]->name : NULL);
    for (int i = 0; node->quantized && !floats && i < node->input_count; i++)
        add_slot(sha1, node->input_slots[i]);
    for (int i = 0; node->quantized && !floats && i < node->output_count; i++)
        add_slot(sha1, node->output_slots[i]);
    return true;
}

static bool digest(const Graph *graph, bool floats, char hex[41], Error *error)
{
    Sha1 sha1;
    sha1_begin(&sha1);
    const int64_t numbers[] = {graph->ir_version, graph->opset, graph->next_operation, graph->next_variable, graph->next_slot};
    const Text *texts[] = {&graph->removed_names, &graph->shared_names};
    if (!floats) {
        contents_add_text(&sha1, graph->name);
        sha1_add(&sha1, numbers, sizeof numbers);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            contents_add_integer(&sha1, (int64_t)texts[i]->length);
            sha1_add(&sha1, texts[i]->data, texts[i]->length);
        }
    }
    contents_add_integer(&sha1, graph->node_count);
    for (int i = 0; i < graph->node_count; i++)
        if (!add_node(&sha1, graph->nodes[i], floats, error)) return false;
    contents_add_integer(&sha1, graph->value_count);
    for (int i = 0; i < graph->value_count; i++)
        if (!add_value(&sha1, graph->values[i], floats, error)) return false;
    for (int i = 0; i < graph->input_count; i++)
        contents_add_text(&sha1, graph->inputs[i]->name);
    for (int i = 0; i < graph->output_count; i++)
        contents_add_text(&sha1, graph->outputs[i]->name);
    sha1_end(&sha1, hex);
    return true;
}

bool road_digest(const Graph *graph, char hex[41], Error *error)
{
    return digest(graph, false, hex, error);
}

bool road_float_digest(const Graph *graph, char hex[41], Error *error)
{
    return digest(graph, true, hex, error);
}
