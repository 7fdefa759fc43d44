--- Data: what gives batches, and datasets that become batches.
local core = require "espq.core"
local check = require "espq.check"

local data = {}
local T = core.tensor

local function is_tensor(value) return T.is_tensor(value) end

-- ---- batches for a graph ----

local function names_of(values)
   local names = {}
   for i, value in ipairs(values) do names[i] = value.name end
   return names
end

--- A batch (tensor, list, or name = tensor) as a list in the order of the graph's inputs.
function data.bind(what, inputs, batch)
   if is_tensor(batch) then
      if #inputs ~= 1 then
         check.fail(("%s: one tensor is given, the graph has %d inputs: %s"):format(what, #inputs, table.concat(names_of(inputs), ", ")), nil,
                    "give a list in this order, or a table name = tensor")
      end
      return { batch }
   end
   if type(batch) == "number" then return data.bind(what, inputs, T.tensor(batch)) end
   if type(batch) ~= "table" then check.fail(("%s: a batch has to be a tensor, a list of tensors or a table name = tensor, this is a %s"):format(what,
         type(batch))) end
   local list = {}
   if #batch > 0 then
      if #batch ~= #inputs then
         check.fail(("%s: %d tensors are given, the graph has %d inputs: %s"):format(what, #batch, #inputs, table.concat(names_of(inputs), ", ")))
      end
      for i, tensor in ipairs(batch) do
         if not is_tensor(tensor) then check.fail(("%s: item %d of the batch is a %s, not a tensor"):format(what, i, type(tensor))) end
         list[i] = tensor
      end
      return list
   end
   local names, given = names_of(inputs), batch
   batch = {}
   for name, tensor in pairs(given) do batch[name] = tensor end
   for name in pairs(batch) do
      local known = false
      for _, other in ipairs(names) do known = known or other == name end
      if not known then check.fail(("%s: the graph has no input '%s'%s"):format(what, tostring(name), check.hint(name, names))) end
   end
   for i, name in ipairs(names) do
      if batch[name] == nil and #inputs[i].consumers == 0 then          -- what no node reads needs no data
         batch[name] = T.zeros(inputs[i].shape, { dtype = inputs[i].dtype })
      end
      if not is_tensor(batch[name]) then check.fail(("%s: input '%s' is missing"):format(what, name)) end
      list[i] = batch[name]
   end
   return list
end

local function callable(value)
   local meta = getmetatable(value)
   return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

local function iterator_of(what, loader)
   if is_tensor(loader) then                       -- samples along the first axis, one a batch
      local i = 0
      return function()
         i = i + 1
         if i <= #loader then return loader:slice(i - 1, i) end
      end
   end
   if callable(loader) then
      local step, invariant, control = loader()
      if not callable(step) then
         check.fail(("%s: a loader that is a function has to return an iterator, this one returned a %s"):format(what, is_tensor(step) and "tensor"
               or type(step)), nil,
                    "it is called once a walk: function() local i = 0; return function() i = i + 1; return batches[i] end end")
      end
      return function()
         local batch, second = step(invariant, control)
         control = batch
         if type(batch) == "number" and (is_tensor(second) or type(second) == "table") then return second end      -- i, batch as ipairs gives them
         return batch
      end
   end
   if type(loader) == "table" then
      if #loader == 0 and next(loader) ~= nil then
         check.fail(what .. ": the loader is a table without items", nil, "a list of batches is wanted: { { name = tensor }, … }")
      end
      local i = 0
      return function()
         i = i + 1
         return loader[i]
      end
   end
   check.fail(("%s: a loader is a list of batches, a function, or espq.data.loader{…}; this is a %s"):format(what, type(loader)))
end

local function bytes_of(value)
   if is_tensor(value) then return value.size * ((tonumber(value.dtype:match "%d+$") or 8) // 8) end
   local sum = 0
   if type(value) == "table" then
      for _, item in pairs(value) do sum = sum + bytes_of(item) end
   end
   return sum
end

--- A walk that gives batch, labels: as the loader gives them, or a batch's field `labels`. epoch: for loaders that ask.
function data.labelled(what, loader, epoch)
   if is_tensor(loader) or not callable(loader) then return iterator_of(what, loader) end
   local step, invariant, control = loader(epoch)
   if not callable(step) then
      check.fail(("%s: a loader that is a function has to return an iterator, this one returned a %s"):format(what, type(step)))
   end
   return function()
      local batch, labels, third = step(invariant, control)
      control = batch
      if type(batch) == "number" and (is_tensor(labels) or type(labels) == "table") then return labels, third end
      return batch, labels
   end
end

--- Remembers what walks have seen, so that several of them decode the data once. limit: bytes (128 MB); what lies behind is made anew on each walk.
function data.memory(limit) return { batches = {}, bytes = 0, limit = limit or 128e6, full = false, complete = false } end

-- The next batch of a walk as the engine takes it: from the memory while it lasts, then from the loader, from which the remembered part is skipped.
local function prepared(what, loader, graph, options)
   local memory, step, count = options.memory, nil, 0
   local inputs = graph.inputs
   return function()
      count = count + 1
      if memory and memory.batches[count] then return memory.batches[count] end
      if memory and memory.complete then return nil end
      if not step then
         step = iterator_of(what, loader)
         for _ = 1, count - 1 do step() end
      end
      local batch = step()
      if batch == nil then
         if memory and #memory.batches == count - 1 then memory.complete = true end
         return nil
      end
      if options.collate_fn then
         batch = options.collate_fn(batch)
         if batch == nil then check.fail(what .. ": collate_fn returned nothing", nil, "it has to return a tensor, a list or a table name = tensor") end
      end
      batch = data.bind(("%s: batch %d"):format(what, count), inputs, batch)
      if memory and not memory.full and #memory.batches == count - 1 then
         memory.bytes = memory.bytes + bytes_of(batch)
         memory.full = memory.bytes > memory.limit
         if not memory.full then memory.batches[count] = batch end
      end
      return batch
   end
end

--- A walk for the engine: a function called once a walk, which returns a function that gives lists of tensors.
---@param what string for messages
---@param loader any
---@param graph userdata
---@param options? { limit: integer, collate_fn: function, on_end: function, memory: table }
function data.walk(what, loader, graph, options)
   options = options or {}
   return function()
      local next_batch, count = prepared(what, loader, graph, options), 0
      return function()
         if options.limit and count >= options.limit then return nil end
         local batch = next_batch()
         if batch then
            count = count + 1
         elseif options.on_end then
            options.on_end(count)
         end
         return batch
      end
   end
end

--- Random batches of the graph's input shapes: for structure and speed only.
function data.random(graph, count, seed)
   local batches = {}
   for i = 1, count do
      local batch = {}
      for k, input in ipairs(graph.inputs) do batch[k] = data.random_tensor(input, seed + 1000 * i + k) end
      batches[i] = batch
   end
   return batches
end

function data.random_tensor(input, seed)
   if not input.shape then check.fail(("input '%s' has no known shape"):format(input.name), nil, "give input_shape") end
   if input.dtype and input.dtype:find "int" then return T.zeros(input.shape, { dtype = input.dtype }) end
   if input.dtype == "bool" then return T.zeros(input.shape, { dtype = "bool" }) end
   return T.randn(input.shape, { seed = seed })
end

-- ---- datasets ----
-- A dataset has a length and a method get(i), i from 1, which gives a sample (tensor, list, or name = tensor) and a label (or nil).

local Dataset = {}
Dataset.__index = Dataset
Dataset.__len = function(self) return self.count end
--- A dataset is a loader of single samples, too: each gets a batch axis.
Dataset.__call = function(self) return data.loader { dataset = self, batch_size = 1 }() end

local function dataset(count, get) return setmetatable({ count = count, get = function(_, i) return get(i) end }, Dataset) end

-- Files and folders that data were taken from, in the order of their first use.
local sources = {}

local function came_from(path)
   if path == nil then return end
   for _, known in ipairs(sources) do
      if known == path then return end
   end
   sources[#sources + 1] = path
end

--- Where the data of this process come from: jobs on other machines have to see it, too.
---@return string[]
function data.sources() return table.move(sources, 1, #sources, 1, {}) end

--- Samples along the first axis of an .npy file or of a tensor.
---@param source string|userdata
function data.npy(source)
   local t = is_tensor(source) and source or T.from_npy(source)
   if not is_tensor(source) then came_from(source) end
   if t.ndim == 0 then check.fail("the array is a single number, not samples along a first axis", tostring(source)) end
   return dataset(#t, function(i) return t[i - 1] end)
end

local function label_value(labels, i)
   if labels == nil then return nil end
   local label = labels[i - 1]
   return label.ndim == 0 and label:item() or label
end

--- Arrays of an .npz file: npz "file.npz", or npz{ path =, inputs = "x" or {name = "array"}, labels = "y" }.
function data.npz(options)
   if type(options) == "string" then options = { path = options } end
   check.fields("data.npz", options, { path = "string!", inputs = "string|table", labels = "string" })
   local arrays, names = T.from_npz(options.path)
   came_from(options.path)
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
      return dataset(#x, function(i) return x[i - 1], label_value(labels, i) end)
   end
   local chosen, count = {}, nil
   for key, name in pairs(inputs) do
      local x = array(name)
      chosen[type(key) == "number" and name or key] = x
      count = count or #x
      if #x ~= count then check.fail(("arrays of different lengths: %d and %d"):format(count, #x), options.path) end
   end
   return dataset(count, function(i)
      local sample = {}
      for key, x in pairs(chosen) do sample[key] = x[i - 1] end
      return sample, label_value(labels, i)
   end)
end

--- A list: of samples, or of { sample, label }.
function data.list(items)
   return dataset(#items, function(i)
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

local function files_below(dir, fits, list, prefix)
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
            files_below(path, fits, list, prefix .. name .. "/")
         elseif fits(name) then
            list[#list + 1] = { path = path, name = prefix .. name }
         end
      end
   end)
   if not ok then check.fail(tostring(message):gsub("^.-: ", ""), dir) end
   return list
end

--- Files of a folder (and those below it), sorted by name; read gives a sample (and a label) for a path.
function data.folder(options)
   check.fields("data.folder", options, { dir = "string!", read = "function!", pattern = "string" })
   local pattern = options.pattern or "*"
   local list = files_below(options.dir, function(name) return core.base.matches(pattern, name) end, {}, "")
   if #list == 0 then check.fail(("no file '%s' in this folder"):format(pattern), options.dir) end
   came_from(options.dir)
   return dataset(#list, function(i) return options.read(list[i].path) end)
end

local function read_labels(path)
   local file, message = io.open(path, "r")
   if not file then check.fail(message) end
   local labels = {}
   for line in file:lines() do
      local name, label = line:match "^([^\t,]+)[\t,]%s*([^\t,]+)"
      if name then labels[name] = math.tointeger(tonumber(label)) or tonumber(label) or label:gsub("%s+$", "") end
   end
   file:close()
   return labels
end

local function pair(value, what)
   if type(value) == "number" then return value, value end
   if type(value) == "table" and #value == 2 then return value[1], value[2] end
   check.fail(what .. " has to be a number or { height, width }")
end

local function numbers(value, channels, what, otherwise)
   if value == nil then value = otherwise end
   if type(value) == "number" then
      local list = {}
      for i = 1, channels do list[i] = value + 0.0 end
      value = list
   end
   if #value ~= channels then check.fail(("%s has %d numbers, the pictures have %d channels"):format(what, #value, channels)) end
   return T.tensor(value, "float32"):view(channels, 1, 1)
end

--- Where a picture of height × width comes to lie in a frame of h × w: ratio, new height, new width, top, left.
function data.letterbox(height, width, h, w)
   local ratio = math.min(h / height, w / width)
   local new_h, new_w = math.floor(height * ratio + 0.5), math.floor(width * ratio + 0.5)
   return ratio, new_h, new_w, (h - new_h) // 2, (w - new_w) // 2
end

--- What a picture goes through: resized as PIL does, cropped or letterboxed, scaled, normalised, channels first.
---@param options table size, crop, letterbox, interpolation, mode, scale, mean, std
---@return fun(path_or_tensor): userdata
function data.picture(options)
   local mode = (options.mode or "RGB"):upper()
   local channels = (mode == "GRAY" or mode == "L") and 1 or 3
   local scale = options.scale or 1 / 255
   local mean = numbers(options.mean, channels, "mean", 0.0)
   local std = numbers(options.std, channels, "std", 1.0)
   local filter = options.interpolation or "bilinear"
   return function(source)
      local image = is_tensor(source) and source or T.image(source, { mode = mode })
      local height, width = image.shape[1], image.shape[2]
      if options.letterbox then
         local h, w = pair(options.size, "size")
         local _, new_h, new_w, top, left = data.letterbox(height, width, h, w)
         image = T.resize(image, new_h, new_w, filter)
         image = image:pad { before = { top, left, 0 }, after = { h - new_h - top, w - new_w - left, 0 }, value = 114 }
      elseif options.size then
         local h, w
         if type(options.size) == "table" then
            h, w = pair(options.size, "size")
         elseif options.crop then                      -- the shorter side, as torchvision's Resize
            local short = math.min(height, width)
            h, w = height * options.size // short, width * options.size // short
         else
            h, w = options.size, options.size
         end
         image = T.resize(image, h, w, filter)
      end
      if options.crop then
         local h, w = pair(options.crop, "crop")
         local top, left = (image.shape[1] - h) / 2, (image.shape[2] - w) / 2
         top, left = math.floor(top + 0.5), math.floor(left + 0.5)
         if top < 0 or left < 0 then
            check.fail(("a crop of %d × %d is larger than the picture of %d × %d"):format(h, w, image.shape[1], image.shape[2]),
                       type(source) == "string" and source or nil, "give a size to resize to that is at least the crop's")
         end
         image = image:slice { axis = 0, start = top, stop = top + h }:slice { axis = 1, start = left, stop = left + w }
      end
      if image.dtype == "uint8" and image.ndim == 3 and image.shape[3] == channels then return T.planes(image, scale, mean, std) end
      local x = image:permute { 2, 0, 1 }:to "float32" * scale
      return (x - mean) / std
   end
end

local picture_fields = {
   size = "number|table", crop = "number|table", letterbox = "boolean", interpolation = "string", mode = "string", scale = "number",
   mean = "number|table", std = "number|table",
}

--- Pictures of a folder. labels: a file of lines name<TAB>label; without it the name of the sub-folder, if there is one.
function data.images(options)
   local spec = { dir = "string!", labels = "string", limit = "integer" }
   for key, kind in pairs(picture_fields) do spec[key] = kind end
   check.fields("data.images", options, spec)
   local function fits(name)
      local extension = name:lower():match "%.(%w+)$"
      return extension == "jpg" or extension == "jpeg" or extension == "png"
   end
   local list = files_below(options.dir, fits, {}, "")
   if #list == 0 then check.fail("no .jpg, .jpeg or .png file in this folder", options.dir) end
   came_from(options.dir)
   came_from(options.labels)
   local labels = options.labels and read_labels(options.labels)
   if labels then
      local kept = {}
      for _, entry in ipairs(list) do
         entry.label = labels[entry.name] or labels[entry.name:match "[^/]+$"]
         if entry.label ~= nil then kept[#kept + 1] = entry end
      end
      if #kept == 0 then check.fail("none of the pictures is named in the labels", options.labels) end
      list = kept
   end
   local prepare = data.picture(options)
   return dataset(math.min(#list, options.limit or #list), function(i)
      local entry = list[i]
      local label = entry.label
      if label == nil then label = entry.name:match "^([^/]+)/" end
      return prepare(entry.path), label
   end)
end

local function read_json(path)
   local file, message = io.open(path, "r")
   if not file then check.fail(message) end
   local text = file:read "a"
   file:close()
   return require("espq.json").decode(text)
end

--- COCO: images = folder, annotations = its JSON, and the fields of pictures (size, letterbox, mean, std …). A sample's label is
--- { id =, width =, height =, truths = { { box = {x1, y1, x2, y2}, class =, crowd = }, … }, ratio =, left =, top = }: boxes in the picture's own
--- pixels; a box of the network goes back by (x - left) / ratio. Classes count from 0 in the order of the category ids.
function data.coco(options)
   local spec = { images = "string!", annotations = "string!", limit = "integer" }
   for key, kind in pairs(picture_fields) do spec[key] = kind end
   check.fields("data.coco", options, spec)
   if options.crop then check.fail "data.coco: boxes do not follow a crop; use size with letterbox" end
   local json = read_json(options.annotations)
   came_from(options.annotations)
   came_from(options.images)
   if type(json) ~= "table" or not json.images or not json.annotations or not json.categories then
      check.fail("images, annotations and categories are wanted", options.annotations)
   end
   table.sort(json.categories, function(a, b) return a.id < b.id end)
   local classes, truths, names = {}, {}, {}
   for k, category in ipairs(json.categories) do classes[category.id], names[k - 1] = k - 1, category.name end
   for _, note in ipairs(json.annotations) do
      local x, y, w, h = table.unpack(note.bbox)
      truths[note.image_id] = truths[note.image_id] or {}
      table.insert(truths[note.image_id], { box = { x, y, x + w, y + h }, class = classes[note.category_id], crowd = note.iscrowd == 1 or nil })
   end
   local prepare = data.picture(options)
   local set = dataset(math.min(#json.images, options.limit or #json.images), function(i)
      local entry = json.images[i]
      local label = { id = entry.id, width = entry.width, height = entry.height, truths = truths[entry.id] or {}, ratio = 1.0, left = 0, top = 0 }
      if options.letterbox then
         local h, w = pair(options.size, "size")
         local _
         label.ratio, _, _, label.top, label.left = data.letterbox(entry.height, entry.width, h, w)
      end
      return prepare(options.images .. "/" .. entry.file_name), label
   end)
   set.names = names
   return set
end

--- Sound: .wav files of 8 or 16 bits, mono or mixed to mono, as float32 from -1 to 1. wav{ dir =, length = samples, transform = }.
function data.wav(options)
   check.fields("data.wav", options, { dir = "string!", length = "integer", transform = "function" })
   local list = files_below(options.dir, function(name) return name:lower():match "%.wav$" ~= nil end, {}, "")
   if #list == 0 then check.fail("no .wav file in this folder", options.dir) end
   came_from(options.dir)
   return dataset(#list, function(i)
      local x = data.read_wav(list[i].path)
      if options.length then
         x = #x >= options.length and x:slice(0, options.length) or x:pad { before = { 0 }, after = { options.length - #x } }
      end
      if options.transform then x = options.transform(x) end
      return x, list[i].name:match "^([^/]+)/"
   end)
end

--- One .wav file: the samples, and the rate in Hz.
function data.read_wav(path)
   local file, message = io.open(path, "rb")
   if not file then check.fail(message) end
   local bytes = file:read "a"
   file:close()
   if #bytes < 12 or bytes:sub(1, 4) ~= "RIFF" or bytes:sub(9, 12) ~= "WAVE" then check.fail("this is no .wav file", path) end
   local at, channels, rate, bits, samples = 13, nil, nil, nil, nil
   while at + 8 <= #bytes + 1 do
      local id, size = bytes:sub(at, at + 3), string.unpack("<I4", bytes, at + 4)
      if id == "fmt " and size >= 16 and at + 24 <= #bytes + 1 then
         local format
         format, channels, rate, bits = string.unpack("<I2I2I4xxxxxxI2", bytes, at + 8)
         if (format ~= 1 and format ~= 0xFFFE) or (bits ~= 8 and bits ~= 16) or channels == 0 then
            check.fail(("only PCM of 8 or 16 bits is read, this is format %d with %d bits"):format(format, bits), path)
         end
      elseif id == "data" and channels then
         local width, values = bits // 8, {}
         local last = math.min(at + 7 + size, #bytes)
         for frame = at + 8, last - width * channels + 1, width * channels do
            local sum = 0
            for c = 0, channels - 1 do
               sum = sum + (bits == 16 and string.unpack("<i2", bytes, frame + 2 * c) / 32768 or (bytes:byte(frame + c) - 128) / 128)
            end
            values[#values + 1] = sum / channels
         end
         samples = values
      end
      at = at + 8 + size + size % 2
   end
   if not samples or #samples == 0 then check.fail("the file has no samples", path) end
   return T.tensor(samples, "float32"), rate
end

-- ---- loaders ----

local function stack_samples(samples)
   local first = samples[1]
   if is_tensor(first) then return T.stack(samples) end
   local batch = {}
   for key in pairs(first) do
      local parts = {}
      for i, sample in ipairs(samples) do parts[i] = sample[key] end
      batch[key] = T.stack(parts)
   end
   return batch
end

local function stack_labels(labels, count)
   if labels[1] == nil then return nil end
   local whole, tensors = true, true
   for i = 1, count do
      whole = whole and math.type(labels[i]) == "integer"
      tensors = tensors and is_tensor(labels[i]) and is_tensor(labels[1]) and labels[i].dtype == labels[1].dtype
         and table.concat(labels[i].shape, ",") == table.concat(labels[1].shape, ",")
   end
   if whole then return T.tensor(labels, "int64") end
   return tensors and T.stack(labels) or labels
end

local Loader = {}
Loader.__index = Loader
function Loader:__len() return self.count end

-- A permutation of 1 … count.
local function shuffled(count, seed)
   local order = {}
   for i, position in ipairs(T.rand({ count }, { seed = seed }):argsort():tolist()) do order[i] = position + 1 end
   return order
end

--- The iterator of one walk: gives batch, labels (an int64 tensor when all labels are whole numbers, a tensor when they are tensors of one
--- shape, else a list). epoch: with shuffle, each has an order of its own; without it the order is that of epoch 0.
function Loader:__call(epoch)
   local at, batch = 0, 0
   local order = self.order
   if order and epoch and epoch > 0 then order = shuffled(#self.dataset, self.seed + epoch) end
   return function()
      if batch >= self.count then return nil end
      batch = batch + 1
      local samples, labels, count = {}, {}, 0
      while count < self.batch_size and at < self.samples do
         at = at + 1
         core.base.check_cancel()
         local x, label = self.dataset:get(order and order[at] or at)
         if self.transform then
            local changed, changed_label = self.transform(x, label)
            x, label = changed, changed_label == nil and label or changed_label
         end
         if x == nil then check.fail(("data.loader: sample %d is nil"):format(at)) end
         count = count + 1
         samples[count], labels[count] = x, label
      end
      return stack_samples(samples), stack_labels(labels, count)
   end
end

--- Batches of a dataset, in the same order on every walk; training asks for the order of an epoch.
function data.loader(options)
   check.fields("data.loader", options, { dataset = "any!", batch_size = "integer", shuffle = "boolean", seed = "integer", limit = "integer",
         transform = "function",
                                          workers = "integer", drop_last = "boolean" })
   local source = options.dataset
   if is_tensor(source) then
      source = data.npy(source)
   elseif type(source) == "table" and not (getmetatable(source) or source.get) then
      source = data.list(source)
   end
   if type(source) ~= "table" or not source.get then check.fail("data.loader: a dataset has a length and a method get(i)", nil,
         "espq.data.images{…}, npy, npz, folder, list") end
   local batch_size = options.batch_size or 1
   if batch_size < 1 then check.fail("data.loader: batch_size has to be at least 1") end
   local order, total = nil, #source
   if options.shuffle then order = shuffled(total, options.seed or 0) end
   local samples = math.min(total, options.limit or total)
   local count = options.drop_last and samples // batch_size or (samples + batch_size - 1) // batch_size
   return setmetatable({ dataset = source, batch_size = batch_size, order = order, seed = options.seed or 0,
                          samples = samples, count = count, transform = options.transform }, Loader)
end

-- ---- keeping batches ----

local Cache = {}
function Cache:__len() return #self.source end
function Cache:__call()
   local step, i = nil, 0
   return function()
      i = i + 1
      local kept = self.kept[i]
      if kept then return kept[1], kept[2] end
      if self.complete then return nil end
      if not step then                          -- go on behind what is kept
         step = callable(self.source) and self.source() or iterator_of("data.cache", self.source)
         for _ = 1, i - 1 do step() end
      end
      local batch, labels = step()
      if batch == nil then
         self.complete = #self.kept == i - 1
         return nil
      end
      local bytes = bytes_of(batch)
      if #self.kept == i - 1 and self.bytes + bytes <= self.limit then
         self.kept[i] = { batch, labels }
         self.bytes = self.bytes + bytes
      end
      return batch, labels
   end
end

--- Keep decoded batches in memory, up to a limit of bytes (1 GB); what does not fit is made again on each walk.
function data.cache(source, options)
   options = options or {}
   return setmetatable({ source = source, kept = {}, bytes = 0, limit = options.bytes or 1e9, complete = false }, Cache)
end

data.picture_fields = picture_fields

return check.module("data", data)
