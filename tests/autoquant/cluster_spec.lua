-- Promise: a search that is spread over machines ends with the files of a search on one, whoever did what, and whatever dies on the way.
local espq = require "espq"
local claims = require "espq.autoquant.claims"
local core = require "espq.core"
local lfs = require "lfs"
local program = require "lua.program"
local slurm = require "autoquant.slurm"
local small = require "autoquant.small"

local folder

before_each(function()
   espq.verbose = 0
   folder = small.folder()
end)
after_each(function() program.remove(folder) end)

-- 20 trials, or a fast search of about 10; arguments: folder, mode, name of the run, seconds a trial.
local SCRIPT = [[
package.path = "@TESTS/?.lua;" .. package.path
local espq = require "espq"
local small = require "autoquant.small"
local folder, mode, run, seconds = table.unpack(arg)
local setting = small.setting(folder, { search_mode = mode, top_strategy = 2, early_stop_patience = 2, num_of_candidates = 3 })
setting.strategy_space.bias_correction = { true, false }
setting.param_space.bias_correction = { block_size = { 2, 1 }, steps = { 2 }, topk = { -1, 1 } }
if mode == "tpe" or mode == "pareto" then setting.budget = { trials = tonumber(os.getenv "TRIALS") or 15 } end
setting.run_dir = folder .. "/" .. run
local top = small.search(folder, setting, function(graph)
   os.execute("sleep " .. seconds)
   local parts = {}
   for _, name in ipairs { "one", "two", "add" } do parts[#parts + 1] = graph:node(name).output_config[1].exponent end
   return parts[1] + parts[2] / 10 + parts[3] / 100, { two = parts[2] }
end)
print(#top .. " candidates")
]]

local function write_script() program.write(folder .. "/s.lua", (SCRIPT:gsub("@TESTS", lfs.currentdir() .. "/tests"))) end

local function command(options, mode, run, seconds)
   return ("'%s' search '%s/s.lua' %s -- '%s' %s %s %s"):format(program.path, folder, options, folder, mode, run, seconds)
end

-- What the same search gives on this machine: begun now, so that it runs beside the jobs, and asked for later.
local function alone(mode)
   local pipe = io.popen(("cd '%s' && %s 2>&1"):format(folder, command("", mode, "alone-" .. mode, 0)))
   return function()
      local text = pipe:read "a"
      assert.is_true(pipe:close(), text)
      return small.contents(folder .. "/alone-" .. mode)
   end
end

-- Programs of a cluster that has one node, which is this machine, and runs nothing; `host` names another machine.
local function pretend_cluster(host)
   lfs.mkdir(folder .. "/bin")
   local _, own = core.system.process()
   local answers = {
      sinfo = ("echo n1 %s"):format(host or own), squeue = "exit 1", scontrol = "exit 0", scancel = "exit 0",
      sbatch = ("for word in \"$@\"; do :; done; echo \"$@\" >>'%s/submitted'; wc -l <'%s/submitted'"):format(folder, folder),
   }
   for name, line in pairs(answers) do program.write(folder .. "/bin/" .. name, "#!/bin/sh\n" .. line .. "\n") end
   os.execute(("chmod +x '%s/bin/'*"):format(folder))
   return ("PATH='%s/bin':$PATH "):format(folder)
end

-- A job of it, by hand.
local function job(name, task, life, cpus)
   return ("ESPQ_SEARCH_JOB=%s SLURM_JOB_ID=1 SLURM_CPUS_PER_TASK=%d SLURM_RESTART_COUNT=%d %s"):format(name, cpus or 1, life or 0,
      task and ("SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=%d "):format(task) or "")
end

describe("claims", function()
   it("are one process's each, and go over to its next life", function()
      local first, second = claims.new(folder, "7_0", 0), claims.new(folder, "7_1", 0)
      assert.same({ 1, 1 }, { first:take "a", second:take "b" })
      assert.is_nil(first:take "b")
      assert.is_nil(second:take "a")
      assert.is_nil(first:take "a")
      local again = claims.new(folder, "7_0", 1)
      assert.same({ 2, 1 }, { again:take "a", again:take "c" })
      assert.is_nil(again:take "b")
      assert.equal(3, claims.new(folder, "7_0", 2):take "a")
   end)

   it("are this process's when the file system lost its answer", function()
      local first = claims.new(folder, "7_0", 0)
      lfs.link(first.owner, folder .. "/a")                   -- done, and not told
      assert.equal(1, first:take "a")
      assert.is_nil(first:take "a")
      assert.is_nil(claims.new(folder, "7_1", 0):take "a")
   end)
end)

describe("a search as jobs", function()
   it("needs sbatch, and says so", function()
      write_script()
      lfs.mkdir(folder .. "/none")
      local pipe = io.popen "command -v readlink"
      lfs.link(pipe:read "l", folder .. "/none/readlink", true)
      pipe:close()
      local code, _, err = program.run(folder, ("PATH='%s/none' "):format(folder) .. command("--slurm", "fast", "run", 0))
      assert.equal(1, code)
      assert.matches("there is no sbatch here", err, 1, true)
      assert.is_nil(program.read(folder .. "/run/summary.json"))
   end)

   it("is refused when other machines cannot see the script", function()
      write_script()
      local mounts = program.read "/proc/self/mounts" or ""
      if not mounts:find " /dev/shm tmpfs " then pending "no file system in memory here" return end
      local place = os.tmpname():gsub("^.*/", "/dev/shm/")
      assert.is_true(os.execute(("cp '%s/s.lua' '%s'"):format(folder, place)))
      local code, _, err = program.run(folder, pretend_cluster "far.example" .. command("--slurm", "fast", "run", 0):gsub("'[^']*s%.lua'", place))
      os.remove(place)
      assert.equal(1, code)
      assert.matches("far.example cannot see it", err, 1, true)
      assert.matches("the script lies on", err, 1, true)
   end)

   it("looks in each job whether its machine sees the data", function()
      write_script()
      espq.randn({ 2, 3, 6, 6 }):save(folder .. "/calib.npy")
      program.write(folder .. "/s.lua", (program.read(folder .. "/s.lua"):gsub("local setting", 'espq.data.npy(folder .. "/calib.npy")\n%0', 1)))
      assert.equal(0, (program.run(folder, pretend_cluster() .. command("--slurm", "fast", "run", 0))))
      os.remove(folder .. "/calib.npy")
      local code, _, err = program.run(folder, ("sh '%s/run/cluster/trials.sbatch'"):format(folder))
      assert.equal(1, code)
      assert.matches(folder .. "/calib.npy is not there on ", err, 1, true)
   end)

   it("shows what it would submit, and touches nothing", function()
      write_script()
      local code, out, err = program.run(folder, command("--dry-run --array 3 --partition big --time 1:00 --mem 2G --cpus 4", "fast", "run", 0))
      assert.equal(0, code, err)
      for _, line in ipairs { "#SBATCH --array=0-2", "#SBATCH --array=0-1", "--partition=big", "--time=1:00", "--mem=2G", "--cpus-per-task=4", "--requeue",
                              "ESPQ_SEARCH_JOB=pick", "ESPQ_SEARCH_JOB=finish" } do
         assert.matches(line, out, 1, true)
      end
      assert.is_nil(lfs.attributes(folder .. "/run"))
   end)

   it("does not run when the script or the model are others than those submitted", function()
      write_script()
      local code, _, err = program.run(folder, pretend_cluster() .. command("--slurm", "exhaustive", "run", 0))
      assert.equal(0, code, err)
      code, _, err = program.run(folder, job("trials", 0) .. command("", "exhaustive", "run", 0):gsub("exhaustive", "fast"))
      assert.equal(1, code)
      assert.matches("its setting differs", err, 1, true)
      program.write(folder .. "/s.lua", program.read(folder .. "/s.lua") .. "\n")
      code, _, err = program.run(folder, job("trials", 0) .. command("", "exhaustive", "run", 0))
      assert.equal(1, code)
      assert.matches("the script is not the one that was submitted", err, 1, true)
   end)

   for mode, jobs in pairs { exhaustive = { "trials" }, fast = { "trials", "pick", "chains" }, pareto = { "trials" } } do
      it("killed and started again ends as the " .. mode .. " search on one machine does", function()
         write_script()
         local whole = alone(mode)
         local code, _, err = program.run(folder, pretend_cluster() .. command("--slurm --array 2", mode, "run", 0.05))
         assert.equal(0, code, err)
         assert.matches("submitted: trials 1", err, 1, true)
         local line = command("", mode, "run", 0.05)
         for _, name in ipairs(jobs) do
            if name == "pick" then
               assert.equal(0, (program.run(folder, job(name) .. line)))
            else
               -- The first dies twice, in the middle of a trial; the second goes on meanwhile.
               program.run(folder, ([[
                  %s >second.log 2>&1 & second=$!
                  %s >/dev/null 2>&1 & first=$!; sleep 0.3; kill -9 $first
                  %s >/dev/null 2>&1 & first=$!; sleep 0.2; kill -9 $first
                  %s >/dev/null 2>&1; wait $second]]):format(job(name, 1) .. line, job(name, 0) .. line, job(name, 0, 1) .. line, job(name, 0, 2, 2) .. line))
            end
         end
         local out
         code, out, err = program.run(folder, command("--merge", mode, "run", 0.05))
         assert.same({ 0, "" }, { code, out }, err)
         code, out, err = program.run(folder, job "finish" .. line)
         assert.same({ 0, "3 candidates\n" }, { code, out }, err)
         assert.equal(whole(), small.contents(folder .. "/run"))
      end)
   end

   it("goes on from what one machine has tried, in rounds as in one", function()
      write_script()
      local whole = alone "pareto"
      assert.equal(0, (program.run(folder, "TRIALS=6 " .. command("", "pareto", "run", 0))))
      assert.equal(0, (program.run(folder, "TRIALS=9 " .. pretend_cluster() .. command("--slurm --resume", "pareto", "run", 0))))
      for _, name in ipairs { job("trials", 0), job "finish" } do
         local code, _, err = program.run(folder, "TRIALS=9 " .. name .. command("--resume", "pareto", "run", 0))
         assert.equal(0, code, err)
      end
      assert.equal(whole(), small.contents(folder .. "/run"))
   end)

   for _, mode in ipairs { "exhaustive", "tpe" } do
      it("(" .. mode .. ") with a budget of seconds keeps all that was finished in them", function()
         write_script()
         local text = program.read(folder .. "/s.lua"):gsub("num_of_candidates", "budget = { seconds = 0.3 }, %0"):gsub("setting.budget = ", "local _ = ")
         program.write(folder .. "/s.lua", text)
         local line = command("", mode, "run", 0.1)
         local code, _, err = program.run(folder, pretend_cluster() .. command("--slurm --array 2", mode, "run", 0.1))
         assert.equal(0, code, err)
         program.run(folder, ("%s & %s; wait"):format(job("trials", 0) .. line, job("trials", 1) .. line))
         local finished = 0
         for _, name in ipairs(program.names(folder .. "/run")) do
            if name:find "^%.ahead" then finished = finished + 1 end
         end
         assert.equal(0, (program.run(folder, job "finish" .. line)))
         assert.is_true(finished > 1)
         assert.equal(finished, #small.list(folder .. "/run/summary.json"))
      end)
   end

   it("records trials that kill each of their jobs as failed", function()
      write_script()
      local text = program.read(folder .. "/s.lua"):gsub("bias_correction = { true, false }",
         "bias_correction, setting.strategy_space.weight_equalization = { false }, { false }")
         :gsub("num_of_candidates", "share = false, %0")
      -- The shell's parent is the job's worker; the job, whose worker ends with it, is the worker's parent.
      program.write(folder .. "/s.lua", (text:gsub('os.execute%("sleep "', [[
         if graph:node("one").input_config[1].observer == "kl" then os.execute "kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)" end
         %0]])))
      assert.equal(0, (program.run(folder, pretend_cluster() .. command("--slurm --array 1", "exhaustive", "run", 0))))
      local lives = 0
      repeat
         program.write(folder .. "/job.sh", job("trials", 0, lives) .. command("", "exhaustive", "run", 0))
         lives = lives + 1
      until program.run(folder, "setsid -w sh job.sh") == 0 or lives == 20
      assert.equal(4, lives)                                -- one trial kills three, the fourth sees the end
      assert.equal(0, (program.run(folder, job "finish" .. command("", "exhaustive", "run", 0))))
      local states = {}
      for i, record in ipairs(small.list(folder .. "/run/summary.json")) do states[i] = record.error or record.status end
      assert.same({ "done", "its job died 3 times while it ran" }, states)
   end)
end)

describe("a Slurm cluster of two nodes", function()
   local cluster

   after_each(function()
      if cluster then cluster:stop() end
      cluster = nil
   end)

   it("runs a search to its end though one of them dies, and records each trial once", function()
      local why = slurm.missing()
      if not why then cluster, why = slurm.start() end
      if not cluster then pending(why) return end
      write_script()
      local with = ("SLURM_CONF='%s/slurm.conf' "):format(cluster.folder)
      local whole, whole_fast = alone "exhaustive", alone "fast"
      local function search(options, mode, name, seconds)
         local code, _, err = program.run(folder, with .. command(options, mode, name, seconds))
         return code, err
      end
      for _, case in ipairs { { "--slurm", "exhaustive", "run", 0.15 }, { "--slurm --partition other", "fast", "run2", 0.02 } } do
         local code, err = search(table.unpack(case))
         assert.equal(0, code, err)
      end
      local began = cluster:wait_until(function()
         local count = 0
         for _, name in ipairs(program.names(folder .. "/run")) do
            if name:find "^%.ahead" then count = count + 1 end
         end
         return count >= 3 and lfs.attributes(folder .. "/run/cluster/trials-0.log") and lfs.attributes(folder .. "/run/cluster/trials-1.log")
      end, 40)
      assert.is_truthy(began)
      cluster:kill_node "node1"
      local code, err = search("--slurm", "exhaustive", "run", 0.15)
      assert.equal(1, code)
      assert.matches("jobs of a search are waiting or running in this folder", err, 1, true)
      assert.is_true(cluster:wait_until(function()
         cluster:hurry()
         return not cluster:busy "main"
      end, 60))
      assert.matches("3 candidates", program.read(folder .. "/run/cluster/finish.log"), 1, true)
      assert.equal(whole(), small.contents(folder .. "/run"))
      assert.is_true(cluster:wait_until(function() return not cluster:busy "other" end, 60))
      assert.equal(whole_fast(), small.contents(folder .. "/run2"))

      assert.equal(0, (search("--slurm --partition other", "exhaustive", "run3", 5)))
      assert.equal(0, (search("--cancel", "exhaustive", "run3", 5)))
      assert.is_true(cluster:wait_until(function() return not cluster:busy "other" end, 30))
   end)
end)
