-- The tutorial: a network that knows sin(x), from its weights to a file for the ESP32-P4.
--
--    espq samples/01_sin.lua [FOLDER]
--
-- 1 a network is fitted to sin(x)           2 it is saved as an ONNX file          3 that file is quantized
-- 4 the quantized network is asked for values                                      5 the files are named
local espq = require "espq"

if arg and arg[1] and arg[1]:match "^%-" then return print "espq samples/01_sin.lua [FOLDER]" end
local folder = arg and arg[1] or "sin_demo"
local onnx_file, espdl_file = folder .. "/sin.onnx", folder .. "/sin.espdl"
os.execute(("mkdir -p '%s'"):format(folder))
espq.seed(0)

-- 1 -- A network of three dense layers, 1 → 16 → 16 → 1, is fitted by gradient descent (Adam) to 256 points of sin on [0, 2π].
-- Usually a model comes from PyTorch or TensorFlow as an ONNX file; this one is made here, so that nothing else is needed.
local POINTS, WIDTH, STEPS = 256, 16, 2000
local x = (espq.arange(POINTS, { dtype = "float32" }) * (2 * math.pi / (POINTS - 1))):view(POINTS, 1)
local y = x:sin()

-- The first layer starts with its bends spread evenly over the range, half of them looking left; the others start at random.
local signs = espq.arange(WIDTH, { dtype = "float32" }) % 2 * 2 - 1
local bends = (espq.arange(WIDTH, { dtype = "float32" }) + 0.5) * (2 * math.pi / WIDTH)
local weights = {
   w1 = (signs * 0.5):view(1, WIDTH), b1 = (signs * bends * -0.5):view(1, WIDTH),
   w2 = espq.randn({ WIDTH, WIDTH }, { seed = 3 }) * 0.35, b2 = espq.zeros { 1, WIDTH },
   w3 = espq.randn({ WIDTH, 1 }, { seed = 4 }) * 0.35, b3 = espq.zeros { 1, 1 },
}

local function relu(t) return t:clamp(0) end

local function gradients()
   local h1 = relu(x:matmul(weights.w1) + weights.b1)
   local h2 = relu(h1:matmul(weights.w2) + weights.b2)
   local difference = h2:matmul(weights.w3) + weights.b3 - y
   local d3 = difference * (2 / POINTS)
   local d2 = d3:matmul(weights.w3:transpose()) * h2:gt(0):to "float32"
   local d1 = d2:matmul(weights.w2:transpose()) * h1:gt(0):to "float32"
   local function columns(d) return d:sum { axis = 0, keepdims = true } end
   return {
      w1 = x:transpose():matmul(d1), b1 = columns(d1), w2 = h1:transpose():matmul(d2), b2 = columns(d2), w3 = h2:transpose():matmul(d3), b3 = columns(d3),
   }, (difference ^ 2):mean():item()
end

local mean, square, loss = {}, {}, nil
for step = 1, STEPS do
   local slope
   slope, loss = gradients()
   local rate = 0.01 * (1 - step / (STEPS + 1))
   for _, name in ipairs { "w1", "b1", "w2", "b2", "w3", "b3" } do
      mean[name] = (mean[name] or 0) * 0.9 + slope[name] * 0.1
      square[name] = (square[name] or 0) * 0.999 + slope[name] ^ 2 * 0.001
      local m, v = mean[name] / (1 - 0.9 ^ step), square[name] / (1 - 0.999 ^ step)
      weights[name] = weights[name] - m * rate / (v:sqrt() + 1e-8)
   end
end
print(("fitted: mean squared error %.6f"):format(loss))

-- 2 -- The network as a graph, and the graph as an ONNX file.
local function bias(t) return t:view(-1) end
espq.graph {
   name = "sin", inputs = { { name = "x", shape = { 1, 1 } } }, outputs = { "sin" },
   constants = { w1 = weights.w1, b1 = bias(weights.b1), w2 = weights.w2, b2 = bias(weights.b2), w3 = weights.w3, b3 = bias(weights.b3) },
   nodes = {
      { type = "Gemm", name = "dense_1", inputs = { "x", "w1", "b1" }, outputs = { "dense_1_out" } },
      { type = "Relu", name = "relu_1", inputs = { "dense_1_out" }, outputs = { "relu_1_out" } },
      { type = "Gemm", name = "dense_2", inputs = { "relu_1_out", "w2", "b2" }, outputs = { "dense_2_out" } },
      { type = "Relu", name = "relu_2", inputs = { "dense_2_out" }, outputs = { "relu_2_out" } },
      { type = "Gemm", name = "dense_3", inputs = { "relu_2_out", "w3", "b3" }, outputs = { "sin" } },
   },
}:save_onnx(onnx_file)

-- 3 -- Quantization looks at data to find out how large numbers get: here batches of 16 of the points above.
local graph, report = espq.quantize_onnx {
   onnx_import_file = onnx_file,
   espdl_export_file = espdl_file,
   calib_dataloader = espq.data.loader { dataset = x, batch_size = 16 },
   calib_steps = 16,
   input_shape = { 1, 1 },
   inputs = espq.tensor { { 1.0 } },             -- the test value that the chip can check itself with
   target = "esp32p4",
   num_of_bits = 8,
}
print(report)

-- 4 -- The same points through the float network and through the quantized one.
local float, quantized = espq.executor(graph, { mode = "float" })(x)["sin"], espq.executor(graph)(x)["sin"]
print "\n     x     sin(x)    float  quantized"
for i = 0, POINTS - 1, 32 do
   print(("%6.3f  %9.5f  %7.5f  %9.5f"):format(x:get(i, 0), y:get(i, 0), float:get(i, 0), quantized:get(i, 0)))
end
print(("\nlargest error against sin: float %.4f, quantized %.4f"):format((float - y):abs():max():item(), (quantized - y):abs():max():item()))
local test_input, test_output = report.test_inputs[1].tensor:item(), report.test_outputs[1].tensor:item()
print(("test value in the file: sin(%.4f) = %.5f, quantized; float %.5f"):format(test_input, test_output,
      espq.executor(graph, { mode = "float" })(report.test_inputs[1].tensor)["sin"]:item()))

-- 5 -- What to do with them: docs of ESP-DL; `espq info` and `espq verify` look into the file.
print(("files: %s, %s, %s/sin.info, %s/sin.json"):format(onnx_file, espdl_file, folder, folder))
