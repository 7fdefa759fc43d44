--- What the chip makes of a quantized graph that the simulation does not show: espq.analyse's compare, headroom, device and resolution.
local core = require "espq.core"
local check = require "espq.check"
local data = require "espq.data"
local report = require "espq.report"

local chip = {}

local function quantized(what, graph)
   local about = core.graph.about(graph)
   if not about.quantized then check.fail(what .. ": the graph is not quantized", nil, "espq.quantize_graph{ graph = … } first") end
   return about
end

local function percent(share) return ("%.3f%%"):format(100 * share) end
local function steps(number) return number == math.floor(number) and ("%.0f"):format(number) or ("%.3g"):format(number) end

-- ---- compare ----

local compare_fields = {
   graph = "any!", with = "string", dataloader = "any!", steps = "integer", samples = "integer", headroom = "boolean", collate_fn = "function",
   version = "string", mended = "boolean", traits = "table",
}

local compare_columns = {
   { key = "node" }, { key = "type" }, { key = "alone", format = percent }, { key = "alone_largest", title = "largest", format = steps },
   { key = "differ", title = "end to end", format = percent }, { key = "largest", format = steps }, { key = "mean", format = "%.4g" }, { key = "bits" },
   { key = "cause" },
}

local headroom_columns = {
   { key = "sum_largest", title = "largest sum", format = steps },
   { key = "sum_limit", title = "limit", format = steps }, { key = "saturated", format = percent },
}

-- The engine's rows for a graph that was quantized in this process.
function chip.rows(graph, walk, options)
   local about = core.graph.about(graph)
   local exact = about.exact
   if exact == nil then exact = true end
   return core.compare.compare(graph, walk, {
      setting = require("espq.setting").engine(about.setting), target = about.target, int16_lut_step = about.int16_lut_step, exact = exact,
      batches = options.batches, samples = options.samples, headroom = options.headroom, alone = options.alone, version = options.version,
      mended = options.mended, traits = options.traits,
   })
end

-- The first row where the chip differs by itself.
function chip.first_parting(rows)
   for i, row in ipairs(rows) do
      if (row.alone or 0) > 0 then return i, row end
   end
end

local function compare_text(rows, samples, columns)
   local _, first = chip.first_parting(rows)
   local line
   if first then
      line = ("First to part: %s %s, %s of its elements, at most %s %s%s"):format(first.type, first.node, percent(first.alone),
         steps(first.alone_largest), first.step > 0 and "steps" or "in value", first.cause and ": " .. first.cause or "")
   else
      line = "No node differs from its simulation."
   end
   return ("%s\n%s\nshares of elements that differ over %d samples, in steps of the tensor: alone = the node on the chip's own inputs.")
      :format(report.table(rows, columns), line, samples)
end

--- Where fake-quantized simulation and the chip's integers part, a row a tensor in the order of the chip: how often they differ and by how many
--- steps, for the node alone (on the chip's own inputs) and end to end. `rows.first` is the first row that differs by itself, or nil.
---@param options { graph: userdata, dataloader: any, with: string?, steps: integer?, samples: integer?, headroom: boolean?, mended: boolean? }
function chip.compare(options)
   check.fields("analyse.compare", options, compare_fields)
   check.word("analyse.compare: with", options.with or "integer", { "integer" })
   quantized("analyse.compare", options.graph)
   local walk = data.walk("analyse.compare", options.dataloader, options.graph, { collate_fn = options.collate_fn })
   local rows, samples = chip.rows(options.graph, walk, {
      batches = options.steps or 8, samples = options.samples, headroom = options.headroom, version = options.version, mended = options.mended,
      traits = options.traits,
   })
   local columns = table.move(compare_columns, 1, #compare_columns, 1, {})
   if options.headroom then table.move(headroom_columns, 1, #headroom_columns, #columns, columns) end
   if options.headroom then columns[#columns + 1] = compare_columns[#compare_columns] end
   local _, first = chip.first_parting(rows)
   local made = report.rows(rows, columns, compare_text(rows, samples, columns))
   rawset(made, "first", first)
   rawset(made, "samples", samples)
   return made
end

-- ---- head-room of accumulators ----

local headroom_fields = {
   graph = "any!", dataloader = "any!", steps = "integer", collate_fn = "function", version = "string", mended = "boolean", traits = "table",
}

--- The accumulators on this data, a row a node with products: the largest sum on the way, the limit, the bits left, the share of outputs of which a sum
--- left the accumulator (it clips there), and the share cut to the range of the result. Slow on chips whose lanes saturate.
---@param options { graph: userdata, dataloader: any, steps: integer? }
function chip.headroom(options)
   check.fields("analyse.headroom", options, headroom_fields)
   quantized("analyse.headroom", options.graph)
   local run = require("espq.chip").graph(options.graph,
                                          { mode = "integer", version = options.version, mended = options.mended, traits = options.traits })
   run:headroom()
   local walk = data.walk("analyse.headroom", options.dataloader, options.graph, { collate_fn = options.collate_fn, limit = options.steps or 8 })
   local any = false
   for batch in walk() do
      run(batch)
      any = true
   end
   if not any then check.fail("analyse.headroom: the loader gives no batch") end
   local rows = {}
   for i, row in ipairs(run:headroom()) do
      rows[i] = { node = row.node, type = row.type, largest = row.largest, limit = row.limit, count = row.count,
                  bits_left = row.largest > 0 and math.log(row.limit / row.largest, 2) or math.huge,
                  saturated = row.saturated / row.count, clipped = row.clipped / row.count }
   end
   return report.rows(rows, {
      { key = "node" }, { key = "type" }, { key = "largest", title = "largest sum", format = steps }, { key = "limit", format = steps },
      { key = "bits_left", title = "bits left", format = "%.1f" },
      { key = "saturated", format = percent }, { key = "clipped", format = percent }, { key = "count", title = "outputs" },
   }, #rows == 0 and "no sums of products" or nil)
end

-- ---- the graph on the chip, without data ----

local function lowered(graph)
   local about = core.graph.about(graph)
   return core.chip.lower(graph, { target = about.target, setting = require("espq.setting").engine(about.setting), int16_lut_step = about.int16_lut_step })
end

local function device_finding(row)
   if row.shift and row.shift < 0 then return ("a shift of %d: the output is finer than the products, which the chip cannot do (C4)"):format(row.shift) end
   if row.computes == "floats" then return "float on the chip: slow, four bytes an element" end
   if (row.table_largest or 0) >= 1 then
      return ("its table of %d entries is off by up to %s steps, %.3g on average; int16_lut_step makes it finer"):format(row.entries,
         steps(row.table_largest), row.table_mean)
   end
   if row.computes == "floats inside" then return "integers in and out, computed in floats between" end
end

--- What each node of the graph does on the chip, without data: where it computes (integers, floats inside, floats), the smallest shift of its products,
--- its table and, at 16 bits, the table's error in steps over all integers.
---@param options { graph: userdata }
function chip.device(options)
   check.fields("analyse.device", options, { graph = "any!" })
   quantized("analyse.device", options.graph)
   local rows = core.compare.device(lowered(options.graph), options.graph)
   for _, row in ipairs(rows) do row.finding = device_finding(row) end
   return report.rows(rows, {
      { key = "node" }, { key = "type" }, { key = "width" }, { key = "computes" }, { key = "shift" }, { key = "entries", title = "table" },
      { key = "table_largest", title = "error" }, { key = "table_mean", title = "mean", format = "%.3g" }, { key = "finding" },
   })
end

-- ---- resolution of outputs ----

local MOST_KEPT = 4096            -- values of an output that are kept of a batch
local FEW_LEVELS, MUCH_CLIPPED = 16, 0.001

local resolution_fields = { graph = "any!", dataloader = "any!", steps = "integer", bands = "table", units = "table", collate_fn = "function" }

local function thinned(flat)
   local count = flat.size
   if count <= MOST_KEPT then return flat end
   return flat:slice { axis = 0, start = 0, stop = count, step = math.ceil(count / MOST_KEPT) }
end

local function quantile(sorted, share) return sorted:get(math.floor(share * (sorted.size - 1) + 0.5)) end

-- What is looked at: one of the entries wins (rows of scores), or a number is read.
local function is_choice(shape)
   local entries = 1
   for i = 2, #shape do entries = entries * shape[i] end
   return #shape >= 2 and shape[#shape] == entries and entries > 1 and entries
end

local function lead(rows)                 -- of the best entry before the second, a sample
   local best = rows:topk(2)
   return best:select(1, 0) - best:select(1, 1)
end

local Seen = {}
Seen.__index = Seen

local function new_seen() return setmetatable({ values = {}, leads = {}, ties = 0, samples = 0, elements = 0, clipped = 0, reach = 0 }, Seen) end

function Seen:add(float, integer, step, limit)
   local flat = float:flatten()
   self.values[#self.values + 1] = thinned(flat)
   local entries = is_choice(float.shape)
   if entries and not self.band then
      local rows = float:view { -1, entries }
      self.leads[#self.leads + 1] = lead(rows)
      self.ties = self.ties + lead(integer:view { -1, entries }):eq(0):to("float32"):sum():item()
      self.samples = self.samples + rows.shape[1]
   end
   if step == 0 then return end
   local outside = flat:abs():gt((limit - 0.5) * step):to "float32"
   self.elements, self.clipped = self.elements + flat.size, self.clipped + outside:sum():item()
   self.reach = math.max(self.reach, integer:abs():max():item() / (limit * step))
end

local function joined(list)
   if #list == 1 then return list[1]:sort() end
   return core.tensor.cat(list):sort()
end

-- What of the numbers the decision hangs on, in the output's own numbers, and how that was found.
local function decision(seen)
   if seen.band then return seen.band[2] - seen.band[1], "band" end
   if #seen.leads > 0 then return quantile(joined(seen.leads), 0.1), "lead of the first" end
   local sorted = joined(seen.values)
   return quantile(sorted, 0.95) - quantile(sorted, 0.05), "5 to 95 %"
end

local function cure(row, about, writer)
   if row.step == 0 then return nil end
   local wide = ("16 bits for this layer: setting.dispatching_table:append(%q, espq.platform(%q, 16))"):format(writer, about.target)
   if row.clipped > MUCH_CLIPPED then return "values are clipped: a wider range (calibration 'minmax', or a higher percentile)" end
   if row.levels >= FEW_LEVELS then return nil end
   local spare = row.reach > 0 and math.floor(-math.log(row.reach, 2)) or 0
   if spare >= 1 then return ("the range is used to %.0f %%: an exponent lower by %d"):format(100 * row.reach, spare) end
   return row.bits == 8 and wide or "a narrower range of this output: the numbers decided on are small beside its largest"
end

local function unit_of(units, name)
   local unit = units and units[name] or {}
   return unit.scale or 1, unit.offset or 0, unit.name
end

local function writer_of(graph, name)
   for node in graph:nodes() do
      for _, output in ipairs(node.outputs) do
         if output.name == name then return node.name end
      end
   end
   return name
end

--- For each output: the step in the user's units, how many levels lie in what the decision hangs on, the share of values that are clipped, and the cure.
--- bands = { output = { low, high } } in the user's units says where it is decided; without it: the lead of the best entry before the second, exceeded
--- by nine of ten samples (outputs with one row of scores a sample), or the middle 90 % of the values. units = { output = { scale =, offset =, name = } }.
---@param options { graph: userdata, dataloader: any, steps: integer?, bands: table?, units: table? }
function chip.resolution(options)
   local what = "analyse.resolution"
   check.fields(what, options, resolution_fields)
   local graph, about = options.graph, quantized(what, options.graph)
   local executor = require "espq.executor"
   local float, integer = executor.make(graph, { mode = "float" }), executor.make(graph, { mode = "integer" })
   local ends, seen = {}, {}
   for i, name in ipairs(integer.names) do
      ends[i], seen[i] = core.chip.value(integer.engine, name), new_seen()
      local band, scale, offset = options.bands and options.bands[name], unit_of(options.units, name)
      if band then seen[i].band = { (band[1] - offset) / scale, (band[2] - offset) / scale } end
   end
   for _, given in ipairs { options.bands or {}, options.units or {} } do
      for _, name in ipairs(check.keys(given)) do check.word(what .. ": an output", name, integer.names) end
   end
   local walk = data.walk(what, options.dataloader, graph, { collate_fn = options.collate_fn, limit = options.steps or 8 })
   local any = false
   for batch in walk() do
      any = true
      local floats, integers = float(batch), integer(batch)
      for i, value in ipairs(ends) do
         local whole = value.dtype == "int8" or value.dtype == "int16"
         seen[i]:add(floats[i], integers[i], whole and 2.0 ^ value.exponent or 0, value.dtype == "int8" and 127 or 32767)
      end
   end
   if not any then check.fail(what .. ": the loader gives no batch") end
   local rows = {}
   for i, name in ipairs(integer.names) do
      local value, scale, _, unit = ends[i], unit_of(options.units, name)
      local whole = value.dtype == "int8" or value.dtype == "int16"
      local width, judged = decision(seen[i])
      local step = whole and 2.0 ^ value.exponent or 0
      local row = {
         output = name, bits = value.dtype == "int8" and 8 or whole and 16 or 32, step = step * math.abs(scale), unit = unit,
         band = math.abs(width * scale), judged = judged, levels = step > 0 and math.abs(width) / step or math.huge,
         clipped = seen[i].elements > 0 and seen[i].clipped / seen[i].elements or 0, reach = seen[i].reach,
         undecided = seen[i].samples > 0 and seen[i].ties / seen[i].samples or nil,
      }
      row.cure = cure(row, about, writer_of(graph, name))
      rows[i] = row
   end
   return report.rows(rows, {
      { key = "output" }, { key = "bits" }, { key = "step", format = "%.4g" }, { key = "unit" }, { key = "band", format = "%.4g" },
      { key = "judged", title = "judged by" },
      { key = "levels", format = "%.1f" }, { key = "clipped", format = percent }, { key = "undecided", format = percent }, { key = "cure" },
   })
end

-- ---- the report of a quantization ----

local REPORT_SAMPLES, REPORT_BATCHES, MANY_UNDECIDED, SOME_DIFFER = 1, 2, 0.5, 0.01
local MUCH_LOST, MANY_OTHER_FLOATS = 0.05, 0.1

-- More than what floats and 16 bits always do: a step now and then, where a float32 rounded a sum.
local function is_remarkable(row)
   if (row.alone or 0) == 0 then return false end
   if row.step == 0 then return row.alone >= MANY_OTHER_FLOATS or row.alone_largest == math.huge end
   return row.bits == 8 or row.alone >= SOME_DIFFER or row.alone_largest > 1
end

local function comparison_line(rows)
   local parting, first, most = 0, nil, nil
   for _, row in ipairs(rows) do
      if is_remarkable(row) then
         parting, first = parting + 1, first or row
         if not most or row.alone > most.alone then most = row end
      end
   end
   if not first then return nil end
   local function about(row) return ("%s %s (%s)"):format(row.type, row.node, row.cause or "rounding") end
   return ("the chip computes %d of %d tensors otherwise than the simulation, first %s%s: %s of the elements, by up to %s; "
      .. "analyse.compare shows all"):format(parting, #rows, about(first), most == first and "" or ", most " .. about(most), percent(most.alone),
                                             most.alone_largest == math.huge and "no number at all" or steps(most.alone_largest)
                                                .. (most.step > 0 and " steps" or ""))
end

local function resolution_line(row)
   if row.step == 0 then return nil end
   if row.clipped > MUCH_LOST then
      return ("output '%s': %s of the values are clipped; %s"):format(row.output, percent(row.clipped), row.cure)
   end
   if (row.undecided or 0) >= MANY_UNDECIDED then
      return ("output '%s': a step of %.4g is too coarse, the two best are equal in %s of the samples; %s"):format(row.output, row.step,
         percent(row.undecided), row.cure or "analyse.resolution shows more")
   end
   if not row.undecided and row.levels < FEW_LEVELS and row.cure then
      return ("output '%s': only %.1f steps of %.4g in the middle of its values; %s"):format(row.output, row.levels, row.step, row.cure)
   end
end

--- What a user should hear of the chip after quantizing, on few samples so that it costs next to nothing: lines, and the tables they come from.
function chip.report(graph, loader, collate_fn, memory)
   local found = { lines = {} }
   local function say(line) found.lines[#found.lines + 1] = line end
   found.device = chip.device { graph = graph }
   for _, row in ipairs(found.device) do
      if (row.shift or 0) < 0 or (row.table_largest or 0) >= 1 then say(("%s %s: %s"):format(row.type, row.node, row.finding)) end
   end
   if not loader then return found end
   local walk = data.walk("quantize", loader, graph, { collate_fn = collate_fn, memory = memory })
   found.compare = chip.rows(graph, walk, { batches = 1, samples = REPORT_SAMPLES, alone = true })
   say(comparison_line(found.compare))
   found.resolution = chip.resolution { graph = graph, dataloader = loader, steps = REPORT_BATCHES, collate_fn = collate_fn }
   for _, row in ipairs(found.resolution) do say(resolution_line(row)) end
   return found
end

return chip
