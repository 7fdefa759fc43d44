-- Searches that are killed at random moments, until so many kills were made: what is lost, recorded twice, or corrupt afterwards?
--
--    espq tests/bench/kills.lua [KILLS (200)] [SEED (1)]      from the checkout's folder
--
-- A search with two workers is begun, and killed (kill -9) again and again, the parent or one of the workers; a killed parent is started again with
-- resume = true. When it has come to its end, its records and the bytes of all its files are compared with those of a search that nobody disturbed.
-- The exit code is 1 when there is a difference. A trial whose workers were killed twice stands as failed, as it has to: it is counted apart.
package.path = "./tests/?.lua;" .. package.path
local core = require "espq.core"
local espq = require "espq"
local program = require "lua.program"
local small = require "autoquant.small"

local wanted, seed = tonumber(arg[1] or 200), tonumber(arg[2] or 1)
math.randomseed(seed)
espq.verbose = 0

local SCRIPT = [[
package.path = "./tests/?.lua;" .. package.path
local small = require "autoquant.small"
local folder, run, mode, resume = table.unpack(arg)
local setting = small.setting(folder, { search_mode = mode, resume = resume == "resume", top_strategy = 2, early_stop_patience = 2, num_of_candidates = 3 })
setting.strategy_space.bias_correction = { true, false }
setting.param_space.bias_correction = { block_size = { 2, 1 }, steps = { 2 }, topk = { -1, 1 } }
if mode == "tpe" then                                        -- a budget counts what is new
   local known = resume == "resume" and require("espq.autoquant.journal").read(folder .. "/" .. run) or {}
   setting.budget = #known < 16 and { trials = 16 - #known } or { seconds = 1e-9 }
end
setting.run_dir = folder .. "/" .. run
small.search(folder, setting, function(graph)
   os.execute "sleep 0.02"
   local parts = {}
   for _, name in ipairs { "one", "two", "add" } do parts[#parts + 1] = graph:node(name).output_config[1].exponent end
   return parts[1] + parts[2] / 10 + parts[3] / 100, { two = parts[2] }
end, { workers = 2 })
]]

local folder = small.folder()
program.write(folder .. "/s.lua", SCRIPT)

local function pause(seconds) os.execute(("sleep %.3f"):format(seconds)) end

-- A search in the background: its process number; its exit code stands in the file rc when it has ended.
local function start(run, mode, resume)
   os.remove(folder .. "/rc")
   os.remove(folder .. "/pid")
   os.execute(([[( '%s' '%s/s.lua' '%s' %s %s %s >/dev/null 2>'%s/err' & echo $! >'%s/pid'; wait $!; echo $? >'%s/rc' ) >/dev/null 2>&1 &]]):format(
      program.path, folder, folder, run, mode, resume and "resume" or "fresh", folder, folder, folder))
   local pid
   repeat pid = (program.read(folder .. "/pid") or ""):match "^(%d+)\n" until pid
   return pid
end

local function ended() return program.read(folder .. "/rc") ~= nil end

local function workers_of(pid)
   local list = {}
   for child in (program.read(("/proc/%s/task/%s/children"):format(pid, pid)) or ""):gmatch "%d+" do list[#list + 1] = child end
   return list
end

local function records_of(run)
   local content = program.read(folder .. "/" .. run .. "/summary.json")
   return content and espq.json.decode(content) or {}
end

-- Hashes that the journal holds.
local function recorded(run)
   local known = require("espq.autoquant.journal").read(folder .. "/" .. run)
   local list = {}
   for i, text in ipairs(known or {}) do list[i] = espq.json.decode(text).hash end
   return list
end

local function files_of(record)
   local parts = {}
   for _, name in ipairs(record.files) do
      parts[#parts + 1] = name .. " " .. core.system.sha1(program.read(record.folder .. "/" .. name) or "missing")
   end
   return table.concat(parts, "\n")
end

local count = { kills = 0, parents = 0, workers = 0, searches = 0, lost = 0, twice = 0, corrupt = 0, failed = 0 }

local function compare(run, whole, seen_before)
   local by_hash = {}
   for i, record in ipairs(records_of(run)) do
      if by_hash[record.hash] then count.twice = count.twice + 1 end
      by_hash[record.hash] = record
      if record.index ~= i - 1 then count.corrupt = count.corrupt + 1 end
   end
   for hash in pairs(seen_before) do
      if not by_hash[hash] then count.lost = count.lost + 1 end
   end
   local failures = 0
   for _, record in pairs(by_hash) do
      if record.status == "failed" then failures = failures + 1 end
   end
   count.failed = count.failed + failures
   if failures > 0 then return end                       -- searches that decide by scores go another way then
   for _, wanted_record in ipairs(whole) do
      local record = by_hash[wanted_record.hash]
      if not record then
         count.lost = count.lost + 1
      elseif record.score ~= wanted_record.score or files_of(record) ~= wanted_record.bytes then
         count.corrupt = count.corrupt + 1
      end
   end
   local extra = #records_of(run) - #whole
   if extra ~= 0 then count.twice = count.twice + math.max(extra, 0) end
end

local modes, whole, seconds = { "exhaustive", "fast", "tpe" }, {}, {}
for _, mode in ipairs(modes) do
   local begun = core.system.clock()
   start("whole-" .. mode, mode)
   while not ended() do pause(0.02) end
   seconds[mode] = core.system.clock() - begun
   whole[mode] = records_of("whole-" .. mode)
   for _, record in ipairs(whole[mode]) do record.bytes = files_of(record) end
   if #whole[mode] < 8 then error("the undisturbed search did not run: " .. (program.read(folder .. "/err") or "")) end
end

local begun = core.system.clock()
while count.kills < wanted do
   local mode = modes[count.searches % #modes + 1]
   program.remove(folder .. "/run")
   local pid, seen = start("run", mode), {}
   count.searches = count.searches + 1
   repeat
      pause(math.random() * seconds[mode] * 0.6)
      if not ended() then
         local children = workers_of(pid)
         local victim = math.random() < 0.5 and children[math.random(math.max(1, #children))] or pid
         if os.execute(("kill -9 %s 2>/dev/null"):format(victim)) then
            count.kills = count.kills + 1
            local which = victim == pid and "parents" or "workers"
            count[which] = count[which] + 1
         end
         if victim == pid then
            while not ended() do pause(0.01) end
            for _, hash in ipairs(recorded "run") do seen[hash] = true end
            pid = start("run", mode, program.read(folder .. "/run/journal.index") ~= nil)
         end
      end
   until ended()
   local code = program.read(folder .. "/rc")
   if code ~= "0\n" then error(("the search ended with %s: %s"):format(code:match "%d+", program.read(folder .. "/err"))) end
   compare("run", whole[mode], seen)
end

print(("%d kills (%d of a parent, %d of a worker) in %d searches (%s), %.0f s"):format(count.kills, count.parents, count.workers, count.searches,
   table.concat(modes, ", "), core.system.clock() - begun))
print(("trials lost %d, recorded twice %d, corrupt %d; failed because their workers were killed twice: %d"):format(count.lost, count.twice, count.corrupt,
   count.failed))
program.remove(folder)
os.exit(count.lost + count.twice + count.corrupt == 0 and 0 or 1)
