-- The whole road on MobileNetV2: 32 pictures of 224 x 224, batch 1, both reports, export. Timed as a process by tests/bench/process.c.
local espq = require "espq"
local shared, out = arg[1], arg[2]
local pictures = espq.data.images {
   dir = shared .. "/data/imagenet/calib", size = 256, crop = 224, mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 },
}
espq.quantize_onnx {
   onnx_import_file = shared .. "/data/models/mobilenetv2.onnx", espdl_export_file = out .. "/mobilenetv2.espdl",
   calib_dataloader = espq.data.loader { dataset = pictures, batch_size = 1, limit = 32 }, calib_steps = 32,
   input_shape = { 1, 3, 224, 224 }, target = "esp32p4",
}
