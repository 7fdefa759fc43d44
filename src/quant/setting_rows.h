/* The rows of the setting tree, for setting.c: ROW(kind, path, generic, espdl, reference, choices, help),
 * UNUSED the same for what has no effect, SWITCH(name, espdl, reference, row of the specification, help). */
/* clang-format off */
#define ALIGN_TWO "None|Align to Input|Align to Output"
#define ALIGN_THREE "None|Align to Large|Align to Output"
#define VISIBILITY "EXPORT_WHEN_ACTIVE|INTERNAL|FORCE_EXPORT"
#define SAME(value) value, value, value

#define LAYER_SPLIT_ROWS(ROW, name, what) \
    ROW(SETTING_BOOL, name, SAME("false"), NULL, what) \
    ROW(SETTING_INTEGER, name##_setting.opt_level, SAME("1"), "1|2", "1: pairs of layers; 2: also across Add and Sub") \
    ROW(SETTING_INTEGER, name##_setting.iterations, SAME("10"), NULL, "how often all pairs are visited") \
    ROW(SETTING_NUMBER, name##_setting.value_threshold, SAME("0.5"), NULL, "channels below it are left alone") \
    ROW(SETTING_BOOL, name##_setting.including_bias, SAME("false"), NULL, "let biases count in a channel's range") \
    ROW(SETTING_NUMBER, name##_setting.bias_multiplier, SAME("0.5"), NULL, "weight of the bias") \
    ROW(SETTING_BOOL, name##_setting.including_act, SAME("false"), NULL, "let activations count in a channel's range") \
    ROW(SETTING_NUMBER, name##_setting.act_multiplier, SAME("0.5"), NULL, "weight of the activation") \
    ROW(SETTING_LIST, name##_setting.interested_layers, SAME(""), NULL, "only these layers; empty: all")

#define TRAIN_ROWS(ROW, name, what, device, learning_rate, rounds, trains_scale, punishment) \
    ROW(SETTING_BOOL, name, SAME("false"), NULL, what) \
    ROW(SETTING_LIST, name##_setting.interested_layers, SAME(""), NULL, "only these layers; empty: all") \
    ROW(SETTING_NUMBER, name##_setting.lr, SAME(learning_rate), NULL, "learning rate") \
    ROW(SETTING_TEXT, name##_setting.collecting_device, SAME(device), NULL, "taken as it is; has no effect here") \
    ROW(SETTING_INTEGER, name##_setting.steps, SAME(rounds), NULL, "training steps a block") \
    ROW(SETTING_BOOL, name##_setting.is_scale_trainable, SAME(trains_scale), NULL, "train scales too") \
    ROW(SETTING_NUMBER, name##_setting.gamma, SAME(punishment), NULL, "weight of the regularizer") \
    ROW(SETTING_INTEGER, name##_setting.block_size, SAME("4"), NULL, "depth of a block")

#define SETTING_ROWS(ROW, UNUSED, SWITCH) \
    ROW(SETTING_TEXT, dispatcher, "conservative", "allin", "allin", "allin|conservative|pplnn|aggresive|pointwise|perseus", "which operators are quantized") \
    ROW(SETTING_DISPATCH, dispatching_table, SAME(""), NULL, "platform of single operators, by name or pattern (/model.23/*)") \
    UNUSED(SETTING_BOOL, graph_format_setting.format_constant_op, SAME("true"), NULL, "turn Constant nodes into initializers: always done") \
    UNUSED(SETTING_BOOL, graph_format_setting.fuse_conv_bn, SAME("true"), NULL, "fold BatchNormalization: always done") \
    UNUSED(SETTING_BOOL, graph_format_setting.fuse_swish, SAME("true"), NULL, "x * sigmoid(x) becomes Swish: always done") \
    UNUSED(SETTING_BOOL, graph_format_setting.format_paramters, SAME("true"), NULL, "split shared parameters: always done") \
    UNUSED(SETTING_BOOL, graph_format_setting.format_cast, SAME("true"), NULL, "format Cast: always done") \
    UNUSED(SETTING_BOOL, graph_format_setting.delete_isolate, SAME("true"), NULL, "remove nodes nobody reads: always done") \
    ROW(SETTING_BOOL, fusion, SAME("true"), NULL, "let operators share slots, join, align (passes fuse, join, align)") \
    ROW(SETTING_BOOL, fusion_setting.remove_useless_quantization, SAME("true"), NULL, "both ends of an edge share one slot (pass join)") \
    ROW(SETTING_BOOL, fusion_setting.fuse_activation, SAME("true"), NULL, "what precedes Relu or Clip takes its slot") \
    ROW(SETTING_BOOL, fusion_setting.fuse_passive_op, SAME("true"), NULL, "operators that only move numbers keep their input's slot") \
    ROW(SETTING_BOOL, fusion_setting.align_quantization, SAME("true"), NULL, "run the pass align") \
    ROW(SETTING_TEXT, fusion_setting.align_avgpooling_to, SAME("None"), ALIGN_TWO, "AveragePool, GlobalAveragePool") \
    ROW(SETTING_TEXT, fusion_setting.align_elementwise_to, "Align to Large", "Align to Output", "Align to Output", ALIGN_THREE, "inputs of Add, Sub, Sum") \
    ROW(SETTING_TEXT, fusion_setting.align_concat_to, SAME("Align to Output"), ALIGN_THREE, "inputs of Concat, ScatterND") \
    ROW(SETTING_TEXT, fusion_setting.align_resize_to, SAME("Align to Output"), ALIGN_TWO, "Resize") \
    ROW(SETTING_BOOL, fusion_setting.force_alignment_overlap, "true", "false", "false", NULL, "align also what other operators read") \
    ROW(SETTING_BOOL, quantize_activation, SAME("true"), NULL, "choose exponents of activations from the data") \
    ROW(SETTING_TEXT_OR_NIL, quantize_activation_setting.calib_algorithm, "nil", "kl", "kl", "@observer", "calibration method; nil: percentile") \
    ROW(SETTING_BOOL, quant_config_modify, SAME("false"), NULL, "set output scales of single operators by hand") \
    ROW(SETTING_CONFIG, quant_config_modify_setting.custom_config, SAME(""), NULL, "operator name = scale") \
    ROW(SETTING_BOOL, quantize_parameter, SAME("true"), NULL, "choose exponents of weights") \
    ROW(SETTING_TEXT_OR_NIL, quantize_parameter_setting.calib_algorithm, SAME("nil"), "@observer", "method for parameters; nil: minmax per channel, else percentile") \
    ROW(SETTING_BOOL, quantize_parameter_setting.quantize_passive_parameter, SAME("true"), NULL, "exponents of biases, Clip bounds, Pad values") \
    ROW(SETTING_TEXT, quantize_parameter_setting.clip_visiblity, "INTERNAL", "EXPORT_WHEN_ACTIVE", "EXPORT_WHEN_ACTIVE", VISIBILITY, "are Clip bounds exported quantized?") \
    ROW(SETTING_TEXT, quantize_parameter_setting.pad_visiblity, "INTERNAL", "EXPORT_WHEN_ACTIVE", "EXPORT_WHEN_ACTIVE", VISIBILITY, "are Pad values exported quantized?") \
    ROW(SETTING_BOOL, quantize_parameter_setting.baking_parameter, "true", "false", "false", NULL, "write rounded values into the weights") \
    ROW(SETTING_BOOL, ssd_equalization, SAME("false"), NULL, "SSD equalization of layer pairs") \
    ROW(SETTING_INTEGER, ssd_setting.opt_level, SAME("1"), "1|2", "1 is the only level there is") \
    ROW(SETTING_NUMBER, ssd_setting.channel_ratio, SAME("0.5"), NULL, "channels below this share of the largest count as if they reached it") \
    ROW(SETTING_NUMBER, ssd_setting.loss_threshold, SAME("0.8"), NULL, "keep a pair only below this share of its loss") \
    ROW(SETTING_BOOL, ssd_setting.layer_norm, SAME("false"), NULL, "normalize layers too") \
    ROW(SETTING_INTEGER, ssd_setting.iteration, SAME("3"), NULL, "how often all pairs are visited") \
    LAYER_SPLIT_ROWS(ROW, equalization, "move scales between neighbouring layers so that channels get alike") \
    LAYER_SPLIT_ROWS(ROW, channel_split, "split channels that stretch a layer's range") \
    ROW(SETTING_BOOL, weight_split, SAME("false"), NULL, "split a layer's large weights into a second layer") \
    ROW(SETTING_LIST, weight_split_setting.interested_layers, SAME(""), NULL, "the layers to split; needed") \
    ROW(SETTING_NUMBER, weight_split_setting.value_threshold, SAME("2.0"), NULL, "weights above it are split") \
    ROW(SETTING_TEXT, weight_split_setting.method, SAME("balance"), "balance|random", "halves, or random shares") \
    UNUSED(SETTING_BOOL, matrix_factorization, SAME("false"), NULL, "was removed from the reference") \
    UNUSED(SETTING_LIST, matrix_factorization_setting.interested_layers, SAME(""), NULL, "was removed from the reference") \
    UNUSED(SETTING_TEXT, matrix_factorization_setting.method, SAME("svd"), NULL, "was removed from the reference") \
    ROW(SETTING_BOOL, convtranspose_decomposition, SAME("true"), NULL, "ConvTranspose becomes InsertZeros and Conv") \
    ROW(SETTING_BOOL, bias_correct, SAME("false"), NULL, "correct biases by the mean error of each block") \
    ROW(SETTING_LIST, bias_correct_setting.interested_layers, SAME(""), NULL, "only these layers; empty: all") \
    ROW(SETTING_INTEGER, bias_correct_setting.block_size, SAME("4"), NULL, "depth of a block") \
    ROW(SETTING_INTEGER, bias_correct_setting.steps, SAME("32"), NULL, "taken as it is; has no effect, as in the reference: block_batches limits the batches") \
    ROW(SETTING_TEXT, bias_correct_setting.collecting_device, SAME("executor"), NULL, "taken as it is; has no effect here") \
    TRAIN_ROWS(ROW, lsq_optimization, "train weights and biases block by block (LSQ)", "cuda", "1e-05", "500", "true", "0.0") \
    TRAIN_ROWS(ROW, tqt_optimization, "train weights and exponents block by block (TQT)", "cpu", "1e-05", "500", "true", "0.0") \
    ROW(SETTING_NUMBER, tqt_optimization_setting.int_lambda, SAME("0.0"), NULL, "pull exponents towards whole numbers") \
    ROW(SETTING_NUMBER, tqt_optimization_setting.scale_lr, SAME("0.0"), NULL, "learning rate of exponents (their log2); 0: lr") \
    TRAIN_ROWS(ROW, blockwise_reconstruction, "train the rounding of weights block by block (AdaRound)", "cuda", "0.001", "5000", "false", "1.0") \
    ROW(SETTING_BOOL, recover, SAME("false"), NULL, "espq's own recovery: roads, training and exponents by what the outputs say") \
    ROW(SETTING_NUMBER, recover_setting.budget, SAME("60.0"), NULL, "seconds on two cores that its steps are planned for") \
    ROW(SETTING_NUMBER, recover_setting.bits16_budget, SAME("0.0"), NULL, "share of the MACs that may move to 16 bits, most sensitive first") \
    ROW(SETTING_INTEGER, recover_setting.seed, SAME("0"), NULL, "of its random numbers") \
    ROW(SETTING_INTEGER, block_memory, SAME("256"), NULL, "megabytes of values kept from block to block; more goes to a temporary file (TMPDIR)") \
    ROW(SETTING_INTEGER, block_batches, SAME("0"), NULL, "batches that bias_correct, lsq, tqt and blockwise work on and judge by; 0: all") \
    ROW(SETTING_NUMBER, block_holdout, SAME("0.0"), NULL, "share of those batches, the last ones, that training does not see and that judge it; 0: all judge") \
    ROW(SETTING_INTEGER, block_seed, SAME("0"), NULL, "order of the batches in training: 0: theirs; else shuffled anew each round by this seed") \
    ROW(SETTING_INTEGER, keep_best, SAME("0"), NULL, "training judges a block every so many steps, and keeps its best state; 0: judges the last one only") \
    UNUSED(SETTING_BOOL, extension, SAME("false"), NULL, "the reference's place for own passes; here: espq.pass") \
    ROW(SETTING_TEXT, version, SAME("0.6.6"), NULL, "of the reference's setting files") \
    ROW(SETTING_TEXT, signature, SAME("PPL Quantization Tool"), NULL, "of the reference's setting files") \
    SWITCH(align_respect_width, "false", "false", "QUANT D3", "alignment leaves producers of another width alone") \
    SWITCH(align_large_exact, "false", "false", "QUANT D5", "Align to Large takes the largest exponent, not one above it") \
    SWITCH(mse_fixed, "false", "false", "QUANT D7", "calibration mse with enough bins at 16 bits") \
    SWITCH(keep_output_names, "true", "false", "QUANT D16", "graph outputs keep the model's names when a node is fused away") \
    SWITCH(onnx_exact_ops, "true", "false", "QUANT D19", "operators compute as ONNX says where the chip does") \
    SWITCH(convtranspose_exact, "true", "false", "QUANT D21", "decomposed ConvTranspose keeps dilations and output_padding") \
    SWITCH(link_passive_inputs, "true", "false", "QUANT D23", "operators that only move numbers share the graph input's slot") \
    SWITCH(dead_channels_follow, "true", "false", "CASES C18", "what is all zero has no exponent of its own: channels take the others', tensors that of values up to 1") \
    SWITCH(equalize_group_order, "false", "false", "OPTIM O4", "equalization sees the channels of grouped convolutions in their order") \
    SWITCH(equalize_live_activations, "false", "false", "OPTIM O5", "the activations that equalization looks at are scaled along with the weights") \
    SWITCH(tqt_live_passive, "true", "false", "OPTIM O19", "biases and all that follows an exponent keep up with it while TQT trains") \
    SWITCH(adaround_reference, "false", "true", "OPTIM O11", "blockwise trains without its regularizer and judges weights before they are rounded") \
    SWITCH(weight_split_relative, "false", "false", "OPTIM O21", "weight_split_setting.value_threshold is a share of the largest weight of each output channel") \
    SWITCH(requantize_inputs, "true", "false", "EXPORT E3", "requantize graph inputs where consumers differ") \
    SWITCH(requantize_exact, "true", "false", "EXPORT E4", "requantize wherever exponents differ, also small ones") \
    SWITCH(exact_shapes, "true", "false", "EXPORT E5, E20", "describe the shapes that are computed") \
    SWITCH(split_sizes, "true", "false", "EXPORT E8", "write the sizes of every Split") \
    SWITCH(write_defaults, "true", "false", "EXPORT E22", "write attributes the runtime has no default for") \
    SWITCH(ceil_mode_pads, "true", "false", "EXPORT E23", "ceil_mode of MaxPool becomes trailing pads") \
    SWITCH(unary_as_lut, "true", "false", "EXPORT E24", "8-bit unary operators without a module become tables") \
    SWITCH(lut16_only_used, "true", "false", "EXPORT E25", "16-bit tables only where the runtime reads them") \
    SWITCH(split_groups, "true", "false", "EXPORT E26", "grouped convolutions become one Conv a group") \
    SWITCH(reference_order, "false", "true", "EXPORT E15", "order of inputs and outputs as the reference writes it") \
    SWITCH(dynamic_width_requantize, "true", "false", "EXPORT E32", "requantize where an operator reads a tensor of another width") \
    SWITCH(extra_rewrites, "true", "false", "API Settings", "espq's own rewrites: dense layers, LayerNormalization, Gelu, shared weights, Transpose round trips") \
    SWITCH(no_negative_shifts, "true", "false", "CHIP C4", "an output that is finer than its products takes their exponent: the chip shifts to the right only")
/* clang-format on */
