-- Promise: the program ends with 0, 1, 2 or 130 as it should, data on stdout, everything else on stderr.
local espq = require "espq"
local lfs = require "lfs"

local program = os.getenv "ESPQ" or "build/espq"

local folder
setup(function()
   espq.verbose = 0
   folder = os.tmpname()
   os.remove(folder)
   lfs.mkdir(folder)
   espq.graph {
      inputs = { x = { 1, 2 } }, outputs = { "y" },
      nodes = { { type = "Gemm", name = "dense", inputs = { "x", espq.tensor { { 1.0, 0.5 }, { -0.5, 0.25 } } }, outputs = { "y" } } },
   }:save_onnx(folder .. "/m.onnx")
   espq.randn({ 8, 2 }, { seed = 1 }):save(folder .. "/calib.npy")
end)
teardown(function()
   for name in lfs.dir(folder) do
      if name ~= "." and name ~= ".." then os.remove(folder .. "/" .. name) end
   end
   lfs.rmdir(folder)
end)

local function read(name)
   local file = io.open(folder .. "/" .. name, "rb")
   if not file then return "" end
   local text = file:read "a"
   file:close()
   return text
end

-- Exit code, stdout, stderr.
local function run(arguments)
   local _, _, code = os.execute(("cd '%s' && '%s' %s >stdout 2>stderr </dev/null"):format(folder, lfs.currentdir() .. "/" .. program, arguments))
   return code, read "stdout", read "stderr"
end
if program:sub(1, 1) == "/" then
   function run(arguments)
      local _, _, code = os.execute(("cd '%s' && '%s' %s >stdout 2>stderr </dev/null"):format(folder, program, arguments))
      return code, read "stdout", read "stderr"
   end
end

local function write(name, text)
   local file = assert(io.open(folder .. "/" .. name, "w"))
   file:write(text)
   file:close()
end

describe("the program", function()
   it("runs a script with its arguments", function()
      write("s.lua", 'io.write(arg[0], arg[1], arg[2], ...)')
      local code, out = run "s.lua one two"
      assert.equal(0, code)
      assert.equal("s.luaonetwoonetwo", out)
   end)

   it("runs a piece of code with espq in it", function()
      local code, out = run [[-e 'io.write(espq.tensor{1, 2}:sum():item())']]
      assert.equal(0, code)
      assert.equal("3", out)
   end)

   it("ends with 1 and the place when a script fails", function()
      write("bad.lua", '\nrequire("espq").from_npy "nowhere.npy"')
      local code, out, err = run "bad.lua"
      assert.equal(1, code)
      assert.equal("", out)
      assert.matches("nowhere.npy", err, 1, true)
      assert.matches("at bad.lua:2", err, 1, true)
   end)

   it("ends with 2 for wrong usage and names the nearest", function()
      for arguments, hint in pairs { quantise = "quantize", ["--hlep"] = "unknown option", ["quantize m.onnx --calb x"] = "--calib",
            quantize = "usage", [""] = "espq SCRIPT" } do
         local code, out, err = run(arguments)
         assert.equal(2, code)
         assert.equal("", out)
         assert.matches(hint, err, 1, true)
      end
   end)

   it("takes what was typed wrong for wrong usage, with a cure", function()
      for arguments, hint in pairs { ["--target esp32p5"] = "espq targets", ["--bits 4"] = "8 and 16", ["--set equalizaton=true"] = "'equalization'",
            ["--set equalization=ja"] = "true or false" } do
         local code, _, err = run("quantize m.onnx --calib calib.npy -o wrong.espdl " .. arguments)
         assert.equal(2, code)
         assert.matches(hint, err, 1, true)
      end
      assert.equal(2, (run "check m.onnx --target esp32p5"))
   end)

   it("says that data are not there, whatever else was asked", function()
      local code, _, err = run "quantize m.onnx --calib nowhere --size 200 -o wrong.espdl"
      assert.equal(1, code)
      assert.matches("nowhere: there is no file and no folder", err, 1, true)
   end)

   it("leaves a file beside the model alone that is the user's own", function()
      write("m.json", "mine")
      local code, _, err = run "quantize m.onnx --calib calib.npy --no-report"
      assert.equal(1, code)
      assert.matches("m.json: the export would overwrite", err, 1, true)
      assert.equal("mine", read "m.json")
      os.remove(folder .. "/m.json")
      assert.equal(0, (run "quantize m.onnx --calib calib.npy --no-report"))
      assert.equal(0, (run "quantize m.onnx --calib calib.npy --no-report"))
   end)

   it("lists what there is, as text and as JSON", function()
      local json = require "espq.json"
      for _, name in ipairs { "ops", "passes", "targets", "settings" } do
         local code, out = run(name)
         assert.equal(0, code)
         assert.is_nil(out:find("\27", 1, true))
         code, out = run(name .. " --json")
         assert.equal(0, code)
         assert.is_true(#json.decode(out) > 5)
      end
   end)

   it("lists among the settings each one that switches a pass on", function()
      local json = require "espq.json"
      local _, passes = run "passes --json"
      local _, settings = run "settings"
      for _, pass in ipairs(json.decode(passes)) do
         local setting = pass.when:match "^[%w_.]+"
         if setting ~= "always" then assert.is_truthy(settings:find("\n" .. setting .. " ", 1, true), pass.name .. ": " .. pass.when) end
      end
   end)

   it("quantizes, and judges by a rule", function()
      local code, out = run "quantize m.onnx --calib calib.npy -o q.espdl --require 'snr<0.5'"
      assert.equal(0, code)
      assert.matches("written: q.espdl", out, 1, true)
      code = run "quantize m.onnx --calib calib.npy -o q.espdl --require 'snr<1e-9'"
      assert.equal(1, code)
      assert.equal(0, (run "info q.espdl"))
      assert.equal(0, (run "verify q.espdl"))
      code, out = run "dump q.espdl"
      assert.equal(0, code)
      assert.matches("Gemm", out, 1, true)
   end)

   it("makes the folder of its output", function()
      local code = run "quantize m.onnx --calib calib.npy --no-report -o deep/er/q.espdl"
      assert.equal(0, code)
      os.execute(("rm -r '%s/deep'"):format(folder))
   end)

   it("rehearses without data", function()
      local code, out = run "check m.onnx"
      assert.equal(0, code)
      assert.matches("nothing stands in the way", out, 1, true)
   end)

   it("prints a model behind any pass", function()
      local code, out = run "dump m.onnx --after parameters"
      assert.equal(0, code)
      assert.matches("dense", out, 1, true)
      local wrong, _, err = run "dump m.onnx --after paramters"
      assert.equal(2, wrong)
      assert.matches("did you mean 'parameters'", err, 1, true)
   end)

   it("is stopped by Ctrl-C within a second", function()
      local started = os.time()
      local _, _, code = os.execute(("'%s' -e 'io.popen(\"kill -INT $PPID\"):close() while true do end' 2>/dev/null; exit $?"):format(
         program:sub(1, 1) == "/" and program or lfs.currentdir() .. "/" .. program))
      assert.equal(130, code)
      assert.is_true(os.time() - started <= 2)
   end)
end)
