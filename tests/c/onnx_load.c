/* The importer on models made here, byte by byte where it matters. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "check.h"
#include "onnx.pb-c.h"
#include "onnx/onnx.h"
#include "text_graph.h"

/* protobuf-c's strings are not const; nobody writes to them. */
static char *text(const char *literal)
{
    union {
        const char *in;
        char *out;
    } cast = {literal};
    return cast.out;
}

/* ---- a model to spoil ---- */

typedef struct Bytes {
    uint8_t *data;
    size_t count;
} Bytes;

static Bytes saved(Graph *graph)
{
    Bytes bytes = {0};
    char path[] = "/tmp/espq_onnx_XXXXXX";
    Error error = {0};
    int file = mkstemp(path);
    if (file >= 0) close(file);
    bool ok = graph && onnx_save(graph, path, &error) && file_read(path, &bytes.data, &bytes.count, &error);
    CHECK(ok, "save: %s %s", error.where, error.what);
    unlink(path);
    return bytes;
}

static Bytes small_model(void)
{
    Graph *graph = text_graph("x[1,3,6,6]; c = Conv(x, #w[4,3,3,3], #b[4]) pads=[1,1,1,1]; r = Relu(c); p = MaxPool(r) kernel_shape=[2,2] "
                              "strides=[2,2]; f = Flatten(p); "
                              "y = Gemm(f, #u[2,36]) transB=1; > y, r");
    Bytes bytes = saved(graph);
    graph_free(graph);
    return bytes;
}

/* The model as it is unpacked, to be changed and packed again by `change`. */
static Graph *load_changed(Bytes bytes, void (*change)(Onnx__ModelProto *model), const OnnxOptions *options, Error *error)
{
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, bytes.count, bytes.data);
    if (!model) return NULL;
    /* what `change` puts in is static: taken out again before the rest is freed */
    Onnx__ModelProto copy = *model;
    Onnx__GraphProto graph = *model->graph;
    copy.graph = &graph;
    Onnx__NodeProto *nodes[16];
    Onnx__NodeProto node_copies[16];
    for (size_t i = 0; i < graph.n_node && i < 16; i++) {
        node_copies[i] = *graph.node[i];
        nodes[i] = &node_copies[i];
    }
    graph.node = nodes;
    Onnx__TensorProto *tensors[16], tensor_copies[16];
    for (size_t i = 0; i < graph.n_initializer && i < 16; i++) {
        tensor_copies[i] = *graph.initializer[i];
        tensors[i] = &tensor_copies[i];
    }
    graph.initializer = tensors;
    change(&copy);
    size_t count = onnx__model_proto__get_packed_size(&copy);
    uint8_t *packed = malloc(count + 1);
    onnx__model_proto__pack(&copy, packed);
    onnx__model_proto__free_unpacked(model, NULL);
    Graph *loaded = onnx_load_bytes(packed, count, NULL, options, error);
    free(packed);
    return loaded;
}

static void refused(Bytes bytes, void (*change)(Onnx__ModelProto *model), const char *because)
{
    Error error = {0};
    Graph *graph = load_changed(bytes, change, NULL, &error);
    CHECK(!graph && strstr(error.what, because), "expected \"%s\", got \"%s\"", because, graph ? "a graph" : error.what);
    graph_free(graph);
}

/* ---- saving and loading ---- */

/* Promise: what is saved loads again as the same graph, constants bit for bit. */
TEST(saved_graph_loads_again)
{
    Error error = {0};
    Text a = {0}, b = {0};
    Graph *graph = text_graph("x[1,3,6,6]; c = Conv(x, #w[4,3,3,3]) pads=[1,1,1,1] group=1; r = LeakyRelu(c) alpha=0.25; q = Resize(r, _, "
                              "_, #s{1,4,12,12}) mode=nearest; > q, c");
    Bytes bytes = saved(graph);
    Graph *loaded = onnx_load_bytes(bytes.data, bytes.count, NULL, NULL, &error);
    REQUIRE(loaded && graph_infer(graph, &error) && graph_infer(loaded, &error), "%s", error.what);
    graph_print(graph, &a);
    graph_print(loaded, &b);
    CHECK(strcmp(a.data, b.data) == 0, "before:\n%s\nafter:\n%s", a.data, b.data);
    CHECK(tensor_equal(graph_value(graph, "w")->constant, graph_value(loaded, "w")->constant), "weights changed");
    text_free(&a);
    text_free(&b);
    memory_free(bytes.data);
    graph_free(graph);
    graph_free(loaded);
}

/* ---- hostile bytes ---- */

/* Promise: a model cut short anywhere, or with any byte changed, is refused or is a legal graph; nothing leaks. */
TEST(damaged_models_do_no_harm)
{
    Bytes bytes = small_model();
    long before = fault_blocks();
    static const uint8_t masks[] = {0x01, 0x80, 0xff};
    for (size_t i = 0; i < bytes.count; i++) {
        Error error = {0};
        Graph *graph = onnx_load_bytes(bytes.data, i, NULL, NULL, &error);
        CHECK(graph || error.code != ERROR_NONE, "cut at %zu: no error", i);
        CHECK(!graph || graph_check(graph, &error), "cut at %zu: %s", i, error.what);
        graph_free(graph);
        if (i > 400 && i % 7) continue; /* most of what lies further on are weights */
        for (size_t k = 0; k < sizeof masks; k++) {
            Error again = {0};
            bytes.data[i] ^= masks[k];
            graph = onnx_load_bytes(bytes.data, bytes.count, NULL, NULL, &again);
            CHECK(!graph || graph_check(graph, &again), "byte %zu: %s", i, again.what);
            graph_free(graph);
            bytes.data[i] ^= masks[k];
        }
    }
    CHECK(fault_blocks() == before, "%ld blocks leak", fault_blocks() - before);
    memory_free(bytes.data);
}

/* Promise: whatever allocation fails during import, the answer is a memory error and nothing leaks. */
TEST(import_survives_every_failed_allocation)
{
    Bytes bytes = small_model();
    for (int extent = FAULT_ONCE; extent <= FAULT_FROM; extent++) {
        for (long n = 0; n < 5000; n++) {
            long before = fault_blocks();
            Error error = {0};
            fault_arm(FAULT_ALLOCATION, (FaultExtent)extent, n);
            Graph *graph = onnx_load_bytes(bytes.data, bytes.count, "model.onnx", NULL, &error);
            bool ok = graph != NULL;
            graph_free(graph);
            bool hit = fault_disarm();
            CHECK(fault_blocks() == before, "allocation %ld: %ld blocks leak", n, fault_blocks() - before);
            CHECK(ok || error.code == ERROR_MEMORY, "allocation %ld: %s", n, error.what);
            if (!hit) break;
        }
    }
    memory_free(bytes.data);
}

static void absurd_shape(Onnx__ModelProto *model)
{
    static int64_t dims[] = {(int64_t)1 << 40, (int64_t)1 << 40, 3, 3};
    model->graph->initializer[0]->dims = dims;
}
static void negative_shape(Onnx__ModelProto *model)
{
    static int64_t dims[] = {-4, 3, 3, 3};
    model->graph->initializer[0]->dims = dims;
}
static void larger_shape(Onnx__ModelProto *model)
{
    static int64_t dims[] = {400000, 3, 3, 3};
    model->graph->initializer[0]->dims = dims;
}
static void strings(Onnx__ModelProto *model)
{
    model->graph->initializer[0]->data_type = 8;
}
static void two_initializers(Onnx__ModelProto *model)
{
    model->graph->initializer[1]->name = model->graph->initializer[0]->name;
}
static void cycle(Onnx__ModelProto *model)
{
    static char *inputs[1];
    inputs[0] = text("y");
    model->graph->node[1]->input = inputs;
    model->graph->node[1]->n_input = 1;
}
static void written_twice(Onnx__ModelProto *model)
{
    model->graph->node[1]->output = model->graph->node[0]->output;
}
static void from_nowhere(Onnx__ModelProto *model)
{
    static char *inputs[1];
    inputs[0] = text("nobody");
    model->graph->node[1]->input = inputs;
}
static void old_opset(Onnx__ModelProto *model)
{
    model->opset_import[0]->version = 6;
}
static void new_opset(Onnx__ModelProto *model)
{
    model->opset_import[0]->version = 22;
}
static void no_opset(Onnx__ModelProto *model)
{
    model->n_opset_import = 0;
}
static void subgraph(Onnx__ModelProto *model)
{
    static Onnx__AttributeProto attribute = ONNX__ATTRIBUTE_PROTO__INIT;
    static Onnx__AttributeProto *attributes[] = {&attribute};
    attribute.name = text("body");
    attribute.has_g = true;
    attribute.g = (ProtobufCBinaryData){2, (uint8_t *)text("\x0a")};
    model->graph->node[1]->op_type = text("Loop");
    model->graph->node[1]->attribute = attributes;
    model->graph->node[1]->n_attribute = 1;
    model->graph->node[2]->op_type = text("Frobnicate");
}
static void function_call(Onnx__ModelProto *model)
{
    static Onnx__FunctionProto function = ONNX__FUNCTION_PROTO__INIT;
    static Onnx__FunctionProto *functions[] = {&function};
    function.name = text("Relu");
    model->functions = functions;
    model->n_functions = 1;
}

/* Promise: each kind of nonsense is refused with its reason, before anything is allocated from a size that the file claims. */
TEST(nonsense_is_refused_by_its_reason)
{
    static const struct {
        void (*change)(Onnx__ModelProto *);
        const char *because;
    } cases[] = {{absurd_shape, "absurdly large"},
                 {negative_shape, "dimension 0 is -4"},
                 {larger_shape, "its data have"},
                 {strings, "STRING"},
                 {two_initializers, "two initializers"},
                 {cycle, "cycle"},
                 {written_twice, "already written by another node"},
                 {from_nowhere, "nobody"},
                 {old_opset, "operator set is 6"},
                 {new_opset, "operator set is 22"},
                 {no_opset, "opset_import"},
                 {function_call, "function of the model"},
                 {subgraph, "control flow"},
                 {subgraph, "Frobnicate"}};
    Bytes bytes = small_model();
    long before = fault_blocks();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused(bytes, cases[i].change, cases[i].because);
    CHECK(fault_blocks() == before, "%ld blocks leak", fault_blocks() - before);
    memory_free(bytes.data);
}

/* Promise: 16,000 nested subgraphs are one attribute that stays bytes, not 16,000 calls. */
TEST(nested_graphs_do_not_nest_the_reader)
{
    enum { DEPTH = 49999 }; /* graph, then node, attribute, g … in turns */
    Error error = {0};
    size_t size = (size_t)DEPTH * 8, at = size;
    uint8_t *bytes = malloc(size);
    size_t inner = 0;
    static const uint8_t tags[] = {0x32, 0x2a, 0x0a}; /* AttributeProto.g, NodeProto.attribute, GraphProto.node: from the inside out */
    for (int i = 0; i < DEPTH && at > 8; i++) {
        size_t length = inner;
        uint8_t prefix[8];
        int used = 0;
        prefix[used++] = i + 1 == DEPTH ? 0x3a : tags[i % 3];
        do {
            prefix[used++] = (uint8_t)((length & 127) | (length > 127 ? 128 : 0));
            length >>= 7;
        } while (length);
        at -= (size_t)used;
        memcpy(bytes + at, prefix, (size_t)used);
        inner += (size_t)used;
    }
    Graph *graph = onnx_load_bytes(bytes + at, inner, NULL, NULL, &error);
    CHECK(!graph && error.code == ERROR_INPUT, "taken");
    graph_free(graph);
    free(bytes);
}

/* ---- names, dtypes, shapes ---- */

static void unnamed(Onnx__ModelProto *model)
{
    model->graph->node[0]->name = NULL;
    model->graph->node[1]->name = text("generated_name_0");
    model->graph->node[2]->name = text("same");
    model->graph->node[3]->name = text("same");
    model->graph->node[4]->name = text("");
}

/* Promise: nodes without a name and with equal names get names that clash with none, the same on each load. */
TEST(names_are_made_up_without_clashes)
{
    Bytes bytes = small_model();
    for (int round = 0; round < 2; round++) {
        Error error = {0};
        static const char *const expected[] = {"generated_name_1", "generated_name_0", "same", "same_1", "generated_name_2"};
        Graph *graph = load_changed(bytes, unnamed, NULL, &error);
        REQUIRE(graph && graph->node_count == 5, "%s", error.what);
        for (int i = 0; i < 5; i++)
            CHECK(strcmp(graph->nodes[i]->name, expected[i]) == 0, "node %d is %s", i, graph->nodes[i]->name);
        graph_free(graph);
    }
    memory_free(bytes.data);
}

static void symbolic(Onnx__ModelProto *model)
{
    Onnx__TensorShapeProto *shape = model->graph->input[0]->type->tensor_type->shape;
    shape->dim[0]->has_dim_value = false;
    shape->dim[0]->dim_param = text("N");
    shape->dim[3]->has_dim_value = false;
    shape->dim[3]->dim_param = text("W");
}

static Graph *load_symbolic(Bytes bytes, const InputShape *given, Error *error)
{
    OnnxOptions options = {given, given ? 1 : 0};
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, bytes.count, bytes.data);
    static uint8_t packed[1 << 16];
    Onnx__TensorShapeProto *shape = model->graph->input[0]->type->tensor_type->shape;
    symbolic(model);
    size_t count = onnx__model_proto__pack(model, packed);
    shape->dim[0]->dim_param = shape->dim[3]->dim_param = NULL;
    onnx__model_proto__free_unpacked(model, NULL);
    return onnx_load_bytes(packed, count, NULL, &options, error);
}

/* Promise: a symbolic dimension is fixed by position or name; left open it is an error that says input, dimension and what to write. */
TEST(symbolic_dimensions_are_fixed_by_input_shape)
{
    Bytes bytes = small_model();
    Error error = {0};
    InputShape by_position = {NULL, {4, {1, 3, 6, 6}}}, by_name = {"x", {4, {2, 3, 6, 6}}}, wrong = {"x", {4, {1, 4, 6, 6}}},
               unknown = {"z", {4, {1, 3, 6, 6}}};
    Graph *graph = load_symbolic(bytes, NULL, &error);
    CHECK(!graph && strstr(error.what, "dimension 0 (N)") && strstr(error.cure, "[\"x\"] = {1, 3, 6, <W>}"), "%s | %s", error.what,
          error.cure);
    graph_free(graph);
    graph = load_symbolic(bytes, &by_position, &error);
    CHECK(graph && graph->inputs[0]->shape.dims[3] == 6, "%s", error.what);
    graph_free(graph);
    graph = load_symbolic(bytes, &by_name, &error);
    CHECK(graph && graph->inputs[0]->shape.dims[0] == 2, "%s", error.what);
    graph_free(graph);
    graph = load_symbolic(bytes, &wrong, &error);
    CHECK(!graph && strstr(error.what, "contradicts"), "%s", error.what);
    graph_free(graph);
    graph = load_symbolic(bytes, &unknown, &error);
    CHECK(!graph && strstr(error.what, "has not"), "%s", error.what);
    graph_free(graph);
    memory_free(bytes.data);
}

static void typed_data(Onnx__ModelProto *model)
{
    static int32_t halves[] = {0x3c00, 0x4000, 0x4200, 0x4400};
    static double doubles[72] = {0.5};
    Onnx__TensorProto *bias = NULL, *dense = NULL;
    for (size_t i = 0; i < model->graph->n_initializer; i++) {
        if (strcmp(model->graph->initializer[i]->name, "b") == 0) bias = model->graph->initializer[i];
        if (strcmp(model->graph->initializer[i]->name, "u") == 0) dense = model->graph->initializer[i];
    }
    bias->has_raw_data = false;
    bias->data_type = 10; /* float16, as bits in int32_data */
    bias->n_int32_data = 4;
    bias->int32_data = halves;
    dense->has_raw_data = false;
    dense->data_type = 11;
    dense->n_double_data = 72;
    dense->double_data = doubles;
}

/* Promise: float16 and double weights in their typed fields are float32 here. */
TEST(all_floats_become_float32)
{
    Bytes bytes = small_model();
    Error error = {0};
    Graph *graph = load_changed(bytes, typed_data, NULL, &error);
    REQUIRE(graph, "%s", error.what);
    const Tensor *bias = graph_value(graph, "b")->constant, *dense = graph_value(graph, "u")->constant;
    CHECK(bias->dtype == DTYPE_FLOAT32 && tensor_floats(bias)[3] == 4.0f && tensor_floats(bias)[0] == 1.0f, "float16 bias");
    CHECK(dense->dtype == DTYPE_FLOAT32 && tensor_floats(dense)[0] == 0.5f && tensor_floats(dense)[1] == 0, "double weight");
    graph_free(graph);
    memory_free(bytes.data);
}
