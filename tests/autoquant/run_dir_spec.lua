-- Promise: nothing that was tried is lost: not by a stop, a kill, a full or locked folder, or a file that somebody cut.
local espq = require "espq"
local core = require "espq.core"
local lfs = require "lfs"
local program = require "lua.program"
local small = require "autoquant.small"

local folder

before_each(function()
   espq.verbose = 0
   folder = small.folder()
end)
after_each(function()
   os.execute(("chmod -R u+w '%s'"):format(folder))
   program.remove(folder)
end)

local function score(graph) return graph:node("one").output_config[1].exponent, {} end

local function search(fields, evaluate_fn)
   local setting = small.setting(folder, fields)
   return small.search(folder, setting, evaluate_fn or score)
end

local function summary() return small.list(folder .. "/run/summary.json") end

local function hashes()
   local list = {}
   for i, record in ipairs(summary()) do list[i] = record.hash end
   return list
end

local function candidates()
   local list = {}
   for i, record in ipairs(small.list(folder .. "/run/candidates.json")) do list[i] = record.index end
   return list
end

describe("resuming", function()
   it("runs only what is missing, and ends with the same lists", function()
      search()
      local whole, best = hashes(), candidates()
      search { budget = { trials = 2 } }
      local asked = 0
      search({ resume = true, share = false }, function(graph)
         asked = asked + 1
         return score(graph)
      end)
      assert.equal(2, asked)
      assert.same(whole, hashes())
      assert.same(best, candidates())
      assert.same({ 0, 1, 2, 3 }, (function()
         local list = {}
         for i, record in ipairs(summary()) do list[i] = record.index end
         return list
      end)())
   end)

   it("writes a summary anew that was cut in the middle, or is gone", function()
      search()
      local whole = program.read(folder .. "/run/summary.json")
      program.write(folder .. "/run/summary.json", whole:sub(1, #whole // 2))
      search { resume = true }
      assert.equal(whole, program.read(folder .. "/run/summary.json"))
      os.remove(folder .. "/run/summary.json")
      os.remove(folder .. "/run/candidates.json")
      search { resume = true }
      assert.equal(whole, program.read(folder .. "/run/summary.json"))
      assert.equal(4, #small.list(folder .. "/run/candidates.json"))
   end)

   it("goes on from a folder of the reference, which has no journal", function()
      search { budget = { trials = 3 } }
      os.remove(folder .. "/run/journal.index")
      os.remove(folder .. "/run/journal.records")
      local asked = 0
      search({ resume = true, share = false }, function(graph)
         asked = asked + 1
         return score(graph)
      end)
      assert.same({ 1, 4 }, { asked, #summary() })
   end)

   it("without a journal says what is wrong with the files, before anything is touched", function()
      local cases = {
         { nil, nil, "are missing" }, { "[]", nil, "candidates.json is missing" }, { "[", "[]", "no JSON" },
         { "[1]", "[]", "no object" }, { "{\"a\": 1}", "[]", "not a list" }, { '[{"hash": "ab", "index": 0, "score": 1}]', "[]", "one is empty" },
         { '[{"hash": "ab", "index": 0}]', '[{"index": 0}]', "without a score" },
      }
      for _, case in ipairs(cases) do
         program.remove(folder .. "/run")
         if case[1] then
            lfs.mkdir(folder .. "/run")
            program.write(folder .. "/run/summary.json", case[1])
            if case[2] then program.write(folder .. "/run/candidates.json", case[2]) end
         end
         local err = assert.error(function() search { resume = true } end)
         assert.matches(case[3], tostring(err), 1, true)
         assert.equal(case[1], program.read(folder .. "/run/summary.json"))
      end
   end)

   it("is refused when its trials could not be compared with those that are there", function()
      search()
      local before = small.contents(folder .. "/run")
      local cases = {
         { {}, { target = "esp32p4" }, 'made with target = "esp32s3", this search has "esp32p4"' },
         { { score_direction = "minimize" }, {}, 'made with score_direction = "maximize", this search has "minimize"' },
         { {}, { calib_steps = 2 }, "made with calib_steps = 4, this search has 2" },
      }
      for _, case in ipairs(cases) do
         case[1].resume = true
         local err = assert.error(function() small.search(folder, small.setting(folder, case[1]), score, case[2]) end)
         assert.matches(case[3], tostring(err), 1, true)
         assert.equal(before, small.contents(folder .. "/run"))
      end
   end)

   it("asks another filter about the old trials, too", function()
      search { num_of_candidates = 2 }
      local top = small.search(folder, small.setting(folder, {
         num_of_candidates = 4, resume = true, candidate_filter = function(record) return record.strategy.weight_equalization end }), score)
      local equalized = 0
      for _, record in ipairs(top) do
         if record.strategy.weight_equalization then equalized = equalized + 1 end
      end
      assert.same({ 4, 2 }, { #top, equalized })
   end)
end)

describe("a machine that stops", function()
   local index = "/run/journal.index"

   it("costs the trials that were not on the disk for good, and no other", function()
      search()
      local whole, best = hashes(), candidates()
      local before = program.read(folder .. "/run/0001/out.espdl")
      -- durable 2 stands behind the line of the second trial
      local text = program.read(folder .. index):gsub("boot %S+", "boot another"):gsub("durable 4\n", "")
      local lines = 0
      text = text:gsub("[^\n]*\n", function(line)
         if line:find "^%x+ %d+ %a+ " then lines = lines + 1 end
         return lines == 2 and line:find "^%x+ " and line .. "durable 2\n" or nil
      end)
      program.write(folder .. index, text)
      program.write(folder .. "/run/0002/out.espdl", "")
      local asked = 0
      search({ resume = true, share = false }, function(graph)
         asked = asked + 1
         return score(graph)
      end)
      assert.same({ 2, whole, best }, { asked, hashes(), candidates() })
      assert.equal(before, program.read(folder .. "/run/0001/out.espdl"))
      assert.is_true(#program.read(folder .. "/run/0002/out.espdl") > 0)
      search({ resume = true }, function() error "nothing is left to do" end)
   end)

   it("costs nothing of a search that has ended, and a killed process nothing at all", function()
      search()
      local text = program.read(folder .. index)
      assert.matches("durable 4\n", text, 1, true)
      program.write(folder .. index, (text:gsub("boot %S+", "boot another")))
      search({ resume = true }, function() error "nothing is left to do" end)
      program.write(folder .. index, (text:gsub("durable 4\n", "")))
      search({ resume = true }, function() error "nothing is left to do" end)
      assert.equal(4, #summary())
   end)

   it("costs trials that a worker had finished before their turn", function()
      search { budget = { trials = 1 } }
      local hash = hashes()[1]
      local ahead = folder .. "/run/.ahead-" .. hash
      for content, case in pairs { ["empt"] = 1, ["empty"] = 0 } do
         program.remove(folder .. "/run/journal.index")
         program.write(folder .. "/run/summary.json", "[]")
         program.write(folder .. "/run/candidates.json", "[]")
         lfs.mkdir(ahead)
         program.write(ahead .. "/out.espdl", content)
         program.write(ahead .. "/record.json", '{"status": "done", "score": 5.5, "sizes": {"out.espdl": 5}}')
         local asked = 0
         small.search(folder, small.setting(folder, { resume = true, share = false, budget = { trials = 1 } }), function()
            core.base.write(folder .. "/asked", "")
            return 7, {}
         end, { workers = 2 })
         if os.remove(folder .. "/asked") then asked = 1 end
         assert.equal(case, asked)
         assert.equal(case == 1 and 7 or 5.5, summary()[1].score)
      end
   end)
end)

describe("a fresh search", function()
   it("removes the trials of the last one and nothing else", function()
      search()
      program.write(folder .. "/run/notes.txt", "mine")
      lfs.mkdir(folder .. "/run/old")
      search { budget = { trials = 1 } }
      assert.same({ "0000", "candidates.json", "inputs.npz", "journal.index", "journal.records", "lock", "notes.txt", "old", "summary.json" },
                  program.names(folder .. "/run"))
   end)
end)

-- The same search as a script, to be killed.
local script = [[
package.path = "./tests/?.lua;" .. package.path
local espq = require "espq"
local small = require "autoquant.small"
local folder, resume = arg[1], arg[2] == "resume"
local setting = small.setting(folder, { resume = resume, share = false })
setting.param_space.weight_equalization.iterations = { 1, 2, 3 }
small.search(folder, setting, function(graph)
   local stop = os.clock() + (tonumber(arg[3]) or 0)
   while os.clock() < stop do end
   return graph:node("one").output_config[1].exponent, {}
end)
]]

describe("a run directory", function()
   it("that another search holds says who does", function()
      local nested
      search({ share = false }, function(graph)
         nested = nested or tostring(assert.error(function() search() end))
         return score(graph)
      end)
      assert.matches("another search holds this folder: process %d+ on ", nested)
      assert.equal(4, #summary())
   end)

   it("that cannot be written says so at once, and stays as it is", function()
      program.write(folder .. "/s.lua", script)
      search { budget = { trials = 2 } }
      local before = small.contents(folder .. "/run")
      os.execute(("chmod -R a-w,a+rX '%s' && chmod a+rx '%s'"):format(folder .. "/run", folder))
      -- Root may write anywhere: it becomes nobody for this.
      local pipe = io.popen "id -u"
      local as_nobody = pipe:read "l" == "0" and "setpriv --reuid=65534 --regid=65534 --clear-groups " or ""
      pipe:close()
      if not os.execute(as_nobody .. ("'%s' --version >/dev/null 2>&1"):format(program.path)) then pending "nobody may not run espq here" return end
      for _, how in ipairs { "fresh", "resume" } do
         local pipe_of = io.popen(("%s'%s' '%s/s.lua' '%s' %s 2>&1"):format(as_nobody, program.path, folder, folder, how))
         local text = pipe_of:read "a"
         assert.is_falsy(pipe_of:close())
         assert.matches("cannot lock the folder: Permission denied; check the permissions of the folder", text, 1, true)
         assert.equal(before, small.contents(folder .. "/run"))
      end
   end)

   it("has no failed trials when the data cannot be read: the search ends", function()
      local setting = small.setting(folder)
      local err = assert.error(function()
         small.search(folder, setting, score, { calib_dataloader = function()
            return function() error "picture 3 is gone" end
         end })
      end)
      assert.matches("picture 3 is gone", tostring(err), 1, true)
      assert.same({}, summary())
   end)
end)

describe("a search that is", function()
   local function start(extra) return ("'%s' '%s/s.lua' '%s' %s"):format(program.path, folder, folder, extra) end

   it("killed loses no trial and records none twice", function()
      program.write(folder .. "/s.lua", script)
      for _, delay in ipairs { "0.2", "0.35", "0.3" } do
         local resume = program.read(folder .. "/run/journal.index") and "resume" or "fresh"
         os.execute(("%s 0.1 >/dev/null 2>&1 & pid=$!; sleep %s; kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null"):format(start(resume), delay))
      end
      local resume = program.read(folder .. "/run/journal.index") and "resume" or "fresh"
      assert.is_true(os.execute(start(resume) .. " >/dev/null 2>&1"))
      local seen = {}
      for i, record in ipairs(summary()) do
         assert.equal(i - 1, record.index)
         assert.is_nil(seen[record.hash])
         seen[record.hash] = true
         assert.is_truthy(program.read(("%s/run/%04d/out.espdl"):format(folder, i - 1)))
      end
      assert.equal(8, #summary())
   end)

   it("interrupted has everything on disk, and exits with 130", function()
      program.write(folder .. "/s.lua", script)
      local _, _, code = os.execute(("%s 0.2 >/dev/null 2>&1 & pid=$!; sleep 0.7; kill -INT $pid; wait $pid"):format(start "fresh"))
      assert.equal(130, code)
      local list = summary()
      assert.is_true(#list < 8)
      assert.equal(#list, #candidates())
      assert.is_true(os.execute(start("resume") .. " >/dev/null 2>&1"))
      assert.equal(8, #summary())
   end)
end)
