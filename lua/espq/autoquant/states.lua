--- States that trials share. A trial walks the road in parts; a part's result is known by what it began with and by the settings that it
-- reads, so that trials with the same beginning walk it once. States are called by the contents of their graph: where two settings come to
-- the same graph (an alignment of operators that the model has not, one more round of an equalization that has settled), all behind it is
-- shared as well.
local core = require "espq.core"
local setting_tree = require "espq.setting"
local spill = require "espq.autoquant.spill"

local states = {}

---@class espq.autoquant.States
local States = {}
States.__index = States

-- The parts of the road: first row, the row behind the last, what it alone reads of the setting, and the switches without which it does nothing;
-- walks: it walks the data, so that processes wait for each other's.
local PARTS = {
   { last = "weight_split" },
   { first = "weight_split", last = "equalization", reads = { "weight_split", "channel_split" }, switches = { "weight_split", "channel_split" } },
   { first = "equalization", last = "convtranspose", reads = { "equalization" }, switches = { "equalization" }, changes_weights = true },
   { first = "convtranspose", last = "calibrate" },
   { first = "calibrate", last = "align", reads = { "quantize_activation_setting" }, observes = true, walks = true },
   { first = "align", last = "bias_correct", reads = { "fusion_setting.align_", "fusion_setting.force_alignment_overlap" } },
   { first = "bias_correct", last = "lsq", reads = { "bias_correct" }, walks = true, switches = { "bias_correct" } },
   { first = "lsq", last = "tqt", reads = { "lsq_optimization" }, walks = true, switches = { "lsq_optimization" }, changes_weights = true },
   { first = "tqt", last = "blockwise", reads = { "tqt_optimization" }, walks = true, switches = { "tqt_optimization" }, changes_weights = true },
   { first = "blockwise", last = "recover", reads = { "blockwise_reconstruction" }, walks = true,
     switches = { "blockwise_reconstruction" }, changes_weights = true },
   { first = "recover", last = "baking", reads = { "recover" }, walks = true, switches = { "recover" }, changes_weights = true },
   { first = "baking", last = "lower", final = true },
}

states.parts = PARTS

local MEMORY = 512e6

local function part_of(path)
   for i, part in ipairs(PARTS) do
      for _, prefix in ipairs(part.reads or {}) do
         if path:sub(1, #prefix) == prefix then return i end
      end
   end
   return 0
end

-- Does a script's pass stand on the road? It may read any setting, and do anything.
local function has_script_pass()
   for _, pass in ipairs(core.road.passes()) do
      if pass.when == "script" then return true end
   end
   return false
end

local function text_of(value)
   if type(value) == "table" then
      local parts = {}
      for i, item in ipairs(value) do parts[i] = type(item) == "table" and item.name .. "=" .. item.platform.id or tostring(item) end
      for _, key in ipairs(require("espq.check").keys(value)) do
         if not tonumber(key) then parts[#parts + 1] = key .. "=" .. tostring(value[key]) end
      end
      return "{" .. table.concat(parts, ",") .. "}"
   end
   return tostring(value)
end

-- Settings by part: [0] what any part may read, [i] what part i alone reads.
local function settings_text(setting)
   local lists = { [0] = {} }
   for i in ipairs(PARTS) do lists[i] = {} end
   local scripts = has_script_pass()
   for _, row in ipairs(setting_tree.rows()) do
      local at = setting
      for name in row.path:gmatch "[^.]+" do at = at[name] end
      local list = lists[scripts and 0 or part_of(row.path)]
      list[#list + 1] = row.path .. "=" .. text_of(at)
   end
   for i = 0, #PARTS do lists[i] = table.concat(lists[i], "\n") end
   return lists
end

--- Where trials share what they have in common.
---@param options table load = function(road) giving the float graph, walk, memory = bytes, methods = those of calibration that will be asked for,
--- memo = what runs of passes gave, for those of other trials; disk = where states go that had to leave memory
function states.new(options)
   return setmetatable({ load = options.load, walk = options.walk, limit = options.memory or MEMORY, bytes = 0,
                         methods = options.methods or {}, observed = {}, memo = options.memo, disk = options.disk or spill.new(), known = {},
                         graphs = {}, clock = 0 }, States)
end

local function weight_bytes(graph)
   local bytes = 0
   for value in graph:tensors() do
      if value.is_parameter and value.shape then
         local count = 4
         for _, size in ipairs(value.shape) do count = count * size end
         bytes = bytes + count
      end
   end
   return bytes
end

-- The graphs last used stay, as far as memory goes; then on disk, where making them took long.
local function keep(self, digest, graph, part, seconds)
   if self.graphs[digest] then return end
   local bytes = 200000 + ((not part or part.changes_weights) and self.weights or 0)
   self.clock = self.clock + 1
   self.graphs[digest] = { graph = graph, bytes = bytes, used = self.clock, seconds = seconds }
   self.bytes = self.bytes + bytes
   while self.bytes > self.limit do
      local oldest
      for name, entry in pairs(self.graphs) do
         if name ~= digest and (not oldest or entry.used < self.graphs[oldest].used) then oldest = name end
      end
      if not oldest then return end
      self.disk:put(oldest, self.graphs[oldest].graph, self.graphs[oldest].seconds)
      self.bytes = self.bytes - self.graphs[oldest].bytes
      self.graphs[oldest] = nil
   end
end

local function switched_on(part, setting)
   for _, name in ipairs(part.switches or {}) do
      if setting[name] then return true end
   end
   return part.switches == nil or has_script_pass()
end

-- The path of a setting: the parts that do something, each with a key once what it begins with is known.
local function path_of(setting, bits)
   local texts, path = settings_text(setting), {}
   local common = ("%s\nbits=%d"):format(texts[0], bits)
   for i, part in ipairs(PARTS) do
      if switched_on(part, setting) then path[#path + 1] = { part = part, text = texts[i] } end
   end
   return path, common
end

-- What calibration sees of a graph serves all methods: where a search asks for several, the data are walked once for all of them.
function States:observed_at(digest, common)
   if #self.methods < 2 then return nil end
   local key = core.system.sha1(digest .. "\n" .. common)
   self.observed[key] = self.observed[key] or core.road.observed(self.methods)
   return self.observed[key]
end

-- The graph behind step i of a path, from memory or made (again) from the step before.
local function graph_at(self, path, digests, common, road, i)
   local entry = digests[i] and self.graphs[digests[i]]
   if entry then
      self.clock = self.clock + 1
      entry.used = self.clock
      return entry.graph
   end
   local begun, part = core.system.clock(), i > 0 and path[i].part or nil
   local graph, took = nil, nil
   if digests[i] then graph, took = self.disk:get(digests[i]) end
   if graph then
      keep(self, digests[i], graph, part, took)
      return graph
   end
   if i == 0 then
      graph = self.load(road)
      self.weights = weight_bytes(graph)
   else
      graph = graph_at(self, path, digests, common, road, i - 1):copy()
      begun = core.system.clock()
      road.walk, road.observed, road.memo = self.walk(graph), part.observes and self:observed_at(digests[i - 1], common), self.memo
      core.road.part(graph, part.first, part.last, road)
      road.observed, road.memo = nil, nil
   end
   digests[i] = core.road.digest(graph)
   if not (part and part.final) then keep(self, digests[i], graph, part, core.system.clock() - begun) end
   return graph
end

-- The name of the float graph. Settings reach it only by their common part.
local function root_digest(self, common, road)
   local key = core.system.sha1("load\n" .. common)
   if not self.known[key] then
      local digests = {}
      graph_at(self, {}, digests, common, road, 0)
      self.known[key] = digests[0]
   end
   return self.known[key]
end

--- Let states that memory has no room for go to this folder; and all that other processes may want, when it is shared with them.
function States:use_folder(folder, shared) self.disk = spill.new(folder, { shared = shared }) end

--- The float graph.
function States:root(setting, bits, road)
   local _, common = path_of(setting, bits)
   return graph_at(self, {}, { [0] = root_digest(self, common, road) }, common, road, 0)
end

--- Names for what trials have in common: those of one branch share the walks over the data before the alignment; those of one stem differ in the
-- alignment alone, so that most of what later passes and the evaluation run is equal.
---@return string branch, string stem
function states.branch(setting, bits)
   local texts, before, all = settings_text(setting), {}, {}
   for i, part in ipairs(PARTS) do
      local text = switched_on(part, setting) and texts[i] or ""
      if part.first ~= "align" then all[#all + 1] = text end
      if part.first == "align" then before = table.move(all, 1, #all, 1, {}) end
   end
   local function name(parts) return core.system.sha1(("%s\n%d\n%s"):format(texts[0], bits, table.concat(parts, "\n"))) end
   return name(before), name(all)
end

local function stops_search(err) return core.error.is_error(err) and (err.code == "interrupted" or err.code == "memory") end

-- Do other trials go on from here? From a calibration they do, from what comes behind it when this one does itself: graphs at the ends of all trials
-- would only fill the disk.
local function leads_on(path, i)
   if path[i].part.observes then return true end
   for k = i + 1, #path do
      if path[k].part.walks then return true end
   end
   return false
end

-- What another process came to with a step, or the right to make it.
local function begin_step(self, part, key)
   if part.walks then return self.disk:begin(key) end
end

--- Walk a setting's path as far as it is known by name, and make what is missing.
---@param setting table a quantization setting
---@param bits integer
---@param road table what the engine's road wants
---@return string digest of the quantized graph and of what its export depends on
---@return fun(): userdata make gives the graph, a copy of the trial's own
function States:walk_setting(setting, bits, road)
   local path, common = path_of(setting, bits)
   local digests = {}
   local function step_key(i) return core.system.sha1(("%s\n%s\n%s\n%s"):format(digests[i - 1], path[i].part.last, common, path[i].text)) end
   digests[0] = root_digest(self, common, road)
   for i = 1, #path do
      local key = step_key(i)
      local known = self.known[key]
      if type(known) == "table" then error(known.error, 0) end
      if known then
         digests[i] = known
      else
         local elsewhere, lock <close> = begin_step(self, path[i].part, key)
         if elsewhere then
            digests[i] = elsewhere
         else
            local begun = core.system.clock()
            local done, result = pcall(graph_at, self, path, digests, common, road, i)
            if not done then
               if not stops_search(result) then self.known[key] = { error = result } end
               error(result, 0)
            end
            if lock then self.disk:finish(key, digests[i], leads_on(path, i) and result or nil, core.system.clock() - begun) end
         end
         self.known[key] = digests[i]
      end
   end
   local last = #path
   return core.system.sha1(digests[last] .. "\n" .. common), function() return graph_at(self, path, digests, common, road, last):copy() end
end

return states
