--- Records as text: JSON in the reference's spelling and order, and the name of a trial.
local core = require "espq.core"
local json = require "espq.json"

local text = {}

--- A number as Python prints it: integers without a point, floats as short as they read back equal, with .0 or an exponent.
---@param value number
---@return string
function text.number(value)
   if math.type(value) == "integer" then return ("%d"):format(value) end
   local sign = ""
   local short = core.base.number(value)
   if short:sub(1, 1) == "-" then sign, short = "-", short:sub(2) end
   local mantissa, power = short:match "^([%d.]+)e([+-]?%d+)$"
   mantissa = mantissa or short
   local whole, fraction = mantissa:match "^(%d+)%.?(%d*)$"
   if not whole then return sign .. short end                        -- inf, nan: no JSON has them, records neither
   local digits, exponent = whole .. fraction, #whole + (tonumber(power) or 0)
   local zeros = digits:match "^0*"
   digits, exponent = digits:sub(#zeros + 1):gsub("0+$", ""), exponent - #zeros
   if digits == "" then return sign .. "0.0" end
   -- value = 0.digits * 10^exponent; Python writes an exponent below 1e-4 and from 1e16 on.
   if exponent < -3 or exponent > 16 then
      local tail = digits:sub(2)
      return ("%s%s%se%s%02d"):format(sign, digits:sub(1, 1), tail ~= "" and "." .. tail or "", exponent > 0 and "+" or "-", math.abs(exponent - 1))
   end
   if exponent <= 0 then return sign .. "0." .. ("0"):rep(-exponent) .. digits end
   if #digits <= exponent then return sign .. digits .. ("0"):rep(exponent - #digits) .. ".0" end
   return sign .. digits:sub(1, exponent) .. "." .. digits:sub(exponent + 1)
end

local function unicode(code)
   if code < 0x10000 then return ("\\u%04x"):format(code) end
   code = code - 0x10000
   return ("\\u%04x\\u%04x"):format(0xD800 + (code >> 10), 0xDC00 + (code & 0x3FF))
end

local short_escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f" }

local function quoted(value)
   value = value:gsub('[%c"\\\127]', function(c) return c ~= "\127" and (short_escapes[c] or unicode(c:byte())) or nil end)
   if value:find "[\128-\255]" then
      if not utf8.len(value) then value = value:gsub("[\128-\255]", "?") end
      value = value:gsub(utf8.charpattern, function(c) return #c > 1 and unicode(utf8.codepoint(c)) or nil end)
   end
   return '"' .. value .. '"'
end

text.quoted = quoted

local function is_list(value)
   local meta = getmetatable(value)
   if meta and meta.__jsontype then return meta.__jsontype == "array" end
   return #value > 0
end

local function sorted_keys(value)
   local keys = {}
   for key in pairs(value) do keys[#keys + 1] = key end
   table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
   return keys
end

local function scalar(value)
   if value == nil or value == json.null then return "null" end
   local kind = math.type(value) and "number" or type(value)
   if kind == "number" then return text.number(value) end
   if kind == "string" then return quoted(value) end
   if kind == "boolean" then return tostring(value) end
end

--- JSON with the separators of Python's json.dumps. keys(value, path) gives the order of an object's keys (and may name absent ones: null).
---@param value any
---@param indent integer|nil blanks a level, nil: one line
---@param keys? fun(value: table, path: string): string[]
---@return string
function text.encode(value, indent, keys)
   local function encode(item, path, depth)
      local plain = scalar(item)
      if plain then return plain end
      if type(item) ~= "table" then return quoted(tostring(item)) end
      local parts, open, close = {}, "{", "}"
      if is_list(item) then
         open, close = "[", "]"
         for i, entry in ipairs(item) do parts[i] = encode(entry, path .. "[]", depth + 1) end
      else
         for _, key in ipairs(keys and keys(item, path) or sorted_keys(item)) do
            local at = path == "" and tostring(key) or path .. "." .. tostring(key)
            parts[#parts + 1] = quoted(tostring(key)) .. ": " .. encode(item[key], at, depth + 1)
         end
      end
      if #parts == 0 then return open .. close end
      if not indent then return open .. table.concat(parts, ", ") .. close end
      local pad = "\n" .. (" "):rep(indent * (depth + 1))
      return open .. pad .. table.concat(parts, "," .. pad) .. "\n" .. (" "):rep(indent * depth) .. close
   end
   return encode(value, "", 0)
end

return text
