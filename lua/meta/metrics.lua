---@meta _
-- Metrics. (See espq.lua.)
-- luacheck: ignore 212 241

--- A metric that is fed batch by batch.
---@class espq.Accumulator
local Accumulator = {}

--- Count a batch. topk, accuracy, confusion: logits and labels; snr, cosine, mse, psnr: two tensors; mean average precision: the detections
--- { box = { x1, y1, x2, y2 }, class =, score = } and the truths { box =, class =, crowd = } of one picture. Gives the metric.
---@param a any
---@param b any
---@return self
function Accumulator:add(a, b) end

--- The metric of all that was added.
---@return any
function Accumulator:value() end

---@class espq.NmsOptions
---@field boxes espq.Tensor|number[][] [n, 4], or a list of { x1, y1, x2, y2 }
---@field scores espq.Tensor|number[]
---@field classes? espq.Tensor|integer[] boxes of other classes do not suppress each other
---@field iou? number threshold, 0.5 when nothing is said
---@field score? number least score
---@field limit? integer boxes at most, 300 when nothing is said

---@class espq.MapOptions
---@field thresholds? number[] of intersection over union, .50 to .95 when nothing is said
---@field limit? integer detections a picture and class, 100 when nothing is said

--- Metrics. Without tensors a call makes an accumulator: m:add(…), m:value().
---@class espq.MetricsModule
local metrics = {}

--- Share of rows, 0 to 1, whose label is among the k largest logits. `topk { 1, 5 }` makes an accumulator.
---@param ks? integer|integer[]
---@return espq.Accumulator
---@overload fun(logits: espq.Tensor, labels: espq.Labels, ks: integer|integer[]|nil): number|table<integer, number>
function metrics.topk(ks) end

--- Share of rows, 0 to 1, whose largest logit stands at the label.
---@return espq.Accumulator
---@overload fun(logits: espq.Tensor, labels: espq.Labels): number
function metrics.accuracy() end

--- Counts, a tensor [classes, classes]: rows are labels, columns what was said.
---@param options? { classes: integer? }
---@return espq.Accumulator
---@overload fun(logits: espq.Tensor|integer[], labels: espq.Labels): espq.Tensor
function metrics.confusion(options) end

--- Noise power over signal power of a (quantized) against b (float), mean over the rows.
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor): number
function metrics.snr() end

--- Cosine of the angle between rows, mean over the rows.
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor): number
function metrics.cosine() end

--- Mean squared error.
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor): number
function metrics.mse() end

--- Peak signal-to-noise ratio in dB, against `peak` or the largest absolute value of b.
---@param options? espq.PsnrOptions
---@return espq.Accumulator
---@overload fun(a: espq.Tensor, b: espq.Tensor, options: espq.PsnrOptions?): number
function metrics.psnr(options) end

---@class espq.PsnrOptions
---@field peak? number

--- Intersection over union of two boxes { x1, y1, x2, y2 }; crowd: the union is the first box alone, as in COCO.
---@param a number[]
---@param b number[]
---@param crowd? boolean
---@return number
function metrics.iou(a, b, crowd) end

--- Non-maximum suppression: the positions kept, from 1, best first.
---@param options espq.NmsOptions
---@return integer[]
function metrics.nms(options) end

--- COCO's mean average precision, fed picture by picture; value gives { map, map50, map75, classes }.
---@param options? espq.MapOptions
---@return espq.Accumulator
function metrics.mean_average_precision(options) end
