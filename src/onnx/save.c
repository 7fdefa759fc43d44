/* A float graph as an ONNX file, for models that a script builds. Written in the graph's opset; when nodes of several opsets stand in it
 * (rewrites make nodes of opset 18), in opset 18, with axes and sizes as inputs as they are there. */
#include "onnx/read.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"

typedef struct Writing {
    const Graph *graph;
    Arena arena; /* of everything the file consists of but the constants' numbers */
    Onnx__GraphProto *proto;
    int opset;
    size_t initializer_capacity;
} Writing;

static void *make(Writing *writing, size_t count, size_t bytes)
{
    return arena_new(&writing->arena, count ? count * bytes : bytes);
}

#define MAKE_LIST(writing, count, type) ((type **)make(writing, count, sizeof(type *)))

/* protobuf-c's strings are not const; it does not write to them. */
static char *text_of(const char *text)
{
    union {
        const char *in;
        char *out;
    } cast = {text ? text : ""};
    return cast.out;
}

/* ---- tensors ---- */

static Onnx__TensorProto *tensor_proto(Writing *writing, const char *name, const Tensor *tensor)
{
    Onnx__TensorProto *proto = make(writing, 1, sizeof *proto);
    int64_t *dims = make(writing, (size_t)tensor->shape.rank, sizeof *dims);
    if (!proto || !dims) return NULL;
    onnx__tensor_proto__init(proto);
    memcpy(dims, tensor->shape.dims, (size_t)tensor->shape.rank * sizeof *dims);
    proto->n_dims = (size_t)tensor->shape.rank;
    proto->dims = dims;
    proto->has_data_type = true;
    proto->data_type = dtype_rows[tensor->dtype].onnx;
    proto->name = text_of(name);
    proto->has_raw_data = true;
    proto->raw_data.len = tensor_bytes(tensor);
    proto->raw_data.data = (uint8_t *)tensor->data;
    return proto;
}

static bool add_initializer(Writing *writing, const char *name, const Tensor *tensor)
{
    Onnx__GraphProto *graph = writing->proto;
    if (graph->n_initializer == writing->initializer_capacity) {
        size_t capacity = writing->initializer_capacity ? writing->initializer_capacity * 2 : 64;
        Onnx__TensorProto **grown = MAKE_LIST(writing, capacity, Onnx__TensorProto);
        if (!grown) return false;
        if (graph->n_initializer) memcpy(grown, graph->initializer, graph->n_initializer * sizeof *grown);
        graph->initializer = grown;
        writing->initializer_capacity = capacity;
    }
    graph->initializer[graph->n_initializer] = tensor_proto(writing, name, tensor);
    return graph->initializer[graph->n_initializer++] != NULL;
}

static bool add_initializers(Writing *writing, Error *error)
{
    for (int i = 0; i < writing->graph->value_count; i++) {
        const Value *value = writing->graph->values[i];
        if (!value->constant) continue;
        if (!tensor_is_contiguous(value->constant))
            return fail_as(error, ERROR_INTERNAL, value->name, "copy it (contiguous) before saving", "a constant is a strided view");
        if (!add_initializer(writing, value->name, value->constant)) return fail_memory(error, sizeof(Onnx__TensorProto));
    }
    return true;
}

/* ---- inputs and outputs ---- */

static Onnx__ValueInfoProto *value_info(Writing *writing, const Value *value)
{
    Onnx__ValueInfoProto *info = make(writing, 1, sizeof *info);
    Onnx__TypeProto *type = make(writing, 1, sizeof *type);
    Onnx__TensorTypeProto *tensor = make(writing, 1, sizeof *tensor);
    Onnx__TensorShapeProto *shape = make(writing, 1, sizeof *shape);
    if (!info || !type || !tensor || !shape) return NULL;
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__tensor_type_proto__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    info->name = text_of(value->name);
    info->type = type;
    type->tensor_type = tensor;
    tensor->has_elem_type = true;
    tensor->elem_type = value->dtype == DTYPE_NONE ? ONNX_FLOAT : dtype_rows[value->dtype].onnx;
    if (!value->shaped) return info;
    tensor->shape = shape;
    shape->n_dim = (size_t)value->shape.rank;
    shape->dim = MAKE_LIST(writing, shape->n_dim, Onnx__TensorShapeDimension);
    for (size_t i = 0; shape->dim && i < shape->n_dim; i++) {
        Onnx__TensorShapeDimension *dim = shape->dim[i] = make(writing, 1, sizeof *dim);
        if (!dim) return NULL;
        onnx__tensor_shape_dimension__init(dim);
        dim->has_dim_value = true;
        dim->dim_value = value->shape.dims[i];
    }
    return shape->dim ? info : NULL;
}

static bool list_values(Writing *writing, Value *const *values, int count, Onnx__ValueInfoProto ***list, size_t *length, Error *error)
{
    *list = MAKE_LIST(writing, (size_t)count, Onnx__ValueInfoProto);
    for (int i = 0; *list && i < count; i++) {
        (*list)[i] = value_info(writing, values[i]);
        if (!(*list)[i]) return fail_memory(error, sizeof(Onnx__ValueInfoProto));
    }
    *length = (size_t)count;
    return *list || fail_memory(error, (size_t)count * sizeof(void *));
}

/* ---- nodes ---- */

static bool fill_strings(Writing *writing, const Attribute *attribute, Onnx__AttributeProto *proto)
{
    proto->n_strings = (size_t)attribute->count;
    proto->strings = make(writing, proto->n_strings, sizeof *proto->strings);
    for (size_t i = 0; proto->strings && i < proto->n_strings; i++)
        proto->strings[i] = (ProtobufCBinaryData){strlen(attribute->strings[i]), (uint8_t *)text_of(attribute->strings[i])};
    return proto->strings != NULL;
}

static Onnx__AttributeProto *attribute_proto(Writing *writing, const Attribute *attribute)
{
    static const int types[] = {
        [ATTRIBUTE_INT] = ONNX_ATTRIBUTE_INT,      [ATTRIBUTE_FLOAT] = ONNX_ATTRIBUTE_FLOAT,   [ATTRIBUTE_STRING] = ONNX_ATTRIBUTE_STRING,
        [ATTRIBUTE_INTS] = ONNX_ATTRIBUTE_INTS,    [ATTRIBUTE_FLOATS] = ONNX_ATTRIBUTE_FLOATS, [ATTRIBUTE_STRINGS] = ONNX_ATTRIBUTE_STRINGS,
        [ATTRIBUTE_TENSOR] = ONNX_ATTRIBUTE_TENSOR};
    Onnx__AttributeProto *proto = make(writing, 1, sizeof *proto);
    if (!proto) return NULL;
    onnx__attribute_proto__init(proto);
    proto->name = text_of(attribute->name);
    proto->has_type = true;
    proto->type = types[attribute->kind];
    switch (attribute->kind) {
    case ATTRIBUTE_INT:
        proto->has_i = true;
        proto->i = attribute->integer;
        break;
    case ATTRIBUTE_FLOAT:
        proto->has_f = true;
        proto->f = attribute->number;
        break;
    case ATTRIBUTE_STRING:
        proto->has_s = true;
        proto->s = (ProtobufCBinaryData){strlen(attribute->string), (uint8_t *)text_of(attribute->string)};
        break;
    case ATTRIBUTE_INTS:
        proto->n_ints = (size_t)attribute->count;
        proto->ints = attribute->integers;
        break;
    case ATTRIBUTE_FLOATS:
        proto->n_floats = (size_t)attribute->count;
        proto->floats = attribute->numbers;
        break;
    case ATTRIBUTE_STRINGS: return fill_strings(writing, attribute, proto) ? proto : NULL;
    case ATTRIBUTE_TENSOR: proto->t = tensor_proto(writing, "", attribute->tensor); return proto->t ? proto : NULL;
    }
    return proto;
}

/* The attribute that is an input in opset 18, for nodes that have it as an attribute still. */
static const char *attribute_of_old(const Writing *writing, const Node *node)
{
    if (writing->opset == writing->graph->opset) return NULL;
    bool has_axes = strcmp(node->type, "Squeeze") == 0 || strcmp(node->type, "Unsqueeze") == 0 || strncmp(node->type, "Reduce", 6) == 0;
    const char *name = has_axes ? "axes" : strcmp(node->type, "Split") == 0 ? "split" : NULL;
    const Attribute *attribute = name ? node_attribute(node, name) : NULL;
    return attribute && attribute->kind == ATTRIBUTE_INTS && node->input_count == 1 ? name : NULL;
}

static bool add_list_input(Writing *writing, const Node *node, const char *name, Onnx__NodeProto *proto)
{
    const Attribute *attribute = node_attribute(node, name);
    const char *made = arena_format(&writing->arena, "%s_%s", node->name, name);
    while (made && graph_value(writing->graph, made))
        made = arena_format(&writing->arena, "%s_", made);
    Tensor *view = make(writing, 1, sizeof *view);
    if (!made || !view) return false;
    view->dtype = DTYPE_INT64;
    view->shape = (Shape){.rank = 1, .dims = {attribute->count}};
    view->data = (char *)attribute->integers;
    proto->input[proto->n_input++] = text_of(made);
    return add_initializer(writing, made, view);
}

static Onnx__NodeProto *node_proto(Writing *writing, const Node *node)
{
    Onnx__NodeProto *proto = make(writing, 1, sizeof *proto);
    if (!proto) return NULL;
    onnx__node_proto__init(proto);
    const char *moved = attribute_of_old(writing, node);
    proto->name = text_of(node->name);
    proto->op_type = text_of(node->type);
    proto->domain = node->domain && strcmp(node->domain, "ai.onnx") != 0 ? text_of(node->domain) : text_of("");
    proto->input = MAKE_LIST(writing, (size_t)node->input_count + 1, char);
    proto->output = MAKE_LIST(writing, (size_t)node->output_count, char);
    proto->attribute = MAKE_LIST(writing, (size_t)node->attribute_count, Onnx__AttributeProto);
    if (!proto->input || !proto->output || !proto->attribute) return NULL;
    for (int i = 0; i < node->input_count; i++)
        proto->input[proto->n_input++] = text_of(node->inputs[i] ? node->inputs[i]->name : "");
    for (int i = 0; i < node->output_count; i++)
        proto->output[proto->n_output++] = text_of(node->outputs[i] ? node->outputs[i]->name : "");
    for (int i = 0; i < node->attribute_count; i++) {
        if (moved && strcmp(node->attributes[i].name, moved) == 0) continue;
        Onnx__AttributeProto *attribute = attribute_proto(writing, &node->attributes[i]);
        if (!attribute) return NULL;
        proto->attribute[proto->n_attribute++] = attribute;
    }
    return moved && !add_list_input(writing, node, moved, proto) ? NULL : proto;
}

/* ONNX wants nodes in an order of execution. */
static bool add_nodes(Writing *writing, Error *error)
{
    Node **order = NULL;
    size_t count = (size_t)writing->graph->node_count;
    if (!graph_sort(writing->graph, &order, error)) return false;
    Onnx__NodeProto **nodes = MAKE_LIST(writing, count, Onnx__NodeProto);
    bool ok = nodes != NULL;
    for (size_t i = 0; ok && i < count; i++)
        ok = (nodes[i] = node_proto(writing, order[i])) != NULL;
    memory_free(order);
    writing->proto->node = nodes;
    writing->proto->n_node = count;
    return ok || fail_memory(error, count * sizeof *nodes);
}

/* ---- the model ---- */

static bool add_import(Writing *writing, Onnx__ModelProto *model, const char *domain, int version)
{
    for (size_t i = 0; i < model->n_opset_import; i++)
        if (strcmp(model->opset_import[i]->domain, domain) == 0) return true;
    Onnx__OperatorSetIdProto *import = make(writing, 1, sizeof *import);
    if (!import) return false;
    onnx__operator_set_id_proto__init(import);
    import->domain = text_of(domain);
    import->has_version = true;
    import->version = version;
    model->opset_import[model->n_opset_import++] = import;
    return true;
}

static bool add_imports(Writing *writing, Onnx__ModelProto *model)
{
    const Graph *graph = writing->graph;
    model->opset_import = MAKE_LIST(writing, (size_t)graph->node_count + 1, Onnx__OperatorSetIdProto);
    bool ok = model->opset_import && add_import(writing, model, "", writing->opset);
    for (int i = 0; ok && i < graph->node_count; i++) {
        const char *domain = graph->nodes[i]->domain;
        if (domain && domain[0] && strcmp(domain, "ai.onnx") != 0) ok = add_import(writing, model, domain, 1);
    }
    return ok;
}

static int opset_of(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++)
        if (graph->nodes[i]->opset && graph->nodes[i]->opset != graph->opset) return 18;
    return graph->opset;
}

static bool build(Writing *writing, Onnx__ModelProto *model, Error *error)
{
    const Graph *graph = writing->graph;
    Onnx__GraphProto *proto = writing->proto = make(writing, 1, sizeof *proto);
    if (!proto) return fail_memory(error, sizeof *proto);
    onnx__graph_proto__init(proto);
    proto->name = text_of(graph->name && graph->name[0] ? graph->name : "graph");
    model->has_ir_version = true;
    model->ir_version = graph->ir_version >= 4 ? graph->ir_version : 8; /* before 4 initializers had to be inputs too */
    model->producer_name = text_of("espq");
    model->graph = proto;
    if (!add_imports(writing, model)) return fail_memory(error, 64);
    return add_initializers(writing, error) &&
           list_values(writing, graph->inputs, graph->input_count, &proto->input, &proto->n_input, error) &&
           list_values(writing, graph->outputs, graph->output_count, &proto->output, &proto->n_output, error) && add_nodes(writing, error);
}

bool onnx_save(const Graph *graph, const char *path, Error *error)
{
    Writing writing = {.graph = graph, .opset = opset_of(graph)};
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    size_t weights = 0;
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i]->constant) weights += tensor_bytes(graph->values[i]->constant);
    if (weights > INT32_MAX - ((size_t)1 << 24))
        return fail(error, path, "save smaller parts", "the model has %zu bytes of weights; an ONNX file has at most 2 GB", weights);
    bool ok = build(&writing, &model, error);
    size_t bytes = ok ? onnx__model_proto__get_packed_size(&model) : 0;
    uint8_t *packed = ok ? memory_new(bytes) : NULL;
    if (ok && !packed) ok = fail_memory(error, bytes);
    if (ok) onnx__model_proto__pack(&model, packed);
    ok = ok && file_write(path, packed, bytes, error);
    memory_free(packed);
    arena_free(&writing.arena);
    return ok;
}
