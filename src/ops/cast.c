/* Rows between number formats: Cast, QuantizeLinear, DequantizeLinear, RequantizeLinear, and two that only the device graph has. */
#include <math.h>
#include <string.h>

#include "base/threads.h"
#include "ops/elementwise.h"
#include "ops/rows.h"

/* ---- Cast ---- */

static bool cast_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error)) return false;
    int64_t number = node_integer(node, "to", 0);
    Dtype dtype = dtype_from_onnx((int)number);
    if (dtype == DTYPE_NONE)
        return fail_node(error, node, "use float32, int64, int32 or bool", "to = %lld is no type that espq knows", (long long)number);
    set_output(node, 0, dtype, &shape);
    return true;
}

static bool cast_like_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error)) return false;
    set_output(node, 0, input_value(node, 1)->dtype, &shape);
    return true;
}

typedef struct Conversion {
    const Tensor *x;
    Tensor *y;
} Conversion;

/* Integers to narrower integers keep the low bits; floats to integers are cut, saturate, NaN is 0; to bool: not 0. Integer sources go
 * through int64, so that int64 to int64 and back from int32 is exact; floats through double, which holds every float. */
static void cast_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Conversion *conversion = context;
    int64_t integers[ELEMENT_BLOCK];
    double wide[ELEMENT_BLOCK];
    for (int64_t i = begin; i < end; i += ELEMENT_BLOCK) {
        int64_t count = end - i < ELEMENT_BLOCK ? end - i : ELEMENT_BLOCK;
        if (dtype_rows[conversion->x->dtype].is_float) {
            load_doubles(conversion->x, i, 1, count, wide);
            store_doubles(conversion->y, i, count, wide);
        } else {
            load_integers(conversion->x, i, 1, count, integers);
            store_integers(conversion->y, i, count, integers);
        }
    }
}

static void cast_run(const Run *run)
{
    Conversion conversion = {run->inputs[0], run->outputs[0]};
    if (conversion.x->dtype == conversion.y->dtype) {
        run_copy(run);
        return;
    }
    int64_t count = tensor_count(conversion.x);
    if (count > 0) threads_for(count, OPS_GRAIN, cast_part, &conversion);
}

static double cast_table(const Node *node, double x, const double *parameters, int parameter_count)
{
    (void)parameters, (void)parameter_count;
    Dtype to = dtype_from_onnx((int)node_integer(node, "to", 1));
    if (to == DTYPE_BOOL) return x != 0;
    return to != DTYPE_NONE && dtype_rows[to].is_integer ? trunc(x) : x;
}

/* ---- QuantizeLinear and its family: scale and zero point of the whole tensor, or one an entry of `axis` ---- */

static bool linear_parameters(const Node *node, const Shape *shape, Error *error)
{
    Shape scale, zero;
    if (!input_shape(node, 1, &scale, error)) return false;
    if (has_input(node, 2) && !input_shape(node, 2, &zero, error)) return false;
    if (node_integer(node, "block_size", 0) != 0) {
        return fail_node(error, node, "quantize per tensor or per axis", "block_size = %lld is not supported",
                         (long long)node_integer(node, "block_size", 0));
    }
    int axis = 0;
    int64_t count = shape_count(&scale);
    if (count != 1 && !normalize_axis(node, node_integer(node, "axis", 1), shape->rank, &axis, error)) return false;
    if ((count != 1 && (scale.rank != 1 || count != shape->dims[axis])) || (has_input(node, 2) && shape_count(&zero) != count)) {
        char a[160], b[160];
        return fail_node(error, node, "give one scale and zero point, or one an entry of axis", "scale %s does not fit input %s on axis %d",
                         shape_text(&scale, a), shape_text(shape, b), axis);
    }
    return true;
}

static bool quantize_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error) || !linear_parameters(node, &shape, error)) return false;
    Dtype dtype = has_input(node, 2) ? node->inputs[2]->dtype : dtype_from_onnx((int)node_integer(node, "output_dtype", 2));
    if (dtype == DTYPE_NONE || !dtype_rows[dtype].is_integer || dtype == DTYPE_BOOL) {
        return fail_node(error, node, "use int8, uint8, int16 or uint16", "the zero point's type is not one of integers");
    }
    set_output(node, 0, dtype, &shape);
    return true;
}

static bool dequantize_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    if (!input_shape(node, 0, &shape, error) || !linear_parameters(node, &shape, error)) return false;
    set_output(node, 0, node->inputs[1]->dtype, &shape);
    return true;
}

typedef struct Linear {
    const Tensor *x, *scale, *zero;
    Tensor *y;
    AxisView view; /* [outer][entries][inner], entries share nothing; one entry: the whole tensor */
    bool dequantize;
    double least, most;
} Linear;

static void integer_range(Dtype dtype, double *least, double *most)
{
    double half = ldexp(1, (int)dtype_bytes(dtype) * 8 - 1);
    *least = dtype_rows[dtype].is_signed ? -half : 0;
    *most = dtype_rows[dtype].is_signed ? half - 1 : 2 * half - 1;
}

static void linear_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const Linear *linear = context;
    double values[ELEMENT_BLOCK], zero = 0;
    float scale;
    int64_t count;
    for (int64_t i = begin; i < end; i += count) {
        int64_t entry = i / linear->view.inner % linear->view.length;
        count = linear->view.inner - i % linear->view.inner;
        if (count > end - i) count = end - i;
        if (count > ELEMENT_BLOCK) count = ELEMENT_BLOCK;
        load_floats(linear->scale, entry, 1, 1, &scale);
        if (linear->zero) load_doubles(linear->zero, entry, 1, 1, &zero);
        load_doubles(linear->x, i, 1, count, values);
        for (int64_t k = 0; k < count; k++) {
            if (linear->dequantize) {
                values[k] = (double)((float)(values[k] - zero) * scale);
            } else {
                double q = (double)rintf((float)values[k] / scale) + zero;
                values[k] = q < linear->least ? linear->least : q > linear->most ? linear->most : q;
            }
        }
        store_doubles(linear->y, i, count, values);
    }
}

static void linear_run(const Run *run, bool dequantize)
{
    const Tensor *x = run->inputs[0], *scale = run->inputs[1];
    Linear linear = {x, scale, run->node->input_count > 2 ? run->inputs[2] : NULL, run->outputs[0], {1, 1, tensor_count(x)}, dequantize,
                     0, 0};
    if (tensor_count(x) == 0) return;
    if (tensor_count(scale) != 1) {
        int64_t axis = node_integer(run->node, "axis", 1);
        linear.view = axis_view(&x->shape, (int)(axis < 0 ? axis + x->shape.rank : axis));
    }
    if (!dequantize) integer_range(run->outputs[0]->dtype, &linear.least, &linear.most);
    threads_for(tensor_count(x), OPS_GRAIN, linear_part, &linear);
}

/* RequantizeLinear's scale is the new one over the old one (EXPORT §3.3): integers divided by it, as QuantizeLinear does. */
static void quantize_run(const Run *run)
{
    linear_run(run, false);
}
static void dequantize_run(const Run *run)
{
    linear_run(run, true);
}

/* ---- StreamingCache: the last window_size - 1 frames of the run before, in front of the input ---- */

static bool streaming_cache_infer(Graph *graph, Node *node, Error *error)
{
    (void)graph;
    Shape shape;
    int axis;
    int64_t window = node_integer(node, "window_size", 1);
    if (!input_shape(node, 0, &shape, error) || !normalize_axis(node, node_integer(node, "frame_axis", 1), shape.rank, &axis, error))
        return false;
    if (window < 1) return fail_node(error, node, "a window has one frame or more", "window_size is %lld", (long long)window);
    shape.dims[axis] += window - 1;
    set_output(node, 0, node->inputs[0]->dtype, &shape);
    return true;
}

/* One window at a time: before the first one there was nothing, so zeros stand in front. */
static void streaming_cache_run(const Run *run)
{
    const Tensor *x = run->inputs[0];
    Tensor *y = run->outputs[0];
    int64_t axis = node_integer(run->node, "frame_axis", 1);
    if (axis < 0) axis += x->shape.rank;
    AxisView from = axis_view(&x->shape, (int)axis), to = axis_view(&y->shape, (int)axis);
    size_t bytes = dtype_bytes(x->dtype), row = (size_t)(from.length * from.inner) * bytes,
           front = (size_t)((to.length - from.length) * to.inner) * bytes;
    for (int64_t i = 0; i < from.outer; i++) {
        char *target = y->data + (size_t)i * (front + row);
        memset(target, 0, front);
        memcpy(target + front, x->data + (size_t)i * row, row);
    }
}

/* ---- rows ---- */

const Operator op_cast = {
    .name = "Cast",
    .help = "Another element type.",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"to", ATTRIBUTE_INT, .required = true}},
    .infer = cast_infer,
    .run = cast_run,
    .layout = LAYOUT_PASSIVE,
    .table = cast_table,
    .swaps_transpose = true,
    .cost = cost_elementwise,
    .module_cure = "leave it out: the chip's types follow from the quantization; casts of shapes are folded when loading",
};

const Operator op_cast_like = {
    .name = "CastLike",
    .help = "The element type of the second input.",
    .inputs = {2, 2},
    .outputs = {1, 1},
    .infer = cast_like_infer,
    .run = cast_run,
    .layout = LAYOUT_PASSIVE,
    .cost = cost_elementwise,
    .module_cure = "leave it out: the chip's types follow from the quantization",
};

#define LINEAR_ATTRIBUTES                                                                                                                  \
    {                                                                                                                                      \
        {"axis", ATTRIBUTE_INT, .number = 1}, {"block_size", ATTRIBUTE_INT, .number = 0},                                                  \
        {                                                                                                                                  \
            "output_dtype", ATTRIBUTE_INT                                                                                                  \
        }                                                                                                                                  \
    }

const Operator op_quantize_linear = {
    .name = "QuantizeLinear",
    .help = "Floats to integers.",
    .inputs = {2, 3},
    .outputs = {1, 1},
    .attributes = LINEAR_ATTRIBUTES,
    .infer = quantize_infer,
    .run = quantize_run,
    .float_inputs = UINT32_MAX,
    .float_outputs = UINT32_MAX,
    .layout = LAYOUT_PASSIVE,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_dequantize_linear = {
    .name = "DequantizeLinear",
    .help = "Integers to floats.",
    .inputs = {2, 3},
    .outputs = {1, 1},
    .attributes = LINEAR_ATTRIBUTES,
    .infer = dequantize_infer,
    .run = dequantize_run,
    .float_inputs = UINT32_MAX,
    .float_outputs = UINT32_MAX,
    .layout = LAYOUT_PASSIVE,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_requantize_linear = {
    .name = "RequantizeLinear",
    .help = "Integers of one exponent to another (device graph).",
    .inputs = {2, 3},
    .outputs = {1, 1},
    .infer = quantize_infer,
    .run = quantize_run,
    .float_inputs = UINT32_MAX,
    .float_outputs = UINT32_MAX,
    .layout = LAYOUT_PASSIVE,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};

const Operator op_lut = {
    .name = "LUT",
    .help = "Look-up table of the attribute lut (device graph).",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"lut", ATTRIBUTE_STRING, .required = true}},
    .infer = infer_same_shape,
    .layout = LAYOUT_PASSIVE,
    .module = MODULE_S8 | MODULE_S16,
    .cost = cost_elementwise,
};

const Operator op_streaming_cache = {
    .name = "StreamingCache",
    .help = "Frames kept from the run before (device graph).",
    .inputs = {1, 1},
    .outputs = {1, 1},
    .attributes = {{"window_size", ATTRIBUTE_INT, .required = true}, {"frame_axis", ATTRIBUTE_INT, .number = 1}},
    .infer = streaming_cache_infer,
    .run = streaming_cache_run,
    .layout = LAYOUT_NONE,
    .module = MODULE_ALL,
    .cost = cost_elementwise,
};
