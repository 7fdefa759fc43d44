#include "chip/window.h"

#include "chip/ends.h"

#define LARGEST_STEP 65536 /* of a kernel, stride, dilation or pad: sums of them stay far from the end of int */
#define LARGEST_IMAGE (1 << 24)

/* An entry a spatial axis; absent: `otherwise`. */
static bool read_steps(const ChipNode *node, const char *name, int axes, int64_t least, int64_t otherwise, int64_t *out, Error *error)
{
    for (int i = 0; i < axes; i++)
        out[i] = otherwise;
    const Attribute *attribute = node_attribute(node->node, name);
    if (!attribute || (attribute->kind == ATTRIBUTE_INTS && attribute->count == 0)) return true;
    if (attribute->kind != ATTRIBUTE_INTS || attribute->count < axes)
        return refuse(node, error, "give one number an axis of the image", "%s does not have %d numbers", name, axes);
    for (int i = 0; i < axes; i++) {
        out[i] = attribute->integers[i];
        if (out[i] < least || out[i] > LARGEST_STEP)
            return refuse(node, error, "export the model again", "%s holds %lld", name, (long long)out[i]);
    }
    return true;
}

/* ONNX's order: all beginnings, then all ends. */
static bool read_pads(const ChipNode *node, int axes, int64_t *begin, int64_t *end, Error *error)
{
    int64_t pads[4] = {0};
    int count = node_integers(node->node, "pads", pads, 4);
    if (count > 0 && count != 2 * axes)
        return refuse(node, error, "give two numbers an axis of the image", "pads has %d numbers for %d axes", count, axes);
    for (int i = 0; i < axes; i++) {
        begin[i] = pads[i];
        end[i] = pads[axes + i];
        if (begin[i] < 0 || end[i] < 0 || begin[i] > LARGEST_STEP || end[i] > LARGEST_STEP)
            return refuse(node, error, "export the model again", "pads holds %lld and %lld", (long long)begin[i], (long long)end[i]);
    }
    return true;
}

bool window_read(const ChipNode *node, const int64_t *kernel, bool dilated, Window *window, Error *error)
{
    const Shape *shape = &node->inputs[0].shape;
    int axes = shape->rank - 2;
    int64_t stride[2], dilation[2] = {1, 1}, begin[2], end[2];
    if (axes != 1 && axes != 2)
        return refuse(node, error, "the runtime takes [N, H, W, C] or [N, W, C]", "an image of %d axes", shape->rank);
    if (!read_steps(node, "strides", axes, 1, 1, stride, error)) return false;
    if (dilated && !read_steps(node, "dilations", axes, 1, 1, dilation, error)) return false;
    if (!read_pads(node, axes, begin, end, error)) return false;
    for (int axis = 0; axis < shape->rank; axis++) {
        if (shape->dims[axis] < 1 || shape->dims[axis] > LARGEST_IMAGE)
            return refuse(node, error, "give the model an input of another shape", "an image with %lld along axis %d",
                          (long long)shape->dims[axis], axis);
    }
    *window = (Window){.samples = (int)shape->dims[0],
                       .channels = (int)shape->dims[shape->rank - 1],
                       .in = {1, 1},
                       .out = {1, 1},
                       .kernel = {1, 1},
                       .stride = {1, 1},
                       .dilation = {1, 1}};
    for (int i = 0; i < axes; i++) {
        int at = axes == 1 ? 1 : i;
        if (kernel[i] < 1 || kernel[i] > LARGEST_STEP)
            return refuse(node, error, "export the model again", "a window of %lld along axis %d", (long long)kernel[i], i + 1);
        int64_t in = shape->dims[1 + i], room = in + begin[i] + end[i] - dilation[i] * (kernel[i] - 1) - 1;
        if (room < 0)
            return refuse(node, error, "give the model a larger input", "the window reaches over %lld along axis %d, the image has %lld",
                          (long long)(dilation[i] * (kernel[i] - 1) + 1), i + 1, (long long)(in + begin[i] + end[i]));
        window->in[at] = (int)in;
        window->out[at] = (int)(room / stride[i]) + 1;
        window->kernel[at] = (int)kernel[i];
        window->stride[at] = (int)stride[i];
        window->dilation[at] = (int)dilation[i];
        window->pad[at] = (int)begin[i];
    }
    return true;
}

Shape window_shape(const ChipNode *node, const Window *window, int64_t channels)
{
    Shape shape = node->inputs[0].shape;
    if (shape.rank == 4) shape.dims[1] = window->out[0];
    shape.dims[shape.rank - 2] = window->out[1];
    shape.dims[shape.rank - 1] = channels;
    return shape;
}
