--- Arguments: known fields, wanted types, errors that name the nearest known name.
local core = require "espq.core"

local check = {}

--- Raise an error object.
---@param what string what happened
---@param where? string file, node, tensor
---@param cure? string what to do
function check.fail(what, where, cure)
   core.error.raise { what = what, where = where, cure = cure, code = "input" }
end

--- " (did you mean 'x'?)", or nothing when no name is near.
function check.hint(word, names)
   local near = core.base.nearest(tostring(word), names)
   return near and (" (did you mean '%s'?)"):format(near) or ""
end

--- A line that a graph keeps, as it is shown.
function check.told(line) return line:find "^warning: " and line or "note: " .. line end

function check.keys(t)
   local names = {}
   for key in pairs(t) do names[#names + 1] = tostring(key) end
   table.sort(names)
   return names
end

local function type_of(value)
   if core.tensor.is_tensor(value) then return "tensor" end
   return type(value)
end

--- One of several words.
function check.word(what, value, words)
   for _, word in ipairs(words) do
      if word == value then return value end
   end
   check.fail(("%s: unknown value '%s'%s; known are %s"):format(what, tostring(value), check.hint(value, words), table.concat(words, ", ")))
end

--- Check the fields of a call. spec: name = "string", "number", "integer", "boolean", "table", "function", "tensor", several by |, or "any";
--- a ! at the end: required.
---@param what string the function's name, for messages
---@param given table
---@param spec table<string, string>
function check.fields(what, given, spec)
   if type(given) ~= "table" then check.fail(("%s: one table with named fields is wanted, this is a %s"):format(what, type(given))) end
   for key, value in pairs(given) do
      local wanted = spec[key]
      if not wanted then
         local names = check.keys(spec)
         local hint = check.hint(key, names)
         if hint == "" and #names <= 12 then hint = "; known are " .. table.concat(names, ", ") end
         check.fail(("%s: unknown field '%s'%s"):format(what, tostring(key), hint))
      end
      wanted = wanted:gsub("!$", "")
      local is, fits = type_of(value), wanted == "any"
      for word in wanted:gmatch "[^|]+" do
         fits = fits or word == is or (word == "integer" and math.type(value) == "integer") or (word == "integer" and is == "number" and value % 1 == 0)
      end
      if not fits then check.fail(("%s: field '%s' has to be a %s, this is a %s"):format(what, key, wanted:gsub("|", " or a "), is)) end
   end
   for _, key in ipairs(check.keys(spec)) do
      if spec[key]:sub(-1) == "!" and given[key] == nil then check.fail(("%s: field '%s' is missing"):format(what, key)) end
   end
   return given
end

--- What this version does not have: an error only when it is really asked for.
function check.later(what, given, fields)
   for _, field in ipairs(fields) do
      if given[field] then
         check.fail(("%s: '%s' comes in a later version of espq"):format(what, field), nil, "leave the field out")
      end
   end
end

--- A module whose unknown names are errors, with the nearest name; `coming`: names that a later version has.
function check.module(name, module, coming)
   return setmetatable(module, { __index = function(self, key)
      for _, word in ipairs(coming or {}) do
         if word == key then check.fail(("espq.%s.%s comes in a later version"):format(name, key)) end
      end
      check.fail(("espq.%s has no '%s'%s"):format(name, tostring(key), check.hint(key, check.keys(self))))
   end })
end

return check
