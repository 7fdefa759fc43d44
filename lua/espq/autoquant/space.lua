--- The space of a search: every strategy, every parameter sample, each by its number. Nothing is listed; a trial is computed from its ordinal.
local check = require "espq.check"
local core = require "espq.core"
local modules = require "espq.autoquant.modules"
local setting_tools = require "espq.autoquant.setting"
local text = require "espq.autoquant.text"

local space = {}

---@class espq.autoquant.Trial
---@field ordinal integer its place in the enumeration
---@field hash string 40 digits: strategy and parameters
---@field strategy table<string, boolean>
---@field params table<string, table<string, any>> a module that is off has none

---@class espq.autoquant.Space
---@field total integer trials in all
local Space = {}
Space.__index = Space

-- Knobs whose value does not change a trial: `device` decides it.
local NAMELESS = { collecting_device = true }

--- The name of a trial: SHA-1 of the reference's JSON text of its strategy and parameters.
---@return string
function space.hash(strategy, params)
   local shown = {}
   for name in pairs(strategy) do
      local sample = params[name]
      if sample then
         local kept = {}
         for knob, value in pairs(sample) do
            if not NAMELESS[knob] then kept[knob] = value end
         end
         sample = kept
      end
      shown[name] = sample or require("espq.json").null
   end
   return core.system.sha1(text.encode({ params = shown, strategy = strategy }))
end

-- Digits of a mixed-radix number, the last changing fastest.
local function digits_of(number, sizes)
   local digits = {}
   for i = #sizes, 1, -1 do
      digits[i] = number % sizes[i]
      number = number // sizes[i]
   end
   return digits
end

local function product(sizes)
   local count = 1
   for _, size in ipairs(sizes) do count = count * size end
   return count
end

-- The knobs of the modules that are on, one behind the other: what the digits of a sample stand for.
local function knobs_of(self, on)
   local list = {}
   for i, module in ipairs(self.modules) do
      for _, knob in ipairs(on[i] and module.knobs or {}) do list[#list + 1] = { module = module.name, name = knob.name, values = knob.values } end
   end
   return list
end

--- The space that a setting spans, with everything in it checked.
---@param setting espq.autoquant.Setting
---@param usable? fun(module: string, knob: string, value: any): boolean leaves out candidates of lists that the setting did not change
---@return espq.autoquant.Space
function space.new(setting, usable)
   if not setting_tools.is(setting) then
      check.fail("setting has to be what espq.autoquant_setting{…} gives", nil, 'local setting = espq.autoquant_setting { search_mode = "fast" }')
   end
   local self = setmetatable({ modules = {}, first = {}, total = 0 }, Space)
   local switch_sizes = {}
   for i, module in ipairs(modules.list()) do
      local knobs = {}
      for k, knob in ipairs(module.knobs) do
         local values = setting_tools.candidates(setting, module, knob)
         if usable and setting.param_space[module.name][knob.name] == knob.values then
            local kept = {}
            for _, value in ipairs(values) do
               if usable(module.name, knob.name, value) then kept[#kept + 1] = value end
            end
            values = kept
         end
         knobs[k] = { name = knob.name, values = values }
      end
      self.modules[i] = { name = module.name, switches = setting_tools.switches(setting, module), knobs = knobs, row = module }
      switch_sizes[i] = #self.modules[i].switches
   end
   self.strategies = product(switch_sizes)
   if self.strategies > 100000 then
      check.fail(("the strategy space has %d strategies"):format(self.strategies), nil, "leave modules on or off: { true } or { false }")
   end
   self.switch_sizes = switch_sizes
   for s = 0, self.strategies - 1 do
      self.first[s] = self.total
      self.total = self.total + self:samples(s)
   end
   return self
end

--- Which modules strategy number s switches on, by position.
---@return boolean[]
function Space:on(s)
   local digits, on = digits_of(s, self.switch_sizes), {}
   for i, module in ipairs(self.modules) do on[i] = module.switches[digits[i] + 1] end
   return on
end

--- Number of parameter samples of a strategy.
function Space:samples(s)
   local count, on = 1, self:on(s)
   for i, module in ipairs(self.modules) do
      for _, knob in ipairs(on[i] and module.knobs or {}) do count = count * #knob.values end
   end
   return count
end

--- A trial of strategy s with these values, in the order of its knobs.
---@return espq.autoquant.Trial
function Space:make(s, knobs, values, ordinal)
   local on, strategy, params = self:on(s), {}, {}
   for i, module in ipairs(self.modules) do
      strategy[module.name] = on[i]
      if on[i] then params[module.name] = {} end
   end
   for k, knob in ipairs(knobs) do params[knob.module][knob.name] = values[k] end
   return { ordinal = ordinal, hash = space.hash(strategy, params), strategy = strategy, params = params }
end

--- The trial of this ordinal in the exhaustive order, or nil behind the last.
---@return espq.autoquant.Trial?
function Space:trial(ordinal)
   if ordinal < 0 or ordinal >= self.total then return nil end
   local low, high = 0, self.strategies - 1
   while low < high do                                   -- the last strategy that begins at or before it
      local middle = (low + high + 1) // 2
      if self.first[middle] <= ordinal then low = middle else high = middle - 1 end
   end
   local grid = self:grid(low)
   return self:make(low, grid.knobs, grid:values(ordinal - self.first[low]), ordinal)
end

local Grid = {}
Grid.__index = Grid

--- The values of sample number i.
function Grid:values(i)
   local digits, values = digits_of(i, self.sizes), {}
   for k, choices in ipairs(self.choices) do values[k] = choices[digits[k] + 1] end
   return values
end

local function grid_of(knobs, choices)
   local sizes = {}
   for k, list in ipairs(choices) do sizes[k] = #list end
   return setmetatable({ knobs = knobs, choices = choices, sizes = sizes, count = product(sizes) }, Grid)
end

--- All samples of a strategy.
function Space:grid(s)
   if self.last_grid == s then return self.grid_cache end
   local knobs, choices = knobs_of(self, self:on(s)), {}
   for k, knob in ipairs(knobs) do choices[k] = knob.values end
   self.last_grid, self.grid_cache = s, grid_of(knobs, choices)
   return self.grid_cache
end

-- Values that are equal as numbers count once where the fast search gathers them.
local function numerically_distinct(values)
   local list = {}
   for _, value in ipairs(values) do
      local seen = false
      for _, other in ipairs(list) do seen = seen or other == value end
      if not seen then list[#list + 1] = value end
   end
   return list
end

--- Samples of the fast search. Without `fixed`: structural knobs take all values, others their first. With it: structural ones keep theirs.
---@param structural table<string, string[]>
---@param fixed? any[] values in the order of the knobs
function Space:part(s, structural, fixed)
   local knobs, choices = knobs_of(self, self:on(s)), {}
   for k, knob in ipairs(knobs) do
      local is_structural = false
      for _, name in ipairs(structural[knob.module] or {}) do is_structural = is_structural or name == knob.name end
      if fixed then
         choices[k] = is_structural and { fixed[k] } or numerically_distinct(knob.values)
      else
         choices[k] = is_structural and numerically_distinct(knob.values) or { knob.values[1] }
      end
   end
   return grid_of(knobs, choices)
end

--- Can a module be on that takes its layers from the error of a baseline?
function Space:ranks_layers()
   for _, module in ipairs(self.modules) do
      for _, on in ipairs(module.row.ranks and module.switches or {}) do
         if on then return true end
      end
   end
   return false
end

return space
