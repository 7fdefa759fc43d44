/* What operator rows say about quantization, against the lists of QUANT §4.4, §4.5, §6. */
#include "check.h"

#include <string.h>

#include "graph/operator.h"
#include "quant/slots.h"

static bool listed(const char *list, const char *name)
{
    char word[64];
    snprintf(word, sizeof word, " %s ", name);
    return strstr(list, word) != NULL;
}

/* Exactly the reference's types are quantized by default, are passive, are measured, clamp. (Gemm, Conv … by their ONNX names.) */
TEST(rows_flags_are_the_references)
{
    static const char quantizable[] = " Conv ConvTranspose Gemm GRU LSTM Relu PRelu Clip Pad Resize MaxPool AveragePool GlobalMaxPool "
                                      "GlobalAveragePool Softmax LogSoftmax LpNormalization Mul Add "
                                      "Max Sub Div Neg Reshape LeakyRelu Concat Sigmoid Interp ReduceL1 ReduceL2 ReduceMean ReduceMin "
                                      "ReduceMax ReduceProd ReduceSum ReduceSumSquare ReduceLogSum "
                                      "ReduceLogSumExp Transpose Slice Flatten HardSwish HardSigmoid MatMul Attention LayerNormalization "
                                      "RMSNormalization Gelu PPQBiasFusedMatMul Split Gather ScatterND "
                                      "Tanh Elu Greater Less Equal GreaterOrEqual LessOrEqual ReverseSequence Identity Swish Squeeze "
                                      "Unsqueeze Exp DepthToSpace SpaceToDepth InsertZeros Mod ";
    static const char computing[] = " Conv Gemm ConvTranspose MatMul Attention PPQBiasFusedMatMul LSTM ";
    static const char passive[] = " MaxPool GlobalMaxPool Reshape Flatten Identity Dropout Slice Pad Split Transpose Interp Squeeze "
                                  "Unsqueeze Gather ReverseSequence ReduceMax ReduceMin ";
    static const char clamps[] = " Relu Clip ", weighted[] = " Conv ConvTranspose Gemm ";
    const Operator *row;
    for (int i = 0; (row = operator_at(i)); i++) {
        CHECK(!(row->flags & OPERATOR_QUANTIZABLE) == !listed(quantizable, row->name), "%s: OPERATOR_QUANTIZABLE", row->name);
        CHECK(!(row->flags & OPERATOR_COMPUTING) == !listed(computing, row->name), "%s: OPERATOR_COMPUTING", row->name);
        CHECK(!(row->flags & OPERATOR_PASSIVE) == !listed(passive, row->name), "%s: OPERATOR_PASSIVE", row->name);
        CHECK(!(row->flags & OPERATOR_CLAMP) == !listed(clamps, row->name), "%s: OPERATOR_CLAMP", row->name);
        CHECK(!(row->flags & OPERATOR_WEIGHTED) == !listed(weighted, row->name), "%s: OPERATOR_WEIGHTED", row->name);
    }
}

/* The ends that are never quantized, the ends that follow input 0, and the kinds of alignment. */
TEST(rows_ends_are_the_references)
{
    static const struct {
        const char *name;
        uint32_t inputs, outputs, scaled;
        AlignKind align;
    } wanted[] = {
        {"Reshape", 2, 0, 0, ALIGN_NEVER},
        {"Squeeze", 2, 0, 0, ALIGN_NEVER},
        {"Unsqueeze", 2, 0, 0, ALIGN_NEVER},
        {"Split", 2, 0, 0, ALIGN_NEVER},
        {"Expand", 2, 0, 0, ALIGN_NEVER},
        {"ReduceMean", 2, 0, 0, ALIGN_NEVER},
        {"ReduceMax", 2, 0, 0, ALIGN_NEVER},
        {"TopK", 2, 2, 0, ALIGN_NEVER},
        {"Pad", 14, 0, 4, ALIGN_NEVER},
        {"Resize", 14, 0, 0, ALIGN_RESIZE},
        {"Slice", 30, 0, 0, ALIGN_NEVER},
        {"Clip", 6, 0, 6, ALIGN_NEVER},
        {"Tile", 6, 0, 0, ALIGN_NEVER},
        {"Gather", 2, 0, 0, ALIGN_NEVER},
        {"GatherElements", 2, 0, 0, ALIGN_NEVER},
        {"GatherND", 2, 0, 0, ALIGN_NEVER},
        {"ScatterND", 2, 0, 0, ALIGN_CONCAT},
        {"ScatterElements", 2, 0, 0, ALIGN_NEVER},
        {"ReverseSequence", 2, 0, 0, ALIGN_NEVER},
        {"Greater", 0, 1, 0, ALIGN_LOGICAL},
        {"Less", 0, 1, 0, ALIGN_LOGICAL},
        {"Equal", 0, 1, 0, ALIGN_LOGICAL},
        {"GreaterOrEqual", 0, 1, 0, ALIGN_LOGICAL},
        {"LessOrEqual", 0, 1, 0, ALIGN_LOGICAL},
        {"Softmax", 0, 1, 0, ALIGN_NEVER},
        {"LogSoftmax", 0, 1, 0, ALIGN_NEVER},
        {"RMSNormalization", 2, 0, 0, ALIGN_NEVER},
        {"Add", 0, 0, 0, ALIGN_ELEMENTWISE},
        {"Sub", 0, 0, 0, ALIGN_ELEMENTWISE},
        {"Sum", 0, 0, 0, ALIGN_ELEMENTWISE},
        {"Concat", 0, 0, 0, ALIGN_CONCAT},
        {"AveragePool", 0, 0, 0, ALIGN_POOLING},
        {"GlobalAveragePool", 0, 0, 0, ALIGN_POOLING},
        {"Mul", 0, 0, 0, ALIGN_NEVER},
        {"Max", 0, 0, 0, ALIGN_NEVER},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        const Operator *row = operator_find(wanted[i].name);
        if (!row) continue; /* not every float operator has a row */
        CHECK(row->float_inputs == wanted[i].inputs, "%s: float inputs %x", row->name, row->float_inputs);
        CHECK(row->float_outputs == wanted[i].outputs, "%s: float outputs %x", row->name, row->float_outputs);
        CHECK(row->scaled_inputs == wanted[i].scaled, "%s: scaled inputs %x", row->name, row->scaled_inputs);
        CHECK(row->align == wanted[i].align, "%s: align %d", row->name, (int)row->align);
    }
    CHECK(operator_find("Gemm")->slots == slots_gemm && operator_find("ConvTranspose")->slots == slots_conv_transpose, "weights' axes");
}
