-- Promise: max_drop gives the cheapest setting that keeps the metric, in the order of what it costs on the chip, or says by how much the best one misses.
local espq = require "espq"
local core = require "espq.core"
local program = require "lua.program"

setup(function() espq.verbose = 0 end)

local function save_model(folder)
   espq.graph {
      name = "net", inputs = { x = { 1, 3, 6, 6 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.randn({ 4 }, { seed = 2 }) }, outputs = { "a" } },
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         { type = "Conv", name = "two", inputs = { "r", espq.randn({ 4, 4, 1, 1 }, { seed = 3 }), espq.randn({ 4 }, { seed = 4 }) }, outputs = { "y" } },
      },
   }:save_onnx(folder .. "/model.onnx")
end

-- A metric that looks at how a graph was quantized: 100 for float, else what `judge` says of the setting and the graph.
local function search(judge, max_drop)
   local folder = program.folder()
   finally(function() program.remove(folder) end)
   save_model(folder)
   local seen = 0
   local _, report = espq.quantize_onnx {
      onnx_import_file = folder .. "/model.onnx", espdl_export_file = folder .. "/out.espdl", calib_dataloader = { espq.randn({ 4, 3, 6, 6 }, { seed = 5 }) },
      calib_steps = 1, target = "esp32p4", error_report = false, max_drop = max_drop,
      evaluate_fn = function(graph)
         local about = core.graph.about(graph)
         if not about.quantized then return 100 end
         seen = seen + 1
         return judge(about.setting, graph)
      end,
   }
   return report.goal, folder, seen
end

local function wide(graph, name) return graph:node(name).output_config[1].bits == 16 end

describe("max_drop", function()
   it("takes the setting as it is when that keeps the metric", function()
      local goal, _, seen = search(function() return 99.75 end, 0.5)
      assert.is_true(goal.kept)
      assert.equal("as given", goal.words)
      assert.equal(1, seen)
      assert.equal(0.25, goal.drop)
   end)

   it("tries what is free on the chip before 16 bits", function()
      local goal = search(function(setting) return setting.equalization and 99.9 or 90 end, 0.5)
      assert.is_true(goal.kept)
      assert.matches("equalization", goal.words, 1, true)
      assert.not_matches("16 bits", goal.words, 1, true)
   end)

   it("widens only the layers that help", function()
      local goal = search(function(_, graph) return wide(graph, "two") and 99.9 or 90 end, 0.5)
      assert.is_true(goal.kept)
      assert.matches("1 of 2 layers at 16 bits", goal.words, 1, true)
   end)

   it("says by how much the best misses", function()
      local goal = search(function(setting) return setting.bias_correct and 97 or 90 end, 0.5)
      assert.is_false(goal.kept)
      assert.equal(2.5, goal.misses_by)
      assert.matches("misses the goal by 2.5", tostring(goal), 1, true)
   end)

   it("ends with lines of Lua that give the same file", function()
      local goal, folder = search(function(_, graph) return wide(graph, "two") and 99.9 or 90 end, 0.5)
      local again = load("local espq = ...\n" .. goal.snippet .. "\nreturn setting")(espq)
      espq.quantize_onnx {
         onnx_import_file = folder .. "/model.onnx", espdl_export_file = folder .. "/again.espdl", setting = again, calib_steps = 1, target = "esp32p4",
         calib_dataloader = { espq.randn({ 4, 3, 6, 6 }, { seed = 5 }) }, error_report = false,
      }
      assert.is_true(program.read(folder .. "/again.espdl") == program.read(folder .. "/out.espdl"))
   end)

   it("is refused without a metric", function()
      local err = assert.error(function() espq.quantize_onnx { onnx_import_file = "m.onnx", espdl_export_file = "/tmp/x.espdl", max_drop = 1 } end)
      assert.matches("needs an evaluate_fn", tostring(err), 1, true)
   end)

   it("is an option of the program, with exit code 1 when nothing keeps it", function()
      local folder = program.folder()
      finally(function() program.remove(folder) end)
      save_model(folder)
      espq.randn({ 4, 3, 6, 6 }, { seed = 5 }):save(folder .. "/calib.npy")
      program.write(folder .. "/eval.lua", [[
         local core = require "espq.core"
         return function(graph) return core.graph.about(graph).quantized and 90 or 100 end]])
      local call = "@ quantize model.onnx --calib calib.npy --no-report -o out.espdl --eval eval.lua --max-drop "
      local code, out = program.run(folder, call .. "20")
      assert.equal(0, code)
      assert.matches("kept within 20", out, 1, true)
      code, out = program.run(folder, call .. "0.5")
      assert.equal(1, code)
      assert.matches("misses the goal by 9.5", out, 1, true)
   end)
end)
