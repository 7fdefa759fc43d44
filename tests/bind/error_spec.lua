-- Promise: errors are objects with what, where and cure that read as one paragraph, and a user's own error comes back as it was raised.
local espq = require "espq"

local function caught(f, ...)
   local ok, err = pcall(f, ...)
   assert.is_false(ok)
   return err
end

-- x → Relu → y: the smallest graph that can be run and quantized.
local function relu_graph()
   return espq.graph { inputs = { x = { 1, 4 } }, outputs = { "y" }, nodes = { { type = "Relu", name = "relu", inputs = { "x" }, outputs = { "y" } } } }
end

describe("an error of espq", function()
   it("says what, where and what to do", function()
      local err = caught(espq.from_npy, "/nowhere/x.npy")
      assert.is_true(espq.is_error(err))
      assert.matches("/nowhere/x.npy", err.where, 1, true)
      assert.is_string(err.what)
      assert.is_nil(tostring(err):find "\n")
   end)

   it("joins with texts", function()
      local err = caught(espq.from_npy, "/nowhere/x.npy")
      assert.equal("failed: " .. tostring(err), "failed: " .. err)
   end)

   it("says which argument is wrong, and what it is", function()
      assert.matches("number is wanted, this is a table", tostring(caught(espq.full, { 1 }, {})), 1, true)
   end)
end)

describe("an error of a callback", function()
   local quiet = { calib_steps = 2, skip_export = true, error_report = false }

   local function quantize(loader)
      espq.verbose = 0
      return caught(espq.quantize_graph, { graph = relu_graph(), calib_dataloader = loader, calib_steps = quiet.calib_steps, error_report = false })
   end

   it("comes back as the object that was raised", function()
      local mine = setmetatable({}, { __tostring = function() return "mine" end })
      assert.equal(mine, quantize(function() error(mine) end))
   end)

   it("keeps the traceback of a text", function()
      local function where_it_broke() error "my own" end
      local err = quantize(function() return function() where_it_broke() end end)
      assert.matches("my own", err, 1, true)
      assert.matches("where_it_broke", err, 1, true)
   end)

   it("leaves the graph as it was before", function()
      espq.verbose = 0
      local graph = relu_graph()
      caught(espq.quantize_graph, { graph = graph, calib_dataloader = function() error "no data" end, calib_steps = 2 })
      assert.is_false(graph:node("relu").quantized)
      graph:check()
   end)
end)
