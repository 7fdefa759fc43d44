-- What recovery keeps of the small models' metric: accuracy, or mean IoU for the segmentation, in percent: float, plain, recover.
--    build/espq tests/bench/accuracy_small.lua ../shared [TARGET[,TARGET …] [MODEL[,MODEL …]]]
local espq = require "espq"
local shared, targets, wanted = arg[1], arg[2] or "c,esp32s3,esp32p4", arg[3]
espq.verbose = tonumber(os.getenv "VERBOSE" or 0)

local function pair(name)
   local folder = shared .. "/data/models/" .. name
   local eval = espq.from_npz(folder .. "_eval.npz")
   return espq.from_npy(folder .. "_calib.npy"), eval.x, eval.y
end

local function kws()
   local folder = shared .. "/data/small/kws_mlperf_dscnn/"
   return espq.from_npy(folder .. "calib.npy"), espq.from_npy(folder .. "eval.npy"), espq.from_npy(folder .. "eval_labels.npy")
end

local function accuracy(logits, labels) return espq.metrics.accuracy(logits, labels) end

-- Mean over classes of the intersection of what is found and what is there, by their union.
local function mean_iou(logits, labels)
   local cells = espq.metrics.confusion(logits:permute { 0, 2, 3, 1 }:reshape { -1, 3 }, labels:reshape { -1 }):tolist()
   local sum = 0
   for class = 1, 3 do
      local union = -cells[class][class]
      for other = 1, 3 do union = union + cells[class][other] + cells[other][class] end
      sum = sum + cells[class][class] / union / 3
   end
   return sum
end

local models = {
   { "digits", pair, accuracy }, { "har_tcn", pair, accuracy }, { "har_transformer", pair, accuracy },
   { "shapes_unet", pair, mean_iou }, { "kws_mlperf_dscnn", kws, accuracy },
}

local function asked(name)
   for word in (wanted or name):gmatch "[^,]+" do
      if word == name then return true end
   end
   return false
end

local function quantize(name, target, calibration, setting)
   local shape = calibration.shape
   shape[1] = 1
   return espq.quantize_onnx {
      onnx_import_file = ("%s/data/models/%s.onnx"):format(shared, name), input_shape = shape, target = target, setting = setting,
      calib_dataloader = espq.data.loader { dataset = calibration, batch_size = 1 }, calib_steps = calibration.shape[1],
      error_report = false, skip_export = true,
   }
end

for _, model in ipairs(models) do
   local name, data, metric = model[1], model[2], model[3]
   if asked(name) then
      local calibration, x, y = data(name)
      local samples, classes = x.shape[1], y:flatten():tolist()
      for target in targets:gmatch "[^,]+" do
         local plain, recovering = espq.setting.espdl(), espq.setting.espdl()
         recovering.recover = true
         local exact
         local function judge(graph, mode)
            local logits = {}
            local run = espq.executor(graph, { mode = mode })
            for i = 0, samples - 1 do logits[i + 1] = run(x:slice(i, i + 1))[1] end
            logits = espq.cat(logits, 0)
            exact = exact or logits
            local noise = ((logits - exact) ^ 2):sum():item() / (exact ^ 2):sum():item()
            return 100 * metric(logits, metric == accuracy and classes or y), noise
         end
         local graph = quantize(name, target, calibration, plain)
         local float = judge(graph, "float")
         local before, noise_before = judge(graph, "simulated")
         local began = os.time()
         local after, noise_after = judge(quantize(name, target, calibration, recovering), "simulated")
         print(("%-17s  %-8s  float %6.2f  plain %6.2f  recover %6.2f  lost %5.2f  noise:signal %.5f -> %.5f  %3d s"):format(name, target, float,
            before, after, float - after, noise_before, noise_after, os.time() - began))
         io.stdout:flush()
      end
   end
end
