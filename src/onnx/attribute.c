/* Attributes of a node: read by their type; checked against the operator's row, so that a mistyped one is heard of at load. */
#include "onnx/read.h"

#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"

static bool has(const char *words, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = words; at; at = strchr(at, '|')) {
        if (at[0] == '|') at++;
        if (strncmp(at, word, length) == 0 && (at[length] == '|' || at[length] == '\0')) return true;
    }
    return false;
}

/* Files of old IR versions leave the type out: what is filled in tells it then. */
static int attribute_type(const Onnx__AttributeProto *proto)
{
    if (proto->has_type && proto->type != 0) return proto->type;
    if (proto->has_f) return ONNX_ATTRIBUTE_FLOAT;
    if (proto->has_i) return ONNX_ATTRIBUTE_INT;
    if (proto->has_s) return ONNX_ATTRIBUTE_STRING;
    if (proto->t) return ONNX_ATTRIBUTE_TENSOR;
    if (proto->has_g) return ONNX_ATTRIBUTE_GRAPH;
    if (proto->n_floats) return ONNX_ATTRIBUTE_FLOATS;
    if (proto->n_ints) return ONNX_ATTRIBUTE_INTS;
    if (proto->n_strings) return ONNX_ATTRIBUTE_STRINGS;
    if (proto->n_graphs) return ONNX_ATTRIBUTE_GRAPHS;
    return 0;
}

static bool add_strings(Graph *graph, Node *node, Attribute *attribute, const Onnx__AttributeProto *proto, Error *error)
{
    const char **strings = memory_new_array(proto->n_strings + 1, sizeof *strings);
    if (!strings) return fail_memory(error, proto->n_strings * sizeof *strings);
    bool ok = true;
    for (size_t i = 0; i < proto->n_strings && ok; i++) {
        strings[i] = arena_text_length(&graph->arena, (const char *)proto->strings[i].data, proto->strings[i].len);
        ok = strings[i] != NULL;
    }
    attribute->kind = ATTRIBUTE_STRINGS;
    attribute->count = (int)proto->n_strings;
    attribute->strings = strings;
    ok = ok && node_set_attribute(graph, node, attribute);
    memory_free(strings);
    return ok || fail_memory(error, 0);
}

static bool add_attribute(Reading *reading, Node *node, const Onnx__AttributeProto *proto, Error *error)
{
    char where[256];
    Attribute attribute = {.name = proto->name};
    Tensor *tensor = NULL;
    char *text = NULL;
    switch (attribute_type(proto)) {
    case ONNX_ATTRIBUTE_FLOAT:
        attribute.kind = ATTRIBUTE_FLOAT;
        attribute.number = proto->f;
        break;
    case ONNX_ATTRIBUTE_INT:
        attribute.kind = ATTRIBUTE_INT;
        attribute.integer = proto->i;
        break;
    case ONNX_ATTRIBUTE_STRING:
        attribute.kind = ATTRIBUTE_STRING;
        text = arena_text_length(&reading->graph->arena, proto->s.data ? (const char *)proto->s.data : "", proto->s.len);
        if (!text) return fail_memory(error, proto->s.len);
        attribute.string = text;
        break;
    case ONNX_ATTRIBUTE_TENSOR:
        if (!proto->t) {
            reading_problem(reading, "%s: attribute %s has no tensor", node_where(node, where), proto->name);
            return true;
        }
        attribute.kind = ATTRIBUTE_TENSOR;
        tensor = onnx_read_tensor(reading, proto->t, node_where(node, where), error);
        if (!tensor) return false;
        attribute.tensor = tensor;
        break;
    case ONNX_ATTRIBUTE_FLOATS:
        attribute.kind = ATTRIBUTE_FLOATS;
        attribute.count = (int)proto->n_floats;
        attribute.numbers = proto->floats;
        break;
    case ONNX_ATTRIBUTE_INTS:
        attribute.kind = ATTRIBUTE_INTS;
        attribute.count = (int)proto->n_ints;
        attribute.integers = proto->ints;
        break;
    case ONNX_ATTRIBUTE_STRINGS: return add_strings(reading->graph, node, &attribute, proto, error);
    case ONNX_ATTRIBUTE_GRAPH:
    case ONNX_ATTRIBUTE_GRAPHS: return true; /* named once for the node by its caller */
    case 0: return true;                     /* nothing in it */
    default: reading_problem(reading, "%s: attribute %s is of a kind that is not read", node_where(node, where), proto->name); return true;
    }
    bool ok = node_set_attribute(reading->graph, node, &attribute);
    tensor_release(tensor);
    return ok || fail_memory(error, 0);
}

static const char *kind_name(AttributeKind kind)
{
    static const char *const names[] = {"an integer",        "a number",          "a string", "a list of integers",
                                        "a list of numbers", "a list of strings", "a tensor"};
    return names[kind];
}

static void check_against_row(Reading *reading, const Node *node)
{
    char where[256];
    if (!node->op) return;
    for (const AttributeSpec *spec = node->op->attributes; spec < node->op->attributes + 14 && spec->name; spec++) {
        const Attribute *attribute = node_attribute(node, spec->name);
        if (!attribute) continue;
        if (attribute->kind != spec->kind)
            reading_problem(reading, "%s: attribute %s is %s, must be %s", node_where(node, where), spec->name, kind_name(attribute->kind),
                            kind_name(spec->kind));
        else if (spec->kind == ATTRIBUTE_STRING && spec->words && !has(spec->words, attribute->string))
            reading_problem(reading, "%s: attribute %s is \"%.60s\", known are %s", node_where(node, where), spec->name, attribute->string,
                            spec->words);
    }
}

bool onnx_read_attributes(Reading *reading, Node *node, const Onnx__NodeProto *proto, Error *error)
{
    char where[256];
    for (size_t i = 0; i < proto->n_attribute; i++) {
        const Onnx__AttributeProto *attribute = proto->attribute[i];
        if (!attribute->name || !attribute->name[0]) {
            reading_problem(reading, "%s: an attribute has no name", node_where(node, where));
            continue;
        }
        if (attribute->ref_attr_name && attribute->ref_attr_name[0]) {
            reading_problem(reading, "%s: attribute %s refers to a function's attribute", node_where(node, where), attribute->name);
            continue;
        }
        if (node_attribute(node, attribute->name)) {
            reading_problem(reading, "%s: attribute %s is given twice", node_where(node, where), attribute->name);
            continue;
        }
        if (!add_attribute(reading, node, attribute, error)) return false;
    }
    check_against_row(reading, node);
    return true;
}
