-- Quantization-aware training of MobileNetV2: float, quantized, and trained top-1. Without labels the float model teaches.
--
--    espq samples/07_qat_mobilenetv2.lua --model mobilenet_v2.onnx --train FOLDER --eval FOLDER [--target esp32p4] [--epochs 3] [--batch 16]
--                                        [--lr 1e-5] [--limit PICTURES] [--labels] [--resume] [--out FOLDER]
--
-- The folders hold pictures, in sub-folders by class or beside a labels.tsv (file<TAB>class, classes from 0). --labels: learn the labels too.
-- Published by Espressif:
--    model     https://raw.githubusercontent.com/espressif/esp-dl/master/
--              examples/tutorial/how_to_quantize_model/quantize_mobilenetv2/models/torch/mobilenet_v2.onnx
--    pictures  https://dl.espressif.com/public/imagenet_calib.zip
local espq = require "espq"

-- ---- options ----

local function stop(code, text)
   io.stderr:write(text, "\n")
   os.exit(code)
end

-- The head of this file says what it does, and how it is called.
local function help()
   for line in io.lines(arg[0]) do
      local words = line:match "^%-%- ?(.*)$"
      if not words then os.exit(0) end
      print(words)
   end
end

local given = { model = "mobilenet_v2.onnx", train = "imagenet/train", target = "esp32p4", epochs = 3, batch = 16, lr = 1e-5, out = "outputs/qat_mobilenetv2" }
local names, i = { "model", "train", "eval", "target", "epochs", "batch", "lr", "limit", "labels", "resume", "out" }, 1
while arg[i] do
   if arg[i] == "--help" or arg[i] == "-h" then help() end
   local name = arg[i]:match "^%-%-(%w+)$"
   local known = false
   for _, other in ipairs(names) do known = known or other == name end
   if not known then stop(2, ("unknown option '%s'; known are --%s"):format(arg[i], table.concat(names, " --"))) end
   if name == "labels" or name == "resume" then
      given[name] = true
   else
      i = i + 1
      local value = arg[i] or stop(2, "--" .. name .. " needs a value")
      given[name] = tonumber(value) or value
   end
   i = i + 1
end
given.eval = given.eval or given.train
for _, path in ipairs { given.model, given.train, given.eval } do
   if not os.rename(path, path) then stop(1, path .. " is not there; --help says where to get model and pictures") end
end

-- ---- data ----

local function pictures(dir, limit)
   local labels = io.open(dir .. "/labels.tsv") and dir .. "/labels.tsv" or nil
   return espq.data.images { dir = dir, labels = labels, limit = limit, size = 256, crop = 224,
                             mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } }
end

local train_set = pictures(given.train, given.limit)
local learnt = espq.data.loader { dataset = train_set, batch_size = given.batch, shuffle = true, seed = 1 }
local calibration = espq.data.loader { dataset = train_set, batch_size = 1, limit = 32 }
local judged = espq.data.cache(espq.data.loader { dataset = pictures(given.eval), batch_size = 16 }, { bytes = 512e6 })

local function top1(graph, mode)
   local run, metric = espq.executor(graph, { mode = mode or "simulated" }), espq.metrics.topk { 1 }
   for x, labels in judged() do metric:add(run(x)[1], labels) end
   return 100 * metric:value()
end

-- ---- quantize ----

local setting = espq.setting.espdl()
setting.equalization = true
setting.equalization_setting.opt_level = 2
setting.equalization_setting.iterations = 4
setting.equalization_setting.value_threshold = 0.1
local graph = espq.quantize_onnx {
   onnx_import_file = given.model, skip_export = true, error_report = false, target = given.target, setting = setting,
   calib_dataloader = calibration, calib_steps = 32,
}
local float, quantized = top1(graph, "float"), top1(graph)
print(("top-1: float %.2f %%, quantized %.2f %%"):format(float, quantized))

-- ---- train ----

local trained, report = espq.qat {
   graph = graph, espdl_export_file = given.out .. "/mobilenetv2_qat.espdl", train_dataloader = learnt, epochs = given.epochs, lr = given.lr,
   distill = true, loss = given.labels and "cross_entropy" or "kl", evaluate_fn = top1, checkpoint_dir = given.out .. "/checkpoints",
   resume = given.resume or false,
}
print(report)
print(("top-1: float %.2f %%, quantized %.2f %%, after training %.2f %%"):format(float, quantized, top1(trained)))
