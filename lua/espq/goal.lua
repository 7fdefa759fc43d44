--- The accuracy goal of quantize_onnx: the cheapest setting that keeps a metric within max_drop of float, by a guided search over the passes.
-- What costs nothing on the chip is tried first: calibration methods, equalization, bias correction, training; then layers at 16 bits, as few as will do.
local check = require "espq.check"
local core = require "espq.core"
local data = require "espq.data"
local states = require "espq.autoquant.states"

local goal = {}

local MEMORY = 512e6
local METHODS = { "kl", "mse", "percentile", "minmax" }
local SINGLE_LAYERS = 24          -- that are tried one by one

local function number(value) return ("%.6g"):format(value) end

local function change_text(drop) return drop == 0 and "as float" or ("%s %s"):format(drop > 0 and "loses" or "gains", number(math.abs(drop))) end

local function walk_of(search, graph)
   return data.walk(search.what, search.loader, graph, { limit = search.options.calib_steps, collate_fn = search.options.collate_fn, memory = search.memory })
end

-- ---- judging ----

local function score_of(search, graph)
   local score = search.options.evaluate_fn(graph)
   if type(score) ~= "number" or score ~= score or math.abs(score) == math.huge then
      check.fail(("evaluate_fn: it returned %s, not a finite number"):format(core.tensor.is_tensor(score) and "a tensor" or tostring(score)), nil,
                 "larger has to be better: return top1")
   end
   return score + 0.0
end

-- A setting as it is, with the graph that it makes and what the metric says of it. Settings that come to one graph are judged once.
local function try(search, setting, words, bits)
   bits = bits or search.bits
   local road = search.road_of({ target = search.options.target, num_of_bits = bits, hi_precision = search.options.hi_precision,
                                 check = search.options.check }, setting)
   local done, name, make = pcall(search.states.walk_setting, search.states, setting, bits, road)
   if not done then
      local err = name
      if not core.error.is_error(err) or err.code == "interrupted" or err.code == "memory" or #search.tried == 0 then error(err, 0) end
      core.base.note(("   %s: not possible here: %s"):format(words, err.what))
      return nil
   end
   local found = { setting = setting, bits = bits, words = words, name = name, make = function()
      local graph = make()
      local about = core.graph.about(graph)
      about.setting, about.target, about.bits, about.hi_precision = setting, road.target, road.bits, road.hi_precision
      about.exact, about.metadata, about.quantized = setting.switches.onnx_exact_ops, {}, true
      return graph
   end }
   found.score = search.scores[name] or score_of(search, found.make())
   search.scores[name] = found.score
   found.drop = search.float - found.score
   search.tried[#search.tried + 1] = found
   core.base.note(("   %s: %s, %s"):format(words, number(found.score), change_text(found.drop)))
   return found
end

local function keeps(search, found) return found and found.drop <= search.max_drop end

-- ---- the stages ----

local function changed(found, change)
   local setting = found.setting:copy()
   change(setting)
   return setting
end

local function has_setting(name)
   for _, row in ipairs(require("espq.setting").rows()) do
      if row.path == name then return true end
   end
   return false
end

-- Can a pass of this switch be run at all?
local function can_run(switch)
   for _, pass in ipairs(core.road.passes()) do
      if (pass.when or ""):find(switch, 1, true) then return has_setting(switch) end
   end
   return false
end

local function with_methods(best, add)
   for _, method in ipairs(METHODS) do
      if best.setting.quantize_activation_setting.calib_algorithm ~= method then
         add("calibrated by " .. method, function(setting) setting.quantize_activation_setting.calib_algorithm = method end)
      end
   end
end

local function with_equalization(best, add)
   if best.setting.equalization then return end
   for _, threshold in ipairs { 0.5, 2.0 } do
      add(("equalization (value_threshold %g)"):format(threshold), function(setting)
         setting.equalization = true
         setting.equalization_setting.value_threshold = threshold
      end)
   end
end

local function with_bias_correction(best, add)
   if best.setting.bias_correct then return end
   add("bias correction", function(setting) setting.bias_correct = true end)
end

local TRAINING = { "recover", "tqt_optimization" }

local function with_training(best, add)
   for _, switch in ipairs(TRAINING) do
      if can_run(switch) and best.setting[switch] == false then
         return add(switch == "recover" and "recovery by training" or "training (TQT)", function(setting) setting[switch] = true end)
      end
   end
end

-- The best of a stage's variants; those that do not help are dropped. The first that keeps the goal ends the stage.
local function stage(search, best, variants)
   local list = {}
   variants(best, function(words, change) list[#list + 1] = { words, change } end)
   local begin = best
   for _, variant in ipairs(list) do
      local words = begin.words == "as given" and variant[1] or begin.words .. ", " .. variant[1]
      local found = try(search, changed(begin, variant[2]), words, begin.bits)
      if found and found.score > best.score then best = found end
      if keeps(search, found) then return found end
   end
   return best
end

-- ---- layers at 16 bits ----

-- Names of the layers, the one that loses most alone first, and who reads whom.
local function ranked(search, best)
   local graph, consumers = best.make(), {}
   local walk = walk_of(search, graph)
   local rows = core.analyse.layerwise(graph, walk, { method = "snr", steps = 8, exact = core.graph.about(graph).exact })
   local list = {}
   for i, row in ipairs(rows) do list[i] = { name = row.name, snr = row.snr, place = i } end
   table.sort(list, function(a, b)
      if a.snr ~= b.snr then return a.snr > b.snr end
      return a.place < b.place
   end)
   for node in search.load(search.road):nodes() do
      local readers = {}
      for _, output in ipairs(node.outputs) do
         for _, reader in ipairs(output and output.consumers or {}) do readers[#readers + 1] = reader.name end
      end
      consumers[node.name] = readers
   end
   return list, consumers
end

-- These layers at 16 bits, and what reads them: a wide layer between narrow ones would lose at its end what it won.
local function widened(search, best, names, consumers)
   local wide = core.road.platform(search.options.target or "esp32p4", 16, search.options.hi_precision)
   return changed(best, function(setting)
      local seen = {}
      local function add(name)
         if not seen[name] then setting.dispatching_table:append(name, wide) end
         seen[name] = true
      end
      for _, name in ipairs(names) do
         add(name)
         for _, reader in ipairs(consumers[name] or {}) do add(reader) end
      end
   end)
end

local function try_wide(search, best, names, consumers, total)
   return try(search, widened(search, best, names, consumers), ("%s, %d of %d layers at 16 bits"):format(best.words, #names, total), best.bits)
end

-- One layer after the other, the worst first; one that does not help stays as it is. The first set that keeps the goal, else the best.
local function with_single_layers(search, best, layers, consumers)
   local kept, names = best, {}
   for i = 1, math.min(#layers, SINGLE_LAYERS) do
      names[#names + 1] = layers[i].name
      local found = try_wide(search, best, names, consumers, #layers)
      if keeps(search, found) then return found end
      if found and found.score > kept.score then kept = found else names[#names] = nil end
   end
   return kept
end

-- The worst layers together: twice as many each time until they keep the goal, then halved in between. nil: not even all of them do.
local function with_many_layers(search, best, layers, consumers)
   local found, below, count = {}, 0, 8
   local function at(wanted)
      local names = {}
      for i = 1, wanted do names[i] = layers[i].name end
      found[wanted] = try_wide(search, best, names, consumers, #layers)
      return keeps(search, found[wanted])
   end
   while count < #layers and not at(count) do below, count = count, 2 * count end
   count = math.min(count, #layers)
   if count == 0 or (not found[count] and not at(count)) then return nil end
   while count - below > 1 do
      local middle = (below + count) // 2
      if at(middle) then count = middle else below = middle end
   end
   return found[count]
end

local function with_wide_layers(search, best)
   local layers, consumers = ranked(search, best)
   local found = with_single_layers(search, best, layers, consumers)
   if keeps(search, found) then return found end
   return with_many_layers(search, best, layers, consumers) or found
end

local function guided(search)
   local best = search.tried[1]
   for _, variants in ipairs { with_methods, with_equalization, with_bias_correction, with_training } do
      if keeps(search, best) then return best end
      best = stage(search, best, variants)
   end
   if keeps(search, best) then return best end
   if best.bits == 8 then
      local wide = with_wide_layers(search, best)
      if keeps(search, wide) then return wide end
      for _, begin in ipairs { best, search.tried[1] } do
         local whole = try(search, begin.setting:copy(), begin.words .. ", all at 16 bits", 16)
         if keeps(search, whole) then return whole end
      end
   end
   for _, found in ipairs(search.tried) do
      if found.score > best.score then best = found end
   end
   return best
end

--- Judge a setting; with max_drop look for one that keeps it.
---@param search table what, setting, options, road_of, load, loader, max_drop
---@return table found setting, bits, score, drop, words
function goal.find(search)
   search.road = search.road_of({ target = search.options.target, num_of_bits = search.options.num_of_bits, hi_precision = search.options.hi_precision,
                                  check = search.options.check }, search.setting)
   search.bits, search.memory, search.scores, search.tried = search.options.num_of_bits or 8, data.memory(), {}, {}
   search.states = states.new {
      load = search.load, memory = MEMORY, methods = search.max_drop and METHODS, walk = function(graph) return walk_of(search, graph) end,
   }
   search.float = score_of(search, search.load(search.road))
   core.base.note(("the metric: float gives %s"):format(number(search.float)))
   local found = try(search, search.setting, "as given")
   if search.max_drop then found = guided(search) end
   found.float, found.max_drop, found.count = search.float, search.max_drop, #search.tried
   return found
end

-- ---- what is said at the end ----

local Goal = {}
Goal.__index = Goal

function Goal.__tostring(self)
   local lines = {}
   local function add(format, ...) lines[#lines + 1] = format:format(...) end
   add("the metric: float %s, quantized %s (%s)", number(self.float_score), number(self.score), change_text(self.drop))
   if self.max_drop then
      add(self.kept and "kept within %s by: %s (%d %s tried)" or "NOT kept within %s; the best found is: %s (%d %s tried)",
          number(self.max_drop), self.words, self.tried, self.tried == 1 and "setting" or "settings")
      if not self.kept then add("it misses the goal by %s", number(self.misses_by)) end
   end
   if self.cost then add("on %s: %s", self.target, self.cost_line) end
   if self.max_drop then add("%s\n%s", "the setting, to paste into a script:", (("\n" .. self.snippet):gsub("\n", "\n   "):sub(2))) end
   return table.concat(lines, "\n")
end

--- The goal as it stands in the report: kept, score, float_score, drop, max_drop, misses_by, words, tried, setting, bits, snippet, cost.
---@return table
function goal.finish(found, graph)
   local cost = require "espq.cost"
   local self = {
      float_score = found.float, score = found.score, drop = found.drop, max_drop = found.max_drop, words = found.words, tried = found.count,
      setting = found.setting, bits = found.bits, target = core.graph.about(graph).target,
      kept = found.max_drop and found.drop <= found.max_drop, misses_by = found.max_drop and math.max(0, found.drop - found.max_drop),
      snippet = found.setting:to_lua() .. (found.bits ~= 8 and ("\nlocal num_of_bits = %d"):format(found.bits) or ""),
   }
   local counted, rows = pcall(cost.estimate, { graph = graph })
   if counted then self.cost, self.cost_line = rows, cost.line(rows) end
   return setmetatable(self, Goal)
end

return goal
