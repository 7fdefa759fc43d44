-- AutoQuant on YOLO11n: a fast search for the quantization setting with the best mAP50-95 on COCO. ESP-PPQ's sample as a Lua script.
--
--    espq samples/03_yolo11n.lua --model yolo11n.onnx --calib FOLDER --eval FOLDER [--annotations eval.json] [--size 640] [--target esp32p4]
--                                [--budget small|SECONDS|Nt] [--out FOLDER] [--workers N] [--resume] [--json]
--
-- The model ends in six outputs, box0 … box2 [1, 64, h, w] and score0 … score2 [1, 80, h, w], as Espressif exports it. Published there:
--    model     https://raw.githubusercontent.com/espressif/esp-dl/master/models/coco_detect/models/yolo11n.onnx
--    pictures  https://dl.espressif.com/public/calib_yolo11n.zip, and COCO's val2017 with its annotations to judge by
local espq = require "espq"

-- ---- options ----

local given = { model = "yolo11n.onnx", calib = "calib_yolo11n", eval = "coco/val2017", target = "esp32p4", out = "outputs/yolo11n", budget = "all",
                size = "640" }
local names, i = { "model", "calib", "eval", "annotations", "size", "target", "out", "budget", "workers", "resume", "json" }, 1
while arg[i] do
   local name = arg[i]:match "^%-%-(%w+)$"
   local known = false
   for _, other in ipairs(names) do known = known or other == name end
   if not known then error(("unknown option '%s'; known are --%s"):format(arg[i], table.concat(names, " --")), 0) end
   if name == "resume" or name == "json" then
      given[name] = true
   else
      i = i + 1
      given[name] = arg[i] or error("--" .. name .. " needs a value", 0)
   end
   i = i + 1
end
given.annotations = given.annotations or given.eval:gsub("/+$", "") .. ".json"
for _, path in ipairs { given.model, given.calib, given.eval, given.annotations } do
   if not os.rename(path, path) then error(path .. " is not there; the head of this script says where to get model and pictures", 0) end
end
local small, size = given.budget == "small", math.tointeger(tonumber(given.size))

-- ---- data ----

-- Calibrated on pictures that are resized to the square, judged on letterboxed ones, as the published sample does.
local calibration = espq.data.loader {
   dataset = espq.data.images { dir = given.calib, size = { size, size }, scale = 1 / 255, limit = small and 4 or nil }, batch_size = small and 4 or 32,
}
local judged = espq.data.cache(espq.data.loader {
   dataset = espq.data.coco { images = given.eval, annotations = given.annotations, size = size, letterbox = true, scale = 1 / 255,
                              limit = small and 2 or nil }, batch_size = 1,
})

-- ---- from the outputs to boxes ----

local CONFIDENCE, OVERLAP, MOST, CANDIDATES = 0.001, 0.7, 300, 2000

-- Distances of a cell to the four sides of its box, in cells: the expectation over 16 bins. box [1, 64, h, w] → [4, h * w].
local function distances(box)
   local cells = box.shape[3] * box.shape[4]
   local bins = espq.arange(16):to("float32"):view(1, 16, 1)
   return (box:view(4, 16, cells):softmax(1) * bins):sum(1):view(4, cells)
end

-- Detections of one picture in its own pixels.
local function detect(outputs, label)
   local boxes, scores, classes = {}, {}, {}
   for level = 0, 2 do
      local box, score = outputs["box" .. level], outputs["score" .. level]
      local height, width = score.shape[3], score.shape[4]
      local cells, stride = height * width, size / height
      local side = distances(box)
      local best, places = score:view(score.shape[2] * cells):topk(math.min(CANDIDATES, score.shape[2] * cells))
      best, places = best:sigmoid():tolist(), places:tolist()
      for k, probability in ipairs(best) do
         if probability <= CONFIDENCE then break end
         local cell = places[k] % cells
         local x, y = cell % width + 0.5, cell // width + 0.5
         local function pixel(value, offset, limit) return math.min(math.max((value * stride - offset) / label.ratio, 0), limit) end
         boxes[#boxes + 1] = {
            pixel(x - side:get(0, cell), label.left, label.width), pixel(y - side:get(1, cell), label.top, label.height),
            pixel(x + side:get(2, cell), label.left, label.width), pixel(y + side:get(3, cell), label.top, label.height),
         }
         scores[#scores + 1], classes[#classes + 1] = probability, places[k] // cells
      end
   end
   local found = {}
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

local setting = espq.autoquant_setting { search_mode = "fast", num_of_candidates = 5, run_dir = given.out, resume = given.resume or false }
setting.top_strategy, setting.early_stop_patience = 10, 5
setting.strategy_space.mixed_precision = { true, false }
if small then
   for _, name in ipairs { "tqt", "blockwise_reconstruction", "bias_correction", "mixed_precision" } do setting.strategy_space[name] = { false } end
   setting.strategy_space.weight_equalization = { false }
   setting.budget = { trials = 2 }
elseif given.budget:find "t$" then
   setting.budget = { trials = math.tointeger(tonumber(given.budget:sub(1, -2))) }
elseif given.budget ~= "all" then
   setting.budget = { seconds = tonumber(given.budget) }
end

local top = espq.auto_quantize_onnx {
   onnx_import_file = given.model,
   espdl_export_file = given.out .. "/model.espdl",
   calib_dataloader = calibration,
   calib_steps = 32,
   input_shape = { 3, size, size },
   evaluate_fn = evaluate,
   target = given.target,
   setting = setting,
   workers = tonumber(given.workers),
}

if not given.json then
   print "\n=== Top-K candidates ==="
   for _, record in ipairs(top) do
      print(("#%04d  score=%.4f  mAP50-95=%.4f  mAP50=%.4f  folder=%s"):format(record.index, record.score, record["mAP50-95"], record.mAP50, record.folder))
   end
end
