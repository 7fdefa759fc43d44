-- The whole road on YOLO11n: 16 pictures of 320 x 320, batch 1, both reports, export. Timed as a process by tests/bench/process.c.
local espq = require "espq"
local shared, out = arg[1], arg[2]
local pictures = espq.data.images { dir = shared .. "/data/coco/calib", size = 320, letterbox = true, scale = 1 / 255 }
espq.quantize_onnx {
   onnx_import_file = shared .. "/data/models/yolo11n_320.onnx", espdl_export_file = out .. "/yolo11n.espdl",
   calib_dataloader = espq.data.loader { dataset = pictures, batch_size = 1, limit = 16 }, calib_steps = 16,
   input_shape = { 1, 3, 320, 320 }, target = "esp32p4",
}
