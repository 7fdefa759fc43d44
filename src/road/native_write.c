/* Writing the .native file. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/sha1.h"
#include "quant/target.h"
#include "road/native.h"

/* Where something stands in the file, by its address. */
typedef struct Place {
    const void *object;
    int64_t position;
} Place;

typedef struct Places {
    Place *items;
    size_t count;
} Places;

typedef struct Writing {
    const Graph *graph;
    Text *out;
    Places nodes, values, slots;
    const void **slot_list; /* of Slot, in the order of the file */
    size_t slot_count, slot_capacity;
    Error *error;
} Writing;

/* ---- numbers and texts ---- */

static void put_integer(Writing *writing, int64_t value)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)value >> (8 * i));
    text_add_bytes(writing->out, bytes, sizeof bytes);
}

static void put_bytes(Writing *writing, const void *data, size_t count)
{
    put_integer(writing, (int64_t)count);
    if (count) text_add_bytes(writing->out, data, count);
}

static void put_text(Writing *writing, const char *text)
{
    if (text)
        put_bytes(writing, text, strlen(text));
    else
        put_integer(writing, NATIVE_NO_TEXT);
}

static void put_double(Writing *writing, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_integer(writing, (int64_t)bits);
}

static void put_floats(Writing *writing, const float *values, int count)
{
    put_integer(writing, count);
    for (int i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        put_integer(writing, bits);
    }
}

static void put_shape(Writing *writing, const Shape *shape)
{
    put_integer(writing, shape->rank);
    for (int i = 0; i < shape->rank; i++)
        put_integer(writing, shape->dims[i]);
}

static bool put_tensor(Writing *writing, Tensor *tensor)
{
    put_integer(writing, tensor != NULL);
    if (!tensor) return true;
    Tensor *whole = tensor_contiguous(tensor, writing->error);
    if (!whole) return false;
    put_integer(writing, whole->dtype);
    put_shape(writing, &whole->shape);
    put_bytes(writing, whole->data, tensor_bytes(whole));
    tensor_release(whole);
    return true;
}

/* ---- references ---- */

static int compare_places(const void *a, const void *b)
{
    const Place *first = a, *second = b;
    uintptr_t x = (uintptr_t)first->object, y = (uintptr_t)second->object;
    if (x != y) return x < y ? -1 : 1;
    return first->position < second->position ? -1 : first->position > second->position;
}

static int compare_positions(const void *a, const void *b)
{
    const Place *first = a, *second = b;
    return first->position < second->position ? -1 : first->position > second->position;
}

static int64_t place_of(const Places *places, const void *object)
{
    size_t low = 0, high = places->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (places->items[middle].object == object) return places->items[middle].position;
        if ((uintptr_t)places->items[middle].object < (uintptr_t)object)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* Each object once, numbered in the order of first sight. *objects becomes that list. */
static bool find_places(Writing *writing, Places *places, const void **objects, size_t *count)
{
    places->items = memory_new_array(*count + 1, sizeof *places->items);
    if (!places->items) return fail_memory(writing->error, *count * sizeof *places->items);
    for (size_t i = 0; i < *count; i++)
        places->items[i] = (Place){objects[i], (int64_t)i};
    qsort(places->items, *count, sizeof *places->items, compare_places);
    for (size_t i = 0; i < *count; i++) {
        if (i == 0 || places->items[i].object != places->items[i - 1].object) places->items[places->count++] = places->items[i];
    }
    qsort(places->items, places->count, sizeof *places->items, compare_positions);
    *count = places->count;
    for (size_t i = 0; i < *count; i++) {
        objects[i] = places->items[i].object;
        places->items[i].position = (int64_t)i;
    }
    qsort(places->items, *count, sizeof *places->items, compare_places);
    return true;
}

static bool collect_slot(Writing *writing, const Slot *slot)
{
    const void **grown = memory_grow(writing->slot_list, writing->slot_count, &writing->slot_capacity, sizeof *grown);
    if (!grown) return fail_memory(writing->error, sizeof *grown);
    writing->slot_list = grown;
    writing->slot_list[writing->slot_count++] = slot;
    return true;
}

/* Slots of all ends, and those they follow, also where the node of such a one is gone. */
static bool collect_slots(Writing *writing)
{
    const Graph *graph = writing->graph;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count + node->output_count; k++)
            if (!collect_slot(writing, k < node->input_count ? node->input_slots[k] : node->output_slots[k - node->input_count])) return false;
    }
    for (size_t i = 0, ends = writing->slot_count; i < ends; i++) {
        for (const Slot *slot = writing->slot_list[i]; slot->parent != slot; slot = slot->parent)
            if (!collect_slot(writing, slot->parent)) return false;
    }
    return true;
}

static bool collect(Writing *writing)
{
    const Graph *graph = writing->graph;
    size_t nodes = (size_t)graph->node_count, values = (size_t)graph->value_count;
    const void **list = memory_new_array(nodes + values + 1, sizeof *list);
    if (!list) return fail_memory(writing->error, (nodes + values) * sizeof *list);
    for (size_t i = 0; i < nodes; i++)
        list[i] = graph->nodes[i];
    for (size_t i = 0; i < values; i++)
        list[nodes + i] = graph->values[i];
    bool ok = find_places(writing, &writing->nodes, list, &nodes) && find_places(writing, &writing->values, list + graph->node_count, &values);
    memory_free(list);
    return ok && collect_slots(writing) && find_places(writing, &writing->slots, writing->slot_list, &writing->slot_count);
}

/* ---- parts of the graph ---- */

static bool put_value(Writing *writing, const Value *value)
{
    put_text(writing, value->name);
    put_integer(writing, value->dtype);
    put_integer(writing, value->shaped);
    if (value->shaped) put_shape(writing, &value->shape);
    put_integer(writing, value->given != NULL);
    if (value->given) {
        put_integer(writing, value->given->low);
        put_integer(writing, value->given->high);
        put_floats(writing, value->given->scales, value->given->count);
    }
    return put_tensor(writing, value->constant) && put_tensor(writing, value->unbaked);
}

static bool put_attribute(Writing *writing, const Attribute *attribute)
{
    put_text(writing, attribute->name);
    put_integer(writing, attribute->kind);
    switch (attribute->kind) {
    case ATTRIBUTE_INT: put_integer(writing, attribute->integer); break;
    case ATTRIBUTE_FLOAT: put_floats(writing, &attribute->number, 1); break;
    case ATTRIBUTE_STRING: put_text(writing, attribute->string); break;
    case ATTRIBUTE_INTS:
        put_integer(writing, attribute->count);
        for (int i = 0; i < attribute->count; i++)
            put_integer(writing, attribute->integers[i]);
        break;
    case ATTRIBUTE_FLOATS: put_floats(writing, attribute->numbers, attribute->count); break;
    case ATTRIBUTE_STRINGS:
        put_integer(writing, attribute->count);
        for (int i = 0; i < attribute->count; i++)
            put_text(writing, attribute->strings[i]);
        break;
    case ATTRIBUTE_TENSOR: return put_tensor(writing, attribute->tensor);
    }
    return true;
}

static bool put_node(Writing *writing, const Node *node)
{
    put_text(writing, node->name);
    put_text(writing, node->type);
    put_text(writing, node->domain);
    put_integer(writing, node->opset);
    put_integer(writing, node->platform != NULL);
    if (node->platform) put_integer(writing, node->platform->id);
    put_integer(writing, node->quantized);
    put_integer(writing, node->wide);
    put_integer(writing, node->unnamed);
    put_integer(writing, node->attribute_count);
    for (int i = 0; i < node->attribute_count; i++)
        if (!put_attribute(writing, &node->attributes[i])) return false;
    put_integer(writing, node->input_count);
    for (int i = 0; i < node->input_count; i++)
        put_integer(writing, place_of(&writing->values, node->inputs[i]));
    put_integer(writing, node->output_count);
    for (int i = 0; i < node->output_count; i++)
        put_integer(writing, place_of(&writing->values, node->outputs[i]));
    for (int i = 0; node->quantized && i < node->input_count; i++)
        put_integer(writing, place_of(&writing->slots, node->input_slots[i]));
    for (int i = 0; node->quantized && i < node->output_count; i++)
        put_integer(writing, place_of(&writing->slots, node->output_slots[i]));
    return true;
}

static void put_slot(Writing *writing, const Slot *slot)
{
    put_integer(writing, place_of(&writing->slots, slot->parent));
    put_integer(writing, place_of(&writing->nodes, slot->node));
    const int64_t numbers[] = {slot->is_output, slot->index,    slot->is_parameter, slot->state,      slot->bits,         slot->minimum,
                               slot->maximum,   slot->rounding, slot->per_channel,  slot->channel_axis, slot->bins,       slot->visibility,
                               slot->overridden, slot->id};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        put_integer(writing, numbers[i]);
    put_double(writing, slot->percentile);
    put_text(writing, slot->observer);
    put_integer(writing, slot->exponent_count);
    for (int i = 0; i < slot->exponent_count; i++)
        put_integer(writing, slot->exponents[i]);
}

/* Consumers in their order, which is part of the graph. */
static void put_uses(Writing *writing, const Value *value)
{
    put_integer(writing, value->use_count);
    for (int i = 0; i < value->use_count; i++) {
        put_integer(writing, place_of(&writing->nodes, value->uses[i].node));
        put_integer(writing, value->uses[i].index);
    }
}

static bool put_graph(Writing *writing, const char *about, bool notes)
{
    static const Text nothing;
    const Graph *graph = writing->graph;
    const Text *texts[] = {&graph->removed_names, &graph->shared_names, notes ? &graph->notes : &nothing};
    put_text(writing, about ? about : "");
    put_text(writing, graph->name);
    put_text(writing, graph->source);
    const int64_t numbers[] = {graph->ir_version, graph->opset, graph->next_operation, graph->next_variable, graph->next_slot};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        put_integer(writing, numbers[i]);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        put_bytes(writing, texts[i]->data, texts[i]->length);
    put_integer(writing, graph->value_count);
    for (int i = 0; i < graph->value_count; i++)
        if (!put_value(writing, graph->values[i])) return false;
    put_integer(writing, (int64_t)writing->slot_count);
    put_integer(writing, graph->node_count);
    for (int i = 0; i < graph->node_count; i++)
        if (!put_node(writing, graph->nodes[i])) return false;
    for (size_t i = 0; i < writing->slot_count; i++)
        put_slot(writing, writing->slot_list[i]);
    for (int i = 0; i < graph->value_count; i++)
        put_uses(writing, graph->values[i]);
    put_integer(writing, graph->input_count);
    for (int i = 0; i < graph->input_count; i++)
        put_integer(writing, place_of(&writing->values, graph->inputs[i]));
    put_integer(writing, graph->output_count);
    for (int i = 0; i < graph->output_count; i++)
        put_integer(writing, place_of(&writing->values, graph->outputs[i]));
    return true;
}

/* The head, once the body's size is known, and the checksum behind it. */
static void put_ends(Text *bytes)
{
    uint64_t body = bytes->length - NATIVE_HEAD;
    memcpy(bytes->data, NATIVE_MAGIC, 8);
    bytes->data[8] = NATIVE_VERSION;
    for (int i = 0; i < 8; i++)
        bytes->data[16 + i] = (char)(uint8_t)(body >> (8 * i));
    char checksum[NATIVE_CHECKSUM + 1];
    Sha1 sha1;
    sha1_begin(&sha1);
    sha1_add_fast(&sha1, bytes->data, bytes->length);
    sha1_end(&sha1, checksum);
    text_add_bytes(bytes, checksum, NATIVE_CHECKSUM);
}

bool native_bytes(const Graph *graph, const char *about, bool notes, Text *bytes, Error *error)
{
    static const char head[NATIVE_HEAD];
    Writing writing = {.graph = graph, .out = bytes, .error = error};
    text_add_bytes(bytes, head, sizeof head);
    bool ok = collect(&writing) && put_graph(&writing, about, notes);
    if (ok && !bytes->failed) put_ends(bytes);
    memory_free(writing.nodes.items);
    memory_free(writing.values.items);
    memory_free(writing.slots.items);
    memory_free(writing.slot_list);
    return ok && bytes->failed ? fail_memory(error, bytes->length) : ok;
}

bool native_save(const Graph *graph, const char *about, bool notes, const char *path, Error *error)
{
    Text bytes = {0};
    bool ok = native_bytes(graph, about, notes, &bytes, error) && file_write(path, bytes.data, bytes.length, error);
    text_free(&bytes);
    return ok;
}
