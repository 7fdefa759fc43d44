/* From a .espdl file to a device graph. */
#include "espdl/device.h"

#include <stdio.h>
#include <string.h>

#include "espdl/schema.h"

static const char *const again = "the runtime would refuse it, too: export the model again";
static const char layout_prefix[] = "layout ==> ";

/* ---- values ---- */

/* Exponents a hostile file may give; the runtime's own end at 30 (CHIP C14). */
static int sane(int64_t exponent)
{
    return exponent < -1000 ? -1000 : exponent > 1000 ? 1000 : (int)exponent;
}

static DeviceValue *give_device(Graph *graph, Value *value, const int64_t *exponents, int count, Error *error)
{
    int places = count > 0 ? count : 1;
    DeviceValue *device = arena_new(&graph->arena, sizeof *device);
    if (device) device->exponents = arena_new(&graph->arena, (size_t)places * sizeof *device->exponents);
    if (!device || !device->exponents) {
        fail_memory(error, (size_t)places * sizeof *device->exponents);
        return NULL;
    }
    device->exponent_count = places;
    for (int i = 0; i < count; i++)
        device->exponents[i] = sane(exponents[i]);
    value->device = device;
    return device;
}

static bool read_shape(Shape *shape, const int64_t *dims, int rank, const char *name, Error *error)
{
    if (rank > ESPQ_MAX_RANK) return fail(error, name, again, "the tensor has %d dimensions, %d are possible", rank, ESPQ_MAX_RANK);
    *shape = shape_of(rank, dims);
    return true;
}

/* Exporters before the runtime's 3.0 wrote N16HWC16 for what is (N/16)HWC16 now. */
static bool read_layout(Graph *graph, DeviceValue *device, const char *layout, Error *error)
{
    bool older = strncmp(layout, "N16", 3) == 0 || strncmp(layout, "N8", 2) == 0;
    int digits = older ? (int)strspn(layout + 1, "0123456789") : 0;
    device->layout =
        older ? arena_format(&graph->arena, "(N/%.*s)%s", digits, layout + 1, layout + 1 + digits) : arena_text(&graph->arena, layout);
    return device->layout || fail_memory(error, strlen(layout));
}

static bool add_parameter(Graph *graph, const EspdlTensor *stored, Error *error)
{
    Shape shape;
    if (!*stored->name) return fail(error, graph->source, again, "a parameter has no name");
    if (graph_value(graph, stored->name)) return fail(error, stored->name, again, "two parameters have this name");
    if (!read_shape(&shape, stored->dims, stored->rank, stored->name, error)) return false;
    Dtype dtype = dtype_from_onnx(stored->data_type);
    Tensor *tensor = stored->data_bytes ? tensor_from_data(dtype, &shape, stored->data, error) : tensor_new(dtype, &shape, error);
    Value *value = tensor ? graph_add_constant(graph, stored->name, tensor, error) : NULL;
    tensor_release(tensor);
    DeviceValue *device = value ? give_device(graph, value, stored->exponents, stored->exponent_count, error) : NULL;
    if (!device) return false;
    device->dtype = dtype;
    device->shape = shape;
    device->typed = dtype_rows[dtype].is_integer;
    if (!stored->doc || strncmp(stored->doc, layout_prefix, sizeof layout_prefix - 1) != 0) return true;
    return read_layout(graph, device, stored->doc + sizeof layout_prefix - 1, error);
}

/* A description makes the value, if the name is not a parameter's. */
static Value *add_described(Graph *graph, const EspdlValue *described, Error *error)
{
    Value *value = graph_value(graph, described->name);
    if (value) return value;
    value = graph_add_value(graph, described->name, error);
    DeviceValue *device = value ? give_device(graph, value, described->exponents, described->exponent_count, error) : NULL;
    if (!device) return NULL;
    if (!described->exponent_count) {
        fail(error, described->name, again, "the tensor's description has no exponent");
        return NULL;
    }
    if (!read_shape(&device->shape, described->dims, described->rank, described->name, error)) return NULL;
    device->dtype = dtype_from_onnx(described->elem_type);
    device->typed = device->dtype == DTYPE_INT8 || device->dtype == DTYPE_INT16;
    value->dtype = device->dtype;
    value->shaped = described->shaped;
    value->shape = device->shape;
    return value;
}

static bool add_values(Graph *graph, const EspdlModel *model, Error *error)
{
    for (int i = 0; i < model->initializer_count; i++)
        if (!add_parameter(graph, &model->initializers[i], error)) return false;
    for (int i = 0; i < model->value_count; i++) {
        const EspdlValue *described = &model->values[i];
        if (*described->name && !add_described(graph, described, error)) return false; /* the empty name: inputs that are left out */
    }
    for (int side = 0; side < 2; side++) {
        const EspdlValue *ends = side ? model->outputs : model->inputs;
        int count = side ? model->output_count : model->input_count;
        for (int i = 0; i < count; i++) {
            if (!*ends[i].name) return fail(error, graph->source, again, "a graph %s has no name", side ? "output" : "input");
            Value *value = add_described(graph, &ends[i], error);
            if (!value || !(side ? graph_add_output(graph, value, error) : graph_add_input(graph, value, error))) return false;
        }
    }
    return true;
}

/* ---- nodes ---- */

static Value *find_end(const Graph *graph, const EspdlNode *node, const char *name, Error *error)
{
    Value *value = graph_value(graph, name);
    if (!value) fail(error, node->name, again, "%s: nothing describes its tensor '%s'", node->type, name);
    return value;
}

static bool add_node(Graph *graph, const EspdlNode *stored, Error *error)
{
    if (!*stored->name) return fail(error, stored->type, again, "a node has no name");
    if (graph_node(graph, stored->name)) return fail(error, stored->name, again, "two nodes have this name");
    Node *node = graph_add_node(graph, stored->type, stored->name, error);
    if (!node) return false;
    for (int i = 0; i < stored->attribute_count; i++) {
        if (!node_set_attribute(graph, node, &stored->attributes[i])) return fail_memory(error, sizeof(Attribute));
    }
    for (int i = 0; i < stored->input_count; i++) {
        Value *value = *stored->inputs[i] ? find_end(graph, stored, stored->inputs[i], error) : NULL;
        if ((*stored->inputs[i] && !value) || !node_add_input(graph, node, value, error)) return false;
    }
    for (int i = 0; i < stored->output_count; i++) {
        Value *value = *stored->outputs[i] ? find_end(graph, stored, stored->outputs[i], error) : NULL;
        if (*stored->outputs[i] && !value) return false;
        if (value && (value->producer || value->constant || value_is_input(graph, value)))
            return fail(error, stored->name, again, "'%s' is made here and by something else", value->name);
        if (!node_add_output(graph, node, value, error)) return false;
    }
    const char *table = node_string(node, "lut", NULL);
    Value *value = table ? graph_value(graph, table) : NULL;
    if (value && value->constant) value->device->table = true;
    return true;
}

static bool fill_graph(Graph *graph, const EspdlModel *model, Error *error)
{
    graph->ir_version = model->ir_version;
    if (!add_values(graph, model, error)) return false;
    for (int i = 0; i < model->node_count; i++)
        if (!add_node(graph, &model->nodes[i], error)) return false;
    return true;
}

Graph *espdl_device(const EspdlModel *model, Error *error)
{
    Graph *graph = graph_new(model->graph_name ? model->graph_name : "", error);
    if (graph && fill_graph(graph, model, error)) return graph;
    graph_free(graph);
    return NULL;
}

/* ---- which chip ---- */

typedef struct Signs {
    int plain, packed, per_channel;
} Signs;

static void read_signs(const EspdlModel *model, Signs *signs)
{
    for (int i = 0; i < model->initializer_count; i++) {
        const EspdlTensor *tensor = &model->initializers[i];
        if (tensor->exponent_count > 1) signs->per_channel++;
        if (!tensor->doc || strncmp(tensor->doc, layout_prefix, sizeof layout_prefix - 1) != 0) continue;
        const char *layout = tensor->doc + sizeof layout_prefix - 1;
        if (strncmp(layout, "(N/", 3) == 0 || strncmp(layout, "N16", 3) == 0 || strncmp(layout, "N8", 2) == 0)
            signs->packed++;
        else if (strcmp(layout, "NHWC") == 0 || strcmp(layout, "HWCN") == 0 || strcmp(layout, "NWC") == 0 || strcmp(layout, "WCN") == 0)
            signs->plain++;
    }
}

const Target *espdl_target(const EspdlModel *model, bool *sure, char why[200])
{
    *sure = true;
    for (int i = 0; i < model->metadata_count; i++) {
        const char *key = model->metadata[i].key; /* "target": Espressif's own test models have it */
        bool says = strcmp(key, ESPDL_TARGET_KEY) == 0 || strcmp(key, "target") == 0;
        const Target *target = says ? target_find(model->metadata[i].value) : NULL;
        if (!target) continue;
        snprintf(why, 200, "the file's metadata say so");
        return target;
    }
    Signs signs = {0};
    read_signs(model, &signs);
    if (signs.packed && signs.per_channel) {
        snprintf(why, 200, "its weights are packed and have an exponent a channel");
        return target_find("esp32p4");
    }
    if (signs.plain) {
        snprintf(why, 200, "its weights are not packed");
        return target_find("c");
    }
    *sure = false;
    if (signs.packed) {
        snprintf(why, 200, "its weights are packed and have one exponent; older files for esp32p4 look the same");
        return target_find("esp32s3");
    }
    snprintf(why, 200, "nothing in the file tells");
    return target_find("esp32p4");
}
