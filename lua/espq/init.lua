--- espq: quantizes ONNX models for ESP32 chips. This table is all that users see.
local core = require "espq.core"
local check = require "espq.check"

---@class espq
local espq = {
   version = "0.1.0",
   tensor = core.tensor.tensor, zeros = core.tensor.zeros, ones = core.tensor.ones, full = core.tensor.full, arange = core.tensor.arange,
   randn = core.tensor.randn, rand = core.tensor.rand, from_npy = core.tensor.from_npy, image = core.tensor.image,
   cat = core.tensor.cat, stack = core.tensor.stack, where = core.tensor.where, resize = core.tensor.resize,
   is_tensor = core.tensor.is_tensor, is_error = core.error.is_error, is_worker = false,
}

--- All arrays of an .npz file, name → tensor.
---@param path string
---@return table<string, userdata>
function espq.from_npz(path)
   local arrays = core.tensor.from_npz(path)
   return arrays
end

--- Write an .npz file: name → tensor, in the order of the names.
function espq.save_npz(path, arrays)
   local list = {}
   for _, name in ipairs(check.keys(arrays)) do list[#list + 1] = { name, arrays[name] } end
   core.tensor.save_npz(path, list)
end

--- Where random numbers start: 0 when this is not called.
---@param n integer
function espq.seed(n)
   if math.type(n) ~= "integer" then check.fail("seed: a whole number is wanted") end
   core.tensor.seed(n)
   require("espq.quantize").seed = n
end

--- What an operator is quantized for, in a dispatching table.
---@param target string a target's name, or "float"
---@param bits? integer 8 or 16
function espq.platform(target, bits, hi_precision) return core.road.platform(target, bits, hi_precision) end

function espq.threads(count) return core.executor.threads(count) end

--- What is in an .espdl file: a table; tostring gives the .info text.
---@param path string
---@param options? { model: string } which one of a package
function espq.info(path, options)
   local model = core.espdl.load(path, options and options.model)
   return setmetatable(core.espdl.table(model), { __tostring = function() return core.espdl.text(model) end })
end

-- Parts that are loaded when they are first used: name → module, field in it (nil: the module itself).
local parts = {
   setting = { "espq.setting" }, data = { "espq.data" }, metrics = { "espq.metrics" }, analyse = { "espq.analyse" }, json = { "espq.json" },
   quantize_onnx = { "espq.quantize", "onnx" }, quantize_graph = { "espq.quantize", "graph" }, export = { "espq.quantize", "export" },
   executor = { "espq.executor", "make" }, load_espdl = { "espq.chip", "load" }, verify = { "espq.verify", "file" },
   cost = { "espq.cost", "estimate" }, diff = { "espq.inspect", "diff" }, boardkit = { "espq.inspect", "boardkit" }, read_log = { "espq.inspect", "log" },
   graph = { "espq.graph", "build" }, load_onnx = { "espq.graph", "load_onnx" }, load_native = { "espq.graph", "load_native" },
   pass = { "espq.custom", "pass" }, observer = { "espq.custom", "observer" }, operator = { "espq.custom", "operator" }, apply = { "espq.custom", "apply" },
   espdl_quantize_onnx = { "espq.quantize", "onnx" },
   autoquant = { "espq.autoquant" }, autoquant_setting = { "espq.autoquant.setting", "new" }, range = { "espq.autoquant.setting", "range" },
   trainer = { "espq.train", "make" }, qat = { "espq.qat", "run" },
   strategy = { "espq.autoquant.modules", "strategy" }, auto_quantize_onnx = { "espq.autoquant.call", "run" },
   espdl_auto_quantize_onnx = { "espq.autoquant.call", "run" },
}

local coming = {
   quantize_torch = true, streaming_cache = true,
}

local function load_part(name)
   if name == "verbose" then return core.base.verbose() end
   if name == "QuantizationSettingFactory" then
      local setting = require "espq.setting"
      return { espdl_setting = setting.espdl, default_setting = setting.generic, from_json = setting.from_json }
   end
   local part = parts[name]
   if not part then return nil end
   require "espq.graph"                                   -- methods of graphs
   local module = require(part[1])
   return part[2] and module[part[2]] or module
end

return setmetatable(espq, {
   __index = function(self, name)
      local value = load_part(name)
      if value ~= nil then
         if name ~= "verbose" then rawset(self, name, value) end
         return value
      end
      if coming[name] then check.fail(("espq.%s comes in a later version"):format(name)) end
      local names = check.keys(parts)
      for key in pairs(self) do names[#names + 1] = key end
      check.fail(("espq has no '%s'%s"):format(tostring(name), check.hint(name, names)))
   end,
   __newindex = function(self, name, value)
      if name == "verbose" then core.base.verbose(value) else rawset(self, name, value) end
   end,
})
