-- Promise: operators, observers and passes of a script work like built-in ones up to export, which refuses an operator by name.
local espq = require "espq"
espq.verbose = 0

espq.operator {
   type = "SpecDouble",
   infer = function(node) return node.inputs[1].shape end,
   run = function(node, inputs) return inputs[1] * (node.attributes.factor or 2) end,
}

local observed = 0
espq.observer {
   name = "spec_fixed",
   begin = function() return { largest = 0 } end,
   observe = function(state, t)
      observed = observed + 1
      state.largest = math.max(state.largest, t:abs():max():item())
   end,
   scale = function(state) return state.largest > 1 and -3 or -5 end,
}

local function graph_with(type, attributes)
   return espq.graph {
      inputs = { x = { 1, 4 } }, outputs = { "y" },
      nodes = { { type = type, name = "node", inputs = { "x" }, outputs = { "h" }, attributes = attributes }, { type = "Relu", name = "relu",
            inputs = { "h" }, outputs = { "y" } } },
   }
end

local function quantize(graph, setting, file)
   return espq.quantize_graph {
      graph = graph, calib_dataloader = { espq.full({ 1, 4 }, 1.0), espq.full({ 1, 4 }, 3.0) }, calib_steps = 2, setting = setting, error_report = false,
      espdl_export_file = file,
   }
end

describe("an operator of a script", function()
   it("runs, with its attributes", function()
      local run = espq.executor(graph_with("SpecDouble", { factor = 3 }), { mode = "float" })
      assert.same({ { 3, 0, 6, 0 } }, run(espq.tensor { { 1.0, -1.0, 2.0, 0.0 } })[1]:tolist())
   end)

   it("is refused at export, by name", function()
      local path = os.tmpname() .. ".espdl"
      local err = assert.error(function() quantize(graph_with "SpecDouble", nil, path) end)
      assert.matches("SpecDouble", tostring(err), 1, true)
      assert.is_nil(io.open(path))
   end)
end)

describe("an observer of a script", function()
   it("chooses the exponents", function()
      local setting = espq.setting.espdl()
      setting.quantize_activation_setting.calib_algorithm = "spec_fixed"
      local graph = quantize(graph_with "Sigmoid", setting)
      assert.is_true(observed > 0)
      assert.equal(-3, graph:node("node").input_config[1].exponent)
      assert.equal(-5, graph:node("relu").output_config[1].exponent)
   end)
end)

describe("a pass of a script", function()
   it("stands in the list and runs in its place", function()
      local states = {}
      espq.pass {
         name = "spec_look", after = "calibrate",
         run = function(graph) -- stays for the specs that follow
            if graph:has_node "relu" then states[#states + 1] = graph:node("relu").output_config[1].state end
         end,
      }
      quantize(graph_with "Sigmoid")
      assert.same({ "ACTIVATED" }, states)
      assert.error_matches(function() espq.pass { name = "x", after = "calibrat", run = print } end, "did you mean 'calibrate'")
   end)
end)

describe("one pass alone", function()
   it("says which nodes it changed", function()
      local graph = quantize(graph_with "Sigmoid")
      graph:node("relu").output_config[1].exponent = -2
      assert.is_true(graph:node("relu").output_config[1].overridden)
      assert.same({}, espq.apply { graph = graph, pass = "passive" })
   end)
end)
