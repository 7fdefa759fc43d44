---@meta espq
-- What a script of espq sees, for editors with lua-language-server: names, types, a line of help. It is no part of the program.
-- tests/lua/meta_spec.lua holds it against the live module, so that a name that is missing here, or gone there, fails a test.
-- luacheck: ignore 212 241

---@alias espq.Dtype "float32"|"float64"|"int8"|"uint8"|"int16"|"int32"|"int64"|"bool"
---@alias espq.Target "c"|"esp32"|"esp32s2"|"esp32s3"|"esp32c2"|"esp32c3"|"esp32c5"|"esp32c6"|"esp32p4"|"esp32s31"|string
---@alias espq.CalibAlgorithm "kl"|"minmax"|"percentile"|"mse"|"isotone"|"constant"|"floating"
---@alias espq.Batch espq.Tensor|espq.Tensor[]|table<string, espq.Tensor> one input, inputs in their order, or name = tensor
---@alias espq.Labels espq.Tensor|any[] class numbers from 0, or what a dataset says of its samples
---@alias espq.Iterator fun(): espq.Batch?, espq.Labels?
---@alias espq.Loader espq.DataLoader|espq.Dataset|espq.Cache|espq.Tensor|espq.Batch[]|fun(epoch: integer?): espq.Iterator
---@alias espq.Collate fun(batch: any, labels: any): espq.Batch
---@alias espq.InputShape integer[]|integer[][]|table<string, integer[]> of one input, of all in their order, or name = shape
---@alias espq.Filter "nearest"|"box"|"bilinear"|"hamming"|"bicubic"|"lanczos" as PIL computes them
---@alias espq.Traits table<string, boolean> `espq targets --defects` lists them: name = in force or not

---@class espq.TensorOptions
---@field dtype? espq.Dtype float32 when nothing is said

---@class espq.RandomOptions: espq.TensorOptions
---@field seed? integer a sequence of its own; without it the numbers follow espq.seed

---@class espq.AxisOptions
---@field axis? integer from 0, negative from the end

---@class espq.ReduceOptions
---@field axis? integer|integer[] from 0, negative from the end; all axes when nothing is said
---@field keepdims? boolean the axes stay, with size 1

---@class espq.SortOptions: espq.AxisOptions
---@field descending? boolean largest first

---@class espq.SliceOptions: espq.AxisOptions
---@field start? integer from 0
---@field stop? integer the first that is left out
---@field step? integer

---@class espq.PadOptions
---@field before? integer[] how many elements in front, one number an axis
---@field after? integer[] how many elements behind, one number an axis
---@field value? number what they are, 0 when nothing is said

---@class espq.CloseOptions
---@field rtol? number share of the other's magnitude, 1e-5 when nothing is said
---@field atol? number 1e-8 when nothing is said

---@class espq.ImageOptions
---@field mode? "RGB"|"BGR"|"GRAY" RGB when nothing is said

-- ---- errors ----

--- What espq raises: a table that prints as one paragraph; `..` works on it.
---@class espq.Error
---@field what string what happened
---@field where? string file, node, tensor, trial
---@field cure? string what to do
---@field code "input"|"memory"|"file"|"interrupted"|"callback"|"internal"
---@operator concat(any): string

-- ---- tensors ----

--- A tensor. Axes, positions and labels count from 0; views share memory, arithmetic makes new tensors.
---@class espq.Tensor
---@field shape integer[] sizes of the axes
---@field dtype espq.Dtype
---@field ndim integer number of axes
---@field size integer number of elements
---@field [integer] espq.Tensor a row along the first axis, from 0; a number or a tensor can be assigned
---@operator add(espq.Tensor|number): espq.Tensor
---@operator sub(espq.Tensor|number): espq.Tensor
---@operator mul(espq.Tensor|number): espq.Tensor
---@operator div(espq.Tensor|number): espq.Tensor
---@operator idiv(espq.Tensor|number): espq.Tensor
---@operator mod(espq.Tensor|number): espq.Tensor
---@operator pow(espq.Tensor|number): espq.Tensor
---@operator unm: espq.Tensor
---@operator len: integer
---@operator concat(any): string
local Tensor = {}

--- One element, by its positions from 0.
---@param ... integer
---@return number|boolean
function Tensor:get(...) end

--- Write one element: positions from 0, then the value. Gives the tensor.
---@param ... integer|number|boolean
---@return espq.Tensor
function Tensor:set(...) end

--- The number of a tensor with one element.
---@return number
function Tensor:item() end

--- Nested Lua tables (a number for rank 0); tables count from 1.
---@return any
function Tensor:tolist() end

--- The same elements in another shape; one size may be -1.
---@param ... integer|integer[]
---@return espq.Tensor
function Tensor:view(...) end

--- As view.
---@param ... integer|integer[]
---@return espq.Tensor
function Tensor:reshape(...) end

--- One axis with all elements.
---@return espq.Tensor
function Tensor:flatten() end

--- A further axis of size 1, at this place.
---@param axis integer
---@return espq.Tensor
function Tensor:unsqueeze(axis) end

--- Without this axis of size 1, or without all of them.
---@param axis? integer
---@return espq.Tensor
function Tensor:squeeze(axis) end

--- The axes in another order.
---@param ... integer|integer[]
---@return espq.Tensor
function Tensor:permute(...) end

--- Two axes change places, the last two when nothing is said.
---@param a? integer
---@param b? integer
---@return espq.Tensor
function Tensor:transpose(a, b) end

--- A view of a part: `slice(2, 5)` along the first axis, or `slice { axis = 1, start = 0, stop = 4, step = 2 }`.
---@param start integer|espq.SliceOptions
---@param stop? integer the first that is left out
---@return espq.Tensor
function Tensor:slice(start, stop) end

--- One position of an axis; the axis goes.
---@param axis integer
---@param position integer
---@return espq.Tensor
function Tensor:select(axis, position) end

--- Walk the first axis: `for i, row in t:rows()`, i from 0.
---@return fun(tensor: espq.Tensor, i: integer?): integer, espq.Tensor
---@return espq.Tensor
function Tensor:rows() end

--- Write an .npy file.
---@param path string
function Tensor:save(path) end

--- A tensor with memory of its own.
---@return espq.Tensor
function Tensor:copy() end

--- As copy.
---@return espq.Tensor
function Tensor:clone() end

--- The same values in another type; floats are cut towards zero.
---@param dtype espq.Dtype
---@return espq.Tensor
function Tensor:to(dtype) end

--- e to the power of each element.
---@return espq.Tensor
function Tensor:exp() end

--- Natural logarithm.
---@return espq.Tensor
function Tensor:log() end

--- Square root.
---@return espq.Tensor
function Tensor:sqrt() end

--- Absolute value.
---@return espq.Tensor
function Tensor:abs() end

--- To the nearest whole number, halves to even.
---@return espq.Tensor
function Tensor:round() end

--- The next whole number below.
---@return espq.Tensor
function Tensor:floor() end

--- The next whole number above.
---@return espq.Tensor
function Tensor:ceil() end

--- 1 / (1 + exp(-x)).
---@return espq.Tensor
function Tensor:sigmoid() end

--- Hyperbolic tangent.
---@return espq.Tensor
function Tensor:tanh() end

--- Sine of radians.
---@return espq.Tensor
function Tensor:sin() end

--- Cosine of radians.
---@return espq.Tensor
function Tensor:cos() end

--- With the other sign.
---@return espq.Tensor
function Tensor:neg() end

--- Where both are equal: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:eq(other) end

--- Where they differ: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:ne(other) end

--- Where this is less: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:lt(other) end

--- Where this is less or equal: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:le(other) end

--- Where this is greater: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:gt(other) end

--- Where this is greater or equal: a tensor of bool.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:ge(other) end

--- The greater of both, element by element.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:maximum(other) end

--- The less of both, element by element.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:minimum(other) end

--- To the power of.
---@param other espq.Tensor|number
---@return espq.Tensor
function Tensor:pow(other) end

--- Sum of all, or along axes: `t:sum()`, `t:sum(1)`, `t:sum { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:sum(axis) end

--- Mean of all, or along axes: `t:mean()`, `t:mean(1)`, `t:mean { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:mean(axis) end

--- Least element of all, or along axes: `t:min()`, `t:min(1)`, `t:min { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:min(axis) end

--- Greatest element of all, or along axes: `t:max()`, `t:max(1)`, `t:max { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:max(axis) end

--- Position, from 0, of the greatest element of all (counted through), or along axes, as with sum.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:argmax(axis) end

--- Position, from 0, of the least element of all (counted through), or along axes, as with sum.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:argmin(axis) end

--- Standard deviation of all, or along axes: `t:std()`, `t:std(1)`, `t:std { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:std(axis) end

--- Euclidean norm of all, or along axes: `t:norm()`, `t:norm(1)`, `t:norm { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:norm(axis) end

--- Product of all, or along axes: `t:prod()`, `t:prod(1)`, `t:prod { axis = { 2, 3 }, keepdims = true }`.
---@param axis? integer|espq.ReduceOptions
---@return espq.Tensor
function Tensor:prod(axis) end

--- Softmax along an axis, the last when nothing is said.
---@param axis? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:softmax(axis) end

--- Not below `least`, not above `most`; nil: no bound.
---@param least? number
---@param most? number
---@return espq.Tensor
function Tensor:clamp(least, most) end

--- This tensor of bool chooses: a where it is true, b where not.
---@param a espq.Tensor|number
---@param b espq.Tensor|number
---@return espq.Tensor
function Tensor:where(a, b) end

--- Matrix product over the last two axes, with broadcasting of the others.
---@param other espq.Tensor
---@return espq.Tensor
function Tensor:matmul(other) end

--- The k largest along an axis (the last), largest first, and their positions from 0.
---@param k integer
---@param options? integer|espq.AxisOptions
---@return espq.Tensor values
---@return espq.Tensor positions
function Tensor:topk(k, options) end

--- In order along an axis (the last), least first.
---@param options? integer|espq.SortOptions
---@return espq.Tensor
function Tensor:sort(options) end

--- The positions, from 0, that sort would take the elements from.
---@param options? integer|espq.SortOptions
---@return espq.Tensor
function Tensor:argsort(options) end

--- This tensor and others behind each other along an axis, 0 when nothing is said.
---@param others espq.Tensor|espq.Tensor[]
---@param options? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:cat(others, options) end

--- This tensor and others of its shape along a new axis, 0 when nothing is said.
---@param others espq.Tensor|espq.Tensor[]
---@param options? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:stack(others, options) end

--- Larger by a border: `t:pad { before = { 0, 1 }, after = { 0, 1 }, value = 0 }`.
---@param options espq.PadOptions
---@return espq.Tensor
function Tensor:pad(options) end

--- The other way round along an axis, 0 when nothing is said.
---@param axis? integer|espq.AxisOptions
---@return espq.Tensor
function Tensor:flip(axis) end

--- Same type, shape and elements?
---@param other espq.Tensor
---@return boolean
function Tensor:equal(other) end

--- Equal but for rounding?
---@param other espq.Tensor
---@param options? espq.CloseOptions
---@return boolean
function Tensor:allclose(other, options) end

--- A new tensor of what the function makes of each element.
---@param fn fun(x: number): number|boolean
---@return espq.Tensor
function Tensor:apply(fn) end

-- ---- graphs ----

--- A graph: nodes and the tensors between them. print shows it, # counts the nodes.
---@class espq.Graph
---@field name string
---@field source string? the file it was read from
---@field opset integer
---@field inputs espq.Value[]
---@field outputs espq.Value[]
---@operator len: integer
local Graph = {}

--- Walk the nodes in the order in which they came; the graph may be edited on the way.
---@return fun(): espq.Node?
function Graph:nodes() end

--- Walk all tensors of the graph: activations and parameters.
---@return fun(): espq.Value?
function Graph:tensors() end

--- The nodes in the order of execution.
---@return espq.Node[]
function Graph:sorted() end

--- The node of this name; an error names the nearest.
---@param name string
---@return espq.Node
function Graph:node(name) end

--- The tensor of this name; an error names the nearest.
---@param name string
---@return espq.Value
function Graph:tensor(name) end

--- Is there a node of this name?
---@param name string
---@return boolean
function Graph:has_node(name) end

--- Is there a tensor of this name?
---@param name string
---@return boolean
function Graph:has_tensor(name) end

--- A graph of its own; parameters are shared until one of them is written.
---@return espq.Graph
function Graph:copy() end

--- Prove that the graph is legal: links, names, order. An error says what is not.
---@return true
function Graph:check() end

--- Shapes and types of all tensors, anew from the inputs.
---@return espq.Graph
function Graph:infer() end

--- Write a float graph as ONNX.
---@param path string
---@return espq.Graph
function Graph:save_onnx(path) end

--- Write the graph as it stands, quantization included: espq.load_native goes on with it.
---@param path string
---@return espq.Graph
function Graph:save_native(path) end

---@class espq.InsertOptions
---@field type string the operator's type
---@field name? string
---@field attributes? table<string, any>
---@field inputs? (espq.Tensor|espq.Value|string)[] further inputs, behind the first

--- Put a node behind a tensor: all its readers read the new node instead. A graph output keeps its name.
---@param value string|espq.Value
---@param spec string|espq.InsertOptions an operator's type, or more
---@return espq.Node
function Graph:insert_after(value, spec) end

--- Take a node out: the readers of its first output read its first input; { disconnect = true } just cuts the edges.
---@param node string|espq.Node
---@param options? { disconnect: boolean? }
---@return espq.Graph
function Graph:remove(node, options) end

---@class espq.ReplaceOptions
---@field pattern string|(string|fun(node: espq.Node): boolean)[] types behind each other; "*" fits all
---@field with string|espq.InsertOptions|fun(graph: espq.Graph, nodes: espq.Node[]): boolean? a function that returns false did nothing

--- Replace chains of nodes. Gives how many were replaced.
---@param options espq.ReplaceOptions
---@return integer
function Graph:replace(options) end

---@class espq.ExtractOptions
---@field inputs? string[] names of tensors; the graph's inputs when nothing is said
---@field outputs? string[] names of tensors; the graph's outputs when nothing is said

--- The part between these tensors, as a graph of its own.
---@param options espq.ExtractOptions
---@return espq.Graph
function Graph:extract(options) end

--- A node of a graph.
---@class espq.Node
---@field name string can be assigned
---@field type string the operator, for example "Conv"
---@field domain string
---@field platform string what it is quantized for
---@field quantized boolean
---@field inputs (espq.Value|false)[] false: an input that is left out
---@field outputs (espq.Value|false)[]
---@field attributes table<string, any> a copy; can be assigned as a whole
---@field input_config espq.Slot[] how each input is quantized
---@field output_config espq.Slot[] how each output is quantized
---@field graph espq.Graph
---@field removed boolean a pass or an edit took it away
local Node = {}

--- An attribute, or `otherwise` when the node does not have it.
---@param name string
---@param otherwise? any
---@return any
function Node:get(name, otherwise) end

--- Set an attribute; nil takes it away.
---@param name string
---@param value any
function Node:set(name, value) end

--- Let an input, from 1, read this tensor; nil leaves it out.
---@param position integer
---@param value espq.Value|string|nil
function Node:set_input(position, value) end

--- Let an output, from 1, be this tensor.
---@param position integer
---@param value espq.Value|string|nil
function Node:set_output(position, value) end

--- A tensor of a graph: an activation or a parameter.
---@class espq.Value
---@field name string can be assigned
---@field dtype espq.Dtype? nil: not known
---@field shape integer[]? nil: not known
---@field value espq.Tensor? of a parameter: a copy; can be assigned
---@field is_parameter boolean
---@field is_input boolean of the graph
---@field is_output boolean of the graph
---@field producer espq.Node?
---@field consumers espq.Node[]
---@field graph espq.Graph
---@field removed boolean a pass or an edit took it away

--- How one end of a node is quantized: value = integer × 2^exponent.
---@class espq.Slot
---@field state string for example "ACTIVATED", "PASSIVE", "OVERLAPPED", "FP32"
---@field bits integer
---@field exponent integer|integer[]|nil one, or one a channel; can be assigned, and is kept then
---@field rounding string
---@field minimum integer the least integer
---@field maximum integer the greatest integer
---@field per_channel boolean
---@field channel_axis integer
---@field observer espq.CalibAlgorithm|string can be assigned
---@field bins integer of histograms; can be assigned
---@field percentile number can be assigned
---@field master espq.Slot? the slot whose exponent this one takes
---@field node espq.Node
---@field tensor espq.Value
---@field overridden boolean a script wrote the exponent
---@field quantizes boolean are values rounded here?
---@field is_parameter boolean
---@field is_output boolean

-- ---- running ----

--- What a run gives: tensors by position and by name. An unknown name is an error.
---@class espq.Outputs
---@field [integer] espq.Tensor
---@field [string] espq.Tensor

---@class espq.ChipOptions
---@field target? espq.Target
---@field version? string of the runtime
---@field mended? boolean compute without the known faults of chip and runtime
---@field traits? espq.Traits
---@field threads? integer
---@field outputs? string[] names of the tensors that are wanted; the graph's outputs when nothing is said

---@class espq.ExecutorOptions: espq.ChipOptions
---@field mode? "float"|"simulated"|"integer" simulated when nothing is said
---@field exact? boolean operators compute as ONNX says where the chip does
---@field raw? boolean mode "integer": the file's integers in its layout, not floats

--- A graph that runs: `run(batch)`, with a tensor, a list, or name = tensor, any number of samples.
---@class espq.Executor
---@field graph espq.Graph
---@field mode string
---@field names string[] of the outputs
---@overload fun(batch: espq.Batch): espq.Outputs
local Executor = {}

--- Call fn whenever this tensor is computed: as its readers see it, and before it was quantized. Gives the executor.
---@param name string
---@param fn fun(seen: espq.Tensor, raw: espq.Tensor)
---@return espq.Executor
function Executor:watch(name, fn) end

--- A graph in the chip's integers.
---@class espq.IntegerExecutor: espq.Executor
---@overload fun(batch: espq.Batch): espq.Outputs
local IntegerExecutor = {}

--- Call fn whenever this tensor is computed. undefined: why the chip's result is no result, or nil; samples count from 0.
---@param name string
---@param fn fun(seen: espq.Tensor, raw: espq.Tensor, undefined: string?, sample: integer)
---@return espq.IntegerExecutor
function IntegerExecutor:watch(name, fn) end

--- What the runs since the first call did to the accumulators, a row a node; the first call starts measuring.
---@return espq.Rows
function IntegerExecutor:headroom() end

--- What is kept from run to run is as in the beginning.
---@return espq.IntegerExecutor
function IntegerExecutor:reset() end

---@class espq.LoadEspdlOptions: espq.ChipOptions
---@field model? string which one of a package
---@field floats? boolean outputs as floats in ONNX's order of axes, not the chip's integers

--- A .espdl file that runs in the chip's integers: `model(batch)`.
---@class espq.Model
---@field target string the chip it is run for
---@field sure boolean does the file tell the chip?
---@field inputs { name: string, dtype: espq.Dtype, shape: integer[], exponent: integer }[]
---@field outputs { name: string, dtype: espq.Dtype, shape: integer[], exponent: integer }[]
---@overload fun(batch: espq.Batch): espq.Outputs
local Model = {}

--- Call fn whenever this tensor is computed. undefined: why the chip's result is no result, or nil; samples count from 0.
---@param name string
---@param fn fun(seen: espq.Tensor, raw: espq.Tensor, undefined: string?, sample: integer)
---@return espq.Model
function Model:watch(name, fn) end

--- What the runs since the first call did to the accumulators, a row a node; the first call starts measuring.
---@return espq.Rows
function Model:headroom() end

--- What is kept from run to run is as after loading.
---@return espq.Model
function Model:reset() end

--- A list of rows that prints as a table.
---@class espq.Rows
---@field [integer] table<string, any>
local Rows = {}

--- Save as .json, .csv or .html, by the name's ending.
---@param path string
---@return espq.Rows
function Rows:save(path) end

-- ---- settings of quantization ----

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
---@field dead_channels_follow boolean what is all zero has no exponent of its own [CASES C18]
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

-- ---- data ----

--- Samples with a length and a method get. Also a loader of single samples.
---@class espq.Dataset
---@field names? table<integer, string> of coco: the names of the classes, from 0
---@operator len: integer
---@overload fun(): espq.Iterator
local Dataset = {}

--- Sample i, from 1, and its label.
---@param i integer
---@return espq.Batch sample
---@return any label
function Dataset:get(i) end

--- Batches of a dataset: `for x, labels in loader() do`.
---@class espq.DataLoader
---@operator len: integer
---@overload fun(epoch: integer?): espq.Iterator

--- A loader whose decoded batches are kept.
---@class espq.Cache
---@operator len: integer
---@overload fun(): espq.Iterator

---@class espq.LoaderOptions
---@field dataset espq.Dataset|espq.Tensor|any[] what has a length and get(i), a tensor, or a list of samples
---@field batch_size? integer 1 when nothing is said
---@field shuffle? boolean training asks for another order each epoch
---@field seed? integer of the order
---@field limit? integer samples at most
---@field transform? fun(x: any, label: any): any, any what becomes of each sample
---@field workers? integer taken as it is; has no effect
---@field drop_last? boolean leave out a last batch that is not full

---@class espq.PictureOptions
---@field size? integer|integer[] resize to it, or { height, width }; with crop a number is that of the shorter side
---@field crop? integer|integer[] cut this much out of the middle
---@field letterbox? boolean keep the ratio and fill the rest of `size` with grey
---@field interpolation? espq.Filter bilinear when nothing is said
---@field mode? "RGB"|"BGR"|"GRAY" RGB when nothing is said
---@field scale? number of each byte, 1 / 255 when nothing is said
---@field mean? number|number[] taken off after scaling, one number or one a channel
---@field std? number|number[] divided by, one number or one a channel

---@class espq.ImagesOptions: espq.PictureOptions
---@field dir string a folder, with those below it
---@field labels? string a file of lines name<TAB>label; without it the sub-folder's name is the label
---@field limit? integer pictures at most

---@class espq.CocoOptions: espq.PictureOptions
---@field images string the folder of pictures
---@field annotations string COCO's JSON
---@field limit? integer pictures at most

---@class espq.NpzOptions
---@field path string
---@field inputs? string|string[]|table<string, string> names of arrays, or input = array; all but the labels when nothing is said
---@field labels? string the array of labels; labels, y or label when nothing is said

---@class espq.FolderOptions
---@field dir string
---@field read fun(path: string): espq.Batch, any a sample, and its label
---@field pattern? string of the files' names, "*" when nothing is said

---@class espq.WavOptions
---@field dir string
---@field length? integer samples; longer ones are cut, shorter ones filled with zeros
---@field transform? fun(x: espq.Tensor): espq.Tensor

--- Datasets and loaders.
---@class espq.DataModule
local data = {}

--- Batches of a dataset, in the same order on every walk.
---@param options espq.LoaderOptions
---@return espq.DataLoader
function data.loader(options) end

--- Pictures of a folder: float32 [channels, height, width]. Labels: the sub-folder's name, or from a file.
---@param options espq.ImagesOptions
---@return espq.Dataset
function data.images(options) end

--- COCO's pictures with their boxes: a label is { id, width, height, truths, ratio, left, top }, boxes in the picture's own pixels.
---@param options espq.CocoOptions
---@return espq.Dataset
function data.coco(options) end

--- Samples along the first axis of an .npy file or of a tensor.
---@param source string|espq.Tensor
---@return espq.Dataset
function data.npy(source) end

--- Samples of the arrays of an .npz file.
---@param options string|espq.NpzOptions
---@return espq.Dataset
function data.npz(options) end

--- Samples of a list; an item may be { sample, label }.
---@param items any[]
---@return espq.Dataset
function data.list(items) end

--- Files of a folder and of those below it, read by a function.
---@param options espq.FolderOptions
---@return espq.Dataset
function data.folder(options) end

--- Sound of .wav files: float32 from -1 to 1, mixed to mono. The sub-folder's name is the label.
---@param options espq.WavOptions
---@return espq.Dataset
function data.wav(options) end

--- One .wav file: its samples, and the rate in Hz.
---@param path string
---@return espq.Tensor samples
---@return integer rate
function data.read_wav(path) end

--- Keep decoded batches in memory, up to 1 GB or as many bytes as are said.
---@param source espq.Loader
---@param options? { bytes: integer? }
---@return espq.Cache
function data.cache(source, options) end

--- What a picture goes through on its way into a network, as a function of a path or of a tensor from espq.image.
---@param options espq.PictureOptions
---@return fun(source: string|espq.Tensor): espq.Tensor
function data.picture(options) end

--- Where a picture of height × width comes to lie in a frame of h × w, in pixels.
---@param height integer
---@param width integer
---@param h integer
---@param w integer
---@return number ratio
---@return integer new_height
---@return integer new_width
---@return integer top
---@return integer left
function data.letterbox(height, width, h, w) end

-- ---- metrics ----

--- A metric that is fed batch by batch.
---@class espq.Accumulator
local Accumulator = {}

--- Count a batch. topk, accuracy, confusion: logits and labels; snr, cosine, mse, psnr: two tensors; mean average precision: the detections
--- { box = { x1, y1, x2, y2 }, class =, score = } and the truths { box =, class =, crowd = } of one picture. Gives the metric.
---@param a any
---@param b any
---@return self
function Accumulator:add(a, b) end

--- The metric of all that was added.
---@return any
function Accumulator:value() end

---@class espq.NmsOptions
---@field boxes espq.Tensor|number[][] [n, 4], or a list of { x1, y1, x2, y2 }
---@field scores espq.Tensor|number[]
---@field classes? espq.Tensor|integer[] boxes of other classes do not suppress each other
---@field iou? number threshold, 0.5 when nothing is said
---@field score? number least score
---@field limit? integer boxes at most, 300 when nothing is said

---@class espq.MapOptions
---@field thresholds? number[] of intersection over union, .50 to .95 when nothing is said
---@field limit? integer detections a picture and class, 100 when nothing is said

--- Metrics. Without tensors a call makes an accumulator: m:add(…), m:value().
---@class espq.MetricsModule
local metrics = {}

--- Share of rows, 0 to 1, whose label is among the k largest logits. `topk { 1, 5 }` makes an accumulator.
---@param ks? integer|integer[]
---@return espq.Accumulator
---@overload fun(logits: espq.Tensor, labels: espq.Labels, ks: integer|integer[]|nil): number|table<integer, number>
function metrics.topk(ks) end

--- Share of rows, 0 to 1, whose largest logit stands at the label.
---@return espq.Accumulator
---@overload fun(logits: espq.Tensor, labels: espq.Labels): number
function metrics.accuracy() end

--- Counts, a tensor [classes, classes]: rows are labels, columns what was said.
---@param options? { classes: integer? }
---@return espq.Accumulator
---@overload fun(logits: espq.Tensor|integer[], labels: espq.Labels): espq.Tensor
function metrics.confusion(options) end

--- Noise power over signal power of a (quantized) against b (float), mean over the rows.
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor): number
function metrics.snr() end

--- Cosine of the angle between rows, mean over the rows.
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor): number
function metrics.cosine() end

--- Mean squared error.
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor): number
function metrics.mse() end

--- Peak signal-to-noise ratio in dB, against `peak` or the largest absolute value of b.
---@param options? espq.PsnrOptions
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor, options: espq.PsnrOptions?): number
function metrics.psnr(options) end

---@class espq.PsnrOptions
---@field peak? number

--- Intersection over union of two boxes { x1, y1, x2, y2 }; crowd: the union is the first box alone, as in COCO.
---@param a number[]
---@param b number[]
---@param crowd? boolean
---@return number
function metrics.iou(a, b, crowd) end

--- Non-maximum suppression: the positions kept, from 1, best first.
---@param options espq.NmsOptions
---@return integer[]
function metrics.nms(options) end

--- COCO's mean average precision, fed picture by picture; value gives { map, map50, map75, classes }.
---@param options? espq.MapOptions
---@return espq.Accumulator
function metrics.mean_average_precision(options) end

-- ---- analyses ----

---@class espq.AnalyseOptions
---@field graph espq.Graph
---@field dataloader espq.Loader
---@field steps? integer batches, 8 when nothing is said
---@field method? "snr"|"cosine"|"mse"
---@field collate_fn? espq.Collate

---@class espq.HeadroomOptions
---@field graph espq.Graph
---@field dataloader espq.Loader
---@field steps? integer batches, 8 when nothing is said
---@field collate_fn? espq.Collate
---@field version? string of the runtime
---@field mended? boolean compute without the known faults of chip and runtime
---@field traits? espq.Traits

---@class espq.CompareOptions: espq.HeadroomOptions
---@field with? "integer"
---@field samples? integer at most
---@field headroom? boolean the accumulators, too

---@class espq.ResolutionOptions
---@field graph espq.Graph
---@field dataloader espq.Loader
---@field steps? integer batches, 8 when nothing is said
---@field bands? table<string, number[]> output = { low, high }: where it is decided, in the user's units
---@field units? table<string, { scale: number?, offset: number?, name: string? }> what an output's numbers mean
---@field collate_fn? espq.Collate

---@class espq.GraphOptions
---@field graph espq.Graph

--- Analyses of quantized graphs; each gives rows.
---@class espq.AnalyseModule
local analyse = {}

--- How far each layer's output is from float when everything before it is quantized too: rows name, type, and the method.
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.graphwise(options) end

--- What each layer, quantized alone, costs at the outputs: rows name, type, and the method.
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.layerwise(options) end

--- Noise and distribution of every end of every quantized node: rows op, variable, snr …
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.statistical(options) end

--- Range, deviation and mean of every parameter: rows variable, op, range, std, mean_abs.
---@param options espq.GraphOptions
---@return espq.Rows
function analyse.parameters(options) end

--- What each layer costs at the outputs, the dearest first, with the setting that would mend it: rows name, type, noise, share, advice.
---@param options espq.AnalyseOptions
---@return espq.Rows
function analyse.sensitivity(options) end

--- Where the chip's integers differ from the simulation: rows node, type, alone, differ, largest, mean, bits,
--- cause: shares, and steps of the tensor. Field first: the first node that differs by itself.
---@param options espq.CompareOptions
---@return espq.Rows
function analyse.compare(options) end

--- How full the accumulators get: rows node, type, largest, limit, bits_left, saturated, clipped, count.
---@param options espq.HeadroomOptions
---@return espq.Rows
function analyse.headroom(options) end

--- What each node does on the chip, without data: rows node, type, width, computes, shift, entries, table_largest, table_mean, finding.
---@param options espq.GraphOptions
---@return espq.Rows
function analyse.device(options) end

--- Is each output's step fine enough? Rows output, bits, step, unit, band, judged, levels, clipped, undecided, cure.
---@param options espq.ResolutionOptions
---@return espq.Rows
function analyse.resolution(options) end

-- ---- quantizing ----

---@class espq.QuantizeFields
---@field espdl_export_file? string .info and .json are written beside it
---@field calib_dataloader? espq.Loader|"random" "random" needs no data: for structure and speed only
---@field calib_steps? integer batches; needed with a loader
---@field inputs? espq.Batch test inputs for the file
---@field target? espq.Target esp32p4 when nothing is said
---@field num_of_bits? 8|16 8 when nothing is said
---@field collate_fn? espq.Collate makes what the model reads of what the loader gives
---@field setting? espq.Setting espq.setting.espdl() when nothing is said
---@field device? "cpu"
---@field error_report? boolean false: the report's figures are not measured
---@field skip_export? boolean true: nothing is written
---@field export_config? boolean false: no .json
---@field export_test_values? boolean false: none in the file
---@field test_values? "chip"|"simulated" chip: integers as the runtime computes them
---@field test_output_names? string[] names of tensors
---@field hi_precision? boolean
---@field metadata_props? table<string, any> for the file
---@field verbose? integer|boolean how much is said, 0 to 2
---@field dispatching_method? string deprecated: setting.dispatcher
---@field dispatching_override? table<string, espq.Platform> deprecated: setting.dispatching_table
---@field model_version? integer
---@field int16_lut_step? integer distance of the entries of 16-bit tables
---@field evaluate_fn? fun(graph: espq.Graph): number the metric, larger is better; alone: its loss is reported
---@field max_drop? number of the metric below float: the cheapest setting that keeps it is looked for
---@field check? boolean prove that the graph is legal after every pass

---@class espq.QuantizeOnnxFields: espq.QuantizeFields
---@field input_shape? espq.InputShape with the batch; fixes symbolic dimensions
---@field outputs? string[] cut the model at these tensors
---@field cut_inputs? string[] begin the model at these tensors
---@field rename_outputs? string[]|table<string, string> in their order, or old = new

---@class espq.QuantizeOnnxOptions: espq.QuantizeOnnxFields
---@field onnx_import_file string

---@class espq.QuantizeGraphOptions: espq.QuantizeFields
---@field graph espq.Graph quantized in place

---@class espq.ExportOptions
---@field graph espq.Graph a quantized one
---@field espdl_export_file string
---@field export_config? boolean false: no .json
---@field export_test_values? boolean false: none in the file
---@field test_values? "chip"|"simulated"
---@field test_output_names? string[] names of tensors
---@field inputs? espq.Batch test inputs for the file
---@field metadata_props? table<string, any> for the file
---@field model_version? integer
---@field int16_lut_step? integer distance of the entries of 16-bit tables
---@field setting? espq.Setting the graph's own when nothing is said

--- What a quantization found out; print shows the tables.
---@class espq.Report
---@field graphwise table[] rows name, type, snr
---@field layerwise table[] rows name, type, snr
---@field notes string[]
---@field warnings string[]
---@field floats string[] what is not quantized, and why
---@field tables string[] what the chip looks up in tables
---@field chip table lines, and the rows of analyse's compare, device and resolution
---@field file? string the export
---@field goal? espq.Goal with evaluate_fn

--- What an accuracy goal came to; print says it in words.
---@class espq.Goal
---@field float_score number
---@field score number
---@field drop number float_score - score
---@field max_drop number?
---@field kept boolean?
---@field misses_by number?
---@field words string how it was reached
---@field tried integer settings
---@field setting espq.Setting
---@field bits 8|16
---@field target string
---@field snippet string lines of Lua that make the setting
---@field cost? espq.Cost
---@field cost_line? string

---@class espq.PassOptions
---@field name string
---@field after string the pass it follows, see `espq passes`
---@field run fun(graph: espq.Graph, setting: espq.Setting)
---@field help? string

---@class espq.ObserverOptions
---@field name string for calib_algorithm
---@field begin? fun(slot: espq.Slot): any the state that the others get
---@field observe fun(state: any, tensor: espq.Tensor)
---@field scale fun(state: any, slot: espq.Slot): integer the exponent
---@field help? string

---@class espq.OperatorNode
---@field name string
---@field type string
---@field inputs table[]
---@field outputs table[]
---@field attributes table<string, any>

---@class espq.OperatorOptions
---@field type string
---@field infer fun(node: espq.OperatorNode): integer[]|{ shape: integer[], dtype: espq.Dtype? }[] the output's shape, or one a output
---@field run fun(node: espq.OperatorNode, inputs: (espq.Tensor|false)[]): espq.Tensor|espq.Tensor[]
---@field help? string

---@class espq.ApplyOptions
---@field graph espq.Graph
---@field pass string see `espq passes`
---@field setting? espq.Setting|table<string, any> a setting, or the pass's own fields
---@field dataloader? espq.Loader
---@field steps? integer batches at most
---@field collate_fn? espq.Collate
---@field target? espq.Target
---@field num_of_bits? 8|16

---@class espq.GraphNode
---@field type string
---@field name? string
---@field inputs? (string|espq.Tensor|false)[] names, or tensors that stand for themselves; "" or false: left out
---@field outputs? string[]
---@field attributes? table<string, any>

---@class espq.GraphSpec
---@field name? string
---@field inputs table name = shape, or a list of { name =, shape =, dtype = }
---@field outputs string[]
---@field nodes espq.GraphNode[] in any order
---@field constants? table<string, espq.Tensor>

---@class espq.LoadOnnxOptions
---@field input_shape? espq.InputShape

-- ---- looking into files ----

---@class espq.VerifyOptions
---@field target? espq.Target
---@field model? string which one of a package
---@field version? string of the runtime
---@field mended? boolean compute without the known faults of chip and runtime
---@field traits? espq.Traits

---@class espq.CostOptions
---@field path? string a .espdl file
---@field graph? espq.Graph or a quantized graph
---@field target? espq.Target
---@field model? string which one of a package
---@field max_internal_size? integer bytes of internal memory that the plan may use

--- Cost of every node in the order of execution: rows name, type, macs, parameter_bytes, refetched_bytes, moved_bytes, us.
---@class espq.Cost: espq.Rows
---@field macs integer multiply-accumulates
---@field parameter_bytes integer
---@field moved_bytes integer
---@field refetched_bytes integer
---@field ms number? estimate; nil where no figures are published for the chip
---@field memory { variable: integer, internal: integer, live: integer, live_node: string?, tensors: table[] } planned bytes
---@field target string
---@field about string where the estimate comes from

---@class espq.ModelOption
---@field model? string which one of a package

---@class espq.TargetOptions
---@field target? espq.Target
---@field model? string which one of a package

---@class espq.Info
---@field name string
---@field container string
---@field model_version integer
---@field inputs table[] name, dtype, shape, exponents
---@field outputs table[]
---@field values table[]
---@field initializers table[] also bytes and layout
---@field nodes table[] name, type, inputs, outputs, attributes
---@field test_inputs table[]
---@field test_outputs table[]
---@field metadata table<string, string>

--- What a board printed beside what espq computes; print says it in words.
---@class espq.BoardLog
---@field equal boolean nothing differs
---@field first string? the first node that differs
---@field target string
---@field tensors? table[]
---@field counts? { equal: integer, differs: integer, missing: integer, undefined: integer }
---@field modules? table[] name, type, us, estimate
---@field memory? table[] KB
---@field notes string[]

-- ---- training ----

---@alias espq.Loss fun(outputs: espq.Outputs, batch: any, labels: any): number, any the loss, and its gradients by the outputs

---@class espq.TrainerFields
---@field optimizer? "adam"|"adamw"|"sgd"
---@field lr? number learning rate
---@field schedule? "constant"|"cosine"|"step" cosine needs steps, step needs every
---@field steps? integer of the whole training
---@field warmup? integer steps in which the rate rises
---@field end_factor? number cosine: what is left of lr at the end
---@field factor? number step: what lr is multiplied with
---@field every? integer step: how many steps lie between
---@field loss? "cross_entropy"|"mse"|"kl"|"cosine"|espq.Loss
---@field parameters? "weights"|"scales"|"all"
---@field weight_decay? number
---@field momentum? number of sgd
---@field nesterov? boolean
---@field betas? number[] of adam
---@field epsilon? number
---@field rates? { biases: number?, scales: number? } times lr
---@field memory? integer bytes a step may keep; larger batches go through in pieces
---@field seed? integer
---@field teach? string[] further tensors that should equal the teacher's
---@field temperature? number of kl
---@field smoothing? number of labels
---@field output? string|integer which one the loss judges, from 1

---@class espq.TrainerOptions: espq.TrainerFields
---@field graph espq.Graph a quantized one; it stays as it is until finish
---@field teacher? true|espq.Graph true: the float form of the graph
---@field collate_fn? espq.Collate

---@class espq.QatOptions: espq.QuantizeOnnxFields, espq.TrainerFields
---@field onnx_import_file? string this, or graph
---@field graph? espq.Graph a quantized one
---@field train_dataloader espq.Loader gives batch, labels; called with the number of the epoch
---@field epochs integer
---@field steps_per_epoch? integer
---@field distill? boolean the float model teaches: no labels are needed
---@field score_direction? "maximize"|"minimize"
---@field checkpoint_dir? string last.ckpt and best.ckpt, written after each epoch
---@field resume? boolean go on from checkpoint_dir

--- What a training came to; print shows the epochs.
---@class espq.QatReport
---@field epochs { epoch: integer, loss: number?, score: number, figures: table? }[] 0: untrained
---@field best { epoch: integer, score: number }
---@field quantize espq.Report?
---@field file? string the export
---@field seed integer
---@field trained table
---@field diverged? string
---@field warnings? string[]

--- Trains a quantized graph, step by step.
---@class espq.Trainer
---@field graph espq.Graph
---@field outputs string[] names of the tensors that the loss sees
---@field seed integer
local Trainer = {}

--- One step: gives the batch's loss before it. A step that fails changes nothing.
---@param batch espq.Batch
---@param labels? any class numbers from 0, or a tensor of an output's shape
---@return number loss
function Trainer:step(batch, labels) end

--- The loss of a batch, with nothing changed.
---@param batch espq.Batch
---@param labels? any
---@return number loss
function Trainer:evaluate(batch, labels) end

--- What is trained: steps, the next step's rate, and how many weights, biases, slopes, norms, scales.
---@return table
function Trainer:about() end

--- Write all that the next steps depend on.
---@param path string
---@param note? string a text of the script's own
---@return espq.Trainer
function Trainer:save(path, note) end

--- Go on where a checkpoint was written. Gives its note.
---@param path string
---@return string note
function Trainer:load(path) end

--- A copy of the graph with what was learnt so far.
---@return espq.Graph
function Trainer:snapshot() end

--- Put what was learnt into the graph: it is ready for espq.export then.
---@return espq.Graph
function Trainer:finish() end

-- ---- AutoQuant ----

---@alias espq.Candidates any[]|espq.Range

--- Candidates from start to end, end included.
---@class espq.Range

---@class espq.NumOfBitsKnobs
---@field value integer[]|espq.Range

---@class espq.CalibAlgorithmKnobs
---@field method string[]

---@class espq.WeightEqualizationKnobs
---@field iterations integer[]|espq.Range
---@field value_threshold number[]|espq.Range
---@field opt_level integer[]|espq.Range

---@class espq.HorizontalLayerSplitKnobs
---@field topk integer[]|espq.Range the worst layers
---@field value_threshold number[]|espq.Range

---@class espq.BiasCorrectionKnobs
---@field block_size integer[]|espq.Range
---@field steps integer[]|espq.Range
---@field topk integer[]|espq.Range the worst layers; -1: all

---@class espq.MixedPrecisionKnobs
---@field topk integer[]|espq.Range the worst layers

---@class espq.TqtKnobs
---@field lr number[]|espq.Range
---@field steps integer[]|espq.Range
---@field block_size integer[]|espq.Range
---@field is_scale_trainable boolean[]
---@field gamma number[]|espq.Range
---@field int_lambda number[]|espq.Range
---@field collecting_device string[]
---@field topk integer[]|espq.Range the worst layers; -1: all

---@class espq.FusionAlignmentKnobs
---@field elementwise_to string[]
---@field concat_to string[]
---@field avgpooling_to string[]
---@field resize_to string[]
---@field force_overlap boolean[]

---@class espq.BlockwiseReconstructionKnobs
---@field is_scale_trainable boolean[]
---@field topk integer[]|espq.Range the worst layers; -1: all
---@field block_size integer[]|espq.Range
---@field steps integer[]|espq.Range
---@field lr number[]|espq.Range
---@field gamma number[]|espq.Range
---@field collecting_device string[]

--- Which modules are tried: { true, false } tries both. Modules of espq.strategy stand here, too.
---@class espq.StrategySpace
---@field num_of_bits boolean[]
---@field calib_algorithm boolean[]
---@field weight_equalization boolean[]
---@field horizontal_layer_split boolean[]
---@field bias_correction boolean[]
---@field mixed_precision boolean[]
---@field tqt boolean[]
---@field fusion_alignment boolean[]
---@field blockwise_reconstruction boolean[]
---@field [string] boolean[]

--- The candidates of each module's knobs.
---@class espq.ParamSpace
---@field num_of_bits espq.NumOfBitsKnobs
---@field calib_algorithm espq.CalibAlgorithmKnobs
---@field weight_equalization espq.WeightEqualizationKnobs
---@field horizontal_layer_split espq.HorizontalLayerSplitKnobs
---@field bias_correction espq.BiasCorrectionKnobs
---@field mixed_precision espq.MixedPrecisionKnobs
---@field tqt espq.TqtKnobs
---@field fusion_alignment espq.FusionAlignmentKnobs
---@field blockwise_reconstruction espq.BlockwiseReconstructionKnobs
---@field [string] table<string, espq.Candidates>

---@class espq.AutoQuantFields
---@field num_of_candidates? integer how many of the best are kept, 5 when nothing is said
---@field search_mode? "exhaustive"|"fast"|"tpe"|"pareto"
---@field candidate_filter? (fun(record: espq.Record): boolean)|false which candidates come first; false: none
---@field score_direction? "maximize"|"minimize"
---@field run_dir? string the folder of trials and results
---@field resume? boolean go on where run_dir ends; without it the search begins anew
---@field top_strategy? integer fast: how many strategies the knobs are tried for
---@field early_stop_patience? integer fast: how many trials may bring nothing
---@field structural_knobs? table<string, string[]> fast: module = knobs that are tried with the strategies
---@field strategy_space? espq.StrategySpace|table<string, boolean[]>
---@field param_space? espq.ParamSpace|table<string, table<string, espq.Candidates>>
---@field seed? integer
---@field share? boolean false: every trial from scratch
---@field prune? boolean leave out the evaluation of trials whose graphwise error is hopeless
---@field pareto_cost? "latency"|"bytes" the second aim of search_mode "pareto"
---@field budget? { trials: integer?, seconds: number? }
---@field base? espq.Setting what every trial starts from

--- The setting of a search. Its spaces are edited in part: setting.param_space.tqt.lr = { 1e-5, 5e-5 }.
---@class espq.AutoQuantSetting: espq.AutoQuantFields
---@field num_of_candidates integer
---@field search_mode "exhaustive"|"fast"|"tpe"|"pareto"
---@field score_direction "maximize"|"minimize"
---@field run_dir string
---@field resume boolean
---@field top_strategy integer
---@field early_stop_patience integer
---@field structural_knobs table<string, string[]>
---@field strategy_space espq.StrategySpace
---@field param_space espq.ParamSpace
---@field seed integer
---@field share boolean
---@field prune boolean
---@field pareto_cost "latency"|"bytes"

---@class espq.AutoQuantOptions
---@field onnx_import_file string
---@field espdl_export_file string its name is that of the files in the trials' folders
---@field calib_dataloader espq.Loader
---@field calib_steps integer batches
---@field input_shape espq.InputShape without the batch
---@field evaluate_fn? fun(graph: espq.Graph): number, table<string, any>? the score, and further figures for the record
---@field evaluate_fast? fun(graph: espq.Graph): number, table<string, any>? ranks the trials; evaluate_fn judges the candidates
---@field evaluate_command? string instead: a program that prints { "score": … }; {espdl} stands for the trial's file
---@field target? espq.Target esp32p4 when nothing is said
---@field collate_fn? espq.Collate
---@field setting? espq.AutoQuantSetting
---@field device? "cpu"
---@field verbose? integer|boolean how much is said, 0 to 2
---@field workers? integer processes; one a core when nothing is said, 1: none is forked
---@field trial_timeout? number seconds

---@class espq.StrategyOptions
---@field name string
---@field knobs? table<string, espq.Candidates>
---@field apply fun(setting: espq.Setting, knobs: table<string, any>)
---@field switch? boolean[] what is tried, { true, false } when nothing is said

--- A trial as summary.json has it; the figures of evaluate_fn are further fields.
---@class espq.Record
---@field hash? string
---@field index? integer
---@field folder? string
---@field files? table
---@field strategy table<string, boolean>
---@field params table<string, table<string, any>>
---@field score? number
---@field status? "done"|"failed"|"pruned"
---@field error? string
---@field seconds? number
---@field seed? integer
---@field [string] any

---@class espq.Trial
---@field ordinal integer its place in the enumeration, from 0
---@field hash string
---@field strategy table<string, boolean>
---@field params table<string, table<string, any>> a module that is off has none

---@class espq.EnumerateOptions
---@field from? integer begin at this ordinal; exhaustive mode
---@field score? fun(trial: espq.Trial): number, number? what the other modes decide by; pareto: score and cost

--- The search without quantizing.
---@class espq.AutoQuantModule
local autoquant = {}

--- Walk the trials of a setting in their order; nothing is quantized.
---@param search espq.AutoQuantSetting
---@param options? espq.EnumerateOptions
---@return fun(): espq.Trial?
function autoquant.enumerate(search, options) end

--- How many trials the space has.
---@param search espq.AutoQuantSetting
---@return integer
function autoquant.count(search) end

--- The best that such records (index, score, strategy) give.
---@param search espq.AutoQuantSetting
---@param records espq.Record[]
---@return espq.Record[]
function autoquant.candidates(search, records) end

--- True when neither mixed_precision nor horizontal_layer_split is on: such models run fastest.
---@param record espq.Record
---@return boolean
function autoquant.low_latency_candidate_filter(record) end

-- ---- JSON ----

--- JSON with sorted keys and numbers as short as they read back equal.
---@class espq.JsonModule
---@field null any stands for null
local json = {}

--- As text, in one line or with so many blanks a level.
---@param value any
---@param indent? integer
---@return string
function json.encode(value, indent) end

--- What the text says; null is json.null.
---@param text string
---@return any
function json.decode(text) end

--- Marks a table as a list even when it is empty.
---@param t table
---@return table
function json.list(t) end

--- Where settings come from, under the reference's names.
---@class espq.QuantizationSettingFactory
local QuantizationSettingFactory = {}

--- As espq.setting.espdl.
---@return espq.Setting
function QuantizationSettingFactory.espdl_setting() end

--- As espq.setting.generic.
---@return espq.Setting
function QuantizationSettingFactory.default_setting() end

--- As espq.setting.from_json.
---@param text string
---@return espq.Setting
function QuantizationSettingFactory.from_json(text) end

-- ---- the module ----

--- What `require "espq"` gives.
---@class espq.Module
---@field version string
---@field verbose 0|1|2 how much is said
---@field is_worker boolean does this script run in a job of a cluster's search?
---@field setting espq.SettingModule
---@field data espq.DataModule
---@field metrics espq.MetricsModule
---@field analyse espq.AnalyseModule
---@field autoquant espq.AutoQuantModule
---@field json espq.JsonModule
---@field QuantizationSettingFactory espq.QuantizationSettingFactory
local espq = {}

--- Quantize an ONNX file and write .espdl, .info and .json. Gives the quantized graph and a report to print.
---@param options espq.QuantizeOnnxOptions
---@return espq.Graph graph
---@return espq.Report report
function espq.quantize_onnx(options) end

--- As quantize_onnx, under the reference's name.
---@param options espq.QuantizeOnnxOptions
---@return espq.Graph graph
---@return espq.Report report
function espq.espdl_quantize_onnx(options) end

--- Quantize a graph that a script built or edited, in place. Without espdl_export_file nothing is written.
---@param options espq.QuantizeGraphOptions
---@return espq.Graph graph
---@return espq.Report report
function espq.quantize_graph(options) end

--- Write a quantized graph: .espdl, .json, .info. Gives the warnings.
---@param options espq.ExportOptions
---@return string[] warnings
function espq.export(options) end

--- A graph that runs: in float, with its quantization simulated, or in the chip's integers.
---@param graph espq.Graph
---@param options? espq.ExecutorOptions
---@return espq.Executor
---@overload fun(graph: espq.Graph, options: { mode: "integer" }): espq.IntegerExecutor
function espq.executor(graph, options) end

--- A .espdl file, whoever made it, as a model that runs in the chip's integers.
---@param path string
---@param options? espq.LoadEspdlOptions
---@return espq.Model
function espq.load_espdl(path, options) end

--- Read an ONNX file; nothing is rewritten.
---@param path string
---@param options? espq.LoadOnnxOptions
---@return espq.Graph
function espq.load_onnx(path, options) end

--- A graph that graph:save_native wrote.
---@param path string
---@return espq.Graph
function espq.load_native(path) end

--- Build a graph: inputs, nodes, constants, outputs.
---@param spec espq.GraphSpec
---@return espq.Graph
function espq.graph(spec) end

--- One pass alone on a graph. Gives the nodes that changed, what it has to say, and by name what changed (print says it in words).
---@param options espq.ApplyOptions
---@return string[] names
---@return string[] notes
---@return table details
function espq.apply(options) end

--- A pass of one's own, on every road from now on.
---@param options espq.PassOptions
function espq.pass(options) end

--- A calibration method of one's own, for calib_algorithm.
---@param options espq.ObserverOptions
function espq.observer(options) end

--- An operator of one's own, in float and in simulation.
---@param options espq.OperatorOptions
function espq.operator(options) end

--- What an operator is quantized for, in a dispatching table: `espq.platform("esp32p4", 16)`, `espq.platform "float"`.
---@param target espq.Target|"float"
---@param bits? 8|16 8 when nothing is said
---@param hi_precision? boolean
---@return espq.Platform
function espq.platform(target, bits, hi_precision) end

--- How many threads compute, after setting it when a count is given.
---@param count? integer
---@return integer
function espq.threads(count) end

--- Where random numbers start: 0 when this is not called.
---@param n integer
function espq.seed(n) end

--- What is in a .espdl file; tostring gives the .info text.
---@param path string
---@param options? espq.ModelOption
---@return espq.Info
function espq.info(path, options) end

--- What the chip would refuse or compute wrongly in a file: rows level, where, text, rule; true when none is an error; the chip.
---@param path string
---@param options? espq.VerifyOptions
---@return espq.Rows findings
---@return boolean fine
---@return string target
function espq.verify(path, options) end

--- What a quantized model costs on a chip: give path or graph.
---@param options espq.CostOptions
---@return espq.Cost
function espq.cost(options) end

--- What changed from file a to file b: rows kind, name, what, differing, count, largest, mean.
---@param a string
---@param b string
---@param options? espq.ModelOption
---@return espq.Rows
function espq.diff(a, b, options) end

--- A model and what a board printed while it ran it.
---@param path string the model
---@param log_path string
---@param options? espq.TargetOptions
---@return espq.BoardLog
function espq.read_log(path, log_path, options) end

--- C++ and vectors for a board, written into a folder. Gives the files' paths.
---@param path string
---@param folder string
---@param options? espq.TargetOptions
---@return string[]
function espq.boardkit(path, folder, options) end

--- A trainer for loops of one's own.
---@param options espq.TrainerOptions
---@return espq.Trainer
function espq.trainer(options) end

--- Quantization-aware training: quantize, train, judge each epoch, keep the best, export.
---@param options espq.QatOptions
---@return espq.Graph graph
---@return espq.QatReport report
function espq.qat(options) end

--- Search for the best quantization setting. Gives the candidates' records, best first.
---@param options espq.AutoQuantOptions
---@return espq.Record[]
function espq.auto_quantize_onnx(options) end

--- As auto_quantize_onnx, under the reference's name.
---@param options espq.AutoQuantOptions
---@return espq.Record[]
function espq.espdl_auto_quantize_onnx(options) end

--- The setting of a search, with the reference's defaults where nothing is given.
---@param fields? espq.AutoQuantFields
---@return espq.AutoQuantSetting
function espq.autoquant_setting(fields) end

--- Candidates of a knob from start to end, end included.
---@param from number
---@param to number
---@param step number
---@return espq.Range
function espq.range(from, to, step) end

--- A module of one's own in the search's spaces.
---@param options espq.StrategyOptions
function espq.strategy(options) end

--- A tensor of nested tables of numbers (float32, int64 when all are whole, bool), or zeros of { shape = … }.
---@param values any
---@param dtype? espq.Dtype|espq.TensorOptions
---@return espq.Tensor
function espq.tensor(values, dtype) end

--- Zeros.
---@param shape integer|integer[]
---@param options? espq.Dtype|espq.TensorOptions
---@return espq.Tensor
function espq.zeros(shape, options) end

--- Ones.
---@param shape integer|integer[]
---@param options? espq.Dtype|espq.TensorOptions
---@return espq.Tensor
function espq.ones(shape, options) end

--- The same number everywhere.
---@param shape integer|integer[]
---@param value number
---@param options? espq.Dtype|espq.TensorOptions
---@return espq.Tensor
function espq.full(shape, value, options) end

--- Numbers in steps: `arange(stop)`, `arange(start, stop, step)`; stop is left out. int64 when all are whole.
---@param start number
---@param stop? number
---@param step? number
---@param options? espq.TensorOptions behind the numbers that are given
---@return espq.Tensor
---@overload fun(stop: number, options: espq.TensorOptions?): espq.Tensor
---@overload fun(start: number, stop: number, options: espq.TensorOptions?): espq.Tensor
function espq.arange(start, stop, step, options) end

--- Normal random numbers, mean 0 and deviation 1.
---@param shape integer|integer[]
---@param options? espq.RandomOptions
---@return espq.Tensor
function espq.randn(shape, options) end

--- Random numbers from 0 to below 1.
---@param shape integer|integer[]
---@param options? espq.RandomOptions
---@return espq.Tensor
function espq.rand(shape, options) end

--- The array of an .npy file.
---@param path string
---@return espq.Tensor
function espq.from_npy(path) end

--- All arrays of an .npz file, by name.
---@param path string
---@return table<string, espq.Tensor>
function espq.from_npz(path) end

--- Write an .npz file, in the order of the names.
---@param path string
---@param arrays table<string, espq.Tensor>
function espq.save_npz(path, arrays) end

--- A .jpg or .png as uint8 [height, width, channels].
---@param path string
---@param options? espq.ImageOptions
---@return espq.Tensor
function espq.image(path, options) end

--- A picture [height, width, channels] in another size, as PIL computes it.
---@param image espq.Tensor
---@param height integer
---@param width integer
---@param filter? espq.Filter bilinear when nothing is said
---@return espq.Tensor
function espq.resize(image, height, width, filter) end

--- Tensors behind each other along an axis, 0 when nothing is said.
---@param tensors espq.Tensor[]
---@param options? integer|espq.AxisOptions
---@return espq.Tensor
function espq.cat(tensors, options) end

--- Tensors of one shape along a new axis, 0 when nothing is said.
---@param tensors espq.Tensor[]
---@param options? integer|espq.AxisOptions
---@return espq.Tensor
function espq.stack(tensors, options) end

--- a where the condition is true, b where not.
---@param condition espq.Tensor
---@param a espq.Tensor|number
---@param b espq.Tensor|number
---@return espq.Tensor
function espq.where(condition, a, b) end

--- Is this a tensor?
---@param value any
---@return boolean
function espq.is_tensor(value) end

--- Is this what espq raises?
---@param value any
---@return boolean
function espq.is_error(value) end

return espq
