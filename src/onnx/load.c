/* From the bytes of a file to a graph: names, links, constants. What is refused is collected and said at once. */
#include "onnx/read.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "graph/operator.h"

void reading_problem(Reading *reading, const char *format, ...)
{
    va_list arguments;
    if (reading->problem_count++ >= 60) return; /* an Error has room for so many lines; the rest is counted */
    text_add(&reading->problems, "\n  ");
    va_start(arguments, format);
    text_format_list(&reading->problems, format, arguments);
    va_end(arguments);
}

bool onnx_is_utf8(const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        unsigned char first = (unsigned char)text[i];
        int more = first < 0x80                    ? 0
                   : first >= 0xc2 && first < 0xe0 ? 1
                   : first >= 0xe0 && first < 0xf0 ? 2
                   : first >= 0xf0 && first < 0xf5 ? 3
                                                   : -1;
        if (more < 0 || i + (size_t)more >= length) return false;
        unsigned char second = more ? (unsigned char)text[i + 1] : 0x80;
        if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
            (first == 0xf4 && second > 0x8f))
            return false;
        for (int k = 1; k <= more; k++)
            if (((unsigned char)text[i + (size_t)k] & 0xc0) != 0x80) return false;
        i += (size_t)more + 1;
    }
    return true;
}

/* ---- unpacking ---- */

/* A handful of bytes can ask for a structure of a hundred; what the reader may take in all is bound to the size of the file. */
typedef struct Budget {
    size_t left;
    bool failed, exhausted;
} Budget;

static void *budget_new(void *context, size_t bytes)
{
    Budget *budget = context;
    if (bytes > budget->left) {
        budget->exhausted = true;
        return NULL;
    }
    budget->left -= bytes;
    void *block = memory_new(bytes);
    if (!block) budget->failed = true;
    return block;
}

static void budget_free(void *context, void *block)
{
    (void)context;
    memory_free(block);
}

static const char *other_format(const uint8_t *bytes, size_t count)
{
    if (count >= 8 && memcmp(bytes + 4, "TFL3", 4) == 0) return "this is a TensorFlow Lite file: convert it with tf2onnx";
    if (count >= 4 && memcmp(bytes, "PK\3\4", 4) == 0)
        return "this is a zip archive, perhaps a PyTorch checkpoint: export it with torch.onnx.export";
    if (count >= 8 && memcmp(bytes, "\x89HDF\r\n\x1a\n", 8) == 0)
        return "this is an HDF5 file, perhaps a Keras model: convert it with tf2onnx";
    if (count >= 4 && memcmp(bytes, "EDL", 3) == 0) return "this is an .espdl file: `espq info` reads it";
    return "export the model again, or copy the file again";
}

static Onnx__ModelProto *unpack(const uint8_t *bytes, size_t count, const char *shown, Error *error)
{
    Budget budget = {.left = count > (SIZE_MAX >> 8) ? SIZE_MAX : count * 64 + ((size_t)1 << 20)};
    ProtobufCAllocator allocator = {budget_new, budget_free, &budget};
    if (count == 0) {
        fail(error, shown, "export the model again", "the file is empty");
        return NULL;
    }
    if (count > INT32_MAX) {
        fail(error, shown, "keep the weights in external data files", "the file has %zu bytes; a model has at most 2 GB", count);
        return NULL;
    }
    Onnx__ModelProto *model = onnx__model_proto__unpack(&allocator, count, bytes);
    if (!model && budget.failed)
        fail_memory(error, count);
    else if (!model)
        fail(error, shown, other_format(bytes, count), "no ONNX model, or a damaged one (cut short, or changed)");
    else if (!model->graph)
        fail(error, shown, other_format(bytes, count), "no ONNX model: there is no graph in it");
    else
        return model;
    if (model) onnx__model_proto__free_unpacked(model, &allocator);
    return NULL;
}

static void unpacked_free(Onnx__ModelProto *model)
{
    Budget budget = {0};
    ProtobufCAllocator allocator = {budget_new, budget_free, &budget};
    if (model) onnx__model_proto__free_unpacked(model, &allocator);
}

/* ---- the model's head ---- */

static bool is_onnx_domain(const char *domain)
{
    return !domain || !domain[0] || strcmp(domain, "ai.onnx") == 0;
}

static bool read_opset(Reading *reading, Error *error)
{
    const Onnx__ModelProto *model = reading->model;
    for (size_t i = 0; i < model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *import = model->opset_import[i];
        if (!is_onnx_domain(import->domain)) continue;
        if (import->version < ONNX_OPSET_LEAST || import->version > ONNX_OPSET_MOST)
            return fail(error, reading->shown, "export the model with opset 13 … 18, or convert it with onnx.version_converter",
                        "its operator set is %lld; %d … %d are read", (long long)import->version, ONNX_OPSET_LEAST, ONNX_OPSET_MOST);
        reading->graph->opset = (int)import->version;
        return true;
    }
    if (model->n_opset_import > 0) { /* only operators of other domains */
        reading->graph->opset = 18;
        return true;
    }
    return fail(error, reading->shown, "export the model again",
                "it does not say which operator set it is written in (opset_import is missing)");
}

static bool read_initializer_names(Reading *reading, Error *error)
{
    const Onnx__GraphProto *proto = reading->model->graph;
    for (size_t i = 0; i < proto->n_initializer; i++) {
        const char *name = proto->initializer[i]->name;
        if (!name || !name[0]) {
            reading_problem(reading, "initializer %zu has no name", i);
        } else if (map_has(&reading->initializers, name)) {
            reading_problem(reading, "two initializers are called %.200s", name);
        } else if (!map_set(&reading->initializers, name, proto->initializer[i])) {
            return fail_memory(error, 0);
        }
    }
    if (proto->n_sparse_initializer > 0)
        reading_problem(reading, "%zu initializers are sparse: store them dense", proto->n_sparse_initializer);
    return true;
}

/* ---- values ---- */

/* The value of this name, made at its first mention; an initializer brings its constant along. "" is an input left out: NULL. */
static bool value_named(Reading *reading, const char *name, Value **value, Error *error)
{
    *value = NULL;
    if (!name[0]) return true;
    *value = graph_value(reading->graph, name);
    if (*value) return true;
    if (!onnx_is_utf8(name, strlen(name))) return fail(error, reading->shown, "rename the tensor", "a tensor's name is not UTF-8");
    *value = graph_add_value(reading->graph, name, error);
    if (!*value) return false;
    const Onnx__TensorProto *initializer = map_get(&reading->initializers, name);
    if (!initializer) return true;
    char what[256], escaped[200];
    snprintf(what, sizeof what, "initializer %s", text_escape(escaped, sizeof escaped, name));
    Tensor *constant = onnx_read_tensor(reading, initializer, what, error);
    if (!constant) return false;
    bool ok = value_set_constant(reading->graph, *value, constant);
    tensor_release(constant);
    return ok || fail_memory(error, 0);
}

static bool add_output(Reading *reading, Node *node, const char *name, Error *error)
{
    Value *value = NULL;
    char where[256];
    if (!value_named(reading, name, &value, error)) return false;
    if (value && (value->producer || value->constant)) {
        reading_problem(reading, "%s: writes %.200s, which is already %s", node_where(node, where), name,
                        value->producer ? "written by another node" : "an initializer");
        value = NULL;
    }
    return node_add_output(reading->graph, node, value, error);
}

/* ---- nodes ---- */

/* Names of nodes, all known before the first node is made: a made-up name never meets one that comes later. */
typedef struct Names {
    Map taken;
    const char **names; /* one a node */
} Names;

static bool free_name(Names *names, Arena *arena, const char *stem, int *next, const char **out)
{
    do {
        *out = arena_format(arena, "%s_%d", stem, (*next)++);
        if (!*out) return false;
    } while (map_has(&names->taken, *out));
    return true;
}

/* The node's name; unnamed ones count up as generated_name_<k> (QUANT §2.2), equal ones get _1, _2 … in order. */
static bool read_node_names(Reading *reading, Names *names, Error *error)
{
    const Onnx__GraphProto *proto = reading->model->graph;
    Arena *arena = &reading->graph->arena;
    static char taken[1], twice[1];
    int unnamed = 0;
    names->names = memory_new_array(proto->n_node + 1, sizeof *names->names);
    if (!names->names) return fail_memory(error, proto->n_node * sizeof *names->names);
    for (size_t i = 0; i < proto->n_node; i++) {
        const char *name = proto->node[i]->name ? proto->node[i]->name : "";
        if (!onnx_is_utf8(name, strlen(name)))
            return fail(error, reading->shown, "rename the node", "the name of node %zu is not UTF-8", i);
        if (name[0] && !map_set(&names->taken, name, map_has(&names->taken, name) ? twice : taken)) return fail_memory(error, 0);
    }
    Map used = {0}, counters = {0};
    bool ok = true;
    for (size_t i = 0; i < proto->n_node && ok; i++) {
        const char *name = proto->node[i]->name ? proto->node[i]->name : "", *made = name;
        if (!name[0]) {
            ok = free_name(names, arena, "generated_name", &unnamed, &made) && map_set(&names->taken, made, taken);
        } else if (map_has(&used, name)) {
            int *next = map_get(&counters, name);
            if (!next) {
                next = arena_new(arena, sizeof *next);
                ok = next && map_set(&counters, name, next);
                if (next) *next = 1;
                text_add_bytes(&reading->graph->shared_names, name, strlen(name) + 1);
            }
            ok = ok && free_name(names, arena, name, next, &made) && map_set(&names->taken, made, taken);
            if (ok) graph_note(reading->graph, "several nodes are called %s; one of them is called %s here", name, made);
        } else {
            ok = map_set(&used, name, taken);
        }
        names->names[i] = made;
    }
    map_free(&used);
    map_free(&counters);
    return ok || fail_memory(error, 0);
}

static bool has_subgraph(const Onnx__NodeProto *proto)
{
    for (size_t i = 0; i < proto->n_attribute; i++) {
        const Onnx__AttributeProto *attribute = proto->attribute[i];
        if (attribute->has_g || attribute->n_graphs || attribute->type == ONNX_ATTRIBUTE_GRAPH || attribute->type == ONNX_ATTRIBUTE_GRAPHS)
            return true;
    }
    return false;
}

static bool is_function(const Onnx__ModelProto *model, const Onnx__NodeProto *proto)
{
    for (size_t i = 0; i < model->n_functions; i++) {
        const Onnx__FunctionProto *function = model->functions[i];
        const char *domain = function->domain ? function->domain : "", *wanted = proto->domain ? proto->domain : "";
        if (function->name && strcmp(function->name, proto->op_type) == 0 && strcmp(domain, wanted) == 0) return true;
    }
    return false;
}

static bool read_constant_node(Reading *reading, const Onnx__NodeProto *proto, Error *error)
{
    char what[256], escaped[200];
    Value *value = NULL;
    const char *name = proto->n_output == 1 ? proto->output[0] : "";
    if (!name[0]) {
        reading_problem(reading, "a Constant node has %zu outputs, must have one", proto->n_output);
        return true;
    }
    if (!value_named(reading, name, &value, error)) return false;
    if (value->producer || value->constant) {
        reading_problem(reading, "a Constant node writes %.200s, which is already there", name);
        return true;
    }
    snprintf(what, sizeof what, "Constant %s", text_escape(escaped, sizeof escaped, name));
    Tensor *constant = onnx_read_constant(reading, proto, what, error);
    if (!constant) return false;
    bool ok = value_set_constant(reading->graph, value, constant);
    tensor_release(constant);
    return ok || fail_memory(error, 0);
}

static bool read_node(Reading *reading, const Onnx__NodeProto *proto, const char *name, Error *error)
{
    char where[256];
    Graph *graph = reading->graph;
    if (!proto->op_type || !proto->op_type[0]) {
        reading_problem(reading, "node %.200s has no operator type", name);
        return true;
    }
    bool own = is_onnx_domain(proto->domain);
    if (own && strcmp(proto->op_type, "Constant") == 0) return read_constant_node(reading, proto, error);
    if (!onnx_is_utf8(proto->op_type, strlen(proto->op_type)))
        return fail(error, reading->shown, "rename it", "an operator's type is not UTF-8");
    Node *node = graph_add_node(graph, proto->op_type, name, error);
    if (!node) return false;
    node->opset = graph->opset;
    node->unnamed = !proto->name || !proto->name[0];
    node->domain = own ? "" : arena_text(&graph->arena, proto->domain);
    if (!node->domain) return fail_memory(error, 0);
    /* ONNX's own row does not answer for an operator of another domain that happens to have its name. */
    if (!own && node->op && operator_is_built_in(node->op)) node->op = NULL;
    if (has_subgraph(proto))
        reading_problem(
            reading,
            "%s: control flow with a subgraph: export with a fixed condition or trip count (tracing, or the ONNX simplifier), or cut the "
            "model before it",
            node_where(node, where));
    if (is_function(reading->model, proto))
        reading_problem(reading, "%s: a function of the model: export with functions inlined (onnx.inliner)", node_where(node, where));
    for (size_t i = 0; i < proto->n_input; i++) {
        Value *value = NULL;
        if (!value_named(reading, proto->input[i], &value, error)) return false;
        if (!node_add_input(graph, node, value, error)) return false;
    }
    for (size_t i = 0; i < proto->n_output; i++)
        if (!add_output(reading, node, proto->output[i], error)) return false;
    return onnx_read_attributes(reading, node, proto, error);
}

static bool read_nodes(Reading *reading, Error *error)
{
    const Onnx__GraphProto *proto = reading->model->graph;
    Names names = {0};
    bool ok = read_node_names(reading, &names, error);
    for (size_t i = 0; i < proto->n_node && ok; i++)
        ok = read_node(reading, proto->node[i], names.names[i], error);
    map_free(&names.taken);
    memory_free(names.names);
    return ok;
}

static bool read_outputs(Reading *reading, Error *error)
{
    const Onnx__GraphProto *proto = reading->model->graph;
    Graph *graph = reading->graph;
    for (size_t i = 0; i < proto->n_output; i++) {
        const char *name = proto->output[i]->name ? proto->output[i]->name : "";
        Value *value = NULL;
        if (!value_named(reading, name, &value, error)) return false;
        if (!value) {
            reading_problem(reading, "graph output %zu has no name", i);
        } else if (!value->producer && !value->constant && !value_is_input(graph, value)) {
            reading_problem(reading, "graph output %.200s is made by no node", name);
        } else if (value_is_output(graph, value)) {
            reading_problem(reading, "graph output %.200s is listed twice", name);
        } else if (!graph_add_output(graph, value, error)) {
            return false;
        }
    }
    if (proto->n_output == 0) reading_problem(reading, "the graph has no output");
    return true;
}

/* What is read must come from somewhere; inputs that nobody reads are said. */
static void check_sources(Reading *reading)
{
    char where[256];
    Graph *graph = reading->graph;
    for (int i = 0; i < graph->input_count; i++)
        if (graph->inputs[i]->use_count == 0 && !value_is_output(graph, graph->inputs[i]))
            graph_note(graph, "input %s is read by no node", graph->inputs[i]->name);
    for (int i = 0; i < graph->value_count; i++) {
        const Value *value = graph->values[i];
        if (value->producer || value->constant || value->use_count == 0 || value_is_input(graph, value)) continue;
        reading_problem(reading, "%s: reads %.200s, which is no input, no initializer and no node's output",
                        node_where(value->uses[0].node, where), value->name);
    }
}

/* Once something is refused anyway, the user hears of unknown operators in the same message. */
static bool refuse(Reading *reading, Error *error)
{
    char where[256];
    if (reading->problem_count == 0) return true;
    for (int i = 0; i < reading->graph->node_count; i++) {
        const Node *node = reading->graph->nodes[i];
        if (!node->op && strcmp(node->type, "If") != 0 && strcmp(node->type, "Loop") != 0 && strcmp(node->type, "Scan") != 0)
            reading_problem(reading, "%s: no such operator here: cut the model before it, rewrite it, or register it with espq.operator",
                            node_where(node, where));
    }
    if (reading->problem_count > 60) text_format(&reading->problems, "\n  … and %d more", reading->problem_count - 60);
    if (reading->problems.failed) return fail_memory(error, 0);
    return fail(error, reading->shown, "mend the model where it is made, or cut it to the part that is wanted",
                "the model cannot be taken:%s", reading->problems.data);
}

static bool read_model(Reading *reading, const OnnxOptions *options, Error *error)
{
    Graph *graph = reading->graph;
    if (!read_opset(reading, error) || !read_initializer_names(reading, error)) return false;
    if (!read_nodes(reading, error) || !onnx_read_inputs(reading, options, error) || !read_outputs(reading, error)) return false;
    check_sources(reading);
    return refuse(reading, error) && onnx_make_canonical(reading, error) && graph_check(graph, error);
}

Graph *onnx_load_bytes(const uint8_t *bytes, size_t count, const char *path, const OnnxOptions *options, Error *error)
{
    Reading reading = {.path = path};
    text_escape(reading.shown, sizeof reading.shown, path ? path : "model");
    Onnx__ModelProto *model = unpack(bytes, count, reading.shown, error);
    if (!model) return NULL;
    reading.model = model;
    const char *name = model->graph->name ? model->graph->name : "";
    bool ok = (reading.graph = graph_new(onnx_is_utf8(name, strlen(name)) ? name : "", error)) != NULL;
    if (ok && path) ok = (reading.graph->source = arena_text(&reading.graph->arena, path)) || fail_memory(error, 0);
    if (ok) reading.graph->ir_version = model->ir_version >= 0 && model->ir_version < 1000 ? (int)model->ir_version : 0;
    ok = ok && read_model(&reading, options, error);
    unpacked_free(model);
    map_free(&reading.initializers);
    text_free(&reading.problems);
    if (ok) return reading.graph;
    graph_free(reading.graph);
    return NULL;
}

Graph *onnx_load(const char *path, const OnnxOptions *options, Error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    if (!file_read(path, &bytes, &count, error)) return NULL;
    Graph *graph = onnx_load_bytes(bytes, count, path, options, error);
    memory_free(bytes);
    return graph;
}
