-- Promise: what CASES.md asks of operators (C08 to C15, C22): one spelling in the file for what users write in many, the chip's operators
-- only, floats that follow the definition, and notes before the data are walked where the chip lacks something.
local espq = require "espq"
local support = require "cases.support"

if not support.there then
   describe("cases of operators", function() pending("needs ../shared/data/cases") end)
   return
end

describe("cases of operators", function()
   local folder
   before_each(function() folder = support.temporary() end)
   after_each(function() support.remove(folder) end)

   local function file(name, more, as) return support.file(name, folder, more, as) end
   local function types(name, more) return support.types(file(name, more).info) end

   for _, name in ipairs { "gemm_transb", "gemm_plain", "gemm_alpha_beta", "gemm_bias_row", "matmul_add", "bias_first", "matmul_transpose", "no_bias",
                           "scalar_bias", "only_matmul" } do
      it("C08: one integer dense node: " .. name, function()
         for _, width in ipairs(support.widths) do
            local info = file("c08_" .. name, { target = width[1], num_of_bits = width[2] }).info
            assert.equal(1, #info.nodes, name)
            assert.equal("Gemm", info.nodes[1].type)
            assert.equal(width[2] == 8 and "S8" or "S16", info.nodes[1].attributes.quant_type)
         end
      end)
   end

   for _, name in ipairs { "matmul_3d", "two_inputs", "weight_left", "gemm_transa" } do
      it("C08: stays in integers: " .. name, function()
         local info, dense = file("c08_" .. name).info, 0
         for _, node in ipairs(info.nodes) do
            assert.equal("S8", node.attributes.quant_type, node.type)
            if node.type == "MatMul" or node.type == "Gemm" then dense = dense + 1 end
         end
         assert.equal(1, dense)
      end)
   end

   it("C09: the mean over both axes is GlobalAveragePool, and the gate multiplies on the chip", function()
      for _, name in ipairs { "c09_se_pool", "c09_se_reducemean" } do
         for _, width in ipairs(support.widths) do
            local count = types(name, { target = width[1], num_of_bits = width[2] })
            assert.same({ 1, 0, 1 }, { count.GlobalAveragePool, count.ReduceMean, count.Mul })
         end
      end
      assert.equal(1, types("c09_se_dense").Mul)
   end)

   for _, name in ipairs { "depthwise", "depthwise_times_2", "group_2", "dilation_2", "even_kernel", "electrodes", "row_kernel", "same_upper", "same_lower",
                           "valid", "conv1d", "no_attributes" } do
      it("C10: the file has groups of one, or depthwise: " .. name, function()
         for _, node in ipairs(file("c10_" .. name).info.nodes) do
            if node.type == "Conv" then
               assert.is_truthy(node.attributes.kernel_shape and node.attributes.pads and node.attributes.strides and node.attributes.dilations)
               assert.is_nil(node.attributes.auto_pad)
               assert.is_true((node.attributes.group or 1) == 1 or name:match "^depthwise" ~= nil, node.name)
            end
         end
      end)
   end

   it("C10: SAME_LOWER pads on the other side than SAME_UPPER", function()
      local function pads(name)
         for _, node in ipairs(file(name).info.nodes) do if node.type == "Conv" then return node.attributes.pads end end
      end
      assert.same(pads "c10_same_explicit", pads "c10_same_upper")
      assert.are_not.same(pads "c10_same_upper", pads "c10_same_lower")
   end)

   it("C10: three dimensions and weights made at run time are refused by name", function()
      local _, text = support.refusal("c10_conv3d", folder, { calib_dataloader = {} })
      assert.matches("Conv_c1", text, 1, true)
      _, text = support.refusal("c10_weight_is_input", folder, { calib_dataloader = {} })
      assert.matches("weight w", text, 1, true)
   end)

   -- The definition, as a plain loop: every input element adds its kernel to the output at stride times its place.
   local function transposed(x, w, bias, o)
      local _, ci, h, wd = table.unpack(x.shape)
      local _, per, kh, kw = table.unpack(w.shape)
      local groups, out = o.group, {}
      local co = per * groups
      local oh = o.strides[1] * (h - 1) + o.output_padding[1] + kh - o.pads[1] - o.pads[3]
      local ow = o.strides[2] * (wd - 1) + o.output_padding[2] + kw - o.pads[2] - o.pads[4]
      for i = 1, co * oh * ow do out[i] = bias and bias:get((i - 1) // (oh * ow)) or 0 end
      for c = 0, ci - 1 do
         local group = c // (ci // groups)
         for y = 0, h - 1 do for z = 0, wd - 1 do
            local value = x:get(0, c, y, z)
            for k = 0, per - 1 do for a = 0, kh - 1 do for b = 0, kw - 1 do
               local p, q = y * o.strides[1] + a - o.pads[1], z * o.strides[2] + b - o.pads[2]
               if p >= 0 and p < oh and q >= 0 and q < ow then
                  local at = ((group * per + k) * oh + p) * ow + q + 1
                  out[at] = out[at] + value * w:get(c, k, a, b)
               end
            end end end
         end end
      end
      return espq.tensor(out):reshape { 1, co, oh, ow }
   end

   for _, name in ipairs { "stride_2", "output_padding", "depthwise", "group_2", "stride_larger_than_kernel" } do
      it("C11: a transposed convolution is its definition: " .. name, function()
         local graph = support.load(support.case("c11_" .. name))
         local node
         for each in graph:nodes() do if each.type == "ConvTranspose" then node = each end end
         local attributes = { group = 1, strides = { 1, 1 }, pads = { 0, 0, 0, 0 }, output_padding = { 0, 0 } }
         for key in pairs(attributes) do
            local given = node.attributes[key]
            if given ~= nil then attributes[key] = given end
         end
         local x = espq.randn(graph.inputs[1].shape, { seed = 4 })
         local wanted = transposed(x, node.inputs[2].value, node.inputs[3] and node.inputs[3].value, attributes)
         local part = graph:extract { inputs = { node.inputs[1].name }, outputs = { node.outputs[1].name } }
         local found = espq.executor(part, { mode = "float" })(x)[1]
         assert.same(wanted.shape, found.shape)
         assert.is_true(support.difference({ wanted }, { found }) < 1e-5)
      end)
   end

   it("C11: output_shape says the same as output_padding", function()
      local data = { espq.randn({ 1, 6, 5, 4 }, { seed = 1 }) }
      local shape = support.load(support.case "c11_output_padding").inputs[1].shape
      data[1] = espq.randn(shape, { seed = 1 })
      assert.equal(support.meaning(file("c11_output_padding", { calib_dataloader = data }).path),
                   support.meaning(file("c11_output_shape", { calib_dataloader = data }).path))
   end)

   it("C12: at 16 bits the choice is said before the data are walked; at 8 bits nothing is said", function()
      for _, name in ipairs { "nearest_scales", "nearest_sizes", "nearest_half_pixel", "nearest_3", "linear_half_pixel", "linear_align_corners" } do
         local made = file("c12_" .. name)
         assert.same({}, made.report.notes, name)
         if name == "nearest_3" then      -- a factor of 3 with few channels: no result on chips with vectors (C34)
            assert.is_truthy(support.line(made.report.warnings, "C34"))
         else
            assert.same({}, made.report.warnings, name)
         end
         made = file("c12_" .. name, { num_of_bits = 16 })
         assert.is_truthy(support.line(made.report.notes, "Resize_u", "16 bits", 'espq.platform("esp32p4", 8)'), name)
         assert.is_true(made.report.notes[1]:find("Resize_u", 1, true) ~= nil)
      end
   end)

   it("C12: the advice works", function()
      local setting = espq.setting.espdl()
      setting.dispatching_table:append("Resize_u", espq.platform("esp32p4", 8))
      local made = file("c12_nearest_scales", { num_of_bits = 16, setting = setting })
      assert.is_nil(support.line(made.report.notes, "Resize_u"))
      assert.same({}, made.report.warnings)
   end)

   it("C12: cubic and resized channels are refused", function()
      for name, word in pairs { c12_cubic = "cubic", c12_channels = "axis 1" } do
         local _, text = support.refusal(name, folder, { calib_dataloader = {} })
         assert.matches("Resize_u", text, 1, true)
         assert.matches(word, text, 1, true)
      end
   end)

   it("C13: pixel shuffles are one DepthToSpace, and no tensor has more than four dimensions", function()
      for name, mode in pairs { c13_crd = "CRD", c13_six_dimensions = "CRD", c13_dcr = "DCR" } do
         local info, found = file(name).info, nil
         for _, node in ipairs(info.nodes) do if node.type == "DepthToSpace" then found = node.attributes.mode or "DCR" end end
         assert.equal(mode, found, name)
         for _, value in ipairs(info.values) do assert.is_true(#value.shape <= 4, value.name) end
      end
   end)

   it("C15: what is written in parts is one operator", function()
      for name, type in pairs { c15_layernorm_parts = "LayerNormalization", c15_layernorm_17 = "LayerNormalization", c15_gelu_erf = "Gelu",
                                c15_gelu_tanh = "Gelu", c15_swish_reversed = "Swish" } do
         local count = types(name)
         assert.equal(1, count[type], name)
         for _, part in ipairs { "Erf", "Tanh", "Pow", "Sqrt", "ReduceMean", "Sigmoid", "Div" } do assert.equal(0, count[part], name .. " " .. part) end
      end
   end)

   it("C15: attention runs in integers, with Softmax's floats turned back", function()
      local info = file("c15_attention").info
      for _, node in ipairs(info.nodes) do assert.equal("S8", node.attributes.quant_type, node.type) end
      local count = support.types(info)
      assert.is_true(count.MatMul + count.Gemm >= 4 and count.Softmax == 1 and count.QuantizeLinear == 1)
   end)

   for _, name in ipairs { "lstm", "lstm_bidirectional", "lstm_last_state", "gru_linear" } do
      it("C14: all states that the chip writes, and the whole sequence near the definition: " .. name, function()
         for _, width in ipairs(support.widths) do
            local made = file("c14_" .. name, { target = width[1], num_of_bits = width[2] })
            for _, node in ipairs(made.info.nodes) do
               local wanted = ({ LSTM = 3, GRU = 2 })[node.type] or 1
               assert.equal(wanted, #node.outputs)
               if wanted > 1 then
                  assert.equal(wanted + 4, #node.inputs)
                  for i, input in ipairs(node.inputs) do assert.equal(i == 5, input == "") end
               end
               for i, output in ipairs(node.outputs) do
                  local value = support.named(made.info.values, output)
                  assert.is_truthy(value, "output " .. i)
                  if i == 3 then assert.same({ "INT16", { -9 } }, { value.dtype, value.exponents }) end
               end
            end
            local case = support.case("c14_" .. name)
            local float = support.floats(case)
            local input = espq.randn(support.load(case).inputs[1].shape, { seed = 8 })
            local integer = espq.executor(made.graph, { mode = "integer" }) { input }
            local difference = support.difference(float, integer)
            assert.is_true(difference < 0.1, ("%s at %d bits: %g"):format(width[1], width[2], difference))
         end
      end)
   end

   it("what is not quantized and what is looked up is said in a line each", function()
      assert.is_truthy(support.line(file("c15_attention").report.floats, "floats out", "Softmax"))
      local setting = espq.setting.espdl()
      setting.dispatching_table:append("Conv_c", espq.platform "float")
      local _, report = support.quantize(support.case "c18_plain", nil, { setting = setting, skip_export = true })
      assert.equal(1, #report.floats)
      assert.is_truthy(support.line(report.floats, "Conv_c", "dispatching table"))
      assert.is_truthy(support.line(file("c15_gelu_erf").report.tables, "look-up tables"))
      assert.same({}, file("c18_plain").report.floats)
   end)

   for _, name in ipairs { "sixty_diamonds", "dense_block" } do
      it("C22: as fast as it is small, and the same bytes on each run: " .. name, function()
         local first
         for _ = 1, 2 do
            local started = os.clock()
            local bytes = support.read(file("c22_" .. name).path)
            assert.is_true(os.clock() - started < 1)
            first = first or bytes
            assert.is_true(first == bytes)
         end
      end)
   end
end)
