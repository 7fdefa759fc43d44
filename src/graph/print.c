/* The text of `espq dump`: one line a node. */
#include <inttypes.h>

#include "base/memory.h"
#include "graph/graph.h"

static void print_shape(const Value *value, Text *text)
{
    text_format(text, "[%s", dtype_name(value->dtype));
    if (value->shaped) {
        text_add(text, " ");
        for (int i = 0; i < value->shape.rank; i++)
            text_format(text, "%s%" PRId64, i ? "x" : "", value->shape.dims[i]);
        if (!value->shape.rank) text_add(text, "scalar");
    }
    text_add(text, "]");
}

static void print_slot(Slot *slot, Text *text)
{
    const Slot *root = slot_root(slot);
    if (slot->state == SLOT_FP32) return;
    if (!root->exponent_count) {
        text_format(text, "{%s}", slot_state_name(slot->state));
        return;
    }
    int least = root->exponents[0], most = root->exponents[0];
    for (int i = 1; i < root->exponent_count; i++) {
        if (root->exponents[i] < least) least = root->exponents[i];
        if (root->exponents[i] > most) most = root->exponents[i];
    }
    if (root->exponent_count > 1)
        text_format(text, "{int%d e=%d…%d in %d channels}", slot->bits, least, most, root->exponent_count);
    else
        text_format(text, "{int%d e=%d%s}", slot->bits, least, slot->overridden ? " by hand" : "");
}

static void print_name(const Value *value, Text *text)
{
    char name[256];
    text_format(text, "%%%s", value ? text_escape(name, sizeof name, value->name) : "");
}

static void print_attribute(const Attribute *attribute, Text *text)
{
    char number[32];
    text_format(text, "%s=", attribute->name);
    switch (attribute->kind) {
    case ATTRIBUTE_INT: text_format(text, "%" PRId64, attribute->integer); break;
    case ATTRIBUTE_FLOAT:
        text_from_float(number, attribute->number);
        text_add(text, number);
        break;
    case ATTRIBUTE_STRING: text_format(text, "'%s'", attribute->string); break;
    case ATTRIBUTE_TENSOR: text_add(text, "tensor"); break;
    default:
        text_add(text, "[");
        for (int i = 0; i < attribute->count; i++) {
            if (i) text_add(text, ",");
            if (attribute->kind == ATTRIBUTE_INTS)
                text_format(text, "%" PRId64, attribute->integers[i]);
            else if (attribute->kind == ATTRIBUTE_FLOATS) {
                text_from_float(number, attribute->numbers[i]);
                text_add(text, number);
            } else
                text_format(text, "'%s'", attribute->strings[i]);
        }
        text_add(text, "]");
    }
}

static void print_node(const Node *node, Text *text)
{
    char name[256];
    text_add(text, "  ");
    for (int i = 0; i < node->output_count; i++) {
        if (i) text_add(text, ", ");
        print_name(node->outputs[i], text);
        if (node->outputs[i]) print_shape(node->outputs[i], text);
        if (node->quantized) print_slot(node->output_slots[i], text);
    }
    text_format(text, " = %s(", node->type);
    for (int i = 0; i < node->input_count; i++) {
        if (i) text_add(text, ", ");
        print_name(node->inputs[i], text);
        if (node->inputs[i] && node->inputs[i]->constant) print_shape(node->inputs[i], text);
        if (node->quantized) print_slot(node->input_slots[i], text);
    }
    text_add(text, ")");
    for (int i = 0; i < node->attribute_count; i++) {
        text_add(text, i ? ", " : " ");
        print_attribute(&node->attributes[i], text);
    }
    text_format(text, "   # %s\n", text_escape(name, sizeof name, node->name));
}

void graph_print(const Graph *graph, Text *text)
{
    Node **order;
    Error error = {0};
    char name[256];
    text_format(text, "graph %s (", text_escape(name, sizeof name, graph->name));
    for (int i = 0; i < graph->input_count; i++) {
        if (i) text_add(text, ", ");
        print_name(graph->inputs[i], text);
        print_shape(graph->inputs[i], text);
    }
    text_add(text, ")\n");
    if (graph_sort(graph, &order, &error)) {
        for (int i = 0; i < graph->node_count; i++)
            print_node(order[i], text);
        memory_free(order);
    } else {
        text_format(text, "  (%s: %s)\n", error.where, error.what);
    }
    text_add(text, "  return ");
    for (int i = 0; i < graph->output_count; i++) {
        if (i) text_add(text, ", ");
        print_name(graph->outputs[i], text);
        print_shape(graph->outputs[i], text);
    }
    text_add(text, "\n");
}
