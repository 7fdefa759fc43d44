--- Running a graph: in float, with its quantization simulated, or in the chip's integers.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"

local executor = {}

local Executor = {}
Executor.__index = Executor

local Outputs = {}

--- Outputs are read by position or by name; both are in the table.
function executor.name_outputs(list, names)
   for i, name in ipairs(names) do list[name] = list[i] end
   return setmetatable(list, Outputs)
end

function Outputs.__index(outputs, key)
   if key == #outputs + 1 then return nil end               -- where ipairs ends
   if type(key) == "number" then check.fail(("the graph has %d outputs, there is none at position %s"):format(#outputs, key)) end
   local names = {}
   for name in pairs(outputs) do
      if type(name) == "string" then names[#names + 1] = name end
   end
   check.fail(("the graph has no output '%s'%s"):format(tostring(key), check.hint(key, names)))
end

function Outputs.__tostring(outputs)
   local lines = {}
   for i, tensor in ipairs(outputs) do
      for name, other in pairs(outputs) do
         if type(name) == "string" and rawequal(tensor, other) then lines[i] = ("%s: %s"):format(name, tostring(tensor)) end
      end
   end
   return table.concat(lines, "\n")
end

--- Run on one batch: a tensor, a list of tensors, or name = tensor. Batches of any size are fine.
function Executor:__call(batch)
   local list = data.bind("executor", self.graph.inputs, batch)
   return executor.name_outputs(core.executor.run(self.engine, list), self.names)
end

--- Call fn(tensor, before) whenever the tensor of that name is computed: as its readers see it, and before it was quantized.
---@param name string
---@param fn fun(seen: userdata, raw: userdata)
function Executor:watch(name, fn)
   if type(name) ~= "string" then check.fail("watch: the name of a tensor is wanted, this is a " .. type(name)) end
   self.graph:tensor(name)
   core.executor.watch(self.engine, name, fn)
   return self
end

local modes = { "float", "simulated", "integer" }

--- A runnable graph.
---@param graph userdata
---@param options? { mode: "float"|"simulated"|"integer", threads: integer, outputs: string[], exact: boolean, version: string, mended: boolean, raw: boolean }
function executor.make(graph, options)
   options = check.fields("executor", options or {}, require("espq.chip").graph_fields)
   local about = core.graph.about(graph)
   local mode = options.mode or "simulated"
   check.word("executor: mode", mode, modes)
   if options.threads then core.executor.threads(options.threads) end
   if mode == "integer" then return require("espq.chip").graph(graph, options) end
   for _, name in ipairs { "version", "mended", "traits", "raw", "target" } do
      if options[name] ~= nil then check.fail(("executor: field '%s' is for mode 'integer'"):format(name)) end
   end
   local exact = options.exact
   if exact == nil then exact = about.exact end
   if exact == nil then exact = true end
   for _, name in ipairs(options.outputs or {}) do graph:tensor(name) end
   local engine = core.executor.make(graph, { mode = mode, exact = exact, wanted = options.outputs })
   return setmetatable({ graph = graph, engine = engine, mode = mode, names = core.executor.outputs(engine) }, Executor)
end

return executor
