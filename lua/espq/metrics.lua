--- Metrics. Each may be called on one batch, or made once and fed batch by batch: m:add(…); m:value().
local core = require "espq.core"
local check = require "espq.check"

local metrics = {}
local is_tensor = core.tensor.is_tensor

local function labels_list(labels)
   if is_tensor(labels) then return labels:flatten():tolist() end
   if type(labels) == "number" then return { labels } end
   return labels
end

local function rows_of(logits)
   if not is_tensor(logits) then check.fail("metrics: a tensor of logits is wanted, this is a " .. type(logits)) end
   if logits.ndim == 1 then return logits:view(1, -1) end
   if logits.ndim > 2 then return logits:view(logits.shape[1], -1) end
   return logits
end

-- ---- classes ----

-- Labels that count from 1, or come from a larger set, would only look like a bad model.
local function check_label(what, label, classes)
   if type(label) ~= "number" or label < 0 or label >= classes then
      check.fail(("%s: label %s is outside 0 … %d"):format(what, tostring(label), classes - 1), nil, "labels are positions in the logits, from 0")
   end
end

local TopK = {}
TopK.__index = TopK

--- One row of logits a label; labels count from 0.
function TopK:add(logits, labels)
   if labels == nil then
      check.fail("metrics.topk: this batch has no labels", nil,
                 "pictures have them from sub-folders by class or from labels = \"labels.tsv\"; other data as the second array of a batch")
   end
   logits, labels = rows_of(logits), labels_list(labels)
   if #labels ~= #logits then check.fail(("metrics.topk: %d labels for %d rows of logits"):format(#labels, #logits)) end
   local most = math.min(self.ks[#self.ks], logits.shape[2])
   local _, positions = logits:topk(most)
   local list = positions:tolist()
   for row, label in ipairs(labels) do
      check_label("metrics.topk", label, logits.shape[2])
      self.count = self.count + 1
      for place, class in ipairs(list[row]) do
         if class == label then
            for _, k in ipairs(self.ks) do
               if place <= k then self.hits[k] = self.hits[k] + 1 end
            end
         end
      end
   end
   return self
end

--- Shares from 0 to 1, k → share; a plain number when there is one k.
function TopK:value()
   local shares = {}
   for _, k in ipairs(self.ks) do shares[k] = self.count > 0 and self.hits[k] / self.count or 0 / 0 end
   return #self.ks == 1 and shares[self.ks[1]] or shares
end

local function new_topk(ks)
   ks = type(ks) == "number" and { ks } or ks
   local sorted, hits = {}, {}
   for i, k in ipairs(ks) do
      if math.type(k) ~= "integer" or k < 1 then check.fail("metrics.topk: k has to be a whole number from 1") end
      sorted[i], hits[k] = k, 0
   end
   table.sort(sorted)
   return setmetatable({ ks = sorted, hits = hits, count = 0 }, TopK)
end

--- topk{1, 5} makes an accumulator; topk(logits, labels, {1, 5}) judges one batch.
function metrics.topk(logits, labels, ks)
   if is_tensor(logits) then return new_topk(ks or { 1 }):add(logits, labels):value() end
   return new_topk(logits or { 1 })
end

--- Share of rows whose largest logit stands at the label.
function metrics.accuracy(logits, labels)
   if logits == nil then return new_topk { 1 } end
   return new_topk({ 1 }):add(logits, labels):value()
end

local Confusion = {}
Confusion.__index = Confusion

function Confusion:add(logits, labels)
   local classes
   if is_tensor(logits) and logits.ndim > 1 then classes = rows_of(logits):argmax(1):tolist() else classes = labels_list(logits) end
   for i, label in ipairs(labels_list(labels)) do
      local class = classes[i]
      self.classes = math.max(self.classes, label + 1, class + 1)
      local key = label * 65536 + class
      self.counts[key] = (self.counts[key] or 0) + 1
   end
   return self
end

--- A tensor [classes, classes]: rows are labels, columns what was said.
function Confusion:value()
   local matrix = core.tensor.zeros({ self.classes, self.classes }, { dtype = "int64" })
   for key, count in pairs(self.counts) do matrix:set(key // 65536, key % 65536, count) end
   return matrix
end

--- confusion(logits or classes, labels), or confusion{ classes = n } as an accumulator.
function metrics.confusion(logits, labels)
   if labels ~= nil then return setmetatable({ classes = 0, counts = {} }, Confusion):add(logits, labels):value() end
   return setmetatable({ classes = logits and logits.classes or 0, counts = {} }, Confusion)
end

-- ---- how alike two tensors are ----

local Mean = {}
Mean.__index = Mean

function Mean:add(a, b)
   local value, weight = self.measure(a, b)
   self.sum, self.weight = self.sum + value * weight, self.weight + weight
   return self
end

function Mean:value() return self.finish(self.sum / self.weight) end

local function flat(t) return (t.ndim > 1 and t:view(t.shape[1], -1) or t:view(1, -1)):to "float64" end

local function pair(what, a, b)
   if not is_tensor(a) or not is_tensor(b) then check.fail(what .. ": two tensors are wanted") end
   if a.size ~= b.size then check.fail(("%s: tensors of %d and %d elements"):format(what, a.size, b.size)) end
   return flat(a), flat(b):view(flat(a).shape)
end

local function mean_metric(name, measure, finish)
   finish = finish or function(value) return value end
   metrics[name] = function(a, b)
      local accumulator = setmetatable({ sum = 0, weight = 0, measure = measure, finish = finish }, Mean)
      if a == nil or (type(a) == "table" and not is_tensor(a)) then return accumulator end
      return accumulator:add(a, b):value()
   end
end

--- Noise-to-signal power ratio of a (quantized) against b (float): the mean over the rows of sum((a-b)^2) / sum(b^2).
mean_metric("snr", function(a, b)
   a, b = pair("metrics.snr", a, b)
   local noise, power = ((a - b) ^ 2):sum(1), (b ^ 2):sum(1) + 1e-7
   return (noise / power):mean():item(), #a
end)

--- Cosine of the angle between rows, mean over the rows.
mean_metric("cosine", function(a, b)
   a, b = pair("metrics.cosine", a, b)
   local norms = a:norm(1):clamp(1e-8, math.huge) * b:norm(1):clamp(1e-8, math.huge)
   return ((a * b):sum(1) / norms):mean():item(), #a
end)

--- Mean squared error.
mean_metric("mse", function(a, b)
   a, b = pair("metrics.mse", a, b)
   return ((a - b) ^ 2):mean():item(), #a
end)

local Psnr = {}
Psnr.__index = Psnr

function Psnr:add(a, b)
   a, b = pair("metrics.psnr", a, b)
   self.top = math.max(self.top, b:abs():max():item())
   self.noise, self.count = self.noise + ((a - b) ^ 2):sum():item(), self.count + a.size
   return self
end

function Psnr:value()
   if self.count == 0 then return 0 / 0 end
   local peak, mse = self.peak or self.top, self.noise / self.count
   return mse == 0 and math.huge or 10 * math.log(peak * peak / mse, 10)
end

--- Peak signal-to-noise ratio in dB, against `peak`, or the largest absolute value of b. psnr{ peak = 1 } makes an accumulator.
function metrics.psnr(a, b, options)
   local single = is_tensor(a)
   options = check.fields("metrics.psnr", (single and options or not single and a) or {}, { peak = "number" })
   local accumulator = setmetatable({ noise = 0, count = 0, top = 0, peak = options.peak }, Psnr)
   return single and accumulator:add(a, b):value() or not single and accumulator
end

-- ---- detection ----

local function area(box) return math.max(0, box[3] - box[1]) * math.max(0, box[4] - box[2]) end

local function overlap(a, b)
   local w = math.min(a[3], b[3]) - math.max(a[1], b[1])
   local h = math.min(a[4], b[4]) - math.max(a[2], b[2])
   if w <= 0 or h <= 0 then return 0 end
   return w * h
end

--- Intersection over union of two boxes { x1, y1, x2, y2 }; with crowd the union is the first box alone (COCO).
function metrics.iou(a, b, crowd)
   local shared = overlap(a, b)
   local union = crowd and area(a) or area(a) + area(b) - shared
   return union > 0 and shared / union or 0
end

--- Non-maximum suppression. boxes: tensor [n, 4] or list of { x1, y1, x2, y2 }; scores, classes: lists or tensors. Gives the positions kept (from
--- 1), best first.
function metrics.nms(options)
   check.fields("metrics.nms", options, { boxes = "tensor|table!", scores = "tensor|table!", classes = "tensor|table", iou = "number",
         score = "number", limit = "integer" })
   local boxes = is_tensor(options.boxes) and options.boxes:tolist() or options.boxes
   local scores, classes = labels_list(options.scores), options.classes and labels_list(options.classes)
   local order, kept = {}, {}
   for i, score in ipairs(scores) do
      if score >= (options.score or 0) then order[#order + 1] = i end
   end
   table.sort(order, function(a, b)
      if scores[a] ~= scores[b] then return scores[a] > scores[b] end
      return a < b
   end)
   local threshold, limit, rivals = options.iou or 0.5, options.limit or 300, {}
   for _, i in ipairs(order) do
      if #kept >= limit then break end
      local class = classes and classes[i] or 0
      local of_class, free = rivals[class], true
      if not of_class then
         of_class = {}
         rivals[class] = of_class
      end
      for _, k in ipairs(of_class) do
         if metrics.iou(boxes[i], boxes[k]) > threshold then
            free = false
            break
         end
      end
      if free then kept[#kept + 1], of_class[#of_class + 1] = i, i end
   end
   return kept
end

local Detection = {}
Detection.__index = Detection

--- One picture: detections and truths, lists of { box = {x1, y1, x2, y2}, class =, score = } and { box =, class =, crowd = }.
function Detection:add(detections, truths)
   self.pictures = self.pictures + 1
   for _, truth in ipairs(truths) do
      self.classes[truth.class] = self.classes[truth.class] or { truths = {}, found = {} }
      local list = self.classes[truth.class].truths
      list[self.pictures] = list[self.pictures] or {}
      table.insert(list[self.pictures], truth)
   end
   for position, detection in ipairs(detections) do
      self.classes[detection.class] = self.classes[detection.class] or { truths = {}, found = {} }
      table.insert(self.classes[detection.class].found, { picture = self.pictures, position = position, score = detection.score, box = detection.box })
   end
   return self
end

-- The best detections of each picture, matched greedily as COCO does: a truth once, a crowd as often as it is met, crowds not counted.
local function match(class, threshold, limit)
   local per_picture, judged, wanted = {}, {}, 0
   for _, list in pairs(class.truths) do
      for _, truth in ipairs(list) do
         if not truth.crowd then wanted = wanted + 1 end
      end
   end
   for _, found in ipairs(class.found) do
      per_picture[found.picture] = per_picture[found.picture] or {}
      table.insert(per_picture[found.picture], found)
   end
   local function better(a, b)
      if a.score ~= b.score then return a.score > b.score end
      if a.picture ~= b.picture then return a.picture < b.picture end
      return a.position < b.position
   end
   for picture, list in pairs(per_picture) do
      table.sort(list, better)
      local taken = {}
      for i = 1, math.min(#list, limit) do
         local best, which, crowd = math.min(threshold, 1 - 1e-10), nil, false
         for k, truth in ipairs(class.truths[picture] or {}) do
            if (truth.crowd or not taken[k]) and not (which and not crowd and truth.crowd) then
               local value = metrics.iou(list[i].box, truth.box, truth.crowd)
               if value >= best or (crowd and not truth.crowd and value >= math.min(threshold,
                     1 - 1e-10)) then best, which, crowd = value, k, truth.crowd or false end
            end
         end
         if which then taken[which] = true end
         if not crowd then table.insert(judged, { score = list[i].score, picture = picture, position = list[i].position, hit = which ~= nil }) end
      end
   end
   table.sort(judged, better)
   return judged, wanted
end

local function average_precision(judged, wanted)
   local precisions, recalls, hits = {}, {}, 0
   for i, entry in ipairs(judged) do
      if entry.hit then hits = hits + 1 end
      precisions[i], recalls[i] = hits / i, hits / wanted
   end
   for i = #precisions - 1, 1, -1 do precisions[i] = math.max(precisions[i], precisions[i + 1]) end
   local sum, at = 0, 1
   for point = 0, 100 do
      while at <= #recalls and recalls[at] < point / 100 do at = at + 1 end
      if at <= #recalls then sum = sum + precisions[at] end
   end
   return sum / 101
end

--- { map = mean over IoU .50:.95, map50 =, map75 =, classes = { class → AP } }
function Detection:value()
   local result, totals, at = { classes = {} }, {}, {}
   local names = {}
   for name in pairs(self.classes) do names[#names + 1] = name end
   table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
   local counted = 0
   for _, name in ipairs(names) do
      local class, sum = self.classes[name], 0
      local any = false
      for i, threshold in ipairs(self.thresholds) do
         local judged, wanted = match(class, threshold, self.limit)
         if wanted > 0 then
            any = true
            local ap = average_precision(judged, wanted)
            totals[i] = (totals[i] or 0) + ap
            sum = sum + ap
         end
      end
      if any then
         counted = counted + 1
         result.classes[name] = sum / #self.thresholds
      end
   end
   local sum = 0
   for i, threshold in ipairs(self.thresholds) do
      at[threshold] = counted > 0 and totals[i] / counted or 0 / 0
      sum = sum + at[threshold]
   end
   result.map = sum / #self.thresholds
   result.map50, result.map75 = at[0.5], at[0.75]
   return result
end

--- COCO's mean average precision: 101 points, IoU .50:.95, at most 100 detections a picture and class. Feed it picture by picture.
function metrics.mean_average_precision(options)
   options = check.fields("metrics.mean_average_precision", options or {}, { thresholds = "table", limit = "integer" })
   local thresholds = options.thresholds
   if not thresholds then
      thresholds = {}
      for i = 10, 19 do thresholds[#thresholds + 1] = i / 20 end
   end
   return setmetatable({ thresholds = thresholds, limit = options.limit or 100, classes = {}, pictures = 0 }, Detection)
end

return check.module("metrics", metrics)
