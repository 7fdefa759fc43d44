-- Promise: the same script gives the same bytes, whatever the number of threads, the instruction set, the locale, the working folder and
-- the name of the model's path, and however often it runs.
local espq = require "espq"
local lfs = require "lfs"
local program = require "lua.program"

local folder

local script = [[
   local espq = require "espq"
   espq.verbose = 0
   local threads = tonumber(os.getenv "SPEC_THREADS")
   if threads then espq.threads(threads) end
   os.setlocale ""   -- the user's, which a C program does not have unless it asks
   local root = arg[1]
   local _, report = espq.quantize_onnx {
      onnx_import_file = root .. "/" .. arg[2], espdl_export_file = root .. "/out.espdl", calib_steps = 6,
      calib_dataloader = espq.data.loader { dataset = espq.data.npy(root .. "/calib.npy"), batch_size = 3 },
   }
   io.write((tostring(report):gsub("[^\n]*out%.espdl[^\n]*", "")))   -- the line that says where it was written
]]

setup(function()
   espq.verbose = 0
   folder = program.folder()
   espq.graph {
      name = "net", inputs = { x = { 1, 3, 21, 19 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "conv", inputs = { "x", espq.randn({ 19, 3, 3, 3 }, { seed = 1 }), espq.randn({ 19 }, { seed = 2 }) },
            outputs = { "c" }, attributes = { strides = { 2, 2 }, pads = { 1, 1, 1, 1 } } },
         { type = "Sigmoid", name = "gate", inputs = { "c" }, outputs = { "s" } },
         { type = "Mul", name = "swish", inputs = { "c", "s" }, outputs = { "h" } },
         { type = "Conv", name = "depth", inputs = { "h", espq.randn({ 19, 1, 3, 3 }, { seed = 3 }) }, outputs = { "d" },
            attributes = { pads = { 1, 1, 1, 1 }, group = 19 } },
         { type = "Add", name = "add", inputs = { "h", "d" }, outputs = { "a" } },
         { type = "GlobalAveragePool", name = "pool", inputs = { "a" }, outputs = { "p" } },
         { type = "Flatten", name = "flat", inputs = { "p" }, outputs = { "f" } },
         { type = "Gemm", name = "dense", inputs = { "f", espq.randn({ 19, 5 }, { seed = 4 }) }, outputs = { "y" } },
      },
   }:save_onnx(folder .. "/m.onnx")
   espq.randn({ 18, 3, 21, 19 }, { seed = 5 }):save(folder .. "/calib.npy")
   program.write(folder .. "/s.lua", script)
   lfs.link("m.onnx", folder .. "/link.onnx", true)
   lfs.mkdir(folder .. "/elsewhere")
end)
teardown(function() program.remove(folder) end)

-- The bytes of all that a run makes, and of what it prints.
local function bytes(line)
   local code, out, err = program.run(folder, line)
   assert.equal(0, code, err)
   local parts = { out }
   for _, name in ipairs { "out.espdl", "out.info", "out.json" } do
      parts[#parts + 1] = assert(program.read(folder .. "/" .. name))
      os.remove(folder .. "/" .. name)
   end
   return parts
end

describe("the same script", function()
   local plain
   setup(function() plain = bytes "@ s.lua . m.onnx" end)

   local function same(line)
      for i, part in ipairs(bytes(line)) do assert.is_true(part == plain[i], ({ "the report", "the .espdl", "the .info", "the .json" })[i] .. " differs") end
   end

   it("gives the same bytes again", function() same "@ s.lua . m.onnx" end)

   for threads = 1, 3 do
      it(("gives the same bytes with %d threads"):format(threads), function() same(("SPEC_THREADS=%d @ s.lua . m.onnx"):format(threads)) end)
   end

   -- A name that this machine has no instructions for means the best there is.
   for _, kernel in ipairs { "plain", "avx2", "avx512" } do
      it("gives the same bytes with the kernels " .. kernel, function() same(("ESPQ_KERNEL=%s @ s.lua . m.onnx"):format(kernel)) end)
   end

   it("gives the same bytes in a locale with a decimal comma", function()
      os.execute(("localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' 2>/dev/null"):format(folder))
      local comma = "LOCPATH='" .. folder .. "' LC_ALL=de_DE.UTF-8 "
      local _, out = program.run(folder, comma .. [[@ -e 'os.setlocale ""; io.write(("%.1f"):format(1.5))']])
      if out ~= "1,5" then return pending "the locale de_DE is not installed and cannot be made" end
      same(comma .. "@ s.lua . m.onnx")
   end)

   it("gives the same bytes from another folder and by a symbolic link", function()
      same "cd elsewhere && @ ../s.lua .. m.onnx"
      same "@ s.lua . link.onnx"
   end)
end)
