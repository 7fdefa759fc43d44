-- What each setting keeps of YOLO11n's accuracy: mAP50-95 and mAP50 on the 64 pictures of coco/eval, and the mean noise : signal of the six
-- outputs, row by row, after calibrating on the first 16 of coco/calib.
--    build/espq tests/bench/accuracy_yolo.lua ../shared [TARGET[,TARGET …] [ROW[,ROW …] [BUDGET]]]
-- BUDGET: seconds for the row recover (600).
local espq = require "espq"
local shared, targets, wanted, budget = arg[1], arg[2] or "esp32p4,esp32s3", arg[3], tonumber(arg[4] or 600)
local SIZE, CONFIDENCE, OVERLAP, MOST = 320, 0.001, 0.7, 300
espq.verbose = tonumber(os.getenv "VERBOSE" or 0)

local function percentile(setting) setting.quantize_activation_setting.calib_algorithm = "percentile" end
local function tqt(setting)                                            -- 500 steps, rate 1e-5, blocks of 4: the defaults, said once more
   setting.tqt_optimization = true
   setting.tqt_optimization_setting = { steps = 500, lr = 1e-5, block_size = 4 }
end
local rows = {
   { "plain", function() end },
   { "percentile", percentile },
   { "mse", function(setting) setting.quantize_activation_setting.calib_algorithm = "mse" end },
   { "tqt", tqt },
   { "percentile_tqt", function(setting) percentile(setting) tqt(setting) end },
   { "recover", function(setting) setting.recover = { budget = budget } end },
}

local calibration = espq.data.loader {
   dataset = espq.data.images { dir = shared .. "/data/coco/calib", size = SIZE, letterbox = true, scale = 1 / 255, limit = 16 }, batch_size = 1,
}
local judged = espq.data.cache(espq.data.loader {
   dataset = espq.data.coco { images = shared .. "/data/coco/eval", annotations = shared .. "/data/coco/eval.json", size = SIZE,
                              letterbox = true, scale = 1 / 255 },
   batch_size = 1,
})

-- ---- from the outputs to boxes ----

local LOGIT, BINS = math.log(CONFIDENCE / (1 - CONFIDENCE)), espq.arange(16):to("float32")

local function add_level(box, score, label, boxes, scores, classes)
   local height, width = score.shape[3], score.shape[4]
   local by_cell, cells, box_rows = score:view(80, height * width), {}, {}
   for i, best in ipairs(by_cell:max { axis = 0 }:tolist()) do
      if best > LOGIT then cells[#cells + 1] = i - 1 end
   end
   if #cells == 0 then return end
   local every_box, every_score, score_rows = box:view(64, height * width):transpose(), by_cell:transpose(), {}
   for i, cell in ipairs(cells) do box_rows[i], score_rows[i] = every_box[cell], every_score[cell] end
   local sides = (espq.stack(box_rows):view(#cells, 4, 16):softmax(2) * BINS):sum(2):tolist()
   local probabilities, stride = espq.stack(score_rows):sigmoid():tolist(), SIZE / height
   for i, cell in ipairs(cells) do
      local x, y, side = cell % width + 0.5, cell // width + 0.5, sides[i]
      local function back(value, border, most) return math.min(math.max((value * stride - border) / label.ratio, 0), most) end
      local rectangle = { back(x - side[1], label.left, label.width), back(y - side[2], label.top, label.height),
                          back(x + side[3], label.left, label.width), back(y + side[4], label.top, label.height) }
      for class, probability in ipairs(probabilities[i]) do
         if probability > CONFIDENCE then
            boxes[#boxes + 1], scores[#scores + 1], classes[#classes + 1] = rectangle, probability, class - 1
         end
      end
   end
end

local function detect(outputs, label)
   local boxes, scores, classes, found = {}, {}, {}, {}
   for level = 0, 2 do add_level(outputs["box" .. level], outputs["score" .. level], label, boxes, scores, classes) end
   for n, k in ipairs(espq.metrics.nms { boxes = boxes, scores = scores, classes = classes, iou = OVERLAP, limit = MOST }) do
      found[n] = { box = boxes[k], class = classes[k], score = scores[k] }
   end
   return found
end

-- ---- figures ----

local names, float = { "box0", "box1", "box2", "score0", "score1", "score2" }, {}

local function figures(graph, mode)
   local run, metric, noise, picture = espq.executor(graph, { mode = mode }), espq.metrics.mean_average_precision {}, {}, 0
   for x, labels in judged() do
      local outputs = run(x)
      picture = picture + 1
      float[picture] = float[picture] or outputs
      for _, name in ipairs(names) do
         local exact = float[picture][name]
         noise[name] = (noise[name] or 0) + (((outputs[name] - exact) ^ 2):sum() / (exact ^ 2):sum()):item()
      end
      metric:add(detect(outputs, labels[1]), labels[1].truths)
   end
   local value, mean, each = metric:value(), 0, {}
   for i, name in ipairs(names) do
      mean, each[i] = mean + noise[name] / picture / #names, ("%.4f"):format(noise[name] / picture)
   end
   return { map = value.map, map50 = value.map50, noise = mean, each = table.concat(each, " ") }
end

local function print_row(target, name, result, seconds, processor)
   print(("%-8s  %-14s  mAP50-95 %.3f  mAP50 %.3f  noise:signal %.4f (%s)  %4d s, processor %6.1f s"):format(target, name, result.map,
      result.map50, result.noise, result.each, seconds, processor))
   io.stdout:flush()
end

local function asked(name)
   for word in (wanted or name):gmatch "[^,]+" do
      if word == name then return true end
   end
   return false
end

for target in targets:gmatch "[^,]+" do
   for _, row in ipairs(rows) do
      local name, change = row[1], row[2]
      if asked(name) then
         local setting = espq.setting.espdl()
         change(setting)
         local began, processor = os.time(), os.clock()
         local graph = espq.quantize_onnx {
            onnx_import_file = shared .. "/data/models/yolo11n_320_float.onnx", input_shape = { 1, 3, SIZE, SIZE }, target = target,
            setting = setting, calib_dataloader = calibration, calib_steps = 16, error_report = false, skip_export = true,
         }
         local seconds = os.time() - began
         processor = os.clock() - processor
         if #float == 0 then print_row("", "float", figures(graph, "float"), 0, 0) end
         print_row(target, name, figures(graph, "simulated"), seconds, processor)
      end
   end
end
