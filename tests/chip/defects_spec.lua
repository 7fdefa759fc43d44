-- Promise: each known defect of the runtime (CHIP §4, the rows that a quantizer must mind) is avoided by espq.setting.espdl(), or refused, or warned of by
-- the report and by verify: shown for each on the smallest graph that would meet it. "avoided": the chip computes what it would without its defects.
local espq = require "espq"
local program = require "lua.program"

local folder
setup(function()
   espq.verbose = 0
   folder = program.folder()
end)
teardown(function() program.remove(folder) end)

local function randn(shape, seed, scale) return espq.randn(shape, { seed = seed }) * (scale or 1.0) end
local function conv(more)
   local node = { type = "Conv", name = "n", inputs = { "x", randn({ 16, 16, 1, 1 }, 1) }, outputs = { "y" }, attributes = { kernel_shape = { 1, 1 } } }
   for key, value in pairs(more or {}) do node[key] = value end
   return node
end
local function one(type, inputs, attributes) return { { type = type, name = "n", inputs = inputs, outputs = { "y" }, attributes = attributes } } end
local function resize(factor)
   return one("Resize", { "x", "", espq.tensor { 1.0, 1.0, factor, factor } },
              { mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor" })
end

-- Two channels that cancel: the output is much finer than its products.
local function cancelling()
   local weight = espq.zeros { 16, 16, 1, 1 }
   for o = 0, 15 do
      weight:set(o, 0, 0, 0, 1.0)
      weight:set(o, 1, 0, 0, -1.0)
   end
   local x = randn({ 4, 1, 2, 2 }, 3):pad { before = { 0, 0, 0, 0 }, after = { 0, 15, 0, 0 } }
   return weight, x + x:pad { before = { 0, 1, 0, 0 }, after = { 0, 0, 0, 0 } }:slice { axis = 1, start = 0, stop = 16 } * 1.001
end
local cancel_weight, cancel_x = cancelling()
local positive = espq.rand({ 2, 64, 6, 6 }, { seed = 2 }) + 0.5
local picture, row = randn({ 4, 16, 4, 4 }, 2), randn({ 4, 16 }, 2)

-- what: avoided, refused (with a text of the message) or warned (with a text of the findings; verify: the warning is the verifier's, too).
local defects = {
   { id = "C1", on = { "esp32s3" }, x = positive, warned = "first Conv n", verify = "C1",
     nodes = { conv { inputs = { "x", espq.rand({ 16, 64, 3, 3 }, { seed = 1 }) + 0.5 }, attributes = { kernel_shape = { 3, 3 } } } } },
   { id = "C2", on = { "esp32s3" }, x = randn({ 4, 16, 2, 2 }, 2), avoided = true,
     nodes = { conv { inputs = { "x", randn({ 16, 16, 1, 1 }, 1, 0.002), espq.full({ 16 }, 1.0) } } } },
   { id = "C3", on = { "esp32s3", "c" }, x = picture, avoided = true, nodes = { conv() } },
   { id = "C4", on = { "esp32s3", "esp32p4" }, x = cancel_x, avoided = true, nodes = { conv { inputs = { "x", cancel_weight } } } },
   { id = "C5", on = { "esp32s3", "esp32p4" }, x = randn({ 4, 8, 7 }, 2), warned = "C5", verify = "C5", bits_of = { n = 16 },
     nodes = { { type = "Tanh", name = "a", inputs = { "x" }, outputs = { "h" } }, one("Sigmoid", { "h" })[1] } },
   { id = "C6", on = { "esp32s3", "esp32p4" }, x = randn({ 4, 16, 4 }, 2), avoided = true,
     nodes = { { type = "Mul", name = "s", inputs = { "x", espq.full({ 1 }, 0.01) }, outputs = { "h" } },
               { type = "Mul", name = "t", inputs = { "x", espq.full({ 1 }, 100.0) }, outputs = { "i" } }, one("Add", { "h", "i" })[1] } },
   { id = "C7", on = { "esp32s3" }, x = randn({ 4, 8, 7 }, 2), avoided = true, bits_of = { a = 16 },
     nodes = { { type = "Tanh", name = "a", inputs = { "x" }, outputs = { "h" } }, one("Sigmoid", { "h" })[1] } },
   { id = "C8", on = { "c", "esp32s3", "esp32p4" }, x = picture, bits = 16, warned = "C8", verify = "C8", nodes = resize(2.0) },
   { id = "C9", on = { "c", "esp32p4" }, x = row, avoided = true, nodes = one("Abs", { "x" }) },
   { id = "C9, no table", on = { "c", "esp32p4" }, x = row, refused = "the chip has no such operator",
     nodes = { { type = "Relu", name = "a", inputs = { "x" }, outputs = { "h" } }, one("Max", { "x", "h" })[1] } },
   { id = "C10", on = { "c", "esp32s3", "esp32p4" }, x = randn({ 4, 8, 4, 4 }, 2), avoided = true,
     nodes = { conv { inputs = { "x", randn({ 8, 4, 1, 1 }, 1) }, attributes = { kernel_shape = { 1, 1 }, group = 2 } } } },
   { id = "C11", on = { "c", "esp32s3", "esp32p4" }, x = randn({ 4, 16 }, 2, 80), warned = "C11", verify = "C11",
     nodes = one("Softmax", { "x" }, { axis = -1 }) },
   { id = "C13", on = { "c", "esp32p4" }, x = row, warned = "C13", verify = "C13",
     nodes = { { type = "ReduceMax", name = "m", inputs = { "x" }, outputs = { "h" }, attributes = { keepdims = 1, axes = { 1 } } },
               one("Div", { "x", "h" })[1] } },
   { id = "C15", on = { "c", "esp32p4" }, x = randn({ 4, 12 }, 2), avoided = true, outputs = { "y", "z", "w" },
     nodes = { { type = "Split", name = "n", inputs = { "x" }, outputs = { "y", "z", "w" }, attributes = { axis = 1, num_outputs = 3 } } } },
   { id = "C16", on = { "c", "esp32p4" }, x = row, avoided = true, nodes = one("Gather", { "x", espq.tensor({ -1, -3, 0 }, "int64") }, { axis = 1 }) },
   { id = "C17", on = { "c", "esp32p4" }, x = picture, avoided = true, as_float = true, nodes = one("DepthToSpace", { "x" }, { blocksize = 2, mode = "DCR" }) },
   { id = "C17, back", on = { "c", "esp32p4" }, x = picture, avoided = true, as_float = true, nodes = one("SpaceToDepth", { "x" }, { blocksize = 2 }) },
   { id = "C18", on = { "c", "esp32p4" }, x = randn({ 5, 1, 4 }, 2), shape = { 5, 1, 4 }, refused = 'direction is "reverse"',
     nodes = one("GRU", { "x", randn({ 1, 9, 4 }, 3, 0.3), randn({ 1, 9, 3 }, 4, 0.3) }, { hidden_size = 3, direction = "reverse", linear_before_reset = 1 }) },
   { id = "C19", on = { "c", "esp32p4" }, x = picture, warned = "the chip counts the padding", verify = "the chip counts the padding",
     nodes = one("AveragePool", { "x" }, { kernel_shape = { 3, 3 }, pads = { 1, 1, 1, 1 } }) },
   { id = "C21, C35", on = { "c", "esp32s3", "esp32p4" }, x = picture, avoided = true, as_float = true,
     nodes = { conv { name = "k", outputs = { "h" } }, one("Add", { "x", "h" })[1] } },
   { id = "C22", on = { "c", "esp32p4" }, x = randn({ 2, 16, 4, 4 }, 2), shape = { 2, 16, 4, 4 }, refused = "only the first is computed", nodes = { conv() } },
   { id = "C23", on = { "esp32s3", "esp32p4" }, x = picture, avoided = true,
     nodes = { conv { outputs = { "h" }, name = "k" }, one("PRelu", { "h", espq.rand({ 16, 1, 1 }, { seed = 5 }) })[1] } },
   { id = "C23, plain C", on = { "c" }, x = picture, warned = "C23",
     nodes = { conv { outputs = { "h" }, name = "k" }, one("PRelu", { "h", espq.rand({ 16, 1, 1 }, { seed = 5 }) })[1] } },
   { id = "C24", on = { "c", "esp32p4" }, x = row, avoided = true, floating = "n", nodes = one("Clip", { "x", "", espq.full({}, 0.5) }) },
   { id = "C30", on = { "esp32p4" }, x = randn({ 4, 16, 2, 2 }, 2), avoided = true,
     nodes = { conv { inputs = { "x", randn({ 4, 16, 1, 1 }, 1, 0.00002), espq.full({ 4 }, 1.0) } } } },
   { id = "C31", on = { "c" }, x = picture, avoided = true, nodes = resize(2.0) },
   { id = "C34", on = { "esp32s3", "esp32p4" }, x = randn({ 4, 4, 4, 4 }, 2), warned = "C34", verify = "C34", nodes = resize(3.0) },
   { id = "C36", on = { "c", "esp32p4" }, x = randn({ 4, 4, 6, 6 }, 2), warned = "C36", verify = "C36",
     nodes = one("PRelu", { "x", espq.rand({ 4, 1, 1 }, { seed = 5 }) }) },
}

local function quantize(defect, target, path)
   local setting = espq.setting.espdl()
   for name, bits in pairs(defect.bits_of or {}) do setting.dispatching_table:append(name, espq.platform(target, bits)) end
   if defect.floating then setting.dispatching_table:append(defect.floating, espq.platform "float") end
   local shape = defect.shape or table.move(defect.x.shape, 2, #defect.x.shape, 2, { 1 })
   local graph = espq.graph { inputs = { x = shape }, outputs = defect.outputs or { "y" }, nodes = defect.nodes }
   return espq.quantize_graph { graph = graph, calib_dataloader = { defect.x }, calib_steps = 1, target = target, num_of_bits = defect.bits, setting = setting,
                                espdl_export_file = path, inputs = { defect.shape and defect.x or defect.x:slice(0, 1) } }
end

local function texts(findings)
   local list = {}
   for i, finding in ipairs(findings) do list[i] = finding.text end
   return table.concat(list, "\n")
end

describe("a defect of the runtime", function()
   for i, defect in ipairs(defects) do
      for _, target in ipairs(defect.on) do
         it(("%s is %s for %s"):format(defect.id, defect.avoided and "avoided" or defect.refused and "refused" or "warned of", target), function()
            local path = ("%s/%d_%s.espdl"):format(folder, i, target)
            local ok, graph, report = pcall(quantize, defect, target, path)
            if defect.refused then
               assert.is_false(ok)
               assert.truthy(tostring(graph):find(defect.refused, 1, true), tostring(graph))
               return
            end
            assert.is_true(ok, tostring(graph))
            local findings, fine = espq.verify(path, { target = target })
            assert.is_true(fine, tostring(findings))
            if defect.verify then assert.truthy(texts(findings):find(defect.verify, 1, true), tostring(findings)) end
            if defect.warned then
               assert.truthy(table.concat(report.warnings, "\n"):find(defect.warned, 1, true), table.concat(report.warnings, "\n"))
               return
            end
            assert.equal("", texts(findings))
            local chip, mended = espq.executor(graph, { mode = "integer" })(defect.x)[1], espq.executor(graph, { mode = "integer", mended = true })(defect.x)[1]
            assert.is_true(chip:equal(mended))
            if defect.as_float then
               local float = espq.executor(graph, { mode = "float" })(defect.x)[1]
               assert.is_true((chip - float):abs():mean():item() < 0.1 * float:abs():mean():item())
            end
         end)
      end
   end
end)
