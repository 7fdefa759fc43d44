/* From a model in memory to the bytes of a .espdl file (EXPORT §9, §10). */
#include <string.h>

#include "base/map.h"
#include "base/memory.h"
#include "espdl/flatbuffer.h"
#include "espdl/model.h"
#include "espdl/schema.h"

typedef struct Fields { /* of the table being put together; scalars of value 0 are left out, as FlatBuffers does */
    FlatField rows[FLAT_MAX_SLOTS];
    size_t places[FLAT_MAX_SLOTS];
    int count;
} Fields;

static int add(Fields *fields, int slot, FlatKind kind, int64_t value)
{
    fields->rows[fields->count] = (FlatField){slot, kind, value};
    return fields->count++;
}

static int add_offset(Fields *fields, int slot)
{
    return add(fields, slot, FLAT_OFFSET, 0);
}

static void add_scalar(Fields *fields, int slot, FlatKind kind, int64_t value)
{
    if (value) add(fields, slot, kind, value);
}

static size_t put(FlatBuffer *buffer, Fields *fields)
{
    return flat_table(buffer, fields->rows, fields->count, fields->places);
}

static void put_at(FlatBuffer *buffer, Fields *fields, size_t place)
{
    flat_link(buffer, place, put(buffer, fields));
}

static void write_strings(FlatBuffer *buffer, size_t place, const char *const *texts, int count)
{
    size_t first = flat_offsets(buffer, place, (size_t)count);
    for (int i = 0; i < count; i++)
        flat_string(buffer, first + 4 * (size_t)i, texts[i] ? texts[i] : "");
}

/* An empty tensor has no raw data but an empty list of numbers, as the reference writes it. */
static int empty_slot(int data_type)
{
    return data_type == DTYPE_NONE || data_type == dtype_rows[DTYPE_FLOAT32].espdl || data_type == dtype_rows[DTYPE_FLOAT16].espdl
               ? TENSOR_FLOAT_DATA
           : data_type == dtype_rows[DTYPE_INT64].espdl   ? TENSOR_INT64_DATA
           : data_type == dtype_rows[DTYPE_FLOAT64].espdl ? TENSOR_DOUBLE_DATA
                                                          : TENSOR_INT32_DATA;
}

static void write_tensor(FlatBuffer *buffer, size_t place, const EspdlTensor *tensor)
{
    Fields fields = {0};
    int slot = tensor->data_bytes ? TENSOR_RAW_DATA : empty_slot(tensor->data_type), data = -1, name = -1, doc = -1;
    int dims = add_offset(&fields, TENSOR_DIMS);
    add_scalar(&fields, TENSOR_TYPE_SLOT, FLAT_WORD, tensor->data_type);
    if (slot < TENSOR_NAME) data = add_offset(&fields, slot);
    if (tensor->name) name = add_offset(&fields, TENSOR_NAME);
    if (tensor->doc) doc = add_offset(&fields, TENSOR_DOC);
    if (slot > TENSOR_NAME) data = add_offset(&fields, slot);
    int exponents = add_offset(&fields, TENSOR_EXPONENTS);
    put_at(buffer, &fields, place);
    flat_longs(buffer, fields.places[dims], tensor->dims, (size_t)tensor->rank);
    flat_longs(buffer, fields.places[exponents], tensor->exponents, (size_t)tensor->exponent_count);
    if (name >= 0) flat_string(buffer, fields.places[name], tensor->name);
    if (doc >= 0) flat_string(buffer, fields.places[doc], tensor->doc);
    if (slot == TENSOR_RAW_DATA)
        flat_blocks(buffer, fields.places[data], tensor->data, tensor->data_bytes);
    else
        flat_longs(buffer, fields.places[data], NULL, 0);
}

static void write_attribute(FlatBuffer *buffer, size_t place, const Attribute *attribute)
{
    static const int types[] = {[ATTRIBUTE_INT] = ESPDL_INT,      [ATTRIBUTE_FLOAT] = ESPDL_FLOAT,   [ATTRIBUTE_STRING] = ESPDL_STRING,
                                [ATTRIBUTE_INTS] = ESPDL_INTS,    [ATTRIBUTE_FLOATS] = ESPDL_FLOATS, [ATTRIBUTE_STRINGS] = ESPDL_STRINGS,
                                [ATTRIBUTE_TENSOR] = ESPDL_TENSOR};
    static const int slots[] = {[ATTRIBUTE_STRING] = ATTRIBUTE_SLOT_S,
                                [ATTRIBUTE_INTS] = ATTRIBUTE_SLOT_INTS,
                                [ATTRIBUTE_FLOATS] = ATTRIBUTE_SLOT_FLOATS,
                                [ATTRIBUTE_STRINGS] = ATTRIBUTE_SLOT_STRINGS,
                                [ATTRIBUTE_TENSOR] = ATTRIBUTE_SLOT_T};
    Fields fields = {0};
    int value = -1;
    add_offset(&fields, ATTRIBUTE_SLOT_NAME);
    add(&fields, ATTRIBUTE_SLOT_TYPE, FLAT_WORD, types[attribute->kind]);
    if (attribute->kind == ATTRIBUTE_INT) {
        add(&fields, ATTRIBUTE_SLOT_I, FLAT_LONG, attribute->integer);
    } else if (attribute->kind == ATTRIBUTE_FLOAT) {
        uint32_t bits;
        memcpy(&bits, &attribute->number, sizeof bits);
        add(&fields, ATTRIBUTE_SLOT_F, FLAT_WORD, bits);
    } else {
        value = add_offset(&fields, slots[attribute->kind]);
    }
    put_at(buffer, &fields, place);
    flat_string(buffer, fields.places[0], attribute->name);
    if (value < 0) return;
    size_t at = fields.places[value];
    switch (attribute->kind) {
    case ATTRIBUTE_STRING: flat_bytes(buffer, at, attribute->string, strlen(attribute->string)); break;
    case ATTRIBUTE_INTS: flat_longs(buffer, at, attribute->integers, (size_t)attribute->count); break;
    case ATTRIBUTE_FLOATS: flat_words(buffer, at, attribute->numbers, (size_t)attribute->count); break;
    case ATTRIBUTE_STRINGS: write_strings(buffer, at, attribute->strings, attribute->count); break;
    case ATTRIBUTE_TENSOR: {
        const Tensor *tensor = attribute->tensor;
        write_tensor(buffer, at,
                     &(EspdlTensor){.data_type = dtype_rows[tensor->dtype].espdl,
                                    .rank = tensor->shape.rank,
                                    .dims = (int64_t *)tensor->shape.dims,
                                    .exponent_count = 1,
                                    .exponents = (int64_t[]){0},
                                    .data = tensor->data,
                                    .data_bytes = tensor_bytes(tensor)});
        break;
    }
    case ATTRIBUTE_INT:
    case ATTRIBUTE_FLOAT: break;
    }
}

static void write_node(FlatBuffer *buffer, size_t place, const EspdlNode *node)
{
    Fields fields = {0};
    int inputs = add_offset(&fields, NODE_INPUT), outputs = add_offset(&fields, NODE_OUTPUT), name = add_offset(&fields, NODE_NAME),
        type = add_offset(&fields, NODE_TYPE), domain = node->domain && *node->domain ? add_offset(&fields, NODE_DOMAIN) : -1,
        attributes = add_offset(&fields, NODE_ATTRIBUTE);
    put_at(buffer, &fields, place);
    write_strings(buffer, fields.places[inputs], node->inputs, node->input_count);
    write_strings(buffer, fields.places[outputs], node->outputs, node->output_count);
    flat_string(buffer, fields.places[name], node->name);
    flat_string(buffer, fields.places[type], node->type);
    if (domain >= 0) flat_string(buffer, fields.places[domain], node->domain);
    size_t first = flat_offsets(buffer, fields.places[attributes], (size_t)node->attribute_count);
    for (int i = 0; i < node->attribute_count; i++)
        write_attribute(buffer, first + 4 * (size_t)i, &node->attributes[i]);
}

static void write_shape(FlatBuffer *buffer, size_t place, const EspdlValue *value)
{
    Fields shape = {0};
    add_offset(&shape, SHAPE_DIM);
    put_at(buffer, &shape, place);
    size_t first = flat_offsets(buffer, shape.places[0], (size_t)value->rank);
    for (int i = 0; i < value->rank; i++) {
        Fields dimension = {0}, number = {0};
        add_offset(&dimension, DIMENSION_VALUE);
        put_at(buffer, &dimension, first + 4 * (size_t)i);
        add(&number, DIM_KIND, FLAT_BYTE, DIM_KIND_NUMBER);
        add_scalar(&number, DIM_NUMBER, FLAT_LONG, value->dims[i]);
        put_at(buffer, &number, dimension.places[0]);
    }
}

static size_t write_value(FlatBuffer *buffer, const EspdlValue *value)
{
    Fields fields = {0}, type = {0}, typed = {0};
    add_offset(&fields, VALUE_NAME);
    add_offset(&fields, VALUE_TYPE);
    add_offset(&fields, VALUE_EXPONENTS);
    size_t at = put(buffer, &fields);
    flat_string(buffer, fields.places[0], value->name);
    add(&type, TYPE_TAG, FLAT_BYTE, TYPE_TAG_TENSOR);
    int tensor = add_offset(&type, TYPE_VALUE);
    put_at(buffer, &type, fields.places[1]);
    add_scalar(&typed, TYPED_ELEMENT, FLAT_WORD, value->elem_type);
    int shape = value->shaped ? add_offset(&typed, TYPED_SHAPE) : -1;
    put_at(buffer, &typed, type.places[tensor]);
    if (shape >= 0) write_shape(buffer, typed.places[shape], value);
    flat_longs(buffer, fields.places[2], value->exponents, (size_t)value->exponent_count);
    return at;
}

static bool same_value(const EspdlValue *a, const EspdlValue *b)
{
    return strcmp(a->name, b->name) == 0 && a->elem_type == b->elem_type && a->shaped == b->shaped && a->rank == b->rank &&
           a->exponent_count == b->exponent_count && (!a->rank || memcmp(a->dims, b->dims, sizeof *a->dims * (size_t)a->rank) == 0) &&
           (!a->exponent_count || memcmp(a->exponents, b->exponents, sizeof *a->exponents * (size_t)a->exponent_count) == 0);
}

/* The three lists of value descriptions: an input or output that is described the same in value_info is the same object there. */
static bool write_values(FlatBuffer *buffer, const EspdlModel *model, const size_t places[3])
{
    const EspdlValue *lists[3] = {model->inputs, model->outputs, model->values};
    int counts[3] = {model->input_count, model->output_count, model->value_count};
    size_t firsts[3];
    Map known = {0};
    size_t *positions = memory_new_array((size_t)model->value_count + 1, sizeof *positions);
    bool ok = positions != NULL;
    for (int list = 0; list < 3; list++)
        firsts[list] = flat_offsets(buffer, places[list], (size_t)counts[list]);
    for (int i = 0; ok && i < counts[2]; i++) {
        positions[i] = write_value(buffer, &lists[2][i]);
        flat_link(buffer, firsts[2] + 4 * (size_t)i, positions[i]);
        ok = map_set(&known, lists[2][i].name, (void *)&lists[2][i]);
    }
    for (int list = 0; ok && list < 2; list++) {
        for (int i = 0; i < counts[list]; i++) {
            const EspdlValue *value = &lists[list][i], *shared = map_get(&known, value->name);
            size_t at = shared && same_value(shared, value) ? positions[shared - lists[2]] : write_value(buffer, value);
            flat_link(buffer, firsts[list] + 4 * (size_t)i, at);
        }
    }
    map_free(&known);
    memory_free(positions);
    return ok;
}

static void write_tensors(FlatBuffer *buffer, size_t place, const EspdlTensor *tensors, int count)
{
    size_t first = flat_offsets(buffer, place, (size_t)count);
    for (int i = 0; i < count; i++)
        write_tensor(buffer, first + 4 * (size_t)i, &tensors[i]);
}

static bool write_graph(FlatBuffer *buffer, size_t place, const EspdlModel *model)
{
    Fields fields = {0};
    int node = add_offset(&fields, GRAPH_NODE), name = add_offset(&fields, GRAPH_NAME),
        initializer = add_offset(&fields, GRAPH_INITIALIZER), input = add_offset(&fields, GRAPH_INPUT),
        output = add_offset(&fields, GRAPH_OUTPUT), values = add_offset(&fields, GRAPH_VALUE_INFO),
        test_inputs = add_offset(&fields, GRAPH_TEST_INPUTS), test_outputs = add_offset(&fields, GRAPH_TEST_OUTPUTS);
    put_at(buffer, &fields, place);
    flat_string(buffer, fields.places[name], model->graph_name ? model->graph_name : "");
    size_t first = flat_offsets(buffer, fields.places[node], (size_t)model->node_count);
    for (int i = 0; i < model->node_count; i++)
        write_node(buffer, first + 4 * (size_t)i, &model->nodes[i]);
    if (!write_values(buffer, model, (size_t[]){fields.places[input], fields.places[output], fields.places[values]})) return false;
    write_tensors(buffer, fields.places[initializer], model->initializers, model->initializer_count);
    write_tensors(buffer, fields.places[test_inputs], model->test_inputs, model->test_input_count);
    write_tensors(buffer, fields.places[test_outputs], model->test_outputs, model->test_output_count);
    return true;
}

static bool write_model(FlatBuffer *buffer, const EspdlModel *model)
{
    Fields fields = {0};
    add_scalar(&fields, MODEL_IR_VERSION, FLAT_WORD, model->ir_version);
    int opsets = add_offset(&fields, MODEL_OPSET_IMPORT);
    add_scalar(&fields, MODEL_VERSION, FLAT_LONG, model->model_version);
    int graph = add_offset(&fields, MODEL_GRAPH), metadata = model->metadata_count ? add_offset(&fields, MODEL_METADATA) : -1;
    flat_put(buffer, (uint8_t[4]){0}, 4); /* the root's place */
    put_at(buffer, &fields, 0);
    flat_offsets(buffer, fields.places[opsets], 0);
    if (metadata >= 0) {
        size_t first = flat_offsets(buffer, fields.places[metadata], (size_t)model->metadata_count);
        for (int i = 0; i < model->metadata_count; i++) {
            Fields pair = {0};
            add_offset(&pair, PAIR_KEY);
            add_offset(&pair, PAIR_VALUE);
            put_at(buffer, &pair, first + 4 * (size_t)i);
            flat_string(buffer, pair.places[0], model->metadata[i].key);
            flat_string(buffer, pair.places[1], model->metadata[i].value);
        }
    }
    if (!write_graph(buffer, fields.places[graph], model)) return false;
    flat_align(buffer, 16, 0);
    return true;
}

bool espdl_write(const EspdlModel *model, uint8_t **bytes, size_t *count, Error *error)
{
    FlatBuffer buffer = {0};
    uint8_t *file = NULL;
    bool ok = write_model(&buffer, model) && !buffer.failed;
    if (ok) file = memory_new(buffer.size + 16);
    if (!file) {
        size_t size = buffer.size;
        flat_free(&buffer);
        if (size > INT32_MAX / 2)
            return fail(error, model->graph_name, "quantize more of its operators, or cut the model into parts",
                        "the model needs more than the 2 GiB that a .espdl file can have");
        return fail_memory(error, size);
    }
    uint32_t header[4] = {0, 0, (uint32_t)buffer.size, 0};
    memcpy(header, "EDL2", 4);
    memcpy(file, header, sizeof header);
    memcpy(file + 16, buffer.data, buffer.size);
    *bytes = file;
    *count = buffer.size + 16;
    flat_free(&buffer);
    return true;
}
