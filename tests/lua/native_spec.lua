-- Promise: a graph that save_native wrote goes on in another process as if it had never left: same values, same files.
local espq = require "espq"
local program = require "lua.program"

setup(function() espq.verbose = 0 end)

local function quantized()
   return (espq.quantize_graph {
      graph = espq.graph {
         name = "net", inputs = { x = { 1, 3, 6, 6 } }, outputs = { "y" },
         nodes = {
            { type = "Conv", name = "one", inputs = { "x", espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.randn({ 4 }, { seed = 2 }) }, outputs = { "a" } },
            { type = "LeakyRelu", name = "leaky", inputs = { "a" }, outputs = { "y" }, attributes = { alpha = 0.25 } },
         },
      },
      calib_dataloader = { espq.randn({ 2, 3, 6, 6 }, { seed = 5 }) }, calib_steps = 1, target = "esp32s3", error_report = false,
   })
end

describe("a .native file", function()
   local folder
   setup(function() folder = program.folder() end)
   teardown(function() program.remove(folder) end)

   it("runs, is exported and is written again as the graph it came from", function()
      local graph = quantized()
      assert.equal(graph, graph:save_native(folder .. "/a.native"))
      local back, x = espq.load_native(folder .. "/a.native"), espq.randn({ 2, 3, 6, 6 }, { seed = 6 })
      assert.is_true(espq.executor(graph, { mode = "simulated" })(x)[1]:equal(espq.executor(back, { mode = "simulated" })(x)[1]))
      espq.export { graph = graph, espdl_export_file = folder .. "/a.espdl" }
      espq.export { graph = back, espdl_export_file = folder .. "/b.espdl" }
      for _, ending in ipairs { ".espdl", ".json", ".info" } do
         assert.is_true(program.read(folder .. "/a" .. ending) == program.read(folder .. "/b" .. ending), ending)
      end
      back:save_native(folder .. "/b.native")
      assert.is_true(program.read(folder .. "/a.native") == program.read(folder .. "/b.native"))
   end)

   it("keeps a float graph float", function()
      local graph = espq.graph { name = "n", inputs = { x = { 1, 4 } }, outputs = { "y" }, nodes = { { type = "Relu", inputs = { "x" }, outputs = { "y" } } } }
      graph:save_native(folder .. "/f.native")
      local back = espq.load_native(folder .. "/f.native")
      assert.equal("Relu", back:sorted()[1].type)
      assert.error(function() espq.export { graph = back, espdl_export_file = folder .. "/f.espdl" } end)
   end)

   it("is refused by its name when it is something else or damaged", function()
      program.write(folder .. "/pickle.native", "\x80\x04\x95 something of Python, long enough to be read as a head and more")
      assert.matches("pickles of Python", tostring(assert.error(function() espq.load_native(folder .. "/pickle.native") end)), 1, true)
      quantized():save_native(folder .. "/c.native")
      local bytes = program.read(folder .. "/c.native")
      program.write(folder .. "/d.native", bytes:sub(1, 400) .. "?" .. bytes:sub(402))
      assert.matches("damaged", tostring(assert.error(function() espq.load_native(folder .. "/d.native") end)), 1, true)
      program.write(folder .. "/e.native", bytes:sub(1, -2))
      assert.error(function() espq.load_native(folder .. "/e.native") end)
   end)
end)
