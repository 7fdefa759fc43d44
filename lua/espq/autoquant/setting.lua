--- The setting of a search: what is tried, in which order, and where it is kept.
local check = require "espq.check"
local modules = require "espq.autoquant.modules"

local setting = {}

local Range = {}
Range.__index = Range
Range.__tostring = function(range) return ("espq.range(%s, %s, %s)"):format(range[1], range[2], range[3]) end

--- The reference's (start, end, step): candidates from start to end, end included.
---@return table
function setting.range(from, to, step)
   for i, value in ipairs { from, to, step } do
      if type(value) ~= "number" then check.fail(("range: number %d of start, end, step is a %s"):format(i, type(value))) end
   end
   if from == nil or to == nil or step == nil then check.fail("range: start, end and step are wanted") end
   if step <= 0 then check.fail(("range: the step has to be positive, it is %s"):format(step)) end
   return setmetatable({ from, to, step, range = true }, Range)
end

local function decimals(value)
   local digits = require("espq.autoquant.text").number(value)
   local mantissa, power = digits:match "^([^e]+)e(.+)$"
   local fraction = (mantissa or digits):match "%.(%d+)$" or ""
   if fraction == "0" and mantissa == nil then return 1 end
   return math.max(0, #fraction - (tonumber(power) or 0))
end

--- The candidates of a range, rounded to at least 12 decimals.
local function expand(range)
   local from, to, step = range[1], range[2], range[3]
   local places, values = math.max(12, decimals(from), decimals(to), decimals(step)), {}
   local i = 0
   while true do
      local value = from + i * step
      if value > to + math.abs(step) * 1e-12 then return values end
      if math.type(value) == "float" then value = tonumber(("%." .. places .. "f"):format(value)) + 0.0 end
      values[#values + 1] = value
      i = i + 1
   end
end

-- ---- values ----

local function words_of(knob) return type(knob.words) == "function" and knob.words() or knob.words end

local function allowed(knob)
   if knob.kind == "topk" then return knob.all and "-1 (all layers) or whole numbers from 1" or "whole numbers from 1" end
   if knob.kind == "integer" then return ("whole numbers from %d"):format(knob.least) end
   if knob.kind == "number" then return ("numbers from %g"):format(knob.least) end
   if knob.kind == "boolean" then return "true and false" end
   local words = words_of(knob)
   return words and table.concat(words, ", ") or "texts"
end

local function fits(knob, value)
   if knob.kind == "topk" then return math.type(value) == "integer" and (value > 0 or (knob.all and value == -1)) end
   if knob.kind == "integer" then return math.type(value) == "integer" and value >= knob.least end
   if knob.kind == "number" then return math.type(value) ~= nil and value >= knob.least and value < math.huge end
   if knob.kind == "boolean" then return type(value) == "boolean" end
   if knob.kind == "any" then return type(value) == "number" or type(value) == "string" or type(value) == "boolean" end
   if type(value) ~= "string" then return false end
   for _, word in ipairs(words_of(knob) or { value }) do
      if word == value then return true end
   end
   return false
end

local function shown(value) return type(value) == "string" and "'" .. value .. "'" or tostring(value) end

-- Candidates of a knob as a list of their own.
local function candidates(module, knob, given)
   local where = ("param_space.%s.%s"):format(module.name, knob.name)
   if type(given) ~= "table" then
      check.fail(("%s has to be a list or espq.range(start, end, step), this is %s"):format(where, shown(given)), nil,
                 ("allowed are %s"):format(allowed(knob)))
   end
   local values = getmetatable(given) == Range and expand(given) or table.move(given, 1, #given, 1, {})
   if #values == 0 then
      check.fail(where .. (next(given) == nil and " is empty" or " has no candidates"), nil, ("allowed are %s"):format(allowed(knob)))
   end
   for i, value in ipairs(values) do
      local whole = knob.kind == "integer" or knob.kind == "topk"
      if whole and math.type(value) == "float" and value % 1 == 0 and value == value then value = math.tointeger(value) end
      if not fits(knob, value) then
         local hint = type(value) == "string" and words_of(knob) and check.hint(value, words_of(knob)) or ""
         check.fail(("%s: %s is no candidate%s"):format(where, shown(value), hint), nil, ("allowed are %s"):format(allowed(knob)))
      end
      values[i] = value
   end
   return values
end

-- A value that stands twice would be the same trial twice.
local function distinct(values)
   local seen, list = {}, {}
   for _, value in ipairs(values) do
      local key = (math.type(value) or type(value)) .. tostring(value)
      if not seen[key] then list[#list + 1] = value end
      seen[key] = true
   end
   return list
end

-- ---- the spaces ----

local hidden = setmetatable({}, { __mode = "k" })         -- what stands behind a proxy

local function unknown_module(where, name)
   check.fail(("%s: there is no module '%s'%s"):format(where, tostring(name), check.hint(name, modules.names())), nil,
              "modules are " .. table.concat(modules.names(), ", ") .. "; espq.strategy makes one of your own")
end

local function module_of(where, name) return modules.find(name) or unknown_module(where, name) end

local Strategies, Parameters, Knobs = {}, {}, {}

function Strategies.__index(proxy, name)
   local module = module_of("strategy_space", name)
   local values = hidden[proxy]
   if not values[name] then values[name] = table.move(module.switch, 1, #module.switch, 1, {}) end
   return values[name]
end

function Strategies.__newindex(proxy, name, value)
   module_of("strategy_space", name)
   if type(value) ~= "table" then
      check.fail(("strategy_space.%s has to be a list of true and false, this is %s"):format(name, shown(value)), nil, "{ true, false } tries both")
   end
   if #value == 0 then check.fail(("strategy_space.%s is empty"):format(name), nil, "allowed are { true }, { false }, { true, false }") end
   for _, item in ipairs(value) do
      if type(item) ~= "boolean" then
         check.fail(("strategy_space.%s: %s is neither true nor false"):format(name, shown(item)), nil, "allowed are { true }, { false }, { true, false }")
      end
   end
   hidden[proxy][name] = table.move(value, 1, #value, 1, {})
end

local function each_module(proxy)
   local i = 0
   return function()
      i = i + 1
      local row = modules.list()[i]
      if row then return row.name, proxy[row.name] end
   end
end

Strategies.__pairs = each_module
Parameters.__pairs = each_module

function Parameters.__index(proxy, name)
   local module = module_of("param_space", name)
   local groups = hidden[proxy]
   if not groups[name] then
      local group, values = setmetatable({}, Knobs), {}
      for _, knob in ipairs(module.knobs) do values[knob.name] = knob.values end
      hidden[group] = { module = module, values = values }
      groups[name] = group
   end
   return groups[name]
end

function Parameters.__newindex(proxy, name, value)
   local module = module_of("param_space", name)
   if type(value) ~= "table" then
      check.fail(("param_space.%s has to be a table of knobs, this is %s"):format(name, shown(value)), nil,
                 "knobs are " .. table.concat(modules.knob_names(module), ", "))
   end
   local group = proxy[name]
   for key, list in pairs(value) do group[key] = list end
end

local function knob_of(module, name)
   local knob = modules.knob(module, name)
   if knob then return knob end
   local names = modules.knob_names(module)
   check.fail(("param_space.%s has no knob '%s'%s"):format(module.name, tostring(name), check.hint(name, names)), nil,
              #names > 0 and "knobs are " .. table.concat(names, ", ") or "this module has none")
end

function Knobs.__index(group, name)
   local self = hidden[group]
   knob_of(self.module, name)
   return self.values[name]
end

function Knobs.__newindex(group, name, value)
   local self = hidden[group]
   local knob = knob_of(self.module, name)
   candidates(self.module, knob, value)
   self.values[name] = value
end

function Knobs.__pairs(group)
   local self, i = hidden[group], 0
   return function()
      i = i + 1
      local knob = self.module.knobs[i]
      if knob then return knob.name, self.values[knob.name] end
   end
end

-- ---- the whole ----

local MODES, DIRECTIONS, COSTS = { "exhaustive", "fast", "tpe", "pareto" }, { "maximize", "minimize" }, { "latency", "bytes" }

--- True when neither mixed_precision nor horizontal_layer_split is on: such models run fastest.
---@param record table
---@return boolean
function setting.low_latency_candidate_filter(record)
   return not record.strategy.mixed_precision and not record.strategy.horizontal_layer_split
end

local function positive(name)
   return function(value)
      if type(value) == "number" and value >= 1 and value % 1 == 0 then return math.tointeger(value) end
      check.fail(("autoquant_setting: %s has to be a whole number from 1, this is %s"):format(name, shown(value)))
   end
end

local function typed(name, kind)
   return function(value)
      if type(value) == kind then return value end
      check.fail(("autoquant_setting: %s has to be a %s, this is %s"):format(name, kind, shown(value)))
   end
end

local function one_of(name, words)
   return function(value) return check.word("autoquant_setting: " .. name, value, words) end
end

local function structural(value)
   if type(value) ~= "table" then check.fail "autoquant_setting: structural_knobs has to be a table module = { knob, … }" end
   local copy = {}
   for name, list in pairs(value) do
      local module = module_of("structural_knobs", name)
      if type(list) ~= "table" then check.fail(("structural_knobs.%s has to be a list of knobs, this is %s"):format(name, shown(list))) end
      for _, knob in ipairs(list) do
         if not modules.knob(module, knob) then
            local names = modules.knob_names(module)
            check.fail(("structural_knobs: module '%s' has no knob '%s'%s"):format(name, tostring(knob), check.hint(knob, names)), nil,
                       "knobs are " .. table.concat(names, ", "))
         end
      end
      copy[name] = table.move(list, 1, #list, 1, {})
   end
   return copy
end

local function budget(value)
   check.fields("autoquant_setting: budget", value, { trials = "integer", seconds = "number" })
   for name, limit in pairs(value) do
      if limit <= 0 then check.fail(("autoquant_setting: budget.%s has to be positive, it is %s"):format(name, limit)) end
   end
   return value
end

local function quantization_setting(value)
   if require("espq.setting").is(value) then return value end
   check.fail("autoquant_setting: base has to be what espq.setting.espdl() or espq.setting.reference() gives", nil, "setting.base = espq.setting.espdl()")
end

-- Fields: default, check of a value, whether nil is one.
local fields = {
   num_of_candidates = { 5, positive "num_of_candidates" },
   search_mode = { "exhaustive", one_of("search_mode", MODES) },
   candidate_filter = { setting.low_latency_candidate_filter, typed("candidate_filter", "function"), optional = true },
   score_direction = { "maximize", one_of("score_direction", DIRECTIONS) },
   run_dir = { "outputs/auto_quant", typed("run_dir", "string") },
   resume = { false, typed("resume", "boolean") },
   top_strategy = { 10, positive "top_strategy" },
   early_stop_patience = { 3, positive "early_stop_patience" },
   structural_knobs = { { calib_algorithm = { "method" }, num_of_bits = { "value" } }, structural },
   seed = { 0, function(value)
      if math.type(value) == "integer" then return value end
      check.fail(("autoquant_setting: seed has to be a whole number, this is %s"):format(shown(value)))
   end },
   share = { true, typed("share", "boolean") },
   prune = { false, typed("prune", "boolean") },
   pareto_cost = { "latency", one_of("pareto_cost", COSTS) },
   budget = { nil, budget, optional = true },
   base = { nil, quantization_setting, optional = true },
}

local Setting = {}

local function field_names()
   local names = check.keys(fields)
   table.insert(names, "strategy_space")
   table.insert(names, "param_space")
   return names
end

local function unknown_field(name)
   check.fail(("autoquant_setting: unknown field '%s'%s"):format(tostring(name), check.hint(name, field_names())), nil,
              "fields are " .. table.concat(field_names(), ", "))
end

function Setting.__index(self, name)
   if name == "strategy_space" or name == "param_space" or fields[name] then return hidden[self][name] end
   unknown_field(name)
end

function Setting.__newindex(self, name, value)
   if name == "strategy_space" or name == "param_space" then
      if type(value) ~= "table" then check.fail(("autoquant_setting: %s has to be a table of modules, this is %s"):format(name, shown(value))) end
      for module, content in pairs(value) do hidden[self][name][module] = content end
      return
   end
   local field = fields[name] or unknown_field(name)
   if value == nil or (value == false and field.optional) then
      if not field.optional then check.fail(("autoquant_setting: %s cannot be nil"):format(name)) end
      hidden[self][name] = nil
   else
      hidden[self][name] = field[2](value)
   end
end

Setting.__pairs = function(self)
   local names, i = field_names(), 0
   table.sort(names)
   return function()
      i = i + 1
      if names[i] then return names[i], self[names[i]] end
   end
end

---@class espq.autoquant.Setting
---@field num_of_candidates integer
---@field search_mode "exhaustive"|"fast"|"tpe"|"pareto" tpe: what was good leads to what is tried; pareto: the same for score and cost together
---@field candidate_filter (fun(record: table): boolean)?
---@field score_direction "maximize"|"minimize"
---@field run_dir string
---@field resume boolean
---@field top_strategy integer
---@field early_stop_patience integer
---@field structural_knobs table<string, string[]>
---@field strategy_space table<string, boolean[]>
---@field param_space table<string, table<string, any[]>>
---@field seed integer
---@field share boolean
---@field prune boolean leave out the evaluation of trials whose graphwise error is hopeless
---@field pareto_cost "latency"|"bytes" the second aim of search_mode "pareto"
---@field budget { trials: integer?, seconds: number? }?
---@field base table?

--- The setting of a search, with the reference's defaults where nothing is given. Its spaces are edited in part.
---@param given? table fields by name
---@return espq.autoquant.Setting
function setting.new(given)
   if given ~= nil and type(given) ~= "table" then check.fail("autoquant_setting: one table with named fields is wanted, this is a " .. type(given)) end
   local self = setmetatable({}, Setting)
   local strategies, parameters = setmetatable({}, Strategies), setmetatable({}, Parameters)
   hidden[strategies], hidden[parameters] = {}, {}
   hidden[self] = { strategy_space = strategies, param_space = parameters }
   for name, field in pairs(fields) do
      if field[1] ~= nil then hidden[self][name] = name == "structural_knobs" and structural(field[1]) or field[1] end
   end
   for name, value in pairs(given or {}) do self[name] = value end
   return self
end

function setting.is(value) return getmetatable(value) == Setting end

--- Candidates of a module's knob, checked again: a script may have written into the list.
---@return any[]
function setting.candidates(self, module, knob)
   return distinct(candidates(module, knob, self.param_space[module.name][knob.name]))
end

--- What the strategy space says of a module, checked again.
---@return boolean[]
function setting.switches(self, module)
   self.strategy_space[module.name] = self.strategy_space[module.name]
   return distinct(self.strategy_space[module.name])
end

return setting
