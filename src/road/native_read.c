/* Reading the .native file. Whatever the bytes are: an error or a legal graph. */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/sha1.h"
#include "graph/operator.h"
#include "quant/target.h"
#include "road/native.h"

typedef struct Reading {
    const uint8_t *bytes;
    size_t count, at;
    const char *name; /* of the file */
    Graph *graph;
    Slot *slots;
    int64_t slot_count;
    Error *error;
} Reading;

#define CURE "write it anew with graph:save_native, with the same version of espq"

#define damaged(reading, ...) fail((reading)->error, (reading)->name, CURE, __VA_ARGS__)

/* ---- numbers and texts ---- */

static bool take(Reading *reading, const uint8_t **bytes, uint64_t count)
{
    if (count > reading->count - reading->at) return damaged(reading, "the file ends in the middle, at byte %zu", reading->at);
    *bytes = reading->bytes + reading->at;
    reading->at += (size_t)count;
    return true;
}

static bool take_integer(Reading *reading, int64_t *value)
{
    const uint8_t *bytes;
    if (!take(reading, &bytes, 8)) return false;
    uint64_t all = 0;
    for (int i = 0; i < 8; i++)
        all |= (uint64_t)bytes[i] << (8 * i);
    *value = (int64_t)all;
    return true;
}

static bool take_within(Reading *reading, int64_t *value, int64_t least, int64_t most, const char *what)
{
    if (!take_integer(reading, value)) return false;
    if (*value < least || *value > most) return damaged(reading, "%s is %lld", what, (long long)*value);
    return true;
}

static bool take_int(Reading *reading, int *value, int64_t least, int64_t most, const char *what)
{
    int64_t taken;
    if (!take_within(reading, &taken, least, most, what)) return false;
    *value = (int)taken;
    return true;
}

static bool take_bool(Reading *reading, bool *value, const char *what)
{
    int64_t taken;
    if (!take_within(reading, &taken, 0, 1, what)) return false;
    *value = taken;
    return true;
}

/* How many there are of something that has 8 bytes at least. */
static bool take_count(Reading *reading, int *count, const char *what)
{
    return take_int(reading, count, 0, (int64_t)((reading->count - reading->at) / 8 < INT32_MAX ? (reading->count - reading->at) / 8 : INT32_MAX),
                    what);
}

/* A text in the graph's arena. */
static bool take_text(Reading *reading, const char **text, bool optional)
{
    int64_t length;
    const uint8_t *bytes;
    *text = NULL;
    if (!take_integer(reading, &length)) return false;
    if (length == NATIVE_NO_TEXT && optional) return true;
    if (length < 0) return damaged(reading, "a text has %lld bytes", (long long)length);
    if (!take(reading, &bytes, (uint64_t)length)) return false;
    if (memchr(bytes, 0, (size_t)length)) return damaged(reading, "a text has a NUL in it, at byte %zu", reading->at);
    *text = arena_text_length(&reading->graph->arena, (const char *)bytes, (size_t)length);
    return *text ? true : fail_memory(reading->error, (size_t)length);
}

static bool take_raw(Reading *reading, Text *text)
{
    int64_t length;
    const uint8_t *bytes;
    if (!take_integer(reading, &length)) return false;
    if (length < 0) return damaged(reading, "a text has %lld bytes", (long long)length);
    if (!take(reading, &bytes, (uint64_t)length)) return false;
    if (length) text_add_bytes(text, bytes, (size_t)length);
    return text->failed ? fail_memory(reading->error, (size_t)length) : true;
}

/* A list of texts, each with its NUL. */
static bool take_names(Reading *reading, Text *text)
{
    if (!take_raw(reading, text)) return false;
    if (text->length && text->data[text->length - 1] != '\0') return damaged(reading, "a list of names has no end");
    return true;
}

static bool take_floats(Reading *reading, float **values, int *count, const char *what)
{
    if (!take_count(reading, count, what)) return false;
    *values = arena_new(&reading->graph->arena, ((size_t)*count + 1) * sizeof **values);
    if (!*values) return fail_memory(reading->error, (size_t)*count * sizeof **values);
    for (int i = 0; i < *count; i++) {
        int64_t taken;
        if (!take_within(reading, &taken, 0, UINT32_MAX, what)) return false;
        uint32_t bits = (uint32_t)taken;
        memcpy(&(*values)[i], &bits, sizeof bits);
    }
    return true;
}

static bool take_shape(Reading *reading, Shape *shape)
{
    *shape = (Shape){0};
    if (!take_int(reading, &shape->rank, 0, ESPQ_MAX_RANK, "a rank")) return false;
    int64_t product = 1;
    for (int i = 0; i < shape->rank; i++) {
        if (!take_within(reading, &shape->dims[i], 0, INT32_MAX, "a dimension")) return false;
        if (shape->dims[i] && product > INT64_MAX / 64 / shape->dims[i]) return damaged(reading, "a shape is too large");
        product *= shape->dims[i];
    }
    return true;
}

/* *tensor: NULL when the file has none. */
static bool take_tensor(Reading *reading, Tensor **tensor)
{
    bool there;
    int dtype;
    Shape shape;
    int64_t length;
    const uint8_t *bytes;
    *tensor = NULL;
    if (!take_bool(reading, &there, "a mark of a tensor")) return false;
    if (!there) return true;
    if (!take_int(reading, &dtype, DTYPE_NONE + 1, DTYPE_COUNT - 1, "a type of numbers") || !take_shape(reading, &shape) ||
        !take_integer(reading, &length))
        return false;
    if (length < 0 || (uint64_t)length != (uint64_t)shape_count(&shape) * dtype_bytes((Dtype)dtype))
        return damaged(reading, "a tensor has %lld bytes, its shape says others", (long long)length);
    if (!take(reading, &bytes, (uint64_t)length)) return false;
    *tensor = tensor_from_data((Dtype)dtype, &shape, bytes, reading->error);
    return *tensor != NULL;
}

/* ---- values ---- */

static bool take_given(Reading *reading, Value *value)
{
    bool there;
    if (!take_bool(reading, &there, "a mark of given scales")) return false;
    if (!there) return true;
    Given *given = arena_new(&reading->graph->arena, sizeof *given);
    float *scales;
    if (!given) return fail_memory(reading->error, sizeof *given);
    if (!take_integer(reading, &given->low) || !take_integer(reading, &given->high) ||
        !take_floats(reading, &scales, &given->count, "a given scale"))
        return false;
    if (given->low > given->high || given->count < 1) return damaged(reading, "given scales of %s make no sense", value->name);
    given->scales = scales;
    value->given = given;
    return true;
}

static bool take_value(Reading *reading)
{
    const char *name;
    int dtype;
    if (!take_text(reading, &name, false)) return false;
    Value *value = graph_add_value(reading->graph, name, reading->error);
    if (!value) return false;
    if (!take_int(reading, &dtype, DTYPE_NONE, DTYPE_COUNT - 1, "a type of numbers") || !take_bool(reading, &value->shaped, "a mark of a shape"))
        return false;
    value->dtype = (Dtype)dtype;
    if (value->shaped && !take_shape(reading, &value->shape)) return false;
    if (!take_given(reading, value) || !take_tensor(reading, &value->constant) || !take_tensor(reading, &value->unbaked)) return false;
    const Tensor *constant = value->constant, *unbaked = value->unbaked;
    if (constant && (!value->shaped || constant->dtype != value->dtype || !shape_equal(&constant->shape, &value->shape)))
        return damaged(reading, "the contents of %s are of another shape than it", value->name);
    if (unbaked && (!constant || unbaked->dtype != constant->dtype || !shape_equal(&unbaked->shape, &constant->shape)))
        return damaged(reading, "the float contents of %s are of another shape than it", value->name);
    return true;
}

/* ---- nodes ---- */

static bool take_list(Reading *reading, Attribute *attribute)
{
    Arena *arena = &reading->graph->arena;
    if (attribute->kind == ATTRIBUTE_FLOATS) return take_floats(reading, &attribute->numbers, &attribute->count, "an attribute");
    if (!take_count(reading, &attribute->count, "the length of an attribute")) return false;
    size_t bytes = ((size_t)attribute->count + 1) * 8;
    void *list = arena_new(arena, bytes);
    if (!list) return fail_memory(reading->error, bytes);
    attribute->integers = attribute->kind == ATTRIBUTE_INTS ? list : NULL;
    attribute->strings = attribute->kind == ATTRIBUTE_STRINGS ? list : NULL;
    for (int i = 0; i < attribute->count; i++) {
        if (attribute->kind == ATTRIBUTE_INTS ? !take_integer(reading, &attribute->integers[i])
                                              : !take_text(reading, &attribute->strings[i], false))
            return false;
    }
    return true;
}

static bool take_contents(Reading *reading, Attribute *attribute)
{
    float *number;
    int count;
    switch (attribute->kind) {
    case ATTRIBUTE_INT: return take_integer(reading, &attribute->integer);
    case ATTRIBUTE_STRING: return take_text(reading, &attribute->string, false);
    case ATTRIBUTE_FLOAT:
        if (!take_floats(reading, &number, &count, "an attribute")) return false;
        if (count != 1) return damaged(reading, "attribute %s has %d numbers", attribute->name, count);
        attribute->number = number[0];
        return true;
    case ATTRIBUTE_TENSOR:
        if (!take_tensor(reading, &attribute->tensor)) return false;
        return attribute->tensor ? true : damaged(reading, "attribute %s is empty", attribute->name);
    default: return take_list(reading, attribute);
    }
}

static bool take_attribute(Reading *reading, Node *node)
{
    Attribute attribute = {0};
    int kind;
    if (!take_text(reading, &attribute.name, false) || !take_int(reading, &kind, ATTRIBUTE_INT, ATTRIBUTE_TENSOR, "a kind of attribute"))
        return false;
    attribute.kind = (AttributeKind)kind;
    if (node_attribute(node, attribute.name)) return damaged(reading, "%s has attribute %s twice", node->name, attribute.name);
    bool ok = take_contents(reading, &attribute);
    if (ok && !node_set_attribute(reading->graph, node, &attribute)) ok = fail_memory(reading->error, sizeof attribute);
    tensor_release(attribute.tensor);
    return ok;
}

static bool take_value_place(Reading *reading, Value **value, bool optional)
{
    int64_t place;
    if (!take_within(reading, &place, optional ? -1 : 0, reading->graph->value_count - 1, "the number of a tensor")) return false;
    *value = place < 0 ? NULL : reading->graph->values[place];
    return true;
}

static bool take_ends(Reading *reading, Node *node)
{
    int count;
    Value *value;
    if (!take_count(reading, &count, "a count of inputs")) return false;
    for (int i = 0; i < count; i++)
        if (!take_value_place(reading, &value, true) || !node_add_input(reading->graph, node, value, reading->error)) return false;
    if (!take_count(reading, &count, "a count of outputs")) return false;
    for (int i = 0; i < count; i++) {
        if (!take_value_place(reading, &value, true)) return false;
        if (value && (value->producer || value->constant)) return damaged(reading, "tensor %s has two origins", value->name);
        if (!node_add_output(reading->graph, node, value, reading->error)) return false;
    }
    return true;
}

static bool take_slot_places(Reading *reading, Node *node)
{
    for (int k = 0; k < node->input_count + node->output_count; k++) {
        int64_t place;
        if (!take_within(reading, &place, 0, reading->slot_count - 1, "the number of a slot")) return false;
        Slot **end = k < node->input_count ? &node->input_slots[k] : &node->output_slots[k - node->input_count];
        *end = &reading->slots[place];
    }
    return true;
}

static bool take_node(Reading *reading)
{
    const char *name, *type, *domain;
    int attributes;
    int64_t platform;
    bool has_platform, quantized, wide, unnamed;
    if (!take_text(reading, &name, false) || !take_text(reading, &type, false) || !take_text(reading, &domain, true)) return false;
    Node *node = graph_add_node(reading->graph, type, name, reading->error);
    if (!node) return false;
    if (!node->op) return damaged(reading, "operator %s of node %s is not known here", type, name);
    if (domain) node->domain = domain;
    if (!take_int(reading, &node->opset, 0, INT32_MAX, "an opset") || !take_bool(reading, &has_platform, "a mark of a platform")) return false;
    if (has_platform) {
        if (!take_within(reading, &platform, INT32_MIN, INT32_MAX, "a platform")) return false;
        node->platform = platform_find((int)platform);
        if (!node->platform) return damaged(reading, "node %s is for platform %lld, which is not known here", name, (long long)platform);
    }
    if (!take_bool(reading, &quantized, "a mark of slots") || !take_bool(reading, &wide, "a mark of sums") ||
        !take_bool(reading, &unnamed, "a mark of a name") || !take_count(reading, &attributes, "a count of attributes"))
        return false;
    node->unnamed = unnamed;
    for (int i = 0; i < attributes; i++)
        if (!take_attribute(reading, node)) return false;
    if (!take_ends(reading, node)) return false;
    const Operator *op = node->op;
    if (node->input_count < op->inputs.least || (op->inputs.most >= 0 && node->input_count > op->inputs.most) ||
        node->output_count < op->outputs.least || (op->outputs.most >= 0 && node->output_count > op->outputs.most))
        return damaged(reading, "node %s has %d inputs and %d outputs, %s has others", name, node->input_count, node->output_count, type);
    if (quantized && (!node_make_slots(reading->graph, node, reading->error) || !take_slot_places(reading, node))) return false;
    node->wide = wide;
    return true;
}

/* ---- slots ---- */

static bool take_slot_numbers(Reading *reading, Slot *slot)
{
    int state, rounding, visibility;
    int64_t id, percentile;
    bool ok = take_bool(reading, &slot->is_output, "a slot's end") && take_int(reading, &slot->index, 0, INT32_MAX, "a slot's position") &&
              take_bool(reading, &slot->is_parameter, "a slot's kind") && take_int(reading, &state, SLOT_INITIAL, SLOT_FP32, "a slot's state") &&
              take_int(reading, &slot->bits, 0, 64, "a slot's bits") && take_integer(reading, &slot->minimum) &&
              take_integer(reading, &slot->maximum) && take_int(reading, &rounding, ROUND_HALF_EVEN, ROUND_DOWN, "a rounding") &&
              take_bool(reading, &slot->per_channel, "a slot's channels") &&
              take_int(reading, &slot->channel_axis, -ESPQ_MAX_RANK, ESPQ_MAX_RANK - 1, "a slot's axis") &&
              take_within(reading, &slot->bins, 0, 1 << 24, "a slot's bins") &&
              take_int(reading, &visibility, VISIBILITY_EXPORT_WHEN_ACTIVE, VISIBILITY_FORCE_EXPORT, "a slot's visibility") &&
              take_bool(reading, &slot->overridden, "a slot's mark") && take_within(reading, &id, 0, UINT32_MAX, "a slot's number") &&
              take_integer(reading, &percentile) && take_text(reading, &slot->observer, true) &&
              take_count(reading, &slot->exponent_count, "a count of exponents");
    if (!ok) return false;
    slot->state = (SlotState)state;
    slot->rounding = (Rounding)rounding;
    slot->visibility = (SlotVisibility)visibility;
    slot->id = (uint32_t)id;
    memcpy(&slot->percentile, &percentile, sizeof slot->percentile);
    if (!(slot->percentile >= 0 && slot->percentile <= 1)) return damaged(reading, "a slot's percentile is no share");
    if (slot->minimum > slot->maximum) return damaged(reading, "a slot's range is empty");
    return true;
}

static bool take_slot(Reading *reading, Slot *slot)
{
    Graph *graph = reading->graph;
    int64_t parent, node;
    if (!take_within(reading, &parent, 0, reading->slot_count - 1, "what a slot follows") ||
        !take_within(reading, &node, -1, graph->node_count - 1, "the node of a slot") || !take_slot_numbers(reading, slot))
        return false;
    slot->parent = &reading->slots[parent];
    slot->node = node < 0 ? NULL : graph->nodes[node];
    if (!slot->exponent_count) return true;
    slot->exponents = arena_new(&graph->arena, (size_t)slot->exponent_count * sizeof(int));
    if (!slot->exponents) return fail_memory(reading->error, (size_t)slot->exponent_count * sizeof(int));
    for (int i = 0; i < slot->exponent_count; i++)
        if (!take_int(reading, &slot->exponents[i], -1000, 1000, "an exponent")) return false;
    return true;
}

enum { LONGEST_CHAIN = 10000 };

/* Slots that follow one another in a circle have no root. */
static bool have_roots(Reading *reading)
{
    for (int64_t i = 0; i < reading->slot_count; i++) {
        int steps = 0;
        for (const Slot *slot = &reading->slots[i]; slot->parent != slot; slot = slot->parent)
            if (++steps > LONGEST_CHAIN) return damaged(reading, "slots follow one another in a circle");
    }
    return true;
}

/* A slot stands at the end it says, and has an exponent for each channel of the tensor there, or one for all. */
static bool fits(Reading *reading, Slot *slot, const Node *node, bool is_output, int index)
{
    const Value *value = is_output ? node->outputs[index] : node->inputs[index];
    int count = slot_exponent_count(slot), axis = slot->channel_axis;
    if (slot->node && (slot->node != node || slot->is_output != is_output || slot->index != index))
        return damaged(reading, "a slot of node %s says that it is another's", node->name);
    if (count < 2) return true;
    if (!slot->per_channel || !value || !value->shaped || axis < 0 || axis >= value->shape.rank || value->shape.dims[axis] != count)
        return damaged(reading, "a slot of node %s has %d exponents, its tensor has other channels", node->name, count);
    return true;
}

static bool slots_fit(Reading *reading)
{
    const Graph *graph = reading->graph;
    for (int i = 0; i < graph->node_count; i++) {
        const Node *node = graph->nodes[i];
        for (int k = 0; node->quantized && k < node->input_count; k++)
            if (!fits(reading, node->input_slots[k], node, false, k)) return false;
        for (int k = 0; node->quantized && k < node->output_count; k++)
            if (!fits(reading, node->output_slots[k], node, true, k)) return false;
    }
    return true;
}

/* ---- the graph ---- */

/* The consumers of a value in their order: those that the nodes have, each once. */
static bool take_uses(Reading *reading, Value *value)
{
    int64_t count;
    if (!take_within(reading, &count, value->use_count, value->use_count, "a count of consumers")) return false;
    for (int i = 0; i < value->use_count; i++) {
        int64_t place;
        Use use;
        if (!take_within(reading, &place, 0, reading->graph->node_count - 1, "the number of a consumer")) return false;
        use.node = reading->graph->nodes[place];
        if (!take_int(reading, &use.index, 0, use.node->input_count - 1, "the end of a consumer")) return false;
        int k = i;
        while (k < value->use_count && (value->uses[k].node != use.node || value->uses[k].index != use.index))
            k++;
        if (k == value->use_count) return damaged(reading, "%s does not read tensor %s there", use.node->name, value->name);
        value->uses[k] = value->uses[i];
        value->uses[i] = use;
    }
    return true;
}

static bool take_head(Reading *reading, Text *about)
{
    Graph *graph = reading->graph;
    int64_t slot_id;
    return take_raw(reading, about) && take_text(reading, &graph->name, true) && take_text(reading, &graph->source, true) &&
           take_int(reading, &graph->ir_version, 0, INT32_MAX, "the version of ONNX") &&
           take_int(reading, &graph->opset, 0, INT32_MAX, "the opset") &&
           take_int(reading, &graph->next_operation, 0, INT32_MAX - 1, "a number of names") &&
           take_int(reading, &graph->next_variable, 0, INT32_MAX - 1, "a number of names") &&
           take_within(reading, &slot_id, 0, UINT32_MAX, "a number of slots") && (graph->next_slot = (uint32_t)slot_id, true) &&
           take_names(reading, &graph->removed_names) && take_names(reading, &graph->shared_names) && take_raw(reading, &graph->notes);
}

static bool take_interface(Reading *reading, bool inputs)
{
    Graph *graph = reading->graph;
    int count;
    Value *value;
    if (!take_count(reading, &count, "a count of the graph's ends")) return false;
    for (int i = 0; i < count; i++) {
        if (!take_value_place(reading, &value, false)) return false;
        if (inputs && (value->producer || value->constant || value_is_input(graph, value)))
            return damaged(reading, "tensor %s cannot be an input", value->name);
        if (!(inputs ? graph_add_input : graph_add_output)(graph, value, reading->error)) return false;
    }
    return true;
}

static bool take_graph(Reading *reading, Text *about)
{
    Graph *graph = reading->graph;
    int values, nodes, slots;
    if (!take_head(reading, about) || !take_count(reading, &values, "a count of tensors")) return false;
    uint32_t next_slot = graph->next_slot;
    int next_operation = graph->next_operation, next_variable = graph->next_variable;
    for (int i = 0; i < values; i++)
        if (!take_value(reading)) return false;
    if (!take_count(reading, &slots, "a count of slots")) return false;
    reading->slot_count = slots;
    reading->slots = arena_new(&graph->arena, ((size_t)slots + 1) * sizeof *reading->slots);
    if (!reading->slots) return fail_memory(reading->error, (size_t)slots * sizeof *reading->slots);
    if (!take_count(reading, &nodes, "a count of nodes")) return false;
    for (int i = 0; i < nodes; i++)
        if (!take_node(reading)) return false;
    for (int i = 0; i < slots; i++)
        if (!take_slot(reading, &reading->slots[i])) return false;
    if (!have_roots(reading) || !slots_fit(reading)) return false;
    for (int i = 0; i < values; i++)
        if (!take_uses(reading, graph->values[i])) return false;
    if (!take_interface(reading, true) || !take_interface(reading, false)) return false;
    if (reading->at != reading->count) return damaged(reading, "%zu bytes are left over", reading->count - reading->at);
    graph->next_slot = next_slot; /* making nodes counted them up */
    graph->next_operation = next_operation;
    graph->next_variable = next_variable;
    return graph_check(graph, reading->error);
}

static bool check_ends(const uint8_t *bytes, size_t count, const char *name, Error *error)
{
    if (count < 8 || memcmp(bytes, NATIVE_MAGIC, 8) != 0)
        return fail(error, name, "give a file that graph:save_native wrote", "this is no .native file of espq%s",
                    count && bytes[0] == 0x80 ? ": the reference's are pickles of Python" : "");
    if (count < NATIVE_HEAD + NATIVE_CHECKSUM) return fail(error, name, CURE, "the file ends in the middle");
    uint32_t version = (uint32_t)bytes[8] | (uint32_t)bytes[9] << 8 | (uint32_t)bytes[10] << 16 | (uint32_t)bytes[11] << 24;
    if (version != NATIVE_VERSION)
        return fail(error, name, CURE, "the file is of version %u, this espq reads version %d", (unsigned)version, NATIVE_VERSION);
    uint64_t body = 0;
    for (int i = 0; i < 8; i++)
        body |= (uint64_t)bytes[16 + i] << (8 * i);
    if (body != count - NATIVE_HEAD - NATIVE_CHECKSUM) return fail(error, name, CURE, "the file has not the size that it says");
    char checksum[NATIVE_CHECKSUM + 1];
    Sha1 sha1;
    sha1_begin(&sha1);
    sha1_add_fast(&sha1, bytes, count - NATIVE_CHECKSUM);
    sha1_end(&sha1, checksum);
    if (memcmp(checksum, bytes + count - NATIVE_CHECKSUM, NATIVE_CHECKSUM) != 0)
        return fail(error, name, CURE, "the file is damaged: its checksum is another");
    return true;
}

Graph *native_parse(const void *bytes, size_t count, const char *name, Text *about, Error *error)
{
    if (!check_ends(bytes, count, name, error)) return NULL;
    Reading reading = {.bytes = (const uint8_t *)bytes + NATIVE_HEAD,
                       .count = count - NATIVE_HEAD - NATIVE_CHECKSUM,
                       .name = name,
                       .graph = graph_new(NULL, error),
                       .error = error};
    if (!reading.graph) return NULL;
    if (take_graph(&reading, about)) return reading.graph;
    graph_free(reading.graph);
    return NULL;
}

Graph *native_load(const char *path, Text *about, Error *error)
{
    uint8_t *bytes;
    size_t count;
    if (!file_read(path, &bytes, &count, error)) return NULL;
    Graph *graph = native_parse(bytes, count, path, about, error);
    memory_free(bytes);
    return graph;
}
