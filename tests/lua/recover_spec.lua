-- Promise: recovery never ends farther from the float network, on the samples it held back, than the plain road; the same data and seed
-- give the same bytes, and what it cannot do leaves the plain road's result.
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

local function make()
   return espq.graph {
      name = "net", inputs = { x = { 1, 3, 8, 8 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", espq.randn({ 9, 3, 3, 3 }, { seed = 1 }), espq.randn({ 9 }, { seed = 2 }) }, outputs = { "a" } },
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         { type = "Conv", name = "two", inputs = { "r", espq.randn({ 5, 9, 3, 3 }, { seed = 3 }), espq.randn({ 5 }, { seed = 4 }) }, outputs = { "b" } },
         { type = "GlobalAveragePool", name = "mean", inputs = { "b" }, outputs = { "m" } },
         { type = "Flatten", name = "flat", inputs = { "m" }, outputs = { "f" } },
         { type = "Gemm", name = "last", inputs = { "f", espq.randn({ 5, 4 }, { seed = 5 }), espq.randn({ 4 }, { seed = 6 }) }, outputs = { "y" } },
      },
   }
end

local pictures = espq.randn({ 16, 3, 8, 8 }, { seed = 7 })

local function quantized(recover, batch_size, threads)
   local setting = espq.setting.espdl()
   setting.recover = recover
   espq.threads(threads or 2)
   return espq.quantize_graph {
      graph = make(), calib_dataloader = espq.data.loader { dataset = pictures, batch_size = batch_size or 1 }, calib_steps = 16,
      target = "esp32p4", setting = setting, error_report = false,
   }
end

local function bytes(graph)
   espq.export { graph = graph, espdl_export_file = folder .. "/out.espdl", export_test_values = false }
   return program.read(folder .. "/out.espdl")
end

-- Noise : signal over the samples that recovery holds back: every fourth.
local function held_noise(graph)
   local exact, seen = espq.executor(make(), { mode = "float" }), espq.executor(graph, { mode = "simulated" })
   local sum = 0
   for i = 4, 16, 4 do
      local x = pictures:slice(i - 1, i)
      local f = exact(x)[1]
      local d = seen(x)[1] - f
      sum = sum + (d * d):sum():item() / (f * f):sum():item()
   end
   return sum / 4
end

local function note_with(report, text)
   for _, line in ipairs(report.notes) do
      if line:find(text, 1, true) then return line end
   end
end

describe("recovery", function()
   it("is nearer to the float network on what it held back, and says by how much", function()
      local plain = held_noise((quantized(false)))
      local graph, report = quantized { budget = 20 }
      local noise = held_noise(graph)
      assert.is_true(noise < plain, ("%g is not below %g"):format(noise, plain))
      local before, after = note_with(report, "noise of the outputs"):match "([%d.]+) %-> ([%d.]+)"
      assert.is_true(math.abs(before - plain) < 1e-5 and math.abs(after - noise) < 1e-5)
   end)

   it("leaves the float side as it was", function()
      local graph = quantized { budget = 20 }
      local x = pictures:slice(0, 1)
      local a, b = espq.executor(make(), { mode = "float" })(x)[1], espq.executor(graph, { mode = "float" })(x)[1]
      local d = a - b
      assert.is_true((d * d):sum():item() < 1e-8 * (a * a):sum():item())
   end)

   it("gives the same bytes on one thread and on two", function()
      local first = bytes(quantized({ budget = 20 }, 1, 1))
      assert.equal(first, bytes(quantized({ budget = 20 }, 1, 2)))
   end)

   it("works on one big batch as on single samples", function()
      local _, report = quantized({ budget = 20 }, 16)
      assert.truthy(note_with(report, "on 4 of 16 samples"))
   end)

   it("does nothing with a budget of 0, and says so", function()
      local graph, report = quantized { budget = 0 }
      assert.truthy(note_with(report, "the budget is 0"))
      assert.equal(bytes((quantized(false))), bytes(graph))
   end)

   -- 9 * 27 * 36 = 8748 products in `one`, 5 * 81 * 16 = 6480 in `two`, 20 in `last`: 0.7 of them is enough for one of the first two.
   it("moves no more than the share asked for to 16 bits, and the file takes it", function()
      local plain = held_noise((quantized { budget = 20 }))
      local graph, report = quantized { budget = 20, bits16_budget = 0.7 }
      local note = note_with(report, "layers at 16 bits")
      assert.is_true(tonumber(note:match "([%d.]+) %% of the products") <= 70)
      local wide = 0
      for node in graph:nodes() do
         if node.quantized and node.output_config[1].bits == 16 then wide = wide + 1 end
      end
      assert.is_true(wide > 0 and held_noise(graph) < plain)
      assert.is_true(#bytes(graph) > 0)
   end)

   it("refuses a budget that is none", function()
      assert.error_matches(function() quantized { budget = -1 } end, "no budget")
      assert.error_matches(function() quantized { bits16_budget = 2 } end, "no share")
      assert.error_matches(function() quantized { budjet = 1 } end, "budget")
   end)
end)
