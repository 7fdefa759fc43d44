#include "espdl_models.h"

#include <string.h>

#include "base/memory.h"
#include "check.h"

static void *kept(EspdlModel *model, const void *data, size_t bytes)
{
    void *copy = arena_new(&model->arena, bytes + 1);
    memcpy(copy, data, bytes);
    return copy;
}

#define LIST(type, ...) kept(model, (const type[]){__VA_ARGS__}, sizeof((const type[]){__VA_ARGS__}))
#define INTEGERS(...) LIST(int64_t, __VA_ARGS__)

static EspdlTensor tensor(EspdlModel *model, const char *name, const char *doc, Dtype dtype, int rank, const int64_t *dims,
                          int64_t exponent)
{
    EspdlTensor made = {.name = name, .doc = doc, .data_type = dtype_rows[dtype].espdl, .rank = rank, .exponent_count = 1};
    size_t count = 1;
    for (int i = 0; i < rank; i++)
        count *= (size_t)dims[i];
    made.dims = kept(model, dims, sizeof *dims * (size_t)rank);
    made.exponents = INTEGERS(exponent);
    made.data_bytes = count * dtype_bytes(dtype);
    uint8_t *data = arena_new(&model->arena, made.data_bytes + 1);
    for (size_t i = 0; i < made.data_bytes; i++)
        data[i] = (uint8_t)(3 * i);
    made.data = data;
    return made;
}

static EspdlValue value(EspdlModel *model, const char *name, int64_t channels, int64_t exponent)
{
    EspdlValue made = {.name = name, .elem_type = dtype_rows[DTYPE_INT8].espdl, .shaped = true, .rank = 4, .exponent_count = 1};
    made.dims = INTEGERS(1, 2, 2, channels);
    made.exponents = INTEGERS(exponent);
    return made;
}

static EspdlNode node(EspdlModel *model, const char *name, const char *type, const char **inputs, int input_count, const char *output,
                      Attribute *attributes, int attribute_count)
{
    EspdlNode made = {.name = name,
                      .type = type,
                      .domain = "",
                      .inputs = inputs,
                      .input_count = input_count,
                      .output_count = 1,
                      .attributes = attributes,
                      .attribute_count = attribute_count};
    made.outputs = LIST(const char *, output);
    return made;
}

static Attribute *every_kind(EspdlModel *model, int *count)
{
    Error error = {0};
    Shape two = {1, {2}};
    const Attribute list[] = {
        {.name = "floats", .kind = ATTRIBUTE_FLOATS, .count = 2, .numbers = LIST(float, 0.5f, -1e-7f)},
        {.name = "integer", .kind = ATTRIBUTE_INT, .integer = INT64_MIN},
        {.name = "integers", .kind = ATTRIBUTE_INTS, .count = 0, .integers = NULL},
        {.name = "lut", .kind = ATTRIBUTE_STRING, .string = "table"},
        {.name = "number", .kind = ATTRIBUTE_FLOAT, .number = 0.1f},
        {.name = "quant_type", .kind = ATTRIBUTE_STRING, .string = "S8"},
        {.name = "tensor", .kind = ATTRIBUTE_TENSOR, .tensor = tensor_from_data(DTYPE_FLOAT32, &two, (float[]){1, 2}, &error)},
        {.name = "texts", .kind = ATTRIBUTE_STRINGS, .count = 2, .strings = LIST(const char *, "", "it's")},
    };
    *count = (int)(sizeof list / sizeof list[0]);
    return kept(model, list, sizeof list);
}

EspdlModel *small_model(bool full)
{
    EspdlModel *model = memory_new(sizeof *model);
    model->ir_version = 8;
    model->graph_name = "small";
    const Attribute conv[] = {
        {.name = "activation", .kind = ATTRIBUTE_STRING, .string = "Linear"},
        {.name = "dilations", .kind = ATTRIBUTE_INTS, .count = 2, .integers = INTEGERS(1, 1)},
        {.name = "group", .kind = ATTRIBUTE_INT, .integer = 1},
        {.name = "kernel_shape", .kind = ATTRIBUTE_INTS, .count = 2, .integers = INTEGERS(1, 1)},
        {.name = "pads", .kind = ATTRIBUTE_INTS, .count = 4, .integers = INTEGERS(0, 0, 0, 0)},
        {.name = "quant_type", .kind = ATTRIBUTE_STRING, .string = "S8"},
        {.name = "strides", .kind = ATTRIBUTE_INTS, .count = 2, .integers = INTEGERS(1, 1)},
    };
    const Attribute sigmoid[] = {
        {.name = "lut", .kind = ATTRIBUTE_STRING, .string = "table"},
        {.name = "quant_type", .kind = ATTRIBUTE_STRING, .string = "S8"},
    };
    int kinds = 2;
    Attribute *attributes = full ? every_kind(model, &kinds) : kept(model, sigmoid, sizeof sigmoid);
    model->nodes = arena_new(&model->arena, 2 * sizeof *model->nodes);
    model->nodes[0] = node(model, "conv", "Conv", LIST(const char *, "x", "w", "b"), 3, "c", kept(model, conv, sizeof conv), 7);
    model->nodes[1] = node(model, "sigmoid", "Sigmoid", LIST(const char *, "c"), 1, "y", attributes, kinds);
    model->node_count = 2;
    model->initializers = arena_new(&model->arena, 4 * sizeof *model->initializers);
    model->initializers[0] = tensor(model, "table", NULL, DTYPE_INT8, 1, (int64_t[]){256}, -7);
    model->initializers[1] = tensor(model, "w", "layout ==> (N/16)HWC16_UNALIGNED", DTYPE_INT8, 4, (int64_t[]){1, 1, 2, 3}, -7);
    model->initializers[2] = tensor(model, "b", "layout ==> UNK", DTYPE_INT32, 1, (int64_t[]){3}, -12);
    model->initializer_count = 3;
    model->values = arena_new(&model->arena, 3 * sizeof *model->values);
    model->values[0] = value(model, "x", 2, -5);
    model->values[1] = value(model, "c", 3, -5);
    model->values[2] = value(model, "y", 3, -7);
    model->value_count = 3;
    model->inputs = kept(model, &model->values[0], sizeof *model->values);
    model->outputs = kept(model, &model->values[2], sizeof *model->values);
    model->input_count = model->output_count = 1;
    if (!full) return model;
    model->model_version = -3;
    model->initializers[3] = tensor(model, "roi", "layout ==> UNK", DTYPE_FLOAT32, 1, (int64_t[]){0}, 0);
    model->initializer_count = 4;
    model->test_inputs = arena_new(&model->arena, sizeof *model->test_inputs);
    model->test_inputs[0] = tensor(model, "x", NULL, DTYPE_INT8, 4, (int64_t[]){1, 2, 2, 2}, -5);
    model->test_outputs = arena_new(&model->arena, sizeof *model->test_outputs);
    model->test_outputs[0] = tensor(model, "y", NULL, DTYPE_INT8, 4, (int64_t[]){1, 2, 2, 3}, -7);
    model->test_input_count = model->test_output_count = 1;
    const EspdlPair pairs[] = {{"classes", "a,b"}, {"note", "größer"}};
    model->metadata = kept(model, pairs, sizeof pairs);
    model->metadata_count = 2;
    return model;
}

bool write_small(bool full, uint8_t **bytes, size_t *count)
{
    Error error = {0};
    EspdlModel *model = small_model(full);
    bool ok = espdl_write(model, bytes, count, &error);
    CHECK(ok, "%s", error.what);
    espdl_model_free(model);
    return ok;
}

bool same_models(const EspdlModel *a, const EspdlModel *b)
{
    Error error = {0};
    Text x = {0}, y = {0};
    bool same = espdl_info_text(a, &x, &error) && espdl_info_text(b, &y, &error) && x.length == y.length &&
                memcmp(x.data, y.data, x.length) == 0 && a->ir_version == b->ir_version && a->model_version == b->model_version &&
                a->metadata_count == b->metadata_count;
    text_free(&x);
    text_free(&y);
    return same;
}
