--- JSON: reading, and writing with sorted keys. Numbers are written as short as they read back equal.
local core = require "espq.core"
local check = require "espq.check"

local json = {}

--- Stands for null in what is read.
json.null = setmetatable({}, { __tostring = function() return "null" end })

--- Marks a table as a list even when it is empty.
function json.list(t) return setmetatable(t, { __jsontype = "array" }) end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\b"] = "\\b", ["\f"] = "\\f" }

local function quoted(text)
   return '"' .. text:gsub('[%c"\\]', function(c) return escapes[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

local function is_list(t)
   local meta = getmetatable(t)
   if meta and meta.__jsontype then return meta.__jsontype == "array" end
   return #t > 0
end

local function encode(value, indent, depth)
   local kind = type(value)
   if value == nil or value == json.null then return "null" end
   if kind == "boolean" then return tostring(value) end
   if kind == "string" then return quoted(value) end
   if kind == "number" then
      if value ~= value or value == math.huge or value == -math.huge then return "null" end
      return math.type(value) == "integer" and ("%d"):format(value) or core.base.number(value)
   end
   if kind ~= "table" then return quoted(tostring(value)) end
   local parts, open, close = {}, "{", "}"
   if is_list(value) then
      open, close = "[", "]"
      for _, item in ipairs(value) do parts[#parts + 1] = encode(item, indent, depth + 1) end
   else
      for _, key in ipairs(check.keys(value)) do
         local item = value[key]
         if item == nil then item = value[tonumber(key)] end
         parts[#parts + 1] = quoted(key) .. (indent and ": " or ":") .. encode(item, indent, depth + 1)
      end
   end
   if #parts == 0 then return open .. close end
   if not indent then return open .. table.concat(parts, ",") .. close end
   local pad = (" "):rep(indent * (depth + 1))
   return open .. "\n" .. pad .. table.concat(parts, ",\n" .. pad) .. "\n" .. (" "):rep(indent * depth) .. close
end

---@param value any
---@param indent? integer blanks a level; one line without
---@return string
function json.encode(value, indent) return encode(value, indent, 0) end

local function fail(text, position, what)
   local _, line = text:sub(1, position):gsub("\n", "")
   check.fail(("JSON: %s in line %d"):format(what, line + 1))
end

local read

local function skip(text, position) return text:find("[^ \t\r\n]", position) or #text + 1 end

local function read_string(text, position)
   local parts, i = {}, position + 1
   while true do
      local stop = text:find('["\\%c]', i)
      if not stop then fail(text, position, "a text without end") end
      parts[#parts + 1] = text:sub(i, stop - 1)
      local c = text:sub(stop, stop)
      if c == '"' then return table.concat(parts), stop + 1 end
      if c ~= "\\" then fail(text, stop, "a control character in a text") end
      local e = text:sub(stop + 1, stop + 1)
      i = stop + 2
      if e == "u" then
         local code = tonumber(text:sub(i, i + 3), 16)
         if not code then fail(text, stop, "a broken \\u") end
         i = i + 4
         local low = text:match("^\\u([dD][c-fC-F]%x%x)", i)
         if code >= 0xD800 and code < 0xDC00 and low then
            code = 0x10000 + (code - 0xD800) * 0x400 + (tonumber(low, 16) - 0xDC00)
            i = i + 6
         end
         parts[#parts + 1] = utf8.char(code)
      else
         local plain = ({ n = "\n", r = "\r", t = "\t", b = "\b", f = "\f", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" })[e]
         if not plain then fail(text, stop, "an unknown escape") end
         parts[#parts + 1] = plain
      end
   end
end

local function read_items(text, position, depth, close, item)
   if depth > 200 then fail(text, position, "more than 200 levels") end
   position = skip(text, position + 1)
   if text:sub(position, position) == close then return position + 1 end
   while true do
      position = skip(text, item(position))
      local c = text:sub(position, position)
      if c == close then return position + 1 end
      if c ~= "," then fail(text, position, "a comma or " .. close .. " is missing") end
      position = skip(text, position + 1)
   end
end

function read(text, position, depth)
   position = skip(text, position)
   local c = text:sub(position, position)
   if c == '"' then return read_string(text, position) end
   if c == "{" then
      local object = {}
      return object, read_items(text, position, depth, "}", function(at)
         if text:sub(at, at) ~= '"' then fail(text, at, "a key is missing") end
         local key, value
         key, at = read_string(text, at)
         at = skip(text, at)
         if text:sub(at, at) ~= ":" then fail(text, at, "a colon is missing") end
         value, at = read(text, at + 1, depth + 1)
         object[key] = value
         return at
      end)
   end
   if c == "[" then
      local list = json.list {}
      return list, read_items(text, position, depth, "]", function(at)
         list[#list + 1], at = read(text, at, depth + 1)
         return at
      end)
   end
   for word, value in pairs { ["true"] = true, ["false"] = false, null = json.null } do
      if text:sub(position, position + #word - 1) == word then return value, position + #word end
   end
   local number = text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", position)
   local value = number and tonumber(number)               -- 1 is an integer, 1.0 a float
   if not value then fail(text, position, "an unexpected character") end
   return value, position + #number
end

---@param text string
---@return any
function json.decode(text)
   local value, position = read(text, 1, 0)
   if skip(text, position) <= #text then fail(text, position, "something behind the end") end
   return value
end

return json
