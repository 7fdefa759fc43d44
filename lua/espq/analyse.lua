--- Error analyses: each gives a list of rows that prints as the reference's table.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"
local report = require "espq.report"

local analyse = {}

local fields = { graph = "any!", dataloader = "any!", steps = "integer", method = "string", collate_fn = "function" }
local methods = { "snr", "cosine", "mse" }

local function judged(what, options)
   check.fields(what, options, fields)
   local method = options.method or "snr"
   check.word(what .. ": method", method, methods)
   local exact = core.graph.about(options.graph).exact
   if exact == nil then exact = true end
   local judge = { method = method, steps = options.steps or 8, exact = exact }
   return data.walk(what, options.dataloader, options.graph, { collate_fn = options.collate_fn }), judge
end

local function ranked(what, run)
   return function(options)
      local walk, judge = judged(what, options)
      local rows, text = run(options.graph, walk, judge)
      return report.rows(rows, { { key = "name" }, { key = "type" }, { key = judge.method } }, #rows > 0 and text
            or "nothing can be measured: no quantized computing node")
   end
end

--- How far each layer's output is from float, in the quantized graph as a whole.
---@type fun(options: table): table
analyse.graphwise = ranked("analyse.graphwise", core.analyse.graphwise)

--- What each layer, quantized alone, costs at the graph's outputs.
---@type fun(options: table): table
analyse.layerwise = ranked("analyse.layerwise", core.analyse.layerwise)

local statistical_columns = {
   { key = "op" }, { key = "variable" }, { key = "snr", format = "%.6f" }, { key = "is_input" }, { key = "is_output" }, { key = "is_parameter" },
}

--- Noise and distribution of every end of every quantized node.
---@param options table
function analyse.statistical(options)
   local walk, judge = judged("analyse.statistical", options)
   return report.rows(core.analyse.statistical(options.graph, walk, judge), statistical_columns)
end

--- Range, deviation and mean of every parameter.
---@param options table
function analyse.parameters(options)
   check.fields("analyse.parameters", options, { graph = "any!" })
   return report.rows(core.analyse.parameters(options.graph),
                      { { key = "variable" }, { key = "op" }, { key = "range", format = "%.4f" }, { key = "std", format = "%.4f" },
                            { key = "mean_abs", format = "%.4f" } })
end

--- What each layer, quantized alone, costs at the outputs, the dearest first; the dearest are marked, with the setting that would mend them.
---@param options table
function analyse.sensitivity(options)
   local walk, judge = judged("analyse.sensitivity", options)
   if judge.method == "cosine" then check.fail("analyse.sensitivity: method has to be snr or mse", nil, "leave method out") end
   return require("espq.analyse_sensitivity").run(options.graph, walk, judge)
end

-- ---- where simulation and chip part: analyse_chip.lua ----

local chip = require "espq.analyse_chip"
analyse.compare, analyse.headroom, analyse.device, analyse.resolution = chip.compare, chip.headroom, chip.device, chip.resolution

return check.module("analyse", analyse)
