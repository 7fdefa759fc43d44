--- What each layer's quantization costs at the outputs, and what would mend it: espq.analyse.sensitivity.
local core = require "espq.core"
local check = require "espq.check"
local report = require "espq.report"

local FEW_SAMPLES = 8            -- below it, ranges are chance
local OUTLIER = 8                -- a channel that reaches so many times as far as the middle one takes three bits from it
local UNEVEN = 4                 -- branches of a Concat: two bits
local CLIPPED = 2                -- values reach so many times beyond the range: clipping of tails, as kl does it, is not meant
local COSTLY, MOST_COSTLY = 0.05, 8          -- share of the sum that is worth a word, and how many layers get one

local sensitivity = {}

-- ---- what is looked at ----

local Peaks = {}
Peaks.__index = Peaks

-- Channels lie behind the samples, those of a MatMul's tensors last.
local function peak_of(x, last)
   local rank = #x.shape
   if last and rank > 2 then return x:abs():reshape { -1, x.shape[rank] }:max { axis = 0 } end
   local channels = rank >= 2 and x.shape[2] or 1
   return x:abs():reshape { x.shape[1] or 1, channels, -1 }:max { axis = 2 }:max { axis = 0 }
end

-- Largest |x| of each channel of the tensors named, in float, over the batches.
local function collect(graph, names, walk, most, exact)
   local peaks = setmetatable({ samples = 0, of = {} }, Peaks)
   local run = require("espq.executor").make(graph, { mode = "float", exact = exact })
   for _, name in ipairs(names) do
      run:watch(name, function(x)
         local rows = peak_of(x, names[name] == "last")
         peaks.of[name] = peaks.of[name] and peaks.of[name]:maximum(rows) or rows
      end)
   end
   local next_batch = walk()
   for _ = 1, most do
      local batch = next_batch()
      if not batch then break end
      peaks.samples = peaks.samples + batch[1].shape[1]
      run(batch)
   end
   return peaks
end

-- Largest, middle, and which one is the largest (counted from 0).
local function spread(list)
   local sorted, place = {}, 1
   for i, value in ipairs(list) do
      sorted[i] = value
      if value > list[place] then place = i end
   end
   table.sort(sorted)
   return sorted[#sorted], sorted[(#sorted + 1) // 2], place - 1
end

local function flat(tensor) return tensor:flatten():tolist() end

-- ---- words ----

-- A layer's own output end is off where an activation takes its place.
local function output_end(node)
   local config = node.output_config[1]
   for _ = 1, 2 do
      local readers = node.outputs[1].consumers
      if config.quantizes or #readers ~= 1 or not readers[1].quantized then break end
      node = readers[1]
      config = node.output_config[1]
   end
   return config, node.outputs[1].name
end

local function dead(peaks, node)
   local _, name = output_end(node)
   local seen = peaks.of[name]
   if seen and seen.size > 0 and seen:max():item() == 0 then
      return "its output is always zero: remove it, or give calibration data that reach it"
   end
end

local function outlier(list, per_channel)
   if per_channel or #list < 2 then return nil end
   local largest, middle, place = spread(list)
   if largest > OUTLIER * middle and middle > 0 then return place, largest / middle end
end

local cure = "setting.equalization (opt_level 2), setting.channel_split or setting.recover would even it out"
local cure_of_product = "16 bits in setting.dispatching_table, or setting.recover; equalization does not reach a MatMul"

-- A layer is judged with the quantization of what it reads, too.
local function outlier_activation(_, peaks, node)
   for _, side in ipairs { "input", "output" } do
      local value, config = node[side .. "s"][1], node[side .. "_config"][1]
      local list = value and peaks.of[value.name]
      if list then
         local place, times = outlier(flat(list), config.per_channel)
         if place then
            return ("channel %d of its %s reaches %.0f times as far as the middle one: %s"):format(place, side, times,
               node.type == "MatMul" and cure_of_product or cure)
         end
      end
   end
end

local function outlier_weight(_, _, node)
   local value = node.inputs[2]
   local weight, config = value and value.value, node.input_config[2]
   if not weight or not config.is_parameter or #weight.shape < 2 or (node.type ~= "Conv" and node.type ~= "Gemm") then return nil end
   local rows = weight:abs():reshape { weight.shape[1], -1 }:max { axis = 1 }
   local place, times = outlier(flat(rows), config.per_channel)
   if place then return ("weights of row %d reach %.0f times as far as the middle one's: %s"):format(place, times, cure) end
end

local function uneven_concat(concats, peaks, node)
   for _, concat in ipairs(concats[node.name] or {}) do
      local least, most
      for _, input in ipairs(concat.inputs) do
         local list = peaks.of[input.name]
         local reach = list and spread(flat(list)) or 0
         if reach > 0 then least, most = math.min(least or reach, reach), math.max(most or reach, reach) end
      end
      if least and most > UNEVEN * least then
         return ("branches of %s reach %.3g and %.3g, and share one exponent: setting.recover, or 16 bits for it in setting.dispatching_table"):format(
            concat.name, least, most)
      end
   end
end

local function clipped(_, peaks, node)
   local config, name = output_end(node)
   local seen = peaks.of[name]
   if not seen or not config.quantizes or type(config.exponent) ~= "number" then return nil end
   local reach, most = seen:max():item(), (config.maximum + 1) * 2.0 ^ config.exponent
   if reach > CLIPPED * most then
      return ("its output reaches %.3g, its range ends at %.3g: more calibration data, or calib_algorithm minmax or percentile"):format(reach, most)
   end
end

local function costly(_, _, node)
   local bits = node.output_config[1].bits
   if bits and bits < 16 then return "16 bits in setting.dispatching_table, or setting.recover" end
end

-- The first that has something to say.
local causes = { outlier_activation, outlier_weight, uneven_concat, clipped, costly }

-- ---- the table ----

-- Concats by the layers that feed them, straight or through what only moves or bends numbers.
local function concats_of(graph)
   local found = {}
   for concat in graph:nodes() do
      if concat.type == "Concat" then
         for _, input in ipairs(concat.inputs) do
            local node, depth = input.producer, 0
            while node and depth < 4 do
               found[node.name] = found[node.name] or {}
               table.insert(found[node.name], concat)
               local before = node.inputs[1]
               node, depth = #node.inputs == 1 and before and before.producer or nil, depth + 1
            end
         end
      end
   end
   return found
end

local function names_of(all, dear, concats)
   local names = {}          -- and by name where the channels lie
   local function add(value, node)
      if value and value.producer and not names[value.name] and (value.dtype or "float32") == "float32" then
         names[value.name] = node and node.type == "MatMul" and "last" or "second"
         names[#names + 1] = value.name
      end
   end
   for _, node in ipairs(all) do
      local _, name = output_end(node)
      add(node.graph:tensor(name), node)
   end
   for _, node in ipairs(dear) do
      add(node.inputs[1], node)
      add(node.outputs[1], node)
      for _, concat in ipairs(concats[node.name] or {}) do
         for _, input in ipairs(concat.inputs) do add(input) end
      end
   end
   return names
end

local columns = {
   { key = "name" }, { key = "type" }, { key = "noise", format = "%.3g" },
   { key = "share", format = function(share) return ("%.1f%%"):format(100 * share) end },
   { key = "mark", title = "" }, { key = "advice" },
}

--- Rows from the dearest layer to the cheapest. `walk` gives batches, `judge` is what analyse's layerwise takes.
function sensitivity.rows(graph, walk, judge)
   local list, sum = {}, 0
   for i, row in ipairs((core.analyse.layerwise(graph, walk, judge))) do
      list[i] = { name = row.name, type = row.type, noise = row[judge.method], place = i }
      sum = sum + math.abs(row[judge.method])
   end
   table.sort(list, function(a, b) return a.noise > b.noise or a.noise == b.noise and a.place < b.place end)
   local nodes, dear, concats = {}, {}, concats_of(graph)
   for i, row in ipairs(list) do
      row.place = nil
      row.share = sum > 0 and row.noise / sum or 0
      row.costly = i <= MOST_COSTLY and row.share >= COSTLY
      row.mark = row.costly and "<" or nil
      nodes[i] = graph:node(row.name)
      if row.costly then dear[#dear + 1] = nodes[i] end
   end
   local peaks = collect(graph, names_of(nodes, dear, concats), walk, judge.steps + 1, judge.exact)
   for i, row in ipairs(list) do
      row.advice = dead(peaks, nodes[i])
      for _, cause in ipairs(causes) do
         if row.costly then row.advice = row.advice or cause(concats, peaks, nodes[i]) end
      end
   end
   return list, peaks.samples
end

--- The dearest layers are marked, with the setting that would mend them.
function sensitivity.run(graph, walk, judge)
   local rows, samples = sensitivity.rows(graph, walk, judge)
   if #rows == 0 then return report.rows(rows, columns, "nothing can be measured: no quantized computing node") end
   local text = report.table(rows, columns)
   if samples < FEW_SAMPLES then
      text = text .. ("\n\nOnly %d sample%s: give 32 or more, ranges of so few are chance."):format(samples, samples == 1 and "" or "s")
   end
   local list = report.rows(rows, columns, text)
   rawset(list, "samples", samples)
   return list
end

return check.module("analyse_sensitivity", sensitivity)
