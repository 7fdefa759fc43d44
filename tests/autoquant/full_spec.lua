-- Promise: a disk that is full ends the search with clear words, and what was recorded before can be resumed.
local espq = require "espq"
local program = require "lua.program"
local small = require "autoquant.small"

describe("a full disk", function()
   it("ends the search at each write of a trial, and nothing is lost or recorded twice", function()
      espq.verbose = 0
      local folder = small.folder()
      finally(function() program.remove(folder) end)
      -- ulimit -f: no file may grow beyond so many blocks of 512 bytes. The files of a trial have 3 to 9 of them, the journal grows.
      program.write(folder .. "/s.lua", [[
package.path = "./tests/?.lua;" .. package.path
local small = require "autoquant.small"
local setting = small.setting(arg[1], { resume = arg[2] == "resume", share = false })
setting.param_space.weight_equalization.iterations = { 1, 2, 3 }
small.search(arg[1], setting, function(graph) return graph:node("one").output_config[1].exponent, {} end)
]])
      local command = ("'%s' '%s/s.lua' '%s'"):format(program.path, folder, folder)
      for blocks = 1, 24 do
         local resume = program.read(folder .. "/run/journal.index") and "resume" or "fresh"
         local _, how, code = os.execute(("trap '' XFSZ; ulimit -f %d; %s %s 2>'%s/err'"):format(blocks, command, resume, folder))
         assert.equal("exit", how)
         if code ~= 0 then assert.matches("large", program.read(folder .. "/err"), 1, true) end
      end
      assert.is_true(os.execute(command .. " resume >/dev/null 2>&1"))
      local seen = {}
      for i, record in ipairs(small.list(folder .. "/run/summary.json")) do
         assert.same({ i - 1, "done" }, { record.index, record.status })
         assert.is_nil(seen[record.hash])
         seen[record.hash] = true
      end
      assert.equal(8, #small.list(folder .. "/run/summary.json"))
   end)
end)
