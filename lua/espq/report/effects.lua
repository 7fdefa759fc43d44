--- What each module and each knob of a search is worth: trials that are equal in all else are compared with each other.
-- A fast or budgeted search tries good strategies more often, so plain means would credit a knob with the company it kept.
local json = require "espq.json"

local effects = {}

local function value_text(value)
   if type(value) == "table" then return json.encode(value) end
   if math.type(value) == "float" then return ("%.10g"):format(value) end
   return tostring(value)
end

effects.value_text = value_text

local function sorted_keys(t)
   local names = {}
   for key in pairs(t) do names[#names + 1] = key end
   table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
   return names
end

-- What a record says of one module, as text; with one of its knobs left out.
local function part_of(record, module, without)
   local on = record.strategy[module]
   if not on or on == json.null then return "off" end
   local knobs = record.params and record.params[module]
   if type(knobs) ~= "table" or knobs == json.null then return "on" end
   local parts = {}
   for _, knob in ipairs(sorted_keys(knobs)) do
      if knob ~= without and knob ~= "collecting_device" then parts[#parts + 1] = knob .. "=" .. value_text(knobs[knob]) end
   end
   return "on " .. table.concat(parts, " ")
end

local function knob_value(record, module, knob)
   local knobs = record.strategy[module] == true and record.params and record.params[module]
   if type(knobs) ~= "table" or knobs == json.null then return nil end
   return knobs[knob]
end

--- Names of the modules of some records: as in the search, then those of the user's own.
---@return string[]
function effects.modules(records)
   local known, names = {}, {}
   for _, row in ipairs(require("espq.autoquant.modules").list()) do
      names[#names + 1] = row.name
      known[row.name] = true
   end
   local used, others = {}, {}
   for _, record in ipairs(records) do
      for name in pairs(record.strategy) do
         if not known[name] and not used[name] then others[#others + 1] = name end
         used[name] = true
      end
   end
   table.sort(others)
   local list = {}
   for _, name in ipairs(names) do
      if used[name] then list[#list + 1] = name end
   end
   table.move(others, 1, #others, #list + 1, list)
   return list
end

local function statistics(numbers)
   local sum, squares = 0, 0
   for _, number in ipairs(numbers) do sum = sum + number end
   local mean = sum / #numbers
   for _, number in ipairs(numbers) do squares = squares + (number - mean) ^ 2 end
   if squares < 1e-24 * mean * mean * #numbers then squares = 0.0 end         -- equal numbers, and the rounding of their mean
   return { mean = mean, spread = #numbers > 1 and math.sqrt(squares / (#numbers - 1)) or nil, count = #numbers }
end

local function mean(numbers) return statistics(numbers).mean end

-- Scores by what they have in common, then by the value at hand.
local function grouped(records, key_of, value_of)
   local groups, order = {}, {}
   for _, record in ipairs(records) do
      local value = value_of(record)
      if value ~= nil then
         local key = key_of(record)
         local group = groups[key]
         if not group then
            group = {}
            groups[key] = group
            order[#order + 1] = group
         end
         group[value] = group[value] or {}
         table.insert(group[value], record.score)
      end
   end
   return order
end

local function keys_without(parts, modules, left_out)
   return function(record)
      local list = {}
      for i, module in ipairs(modules) do
         local text = parts[record][i]
         if module == left_out.module then text = left_out.knob and part_of(record, module, left_out.knob) or "" end
         list[i] = text
      end
      return table.concat(list, "|")
   end
end

local function module_effect(records, key_of, module)
   local differences = {}
   for _, group in ipairs(grouped(records, key_of, function(record) return record.strategy[module] == true end)) do
      if group[true] and group[false] then differences[#differences + 1] = mean(group[true]) - mean(group[false]) end
   end
   if #differences > 0 then return statistics(differences), true end
   local on, off = {}, {}
   for _, record in ipairs(records) do table.insert(record.strategy[module] == true and on or off, record.score) end
   return { mean = mean(on) - mean(off), count = #on }, false
end

local function knob_effects(records, key_of, module, knob)
   local by_value, order = {}, {}
   local function add(value, number)
      if not by_value[value] then
         by_value[value] = {}
         order[#order + 1] = value
      end
      table.insert(by_value[value], number)
   end
   local function value_of(record)
      local value = knob_value(record, module, knob)
      return value ~= nil and value_text(value) or nil
   end
   local matched = false
   for _, group in ipairs(grouped(records, key_of, value_of)) do
      local values = sorted_keys(group)
      if #values > 1 then
         matched = true
         local means = {}
         for i, value in ipairs(values) do means[i] = mean(group[value]) end
         local middle = mean(means)
         for i, value in ipairs(values) do add(value, means[i] - middle) end
      end
   end
   if not matched then
      local all = {}
      for _, record in ipairs(records) do
         if value_of(record) then all[#all + 1] = record.score end
      end
      for _, record in ipairs(records) do
         local value = value_of(record)
         if value then add(value, record.score - mean(all)) end
      end
   end
   table.sort(order, function(a, b)
      local x, y = tonumber(a), tonumber(b)
      if x and y and x ~= y then return x < y end
      return a < b
   end)
   local rows = {}
   for i, value in ipairs(order) do
      rows[i] = statistics(by_value[value])
      rows[i].value = value
   end
   return rows, matched
end

-- Knobs with more than one value among the records.
local function varied_knobs(records, module)
   local seen, varied = {}, {}
   for _, record in ipairs(records) do
      local knobs = record.strategy[module] == true and record.params and record.params[module]
      if type(knobs) == "table" and knobs ~= json.null then
         for name, value in pairs(knobs) do
            local text = value_text(value)
            if seen[name] == nil then seen[name] = text elseif seen[name] ~= text then varied[name] = true end
         end
      end
   end
   varied.collecting_device = nil
   return sorted_keys(varied)
end

--- Effects on the score, in the order of the search: rows module, knob and value (nil for the module as a whole: on against off), mean, spread (standard
--- deviation, nil for a single comparison), count (comparisons), matched (false: the trials differ in other things, too).
---@param records table[] with score, strategy, params
---@return table[]
function effects.of(records)
   local rows, modules, parts = {}, effects.modules(records), {}
   for _, record in ipairs(records) do
      parts[record] = {}
      for i, module in ipairs(modules) do parts[record][i] = part_of(record, module) end
   end
   for _, module in ipairs(modules) do
      local on, off = false, false
      for _, record in ipairs(records) do
         if record.strategy[module] == true then on = true else off = true end
      end
      if on and off then
         local row, matched = module_effect(records, keys_without(parts, modules, { module = module }), module)
         row.module, row.matched = module, matched
         rows[#rows + 1] = row
      end
      for _, knob in ipairs(varied_knobs(records, module)) do
         local list, matched = knob_effects(records, keys_without(parts, modules, { module = module, knob = knob }), module, knob)
         for _, row in ipairs(list) do
            row.module, row.knob, row.matched = module, knob, matched
            rows[#rows + 1] = row
         end
      end
   end
   return rows
end

--- The strategies of the records, best first: rows names (of what is on), best, mean, spread, count, index (of the best trial).
---@param direction "maximize"|"minimize"
function effects.strategies(records, direction)
   local modules, by_name, rows = effects.modules(records), {}, {}
   for _, record in ipairs(records) do
      local names = {}
      for _, module in ipairs(modules) do
         if record.strategy[module] == true then names[#names + 1] = module end
      end
      local key = table.concat(names, " ")
      local row = by_name[key]
      if not row then
         row = { names = names, scores = {} }
         by_name[key] = row
         rows[#rows + 1] = row
      end
      table.insert(row.scores, record.score)
      if not row.best or (direction == "maximize" and record.score > row.best) or (direction == "minimize" and record.score < row.best) then
         row.best, row.index = record.score, record.index
      end
   end
   for _, row in ipairs(rows) do
      local found = statistics(row.scores)
      row.mean, row.spread, row.count = found.mean, found.spread, found.count
   end
   table.sort(rows, function(a, b)
      if a.best ~= b.best then
         if direction == "maximize" then return a.best > b.best end
         return a.best < b.best
      end
      return a.index < b.index
   end)
   return rows
end

return effects
