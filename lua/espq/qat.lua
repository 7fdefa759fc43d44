--- Quantization-aware training, the whole recipe: quantize, train, judge each epoch, keep the best, export.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"
local json = require "espq.json"
local quantize = require "espq.quantize"
local train = require "espq.train"

local qat = {}

local note = core.base.note

local own_fields = {
   graph = "any", onnx_import_file = "string", train_dataloader = "any!", epochs = "integer!", steps_per_epoch = "integer", distill = "boolean",
   evaluate_fn = "function", score_direction = "string", checkpoint_dir = "string", resume = "boolean", calib_steps = "integer",
   skip_export = "boolean",
}
-- Of the trainer's fields, those that are not its own business here.
local not_passed = { graph = true, teacher = true }

local function all_fields()
   local fields = {}
   for _, list in ipairs { quantize.onnx_fields, train.fields, own_fields } do
      for name, kind in pairs(list) do fields[name] = kind end
   end
   fields.teacher = nil
   return fields
end

local function pick(options, fields)
   local picked = {}
   for name in pairs(fields) do picked[name] = options[name] end
   return picked
end

-- ---- the call ----

local function check_call(what, options)
   check.fields(what, options, all_fields())
   if (options.graph == nil) == (options.onnx_import_file == nil) then
      check.fail(what .. ": either onnx_import_file or graph (a quantized one) is wanted")
   end
   if options.epochs < 1 then check.fail(("%s: epochs has to be at least 1, it is %d"):format(what, options.epochs)) end
   if options.steps_per_epoch and options.steps_per_epoch < 1 then check.fail(what .. ": steps_per_epoch has to be at least 1") end
   check.word(what .. ": score_direction", options.score_direction or "maximize", { "maximize", "minimize" })
   if options.resume and not options.checkpoint_dir then check.fail(what .. ": resume needs checkpoint_dir") end
   if not options.skip_export and not options.espdl_export_file and options.onnx_import_file then
      check.fail(("%s: field 'espdl_export_file' is missing"):format(what), nil, "skip_export = true writes nothing")
   end
   if options.espdl_export_file and not options.skip_export then core.base.check_writable(options.espdl_export_file) end
end

local function length_of(loader)
   if core.tensor.is_tensor(loader) then return #loader end
   local meta = getmetatable(loader)
   if type(loader) == "table" and (meta == nil or meta.__len) then return #loader end
   return nil
end

local function quantized_graph(what, options)
   if options.graph then
      if not core.graph.about(options.graph).quantized then
         check.fail(what .. ": the graph is not quantized", nil, "give onnx_import_file, or espq.quantize_graph{ graph = … } first")
      end
      return options.graph:copy()
   end
   local wanted = pick(options, quantize.onnx_fields)
   if not options.calib_dataloader then
      wanted.collate_fn = nil
      wanted.calib_dataloader = function()
         local step = data.labelled(what, options.train_dataloader, 0)
         return function()
            local batch, labels = step()
            if batch == nil then return nil end
            return (train.split(what, nil, options.collate_fn, batch, labels))
         end
      end
   end
   wanted.calib_steps, wanted.skip_export, wanted.espdl_export_file, wanted.evaluate_fn = options.calib_steps or 32, true, nil, nil
   if options.error_report == nil then wanted.error_report = false end
   return quantize.onnx(wanted)
end

local function make_trainer(options, graph, steps_per_epoch)
   local wanted = pick(options, train.fields)
   for name in pairs(not_passed) do wanted[name] = nil end
   wanted.graph, wanted.teacher = graph, options.distill or nil
   wanted.schedule = options.schedule or (steps_per_epoch and "cosine" or "constant")
   wanted.steps = options.steps or (steps_per_epoch and steps_per_epoch * options.epochs)
   return train.make(wanted)
end

-- ---- judging ----

-- The score of a graph, and further figures. Without evaluate_fn: the loss on the first batches of the training data.
local function score_of(what, options, trainer, graph)
   if options.evaluate_fn then
      local score, figures = options.evaluate_fn(graph)
      if core.tensor.is_tensor(score) and score.size == 1 then score = score:item() end
      if type(score) ~= "number" or score ~= score then
         check.fail(("%s: evaluate_fn returned %s, not a number"):format(what, type(score) == "number" and "NaN" or "a " .. type(score)))
      end
      return score, figures
   end
   local sum, count = 0, 0
   for batch, labels in data.labelled(what, options.train_dataloader, 0) do
      sum, count = sum + trainer:evaluate(batch, labels), count + 1
      if count == (options.calib_steps or 32) then break end
   end
   if count == 0 then check.fail(what .. ": train_dataloader has no batches", nil, "give the loader data") end
   return sum / count
end

local function is_better(options, score, best)
   if score ~= score then return false end
   if not options.evaluate_fn or options.score_direction == "minimize" then return score < best end
   return score > best
end

-- ---- checkpoints ----

local function path_in(options, name) return options.checkpoint_dir .. "/" .. name end

local function save(options, trainer, state, improved)
   if not options.checkpoint_dir then return end
   local text = json.encode(state)
   if improved then trainer:save(path_in(options, "best.ckpt"), text) end
   trainer:save(path_in(options, "last.ckpt"), text)
end

local function resume(what, options, trainer, state)
   if not options.resume then return nil end
   local last, best = path_in(options, "last.ckpt"), path_in(options, "best.ckpt")
   if not core.base.exists(last) then
      note(("note: %s: there is no checkpoint in %s yet: training begins"):format(what, options.checkpoint_dir))
      return nil
   end
   local graph
   local found = json.decode(trainer:load(last))
   if found.best.epoch > 0 then
      trainer:load(best)
      graph = trainer:snapshot()
      trainer:load(last)
   end
   for key, value in pairs(found) do state[key] = value end
   if found.total ~= options.epochs then
      note(("note: %s: the checkpoint was made for %d epochs, this call asks for %d: the schedule differs"):format(what, found.total, options.epochs))
      state.total = options.epochs
   end
   return graph
end

-- ---- an epoch ----

-- Steps through the data once; gives the mean loss, or nil and the reason when training diverged.
local function run_epoch(what, options, trainer, epoch)
   local sum, count, limit = 0, 0, options.steps_per_epoch
   local total = math.min(length_of(options.train_dataloader) or limit or 0, limit or math.maxinteger)
   core.base.progress(("epoch %d of %d"):format(epoch, options.epochs), total)
   local function close(problem)
      core.base.progress()
      return problem
   end
   local done, problem = xpcall(function()
      for batch, labels in data.labelled(what, options.train_dataloader, epoch) do
         core.base.check_cancel()
         sum, count = sum + trainer:step(batch, labels), count + 1
         core.base.progress(count)
         if count == limit then break end
      end
   end, close)
   if not done then
      if trainer.diverged then return nil, tostring(problem) end
      error(problem, 0)
   end
   close()
   if count == 0 then check.fail(what .. ": train_dataloader has no batches", nil, "give the loader data") end
   return sum / count, count
end

local Report = {}

function Report.__tostring(report)
   local lines = { "epoch        loss        score" }
   for _, row in ipairs(report.epochs) do
      lines[#lines + 1] = ("%5d  %10s  %11.6g%s"):format(row.epoch, row.loss and ("%.6f"):format(row.loss) or "-", row.score,
         row.epoch == report.best.epoch and "   best, kept" or "")
   end
   if report.diverged then lines[#lines + 1] = report.diverged end
   lines[#lines + 1] = ("seed %d"):format(report.seed)
   if report.file then lines[#lines + 1] = "file: " .. report.file end
   return table.concat(lines, "\n")
end

local function export(options, graph, report)
   if options.skip_export or not options.espdl_export_file then return end
   report.file = options.espdl_export_file
   local wanted = pick(options, quantize.export_fields)
   wanted.graph, wanted.setting = graph, nil
   report.warnings = quantize.export(wanted)
end

--- Quantization-aware training. Quantizes (or takes a quantized graph), trains epoch by epoch, judges each, keeps the best, exports it.
---    espq.qat { onnx_import_file =, espdl_export_file =, train_dataloader =, epochs = 5, distill = true, evaluate_fn = function(graph) … end }
---@param options table fields of quantize_onnx and of trainer, and: train_dataloader (gives batch, labels; called with the number of the epoch),
--- epochs, steps_per_epoch, distill = true (the float model teaches, no labels are needed; teach = { names } adds tensors on the way), evaluate_fn (a
--- graph's score, and a table of further figures; without it the loss on the first calib_steps batches decides), score_direction, checkpoint_dir
--- (last.ckpt and best.ckpt, written after each epoch), resume
---@return userdata graph, table report the best graph; report.epochs, report.best, report.quantize
function qat.run(options)
   local what = "qat"
   check_call(what, options)
   local steps_per_epoch = options.steps_per_epoch or length_of(options.train_dataloader)
   if (options.schedule == "cosine") and not steps_per_epoch and not options.steps then
      check.fail(what .. ": schedule 'cosine' has to know how long an epoch is", nil, "give steps_per_epoch, or a loader with a length")
   end
   if steps_per_epoch == 0 then check.fail(what .. ": train_dataloader has no batches", nil, "give the loader data") end
   if options.checkpoint_dir then core.system.make_folder(options.checkpoint_dir) end
   local graph, quantized = quantized_graph(what, options)
   local trainer = make_trainer(options, graph, steps_per_epoch)
   local report = setmetatable({ quantize = quantized, seed = options.seed or 0, trained = trainer:about() }, Report)
   local state = { epoch = 0, total = options.epochs, epochs = {} }
   local best = resume(what, options, trainer, state) or graph
   if state.epoch == 0 then
      local score, figures = score_of(what, options, trainer, graph)
      state.epochs[1], state.best = { epoch = 0, score = score, figures = figures }, { epoch = 0, score = score }
      note(("%s: quantized, untrained: score %.6g"):format(what, score))
   end
   while state.epoch < options.epochs do
      local epoch = state.epoch + 1
      local loss, reason = run_epoch(what, options, trainer, epoch)
      if not loss then
         report.diverged = ("stopped in epoch %d: %s"):format(epoch, reason)
         note(("warning: %s: %s; the best so far, epoch %d, is kept"):format(what, report.diverged, state.best.epoch))
         break
      end
      local now = trainer:snapshot()
      local score, figures = score_of(what, options, trainer, now)
      local improved = is_better(options, score, state.best.score)
      if improved then state.best, best = { epoch = epoch, score = score }, now end
      state.epoch = epoch
      state.epochs[#state.epochs + 1] = { epoch = epoch, loss = loss, score = score, figures = figures }
      note(("%s: epoch %d of %d: loss %.6f, score %.6g%s"):format(what, epoch, options.epochs, loss, score, improved and ", the best so far" or ""))
      save(options, trainer, state, improved)
   end
   if state.best.epoch == 0 then note(("warning: %s: no epoch was better than the untrained graph, which is kept"):format(what)) end
   report.epochs, report.best = state.epochs, state.best
   export(options, best, report)
   return best, report
end

return qat
