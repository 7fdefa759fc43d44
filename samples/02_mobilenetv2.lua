-- AutoQuant on MobileNetV2: an exhaustive search for the quantization setting with the best top-1 accuracy. ESP-PPQ's sample as a Lua script.
--
--    espq samples/02_mobilenetv2.lua --model mobilenet_v2.onnx --calib FOLDER --eval FOLDER [--target esp32p4] [--budget small|SECONDS|Nt]
--                                    [--out FOLDER] [--workers N] [--resume] [--json]
--
-- The folders hold pictures, in sub-folders by class or beside a labels.tsv (file<TAB>class, classes from 0). `make samples-data` fetches the model and
-- the pictures that Espressif publishes. `espq report FOLDER` shows the search as a page.
local espq = require "espq"

local here = arg[0]:match "^(.*/)" or ""
local given = dofile(here .. "options.lua") {
   model = "build/samples/mobilenet_v2.onnx", calib = "build/samples/imagenet/calib", out = "outputs/mobilenetv2",
   where = [[
`make samples-data` fetches what Espressif publishes into build/samples:
   model  https://raw.githubusercontent.com/espressif/esp-dl/master/examples/tutorial/how_to_quantize_model/quantize_mobilenetv2/models/torch/mobilenet_v2.onnx
   data   https://dl.espressif.com/public/imagenet_calib.zip]],
}

-- ---- data: short side 256, the middle 224 × 224, normalised as the model was trained ----

local function pictures(dir, limit)
   local labels = io.open(dir .. "/labels.tsv") and dir .. "/labels.tsv" or nil
   return espq.data.images { dir = dir, labels = labels, limit = limit, size = 256, crop = 224,
                             mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } }
end

local calibration = espq.data.loader { dataset = pictures(given.calib, given.small and 8 or 1024), batch_size = given.small and 8 or 32 }
local judged = espq.data.cache(espq.data.loader { dataset = pictures(given.eval, given.small and 16 or nil), batch_size = 16 })

-- ---- metric: top-1 is the score, top-5 goes along ----

-- A label is a class, or the name of a sub-folder: those are numbered in their order, as torchvision's ImageFolder does.
local numbers, count = {}, 0
local function class_of(label)
   if tonumber(label) then return math.tointeger(tonumber(label)) end
   if not numbers[label] then numbers[label], count = count, count + 1 end
   return numbers[label]
end

local function evaluate(graph)
   local run, metric = espq.executor(graph, { mode = "simulated" }), espq.metrics.topk { 1, 5 }
   for x, labels in judged() do
      if type(labels) == "table" then
         local classes = {}
         for k, label in ipairs(labels) do classes[k] = class_of(label) end
         labels = classes
      end
      metric:add(run(x)[1], labels)
   end
   local share = metric:value()
   return 100 * share[1], { top1 = 100 * share[1], top5 = 100 * share[5] }
end

-- ---- search: everything that the default spaces have ----

local setting = espq.autoquant_setting { search_mode = "exhaustive", num_of_candidates = 5, run_dir = given.out, resume = given.resume }
setting.budget = given.limit
if given.quick then                                        -- nothing that trains
   for _, name in ipairs { "tqt", "blockwise_reconstruction" } do setting.strategy_space[name] = { false } end
end
if given.small then                                        -- three trials, which differ in their calibration
   setting.strategy_space.bias_correction, setting.strategy_space.weight_equalization = { false }, { true }
   setting.param_space.weight_equalization = { iterations = { 2 }, value_threshold = { 0.5 } }
   setting.param_space.fusion_alignment = { elementwise_to = { "Align to Output" }, concat_to = { "Align to Output" },
                                            avgpooling_to = { "Align to Output" }, resize_to = { "Align to Output" } }
end

local top = espq.auto_quantize_onnx {
   onnx_import_file = given.model,
   espdl_export_file = given.out .. "/model.espdl",
   calib_dataloader = calibration,
   calib_steps = 32,
   input_shape = { 3, 224, 224 },
   evaluate_fn = evaluate,
   target = given.target,
   setting = setting,
   workers = given.workers,
}

if not given.json then
   print "\n=== Top-K candidates ==="
   for _, record in ipairs(top) do
      print(("#%04d  score=%.4f  top1=%.4f  top5=%.4f  folder=%s"):format(record.index, record.score, record.top1, record.top5, record.folder))
   end
end
