/* TensorProto → Tensor: raw and typed data, external data, constants in all forms. Floats of any width become float32: the chip has no
 * other, and the reference's arithmetic is float32 (CASES C18). */
#include "onnx/read.h"

#include <string.h>

#include "base/memory.h"

const char *onnx_dtype_label(int number)
{
    static const char *const labels[] = {"UNDEFINED",      "FLOAT",      "UINT8",          "INT8",       "UINT16",   "INT16",
                                         "INT32",          "INT64",      "STRING",         "BOOL",       "FLOAT16",  "DOUBLE",
                                         "UINT32",         "UINT64",     "COMPLEX64",      "COMPLEX128", "BFLOAT16", "FLOAT8E4M3FN",
                                         "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4",      "INT4",     "FLOAT4E2M1"};
    return number >= 0 && number < (int)(sizeof labels / sizeof labels[0]) ? labels[number] : "of an unknown type";
}

static bool read_shape(Reading *reading, const Onnx__TensorProto *proto, const char *what, Shape *shape, Error *error)
{
    if (proto->n_dims > ESPQ_MAX_RANK)
        return fail(error, what, "reshape it to at most 8 dimensions", "%s: it has %zu dimensions", reading->shown, proto->n_dims);
    int64_t count = 1;
    shape->rank = (int)proto->n_dims;
    for (int i = 0; i < shape->rank; i++) {
        int64_t size = proto->dims[i];
        if (size < 0) return fail(error, what, "export the model again", "%s: dimension %d is %lld", reading->shown, i, (long long)size);
        if (size > ONNX_MOST_ELEMENTS / count)
            return fail(error, what, "export the model again", "%s: its shape is absurdly large", reading->shown);
        if (size > 0) count *= size;
        shape->dims[i] = size;
    }
    return true;
}

static uint32_t load_16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

static float bfloat_to_float(uint32_t bits)
{
    float value;
    bits <<= 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Elements i of the list that ONNX prescribes for this type (float_data, int32_data, …); NULL data: no such list. */
typedef struct Source {
    size_t count;
    const char *list;
} Source;

static Source typed_source(const Onnx__TensorProto *proto)
{
    switch (proto->data_type) {
    case ONNX_FLOAT: return (Source){proto->n_float_data, "float_data"};
    case ONNX_DOUBLE: return (Source){proto->n_double_data, "double_data"};
    case 7: return (Source){proto->n_int64_data, "int64_data"};
    case 12:
    case 13: return (Source){proto->n_uint64_data, "uint64_data"};
    default: return (Source){proto->n_int32_data, "int32_data"};
    }
}

static void store(Tensor *tensor, int64_t i, int type, uint64_t bits, double number)
{
    switch (tensor->dtype) {
    case DTYPE_FLOAT32:
        tensor_floats(tensor)[i] = type == ONNX_FLOAT16    ? half_to_float((uint16_t)bits)
                                   : type == ONNX_BFLOAT16 ? bfloat_to_float((uint32_t)bits & 0xffff)
                                                           : (float)number;
        return;
    case DTYPE_BOOL: tensor->data[i] = bits != 0; return;
    case DTYPE_INT8:
    case DTYPE_UINT8: tensor->data[i] = (char)(uint8_t)bits; return;
    case DTYPE_INT16:
    case DTYPE_UINT16: ((uint16_t *)(void *)tensor->data)[i] = (uint16_t)bits; return;
    case DTYPE_INT32:
    case DTYPE_UINT32: ((uint32_t *)(void *)tensor->data)[i] = (uint32_t)bits; return;
    default: ((uint64_t *)(void *)tensor->data)[i] = bits; return;
    }
}

static void read_typed(const Onnx__TensorProto *proto, Tensor *tensor)
{
    int type = proto->data_type;
    for (int64_t i = 0, count = tensor_count(tensor); i < count; i++) {
        uint64_t bits = 0;
        double number = 0;
        switch (type) {
        case ONNX_FLOAT: number = (double)proto->float_data[i]; break;
        case ONNX_DOUBLE: number = proto->double_data[i]; break;
        case 7: bits = (uint64_t)proto->int64_data[i]; break;
        case 12:
        case 13: bits = proto->uint64_data[i]; break;
        default: bits = (uint64_t)(int64_t)proto->int32_data[i]; break;
        }
        store(tensor, i, type, bits, number);
    }
}

static void read_wide_floats(const uint8_t *raw, int type, Tensor *tensor)
{
    for (int64_t i = 0, count = tensor_count(tensor); i < count; i++) {
        double number = 0;
        if (type == ONNX_DOUBLE) memcpy(&number, raw + i * 8, 8);
        store(tensor, i, type, type == ONNX_DOUBLE ? 0 : load_16(raw + i * 2), number);
    }
}

Tensor *onnx_read_tensor(Reading *reading, const Onnx__TensorProto *proto, const char *what, Error *error)
{
    Shape shape = {0};
    if (!read_shape(reading, proto, what, &shape, error)) return NULL;
    int type = proto->has_data_type ? proto->data_type : 0;
    bool is_bfloat = type == ONNX_BFLOAT16;
    Dtype stored = is_bfloat ? DTYPE_FLOAT16 : dtype_from_onnx(type);
    if (stored == DTYPE_NONE) {
        fail(error, what, "convert the model to float32 (or int8 … int64) and export it again", "%s: its elements are %s", reading->shown,
             onnx_dtype_label(type));
        return NULL;
    }
    bool is_external = proto->data_location == 1;
    size_t count = (size_t)shape_count(&shape), needed = count * dtype_bytes(stored);
    bool typed = !is_external && !proto->has_raw_data;
    if (is_external) {
        if (!onnx_read_external(reading, proto, what, needed, NULL, error)) return NULL; /* sizes first, memory then */
    } else if (typed) {
        Source source = typed_source(proto);
        if (source.count != count) {
            fail(error, what, "the file is damaged: export the model again", "%s: its shape has %zu elements, %s has %zu", reading->shown,
                 count, source.list, source.count);
            return NULL;
        }
    } else if (proto->raw_data.len != needed) {
        fail(error, what, "the file is damaged: export the model again", "%s: its shape and type need %zu bytes, its data have %zu",
             reading->shown, needed, proto->raw_data.len);
        return NULL;
    }
    bool is_wide = stored == DTYPE_FLOAT16 || stored == DTYPE_FLOAT64;
    Tensor *tensor = tensor_new(is_wide ? DTYPE_FLOAT32 : stored, &shape, error);
    if (!tensor || count == 0) return tensor;
    if (typed) {
        read_typed(proto, tensor);
        return tensor;
    }
    const uint8_t *raw = proto->raw_data.data;
    uint8_t *loaded = NULL;
    bool ok = true;
    if (is_external) {
        loaded = is_wide ? memory_new(needed) : (uint8_t *)tensor->data;
        if (!loaded) ok = fail_memory(error, needed);
        if (ok) ok = onnx_read_external(reading, proto, what, needed, loaded, error);
        raw = loaded;
    }
    if (ok && is_wide) read_wide_floats(raw, type, tensor);
    if (ok && !is_wide && !is_external) memcpy(tensor->data, raw, needed);
    if (ok && stored == DTYPE_BOOL)
        for (size_t i = 0; i < count; i++)
            tensor->data[i] = tensor->data[i] != 0;
    if (is_wide) memory_free(loaded);
    if (ok) return tensor;
    tensor_release(tensor);
    return NULL;
}

Tensor *onnx_read_constant(Reading *reading, const Onnx__NodeProto *proto, const char *name, Error *error)
{
    for (size_t i = 0; i < proto->n_attribute; i++) {
        const Onnx__AttributeProto *attribute = proto->attribute[i];
        const char *form = attribute->name ? attribute->name : "";
        if (strcmp(form, "value") == 0 && attribute->t) return onnx_read_tensor(reading, attribute->t, name, error);
        if (strcmp(form, "value_float") == 0 && attribute->has_f) return tensor_scalar(DTYPE_FLOAT32, (double)attribute->f, error);
        if (strcmp(form, "value_int") == 0 && attribute->has_i) {
            Shape shape = {0};
            return tensor_from_data(DTYPE_INT64, &shape, &attribute->i, error);
        }
        if (strcmp(form, "value_floats") == 0) {
            Shape shape = {.rank = 1, .dims = {(int64_t)attribute->n_floats}};
            return tensor_from_data(DTYPE_FLOAT32, &shape, attribute->floats, error);
        }
        if (strcmp(form, "value_ints") == 0) {
            Shape shape = {.rank = 1, .dims = {(int64_t)attribute->n_ints}};
            return tensor_from_data(DTYPE_INT64, &shape, attribute->ints, error);
        }
    }
    fail(error, name, "give it a dense tensor of numbers", "%s: this Constant holds no number (strings and sparse tensors are not read)",
         reading->shown);
    return NULL;
}
