--- Options of commands. A spec is a list of { "--name", value = "WHAT" or nil, help =, key =, many = }.
local core = require "espq.core"

local options = {}

--- Wrong usage: exit code 2.
function options.usage(text) core.error.raise { what = text, code = "usage" } end

local function print_help(command, spec)
   io.stdout:write("espq ", command.usage, "\n", command.help, "\n")
   local width = 0
   for _, option in ipairs(spec) do width = math.max(width, #option[1] + (option.value and #option.value + 1 or 0)) end
   for _, option in ipairs(spec) do
      local head = option[1] .. (option.value and " " .. option.value or "")
      io.stdout:write(("  %-" .. width .. "s  %s\n"):format(head, option.help))
   end
end

--- Words and options of a command line, or nil when --help was asked for (and printed).
---@param command table { usage =, help =, words = least number, most = }
---@param spec table
---@param arguments string[]
function options.parse(command, spec, arguments)
   local by_name, names = {}, { "--help" }
   for _, option in ipairs(spec) do
      by_name[option[1]] = option
      names[#names + 1] = option[1]
   end
   local words, values, i = {}, {}, 1
   while arguments[i] do
      local word = arguments[i]
      local name, attached = word:match "^(%-%-[%w-]+)=(.*)$"
      name = name or word
      if name == "--help" or name == "-h" then
         print_help(command, spec)
         return nil
      end
      local option = by_name[name]
      if option then
         local key = option.key or option[1]:gsub("^%-+", ""):gsub("%-", "_")
         local value = true
         if option.value then
            value = attached
            if not value then
               i = i + 1
               value = arguments[i]
               if not value then options.usage(("%s needs %s"):format(name, option.value)) end
            end
         elseif attached then
            options.usage(("%s takes no value"):format(name))
         end
         if option.many then
            values[key] = values[key] or {}
            table.insert(values[key], value)
         else
            values[key] = value
         end
      elseif word:sub(1, 1) == "-" and #word > 1 then
         local near = core.base.nearest(name, names)
         options.usage(("unknown option '%s'%s"):format(name, near and (" (did you mean '%s'?)"):format(near) or ""))
      else
         words[#words + 1] = word
      end
      i = i + 1
   end
   if #words < (command.words or 0) then options.usage("usage: espq " .. command.usage) end
   if #words > (command.most or command.words or 0) then options.usage(("'%s' is too much; usage: espq %s"):format(words[(command.most
         or command.words or 0) + 1], command.usage)) end
   return words, values
end

-- What the user typed is wrong usage, whoever finds it out.
local function typed(work, ...)
   local done, err = pcall(work, ...)
   if done then return end
   if core.error.is_error(err) and err.code == "input" then core.error.raise { what = err.what, where = err.where, cure = err.cure, code = "usage" } end
   error(err, 0)
end

--- Apply what --set asks for.
---@param setting table
---@param pairs_given? string[] PATH=VALUE
function options.set(setting, pairs_given)
   for _, pair in ipairs(pairs_given or {}) do
      local name, value = pair:match "^([^=]+)=(.*)$"
      if not name then options.usage(("--set needs PATH=VALUE, not '%s'"):format(pair)) end
      typed(require("espq.setting").set, setting, name, value)
   end
end

--- The target and the width, when they are known.
function options.target(given)
   local target, bits = given.target or "esp32p4", given.bits and options.number("--bits", given.bits) or 8
   if math.type(bits) ~= "integer" then options.usage(("--bits is 8 or 16, not '%s'"):format(given.bits)) end
   typed(core.road.platform, target, bits)
   return target, bits
end

function options.number(name, text)
   local value = tonumber(text)
   if not value then
      local over, under = text:match "^([%d.]+)/([%d.]+)$"
      if over then value = tonumber(over) / tonumber(under) end
   end
   if not value then options.usage(("%s needs a number, not '%s'"):format(name, text)) end
   return math.tointeger(value) or value
end

function options.numbers(name, text)
   local list = {}
   for part in text:gmatch "[^,]+" do list[#list + 1] = options.number(name, part) end
   return #list == 1 and list[1] or list
end

function options.names(text)
   local list = {}
   for part in text:gmatch "[^,]+" do list[#list + 1] = part end
   return list
end

--- "1,3,224,224", or "a=1,3;b=1,10" for several inputs.
function options.shape(name, text)
   if not text:find "=" then
      local list = options.numbers(name, text)
      return type(list) == "table" and list or { list }
   end
   local shapes = {}
   for input, sizes in text:gmatch "([^=;]+)=([^;]+)" do
      local list = options.numbers(name, sizes)
      shapes[input] = type(list) == "table" and list or { list }
   end
   return shapes
end

--- Print rows as a table for people, or as JSON.
function options.print_rows(rows, columns, as_json)
   if as_json then
      local json = require "espq.json"
      io.stdout:write(json.encode(json.list(rows), 2), "\n")
   else
      io.stdout:write(require("espq.report").table(rows, columns), "\n")
   end
end

return options
