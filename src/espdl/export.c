/* From the device graph to the model that is written (EXPORT §11). */
#include "espdl/export.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static const char *const nameless = "PPL Quantization Tool - v(0.6.6)"; /* what the reference calls a graph without a name */
static const char layout_prefix[] = "layout ==> ";

static int64_t *copy_longs(Arena *arena, const int64_t *numbers, int count)
{
    int64_t *copy = arena_new(arena, sizeof *copy * (size_t)(count + 1));
    if (copy && count) memcpy(copy, numbers, sizeof *copy * (size_t)count);
    return copy;
}

static int64_t *copy_exponents(Arena *arena, const DeviceValue *device)
{
    int64_t *copy = arena_new(arena, sizeof *copy * (size_t)(device->exponent_count + 1));
    for (int i = 0; copy && i < device->exponent_count; i++)
        copy[i] = device->exponents[i];
    return copy;
}

static bool fill_tensor(Arena *arena, EspdlTensor *to, const char *name, const Tensor *tensor)
{
    size_t bytes = tensor_bytes(tensor);
    to->name = arena_text(arena, name);
    to->data_type = dtype_rows[tensor->dtype].espdl;
    to->rank = tensor->shape.rank;
    to->dims = copy_longs(arena, tensor->shape.dims, tensor->shape.rank);
    to->data_bytes = bytes;
    if (bytes) to->data = arena_copy(arena, tensor->data, bytes);
    return to->name && to->dims && (!bytes || to->data);
}

static bool fill_initializer(Arena *arena, EspdlTensor *to, const Value *value)
{
    const DeviceValue *device = value->device;
    if (!fill_tensor(arena, to, value->name, value->constant)) return false;
    to->exponents = copy_exponents(arena, device);
    to->exponent_count = device->exponent_count;
    if (device->layout) to->doc = arena_format(arena, "%s%s", layout_prefix, device->layout);
    return to->exponents && (to->doc || !device->layout);
}

static bool fill_value(Arena *arena, EspdlValue *to, const Value *value)
{
    const DeviceValue *device = value->device;
    to->name = arena_text(arena, value->name);
    to->elem_type = dtype_rows[device->dtype].espdl;
    to->shaped = value->shaped;
    to->rank = device->shape.rank;
    to->dims = copy_longs(arena, device->shape.dims, device->shape.rank);
    to->exponents = copy_exponents(arena, device);
    to->exponent_count = device->exponent_count;
    return to->name && to->dims && to->exponents;
}

/* The name of all inputs that are left out is described once, as a float of no shape. */
static bool fill_absent(Arena *arena, EspdlValue *to)
{
    *to = (EspdlValue){.name = "", .elem_type = dtype_rows[DTYPE_FLOAT32].espdl, .exponent_count = 1};
    to->exponents = copy_longs(arena, (int64_t[]){0}, 1);
    to->dims = copy_longs(arena, NULL, 0);
    return to->exponents && to->dims;
}

static bool has_absent_input(const Graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        for (int k = 0; k < graph->nodes[i]->input_count; k++) {
            if (!graph->nodes[i]->inputs[k]) return true;
        }
    }
    return false;
}

/* ---- nodes ---- */

static bool fill_attribute(Arena *arena, Attribute *to, const Attribute *from)
{
    size_t count = (size_t)from->count;
    *to = (Attribute){
        .name = arena_text(arena, from->name), .kind = from->kind, .integer = from->integer, .number = from->number, .count = from->count};
    bool ok = to->name != NULL;
    switch (from->kind) {
    case ATTRIBUTE_STRING: to->string = arena_text(arena, from->string ? from->string : ""); return ok && to->string;
    case ATTRIBUTE_INTS: to->integers = copy_longs(arena, from->integers, from->count); return ok && to->integers;
    case ATTRIBUTE_FLOATS:
        to->numbers = arena_new(arena, sizeof *to->numbers * (count + 1));
        if (to->numbers && count) memcpy(to->numbers, from->numbers, sizeof *to->numbers * count);
        return ok && to->numbers;
    case ATTRIBUTE_STRINGS:
        to->strings = arena_new(arena, sizeof *to->strings * (count + 1));
        for (size_t i = 0; ok && to->strings && i < count; i++)
            ok = (to->strings[i] = arena_text(arena, from->strings[i])) != NULL;
        return ok && to->strings;
    case ATTRIBUTE_TENSOR: to->tensor = tensor_retain(from->tensor); return ok;
    case ATTRIBUTE_INT:
    case ATTRIBUTE_FLOAT: break;
    }
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const Attribute *)a)->name, ((const Attribute *)b)->name);
}

static const char **fill_names(Arena *arena, Value *const *values, int count)
{
    const char **names = arena_new(arena, sizeof *names * (size_t)(count + 1));
    for (int i = 0; names && i < count; i++) {
        names[i] = values[i] ? arena_text(arena, values[i]->name) : "";
        if (!names[i]) return NULL;
    }
    return names;
}

static bool fill_node(Arena *arena, EspdlNode *to, const Node *node)
{
    bool foreign = node->domain && *node->domain && strcmp(node->domain, "ai.onnx") != 0;
    to->name = arena_text(arena, node->name);
    to->type = arena_text(arena, node->type);
    to->domain = foreign ? arena_text(arena, node->domain) : "";
    to->inputs = fill_names(arena, node->inputs, node->input_count);
    to->outputs = fill_names(arena, node->outputs, node->output_count);
    to->attributes = arena_new(arena, sizeof *to->attributes * (size_t)(node->attribute_count + 1));
    if (!to->name || !to->type || !to->domain || !to->inputs || !to->outputs || !to->attributes) return false;
    to->input_count = node->input_count;
    to->output_count = node->output_count;
    for (int i = 0; i < node->attribute_count; i++) {
        to->attribute_count++; /* first: a tensor that was taken is released with the model, whatever fails */
        if (!fill_attribute(arena, &to->attributes[i], &node->attributes[i])) return false;
    }
    if (to->attribute_count) qsort(to->attributes, (size_t)to->attribute_count, sizeof *to->attributes, by_name);
    return true;
}

static bool fill_nodes(EspdlModel *model, const Graph *device, Error *error)
{
    Node **order;
    if (!graph_sort(device, &order, error)) return false;
    bool ok = true;
    for (int i = 0; ok && i < device->node_count; i++) {
        ok = fill_node(&model->arena, &model->nodes[i], order[i]);
        model->node_count++;
    }
    memory_free(order);
    return ok || fail_memory(error, sizeof *model->nodes);
}

/* ---- lists of the graph ---- */

static bool fill_parameters(EspdlModel *model, const Graph *device)
{
    for (int tables = 1; tables >= 0; tables--) {
        for (int i = 0; i < device->value_count; i++) {
            const Value *value = device->values[i];
            if (!value->constant || value->device->table != (tables == 1) || (!tables && !value->use_count)) continue;
            if (!fill_initializer(&model->arena, &model->initializers[model->initializer_count++], value)) return false;
        }
    }
    return true;
}

static bool fill_values(EspdlModel *model, const Graph *device)
{
    if (has_absent_input(device) && !fill_absent(&model->arena, &model->values[model->value_count++])) return false;
    for (int i = 0; i < device->value_count; i++) {
        const Value *value = device->values[i];
        bool known = value->producer || value->use_count || value_is_input(device, value) || value_is_output(device, value);
        if (!known || (value->constant && !value_is_output(device, value))) continue;
        if (!fill_value(&model->arena, &model->values[model->value_count++], value)) return false;
    }
    return true;
}

/* Inputs or outputs: in the model's order, or in that of the dictionary of values, as the reference has it (§11.1). */
static bool fill_ends(Arena *arena, EspdlValue *to, int *made, const Graph *device, Value *const *ends, int count, bool reference_order)
{
    if (!reference_order) {
        for (int i = 0; i < count; i++) {
            if (!fill_value(arena, &to[(*made)++], ends[i])) return false;
        }
        return true;
    }
    for (int i = 0; i < device->value_count; i++) {
        for (int k = 0; k < count; k++) {
            if (ends[k] != device->values[i]) continue;
            if (!fill_value(arena, &to[(*made)++], ends[k])) return false;
            break;
        }
    }
    return true;
}

static bool fill_tests(Arena *arena, EspdlTensor *to, int *made, const EspdlTest *tests, int count)
{
    for (int i = 0; i < count; i++) {
        EspdlTensor *test = &to[(*made)++];
        if (!fill_tensor(arena, test, tests[i].name, tests[i].tensor)) return false;
        if (test->rank == 0) {
            test->rank = 1;
            test->dims[0] = 1;
        }
        test->exponents = copy_longs(arena, (int64_t[]){tests[i].exponent}, 1);
        if (!test->exponents) return false;
        test->exponent_count = 1;
    }
    return true;
}

static bool make_lists(EspdlModel *model, const Graph *device, const EspdlExtra *extra)
{
    Arena *arena = &model->arena;
    size_t values = (size_t)device->value_count + 2;
    model->nodes = arena_new(arena, sizeof *model->nodes * (size_t)(device->node_count + 1));
    model->initializers = arena_new(arena, sizeof *model->initializers * values);
    model->values = arena_new(arena, sizeof *model->values * values);
    model->inputs = arena_new(arena, sizeof *model->inputs * (size_t)(device->input_count + 1));
    model->outputs = arena_new(arena, sizeof *model->outputs * (size_t)(device->output_count + 1));
    model->test_inputs = arena_new(arena, sizeof *model->test_inputs * (size_t)(extra->test_input_count + 1));
    model->test_outputs = arena_new(arena, sizeof *model->test_outputs * (size_t)(extra->test_output_count + 1));
    model->metadata = arena_new(arena, sizeof *model->metadata * (size_t)(extra->metadata_count + 1));
    return model->nodes && model->initializers && model->values && model->inputs && model->outputs && model->test_inputs &&
           model->test_outputs && model->metadata;
}

static bool fill_model(EspdlModel *model, const Graph *device, const EspdlExtra *extra, Error *error)
{
    Arena *arena = &model->arena;
    bool ok = make_lists(model, device, extra);
    if (!ok) return fail_memory(error, sizeof *model->values * (size_t)device->value_count);
    memcpy(model->container, "EDL2", 5);
    model->ir_version = device->ir_version ? device->ir_version : 8;
    model->model_version = extra->model_version;
    model->graph_name = arena_text(arena, device->name && *device->name ? device->name : nameless);
    if (!fill_nodes(model, device, error)) return false;
    ok = model->graph_name && fill_parameters(model, device) && fill_values(model, device) &&
         fill_ends(arena, model->inputs, &model->input_count, device, device->inputs, device->input_count, extra->reference_order) &&
         fill_ends(arena, model->outputs, &model->output_count, device, device->outputs, device->output_count, extra->reference_order) &&
         fill_tests(arena, model->test_inputs, &model->test_input_count, extra->test_inputs, extra->test_input_count) &&
         fill_tests(arena, model->test_outputs, &model->test_output_count, extra->test_outputs, extra->test_output_count);
    for (int i = 0; ok && i < extra->metadata_count; i++) {
        EspdlPair *pair = &model->metadata[model->metadata_count++];
        *pair = (EspdlPair){arena_text(arena, extra->metadata[2 * i]), arena_text(arena, extra->metadata[2 * i + 1])};
        ok = pair->key && pair->value;
    }
    return ok || fail_memory(error, arena->bytes);
}

EspdlModel *espdl_from_device(const Graph *device, const EspdlExtra *extra, Error *error)
{
    EspdlModel *model = memory_new(sizeof *model);
    if (!model)
        fail_memory(error, sizeof *model);
    else if (fill_model(model, device, extra, error))
        return model;
    espdl_model_free(model);
    return NULL;
}
