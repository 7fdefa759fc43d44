--- Running integers as the chip does: any .espdl file, or a graph quantized in this process.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"

local chip = {}

local note = core.base.note

local chip_fields = { target = "string", version = "string", mended = "boolean", traits = "table", threads = "integer", outputs = "table" }

local function with(fields)
   for name, kind in pairs(chip_fields) do fields[name] = fields[name] or kind end
   return fields
end

local function settings(options, target)
   return { target = target, version = options.version, mended = options.mended, traits = options.traits }
end

-- What stands between a tensor in the file's layout and one as the float graph has it.
local function as_original(tensor, value)
   if value.perm then
      local back = {}
      for stored, original in ipairs(value.perm) do back[original + 1] = stored - 1 end
      tensor = tensor:permute(back)
   end
   if tensor.dtype == "int8" or tensor.dtype == "int16" then tensor = tensor:to("float32") * 2.0 ^ value.exponent end
   return tensor
end

-- ---- a model ----

local Model = {}

function Model:__index(key)
   local method = rawget(Model, key)
   if method ~= nil then return method end
   if key ~= "inputs" and key ~= "outputs" then return nil end
   local values = core.chip.ends(rawget(self, "engine"))[key]
   for _, value in ipairs(values) do value.consumers = { true } end       -- an input that is not given is missing, whoever reads it
   return values
end

function Model:__tostring()
   local lines = { ("integer model for %s"):format(self.target) }
   for _, side in ipairs { "inputs", "outputs" } do
      for _, value in ipairs(self[side]) do
         lines[#lines + 1] = ("  %s %s %s [%s], exponent %d"):format(side:sub(1, -2), value.name, value.dtype, table.concat(value.shape, ", "), value.exponent)
      end
   end
   return table.concat(lines, "\n")
end

local function headroom(self)
   local rows = core.chip.headroom(self.engine)
   return require("espq.report").rows(rows, {
      { key = "node" }, { key = "type" }, { key = "largest", title = "largest sum" }, { key = "limit" }, { key = "saturated" }, { key = "clipped" },
      { key = "count", title = "outputs" },
   }, #rows == 0 and "nothing was run yet: call headroom() once, run, and call it again" or nil)
end

--- What the runs since the first call did to the accumulators, a row a node: the largest sum on the way, the limit of the chip's accumulators, how many
--- outputs had a sum that left them, and how many were cut to the range of the result. The first call starts measuring, which is slow.
function Model:headroom() return headroom(self) end

-- The ONNX order of a picture's axes for a tensor that is stored channels-last.
local function channels_first(stored)
   if #stored == 4 then return { stored[1], stored[4], stored[2], stored[3] }, { 0, 2, 3, 1 } end
   if #stored == 3 then return { stored[1], stored[3], stored[2] }, { 0, 2, 1 } end
end

local function fits(shape, wanted)
   if #shape ~= #wanted then return false end
   for i = 2, #wanted do if shape[i] ~= wanted[i] then return false end end
   return true
end

-- The file's layout goes first; floats in ONNX's order of axes are turned where only that fits.
local function arrange(self, tensor, value)
   local first, turn = channels_first(value.shape)
   if not first or fits(tensor.shape, value.shape) or not fits(tensor.shape, first) then return tensor end
   if not self.told then note(("note: input '%s' is channels-first; the file stores it channels-last, so it is turned"):format(value.name)) end
   self.told = true
   return tensor:permute(turn)
end

--- Run on a tensor, a list of tensors, or name = tensor, any number of samples. Floats are quantized as the runtime does it.
function Model:__call(batch)
   local inputs = self.inputs
   local list = data.bind("load_espdl", inputs, batch)
   for i, value in ipairs(inputs) do list[i] = arrange(self, list[i], value) end
   local results = core.chip.run(self.engine, list)
   local names = {}
   for i, value in ipairs(self.outputs) do
      names[i] = value.name
      if self.floats then results[i] = as_original(results[i], value) end
   end
   return require("espq.executor").name_outputs(results, names)
end

-- All watchers share one function of the engine.
local function watch(self, name, fn)
   if type(name) ~= "string" then check.fail("watch: the name of a tensor is wanted, this is a " .. type(name)) end
   if type(fn) ~= "function" then check.fail("watch: a function is wanted, this is a " .. type(fn)) end
   local value = core.chip.value(self.engine, name)
   local list = self.watchers[value.name]
   if not list then
      list = { value = value }
      self.watchers[value.name] = list
   end
   list[#list + 1] = fn
   core.chip.watch(self.engine, function(seen_name, tensor, undefined, sample)
      local watchers = self.watchers[seen_name]
      local seen = self.original and as_original(tensor, watchers.value) or tensor
      for _, each in ipairs(watchers) do each(seen, tensor, undefined, sample) end
   end, check.keys(self.watchers))
   return self
end

--- Call fn(tensor, raw, undefined, sample) whenever the tensor of that name is computed. undefined: why the chip's result is no result, or nil.
---@param name string
---@param fn fun(tensor: userdata, raw: userdata, undefined: string?, sample: integer)
function Model:watch(name, fn) return watch(self, name, fn) end

--- What is kept from run to run (StreamingCache, tables of Div) is as after loading.
function Model:reset()
   core.chip.reset(self.engine)
   return self
end

-- Names of tensors, each once: results are found by them.
local function want(engine, names)
   local seen = {}
   for _, name in ipairs(names) do
      if type(name) ~= "string" then check.fail("load_espdl: outputs has to be a list of names, there is a " .. type(name)) end
      if seen[name] then check.fail(("load_espdl: outputs names '%s' twice"):format(name)) end
      seen[name] = true
   end
   if #names == 0 then check.fail("load_espdl: outputs is empty", nil, "name the tensors that are wanted, or leave it out") end
   core.chip.want(engine, names)
end

local load_fields = with { model = "string", floats = "boolean" }

--- A .espdl file, whoever made it, as a model that runs. Outputs are the chip's integers in the file's layout; floats = true: their values.
---@param path string
---@param options? { target: string, model: string, version: string, mended: boolean, traits: table, floats: boolean, outputs: string[], threads: integer }
function chip.load(path, options)
   if type(path) ~= "string" then check.fail("load_espdl: a path is wanted, this is a " .. type(path)) end
   options = check.fields("load_espdl", options or {}, load_fields)
   if options.threads then core.executor.threads(options.threads) end
   local wanted = settings(options, options.target)
   wanted.model = options.model
   local engine, target, sure, why = core.chip.load(path, wanted)
   if not sure then note(("note: %s is run as for %s (%s); target = \"esp32s3\" | \"esp32p4\" | \"c\" says which chip it is for"):format(path, target, why)) end
   if options.outputs then want(engine, options.outputs) end
   return setmetatable({ engine = engine, target = target, sure = sure, floats = options.floats, watchers = {} }, Model)
end

-- ---- a graph ----

local Lowered = {}
Lowered.__index = Lowered

local function lower(self)
   local about = core.graph.about(self.graph)
   if not about.quantized then
      check.fail("executor: mode 'integer' needs a quantized graph", nil, "espq.quantize_graph{ graph = … } first, or mode = 'float'")
   end
   local options = settings(self.options, about.target)
   options.setting = require("espq.setting").engine(self.options.setting or about.setting)
   options.int16_lut_step = self.options.int16_lut_step or about.int16_lut_step
   options.raw = self.options.raw
   self.engine = core.chip.lower(self.graph, options)
   core.chip.want(self.engine, self.names)
   self.revision = core.chip.revision(self.graph)
end

local function refresh(self)
   if self.revision == core.chip.revision(self.graph) then return end
   lower(self)
   local watchers = self.watchers
   self.watchers = {}
   for name, list in pairs(watchers) do
      for _, fn in ipairs(list) do watch(self, name, fn) end
   end
end

function Lowered:__call(batch)
   refresh(self)
   local list = data.bind("executor", self.options.raw and core.chip.ends(self.engine).inputs or self.graph.inputs, batch)
   return require("espq.executor").name_outputs(core.chip.run(self.engine, list), self.names)
end

function Lowered:watch(name, fn)
   refresh(self)
   return watch(self, name, fn)
end

function Lowered:headroom()
   refresh(self)
   return headroom(self)
end

function Lowered:reset()
   core.chip.reset(self.engine)
   return self
end

--- A graph that was quantized in this process, in integers. Ends as in the other modes: the graph's layout and float values, so that the same
--- evaluate_fn works; raw = true: the integers of the file, in its layout.
function chip.graph(graph, options)
   local names = options.outputs
   if not names then
      names = {}
      for i, value in ipairs(graph.outputs) do names[i] = value.name end
   end
   local self = setmetatable({ graph = graph, options = options, mode = "integer", names = names, watchers = {}, original = not options.raw }, Lowered)
   lower(self)
   return self
end

chip.graph_fields = with { mode = "string", exact = "boolean", raw = "boolean" }

return chip
