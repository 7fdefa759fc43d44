--- Passes, observers and operators of scripts; one pass alone.
local core = require "espq.core"
local changes = require "espq.changes"
local check = require "espq.check"
local data = require "espq.data"
local quantize = require "espq.quantize"
local setting_tree = require "espq.setting"

local custom = {}

--- A pass of one's own: it stands in `espq passes` and runs in its place on every road.
---    espq.pass { name =, after = a pass's name, run = function(graph, setting) … end, help = }
---@param options table
function custom.pass(options)
   check.fields("pass", options, { name = "string!", after = "string!", run = "function!", help = "string" })
   core.road.pass(options.name, options.help or "a pass of a script", options.after, function(graph)
      options.run(graph, core.graph.about(graph).setting or setting_tree.espdl())
   end)
end

--- A calibration method of one's own, for calib_algorithm.
---    espq.observer { name =, begin = function(slot) return state end, observe = function(state, tensor) end, scale = function(state, slot) return
--- exponent end }
---@param options table
function custom.observer(options)
   check.fields("observer", options, { name = "string!", begin = "function", observe = "function!", scale = "function!", help = "string" })
   core.custom.observer(options.name, options.help or "a method of a script", options.begin, options.observe, options.scale)
end

--- An operator of one's own, in float and in simulation.
---    espq.operator { type =, infer = function(node) return shape end, run = function(node, inputs) return tensor end }
---@param options table
function custom.operator(options)
   check.fields("operator", options, { type = "string!", infer = "function!", run = "function!", help = "string" })
   core.custom.operator(options.type, options.help or "an operator of a script", options.infer, options.run)
end

-- Where a pass's settings are not called after it; "": at the top of the tree.
local groups = {
   dispatch = "", fuse = "fusion_setting", join = "fusion_setting", align = "fusion_setting", parameters = "quantize_parameter_setting",
   passive = "quantize_parameter_setting", baking = "quantize_parameter_setting", calibrate = "quantize_activation_setting",
   modify = "quant_config_modify_setting", ssd_equalization = "ssd_setting", lsq = "lsq_optimization_setting", tqt = "tqt_optimization_setting",
   blockwise = "blockwise_reconstruction_setting",
}
-- Of all passes that work block by block.
local shared = { block_memory = true, block_batches = true, block_holdout = true, block_seed = true, keep_best = true }

local function path_of(pass, key)
   local group = groups[pass] or pass .. "_setting"
   return (group == "" or shared[key]) and key or group .. "." .. key
end

local function notes_of(graph)
   local list = {}
   for line in core.graph.notes(graph):gmatch "[^\n]+" do list[#list + 1] = line end
   return list
end

--- One pass alone. Gives the names of the nodes that it changed, made or removed, sorted; a list of what it has to say; and by name what changed
--- (see espq.changes): constants with their tensors before and after, exponents before and after. print(details) says it in words.
---    espq.apply { graph =, pass = "align", setting = (an espq.setting, or a table of the pass's own settings), dataloader =, target =, num_of_bits = }
---@param options table
---@return string[] names, string[] notes, table details
function custom.apply(options)
   check.fields("apply", options, {
      graph = "any!", pass = "string!", setting = "table", dataloader = "any", steps = "integer",
      collate_fn = "function", target = "string", num_of_bits = "integer",
   })
   local about = core.graph.about(options.graph)
   local setting = about.setting and about.setting:copy() or setting_tree.espdl()
   if options.setting and setting_tree.is(options.setting) then
      setting = options.setting:copy()
   elseif options.setting then
      for _, key in ipairs(check.keys(options.setting)) do setting_tree.set_value(setting, path_of(options.pass, key), options.setting[key]) end
   end
   local road = quantize.road_options({ target = options.target or about.target, num_of_bits = options.num_of_bits or about.bits,
                                                 hi_precision = about.hi_precision }, setting)
   if options.dataloader then
      road.walk = data.walk("apply", options.dataloader, options.graph, { limit = options.steps, collate_fn = options.collate_fn })
   end
   local before, told = changes.snapshot(options.graph), #notes_of(options.graph)
   core.road.apply(options.graph, options.pass, road)
   about.setting, about.target, about.bits, about.quantized = setting, road.target, road.bits, true
   if about.exact == nil then about.exact = setting.switches.onnx_exact_ops end
   local changed, details = changes.between(before, changes.snapshot(options.graph))
   local notes = table.pack(table.unpack(notes_of(options.graph), told + 1))
   notes.n = nil
   for _, line in ipairs(notes) do core.base.note(check.told(line)) end
   return changed, notes, details
end

return custom
