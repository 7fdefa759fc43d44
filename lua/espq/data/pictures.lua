--- Pictures of folders and of COCO, and what they go through on their way into a network.
local core = require "espq.core"
local check = require "espq.check"
local datasets = require "espq.data.datasets"

local pictures = {}
local T = core.tensor

local is_tensor = T.is_tensor

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
function pictures.letterbox(height, width, h, w)
   local ratio = math.min(h / height, w / width)
   local new_h, new_w = math.floor(height * ratio + 0.5), math.floor(width * ratio + 0.5)
   return ratio, new_h, new_w, (h - new_h) // 2, (w - new_w) // 2
end

--- What a picture goes through: resized as PIL does, cropped or letterboxed, scaled, normalised, channels first.
---@param options table size, crop, letterbox, interpolation, mode, scale, mean, std
---@return fun(path_or_tensor): userdata
function pictures.picture(options)
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
         local _, new_h, new_w, top, left = pictures.letterbox(height, width, h, w)
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
function pictures.images(options)
   local spec = { dir = "string!", labels = "string", limit = "integer" }
   for key, kind in pairs(picture_fields) do spec[key] = kind end
   check.fields("data.images", options, spec)
   local function fits(name)
      local extension = name:lower():match "%.(%w+)$"
      return extension == "jpg" or extension == "jpeg" or extension == "png"
   end
   local list = datasets.files_below(options.dir, fits, {}, "")
   if #list == 0 then check.fail("no .jpg, .jpeg or .png file in this folder", options.dir) end
   datasets.came_from(options.dir)
   datasets.came_from(options.labels)
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
   local prepare = pictures.picture(options)
   return datasets.new(math.min(#list, options.limit or #list), function(i)
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
function pictures.coco(options)
   local spec = { images = "string!", annotations = "string!", limit = "integer" }
   for key, kind in pairs(picture_fields) do spec[key] = kind end
   check.fields("data.coco", options, spec)
   if options.crop then check.fail "data.coco: boxes do not follow a crop; use size with letterbox" end
   local json = read_json(options.annotations)
   datasets.came_from(options.annotations)
   datasets.came_from(options.images)
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
   local prepare = pictures.picture(options)
   local set = datasets.new(math.min(#json.images, options.limit or #json.images), function(i)
      local entry = json.images[i]
      local label = { id = entry.id, width = entry.width, height = entry.height, truths = truths[entry.id] or {}, ratio = 1.0, left = 0, top = 0 }
      if options.letterbox then
         local h, w = pair(options.size, "size")
         local _
         label.ratio, _, _, label.top, label.left = pictures.letterbox(entry.height, entry.width, h, w)
      end
      return prepare(options.images .. "/" .. entry.file_name), label
   end)
   set.names = names
   return set
end

return pictures
