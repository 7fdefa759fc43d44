--- The modules of a search: what a trial switches on, the knobs each has, and what they do to the quantization setting. One row each; the
--- order is that of the enumeration. `espq.strategy` adds rows behind them.
local check = require "espq.check"

local modules = {}

---@class espq.autoquant.Knob
---@field name string
---@field kind "integer"|"number"|"boolean"|"word"|"topk"|"any"
---@field least? number for integers and numbers
---@field words? string[]|fun(): string[] what a word may be
---@field all? boolean topk: -1 stands for all layers
---@field values any[] the candidates when nothing else is said

---@class espq.autoquant.Module
---@field name string
---@field switch any[] the default of the strategy space
---@field knobs espq.autoquant.Knob[] in their order
---@field path? string the setting that switches it
---@field ranks? boolean its layers come from the layerwise error of a baseline
---@field apply fun(setting: table, knobs: table, context: table)

local function observer_names()
   local names = {}
   for _, row in ipairs(require("espq.core").base.observers()) do names[#names + 1] = row.name end
   return names
end

local two, three = { "None", "Align to Input", "Align to Output" }, { "None", "Align to Large", "Align to Output" }

local function whole(name, values, least) return { name = name, kind = "integer", least = least or 1, values = values } end
local function real(name, values) return { name = name, kind = "number", least = 0, values = values } end
local function switch(name, values) return { name = name, kind = "boolean", values = values } end
local function topk(values, all) return { name = "topk", kind = "topk", all = all, values = values } end
local function word(name, values, words) return { name = name, kind = "word", words = words, values = values } end
local function device() return { name = "collecting_device", kind = "word", values = { "cpu" } } end

-- Training passes: their knobs are fields of their setting, but for the layers.
local function train(path)
   return function(setting, knobs, context)
      local group = setting[path .. "_setting"]
      for name, value in pairs(knobs) do
         if name == "topk" then group.interested_layers = context.worst(value) else group[name] = value end
      end
   end
end

---@type espq.autoquant.Module[]
local rows = {
   {
      name = "num_of_bits", switch = { true }, knobs = { whole("value", { 8 }) },
      apply = function(_, knobs, context) context.num_of_bits = knobs.value end,
   },
   {
      name = "calib_algorithm", switch = { true }, knobs = { word("method", { "kl", "percentile", "mse" }, observer_names) },
      apply = function(setting, knobs) setting.quantize_activation_setting.calib_algorithm = knobs.method end,
   },
   {
      name = "weight_equalization", switch = { true, false }, path = "equalization",
      knobs = { whole("iterations", { 10, 50, 100 }), real("value_threshold", { 0.1, 0.5, 2 }), whole("opt_level", { 2 }) },
      apply = function(setting, knobs)
         for name, value in pairs(knobs) do setting.equalization_setting[name] = value end
      end,
   },
   {
      name = "horizontal_layer_split", switch = { false }, path = "weight_split", ranks = true,
      knobs = { topk { 1 }, real("value_threshold", { 0.1, 0.2 }) },
      apply = function(setting, knobs, context)
         setting.weight_split_setting.interested_layers = context.worst(knobs.topk)
         setting.weight_split_setting.value_threshold = knobs.value_threshold
      end,
   },
   {
      name = "bias_correction", switch = { true, false }, path = "bias_correct", ranks = true,
      knobs = { whole("block_size", { 4, 2, 1 }), whole("steps", { 32 }), topk({ -1, 1, 2, 3 }, true) },
      apply = function(setting, knobs, context)
         local group = setting.bias_correct_setting
         group.interested_layers, group.block_size, group.steps = context.worst(knobs.topk), knobs.block_size, knobs.steps
      end,
   },
   {
      name = "mixed_precision", switch = { false }, ranks = true, knobs = { topk { 1 } },
      apply = function(setting, knobs, context)
         for _, name in ipairs(context.with_consumers(context.worst(knobs.topk))) do
            setting.dispatching_table:append(name, require("espq.core").road.platform(context.target, 16))
         end
      end,
   },
   {
      name = "tqt", switch = { true, false }, path = "tqt_optimization", ranks = true,
      knobs = {
         real("lr", { 1e-5, 5e-5 }), whole("steps", { 500, 1000, 2000 }), whole("block_size", { 4, 2, 1 }), switch("is_scale_trainable", { true }),
         real("gamma", { 0.0 }), real("int_lambda", { 0.0 }), device(), topk({ -1 }, true),
      },
      apply = train "tqt_optimization",
   },
   {
      name = "fusion_alignment", switch = { true }, path = "fusion_setting.align_quantization",
      knobs = {
         word("elementwise_to", { "Align to Large", "Align to Output" }, three), word("concat_to", { "Align to Large", "Align to Output" }, three),
         word("avgpooling_to", { "Align to Input", "Align to Output" }, two), word("resize_to", { "Align to Input", "Align to Output" }, two),
         switch("force_overlap", { false }),
      },
      apply = function(setting, knobs)
         local group = setting.fusion_setting
         for _, what in ipairs { "elementwise", "concat", "avgpooling", "resize" } do group["align_" .. what .. "_to"] = knobs[what .. "_to"] end
         group.force_alignment_overlap = knobs.force_overlap
      end,
   },
   {
      name = "blockwise_reconstruction", switch = { true, false }, path = "blockwise_reconstruction", ranks = true,
      knobs = {
         switch("is_scale_trainable", { false }), topk({ -1, 1, 2, 3 }, true), whole("block_size", { 4, 2 }), whole("steps", { 1000 }),
         real("lr", { 1e-4 }), real("gamma", { 1.0 }), device(),
      },
      apply = train "blockwise_reconstruction",
   },
}

local by_name = {}
for _, row in ipairs(rows) do by_name[row.name] = row end

---@return espq.autoquant.Module[]
function modules.list() return rows end

---@return espq.autoquant.Module?
function modules.find(name) return by_name[name] end

---@return string[]
function modules.names()
   local names = {}
   for i, row in ipairs(rows) do names[i] = row.name end
   return names
end

---@param module espq.autoquant.Module
---@return espq.autoquant.Knob?
function modules.knob(module, name)
   for _, knob in ipairs(module.knobs) do
      if knob.name == name then return knob end
   end
end

local function knob_names(module)
   local names = {}
   for i, knob in ipairs(module.knobs) do names[i] = knob.name end
   return names
end

modules.knob_names = knob_names

--- A module of one's own: it takes part in the spaces of all settings, behind those that are there.
---    espq.strategy { name = "clip_tails", knobs = { factor = { 0.9, 0.95 } }, apply = function(quantization_setting, knobs) … end }
--- It is tried on and off; setting.strategy_space.clip_tails = { true } changes that. Knobs are enumerated in the order of their names.
---@param options { name: string, knobs: table<string, any[]>|nil, apply: fun(quantization_setting: table, knobs: table), switch: boolean[]|nil }
function modules.strategy(options)
   check.fields("strategy", options, { name = "string!", knobs = "table", apply = "function!", switch = "table" })
   if by_name[options.name] then check.fail(("strategy: there is a module '%s' already"):format(options.name), nil, "give it another name") end
   local row = { name = options.name, switch = options.switch or { true, false }, knobs = {}, apply = options.apply, custom = true }
   for _, name in ipairs(check.keys(options.knobs or {})) do
      local values = options.knobs[name]
      local what = ("strategy '%s': knob '%s'"):format(options.name, name)
      if type(values) ~= "table" or (#values == 0 and not values.range) then
         check.fail(what .. " needs a list of candidates", nil, ("knobs = { %s = { 0.9, 0.95 } }"):format(name))
      end
      row.knobs[#row.knobs + 1] = { name = name, kind = "any", values = values }
   end
   for _, value in ipairs(row.switch) do
      if type(value) ~= "boolean" then check.fail(("strategy '%s': switch is a list of true and false"):format(options.name)) end
   end
   rows[#rows + 1] = row
   by_name[row.name] = row
end

return modules
