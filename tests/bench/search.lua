-- Trials a minute of searches: the reference's two recorded ones, and MobileNetV2 (sample 02's data and spaces, the default evaluation) with states
-- shared and not, with one worker and with two, without training and with it. About six minutes on two idle cores.
--
--    build/espq tests/bench/search.lua ../shared [OUT] [PART …]          parts: recorded untrained whole; all when none is named
--
-- A search's seconds are those of the whole call, with the ranking of layers. Trials that are not shared are the first of the same order: as many of
-- each kind as make a round of the knobs that vary fastest.
local espq = require "espq"
local core = require "espq.core"
local shared, out = arg[1] or "../shared", arg[2] or "build/bench/search"
local parts = {}
for i = 3, #arg do parts[arg[i]] = true end
espq.verbose = 0

local function wants(part) return next(parts) == nil or parts[part] end

-- Trials a minute, and what the search gave.
local function timed(options, trials)
   local begun = core.system.clock()
   local top = espq.auto_quantize_onnx(options)
   local seconds = core.system.clock() - begun
   local file = assert(io.open(options.setting.run_dir .. "/summary.json"))
   local records = espq.json.decode(file:read "a")
   file:close()
   if trials and #records ~= trials then error(("%d trials instead of %d"):format(#records, trials)) end
   return { rate = 60 * #records / seconds, seconds = seconds, records = records, top = top }
end

-- ---- the reference's searches ----

local recorded = { "cnn_fast_top1", "sin_exhaustive_default_score" }

local function read_json(path)
   local file = assert(io.open(path))
   local text = file:read "a"
   file:close()
   return espq.json.decode(text)
end

local function top1_of_cnn()
   local folder = shared .. "/data/reference/road/calib/"
   local x, y = espq.from_npy(folder .. "cnn_eval_x.npy"), espq.from_npy(folder .. "cnn_eval_y.npy")
   x = x:to "float32" / 64
   return function(graph)
      local metric = espq.metrics.topk { 1 }
      metric:add(espq.executor(graph, { mode = "simulated" })(x)[1], y)
      local share = metric:value()
      return share, { top1 = share, wrong = math.floor(x.shape[1] * (1 - share) + 0.5) }
   end
end

local function search_of(name)
   local spec = read_json(("%s/data/reference/search/%s/search.json"):format(shared, name))
   local given = spec.setting
   local setting = espq.autoquant_setting {
      search_mode = given.search_mode, num_of_candidates = given.num_of_candidates, score_direction = given.score_direction,
      top_strategy = given.top_strategy, early_stop_patience = given.early_stop_patience, structural_knobs = given.structural_knobs,
      run_dir = out .. "/" .. name, base = espq.setting.reference(),
   }
   for module, values in pairs(given.strategy_space) do setting.strategy_space[module] = values end
   for module, knobs in pairs(given.param_space) do
      for knob, values in pairs(knobs) do setting.param_space[module][knob] = values end
   end
   local function data(path) return shared .. "/data/" .. path end
   return {
      onnx_import_file = data(spec.model), espdl_export_file = out .. "/" .. name .. "/model.espdl", target = spec.target, calib_steps = spec.calib_steps,
      calib_dataloader = espq.data.loader { dataset = espq.from_npy(data(spec.calib)), batch_size = spec.rows }, input_shape = spec.input_shape,
      evaluate_fn = name == "cnn_fast_top1" and top1_of_cnn() or nil, setting = setting,
   }
end

local function compare(name, found)
   local folder = ("%s/data/reference/search/%s/"):format(shared, name)
   local reference, candidates = read_json(folder .. "summary.json"), read_json(folder .. "candidates.json")
   local order, scores, kept = 0, 0, 0
   for i, record in ipairs(reference) do
      local mine = found.records[i]
      if mine and mine.hash == record.hash then order = order + 1 end
      if mine and math.abs(mine.score - record.score) <= 1e-6 then scores = scores + 1 end
   end
   for i, record in ipairs(candidates) do
      if found.top[i] and found.top[i].index == record.index then kept = kept + 1 end
   end
   return ("order %d/%d, scores within 1e-6 %d, candidates %d/%d"):format(order, #reference, scores, kept, #candidates)
end

if wants "recorded" then
   for _, name in ipairs(recorded) do
      local found = timed(search_of(name))
      local spec = read_json(("%s/data/reference/search/%s/search.json"):format(shared, name))
      print(("%-30s %7.0f trials a minute, the reference %.1f (%.2f s); %s"):format(name, found.rate, 60 * spec.trials / spec.seconds, found.seconds,
                                                                                 compare(name, found)))
   end
end

-- ---- MobileNetV2 ----

local pictures = espq.data.images { dir = shared .. "/data/imagenet/calib", limit = 32, size = 256, crop = 224, mean = { 0.485, 0.456, 0.406 },
                                    std = { 0.229, 0.224, 0.225 } }

-- The first trials of a space. Where they train, a batch is one picture: the steps of the default space are steps of batches, and with 32 pictures
-- each a single trial takes a quarter of an hour.
local function mobilenet(name, trials, share, workers, trains)
   local setting = espq.autoquant_setting { search_mode = "exhaustive", num_of_candidates = 5, run_dir = out .. "/" .. name, share = share }
   setting.budget = { trials = trials }
   for _, module in ipairs { "tqt", "blockwise_reconstruction" } do
      if not trains then setting.strategy_space[module] = { false } end
   end
   local loader = espq.data.loader { dataset = pictures, batch_size = trains and 1 or 32 }
   local found = timed({
      onnx_import_file = shared .. "/data/models/mobilenetv2.onnx", espdl_export_file = out .. "/" .. name .. "/model.espdl", calib_dataloader = loader,
      calib_steps = 32, input_shape = { 3, 224, 224 }, target = "esp32p4", setting = setting, workers = workers,
   }, trials)
   print(("mobilenetv2 %-34s %7.1f trials a minute (%d in %.1f s)"):format(name, found.rate, trials, found.seconds))
   return found
end

-- Equal trials of the two searches, and how many times as fast the first was.
local function against(what, together, alone)
   local same = 0
   for i, record in ipairs(alone.records) do
      if record.hash == together.records[i].hash and record.score == together.records[i].score then same = same + 1 end
   end
   print(("mobilenetv2 %-34s %7.1f times; %d of %d scores are equal"):format(what, together.rate / alone.rate, same, #alone.records))
end

if wants "untrained" then
   local one = mobilenet("untrained, shared, 1 worker", 104, true, 1)
   local two = mobilenet("untrained, shared, 2 workers", 104, true, 2)
   local alone = mobilenet("untrained, share = false, 2 workers", 24, false, 2)
   against("untrained, shared : share = false", two, alone)
   print(("mobilenetv2 %-34s %7.2f times"):format("untrained, 2 workers : 1", two.rate / one.rate))
end

if wants "whole" then
   local together = mobilenet("whole, shared, 1 worker", 4, true, 1, true)
   local alone = mobilenet("whole, share = false, 1 worker", 4, false, 1, true)
   against("whole, shared : share = false", together, alone)
end
