-- AutoQuant on YOLO11n: a fast search for the quantization setting with the best mAP50-95 on COCO. ESP-PPQ's sample as a Lua script.
--
--    espq samples/03_yolo11n.lua --model yolo11n.onnx --calib FOLDER --eval FOLDER [--annotations eval.json] [--size 640] [--target esp32p4]
--                                [--budget small|SECONDS|Nt] [--out FOLDER] [--workers N] [--resume] [--json]
--
-- The model ends in six outputs, box0 … box2 [1, 64, h, w] and score0 … score2 [1, 80, h, w], as Espressif exports it. `make samples-data` fetches the
-- model and the pictures to calibrate with from Espressif, and COCO's val2017 to judge by. `espq report FOLDER` shows the search as a page.
local espq = require "espq"

local here = arg[0]:match "^(.*/)" or ""
local given = dofile(here .. "options.lua") {
   model = "build/samples/yolo11n.onnx", calib = "build/samples/calib_yolo11n", eval = "build/samples/val2017", out = "outputs/yolo11n", size = 640,
   also = { "annotations", "size" },
   where = [[
`make samples-data` fetches what Espressif and COCO publish into build/samples:
   model        https://raw.githubusercontent.com/espressif/esp-dl/master/models/coco_detect/models/yolo11n.onnx
   calibration  https://dl.espressif.com/public/calib_yolo11n.zip
   to judge by  http://images.cocodataset.org/zips/val2017.zip, http://images.cocodataset.org/annotations/annotations_trainval2017.zip]],
}
local size, annotations = given.size, given.annotations or given.eval:gsub("/+$", "") .. ".json"

-- ---- data: calibrated on pictures resized to the square, judged on letterboxed ones, as the published sample does ----

local calibration = espq.data.loader {
   dataset = espq.data.images { dir = given.calib, size = { size, size }, scale = 1 / 255, limit = given.small and 4 or nil },
   batch_size = given.small and 4 or given.quick and 1 or 32,          -- a step of training is a step of a batch
}
local judged = espq.data.cache(espq.data.loader {
   dataset = espq.data.coco { images = given.eval, annotations = annotations, size = size, letterbox = true, scale = 1 / 255,
                              limit = given.small and 2 or nil },
   batch_size = 1,
})

-- ---- metric: from the outputs to boxes, suppressed class by class, to COCO's mAP ----

local CONFIDENCE, OVERLAP, MOST = 0.001, 0.7, 300
local LOGIT = math.log(CONFIDENCE / (1 - CONFIDENCE))     -- sigmoid(LOGIT) = CONFIDENCE: so only few sigmoids are needed
local BINS = espq.arange(16):to("float32")

-- One level of the detector: box [1, 64, h, w], score [1, classes, h, w]. Adds the boxes of the cells in which a class is likely enough.
local function add_level(box, score, label, boxes, scores, classes)
   local height, width = score.shape[3], score.shape[4]
   local by_cell = score:view(score.shape[2], height * width)
   local cells = {}
   for i, best in ipairs(by_cell:max { axis = 0 }:tolist()) do
      if best > LOGIT then cells[#cells + 1] = i - 1 end
   end
   if #cells == 0 then return end
   local box_rows, score_rows, rows, logits = box:view(64, height * width):transpose(), by_cell:transpose(), {}, {}
   for i, cell in ipairs(cells) do rows[i], logits[i] = box_rows[cell], score_rows[cell] end
   -- The distance to a side is the expectation over 16 bins, in cells; left, top, right, bottom.
   local sides = (espq.stack(rows):view(#cells, 4, 16):softmax(2) * BINS):sum(2):tolist()
   logits = espq.stack(logits)
   local probabilities = logits:sigmoid():tolist()
   local scale = size / height / label.ratio                -- from cells to pixels of the picture as it was before the letterbox
   for i, cell in ipairs(cells) do
      local x, y, side = cell % width + 0.5, cell // width + 0.5, sides[i]
      local function across(value) return math.min(math.max(value * scale - label.left / label.ratio, 0), label.width) end
      local function down(value) return math.min(math.max(value * scale - label.top / label.ratio, 0), label.height) end
      local rectangle = { across(x - side[1]), down(y - side[2]), across(x + side[3]), down(y + side[4]) }
      for class, probability in ipairs(probabilities[i]) do
         if probability > CONFIDENCE then
            boxes[#boxes + 1], scores[#scores + 1], classes[#classes + 1] = rectangle, probability, class - 1
         end
      end
   end
end

-- Detections of one picture in its own pixels.
local function detect(outputs, label)
   local boxes, scores, classes, found = {}, {}, {}, {}
   for level = 0, 2 do add_level(outputs["box" .. level], outputs["score" .. level], label, boxes, scores, classes) end
   for n, k in ipairs(espq.metrics.nms { boxes = boxes, scores = scores, classes = classes, iou = OVERLAP, limit = MOST }) do
      found[n] = { box = boxes[k], class = classes[k], score = scores[k] }
   end
   return found
end

local function evaluate(graph)
   local run, metric = espq.executor(graph, { mode = "simulated" }), espq.metrics.mean_average_precision {}
   for x, labels in judged() do metric:add(detect(run(x), labels[1]), labels[1].truths) end
   local value = metric:value()
   return value.map, { ["mAP50-95"] = value.map, mAP50 = value.map50 }
end

-- ---- search ----

local setting = espq.autoquant_setting { search_mode = "fast", num_of_candidates = 5, run_dir = given.out, resume = given.resume }
setting.top_strategy, setting.early_stop_patience = 10, 5
setting.strategy_space.mixed_precision = { true, false }
setting.budget = given.limit
if given.quick then                                        -- at first nothing that trains
   for _, name in ipairs { "tqt", "blockwise_reconstruction" } do setting.strategy_space[name] = { false } end
end
if given.small then                                        -- three trials, which differ in their calibration
   for _, name in ipairs { "bias_correction", "mixed_precision", "weight_equalization" } do setting.strategy_space[name] = { false } end
end

local function search()
   return espq.auto_quantize_onnx {
      onnx_import_file = given.model,
      espdl_export_file = given.out .. "/model.espdl",
      calib_dataloader = calibration,
      calib_steps = 32,
      input_shape = { 3, size, size },
      evaluate_fn = evaluate,
      target = given.target,
      setting = setting,
      workers = given.workers,
   }
end

-- Trial after trial in the order of the space, an hour would go into training settings that are poor without it. So when time is short, half of it finds
-- the best of those that do not train; the rest trains these, the best first, in the same run directory.
local function search_in(seconds)
   local begun = os.time()
   local function left() return seconds - (os.time() - begun) end
   setting.budget = { seconds = seconds / 2 }
   local top, took = search(), 0
   setting.search_mode, setting.resume = "exhaustive", true
   for _, record in ipairs(top) do
      if left() <= took then break end
      for name, on in pairs(record.strategy) do setting.strategy_space[name] = { on } end
      for name, knobs in pairs(record.params) do
         for knob, value in pairs(knobs ~= espq.json.null and knobs or {}) do setting.param_space[name][knob] = { value } end
      end
      setting.strategy_space.tqt = { true }
      setting.param_space.tqt.lr, setting.param_space.tqt.steps, setting.param_space.tqt.block_size = { 5e-5, 1e-5 }, { 500 }, { 4 }
      setting.budget = { seconds = left() }
      local before = left()
      top = search()
      took = before - left()
   end
   return top
end

local top = given.quick and not given.small and given.limit.seconds and search_in(given.limit.seconds) or search()

if not given.json then
   print "\n=== Top-K candidates ==="
   for _, record in ipairs(top) do
      print(("#%04d  score=%.4f  mAP50-95=%.4f  mAP50=%.4f  folder=%s"):format(record.index, record.score, record["mAP50-95"], record.mAP50,
                                                                               record.folder))
   end
end
