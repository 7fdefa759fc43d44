--- Workers: forks of this process that run trials ahead of their turn. The parent alone decides, and keeps what they found in the order of
-- the search, so that neither results nor files depend on how many there are.
local core = require "espq.core"
local files = require "espq.autoquant.files"
local json = require "espq.json"
local text = require "espq.autoquant.text"

local workers = {}

local AHEAD = 8                  -- trials a worker that may be begun before their turn, where scores decide what comes
local AHEAD_SURE = 32            -- where they do not: enough that workers find work that has little in common
local ATTEMPTS = 2

-- ---- in a worker ----

local function run_job(runner, dir, job)
   for _, known in ipairs(job.learned or {}) do runner:learn(known, known) end
   core.process.redirect(job.workplace .. "/log")
   local record, result = runner:run(job.trial, job.workplace)
   runner:learn({ folder = job.workplace }, result)
   io.stdout:flush()
   if files.size(job.workplace .. "/log") == 0 then os.remove(job.workplace .. "/log") end
   dir.write_ahead(job.workplace, {
      score = record.score, error = record.error, status = record.status, seconds = record.seconds, from_user = record.from_user,
      extras = result and result.extras, name = result and result.name, bytes = result and result.bytes,
   })
end

-- An error that ends the search, as the parent has to raise it.
local function as_message(err)
   if core.error.is_error(err) then
      return text.encode { what = err.what, where = err.where, cure = err.cure, code = err.code, contract = err.contract, fatal = err.fatal }
   end
   return text.encode { what = type(err) == "string" and err or tostring(err), code = "input" }
end

local function serve(channel, runner, dir)
   while true do
      local message = channel:receive()
      if not message then core.process.exit(0) end
      local done, err = xpcall(function() run_job(runner, dir, json.decode(message)) end, function(err)
         return core.error.is_error(err) and err or debug.traceback(tostring(err), 2)
      end)
      channel:send(done and "{}" or as_message(err))
   end
end

-- ---- in the parent ----

---@class espq.autoquant.Workers
local Workers = {}
Workers.__index = Workers

local function start(self)
   local worker, channel = core.process.fork()
   if worker then return { process = worker, known = 0 } end
   -- Whatever happens here, the worker ends: what stands below it on the stack is the parent's.
   pcall(function()
      for _, other in ipairs(self.list) do other.process:close() end
      self.dir.lock:forget()
      require("espq").is_worker = true
      serve(channel, self.runner, self.dir)
   end)
   core.process.exit(1)
end

--- Begin with so many workers; they are forked when there is work.
---@param count integer
---@param timeout number? seconds a trial may take
function workers.new(count, runner, dir, timeout)
   return setmetatable({ count = count, runner = runner, dir = dir, timeout = timeout, list = {}, finished = {}, attempts = {}, running = {},
                         learned = {}, owners = {}, names = {} }, Workers)
end

local function begin(self, worker, trial)
   local job = { trial = trial, workplace = self.dir:workplace_ahead(trial.hash), learned = json.list {} }
   for i = worker.known + 1, #self.learned do job.learned[#job.learned + 1] = self.learned[i] end
   worker.known = #self.learned
   worker.trial, worker.workplace, worker.begun = trial, job.workplace, core.system.clock()
   self.running[trial.hash] = worker
   self.attempts[trial.hash] = (self.attempts[trial.hash] or 0) + 1
   pcall(worker.process.send, worker.process, text.encode(job))       -- one that has died is noticed when it is waited for
end

-- Branch and stem of a trial. Where nothing is shared, it is alone in both.
local function names_of(self, trial)
   local names = self.names[trial.hash]
   if not names then
      local branch, stem = self.runner:branch(trial)
      names = { branch = "branch " .. (branch or trial.hash), stem = "stem " .. (stem or trial.hash) }
      self.names[trial.hash] = names
   end
   return names
end

-- Which of these does a worker run best: one of its own stem; of its own branch, as long as nobody else has the stem; of a branch that nobody
-- has; of a stem that nobody has; else the first.
local function choose(self, worker, open)
   local best, rank = nil, 5
   for _, trial in ipairs(open) do
      local names = names_of(self, trial)
      local branch, stem = self.owners[names.branch], self.owners[names.stem]
      local this = stem == worker and 1 or stem and 5 or branch == worker and 2 or not branch and 3 or 4
      if not best or this < rank then best, rank = trial, this end
   end
   return best
end

local function fill(self, trials)
   local open = {}
   for _, trial in ipairs(trials) do
      local hash = trial.hash
      if self.dir.done[hash] == nil and not self.finished[hash] and not self.running[hash] then
         self.finished[hash] = self:recorded(trial)
         if not self.finished[hash] then open[#open + 1] = trial end
      end
   end
   for i = 1, self.count do
      if #open == 0 then return end
      local worker = self.list[i]
      if not worker then
         worker = start(self)
         self.list[i] = worker
      end
      if not worker.trial then
         local trial = choose(self, worker, open)
         local names = names_of(self, trial)
         self.owners[names.branch], self.owners[names.stem] = self.owners[names.branch] or worker, worker
         for k, other in ipairs(open) do
            if other == trial then table.remove(open, k) break end
         end
         begin(self, worker, trial)
      end
   end
end

local function remove(self, worker)
   for i = 1, self.count do
      if self.list[i] == worker then self.list[i] = nil end
   end
   for name, owner in pairs(self.owners) do
      if owner == worker then self.owners[name] = nil end
   end
   -- no holes: the list is walked by position
   local left = {}
   for i = 1, self.count do
      if self.list[i] then left[#left + 1] = self.list[i] end
   end
   self.list = left
end

local function give_up(self, worker, message)
   local trial = worker.trial
   local workplace = self.dir:workplace_ahead(trial.hash)
   self.finished[trial.hash] = { record = self.runner:failed(trial, workplace, message, core.system.clock() - worker.begun), workplace = workplace }
end

local function died(self, worker)
   local how, code = worker.process:finish()
   local trial = worker.trial
   remove(self, worker)
   if not trial then return end
   self.running[trial.hash] = nil
   if self.attempts[trial.hash] < ATTEMPTS then return end            -- once more, in another worker
   give_up(self, worker, ("its worker died %d times, the last time %s"):format(ATTEMPTS, how == "signal"
      and ("by signal %d%s"):format(code, code == 9 and " (was there too little memory?)" or "") or ("with exit code %d"):format(code)))
end

local function heard(self, worker)
   local done, message = pcall(worker.process.receive, worker.process)
   if not done or not message then return died(self, worker) end
   local trial, answer = worker.trial, json.decode(message)
   worker.trial = nil
   self.running[trial.hash] = nil
   if answer.what then
      self.finished[trial.hash] = { error = answer }
      return
   end
   self.finished[trial.hash] = self:recorded(trial)
   if not self.finished[trial.hash] then self.finished[trial.hash] = { error = { what = "a worker's record cannot be read", code = "file" } } end
end

--- A trial that was finished before its turn, here or by an earlier search that was stopped.
function Workers:recorded(trial)
   local found = self.dir:ahead(trial.hash)
   if not found then return nil end
   local record = {
      hash = trial.hash, strategy = trial.strategy, params = trial.params, seed = self.runner.seed, status = found.status, score = found.score,
      error = found.error, seconds = found.seconds, from_user = found.from_user,
   }
   for key, value in pairs(found.extras or {}) do record[key] = value end
   local result = found.score and { name = found.name, bytes = found.bytes, score = found.score, extras = found.extras } or nil
   return { record = record, result = result, workplace = found.workplace }
end

-- The one that has to be ended first, and in how many seconds.
local function next_deadline(self)
   if not self.timeout then return nil end
   local first
   for _, worker in ipairs(self.list) do
      if worker.trial and (not first or worker.begun < first.begun) then first = worker end
   end
   return first, first and math.max(0, first.begun + self.timeout - core.system.clock())
end

local function end_late(self)
   local worker, seconds = next_deadline(self)
   if not worker or seconds > 0 then return end
   worker.process:kill()
   worker.process:finish()
   self.running[worker.trial.hash] = nil
   remove(self, worker)
   give_up(self, worker, ("it took longer than trial_timeout = %g seconds, and was stopped"):format(self.timeout))
end

--- What trial number one of these came to; the others are run as far as there are workers.
---@param trials espq.autoquant.Trial[] the one whose turn it is, then those that will probably follow
---@return table record, table? result, string workplace
function Workers:run(trials)
   local trial = trials[1]
   if not self.finished[trial.hash] and not self.running[trial.hash] then self.finished[trial.hash] = self:recorded(trial) end
   while not self.finished[trial.hash] do
      fill(self, trials)
      local processes = {}
      for i, worker in ipairs(self.list) do processes[i] = worker.process end
      local _, seconds = next_deadline(self)
      local list = table.move(self.list, 1, #self.list, 1, {})
      for _, i in ipairs(core.process.wait(processes, seconds)) do heard(self, list[i]) end
      end_late(self)
   end
   fill(self, trials)
   local found = self.finished[trial.hash]
   self.finished[trial.hash], self.attempts[trial.hash], self.names[trial.hash] = nil, nil, nil
   if found.error then core.error.raise(found.error) end
   return found.record, found.result, found.workplace
end

--- How many trials are worth looking ahead.
---@param sure boolean do they come whatever the scores are?
function Workers:ahead(sure) return (sure and AHEAD_SURE or AHEAD) * self.count end

--- A trial is kept: all workers hear where an equal one finds its files.
function Workers:learn(record, result)
   if result and result.name then
      self.learned[#self.learned + 1] = { folder = record.folder, name = result.name, bytes = result.bytes, score = result.score, extras = result.extras }
   end
end

--- No more work: idle workers leave, busy ones are ended.
function Workers:stop()
   for _, worker in ipairs(self.list) do
      if worker.trial then worker.process:kill() end
      worker.process:finish()
   end
   self.list = {}
end

return workers
