/* The columns that drive quantization and lowering, against the lists of QUANT and EXPORT (types without a row are passed over). */
#include <string.h>

#include "check.h"
#include "graph/operator.h"

static bool listed(const char *list, const char *name)
{
    char word[80];
    snprintf(word, sizeof word, " %s ", name);
    return strstr(list, word) != NULL;
}

/* Promise: the passive types are those of QUANT §6, the measured ones K, the clamps Relu and Clip. */
TEST(flags_as_in_quant)
{
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        bool passive =
            listed(" MaxPool GlobalMaxPool Reshape Flatten Identity Dropout Slice Pad Split Transpose Interp Squeeze Unsqueeze Gather "
                   "ReverseSequence ReduceMax ReduceMin ",
                   row->name);
        bool computing = listed(" Conv Gemm ConvTranspose MatMul Attention PPQBiasFusedMatMul LSTM ", row->name);
        CHECK(!(row->flags & OPERATOR_PASSIVE) == !passive, "%s: passive", row->name);
        CHECK(!(row->flags & OPERATOR_COMPUTING) == !computing, "%s: computing", row->name);
        CHECK(!(row->flags & OPERATOR_CLAMP) == !listed(" Relu Clip ", row->name), "%s: clamp", row->name);
        CHECK(!(row->flags & OPERATOR_WEIGHTED) == !listed(" Conv ConvTranspose Gemm ", row->name), "%s: weighted", row->name);
    }
}

/* Promise: each type is aligned as the options of QUANT §6.3 say. */
TEST(alignment_as_in_quant)
{
    static const struct {
        AlignKind kind;
        const char *types;
    } rows[] = {
        {ALIGN_ELEMENTWISE, " Add Sub Sum "},
        {ALIGN_CONCAT, " Concat ScatterND "},
        {ALIGN_POOLING, " AveragePool GlobalAveragePool "},
        {ALIGN_RESIZE, " Resize "},
        {ALIGN_LOGICAL, " Greater Less Equal GreaterOrEqual LessOrEqual "},
        {ALIGN_RECURRENT, " GRU LSTM "},
    };
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        AlignKind wanted = ALIGN_NEVER;
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            if (listed(rows[k].types, row->name)) wanted = rows[k].kind;
        }
        CHECK(row->align == wanted, "%s", row->name);
    }
}

/* Promise: the ends that are never quantized are those of QUANT §4.5. */
TEST(float_ends_as_in_quant)
{
    static const struct {
        const char *types;
        uint32_t inputs, outputs;
    } rows[] = {
        {" Reshape Squeeze Unsqueeze Split Expand ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
         "ReduceSum "
         "ReduceSumSquare Gather GatherElements GatherND ScatterND ScatterElements ReverseSequence ",
         1 << 1, 0},
        {" TopK ", 1 << 1, 1 << 1},
        {" Pad Resize ", 1 << 1 | 1 << 2 | 1 << 3, 0},
        {" Slice ", 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4, 0},
        {" Clip Tile Where ", 1 << 1 | 1 << 2, 0},
        {" Greater Less Equal GreaterOrEqual LessOrEqual And Or Xor Shape NonZero ", 0, 1},
        {" ConstantOfShape Range OneHot ", UINT32_MAX, UINT32_MAX},
        {" Add Sub Mul Div Max Relu PRelu Concat Transpose Flatten MatMul Conv Gemm ", 0, 0},
    };
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            if (!listed(rows[k].types, row->name)) continue;
            CHECK(row->float_inputs == rows[k].inputs && row->float_outputs == rows[k].outputs, "%s: %x, %x", row->name, row->float_inputs,
                  row->float_outputs);
        }
    }
}

/* Promise: layout classes are those of EXPORT §4.2; what the reference does not know goes back to the original order or passes through. */
TEST(layouts_as_in_export)
{
    static const struct {
        LayoutClass layout;
        const char *types;
    } rows[] = {
        {LAYOUT_CONV, " Conv GlobalAveragePool AveragePool MaxPool ConvTranspose GlobalMaxPool DepthToSpace SpaceToDepth InsertZeros "},
        {LAYOUT_PASSIVE,
         " Relu PRelu Sigmoid Tanh HardSwish HardSigmoid Elu Erf Gelu Clip Cast LeakyRelu Softplus Identity Swish Abs Exp Log Sqrt Cos Sin "
         "Tan Not Floor Round Ceil Neg QuantizeLinear RequantizeLinear DequantizeLinear "},
        {LAYOUT_ADD, " Add Sub Mul Div And Equal Greater Less GreaterOrEqual LessOrEqual Pow Mod "},
        {LAYOUT_AXIS, " Softmax LogSoftmax Split LpNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean "
                      "ReduceMin ReduceProd "
                      "ReduceSum ReduceSumSquare "},
        {LAYOUT_CONCAT, " Concat "},
        {LAYOUT_RESIZE, " Resize "},
        {LAYOUT_OTHER,
         " MatMul Gemm Flatten Reshape Squeeze Unsqueeze Transpose Slice Pad Constant Gather GatherElements GatherND Shape ConstantOfShape "
         "ReverseSequence Expand LayerNorm LayerNormalization RMSNormalization Max Min ScatterElements ScatterND TopK Where GRU LSTM Sum "},
    };
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++)
            CHECK(!listed(rows[k].types, row->name) || row->layout == rows[k].layout, "%s", row->name);
    }
}

/* Promise: the types that swap places with Transposes (EXPORT §4.8), and those that get tables (§7), are the listed ones. */
TEST(tables_as_in_export)
{
    static const char activations[] = " Relu Sigmoid Tanh HardSwish HardSigmoid Elu Erf Gelu Clip Cast LeakyRelu Softplus Identity Swish ";
    static const char tables[] = " PRelu Abs Exp Log Sqrt Cos Sin Tan Not Floor Round Ceil Neg ";
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        bool activation = listed(activations, row->name);
        CHECK(row->swaps_transpose == activation, "%s: swaps_transpose", row->name);
        if (activation || listed(tables, row->name)) CHECK(row->table, "%s: no table function", row->name);
        /* A quantizable type outside of the lists must not get one: the reference's files have none. */
        else
            CHECK(!row->table || !(row->flags & OPERATOR_QUANTIZABLE), "%s: a table function too many", row->name);
    }
}

/* Promise: a type has a module exactly when the runtime registers one (EXPORT §17.2), in the widths of CHIP §2.0. */
TEST(modules_as_in_the_runtime)
{
    static const char registered[] = " Conv Add Sub Mul Div Pow Mod Resize GlobalAveragePool AveragePool Concat Sigmoid Tanh Relu "
                                     "LeakyRelu HardSigmoid HardSwish Gelu LUT Gemm "
                                     "QuantizeLinear DequantizeLinear RequantizeLinear PRelu Clip Flatten Reshape Transpose Exp Log Sqrt "
                                     "Squeeze Unsqueeze Softmax LogSoftmax MaxPool "
                                     "Slice Pad MatMul Neg SpaceToDepth DepthToSpace Split Gather Elu Greater GreaterOrEqual Equal Less "
                                     "LessOrEqual ReverseSequence ScatterND Identity "
                                     "Swish ReduceL1 ReduceL2 ReduceMin ReduceMax ReduceSum ReduceProd ReduceMean ReduceSumSquare "
                                     "ReduceLogSum ReduceLogSumExp GRU LSTM StreamingCache "
                                     "InsertZeros LayerNormalization LpNormalization RMSNormalization ";
    static const char no_float[] = " Conv Gemm MatMul MaxPool Resize Gelu LUT Greater GreaterOrEqual Equal Less LessOrEqual ";
    int count = 0;
    for (int i = 0; operator_at(i); i++) {
        const Operator *row = operator_at(i);
        CHECK(!row->module == !listed(registered, row->name), "%s: module %u", row->name, row->module);
        if (row->module) CHECK(!(row->module & MODULE_F32) == listed(no_float, row->name), "%s: float32", row->name);
        count += row->module != 0;
    }
    CHECK(count == 71, "%d of 71 registered types have a row", count);
}
