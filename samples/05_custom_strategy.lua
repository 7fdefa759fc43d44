-- A strategy of one's own: the first and the last layer in 16 bits, as a further module of the search.
--
--    espq samples/05_custom_strategy.lua [--model digits.onnx --calib digits_calib.npy --eval digits_eval.npz]
--                                        [--target esp32p4] [--budget small|SECONDS|Nt] [--out FOLDER] [--workers N] [--resume] [--json]
--
-- Networks often lose most where data enter and leave: the first layer sees raw numbers, the last one decides. A module of a search has a name, knobs
-- with candidates, and a function that changes the quantization setting of a trial. It stands in the spaces like the built-in ones, so it is tried on
-- and off, with each of its knobs, together with everything else; `espq report FOLDER` then shows what it is worth beside the others.
-- Model and data are any classifier and .npy or .npz files of it; without options those of samples/data.
local espq = require "espq"

local here = arg[0]:match "^(.*/)" or ""
local given = dofile(here .. "options.lua") {
   model = here .. "data/digits.onnx", calib = here .. "data/digits_calib.npy", eval = here .. "data/digits_eval.npz", out = "outputs/custom_strategy",
   where = "Without --model, --calib and --eval the sample takes the classifier of handwritten digits in samples/data.",
}

-- ---- the strategy ----

-- The layers with weights, in the order of the model: what a pass may do depends on them, so they are looked up before the search.
local model, layers = espq.load_onnx(given.model), {}
for node in model:nodes() do
   if node.type == "Conv" or node.type == "Gemm" or node.type == "MatMul" then layers[#layers + 1] = node.name end
end

espq.strategy {
   name = "wide_ends",
   knobs = { which = { "last", "first", "both" } },        -- the first candidate is what a fast search tries first
   apply = function(quantization_setting, knobs)
      local function widen(name) quantization_setting.dispatching_table:append(name, espq.platform(given.target, 16)) end
      if knobs.which ~= "last" then widen(layers[1]) end
      if knobs.which ~= "first" then widen(layers[#layers]) end
   end,
}

-- ---- data and metric ----

local calibration = espq.data.loader { dataset = espq.data.npy(given.calib), batch_size = 8 }
local judged = espq.data.loader { dataset = espq.data.npz(given.eval), batch_size = 32 }

-- Accuracy alone hardly tells settings of a small model apart, so the score is how sure the model is of the right class: the mean of log p.
local function evaluate(graph)
   local run, top, sum, count = espq.executor(graph, { mode = "simulated" }), espq.metrics.topk { 1 }, 0.0, 0
   for x, labels in judged() do
      local logits = run(x)[1]
      top:add(logits, labels)
      local probabilities = logits:softmax(1)
      for i = 0, #labels - 1 do sum = sum + math.log(math.max(probabilities:get(i, labels:get(i)), 1e-12)) end
      count = count + #labels
   end
   return sum / count, { top1 = 100 * top:value() }
end

-- ---- search ----

local setting = espq.autoquant_setting { search_mode = "fast", num_of_candidates = 5, run_dir = given.out, resume = given.resume }
setting.candidate_filter = nil                             -- the built-in one knows nothing of wide_ends; here the score alone decides
setting.strategy_space.wide_ends = { true, false }
for _, name in ipairs { "tqt", "blockwise_reconstruction", "bias_correction" } do setting.strategy_space[name] = { false } end
setting.strategy_space.weight_equalization = given.small and { false } or { true, false }
setting.structural_knobs.wide_ends = { "which" }           -- decided when strategies are chosen, as the calibration method is
setting.budget = given.limit

local shape = model.inputs[1].shape
local top = espq.auto_quantize_onnx {
   onnx_import_file = given.model,
   espdl_export_file = given.out .. "/model.espdl",
   calib_dataloader = calibration,
   calib_steps = 8,
   input_shape = table.move(shape, 2, #shape, 1, {}),      -- without the batch
   evaluate_fn = evaluate,
   target = given.target,
   setting = setting,
   workers = given.workers,
}

if not given.json then
   print "\n=== Top-K candidates ==="
   for _, record in ipairs(top) do
      local wide = record.strategy.wide_ends and record.params.wide_ends.which or "none"
      print(("#%04d  log p=%.5f  top1=%.2f  wide ends=%s  folder=%s"):format(record.index, record.score, record.top1, wide, record.folder))
   end
end
