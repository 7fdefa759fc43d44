#include "ops/window.h"

#include <string.h>

#include "ops/common.h"

static const char cure_attribute[] = "repair the attribute in the model";

static bool is_same(const char *auto_pad)
{
    return strcmp(auto_pad, "SAME_UPPER") == 0 || strcmp(auto_pad, "SAME_LOWER") == 0;
}

static bool read_positive(const Node *node, const char *name, int64_t *out, int count, Error *error)
{
    if (!attribute_integers(node, name, 1, out, count, error)) return false;
    for (int i = 0; i < count; i++) {
        if (out[i] < 1 || out[i] > INT32_MAX)
            return fail_node(error, node, cure_attribute, "%s must be at least 1, one entry is %lld", name, (long long)out[i]);
    }
    return true;
}

/* Everything but pads and output sizes. *same: auto_pad is SAME_* and no pads overrule it. */
static bool read_window(const Node *node, const Shape *input, const int64_t *kernel, Window *window, bool *same, Error *error)
{
    memset(window, 0, sizeof *window);
    window->spatial = input->rank - 2;
    for (int i = 0; i < window->spatial; i++) {
        window->in[i] = input->dims[i + 2];
        window->kernel[i] = kernel[i];
        if (window->in[i] < 1) return fail_node(error, node, "give a larger input_shape", "axis %d of the input is empty", i + 2);
        if (kernel[i] < 1 || kernel[i] > INT32_MAX) {
            return fail_node(error, node, cure_attribute, "kernel_shape must be at least 1, one entry is %lld", (long long)kernel[i]);
        }
    }
    if (!read_positive(node, "strides", window->stride, window->spatial, error)) return false;
    if (!read_positive(node, "dilations", window->dilation, window->spatial, error)) return false;
    const char *auto_pad = node_string(node, "auto_pad", "NOTSET");
    if (!is_same(auto_pad) && strcmp(auto_pad, "VALID") != 0 && strcmp(auto_pad, "NOTSET") != 0) {
        return fail_node(error, node, "known are NOTSET, SAME_UPPER, SAME_LOWER, VALID", "auto_pad is \"%s\"", auto_pad);
    }
    int64_t pads[2 * ESPQ_MAX_SPATIAL];
    if (!attribute_integers(node, "pads", 0, pads, 2 * window->spatial, error)) return false;
    *same = is_same(auto_pad) && !node_attribute(node, "pads");
    for (int i = 0; i < window->spatial; i++) {
        window->pad_begin[i] = pads[i];
        window->pad_end[i] = pads[i + window->spatial];
        if (pads[i] < INT32_MIN / 4 || pads[i] > INT32_MAX / 4 || pads[i + window->spatial] < INT32_MIN / 4 ||
            pads[i + window->spatial] > INT32_MAX / 4)
            return fail_node(error, node, cure_attribute, "pads are out of range");
    }
    return true;
}

static int64_t extent(const Window *window, int i)
{
    return (window->kernel[i] - 1) * window->dilation[i] + 1;
}

/* The odd one of an uneven padding goes behind for SAME_UPPER, before for SAME_LOWER. */
static void split_padding(Window *window, int i, int64_t total, bool upper)
{
    window->pad_begin[i] = upper ? total / 2 : total - total / 2;
    window->pad_end[i] = total - window->pad_begin[i];
}

bool window_resolve(const Node *node, const Shape *input, const int64_t *kernel, Window *window, Error *error)
{
    bool same;
    if (!read_window(node, input, kernel, window, &same, error)) return false;
    bool upper = strcmp(node_string(node, "auto_pad", "NOTSET"), "SAME_UPPER") == 0;
    bool ceil_mode = node_integer(node, "ceil_mode", 0) != 0;
    for (int i = 0; i < window->spatial; i++) {
        if (same) {
            int64_t out = (window->in[i] + window->stride[i] - 1) / window->stride[i];
            int64_t total = (out - 1) * window->stride[i] + extent(window, i) - window->in[i];
            split_padding(window, i, total > 0 ? total : 0, upper);
        }
        int64_t room = window->in[i] + window->pad_begin[i] + window->pad_end[i] - extent(window, i);
        if (room < 0) {
            char text[160];
            return fail_node(error, node, "give a larger input_shape, or check pads and dilations",
                             "a window of %lld (with dilation) does not fit into axis %d of the input %s with pads %lld and %lld",
                             (long long)extent(window, i), i + 2, shape_text(input, text), (long long)window->pad_begin[i],
                             (long long)window->pad_end[i]);
        }
        window->out[i] = room / window->stride[i] + 1;
        if (ceil_mode) {
            window->out[i] = (room + window->stride[i] - 1) / window->stride[i] + 1;
            if ((window->out[i] - 1) * window->stride[i] >= window->in[i] + window->pad_begin[i]) window->out[i]--;
        }
    }
    return true;
}

bool window_resolve_transposed(const Node *node, const Shape *input, const int64_t *kernel, Window *window, Error *error)
{
    bool same;
    int64_t padding[ESPQ_MAX_SPATIAL];
    if (!read_window(node, input, kernel, window, &same, error)) return false;
    if (!attribute_integers(node, "output_padding", 0, padding, window->spatial, error)) return false;
    for (int i = 0; i < window->spatial; i++) {
        if (padding[i] < 0 || padding[i] > INT32_MAX / 4) return fail_node(error, node, cure_attribute, "output_padding is out of range");
    }
    const Attribute *asked = node_attribute(node, "output_shape");
    int skip = asked && asked->count == window->spatial + 2 ? 2 : 0; /* some exporters write batch and channels too */
    if (asked && asked->count > 0 && (asked->kind != ATTRIBUTE_INTS || asked->count - skip != window->spatial))
        return fail_node(error, node, cure_attribute, "output_shape has %d entries for %d spatial axes", asked->count, window->spatial);
    bool upper = strcmp(node_string(node, "auto_pad", "NOTSET"), "SAME_UPPER") == 0;
    for (int i = 0; i < window->spatial; i++) {
        int64_t full = window->stride[i] * (window->in[i] - 1) + padding[i] + extent(window, i);
        if ((asked && asked->count > 0) || same) {
            int64_t out = asked && asked->count > 0 ? asked->integers[i + skip] : window->in[i] * window->stride[i];
            if (out < 1 || out > INT32_MAX)
                return fail_node(error, node, cure_attribute, "output_shape asks for %lld elements", (long long)out);
            split_padding(window, i, full > out ? full - out : 0, upper);
            window->out[i] = out;
        } else {
            window->out[i] = full - window->pad_begin[i] - window->pad_end[i];
        }
        if (window->out[i] < 1 || window->out[i] > INT32_MAX) {
            char text[160];
            return fail_node(error, node, "check pads and output_shape", "axis %d of the output would have %lld elements for input %s",
                             i + 2, (long long)window->out[i], shape_text(input, text));
        }
    }
    return true;
}

bool window_settle(Graph *graph, Node *node, const Window *window, Error *error)
{
    const char *auto_pad = node_string(node, "auto_pad", "NOTSET");
    if (strcmp(auto_pad, "NOTSET") == 0 || node_attribute(node, "pads")) return true;
    int64_t pads[2 * ESPQ_MAX_SPATIAL];
    for (int i = 0; i < window->spatial; i++) {
        pads[i] = window->pad_begin[i];
        pads[i + window->spatial] = window->pad_end[i];
    }
    bool same = is_same(auto_pad);
    if (!node_set_integers(graph, node, "pads", pads, 2 * window->spatial)) return fail_memory(error, sizeof pads);
    if (same) node_remove_attribute(node, "auto_pad");
    return true;
}

Shape window_output(int64_t batch, int64_t channels, const Window *window)
{
    Shape shape = {.rank = window->spatial + 2, .dims = {batch, channels}};
    memcpy(shape.dims + 2, window->out, (size_t)window->spatial * sizeof *shape.dims);
    return shape;
}

static void shift_axes(int64_t *axes, int spatial, int64_t filler)
{
    int shift = ESPQ_MAX_SPATIAL - spatial;
    memmove(axes + shift, axes, (size_t)spatial * sizeof *axes);
    for (int i = 0; i < shift; i++)
        axes[i] = filler;
}

void window_three_axes(Window *window)
{
    shift_axes(window->in, window->spatial, 1);
    shift_axes(window->out, window->spatial, 1);
    shift_axes(window->kernel, window->spatial, 1);
    shift_axes(window->stride, window->spatial, 1);
    shift_axes(window->dilation, window->spatial, 1);
    shift_axes(window->pad_begin, window->spatial, 0);
    shift_axes(window->pad_end, window->spatial, 0);
    window->spatial = ESPQ_MAX_SPATIAL;
}
