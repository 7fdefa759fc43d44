--- What a quantized model costs on a chip: products, bytes, planned memory, and an estimate of time.
local core = require "espq.core"
local check = require "espq.check"

local cost = {}

--- 1536 → "1.5 KB"; units of 1024, as the runtime's tables have them.
function cost.bytes(count)
   if count < 1024 then return ("%d B"):format(count) end
   if count < 1024 * 1024 then return ("%.1f KB"):format(count / 1024) end
   return ("%.2f MB"):format(count / (1024 * 1024))
end

--- 300774272 → "300.8 million".
function cost.count(count)
   if count < 1e4 then return ("%d"):format(count) end
   if count < 1e6 then return ("%.1f thousand"):format(count / 1e3) end
   return ("%.1f million"):format(count / 1e6)
end

local function milliseconds(ms) return ms >= 100 and ("%.0f"):format(ms) or ms >= 1 and ("%.1f"):format(ms) or ("%.3f"):format(ms) end
cost.milliseconds = milliseconds

-- The engine to look at, the target it is for, and whether its nodes must be put in order first.
local function open(options)
   if options.path then
      local engine, target, sure, why = core.chip.load(options.path, { target = options.target, model = options.model })
      return engine, options.target or target, false, sure, why
   end
   local about = core.graph.about(options.graph)
   if not about.quantized then check.fail("cost: the graph is not quantized", nil, "espq.quantize_graph{ graph = … } first") end
   local target = options.target or about.target
   local engine = core.chip.lower(options.graph, {
      target = about.target, setting = require("espq.setting").engine(about.setting), int16_lut_step = about.int16_lut_step, raw = true,
   })
   return engine, target, true, true, "the graph says so"
end

local columns = {
   { key = "name", title = "node" }, { key = "type" }, { key = "macs", title = "MACs" }, { key = "parameters" }, { key = "again", title = "read again" },
   { key = "moved" }, { key = "ms", title = "ms (estimate)" }, { key = "share", title = "%" },
}

local function text_of(rows)
   local shown = {}
   for i, row in ipairs(rows) do
      shown[i] = {
         name = row.name, type = row.type, macs = row.macs > 0 and row.macs or nil,
         parameters = row.parameter_bytes > 0 and cost.bytes(row.parameter_bytes) or nil,
         again = row.refetched_bytes > 0 and cost.bytes(row.refetched_bytes) or nil, moved = row.moved_bytes > 0 and cost.bytes(row.moved_bytes) or nil,
         ms = row.us and milliseconds(row.us / 1000) or nil,
         share = row.us and rows.ms > 0 and ("%.1f"):format(100 * row.us / 1000 / rows.ms) or nil,
      }
   end
   return require("espq.report").table(shown, columns)
end

local plain = { "name", "type", "macs", "parameter_bytes", "refetched_bytes", "moved_bytes", "unaligned", "us" }

--- The cost of a device graph that was lowered just now; no rows to print.
function cost.lowered(engine, target) return core.espdl.cost(engine, target, 0, true) end

--- Cost of every node, in the order of execution, with the sums as fields: macs, parameter_bytes, moved_bytes, refetched_bytes, ms (nil where no
--- figures are published for the chip), memory = { variable =, internal =, live =, tensors = {…} }, target, about.
---@param options { path: string, graph: userdata, target: string, model: string, max_internal_size: integer }
function cost.estimate(options)
   options = check.fields("cost", options, { path = "string", graph = "userdata", target = "string", model = "string", max_internal_size = "integer" })
   if (options.path == nil) == (options.graph == nil) then check.fail("cost: give graph or path, one of them") end
   local engine, target, sorted, sure, why = open(options)
   local found = core.espdl.cost(engine, target, options.max_internal_size, sorted)
   local list = found.nodes
   found.nodes = nil
   for name, value in pairs(found) do list[name] = value end
   list.sure, list.why = sure, why
   local keys = {}
   for i, key in ipairs(plain) do keys[i] = { key = key } end
   return require("espq.report").rows(list, keys, text_of(list))
end

--- The sums in words, a list of { what, value, remark }.
function cost.summary(rows)
   local memory = rows.memory
   local list = {
      { "multiply-accumulates", cost.count(rows.macs) },
      { "parameters", cost.bytes(rows.parameter_bytes), "in flash, and copied to PSRAM when the model is loaded (param_copy)" },
      { "activations", cost.bytes(memory.variable), ("planned by the greedy manager%s; the most that is alive at once is %s%s"):format(
         memory.internal > 0 and (" in PSRAM, beside %s internal"):format(cost.bytes(memory.internal)) or "", cost.bytes(memory.live),
         memory.live_node and ", at " .. memory.live_node or "") },
      { "moved", cost.bytes(rows.moved_bytes), "activations read and written" },
   }
   if rows.refetched_bytes > 0 then
      list[#list + 1] = { "read again", cost.bytes(rows.refetched_bytes), "weights larger than the cache, fetched anew for each output pixel" }
   end
   list[#list + 1] = { "time", rows.ms and milliseconds(rows.ms) .. " ms" or "–", rows.ms and "estimate" or nil }
   return list
end

--- The sums in one line, for reports.
function cost.line(rows)
   return ("%s multiply-accumulates, %s parameters, %s activations%s"):format(cost.count(rows.macs), cost.bytes(rows.parameter_bytes),
      cost.bytes(rows.memory.variable + rows.memory.internal), rows.ms and (", about %s ms (estimate)"):format(milliseconds(rows.ms)) or "")
end

--- Estimated and published latencies of models in a folder: rows model, input, target, published, estimate, error (percent).
---@param folder string that holds espdl/
function cost.published(folder)
   local rows = {}
   for _, known in ipairs(core.espdl.published()) do
      local path = folder .. "/" .. known.file
      if core.base.exists(path) then
         local found = cost.estimate { path = path, target = known.target }
         rows[#rows + 1] = { model = known.model, input = known.input, target = known.target, published = known.ms, estimate = found.ms,
                             error = 100 * (found.ms / known.ms - 1) }
      end
   end
   if #rows == 0 then check.fail("none of the models with published latencies is there", folder, "give the folder that holds espdl/") end
   return require("espq.report").rows(rows, {
      { key = "model" }, { key = "input" }, { key = "target" }, { key = "published", title = "published ms", format = "%.1f" },
      { key = "estimate", title = "estimate ms", format = "%.1f" }, { key = "error", title = "error %", format = "%+.0f" },
   })
end

return cost
