-- Promise: the sensitivity table begins with the layer whose quantization costs most at the outputs, and says in words what would mend it.
local espq = require "espq"

local function quantized(graph, data, target)
   return espq.quantize_graph { graph = graph, calib_dataloader = espq.data.loader { dataset = data, batch_size = 2 }, calib_steps = 8,
      target = target or "esp32p4", error_report = false }
end

local function sensitivity(graph, data)
   return espq.analyse.sensitivity { graph = graph, dataloader = espq.data.loader { dataset = data, batch_size = 2 }, steps = 7 }
end

-- Channel 2 of `one` reaches a hundred times as far as the others; `two` makes up for it.
local function with_outlier()
   local up, down = espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.randn({ 2, 4, 1, 1 }, { seed = 2 })
   local scale = espq.tensor { 1, 1, 100, 1 }
   up = up * scale:reshape { 4, 1, 1, 1 }
   down = down / scale:reshape { 1, 4, 1, 1 }
   return espq.graph {
      name = "net", inputs = { x = { 1, 3, 4, 4 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", up }, outputs = { "a" } },
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         { type = "Conv", name = "two", inputs = { "r", down }, outputs = { "y" } },
      },
   }
end

describe("sensitivity", function()
   setup(function() espq.verbose = 0 end)

   it("marks the layer that costs most and names the outlier channel", function()
      local data = espq.randn({ 16, 3, 4, 4 }, { seed = 3 })
      local rows = sensitivity(quantized(with_outlier(), data), data)
      assert.is_true(rows[1].costly and rows[1].share > 0.5)
      assert.matches("channel 2 .*equalization", rows[1].advice)
      assert.matches("one%s+Conv", tostring(rows))
      local sum = 0
      for _, row in ipairs(rows) do sum = sum + row.share end
      assert.is_true(math.abs(sum - 1) < 1e-9)
   end)

   it("says when the data are too few", function()
      local data = espq.randn({ 2, 3, 4, 4 }, { seed = 3 })
      assert.matches("Only 2 samples", tostring(sensitivity(quantized(with_outlier(), data), data)), 1, true)
   end)

   local function conv(name, x, weight, y, bias) return { type = "Conv", name = name, inputs = { x, weight, bias }, outputs = { y } } end
   local function net(nodes) return espq.graph { name = "net", inputs = { x = { 1, 3, 4, 4 } }, outputs = { "y" }, nodes = nodes } end
   local function advice_of(rows, name)
      for _, row in ipairs(rows) do
         if row.name == name then return row.advice or "" end
      end
   end

   it("names a layer whose output is always zero, also behind its activation, though it costs nothing", function()
      local data = espq.randn({ 16, 3, 4, 4 }, { seed = 3 })
      local graph = net {
         conv("never", "x", espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), "a", espq.full({ 4 }, -100.0)),
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         conv("side", "x", espq.randn({ 4, 3, 1, 1 }, { seed = 2 }), "s"),
         { type = "Add", name = "add", inputs = { "r", "s" }, outputs = { "y" } },
      }
      local rows = sensitivity(quantized(graph, data), data)
      assert.matches("always zero: remove it, or give calibration data", advice_of(rows, "never"), 1, true)
      assert.matches("16 bits", advice_of(rows, "side"), 1, true)
   end)

   it("looks for channels where a MatMul has them: last", function()
      local up, down = espq.randn({ 4, 8 }, { seed = 1 }), espq.randn({ 8, 3 }, { seed = 2 })
      local scale = espq.tensor { 1, 1, 1, 1, 1, 60, 1, 1 }
      local graph = espq.graph {
         name = "net", inputs = { x = { 1, 6, 4 } }, outputs = { "y" },
         nodes = {
            { type = "MatMul", name = "one", inputs = { "x", up * scale }, outputs = { "a" } },
            { type = "MatMul", name = "two", inputs = { "a", down / scale:reshape { 8, 1 } }, outputs = { "y" } },
         },
      }
      local data = espq.randn({ 16, 6, 4 }, { seed = 3 })
      assert.matches("channel 5 of its output .* equalization does not reach a MatMul", advice_of(sensitivity(quantized(graph, data), data), "one"))
   end)

   it("names a row of weights that takes the bits from the others", function()
      local data = espq.randn({ 16, 3, 4, 4 }, { seed = 3 })
      local small, large = espq.tensor { 1, 1, 0.02 }, espq.tensor { 1, 1, 50 }
      local graph = net {
         conv("one", "x", espq.tensor { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } }:reshape { 3, 3, 1, 1 } * small:reshape { 3, 1, 1, 1 }, "a"),
         conv("two", "a", espq.tensor { { 1, 0.4, 0 }, { 0.3, 1, 0 }, { 0, 0, 1 } }:reshape { 3, 3, 1, 1 } * large:reshape { 1, 3, 1, 1 }, "y"),
      }
      local rows = sensitivity(quantized(graph, data, "esp32s3"), data)
      assert.matches("weights of row 2 reach 50 times as far", advice_of(rows, "two"), 1, true)
   end)

   it("says when values reach beyond what calibration saw", function()
      local data = espq.randn({ 16, 3, 4, 4 }, { seed = 3 })
      local graph = net {
         conv("one", "x", espq.randn({ 8, 3, 1, 1 }, { seed = 1 }), "a"),
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         conv("two", "r", espq.randn({ 2, 8, 1, 1 }, { seed = 2 }), "y"),
      }
      local rows = sensitivity(quantized(graph:copy(), data:slice(0, 2) * 0.1), data)
      for _, name in ipairs { "one", "two" } do
         assert.matches("its output reaches [%d.]+, its range ends at [%d.]+: more calibration data", advice_of(rows, name))
      end
      assert.matches("16 bits in setting.dispatching_table", advice_of(sensitivity(quantized(graph, data), data), "one"), 1, true)
   end)

   it("names a Concat whose branches reach unequally far", function()
      local function branch(seed, size) return espq.randn({ 2, 3, 1, 1 }, { seed = seed }) * size end
      local data = espq.randn({ 16, 3, 4, 4 }, { seed = 3 })
      local graph = espq.graph {
         name = "net", inputs = { x = { 1, 3, 4, 4 } }, outputs = { "y" },
         nodes = {
            { type = "Conv", name = "small", inputs = { "x", branch(1, 0.01) }, outputs = { "a" } },
            { type = "Conv", name = "large", inputs = { "x", branch(2, 1) }, outputs = { "b" } },
            { type = "Concat", name = "cat", inputs = { "a", "b" }, outputs = { "c" }, attributes = { axis = 1 } },
            { type = "Conv", name = "last", inputs = { "c", espq.tensor { 100.5, 100.5, 1.5, 1.5 }:reshape { 1, 4, 1, 1 } }, outputs = { "y" } },
         },
      }
      local rows = sensitivity(quantized(graph, data), data)
      local found
      for _, row in ipairs(rows) do found = found or row.advice and row.advice:match "branches of cat" end
      assert.truthy(found)
   end)

   it("refuses a measure that does not add up", function()
      local data = espq.randn({ 4, 3, 4, 4 }, { seed = 3 })
      assert.error_matches(function()
         espq.analyse.sensitivity { graph = quantized(with_outlier(), data), dataloader = { data }, method = "cosine" }
      end, "snr or mse")
   end)
end)
