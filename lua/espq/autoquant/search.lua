--- The loop of a search: the order gives trials, the runner runs them, the run directory keeps them, the scores go back to the order.
local core = require "espq.core"
local order = require "espq.autoquant.order"
local pareto = require "espq.autoquant.pareto"
local progress = require "espq.autoquant.progress"
local records = require "espq.autoquant.records"
local run_dir = require "espq.autoquant.run_dir"
local trial_tools = require "espq.autoquant.trial"
local workers = require "espq.autoquant.workers"

local search = {}

local HOPELESS = 3               -- so many trials at the beginning in which evaluate_fn raised: it always does

local function best_of(list) return list[1] and { score = list[1].score, index = list[1].index } end

local function over_budget(budget, tried, begun)
   if not budget then return false end
   return (budget.trials and tried >= budget.trials) or (budget.seconds and core.system.clock() - begun >= budget.seconds)
end

-- What a failed trial says in one line.
local function first_line(message)
   local line = message:match "^[^\n]*"
   return #line > 300 and line:sub(1, 297) .. "…" or line
end

-- How many trials are still to come behind the one at hand, and how many seconds they may take at most; nil where that is not known.
local function left_after(state)
   local left, budget = state.trials:left(), state.budget or {}
   left = left and left - 1
   if budget.trials then left = math.min(left or math.huge, budget.trials - state.tried) end
   return left, budget.seconds and math.max(0, budget.seconds - (core.system.clock() - state.begun))
end

local function keep(state, record, result, workplace)
   local from_user = record.from_user
   record.from_user = nil
   state.dir:keep(record, workplace)
   state.runner:learn(record, result)
   if state.workers then state.workers:learn(record, result) end
   state.tried = state.tried + 1
   if record.status == "pruned" then state.pruned = state.pruned + 1 end
   if record.status == "failed" then
      state.failures = state.failures + 1
      state.progress:note(("trial %d failed: %s"):format(record.index, first_line(record.error)))
      if from_user then state.user_failures = state.user_failures + 1 end
      if state.user_failures == HOPELESS and state.tried == HOPELESS then
         core.error.raise { what = ("evaluate_fn failed in each of the first %d trials; the last time: %s"):format(HOPELESS, record.error), code = "input",
                            hopeless = true, cure = "mend evaluate_fn and begin anew: these trials stand as failed" }
      end
   end
   state.progress:trial(record, best_of(state.dir:candidates()), left_after(state))
end

-- A trial that was finished elsewhere, where nothing is run here. "begin": up to the first that is not finished. "finished": those that are,
-- where the order does not hang on scores, or of the round at hand. False: it ends here.
local function gather(state, trial)
   local function take(found)
      keep(state, found.record, found.result, found.workplace)
      state.waiting = state.waiting - 1
   end
   local found = state.workers:recorded(trial)
   if found then
      take(found)
      state.trials:tell(found.record.score, found.record)
      return true
   end
   if state.gather == "begin" or state.waiting <= 0 then return false end
   if state.trials.in_rounds then
      for _, other in ipairs(state.trials:ahead(math.huge)) do
         found = state.dir.done[other.hash] == nil and state.workers:recorded(other)
         if found then take(found) end
      end
      return false
   end
   if not state.trials:left() then return false end
   state.trials:tell(nil)
   return true
end

-- The time is over: what workers have finished ahead of its turn counts, where scores do not decide what comes.
local function take_finished(state)
   if not (state.workers and state.trials.sure and state.budget.seconds) then return end
   for _, trial in ipairs(state.trials:ahead(state.workers:ahead(true))) do
      local found = state.dir.done[trial.hash] == nil and state.workers:recorded(trial)
      if found then keep(state, found.record, found.result, found.workplace) end
   end
end

-- One trial after the other; workers, where there are, run those ahead meanwhile.
local function run_all(state)
   while true do
      core.base.check_cancel()
      local trial = state.trials:next()
      if not trial then return true end
      local known = state.dir.done[trial.hash]
      if known ~= nil then
         state.skipped = state.skipped + 1
         state.trials:tell(known or nil, state.trials.two_aims and state.dir:record(trial.hash) or nil)
      elseif over_budget(state.budget, state.tried, state.begun) then
         if not state.gather then take_finished(state) end
         return false
      elseif state.gather and not gather(state, trial) then
         return false
      elseif not state.gather then
         local record, result, workplace
         if state.workers then
            local most = state.budget and state.budget.trials and state.budget.trials - state.tried or math.huge
            record, result, workplace = state.workers:run(state.trials:ahead(math.min(state.workers:ahead(state.trials.sure), most)))
         else
            workplace = state.dir:workplace()
            record, result = state.runner:run(trial, workplace)
         end
         keep(state, record, result, workplace)
         state.trials:tell(record.score, record)
      end
   end
end

-- evaluate_fast has ranked: the candidates are judged in full, and stand in the order that this gives.
local function judge_candidates(state, judge_again)
   for _, record in ipairs(state.dir:candidates()) do
      local known = state.dir:judged(record)
      if not known then
         local score, extras = state.runner:judge_again(record, judge_again)
         state.dir:judge(record, score, extras)
         state.progress:note(("trial %d: %.6g in full, %.6g by evaluate_fast"):format(record.index, score, record.score))
      end
   end
   state.dir:write_candidates()
end

-- With two aims: the trials that none beats in both, cheapest first.
local function write_front(state)
   local list = {}
   for i, entry in ipairs(pareto.front(state.trials.observed, state.trials.direction)) do list[i] = state.dir:record(entry.trial.hash) end
   core.base.write(state.dir.path .. "/pareto.json", records.list(list))
   local share = pareto.hypervolume(state.trials.observed, state.trials.direction)
   state.progress:note(share and ("Pareto front: %d trials, hypervolume %.3f of the box between the best and the worst; %s/pareto.json"):format(#list, share,
      state.dir.path) or "Pareto front: no trial has both a score and a cost")
end

--- Search. Gives the candidates, best first.
---@param options table setting, space, direction, runner, workers, trial_timeout, judge_again; gather: trials were run elsewhere, and "all": the
--- others are run here, "begin", "finished": none is; recorded_before: those that were before the budget began; states: the folder of the jobs' shared states
---@return table[]
function search.run(options)
   local dir = run_dir.open(options.setting, options.direction, options.judge_again ~= nil, options.runner.runtime)
   local state = {
      dir = dir, runner = options.runner, trials = order.new(options.space, options.setting, options.direction), tried = 0, skipped = 0, failures = 0,
      pruned = 0, user_failures = 0, budget = options.setting.budget, begun = core.system.clock(),
   }
   if options.recorded_before then state.tried = dir.journal.count - options.recorded_before end
   if options.gather and options.gather ~= "all" then
      state.gather, state.waiting = options.gather, dir:waiting()
      state.budget = state.budget and { trials = state.budget.trials }          -- the seconds were those of the jobs
   end
   state.progress = progress.new()
   local function stop(err)
      local best = best_of(dir:candidates())
      state.progress:event("end", { complete = false, tried = state.tried, known = state.skipped, failed = state.failures, best = best and best.score,
                                    run_dir = dir.path, error = core.error.is_error(err) and err.what or tostring(err) })
      state.progress:close()
      error(err, 0)
   end
   state.progress:event("begin", { run_dir = dir.path, mode = options.setting.search_mode, recorded = dir.journal.count })
   core.system.durable(false)              -- a trial that a loss of power spoils is made again
   local done, ended = xpcall(function()
      state.runner:use_folder(options.states or dir:states_folder(), options.states ~= nil or options.workers > 1)
      state.runner:keep_inputs(dir.path)
      if options.space:ranks_layers() then state.runner:rank_layers() end
      if options.workers > 1 or options.trial_timeout or options.gather then
         state.runner:prepare()
         state.workers = workers.new(options.workers, state.runner, dir, options.trial_timeout)
      end
      local whole = run_all(state)
      if options.judge_again and state.gather ~= "begin" then judge_candidates(state, options.judge_again) end
      return whole
   end, function(err)
      if core.error.is_error(err) or type(err) ~= "string" or err:find("\nstack traceback:", 1, true) then return err end
      return debug.traceback(err, 2)
   end)
   if state.workers then state.workers:stop() end
   core.system.durable(true)
   local closed, close_error = pcall(function()
      dir:close(done and ended)
      if done and state.trials.two_aims then write_front(state) end
   end)
   if not done then
      local interrupted = trial_tools.is_interrupt(ended)
      if interrupted or (dir.journal.count > 0 and not (core.error.is_error(ended) and ended.hopeless)) then
         state.progress:note(("%s: %d trials are in %s; setting.resume = true goes on"):format(interrupted and "interrupted" or "stopped",
            dir.journal.count, dir.path))
      end
      return stop(ended)
   end
   if not closed then return stop(close_error) end
   local candidates = dir:results()
   local best = best_of(candidates)
   state.progress:finish(("%s: %d trials in %.1f s%s%s%s%s; %s"):format(
      ended and "search done" or state.gather == "begin" and "not done yet" or "budget used up", state.tried, core.system.clock() - state.begun,
      state.skipped > 0 and (", %d known before"):format(state.skipped) or "", state.failures > 0 and (", %d failed"):format(state.failures) or "",
      state.pruned > 0 and (", %d pruned"):format(state.pruned) or "", best and (", best %.6g (trial %d)"):format(best.score, best.index) or "", dir.path),
      { tried = state.tried, known = state.skipped, failed = state.failures, best = best and best.score, complete = ended, run_dir = dir.path })
   state.progress:close()
   return candidates
end

return search
