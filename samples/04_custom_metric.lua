-- A metric of one's own: a keyword spotter is searched for by what its mistakes cost, not by its accuracy.
--
--    espq samples/04_custom_metric.lua --model kws.onnx --calib calib.npy --eval eval.npy [--labels eval_labels.npy] [--others 2]
--                                      [--target esp32p4] [--budget small|SECONDS|Nt] [--out FOLDER] [--workers N] [--resume] [--json]
--
-- A device that listens all day must not start by itself. So a wrong start (something else, or silence, was taken for a word) costs five, a word taken
-- for another three, a word that was not heard one. The model gives logits [n, classes], of which the last ones, --others, are no words. It speaks up
-- when the best word's probability is above a threshold; which threshold is best is part of the answer, and goes along into the record.
local espq = require "espq"

local here = arg[0]:match "^(.*/)" or ""
local given = dofile(here .. "options.lua") {
   model = "kws.onnx", calib = "kws_calib.npy", eval = "kws_eval.npy", out = "outputs/custom_metric", others = 2, also = { "labels", "others" },
   where = [[
The sample is made for MLPerf Tiny's keyword spotter (ten words, silence, unknown), or any classifier of words:
   model  https://github.com/mlcommons/tiny/tree/master/benchmark/training/keyword_spotting, the trained model through python3 -m tf2onnx.convert
   data   its spectrograms of Speech Commands as float32 .npy, a sample a row; the labels as integers in eval_labels.npy]],
}
local others = given.others

-- ---- data ----

local calibration = espq.data.loader { dataset = espq.data.npy(given.calib), batch_size = 12 }
local samples = espq.from_npy(given.eval)
local labels = espq.from_npy(given.labels or (given.eval:gsub("%.npy$", "_labels.npy")))

-- ---- metric ----

local WRONG_START, WRONG_WORD, NOT_HEARD = 5, 3, 1
local STEPS = 20                                           -- thresholds that are tried

-- Everything is a tensor over the samples: comparisons give bools, which count as 0 and 1. The cost is the mean over the samples.
local function cost_at(threshold, sure, word, is_word)
   local speaks = sure:gt(threshold):to "float32"
   local right = word:eq(labels):to "float32"
   local wrong_start = speaks * (1 - is_word)
   local wrong_word = speaks * is_word * (1 - right)
   local not_heard = (1 - speaks) * is_word
   local cost = wrong_start * WRONG_START + wrong_word * WRONG_WORD + not_heard * NOT_HEARD
   return cost:mean():item(), wrong_start:sum():item(), not_heard:sum():item()
end

local function evaluate(graph, mode)
   local logits = espq.executor(graph, { mode = mode or "simulated" })(samples)[1]
   local words = logits.shape[2] - others
   local probabilities = logits:softmax(1):slice { axis = 1, start = 0, stop = words }
   local sure, word = probabilities:max { axis = 1 }, probabilities:argmax { axis = 1 }
   local is_word = labels:lt(words):to "float32"
   local best = { cost = math.huge }
   for step = 0, STEPS - 1 do
      local cost, wrong_starts, not_heard = cost_at(step / STEPS, sure, word, is_word)
      if cost < best.cost then best = { cost = cost, threshold = step / STEPS, wrong_starts = wrong_starts, not_heard = not_heard } end
   end
   return best.cost, { threshold = best.threshold, wrong_starts = best.wrong_starts, not_heard = best.not_heard }
end

-- What the float model costs with the same metric: what there is to be had.
local float = espq.load_onnx(given.model)
local float_cost, float_extras = evaluate(float, "float")
if not given.json then print(("float: cost=%.4f at threshold %.2f, %d samples"):format(float_cost, float_extras.threshold, #samples)) end

-- ---- search: less is better ----

local setting = espq.autoquant_setting { search_mode = "fast", num_of_candidates = 5, score_direction = "minimize", run_dir = given.out,
                                         resume = given.resume }
setting.strategy_space.mixed_precision = { true, false }
setting.budget = given.limit
if given.quick then                                        -- nothing that trains
   for _, name in ipairs { "tqt", "blockwise_reconstruction" } do setting.strategy_space[name] = { false } end
end

local shape = float.inputs[1].shape
local top = espq.auto_quantize_onnx {
   onnx_import_file = given.model,
   espdl_export_file = given.out .. "/model.espdl",
   calib_dataloader = calibration,
   calib_steps = 8,
   input_shape = table.move(shape, 2, #shape, 1, {}),      -- without the batch
   evaluate_fn = function(graph) return evaluate(graph) end,
   target = given.target,
   setting = setting,
   workers = given.workers,
}

if not given.json then
   print "\n=== Top-K candidates ==="
   for _, record in ipairs(top) do
      print(("#%04d  cost=%.4f  threshold=%.2f  wrong starts=%d  not heard=%d  folder=%s"):format(record.index, record.score, record.threshold,
                                                                                                record.wrong_starts, record.not_heard, record.folder))
   end
end
