-- Promise: lua/meta, what editors know of espq, names exactly what the live module has: functions, methods, operators, fields, options,
-- and which of these are needed, and settings with their line of help. Whoever adds or removes one without saying so there fails here: the
-- files cannot go stale.
local check = require "espq.check"
local core = require "espq.core"
local espq = require "espq"
local program = require "lua.program"

-- What is in these modules for espq's own parts, not for scripts.
local INNER = {
   data = { "bind", "labelled", "memory", "random", "random_tensor", "sources", "walk" },
   setting = { "engine" },
}
-- Fields that are taken only to say that they come in a later version.
local LATER = { "auto_streaming", "streaming_custom_passes", "streaming_input_shape", "streaming_table" }

-- ---- the meta files ----

local FILES = {
   "common", "tensor", "graph", "run", "setting", "data", "metrics", "analyse", "quantize", "inspect", "train", "autoquant", "espq",
}
local texts = {}
for i, name in ipairs(FILES) do texts[i] = assert(program.read("lua/meta/" .. name .. ".lua")) end
local text = table.concat(texts, "\n")

-- Class → { parents, fields = { name → { kind, help, optional } }, operators, call, variable }.
local function read_classes()
   local classes, class = {}, nil
   for line in text:gmatch "[^\n]*" do
      local name, parents = line:match "^%-%-%-@class ([%w_.]+)(.*)"
      if name then
         assert(not classes[name], "there twice: " .. name)
         class = { parents = {}, fields = {}, operators = {} }
         for parent in parents:match("^:?(.*)"):gmatch "[%w_.]+" do class.parents[#class.parents + 1] = parent end
         classes[name] = class
      elseif class and line:find "^%-%-%-@field %[" then
         class.open = true
      elseif class and line:find "^%-%-%-@field " then
         local function joined(word) return (word:gsub(" ", "\0")) end
         local words = line:gsub('"[^"]*"', joined):gsub("%b<>", joined)                    -- a kind ends at a blank
         local field, mark, kind, help = words:match "^%-%-%-@field ([%w_]+)(%??) (%S+) ?(.*)"
         assert(field and not class.fields[field], "this is no field, or there twice: " .. line)
         class.fields[field] = { kind = kind, help = help, optional = mark == "?" or kind:sub(-1) == "?" or kind:find "|nil$" ~= nil }
      elseif class and line:find "^%-%-%-@operator " then
         table.insert(class.operators, "__" .. line:match "^%-%-%-@operator (%a+)")
      elseif class and line:find "^%-%-%-@overload " then
         class.call = true
      else
         if class then class.variable = line:match "^local ([%w_]+) = {}$" end
         class = nil
      end
   end
   return classes
end

local classes = read_classes()

-- Class → the table of its functions: the files, loaded as plain Lua, give them in place of the module.
local function load_stubs()
   local list = {}
   for name, class in pairs(classes) do
      if class.variable then list[#list + 1] = ("[%q] = %s"):format(name, class.variable) end
   end
   local body, count = text:gsub("return espq%s*$", function() return "return { " .. table.concat(list, ", ") .. " }" end)
   assert(count == 1, "the last file ends with return espq")
   return assert(load(body, "@lua/meta", "t", {}))()
end

local stubs, compared = load_stubs(), {}

-- Fields with those of the parents; a class's own stand for its parents'.
local function fields_of(name, all)
   all = all or {}
   local class = assert(classes[name], "there is no class " .. name)
   for field, about in pairs(class.fields) do all[field] = all[field] or about end
   for _, parent in ipairs(class.parents) do fields_of(parent, all) end
   return all
end

local function sorted(names)
   local list = {}
   for name in pairs(names) do list[#list + 1] = name end
   table.sort(list)
   return list
end

local function set_of(list, set)
   set = set or {}
   for _, name in ipairs(list) do set[name] = true end
   return set
end

-- ---- the live side ----

local function upvalue(fn, wanted)
   for i = 1, math.huge do
      local name, value = debug.getupvalue(fn, i)
      assert(name, "there is no upvalue " .. wanted)
      if name == wanted then return value end
   end
end

-- Functions that a metatable gives to its objects.
local function methods_of(meta)
   local names = {}
   for _, from in ipairs { meta.methods or meta, type(meta.__index) == "table" and meta.__index or {} } do
      for name, value in pairs(from) do
         if type(value) == "function" and name:sub(1, 2) ~= "__" then names[name] = true end
      end
   end
   return names
end

-- The fields that a call checks its argument by: the call is cut short there. skip: how many checks come before.
local function spec_of(call, skip)
   local before, found = check.fields, nil
   check.fields = function(what, given, spec)
      if (skip or 0) > 0 then
         skip = skip - 1
         return before(what, given, spec)
      end
      found = spec
      error("cut short", 0)
   end
   pcall(call)
   check.fields = before
   return assert(found, "the call checks no fields")
end

local function same(live, declared, what)
   assert.same(sorted(live), sorted(declared), what)
end

local function same_methods(class, meta)
   compared[class] = true
   local declared = set_of(sorted(stubs[class]))
   for _, parent in ipairs(classes[class].parents) do
      if stubs[parent] then set_of(sorted(stubs[parent]), declared) end
   end
   same(methods_of(meta), declared, class)
   assert.equal(meta.__call ~= nil, classes[class].call or false, class .. ": can it be called?")
end

-- Every field that is not optional is there, and none raises an error.
local function has_fields(class, object)
   for name, about in pairs(fields_of(class)) do
      local value = object[name]
      assert.is_true(about.optional or value ~= nil, ("%s.%s is not there"):format(class, name))
   end
end

-- The names in the cure of what an unknown field raises.
local function told_fields(object)
   local _, err = pcall(function() return object.no_such_field end)
   local names = {}
   for name in err.cure:match("has (.*)"):gsub(" and the methods.*", ""):gmatch "[%w_]+" do names[name] = true end
   return names
end

local OPTIONS = {
   QuantizeOnnxOptions = { espq.quantize_onnx, espq.espdl_quantize_onnx }, QuantizeGraphOptions = { espq.quantize_graph },
   ExportOptions = { espq.export }, PassOptions = { espq.pass }, ObserverOptions = { espq.observer }, OperatorOptions = { espq.operator },
   ApplyOptions = { espq.apply }, GraphSpec = { espq.graph }, CostOptions = { espq.cost }, TrainerOptions = { espq.trainer },
   QatOptions = { espq.qat }, AutoQuantOptions = { espq.auto_quantize_onnx, espq.espdl_auto_quantize_onnx },
   StrategyOptions = { espq.strategy }, LoaderOptions = { espq.data.loader }, ImagesOptions = { espq.data.images },
   CocoOptions = { espq.data.coco }, NpzOptions = { espq.data.npz },
   FolderOptions = { espq.data.folder }, WavOptions = { espq.data.wav }, NmsOptions = { espq.metrics.nms },
   PsnrOptions = { espq.metrics.psnr }, MapOptions = { espq.metrics.mean_average_precision },
   GraphOptions = { espq.analyse.parameters, espq.analyse.device },
   AnalyseOptions = { espq.analyse.graphwise, espq.analyse.layerwise, espq.analyse.statistical, espq.analyse.sensitivity },
   HeadroomOptions = { espq.analyse.headroom }, CompareOptions = { espq.analyse.compare }, ResolutionOptions = { espq.analyse.resolution },
   LoadOnnxOptions = { function() espq.load_onnx("m.onnx", {}) end }, LoadEspdlOptions = { function() espq.load_espdl("m.espdl", {}) end },
   VerifyOptions = { function() espq.verify("m.espdl", {}) end }, ModelOption = { function() espq.diff("a.espdl", "b.espdl", {}) end },
   TargetOptions = { function() espq.read_log("m.espdl", "log", {}) end, function() espq.boardkit("m.espdl", "kit", {}) end },
   EnumerateOptions = { function() espq.autoquant.enumerate(espq.autoquant_setting {}, {}) end },
}
-- Bases of others, and tables that C reads: it says which names it does not know.
local BASES = { ChipOptions = true, PictureOptions = true }
local t = espq.zeros { 1, 1 }
local IN_C = {
   TensorOptions = espq.zeros, RandomOptions = espq.rand, AxisOptions = function(_, options) t:softmax(options) end,
   ReduceOptions = function(_, options) t:sum(options) end, SortOptions = function(_, options) t:sort(options) end,
   SliceOptions = function(_, options) t:slice(options) end, PadOptions = function(_, options) t:pad(options) end,
   CloseOptions = function(_, options) t:allclose(t, options) end, ImageOptions = function(_, options) espq.image("x.png", options) end,
}

describe("what editors know of espq", function()
   local graph, report, folder, model, cost
   setup(function()
      folder = program.folder()
      local x = { 1, 2 }
      graph = espq.graph {
         inputs = { x = x }, outputs = { "z" },
         nodes = { { type = "MatMul", inputs = { "x", espq.rand({ 2, 2 }, { seed = 1 }) }, outputs = { "y" }, name = "mul" },
                   { type = "Relu", inputs = { "y" }, outputs = { "z" }, name = "relu" } },
      }
      local before = espq.verbose
      espq.verbose = 0
      model = folder .. "/m.espdl"
      local _
      _, report = espq.quantize_graph {
         graph = graph, calib_dataloader = { espq.rand(x, { seed = 2 }) }, calib_steps = 1, espdl_export_file = model,
         evaluate_fn = function() return 1 end,
      }
      cost = espq.cost { path = model }
      espq.verbose = before
   end)
   teardown(function() program.remove(folder) end)

   it("are the functions of the module and its parts", function()
      local live = set_of({ "verbose", "QuantizationSettingFactory" }, set_of(sorted(espq)))
      set_of(sorted(upvalue(upvalue(getmetatable(espq).__index, "load_part"), "parts")), live)
      same(live, set_of(sorted(fields_of "espq.Module"), set_of(sorted(stubs["espq.Module"]))), "espq")
      compared["espq.Module"] = true
      for name, about in pairs(fields_of "espq.Module") do
         if stubs[about.kind] then
            local members, inner = set_of(sorted(espq[name])), INNER[name] or {}
            for _, member in ipairs(inner) do
               assert.is_true(members[member], ("espq.%s.%s is no more: take it off the list here"):format(name, member))
               members[member] = nil
            end
            same(members, set_of(sorted(fields_of(about.kind)), set_of(sorted(stubs[about.kind]))), about.kind)
            compared[about.kind] = true
         end
      end
   end)

   it("are the methods, fields and operators of tensors and graphs", function()
      local meta, operators = getmetatable(t), {}
      for name in pairs(meta) do operators[name] = name:sub(1, 2) == "__" or nil end
      local unsaid = { "__index", "__newindex", "__gc", "__close", "__tostring", "__name", "__lt", "__le" }
      for _, name in ipairs(unsaid) do operators[name] = nil end
      same(operators, set_of(classes["espq.Tensor"].operators), "operators of tensors")
      same_methods("espq.Tensor", meta)
      has_fields("espq.Tensor", t)

      local node = graph:node "mul"
      same_methods("espq.Graph", getmetatable(graph))
      same_methods("espq.Node", getmetatable(node))
      for class, object in pairs { Graph = graph, Node = node, Value = node.inputs[2], Slot = node.output_config[1] } do
         same(told_fields(object), fields_of("espq." .. class), class)
         has_fields("espq." .. class, object)
      end
   end)

   it("are the methods of what runs, trains, measures and is printed", function()
      local trainer = espq.trainer { graph = graph, loss = "mse" }
      local read = espq.load_espdl(model)
      same_methods("espq.Executor", getmetatable(espq.executor(graph)))
      same_methods("espq.IntegerExecutor", getmetatable(espq.executor(graph, { mode = "integer" })))
      same_methods("espq.Model", getmetatable(read))
      same_methods("espq.Trainer", getmetatable(trainer))
      same_methods("espq.Rows", getmetatable(cost))
      same_methods("espq.DispatchingTable", getmetatable(espq.setting.espdl().dispatching_table))
      for _, metric in ipairs { "topk", "accuracy", "confusion", "snr", "cosine", "mse", "psnr", "mean_average_precision" } do
         same_methods("espq.Accumulator", getmetatable(espq.metrics[metric]()))
      end
      local dataset = espq.data.npy(t)
      assert.same({ "get" }, sorted(stubs["espq.Dataset"]))
      assert.is_function(dataset.get)
      compared["espq.Dataset"] = true
      local loader = espq.data.loader { dataset = dataset }
      for class, object in pairs { Dataset = dataset, DataLoader = loader, Cache = espq.data.cache(loader) } do
         local meta = getmetatable(object)
         assert.is_true(meta.__call ~= nil and classes["espq." .. class].call, class)
         assert.is_true(meta.__len ~= nil and classes["espq." .. class].operators[1] == "__len", class)
      end
      local _, err = pcall(espq.seed, 1.5)
      local objects = {
         Executor = espq.executor(graph), Model = read, Trainer = trainer, Report = report, Goal = report.goal, Cost = cost, Error = err,
         Info = espq.info(model), Platform = espq.platform "float",
      }
      for class, object in pairs(objects) do
         has_fields("espq." .. class, object)
      end
      for name in pairs(require("espq.report").new()) do assert.is_not_nil(fields_of("espq.Report")[name], name) end
   end)

   it("are the fields of settings", function()
      local tree = espq.setting.espdl()
      local fields, live = fields_of "espq.Setting", {}
      for name in pairs(tree) do live[name] = true end
      same(live, fields, "espq.Setting")
      for name, about in pairs(fields) do
         if name:find "_setting$" or name == "switches" then
            local group = {}
            for member in pairs(tree[name]) do group[member] = true end
            same(group, fields_of(about.kind), about.kind)
         end
      end
      for _, row in ipairs(require("espq.setting").rows()) do
         local class, member = fields, row.path
         if row.path:find ".%..*" then
            local group, rest = row.path:match "^([^.]+)%.(.+)"
            class, member = fields_of(fields[group].kind), rest
         end
         if class[member] then assert.equal(row.help .. (row.unused and " (no effect)" or ""), class[member].help, row.path) end
      end
      same(upvalue(getmetatable(tree).__index, "Root"), stubs["espq.Setting"], "methods of settings")
      compared["espq.Setting"] = true
   end)

   it("are the fields, modules and knobs of a search", function()
      local live, modules, knobs = {}, {}, fields_of "espq.ParamSpace"
      for name in pairs(espq.autoquant_setting {}) do live[name] = true end
      same(live, fields_of "espq.AutoQuantFields", "fields of a search")
      same(live, fields_of "espq.AutoQuantSetting", "fields of a search's setting")
      for _, row in ipairs(require("espq.autoquant.modules").list()) do
         if not row.custom then
            modules[row.name] = true
            local names = {}
            for _, knob in ipairs(row.knobs) do names[knob.name] = true end
            same(names, fields_of(knobs[row.name].kind), row.name)
         end
      end
      same(modules, knobs, "param_space")
      same(modules, fields_of "espq.StrategySpace", "strategy_space")
   end)

   it("are the options of every call, and which of them are needed", function()
      OPTIONS.ExecutorOptions = { function() espq.executor(graph, {}) end }
      OPTIONS.InsertOptions = { function() graph:insert_after("y", "Relu") end }
      OPTIONS.ReplaceOptions, OPTIONS.ExtractOptions = { function() graph:replace {} end }, { function() graph:extract {} end }
      for class, calls in pairs(OPTIONS) do
         local fields = fields_of("espq." .. class)
         for _, call in ipairs(calls) do
            local live, needed, declared = {}, {}, {}
            for name, kind in pairs(spec_of(function() call {} end)) do
               live[name], needed[name] = true, kind:sub(-1) == "!" or nil
            end
            for _, name in ipairs(LATER) do live[name] = nil end
            same(live, fields, class)
            for name, about in pairs(fields) do declared[name] = not about.optional or nil end
            same(needed, declared, class .. ": what is needed")
         end
      end
      local spec = { inputs = { x = { 1 } }, outputs = {}, nodes = { { type = "Relu" } } }
      same(spec_of(function() espq.graph(spec) end, 2), fields_of "espq.GraphNode", "GraphNode")
      for class, call in pairs(IN_C) do
         local _, refused = pcall(call, { 1 }, { no_such_option = 1 })
         assert.matches("unknown option 'no_such_option'", refused.what)
         for name in pairs(fields_of("espq." .. class)) do
            local _, err = pcall(call, { 1 }, { [name] = 0 })
            assert.is_nil(tostring(err):find "unknown option", ("%s.%s"):format(class, name))
         end
      end
      for name in pairs(classes) do
         local short = name:match "^espq%.(.*Options)$"
         local there = short == nil or OPTIONS[short] or IN_C[short] or BASES[short] or short == "RecoverOptions"
         assert.is_truthy(there, name .. " is not compared")
      end
      local recover = {}
      for name in pairs(espq.setting.espdl().recover_setting) do recover[name] = true end
      same(recover, fields_of "espq.RecoverOptions", "recover")
   end)

   it("are the words that values may be", function()
      local function words_of(alias)
         local words = {}
         for word in text:match("@alias espq." .. alias .. " ([^\n]*)"):gmatch '"(%w+)"' do words[word] = true end
         return words
      end
      local methods, targets = {}, {}
      for _, row in ipairs(core.base.observers()) do methods[row.name] = row.help ~= "a method of a script" or nil end
      for _, row in ipairs(core.road.targets()) do targets[row.name] = true end
      same(methods, words_of "CalibAlgorithm", "calibration methods")
      same(targets, words_of "Target", "targets")
   end)

   it("leave no class out, and name no class that is not there", function()
      for class in pairs(stubs) do
         if next(stubs[class]) then assert.is_true(compared[class], class .. " is compared with nothing") end
      end
      for line in text:gmatch "%-%-%-@[^\n]*" do
         for name in line:gmatch "espq%.%u%w*" do
            assert.is_truthy(classes[name] or text:find("@alias " .. name .. " ", 1, true), name .. " is not declared")
         end
      end
   end)
end)
