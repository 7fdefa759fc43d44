-- Training block by block from a script and from the program: on the road, alone, with bad settings, and stopped in the middle.
local espq = require "espq"
local lfs = require "lfs"
local program = require "lua.program"

local folder

setup(function()
   espq.verbose = 0
   folder = program.folder()
end)
teardown(function()
   espq.threads(2)
   program.remove(folder)
end)

-- Four layers, two of them a block each with block_size 2.
local function make()
   return espq.graph {
      name = "net", inputs = { x = { 1, 3, 9, 9 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", espq.randn({ 9, 3, 3, 3 }, { seed = 1 }), espq.randn({ 9 }, { seed = 2 }) }, outputs = { "a" } },
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         { type = "Conv", name = "two", inputs = { "r", espq.randn({ 5, 9, 3, 3 }, { seed = 3 }), espq.randn({ 5 }, { seed = 4 }) }, outputs = { "b" } },
         { type = "MaxPool", name = "pool", inputs = { "b" }, outputs = { "p" }, attributes = { kernel_shape = { 2, 2 } } },
         { type = "Conv", name = "three", inputs = { "p", espq.randn({ 4, 5, 1, 1 }, { seed = 5 }) }, outputs = { "y" } },
      },
   }
end

local function loader()
   return espq.data.loader { dataset = espq.randn({ 12, 3, 9, 9 }, { seed = 6 }), batch_size = 2 }
end

local function quantized(change, threads)
   local setting = espq.setting.espdl()
   change(setting)
   espq.threads(threads)
   local graph, report = espq.quantize_graph { graph = make(), calib_dataloader = loader(), calib_steps = 6,
      target = "esp32s3", setting = setting, error_report = false }
   espq.export { graph = graph, espdl_export_file = folder .. "/out.espdl" }
   return program.read(folder .. "/out.espdl"), graph, report
end

describe("training on the road", function()
   local changes = {
      lsq_optimization = function(s) s.lsq_optimization_setting.lr = 1e-4 end,
      tqt_optimization = function(s) s.tqt_optimization_setting.lr = 1e-4 end,
      blockwise_reconstruction = function(s) s.blockwise_reconstruction_setting.lr = 0.01 end,
   }
   for name, change in pairs(changes) do
      local function on(setting)
         setting[name] = true
         setting[name .. "_setting"].steps = 60
         setting[name .. "_setting"].block_size = 2
         change(setting)
      end
      it(name .. " changes the file, and gives the same one with 1 and 2 threads", function()
         local file = quantized(on, 1)
         assert.equal(file, quantized(on, 2))
         assert.not_equal(file, quantized(function() end, 1))
      end)
   end
end)

describe("layers that do not exist", function()
   it("are an error before the data are walked", function()
      for _, group in ipairs { "bias_correct", "lsq_optimization", "tqt_optimization", "blockwise_reconstruction" } do
         local setting, walks = espq.setting.espdl(), 0
         setting[group], setting[group .. "_setting"].interested_layers = true, { "one", "tow" }
         assert.error_matches(function()
            espq.quantize_graph { graph = make(), target = "esp32s3", setting = setting, calib_steps = 6, calib_dataloader = function()
               walks = walks + 1
               return loader()()
            end }
         end, group .. "_setting.interested_layers: no operator is called 'tow' %(did you mean 'two'%?%)")
         assert.equal(0, walks)
      end
   end)
end)

describe("training alone", function()
   local graph
   before_each(function()
      espq.threads(2)
      graph = espq.quantize_graph { graph = make(), calib_dataloader = loader(), calib_steps = 6, target = "esp32s3", error_report = false }
   end)
   local function tqt(setting, data) return espq.apply { graph = graph, pass = "tqt", setting = setting, dataloader = data or loader() } end

   it("names what it changed, and says the loss of each block, what was kept, and the seed", function()
      local changed, notes, details = tqt { steps = 60, lr = 1e-4, block_size = 2 }
      assert.is_true(#changed > 0)
      assert.not_equal(details[changed[1]].before, details[changed[1]].after)
      local text = table.concat(notes, "\n")
      assert.matches("block %[one %-> [%w_]+%]: loss [%d.e-]+ %-> [%d.e-]+, ", text)
      assert.matches("seed 0", text, 1, true)
   end)

   it("walks the data once, whatever the number of blocks", function()
      local pictures = espq.randn({ 12, 3, 9, 9 }, { seed = 6 })
      for pass, setting in pairs { bias_correct = { block_size = 1 }, lsq = { block_size = 1, steps = 8 }, tqt = { block_size = 1, steps = 8 },
         blockwise = { block_size = 1, steps = 8 }, recover = { budget = 1 } } do
         local walks, batches = 0, 0
         espq.apply { graph = graph:copy(), pass = pass, setting = setting, dataloader = function()
            local i = -2
            walks = walks + 1
            return function()
               i = i + 2
               if i == 12 then return nil end
               batches = batches + 1
               return pictures:slice(i, i + 2)
            end
         end }
         assert.same({ pass, 1, 6 }, { pass, walks, batches })
      end
   end)

   it("that runs away is put back, with a word, and the work goes on", function()
      local changed, notes = tqt { steps = 20, lr = 1e30 }
      assert.same({}, changed)
      assert.matches("put back", table.concat(notes, "\n"), 1, true)
   end)

   it("with no steps changes nothing and says so", function()
      local changed, notes = tqt { steps = 0 }
      assert.same({}, changed)
      assert.matches("steps is 0", notes[1], 1, true)
   end)

   it("refuses layers that do not exist, rates that mean nothing, and no data", function()
      assert.error_matches(function() tqt { interested_layers = { "tow" } } end, "did you mean 'two'")
      assert.error_matches(function() tqt { lr = -1 } end, "learning rate cannot be %-1")
      assert.error_matches(function() espq.apply { graph = graph, pass = "tqt" } end, "needs data")
      assert.error(function() tqt({}, {}) end)
   end)
end)

describe("Ctrl-C in the middle of training", function()
   it("ends the program with 130, without files", function()
      local work = folder .. "/stop"
      lfs.mkdir(work)
      program.write(work .. "/stop.lua", [[
         local espq = require "espq"
         espq.verbose = 0
         local setting = espq.setting.espdl()
         setting.tqt_optimization, setting.block_memory = true, 0
         setting.tqt_optimization_setting.steps = 100000000
         os.execute "(sleep 0.5; kill -INT $PPID) &"
         local graph = espq.graph { name = "net", inputs = { x = { 1, 3, 9, 9 } }, outputs = { "y" }, nodes = {
            { type = "Conv", name = "one", inputs = { "x", espq.randn({ 9, 3, 3, 3 }, { seed = 1 }) }, outputs = { "y" } } } }
         espq.quantize_graph { graph = graph, calib_dataloader = { espq.full({ 1, 3, 9, 9 }, 1.0) }, calib_steps = 1, setting = setting,
            target = "esp32s3", error_report = false }
         print "went on"
      ]])
      local code, out, err = program.run(work, "TMPDIR=. timeout 60 @ stop.lua")
      assert.equal(130, code, err)
      assert.equal("", out)
      assert.matches("interrupted", err, 1, true)
      assert.same({ "stop.lua" }, program.names(work))
   end)
end)
