-- Promise: a search's setting has the reference's defaults, and whatever is wrong in it is named together with what is allowed.
local espq = require "espq"

local function message(change)
   local setting = espq.autoquant_setting {}
   return tostring(assert.error(function() change(setting) end))
end

describe("the setting of a search", function()
   it("has the reference's defaults and is edited in part", function()
      local setting = espq.autoquant_setting { search_mode = "fast" }
      setting.param_space.tqt.steps = { 100 }
      setting.param_space.weight_equalization = { iterations = { 3 } }
      setting.strategy_space.tqt = { false }
      assert.same({ 1e-5, 5e-5 }, setting.param_space.tqt.lr)
      assert.same({ 100 }, setting.param_space.tqt.steps)
      assert.same({ 3 }, setting.param_space.weight_equalization.iterations)
      assert.same({ 0.1, 0.5, 2 }, setting.param_space.weight_equalization.value_threshold)
      assert.same({ true, false }, setting.strategy_space.weight_equalization)
      assert.same({ 10, 3, 5, "maximize", "outputs/auto_quant", false },
                  { setting.top_strategy, setting.early_stop_patience, setting.num_of_candidates, setting.score_direction, setting.run_dir, setting.resume })
      assert.same({ calib_algorithm = { "method" }, num_of_bits = { "value" } }, setting.structural_knobs)
   end)

   local wrong = {
      { "a module", function(s) s.strategy_space.weight_equalisation = { true } end, { "weight_equalisation", "did you mean 'weight_equalization'" } },
      { "a knob", function(s) s.param_space.tqt.step = { 1 } end, { "tqt has no knob 'step'", "did you mean 'steps'", "block_size" } },
      { "a switch", function(s) s.strategy_space.tqt = { 1 } end, { "strategy_space.tqt", "neither true nor false" } },
      { "an empty list", function(s) s.param_space.tqt.lr = {} end, { "param_space.tqt.lr is empty", "allowed are numbers" } },
      { "an empty strategy", function(s) s.strategy_space.tqt = {} end, { "strategy_space.tqt is empty", "{ true, false }" } },
      { "a number for a list", function(s) s.param_space.tqt.lr = 1e-5 end, { "param_space.tqt.lr has to be a list", "espq.range" } },
      { "a word", function(s) s.param_space.calib_algorithm.method = { "kll" } end, { "'kll' is no candidate", "did you mean 'kl'" } },
      { "a part of a number", function(s) s.param_space.tqt.steps = { 1.5 } end, { "1.5 is no candidate", "whole numbers from 1" } },
      { "all layers where they are not", function(s) s.param_space.mixed_precision.topk = { -1 } end, { "mixed_precision.topk", "whole numbers from 1" } },
      { "a field", function(s) s.top_strategies = 3 end, { "unknown field 'top_strategies'", "did you mean 'top_strategy'" } },
      { "a mode", function(s) s.search_mode = "slow" end, { "search_mode", "exhaustive, fast" } },
      { "a structural knob", function(s) s.structural_knobs = { tqt = { "speed" } } end, { "module 'tqt' has no knob 'speed'" } },
      { "a step", function() espq.range(1, 2, 0) end, { "step has to be positive" } },
      { "candidates of none", function(s) s.num_of_candidates = 0 end, { "num_of_candidates has to be a whole number from 1" } },
   }
   for _, case in ipairs(wrong) do
      it("names what is wrong: " .. case[1], function()
         local text = message(case[2])
         for _, part in ipairs(case[3]) do assert.matches(part, text, 1, true) end
      end)
   end

   it("takes ranges as the reference does, end included, without the drift of floats", function()
      local setting = espq.autoquant_setting {}
      for _, name in ipairs { "tqt", "bias_correction", "blockwise_reconstruction" } do setting.strategy_space[name] = { false } end
      setting.strategy_space.weight_equalization = { true }
      setting.param_space.weight_equalization = { iterations = { 10 }, value_threshold = espq.range(0.1, 0.7, 0.2) }
      setting.param_space.calib_algorithm.method = { "kl" }
      local thresholds, seen = {}, {}
      for trial in espq.autoquant.enumerate(setting) do
         local value = trial.params.weight_equalization.value_threshold
         if not seen[value] then thresholds[#thresholds + 1] = value end
         seen[value] = true
      end
      assert.same({ 0.1, 0.3, 0.5, 0.7 }, thresholds)
   end)
end)
