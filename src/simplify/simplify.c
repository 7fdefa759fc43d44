/* The list of load-time rewrites and its driver. Order in the table is order in time: the reference's (QUANT §2.3), with espq's own
 * rewrites where their patterns are still whole. */
#include "simplify/rules.h"

/* clang-format off */
const Rewrite rewrites[] = {
    /* name                 help                                                                                extra  does */
    {"given_scales",        "a quantized model: the scales of its tensors are kept for the slots",              true,  rewrite_given_scales},
    {"constants",           "shapes of all tensors; what depends on constants and shapes only is computed",     false, rewrite_constants},
    {"names",               "dead nodes go; nodes without a name are numbered",                                 false, rewrite_names},
    {"no_ops",              "Dropout goes (and, as an extra, Identity and Cast to the same type)",              false, rewrite_no_ops},
    {"softmax_axes",        "Softmax of opset 12 and before over several axes is flattened, as it was meant",   false, rewrite_softmax_axes},
    {"split_sizes",         "Split into a number of parts that do not come out even gets sizes",                false, rewrite_split_sizes},
    {"quantize_pairs",      "QuantizeLinear, DequantizeLinear in a row go: what they say stays with the tensor",true,  rewrite_quantize_pairs},
    {"einsum",              "Einsum that is a matrix product becomes MatMul",                                   true,  rewrite_einsum},
    {"sums",                "Sum becomes a chain of Add",                                                       true,  rewrite_sums},
    {"bounds",              "Max and Min with a number, Relu and Clip in a row become one Clip",                true,  rewrite_bounds},
    {"layer_norm",          "LayerNormalization written in nine nodes becomes one",                             true,  rewrite_layer_norm},
    {"gelu",                "Gelu written with Erf or Tanh becomes one",                                        true,  rewrite_gelu},
    {"pixel_shuffle",       "DepthToSpace written with 6-D Reshape and Transpose becomes one",                  true,  rewrite_pixel_shuffle},
    {"depth_order",         "DepthToSpace and SpaceToDepth in an order of channels that the chip has",          true,  rewrite_depth_order},
    {"transposes",          "Transposes between NHWC and NCHW meet and vanish",                                 true,  rewrite_transposes},
    {"global_pool",         "ReduceMean over rows and columns becomes GlobalAveragePool",                       true,  rewrite_global_pool},
    {"flatten",             "Flatten and Reshape have one spelling; those that change nothing go",              true,  rewrite_flatten},
    {"matmul_add",          "MatMul of a matrix by a constant one becomes Gemm",                                true,  rewrite_matmul_add},
    {"gemm_factors",        "alpha and beta of Gemm go into weight and bias",                                   false, rewrite_gemm_factors},
    {"gemm_transpose",      "Gemm has its weight as [out, in] and takes its input as it is",                    true,  rewrite_gemm_transpose},
    {"split_parameters",    "a parameter for each of its uses",                                                 false, rewrite_split_parameters},
    {"bias_add",            "Conv, ConvTranspose and Gemm take the bias from an Add behind them",               false, rewrite_bias_add},
    {"bias_sum",            "a second bias is added to the first",                                              true,  rewrite_bias_sum},
    {"gemm_bias",           "the bias of Gemm has one number an output",                                        true,  rewrite_gemm_bias},
    {"batch_norm",          "BatchNormalization goes into the Conv, Gemm or ConvTranspose before it",           false, rewrite_batch_norm},
    {"isolated_batch_norm", "any other BatchNormalization becomes a depthwise Conv",                            false, rewrite_isolated_batch_norm},
    {"swish",               "x * sigmoid(x) behind a computing or moving node becomes Swish",                   false, rewrite_swish},
    {"any_swish",           "x * sigmoid(x) anywhere becomes Swish",                                            true,  rewrite_any_swish},
    {"rms_norm",            "RMSNormalization written in parts becomes one",                                    false, rewrite_rms_norm},
    {"lp_norm",             "LpNormalization written in parts becomes one",                                     false, rewrite_lp_norm},
    {"slice",               "Slice has its numbers as inputs",                                                  false, rewrite_slice},
    {"clip",                "Clip has its bounds as inputs",                                                    false, rewrite_clip},
    {"pad",                 "Pad has its numbers as inputs, for all axes",                                      false, rewrite_pad},
    {"resize",              "Resize has its roi, left out, as input 1",                                         false, rewrite_resize},
    {"groups",              "Conv in groups that the chip lacks becomes Convs in one (switch split_groups)",    false, rewrite_groups},
    {"spelling",            "one spelling for what opsets write differently",                                   true,  rewrite_spelling},
    {"identity",            "Identity goes",                                                                    false, rewrite_identity},
    {NULL, NULL, false, NULL},
};
/* clang-format on */

static bool run_row(Graph *graph, const Rewrite *row, const SimplifyOptions *options, Error *error)
{
    int changes = 0;
    if (!row->apply(graph, options, &changes, error)) return false;
    return changes == 0 || infer_all(graph, error);
}

bool simplify_graph(Graph *graph, const SimplifyOptions *options, Error *error)
{
    for (const Rewrite *row = rewrites; row->name; row++) {
        if (row->extra && !options->extra_rewrites) continue;
        if (!run_row(graph, row, options, error)) return false;
    }
    graph_remove_unused(graph);
    return infer_all(graph, error);
}
