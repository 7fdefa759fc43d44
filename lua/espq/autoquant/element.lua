--- One job of a search on a cluster: claims trials, runs them in forks of its own, and leaves what they came to in the run directory.
local core = require "espq.core"
local files = require "espq.autoquant.files"
local journal = require "espq.autoquant.journal"
local json = require "espq.json"
local run_dir = require "espq.autoquant.run_dir"
local workers = require "espq.autoquant.workers"

local element = {}

local ATTEMPTS = 3               -- so many jobs may die in a trial, then it is recorded as failed
local HOPELESS = 3
local QUIET_SECONDS = 30
local PATIENCE, LONG = 600, 10   -- seconds without a finished trial after which a job waits no longer; so many times the longest one
local FIRST_PAUSE, LAST_PAUSE = 0.02, 2

---@class espq.autoquant.Element
local Element = {}
Element.__index = Element

-- Trials that an earlier life of this job left unfinished, by hash.
local function orphans_of(self)
   local list, count = {}, 0
   for life = 0, self.life - 1 do
      for _, name in ipairs(files.names(("%s/work/%s.%d"):format(self.folder, self.id, life))) do
         local hash = name:match "^%.ahead%-(%x+)$"
         if hash and not list[hash] then list[hash], count = true, count + 1 end
      end
   end
   return list, count
end

--- A job at work.
---@param options table path, folder (of the cluster's files), id, life, cpus, runner, timeout, seconds (budget), claims, chunks
function element.new(options)
   local self = setmetatable({ count = 0, failures = 0, longest = 0,
                              begun = core.system.clock(), shown = core.system.clock(), scores = {}, figures = {} }, Element)
   for key, value in pairs(options) do self[key] = value end
   self.place = run_dir.guest(("%s/work/%s.%d"):format(self.folder, self.id, self.life))
   self.workers = workers.new(self.cpus, self.runner, self.place, self.timeout)
   core.system.durable(false)
   self.runner:use_folder(self.folder .. "/states", true)
   self.runner:prepare()
   return self
end

function Element:close()
   self.workers:stop()
   core.system.durable(true)
   io.stderr:write(("%d trials by this job in %.0f s%s\n"):format(self.count, core.system.clock() - self.begun,
      self.failures > 0 and (", %d of them failed"):format(self.failures) or ""))
end

local function target(self, hash) return ("%s/.ahead-%s"):format(self.path, hash) end

--- Is this trial finished, by whomever, and with which score (nil: it failed)?
---@return boolean known, number? score, table? figures further ones of the record, where it was finished by one of these jobs
function Element:score(hash)
   local score = self.scores[hash]
   if score == nil then
      local content = files.read(target(self, hash) .. "/record.json")
      if content then
         local found = json.decode(content)
         score, self.figures[hash] = found.score or false, found.extras
      else
         local size = files.size(self.path .. "/journal.index")
         if size ~= self.journal_size then self.recorded, self.journal_size = journal.scores(self.path), size end
         score = (self.recorded or {})[hash]
      end
      self.scores[hash] = score
   end
   if score == nil then return false, nil end
   self.place.done[hash] = score
   return true, score or nil, self.figures[hash]
end

-- A finished trial appears at once, for the others and for the last job; one that was there before stays.
local function publish(self, trial, record, workplace)
   if not core.base.exists(workplace .. "/record.json") then
      run_dir.write_ahead(workplace, { status = record.status, error = record.error, seconds = record.seconds })
   end
   local to = target(self, trial.hash)
   local done, err = pcall(core.system.rename, workplace, to)
   if not done then
      if not files.is_folder(to) then error(err, 0) end
      files.remove(workplace)
   end
   self.scores[trial.hash], self.figures[trial.hash] = record.score or false, record
   self.place.done[trial.hash] = record.score or false
   self.count, self.longest = self.count + 1, math.max(self.longest, record.seconds or 0)
   if record.status == "failed" then self.failures = self.failures + 1 end
end

-- Run the first of these trials; those behind it as far as there are processors. Gives its record.
local function run_first(self, trials)
   local trial = trials[1]
   local record, result, workplace = self.workers:run(trials)
   publish(self, trial, record, workplace)
   if result then self.workers:learn({ folder = target(self, trial.hash) }, result) end
   self.hopeless = (self.hopeless or 0) + (record.from_user and 1 or 0)
   if self.count == HOPELESS and self.hopeless == HOPELESS then
      core.error.raise { what = ("evaluate_fn failed in each of the first %d trials; the last time: %s"):format(HOPELESS, record.error), code = "input",
                            hopeless = true, cure = "mend evaluate_fn and submit anew" }
   end
   local now = core.system.clock()
   if self.count == 1 or now - self.shown > QUIET_SECONDS then
      self.shown = now
      io.stderr:write(("%s %s: %s\n"):format(os.date "%H:%M:%S", trial.hash:sub(1, 8), record.score and ("%.6g"):format(record.score) or record.error))
   end
   return record
end

local function died_too_often(self, trial, attempt)
   local workplace = self.place:workplace_ahead(trial.hash)
   publish(self, trial, self.runner:failed(trial, workplace, ("its job died %d times while it ran"):format(attempt - 1), 0), workplace)
end

-- The claim of a trial that is to be run now; false when it is another's, finished, or has cost too many jobs.
local function claim(self, trial)
   if self:score(trial.hash) then return false end
   local attempt = self.claims:take(trial.hash)
   if not attempt then return false end
   if attempt <= ATTEMPTS then return true end
   died_too_often(self, trial, attempt)
   return false
end

-- Trials to run, claimed: what an earlier life left, then whole chunks that nobody has, then what others have not begun, from the end.
local function claimed_trials(self, list, count, size)
   local function walk(from, to, step)
      for i = from, to, step do
         local trial = list.at(i)
         if claim(self, trial) then coroutine.yield(trial) end
      end
   end
   local function all_claimed(c) return ("%s/chunks/%d.all"):format(self.folder, c) end
   local function chunk(c, backwards)
      local first, last = (c - 1) * size + 1, math.min(c * size, count)
      if backwards then walk(last, first, -1) else walk(first, last, 1) end
      core.base.write(all_claimed(c), "")
   end
   return coroutine.wrap(function()
      local orphans, left = orphans_of(self)
      for i = 1, left > 0 and count or 0 do
         local trial = list.at(i)
         if orphans[trial.hash] then
            left = left - 1
            if claim(self, trial) then coroutine.yield(trial) end
            if left == 0 then break end
         end
      end
      local chunks = (count + size - 1) // size
      for c = 1, chunks do
         if not core.base.exists(all_claimed(c)) and self.chunks:take(tostring(c)) then chunk(c) end
      end
      for c = chunks, 1, -1 do
         if not core.base.exists(all_claimed(c)) then chunk(c, true) end
      end
   end)
end

local function time_is_up(self) return self.seconds and core.system.clock() - self.begun >= self.seconds end

-- Run what next() gives, as many at once as there are processors.
local function run_all(self, next_trial)
   local queue, ended = {}, false
   while true do
      while not ended and #queue < self.cpus do
         local trial = not time_is_up(self) and next_trial() or nil
         if trial then queue[#queue + 1] = trial else ended = true end
      end
      if #queue == 0 then return end
      run_first(self, queue)
      table.remove(queue, 1)
   end
end

--- Run trials of a list that all elements share.
---@param list { at: fun(i: integer): espq.autoquant.Trial }
---@param count integer so many of it, from the beginning
---@param size integer trials of a chunk
function Element:run_list(list, count, size) run_all(self, claimed_trials(self, list, count, size)) end

--- Run what is missing of a list, whoever has claimed it: all elements have ended.
function Element:run_missing(list, count)
   local i = 0
   run_all(self, function()
      while i < count do
         i = i + 1
         local trial = list.at(i)
         if not self:score(trial.hash) then return trial end
      end
   end)
end

-- What is recorded of a trial from before these jobs.
local function record_of(self, hash)
   if not self.records then
      self.records = {}
      for _, content in ipairs(journal.read(self.path) or {}) do
         local record = json.decode(content)
         self.records[record.hash] = record
      end
   end
   return self.records[hash]
end

-- Until all of these are finished, or nobody seems to be at the others any more: the job that had claimed them is gone for good.
local function wait_for(self, batch)
   local since, missing = core.system.clock(), math.huge
   local pause = FIRST_PAUSE
   while true do
      local open = 0
      for _, trial in ipairs(batch) do
         if not self:score(trial.hash) then open = open + 1 end
      end
      if open == 0 then return true end
      local now = core.system.clock()
      if open < missing then since, missing = now, open end
      if now - since > math.max(PATIENCE, LONG * self.longest) or time_is_up(self) then return false end
      core.process.wait({}, pause)
      core.base.check_cancel()
      pause = math.min(2 * pause, LAST_PAUSE)
   end
end

--- Walk an order that decides whole rounds from the scores before: the trials of a round are shared, then each job waits for the others.
---@param trials table an order
---@param most integer? trials that were not recorded before
function Element:run_rounds(trials, most)
   local before = journal.scores(self.path)
   while true do
      local batch = trials:ahead(math.huge)
      for i, trial in ipairs(batch) do
         if most and before[trial.hash] == nil then
            if most == 0 then
               batch = table.move(batch, 1, i - 1, 1, {})
               break
            end
            most = most - 1
         end
      end
      if #batch == 0 then return end
      local i = 0
      run_all(self, function()
         while i < #batch do
            i = i + 1
            if claim(self, batch[i]) then return batch[i] end
         end
      end)
      if not wait_for(self, batch) then return end
      for _, trial in ipairs(batch) do
         local _, score, figures = self:score(trial.hash)
         trials:next()
         trials:tell(score, figures or trials.two_aims and record_of(self, trial.hash) or nil)
      end
   end
end

--- Walk the trials of one strategy, each decided by the scores before.
---@param trials table an order
function Element:run_chain(trials)
   while not time_is_up(self) do
      local trial = trials:next()
      if not trial then return end
      local known, score = self:score(trial.hash)
      if not known and claim(self, trial) then
         score = run_first(self, trials:ahead(self.cpus)).score
      elseif not known then
         known, score = self:score(trial.hash)
         if not known then return end                                   -- another life of this job is at it
      end
      trials:tell(score)
   end
end

return element
