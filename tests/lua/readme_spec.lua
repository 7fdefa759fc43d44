-- Promise: every block of README.md that is code runs as it stands, in the order in which a reader meets them.
local program = require "lua.program"
local lfs = require "lfs"

local function blocks(language)
   local list = {}
   for found, body in program.read("README.md"):gmatch "\n```(%a+)\n(.-\n)```" do
      if found == language then list[#list + 1] = body end
   end
   return list
end

-- The one block with this text in it. What takes a minute is made small by replacements: text to text.
local function block(language, words, replacements)
   local found
   for _, body in ipairs(blocks(language)) do
      if body:find(words, 1, true) then
         assert(not found, "two blocks have: " .. words)
         found = body
      end
   end
   assert(found, "no block has: " .. words)
   for from, to in pairs(replacements or {}) do
      local at, till = found:find(from, 1, true)
      assert(at, "the block has no: " .. from)
      found = found:sub(1, at - 1) .. to .. found:sub(till + 1)
   end
   return found
end

describe("a block of README", function()
   local folder
   before_each(function()
      folder = program.folder()
      assert(lfs.link(lfs.currentdir() .. "/samples", folder .. "/samples", true))
      program.write(folder .. "/top1.lua", block("lua", "return 100 * metric:value()"))
   end)
   after_each(function() program.remove(folder) end)

   local function runs(script)
      program.write(folder .. "/script.lua", script)
      local code, out, err = program.run(folder, "@ script.lua")
      assert.equal(0, code, err)
      return out
   end

   it("in shell runs, line by line; only a board's log is not there", function()
      for _, body in ipairs(blocks "sh") do
         for line in body:gmatch "espq [^\n]*" do
            if line:find("^espq diff a%.") then
               for _, name in ipairs { "a", "b" } do program.write(("%s/%s.espdl"):format(folder, name), program.read(folder .. "/out/digits.espdl")) end
            end
            if not line:find "serial%.txt" and not body:find("LUA_PATH", 1, true) then
               local code, out, err = program.run(folder, (line:gsub("^espq ", "@ "):gsub("%s+#.*$", "")))
               assert.equal(0, code, line .. "\n" .. out .. err)
            end
         end
      end
   end)

   it("about scripts quantizes, judges, and runs in integers", function()
      local out = runs(block("lua", 'print(("accuracy', nil) .. block("lua", 'mode = "integer" })    --'))
      assert.matches("accuracy 9[%d.]+ %%", out)
      assert.matches("dtype=int8", out)
   end)

   it("about settings and recovery prints what differs", function()
      local out = runs(block("lua", 'calib_algorithm = "mse"  ') .. block("lua", "bits16_budget") .. "print(setting)")
      assert.matches("recover_setting.bits16_budget = 0.05", out, 1, true)
   end)

   it("about searching finds candidates, and can be made a page", function()
      assert.matches("out/search/000[01]", runs(block("lua", "auto_quantize_onnx", { ["seconds = 600"] = "trials = 2" })))
      assert.equal(0, (program.run(folder, "@ report out/search -o report.html")))
   end)

   it("about training trains", function()
      assert.matches("out/trained.espdl", runs(block("lua", "espq.qat {", { ["epochs = 5"] = "epochs = 1" })))
   end)
end)
