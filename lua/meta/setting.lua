---@meta _
-- Settings of quantization. (See espq.lua.)
-- luacheck: ignore 212 241

--- Operators, by name or pattern, and the platform each is quantized for.
---@class espq.DispatchingTable
---@field [integer] { name: string, platform: espq.Platform }
local DispatchingTable = {}

--- Put an operator, by name or pattern with *, on a platform.
---@param name string
---@param platform espq.Platform
---@return espq.DispatchingTable
function DispatchingTable:append(name, platform) end

---@class espq.Platform
---@field id integer
---@field name string

---@class espq.GraphFormatSetting
---@field format_constant_op boolean turn Constant nodes into initializers: always done (no effect)
---@field fuse_conv_bn boolean fold BatchNormalization: always done (no effect)
---@field fuse_swish boolean x * sigmoid(x) becomes Swish: always done (no effect)
---@field format_paramters boolean split shared parameters: always done (no effect)
---@field format_cast boolean format Cast: always done (no effect)
---@field delete_isolate boolean remove nodes nobody reads: always done (no effect)

---@class espq.FusionSetting
---@field remove_useless_quantization boolean both ends of an edge share one slot (pass join)
---@field fuse_activation boolean what precedes Relu or Clip takes its slot
---@field fuse_passive_op boolean operators that only move numbers keep their input's slot
---@field align_quantization boolean run the pass align
---@field align_avgpooling_to "None"|"Align to Input"|"Align to Output" AveragePool, GlobalAveragePool
---@field align_elementwise_to "None"|"Align to Large"|"Align to Output" inputs of Add, Sub, Sum
---@field align_concat_to "None"|"Align to Large"|"Align to Output" inputs of Concat, ScatterND
---@field align_resize_to "None"|"Align to Input"|"Align to Output" Resize
---@field force_alignment_overlap boolean align also what other operators read

---@class espq.QuantizeActivationSetting
---@field calib_algorithm espq.CalibAlgorithm|string|nil calibration method; nil: percentile

---@class espq.QuantConfigModifySetting
---@field custom_config table<string, number> operator name = scale

---@class espq.QuantizeParameterSetting
---@field calib_algorithm espq.CalibAlgorithm|string|nil method for parameters; nil: minmax per channel, else percentile
---@field quantize_passive_parameter boolean exponents of biases, Clip bounds, Pad values
---@field clip_visiblity "EXPORT_WHEN_ACTIVE"|"INTERNAL"|"FORCE_EXPORT" are Clip bounds exported quantized?
---@field pad_visiblity "EXPORT_WHEN_ACTIVE"|"INTERNAL"|"FORCE_EXPORT" are Pad values exported quantized?
---@field baking_parameter boolean write rounded values into the weights

---@class espq.SsdSetting
---@field opt_level 1|2 1 is the only level there is
---@field channel_ratio number channels below this share of the largest count as if they reached it
---@field loss_threshold number keep a pair only below this share of its loss
---@field layer_norm boolean normalize layers too
---@field iteration integer how often all pairs are visited

---@class espq.EqualizationSetting
---@field opt_level 1|2 1: pairs of layers; 2: also across Add and Sub
---@field iterations integer how often all pairs are visited
---@field value_threshold number channels below it are left alone
---@field including_bias boolean let biases count in a channel's range
---@field bias_multiplier number weight of the bias
---@field including_act boolean let activations count in a channel's range
---@field act_multiplier number weight of the activation
---@field interested_layers string[] only these layers; empty: all

---@class espq.ChannelSplitSetting
---@field opt_level 1|2 1: pairs of layers; 2: also across Add and Sub
---@field iterations integer how often all pairs are visited
---@field value_threshold number channels below it are left alone
---@field including_bias boolean let biases count in a channel's range
---@field bias_multiplier number weight of the bias
---@field including_act boolean let activations count in a channel's range
---@field act_multiplier number weight of the activation
---@field interested_layers string[] only these layers; empty: all

---@class espq.WeightSplitSetting
---@field interested_layers string[] the layers to split; needed
---@field value_threshold number weights above it are split
---@field method "balance"|"random" halves, or random shares

---@class espq.MatrixFactorizationSetting
---@field interested_layers string[] was removed from the reference (no effect)
---@field method string was removed from the reference (no effect)

---@class espq.BiasCorrectSetting
---@field interested_layers string[] only these layers; empty: all
---@field block_size integer depth of a block
---@field steps integer taken as it is; has no effect, as in the reference: block_batches limits the batches
---@field collecting_device string taken as it is; has no effect here

---@class espq.LsqOptimizationSetting
---@field interested_layers string[] only these layers; empty: all
---@field lr number learning rate
---@field collecting_device string taken as it is; has no effect here
---@field steps integer training steps a block
---@field is_scale_trainable boolean train scales too
---@field gamma number weight of the regularizer
---@field block_size integer depth of a block

---@class espq.TqtOptimizationSetting
---@field interested_layers string[] only these layers; empty: all
---@field lr number learning rate
---@field collecting_device string taken as it is; has no effect here
---@field steps integer training steps a block
---@field is_scale_trainable boolean train scales too
---@field gamma number weight of the regularizer
---@field block_size integer depth of a block
---@field int_lambda number pull exponents towards whole numbers
---@field scale_lr number learning rate of exponents (their log2); 0: lr

---@class espq.BlockwiseReconstructionSetting
---@field interested_layers string[] only these layers; empty: all
---@field lr number learning rate
---@field collecting_device string taken as it is; has no effect here
---@field steps integer training steps a block
---@field is_scale_trainable boolean train scales too
---@field gamma number weight of the regularizer
---@field block_size integer depth of a block

---@class espq.RecoverSetting
---@field budget number seconds on two cores that its steps are planned for
---@field bits16_budget number share of the MACs that may move to 16 bits, most sensitive first
---@field seed integer of its random numbers

---@class espq.SwitchesSetting
---@field align_respect_width boolean alignment leaves producers of another width alone
---@field align_large_exact boolean Align to Large takes the largest exponent, not one above it
---@field mse_fixed boolean calibration mse with enough bins at 16 bits
---@field keep_output_names boolean graph outputs keep the model's names when a node is fused away
---@field onnx_exact_ops boolean operators compute as ONNX says where the chip does
---@field convtranspose_exact boolean decomposed ConvTranspose keeps dilations and output_padding
---@field link_passive_inputs boolean operators that only move numbers share the graph input's slot
---@field dead_channels_follow boolean what is all zero has no exponent of its own: channels take the others', tensors that of values up to 1
---@field equalize_group_order boolean equalization sees the channels of grouped convolutions in their order
---@field equalize_live_activations boolean the activations that equalization looks at are scaled along with the weights
---@field tqt_live_passive boolean biases and all that follows an exponent keep up with it while TQT trains
---@field adaround_reference boolean blockwise trains without its regularizer and judges weights before they are rounded
---@field weight_split_relative boolean weight_split_setting.value_threshold is a share of the largest weight of each output channel
---@field requantize_inputs boolean requantize graph inputs where consumers differ
---@field requantize_exact boolean requantize wherever exponents differ, also small ones
---@field exact_shapes boolean describe the shapes that are computed
---@field split_sizes boolean write the sizes of every Split
---@field write_defaults boolean write attributes the runtime has no default for
---@field ceil_mode_pads boolean ceil_mode of MaxPool becomes trailing pads
---@field unary_as_lut boolean 8-bit unary operators without a module become tables
---@field lut16_only_used boolean 16-bit tables only where the runtime reads them
---@field split_groups boolean grouped convolutions become one Conv a group
---@field reference_order boolean order of inputs and outputs as the reference writes it
---@field dynamic_width_requantize boolean requantize where an operator reads a tensor of another width
---@field extra_rewrites boolean espq's own rewrites: dense layers, LayerNormalization, Gelu, shared weights, Transpose round trips
---@field no_negative_shifts boolean an output that is finer than its products takes their exponent: the chip shifts to the right only

---@class espq.RecoverOptions
---@field budget? number seconds on two cores that the steps are planned for
---@field bits16_budget? number share of the multiplications that may move to 16 bits
---@field seed? integer of the training's order

--- How a model is quantized: the reference's tree. print shows what differs from the defaults; an unknown field is an error.
---@class espq.Setting
---@field dispatcher "allin"|"conservative"|"pplnn"|"aggresive"|"pointwise"|"perseus" which operators are quantized
---@field dispatching_table espq.DispatchingTable platform of single operators, by name or pattern (/model.23/*)
---@field graph_format_setting espq.GraphFormatSetting
---@field fusion boolean let operators share slots, join, align (passes fuse, join, align)
---@field fusion_setting espq.FusionSetting
---@field quantize_activation boolean choose exponents of activations from the data
---@field quantize_activation_setting espq.QuantizeActivationSetting
---@field quant_config_modify boolean set output scales of single operators by hand
---@field quant_config_modify_setting espq.QuantConfigModifySetting
---@field quantize_parameter boolean choose exponents of weights
---@field quantize_parameter_setting espq.QuantizeParameterSetting
---@field ssd_equalization boolean SSD equalization of layer pairs
---@field ssd_setting espq.SsdSetting
---@field equalization boolean move scales between neighbouring layers so that channels get alike
---@field equalization_setting espq.EqualizationSetting
---@field channel_split boolean split channels that stretch a layer's range
---@field channel_split_setting espq.ChannelSplitSetting
---@field weight_split boolean split a layer's large weights into a second layer
---@field weight_split_setting espq.WeightSplitSetting
---@field matrix_factorization boolean was removed from the reference (no effect)
---@field matrix_factorization_setting espq.MatrixFactorizationSetting
---@field convtranspose_decomposition boolean ConvTranspose becomes InsertZeros and Conv
---@field bias_correct boolean correct biases by the mean error of each block
---@field bias_correct_setting espq.BiasCorrectSetting
---@field lsq_optimization boolean train weights and biases block by block (LSQ)
---@field lsq_optimization_setting espq.LsqOptimizationSetting
---@field tqt_optimization boolean train weights and exponents block by block (TQT)
---@field tqt_optimization_setting espq.TqtOptimizationSetting
---@field blockwise_reconstruction boolean train the rounding of weights block by block (AdaRound)
---@field blockwise_reconstruction_setting espq.BlockwiseReconstructionSetting
---@field recover boolean|espq.RecoverOptions espq's own recovery: roads, training and exponents by what the outputs say
---@field recover_setting espq.RecoverSetting
---@field block_memory integer megabytes of values kept from block to block; more goes to a temporary file (TMPDIR)
---@field block_batches integer batches that bias_correct, lsq, tqt and blockwise work on and judge by; 0: all
---@field block_holdout number share of those batches, the last ones, that training does not see and that judge it; 0: all judge
---@field block_seed integer order of the batches in training: 0: theirs; else shuffled anew each round by this seed
---@field keep_best integer training judges a block every so many steps, and keeps its best state; 0: judges the last one only
---@field extension boolean the reference's place for own passes; here: espq.pass (no effect)
---@field version string of the reference's setting files
---@field signature string of the reference's setting files
---@field switches espq.SwitchesSetting
local Setting = {}

--- A setting of its own with the same values.
---@return espq.Setting
function Setting:copy() end

--- The reference's JSON.
---@return string
function Setting:to_json() end

--- Lines of Lua that make this setting, to paste into a script.
---@return string
function Setting:to_lua() end

--- Where settings come from.
---@class espq.SettingModule
local setting = {}

--- espq's defaults: the reference's numbers in files that the chip runs rightly.
---@return espq.Setting
function setting.espdl() end

--- The reference's files, faults included.
---@return espq.Setting
function setting.reference() end

--- The reference's generic defaults.
---@return espq.Setting
function setting.generic() end

--- Read the reference's JSON, or espq's own; unknown keys are skipped with a note.
---@param text string
---@return espq.Setting
function setting.from_json(text) end

--- Is this a setting?
---@param value any
---@return boolean
function setting.is(value) end

--- Set one value by its path from text, as the command line's --set does.
---@param tree espq.Setting
---@param path string for example "equalization_setting.iterations"
---@param text string
function setting.set(tree, path, text) end

--- Set one value by its path.
---@param tree espq.Setting
---@param path string
---@param value any
function setting.set_value(tree, path, value) end

--- The rows of `espq settings`: path, kind, defaults, help.
---@return table[]
function setting.rows() end
