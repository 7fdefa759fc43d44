-- Promise: with --json stdout holds the events of a search, one object a line with the documented fields, and nothing else.
local espq = require "espq"
local program = require "lua.program"
local small = require "autoquant.small"

local folder

before_each(function()
   espq.verbose = 0
   folder = small.folder()
end)
after_each(function() program.remove(folder) end)

-- Prints before, in and behind the search, by Lua and by another program; trial 2 fails.
local SCRIPT = [[
package.path = "@/?.lua;" .. package.path
local small = require "autoquant.small"
print "before"
local setting = small.setting("%FOLDER", { resume = arg[1] == "resume", share = false, budget = arg[2] and { trials = tonumber(arg[2]) } })
local count = 0
small.search("%FOLDER", setting, function()
   print "in a trial"
   io.write "without a line's end"
   os.execute "echo by the shell"
   count = count + 1
   if count == 2 then error "two\nlines, \"quoted\"" end
   return count, {}
end, { workers = %WORKERS })
print "after"
]]

local function run(command, workers)
   program.write(folder .. "/s.lua", (SCRIPT:gsub("@", require("lfs").currentdir() .. "/tests"):gsub("%%FOLDER", folder):gsub("%%WORKERS", workers)))
   local code, out, err = program.run(folder, command)
   local events = {}
   for line in out:gmatch "[^\n]+" do
      local read, event = pcall(espq.json.decode, line)
      events[#events + 1] = read and event or line
   end
   return code, events, err
end

local fields = {
   begin = { run_dir = "string", mode = "string", recorded = "number" },
   trial = { index = "number", hash = "string", status = "string", seconds = "number", left = "number" },
   ["end"] = { complete = "boolean", tried = "number", known = "number", failed = "number", run_dir = "string" },
}

-- All events have what they are documented to have, and nothing else.
local function check_fields(events)
   local _, help = program.run(folder, "@ search --help")
   for i, event in ipairs(events) do
      assert.equal("table", type(event), "no JSON: " .. tostring(event))
      local documented = help:match(('{"event": "%s",([^}]*)}'):format(event.event))
      for name in pairs(event) do assert.is_truthy(name == "event" or documented:find("%f[%w_]" .. name .. "%f[^%w_]"), name) end
      for name, kind in pairs(fields[event.event]) do assert.equal(kind, type(event[name]), ("event %d, %s"):format(i, name)) end
   end
end

for _, workers in ipairs { 1, 2 } do
   it("events of a search in " .. workers .. " processes", function()
      local code, events, err = run("@ search s.lua --json", workers)
      assert.equal(0, code, err)
      assert.equal(6, #events)
      check_fields(events)
      assert.same({ "begin", "trial", "trial", "trial", "trial", "end" }, (function()
         local kinds = {}
         for i, event in ipairs(events) do kinds[i] = event.event end
         return kinds
      end)())
      assert.same({ 0, "exhaustive" }, { events[1].recorded, events[1].mode })
      local list = small.list(folder .. "/run/summary.json")
      local best
      for i, record in ipairs(list) do
         local event = events[i + 1]
         if record.score then best = math.max(best or record.score, record.score) end
         assert.same({ record.index, record.hash, record.status, record.score, record.error, best, 3 - record.index },
                     { event.index, event.hash, event.status, event.score, event.error, event.best, event.left })
      end
      assert.same({ true, 4, 0, best }, { events[6].complete, events[6].tried, events[6].known, events[6].best })
      assert.matches("before\n", err, 1, true)
      assert.matches("after\n", err, 1, true)
   end)
end

it("a script's own words behind its search are on stdout when the script itself is run with --json", function()
   local code, events, err = run("@ s.lua fresh 1 --json", 1)
   assert.equal(0, code, err)
   assert.same({ "before", "begin", "trial", "end", "after" }, { events[1], events[2].event, events[3].event, events[4].event, events[5] })
   assert.equal(0, events[3].left)                       -- of the budget, not of the space
   assert.matches("trials a minute, done", err, 1, true)
   check_fields { events[2], events[3], events[4] }
   for _, words in ipairs { "in a trial\n", "without a line's end" } do assert.matches(words, err, 1, true) end
   assert.matches("by the shell\n", err, 1, true)
   code, events, err = run("@ s.lua resume 1 --json", 1)
   assert.equal(0, code, err)
   assert.same({ 1, 1, 1 }, { events[2].recorded, events[4].known, events[4].tried })
end)

it("a search that is stopped by an error says so at its end", function()
   local code, events = run("sed -i 's/count == 2/count > 0/' s.lua; @ search s.lua --json", 1)
   assert.equal(1, code)
   assert.same({ "end", false, 3 }, { events[#events].event, events[#events].complete, events[#events].failed })
   assert.matches("in each of the first 3 trials", events[#events].error, 1, true)
end)

it("is no option of a search that is handed to a cluster", function()
   local code, events, err = run("@ search s.lua --slurm --json", 1)
   assert.same({ 2, {} }, { code, events })
   assert.matches("--json is for a search on this machine", err, 1, true)
end)
