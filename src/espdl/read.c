/* From the bytes of a .espdl file to a model in memory. The bytes are hostile until proved otherwise: every offset, vector and
 * size is checked against the buffer before it is used, and the work is bounded by the size of the file (offsets may be shared, so
 * that a small file could describe a giant one). Names, texts and tensor data stay where they are in the file's bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "espdl/model.h"
#include "espdl/schema.h"

typedef struct Reader {
    EspdlModel *model;
    const uint8_t *data; /* the FlatBuffer */
    size_t size;
    size_t budget; /* bytes of vectors, texts and structures that may still be read */
    const char *where;
    Error *error;
    bool failed; /* error is filled in; everything read from now on is 0 or empty */
} Reader;

typedef struct Table { /* present: false for a table that is not there */
    bool present;
    size_t at, vtable;
    unsigned vtable_bytes, bytes;
} Table;

typedef struct Vector {
    size_t at, count;
    bool present;
} Vector; /* at: its first element */

static const char *const damaged = "the file is damaged or was not made by ESP-PPQ or espq: export the model again";

static void refuse(Reader *reader, const char *what, size_t position)
{
    if (reader->failed) return;
    reader->failed = true;
    fail(reader->error, reader->where, damaged, "%s at byte %zu of the model", what, position);
}

static void no_memory(Reader *reader, size_t bytes)
{
    if (!reader->failed) fail_memory(reader->error, bytes);
    reader->failed = true;
}

/* Account for `bytes` of work. No file that a writer makes comes near the bound; one that does refers to the same things again and again. */
static bool spend(Reader *reader, size_t bytes, size_t position)
{
    if (bytes > reader->budget) {
        refuse(reader, "the file describes far more than it holds: an offset is used too often", position);
        return false;
    }
    reader->budget -= bytes;
    return true;
}

static bool inside(Reader *reader, size_t position, size_t bytes)
{
    if (reader->failed) return false;
    if (position > reader->size || bytes > reader->size - position) {
        refuse(reader, "something lies outside the file", position);
        return false;
    }
    return true;
}

static uint64_t number(Reader *reader, size_t position, size_t bytes)
{
    uint64_t value = 0;
    if (inside(reader, position, bytes)) memcpy(&value, reader->data + position, bytes);
    return value;
}

static uint32_t word(Reader *reader, size_t position)
{
    return (uint32_t)number(reader, position, 4);
}

/* What a 32-bit place refers to. */
static size_t follow(Reader *reader, size_t place)
{
    uint32_t distance = word(reader, place);
    if (!reader->failed && (distance == 0 || !inside(reader, place + distance, 4))) refuse(reader, "an offset leads nowhere", place);
    return reader->failed ? 0 : place + distance;
}

static Table table_at(Reader *reader, size_t at)
{
    Table table = {.at = at};
    int32_t back = (int32_t)word(reader, at);
    int64_t vtable = (int64_t)at - back;
    if (reader->failed) return table;
    if (vtable < 0 || vtable >= (int64_t)reader->size || vtable % 2) {
        refuse(reader, "a table has no description", at);
        return table;
    }
    table.vtable = (size_t)vtable;
    table.vtable_bytes = (unsigned)number(reader, table.vtable, 2);
    table.bytes = (unsigned)number(reader, table.vtable + 2, 2);
    if (reader->failed) return table;
    if (table.vtable_bytes < 4 || table.vtable_bytes % 2 || table.bytes < 4 || !inside(reader, table.vtable, table.vtable_bytes) ||
        !inside(reader, at, table.bytes)) {
        refuse(reader, "a table is malformed", at);
        return table;
    }
    table.present = spend(reader, 16, at);
    return table;
}

/* Where a field of so many bytes lies; 0 when it is absent. */
static size_t field(Reader *reader, const Table *table, int slot, size_t bytes)
{
    unsigned entry = 4 + 2 * (unsigned)slot;
    if (!table->present || reader->failed || entry + 2 > table->vtable_bytes) return 0;
    size_t offset = (size_t)number(reader, table->vtable + entry, 2);
    if (!offset) return 0;
    if (offset < 4 || offset + bytes > table->bytes) {
        refuse(reader, "a field lies outside its table", table->at);
        return 0;
    }
    return table->at + offset;
}

static int64_t scalar(Reader *reader, const Table *table, int slot, size_t bytes)
{
    size_t at = field(reader, table, slot, bytes);
    if (!at) return 0;
    uint64_t bits = number(reader, at, bytes);
    return bytes == 8 ? (int64_t)bits : bytes == 4 ? (int64_t)(int32_t)(uint32_t)bits : (int64_t)bits;
}

static Table table_of(Reader *reader, const Table *table, int slot)
{
    size_t place = field(reader, table, slot, 4);
    return place ? table_at(reader, follow(reader, place)) : (Table){0};
}

static Vector vector_at(Reader *reader, size_t at, size_t element)
{
    Vector vector = {0};
    if (reader->failed) return vector;
    size_t count = word(reader, at);
    if (reader->failed || count > INT32_MAX / 32 || !inside(reader, at + 4, count * element) || !spend(reader, count * element, at)) {
        refuse(reader, "a list runs past the end of the file", at);
        return vector;
    }
    return (Vector){at + 4, count, true};
}

static Vector vector_of(Reader *reader, const Table *table, int slot, size_t element)
{
    size_t place = field(reader, table, slot, 4);
    return place ? vector_at(reader, follow(reader, place), element) : (Vector){0};
}

static const char *text_at(Reader *reader, size_t at)
{
    Vector bytes = vector_at(reader, at, 1);
    if (!bytes.present || !inside(reader, bytes.at, bytes.count + 1)) return "";
    if (memchr(reader->data + bytes.at, 0, bytes.count + 1) != reader->data + bytes.at + bytes.count) {
        refuse(reader, "a text does not end where its length says", at);
        return "";
    }
    return (const char *)reader->data + bytes.at;
}

static const char *text_of(Reader *reader, const Table *table, int slot, const char *otherwise)
{
    size_t place = field(reader, table, slot, 4);
    return place ? text_at(reader, follow(reader, place)) : otherwise;
}

/* `count` zeroed things of so many bytes, in the model's arena. */
static void *make(Reader *reader, size_t count, size_t bytes)
{
    if (reader->failed || !spend(reader, count * bytes, 0)) return NULL;
    void *made = arena_new(&reader->model->arena, count * bytes + 1);
    if (!made) no_memory(reader, count * bytes);
    return made;
}

/* Stops a loop over a list whose memory could not be had, or that failed in the middle. */
static int length(const Reader *reader, const Vector *vector, const void *made)
{
    return reader->failed || !made ? 0 : (int)vector->count;
}

static void *copy_vector(Reader *reader, const Table *table, int slot, size_t element, int *count)
{
    Vector vector = vector_of(reader, table, slot, element);
    void *made = make(reader, vector.count, element);
    *count = length(reader, &vector, made);
    if (*count) memcpy(made, reader->data + vector.at, vector.count * element);
    return made;
}

static const char **texts_of(Reader *reader, const Table *table, int slot, int *count)
{
    Vector vector = vector_of(reader, table, slot, 4);
    const char **texts = make(reader, vector.count, sizeof *texts);
    *count = length(reader, &vector, texts);
    for (int i = 0; i < *count; i++)
        texts[i] = text_at(reader, follow(reader, vector.at + 4 * (size_t)i));
    return texts;
}

static Table item(Reader *reader, const Vector *vector, int index)
{
    return table_at(reader, follow(reader, vector->at + 4 * (size_t)index));
}

/* Elements of a tensor; SIZE_MAX when there are more than any file can hold, or a size is negative. */
static size_t element_count(const int64_t *dims, int rank)
{
    size_t count = 1;
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 0) return SIZE_MAX;
        if (dims[i] == 0) return 0;
        if ((uint64_t)dims[i] > INT32_MAX || count > INT32_MAX / (size_t)dims[i]) return SIZE_MAX;
        count *= (size_t)dims[i];
    }
    return count;
}

/* Numbers that lie in a typed list (as ONNX allows; the reference writes only empty ones) become bytes of the tensor's type. */
static void listed_data(Reader *reader, const Table *table, EspdlTensor *tensor, size_t wanted)
{
    static const struct {
        int slot;
        size_t bytes;
    } lists[] = {{TENSOR_FLOAT_DATA, 4}, {TENSOR_INT32_DATA, 4}, {TENSOR_INT64_DATA, 8}, {TENSOR_DOUBLE_DATA, 8}, {TENSOR_UINT64_DATA, 8}};
    size_t element = espdl_element_bytes(tensor->data_type);
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        Vector vector = vector_of(reader, table, lists[i].slot, lists[i].bytes);
        if (!vector.present || !vector.count) continue;
        if (vector.count != wanted || element > lists[i].bytes) {
            refuse(reader, "a tensor has another number of elements than its shape says", table->at);
            return;
        }
        uint8_t *made = make(reader, wanted, element);
        for (size_t k = 0; made && k < wanted; k++)
            memcpy(made + k * element, reader->data + vector.at + k * lists[i].bytes, element);
        tensor->data = made;
        tensor->data_bytes = made ? wanted * element : 0;
        return;
    }
    if (wanted && !reader->failed) refuse(reader, "a tensor has no data", table->at);
}

static void read_tensor(Reader *reader, const Table *table, EspdlTensor *tensor)
{
    tensor->name = text_of(reader, table, TENSOR_NAME, NULL);
    tensor->doc = text_of(reader, table, TENSOR_DOC, NULL);
    tensor->data_type = (int)scalar(reader, table, TENSOR_TYPE_SLOT, 4);
    tensor->dims = copy_vector(reader, table, TENSOR_DIMS, 8, &tensor->rank);
    tensor->exponents = copy_vector(reader, table, TENSOR_EXPONENTS, 8, &tensor->exponent_count);
    if (reader->failed) return;
    size_t element = espdl_element_bytes(tensor->data_type), count = element_count(tensor->dims, tensor->rank);
    if (!element || count == SIZE_MAX) {
        refuse(reader, element ? "a tensor has an impossible shape" : "a tensor has a type that is not known", table->at);
        return;
    }
    Vector raw = vector_of(reader, table, TENSOR_RAW_DATA, 16);
    if (reader->failed) return;
    if (!raw.present) {
        listed_data(reader, table, tensor, count);
        return;
    }
    if (raw.count * 16 < count * element) {
        refuse(reader, "a tensor holds fewer bytes than its shape needs", table->at);
        return;
    }
    tensor->data = reader->data + raw.at;
    tensor->data_bytes = count * element;
    tensor->stored_bytes = raw.count * 16;
}

static EspdlTensor *read_tensors(Reader *reader, const Table *graph, int slot, int *count)
{
    Vector vector = vector_of(reader, graph, slot, 4);
    EspdlTensor *tensors = make(reader, vector.count, sizeof *tensors);
    *count = length(reader, &vector, tensors);
    for (int i = 0; i < *count && !reader->failed; i++) {
        Table table = item(reader, &vector, i);
        read_tensor(reader, &table, &tensors[i]);
        if (!tensors[i].name) tensors[i].name = "";
    }
    return tensors;
}

static EspdlValue *read_values(Reader *reader, const Table *graph, int slot, int *count)
{
    Vector vector = vector_of(reader, graph, slot, 4);
    EspdlValue *values = make(reader, vector.count, sizeof *values);
    *count = length(reader, &vector, values);
    for (int i = 0; i < *count && !reader->failed; i++) {
        Table table = item(reader, &vector, i), type = table_of(reader, &table, VALUE_TYPE), typed = {0};
        EspdlValue *value = &values[i];
        value->name = text_of(reader, &table, VALUE_NAME, "");
        value->exponents = copy_vector(reader, &table, VALUE_EXPONENTS, 8, &value->exponent_count);
        if (scalar(reader, &type, TYPE_TAG, 1) == TYPE_TAG_TENSOR) typed = table_of(reader, &type, TYPE_VALUE);
        value->elem_type = (int)scalar(reader, &typed, TYPED_ELEMENT, 4);
        Table shape = table_of(reader, &typed, TYPED_SHAPE);
        value->shaped = shape.present;
        Vector dims = vector_of(reader, &shape, SHAPE_DIM, 4);
        value->dims = make(reader, dims.count, sizeof *value->dims);
        value->rank = length(reader, &dims, value->dims);
        for (int k = 0; k < value->rank && !reader->failed; k++) {
            Table dimension = item(reader, &dims, k), given = table_of(reader, &dimension, DIMENSION_VALUE);
            value->dims[k] = scalar(reader, &given, DIM_KIND, 1) == DIM_KIND_NUMBER ? scalar(reader, &given, DIM_NUMBER, 8) : -1;
        }
    }
    return values;
}

static void read_attribute_tensor(Reader *reader, const Table *table, Attribute *attribute)
{
    EspdlTensor stored = {0};
    Table inner = table_of(reader, table, ATTRIBUTE_SLOT_T);
    if (inner.present)
        read_tensor(reader, &inner, &stored);
    else
        refuse(reader, "an attribute has no value", table->at);
    if (reader->failed) return;
    if (stored.rank > ESPQ_MAX_RANK) {
        refuse(reader, "a tensor of an attribute has too many dimensions", table->at);
        return;
    }
    Shape shape = shape_of(stored.rank, stored.dims);
    Dtype dtype = dtype_from_onnx(stored.data_type);
    attribute->tensor =
        stored.data_bytes ? tensor_from_data(dtype, &shape, stored.data, reader->error) : tensor_new(dtype, &shape, reader->error);
    if (!attribute->tensor) reader->failed = true;
}

static void read_attribute(Reader *reader, const Table *table, Attribute *attribute)
{
    attribute->name = text_of(reader, table, ATTRIBUTE_SLOT_NAME, "");
    size_t at;
    switch (scalar(reader, table, ATTRIBUTE_SLOT_TYPE, 4)) {
    case ESPDL_INT:
        attribute->kind = ATTRIBUTE_INT;
        attribute->integer = scalar(reader, table, ATTRIBUTE_SLOT_I, 8);
        break;
    case ESPDL_FLOAT:
        attribute->kind = ATTRIBUTE_FLOAT;
        at = field(reader, table, ATTRIBUTE_SLOT_F, 4);
        if (at) memcpy(&attribute->number, reader->data + at, 4);
        break;
    case ESPDL_STRING: {
        attribute->kind = ATTRIBUTE_STRING;
        Vector bytes = vector_of(reader, table, ATTRIBUTE_SLOT_S, 1);
        char *text = make(reader, bytes.count + 1, 1);
        attribute->string = text ? text : "";
        if (!text) return;
        memcpy(text, reader->data + bytes.at, bytes.count);
        if (memchr(text, 0, bytes.count)) refuse(reader, "an attribute's text has a zero byte in it", table->at);
        break;
    }
    case ESPDL_FLOATS:
        attribute->kind = ATTRIBUTE_FLOATS;
        attribute->numbers = copy_vector(reader, table, ATTRIBUTE_SLOT_FLOATS, 4, &attribute->count);
        break;
    case ESPDL_INTS:
        attribute->kind = ATTRIBUTE_INTS;
        attribute->integers = copy_vector(reader, table, ATTRIBUTE_SLOT_INTS, 8, &attribute->count);
        break;
    case ESPDL_STRINGS:
        attribute->kind = ATTRIBUTE_STRINGS;
        attribute->strings = texts_of(reader, table, ATTRIBUTE_SLOT_STRINGS, &attribute->count);
        break;
    case ESPDL_TENSOR:
        attribute->kind = ATTRIBUTE_TENSOR;
        read_attribute_tensor(reader, table, attribute);
        break;
    default: refuse(reader, "an attribute has a type that .espdl files do not use", table->at);
    }
}

static void read_nodes(Reader *reader, const Table *graph)
{
    EspdlModel *model = reader->model;
    Vector vector = vector_of(reader, graph, GRAPH_NODE, 4);
    model->nodes = make(reader, vector.count, sizeof *model->nodes);
    model->node_count = length(reader, &vector, model->nodes);
    for (int i = 0; i < model->node_count && !reader->failed; i++) {
        Table table = item(reader, &vector, i);
        EspdlNode *node = &model->nodes[i];
        node->name = text_of(reader, &table, NODE_NAME, "");
        node->type = text_of(reader, &table, NODE_TYPE, "");
        node->domain = text_of(reader, &table, NODE_DOMAIN, "");
        node->inputs = texts_of(reader, &table, NODE_INPUT, &node->input_count);
        node->outputs = texts_of(reader, &table, NODE_OUTPUT, &node->output_count);
        Vector attributes = vector_of(reader, &table, NODE_ATTRIBUTE, 4);
        node->attributes = make(reader, attributes.count, sizeof *node->attributes);
        node->attribute_count = length(reader, &attributes, node->attributes);
        for (int k = 0; k < node->attribute_count && !reader->failed; k++) {
            Table inner = item(reader, &attributes, k);
            node->attributes[k].name = "";
            read_attribute(reader, &inner, &node->attributes[k]);
        }
    }
}

static void read_model(Reader *reader)
{
    EspdlModel *model = reader->model;
    Table root = table_at(reader, follow(reader, 0)), graph = table_of(reader, &root, MODEL_GRAPH);
    if (!reader->failed && !graph.present) refuse(reader, "there is no graph", 0);
    model->ir_version = (int)scalar(reader, &root, MODEL_IR_VERSION, 4);
    model->model_version = scalar(reader, &root, MODEL_VERSION, 8);
    Vector metadata = vector_of(reader, &root, MODEL_METADATA, 4);
    model->metadata = make(reader, metadata.count, sizeof *model->metadata);
    model->metadata_count = length(reader, &metadata, model->metadata);
    for (int i = 0; i < model->metadata_count && !reader->failed; i++) {
        Table pair = item(reader, &metadata, i);
        model->metadata[i] = (EspdlPair){text_of(reader, &pair, PAIR_KEY, ""), text_of(reader, &pair, PAIR_VALUE, "")};
    }
    model->graph_name = text_of(reader, &graph, GRAPH_NAME, "");
    read_nodes(reader, &graph);
    model->initializers = read_tensors(reader, &graph, GRAPH_INITIALIZER, &model->initializer_count);
    model->inputs = read_values(reader, &graph, GRAPH_INPUT, &model->input_count);
    model->outputs = read_values(reader, &graph, GRAPH_OUTPUT, &model->output_count);
    model->values = read_values(reader, &graph, GRAPH_VALUE_INFO, &model->value_count);
    model->test_inputs = read_tensors(reader, &graph, GRAPH_TEST_INPUTS, &model->test_input_count);
    model->test_outputs = read_tensors(reader, &graph, GRAPH_TEST_OUTPUTS, &model->test_output_count);
}

/* Bytes of the container's header, or 0 after an error. */
static size_t read_header(const uint8_t *bytes, size_t count, const char *where, size_t *length_said, Error *error)
{
    size_t header = count >= 12 && memcmp(bytes, "EDL2", 4) == 0 ? 16 : count >= 12 && memcmp(bytes, "EDL1", 4) == 0 ? 12 : 0;
    if (count >= 4 && memcmp(bytes, "PDL", 3) == 0)
        return fail(error, where, "say which of its models is meant", "this is a package of several .espdl files");
    if (!header || count < header)
        return fail(error, where, "give a file that ESP-PPQ or espq exported", "this is not a .espdl file: it does not start with EDL2");
    uint32_t encrypted, length_word;
    memcpy(&encrypted, bytes + 4, 4);
    memcpy(&length_word, bytes + 8, 4);
    if (encrypted == 1)
        return fail(error, where, "export it without encrypt_data; only the chip that has the key can read it", "the file is encrypted");
    if (encrypted) return fail(error, where, damaged, "the second word of the file is %u, 0 or 1 is possible", encrypted);
    if (length_word > count - header)
        return fail(error, where, "the file was cut: copy or export it again",
                    "the file says that %u bytes follow its header, but only %zu do", length_word, count - header);
    *length_said = length_word;
    return header;
}

EspdlModel *espdl_parse(const uint8_t *bytes, size_t count, const char *where, Error *error)
{
    size_t length_said = 0, header = read_header(bytes, count, where, &length_said, error);
    if (!header) return NULL;
    EspdlModel *model = memory_new(sizeof *model);
    if (model) model->file = memory_new_aligned(count + 16);
    if (!model || !model->file) {
        espdl_model_free(model);
        fail_memory(error, count);
        return NULL;
    }
    memcpy(model->container, bytes, 4);
    model->file_bytes = count;
    model->header_length = length_said;
    memcpy(model->file + 16 - header, bytes, count);
    memset(model->file + 16 - header + count, 0, header);
    Reader reader = {
        .model = model, .data = model->file + 16, .size = count - header, .budget = 64 * count + 65536, .where = where, .error = error};
    read_model(&reader);
    if (!reader.failed) return model;
    espdl_model_free(model);
    return NULL;
}

EspdlModel *espdl_load(const char *path, Error *error)
{
    uint8_t *bytes = NULL;
    size_t count = 0;
    if (!file_read(path, &bytes, &count, error)) return NULL;
    EspdlModel *model = espdl_parse(bytes, count, path, error);
    memory_free(bytes);
    return model;
}

void espdl_model_free(EspdlModel *model)
{
    if (!model) return;
    for (int i = 0; i < model->node_count; i++) {
        for (int k = 0; k < model->nodes[i].attribute_count; k++)
            tensor_release(model->nodes[i].attributes[k].tensor);
    }
    arena_free(&model->arena);
    memory_free(model->file);
    memory_free(model);
}
