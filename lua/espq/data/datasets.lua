--- Datasets of arrays, lists and folders.
local core = require "espq.core"
local check = require "espq.check"

local datasets = {}
local T = core.tensor

local is_tensor = T.is_tensor

-- A dataset has a length and a method get(i), i from 1, which gives a sample (tensor, list, or name = tensor) and a label (or nil).

local Dataset = {}
Dataset.__index = Dataset
Dataset.__len = function(self) return self.count end
datasets.Dataset = Dataset

--- A dataset of so many samples; get(i) gives a sample and its label.
function datasets.new(count, get) return setmetatable({ count = count, get = function(_, i) return get(i) end }, Dataset) end

-- Files and folders that data were taken from, in the order of their first use.
local sources = {}

--- Remembers where samples are taken from.
function datasets.came_from(path)
   if path == nil then return end
   for _, known in ipairs(sources) do
      if known == path then return end
   end
   sources[#sources + 1] = path
end

--- Where the data of this process come from: jobs on other machines have to see it, too.
---@return string[]
function datasets.sources() return table.move(sources, 1, #sources, 1, {}) end

--- Samples along the first axis of an .npy file or of a tensor.
---@param source string|userdata
function datasets.npy(source)
   local t = is_tensor(source) and source or T.from_npy(source)
   if not is_tensor(source) then datasets.came_from(source) end
   if t.ndim == 0 then check.fail("the array is a single number, not samples along a first axis", tostring(source)) end
   return datasets.new(#t, function(i) return t[i - 1] end)
end

local function label_value(labels, i)
   if labels == nil then return nil end
   local label = labels[i - 1]
   return label.ndim == 0 and label:item() or label
end

--- Arrays of an .npz file: npz "file.npz", or npz{ path =, inputs = "x" or {name = "array"}, labels = "y" }.
function datasets.npz(options)
   if type(options) == "string" then options = { path = options } end
   check.fields("data.npz", options, { path = "string!", inputs = "string|table", labels = "string" })
   local arrays, names = T.from_npz(options.path)
   datasets.came_from(options.path)
   local function array(name)
      if not arrays[name] then check.fail(("there is no array '%s'%s"):format(name, check.hint(name, names)), options.path) end
      return arrays[name]
   end
   local labels = options.labels and array(options.labels)
   if not options.labels then
      for _, name in ipairs { "labels", "y", "label" } do labels = labels or arrays[name] end
   end
   local inputs = options.inputs
   if not inputs then
      inputs = {}
      for _, name in ipairs(names) do
         if arrays[name] ~= labels then inputs[#inputs + 1] = name end
      end
      if #inputs == 1 then inputs = inputs[1] end
   end
   if type(inputs) == "string" then
      local x = array(inputs)
      return datasets.new(#x, function(i) return x[i - 1], label_value(labels, i) end)
   end
   local chosen, count = {}, nil
   for key, name in pairs(inputs) do
      local x = array(name)
      chosen[type(key) == "number" and name or key] = x
      count = count or #x
      if #x ~= count then check.fail(("arrays of different lengths: %d and %d"):format(count, #x), options.path) end
   end
   return datasets.new(count, function(i)
      local sample = {}
      for key, x in pairs(chosen) do sample[key] = x[i - 1] end
      return sample, label_value(labels, i)
   end)
end

--- A list: of samples, or of { sample, label }.
function datasets.list(items)
   return datasets.new(#items, function(i)
      local item = items[i]
      if type(item) == "table" and #item == 2 and is_tensor(item[1]) and not is_tensor(item[2]) then return item[1], item[2] end
      return item
   end)
end

local function lfs()
   local found, module = pcall(require, "lfs")
   if not found then check.fail("LuaFileSystem is missing, which lists folders", nil, "luarocks install luafilesystem") end
   return module
end

--- Files of a folder and those below it, sorted by name, added to `list` as { path =, name = } when fits(name).
function datasets.files_below(dir, fits, list, prefix)
   local fs = lfs()
   local ok, message = pcall(function()
      local names = {}
      for name in fs.dir(dir) do
         if name:sub(1, 1) ~= "." then names[#names + 1] = name end
      end
      table.sort(names)
      for _, name in ipairs(names) do
         local path = dir .. "/" .. name
         local mode = fs.attributes(path, "mode")
         if mode == "directory" then
            datasets.files_below(path, fits, list, prefix .. name .. "/")
         elseif fits(name) then
            list[#list + 1] = { path = path, name = prefix .. name }
         end
      end
   end)
   if not ok then check.fail(tostring(message):gsub("^.-: ", ""), dir) end
   return list
end

--- Files of a folder (and those below it), sorted by name; read gives a sample (and a label) for a path.
function datasets.folder(options)
   check.fields("data.folder", options, { dir = "string!", read = "function!", pattern = "string" })
   local pattern = options.pattern or "*"
   local list = datasets.files_below(options.dir, function(name) return core.base.matches(pattern, name) end, {}, "")
   if #list == 0 then check.fail(("no file '%s' in this folder"):format(pattern), options.dir) end
   datasets.came_from(options.dir)
   return datasets.new(#list, function(i) return options.read(list[i].path) end)
end

return datasets
