--- The tree-structured Parzen estimator: trials are drawn where good ones were more often than others. Modules and knobs are choices; each
-- has two densities, one of the best quarter of the trials so far and one of the rest, and what is likelier in the first is tried next. Knobs
-- count only where their module is on. With two aims (search_mode "pareto") the best quarter is that of the fronts.
local pareto = require "espq.autoquant.pareto"

local tpe = {}

local STARTUP = 10               -- trials drawn at random before
local BATCH = 4                  -- trials that are decided together, so that workers have work; their number never hangs on the workers'
tpe.BATCH = BATCH

local DRAWN = 24                 -- samples of which the likeliest is tried
local GAMMA, MOST_GOOD = 0.25, 25
local PRIOR = 1.0
local FURTHER_DRAWS = 100        -- samples at random before the space is walked for what is left

-- ---- random numbers of its own: scripts may use math.random ----

-- splitmix64: the next 64 bits, as a fraction.
local function fraction(self)
   self.state = self.state + 0x9E3779B97F4A7C15
   local z = self.state
   z = (z ~ (z >> 30)) * 0xBF58476D1CE4E5B9
   z = (z ~ (z >> 27)) * 0x94D049BB133111EB
   return ((z ~ (z >> 31)) >> 11) * (1.0 / (1 << 53))
end

-- One of the weights' places.
local function pick(self, weights)
   local sum = 0.0
   for _, weight in ipairs(weights) do sum = sum + weight end
   local at = fraction(self) * sum
   for i, weight in ipairs(weights) do
      at = at - weight
      if at < 0 then return i end
   end
   return #weights
end

-- ---- choices ----

-- The choices that make a trial: whether a module is on, and its knobs behind it.
local function choices_of(space)
   local list = {}
   for i, module in ipairs(space.modules) do
      list[#list + 1] = { module = i, count = #module.switches, switches = module.switches }
      for _, knob in ipairs(module.knobs) do list[#list + 1] = { module = i, count = #knob.values, knob = knob } end
   end
   return list
end

-- The trial of these choices.
local function trial_of(self, sample, ordinal)
   local strategy, values = 0, {}
   for c, choice in ipairs(self.choices) do
      if choice.switches then
         strategy = strategy * choice.count + sample[c] - 1
      elseif sample[c] then
         values[#values + 1] = choice.knob.values[sample[c]]
      end
   end
   return self.space:make(strategy, self.space:grid(strategy).knobs, values, ordinal)
end

-- Choose everything by the weights; what belongs to a module that is off is not chosen.
local function draw(self, weights_of)
   local sample, on = {}, false
   for c, choice in ipairs(self.choices) do
      if choice.switches then
         sample[c] = pick(self, weights_of(c))
         on = choice.switches[sample[c]]
      else
         sample[c] = on and pick(self, weights_of(c)) or false
      end
   end
   return sample
end

-- ---- densities ----

local function densities(self, observations, from, to)
   local list = {}
   for c, choice in ipairs(self.choices) do
      local weights, total = {}, choice.count * PRIOR
      for i = 1, choice.count do weights[i] = PRIOR end
      for i = from, to do
         local chosen = observations[i].sample[c]
         if chosen then
            weights[chosen] = weights[chosen] + 1
            total = total + 1
         end
      end
      for i = 1, choice.count do weights[i] = weights[i] / total end
      list[c] = weights
   end
   return list
end

-- Observations, best first.
local function ranked(self)
   if self.two_aims then return pareto.order(self.observed, self.direction) end
   local list = table.move(self.observed, 1, #self.observed, 1, {})
   table.sort(list, function(a, b)
      if a.score ~= b.score then
         if a.score == nil or b.score == nil then return b.score == nil end
         if self.direction == "maximize" then return a.score > b.score end
         return a.score < b.score
      end
      return a.ordinal < b.ordinal
   end)
   return list
end

-- ---- what is tried next ----

local function take(self, sample)
   local trial = trial_of(self, sample, self.made)
   if self.seen[trial.hash] then return false end
   self.seen[trial.hash], self.made = true, self.made + 1
   self.batch[#self.batch + 1] = { trial = trial, sample = sample, ordinal = trial.ordinal }
   return true
end

-- The choices of a trial that was found by walking the space.
local function sample_of(self, trial)
   local sample, on = {}, false
   for c, choice in ipairs(self.choices) do
      local module = self.space.modules[choice.module]
      local wanted
      if choice.switches then
         wanted, on = trial.strategy[module.name], trial.strategy[module.name]
      elseif on then
         wanted = trial.params[module.name][choice.knob.name]
      end
      sample[c] = false
      for i, value in ipairs(choice.switches or on and choice.knob.values or {}) do
         if value == wanted and math.type(value) == math.type(wanted) then sample[c] = i end
      end
   end
   return sample
end

local function take_any(self)
   for _ = 1, FURTHER_DRAWS do
      if take(self, draw(self, self.uniform)) then return true end
   end
   while self.at < self.space.total do
      local trial = self.space:trial(self.at)
      self.at = self.at + 1
      if not self.seen[trial.hash] and take(self, sample_of(self, trial)) then return true end
   end
   return false
end

local function take_likeliest(self, good, rest)
   local drawn = {}
   for i = 1, DRAWN do
      local sample, ratio = draw(self, function(c) return good[c] end), 1.0
      for c, chosen in ipairs(sample) do
         if chosen then ratio = ratio * (good[c][chosen] / rest[c][chosen]) end
      end
      drawn[i] = { sample = sample, ratio = ratio, place = i }
   end
   table.sort(drawn, function(a, b)
      if a.ratio ~= b.ratio then return a.ratio > b.ratio end
      return a.place < b.place
   end)
   for _, entry in ipairs(drawn) do
      if take(self, entry.sample) then return true end
   end
   return take_any(self)
end

local function decide(self)
   self.batch, self.turn = {}, 1
   if #self.observed < STARTUP then
      for _ = 1, STARTUP do
         if not take_any(self) then return end
      end
      return
   end
   local list = ranked(self)
   local count = math.min(MOST_GOOD, math.max(1, math.ceil(GAMMA * #list)))
   local good, rest = densities(self, list, 1, count), densities(self, list, count + 1, #list)
   for _ = 1, BATCH do
      if not take_likeliest(self, good, rest) then return end
   end
end

---@class espq.autoquant.Sampler an order: next, tell, ahead, left
local Sampler = { in_rounds = true }                       -- what follows a round hangs on all of its scores
Sampler.__index = Sampler

---@return espq.autoquant.Trial?
function Sampler:next()
   if not self.batch[self.turn] then decide(self) end
   return self.batch[self.turn] and self.batch[self.turn].trial
end

--- The trial's score; with two aims its record too, which says what it costs.
---@param score number?
---@param record table?
function Sampler:tell(score, record)
   local entry = self.batch[self.turn]
   entry.score = score
   if self.two_aims and record then entry.cost = self.cost_of(record) end
   self.observed[#self.observed + 1] = entry
   self.turn = self.turn + 1
end

function Sampler:ahead(count)
   local list = { self:next() }
   for i = self.turn + 1, math.min(#self.batch, self.turn + count - 1) do list[#list + 1] = self.batch[i].trial end
   return list
end

function Sampler:left() return self.space.total - #self.observed end

--- Trials by what is learned from those before.
---@param space espq.autoquant.Space
---@param direction "maximize"|"minimize"
---@param options { seed: integer, cost: nil|fun(record: table): number? } cost: the second aim
function tpe.new(space, direction, options)
   local self = setmetatable({
      space = space, direction = direction, state = options.seed * 0x2545F4914F6CDD1D + 1, two_aims = options.cost ~= nil, cost_of = options.cost,
      choices = choices_of(space), observed = {}, seen = {}, batch = {}, turn = 1, made = 0, at = 0,
   }, Sampler)
   local even = {}
   for c, choice in ipairs(self.choices) do
      even[c] = {}
      for i = 1, choice.count do even[c][i] = 1 end
   end
   self.uniform = function(c) return even[c] end
   return self
end

return tpe
