--- Settings: the reference's tree as tables that know their fields.
local core = require "espq.core"
local check = require "espq.check"

local setting = {}

local rows, groups, paths                  -- path → row, path → names below it, all paths
local state = setmetatable({}, { __mode = "k" })   -- a group's table → { root =, path = }
local Group, Root, Dispatching = {}, {}, {}

local function load_rows()
   if rows then return end
   rows, groups, paths = {}, { [""] = {} }, {}
   for _, row in ipairs(core.setting.rows()) do
      rows[row.path] = row
      paths[#paths + 1] = row.path
      local parent, leaf = row.path:match "^(.*)%.([^.]+)$"
      parent, leaf = parent or "", leaf or row.path
      if not groups[parent] then
         groups[parent] = {}
         table.insert(groups[""], parent)
      end
      table.insert(groups[parent], leaf)
   end
end

local function words_of(row)
   if row.choices == "@observer" then
      local names = {}
      for _, observer in ipairs(core.base.observers()) do names[#names + 1] = observer.name end
      return names
   end
   local words = {}
   for word in row.choices:gmatch "[^|]+" do words[#words + 1] = word end
   return words
end

-- ---- values ----

local function from_text(row, text)
   if row.kind == "boolean" then return text == "true" end
   if row.kind == "integer" then return math.tointeger(tonumber(text)) end
   if row.kind == "number" then return tonumber(text) end
   if row.kind == "list" or row.kind == "config" then return {} end
   if row.kind == "dispatch" then return setmetatable({}, Dispatching) end
   if text == "nil" then return nil end
   return text
end

local function to_text(value)
   if value == nil then return "nil" end
   if math.type(value) == "float" then return core.base.number(value) end
   return tostring(value)
end

local function wrong(row, value, wanted)
   check.fail(("setting '%s' has to be %s, this is %s"):format(row.path, wanted, type(value) == "string" and "'" .. value .. "'" or tostring(value)),
         nil, row.help)
end

local function check_value(row, value)
   local kind = row.kind
   if kind == "boolean" then
      if type(value) ~= "boolean" then wrong(row, value, "true or false") end
   elseif kind == "integer" then
      if type(value) ~= "number" or value % 1 ~= 0 then wrong(row, value, "a whole number") end
      value = math.tointeger(value)
   elseif kind == "number" then
      if type(value) ~= "number" then wrong(row, value, "a number") end
   elseif kind == "list" or kind == "config" then
      if type(value) ~= "table" then wrong(row, value, kind == "list" and "a list of names" or "a table name = scale") end
      local copy = {}
      for key, item in pairs(value) do copy[key] = item end
      return copy
   elseif kind == "dispatch" then
      if type(value) ~= "table" then wrong(row, value, "a dispatching table") end
      local copy = setmetatable({}, Dispatching)
      for _, entry in ipairs(value) do copy[#copy + 1] = entry end
      return copy
   else
      if value == nil and (kind == "text or nil" or (row.choices or ""):find("None", 1, true)) then
         return kind == "text" and "None" or nil
      end
      if type(value) ~= "string" then wrong(row, value, "a text") end
      if row.choices then
         local words = words_of(row)
         for _, word in ipairs(words) do
            if word == value or (row.choices == "@observer" and word:lower() == value:lower()) then return value end
         end
         check.fail(("setting '%s': unknown value '%s'%s; known are %s"):format(row.path, value, check.hint(value, words), table.concat(words, ", ")))
      end
   end
   if row.choices and kind ~= "text or nil" and kind ~= "text" and kind ~= "boolean" then check.word("setting '" .. row.path .. "'", to_text(value),
         words_of(row)) end
   return value
end

-- ---- the tree ----

local function join(path, key) return path == "" and key or path .. "." .. key end

local function unknown(path, key)
   local full = join(path, tostring(key))
   local names = {}
   for _, name in ipairs(groups[path]) do names[#names + 1] = name end
   for name in pairs(path == "" and Root or {}) do names[#names + 1] = name end
   local near = core.base.nearest(tostring(key), names)
   if near then
      near = join(path, near)
   else
      near = core.base.nearest(full, paths)
   end
   check.fail(("unknown setting '%s'%s"):format(full, near and (" (did you mean '%s'?)"):format(near) or ""), nil, "`espq settings` lists them all")
end

function Group.__index(group, key)
   local self = state[group]
   local full = join(self.path, tostring(key))
   local root = self.root
   if rows[full] then return root.values[full] end
   if groups[full] then
      local child = root.children[full]
      if not child then
         child = setmetatable({}, Group)
         state[child] = { root = root, path = full }
         root.children[full] = child
      end
      return child
   end
   if self.path == "" then
      if Root[key] then return Root[key] end
   end
   unknown(self.path, key)
end

local noted = {}

function Group.__newindex(group, key, value)
   local self = state[group]
   local full = join(self.path, tostring(key))
   if full == "recover" and type(value) == "table" then          -- recover = { budget = 20 }: on, and how
      group.recover_setting = value
      value = true
   end
   local row = rows[full]
   if row then
      value = check_value(row, value)
      if row.unused and not noted[full] and to_text(value) ~= row.espdl then
         noted[full] = true
         core.base.note(("note: setting '%s' has no effect, as in the reference: %s"):format(full, row.help))
      end
      self.root.values[full] = value
   elseif groups[full] and type(value) == "table" then
      local child = group[key]
      for name, item in pairs(value) do child[name] = item end
   else
      unknown(self.path, key)
   end
end

local function copied(row, value)
   if type(value) == "table" then return check_value(row, value) end
   return value
end

local function make(base)
   load_rows()
   local root = { values = {}, children = {}, base = base }
   local group = setmetatable({}, Group)
   state[group] = { root = root, path = "" }
   for _, path in ipairs(paths) do root.values[path] = from_text(rows[path], rows[path][base]) end
   return group
end

--- What differs from the defaults, one line each: path, value, default.
local function differences(group)
   local root, lines = state[group].root, {}
   for _, path in ipairs(paths) do
      local row, value = rows[path], root.values[path]
      if row.kind == "list" then
         if #value > 0 then lines[#lines + 1] = ("%s = { %s }"):format(path, table.concat(value, ", ")) end
      elseif row.kind == "dispatch" then
         for _, entry in ipairs(value) do lines[#lines + 1] = ("%s: %s = %s"):format(path, entry.name, entry.platform.name) end
      elseif row.kind == "config" then
         for _, name in ipairs(check.keys(value)) do lines[#lines + 1] = ("%s.%s = %s"):format(path, name, to_text(value[name])) end
      elseif to_text(value) ~= to_text(from_text(row, row[root.base])) then
         lines[#lines + 1] = ("%s = %s   (default %s)"):format(path, to_text(value), row[root.base])
      end
   end
   return lines
end

function Group.__tostring(group)
   local self = state[group]
   if self.path == "" then
      local lines = differences(group)
      local head = ("espq.setting.%s()"):format(self.root.base)
      if #lines == 0 then return head .. ", nothing changed" end
      return head .. " with\n   " .. table.concat(lines, "\n   ")
   end
   local lines = {}
   for _, name in ipairs(groups[self.path]) do lines[#lines + 1] = ("%s = %s"):format(join(self.path, name), to_text(self.root.values[join(self.path,
         name)])) end
   return table.concat(lines, "\n")
end

function Group.__pairs(group)
   local self, i = state[group], 0
   local names = groups[self.path]
   return function()
      i = i + 1
      if names[i] then return names[i], group[names[i]] end
   end
end

-- ---- the dispatching table ----

Dispatching.__index = {
   --- Put an operator, by name or pattern with *, on a platform.
   ---@param name string
   ---@param platform table from espq.platform
   append = function(self, name, platform)
      if type(name) ~= "string" then check.fail("dispatching_table:append: an operator's name or pattern is wanted, this is a " .. type(name)) end
      if type(platform) ~= "table" or not platform.id then
         check.fail("dispatching_table:append: a platform is wanted as second argument", nil, 'espq.platform("esp32p4", 16), or espq.platform("float")')
      end
      table.insert(self, { name = name, platform = platform })
      return self
   end,
}

-- ---- methods of the whole ----

--- A setting of its own with the same values.
function Root.copy(group)
   local from = state[group].root
   local to = make(from.base)
   for path, row in pairs(rows) do state[to].root.values[path] = copied(row, from.values[path]) end
   return to
end

--- The reference's JSON: nested, keys sorted, four blanks.
function Root.to_json(group)
   local json = require "espq.json"
   local tree, values = {}, state[group].root.values
   for _, path in ipairs(paths) do
      local row, value = rows[path], values[path]
      if row.kind == "list" then
         value = json.list(copied(row, value))
      elseif row.kind == "dispatch" then
         local entries = {}
         for _, entry in ipairs(value) do entries[entry.name] = entry.platform.id end
         value = { dispatchings = entries }
      elseif value == nil then
         value = json.null
      end
      local at = tree
      local parent, leaf = path:match "^(.*)%.([^.]+)$"
      if parent then
         at[parent] = at[parent] or {}
         at = at[parent]
      end
      at[leaf or path] = value
   end
   return json.encode(tree, 4)
end

-- The call that gives a platform.
local function platform_text(platform)
   if platform.id == core.road.platform("float").id then return 'espq.platform "float"' end
   for _, target in ipairs(core.road.targets()) do
      for _, width in ipairs { { 8 }, { 16 }, { 16, true } } do
         local found, other = pcall(core.road.platform, target.name, width[1], width[2])
         if found and other.id == platform.id then
            return ("espq.platform(%q, %d%s)"):format(target.name, width[1], width[2] and ", true" or "")
         end
      end
   end
   return ("{ id = %d, name = %q }"):format(platform.id, platform.name)
end

local function literal(value) return type(value) == "string" and ("%q"):format(value) or to_text(value) end

--- Lines of Lua that make this setting, to paste into a script.
---@return string
function Root.to_lua(group)
   local root, lines = state[group].root, { ("local setting = espq.setting.%s()"):format(state[group].root.base) }
   for _, path in ipairs(paths) do
      local row, value = rows[path], root.values[path]
      if row.kind == "list" then
         local items = {}
         for i, item in ipairs(value) do items[i] = literal(item) end
         if #items > 0 then lines[#lines + 1] = ("setting.%s = { %s }"):format(path, table.concat(items, ", ")) end
      elseif row.kind == "dispatch" then
         for _, entry in ipairs(value) do
            lines[#lines + 1] = ("setting.%s:append(%q, %s)"):format(path, entry.name, platform_text(entry.platform))
         end
      elseif row.kind == "config" then
         for _, name in ipairs(check.keys(value)) do lines[#lines + 1] = ("setting.%s[%q] = %s"):format(path, name, to_text(value[name])) end
      elseif to_text(value) ~= to_text(from_text(row, row[root.base])) then
         lines[#lines + 1] = ("setting.%s = %s"):format(path, literal(value))
      end
   end
   return table.concat(lines, "\n")
end

--- The engine's own object of these values.
function setting.engine(group)
   local engine, values = core.setting.make(), state[group].root.values
   for _, path in ipairs(paths) do
      local row, value = rows[path], values[path]
      if row.kind == "list" then
         for _, item in ipairs(value) do
            if type(item) ~= "string" then wrong(row, item, "a list of names") end
            core.setting.list_add(engine, path, item)
         end
      elseif row.kind == "dispatch" then
         for _, entry in ipairs(value) do core.setting.dispatch_add(engine, entry.name, entry.platform.id) end
      elseif row.kind == "config" then
         for _, name in ipairs(check.keys(value)) do
            if type(value[name]) ~= "number" then wrong(row, value[name], "a table name = scale") end
            core.setting.config_add(engine, name, value[name] + 0.0)
         end
      else
         core.setting.set(engine, path, to_text(value))
      end
   end
   return engine
end

function setting.is(value) return type(value) == "table" and getmetatable(value) == Group and state[value].path == "" end

--- espq's own defaults: the reference's numbers in files that the chip runs rightly.
function setting.espdl() return make "espdl" end

--- The reference's files, faults included.
function setting.reference() return make "reference" end

--- The reference's generic defaults.
function setting.generic() return make "generic" end

--- Read the reference's (or espq's own) JSON. Unknown keys are skipped with a note, missing ones keep the generic defaults.
---@param text string
function setting.from_json(text)
   local json = require "espq.json"
   local group = make "generic"
   local function walk(tree, path)
      for _, key in ipairs(check.keys(tree)) do
         local full, value = join(path, key), tree[key]
         local row = rows[full]
         if row and row.kind == "dispatch" then
            for name, id in pairs(type(value) == "table" and value.dispatchings or {}) do
               table.insert(state[group].root.values[full], { name = name, platform = { id = id, name = tostring(id) } })
            end
            table.sort(state[group].root.values[full], function(a, b) return a.name < b.name end)
         elseif row then
            if value == json.null then value = nil end
            state[group].root.values[full] = check_value(row, value)
         elseif groups[full] and type(value) == "table" then
            walk(value, full)
         else
            core.base.note(("note: unknown setting '%s' is skipped%s"):format(full, check.hint(full, paths)))
         end
      end
   end
   walk(json.decode(text), "")
   return group
end

--- Set one value by its path from text, as the command line does.
function setting.set(group, path, text)
   load_rows()
   local row = rows[path]
   if not row then
      local near = core.base.nearest(path, paths)
      check.fail(("unknown setting '%s'%s"):format(path, near and (" (did you mean '%s'?)"):format(near) or ""), nil, "`espq settings` lists them all")
   end
   local value = text
   if row.kind == "boolean" then
      if text ~= "true" and text ~= "false" then wrong(row, text, "true or false") end
      value = text == "true"
   elseif row.kind == "integer" or row.kind == "number" then
      value = tonumber(text)
      if not value then wrong(row, text, "a number") end
   elseif row.kind == "list" and text:match "^%s*%[" then
      local done, list = pcall(require("espq.json").decode, text)
      value = done and list or wrong(row, text, 'names between commas, or ["a", "b"]')
   elseif row.kind == "list" then
      value = {}
      for item in text:gmatch "[^,]+" do value[#value + 1] = item end
   elseif text == "nil" then
      value = nil
   end
   setting.set_value(group, path, value)
end

--- Set one value by its path.
function setting.set_value(group, path, value)
   local parent, leaf = path:match "^(.*)%.([^.]+)$"
   local at = parent and group[parent] or group
   at[leaf or path] = value
end

--- The rows, for `espq settings`.
function setting.rows()
   load_rows()
   return core.setting.rows()
end

return check.module("setting", setting)
