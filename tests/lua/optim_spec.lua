-- Optimizations from a script: on the road they give the same file with any number of threads, and each also runs alone.
local espq = require "espq"
local program = require "lua.program"

local folder

setup(function()
   espq.verbose = 0
   folder = program.folder()
end)
teardown(function()
   espq.threads(2)
   program.remove(folder)
end)

-- Two layers with unequal channels between them, and a third behind a pooling.
local function make()
   local weight = espq.randn({ 9, 3, 3, 3 }, { seed = 1 })
   return espq.graph {
      name = "net", inputs = { x = { 1, 3, 9, 9 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", weight, espq.randn({ 9 }, { seed = 2 }) }, outputs = { "a" } },
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         { type = "Conv", name = "two", inputs = { "r", espq.randn({ 5, 9, 3, 3 }, { seed = 3 }), espq.randn({ 5 }, { seed = 4 }) }, outputs = { "b" } },
         { type = "MaxPool", name = "pool", inputs = { "b" }, outputs = { "p" }, attributes = { kernel_shape = { 2, 2 } } },
         { type = "Conv", name = "three", inputs = { "p", espq.randn({ 4, 5, 1, 1 }, { seed = 5 }) }, outputs = { "y" } },
      },
   }
end

local function loader()
   return espq.data.loader { dataset = espq.randn({ 12, 3, 9, 9 }, { seed = 6 }), batch_size = 2 }
end

local function quantized(change, threads)
   local setting = espq.setting.espdl()
   change(setting)
   espq.threads(threads)
   local graph = espq.quantize_graph { graph = make(), calib_dataloader = loader(), calib_steps = 6,
      target = "esp32s3", setting = setting, error_report = false }
   espq.export { graph = graph, espdl_export_file = folder .. "/out.espdl" }
   return program.read(folder .. "/out.espdl")
end

describe("an optimization on the road", function()
   local changes = {
      equalization = function(s) s.equalization = true; s.equalization_setting.including_act = true end,
      channel_split = function(s) s.channel_split = true; s.channel_split_setting.iterations = 1 end,
      weight_split = function(s)
         s.weight_split = true
         s.weight_split_setting.interested_layers = { "two" }
         s.weight_split_setting.method = "random"
      end,
      ssd_equalization = function(s) s.ssd_equalization = true end,
      bias_correct = function(s) s.bias_correct = true end,
   }
   for name, change in pairs(changes) do
      it(name .. " changes the file, and gives the same one with 1 and 2 threads", function()
         local file = quantized(change, 1)
         assert.equal(file, quantized(change, 2))
         assert.not_equal(file, quantized(function() end, 1))
      end)
   end
end)

describe("an optimization alone", function()
   it("takes its own settings and names what it changed", function()
      assert.same({ "one", "three", "two" }, espq.apply { graph = make(), pass = "equalization", setting = { iterations = 2 } })
      assert.same({ "PPQ_Operation_0", "PPQ_Operation_1", "two" },
         espq.apply { graph = make(), pass = "weight_split", setting = { interested_layers = { "two" } } })
   end)

   it("says what every node's constants and exponents were before and after, to the last number", function()
      local graph = make()
      local before = graph:tensor("two_input_1").value
      local _, _, details = espq.apply { graph = graph, pass = "equalization", setting = { iterations = 2 } }
      local row = details.two.constants[1]
      assert.is_true(row.before:equal(before) and row.after:equal(graph:tensor("two_input_1").value))
      assert.equal(before.size, row.of)
      assert.matches("two %(Conv%)\n   two_input_1: %d+ of 405 numbers differ, by [%d.e-]+ at most; largest magnitude [%d.]+ %-> [%d.]+", tostring(details))
      local quiet, _, nothing = espq.apply { graph = graph, pass = "simplify" }
      assert.same({ {}, "nothing has changed" }, { quiet, tostring(nothing) })
   end)

   it("sees a change that keeps all sums, and exponents that move", function()
      local changes = require "espq.changes"
      local graph = espq.quantize_graph { graph = make(), calib_dataloader = loader(), calib_steps = 6, target = "esp32s3", error_report = false }
      local before = changes.snapshot(graph)
      local value, slot = graph:tensor "two_input_2", graph:node("one").output_config[1]
      local bias = value.value
      local a, b = bias:get(0), bias:get(1)
      bias:set(0, b)
      bias:set(1, a)
      value.value, slot.exponent = bias, slot.exponent + 1
      local changed, details = changes.between(before, changes.snapshot(graph))
      assert.is_true(#changed >= 2)
      assert.equal(2, details.two.constants[1].changed)
      assert.equal(1, details.one.exponents[1].after - details.one.exponents[1].before)
      assert.matches("output 1: exponent %-?%d+ %-> %-?%d+", tostring(details.one))
   end)

   it("runs for every row of `espq passes`, in order, one at a time", function()
      local own = { weight_split = { interested_layers = { "two" }, value_threshold = 1.0 }, recover = { budget = 1 }, tqt = { steps = 5 },
         lsq = { steps = 5 }, blockwise = { steps = 5 }, ssd_equalization = { iteration = 1 }, channel_split = { iterations = 1 } }
      local graph, seen = make(), {}
      for _, row in ipairs(require("espq.core").road.passes()) do
         local done, changed, _, details = pcall(espq.apply, { graph = graph, pass = row.name, setting = own[row.name], dataloader = loader(),
            target = "esp32s3" })
         if done then
            seen[row.name] = true
            for _, name in ipairs(changed) do assert.truthy(tostring(details[name]):find(name, 1, true)) end
         else
            assert.matches("cannot be applied alone", tostring(changed), 1, true)
         end
      end
      for _, name in ipairs { "equalization", "channel_split", "weight_split", "ssd_equalization", "bias_correct", "lsq", "tqt", "blockwise", "recover",
         "baking", "dispatch", "align", "calibrate" } do assert.is_true(seen[name], name) end
   end)

   it("finds the settings of passes that are called otherwise", function()
      local graph = make()
      espq.apply { graph = graph, pass = "dispatch" }
      espq.apply { graph = graph, pass = "slots" }
      espq.apply { graph = graph, pass = "ssd_equalization", setting = { iteration = 1 }, dataloader = loader() }
      espq.apply { graph = graph, pass = "parameters" }
      espq.apply { graph = graph, pass = "calibrate", setting = { calib_algorithm = "minmax" }, dataloader = loader() }
      espq.apply { graph = graph, pass = "passive" }
      local _, notes = espq.apply { graph = graph, pass = "lsq", setting = { steps = 5, block_batches = 3, keep_best = 1 }, dataloader = loader() }
      assert.matches("5 steps on 3 batches", table.concat(notes, "\n"), 1, true)
      assert.error_matches(function() espq.apply { graph = make(), pass = "dispatch", setting = { dispatcher = "alin" } } end, "'allin'")
   end)

   it("corrects biases of a quantized graph, and refuses what comes too late", function()
      local graph = espq.quantize_graph { graph = make(), calib_dataloader = loader(), calib_steps = 6,
         target = "esp32s3", error_report = false }
      local changed = espq.apply { graph = graph, pass = "bias_correct", setting = { block_size = 4 }, dataloader = loader() }
      assert.is_true(#changed > 0)
      assert.error_matches(function() espq.apply { graph = graph, pass = "equalization" } end, "exponents are chosen already")
      assert.error_matches(function() espq.apply { graph = graph, pass = "bias_correct", setting = { interested_layers = { "tow" } },
         dataloader = loader() } end, "did you mean 'two'")
   end)
end)
