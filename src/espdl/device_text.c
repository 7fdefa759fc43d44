/* A device graph for people: one line a node, with what the chip gets of each tensor. */
#include <inttypes.h>

#include "base/memory.h"
#include "espdl/device.h"

static void add_end(Text *text, const Value *value, bool whole)
{
    char name[256];
    text_format(text, "%%%s", value ? text_escape(name, sizeof name, value->name) : "");
    const DeviceValue *device = value && whole ? value->device : NULL;
    if (!device) return;
    text_format(text, "[%s ", dtype_name(device->dtype));
    for (int i = 0; i < device->shape.rank; i++)
        text_format(text, "%s%" PRId64, i ? "x" : "", device->shape.dims[i]);
    if (!device->shape.rank) text_add(text, "scalar");
    bool integer = device->dtype == DTYPE_INT8 || device->dtype == DTYPE_INT16 || (value->constant && device->exponent_count > 1);
    int least = 0, most = 0;
    for (int i = 0; i < device->exponent_count; i++) {
        if (i == 0 || device->exponents[i] < least) least = device->exponents[i];
        if (i == 0 || device->exponents[i] > most) most = device->exponents[i];
    }
    if (device->exponent_count > 1)
        text_format(text, " e=%d…%d in %d channels", least, most, device->exponent_count);
    else if (device->exponent_count && (integer || least))
        text_format(text, " e=%d", least);
    if (device->layout) text_format(text, " %.40s", device->layout);
    text_add(text, "]");
}

static void add_attribute(Text *text, const Attribute *attribute)
{
    char number[32], escaped[256];
    text_format(text, " %s=", attribute->name);
    switch (attribute->kind) {
    case ATTRIBUTE_INT: text_format(text, "%" PRId64, attribute->integer); return;
    case ATTRIBUTE_FLOAT:
        text_from_float(number, attribute->number);
        text_add(text, number);
        return;
    case ATTRIBUTE_STRING: text_add(text, text_escape(escaped, sizeof escaped, attribute->string)); return;
    case ATTRIBUTE_TENSOR: text_add(text, "tensor"); return;
    default: break;
    }
    text_add(text, "[");
    for (int i = 0; i < attribute->count; i++) {
        if (i) text_add(text, ",");
        if (attribute->kind == ATTRIBUTE_INTS)
            text_format(text, "%" PRId64, attribute->integers[i]);
        else if (attribute->kind == ATTRIBUTE_FLOATS) {
            text_from_float(number, attribute->numbers[i]);
            text_add(text, number);
        } else
            text_add(text, text_escape(escaped, sizeof escaped, attribute->strings[i]));
    }
    text_add(text, "]");
}

static void add_node(Text *text, const Node *node)
{
    char name[256];
    text_add(text, "  ");
    for (int i = 0; i < node->output_count; i++) {
        if (i) text_add(text, ", ");
        add_end(text, node->outputs[i], true);
    }
    text_format(text, " = %s(", node->type);
    for (int i = 0; i < node->input_count; i++) {
        if (i) text_add(text, ", ");
        add_end(text, node->inputs[i], node->inputs[i] && node->inputs[i]->constant); /* what a node made was described there */
    }
    text_add(text, ")");
    for (int i = 0; i < node->attribute_count; i++)
        add_attribute(text, &node->attributes[i]);
    text_format(text, "  # %s\n", text_escape(name, sizeof name, node->name));
}

bool espdl_device_text(const Graph *device, bool sorted, Text *text, Error *error)
{
    Node **order = NULL;
    if (sorted && !graph_sort(device, &order, error)) return false;
    char name[256];
    text_format(text, "device graph %s\n", text_escape(name, sizeof name, device->name ? device->name : ""));
    for (int i = 0; i < device->input_count; i++) {
        text_add(text, "  input ");
        add_end(text, device->inputs[i], true);
        text_add(text, "\n");
    }
    for (int i = 0; i < device->node_count; i++)
        add_node(text, order ? order[i] : device->nodes[i]);
    text_add(text, "  return ");
    for (int i = 0; i < device->output_count; i++) {
        if (i) text_add(text, ", ");
        add_end(text, device->outputs[i], false);
    }
    text_add(text, "\n");
    memory_free(order);
    return !text->failed || fail_memory(error, text->length);
}
