---@meta espq
-- What a script of espq sees, for editors with lua-language-server: names, types, a line of help. It is no part of the program.
-- The module stands here, what it gives and takes in the files beside. tests/lua/meta_spec.lua holds them against the live module, so that
-- a name that is missing here, or gone there, fails a test.
-- luacheck: ignore 212 241

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
