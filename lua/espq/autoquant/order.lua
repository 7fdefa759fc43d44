--- The order of trials. An order gives the next trial, is told its score, and decides from the scores what comes then.
local check = require "espq.check"

local order = {}

--- Is score strictly better than best? A trial without a score (it failed) is better than none.
---@param direction "maximize"|"minimize"
function order.better(score, best, direction)
   if score == nil then return false end
   if best == nil then return true end
   if direction == "maximize" then return score > best end
   return score < best
end

-- ---- exhaustive: every trial of the space ----

local Exhaustive = { sure = true }      -- what comes does not hang on scores
Exhaustive.__index = Exhaustive

-- Trials that were made before their turn are not made again.
local function trial_at(self, ordinal)
   self.made[ordinal] = self.made[ordinal] or self.space:trial(ordinal)
   return self.made[ordinal]
end

---@return espq.autoquant.Trial?
function Exhaustive:next() return trial_at(self, self.at) end

function Exhaustive:tell()
   self.made[self.at] = nil
   self.at = self.at + 1
end

function Exhaustive:ahead(count)
   local list = {}
   for i = 1, count do list[i] = trial_at(self, self.at + i - 1) end
   return list
end

function Exhaustive:left() return self.space.total - self.at end

-- ---- fast: structural knobs first, then the best strategies with patience ----

local Fast = {}
Fast.__index = Fast

local function same_values(a, b)
   for k in ipairs(a) do
      if a[k] ~= b[k] then return false end
   end
   return true
end

-- The next sample of this chain from position `at` on that is not skipped.
local function seek(chain, at)
   while at < chain.grid.count do
      local values = chain.grid:values(at)
      if not (chain.skip and same_values(values, chain.skip)) then return at, values end
      at = at + 1
   end
end

local function begin_stage_one(self, s)
   self.chain = { stage = 1, strategy = s, grid = self.space:part(s, self.structural), at = 0 }
end

-- Strategies by their best score, the first of equal ones first.
local function choose(self)
   local scored = self.scored
   table.sort(scored, function(a, b)
      if a.best ~= b.best then return order.better(a.best, b.best, self.direction) end
      return a.strategy < b.strategy
   end)
   self.picked = table.move(scored, 1, math.min(#scored, self.top), 1, {})
   self.turn = 0
end

local function begin_stage_two(self)
   self.turn = self.turn + 1
   local entry = self.picked[self.turn]
   self.chain = entry and {
      stage = 2, strategy = entry.strategy, grid = self.space:part(entry.strategy, self.structural, entry.values), at = 0,
      skip = entry.values, best = entry.best, misses = 0,
   }
   return self.chain ~= nil
end

-- The chain is at its end: what comes next? False when nothing does.
local function advance(self)
   local chain = self.chain
   if chain.stage == 1 then
      if chain.best ~= nil then self.scored[#self.scored + 1] = { strategy = chain.strategy, best = chain.best, values = chain.values } end
      if chain.strategy + 1 < self.space.strategies then
         begin_stage_one(self, chain.strategy + 1)
         return true
      end
      choose(self)
   end
   return begin_stage_two(self)
end

---@return espq.autoquant.Trial?
function Fast:next()
   if self.current then return self.current end
   while self.chain do
      local chain = self.chain
      local at, values = seek(chain, chain.at)
      if at and not (chain.stage == 2 and chain.misses >= self.patience) then
         chain.at, chain.now = at, values
         self.current = self.space:make(chain.strategy, chain.grid.knobs, values, self.count)
         return self.current
      end
      if not advance(self) then self.chain = nil end
   end
end

---@param score number?
function Fast:tell(score)
   local chain = self.chain
   local better = order.better(score, chain.best, self.direction)
   if better then chain.best = score end
   if chain.stage == 1 then
      if better then chain.values = chain.now end
   else
      chain.misses = better and 0 or chain.misses + 1
   end
   chain.at, self.current, self.count = chain.at + 1, nil, self.count + 1
end

-- What comes if the scores do not end this chain: to be begun early.
function Fast:ahead(count)
   local list, chain = { self:next() }, self.chain
   if not chain then return list end
   local at, strategy, grid, ordinal = chain.at + 1, chain.strategy, chain.grid, self.count
   local skip = chain.skip
   while #list < count do
      local values
      at, values = seek({ grid = grid, skip = skip }, at)
      if at then
         ordinal = ordinal + 1
         list[#list + 1] = self.space:make(strategy, grid.knobs, values, ordinal)
         at = at + 1
      elseif chain.stage == 1 and strategy + 1 < self.space.strategies then
         strategy = strategy + 1
         grid, at = self.space:part(strategy, self.structural), 0
      else
         return list
      end
   end
   return list
end

--- How many strategies stay; known once all of stage one is told.
---@return integer
function Fast:chains()
   self:next()
   return #(self.picked or {})
end

--- From now on: the trials of the k-th strategy that stays, and no other. Those of the others do not depend on them.
function Fast:only(k)
   self.picked, self.turn, self.current = { self.picked[k] }, 0, nil
   begin_stage_two(self)
end

-- How many can still come at most, or nil where scores decide that.
function Fast.left() return nil end

--- The order that a setting asks for.
---@param space espq.autoquant.Space
---@param direction? "maximize"|"minimize" the one in force
---@param from? integer exhaustive: the ordinal to begin with
function order.new(space, setting, direction, from)
   if setting.search_mode == "exhaustive" then
      return setmetatable({ space = space, at = from or 0, made = {} }, Exhaustive)
   end
   if from and from ~= 0 then
      check.fail("enumerate: 'from' is for the exhaustive search: the order of the others depends on the scores before", nil, "leave it out")
   end
   if setting.search_mode ~= "fast" then
      local by_time = setting.pareto_cost == "latency"
      return require("espq.autoquant.tpe").new(space, direction or setting.score_direction, {
         seed = setting.seed,
         cost = setting.search_mode == "pareto" and function(record) return by_time and record.estimated_ms or record.bytes end or nil,
      })
   end
   local self = setmetatable({
      space = space, structural = setting.structural_knobs, top = setting.top_strategy, patience = setting.early_stop_patience,
      direction = direction or setting.score_direction, scored = {}, count = 0,
   }, Fast)
   begin_stage_one(self, 0)
   return self
end

return order
