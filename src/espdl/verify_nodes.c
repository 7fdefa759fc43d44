/* What the runtime's modules require of their nodes (EXPORT §17.4): a row a type, and a check where a row cannot say it. */
#include <string.h>

#include "espdl/verifier.h"
#include "graph/operator.h"

enum {
    ONE_EXPONENT = 1 << 0,  /* the output has the type and exponent of input 0: integers are moved */
    ALL_EXPONENTS = 1 << 1, /* all inputs and outputs have */
    COMPARES = 1 << 2,      /* the inputs have; the output is bool */
    SHIFTS = 1 << 3,        /* a product: exponents of output - input 0 - input 1 >= 0 */
    IMAGE = 1 << 4,         /* rank 3 or 4 */
    ONE_PICTURE = 1 << 5,   /* only the first element of a batch is computed */
    FLOAT_OUTPUT = 1 << 6,
    BROADCASTS = 1 << 7,
    TABLE = 1 << 8,   /* may have a table at 8 bits */
    TABLE16 = 1 << 9, /* and at 16 bits */
    NEEDS_TABLE = 1 << 10,
    CONVERTS = 1 << 11, /* types are free */
    OWN_TYPES = 1 << 12 /* input 0 and output 0 have the integer type of quant_type */
};

enum { S8 = MODULE_S8, S16 = MODULE_S16, F32 = MODULE_F32, INTEGER = MODULE_S8 | MODULE_S16, ALL = MODULE_ALL };

typedef struct Ends { /* of the node being judged; NULL: left out or unknown */
    const EspdlNode *node;
    const char *quant_type;
    const Known *inputs[8], *outputs[8];
    int input_count, output_count;
} Ends;

typedef struct TypeRow {
    const char *type, *rule;
    unsigned modules;
    int least_inputs, most_inputs, least_outputs, most_outputs;
    unsigned flags;
    const char *attributes; /* that must be there: name:kind by blanks; kinds i s I (integer, text, list of integers) */
    void (*check)(Verifier *verifier, const struct TypeRow *row, const Ends *ends);
} TypeRow;

static void fault(Verifier *verifier, const TypeRow *row, const Ends *ends, const char *what)
{
    found(verifier, FINDING_ERROR, row->rule, ends->node->name, "%s: %s", row->type, what);
}

static int64_t integer(const Ends *ends, const char *name, int64_t otherwise)
{
    const Attribute *attribute = verifier_attribute(ends->node, name, ATTRIBUTE_INT);
    return attribute ? attribute->integer : otherwise;
}

static const char *text(const Ends *ends, const char *name)
{
    const Attribute *attribute = verifier_attribute(ends->node, name, ATTRIBUTE_STRING);
    return attribute ? attribute->string : NULL;
}

static bool one_of(const char *word, const char *words)
{
    size_t length = word ? strlen(word) : 0;
    for (const char *at = words; length && (at = strstr(at, word)); at += length) {
        if ((at == words || at[-1] == '|') && (at[length] == 0 || at[length] == '|')) return true;
    }
    return false;
}

static const Known *input(const Ends *ends, int index)
{
    return index < ends->input_count ? ends->inputs[index] : NULL;
}
static const EspdlTensor *constant(const Ends *ends, int index)
{
    return input(ends, index) ? input(ends, index)->constant : NULL;
}

static int own_type(const Ends *ends)
{
    return dtype_rows[strcmp(ends->quant_type, "S8") == 0    ? DTYPE_INT8
                      : strcmp(ends->quant_type, "S16") == 0 ? DTYPE_INT16
                                                             : DTYPE_FLOAT32]
        .espdl;
}

static bool is_float(const Ends *ends)
{
    return strcmp(ends->quant_type, "F32") == 0;
}

/* ---- checks of single types ---- */

static void check_bias(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const EspdlTensor *bias = constant(ends, 2), *weight = constant(ends, 1);
    if (!bias || is_float(ends)) return;
    bool narrow = strcmp(ends->quant_type, "S8") == 0;
    if (bias->data_type != dtype_rows[narrow ? DTYPE_INT32 : DTYPE_INT64].espdl)
        fault(verifier, row, ends, narrow ? "the bias must be int32 (the module stops)" : "the bias must be int64 (the module stops)");
    if (narrow && verifier->target && strcmp(verifier->target, "esp32s3") == 0 && bias->data_type == dtype_rows[DTYPE_INT32].espdl) {
        for (int64_t i = 0; i < constant_count(bias); i++) {
            int64_t number = constant_number(bias, i);
            if (number >= -(1 << 19) && number < 1 << 19) continue;
            fault(verifier, row, ends, "a bias outside the 20 bits that the chip keeps");
            break;
        }
    }
    if (weight && weight->data_type == own_type(ends) && bias->data_type != dtype_rows[DTYPE_FLOAT32].espdl &&
        bias->exponent_count != weight->exponent_count)
        fault(verifier, row, ends, "bias and weight have different numbers of exponents");
}

static void check_product(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    if (text(ends, "activation") && !one_of(text(ends, "activation"), "Linear|Relu"))
        fault(verifier, row, ends, "activation must be Linear or Relu");
    check_bias(verifier, row, ends);
}

static void check_conv(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    check_product(verifier, row, ends);
    const EspdlTensor *weight = constant(ends, 1);
    const Known *data = input(ends, 0);
    int64_t group = integer(ends, "group", 1);
    if (!data || data->shape.rank < 3) return;
    int spatial = data->shape.rank - 2;
    static const char *const lists[] = {"strides", "dilations", "kernel_shape"};
    for (int i = 0; i < 3; i++) {
        const Attribute *list = verifier_attribute(ends->node, lists[i], ATTRIBUTE_INTS);
        if (list && list->count != spatial)
            fault(verifier, row, ends, "strides, dilations and kernel_shape need a number for each spatial axis");
    }
    const Attribute *pads = verifier_attribute(ends->node, "pads", ATTRIBUTE_INTS);
    if (pads && pads->count != 2 * spatial) fault(verifier, row, ends, "pads need two numbers for each spatial axis");
    if (!weight) return;
    if (weight->rank != data->shape.rank) {
        fault(verifier, row, ends, "filter and data have different ranks");
        return;
    }
    int64_t channels = data->shape.dims[data->shape.rank - 1], in = weight->dims[spatial], out = weight->dims[spatial + 1];
    if (group == 1 && in != channels) fault(verifier, row, ends, "the filter reads another number of channels than there are");
    if (group > 1 && (group != channels || in != channels || out != 1))
        fault(verifier, row, ends, "group is neither 1 nor the number of input and output channels: the chip takes it for depthwise");
}

static void check_gemm(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    check_product(verifier, row, ends);
    const EspdlTensor *weight = constant(ends, 1);
    const Known *data = input(ends, 0);
    if (integer(ends, "transA", 0) || integer(ends, "transB", 0))
        fault(verifier, row, ends, "transA and transB must be 0 (the module stops)");
    if (!weight || !data || data->shape.rank < 1) return;
    if (weight->rank != 4 || weight->dims[0] != 1 || weight->dims[1] != 1 || weight->dims[2] != data->shape.dims[data->shape.rank - 1])
        fault(verifier, row, ends, "the filter must be [1, 1, inputs, outputs]");
}

static void check_matmul(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    check_product(verifier, row, ends);
    const Known *a = input(ends, 0), *b = input(ends, 1);
    if (!a || !b || a->shape.rank < 1 || b->shape.rank < 2) return;
    if (a->shape.rank > 4 || b->shape.rank > 4) fault(verifier, row, ends, "operands of more than four dimensions");
    if (a->shape.dims[a->shape.rank - 1] != b->shape.dims[b->shape.rank - 2]) fault(verifier, row, ends, "the operands do not fit");
}

static void check_pool(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Attribute *pads = verifier_attribute(ends->node, "pads", ATTRIBUTE_INTS),
                    *dilations = verifier_attribute(ends->node, "dilations", ATTRIBUTE_INTS);
    if (pads && pads->count > 4) fault(verifier, row, ends, "more than four pads");
    if (integer(ends, "ceil_mode", 0)) fault(verifier, row, ends, "ceil_mode is not read: sizes are rounded down");
    for (int i = 0; dilations && i < dilations->count; i++) {
        if (dilations->integers[i] != 1) fault(verifier, row, ends, "dilations are not read");
    }
    bool padded = false;
    for (int i = 0; pads && i < pads->count; i++)
        padded = padded || pads->integers[i];
    if (strcmp(row->type, "AveragePool") == 0 && padded && !integer(ends, "count_include_pad", 0))
        found(verifier, FINDING_WARNING, row->rule, ends->node->name,
              "AveragePool: the chip counts the padding, count_include_pad 0 is not read");
}

static void check_resize(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const EspdlTensor *scales = constant(ends, 2), *sizes = constant(ends, 3);
    const EspdlTensor *given = sizes && constant_count(sizes) ? sizes : scales;
    const Known *data = input(ends, 0);
    if (strcmp(ends->quant_type, "S16") == 0)
        found(verifier, FINDING_WARNING, row->rule, ends->node->name, "Resize: the 16-bit function is empty (CHIP C8)");
    if (!one_of(text(ends, "mode"), "nearest|linear")) fault(verifier, row, ends, "mode must be nearest or linear");
    if (!given || !constant_count(given))
        fault(verifier, row, ends, "scales or sizes must be constants");
    else if (data && data->shape.rank > 0 && constant_count(given) != data->shape.rank)
        fault(verifier, row, ends, "scales or sizes are not of full rank");
}

static void check_split(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const EspdlTensor *sizes = constant(ends, 1);
    if (!sizes) {
        fault(verifier, row, ends, "without sizes num_outputs is taken for a size");
        return;
    }
    if (sizes->data_type != dtype_rows[DTYPE_INT64].espdl || constant_count(sizes) != ends->node->output_count)
        fault(verifier, row, ends, "sizes must be int64, one an output");
}

/* Index inputs: constant integers of 64 bits, or 32 where the row says so. */
static void check_indices(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    bool narrow = strcmp(row->type, "Slice") == 0 || strcmp(row->type, "Gather") == 0;
    int last = strcmp(row->type, "Slice") == 0 ? 4 : 1;
    for (int i = 1; i <= last && i < ends->input_count; i++) {
        const EspdlTensor *tensor = constant(ends, i);
        bool dynamic = ends->inputs[i] && !tensor;
        if (dynamic) fault(verifier, row, ends, "an index input is not constant");
        if (!tensor) continue;
        Dtype dtype = dtype_from_onnx(tensor->data_type);
        if (dtype != DTYPE_INT64 && !(narrow && dtype == DTYPE_INT32)) fault(verifier, row, ends, "an index input is not int64");
    }
}

static void check_pad(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    if (text(ends, "mode") && !one_of(text(ends, "mode"), "constant|edge|reflect"))
        fault(verifier, row, ends, "mode must be constant, edge or reflect");
    check_indices(verifier, row, ends);
}

static void check_gather(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    check_indices(verifier, row, ends);
    const EspdlTensor *tensor = constant(ends, 1);
    for (int64_t i = 0; tensor && i < constant_count(tensor); i++) {
        if (constant_number(tensor, i) >= 0) continue;
        fault(verifier, row, ends, "a negative index: the chip does not count from the end");
        break;
    }
}

static void check_transpose(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Attribute *perm = verifier_attribute(ends->node, "perm", ATTRIBUTE_INTS);
    const Known *data = input(ends, 0);
    if (perm && data && data->shape.rank >= 0 && perm->count != data->shape.rank)
        fault(verifier, row, ends, "perm is not as long as the rank");
}

static void check_reshape(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    check_indices(verifier, row, ends);
    const EspdlTensor *shape = constant(ends, 1);
    int open = 0;
    bool zero = false;
    for (int64_t i = 0; shape && i < constant_count(shape); i++) {
        open += constant_number(shape, i) == -1;
        zero = zero || constant_number(shape, i) == 0;
    }
    if (open > 1) fault(verifier, row, ends, "more than one -1 in the shape");
    if (zero && !verifier_attribute(ends->node, "allowzero", ATTRIBUTE_INT))
        fault(verifier, row, ends, "a 0 in the shape needs the attribute allowzero");
}

static void check_reduce(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    check_indices(verifier, row, ends);
    const Known *data = input(ends, 0);
    if (data && data->shape.rank > 4) fault(verifier, row, ends, "more than four dimensions");
    if (data && strcmp(row->type, "ReduceL2") == 0 && !is_float(ends) && known_exponent(data) < -15)
        found(verifier, FINDING_WARNING, row->rule, ends->node->name, "ReduceL2: exponent %lld, below -15 the chip's scale overflows",
              (long long)known_exponent(data));
}

static void check_softmax(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Known *data = input(ends, 0);
    if (data && strcmp(ends->quant_type, "S8") == 0 && known_exponent(data) >= 0)
        found(verifier, FINDING_WARNING, row->rule, ends->node->name,
              "Softmax: input exponent %lld: exponentials without the maximum off overflow from 0 on; 16 bits do not (CHIP C11)",
              (long long)known_exponent(data));
}

static void check_div(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    for (int i = 0; i < 2 && strcmp(ends->quant_type, "S8") == 0; i++) {
        const Known *factor = input(ends, i);
        if (!factor || factor->constant || factor->shape.rank < 0 || shape_count(&factor->shape) != 1) continue;
        found(verifier, FINDING_WARNING, row->rule, ends->node->name,
              "Div: input %d has one element and is no constant: the table made of it at the first run is kept (CHIP C13)", i);
    }
}

static void check_prelu(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const EspdlTensor *slope = constant(ends, 1);
    const Known *data = input(ends, 0);
    if (text(ends, "lut") || is_float(ends) || !slope) return;
    if (data && data->shape.rank > 0 && slope->rank > 0 && slope->dims[0] != data->shape.dims[data->shape.rank - 1])
        found(verifier, FINDING_WARNING, row->rule, ends->node->name,
              "PRelu: the chip takes the last axis for channels: %lld slopes, the axis has %lld entries (CHIP C36)",
              (long long)slope->dims[0], (long long)data->shape.dims[data->shape.rank - 1]);
    if (slope->rank != 3 || (data && data->shape.rank != 4))
        fault(verifier, row, ends, "without a table the slope must be [C, 1, 1] and the data of rank 4");
}

static void check_recurrent(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    bool lstm = strcmp(row->type, "LSTM") == 0;
    const EspdlTensor *bias = constant(ends, 3);
    int64_t gate = integer(ends, "gate_exponent", 0);
    if (!lstm && integer(ends, "linear_before_reset", 0) != 1) fault(verifier, row, ends, "linear_before_reset must be 1");
    if (lstm && integer(ends, "input_forget", 0)) fault(verifier, row, ends, "input_forget must be 0");
    if (text(ends, "direction") && !one_of(text(ends, "direction"), "forward|bidirectional"))
        fault(verifier, row, ends, "direction must be forward or bidirectional");
    if (is_float(ends)) return;
    if (!verifier_attribute(ends->node, "gate_exponent", ATTRIBUTE_INT)) fault(verifier, row, ends, "attribute gate_exponent is missing");
    if (bias && (bias->data_type != dtype_rows[DTYPE_INT16].espdl || !bias->exponent_count || bias->exponents[0] != gate))
        fault(verifier, row, ends, "the bias must be int16 at gate_exponent");
    if (lstm && ends->outputs[2] && known_exponent(ends->outputs[2]) != gate)
        fault(verifier, row, ends, "the cell state must be at gate_exponent");
}

static void check_normalization(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const EspdlTensor *scale = constant(ends, 1);
    bool rms = strcmp(row->type, "RMSNormalization") == 0;
    if (scale && scale->data_type != (rms ? dtype_rows[DTYPE_FLOAT32].espdl : own_type(ends)))
        fault(verifier, row, ends, rms ? "the scale must be float32" : "scale and bias must have the operator's own type");
}

/* ---- the rows ---- */

/* clang-format off */
#define UNARY(type_, flags_) {type_, "17.4 " type_, ALL, 1, 1, 1, 1, (flags_) | OWN_TYPES, NULL, NULL}
#define BINARY(type_, flags_) {type_, "17.4 " type_, ALL, 2, 2, 1, 1, (flags_) | BROADCASTS, NULL, NULL}
#define DIVISION {"Div", "17.4 Div", ALL, 2, 2, 1, 1, BROADCASTS, NULL, check_div}
#define COMPARISON(type_) {type_, "17.4 " type_, INTEGER, 2, 2, 1, 1, COMPARES | BROADCASTS, NULL, NULL}
#define REDUCE(type_, flags_) {type_, "17.4 " type_, ALL, 1, 2, 1, 1, flags_, NULL, check_reduce}
#define MOVES(type_, least, most, attributes_, check_) {type_, "17.4 " type_, ALL, least, most, 1, 1, ONE_EXPONENT, attributes_, check_}

static const TypeRow rows[] = {
    {"Conv", "17.4 Conv", INTEGER, 2, 3, 1, 1, SHIFTS | IMAGE | ONE_PICTURE | OWN_TYPES, "strides:I dilations:I activation:s", check_conv},
    {"Gemm", "17.4 Gemm", INTEGER, 2, 3, 1, 1, SHIFTS | OWN_TYPES, "activation:s", check_gemm},
    {"MatMul", "17.4 MatMul", INTEGER, 2, 2, 1, 1, SHIFTS | OWN_TYPES, "activation:s", check_matmul},
    {"MaxPool", "17.4 MaxPool", INTEGER, 1, 1, 1, 1, ONE_EXPONENT | IMAGE | ONE_PICTURE, "kernel_shape:I strides:I", check_pool},
    {"AveragePool", "17.4 AveragePool", ALL, 1, 1, 1, 1, IMAGE | ONE_PICTURE, "kernel_shape:I strides:I", check_pool},
    {"GlobalAveragePool", "17.4 GlobalAveragePool", ALL, 1, 1, 1, 1, IMAGE, NULL, NULL},
    {"Resize", "17.4 Resize", INTEGER, 3, 4, 1, 1, ONE_EXPONENT | IMAGE | ONE_PICTURE, "mode:s", check_resize},
    BINARY("Add", ALL_EXPONENTS),
    BINARY("Sub", ALL_EXPONENTS),
    BINARY("Mul", SHIFTS),
    DIVISION,
    BINARY("Pow", 0),
    {"Mod", "17.4 Mod", ALL, 2, 2, 1, 1, BROADCASTS, "fmod:i", NULL},
    COMPARISON("Equal"),
    COMPARISON("Greater"),
    COMPARISON("Less"),
    COMPARISON("GreaterOrEqual"),
    COMPARISON("LessOrEqual"),
    {"Concat", "17.4 Concat", ALL, 1, 64, 1, 1, ALL_EXPONENTS, "axis:i", NULL},
    {"Split", "17.4 Split", ALL, 1, 2, 1, 64, 0, NULL, check_split},
    MOVES("Slice", 3, 5, NULL, check_indices),
    MOVES("Pad", 2, 4, "mode:s", check_pad),
    MOVES("Gather", 2, 2, NULL, check_gather),
    MOVES("ScatterND", 3, 3, NULL, NULL),
    MOVES("Transpose", 1, 1, "perm:I", check_transpose),
    MOVES("Reshape", 2, 2, NULL, check_reshape),
    MOVES("Squeeze", 1, 2, NULL, check_indices),
    MOVES("Unsqueeze", 2, 2, NULL, check_indices),
    MOVES("Flatten", 1, 1, NULL, NULL),
    MOVES("Identity", 1, 1, NULL, NULL),
    MOVES("ReverseSequence", 2, 2, NULL, NULL),
    {"DepthToSpace", "17.4 DepthToSpace", ALL, 1, 1, 1, 1, IMAGE, "blocksize:i", NULL},
    {"SpaceToDepth", "17.4 SpaceToDepth", ALL, 1, 1, 1, 1, IMAGE | ONE_EXPONENT, "blocksize:i", NULL},
    {"InsertZeros", "17.4 InsertZeros", ALL, 1, 1, 1, 1, IMAGE | ONE_EXPONENT, "stride:I output_padding:I", NULL},
    MOVES("StreamingCache", 1, 1, "window_size:i frame_axis:i", NULL),
    {"Softmax", "17.4 Softmax", ALL, 1, 1, 1, 1, FLOAT_OUTPUT, NULL, check_softmax},
    {"LogSoftmax", "17.4 LogSoftmax", ALL, 1, 1, 1, 1, FLOAT_OUTPUT, NULL, NULL},
    REDUCE("ReduceMax", ONE_EXPONENT),
    REDUCE("ReduceMin", ONE_EXPONENT),
    REDUCE("ReduceMean", 0),
    REDUCE("ReduceSum", 0),
    REDUCE("ReduceProd", 0),
    REDUCE("ReduceL1", 0),
    REDUCE("ReduceL2", 0),
    REDUCE("ReduceSumSquare", 0),
    REDUCE("ReduceLogSum", 0),
    REDUCE("ReduceLogSumExp", 0),
    {"LayerNormalization", "17.4 LayerNormalization", ALL, 2, 3, 1, 1, OWN_TYPES, NULL, check_normalization},
    {"RMSNormalization", "17.4 RMSNormalization", ALL, 2, 2, 1, 1, OWN_TYPES, NULL, check_normalization},
    UNARY("LpNormalization", 0),
    {"PRelu", "17.4 PRelu", ALL, 2, 2, 1, 1, TABLE | OWN_TYPES, NULL, check_prelu},
    {"Clip", "17.4 Clip", ALL, 1, 3, 1, 1, TABLE | OWN_TYPES, NULL, NULL},
    UNARY("Relu", TABLE),
    UNARY("LeakyRelu", TABLE),
    UNARY("Sigmoid", TABLE),
    UNARY("Tanh", TABLE),
    UNARY("HardSigmoid", TABLE),
    UNARY("HardSwish", TABLE),
    UNARY("Elu", TABLE),
    UNARY("Exp", TABLE),
    UNARY("Log", TABLE),
    UNARY("Sqrt", TABLE),
    UNARY("Swish", TABLE),
    UNARY("Neg", ONE_EXPONENT),
    {"Gelu", "17.4 Gelu", INTEGER, 1, 1, 1, 1, TABLE | TABLE16 | NEEDS_TABLE | OWN_TYPES, NULL, NULL},
    {"LUT", "17.4 LUT", INTEGER, 1, 1, 1, 1, TABLE | TABLE16 | NEEDS_TABLE | OWN_TYPES, NULL, NULL},
    {"GRU", "17.4 GRU", ALL, 3, 6, 2, 2, OWN_TYPES, "hidden_size:i", check_recurrent},
    {"LSTM", "17.4 LSTM", ALL, 3, 8, 3, 3, OWN_TYPES, "hidden_size:i", check_recurrent},
    {"QuantizeLinear", "17.4 QuantizeLinear", ALL, 1, 3, 1, 1, CONVERTS, NULL, NULL},
    {"DequantizeLinear", "17.4 DequantizeLinear", ALL, 1, 3, 1, 1, CONVERTS, NULL, NULL},
    {"RequantizeLinear", "17.4 RequantizeLinear", ALL, 1, 3, 1, 1, CONVERTS, NULL, NULL},
};
/* clang-format on */

/* ---- what rows say ---- */

static void verify_attributes(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    static const char kinds[] = {['i'] = ATTRIBUTE_INT, ['s'] = ATTRIBUTE_STRING, ['I'] = ATTRIBUTE_INTS};
    for (const char *at = row->attributes; at && *at;) {
        char name[32] = {0};
        size_t length = strcspn(at, ":");
        memcpy(name, at, length < sizeof name ? length : sizeof name - 1);
        if (!verifier_attribute(ends->node, name, (AttributeKind)kinds[(int)at[length + 1]]))
            found(verifier, FINDING_ERROR, row->rule, ends->node->name, "%s: attribute %s is missing or of another kind", row->type, name);
        at += length + 2;
        at += *at == ' ';
    }
}

static bool alike(const Known *a, const Known *b)
{
    return !a || !b || (known_type(a) == known_type(b) && known_exponent(a) == known_exponent(b));
}

static void verify_formats(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Known *first = ends->inputs[0], *made = ends->outputs[0];
    if (row->flags & FLOAT_OUTPUT && made && known_type(made) != dtype_rows[DTYPE_FLOAT32].espdl)
        fault(verifier, row, ends, "its output must be float32 (the module stops)");
    if (row->flags & COMPARES && made && known_type(made) != dtype_rows[DTYPE_BOOL].espdl)
        fault(verifier, row, ends, "its output must be bool");
    if (row->flags & OWN_TYPES && ((first && known_type(first) != own_type(ends)) || (made && known_type(made) != own_type(ends))))
        found(verifier, FINDING_ERROR, row->rule, ends->node->name,
              "%s: %s reads type %d and makes %d, both must be %d: a conversion is missing", row->type, ends->quant_type,
              first ? known_type(first) : 0, made ? known_type(made) : 0, own_type(ends));
    if (is_float(ends)) return;
    bool fits = true;
    if (row->flags & ONE_EXPONENT) fits = alike(first, made);
    for (int i = 1; row->flags & (ALL_EXPONENTS | COMPARES) && i < ends->input_count; i++)
        fits = fits && alike(first, ends->inputs[i]);
    if (row->flags & ALL_EXPONENTS) fits = fits && alike(first, made);
    if (!fits) fault(verifier, row, ends, "inputs and output differ in type or exponent, but the module takes the integers as they are");
}

static void verify_shift(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Known *a = input(ends, 0), *b = input(ends, 1), *made = ends->outputs[0];
    if (!(row->flags & SHIFTS) || is_float(ends) || !a || !b || !made) return;
    int count = known_exponent_count(b);
    const int64_t *exponents = b->constant ? b->constant->exponents : b->value ? b->value->exponents : NULL;
    for (int i = 0; exponents && i < count; i++) {
        int64_t shift = known_exponent(made) - known_exponent(a) - sane_exponent(exponents[i]);
        if (shift >= 0) continue;
        found(verifier, FINDING_ERROR, row->rule, ends->node->name,
              "%s: output exponent %lld is below %lld + %lld: the shift to the right is negative", row->type,
              (long long)known_exponent(made), (long long)known_exponent(a), (long long)exponents[i]);
        return;
    }
}

/* Adjacent dimensions that no operand broadcasts differently are one to the chip; four are left at most. */
static int merged_rank(const Shape *a, const Shape *b)
{
    int rank = a->rank > b->rank ? a->rank : b->rank, merged = 0, before = -1;
    for (int i = 0; i < rank; i++) {
        int64_t x = i < rank - a->rank ? 1 : a->dims[i - rank + a->rank], y = i < rank - b->rank ? 1 : b->dims[i - rank + b->rank];
        int kind = x == y ? 0 : x == 1 ? 1 : 2;
        if (x == 1 && y == 1) continue;
        merged += kind != before;
        before = kind;
    }
    return merged;
}

static void verify_shapes(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Known *a = input(ends, 0), *b = input(ends, 1);
    Shape whole;
    if (row->flags & IMAGE && a && a->shape.rank >= 0 && a->shape.rank != 3 && a->shape.rank != 4)
        fault(verifier, row, ends, "rank 3 or 4 is wanted");
    if (row->flags & ONE_PICTURE && a && a->shape.rank > 0 && a->shape.dims[0] != 1)
        fault(verifier, row, ends, "more than one picture at once: only the first is computed");
    if (!(row->flags & BROADCASTS) || verifier->streaming || !a || !b || a->shape.rank < 0 || b->shape.rank < 0) return;
    if (!shape_broadcast(&a->shape, &b->shape, &whole))
        fault(verifier, row, ends, "the shapes do not broadcast");
    else if (merged_rank(&a->shape, &b->shape) > 4)
        fault(verifier, row, ends, "more than four dimensions are left after merging");
}

static void verify_table(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const char *name = text(ends, "lut");
    bool narrow = strcmp(ends->quant_type, "S8") == 0;
    if (is_float(ends)) return;
    if (!name) {
        if (row->flags & NEEDS_TABLE) fault(verifier, row, ends, "there is no table, the module crashes without one");
        return;
    }
    const Known *end = known(verifier, name);
    const EspdlTensor *table = end ? end->constant : NULL;
    if (!table) {
        found(verifier, FINDING_ERROR, "17.3", ends->node->name, "its table %s is no initializer", name);
        return;
    }
    int64_t count = constant_count(table), step = count > 1 ? 65536 / (count - 1) : 0;
    bool sized = narrow ? count == 256 : count == 65536 || (step > 0 && (step & (step - 1)) == 0 && count == 65536 / step + 1);
    if (table->data_type != own_type(ends) || !sized)
        found(verifier, FINDING_ERROR, "17.3", name, "a table of %lld entries of type %d for %s", (long long)count, table->data_type,
              ends->quant_type);
    if (ends->outputs[0] && (!table->exponent_count || table->exponents[0] != known_exponent(ends->outputs[0])))
        found(verifier, FINDING_ERROR, "17.3", name, "the table's exponent is not that of the output of %s", ends->node->name);
    if (!(row->flags & (narrow ? TABLE : TABLE16)) && strcmp(row->type, "Neg") != 0)
        found(verifier, FINDING_WARNING, "17.3", name, "the module of %s does not read tables at %s: dead weight", row->type,
              ends->quant_type);
}

/* Shapes as the runtime finds them, where the file may say otherwise: behind a Transpose, and what keeps shapes behind that. */
static void follow_shape(Verifier *verifier, const TypeRow *row, const Ends *ends)
{
    const Known *from = ends->inputs[0];
    Known *made = ends->node->output_count ? known(verifier, ends->node->outputs[0]) : NULL;
    if (!from || !made || from->shape.rank < 0) return;
    const Attribute *perm = strcmp(row->type, "Transpose") == 0 ? verifier_attribute(ends->node, "perm", ATTRIBUTE_INTS) : NULL;
    if (perm && perm->count == from->shape.rank) {
        Shape shape = {.rank = perm->count};
        for (int i = 0; i < perm->count; i++) {
            int64_t axis = perm->integers[i] < 0 ? perm->integers[i] + perm->count : perm->integers[i];
            if (axis < 0 || axis >= perm->count) return;
            shape.dims[i] = from->shape.dims[axis];
        }
        made->shape = shape;
    } else if (row->flags & (TABLE | CONVERTS | FLOAT_OUTPUT)) {
        made->shape = from->shape;
    }
}

static const TypeRow *row_of(const char *type)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].type, type) == 0) return &rows[i];
    }
    return NULL;
}

void verify_node(Verifier *verifier, int index)
{
    const EspdlNode *node = &verifier->model->nodes[index];
    const TypeRow *row = row_of(node->type);
    const Attribute *quant = verifier_attribute(node, "quant_type", ATTRIBUTE_STRING);
    if (!row) {
        found(verifier, FINDING_ERROR, "17.2 op_type", node->name, "the runtime has no operator %s: the file does not load", node->type);
        return;
    }
    if (!quant || !one_of(quant->string, "S8|S16|F32")) return; /* said already */
    Ends ends = {.node = node, .quant_type = quant->string};
    const int most = (int)(sizeof ends.inputs / sizeof ends.inputs[0]);
    ends.input_count = node->input_count < most ? node->input_count : most;
    ends.output_count = node->output_count < most ? node->output_count : most;
    for (int i = 0; i < ends.input_count; i++)
        ends.inputs[i] = known(verifier, node->inputs[i]);
    for (int i = 0; i < ends.output_count; i++)
        ends.outputs[i] = known(verifier, node->outputs[i]);
    unsigned width = is_float(&ends) ? F32 : strcmp(ends.quant_type, "S8") == 0 ? S8 : S16;
    if (!(row->modules & width)) {
        found(verifier, FINDING_ERROR, row->rule, node->name, "%s: the runtime has no module for %s", row->type, ends.quant_type);
        return;
    }
    if (node->input_count < row->least_inputs || node->input_count > row->most_inputs || node->output_count < row->least_outputs ||
        node->output_count > row->most_outputs) {
        found(verifier, FINDING_ERROR, row->rule, node->name, "%s: %d inputs and %d outputs", row->type, node->input_count,
              node->output_count);
        return;
    }
    verify_attributes(verifier, row, &ends);
    verify_formats(verifier, row, &ends);
    verify_shift(verifier, row, &ends);
    verify_shapes(verifier, row, &ends);
    verify_table(verifier, row, &ends);
    if (row->check) row->check(verifier, row, &ends);
    follow_shape(verifier, row, &ends);
}
