-- What each setting keeps of MobileNetV2's accuracy: top-1, top-5, agreement with float's top-1, and the noise of the logits, row by row,
-- on the 300 pictures of imagenet/eval after calibrating on the first 32 of imagenet/calib.
--    build/espq tests/bench/accuracy.lua ../shared OUT [TARGET[,TARGET …] [ROW[,ROW …]]]
-- OUT: a folder for accuracy.json. A row whose setting this version lacks is skipped with a word.
local espq = require "espq"
local shared, out, targets, wanted = arg[1], arg[2], arg[3] or "esp32p4,esp32s3", arg[4]
espq.verbose = tonumber(os.getenv "VERBOSE" or 0)

local rows = {
   { "plain", function() end },
   { "mse", function(s) s.quantize_activation_setting.calib_algorithm = "mse" end },
   { "percentile", function(s) s.quantize_activation_setting.calib_algorithm = "percentile" end },
   { "equalization", function(s)
      s.equalization = true
      s.equalization_setting.opt_level, s.equalization_setting.iterations, s.equalization_setting.value_threshold = 2, 10, 0.5
   end },
   { "bias_correct", function(s) s.bias_correct = true end },
   { "tqt", function(s) s.tqt_optimization = true end },
   { "blockwise", function(s) s.blockwise_reconstruction, s.blockwise_reconstruction_setting.steps = true, 500 end },
   { "equalization_tqt", function(s)
      s.equalization, s.tqt_optimization = true, true
      s.equalization_setting.opt_level, s.equalization_setting.iterations, s.equalization_setting.value_threshold = 2, 4, 0.1
      s.tqt_optimization_setting.steps, s.tqt_optimization_setting.lr = 800, 5e-5
   end },
   { "percentile_equalization_tqt", function(s)
      s.quantize_activation_setting.calib_algorithm = "percentile"
      s.equalization, s.tqt_optimization = true, true
      s.equalization_setting.opt_level, s.equalization_setting.iterations, s.equalization_setting.value_threshold = 2, 4, 0.1
      s.tqt_optimization_setting.steps, s.tqt_optimization_setting.lr = 800, 5e-5
   end },
   { "recover", function(s) s.recover = true end },
}

local function pictures(folder)
   return espq.data.images { dir = ("%s/data/imagenet/%s"):format(shared, folder), size = 256, crop = 224,
                             mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } }
end

local labels = {}
for line in io.lines(shared .. "/data/imagenet/eval/labels.tsv") do
   local file, class = line:match "^(%S+)\t(%d+)"
   if file then labels[#labels + 1] = { file = file, class = tonumber(class) } end
end
table.sort(labels, function(a, b) return a.file < b.file end)     -- the order of espq.data.images
local judged = espq.data.cache(espq.data.loader { dataset = pictures "eval", batch_size = 4 })

local function logits(graph, mode)
   local run, all = espq.executor(graph, { mode = mode }), {}
   for x in judged() do all[#all + 1] = run(x)[1] end
   return espq.cat(all, 0)
end

local function figures(got, float)
   local classes, metric = {}, espq.metrics.topk { 1, 5 }
   for i, label in ipairs(labels) do classes[i] = label.class end
   local share = metric:add(got, classes):value()
   local mine, its, agreed = got:argmax(1):tolist(), float:argmax(1):tolist(), 0
   for i = 1, #mine do agreed = agreed + (mine[i] == its[i] and 1 or 0) end
   local noise = (((got - float) ^ 2):sum(1) / (float ^ 2):sum(1)):mean():item()
   return { top1 = 100 * share[1], top5 = 100 * share[5], agreement = 100 * agreed / #mine, noise = noise }
end

local function asked(name)
   for word in (wanted or name):gmatch "[^,]+" do
      if word == name then return true end
   end
   return false
end

local function print_row(target, name, result)
   print(("%-8s  %-28s  top-1 %5.1f  top-5 %5.1f  agrees %5.1f %%  noise:signal %.4f  %6.1f s, processor %6.1f s"):format(target, name,
      result.top1, result.top5, result.agreement, result.noise, result.seconds or 0, result.processor or 0))
end

local float
local results = {}
for target in targets:gmatch "[^,]+" do
   for _, row in ipairs(rows) do
      local name, change = row[1], row[2]
      local setting = espq.setting.espdl()
      local known, why = pcall(change, setting)
      if asked(name) and not known then
         print(("%-8s  %-28s  skipped: %s"):format(target, name, tostring(why):match "^[^\n]*"))
      elseif asked(name) then
         local began, processor = os.time(), os.clock()
         local graph = espq.quantize_onnx {
            onnx_import_file = shared .. "/data/models/mobilenetv2_float.onnx", input_shape = { 1, 3, 224, 224 }, target = target, setting = setting,
            calib_dataloader = espq.data.loader { dataset = pictures "calib", batch_size = 1, limit = 32 }, calib_steps = 32,
            error_report = false, skip_export = true,
         }
         local seconds = (os.time()) - began
         processor = os.clock() - processor
         if not float then
            float = logits(graph, "float")
            print_row("", "float", figures(float, float))
         end
         local result = figures(logits(graph, "simulated"), float)
         result.target, result.row, result.seconds, result.processor = target, name, seconds, processor
         results[#results + 1] = result
         print_row(target, name, result)
         io.stdout:flush()
      end
   end
end
local file = assert(io.open(out .. "/accuracy.json", "w"))
file:write(espq.json.encode(results), "\n")
file:close()
