--- One trial: its quantization setting, its graph, its files, its score.
local check = require "espq.check"
local core = require "espq.core"
local cost = require "espq.cost"
local evaluate = require "espq.autoquant.evaluate"
local files = require "espq.autoquant.files"
local graph_tools = require "espq.graph"
local inputs = require "espq.autoquant.inputs"
local modules = require "espq.autoquant.modules"
local prune = require "espq.autoquant.prune"
local quantize = require "espq.quantize"
local records = require "espq.autoquant.records"
local setting_tree = require "espq.setting"
local states = require "espq.autoquant.states"

local trial = {}

---@class espq.autoquant.Runner what all trials of a search have in common
local Runner = {}
Runner.__index = Runner

-- ---- the quantization setting ----

-- Names of the layers with the largest error of the baseline, largest first; -1: all, which settings write as an empty list.
local function worst_of(self)
   return function(count)
      local names = {}
      if count == -1 then return names end
      for i = 1, math.min(count, #self.layers) do names[i] = self.layers[i].name end
      return names
   end
end

-- These layers and what reads their outputs: a wide layer between narrow ones would lose at its end what it won.
local function with_consumers_of(self)
   return function(names)
      local list, seen = {}, {}
      local function add(name)
         if not seen[name] then list[#list + 1] = name end
         seen[name] = true
      end
      for _, name in ipairs(names) do
         add(name)
         for _, consumer in ipairs(self.consumers[name] or {}) do add(consumer) end
      end
      return list
   end
end

-- Switch a setting by its path.
local function set(setting, path, value)
   local parent, leaf = path:match "^(.*)%.([^.]+)$"
   local group = parent and setting[parent] or setting
   group[leaf or path] = value
end

--- What a trial changes in the base setting.
---@return table setting, integer bits
function Runner:setting_of(given)
   local setting = self.base:copy()
   setting.fusion = true
   local context = { num_of_bits = 8, target = self.target, worst = worst_of(self), with_consumers = with_consumers_of(self) }
   for _, module in ipairs(modules.list()) do
      local on = given.strategy[module.name] and true or false
      if module.path then set(setting, module.path, on) end
      if on then module.apply(setting, given.params[module.name] or {}, context) end
   end
   return setting, context.num_of_bits
end

-- ---- the graph ----

function Runner:road(setting, bits)
   return quantize.road_options({ target = self.target, num_of_bits = bits }, setting)
end

local function tell_about(graph, setting, road)
   local about = core.graph.about(graph)
   about.setting, about.target, about.bits, about.hi_precision = setting, road.target, road.bits, false
   about.exact, about.metadata, about.quantized = setting.switches.onnx_exact_ops, {}, true
   return graph
end

-- How a setting's graph is called, and how it is made. Without sharing it has no name, and comes all the way from the file.
local function graph_of(self, setting, bits)
   local road = self:road(setting, bits)
   if self.states then
      local name, make = self.states:walk_setting(setting, bits, road)
      return name, function() return tell_about(make(), setting, road) end, road
   end
   return nil, function()
      local graph = self.load(road)
      road.walk = self.walk(graph)
      core.road.quantize(graph, road)
      return tell_about(graph, setting, road)
   end, road
end

local function rank_layers(self)
   local setting = self.base:copy()
   local road = self:road(setting, 8)
   local float, _, make = self.load(road), graph_of(self, setting, 8)
   local graph = make()
   self.consumers = {}
   for node in float:nodes() do
      local names = {}
      for _, output in ipairs(node.outputs) do
         for _, consumer in ipairs(output and output.consumers or {}) do names[#names + 1] = consumer.name end
      end
      self.consumers[node.name] = names
   end
   local rows = {}
   for i, row in ipairs((core.analyse.layerwise(graph, self.error_walk(graph), { method = "snr", steps = 8, exact = core.graph.about(graph).exact }))) do
      rows[i] = { name = row.name, snr = row.snr, place = i }
   end
   table.sort(rows, function(a, b)
      if a.snr ~= b.snr then return a.snr > b.snr end
      return a.place < b.place
   end)
   self.layers = rows
end

-- ---- files and score ----

-- Beside the .espdl, as the reference has it: the graph, to go on with.
local function native_of(path) return (path:gsub("%.espdl$", "")) .. ".native" end

local function export(self, graph, setting, road, path)
   core.system.make_folder(path:match "^(.*)/" or ".")
   quantize.write("auto_quantize_onnx", { espdl_export_file = path, export_config = true, export_test_values = false, test_values = "simulated" },
                  graph, road, setting, {})
   graph_tools.save_state(graph, native_of(path), self.base)
end

local function traced(err)
   if core.error.is_error(err) then
      if err.code ~= "interrupted" and not err.trace then err.trace = debug.traceback(nil, 2) end
      return err
   end
   if type(err) == "string" and err:find("\nstack traceback:", 1, true) then return { what = err } end
   local meta = getmetatable(err)
   return { what = debug.traceback(type(err) == "string" and err or meta and meta.__tostring and tostring(err) or "an error object of type " .. type(err), 2) }
end

-- What `traced` made of an error, as an error again.
local function raise(err)
   if core.error.is_error(err) then error(err, 0) end
   core.error.raise { what = err.what, code = "input" }
end

--- Errors that are not the trial's own: they end the search.
function trial.ends_search(err)
   return core.error.is_error(err) and (err.code == "interrupted" or err.code == "memory" or err.contract or err.fatal) and true or false
end

function trial.is_interrupt(err) return core.error.is_error(err) and err.code == "interrupted" end

-- A traceback as far as it is the user's: what called evaluate_fn is espq's own.
local function of_user(message) return (message:gsub("\n\t[^\n]*espq/autoquant/trial%.lua:.*$", "")) end

-- Where in the user's script.
local function place_of(trace)
   for place in (trace or ""):gmatch "\n\t([^\n]-:%d+): " do
      if not place:find "^espq/" and not place:find "/espq/" then return place end
   end
end

-- Score and extras. A user's error becomes the trial's, with the user's traceback.
local function judge(evaluate_fn, graph, path)
   local done, results = xpcall(function()
      local returned = table.pack(evaluate_fn(graph, path))
      return { count = returned.n, returned[1], returned[2] }
   end, traced)
   if not done then
      if trial.ends_search(results) then error(results, 0) end
      if core.error.is_error(results) then
         results.from_user, results.where = true, results.where or place_of(results.trace)
         error(results, 0)
      end
      core.error.raise { what = "evaluate_fn raised an error: " .. of_user(results.what), code = "input", from_user = true }
   end
   return evaluate.check(results.count, results[1], results[2])
end

-- Files of an earlier trial that is equal in everything.
local function reuse_files(self, folder, workplace)
   for _, name in ipairs(files.names(folder)) do
      if not files.of_trial[name] then files.link(folder .. "/" .. name, workplace .. "/" .. name) end
   end
   return self
end

-- What the file costs on the chip, where the search has it for its second aim. What evaluate_fn says itself (measured on a board) counts more.
local function add_cost(self, path, extras)
   local done, found = pcall(cost.estimate, { path = path, target = self.target })
   if extras.bytes == nil then extras.bytes = files.size(path) end
   if extras.estimated_ms == nil and done then extras.estimated_ms = found.ms end
end

-- The graph of the setting that all trials begin with.
local function plain_graph(self)
   return function()
      local _, make = graph_of(self, self.base:copy(), 8)
      return make()
   end
end

local function run(self, given, workplace)
   local setting, bits = self:setting_of(given)
   local name, make, road = graph_of(self, setting, bits)
   local same = name and self.results[name]
   -- The folder gets its number when its turn comes, on a cluster at any moment: then the files are made again.
   if same and files.is_folder(same.folder) and pcall(reuse_files, self, same.folder, workplace) then return same end
   local graph = make()
   local hopeless = self.pruner and self.pruner:verdict(graph, plain_graph(self))
   if hopeless then return { pruned = hopeless } end
   local path = workplace .. "/" .. self.export_name
   export(self, graph, setting, road, path)
   local bytes = name and self.by_bytes and core.system.sha1(files.read(path))
   local result = bytes and self.by_bytes[bytes]
   if not result then
      local score, extras = judge(self.evaluate_fn, graph, path)
      if self.costs then add_cost(self, path, extras) end
      result = { score = score, extras = extras }
      if bytes then self.by_bytes[bytes] = result end
   end
   return { score = result.score, extras = result.extras, name = name, bytes = bytes or nil }
end

-- Stages of single trials would bury the search's own line; verbose = 1 shows them.
local function quietly(work, ...)
   local before = core.base.verbose()
   if before == 1 then core.base.verbose(0) end
   local results = table.pack(xpcall(work, traced, ...))
   core.base.verbose(before)
   return table.unpack(results, 1, results.n)
end

-- The folder has another name when the trial is done.
local function without(message, folder)
   local parts, at = {}, 1
   while true do
      local first, last = message:find(folder, at, true)
      parts[#parts + 1] = message:sub(at, (first or 0) - 1)
      if not first then return table.concat(parts) end
      at = last + 1
   end
end

--- Run a trial in an empty folder. Gives its record, without index, folder and files; a trial that fails says why.
---@param given espq.autoquant.Trial
---@param workplace string
---@return table record, table? result score and extras, and what equal trials know it by; to be handed to `learn` when the record is kept
function Runner:run(given, workplace)
   local begun = core.system.clock()
   core.tensor.seed(self.seed)
   quantize.seed = self.seed
   local done, result = quietly(run, self, given, workplace)
   local record = { hash = given.hash, strategy = given.strategy, params = given.params, seed = self.seed, status = done and "done" or "failed" }
   if not done and core.error.is_error(result) and result.code == "file" and tostring(result.where):find(workplace, 1, true) then
      result.fatal = true                                -- a full disk is no fault of the trial
   end
   local pruned = done and result.pruned
   if pruned then
      record.status, record.error = "pruned", pruned
   elseif done then
      record.score = result.score
      for key, value in pairs(result.extras) do record[key] = value end
   else
      if trial.ends_search(result) then error(result, 0) end
      for _, name in ipairs(files.names(workplace)) do
         if name ~= "log" then files.remove(workplace .. "/" .. name) end
      end
      record.error = without(core.error.is_error(result) and tostring(result) or result.what, workplace .. "/")
      record.from_user = core.error.is_error(result) and result.from_user or nil
      core.base.write(workplace .. "/error.txt", record.error .. "\n" .. (core.error.is_error(result) and result.trace or "") .. "\n")
   end
   if record.seconds == nil then record.seconds = tonumber(("%.3f"):format(core.system.clock() - begun)) + 0.0 end
   core.base.write(workplace .. "/config.json", records.config(given, self.runtime))
   return record, done and not pruned and result or nil
end

--- The record of a trial that could not say itself why it failed: its worker died, or took too long.
---@return table record
function Runner:failed(given, workplace, message, seconds)
   core.base.write(workplace .. "/error.txt", message .. "\n")
   core.base.write(workplace .. "/config.json", records.config(given, self.runtime))
   return { hash = given.hash, strategy = given.strategy, params = given.params, seed = self.seed, status = "failed", error = message,
            seconds = tonumber(("%.3f"):format(seconds)) + 0.0 }
end

--- Which trials have most in common with this one: names as of `states.branch`, nil where nothing is shared.
---@return string? branch, string? stem
function Runner:branch(given)
   if not self.states then return nil end
   local done, setting, bits = pcall(self.setting_of, self, given)
   if done then return states.branch(setting, bits) end
end

--- Judge a recorded trial by another metric than the one that ranked it.
---@return number score, table extras
function Runner:judge_again(record, evaluate_fn)
   local path = record.folder .. "/" .. self.export_name
   local done, result = quietly(function()
      local read, graph = pcall(graph_tools.load_native, native_of(path))
      if not read then                                  -- a folder of the reference, or one that somebody tidied
         local setting, bits = self:setting_of(record)
         local _, make = graph_of(self, setting, bits)
         graph = make()
      end
      local score, extras = judge(evaluate_fn, graph, path)
      return { score = score, extras = extras }
   end)
   if not done then raise(result) end
   return result.score, result.extras
end

--- What workers inherit: the float graph, and the data as far as they are kept.
function Runner:prepare()
   local road = self:road(self.base, 8)
   local graph = self.states and self.states:root(self.base, 8, road) or self.load(road)
   for _ in self.walk(graph)() do core.base.check_cancel() end
end

--- Where states lie that memory has no room for, or that several processes want.
---@param folder string
---@param shared boolean
function Runner:use_folder(folder, shared)
   if self.states then self.states:use_folder(folder, shared) end
end

--- Keep a few of the inputs beside the trials.
---@param folder string
function Runner:keep_inputs(folder)
   local road = self:road(self.base, 8)
   local graph = self.states and self.states:root(self.base, 8, road) or self.load(road)
   inputs.keep(folder, graph, self.walk(graph)()())
end

--- The layers by their error in a plain 8-bit quantization, largest first, and who reads whom.
function Runner:rank_layers()
   local done, err = quietly(rank_layers, self)
   if not done then raise(err) end
end

--- Remember where an equal trial finds its files.
function Runner:learn(record, result)
   if not result or not result.name then return end
   if self.results[result.name] then
      self.results[result.name].folder = record.folder            -- it has got its number
      return
   end
   self.results[result.name] = { score = result.score, extras = result.extras, folder = record.folder, name = result.name }
   if self.by_bytes and result.bytes and not self.by_bytes[result.bytes] then
      self.by_bytes[result.bytes] = { score = result.score, extras = result.extras }
   end
end

--- What all trials of a search have in common.
---@param options table path, shapes, target, walk, error_walk, base, share, memory, memo, evaluate_fn, evaluates_bytes, runtime, export_name, seed; costs:
--- estimate what each trial costs; prune_walk: the few batches by which hopeless trials are left out, nil: none is
---@return espq.autoquant.Runner
function trial.runner(options)
   local self = setmetatable({
      target = options.target, base = options.base, walk = options.walk, error_walk = options.error_walk, evaluate_fn = options.evaluate_fn,
      runtime = options.runtime, export_name = options.export_name, seed = options.seed, layers = {}, consumers = {}, results = {},
      costs = options.costs, pruner = options.prune_walk and prune.new(options.prune_walk, options.share) or nil,
   }, Runner)
   self.load = function(road) return core.road.load(options.path, options.shapes, road) end
   if options.share then
      self.states = states.new { load = self.load, walk = options.walk, memory = options.memory, methods = options.methods,
                                 memo = options.memo }
      self.by_bytes = options.evaluates_bytes and {} or nil
   end
   return self
end

--- Is the setting of this kind at all? Raised before a search begins, not by its first trial.
function trial.check_base(base)
   if base == nil then return setting_tree.espdl() end
   if not setting_tree.is(base) then check.fail("setting.base has to be what espq.setting.espdl() or espq.setting.reference() gives") end
   return base:copy()
end

return trial
