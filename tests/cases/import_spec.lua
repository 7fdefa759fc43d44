-- Promise: what CASES.md asks of reading a model (C01 to C07, C16, C19): batches are the user's, opsets and spellings make no difference,
-- outer files stay inside the model's folder, names stay what they are.
local espq = require "espq"
local json = require "espq.json"
local lfs = require "lfs"
local support = require "cases.support"

if not support.there then
   describe("cases of importing", function() pending("needs ../shared/data/cases") end)
   return
end

describe("cases of importing", function()
   local folder
   before_each(function() folder = support.temporary() end)
   after_each(function() support.remove(folder) end)

   local function file(name, more, as) return support.file(name, folder, more, as) end

   for _, name in ipairs { "c01_symbolic_batch", "c01_fixed_batch_1" } do
      it("C01: batches of 1, 4 and 11 give the same bytes: " .. name, function()
         local samples, first = espq.from_npy(support.path "c01_calib.npy"), nil
         assert.equal(11, samples.shape[1])
         for _, size in ipairs { 1, 4, 11 } do
            local loader = espq.data.loader { dataset = espq.data.npy(support.path "c01_calib.npy"), batch_size = size }
            local made = file(name, { calib_dataloader = loader })
            first = first or support.read(made.path)
            assert.is_true(first == support.read(made.path), "batch_size " .. size)
         end
      end)
   end

   it("C01: analysis and runs take any batch", function()
      local loader = espq.data.loader { dataset = espq.data.npy(support.path "c01_calib.npy"), batch_size = 4 }
      local made = file("c01_symbolic_batch", { calib_dataloader = loader, error_report = true })
      assert.is_true(#made.report.graphwise > 0)
      local out = espq.executor(made.graph)(espq.from_npy(support.path "c01_calib.npy"))
      assert.equal(11, out[1].shape[1])
   end)

   it("C01: a size that is not fixed is named, with what to write", function()
      local case = { file = "c01_symbolic_batch.onnx", calib = "c01_calib.npy" }
      local _, text = support.refusal(case, folder)
      for _, word in ipairs { "input x", "(N)", 'input_shape = { ["x"] = {1, 3, 12, 12} }' } do assert.matches(word, text, 1, true) end
   end)

   it("C02: nothing of the opset's spelling is left", function()
      local types = support.types(file("c02_opset_07").info)
      for _, type in ipairs { "Upsample", "BatchNormalization", "Dropout", "Constant" } do assert.equal(0, types[type], type) end
   end)

   it("C03: external data are found from any working directory", function()
      local inside, here = support.read(file("c03_inside").path), lfs.currentdir()
      local root = support.root:sub(1, 1) == "/" and support.root or here .. "/" .. support.root
      finally(function() lfs.chdir(here) end)
      local data = support.data(support.case "c03_inside")
      lfs.chdir(folder)
      local graph = espq.load_onnx(root .. "/c03_external.onnx")
      espq.quantize_graph { graph = graph, espdl_export_file = folder .. "/o.espdl", calib_dataloader = data,
                            calib_steps = 16, target = "esp32p4", error_report = false, test_values = "simulated" }
      lfs.chdir(here)
      assert.is_true(inside == support.read(folder .. "/o.espdl"))
   end)

   for name, word in pairs { missing = "not_there.bin", past_end = "2112", wrong_length = "1728", parent_dir = "outside the model's folder",
                             absolute = "absolute location" } do
      it("C03: refused with tensor and reason: " .. name, function()
         local err, text = support.refusal("c03_" .. name, folder, { calib_dataloader = {} })
         assert.matches("c1.weight", text, 1, true)
         assert.matches(word, text, 1, true)
         assert.is_truthy(err.cure ~= "")
      end)
   end

   it("C04: the spellings of ReLU6 make one Clip, -1 to 1 is another one", function()
      for _, name in ipairs { "c04_clip_initializers", "c04_clip_constant_nodes", "c04_relu_then_max_only", "c04_max_min", "c04_hardtanh" } do
         local types = support.types(file(name).info)
         assert.same({ 1, 0, 0, 0 }, { types.Clip, types.Relu, types.Max, types.Min }, name)
      end
   end)

   it("C04: hardtanh keeps what is below zero", function()
      local made = file "c04_hardtanh"
      local graph = made.graph
      local low
      for node in graph:nodes() do
         if node.type == "Clip" then low = node.inputs[2].value:item() end
      end
      assert.equal(-1, low)
   end)

   it("C04: a tensor with a second reader stays in the file", function()
      local info = file("c04_second_consumer").info
      for _, node in ipairs(info.nodes) do
         if node.type == "Conv" then assert.equal("Linear", node.attributes.activation, node.name) end
      end
      local made = file "c04_second_consumer"
      assert.is_true(support.largest(espq.executor(made.graph)(espq.randn(made.graph.inputs[1].shape, { seed = 5 }))[1]
         - espq.executor(support.load(support.case "c04_second_consumer"), { mode = "float" })(espq.randn(made.graph.inputs[1].shape, { seed = 5 }))[1])
         < 0.5)
   end)

   for _, name in ipairs { "plain", "zero_and_minus_one", "shape_chain", "float_shape_arithmetic", "flatten_axis_2" } do
      it("C05: one Reshape and no trace of its arithmetic: " .. name, function()
         local types = support.types(file("c05_" .. name).info)
         assert.equal(1, types.Reshape)
         for type in pairs(types) do
            assert.is_truthy(({ Conv = true, Transpose = true, Reshape = true, MatMul = true })[type], type)
         end
      end)
   end

   it("C05: an impossible Reshape names node and both shapes", function()
      for name, asked in pairs { c05_impossible = "[1, 7, -1]", c05_two_minus_ones = "[1, 8, -1, -1]" } do
         local _, text = support.refusal(name, folder, { calib_dataloader = {} })
         for _, word in ipairs { "Reshape_s", "[1, 8, 6, 10]", asked } do assert.matches(word, text, 1, true) end
      end
   end)

   it("C06: a model from TensorFlow has no Transpose left and costs what its twin costs", function()
      local function data(turn)
         local list = {}
         for i = 1, 8 do
            local x = espq.randn({ 1, 3, 8, 6 }, { seed = i })
            list[i] = turn and x:permute { 0, 2, 3, 1 } or x
         end
         return list
      end
      local nchw = file("c06_nchw", { calib_dataloader = data(false) })
      local nhwc = file("c06_nhwc_from_tensorflow", { calib_dataloader = data(true) })
      assert.equal(0, support.types(nhwc.info).Transpose)
      local function conv_like(info)
         local list = {}
         for _, node in ipairs(info.nodes) do list[#list + 1] = node.type end
         return table.concat(list, " ")
      end
      assert.equal(conv_like(nchw.info), conv_like(nhwc.info))
      local function exponents(info)
         local list = {}
         for _, output in ipairs(info.values) do list[#list + 1] = output.exponents[1] end
         table.sort(list)
         return list
      end
      assert.same(exponents(nchw.info), exponents(nhwc.info))
   end)

   it("C06: a permutation that is no layout change survives", function()
      local made, found = file "c06_other_permutation", false
      local x = espq.randn(made.graph.inputs[1].shape, { seed = 2 })
      local wanted = espq.executor(support.load(support.case "c06_other_permutation"), { mode = "float" })(x)[1]
      for _, node in ipairs(made.info.nodes) do found = found or node.type == "Transpose" end
      assert.is_true(found)
      assert.same(wanted.shape, espq.executor(made.graph)(x)[1].shape)
      assert.is_true(support.difference({ wanted }, { espq.executor(made.graph)(x)[1] }) < 0.2)
   end)

   it("C07: before opset 13 Softmax runs over all that is flattened", function()
      local out = support.floats(support.case "c07_axis_1_opset_11")[1]
      local first = out:reshape { out.shape[1], -1 }:sum { axis = 1 }
      assert.is_true(math.abs(first:get(0) - 1) < 1e-5)
      local now = support.floats(support.case "c07_channels_13")[1]
      local over_channels = now:sum { axis = 1 }
      assert.is_true(support.largest(over_channels - 1) < 1e-5)
   end)

   it("C16: order and names of inputs and outputs stay, also of one that is used inside", function()
      local case = support.case "c16_two_in_two_out"
      local graph = support.load(case)
      local function names(list)
         local out = {}
         for i, value in ipairs(list) do out[i] = value.name end
         return out
      end
      local info = file("c16_two_in_two_out").info
      assert.same(names(graph.inputs), names(info.inputs))
      assert.same(names(graph.outputs), names(info.outputs))
      assert.is_truthy(support.named(info.outputs, "c1"))
   end)

   it("C16: outputs keep their names where a node goes", function()
      for _, name in ipairs { "c08_matmul_add", "c08_bias_first", "c17_qdq_power_of_two", "c04_max_min" } do
         local wanted = support.load(support.case(name)).outputs[1].name
         assert.equal(wanted, file(name).info.outputs[1].name, name)
      end
   end)

   it("C16: shared weights are stored once where their exponents agree", function()
      local info = file("c16_shared_weights").info
      local convs, weights = 0, {}
      for _, node in ipairs(info.nodes) do
         if node.type == "Conv" or node.type == "Gemm" then
            convs = convs + 1
            weights[node.inputs[2]] = true
         end
      end
      local stored = 0
      for _ in pairs(weights) do stored = stored + 1 end
      assert.is_true(convs >= 2)
      assert.equal(1, stored)
   end)

   it("C16: an input that nobody reads is said, needs no data and is not in the file", function()
      local graph = support.load(support.case "c16_unused_input")
      local list = {}
      for i = 1, 4 do list[i] = { x = espq.randn(graph.inputs[1].shape, { seed = i }) } end
      local made = file("c16_unused_input", { calib_dataloader = list })
      assert.is_truthy(support.line(made.report.notes, "unused"))
      assert.is_nil(support.named(made.info.inputs, "unused"))
   end)

   it("C16: what cannot be is refused by name", function()
      local _, text = support.refusal("c16_input_is_output", folder, { calib_dataloader = {} })
      assert.matches("output x", text, 1, true)
      _, text = support.refusal("c16_constant_output", folder, { calib_dataloader = {} })
      assert.matches("Add_z", text, 1, true)
      _, text = support.refusal("c16_token_ids", folder, { calib_dataloader = {} })
      assert.matches("ids", text, 1, true)
   end)

   local names = { "plain", "slashes_spaces", "unicode", "line_break", "very_long", "duplicate_node_names", "empty_node_names", "generated_looking",
                   "unused_initializers", "initializers_are_inputs" }
   for _, name in ipairs(names) do
      it("C19: names are kept, .json parses, .info has a line a node: " .. name, function()
         local graph = support.load(support.case("c19_" .. name))
         local made = file("c19_" .. name)
         assert.equal(graph.inputs[1].name, made.info.inputs[1].name)
         assert.equal(graph.outputs[1].name, made.info.outputs[1].name)
         assert.equal(1, #made.info.inputs)
         local config = json.decode(support.read(folder .. "/c19_" .. name .. ".json"))
         assert.is_table(config)
         local text, lines = support.read(folder .. "/c19_" .. name .. ".info"), 0
         for line in text:gmatch "[^\n]+" do
            if line:match "^  .* = %u%w*%[" then lines = lines + 1 end
         end
         assert.equal(#made.info.nodes, lines)
         assert.is_nil(support.named(made.info.initializers, "never_used"))
      end)

      it("C19: each node can be addressed: " .. name, function()
         local case = support.case("c19_" .. name)
         for node in support.load(case):nodes() do
            local setting = espq.setting.espdl()
            setting.dispatching_table:append(node.outputs[1].name, espq.platform("esp32p4", 16))
            local _, report = support.quantize(case, folder .. "/o.espdl", { setting = setting })
            assert.is_table(report)
         end
      end)
   end

   it("C19: a name that several nodes have is no address", function()
      local setting = espq.setting.espdl()
      setting.dispatching_table:append("same", espq.platform("esp32p4", 16))
      local err, text = support.refusal("c19_duplicate_node_names", folder, { setting = setting })
      assert.matches("several nodes are called 'same'", text, 1, true)
      assert.matches("tensor", err.cure, 1, true)
   end)
end)
