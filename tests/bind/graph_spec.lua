-- Promise: graphs of scripts can be built, walked and edited; every link stays true, and a handle of what is gone says so.
local espq = require "espq"

-- x → dense (Gemm) → Relu → y
local function small()
   return espq.graph {
      inputs = { x = { 1, 4 } }, outputs = { "y" },
      constants = { w = espq.ones { 4, 3 } },
      nodes = {
         { type = "Gemm", name = "dense", inputs = { "x", "w" }, outputs = { "h" } },
         { type = "Relu", name = "relu", inputs = { "h" }, outputs = { "y" } },
      },
   }
end

local function types(graph)
   local list = {}
   for node in graph:nodes() do list[#list + 1] = node.type end
   return list
end

describe("building a graph", function()
   it("infers shapes", function()
      assert.same({ 1, 3 }, small():tensor("y").shape)
   end)

   it("takes nodes in any order and tensors among their inputs", function()
      local graph = espq.graph {
         inputs = { x = { 2 } }, outputs = { "z" },
         nodes = { { type = "Relu", inputs = { "y" }, outputs = { "z" } }, { type = "Add", name = "add", inputs = { "x", espq.ones { 2 } },
               outputs = { "y" } } },
      }
      local run = espq.executor(graph, { mode = "float" })
      assert.same({ 0, 3 }, run(espq.tensor { -5.0, 2.0 })[1]:tolist())
   end)

   it("names the nearest when a tensor or field is unknown", function()
      assert.error_matches(function()
         espq.graph { inputs = { picture = { 1 } }, outputs = { "y" }, nodes = { { type = "Relu", inputs = { "pictur" }, outputs = { "y" } } } }
      end, "did you mean 'picture'")
      assert.error_matches(function() espq.graph { inputs = {}, outputs = {}, nods = {} } end, "did you mean 'nodes'")
   end)
end)

describe("looking into a graph", function()
   it("gives one handle a node, usable as a key", function()
      local graph = small()
      assert.equal(graph:node "relu", graph:tensor("y").producer)
      assert.equal("dense", graph:node("relu").inputs[1].producer.name)
      assert.equal(graph:node "relu", graph:tensor("h").consumers[1])
   end)

   it("names the nearest node", function()
      assert.error_matches(function() small():node "dens" end, "did you mean 'dense'")
   end)

   it("gives a parameter's value, which can be assigned but not reshaped", function()
      local graph = small()
      local w = graph:tensor "w"
      w.value = w.value * 2
      assert.equal(2, w.value:get(0, 0))
      assert.error_matches(function() w.value = espq.zeros { 2 } end, "has shape")
   end)
end)

describe("editing a graph", function()
   it("inserts behind a tensor and keeps the output's name", function()
      local graph = small()
      graph:insert_after("y", { type = "Sigmoid", name = "squash" })
      assert.equal("y", graph.outputs[1].name)
      assert.equal("squash", graph.outputs[1].producer.name)
      assert.is_true(graph:check())
   end)

   it("removes a node between two others", function()
      local graph = small()
      graph:remove "relu"
      assert.same({ "Gemm" }, types(graph))
      assert.equal("y", graph.outputs[1].name)
      assert.is_true(graph:check())
   end)

   it("replaces chains", function()
      local graph = small()
      assert.equal(1, graph:replace { pattern = { "Relu" }, with = { type = "LeakyRelu", attributes = { alpha = 1 } } })
      assert.same({ "Gemm", "LeakyRelu" }, types(graph))
      assert.equal(1.0, graph:node("relu"):get "alpha")
   end)

   it("extracts what lies between tensors", function()
      local part = small():extract { inputs = { "h" }, outputs = { "y" } }
      assert.same({ "Relu" }, types(part))
      assert.equal("h", part.inputs[1].name)
      assert.same({ { 0, 0, 4 } }, espq.executor(part, { mode = "float" })(espq.tensor { { -1.0, 0.0, 4.0 } })[1]:tolist())
   end)

   it("makes handles of what is gone say so", function()
      local graph = small()
      local relu = graph:node "relu"
      graph:remove(relu)
      assert.is_true(relu.removed)
      assert.error_matches(function() return relu.inputs end, "removed")
   end)

   it("leaves copies alone", function()
      local graph = small()
      local copy = graph:copy()
      copy:remove "relu"
      copy:tensor("w").value = espq.zeros { 4, 3 }
      assert.equal(2, #graph)
      assert.equal(1, graph:tensor("w").value:get(0, 0))
   end)
end)

describe("saving ONNX", function()
   it("gives the same numbers when it is read again", function()
      local path = os.tmpname()
      finally(function() os.remove(path) end)
      local x = espq.randn({ 1, 4 }, { seed = 3 })
      local graph = small()
      graph:save_onnx(path)
      local again = espq.load_onnx(path)
      assert.is_true(espq.executor(graph, { mode = "float" })(x).y:equal(espq.executor(again, { mode = "float" })(x).y))
   end)
end)

describe("a slot", function()
   it("knows its method when the setting is gone", function()
      local graph = small()
      do
         local setting = espq.setting.espdl()
         setting.quantize_activation_setting.calib_algorithm = "mse"
         setting.quantize_parameter_setting.calib_algorithm = "minmax"
         espq.quantize_graph { graph = graph, calib_dataloader = { espq.ones { 1, 4 } }, calib_steps = 1, setting = setting, verbose = 0 }
      end
      collectgarbage()
      espq.zeros { 100 }
      local dense, relu = graph:node "dense", graph:node "relu"
      assert.equal("minmax", dense.input_config[2].observer)
      for _, slot in ipairs { dense.input_config[1], dense.output_config[1], relu.input_config[1], relu.output_config[1] } do
         assert.equal("mse", slot.observer)
      end
   end)
end)

describe("a tensor that is asked for by name", function()
   it("is told from the node that makes it", function()
      local err = assert.error(function() small():tensor "dense" end)
      assert.matches("that is a node; the tensor it makes is 'h'", tostring(err), 1, true)
   end)
end)
