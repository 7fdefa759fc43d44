-- Promise: where simulation and chip part, the user is told which node does it, how often, by how many steps and why; what cannot be seen in a
-- simulation (accumulators, tables, shifts, outputs too coarse to decide on) stands in the report's lines and in rows for scripts.
local espq = require "espq"
local program = require "lua.program"

local folder
setup(function()
   espq.verbose = 0
   folder = program.folder()
end)
teardown(function() program.remove(folder) end)

local function quantized(nodes, shape, batch, options)
   local graph = espq.graph { inputs = { x = shape }, outputs = { "y" }, nodes = nodes }
   local call = { graph = graph, calib_dataloader = { batch }, calib_steps = 1, target = "esp32p4" }
   for key, value in pairs(options or {}) do call[key] = value end
   local _, report = espq.quantize_graph(call)
   return graph, report
end

-- 64 channels of 3 x 3 taps, all positive: 576 products of one sign leave 20 bits.
local function summing()
   local weight = espq.rand({ 16, 64, 3, 3 }, { seed = 1 }) + 0.5
   return { { type = "Conv", name = "conv", inputs = { "x", weight }, outputs = { "c" }, attributes = { kernel_shape = { 3, 3 } } },
            { type = "Relu", name = "relu", inputs = { "c" }, outputs = { "y" } } }
end
local ones = espq.rand({ 2, 64, 6, 6 }, { seed = 2 }) + 0.5

describe("analyse.compare", function()
   it("finds no difference where 8-bit sums are exact", function()
      local graph, report = quantized(summing(), { 1, 64, 6, 6 }, ones)
      local rows = espq.analyse.compare { graph = graph, dataloader = { ones }, with = "integer" }
      assert.equal(1, #rows)                       -- Relu went into the Conv
      assert.same({ "conv", "y", 0, 0 }, { rows[1].node, rows[1].tensor, rows[1].alone, rows[1].differ })
      assert.equal(2 * 16 * 4 * 4, rows[1].count)
      assert.is_nil(rows.first)
      assert.truthy(tostring(rows):find("No node differs", 1, true))
      assert.is_nil(table.concat(report.chip.lines, "\n"):find("computes", 1, true))
   end)

   it("takes half a step, where the simulation rounds only behind the activation, for none", function()
      local _, report = espq.quantize_onnx {
         onnx_import_file = "samples/data/digits.onnx", calib_dataloader = espq.data.npy "samples/data/digits_calib.npy", calib_steps = 32,
         target = "esp32p4", skip_export = true,
      }
      local halves = 0
      for _, row in ipairs(report.chip.compare) do
         halves = halves + (row.type == "Conv" and 1 or 0)
         assert.equal(0, row.alone or 0, row.node)
      end
      assert.is_true(halves >= 3)
   end)

   it("names the node whose sums leave the accumulators, and so does the report", function()
      local graph, report = quantized(summing(), { 1, 64, 6, 6 }, ones, { target = "esp32s3" })
      local rows = espq.analyse.compare { graph = graph, dataloader = { ones }, headroom = true }
      assert.equal("conv", rows.first.node)
      assert.is_true(rows.first.alone > 0.9 and rows.first.alone_largest > 1 and rows.first.saturated > 0.9)
      assert.truthy(rows.first.cause:find("C1", 1, true))
      assert.truthy(table.concat(report.warnings, "\n"):find("first Conv conv", 1, true))
      local mended = espq.analyse.compare { graph = graph, dataloader = { ones }, mended = true }
      assert.is_nil(mended.first)
      local room = espq.analyse.headroom { graph = graph, dataloader = { ones } }
      assert.is_true(room[1].saturated > 0.9 and room[1].bits_left <= 0)
   end)

   it("tells what a node adds by itself from what it was given", function()
      local nodes = { { type = "Gelu", name = "first", inputs = { "x" }, outputs = { "g" } },
                      { type = "Relu", name = "second", inputs = { "g" }, outputs = { "y" } } }
      local batch = espq.randn({ 4, 8, 16 }, { seed = 3 })
      local graph, report = quantized(nodes, { 1, 8, 16 }, batch, { num_of_bits = 16 })
      local rows = espq.analyse.compare { graph = graph, dataloader = { batch }, samples = 2 }
      assert.equal(2, rows.samples)
      assert.equal("first", rows.first.node)
      assert.truthy(rows.first.cause:find("C12", 1, true))
      local last = rows[#rows]
      assert.same({ "second", 0 }, { last.node, last.alone })
      assert.is_true(last.differ > 0)
      assert.truthy(table.concat(report.warnings, "\n"):find("int16_lut_step", 1, true))
   end)

   it("saves its rows, and refuses what is not quantized", function()
      local graph = quantized(summing(), { 1, 64, 6, 6 }, ones)
      local rows = espq.analyse.compare { graph = graph, dataloader = { ones } }
      rows:save(folder .. "/rows.json"):save(folder .. "/rows.csv"):save(folder .. "/rows.html")
      local saved = require("espq.json").decode(program.read(folder .. "/rows.json"))
      assert.equal("conv", saved[1].node)
      local plain = espq.graph { inputs = { x = { 1, 64, 6, 6 } }, outputs = { "y" }, nodes = summing() }
      local ok, err = pcall(espq.analyse.compare, { graph = plain, dataloader = { ones } })
      assert.is_false(ok)
      assert.truthy(tostring(err):find("not quantized", 1, true))
   end)
end)

describe("analyse.device", function()
   it("says where the chip computes in floats, and how far a table is off", function()
      local nodes = { { type = "Gelu", name = "gelu", inputs = { "x" }, outputs = { "g" } },
                      { type = "Softmax", name = "soft", inputs = { "g" }, outputs = { "y" }, attributes = { axis = -1 } } }
      local graph = quantized(nodes, { 1, 16 }, espq.randn({ 4, 16 }, { seed = 3 }), { num_of_bits = 16 })
      local by_name = {}
      for _, row in ipairs(espq.analyse.device { graph = graph }) do by_name[row.node] = row end
      assert.equal("floats inside", by_name.soft.computes)
      assert.equal(257, by_name.gelu.entries)
      assert.is_true(by_name.gelu.table_largest > 10 and by_name.gelu.table_mean < by_name.gelu.table_largest)
   end)
end)

describe("analyse.resolution", function()
   local function regression(options)
      local weight = espq.tensor { { 1.0, 0.0 }, { 0.0, 1.0 } }
      return quantized({ { type = "Gemm", name = "dense", inputs = { "x", weight, espq.zeros { 2 } }, outputs = { "y" } } }, { 1, 2 },
                       espq.tensor { { 40, -40 }, { -30, 0.1 }, { 0.2, 20 }, { 10, 0 } }, options)
   end

   it("counts the levels inside the band the user decides in, in the user's units", function()
      local graph = regression()
      local data = { espq.tensor { { 20, -20 }, { 0.2, 20 } } }
      local row = espq.analyse.resolution { graph = graph, dataloader = data, bands = { y = { 0, 100 } },
                                            units = { y = { scale = 100, name = "mV" } } }[1]
      local step = 2.0 ^ graph:node("dense").output_config[1].exponent
      assert.same({ "y", 8, step * 100, "mV", "band" }, { row.output, row.bits, row.step, row.unit, row.judged })
      assert.near(1 / step, row.levels, 1e-9)
      assert.truthy(row.cure:find('dispatching_table:append("dense", espq.platform("esp32p4", 16))', 1, true))
   end)

   it("judges scores by the lead of the best, and tells clipped values", function()
      local graph = regression()
      local row = espq.analyse.resolution { graph = graph, dataloader = { espq.tensor { { 20, 19.99 }, { 4000, -4000 } } } }[1]
      assert.equal("lead of the first", row.judged)
      assert.equal(0.5, row.undecided)
      assert.equal(0.5, row.clipped)
      assert.truthy(row.cure:find("clipped", 1, true))
      local ok, err = pcall(espq.analyse.resolution, { graph = graph, dataloader = { espq.tensor { { 1, 2 } } }, bands = { z = { 0, 1 } } })
      assert.is_false(ok)
      assert.truthy(tostring(err):find("'z'", 1, true))
   end)
end)
