/* Conv, Gemm, MatMul (CHIP §2.1 – §2.4) and InsertZeros (§2.5). All three products are convolutions of the integer kernel: a row of a
 * matrix is a pixel of an image one row high. */
#include <limits.h>
#include <string.h>

#include "base/memory.h"
#include "chip/arithmetic.h"
#include "chip/ends.h"
#include "chip/filter.h"
#include "chip/window.h"
#include "kernel/integer.h"

#define SLICE_AXES 2 /* of MatMul's batches */

typedef struct Product {
    ConvInt conv;
    Filter filter;
    int64_t *bias;
    int *shifts;
    /* Slices: images of a Conv, matrices of a MatMul. Along an axis where an operand has 1 it is used again. */
    int64_t slices[SLICE_AXES], x_slices[SLICE_AXES], filter_slices[SLICE_AXES];
    int64_t skipped; /* slices behind these that the chip leaves as they were */
    size_t x_bytes, y_bytes, stored_bytes, plain_bytes,
        packed_bytes; /* of one slice; stored: weights in the file, the others rounded up to 64 */
    char *packed;     /* of every constant filter; NULL: the filter comes at run time */
} Product;

static void product_free(void *state)
{
    Product *product = state;
    if (!product) return;
    memory_free(product->bias);
    memory_free(product->shifts);
    memory_free(product->packed);
    memory_free(product);
}

static size_t whole_lines(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* The least significant `bits`, sign-extended. */
static int64_t low_bits(int64_t value, int bits)
{
    if (bits < 1 || bits > 63) return value;
    uint64_t half = UINT64_C(1) << (bits - 1), low = (uint64_t)value & (2 * half - 1);
    return (int64_t)(low ^ half) - (int64_t)half;
}

static bool read_activation(const ChipNode *node, bool *relu, Error *error)
{
    const char *name = node_string(node->node, "activation", "Linear");
    *relu = strcmp(name, "Relu") == 0 || strcmp(name, "ReLU") == 0;
    if (*relu || strcmp(name, "Linear") == 0) return true;
    return refuse(node, error, "write the activation as a node of its own", "activation \"%s\"; the kernels know Linear and Relu", name);
}

static bool check_types(const ChipNode *node, Error *error)
{
    if (node->bits != 8 && node->bits != 16)
        return refuse(node, error, "quantize it to 8 or 16 bits", "%s has no float kernel on the chip", node->node->type);
    return needs_kernel_type(node, &node->inputs[0], "input 0", error) && needs_kernel_type(node, &node->inputs[1], "the filter", error) &&
           needs_kernel_type(node, &node->outputs[0], "the output", error);
}

static bool read_shifts(const ChipNode *node, Product *product, int64_t channels, Error *error)
{
    const ChipEnd *filter = &node->inputs[1];
    int count = filter->exponent_count > 1 ? filter->exponent_count : 1;
    if (count > 1 && chip_has(node->chip, TRAIT_NO_CHANNEL_SHIFTS))
        return refuse(node, error, "export it with one exponent a weight tensor",
                      "weights with an exponent a channel: the chip crashes (C3)");
    if (count > 1 && count != channels)
        return refuse(node, error, "export the model again", "%d exponents for %lld output channels", count, (long long)channels);
    if (!(product->shifts = memory_new_array((size_t)count, sizeof *product->shifts)))
        return fail_memory(error, (size_t)count * sizeof(int));
    int least = INT_MAX;
    for (int i = 0; i < count; i++) {
        int exponent = count > 1 ? filter->exponents[i] : filter->exponent;
        product->shifts[i] = node->outputs[0].exponent - exponent - node->inputs[0].exponent;
        if (product->shifts[i] < least) least = product->shifts[i];
    }
    if (least < 0 && chip_has(node->chip, TRAIT_NO_NEGATIVE_SHIFT))
        return refuse(node, error, "raise the exponent of the output (or lower one of its inputs') by that much",
                      "the result would be shifted by %d: the chip crashes or gives zeros (C4)", least);
    product->conv.shifts = product->shifts;
    product->conv.shift_count = count;
    return true;
}

/* As the accumulators get it: EXPORT §17.5. */
static bool read_bias(const ChipNode *node, Product *product, Error *error)
{
    ConvInt *conv = &product->conv;
    if (!has_input(node, 2)) return true;
    const Tensor *bias = node->inputs[2].constant;
    Dtype wanted = node->bits == 8 ? DTYPE_INT32 : DTYPE_INT64;
    if (!bias) return refuse(node, error, "make it a constant", "the bias is no constant");
    if (bias->dtype != wanted)
        return refuse(node, error, "export the model again", "a bias of %s, the runtime asserts %s", dtype_name(bias->dtype),
                      dtype_name(wanted));
    if (tensor_count(bias) != conv->channels_out)
        return refuse(node, error, "export the model again", "%lld biases for %d output channels", (long long)tensor_count(bias),
                      conv->channels_out);
    if (!(product->bias = memory_new_array((size_t)conv->channels_out, sizeof *product->bias)))
        return fail_memory(error, (size_t)conv->channels_out * sizeof *product->bias);
    for (int channel = 0; channel < conv->channels_out; channel++) {
        int64_t value = tensor_get_integer(bias, channel);
        if (chip_has(node->chip, TRAIT_BIAS_WRAPS))
            value = low_bits(value, channel < conv->vector_channels ? conv->lane_bits : conv->scalar_bits);
        product->bias[channel] = value;
    }
    conv->bias = product->bias;
    return true;
}

/* Who sums in what: CHIP §1.4. */
static void set_accumulators(const ChipNode *node, ConvInt *conv)
{
    const Chip *chip = node->chip;
    int exact = node->bits == 8 ? 32 : 64;
    conv->bytes = node->bits / 8;
    conv->rounding = chip->rounding;
    conv->bias_last = chip_has(chip, TRAIT_BIAS_LAST);
    if (!chip->vector_bytes) return;
    int lanes = chip->vector_bytes / conv->bytes;
    conv->vector_channels = conv->depthwise ? conv->channels_out : conv->channels_out / lanes * lanes;
    conv->lane_bits = chip->lane_bits[conv->bytes - 1];
    if (conv->lane_bits < exact && !chip_has(chip, TRAIT_LANES_SATURATE)) conv->lane_bits = 0;
    conv->scalar_bits = chip->scalar_bits;
    conv->scalar_group = lanes;
}

static size_t scratch_of(const Product *product)
{
    return product->plain_bytes + product->packed_bytes + conv_int_scratch_bytes(&product->conv);
}

/* What is the same for all three, once conv's shapes, the filter and the slices stand. */
static bool finish(ChipNode *node, Product *product, Error *error)
{
    ConvInt *conv = &product->conv;
    if (!check_types(node, error) || !read_activation(node, &conv->relu, error)) return false;
    if (!filter_lanes(node, &product->filter.lanes, error)) return false;
    product->filter.bytes = node->bits / 8;
    set_accumulators(node, conv);
    if (!read_shifts(node, product, conv->channels_out, error) || !read_bias(node, product, error)) return false;
    size_t bytes = (size_t)conv->bytes;
    product->x_bytes = (size_t)conv->in[0] * (size_t)conv->in[1] * (size_t)conv->channels_in * bytes;
    product->y_bytes = (size_t)conv->out[0] * (size_t)conv->out[1] * (size_t)conv->channels_out * bytes;
    product->stored_bytes = (size_t)(product->filter.outputs * product->filter.taps * product->filter.inputs) * bytes;
    product->plain_bytes = whole_lines(filter_bytes(&product->filter, conv->depthwise));
    product->packed_bytes = whole_lines(conv_int_packed_bytes(conv));
    node->scratch_bytes = scratch_of(product);
    const Tensor *constant = node->inputs[1].constant;
    if (!constant) return true;
    size_t filters = (size_t)(product->filter_slices[0] * product->filter_slices[1]);
    if (filters * product->stored_bytes > tensor_bytes(constant))
        return refuse(node, error, "export the model again", "the filter has fewer weights than its shape says");
    char *plain = memory_new_aligned(product->plain_bytes);
    product->packed = plain ? memory_new_aligned(filters * product->packed_bytes) : NULL;
    for (size_t i = 0; product->packed && i < filters; i++) {
        filter_unpack(&product->filter, conv->depthwise, constant->data + i * product->stored_bytes, plain);
        conv_int_pack(conv, plain, product->packed + i * product->packed_bytes);
    }
    memory_free(plain);
    return product->packed || fail_memory(error, filters * product->packed_bytes + product->plain_bytes);
}

static Product *product_new(ChipNode *node, Error *error)
{
    Product *product = memory_new(sizeof *product);
    if (!product) fail_memory(error, sizeof *product);
    node->state = product;
    return product;
}

/* ---- Conv ---- */

static bool conv_window(const ChipNode *node, Window *window, Error *error)
{
    if (!needs(node, 2, 1, error)) return false;
    const Shape *filter = &node->inputs[1].shape;
    if (filter->rank != node->inputs[0].shape.rank)
        return refuse(node, error, "export the model again", "a filter of %d axes for an image of %d", filter->rank,
                      node->inputs[0].shape.rank);
    return window_read(node, filter->dims, true, window, error);
}

/* Output channels: the filter is [H, W, C, N], grouped [H, W, N, C]. */
static int64_t conv_outputs(const ChipNode *node)
{
    const Shape *filter = &node->inputs[1].shape;
    return filter->dims[filter->rank - (node_integer(node->node, "group", 1) == 1 ? 1 : 2)];
}

static bool conv_infer(ChipNode *node, Error *error)
{
    Window window;
    if (!conv_window(node, &window, error)) return false;
    node->outputs[0].shape = window_shape(node, &window, conv_outputs(node));
    return true;
}

static bool conv_prepare(ChipNode *node, Error *error)
{
    Window window;
    if (!conv_window(node, &window, error)) return false;
    Product *product = product_new(node, error);
    if (!product) return false;
    const Shape *filter = &node->inputs[1].shape;
    int64_t groups = node_integer(node->node, "group", 1), outputs = conv_outputs(node);
    int64_t inputs = filter->dims[filter->rank - (groups == 1 ? 2 : 1)];
    bool depthwise = groups == window.channels && outputs == groups && inputs == 1 && groups > 1;
    if (!node->inputs[1].constant) return refuse(node, error, "make it a constant", "the filter is no constant");
    if (groups < 1 || outputs < 1 || outputs > INT_MAX || outputs % groups || inputs * groups != window.channels)
        return refuse(node, error, "export the model again", "a filter of %lld inputs and %lld outputs in %lld groups for %d channels",
                      (long long)inputs, (long long)outputs, (long long)groups, window.channels);
    if (groups > 1 && !depthwise && chip_has(node->chip, TRAIT_GROUPS_AS_DEPTHWISE))
        return refuse(node, error, "split it into convolutions of one group each (espq's export does)",
                      "%lld groups of %lld inputs: the chip would run it as depthwise (C10)", (long long)groups, (long long)inputs);
    product->filter =
        (Filter){.outputs = outputs, .inputs = inputs, .taps = window.kernel[0] * (int64_t)window.kernel[1], .groups = groups};
    ConvInt *conv = &product->conv;
    *conv = (ConvInt){.depthwise = depthwise, .channels_in = window.channels, .channels_out = (int)outputs};
    memcpy(conv->in, window.in, sizeof conv->in);
    memcpy(conv->out, window.out, sizeof conv->out);
    memcpy(conv->kernel, window.kernel, sizeof conv->kernel);
    memcpy(conv->stride, window.stride, sizeof conv->stride);
    memcpy(conv->dilation, window.dilation, sizeof conv->dilation);
    memcpy(conv->pad, window.pad, sizeof conv->pad);
    bool first_only = window.samples > 1 && chip_has(node->chip, TRAIT_FIRST_SAMPLE_ONLY);
    if (first_only) node->undefined = "C22: Conv computes the first sample of a batch only";
    product->slices[0] = product->x_slices[0] = first_only ? 1 : window.samples;
    product->skipped = first_only ? window.samples - 1 : 0;
    product->slices[1] = product->x_slices[1] = product->filter_slices[0] = product->filter_slices[1] = 1;
    return finish(node, product, error);
}

/* ---- Gemm ---- */

static bool matrix_rows(const ChipNode *node, int64_t rows, int64_t inputs, int64_t outputs, Error *error)
{
    if (rows >= 1 && rows <= INT_MAX && inputs >= 1 && inputs <= INT_MAX && outputs >= 1 && outputs <= INT_MAX) return true;
    return refuse(node, error, "give the model an input of another shape", "a product of %lld rows, %lld inputs and %lld outputs",
                  (long long)rows, (long long)inputs, (long long)outputs);
}

static void set_matrix(Product *product, int64_t rows, int64_t inputs, int64_t outputs)
{
    product->filter = (Filter){.outputs = outputs, .inputs = inputs, .taps = 1, .groups = 1};
    product->conv = (ConvInt){.channels_in = (int)inputs,
                              .channels_out = (int)outputs,
                              .in = {1, (int)rows},
                              .out = {1, (int)rows},
                              .kernel = {1, 1},
                              .stride = {1, 1},
                              .dilation = {1, 1}};
}

static bool gemm_infer(ChipNode *node, Error *error)
{
    if (!needs(node, 2, 1, error)) return false;
    const Shape *x = &node->inputs[0].shape, *filter = &node->inputs[1].shape;
    if (filter->rank != 4 || filter->dims[0] != 1 || filter->dims[1] != 1 || x->rank < 1 || x->dims[x->rank - 1] != filter->dims[2]) {
        char given[160], wanted[160];
        return refuse(node, error, "export the model again", "input 0 is %s, the filter %s; the runtime asks for [..., K] and [1, 1, K, N]",
                      shape_text(x, given), shape_text(filter, wanted));
    }
    node->outputs[0].shape = *x;
    node->outputs[0].shape.dims[x->rank - 1] = filter->dims[3];
    return true;
}

static bool gemm_prepare(ChipNode *node, Error *error)
{
    if (node_integer(node->node, "transA", 0) != 0 || node_integer(node->node, "transB", 0) != 0)
        return refuse(node, error, "transpose the operand before it", "transA or transB is set, which the runtime asserts against");
    Product *product = product_new(node, error);
    if (!product) return false;
    if (!node->inputs[1].constant) return refuse(node, error, "make it a constant, or use MatMul", "the filter is no constant");
    const Shape *x = &node->inputs[0].shape, *filter = &node->inputs[1].shape;
    int64_t rows = dims_product(x, 0, x->rank - 1);
    if (!matrix_rows(node, rows, filter->dims[2], filter->dims[3], error)) return false;
    set_matrix(product, rows, filter->dims[2], filter->dims[3]);
    for (int i = 0; i < SLICE_AXES; i++)
        product->slices[i] = product->x_slices[i] = product->filter_slices[i] = 1;
    return finish(node, product, error);
}

/* ---- MatMul ---- */

/* The shapes of both operands as batches of matrices. */
typedef struct Matrices {
    int64_t rows, inputs, outputs, x[SLICE_AXES], filter[SLICE_AXES], slices[SLICE_AXES];
} Matrices;

static void batches(const Shape *shape, int64_t out[SLICE_AXES])
{
    for (int i = 0; i < SLICE_AXES; i++) {
        int axis = shape->rank - 2 - SLICE_AXES + i;
        out[i] = axis >= 0 ? shape->dims[axis] : 1;
    }
}

static bool read_matrices(const ChipNode *node, Matrices *m, Error *error)
{
    if (!needs(node, 2, 1, error)) return false;
    const Shape *a = &node->inputs[0].shape, *b = &node->inputs[1].shape;
    char left[160], right[160];
    if (a->rank < 1 || b->rank < 1 || a->rank > 2 + SLICE_AXES || b->rank > 2 + SLICE_AXES)
        return refuse(node, error, "reshape them to at most 4 axes", "operands %s and %s; the runtime takes 1 to 4 axes",
                      shape_text(a, left), shape_text(b, right));
    m->rows = a->rank == 1 ? 1 : a->dims[a->rank - 2];
    m->inputs = a->dims[a->rank - 1];
    m->outputs = b->rank == 1 ? 1 : b->dims[b->rank - 1];
    batches(a, m->x);
    batches(b, m->filter);
    bool fits = m->inputs == (b->rank == 1 ? b->dims[0] : b->dims[b->rank - 2]);
    for (int i = 0; i < SLICE_AXES; i++) {
        m->slices[i] = m->x[i] == 1 ? m->filter[i] : m->x[i];
        fits = fits && (m->filter[i] == m->slices[i] || m->filter[i] == 1) && m->slices[i] >= 1;
    }
    if (!fits)
        return refuse(node, error, "export the model again", "operands %s and %s do not fit", shape_text(a, left), shape_text(b, right));
    return matrix_rows(node, m->rows, m->inputs, m->outputs, error);
}

static bool matmul_infer(ChipNode *node, Error *error)
{
    Matrices m;
    if (!read_matrices(node, &m, error)) return false;
    const Shape *a = &node->inputs[0].shape, *b = &node->inputs[1].shape;
    int rank = a->rank > b->rank ? a->rank : b->rank;
    Shape *out = &node->outputs[0].shape;
    *out = (Shape){0};
    for (int axis = rank; axis > 2; axis--)
        out->dims[out->rank++] = m.slices[SLICE_AXES + 2 - axis];
    if (a->rank > 1) out->dims[out->rank++] = m.rows;
    if (b->rank > 1) out->dims[out->rank++] = m.outputs;
    if (out->rank == 0) out->dims[out->rank++] = 1;
    return true;
}

static bool matmul_prepare(ChipNode *node, Error *error)
{
    Matrices m;
    if (!read_matrices(node, &m, error)) return false;
    Product *product = product_new(node, error);
    if (!product) return false;
    if (node->inputs[1].exponent_count > 1 && !node->inputs[1].constant)
        return refuse(node, error, "give it one exponent", "an activation with an exponent a channel");
    bool one_filter = m.filter[0] * m.filter[1] == 1, together = one_filter && m.slices[0] * m.slices[1] <= INT_MAX / m.rows;
    if (together) { /* one product of all rows */
        m.rows *= m.slices[0] * m.slices[1];
        for (int i = 0; i < SLICE_AXES; i++)
            m.slices[i] = m.x[i] = 1;
    }
    set_matrix(product, m.rows, m.inputs, m.outputs);
    memcpy(product->slices, m.slices, sizeof m.slices);
    memcpy(product->x_slices, m.x, sizeof m.x);
    memcpy(product->filter_slices, m.filter, sizeof m.filter);
    return finish(node, product, error);
}

/* ---- all three ---- */

static int64_t slice_of(const int64_t slices[SLICE_AXES], int64_t i, int64_t j)
{
    return (slices[0] == 1 ? 0 : i) * slices[1] + (slices[1] == 1 ? 0 : j);
}

/* A filter that comes at run time has the order that the exporter's Reshape and Transpose nodes gave it: the packed one. */
static void product_run(const ChipRun *run)
{
    const Product *product = run->node->state;
    const ConvInt *conv = &product->conv;
    char *plain = run->scratch, *packed = plain + product->plain_bytes, *scratch = packed + product->packed_bytes;
    int64_t at_hand = -1;
    char *y = run->outputs[0];
    for (int64_t i = 0; i < product->slices[0]; i++) {
        for (int64_t j = 0; j < product->slices[1]; j++) {
            int64_t filter = slice_of(product->filter_slices, i, j);
            const char *x = (const char *)run->inputs[0] + (size_t)slice_of(product->x_slices, i, j) * product->x_bytes;
            const char *weights = product->packed ? product->packed + (size_t)filter * product->packed_bytes : packed;
            if (!product->packed && filter != at_hand) {
                filter_unpack(&product->filter, false, (const char *)run->inputs[1] + (size_t)filter * product->stored_bytes, plain);
                conv_int_pack(conv, plain, packed);
                at_hand = filter;
            }
            conv_int(conv, x, weights, y, scratch);
            y += product->y_bytes;
        }
    }
    if (product->skipped) memset(y, 0, (size_t)product->skipped * product->y_bytes);
}

static void product_headroom(const ChipRun *run, Headroom *headroom)
{
    const Product *product = run->node->state;
    const ConvInt *conv = &product->conv;
    char *plain = run->scratch;
    int exact = conv->bytes == 1 ? 32 : 64, bits = exact;
    if (conv->vector_channels && conv->lane_bits) bits = conv->lane_bits;
    if (conv->vector_channels < conv->channels_out && conv->scalar_bits && conv->scalar_bits < bits) bits = conv->scalar_bits;
    double limit = ldexp(1.0, bits - 1);
    if (headroom->limit == 0 || limit < headroom->limit) headroom->limit = limit;
    for (int64_t i = 0; i < product->slices[0]; i++) {
        for (int64_t j = 0; j < product->slices[1]; j++) {
            const char *x = (const char *)run->inputs[0] + (size_t)slice_of(product->x_slices, i, j) * product->x_bytes;
            const char *stored = (const char *)run->inputs[1] + (size_t)slice_of(product->filter_slices, i, j) * product->stored_bytes;
            ConvIntRange range = {0};
            filter_unpack(&product->filter, conv->depthwise, stored, plain);
            conv_int_range(conv, x, plain, &range);
            if (range.largest > headroom->largest) headroom->largest = range.largest;
            headroom->saturated += range.saturated;
            headroom->clipped += range.clipped;
            headroom->count += (int64_t)conv->out[0] * conv->out[1] * conv->channels_out;
        }
    }
}

/* ---- InsertZeros ---- */

typedef struct Insertion {
    int64_t stride[2], room[2]; /* rows and columns; room: zeros behind the last */
} Insertion;

static bool read_insertion(const ChipNode *node, Insertion *insertion, Error *error)
{
    int axes = node->inputs[0].shape.rank - 2;
    if (axes != 1 && axes != 2)
        return refuse(node, error, "the runtime takes [N, H, W, C] or [N, W, C]", "an image of %d axes", node->inputs[0].shape.rank);
    int64_t stride[2] = {1, 1}, room[2] = {0, 0};
    int strides = node_integers(node->node, "stride", stride, 2), rooms = node_integers(node->node, "output_padding", room, 2);
    *insertion = (Insertion){{1, 1}, {0, 0}};
    for (int i = 0; i < axes; i++) { /* one number counts for all axes */
        int at = i + 2 - axes;
        insertion->stride[at] = stride[strides == 1 ? 0 : i];
        insertion->room[at] = room[rooms == 1 ? 0 : i];
        if (insertion->stride[at] < 1 || insertion->stride[at] > 65536 || insertion->room[at] < 0 || insertion->room[at] > 65536)
            return refuse(node, error, "export the model again", "stride %lld and output_padding %lld", (long long)insertion->stride[at],
                          (long long)insertion->room[at]);
    }
    return true;
}

static bool zeros_infer(ChipNode *node, Error *error)
{
    Insertion insertion;
    if (!needs(node, 1, 1, error) || !read_insertion(node, &insertion, error)) return false;
    Shape *out = &node->outputs[0].shape;
    *out = node->inputs[0].shape;
    int flat = out->rank == 3;
    for (int i = flat; i < 2; i++) {
        int64_t *dim = &out->dims[1 + i - flat];
        *dim += (insertion.stride[i] - 1) * (*dim - 1) + insertion.room[i];
    }
    return needs_same_type(node, 0, 0, error);
}

static bool zeros_prepare(ChipNode *node, Error *error)
{
    Insertion *insertion = memory_new(sizeof *insertion);
    if (!insertion) return fail_memory(error, sizeof *insertion);
    node->state = insertion;
    return read_insertion(node, insertion, error);
}

static void zeros_run(const ChipRun *run)
{
    const Insertion *insertion = run->node->state;
    const ChipEnd *in = &run->node->inputs[0], *out = &run->node->outputs[0];
    bool flat = in->shape.rank == 3;
    int64_t channels = in->shape.dims[in->shape.rank - 1], rows = flat ? 1 : in->shape.dims[1],
            columns = in->shape.dims[in->shape.rank - 2];
    int64_t out_rows = flat ? 1 : out->shape.dims[1], out_columns = out->shape.dims[in->shape.rank - 2];
    size_t pixel = (size_t)channels * dtype_bytes(in->dtype);
    const char *x = run->inputs[0];
    memset(run->outputs[0], 0, end_bytes(out));
    for (int64_t n = 0; n < in->shape.dims[0]; n++) {
        for (int64_t row = 0; row < rows; row++) {
            char *y = (char *)run->outputs[0] + (size_t)((n * out_rows + row * insertion->stride[0]) * out_columns) * pixel;
            for (int64_t column = 0; column < columns; column++) {
                memcpy(y + (size_t)(column * insertion->stride[1]) * pixel, x, pixel);
                x += pixel;
            }
        }
    }
}

const ChipModule chip_conv_modules[] = {
    {.type = "Conv",
     .blind = true,
     .infer = conv_infer,
     .prepare = conv_prepare,
     .run = product_run,
     .release = product_free,
     .headroom = product_headroom},
    {.type = "Gemm",
     .blind = true,
     .infer = gemm_infer,
     .prepare = gemm_prepare,
     .run = product_run,
     .release = product_free,
     .headroom = product_headroom},
    {.type = "MatMul",
     .blind = true,
     .infer = matmul_infer,
     .prepare = matmul_prepare,
     .run = product_run,
     .release = product_free,
     .headroom = product_headroom},
    {.type = "InsertZeros", .infer = zeros_infer, .prepare = zeros_prepare, .run = zeros_run},
    {0},
};
