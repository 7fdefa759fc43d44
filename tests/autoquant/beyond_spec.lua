-- Promise: searches beyond enumeration find good trials early, decide by seed and scores alone, and keep what enumeration keeps.
local espq = require "espq"
local pareto = require "espq.autoquant.pareto"
local program = require "lua.program"
local small = require "autoquant.small"

-- Trials of a setting, with what `score` says of them.
local function walk(setting, count, score)
   local list = {}
   for trial in espq.autoquant.enumerate(setting, { score = score }) do
      list[#list + 1] = trial
      trial.score, trial.cost = score(trial)
      if #list == count then break end
   end
   return list
end

-- A cost surface over the default space: three choices matter, one of them only where its module is on. The best is 4.
local function surface(trial)
   local score = trial.strategy.tqt and 1 or 0
   if trial.strategy.tqt then score = score + ({ [1e-5] = 0, [5e-5] = 1 })[trial.params.tqt.lr] end
   if trial.params.calib_algorithm.method == "mse" then score = score + 1 end
   if not trial.strategy.bias_correction then score = score + 1 end
   return score
end

local function mean(list, from, to)
   local sum = 0
   for i = from, to do sum = sum + list[i].score end
   return sum / (to - from + 1)
end

describe("search_mode tpe", function()
   it("learns what is good in a space of a million trials, with any seed", function()
      for seed = 0, 4 do
         local list = walk(espq.autoquant_setting { search_mode = "tpe", seed = seed }, 90, surface)
         assert.is_true(mean(list, 61, 90) > mean(list, 1, 10) + 1, ("seed %d: %.2f, then %.2f"):format(seed, mean(list, 1, 10), mean(list, 61, 90)))
         assert.is_true(mean(list, 61, 90) > 3.2)
      end
   end)

   it("minimizes as well, and takes a trial that failed for a bad one", function()
      local setting = espq.autoquant_setting { search_mode = "tpe", score_direction = "minimize" }
      local order = require("espq.autoquant.order").new(require("espq.autoquant.space").new(setting), setting)
      local fine = 0
      for i = 1, 80 do
         local trial = order:next()
         local fails = trial.strategy.weight_equalization
         if i > 50 and not fails and surface(trial) < 1.5 then fine = fine + 1 end
         order:tell(not fails and surface(trial) or nil)
      end
      assert.is_true(fine > 20)
   end)

   it("gives the same trials for the same seed and scores, and each trial once", function()
      local function hashes(seed)
         local list, seen = {}, {}
         for i, trial in ipairs(walk(espq.autoquant_setting { search_mode = "tpe", seed = seed }, 60, surface)) do
            assert.is_nil(seen[trial.hash])
            seen[trial.hash], list[i] = true, trial.hash
         end
         return table.concat(list)
      end
      assert.equal(hashes(3), hashes(3))
      assert.not_equal(hashes(3), hashes(4))
   end)

   it("ends when the whole space is tried", function()
      local setting = espq.autoquant_setting { search_mode = "tpe" }
      for _, name in ipairs { "tqt", "blockwise_reconstruction", "bias_correction" } do setting.strategy_space[name] = { false } end
      setting.param_space.fusion_alignment = { elementwise_to = { "Align to Large" }, concat_to = { "Align to Output" } }
      local all, seen = espq.autoquant.count(setting), {}
      local list = walk(setting, nil, function() return 1 end)
      for _, trial in ipairs(list) do seen[trial.hash] = true end
      local missing = 0
      setting.search_mode = "exhaustive"
      for trial in espq.autoquant.enumerate(setting) do missing = missing + (seen[trial.hash] and 0 or 1) end
      assert.same({ all, 0 }, { #list, missing })
   end)
end)

describe("the Pareto front", function()
   local points = {
      { score = 1, cost = 1 }, { score = 3, cost = 3 }, { score = 2, cost = 3 }, { score = 2, cost = 2 }, { cost = 0 }, { score = 9 },
      { score = 3, cost = 3 },
   }

   it("is what nothing beats, cheapest first", function()
      local front = pareto.front(points, "maximize")
      assert.same({ points[1], points[4], points[2] }, front)
      assert.equal(points[2], front[3])                     -- of equal ones the first
      assert.same({ points[1] }, pareto.front(points, "minimize"))
   end)

   it("comes before all else, its ends first; what failed comes last", function()
      local order = pareto.order(points, "maximize")
      local place = {}
      for i, point in ipairs(order) do place[point] = i end
      assert.same({ 1, 2, 3 }, { place[points[1]], place[points[2]], place[points[4]] })
      assert.same({ 6, 7 }, { place[points[5]], place[points[6]] })
   end)

   it("covers a share of the box of all points", function()
      -- Box 1..3 by 1..3: the front's steps at (2, 2) and below cover a quarter.
      assert.near(0.25, pareto.hypervolume(points, "maximize"), 1e-12)
      assert.equal(1, pareto.hypervolume(points, "minimize"))
      assert.is_nil(pareto.hypervolume({ { score = 1 } }, "maximize"))
   end)
end)

describe("search_mode pareto", function()
   it("finds cheap trials, good ones, and those between", function()
      local function both(trial)
         local good = surface(trial)
         return good, (trial.strategy.blockwise_reconstruction and 5 or 0) + (trial.strategy.tqt and 2 or 0) + (trial.strategy.bias_correction and 0 or 1)
      end
      local list = walk(espq.autoquant_setting { search_mode = "pareto" }, 120, both)
      local front = {}
      for i, point in ipairs(pareto.front(list, "maximize")) do front[i] = { point.cost, point.score } end
      assert.same({ { 0, 1 }, { 1, 2 }, { 2, 3 }, { 3, 4 } }, front)
   end)
end)

describe("such a search of a model", function()
   local folder
   before_each(function()
      espq.verbose = 0
      folder = small.folder()
   end)
   after_each(function() program.remove(folder) end)

   local function setting(fields)
      local s = small.setting(folder, fields)
      s.strategy_space.bias_correction = { true, false }
      s.param_space.bias_correction = { block_size = { 2, 1 }, steps = { 2 }, topk = { -1, 1 } }
      return s
   end

   for _, mode in ipairs { "tpe", "pareto" } do
      it("(" .. mode .. ") has the same files with any number of workers, and after a stop", function()
         local function run(fields, workers)
            fields.search_mode, fields.budget = mode, { trials = fields.trials }
            fields.trials = nil
            small.search(folder, setting(fields), nil, { workers = workers })
            return small.contents(folder .. "/run")
         end
         local whole = run({ trials = 14 }, 1)
         assert.equal(whole, run({ trials = 14 }, 3))
         run({ trials = 6 }, 2)
         assert.equal(whole, run({ trials = 8, resume = true }, 2))
         if mode == "pareto" then
            local front = small.list(folder .. "/run/pareto.json")
            for i, record in ipairs(front) do
               assert.is_true(record.bytes > 0 and record.estimated_ms > 0)
               assert.is_true(i == 1 or record.estimated_ms > front[i - 1].estimated_ms)
            end
         end
      end)
   end

   it("with prune leaves hopeless trials out, records them, and resumes over them", function()
      espq.observer { name = "wild", begin = function() return {} end, observe = function() end, scale = function() return 4 end }
      local judged = 0
      local function run(fields)
         local s = small.setting(folder, fields)
         s.param_space.calib_algorithm.method = { "minmax", "wild" }
         small.search(folder, s, function() judged = judged + 1 return judged, {} end)
         local states = {}
         for i, record in ipairs(small.list(folder .. "/run/summary.json")) do states[i] = record.status end
         return states
      end
      local states = run { prune = true, share = false }
      assert.same({ "done", "pruned", "done", "pruned" }, states)
      local record = small.list(folder .. "/run/summary.json")[2]
      assert.matches("not evaluated: its graphwise error over 2 batches is %S+, plain quantization has %S+", record.error)
      assert.is_nil(record.score)
      assert.same({ states, 2 }, { run { prune = true, share = false, resume = true }, judged })
      assert.same({ "done", "done", "done", "done" }, run { share = false })
   end)
end)
