-- Promise: what CASES.md asks of numbers and data (C17, C18, C21): given scales are kept, what a rounding costs is said with name and share,
-- what is no number is refused with its index, and each of the thirteen data files does as its row says.
local espq = require "espq"
local support = require "cases.support"

if not support.there then
   describe("cases of numbers", function() pending("needs ../shared/data/cases") end)
   return
end

describe("cases of numbers", function()
   local folder
   before_each(function() folder = support.temporary() end)
   after_each(function() support.remove(folder) end)

   local function file(name, more, as) return support.file(name, folder, more, as) end

   local function exponents(info)
      local conv
      for _, node in ipairs(info.nodes) do if node.type == "Conv" then conv = node end end
      local weight, made = support.named(info.initializers, conv.inputs[2]), support.named(info.values, conv.outputs[1])
      return { info.inputs[1].exponents[1], weight.exponents, made.exponents[1], info.outputs[1].exponents[1] }
   end

   for _, width in ipairs(support.widths) do
      it(("C17: given powers of two are kept and need no data: %s at %d bits"):format(width[1], width[2]), function()
         local made = file("c17_qdq_power_of_two", { target = width[1], num_of_bits = width[2], calib_dataloader = false })
         local weight = width[1] == "esp32p4" and width[2] == 8 and { -7, -7, -7, -7 } or exponents(made.info)[2]
         assert.equal(-7, weight[1])
         assert.same({ -5, weight, -4, -5 }, exponents(made.info))
         assert.same({}, made.report.notes)
      end)
   end

   it("C17: the integers of the weights are those of the model", function()
      local graph = file("c17_qdq_power_of_two", { calib_dataloader = false }).graph
      local given = {}
      for node in support.load(support.case "c17_qdq_power_of_two"):nodes() do
         if node.type == "DequantizeLinear" and node.inputs[1].is_parameter then given = node.inputs[1].value:to "float32" end
      end
      local w = graph:tensor "w".value
      assert.is_true((w * 128):equal(given))
   end)

   it("C17: the outputs are those of the given model, within a step", function()
      local case = support.case "c17_qdq_power_of_two"
      local graph = file("c17_qdq_power_of_two", { calib_dataloader = false }).graph
      local x = espq.randn(graph.inputs[1].shape, { seed = 9 })
      local wanted = espq.executor(support.load(case), { mode = "float" })(x)[1]
      assert.is_true(support.largest(espq.executor(graph)(x)[1] - wanted) <= 2 ^ -5)
   end)

   it("C17: one exponent a channel where the target can, elsewise the largest and a note", function()
      local made = file("c17_qdq_per_channel", { calib_dataloader = false })
      assert.same({ -5, { -7, -6, -8, -7 }, -4, -5 }, exponents(made.info))
      assert.same({}, made.report.notes)
      made = file("c17_qdq_per_channel", { target = "esp32s3", calib_dataloader = false })
      assert.same({ -5, { -6 }, -4, -5 }, exponents(made.info))
      assert.is_truthy(support.line(made.report.notes, "w of Conv_c", "-8 to -6"))
   end)

   it("C17: other scales and zero points: one line each that says what it costs", function()
      for name, cost in pairs { c17_qdq_other_scales = "1.54 times as coarse", c17_qdq_zero_point = "2 times as coarse" } do
         local made = file(name, { calib_dataloader = false })
         for _, tensor in ipairs { "tensor x", "tensor r", "tensor y" } do
            assert.is_truthy(support.line(made.report.notes, tensor, cost), name .. " " .. tensor)
         end
         assert.same({ -4, exponents(made.info)[2], -3, -4 }, exponents(made.info))
      end
      assert.is_truthy(support.line(file("c17_qdq_other_scales").report.notes, "w of Conv_c", "no power of two"))
   end)

   it("C17: QLinear operators are sent back to the float model", function()
      local _, text = support.refusal("c17_qoperator", folder, { calib_dataloader = {} })
      assert.matches("QLinearMatMul_y", text, 1, true)
      assert.matches("float model", text, 1, true)
   end)

   it("C18: NaN and infinity are refused with tensor and index", function()
      local _, text = support.refusal("c18_nan", folder, { calib_dataloader = {} })
      assert.matches("tensor w is NaN at index [2, 1, 0, 0]", text, 1, true)
      _, text = support.refusal("c18_inf", folder, { calib_dataloader = {} })
      assert.matches("tensor bias is infinite at index [3]", text, 1, true)
   end)

   it("C18: numbers beyond the chip's exponents are refused before the data", function()
      local _, text = support.refusal("c18_huge", folder, { calib_dataloader = {} })
      assert.matches("tensor w reaches", text, 1, true)
   end)

   it("C18: dead channels follow the others", function()
      local plain, dead
      local function weight(info)
         for _, node in ipairs(info.nodes) do if node.type == "Conv" then return support.named(info.initializers, node.inputs[2]).exponents end end
      end
      plain, dead = weight(file("c18_plain").info), weight(file("c18_dead_channels").info)
      assert.equal(8, #dead)
      for c, exponent in ipairs(dead) do
         if c ~= 2 and c ~= 6 then assert.equal(plain[c], exponent) else assert.is_true(math.abs(exponent - plain[c]) <= 2) end
      end
   end)

   it("C18: what suffers is said, with tensor and share", function()
      for name, words in pairs { c18_one_outlier = { "w of Conv_c", "%" }, c18_huge_bias = { "bias of Conv_c", "1 of 8", "%" },
                                 c18_all_zero = { "w of Conv_c", "does not depend on its input" }, c18_tiny = { "w of Conv_c" } } do
         for _, target in ipairs { "esp32p4", "esp32s3" } do
            local report = file(name, { target = target }).report
            assert.is_truthy(support.line(report.notes, table.unpack(words)), name .. ": " .. table.concat(report.notes, " | "))
         end
      end
      assert.same({}, file("c18_plain").report.notes)
   end)

   it("C18: float16, double and int8 weights are taken as float32", function()
      for _, name in ipairs { "c18_half", "c18_double", "c18_int8_initializer" } do
         local made = file(name)
         assert.equal("INT8", made.info.inputs[1].dtype)
         for _, node in ipairs(made.info.nodes) do assert.is_truthy(node.type == "Conv" or node.type == "Gemm", node.type) end
      end
      assert.is_truthy(support.line(file("c18_half").report.notes, "float32"))
   end)

   -- ---- C21 ----

   local function net(data, more)
      more = more or {}
      more.calib_dataloader = espq.data.npy(support.path(data .. ".npy"))
      return file("c21_net", more, data)
   end

   it("C21: float64, Fortran order and big endian give the file of good data", function()
      local good = support.read(net("c21_good").path)
      for _, name in ipairs { "c21_double", "c21_fortran_order", "c21_big_endian" } do assert.is_true(good == support.read(net(name).path), name) end
   end)

   it("C21: zeros work, with sensible exponents and a warning", function()
      local made, good = net "c21_zeros", net "c21_good"
      assert.is_truthy(support.line(made.report.notes, "all calibration values of input x are zero"))
      assert.is_nil(support.line(made.report.notes, "do not fit"))
      for _, value in ipairs(made.info.values) do
         for _, exponent in ipairs(value.exponents) do assert.is_true(exponent >= -12 and exponent <= 0, value.name .. " " .. exponent) end
      end
      assert.equal(#good.info.nodes, #made.info.nodes)
   end)

   it("C21: equal batches, a single sample and a picture that stretches the range are said", function()
      assert.is_truthy(support.line(net("c21_same").report.notes, "samples are equal"))
      assert.is_truthy(support.line(net("c21_one").report.notes, "one sample"))
      assert.is_truthy(support.line(net("c21_outlier_picture").report.notes, "sample 3 of input x"))
      assert.same({}, net("c21_good").report.notes)
   end)

   it("C21: percentile hardly minds the picture that stretches the range, minmax does", function()
      local function input_exponent(data, method)
         local setting = espq.setting.espdl()
         setting.quantize_activation_setting.calib_algorithm = method
         return net(data, { setting = setting }).info.inputs[1].exponents[1]
      end
      assert.is_true(input_exponent("c21_outlier_picture", "minmax") > input_exponent("c21_good", "minmax") + 6)
   end)

   for name, words in pairs { c21_nan = { "sample 5", "input x", "[0, 3, 3]" },
                              c21_no_channel_axis = { "rank 3", "input x has rank 4", "reshape them to" },
                              c21_channels_last = { "channel axis seems to be last" }, c21_uint8 = { "uint8", "mean and std" },
                              c21_empty = { "no samples" } } do
      it("C21: refused: " .. name, function()
         local err, text = support.refusal("c21_net", folder, { calib_dataloader = espq.data.npy(support.path(name .. ".npy")) })
         for _, word in ipairs(words) do assert.matches(word, text, 1, true) end
         assert.is_truthy(err.cure ~= "")
      end)
   end

   it("C21: fewer batches than calib_steps are all used, and one line says so", function()
      local made = net("c21_good", { calib_steps = 100 })
      assert.is_truthy(support.line(made.report.notes, "16 batches", "100"))
      assert.is_true(support.read(made.path) == support.read(net("c21_good").path))
   end)
end)
