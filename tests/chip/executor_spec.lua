-- Promise: a graph quantized here, and the file written of it, compute the same integers, which are the file's test values; the ends of the
-- graph's integer mode are those of its other modes.
local espq = require "espq"
local program = require "lua.program"

local folder
setup(function()
   espq.verbose = 0
   folder = program.folder()
end)
teardown(function() program.remove(folder) end)

-- x [1, 3, 8, 8] -> Conv -> Relu -> Sigmoid -> GlobalAveragePool -> y [1, 4, 1, 1]
local function quantized(target, more)
   local graph = espq.graph {
      inputs = { x = { 1, 3, 8, 8 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "conv", inputs = { "x", espq.randn({ 4, 3, 3, 3 }, { seed = 1 }), espq.randn({ 4 }, { seed = 2 }) }, outputs = { "c" },
           attributes = { kernel_shape = { 3, 3 }, pads = { 1, 1, 1, 1 } } },
         { type = "Relu", name = "relu", inputs = { "c" }, outputs = { "r" } },
         { type = "Sigmoid", name = "sigmoid", inputs = { "r" }, outputs = { "s" } },
         { type = "GlobalAveragePool", name = "pool", inputs = { "s" }, outputs = { "y" } },
      },
   }
   local call = { graph = graph, calib_dataloader = { espq.randn({ 4, 3, 8, 8 }, { seed = 3 }) }, calib_steps = 1, target = target, error_report = false }
   for key, value in pairs(more or {}) do call[key] = value end
   espq.quantize_graph(call)
   return graph
end

describe("the integer mode of a graph", function()
   for _, target in ipairs { "esp32p4", "esp32s3", "c" } do
      it("has the shapes and, within a step, the values of the simulation: " .. target, function()
         local graph = quantized(target)
         local x = espq.randn({ 5, 3, 8, 8 }, { seed = 4 })
         local whole, parts = espq.executor(graph, { mode = "integer" })(x), espq.executor(graph, { mode = "simulated" })(x)
         assert.same(parts.y.shape, whole.y.shape)
         assert.equal("float32", whole[1].dtype)
         local step = 2.0 ^ graph:node("pool").output_config[1].exponent
         assert.is_true((whole.y - parts.y):abs():max():item() <= step)
      end)
   end

   it("computes what the file computes, and the file's own test passes", function()
      local path = folder .. "/same.espdl"
      local graph = quantized("esp32p4", { espdl_export_file = path })
      local x = espq.randn({ 2, 3, 8, 8 }, { seed = 5 })
      local raw = espq.executor(graph, { mode = "integer", raw = true })(x:permute { 0, 2, 3, 1 })
      local model = espq.load_espdl(path)
      assert.equal("esp32p4", model.target)
      assert.is_true(model.sure)
      assert.is_true(raw.y:equal(model(x).y))            -- floats in ONNX's order of axes are turned
      assert.is_true(raw.y:equal(model(x:permute { 0, 2, 3, 1 }).y))
      local floats = espq.load_espdl(path, { floats = true })(x).y
      local mine = espq.executor(graph, { mode = "integer" })(x).y
      assert.is_true(floats:reshape(mine.shape):equal(mine))
      local findings, fine, target = espq.verify(path)
      assert.is_true(fine and #findings == 0, tostring(findings))
      assert.equal("esp32p4", target)
   end)

   it("shows tensors on the way, as values and as integers", function()
      local graph = quantized "esp32s3"
      local run, seen = espq.executor(graph, { mode = "integer" }), {}
      run:watch("s", function(values, raw) seen[#seen + 1] = { values, raw } end)
      run(espq.randn({ 2, 3, 8, 8 }, { seed = 6 }))
      assert.equal(2, #seen)
      assert.same({ 1, 4, 8, 8 }, seen[1][1].shape)
      assert.same({ 1, 8, 8, 4 }, seen[1][2].shape)
      assert.equal("int8", seen[1][2].dtype)
   end)

   it("measures what runs do to the accumulators", function()
      local run = espq.executor(quantized "esp32s3", { mode = "integer" })
      assert.equal(0, #run:headroom())
      run(espq.randn({ 2, 3, 8, 8 }, { seed = 6 }))
      local rows = run:headroom()
      assert.equal("conv", rows[1].node)
      assert.equal(2 * 4 * 8 * 8, rows[1].count)
      assert.is_true(rows[1].largest > 0 and rows[1].limit >= 2 ^ 19)
   end)

   it("follows changes of the graph", function()
      local graph = quantized "esp32p4"
      local run = espq.executor(graph, { mode = "integer" })
      local x = espq.randn({ 1, 3, 8, 8 }, { seed = 7 })
      local before = run(x).y
      local w = graph:tensor(graph:node("conv").inputs[2].name)
      w.value = w.value * -1.0
      assert.is_false(before:equal(run(x).y))
   end)

   it("is refused for a graph without quantization", function()
      local graph = espq.graph { inputs = { x = { 1, 2 } }, outputs = { "y" }, nodes = { { type = "Relu", name = "r", inputs = { "x" }, outputs = { "y" } } } }
      local err = assert.error(function() espq.executor(graph, { mode = "integer" }) end)
      assert.matches("quantized graph", tostring(err), 1, true)
   end)
end)

describe("the test values of a file", function()
   it("are the chip's, or the simulation's when asked for", function()
      local chip, simulated = folder .. "/chip.espdl", folder .. "/simulated.espdl"
      quantized("c", { espdl_export_file = chip, num_of_bits = 16 })
      quantized("c", { espdl_export_file = simulated, num_of_bits = 16, test_values = "simulated" })
      for _, path in ipairs { chip, simulated } do
         local _, fine = espq.verify(path)
         assert.is_true(fine)
      end
   end)

   it("that differ are named with node and both values", function()
      local path = folder .. "/damaged.espdl"
      quantized("esp32p4", { espdl_export_file = path })
      local core = require "espq.core"
      local numbers = core.espdl.data(core.espdl.load(path), "test_outputs", 1)
      local text, needle = program.read(path), {}
      for i, number in ipairs(numbers) do needle[i] = string.char(number & 0xFF) end
      needle = table.concat(needle)
      local at
      repeat
         local found = text:find(needle, (at or 0) + 1, true)
         at = found or at
      until not found
      program.write(path, text:sub(1, at - 1) .. string.char((numbers[1] + 3) & 0xFF) .. text:sub(at + 1))
      local findings, fine = espq.verify(path)
      assert.is_false(fine)
      assert.matches("node pool is the first that differs", tostring(findings), 1, true)
   end)
end)

describe("espq run", function()
   it("runs a set from .npz to .npz, a single .npy, and says what is missing", function()
      local path = folder .. "/run.espdl"
      quantized("esp32p4", { espdl_export_file = path })
      local x = espq.randn({ 70, 3, 8, 8 }, { seed = 8 })
      espq.save_npz(folder .. "/set.npz", { x = x })
      x[0]:save(folder .. "/one.npy")
      local code, _, err = program.run(folder, "@ run run.espdl --input set.npz -o out.npz --floats")
      assert.equal(0, code, err)
      local y = espq.from_npz(folder .. "/out.npz").y
      assert.equal(70, y.shape[1])
      assert.is_true(y:equal(espq.load_espdl(path, { floats = true })(x).y))
      espq.save_npz(folder .. "/labelled.npz", { pictures = x, labels = espq.zeros { 70 } })
      code, _, err = program.run(folder, "@ run run.espdl --input labelled.npz -o labelled.out.npz --floats")
      assert.equal(0, code, err)
      assert.is_true(y:equal(espq.from_npz(folder .. "/labelled.out.npz").y))
      espq.save_npz(folder .. "/two.npz", { one = x, two = x })
      code, _, err = program.run(folder, "@ run run.espdl --input two.npz")
      assert.equal(1, code)
      assert.matches("there is no array 'x'; there are one, two", err, 1, true)
      local out
      code, out = program.run(folder, "@ run run.espdl --input one.npy")
      assert.equal(0, code)
      assert.matches("y int8 [1, 1, 1, 4], exponent", out, 1, true)
      code, _, err = program.run(folder, "@ run run.espdl")
      assert.equal(2, code)
      assert.matches("--input is missing", err, 1, true)
      code, _, err = program.run(folder, "@ run run.espdl --input nothing.npy")
      assert.equal(1, code)
      assert.matches("nothing.npy", err, 1, true)
   end)

   it("lists what chips do that one would not expect", function()
      local code, out = program.run(folder, "@ targets --defects --target esp32s3")
      assert.equal(0, code)
      assert.matches("lanes_saturate C1", out, 1, true)
      assert.is_nil(out:find("mul_float C99", 1, true))
   end)
end)
