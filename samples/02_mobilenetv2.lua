-- AutoQuant on MobileNetV2: an exhaustive search for the quantization setting with the best top-1 accuracy. ESP-PPQ's sample as a Lua script.
--
--    espq samples/02_mobilenetv2.lua --model mobilenet_v2.onnx --calib FOLDER --eval FOLDER [--target esp32p4] [--budget small|SECONDS|Nt]
--                                    [--out FOLDER] [--workers N] [--resume] [--json]
--
-- The folders hold pictures, in sub-folders by class or beside a labels.tsv (file<TAB>class, classes from 0). Published by Espressif:
--    model     https://raw.githubusercontent.com/espressif/esp-dl/master/
--              examples/tutorial/how_to_quantize_model/quantize_mobilenetv2/models/torch/mobilenet_v2.onnx
--    pictures  https://dl.espressif.com/public/imagenet_calib.zip
local espq = require "espq"

-- ---- options ----

local given = { model = "mobilenet_v2.onnx", calib = "imagenet/calib", target = "esp32p4", out = "outputs/mobilenetv2", budget = "all" }
local names, i = { "model", "calib", "eval", "target", "out", "budget", "workers", "resume", "json" }, 1
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
given.eval = given.eval or given.calib                     -- as the published sample does
for _, path in ipairs { given.model, given.calib, given.eval } do
   if not os.rename(path, path) then error(path .. " is not there; the head of this script says where to get model and pictures", 0) end
end
local small = given.budget == "small"

-- ---- data ----

local function pictures(dir, limit)
   local labels = io.open(dir .. "/labels.tsv") and dir .. "/labels.tsv" or nil
   return espq.data.images { dir = dir, labels = labels, limit = limit, size = 256, crop = 224,
                             mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } }
end

local calibration = espq.data.loader { dataset = pictures(given.calib, small and 8 or 1024), batch_size = small and 8 or 32 }
local judged = espq.data.cache(espq.data.loader { dataset = pictures(given.eval, small and 16 or nil), batch_size = 16 })

-- ---- metric ----

-- Labels are class numbers, or names of sub-folders in their order.
local classes = {}
local function number_of(label)
   if math.type(label) == "integer" then return label end
   local position = tonumber(label)
   if position then return math.tointeger(position) end
   classes[label] = classes[label] or (function()
      local count = 0
      for _ in pairs(classes) do count = count + 1 end
      return count
   end)()
   return classes[label]
end

local function evaluate(graph)
   local run, metric = espq.executor(graph, { mode = "simulated" }), espq.metrics.topk { 1, 5 }
   for x, labels in judged() do
      if type(labels) == "table" then
         local numbers = {}
         for k, label in ipairs(labels) do numbers[k] = number_of(label) end
         labels = numbers
      end
      metric:add(run(x)[1], labels)
   end
   local share = metric:value()
   return 100 * share[1], { top1 = 100 * share[1], top5 = 100 * share[5] }
end

-- ---- search ----

local setting = espq.autoquant_setting { search_mode = "exhaustive", num_of_candidates = 5, run_dir = given.out, resume = given.resume or false }
if small then
   for _, name in ipairs { "tqt", "blockwise_reconstruction", "bias_correction" } do setting.strategy_space[name] = { false } end
   setting.strategy_space.weight_equalization = { true }
   setting.param_space.weight_equalization = { iterations = { 2 }, value_threshold = { 0.5 } }
   setting.param_space.fusion_alignment = { elementwise_to = { "Align to Output" }, concat_to = { "Align to Output" },
                                            avgpooling_to = { "Align to Output" }, resize_to = { "Align to Output" } }
   setting.budget = { trials = 3 }
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
   input_shape = { 3, 224, 224 },
   evaluate_fn = evaluate,
   target = given.target,
   setting = setting,
   workers = tonumber(given.workers),
}

if not given.json then
   print "\n=== Top-K candidates ==="
   for _, record in ipairs(top) do
      print(("#%04d  score=%.4f  top1=%.4f  top5=%.4f  folder=%s"):format(record.index, record.score, record.top1, record.top5, record.folder))
   end
end
