-- Promise: an executor takes batches of any size and in any form, follows edits of its graph, and shows any tensor on the way.
local espq = require "espq"

local function sum_graph()
   return espq.graph {
      inputs = { { name = "a", shape = { 1, 2 } }, { name = "b", shape = { 1, 2 } } }, outputs = { "s" },
      nodes = { { type = "Add", name = "add", inputs = { "a", "b" }, outputs = { "h" } }, { type = "Relu", name = "relu", inputs = { "h" },
            outputs = { "s" } } },
   }
end

local a, b = espq.tensor { { 1.0, -2.0 } }, espq.tensor { { 1.0, 1.0 } }

describe("an executor", function()
   it("takes inputs by position and by name, and gives outputs so", function()
      local run = espq.executor(sum_graph(), { mode = "float" })
      assert.same({ { 2, 0 } }, run({ a, b })[1]:tolist())
      assert.same({ { 2, 0 } }, run({ b = b, a = a }).s:tolist())
   end)

   it("says what is wrong with a batch", function()
      local run = espq.executor(sum_graph(), { mode = "float" })
      assert.error_matches(function() run(a) end, "2 inputs: a, b")
      assert.error_matches(function() run { a = a } end, "input 'b' is missing")
      assert.error_matches(function() run { a = a, c = b } end, "no input 'c'")
      assert.error_matches(function() return run { a, b }.t end, "no output 't'")
   end)

   it("refuses an empty batch and samples of another size", function()
      local run = espq.executor(sum_graph(), { mode = "float" })
      assert.error_matches(function() run { espq.zeros { 0, 2 }, espq.zeros { 0, 2 } } end, "empty")
      assert.error_matches(function() run { espq.zeros { 1, 3 }, b } end, "input 'a' has shape %[1, 2%]")
      assert.error_matches(function() run { espq.zeros { 2 }, b } end, "input 'a' has shape %[1, 2%]")
   end)

   it("gives outputs that can be walked and printed", function()
      local outputs, names = espq.executor(sum_graph(), { mode = "float" }) { a, b }, {}
      for i in ipairs(outputs) do names[#names + 1] = i end
      assert.same({ 1 }, names)
      assert.matches("^s: tensor", tostring(outputs))
      assert.error_matches(function() return outputs[3] end, "has 1 output")
   end)

   it("walks larger batches than the graph was made for", function()
      local run = espq.executor(sum_graph(), { mode = "float" })
      assert.same({ 5, 2 }, run({ espq.ones { 5, 2 }, espq.ones { 5, 2 } })[1].shape)
   end)

   it("shows a tensor on the way, and passes on what the watcher raises", function()
      local run, seen = espq.executor(sum_graph(), { mode = "float" }), nil
      run:watch("h", function(t) seen = t:tolist() end)
      run { a, b }
      assert.same({ { 2, -1 } }, seen)
      run:watch("h", function() error "stop here" end)
      assert.error_matches(function() run { a, b } end, "stop here")
   end)

   it("follows edits of its graph", function()
      local graph = sum_graph()
      local run = espq.executor(graph, { mode = "float" })
      run { a, b }
      graph:remove "relu"
      assert.same({ { 2, -1 } }, run({ a, b })[1]:tolist())
   end)

   it("computes other tensors than the outputs when asked", function()
      local run = espq.executor(sum_graph(), { mode = "float", outputs = { "h" } })
      assert.same({ { 2, -1 } }, run({ a, b }).h:tolist())
   end)

   it("names the known modes", function()
      assert.error_matches(function() espq.executor(sum_graph(), { mode = "simulatd" }) end, "did you mean 'simulated'")
   end)
end)
