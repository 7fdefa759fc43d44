--- A search on several machines. The script is run again in each job, up to the call of the search; hashes of script, setting and model say
-- whether it is the same search. Jobs share nothing but the run directory: an element of an array claims trials, runs them, and leaves each
-- finished one in a folder of its own, as local workers do; the last job walks the order of the search over what is there, and so writes the
-- files that a search on one machine writes.
local check = require "espq.check"
local claims = require "espq.autoquant.claims"
local core = require "espq.core"
local element = require "espq.autoquant.element"
local files = require "espq.autoquant.files"
local journal = require "espq.autoquant.journal"
local json = require "espq.json"
local order = require "espq.autoquant.order"
local run_dir = require "espq.autoquant.run_dir"
local search = require "espq.autoquant.search"
local slurm = require "espq.autoquant.slurm"
local text = require "espq.autoquant.text"
local tpe = require "espq.autoquant.tpe"

local cluster = {}

--- Raised at the call where the rest of the script is not this process's.
cluster.script_ends = setmetatable({ exit_code = 0 }, { __tostring = function() return "the script ends here" end })

local LARGEST_CHUNK = 64         -- trials that one element takes at once: neighbours have most in common
local CHUNKS_EACH = 4

---@class espq.autoquant.Process what `espq search` was asked for, and where
---@field role string "submit", "dry-run", "cancel", "merge", or a job: "trials", "pick", "chains", "finish"
---@field script string
---@field arguments string[] of the script
---@field program string path of espq
---@field options table partition, array, time, mem, cpus, resume

local function absolute(path)
   if path:sub(1, 1) == "/" then return path end
   return require("lfs").currentdir() .. "/" .. path:gsub("^%./", "")
end

local function say(message, ...) io.stderr:write(message:format(...), "\n") end

-- ---- which search it is ----

local function list_of(values) return json.list(table.move(values, 1, #values, 1, {})) end

local function setting_text(given)
   local setting, filter = given.setting, given.setting.candidate_filter
   local dumped, code = pcall(string.dump, filter or print, true)
   local parts = { text.encode(given.runner.runtime), text.encode(setting.structural_knobs), text.encode(setting.budget or {}), tostring(setting.share),
                   setting.pareto_cost, given.runner.base:to_json(), filter and dumped and core.system.sha1(code) or tostring(filter ~= nil) }
   for _, module in ipairs(given.space.modules) do
      local knobs = {}
      for i, knob in ipairs(module.knobs) do knobs[i] = { name = knob.name, values = list_of(knob.values) } end
      parts[#parts + 1] = text.encode { name = module.name, switches = list_of(module.switches), knobs = json.list(knobs) }
   end
   return table.concat(parts, "\n")
end

local function identity(self, given)
   local function hash_of(path) return core.system.sha1(files.read(path) or "") end
   return { script = hash_of(self.script), setting = core.system.sha1(setting_text(given)), model = hash_of(given.runner.runtime.onnx_import_file),
            program = hash_of(self.program) }
end

local WHAT = {
   script = "the script is not the one that was submitted", model = "the model is not the one that was submitted",
   setting = "the script asks for another search here than where it was submitted: its setting differs",
   program = "this is another espq than the one that submitted the search",
}

local function load_plan(self, given)
   local content = files.read(self.folder .. "/plan.json")
   if not content then
      check.fail("the plan of this search is not there", self.folder .. "/plan.json", "run_dir has to lie in a folder that all nodes share")
   end
   local plan, here = json.decode(content), identity(self, given)
   for _, part in ipairs { "program", "script", "model", "setting" } do
      if plan.identity[part] ~= here[part] then
         check.fail(WHAT[part], part == "model" and given.runner.runtime.onnx_import_file or part == "program" and self.program or self.script,
                    "nothing of it may change while the jobs run (time, random numbers, the machine's name decide nothing); submit again")
      end
   end
   return plan
end

-- ---- what all processes of a search know ----

-- The layers by their error are found once, by whoever needs them first; the others wait.
local function share_layers(folder, runner)
   local path, rank = folder .. "/layers.json", runner.rank_layers
   runner.rank_layers = function()
      local content, lock <close> = claims.once(folder .. "/layers.lock", function() return files.read(path) end)     -- luacheck: ignore lock
      if content then
         local known = json.decode(content)
         runner.layers, runner.consumers = known.layers, known.consumers
         return
      end
      rank(runner)
      local layers, consumers = {}, {}
      for i, layer in ipairs(runner.layers) do layers[i] = { name = layer.name } end
      for name, list in pairs(runner.consumers) do consumers[name] = json.list(list) end
      core.base.write(path, text.encode { layers = json.list(layers), consumers = consumers })
   end
end

local function in_rounds(given) return given.setting.search_mode == "tpe" or given.setting.search_mode == "pareto" end

-- The trials that are known before any is run: all of an exhaustive search, stage one of a fast one.
local function trials_known(given)
   if given.setting.search_mode == "exhaustive" then
      return { count = given.space.total, at = function(i) return given.space:trial(i - 1) end }
   end
   local list = order.new(given.space, given.setting, given.direction):ahead(math.huge)
   return { count = #list, at = function(i) return list[i] end }
end

-- How many of them the budget leaves.
local function within_budget(list, setting, path)
   local budget = setting.budget and setting.budget.trials
   if not budget then return list.count end
   local known = journal.scores(path)
   for i = 1, list.count do
      if known[list.at(i).hash] == nil then
         if budget == 0 then return i - 1 end
         budget = budget - 1
      end
   end
   return list.count
end

-- ---- submitting ----

local function jobs_of(folder)
   local content = files.read(folder .. "/jobs.json")
   return content and json.decode(content) or {}
end

local function refuse_while_running(folder, path)
   local alive = slurm.alive(jobs_of(folder))
   if #alive == 0 then return end
   check.fail(("jobs of a search are waiting or running in this folder: %s"):format(table.concat(alive, ", ")), path,
              "wait for them, or stop them: espq search SCRIPT --slurm --cancel")
end

-- What all machines have to see: what it is → where it lies.
local function needed(self, given)
   local paths = { ["the script"] = self.script, ["the model"] = absolute(given.runner.runtime.onnx_import_file), espq = self.program }
   for _, source in ipairs(require("espq.data").sources()) do paths[("the data '%s'"):format(source)] = absolute(source) end
   return paths
end

-- The files of the jobs, in their order.
local function job_files(self, given, plan)
   local fast = given.setting.search_mode == "fast"
   local words = { slurm.word(self.program), "search", slurm.word(self.script) }
   if #self.arguments > 0 then words[#words + 1] = "--" end
   for _, word in ipairs(self.arguments) do words[#words + 1] = slurm.word(word) end
   local needs = { self.folder .. "/plan.json" }
   for _, path in pairs(needed(self, given)) do needs[#needs + 1] = path end
   table.sort(needs)
   local function job(name, array)
      return { name = name, text = slurm.file {
         name = name, array = array, log = ("%s/%s"):format(self.folder, name), folder = require("lfs").currentdir(), command = table.concat(words, " "),
         needs = needs, options = self.options,
      } }
   end
   local list = { job("trials", plan.elements) }
   if fast then
      list[2] = job "pick"
      list[3] = job("chains", math.min(plan.elements, given.setting.top_strategy, given.space.strategies))
   end
   list[#list + 1] = job "finish"
   return list
end

-- So many trials are wanted, shared by so many jobs. Rounds of a search that learns are small: more jobs would wait for each other.
local function new_plan(self, given, nodes)
   local plan, budget = { identity = identity(self, given), recorded = journal.count(self.path) }, given.setting.budget
   if in_rounds(given) then
      plan.count = math.min(given.space.total, budget and budget.trials or math.huge)
      plan.elements = math.max(1, math.min(self.options.array or nodes, tpe.BATCH, plan.count))
      return plan
   end
   plan.count = within_budget(trials_known(given), given.setting, self.path)
   plan.elements = math.max(1, math.min(self.options.array or nodes, plan.count))
   plan.chunk = math.max(1, math.min(LARGEST_CHUNK, math.ceil(plan.count / (CHUNKS_EACH * plan.elements))))
   return plan
end

local roles = {}

roles["dry-run"] = function(self, given)
   local nodes = self.options.array
   if not nodes then
      local known, _, count = pcall(slurm.hosts, self.options.partition)
      nodes = known and count or 2
   end
   local list = job_files(self, given, new_plan(self, given, nodes))
   for i, job in ipairs(list) do
      io.stdout:write(("# ---- %s/%s.sbatch%s\n%s\n"):format(self.folder, job.name,
         i > 1 and (", after the end of %s"):format(list[i - 1].name) or "", job.text))
   end
   error(cluster.script_ends, 0)
end

function roles.submit(self, given)
   slurm.require()
   refuse_while_running(self.folder, self.path)
   local hosts, nodes = slurm.hosts(self.options.partition)
   local paths = needed(self, given)
   paths.run_dir = self.path
   slurm.check_shared(paths, hosts)
   if self.options.resume then given.setting.resume = true end
   local held = run_dir.open(given.setting, given.direction, given.judge_again ~= nil, given.runner.runtime)
   local done, err = pcall(function()
      files.remove(self.folder)
      for _, name in ipairs { "claims", "chunks", "work" } do core.system.make_folder(self.folder .. "/" .. name) end
      local plan = new_plan(self, given, nodes)
      core.base.write(self.folder .. "/plan.json", text.encode(plan, 3))
      local ids, names = {}, {}
      for i, job in ipairs(job_files(self, given, plan)) do
         local path = ("%s/%s.sbatch"):format(self.folder, job.name)
         core.base.write(path, job.text)
         local submitted, id = pcall(slurm.submit, path, ids[#ids])
         if not submitted then
            if #ids > 0 then slurm.cancel(ids) end
            error(id, 0)
         end
         ids[i], names[i] = id, ("%s %s"):format(job.name, id)
         core.base.write(self.folder .. "/jobs.json", text.encode(json.list(ids)))
      end
      say("submitted: %s; %d trials%s, %d at a time", table.concat(names, ", "), plan.count,
          given.setting.search_mode == "fast" and " in stage one" or "", plan.elements)
      say("  how it goes: squeue -j %s; logs: %s/*.log; result: %s/candidates.json", table.concat(ids, ","), self.folder, self.path)
      say("  --merge writes what is finished, --cancel stops it, --resume goes on")
   end)
   held:close(false)
   if not done then error(err, 0) end
   error(cluster.script_ends, 0)
end

function roles.cancel(self)
   slurm.require()
   local alive = slurm.alive(jobs_of(self.folder))
   if #alive == 0 then
      say("no job of a search in %s is waiting or running", self.path)
   else
      local message, done = slurm.cancel(alive)
      if not done then check.fail("scancel failed: " .. message:gsub("%s+$", ""), self.path) end
      say("cancelled: %s; what was tried stays in %s: --resume goes on", table.concat(alive, ", "), self.path)
   end
   error(cluster.script_ends, 0)
end

-- ---- jobs ----

local function begin(self, given)
   local plan = load_plan(self, given)
   share_layers(self.folder, given.runner)
   core.executor.threads(self.cpus)
   return plan
end

local function as_element(work)
   return function(self, given)
      local plan = begin(self, given)
      if given.space:ranks_layers() then given.runner:rank_layers() end
      local job = element.new {
         path = self.path, folder = self.folder, id = self.id, life = self.life, cpus = self.cpus, runner = given.runner, timeout = given.trial_timeout,
         seconds = given.setting.budget and given.setting.budget.seconds,
         claims = claims.new(self.folder .. "/claims", self.id, self.life), chunks = claims.new(self.folder .. "/chunks", self.id, self.life),
      }
      local done, err = pcall(work, job, given, plan)
      job:close()
      if not done then error(err, 0) end
      error(cluster.script_ends, 0)
   end
end

roles.trials = as_element(function(job, given, plan)
   if in_rounds(given) then
      return job:run_rounds(order.new(given.space, given.setting, given.direction), given.setting.budget and given.setting.budget.trials)
   end
   job:run_list(trials_known(given), plan.count, plan.chunk)
end)

-- A fast search: with stage one whole, which strategies stay.
local function chains_of(job, given)
   local trials, list = order.new(given.space, given.setting, given.direction), trials_known(given)
   for i = 1, list.count do
      local known, score = job:score(list.at(i).hash)
      if not known then return nil, i end
      trials:next()
      trials:tell(score)
   end
   return trials, trials:chains()
end

roles.pick = as_element(function(job, given, plan)
   job:run_missing(trials_known(given), plan.count)
   local _, count = chains_of(job, given)
   if plan.count == trials_known(given).count then say("stage one is whole; %d strategies stay", count) end
end)

roles.chains = as_element(function(job, given, plan)
   if plan.count < trials_known(given).count then return end           -- the budget ends in stage one
   local _, count = chains_of(job, given)
   if not _ then check.fail(("trial %d of stage one is missing"):format(count), job.path, "the last job makes it up") end
   for k = 1, count do
      if job.chunks:take("chain-" .. k) then
         local trials = chains_of(job, given)
         trials:only(k)
         job:run_chain(trials)
      end
   end
end)

function roles.finish(self, given)
   given.recorded_before = begin(self, given).recorded
   local setting = given.setting
   setting.resume = true
   given.runner.prepare = function() end
   given.workers, given.states = self.cpus, self.folder .. "/states"
   given.gather = setting.budget and setting.budget.seconds and "finished" or "all"
   local candidates = search.run(given)
   for _, name in ipairs { "claims", "chunks", "work", "states" } do files.remove(self.folder .. "/" .. name) end
   return candidates
end

-- Anybody may do this at any time: it takes what is finished, in the order of the search, up to the first trial that is not.
function roles.merge(self, given)
   share_layers(self.folder, given.runner)
   given.setting.resume = true
   given.runner.prepare, given.runner.rank_layers = function() end, function() end
   given.workers, given.gather = 1, "begin"
   search.run(given)
   error(cluster.script_ends, 0)
end

--- Searches of this process's script are run so.
---@param process espq.autoquant.Process
---@return fun(given: table): table[]
function cluster.searcher(process)
   local task = os.getenv "SLURM_ARRAY_TASK_ID"
   process.id = task and ("%s_%s"):format(os.getenv "SLURM_ARRAY_JOB_ID", task) or os.getenv "SLURM_JOB_ID" or ("p%d"):format(core.system.process())
   process.life = math.tointeger(tonumber(os.getenv "SLURM_RESTART_COUNT" or 0)) or 0
   process.cpus = math.tointeger(tonumber(os.getenv "SLURM_CPUS_PER_TASK" or 1)) or 1
   process.script = absolute(process.script)
   local work = roles[process.role] or check.fail(("there is no job '%s' in a search"):format(process.role), nil, "ESPQ_SEARCH_JOB is for jobs only")
   return function(given)
      process.path = absolute((#given.setting.run_dir > 1 and given.setting.run_dir:gsub("/+$", "") or given.setting.run_dir))
      process.folder = process.path .. "/cluster"
      return work(process, given)
   end
end

return cluster
