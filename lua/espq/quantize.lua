--- From a model and data to a quantized graph and its files: quantize_onnx, quantize_graph, export.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"
local setting_tree = require "espq.setting"
local graph_tools = require "espq.graph"
local report_tools = require "espq.report"

local quantize = {}

quantize.seed = 0              -- espq.seed

local shared_fields = {
   espdl_export_file = "string", calib_dataloader = "any", calib_steps = "integer", inputs = "tensor|table", target = "string", num_of_bits = "integer",
   collate_fn = "function", setting = "table", device = "string", error_report = "boolean", skip_export = "boolean", export_config = "boolean",
   export_test_values = "boolean", test_values = "string", test_output_names = "table", hi_precision = "boolean",
   metadata_props = "table", verbose = "integer|boolean",
   auto_streaming = "boolean", streaming_table = "table", streaming_input_shape = "table", streaming_custom_passes = "any", dispatching_method = "string",
   dispatching_override = "table", model_version = "integer", int16_lut_step = "integer", evaluate_fn = "function", max_drop = "number", check = "boolean",
}

local function with(fields)
   local all = {}
   for name, kind in pairs(shared_fields) do all[name] = kind end
   for name, kind in pairs(fields) do all[name] = kind end
   return all
end

local onnx_fields = with {
   onnx_import_file = "string!", espdl_export_file = "string", input_shape = "table", outputs = "table", cut_inputs = "table", rename_outputs = "table",
}
local graph_fields = with { graph = "any!" }
local later = { "auto_streaming", "streaming_table", "streaming_input_shape", "streaming_custom_passes" }

local note = core.base.note

-- ---- what holds for a call ----

local function check_device(what, device)
   if device == nil or device:lower() == "cpu" then return end
   if device:lower():find "cuda" then
      check.fail(("%s: device '%s': espq computes on the processor"):format(what, device), nil,
                 "leave device out: MobileNetV2 at 224 × 224 with 32 pictures takes seconds, YOLO11n at 320 × 320 with 16 pictures, too")
   end
   check.fail(("%s: unknown device '%s'; known is cpu"):format(what, device))
end

local function check_setting(what, given)
   if given == nil then return setting_tree.espdl() end
   if not setting_tree.is(given) then
      check.fail(what .. ": setting has to be what espq.setting.espdl() gives", nil, "local s = espq.setting.espdl(); s.equalization = true")
   end
   return given:copy()
end

local function add_deprecated(what, options, setting)
   if options.dispatching_method then
      note(("note: %s: dispatching_method is deprecated: setting.dispatcher does the same"):format(what))
      if options.dispatching_method ~= "allin" then setting.dispatcher = options.dispatching_method end
   end
   if options.dispatching_override then
      note(("note: %s: dispatching_override is deprecated: setting.dispatching_table:append(name, platform) does the same"):format(what))
      for _, name in ipairs(check.keys(options.dispatching_override)) do setting.dispatching_table:append(name, options.dispatching_override[name]) end
   end
end

-- The part of the options that the engine's road wants.
local function road_options(options, setting)
   local road = {
      setting = setting_tree.engine(setting), target = options.target or "esp32p4", bits = options.num_of_bits or 8,
      hi_precision = options.hi_precision, check = options.check,
   }
   core.road.platform(road.target, road.bits, road.hi_precision)       -- an unknown target or width is an error before anything is read
   return road
end

local function check_call(what, options, fields)
   check.fields(what, options, fields)
   check.later(what, options, later)
   check_device(what, options.device)
   if options.max_drop then
      if not options.evaluate_fn then check.fail(what .. ": max_drop needs an evaluate_fn", nil, "evaluate_fn = function(graph) … return top1 end") end
      if options.max_drop < 0 or options.max_drop ~= options.max_drop then
         check.fail(("%s: max_drop has to be 0 or more, it is %s"):format(what, options.max_drop))
      end
      if not options.calib_dataloader then check.fail(what .. ": max_drop needs a calib_dataloader") end
   end
   check.word(what .. ": test_values", options.test_values or "chip", { "chip", "simulated" })
   if options.calib_dataloader and not options.calib_steps then check.fail(what .. ": field 'calib_steps' is missing") end
   if options.calib_steps and options.calib_steps < 1 then check.fail(("%s: calib_steps has to be at least 1, it is %d"):format(what, options.calib_steps)) end
   if not options.skip_export and not options.espdl_export_file and fields == onnx_fields then
      check.fail(("%s: field 'espdl_export_file' is missing"):format(what), nil, "skip_export = true writes nothing")
   end
   if options.espdl_export_file and not options.skip_export
      and (options.espdl_export_file:sub(-1) == "/" or core.base.exists(options.espdl_export_file .. "/.")) then
      check.fail(what .. ": espdl_export_file is a folder", options.espdl_export_file, "name a file in it, for example model.espdl")
   end
   if options.espdl_export_file and not options.skip_export then core.base.check_writable(options.espdl_export_file) end   -- now, not after calibration
   if options.onnx_import_file and options.espdl_export_file and core.base.exists(options.espdl_export_file)
      and core.base.exists(options.onnx_import_file) and core.base.same_file(options.onnx_import_file, options.espdl_export_file) then
      check.fail(what .. ": the export would overwrite the model it is made from", options.espdl_export_file, "give the export another name")
   end
end

-- ---- data ----

local function calibration(what, options, graph)
   local loader, limit = options.calib_dataloader, options.calib_steps
   if type(loader) == "string" then
      check.word(what .. ": calib_dataloader", loader, { "random" })
      note "note: calibrated on random numbers: good for structure and speed, not for accuracy"
      return data.random(graph, limit, quantize.seed), true
   end
   return loader, false
end

local function test_inputs(what, options, graph)
   local list
   if options.inputs then
      list = data.bind(what .. ": inputs", graph.inputs, options.inputs)
   else
      list = {}
      for i, input in ipairs(graph.inputs) do list[i] = data.random_tensor(input, quantize.seed + i) end
   end
   local named = {}
   for i, input in ipairs(graph.inputs) do named[i] = { name = input.name, tensor = list[i] } end
   return list, named
end

-- Those of the tensors asked for that are in the file: the lowering fuses nodes.
local function known_outputs(engine, names)
   local known = {}
   for _, name in ipairs(names) do
      if pcall(core.chip.value, engine, name) then
         known[#known + 1] = name
      else
         note(("warning: test value '%s' is left out: the tensor vanished when nodes were fused"):format(name))
      end
   end
   return known
end

-- What the chip computes, so that the runtime's self-test passes exactly; nil and the reason where it cannot run the graph.
local function chip_outputs(options, graph, list, setting)
   local ran, executor, results = pcall(function()
      local chip = require("espq.chip").graph(graph, { setting = setting, int16_lut_step = options.int16_lut_step, outputs = {} })
      local names = options.test_output_names
      if not names then
         names = {}
         for i, output in ipairs(graph.outputs) do names[i] = output.name end
      end
      chip.names = known_outputs(chip.engine, names)
      core.chip.want(chip.engine, chip.names)
      return chip, core.chip.run(chip.engine, list)
   end)
   if ran then return executor.names, results end
   if core.error.is_error(executor) and executor.code == "input" then return nil, executor.what end
   error(executor, 0)
end

local function make_test_values(what, options, graph, kind, setting)
   local list, inputs = test_inputs(what, options, graph)
   local names, results
   if kind == "chip" then
      names, results = chip_outputs(options, graph, list, setting)
      if not names then
         note(("note: test values are those of the simulation, since the chip cannot run the model: %s"):format(results))
         kind = "simulated"
      end
   end
   if not names then
      local executor = require("espq.executor").make(graph, { mode = "simulated", outputs = options.test_output_names })
      names, results = executor.names, core.executor.run(executor.engine, list)
   end
   local outputs = {}
   for i, name in ipairs(names) do outputs[i] = { name = name, tensor = results[i] } end
   return inputs, outputs, kind
end

-- ---- export ----

local function metadata_list(props)
   local list = {}
   for _, key in ipairs(check.keys(props or {})) do
      list[#list + 1] = key
      list[#list + 1] = tostring(props[key])
   end
   return list
end

local function lines_of(text)
   local lines = {}
   for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
   return lines
end

-- Which chip the file is for: nothing else in it says so for sure. The reference's files do not have it.
local function with_target(metadata, target)
   local all = { ["espq.target"] = target }
   for key, value in pairs(metadata or {}) do all[key] = value end
   return all
end

local function write(what, options, graph, road, setting, metadata)
   if not quantize.is_reference(setting) then metadata = with_target(metadata, road.target) end
   local wanted = {
      setting = road.setting, target = road.target, bits = road.bits, hi_precision = road.hi_precision,
      path = options.espdl_export_file, export_config = options.export_config, model_version = options.model_version,
      int16_lut_step = options.int16_lut_step, metadata = metadata_list(metadata), strict = not quantize.is_reference(setting),
   }
   if options.export_test_values ~= false then
      local kind = options.test_values or (quantize.is_reference(setting) and "simulated" or "chip")
      wanted.inputs, wanted.outputs, kind = make_test_values(what, options, graph, kind, setting)
      wanted.simulated_tests = kind == "simulated"
   end
   return lines_of(core.road.export(graph, wanted)), wanted.inputs, wanted.outputs
end

--- Does this setting ask for the reference's files, faults included? True while every switch is as the reference has it.
function quantize.is_reference(setting)
   for _, row in ipairs(setting_tree.rows()) do
      local name = row.path:match "^switches%.(.+)$"
      if name and tostring(setting.switches[name]) ~= row.reference then return false end
   end
   return true
end

-- ---- what is no integer arithmetic ----

local MOST_NAMES = 6

-- "Erf_3, Erf_7 … and 5 more", or nil for none.
local function some_names(names)
   if #names == 0 then return nil end
   local more = #names - MOST_NAMES
   return table.concat(names, ", ", 1, math.min(#names, MOST_NAMES)) .. (more > 0 and (" … and %d more"):format(more) or "")
end

local function makes_floats(node)
   local output = node.outputs[1]
   return output and (output.dtype == "float32" or output.dtype == nil)
end

-- One line for each reason why something stays float.
local function float_lines(graph, setting)
   local asked, lacking, results, named = {}, {}, {}, {}
   for _, entry in ipairs(setting.dispatching_table) do named[#named + 1] = entry.name end
   for node in graph:nodes() do
      if not node.quantized and makes_floats(node) then
         local by_table = false
         for _, name in ipairs(named) do by_table = by_table or core.base.matches(name, node.name) or name == node.outputs[1].name end
         local list = by_table and asked or lacking
         list[#list + 1] = node.name
      elseif node.quantized and makes_floats(node) and node.output_config[1].state == "FP32" then
         results[#results + 1] = node.name
      end
   end
   local lines = {}
   local function add(names, reason)
      local text = some_names(names)
      if text then lines[#lines + 1] = text .. ": " .. reason end
   end
   add(asked, "float, as the dispatching table says")
   add(lacking, "float: no integer form of these operators is known")
   add(results, "integers in, floats out: the chip's module computes so; what reads them as integers gets a conversion")
   return lines
end

local function table_lines(path)
   local names = {}
   for _, node in ipairs(core.espdl.table(core.espdl.load(path)).nodes) do
      if node.attributes.lut then names[#names + 1] = node.name end
   end
   local text = some_names(names)
   return text and { text .. ": look-up tables on the chip" } or {}
end

-- What the chip makes of the graph that the simulation does not show; nothing where the chip cannot run it: the export says why.
local function chip_report(options, graph, loader, memory)
   local ran, found = pcall(require("espq.analyse_chip").report, graph, loader, options.collate_fn, memory)
   if ran then return found end
   if core.error.is_error(found) and found.code == "input" then return { lines = {} } end
   error(found, 0)
end

-- ---- the road ----

local function run(what, options, graph, setting, road)
   local report = report_tools.new()
   local loader, random = calibration(what, options, graph)
   local metadata = {}
   for key, value in pairs(options.metadata_props or {}) do metadata[key] = value end
   if random then
      metadata["espq.calibration"] = "random"
      report.random = true
   end
   local about = core.graph.about(graph)
   local told, memory, shown, later_notes = false, data.memory(), 0, {}
   local function show_notes()          -- what is known before the data are walked is said before
      report.notes = lines_of(core.graph.notes(graph))
      for i = shown + 1, #report.notes do note(check.told(report.notes[i])) end
      shown = #report.notes
   end
   local calibration_walk = loader and data.walk(what, loader, graph, {
      limit = options.calib_steps, collate_fn = options.collate_fn, memory = memory,
      on_end = function(count)
         if not told and count > 0 and count < options.calib_steps then
            told = true
            later_notes[1] = ("the loader has %d batches, calib_steps asks for %d: all of them are used"):format(count, options.calib_steps)
            note("note: " .. later_notes[1])
         end
      end,
   })
   road.walk = calibration_walk and function()
      core.train.check_layers(graph, road.setting)
      show_notes()
      return calibration_walk()
   end
   core.road.quantize(graph, road)
   about.setting, about.target, about.bits, about.hi_precision = setting, road.target, road.bits, road.hi_precision
   about.int16_lut_step = options.int16_lut_step
   report.floats = float_lines(graph, setting)
   about.exact, about.metadata, about.quantized = setting.switches.onnx_exact_ops, metadata, true
   if loader and options.error_report ~= false then
      local walk = data.walk(what, loader, graph, { collate_fn = options.collate_fn, memory = memory })
      local judge = { method = "snr", steps = 8, exact = about.exact }
      report.graphwise, report.graphwise_text = core.analyse.graphwise(graph, walk, judge)
      report.layerwise, report.layerwise_text = core.analyse.layerwise(graph, walk, judge)
      if not quantize.is_reference(setting) then report.chip = chip_report(options, graph, loader, memory) end
   end
   if not options.skip_export and options.espdl_export_file then
      report.warnings, report.test_inputs, report.test_outputs = write(what, options, graph, road, setting, metadata)
      report.file = options.espdl_export_file
      report.tables = table_lines(report.file)
   end
   show_notes()
   table.move(later_notes, 1, #later_notes, #report.notes + 1, report.notes)
   for _, list in ipairs { report.floats, report.tables } do
      for _, line in ipairs(list) do note(check.told(line)) end
   end
   report.warnings = table.move(report.chip.lines, 1, #report.chip.lines, #report.warnings + 1, report.warnings)
   for _, line in ipairs(report.warnings) do note("warning: " .. line) end
   return graph, report
end

local function with_verbose(options, work)
   local verbose = options.verbose
   if verbose == nil or verbose == 0 then return work() end
   local before = core.base.verbose()
   core.base.verbose(verbose == true and 2 or math.max(before, verbose + 1))
   local results = table.pack(xpcall(work, function(err)
      core.base.verbose(before)
      return err
   end))
   core.base.verbose(before)
   if not results[1] then error(results[2], 0) end
   return table.unpack(results, 2, results.n)
end

-- With evaluate_fn: how much the metric loses; with max_drop also the cheapest setting that keeps it, which is the one that is written.
local function judged(what, options, setting, road, load, finish)
   if not options.evaluate_fn then return finish(setting, road) end
   local goal = require "espq.goal"
   local found = goal.find {
      what = what, setting = setting, road_of = road_options, options = options, load = load, max_drop = options.max_drop,
      loader = (calibration(what, options, load(road))),
   }
   local graph, report = finish(found.setting, road_options({ target = options.target, num_of_bits = found.bits, hi_precision = options.hi_precision,
                                                              check = options.check }, found.setting))
   report.goal = goal.finish(found, graph)
   return graph, report
end

--- Load, cut and rename as the fields say: the float graph that is quantized.
function quantize.load(options, road)
   local shapes = graph_tools.shapes_of(options.input_shape)
   local cuts = options.outputs or options.cut_inputs
   if not cuts and not options.rename_outputs then return core.road.load(options.onnx_import_file, shapes, road) end
   road.after = "load"
   local graph = core.road.load(options.onnx_import_file, shapes, road)
   road.after = nil
   if cuts then
      core.graph.infer(graph)
      graph = graph:extract { inputs = options.cut_inputs, outputs = options.outputs }
   end
   if options.rename_outputs then graph_tools.rename_outputs(graph, options.rename_outputs) end
   core.road.simplify(graph, road)
   return graph
end

--- Quantize an ONNX file. Fields: the manual, or espq's API page; the reference's names.
---@param options table
---@return userdata graph, table report
function quantize.onnx(options)
   local what = "quantize_onnx"
   check_call(what, options, onnx_fields)
   return with_verbose(options, function()
      local setting = check_setting(what, options.setting)
      add_deprecated(what, options, setting)
      local road = road_options(options, setting)
      local load = function(width) return quantize.load(options, width) end
      return judged(what, options, setting, road, load, function(chosen, width)
         return run(what, options, load(width), chosen, width)
      end)
   end)
end

--- Quantize a graph that a script built or edited, in place. Without espdl_export_file nothing is written.
---@return userdata graph, table report
function quantize.graph(options)
   local what = "quantize_graph"
   check_call(what, options, graph_fields)
   return with_verbose(options, function()
      local setting = check_setting(what, options.setting)
      add_deprecated(what, options, setting)
      local road = road_options(options, setting)
      core.road.simplify(options.graph, road)
      return judged(what, options, setting, road, function() return options.graph:copy() end, function(chosen, width)
         return run(what, options, options.graph, chosen, width)
      end)
   end)
end

local export_fields = {
   graph = "any!", espdl_export_file = "string!", export_config = "boolean", export_test_values = "boolean",
   test_values = "string", test_output_names = "table",
   inputs = "tensor|table", metadata_props = "table", model_version = "integer", int16_lut_step = "integer", setting = "table",
}

--- Write a quantized graph: .espdl, .json, .info. Gives the warnings, a list of lines.
---@param options table
function quantize.export(options)
   check.fields("export", options, export_fields)
   check.word("export: test_values", options.test_values or "chip", { "chip", "simulated" })
   local about = core.graph.about(options.graph)
   if not about.quantized then check.fail("export: the graph is not quantized", nil, "espq.quantize_graph{ graph = … } first") end
   local setting = options.setting and check_setting("export", options.setting) or about.setting
   local road = road_options({ target = about.target, num_of_bits = about.bits, hi_precision = about.hi_precision }, setting)
   local metadata = {}
   for _, props in ipairs { about.metadata, options.metadata_props or {} } do
      for key, value in pairs(props) do metadata[key] = value end
   end
   local warnings = write("export", options, options.graph, road, setting, metadata)
   for _, line in ipairs(warnings) do note("warning: " .. line) end
   return warnings
end

quantize.road_options = road_options
quantize.write = write
quantize.check_device = check_device
quantize.check_setting = check_setting
quantize.onnx_fields, quantize.export_fields = onnx_fields, export_fields

return quantize
