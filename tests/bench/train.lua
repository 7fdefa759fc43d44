-- TQT on MobileNetV2: 500 steps a block of 4, 32 pictures of 224 x 224, batch 1. verbose 2 prints how the time divides into forward,
-- backward and update. Timed as a process by tests/bench/process.c.
--    build/espq tests/bench/train.lua ../shared [PASS [STEPS [TARGET]]]
local espq = require "espq"
local shared, pass, steps, target = arg[1], arg[2] or "tqt", math.tointeger(tonumber(arg[3] or 500)), arg[4] or "esp32p4"
espq.verbose = 2
local switches = { tqt = "tqt_optimization", lsq = "lsq_optimization", blockwise = "blockwise_reconstruction" }
local setting = espq.setting.espdl()
setting[switches[pass]] = true
setting[switches[pass] .. "_setting"].steps = steps
local pictures = espq.data.images {
   dir = shared .. "/data/imagenet/calib", size = 256, crop = 224, mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 },
}
local processor = os.clock()
espq.quantize_onnx {
   onnx_import_file = shared .. "/data/models/mobilenetv2_float.onnx", input_shape = { 1, 3, 224, 224 }, target = target, setting = setting,
   calib_dataloader = espq.data.loader { dataset = pictures, batch_size = 1, limit = 32 }, calib_steps = 32,
   error_report = false, skip_export = true,
}
print(("%s, %d steps: %.1f s of processor time with the road before it"):format(pass, steps, os.clock() - processor))
