-- Promise: quantize_onnx and quantize_graph check everything before data are read, write three files or none, and report what they did.
local espq = require "espq"
local lfs = require "lfs"
espq.verbose = 0

local folder
setup(function()
   folder = os.tmpname()
   os.remove(folder)
   lfs.mkdir(folder)
end)
teardown(function()
   for name in lfs.dir(folder) do
      if name ~= "." and name ~= ".." then os.remove(folder .. "/" .. name) end
   end
   lfs.rmdir(folder)
end)

-- x → Gemm → Relu → Gemm → y
local function network()
   return espq.graph {
      name = "two", inputs = { x = { 1, 4 } }, outputs = { "y" },
      nodes = {
         { type = "Gemm", name = "first", inputs = { "x", espq.randn({ 4, 8 }, { seed = 1 }), espq.randn({ 8 }, { seed = 2 }) }, outputs = { "h" } },
         { type = "Relu", name = "relu", inputs = { "h" }, outputs = { "r" } },
         { type = "Gemm", name = "second", inputs = { "r", espq.randn({ 8, 2 }, { seed = 3 }) }, outputs = { "y" } },
      },
   }
end

local function batches(count)
   local list = {}
   for i = 1, count do list[i] = espq.randn({ 2, 4 }, { seed = 10 + i }) end
   return list
end

local function onnx()
   local path = folder .. "/two.onnx"
   network():save_onnx(path)
   return path
end

local function files()
   local list = {}
   for name in lfs.dir(folder) do
      if name:find "^out" then list[#list + 1] = name end
   end
   table.sort(list)
   return list
end

local function read(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read "a"
   file:close()
   return text
end

local function quantize(changes)
   local options = {
      onnx_import_file = onnx(), espdl_export_file = folder .. "/out.espdl", calib_dataloader = batches(4), calib_steps = 4, input_shape = { 1,
            4 }, target = "esp32p4",
      test_values = "simulated",
   }
   for key, value in pairs(changes or {}) do options[key] = value end
   return espq.quantize_onnx(options)
end

describe("quantize_onnx", function()
   after_each(function()
      for _, name in ipairs(files()) do os.remove(folder .. "/" .. name) end
   end)

   it("writes three files and reports", function()
      local graph, report = quantize()
      assert.same({ "out.espdl", "out.info", "out.json" }, files())
      assert.equal(2, #report.graphwise)
      assert.equal("second", report.graphwise[2].name)
      assert.is_true(report.graphwise[2].snr > 0 and report.graphwise[2].snr < 0.1)
      assert.equal(2, #report.layerwise)
      assert.matches("NOISE:SIGNAL POWER RATIO", tostring(report), 1, true)
      assert.equal(-1, graph:node("relu").output_config[1].exponent <= -1 and -1 or 0)
      local _, fine = espq.verify(folder .. "/out.espdl")
      assert.is_true(fine)
   end)

   it("writes the same bytes again", function()
      quantize()
      local first = read(folder .. "/out.espdl")
      quantize()
      assert.is_true(first == read(folder .. "/out.espdl"))
   end)

   it("puts the inputs given into the file as test values", function()
      local x = espq.tensor { { 0.5, -0.5, 0.25, 1.0 } }
      local _, report = quantize { inputs = x }
      assert.is_true(report.test_inputs[1].tensor:equal(x))
      local info = espq.info(folder .. "/out.espdl")
      assert.equal("x", info.test_inputs[1].name)
      assert.equal("y", info.test_outputs[1].name)
   end)

   it("keeps metadata", function()
      quantize { metadata_props = { author = "me" } }
      local found
      for _, pair in ipairs(espq.info(folder .. "/out.espdl").metadata) do
         if pair[1] == "author" then found = pair[2] end
      end
      assert.equal("me", found)
   end)

   it("cuts the model at outputs and gives new names", function()
      local graph = quantize { outputs = { "r" }, rename_outputs = { "features" }, skip_export = true }
      assert.equal(1, #graph.outputs)
      assert.equal("features", graph.outputs[1].name)
      assert.is_false(graph:has_node "second")
   end)

   it("calibrates without data when told so, and says so in the file", function()
      local _, report = quantize { calib_dataloader = "random" }
      assert.matches("random numbers", tostring(report), 1, true)
      local found
      for _, pair in ipairs(espq.info(folder .. "/out.espdl").metadata) do
         if pair[1] == "espq.calibration" then found = pair[2] end
      end
      assert.equal("random", found)
   end)

   local refusals = {
      { { calib_step = 3 }, "did you mean 'calib_steps'" },
      { { target = "esp32-p4" }, "did you mean 'esp32p4'" },
      { { num_of_bits = 4 }, "no width of 4 bits" },
      { { device = "cuda" }, "device 'cuda'" },
      { { auto_streaming = true }, "later version" },
      { { setting = {} }, "espq.setting.espdl()" },
      { { calib_steps = 0 }, "at least 1" },
      { { test_values = "chp" }, "did you mean 'chip'" },
      { { calib_dataloader = {} }, "no samples" },
      { { calib_dataloader = { espq.zeros { 1, 3 } } }, "[1, 3]" },
      { { calib_dataloader = { espq.full({ 1, 4 }, 0 / 0) } }, "NaN" },
      { { inputs = { espq.zeros { 1, 4 }, espq.zeros { 1, 4 } } }, "1 inputs" },
      { { onnx_import_file = "/nowhere.onnx" }, "/nowhere.onnx" },
   }
   for _, refusal in ipairs(refusals) do
      local field = next(refusal[1])
      it(("refuses %s = %s and writes nothing"):format(field, tostring(refusal[1][field])), function()
         local err = assert.error(function() quantize(refusal[1]) end)
         assert.matches(refusal[2], tostring(err), 1, true)
         assert.same({}, files())
      end)
   end

   it("warns of weights that were cut, with a cure, and not of the bounds of a Clip", function()
      local weights = espq.full({ 200, 100 }, 0.5)
      weights:set(3, 4, 100.0)
      local function warnings(method)
         local graph = espq.graph {
            inputs = { x = { 1, 200 } }, outputs = { "y" },
            nodes = { { type = "Gemm", name = "dense", inputs = { "x", weights }, outputs = { "h" } },
                      { type = "Clip", name = "clip", inputs = { "h", espq.tensor(0.0), espq.tensor(1e6) }, outputs = { "y" } } },
         }
         local setting, path = espq.setting.espdl(), os.tmpname()
         setting.quantize_parameter_setting.calib_algorithm = method
         local _, report = espq.quantize_graph { graph = graph, calib_dataloader = { espq.ones { 1, 200 } }, calib_steps = 1, setting = setting,
                                                 target = "esp32s3", error_report = false, espdl_export_file = path .. ".espdl" }
         for _, ending in ipairs { "", ".espdl", ".info", ".json" } do os.remove(path .. ending) end
         return table.concat(report.warnings, "\n")
      end
      assert.matches("dense: 1 of 20000 numbers.*minmax", warnings "percentile")
      assert.equal("", warnings "minmax")
   end)

   it("refuses a folder for a file before it works", function()
      local err = assert.error(function()
         espq.quantize_onnx { onnx_import_file = "nowhere.onnx", espdl_export_file = "tests", calib_dataloader = "random", calib_steps = 1 }
      end)
      assert.matches("tests: .*is a folder", tostring(err))
   end)

   it("does not write over the model", function()
      local before = read(onnx())
      local err = assert.error(function() quantize { espdl_export_file = folder .. "/two.onnx" } end)
      assert.matches("overwrite", tostring(err), 1, true)
      assert.is_true(before == read(folder .. "/two.onnx"))
   end)

   it("accepts what the streaming fields are when they are off", function()
      quantize { auto_streaming = false, skip_export = true }
   end)
end)

describe("quantize_graph", function()
   it("works in place and writes nothing without a file", function()
      local graph = network()
      local same, report = espq.quantize_graph { graph = graph, calib_dataloader = batches(2), calib_steps = 2 }
      assert.equal(graph, same)
      assert.is_true(graph:node("first").quantized)
      assert.is_nil(report.file)
   end)

   it("refuses a graph that is quantized already", function()
      local graph = network()
      espq.quantize_graph { graph = graph, calib_dataloader = batches(2), calib_steps = 2, error_report = false }
      assert.error_matches(function()
         espq.quantize_graph { graph = graph, calib_dataloader = batches(2), calib_steps = 2, error_report = false }
      end, "quantized already")
   end)

   it("leaves a node float when the table says so", function()
      local graph, setting = network(), espq.setting.espdl()
      setting.dispatching_table:append("second", espq.platform "float")
      espq.quantize_graph { graph = graph, calib_dataloader = batches(2), calib_steps = 2, setting = setting, error_report = false }
      assert.is_false(graph:node("second").quantized)
      assert.is_true(graph:node("first").quantized)
   end)
end)
