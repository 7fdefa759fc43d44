#include <string.h>

#include "graph/graph.h"
#include "graph/storage.h"

static Attribute *find(const Node *node, const char *name)
{
    for (int i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0) return &node->attributes[i];
    return NULL;
}

static const Attribute *find_kind(const Node *node, const char *name, AttributeKind kind)
{
    const Attribute *attribute = find(node, name);
    return attribute && attribute->kind == kind ? attribute : NULL;
}

const Attribute *node_attribute(const Node *node, const char *name)
{
    return find(node, name);
}

int64_t node_integer(const Node *node, const char *name, int64_t otherwise)
{
    const Attribute *attribute = find_kind(node, name, ATTRIBUTE_INT);
    return attribute ? attribute->integer : otherwise;
}

float node_number(const Node *node, const char *name, float otherwise)
{
    const Attribute *attribute = find_kind(node, name, ATTRIBUTE_FLOAT);
    return attribute ? attribute->number : otherwise;
}

const char *node_string(const Node *node, const char *name, const char *otherwise)
{
    const Attribute *attribute = find_kind(node, name, ATTRIBUTE_STRING);
    return attribute ? attribute->string : otherwise;
}

int node_integers(const Node *node, const char *name, int64_t *out, int capacity)
{
    const Attribute *attribute = find_kind(node, name, ATTRIBUTE_INTS);
    if (!attribute) return -1;
    for (int i = 0; i < attribute->count && i < capacity; i++)
        out[i] = attribute->integers[i];
    return attribute->count;
}

/* Copy the contents into the arena, then put it in place of one of the same name, or behind the last. */
bool node_set_attribute(Graph *graph, Node *node, const Attribute *attribute)
{
    Arena *arena = &graph->arena;
    Attribute copy = *attribute;
    Attribute *place = find(node, attribute->name);
    if (!place && !graph_reserve(graph, &node->attributes, node->attribute_count, &node->attribute_capacity, sizeof(Attribute)))
        return false;
    if (!(copy.name = arena_text(arena, attribute->name))) return false;
    size_t count = (size_t)attribute->count;
    switch (attribute->kind) {
    case ATTRIBUTE_STRING:
        if (!(copy.string = arena_text(arena, attribute->string))) return false;
        break;
    case ATTRIBUTE_INTS:
        if (!(copy.integers = arena_copy(arena, attribute->integers, count * sizeof(int64_t)))) return false;
        break;
    case ATTRIBUTE_FLOATS:
        if (!(copy.numbers = arena_copy(arena, attribute->numbers, count * sizeof(float)))) return false;
        break;
    case ATTRIBUTE_STRINGS:
        if (!(copy.strings = arena_copy(arena, attribute->strings, count * sizeof(char *)))) return false;
        for (size_t i = 0; i < count; i++)
            if (!(copy.strings[i] = arena_text(arena, copy.strings[i]))) return false;
        break;
    default: break;
    }
    tensor_retain(copy.tensor);
    if (place)
        tensor_release(place->tensor);
    else
        place = &node->attributes[node->attribute_count++];
    *place = copy;
    return true;
}

bool node_set_integer(Graph *graph, Node *node, const char *name, int64_t value)
{
    return node_set_attribute(graph, node, &(Attribute){.name = name, .kind = ATTRIBUTE_INT, .integer = value});
}

bool node_set_number(Graph *graph, Node *node, const char *name, float value)
{
    return node_set_attribute(graph, node, &(Attribute){.name = name, .kind = ATTRIBUTE_FLOAT, .number = value});
}

bool node_set_string(Graph *graph, Node *node, const char *name, const char *value)
{
    return node_set_attribute(graph, node, &(Attribute){.name = name, .kind = ATTRIBUTE_STRING, .string = value});
}

bool node_set_integers(Graph *graph, Node *node, const char *name, const int64_t *values, int count)
{
    return node_set_attribute(graph, node,
                              &(Attribute){.name = name, .kind = ATTRIBUTE_INTS, .integers = (int64_t *)values, .count = count});
}

void node_remove_attribute(Node *node, const char *name)
{
    Attribute *attribute = find(node, name);
    if (!attribute) return;
    tensor_release(attribute->tensor);
    Attribute *end = node->attributes + node->attribute_count;
    memmove(attribute, attribute + 1, (size_t)(end - attribute - 1) * sizeof *attribute);
    node->attribute_count--;
}

bool node_copy_attributes(Graph *graph, Node *to, const Node *from)
{
    for (int i = 0; i < from->attribute_count; i++)
        if (!node_set_attribute(graph, to, &from->attributes[i])) return false;
    return true;
}
