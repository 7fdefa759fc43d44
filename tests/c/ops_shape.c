#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "random_tensors.h"

/* The shape that an operator makes of input [dims], as text; or the message of the refusal. */
static void shape_after(const char *type, const Shape *from, Tensor *constant, const char *attribute, int64_t value, char out[160])
{
    Random random;
    random_seed(&random, 1);
    OperatorRun run;
    REQUIRE(operator_open(&run, type, 1), "no row");
    operator_input(&run, random_shaped(&random, from), false);
    if (constant) operator_constant(&run, constant);
    if (attribute) node_set_integer(run.graph, run.node, attribute, value);
    if (operator_run(&run)) {
        shape_text(&run.outputs[0]->shape, out);
        if (memcmp(run.outputs[0]->data, run.inputs[0]->data, tensor_bytes(run.inputs[0])) != 0) strcpy(out, "elements moved");
    } else {
        snprintf(out, 160, "%.159s", run.error.what);
    }
    operator_close(&run);
}

#define SHAPE(...) (&(Shape){.rank = sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), .dims = {__VA_ARGS__}})

/* Promise: Reshape knows 0, -1 and allowzero, Flatten splits at any axis, Squeeze and Unsqueeze count axes as ONNX does. */
TEST(shapes_of_the_same_elements)
{
    static const struct {
        const char *type;
        int64_t asked[4];
        int count;
        const char *attribute;
        int64_t value;
        const char *wanted;
    } rows[] = {
        /* of [2, 1, 3, 4] */
        {"Reshape", {0, -1}, 2, NULL, 0, "[2, 12]"},
        {"Reshape", {-1}, 1, NULL, 0, "[24]"},
        {"Reshape", {6, 0, 2, 2}, 4, NULL, 0, "[6, 1, 2, 2]"},
        {"Flatten", {0}, 0, NULL, 0, "[2, 12]"},
        {"Flatten", {0}, 0, "axis", 0, "[1, 24]"},
        {"Flatten", {0}, 0, "axis", -1, "[6, 4]"},
        {"Flatten", {0}, 0, "axis", 4, "[24, 1]"},
        {"Squeeze", {1}, 1, NULL, 0, "[2, 3, 4]"},
        {"Squeeze", {-3}, 1, NULL, 0, "[2, 3, 4]"},
        {"Squeeze", {0}, 0, NULL, 0, "[2, 3, 4]"},
        {"Unsqueeze", {0, -1}, 2, NULL, 0, "[1, 2, 1, 3, 4, 1]"},
        {"Unsqueeze", {5, 1}, 2, NULL, 0, "[2, 1, 1, 3, 4, 1]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[160];
        Tensor *asked = rows[i].count ? tensor_from_integers(rows[i].asked, rows[i].count, &(Error){0}) : NULL;
        shape_after(rows[i].type, SHAPE(2, 1, 3, 4), asked, rows[i].attribute, rows[i].value, text);
        CHECK(strcmp(text, rows[i].wanted) == 0, "%s row %zu: %s, wanted %s", rows[i].type, i, text, rows[i].wanted);
    }
}

/* Promise: a Reshape that cannot be is refused with the input's shape and the asked one. */
TEST(impossible_reshapes)
{
    static const struct {
        int64_t asked[3];
        int count;
        int64_t allow_zero;
        const char *named;
    } rows[] = {
        {{5, 5}, 2, 0, "[5, 5]"},   {{-1, -1}, 2, 0, "two dimensions are -1"},
        {{5, -1}, 2, 0, "[5, -1]"}, {{2, 3, 0}, 3, 0, "no dimension 2"},
        {{0, -1}, 2, 1, "[0, -1]"}, {{-2, 3}, 2, 0, "[-2, 3]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[160];
        shape_after("Reshape", SHAPE(4, 6), tensor_from_integers(rows[i].asked, rows[i].count, &(Error){0}), "allowzero",
                    rows[i].allow_zero, text);
        CHECK(strstr(text, "[4, 6]") && strstr(text, rows[i].named), "row %zu: %s", i, text);
    }
}

static int64_t only_number(OperatorRun *run, int64_t at)
{
    return run->output_count ? tensor_get_integer(run->outputs[0], at) : -1;
}

/* Promise: Shape and Size say what the input is, also in part. */
TEST(shape_and_size)
{
    Random random;
    random_seed(&random, 1);
    OperatorRun run;
    REQUIRE(operator_open(&run, "Shape", 1), "no row");
    operator_input(&run, random_tensor(&random, 2, 3, 4), false);
    node_set_integer(run.graph, run.node, "start", -2);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(tensor_count(run.outputs[0]) == 2 && only_number(&run, 0) == 3 && only_number(&run, 1) == 4, "Shape from -2");
    operator_close(&run);
    REQUIRE(operator_open(&run, "Size", 1), "no row");
    operator_input(&run, random_tensor(&random, 2, 3, 4), false);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(run.outputs[0]->shape.rank == 0 && only_number(&run, 0) == 24, "Size");
    operator_close(&run);
}

/* Promise: constants by rule: ConstantOfShape, Range, NonZero, OneHot, Trilu. */
TEST(made_constants)
{
    OperatorRun run;
    REQUIRE(operator_open(&run, "ConstantOfShape", 1), "no row");
    operator_constant(&run, integer_tensor(2, 2));
    Tensor *nine = integer_tensor(9);
    node_set_attribute(run.graph, run.node, &(Attribute){.name = "value", .kind = ATTRIBUTE_TENSOR, .tensor = nine});
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(run.outputs[0]->dtype == DTYPE_INT64 && tensor_count(run.outputs[0]) == 4 && only_number(&run, 3) == 9, "ConstantOfShape");
    tensor_release(nine);
    operator_close(&run);

    REQUIRE(operator_open(&run, "Range", 1), "no row");
    const int64_t range[3] = {10, 3, -3};
    for (int i = 0; i < 3; i++)
        operator_constant(&run, tensor_scalar(DTYPE_INT64, (double)range[i], &run.error));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(tensor_count(run.outputs[0]) == 3 && only_number(&run, 2) == 4, "Range");
    operator_close(&run);

    REQUIRE(operator_open(&run, "NonZero", 1), "no row");
    operator_constant(&run, tensor_from_data(DTYPE_INT64, SHAPE(2, 2), (int64_t[]){0, 5, 7, 0}, &run.error));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    CHECK(tensor_count(run.outputs[0]) == 4 && only_number(&run, 0) == 0 && only_number(&run, 1) == 1 && only_number(&run, 2) == 1 &&
              only_number(&run, 3) == 0,
          "NonZero");
    operator_close(&run);

    REQUIRE(operator_open(&run, "OneHot", 1), "no row");
    operator_constant(&run, integer_tensor(1, -1, 5));
    operator_constant(&run, tensor_scalar(DTYPE_INT64, 3, &run.error));
    operator_constant(&run, integer_tensor(0, 8));
    REQUIRE(operator_run(&run), "%s", run.error.what);
    const int64_t hot[9] = {0, 8, 0, 0, 0, 8, 0, 0, 0};
    CHECK(memcmp(run.outputs[0]->data, hot, sizeof hot) == 0, "OneHot");
    operator_close(&run);

    REQUIRE(operator_open(&run, "Trilu", 1), "no row");
    operator_constant(&run, tensor_from_data(DTYPE_INT64, SHAPE(2, 3), (int64_t[]){1, 2, 3, 4, 5, 6}, &run.error));
    node_set_integer(run.graph, run.node, "upper", 0);
    REQUIRE(operator_run(&run), "%s", run.error.what);
    const int64_t lower[6] = {1, 0, 0, 4, 5, 0};
    CHECK(memcmp(run.outputs[0]->data, lower, sizeof lower) == 0, "Trilu");
    operator_close(&run);
}

/* Promise: the quantizable types are exactly those of QUANT §4.4 that espq has rows for. */
TEST(quantizable_types)
{
    static const char listed[] = " Conv ConvTranspose Gemm GRU LSTM Relu PRelu Clip Pad Resize MaxPool AveragePool GlobalMaxPool "
                                 "GlobalAveragePool Softmax LogSoftmax "
                                 "LpNormalization Mul Add Max Sub Div Neg Reshape LeakyRelu Concat Sigmoid Interp ReduceL1 ReduceL2 "
                                 "ReduceMean ReduceMin ReduceMax ReduceProd "
                                 "ReduceSum ReduceSumSquare ReduceLogSum ReduceLogSumExp Transpose Slice Flatten HardSwish HardSigmoid "
                                 "MatMul Attention LayerNormalization "
                                 "RMSNormalization Gelu PPQBiasFusedMatMul Split Gather ScatterND Tanh Elu Greater Less Equal "
                                 "GreaterOrEqual LessOrEqual ReverseSequence Identity "
                                 "Swish Squeeze Unsqueeze Exp DepthToSpace SpaceToDepth InsertZeros Mod ";
    int quantizable = 0;
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        char word[64];
        snprintf(word, sizeof word, " %s ", row->name);
        CHECK(!(row->flags & OPERATOR_QUANTIZABLE) == !strstr(listed, word), "%s", row->name);
        quantizable += (row->flags & OPERATOR_QUANTIZABLE) != 0;
    }
    CHECK(quantizable >= 65, "only %d quantizable rows", quantizable); /* 69 types less Interp, Attention, PPQBiasFusedMatMul */
}
