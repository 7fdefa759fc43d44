-- A classifier of handwritten digits (samples/data/digits.onnx): quantized on calibration pictures, judged on pictures it has not seen.
--
--    espq samples/01_digits.lua [FOLDER]
local espq = require "espq"

local here = (arg and arg[0] or "samples/01_digits.lua"):match "^(.*)/[^/]*$" or "."
if arg and arg[1] and arg[1]:match "^%-" then return print "espq samples/01_digits.lua [FOLDER]" end
local folder = arg and arg[1] or "digits_demo"
os.execute(("mkdir -p '%s'"):format(folder))
local espdl_file = folder .. "/digits.espdl"

local graph, report = espq.quantize_onnx {
   onnx_import_file = here .. "/data/digits.onnx",
   espdl_export_file = espdl_file,
   calib_dataloader = espq.data.loader { dataset = espq.data.npy(here .. "/data/digits_calib.npy"), batch_size = 8 },
   calib_steps = 8,
   target = "esp32p4",
   num_of_bits = 8,
}
print(report)

local function accuracy(mode)
   local run, metric = espq.executor(graph, { mode = mode }), espq.metrics.topk { 1 }
   local loader = espq.data.loader { dataset = espq.data.npz(here .. "/data/digits_eval.npz"), batch_size = 32 }
   for pictures, labels in loader() do metric:add(run(pictures)[1], labels) end
   return 100 * metric:value(), metric.count
end

local float, count = accuracy "float"
local quantized = accuracy "simulated"
print(("\naccuracy on %d pictures: float %.2f %%, quantized %.2f %%"):format(count, float, quantized))
print(("files: %s, %s/digits.info, %s/digits.json"):format(espdl_file, folder, folder))
