---@meta _
-- Executors and what they run. (See espq.lua.)
-- luacheck: ignore 212 241

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
