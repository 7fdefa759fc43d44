--- Data: datasets become batches here; what gives batches, and the datasets themselves, stand in data/.
local core = require "espq.core"
local check = require "espq.check"
local batches = require "espq.data.batches"
local datasets = require "espq.data.datasets"
local pictures = require "espq.data.pictures"
local sound = require "espq.data.sound"

local T = core.tensor
local is_tensor = T.is_tensor

local data = {
   bind = batches.bind, labelled = batches.labelled, memory = batches.memory, walk = batches.walk, random = batches.random,
   random_tensor = batches.random_tensor,
   sources = datasets.sources, npy = datasets.npy, npz = datasets.npz, list = datasets.list, folder = datasets.folder,
   letterbox = pictures.letterbox, picture = pictures.picture, images = pictures.images,
   coco = pictures.coco,
   wav = sound.wav, read_wav = sound.read_wav,
}

-- ---- batches of datasets ----

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
      source = datasets.npy(source)
   elseif type(source) == "table" and not (getmetatable(source) or source.get) then
      source = datasets.list(source)
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

--- A dataset is a loader of single samples, too: each gets a batch axis.
function datasets.Dataset:__call() return data.loader { dataset = self, batch_size = 1 }() end

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
         step = batches.callable(self.source) and self.source() or batches.iterator_of("data.cache", self.source)
         for _ = 1, i - 1 do step() end
      end
      local batch, labels = step()
      if batch == nil then
         self.complete = #self.kept == i - 1
         return nil
      end
      local bytes = batches.bytes_of(batch)
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

return check.module("data", data)
