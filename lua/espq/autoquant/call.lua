--- The call of a search: auto_quantize_onnx, its arguments and its contract.
local check = require "espq.check"
local core = require "espq.core"
local data = require "espq.data"
local evaluate = require "espq.autoquant.evaluate"
local graph_tools = require "espq.graph"
local json = require "espq.json"
local prune = require "espq.autoquant.prune"
local quantize = require "espq.quantize"
local search = require "espq.autoquant.search"
local setting_tools = require "espq.autoquant.setting"
local space_tools = require "espq.autoquant.space"
local trial = require "espq.autoquant.trial"

local call = {}

--- Who searches: this process, or (espq search --slurm) several on a cluster.
call.search = search.run

local WHAT = "auto_quantize_onnx"
local STATES_MEMORY = 1e9        -- bytes of states that are kept, in all workers together
local VALUES_MEMORY = 800000000  -- bytes of values, likewise

---@class espq.autoquant.Call
---@field onnx_import_file string
---@field espdl_export_file string its name is that of the files in the trials' folders
---@field calib_dataloader any
---@field calib_steps integer
---@field input_shape integer[] without the batch
---@field evaluate_fn? fun(graph: userdata): number, table<string, any> score and further figures
---@field evaluate_fast? fun(graph: userdata): number, table<string, any> a cheaper metric that ranks the trials; evaluate_fn then judges the candidates
---@field evaluate_command? string instead: a program that prints { "score": … } as JSON, {espdl} stands for the trial's file
---@field target? string
---@field collate_fn? function
---@field setting? espq.autoquant.Setting
---@field device? string
---@field verbose? integer
---@field workers? integer processes; one a core when nothing is said. What evaluate_fn writes to variables stays in its worker; 1: none is forked
---@field trial_timeout? number seconds after which a trial is stopped and recorded as failed

local fields = {
   onnx_import_file = "string!", espdl_export_file = "string!", calib_dataloader = "any!", calib_steps = "integer!", input_shape = "table!",
   evaluate_fn = "function", target = "string", collate_fn = "function", setting = "table", device = "string", verbose = "integer|boolean",
   workers = "integer", evaluate_fast = "function", evaluate_command = "string", trial_timeout = "number",
}

local function check_call(options)
   check.fields(WHAT, options, fields)
   quantize.check_device(WHAT, options.device)
   if options.calib_steps < 1 then check.fail(("%s: calib_steps has to be at least 1, it is %d"):format(WHAT, options.calib_steps)) end
   if options.workers and options.workers < 1 then check.fail(("%s: workers has to be at least 1, it is %d"):format(WHAT, options.workers)) end
   if not core.base.exists(options.onnx_import_file) then check.fail("there is no such file", options.onnx_import_file, "check onnx_import_file") end
   if options.setting ~= nil and not setting_tools.is(options.setting) then
      check.fail(WHAT .. ": setting has to be what espq.autoquant_setting{…} gives", nil, 'local setting = espq.autoquant_setting { search_mode = "fast" }')
   end
   if options.trial_timeout and options.trial_timeout <= 0 then
      check.fail(("%s: trial_timeout has to be positive, it is %s"):format(WHAT, options.trial_timeout))
   end
   local name = options.espdl_export_file:match "[^/]+$"
   if not name then check.fail(WHAT .. ": espdl_export_file is a folder", options.espdl_export_file, "name a file, for example model.espdl") end
   return name
end

-- As the reference has it, input_shape is without the batch; with several inputs each is.
local function with_batch(shape)
   local list = {}
   if type(shape[1]) == "table" or (next(shape) ~= nil and #shape == 0) then
      for key, item in pairs(shape) do list[key] = with_batch(item) end
      return list
   end
   return table.move(shape, 1, #shape, 2, { 1 })
end

-- Data errors are not a trial's: a picture that is gone is missing in every trial. They end the search, and what was tried stays.
local function ending_search(walk)
   local function guarded(work)
      return function(...)
         local results = table.pack(xpcall(work, function(err)
            if core.error.is_error(err) then
               err.fatal = true
               return err
            end
            return type(err) == "string" and not err:find("\nstack traceback:", 1, true) and debug.traceback(err, 2) or err
         end, ...))
         if results[1] then return table.unpack(results, 2, results.n) end
         local err = results[2]
         if core.error.is_error(err) then error(err, 0) end
         core.error.raise { what = "the calibration data: " .. tostring(err), code = "input", fatal = true }
      end
   end
   return function()
      local step = guarded(walk)()
      return guarded(step)
   end
end

local function with_verbose(options, work)
   local before = core.base.verbose()
   local wanted = options.verbose == true and 2 or options.verbose or 0
   if wanted > 0 then core.base.verbose(math.max(before, wanted + 1)) end
   local results = table.pack(xpcall(work, function(err) return err end))
   core.base.verbose(before)
   if not results[1] then error(results[2], 0) end
   return table.unpack(results, 2, results.n)
end

-- "Align to Large" mostly gives Add and Concat an output of another exponent than their inputs, which the chip's modules then read wrongly
-- (EXPORT 17.4); so does a Resize aligned to its input in front of an aligned Concat. The export refuses such files, and a fast search, which
-- begins with these candidates, would find nothing. Lists that a script wrote are tried as
-- they are, and everything is where the base is the reference's.
local UNUSABLE = { elementwise_to = "Align to Large", concat_to = "Align to Large", resize_to = "Align to Input" }
local function usable_on_chip(_, knob, value) return UNUSABLE[knob] ~= value end

local function space_of(setting, base)
   local whole = space_tools.new(setting)
   if quantize.is_reference(base) then return whole end
   local space = space_tools.new(setting, usable_on_chip)
   if space.total < whole.total then
      core.base.note(("note: alignments that the chip mostly computes wrongly (to Large; Resize to Input) are left out: %d of %d trials are left"):format(
         space.total, whole.total))
   end
   return space
end

-- A width that the chip has not would fail in each of its trials.
local function check_widths(space, target)
   for _, module in ipairs(space.modules) do
      for _, knob in ipairs(module.name == "num_of_bits" and module.knobs or {}) do
         for _, bits in ipairs(knob.values) do
            local done, err = pcall(core.road.platform, target, bits)
            if not done then
               check.fail(("param_space.num_of_bits.value: %s"):format(core.error.is_error(err) and err.what:gsub("^platform: ", "") or tostring(err)), nil,
                          core.error.is_error(err) and err.cure or nil)
            end
         end
      end
   end
end

local function set_devices(setting, device)
   for _, name in ipairs { "tqt", "blockwise_reconstruction" } do setting.param_space[name].collecting_device = { device } end
end

-- The methods of calibration that trials will ask for.
local function methods_of(setting)
   local on = setting.strategy_space.calib_algorithm
   local list = {}
   for _, value in ipairs(on) do
      if value then list = setting.param_space.calib_algorithm.method end
   end
   return table.move(list, 1, #list, 1, {})
end

--- Search for the best quantization setting of a model. The reference's espdl_auto_quantize_onnx.
---@param options espq.autoquant.Call
---@return table[] candidates records, best first
function call.run(options)
   local export_name = check_call(options)
   local setting = options.setting or setting_tools.new {}
   local target, device = options.target or "esp32p4", options.device or "cpu"
   core.road.platform(target, 8)                          -- an unknown target is an error before anything is touched
   set_devices(setting, device)
   local base = trial.check_base(setting.base)
   local space = space_of(setting, base)
   check_widths(space, target)
   local direction = setting.score_direction
   local memory = data.memory()
   local function walk(limit)
      return function(graph)
         return ending_search(data.walk(WHAT, options.calib_dataloader, graph, { limit = limit, collate_fn = options.collate_fn, memory = memory }))
      end
   end
   local evaluate_fn, error_walk = options.evaluate_fn, walk(nil)
   if options.evaluate_command then
      if evaluate_fn then check.fail(WHAT .. ": evaluate_fn and evaluate_command are both given", nil, "leave one out") end
      evaluate_fn = evaluate.command(options.evaluate_command)
   end
   local count = options.workers or core.executor.threads()
   local memo = setting.share and core.road.memo(VALUES_MEMORY // count) or nil
   local own_metric, judge_again = evaluate_fn ~= nil, nil
   if options.evaluate_fast then
      if not evaluate_fn then check.fail(WHAT .. ": evaluate_fast ranks, but nothing judges", nil, "give an evaluate_fn or an evaluate_command as well") end
      judge_again, evaluate_fn = evaluate_fn, options.evaluate_fast
   end
   if not evaluate_fn then
      if direction ~= "minimize" then
         core.base.note "note: without evaluate_fn the score is the mean of the three largest graphwise errors: minimize, whatever score_direction says"
      end
      direction = "minimize"
      evaluate_fn = evaluate.default(error_walk, setting.share, memo)
   end
   local runtime = {
      onnx_import_file = options.onnx_import_file, espdl_export_file = options.espdl_export_file, input_shape = json.list(options.input_shape),
      target = target, device = device, num_of_candidates = setting.num_of_candidates, search_mode = setting.search_mode, score_direction = direction,
      calib_steps = options.calib_steps, seed = setting.seed,
   }
   if setting.search_mode == "fast" then
      runtime.top_strategy, runtime.early_stop_patience = setting.top_strategy, setting.early_stop_patience
   end
   return with_verbose(options, function()
      local runner = trial.runner {
         path = options.onnx_import_file, shapes = graph_tools.shapes_of(with_batch(options.input_shape)), target = target,
         walk = walk(options.calib_steps), error_walk = error_walk, base = base, share = setting.share, evaluate_fn = evaluate_fn,
         evaluates_bytes = own_metric, runtime = runtime, export_name = export_name, seed = setting.seed,
         memory = STATES_MEMORY / count, memo = memo, methods = methods_of(setting), costs = setting.search_mode == "pareto",
         prune_walk = setting.prune and walk(prune.BATCHES) or nil,
      }
      return call.search { setting = setting, space = space, direction = direction, runner = runner, workers = count, trial_timeout = options.trial_timeout,
                           judge_again = judge_again }
   end)
end

return call
