-- Quantization-aware training of the digits classifier (samples/data/digits.onnx): float, quantized, and trained accuracy.
--
--    espq samples/06_qat_digits.lua [FOLDER] [EPOCHS]
--
-- 8 bits cost this small model nothing. To have something to win back, its weights get steps 32 times as coarse: 3 bits of the 8 are used.
local espq = require "espq"

local here = (arg and arg[0] or "samples/06_qat_digits.lua"):match "^(.*)/[^/]*$" or "."
if arg and arg[1] and arg[1]:match "^%-" then return print "espq samples/06_qat_digits.lua [FOLDER] [EPOCHS]" end
local folder, epochs = arg and arg[1] or "qat_digits_demo", tonumber(arg and arg[2] or 8)
local lost_bits = 5

-- ---- data: the first 248 pictures are learnt, the other 249 judge ----

local arrays = espq.from_npz(here .. "/data/digits_eval.npz")

local function pictures(from, to, shuffle)
   local items = {}
   for i = from, to - 1 do items[#items + 1] = { arrays.x[i], arrays.y:get(i) } end
   return espq.data.loader { dataset = espq.data.list(items), batch_size = 16, shuffle = shuffle, seed = 1 }
end

local learnt, judged = pictures(0, 248, true), pictures(248, 497)

local function accuracy(graph, mode)
   local run, metric = espq.executor(graph, { mode = mode or "simulated" }), espq.metrics.topk { 1 }
   for x, labels in judged() do metric:add(run(x)[1], labels) end
   return 100 * metric:value()
end

-- ---- quantize, with coarse weights ----

local graph = espq.quantize_onnx {
   onnx_import_file = here .. "/data/digits.onnx", skip_export = true, error_report = false, target = "esp32p4",
   calib_dataloader = espq.data.loader { dataset = espq.data.npy(here .. "/data/digits_calib.npy"), batch_size = 8 }, calib_steps = 8,
}
local float, eight = accuracy(graph, "float"), accuracy(graph)

for node in graph:nodes() do
   local slot = (node.type == "Conv" or node.type == "Gemm") and node.input_config[2]
   if slot then
      local exponent = slot.exponent
      if type(exponent) == "table" then
         for c = 1, #exponent do exponent[c] = exponent[c] + lost_bits end
      else
         exponent = exponent + lost_bits
      end
      slot.exponent = exponent
   end
end
espq.apply { graph = graph, pass = "passive" }            -- steps of biases follow those of the weights

-- ---- train ----

local trained, report = espq.qat {
   graph = graph, espdl_export_file = folder .. "/digits_qat.espdl", train_dataloader = learnt, epochs = epochs, loss = "cross_entropy", lr = 1e-3,
   evaluate_fn = accuracy, checkpoint_dir = folder .. "/checkpoints",
}
print(report)
print(("\naccuracy on 249 pictures: float %.2f %%, 8 bits %.2f %%, weights of %d bits %.2f %%, after training %.2f %%"):format(float, eight,
   8 - lost_bits, accuracy(graph), accuracy(trained)))
