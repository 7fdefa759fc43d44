-- Promise: a disk that is full ends the search with clear words, and what was recorded before can be resumed.
local espq = require "espq"
local core = require "espq.core"
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

describe("a write, sync or rename that fails", function()
   -- What a search leaves, without times and numbers of bytes.
   local function left(run)
      local parts = {}
      for _, name in ipairs { "summary.json", "candidates.json" } do parts[#parts + 1] = program.read(run .. "/" .. name):gsub('"seconds": [%d.e-]+', "") end
      for _, name in ipairs(program.names(run)) do
         if name:find "^[%d.]" then parts[#parts + 1] = name .. ": " .. table.concat(program.names(run .. "/" .. name), " ") end
      end
      return table.concat(parts, "\n")
   end

   -- The n-th call from now on fails, counted from 0.
   local function fail_door(kind)
      return function(n)
         core.system.fault(kind, n)
         return function() return core.system.fault() end
      end
   end

   for name, arm in pairs { write = fail_door "write", sync = fail_door "sync", rename = fail_door "rename" } do
      it("costs nothing that was recorded: every " .. name .. " of a search, one after another", function()
         espq.verbose = 0
         local folder = small.folder()
         finally(function() program.remove(folder) end)
         local setting = small.setting(folder, { num_of_candidates = 2 })
         setting.param_space.calib_algorithm.method = { "minmax" }
         local function search(resume)
            setting.resume = resume
            return pcall(small.search, folder, setting, function(graph) return graph:node("one").output_config[1].exponent, {} end)
         end
         assert(search(false))
         local clean, failures, reached, n = left(folder .. "/run"), 0, true, 0
         while reached do
            os.execute(("rm -rf '%s/run'"):format(folder))
            local disarm = arm(n)
            local done, err = search(false)
            reached = disarm()
            if not done then
               failures = failures + 1
               assert.equal("file", core.error.is_error(err) and err.code or tostring(err))
            end
            local again = program.read(folder .. "/run/journal.index") ~= nil
            assert(search(again))
            assert.equal(clean, left(folder .. "/run"), ("%s %d"):format(name, n))
            n = n + 1
         end
         assert.is_true(failures > 0 and n > 2)
      end)
   end

   -- Two aims, candidates judged again, two workers: files that the search above does not write. A fault is armed in the parent and, by the fork, in
   -- each worker, whose own n-th write fails.
   it("costs nothing of what workers, fronts and judges write", function()
      espq.verbose = 0
      local folder = small.folder()
      finally(function() program.remove(folder) end)
      local setting = small.setting(folder, { search_mode = "pareto", num_of_candidates = 2 })
      setting.param_space.calib_algorithm.method = { "minmax" }
      local function search(resume)
         setting.resume = resume
         local function judge(graph) return graph:node("one").output_config[1].exponent, {} end
         return pcall(small.search, folder, setting, judge, { evaluate_fast = judge, workers = 2 })
      end
      local function all()
         local run = folder .. "/run/"
         return (left(folder .. "/run") .. program.read(run .. "pareto.json") .. program.read(run .. "judged.json")):gsub('"seconds": [%d.e-]+', "")
      end
      assert(search(false))
      local clean, failures, passed, n = all(), 0, 0, 0
      while passed < 3 do                                               -- behind the last write of all processes
         os.execute(("rm -rf '%s/run'"):format(folder))
         core.system.fault("write", n)
         local done, err = search(false)
         local reached = core.system.fault()
         if not done then
            failures = failures + 1
            assert.equal("file", core.error.is_error(err) and err.code or tostring(err))
         end
         passed = done and not reached and passed + 1 or 0
         assert(search(program.read(folder .. "/run/journal.index") ~= nil))
         assert.equal(clean, all(), ("write %d"):format(n))
         n = n + 1
      end
      assert.is_true(failures > 10)
   end)
end)
