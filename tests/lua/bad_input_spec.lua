-- Promise: whatever the user's files, data and disk are like, the program says what is wrong, where and what to do, ends with 1 (130 for
-- Ctrl-C), never by a signal, writes nothing but data to stdout, and leaves no half-written file.
local espq = require "espq"
local lfs = require "lfs"
local program = require "lua.program"

local folder
local slow = os.getenv "ESPQ_SANITIZED" and 10 or 1

local function network()
   return espq.graph {
      name = "net", inputs = { x = { 1, 2, 6, 6 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "conv", inputs = { "x", espq.randn({ 4, 2, 3, 3 }, { seed = 1 }), espq.randn({ 4 }, { seed = 2 }) },
            outputs = { "c" }, attributes = { pads = { 1, 1, 1, 1 } } },
         { type = "Relu", name = "relu", inputs = { "c" }, outputs = { "r" } },
         { type = "Conv", name = "depth", inputs = { "r", espq.randn({ 4, 1, 3, 3 }, { seed = 3 }) }, outputs = { "d" },
            attributes = { pads = { 1, 1, 1, 1 }, group = 4 } },
         { type = "Add", name = "add", inputs = { "r", "d" }, outputs = { "a" } },
         { type = "AveragePool", name = "pool", inputs = { "a" }, outputs = { "p" }, attributes = { kernel_shape = { 2, 2 }, strides = { 2, 2 } } },
         { type = "Flatten", name = "flat", inputs = { "p" }, outputs = { "f" } },
         { type = "Gemm", name = "dense", inputs = { "f", espq.randn({ 36, 3 }, { seed = 4 }) }, outputs = { "y" } },
      },
   }
end

setup(function()
   espq.verbose = 0
   folder = program.folder()
   network():save_onnx(folder .. "/m.onnx")
   espq.randn({ 8, 2, 6, 6 }, { seed = 1 }):save(folder .. "/calib.npy")
end)
teardown(function() program.remove(folder) end)

local function run(line) return program.run(folder, line) end

-- Fails with 1, one message with all these words, nothing on stdout and no new file.
local function refuses(line, ...)
   local before = table.concat(program.names(folder), " ")
   local code, out, err = run(line)
   assert.equal(1, code, err)
   assert.equal("", out)
   for _, word in ipairs { ... } do assert.matches(word, err, 1, true) end
   assert.equal(before, table.concat(program.names(folder), " "))
   return err
end

describe("a damaged model", function()
   -- One process walks many models: it must come to its end. Each is imported, and where that goes well quantized and exported.
   local walk = [[
      local espq = require "espq"
      espq.verbose = 0
      local file = assert(io.open("m.onnx", "rb"))
      local whole = file:read "a"
      file:close()
      local state = 1
      local function random(below)   -- below 2^16; 0 … below - 1
         state = state * 1103515245 + 12345 & 0x7fffffff
         return (state >> 15) * below >> 16
      end
      local slowest = 0
      local function try(what, bytes)
         file = assert(io.open("bad.onnx", "wb"))
         file:write(bytes)
         file:close()
         local started = os.clock()
         local fine, err = pcall(espq.quantize_onnx, { onnx_import_file = "bad.onnx", espdl_export_file = "bad.espdl", calib_dataloader = "random",
            calib_steps = 2, error_report = false, test_values = "simulated" })
         slowest = math.max(slowest, os.clock() - started)
         if not fine and (not err.what or err.what == "" or err.code == "internal" or err.code == "memory" or not (err.where or err.cure)) then
            print(what, err.code, err)
         end
      end
   ]]
   local function walks(script)
      program.write(folder .. "/walk.lua", walk .. script .. "\nif slowest > " .. 2 * slow .. " then print('slow', slowest) end")
      local code, out, err = run "@ walk.lua"
      assert.equal(0, code, err)
      assert.equal("", out)
      for _, name in ipairs { "bad.onnx", "bad.espdl", "bad.json", "bad.info", "walk.lua" } do os.remove(folder .. "/" .. name) end
   end

   it("cut short anywhere is refused", function() walks [[
      for length = 0, #whole - 1, 13 do try("cut at " .. length, whole:sub(1, length)) end
   ]] end)

   it("with a changed byte is refused or works", function() walks [[
      for i = 1, 200 do
         local at = random(#whole)
         try("mutation " .. i, whole:sub(1, at) .. string.char(random(256)) .. whole:sub(at + 2))
      end
   ]] end)

   it("that is empty, text or a folder is refused", function()
      program.write(folder .. "/empty.onnx", "")
      program.write(folder .. "/text.onnx", "version https://git-lfs.github.com/spec/v1\n")
      for _, name in ipairs { "empty.onnx", "text.onnx", ".", "nowhere.onnx" } do
         refuses(("@ quantize %s --calib calib.npy -o q.espdl"):format(name), name)
      end
   end)

   it("of 54 KB of nested graphs is refused by the operator's name", function()
      -- protobuf by hand: field number and wire type 2, length, bytes
      local function field(number, bytes)
         local length, head = #bytes, string.char(number << 3 | 2)
         repeat
            head = head .. string.char(length & 127 | (length > 127 and 128 or 0))
            length = length >> 7
         until length == 0
         return head .. bytes
      end
      local graph = ""
      for _ = 1, 2800 do
         local attribute = field(1, "b") .. field(6, graph) .. string.char(0xa0, 1, 5)   -- type GRAPH
         graph = field(1, field(1, "c") .. field(2, "y") .. field(4, "If") .. field(5, attribute))
      end
      assert.is_true(#graph > 54000)
      local opset = field(8, string.char(0x10, 13))
      program.write(folder .. "/nested.onnx", string.char(8, 8) .. opset .. field(7, graph))
      refuses("@ quantize nested.onnx --calib random -o q.espdl", "If", "nested.onnx")
   end)
end)

describe("calibration data", function()
   local function with(data, ...)
      program.write(folder .. "/data.lua", ([[
         local espq = require "espq"
         espq.verbose = 0
         local ones = espq.full({ 1, 2, 6, 6 }, 1.0)
         espq.quantize_onnx { onnx_import_file = "m.onnx", espdl_export_file = "q.espdl", calib_dataloader = %s, calib_steps = 4 }
      ]]):format(data))
      refuses("@ data.lua", ...)
   end

   local function broken(number)
      return ([[(function()
         local numbers = {}
         for i = 1, 72 do numbers[i] = i == 44 and %s or 0.5 end
         return { ones, espq.tensor(numbers):reshape { 1, 2, 6, 6 } }
      end)()]]):format(number)
   end

   it("that are no numbers are named by sample, input and index", function()
      with(broken "0 / 0", "NaN", "sample 1", "input x", "[1, 1, 1]")
      with(broken "1 / 0", "infinite", "sample 1", "input x", "[1, 1, 1]")
   end)

   for _, case in ipairs {
      { "nothing at all", "{}", "no samples" },
      { "the wrong sizes", "{ espq.zeros { 1, 3, 6, 6 } }", "[1, 3, 6, 6]", "[1, 2, 6, 6]" },
      { "the wrong rank", "{ espq.zeros { 2, 6, 6 } }", "rank 3", "rank 4" },
      { "texts", '{ "picture.png" }', "batch 1", "string" },
      { "a function that returns nothing", "function() end", "iterator" },
      { "another input's name", "{ { xs = ones } }", "'xs'", "did you mean 'x'" },
      { "an error of the script", 'function() error "mine" end', "mine", "data.lua:4" },
      { "integers", '{ espq.zeros({ 1, 2, 6, 6 }, "int32") }', "int32" },
   } do
      it("that give " .. case[1] .. " are refused", function() with(table.unpack(case, 2)) end)
   end

   it("in a damaged .npy file are refused, cut anywhere", function()
      local whole = program.read(folder .. "/calib.npy")
      for _, length in ipairs { 0, 5, 9, 60, 127, 129, #whole - 1 } do
         program.write(folder .. "/bad.npy", whole:sub(1, length))
         refuses("@ quantize m.onnx --calib bad.npy -o q.espdl", "bad.npy")
      end
   end)
end)

describe("the place of the output", function()
   it("below a file is refused", function()
      refuses("@ quantize m.onnx --calib calib.npy --no-report -o calib.npy/q.espdl", "calib.npy", "choose another folder")
   end)

   it("that is the model's is refused, by any path", function()
      local before = program.read(folder .. "/m.onnx")
      refuses("@ quantize m.onnx --calib calib.npy -o ./m.onnx", "overwrite", "another name")
      lfs.link("m.onnx", folder .. "/link.onnx", true)
      refuses("@ quantize m.onnx --calib calib.npy -o link.onnx", "overwrite")
      assert.is_true(before == program.read(folder .. "/m.onnx"))
   end)

   it("that may not be written to is refused", function()
      lfs.mkdir(folder .. "/closed")
      os.execute(("chmod 555 '%s/closed'"):format(folder))
      finally(function() os.execute(("chmod 755 '%s/closed'"):format(folder)) end)
      if io.open(folder .. "/closed/probe", "w") then
         os.remove(folder .. "/closed/probe")
         return pending "this user may write anywhere"
      end
      refuses("@ quantize m.onnx --calib calib.npy --no-report -o closed/q.espdl", "closed", "permission")
   end)

   it("on a full disk is refused, and nothing half-written stays", function()
      lfs.mkdir(folder .. "/small")
      if not os.execute(("mount -t tmpfs -o size=8k tmpfs '%s/small' 2>/dev/null"):format(folder)) then
         return pending "mounting a small disk is not allowed here"
      end
      finally(function() os.execute(("umount '%s/small'"):format(folder)) end)
      refuses("@ quantize m.onnx --calib calib.npy --no-report -o small/q.espdl", "small/q.", "No space left", "free some space")
      assert.same({}, program.names(folder .. "/small"))
   end)
end)

describe("Ctrl-C", function()
   local function script(loader, more)
      program.write(folder .. "/stop.lua", ([[
         local espq = require "espq"
         espq.verbose = 0
         local function interrupt() io.popen("kill -INT $PPID"):close() end
         local ones, count = espq.full({ 1, 2, 6, 6 }, 1.0), 0
         %s
         espq.quantize_onnx { onnx_import_file = "m.onnx", espdl_export_file = "stopped.espdl", calib_steps = 50, error_report = false,
            calib_dataloader = %s }
         print "went on"
      ]]):format(more or "", loader))
      local started = os.time()
      local code, out, err = run "@ stop.lua"
      assert.equal(130, code, err)
      assert.equal("", out)
      assert.matches("interrupted", err, 1, true)
      assert.is_true(os.time() - started <= slow)
      os.remove(folder .. "/stop.lua")
   end

   it("in the middle of calibration ends it with 130 and no files", function()
      local before = program.names(folder)
      script [[function() return function()
         count = count + 1
         if count == 20 then interrupt() end
         return ones
      end end]]
      assert.same(before, program.names(folder))
   end)

   it("before the export ends it with 130 and no files", function()
      local before = program.names(folder)
      script("{ ones }", [[espq.pass { name = "stop", after = "passive", run = interrupt }]])
      assert.same(before, program.names(folder))
   end)

   -- At any moment: the old files are whole, or the new ones are, and nothing else is there.
   it("at any moment leaves the old files or the new ones", function()
      local line = "@ quantize m.onnx --calib calib.npy --no-report -o k.espdl --set quantize_activation_setting.calib_algorithm="
      local function files()
         return (program.read(folder .. "/k.espdl") or "") .. (program.read(folder .. "/k.info") or "") .. (program.read(folder .. "/k.json") or "")
      end
      assert.equal(0, (run(line .. "kl")))
      local new = files()
      assert.equal(0, (run(line .. "minmax")))
      local old, names = files(), program.names(folder)
      assert.is_false(old == new)
      local stopped = 0
      for i = 0, 24 do
         local code, _, err = run(("timeout --preserve-status -s INT %.3f %skl"):format((4 + i * 3) / 1000 * slow, line))
         assert.is_true(code == 0 or code == 130, err)
         local now = files()   -- a signal may come when all is written and the program has not ended yet
         assert.is_true(now == new or now == old and code == 130)
         if code == 130 then stopped = stopped + 1 end
         if now == new then run(line .. "minmax") end
         assert.same(names, program.names(folder))
      end
      assert.is_true(stopped > 0)
      for _, name in ipairs { "k.espdl", "k.info", "k.json" } do os.remove(folder .. "/" .. name) end
   end)

   it("leaves nothing behind when the terminal is closed or the process is ended instead", function()
      local before = program.names(folder)
      for signal, number in pairs { HUP = 1, TERM = 15 } do
         for i = 1, 4 do
            local code = run(("timeout --preserve-status -s %s %.3f @ quantize m.onnx --calib calib.npy --no-report -o k.espdl"):format(signal,
               i * slow * 8 / 1000))
            assert.is_true(code == 128 + number or code == 0, code)
            for _, name in ipairs { "k.espdl", "k.info", "k.json" } do os.remove(folder .. "/" .. name) end
            assert.same(before, program.names(folder))
         end
      end
   end)
end)

describe("what is printed", function()
   -- 40 columns, no colours, no terminal: reports are the same lines, whole and without control codes.
   it("is the same in a pipe, on a dumb terminal and in 40 columns", function()
      local line = "@ quantize m.onnx --calib calib.npy -o p.espdl"
      local first
      for _, environment in ipairs { "TERM=dumb", "NO_COLOR=1 TERM=xterm", "COLUMNS=40 TERM=xterm", "LC_ALL=C" } do
         local code, out, err = run(("%s %s | cat"):format(environment, line))
         assert.equal(0, code)
         assert.is_nil(out:find "[\27\r\b]", environment)
         assert.is_nil(err:find "[\27\r\b]", environment)
         assert.matches("dense", out, 1, true)
         first = first or out
         assert.equal(first, out)
      end
      assert.matches("written: p.espdl", first, 1, true)
   end)

   it("ends quietly when its reader has gone", function()
      local code, _, err = run "@ ops | head -n 1"
      assert.equal(0, code)
      assert.equal("", err)
   end)

   it("is missed when it cannot be written", function()
      if not io.open "/dev/full" then return pending "there is no /dev/full" end
      local code, _, err = run "{ @ ops >/dev/full ; }"
      assert.equal(1, code)
      assert.matches("all of the output", err, 1, true)
   end)

   it("is JSON alone where JSON is asked for", function()
      local code, out = run "@ quantize m.onnx --calib calib.npy -o p.espdl --json"
      assert.equal(0, code)
      assert.is_table(require "espq.json".decode(out))
   end)
end)
