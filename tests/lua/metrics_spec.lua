-- Promise: metrics give the textbook's numbers, on one batch and over many.
local espq = require "espq"

local logits = espq.tensor { { 0.1, 0.9, 0.0 }, { 0.5, 0.3, 0.2 }, { 0.2, 0.3, 0.5 }, { 0.6, 0.3, 0.1 } }
local labels = espq.tensor { 1, 1, 0, 0 }

describe("topk", function()
   it("counts hits among the first k", function()
      local shares = espq.metrics.topk(logits, labels, { 1, 2 })
      assert.same({ [1] = 0.5, [2] = 0.75 }, shares)      -- rows 1 and 4; row 2 within two
      assert.equal(0.5, espq.metrics.accuracy(logits, labels))
   end)

   it("accumulates over batches", function()
      local m = espq.metrics.topk { 1, 2 }
      m:add(logits:slice(0, 1), { 1 }):add(logits:slice(1, 4), labels:slice(1, 4))
      assert.same({ [1] = 0.5, [2] = 0.75 }, m:value())
   end)

   it("refuses labels that no logit stands for", function()
      assert.error_matches(function() espq.metrics.accuracy(logits, { 1, 1, 0, 3 }) end, "label 3 is outside 0 … 2")
      assert.error_matches(function() espq.metrics.topk { 1 }:add(logits, { -1, 1, 0, 0 }) end, "label %-1 is outside")
   end)
end)

describe("confusion", function()
   it("has labels in rows and answers in columns", function()
      assert.same({ { 1, 0, 1 }, { 1, 1, 0 }, { 0, 0, 0 } }, espq.metrics.confusion(logits, labels):tolist())
   end)
end)

describe("likeness", function()
   local a, b = espq.tensor { { 1.0, 2.0 }, { 0.0, 4.0 } }, espq.tensor { { 1.0, 1.0 }, { 0.0, 5.0 } }

   it("measures noise, angle and squared error", function()
      assert.near((1 / 2 + 1 / 25) / 2, espq.metrics.snr(a, b), 1e-6)
      assert.near((3 / math.sqrt(5 * 2) + 1) / 2, espq.metrics.cosine(a, b), 1e-6)
      assert.near(0.5, espq.metrics.mse(a, b), 1e-9)
      assert.near(10 * math.log(25 / 0.5, 10), espq.metrics.psnr(a, b), 1e-6)
      assert.near(10 * math.log(25 / 0.5, 10), espq.metrics.psnr():add(a[0], b[0]):add(a[1], b[1]):value(), 1e-6)
      assert.near(10 * math.log(1 / 0.5, 10), espq.metrics.psnr { peak = 1 }:add(a, b):value(), 1e-6)
   end)
end)

describe("detection", function()
   local function box(x, class, score) return { box = { x, 0, x + 10, 10 }, class = class, score = score } end

   it("suppresses boxes that overlap, a class for itself", function()
      local boxes = { { 0, 0, 10, 10 }, { 1, 0, 11, 10 }, { 20, 0, 30, 10 }, { 0, 0, 10, 10 } }
      assert.same({ 1, 3, 4 }, espq.metrics.nms { boxes = boxes, scores = { 0.9, 0.8, 0.7, 0.6 }, classes = { 0, 0, 0, 1 }, iou = 0.5 })
   end)

   it("is perfect when every truth is found first", function()
      local m = espq.metrics.mean_average_precision()
      m:add({ box(0, 0, 0.9), box(50, 0, 0.1) }, { box(0, 0) })
      assert.near(1, m:value().map, 1e-9)
   end)

   it("halves when half of the truths are found", function()
      local m = espq.metrics.mean_average_precision()
      m:add({ box(0, 0, 0.9) }, { box(0, 0), box(50, 0) })
      assert.near(51 / 101, m:value().map50, 1e-9)       -- recall points 0.00 … 0.50
   end)

   it("asks for better boxes at higher thresholds", function()
      local m = espq.metrics.mean_average_precision()
      m:add({ box(2, 0, 0.9) }, { box(0, 0) })             -- IoU 8 / 12: above 0.5 … 0.65
      assert.near(4 / 10, m:value().map, 1e-9)
      assert.near(0, m:value().map75, 1e-9)
   end)

   it("does not count crowds against a detector", function()
      local m = espq.metrics.mean_average_precision()
      local crowd = box(50, 0)
      crowd.crowd = true
      m:add({ box(0, 0, 0.5), box(50, 0, 0.9) }, { box(0, 0), crowd })
      assert.near(1, m:value().map, 1e-9)
   end)
end)
