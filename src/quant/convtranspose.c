/* The pass `convtranspose` (QUANT §2.9): a transposed convolution is a convolution with the flipped kernel over its input with zeros
 * between the elements. */
#include <string.h>

#include "base/memory.h"
#include "graph/operator.h"
#include "quant/quantize.h"

enum { AXES = ESPQ_MAX_RANK - 2 };

typedef struct Transposed {
    bool exact; /* false: as the reference, which forgets dilations, and output_padding without strides (QUANT D21) */
    int axes;
    int64_t group, kernel[AXES], stride[AXES], dilation[AXES], padding[AXES], begin[AXES], end[AXES];
} Transposed;

static bool read_list(const Node *node, const char *name, int axes, int64_t otherwise, int64_t *out, Error *error)
{
    char where[256];
    int64_t values[AXES];
    int count = node_integers(node, name, values, AXES);
    for (int i = 0; i < axes; i++)
        out[i] = count > i ? values[i] : otherwise;
    if (count < 0 || count >= axes) return true;
    return fail(error, node_where(node, where), "repair the model", "attribute %s has %d numbers for %d axes", name, count, axes);
}

/* ONNX's rule for auto_pad and output_shape: pads follow from the wanted size. */
static void pads_from_sizes(const Node *node, Transposed *t, const int64_t *wanted)
{
    const char *auto_pad = node_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(auto_pad, "SAME_UPPER") == 0;
    for (int i = 0; i < t->axes; i++) {
        int64_t size = node->inputs[0]->shape.dims[i + 2];
        int64_t total = t->stride[i] * (size - 1) + t->padding[i] + t->dilation[i] * (t->kernel[i] - 1) + 1 - wanted[i];
        if (total < 0) t->padding[i] -= total, total = 0;
        t->begin[i] = upper ? total / 2 : total - total / 2;
        t->end[i] = total - t->begin[i];
    }
}

static bool read_transposed(const Node *node, Transposed *t, Error *error)
{
    char where[256];
    const Value *weight = node->input_count > 1 ? node->inputs[1] : NULL;
    if (!weight || !weight->constant || weight->constant->dtype != DTYPE_FLOAT32 || weight->constant->shape.rank < 3 || !node->inputs[0] ||
        !node->inputs[0]->shaped) {
        return fail(error, node_where(node, where), "make the weight an initializer",
                    "the weight must be a float32 constant of rank 3 or more");
    }
    const Shape *shape = &weight->constant->shape;
    t->axes = shape->rank - 2;
    t->group = node_integer(node, "group", 1);
    if (t->group < 1 || shape->dims[0] % t->group)
        return fail(error, node_where(node, where), "repair the model", "%lld groups do not divide %lld channels", (long long)t->group,
                    (long long)shape->dims[0]);
    for (int i = 0; i < t->axes; i++)
        t->kernel[i] = shape->dims[i + 2];
    if (!read_list(node, "strides", t->axes, 1, t->stride, error) || !read_list(node, "dilations", t->axes, 1, t->dilation, error) ||
        !read_list(node, "output_padding", t->axes, 0, t->padding, error))
        return false;

    int64_t pads[2 * AXES], wanted[2 + AXES];
    int count = node_integers(node, "pads", pads, 2 * AXES);
    for (int i = 0; i < t->axes; i++) {
        t->begin[i] = count == 2 * t->axes || count == t->axes ? pads[i] : 0;
        t->end[i] = count == 2 * t->axes ? pads[i + t->axes] : t->begin[i];
    }
    const char *auto_pad = node_string(node, "auto_pad", "NOTSET");
    int sizes = node_integers(node, "output_shape", wanted, 2 + AXES);
    if (sizes >= t->axes) { /* with or without batch and channels in front */
        pads_from_sizes(node, t, wanted + (sizes > t->axes ? sizes - t->axes : 0));
    } else if (strncmp(auto_pad, "SAME", 4) == 0) {
        for (int i = 0; i < t->axes; i++)
            wanted[i] = node->inputs[0]->shape.dims[i + 2] * t->stride[i];
        pads_from_sizes(node, t, wanted);
    } else if (strcmp(auto_pad, "VALID") == 0) {
        memset(t->begin, 0, sizeof t->begin);
        memset(t->end, 0, sizeof t->end);
    }
    return true;
}

/* [Cin, Cout/g, k…] → [Cout, Cin/g, k…], kernels turned around. */
static Tensor *turned_weight(const Tensor *weight, int64_t group, Error *error)
{
    int64_t in = weight->shape.dims[0] / group, out = weight->shape.dims[1], area = tensor_count(weight) / (weight->shape.dims[0] * out);
    Shape shape = weight->shape;
    shape.dims[0] = out * group;
    shape.dims[1] = in;
    Tensor *turned = tensor_new(DTYPE_FLOAT32, &shape, error);
    if (!turned) return NULL;
    const float *from = tensor_floats(weight);
    float *to = tensor_floats(turned);
    for (int64_t g = 0; g < group; g++) {
        for (int64_t o = 0; o < out; o++) {
            for (int64_t i = 0; i < in; i++) {
                for (int64_t k = 0; k < area; k++)
                    to[((g * out + o) * in + i) * area + k] = from[((g * in + i) * out + o) * area + area - 1 - k];
            }
        }
    }
    return turned;
}

static bool replace_weight(Graph *graph, Node *node, int64_t group, Error *error)
{
    Tensor *turned = turned_weight(node->inputs[1]->constant, group, error);
    if (!turned) return false;
    bool ok;
    if (node->inputs[1]->use_count > 1) {
        Value *own = graph_add_constant(graph, NULL, turned, error);
        ok = own && node_set_input(graph, node, 1, own, error);
    } else {
        ok = value_set_constant(graph, node->inputs[1], turned) || fail_memory(error, sizeof *turned);
    }
    tensor_release(turned);
    return ok;
}

static bool insert_zeros(Graph *graph, Node *node, const Transposed *t, Error *error)
{
    Node *zeros = graph_add_node(graph, "InsertZeros", NULL, error);
    Value *made = zeros ? graph_add_value(graph, NULL, error) : NULL;
    if (!made) return false;
    zeros->platform = node->platform;
    made->dtype = DTYPE_FLOAT32;
    if (!node_set_integers(graph, zeros, "stride", t->stride, t->axes) ||
        !node_set_integers(graph, zeros, "output_padding", t->padding, t->axes)) {
        return fail_memory(error, sizeof *t);
    }
    return graph_insert_before_use(graph, zeros, node->inputs[0], (Use){node, 0}, made, error);
}

static int64_t reach_of(const Transposed *t, int axis)
{
    return (t->exact ? t->dilation[axis] : 1) * (t->kernel[axis] - 1);
}

static bool become_convolution(Graph *graph, Node *node, const Transposed *t, Error *error)
{
    int64_t ones[AXES], pads[2 * AXES];
    bool strided = false;
    for (int i = 0; i < t->axes; i++)
        strided = strided || t->stride[i] != 1;
    for (int i = 0; i < t->axes; i++) {
        int64_t reach = reach_of(t, i);
        ones[i] = 1;
        pads[i] = reach - t->begin[i];
        pads[i + t->axes] = reach - t->end[i] + (strided || !t->exact ? 0 : t->padding[i]);
    }
    while (node->attribute_count)
        node_remove_attribute(node, node->attributes[0].name);
    node->type = "Conv";
    node->op = operator_find("Conv");
    if (!node_set_integers(graph, node, "strides", ones, t->axes) || !node_set_integers(graph, node, "pads", pads, 2 * t->axes) ||
        !node_set_integers(graph, node, "dilations", t->dilation, t->axes) || !node_set_integer(graph, node, "group", t->group) ||
        !node_set_integers(graph, node, "kernel_shape", t->kernel, t->axes)) {
        return fail_memory(error, sizeof *t);
    }
    return !strided || insert_zeros(graph, node, t, error);
}

/* More padding than the kernel reaches would be a negative pad of the convolution, which the chip has not. */
static bool pads_are_reached(const Transposed *t)
{
    for (int i = 0; i < t->axes; i++) {
        int64_t reach = reach_of(t, i);
        if (t->begin[i] > reach || t->end[i] > reach) return false;
    }
    return true;
}

bool pass_convtranspose(Graph *graph, PassContext *context, Error *error)
{
    int changes = 0, count = graph->node_count; /* nodes made here are appended */
    for (int i = 0; i < count; i++) {
        Node *node = graph->nodes[i];
        Transposed t = {.exact = context->setting->switches.convtranspose_exact};
        if (strcmp(node->type, "ConvTranspose") != 0) continue;
        if (!read_transposed(node, &t, error)) return false;
        if (!pads_are_reached(&t)) {
            graph_note(graph, "%s keeps its transposed form, which the chip has no operator for: it pads more than its kernel reaches",
                       node->name);
            continue;
        }
        if (!replace_weight(graph, node, t.group, error) || !become_convolution(graph, node, &t, error)) return false;
        changes++;
    }
    return !changes || graph_infer(graph, error);
}
