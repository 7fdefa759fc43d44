/* The rows of traits.h, from CHIP §4 and the places it names. */
#include "chip/traits.h"

#include <string.h>

#define VECTOR (FAMILY_S3 | FAMILY_P4)

static const ChipTraitRow rows[TRAIT_COUNT] = {
    [TRAIT_LANES_SATURATE] = {"lanes_saturate", "C1",
                              "sums of products clip at 20 bits (8-bit layers) or 40 bits (16-bit layers) at every step",
                              "16 bits for the layer, smaller weights (their exponent one higher), or fewer input channels in one sum",
                              FAMILY_S3, .defect = true},
    [TRAIT_BIAS_WRAPS] = {"bias_wraps", "C2",
                          "a bias keeps its low 20 bits (8-bit layers) or 40 bits: beyond +-2^19 it turns into another number",
                          "a higher weight exponent makes the bias's integer smaller", FAMILY_S3, .defect = true},
    [TRAIT_BIAS_LAST] = {"bias_last", NULL, "the bias is added behind the products, not before them", NULL, FAMILY_PLAIN},
    [TRAIT_NO_CHANNEL_SHIFTS] = {"no_channel_shifts", "C3", "weights with one exponent a channel crash: there is no table of shifts",
                                 "quantize for this chip: its weights have one exponent", FAMILY_S3 | FAMILY_PLAIN, .defect = true,
                                 .older = FAMILY_P4, .older_until = "3.3.1"},
    [TRAIT_NO_NEGATIVE_SHIFT] = {"no_negative_shift", "C4",
                                 "an output finer than its products crashes (8-bit Conv on the ESP32-S3) or gives 0",
                                 "raise the output's exponent to the sum of the inputs' exponents", VECTOR, .defect = true},
    [TRAIT_CONVERT_TAIL] = {"convert_tail", "C5", "Requantize from 8 to 16 bits leaves the last 8 elements unwritten when 8 are left over",
                            "one width on both sides, or sizes that are multiples of 16", VECTOR, .defect = true},
    [TRAIT_NARROW_MULTIPLIER] =
        {"narrow_multiplier", "C6",
         "multipliers of Requantize, Resize and PRelu lie in one element: 7 exponents downward flip the sign, 8 give 0",
         "keep exponents of input and output less than 7 apart there", VECTOR, .defect = true},
    [TRAIT_CONVERT_WRAPS] = {"convert_wraps", "C7", "Requantize from 16 to 8 bits to a finer exponent keeps 20 bits of the product",
                             "an output exponent that is not below the input's", FAMILY_S3, .defect = true},
    [TRAIT_NO_WIDE_RESIZE] = {"no_wide_resize", "C8", "Resize of 16 bits does nothing: the output keeps old memory", "8 bits for Resize",
                              FAMILY_ALL, .defect = true},
    [TRAIT_GROUPS_AS_DEPTHWISE] = {"groups_as_depthwise", "C10", "a Conv with groups other than 1 is computed as a depthwise one",
                                   "split it into convolutions of one group (espq does)", FAMILY_ALL, .defect = true},
    [TRAIT_SOFTMAX_NO_MAXIMUM] = {"softmax_no_maximum", "C11",
                                  "Softmax of 8 bits takes exponentials without the maximum off: large inputs give NaN",
                                  "an input exponent of -1 or less", FAMILY_ALL, .defect = true},
    [TRAIT_DIV_TABLE_FROZEN] = {"div_table_frozen", "C13",
                                "Div of 8 bits by one element makes its table at the first run and keeps it, though the element may change",
                                "make that operand a constant", FAMILY_ALL, .defect = true},
    [TRAIT_SPLIT_COUNT_AS_SIZE] = {"split_count_as_size", "C15", "Split takes num_outputs for the size of a piece",
                                   "write the sizes (espq does)", FAMILY_ALL, .defect = true},
    [TRAIT_GATHER_NO_WRAP] = {"gather_no_wrap", "C16", "negative indices of Gather and ScatterND read outside the tensor",
                              "indices from 0 (espq writes them so)", FAMILY_ALL, .defect = true},
    [TRAIT_DEPTH_ORDER] = {"depth_order", "C17", "DepthToSpace in mode DCR and SpaceToDepth take channels in another order than ONNX",
                           "Reshape, Transpose, Reshape instead, or mode CRD", FAMILY_ALL, .defect = true},
    [TRAIT_REVERSE_FORWARD] = {"reverse_forward", "C18", "GRU and LSTM with direction 'reverse' run forward",
                               "turn the sequence round before and behind it", FAMILY_ALL, .defect = true},
    [TRAIT_GATES_WRAP] = {"gates_wrap", "C18", "gate sums and cell state of GRU and LSTM wrap in 16 bits instead of saturating",
                          "smaller weights, or 16 bits", FAMILY_ALL, .defect = true},
    [TRAIT_POOL_COUNTS_PADDING] = {"pool_counts_padding", "C19",
                                   "AveragePool divides by the whole window also where it lies in the padding",
                                   "no pads, or count_include_pad = 1 in training", FAMILY_ALL, .defect = true},
    [TRAIT_FIRST_SAMPLE_ONLY] = {"first_sample_only", "C22", "Conv, pools, Resize and PRelu compute the first sample of a batch",
                                 "export with batch 1", FAMILY_ALL, .defect = true},
    [TRAIT_PRELU_FLOOR] = {"prelu_floor", "C23",
                           "PRelu's negative side is cut downward instead of rounded (all but 8 bits on chips with vectors)",
                           "one slope a layer: it becomes a table", FAMILY_ALL, .defect = true},
    [TRAIT_PRELU_POSITIVE_RAW] =
        {"prelu_positive_raw", "C23",
         "PRelu's positive side keeps its integers whatever the exponents are (all but 8 bits on chips with vectors)",
         "equal exponents of input and output", FAMILY_ALL, .defect = true},
    [TRAIT_PRELU_FLOOR_VECTOR] = {"p4_prelu_floor", NULL,
                                  "the other reading of the 8-bit PRelu on the ESP32-P4: its negative side is cut downward", NULL,
                                  FAMILY_P4, .asked = true},
    [TRAIT_CLIP_SMALLEST] = {"clip_smallest", "C24", "a float Clip without lower bound starts at the smallest positive number",
                             "write both bounds", FAMILY_ALL, .defect = true},
    [TRAIT_MUL_FLOAT] = {"mul_float", "C25", "Mul of 16 bits without a full vector goes through a float product: one step off now and then",
                         "nothing is needed: it is one step", FAMILY_ALL},
    [TRAIT_RESIZE_WRAPS] = {"resize_wraps", "C31", "nearest Resize to a finer exponent wraps instead of saturating", "equal exponents",
                            FAMILY_PLAIN, .defect = true},
    [TRAIT_NEWTON_SQRT] = {"newton_sqrt", "C32", "square roots of LayerNormalization and ReduceL2 stop at an absolute step of 1e-5",
                           "inputs of larger variance", FAMILY_ALL, .defect = true},
    [TRAIT_RESIZE_UNSET] = {"resize_unset", "C34",
                            "nearest Resize by other factors than 2 x 2 with fewer than 16 channels reads registers that nobody set",
                            "factors of 2, or 16 channels and more", VECTOR, .defect = true},
    [TRAIT_PRELU_LAST_AXIS] = {"prelu_last_axis", "C36",
                               "PRelu takes the last stored axis for channels, also where the tensor is not channels-last",
                               "a Transpose around it, or one slope", FAMILY_ALL, .defect = true},
};

const ChipTraitRow *chip_trait(ChipTrait trait)
{
    return &rows[trait];
}

int chip_trait_find(const char *name)
{
    for (int i = 0; i < TRAIT_COUNT; i++) {
        if (strcmp(rows[i].name, name) == 0) return i;
    }
    return -1;
}

/* Releases of the component as its manifest counted them. */
const char *const *chip_versions(void)
{
    static const char *const versions[] = {"3.0.0", "3.1.0", "3.1.1", "3.1.2", "3.1.3", "3.1.4", "3.1.5", "3.2.0",
                                           "3.2.1", "3.2.2", "3.2.3", "3.2.4", "3.3.0", "3.3.1", "3.3.2", "3.3.3",
                                           "3.3.4", "3.3.5", "3.3.6", "3.3.7", "3.3.8", "3.3.9", NULL};
    return versions;
}
