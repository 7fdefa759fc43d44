-- Promise: a search tries every trial in order, keeps what it finds as the reference does, and says clearly what is wrong.
local espq = require "espq"
local program = require "lua.program"
local small = require "autoquant.small"

local folder

before_each(function()
   espq.verbose = 0
   folder = small.folder()
end)
after_each(function() program.remove(folder) end)

-- 1, 2, 3 … in the order in which it is asked.
local function counting()
   local count = 0
   return function()
      count = count + 1
      return count, { count = count }
   end
end

describe("a search", function()
   it("writes the reference's files and fields, and gives the candidates", function()
      local setting = small.setting(folder, { num_of_candidates = 2, share = false })
      local top = small.search(folder, setting, counting())
      assert.same({ 3, 2 }, { top[1].index, top[2].index })
      assert.same({ "0000", "0001", "0002", "0003", "candidates.json", "inputs.npz", "journal.index", "journal.records", "lock", "summary.json" },
                  program.names(folder .. "/run"))
      local names = { "config.json", "out.espdl", "out.info", "out.json", "out.native" }
      assert.same(names, program.names(folder .. "/run/0002"))
      local record = small.list(folder .. "/run/summary.json")[3]
      assert.same({ 2, folder .. "/run/0002", 3.0, 3, "done", 0 },
                  { record.index, record.folder, record.score, record.count, record.status, record.seed })
      table.remove(names, 1)
      assert.same(names, record.files)
      assert.equal(espq.json.null, record.params.tqt)
      assert.same({ method = "minmax" }, record.params.calib_algorithm)
      local first = small.list(folder .. "/run/candidates.json")[1]
      assert.same({ 3, nil }, { first.index, first.hash })
      local config = small.list(folder .. "/run/0002/config.json")
      assert.same(record.strategy, config.strategy)
      assert.same({ "esp32s3", { 3, 6, 6 }, 4, "exhaustive" },
                  { config.runtime.target, config.runtime.input_shape, config.runtime.calib_steps, config.runtime.search_mode })
      assert.is_nil(program.read(folder .. "/out.espdl"))
   end)

   it("gives the same files and scores with and without shared states", function()
      local function run(share)
         local setting = small.setting(folder, { share = share })
         setting.strategy_space.bias_correction = { true, false }
         setting.strategy_space.mixed_precision = { true }
         setting.strategy_space.horizontal_layer_split = { true, false }
         setting.param_space.bias_correction = { block_size = { 2, 1 }, steps = { 2 }, topk = { -1, 1 } }
         setting.param_space.fusion_alignment.elementwise_to = { "Align to Large", "Align to Output" }     -- the chip refuses the first here
         setting.run_dir = folder .. "/" .. tostring(share)
         small.search(folder, setting)
         return small.list(setting.run_dir .. "/summary.json")
      end
      local shared, alone = run(true), run(false)
      assert.equal(120, #alone)
      assert.equal(#alone, #shared)
      for i, record in ipairs(alone) do
         assert.same({ record.score, record.error }, { shared[i].score, shared[i].error })
         for _, ending in ipairs { "espdl", "info", "json", "native" } do
            local file = ("/%04d/out.%s"):format(i - 1, ending)
            assert.equal(program.read(folder .. "/false" .. file), program.read(folder .. "/true" .. file))
         end
      end
   end)

   it("says what was wrong when layers cannot be ranked", function()
      local core = require "espq.core"
      local layerwise = core.analyse.layerwise
      finally(function() core.analyse.layerwise = layerwise end)
      core.analyse.layerwise = function() error "no errors of layers" end
      local setting = small.setting(folder)
      setting.strategy_space.bias_correction = { true }
      local done, err = pcall(small.search, folder, setting)
      assert.is_false(done)
      assert.matches("no errors of layers", tostring(err), 1, true)
   end)

   it("asks evaluate_fn once for files that are equal", function()
      local setting = small.setting(folder)
      setting.param_space.fusion_alignment.concat_to = { "Align to Output", "Align to Large" }       -- the model has no Concat
      local asked = 0
      small.search(folder, setting, function()
         asked = asked + 1
         return asked, {}
      end)
      local list = small.list(folder .. "/run/summary.json")
      assert.equal(8, #list)
      assert.is_true(asked <= 4)
      assert.equal(list[1].score, list[2].score)
   end)

   it("keeps a trial that fails with its reason and traceback, and goes on", function()
      local count = 0
      local setting = small.setting(folder, { share = false })
      local top = small.search(folder, setting, function()
         count = count + 1
         if count == 3 then error "the third is too much" end
         return -count, {}
      end)
      assert.equal(3, #top)
      local record = small.list(folder .. "/run/summary.json")[3]
      assert.same({ "failed", espq.json.null }, { record.status, record.score or espq.json.null })
      assert.matches("the third is too much", record.error, 1, true)
      assert.matches("search_spec.lua", record.error, 1, true)
      assert.same({ "config.json", "error.txt" }, program.names(folder .. "/run/0002"))
      assert.same({}, record.files)
   end)

   it("records trials whose pass is missing or fails, and finds the best of the others", function()
      local setting = small.setting(folder)
      espq.strategy { name = "impossible", apply = function(quantization_setting) quantization_setting.dispatcher = "nonsense" end, switch = { false } }
      setting.strategy_space.impossible = { true, false }
      local top = small.search(folder, setting)
      local failed = 0
      for _, record in ipairs(small.list(folder .. "/run/summary.json")) do
         if record.status == "failed" then
            failed = failed + 1
            assert.matches("nonsense", record.error, 1, true)
         end
      end
      assert.equal(4, failed)
      assert.equal(4, #top)
   end)

   it("hands each trial a graph of its own", function()
      local setting = small.setting(folder)
      local function run(spoil)
         small.search(folder, setting, function(graph)
            local sum = 0.0
            for value in graph:tensors() do
               if value.is_parameter and value.dtype == "float32" then sum = sum + value.value:abs():sum():item() end
            end
            if spoil then
               local weight = graph:node("one").inputs[2]
               weight.value = weight.value * 0
               graph:node("two").output_config[1].exponent = 3
            end
            return sum, {}
         end)
         local list = small.list(setting.run_dir .. "/summary.json")
         for i, record in ipairs(list) do list[i] = record.score end
         return list
      end
      assert.same(run(false), run(true))
   end)

   it("ends when evaluate_fn raises from the first trial on", function()
      local err = assert.error(function() small.search(folder, small.setting(folder), function() error "never" end) end)
      assert.matches("in each of the first 3 trials", tostring(err), 1, true)
      assert.matches("never", tostring(err), 1, true)
      assert.matches("search_spec.lua:", tostring(err), 1, true)
      assert.is_nil(tostring(err):find("espq/autoquant", 1, true))           -- the traceback is the user's
   end)

   it("ends when evaluate_fn always runs into an error of espq's, and says where that is", function()
      local err = assert.error(function()
         small.search(folder, small.setting(folder), function(graph)
            espq.metrics.topk { 1 }:add(espq.executor(graph)(espq.ones { 1, 3, 6, 6 })[1], nil)
            return 1, {}
         end)
      end)
      assert.matches("in each of the first 3 trials", tostring(err), 1, true)
      assert.matches("this batch has no labels", tostring(err), 1, true)
      assert.matches("search_spec.lua:%d+", tostring(err))
   end)

   it("tries a module of the user's own like the built-in ones", function()
      local seen = {}
      espq.strategy {
         name = "coarse", knobs = { method = { "minmax", "mse" } }, switch = { false },
         apply = function(setting, knobs)
            seen[knobs.method] = true
            setting.quantize_activation_setting.calib_algorithm = knobs.method
         end,
      }
      local setting = small.setting(folder)
      setting.strategy_space.coarse = { true, false }
      setting.param_space.calib_algorithm.method = { "kl" }
      small.search(folder, setting)
      local list = small.list(folder .. "/run/summary.json")
      assert.equal(6, #list)
      assert.same({ minmax = true, mse = true }, seen)
      assert.same({ method = "minmax" }, list[1].params.coarse)
   end)

   it("leaves out what the chip would compute wrongly, unless it is asked for", function()
      local function count(values, base)
         local setting = small.setting(folder, { base = base })
         setting.param_space.fusion_alignment = espq.autoquant_setting {}.param_space.fusion_alignment
         for _, name in ipairs { "avgpooling_to", "resize_to", "concat_to" } do setting.param_space.fusion_alignment[name] = { "None" } end
         if values then setting.param_space.fusion_alignment.elementwise_to = values end
         small.search(folder, setting)
         local done = 0
         for _, record in ipairs(small.list(folder .. "/run/summary.json")) do
            if record.status == "done" then done = done + 1 end
         end
         return { #small.list(folder .. "/run/summary.json"), done }
      end
      assert.same({ 4, 4 }, count())
      assert.equal(8, count({ "Align to Large", "Align to Output" })[1])
      assert.same({ 8, 8 }, count(nil, espq.setting.reference()))
   end)

   it("ends at a budget, and resume goes on from there", function()
      local setting = small.setting(folder, { budget = { trials = 3 }, share = false })
      small.search(folder, setting, counting())
      assert.equal(3, #small.list(folder .. "/run/summary.json"))
      setting.resume = true
      local fresh = counting()
      small.search(folder, setting, function() return fresh() end)
      local list = small.list(folder .. "/run/summary.json")
      assert.same({ 4, 3, 1 }, { #list, list[4].index, list[4].score })
   end)
end)

describe("what evaluate_fn may return", function()
   local cases = {
      { "nothing at all", function() end, "returned 0 values" },
      { "one value", function() return 1 end, "returned one value" },
      { "three values", function() return 1, {}, 2 end, "returned 3 values" },
      { "a boolean", function() return true, {} end, "the score is a boolean" },
      { "a text", function() return "1", {} end, "the score is a string" },
      { "a tensor", function() return espq.ones { 1 }, {} end, "score:item()" },
      { "not a number", function() return 0 / 0, {} end, "not finite" },
      { "infinity", function() return math.huge, {} end, "not finite" },
      { "extras that are a number", function() return 1, 2 end, "a number, not a table" },
      { "reserved keys", function() return 1, { hash = 1, score = 2 } end, "reserved names: hash, score" },
      { "extras by number", function() return 1, { 5 } end, "a key that is no text" },
      { "tables among the extras", function() return 1, { a = {} } end, "extra 'a' is a table" },
   }
   for _, case in ipairs(cases) do
      it("is not " .. case[1], function()
         local err = assert.error(function() small.search(folder, small.setting(folder), case[2]) end)
         assert.matches(case[3], tostring(err), 1, true)
         assert.matches("two values", tostring(err), 1, true)
         assert.same({}, small.list(folder .. "/run/summary.json"))
      end)
   end
end)

describe("a metric of another program", function()
   it("gets the trial's file and prints score and extras", function()
      small.search(folder, small.setting(folder), nil,
                   { evaluate_command = [[wc -c < {espdl} | sed 's/.*/loading…\n{"score": &, "size": &}/']] })
      local record = small.list(folder .. "/run/summary.json")[1]
      assert.same({ record.size + 0.0, #program.read(folder .. "/run/0000/out.espdl") }, { record.score, record.size })
   end)

   local cases = {
      { "no file", "true", "names none of the trial's files" },
      { "no JSON", "echo {espdl}", "printed no JSON object" },
      { "no score", "echo '{\"top1\": 1}' {espdl} | cut -c1-11", "the score is a nil" },
      { "a failure", "false {espdl}", "ended with exit code 1" },
   }
   for _, case in ipairs(cases) do
      it("is told what is wrong: " .. case[1], function()
         local err = assert.error(function() small.search(folder, small.setting(folder), nil, { evaluate_command = case[2] }) end)
         assert.matches(case[3], tostring(err), 1, true)
      end)
   end
end)

describe("a call", function()
   local cases = {
      { "no file", { onnx_import_file = "nowhere.onnx" }, "there is no such file" },
      { "no steps", { calib_steps = 0 }, "calib_steps has to be at least 1" },
      { "a foreign setting", { setting = { search_mode = "fast" } }, "espq.autoquant_setting" },
      { "an unknown target", { target = "esp32p5" }, "unknown target 'esp32p5'" },
      { "an unknown field", { calib_step = 3 }, "did you mean 'calib_steps'" },
      { "cuda", { device = "cuda" }, "espq computes on the processor" },
      { "no name", { espdl_export_file = "out/" }, "name a file" },
   }
   for _, case in ipairs(cases) do
      it("names what is wrong: " .. case[1], function()
         local err = assert.error(function() small.search(folder, small.setting(folder), nil, case[2]) end)
         assert.matches(case[3], tostring(err), 1, true)
      end)
   end
end)

describe("a width that the chip has not", function()
   it("is an error before anything is tried", function()
      local setting = small.setting(folder)
      setting.param_space.num_of_bits.value = { 8, 7 }
      local err = assert.error(function() small.search(folder, setting) end)
      assert.matches("param_space.num_of_bits.value: target esp32s3 has no width of 7 bits; 8 and 16 can be had", tostring(err), 1, true)
      assert.is_nil(program.read(folder .. "/run/summary.json"))
   end)
end)

describe("evaluate_fast", function()
   it("ranks, and evaluate_fn judges the candidates only, whose files go on as graphs", function()
      local setting, full = small.setting(folder, { num_of_candidates = 2, share = false, candidate_filter = nil }), 0
      local fast = counting()
      local top = small.search(folder, setting, function(graph)
         full = full + 1
         assert.is_true(graph:node("one").quantized)
         return 10 - full, { full = full }
      end, { evaluate_fast = fast })
      assert.equal(2, full)
      assert.same({ 3, 2 }, { top[1].index, top[2].index })
      assert.same({ 9, 8 }, { top[1].score, top[2].score })
      assert.same({ 4, 3 }, { top[1].score_fast, top[2].score_fast })
      assert.equal(4, small.list(folder .. "/run/summary.json")[4].score)
      assert.equal(9, small.list(folder .. "/run/candidates.json")[1].score)
      setting.resume = true
      local again = small.search(folder, setting, function() error "judged twice" end, { evaluate_fast = fast })
      assert.equal(9, again[1].score)
   end)

   it("needs something that judges", function()
      local err = assert.error(function() small.search(folder, small.setting(folder), nil, { evaluate_fast = counting() }) end)
      assert.matches("nothing judges", tostring(err), 1, true)
   end)
end)
