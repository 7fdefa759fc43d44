/* One spelling for opset 7 … 21, as far as the meaning of a node depends on the opset it was written in. What the file says stays as it
 * is wherever a row understands it (axes and split as attribute or input, Pad, Slice and Clip in both forms): which attributes a node
 * has shows in the reference's files, so nothing is respelled for beauty (QUANT §2.3, EXPORT §2.1). */
#include "onnx/read.h"

#include <string.h>

#include "graph/operator.h"

static bool set_integer_if_absent(Graph *graph, Node *node, const char *name, int64_t value, Error *error)
{
    return node_attribute(node, name) || node_set_integer(graph, node, name, value) || fail_memory(error, 0);
}

static bool set_string_if_absent(Graph *graph, Node *node, const char *name, const char *value, Error *error)
{
    return node_attribute(node, name) || node_set_string(graph, node, name, value) || fail_memory(error, 0);
}

/* Before opset 13 the axis is 1 when it is not said. (What "axis" means on more than two dimensions is settled in simplify, where ranks are known.) */
static bool old_softmax(Graph *graph, Node *node, Error *error)
{
    return node->opset >= 13 || set_integer_if_absent(graph, node, "axis", 1, error);
}

/* Everything reads keepdims; the reference stops where it is not written out. */
static bool reduce(Graph *graph, Node *node, Error *error)
{
    return set_integer_if_absent(graph, node, "keepdims", 1, error);
}

/* The chip has one float; the importer made all others into it. */
static bool cast(Graph *graph, Node *node, Error *error)
{
    int64_t to = node_integer(node, "to", 0);
    if (to != ONNX_FLOAT16 && to != ONNX_DOUBLE && to != ONNX_BFLOAT16) return true;
    return node_set_integer(graph, node, "to", ONNX_FLOAT) || fail_memory(error, 0);
}

static bool constant_input(Graph *graph, Node *node, int index, Tensor *constant, Error *error)
{
    if (!constant) return false;
    Value *value = graph_add_constant(graph, NULL, constant, error);
    tensor_release(constant);
    return value && node_insert_input(graph, node, index, value, error);
}

/* Upsample (7, 9) and the first Resize (10) stretch from the corner: "asymmetric", and nearest means the one before. */
static bool upsample(Graph *graph, Node *node, Error *error)
{
    char where[256];
    const Attribute *scales = node_attribute(node, "scales");
    if (scales) {
        if (scales->kind != ATTRIBUTE_FLOATS)
            return fail(error, node_where(node, where), "export the model again", "its attribute scales is no list of numbers");
        Shape shape = {.rank = 1, .dims = {scales->count}};
        if (!constant_input(graph, node, node->input_count, tensor_from_data(DTYPE_FLOAT32, &shape, scales->numbers, error), error))
            return false;
        node_remove_attribute(node, "scales");
    }
    const char *mode = node_string(node, "mode", "nearest");
    bool is_nearest = strcmp(mode, "nearest") == 0;
    node->type = "Resize";
    node->op = operator_find("Resize");
    if (node->input_count == 2 && !node_insert_input(graph, node, 1, NULL, error)) return false; /* the roi, left out */
    node_remove_attribute(node, "mode"); /* in the order in which exporters write them */
    if (!set_string_if_absent(graph, node, "coordinate_transformation_mode", "asymmetric", error)) return false;
    if (!node_set_string(graph, node, "mode", strcmp(mode, "bilinear") == 0 ? "linear" : mode)) return fail_memory(error, 0);
    return !is_nearest || set_string_if_absent(graph, node, "nearest_mode", "floor", error);
}

static bool old_resize(Graph *graph, Node *node, Error *error)
{
    return node->opset > 10 || upsample(graph, node, error);
}

/* Opset 9 has the count as an attribute. */
static bool old_topk(Graph *graph, Node *node, Error *error)
{
    const Attribute *k = node_attribute(node, "k");
    if (!k || k->kind != ATTRIBUTE_INT || node->input_count != 1) return true;
    if (!constant_input(graph, node, 1, tensor_from_integers(&k->integer, 1, error), error)) return false;
    node_remove_attribute(node, "k");
    return true;
}

/* Opset 7 and 8 may normalise every element by itself; nothing here does. Outputs behind the first exist in training only. */
static bool batch_normalization(Graph *graph, Node *node, Error *error)
{
    char where[256];
    (void)graph;
    if (node_integer(node, "spatial", 1) != 1)
        return fail(error, node_where(node, where), "train it with statistics for each channel",
                    "spatial=0 (statistics for each element) is not supported");
    if (node_integer(node, "training_mode", 0) != 0)
        return fail(error, node_where(node, where), "call model.eval() before the export", "the model was exported in training mode");
    node_remove_attribute(node, "spatial");
    return true;
}

typedef struct Respelling {
    const char *type;
    bool (*apply)(Graph *graph, Node *node, Error *error);
} Respelling;

static const Respelling respellings[] = {
    {"BatchNormalization", batch_normalization},
    {"Cast", cast},
    {"Hardmax", old_softmax},
    {"LogSoftmax", old_softmax},
    {"ReduceL1", reduce},
    {"ReduceL2", reduce},
    {"ReduceLogSum", reduce},
    {"ReduceLogSumExp", reduce},
    {"ReduceMax", reduce},
    {"ReduceMean", reduce},
    {"ReduceMin", reduce},
    {"ReduceProd", reduce},
    {"ReduceSum", reduce},
    {"ReduceSumSquare", reduce},
    {"Resize", old_resize},
    {"Softmax", old_softmax},
    {"TopK", old_topk},
    {"Upsample", upsample},
};

bool onnx_make_canonical(Reading *reading, Error *error)
{
    Graph *graph = reading->graph;
    for (int i = 0; i < graph->node_count; i++) {
        Node *node = graph->nodes[i];
        if (node->domain[0]) continue;
        for (size_t k = 0; k < sizeof respellings / sizeof respellings[0]; k++) {
            if (strcmp(node->type, respellings[k].type) != 0) continue;
            if (!respellings[k].apply(graph, node, error)) return false;
            break;
        }
    }
    return true;
}
