-- Searches that are killed at random moments, until so many kills were made: what is lost, recorded twice, or corrupt afterwards?
--
--    espq tests/bench/kills.lua [KILLS (200)] [SEED (1)] [cluster]      from the checkout's folder
--
-- With "cluster" the searches are those of `espq search --slurm`: the jobs of two nodes, run by hand as Slurm runs them, killed and started again.
-- A search with two workers is begun, and killed (kill -9) again and again, the parent or one of the workers; a killed parent is started again with
-- resume = true. When it has come to its end, its records and the bytes of all its files are compared with those of a search that nobody disturbed.
-- The exit code is 1 when there is a difference. A trial whose workers were killed twice stands as failed, as it has to: it is counted apart.
package.path = "./tests/?.lua;" .. package.path
local core = require "espq.core"
local espq = require "espq"
local program = require "lua.program"
local small = require "autoquant.small"

local wanted, seed, on_cluster = tonumber(arg[1] or 200), tonumber(arg[2] or 1), arg[3] == "cluster"
math.randomseed(seed)
espq.verbose = 0

local checkout = require("lfs").currentdir()

local SCRIPT = [[
package.path = "@/tests/?.lua;" .. package.path
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
program.write(folder .. "/s.lua", (SCRIPT:gsub("@", checkout)))

local function pause(seconds) os.execute(("sleep %.3f"):format(seconds)) end

-- A command in the background: its process number; its exit code stands in the file NAME.rc when it has ended.
local function start_command(name, command)
   os.remove(("%s/%s.rc"):format(folder, name))
   os.remove(("%s/%s.pid"):format(folder, name))
   os.execute(([[cd '%s'; ( %s >/dev/null 2>'%s.err' & echo $! >%s.pid; wait $!; echo $? >%s.rc ) >/dev/null 2>&1 &]]):format(
      folder, command, name, name, name))
   local pid
   repeat pid = (program.read(("%s/%s.pid"):format(folder, name)) or ""):match "^(%d+)\n" until pid
   return pid
end

local function code_of(name) return (program.read(("%s/%s.rc"):format(folder, name)) or ""):match "^(%d+)\n" end
local function said(name) return program.read(("%s/%s.err"):format(folder, name)) or "" end

local function start(run, mode, resume)
   return start_command("search", ("'%s' '%s/s.lua' '%s' %s %s %s"):format(program.path, folder, folder, run, mode, resume and "resume" or "fresh"))
end

local function ended() return code_of "search" ~= nil end

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
   if #whole[mode] < 8 then error("the undisturbed search did not run: " .. said "search") end
end

-- One search on this machine, killed as it goes.
local function search_here(mode)
   local pid, seen = start("run", mode), {}
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
   if code_of "search" ~= "0" then error(("the search ended with %s: %s"):format(code_of "search", said "search")) end
   return seen
end

-- Programs of a cluster with one node, this machine, that runs nothing by itself.
local function pretend_cluster()
   require("lfs").mkdir(folder .. "/bin")
   local _, host = core.system.process()
   local answers = { sinfo = "echo n1 " .. host, squeue = "exit 1", scontrol = "exit 0", scancel = "exit 0",
                     sbatch = ("echo >>'%s/submitted'; wc -l <'%s/submitted'"):format(folder, folder) }
   for name, line in pairs(answers) do program.write(folder .. "/bin/" .. name, "#!/bin/sh\n" .. line .. "\n") end
   os.execute(("chmod +x '%s/bin/'*"):format(folder))
end

-- One search by jobs: each is killed twice at most (a trial in which three jobs died stands as failed), and started again.
local function search_by_jobs(mode)
   local words = ("-- '%s' run %s fresh"):format(folder, mode)
   start_command("submit", ("env PATH='%s/bin':\"$PATH\" '%s' search s.lua --slurm --array 2 %s"):format(folder, program.path, words))
   while not code_of "submit" do pause(0.02) end
   if code_of "submit" ~= "0" then error("not submitted: " .. said "submit") end
   local seen = {}
   for _, stage in ipairs(mode == "fast" and { "trials", "pick", "chains", "finish" } or { "trials", "finish" }) do
      local tasks = {}
      local function begin(task)
         task.life = (task.life or -1) + 1
         local environment = ("ESPQ_SEARCH_JOB=%s SLURM_JOB_ID=1 SLURM_CPUS_PER_TASK=1 SLURM_RESTART_COUNT=%d %s"):format(stage, task.life, task.array)
         task.pid = start_command(task.name, ("env %s '%s' search s.lua %s"):format(environment, program.path, words))
      end
      for k = 0, (stage == "trials" or stage == "chains") and 1 or 0 do
         tasks[#tasks + 1] = { name = stage .. k, array = ("SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=%d"):format(k) }
         if stage == "pick" or stage == "finish" then tasks[#tasks].array = "" end
         begin(tasks[#tasks])
      end
      repeat
         pause(math.random() * seconds[mode] * 0.5)
         local open = {}
         for _, task in ipairs(tasks) do
            if not code_of(task.name) then open[#open + 1] = task end
         end
         local task = open[math.random(math.max(1, #open))]
         if task and task.life < 2 and math.random() < 0.7 and os.execute(("kill -9 %s 2>/dev/null"):format(task.pid)) then
            count.kills, count.parents = count.kills + 1, count.parents + 1
            while not code_of(task.name) do pause(0.01) end
            for _, hash in ipairs(recorded "run") do seen[hash] = true end
            begin(task)
         end
      until #open == 0
      for _, task in ipairs(tasks) do
         if code_of(task.name) ~= "0" then error(("%s ended with %s: %s"):format(task.name, code_of(task.name), said(task.name))) end
      end
   end
   return seen
end

if on_cluster then pretend_cluster() end
local begun = core.system.clock()
while count.kills < wanted do
   local mode = modes[count.searches % #modes + 1]
   program.remove(folder .. "/run")
   count.searches = count.searches + 1
   compare("run", whole[mode], (on_cluster and search_by_jobs or search_here)(mode))
end

print(("%d kills (%d of a parent, %d of a worker) in %d searches (%s), %.0f s"):format(count.kills, count.parents, count.workers, count.searches,
   table.concat(modes, ", "), core.system.clock() - begun))
print(("trials lost %d, recorded twice %d, corrupt %d; failed because their workers were killed twice: %d"):format(count.lost, count.twice, count.corrupt,
   count.failed))
program.remove(folder)
os.exit(count.lost + count.twice + count.corrupt == 0 and 0 or 1)
