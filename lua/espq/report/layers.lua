--- How far each layer of a model file is from the float model: the file runs in the chip's integers, the ONNX file in float, on the same inputs.
local core = require "espq.core"
local json = require "espq.json"

local layers = {}

local RESCALED = 4               -- a layer whose error falls by this factor when each channel may have its scale is one that was equalized
local WATCHED = 200
local FEWEST = 4                 -- numbers a channel that such a scale is taken from

-- Files store pictures and signals channels-last. Gives the ways in which a tensor of the float model can lie in the file.
local function arrangements(tensor, shape)
   local wanted, list = table.concat(shape, ","), {}
   local turns = { [3] = { 0, 2, 1 }, [4] = { 0, 2, 3, 1 }, [5] = { 0, 2, 3, 4, 1 } }
   if table.concat(tensor.shape, ",") == wanted then list[1] = tensor end
   local turn = turns[tensor.ndim]
   if turn then
      local turned = tensor:permute(turn)
      if table.concat(turned.shape, ",") == wanted then list[#list + 1] = turned end
   end
   return list
end

-- Products of what was seen and what float has, summed for each channel, for each way of arranging the float tensor.
local function add_products(sums, seen, float)
   for i, wanted in ipairs(arrangements(float, seen.shape)) do
      local channels = seen.ndim > 1 and seen.shape[seen.ndim] or 1
      local a, b = seen:to("float64"):view(-1, channels), wanted:to("float64"):reshape { -1, channels }
      local found = { (a * a):sum(0), (a * b):sum(0), (b * b):sum(0) }
      local way = sums[i]
      if way then
         for k = 1, 3 do way[k] = way[k] + found[k] end
         way.count = way.count + #a
      else
         found.count = #a
         sums[i] = found
      end
   end
end

-- Noise over signal. Equalization gives each channel between two layers a scale of its own, which the next layer undoes: with `rescaled` the best
-- scale of each channel is undone first. In sums: |a - b|² = aa - 2 ab + bb; with a / s for a, and s = ab / bb: bb (aa bb / ab² - 1).
local function ratio_of(way, rescaled)
   local aa, ab, bb = way[1]:tolist(), way[2]:tolist(), way[3]:tolist()
   local noise, power = 0.0, 1e-7
   for c = 1, #aa do
      if rescaled and ab[c] > 0 then
         noise = noise + math.max(0, bb[c] * (aa[c] * bb[c] / ab[c] ^ 2 - 1))
      else
         noise = noise + math.max(0, aa[c] - 2 * ab[c] + bb[c])
      end
      power = power + bb[c]
   end
   return noise / power
end

-- A shape that fits in two ways: the wrong one is far off.
local function error_of(sums)
   local least, rescaled
   for _, way in ipairs(sums) do
      local plain, scaled = ratio_of(way, false), ratio_of(way, true)
      local undone = way.count >= FEWEST and plain > RESCALED * scaled
      local ratio = undone and scaled or plain
      if not least or ratio < least then least, rescaled = ratio, undone end
   end
   return least, rescaled
end

local function sample_of(inputs, i)
   local sample = {}
   for name, tensor in pairs(inputs) do sample[name] = tensor:slice { axis = 0, start = i, stop = i + 1 } end
   return sample
end

-- A file whose layers are looked at: `see` runs it on one sample, beside the values that float has for it.
local function judge_of(path, target)
   local model, judge = require("espq.chip").load(path, { target = target }), { rows = {}, names = {} }
   model.told = true                                     -- that inputs are turned is no news here
   local facts = core.espdl.table(core.espdl.load(path))
   local exponent_of, sums, float = {}, {}, nil
   for _, list in ipairs { facts.values, facts.outputs } do
      for _, value in ipairs(list) do
         local exponents = value.exponents
         if exponents and #exponents == 1 and value.dtype:find "^INT" then exponent_of[value.name] = exponents[1] end
      end
   end
   for _, node in ipairs(facts.nodes) do
      local name = node.outputs[1]
      if exponent_of[name] and not sums[name] then
         sums[name] = {}
         judge.names[#judge.names + 1] = name
         judge.rows[#judge.rows + 1] = { name = node.name, type = node.type, tensor = name }
         model:watch(name, function(seen, _, undefined)
            if undefined or not float[name] then return end
            add_products(sums[name], seen:to "float32" * 2.0 ^ exponent_of[name], float[name])
         end)
      end
   end
   function judge.see(sample, values)
      float = values
      model(sample)
   end
   function judge.errors()
      local list = {}
      for _, row in ipairs(judge.rows) do
         row.snr, row.rescaled = error_of(sums[row.tensor])
         if row.snr then list[#list + 1] = row end
      end
      return list
   end
   return judge
end

-- A function that gives the tensors of the float model by name, for one sample: those that the judges ask for. An executor watches 256 at most, so
-- there are as many as it takes.
local function float_model(graph, judges)
   local known, wanted, values, runs = {}, {}, nil, {}
   for node in graph:nodes() do
      for _, output in ipairs(node.outputs) do
         if output then known[output.name] = true end
      end
   end
   for _, judge in ipairs(judges) do
      for _, name in ipairs(judge.names) do
         if known[name] then wanted[#wanted + 1] = name end
         known[name] = nil
      end
   end
   for i, name in ipairs(wanted) do
      if (i - 1) % WATCHED == 0 then runs[#runs + 1] = require("espq.executor").make(graph, { mode = "float" }) end
      runs[#runs]:watch(name, function(seen) values[name] = seen end)
   end
   return function(sample)
      values = {}
      for _, run in ipairs(runs) do run(sample) end
      return values
   end
end

-- The inputs that the search kept, or a file of the user's: .npz with the names of the inputs, or .npy for the one input.
local function read_inputs(path, graph, most)
   local espq, inputs = require "espq", {}
   local arrays = path:lower():find "%.npz$" and espq.from_npz(path) or nil
   for i, value in ipairs(graph.inputs) do
      local tensor
      if arrays then
         tensor = arrays[value.name] or (#graph.inputs == 1 and arrays.x)
         if not tensor then return nil, ("%s has no array '%s'"):format(path, value.name) end
      elseif i == 1 then
         tensor = espq.from_npy(path)
      else
         return nil, ("the model has %d inputs, %s holds one"):format(#graph.inputs, path)
      end
      inputs[value.name] = tensor:slice { axis = 0, start = 0, stop = math.min(most, tensor.shape[1]) }
   end
   return inputs
end

local function with_batch(shape)
   if type(shape) ~= "table" or shape == json.null or type(shape[1]) == "table" then return nil end
   return table.move(shape, 1, #shape, 2, { 1 })
end

--- Errors of the layers (noise power over signal power) of some files of one model.
---@param runtime table what the search was called with
---@param models string[] paths
---@param inputs_path string
---@return table[][]? rows of each: name, type, tensor, snr, rescaled (by equalization, which was undone)
---@return string|integer why_not_or_count
function layers.errors(runtime, models, inputs_path, most)
   local onnx = runtime.onnx_import_file
   if type(onnx) ~= "string" then return nil, "it is not known which ONNX file was searched for (no config.json in the trials' folders)" end
   if not core.base.exists(onnx) then return nil, ("%s is not there: run the report from the folder in which the search ran"):format(onnx) end
   local done, result, count = pcall(function()
      local graph = require("espq.graph").load_onnx(onnx, { input_shape = with_batch(runtime.input_shape) })
      local inputs, why = read_inputs(inputs_path, graph, most)
      if not inputs then return nil, why end
      local judges = {}
      for i, path in ipairs(models) do judges[i] = judge_of(path, runtime.target) end
      local float, _, first = float_model(graph, judges), next(inputs)
      for i = 1, first.shape[1] do                       -- sample by sample: the values of all would not fit into memory
         local sample = sample_of(inputs, i - 1)
         local values = float(sample)
         for _, judge in ipairs(judges) do judge.see(sample, values) end
      end
      local lists = {}
      for i, judge in ipairs(judges) do lists[i] = judge.errors() end
      return lists, first.shape[1]
   end)
   if not done then
      if core.error.is_error(result) and result.code == "interrupted" then error(result, 0) end
      return nil, tostring(result)
   end
   return result, count
end

return layers
