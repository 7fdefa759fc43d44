--- espq check: the rehearsal, without data.
local core = require "espq.core"
local options = require "espq.cli.options"

local spec = {
   { "--target", value = "T", help = "esp32p4 unless said otherwise" },
   { "--bits", value = "N", help = "8 or 16" },
   { "--input-shape", value = "SIZES", help = "1,3,224,224 or a=1,3;b=1,10" },
   { "--outputs", value = "A,B", help = "cut the model at these tensors first" },
   { "--json", help = "as JSON" },
}

local function end_text(value) return ("%s %s [%s]"):format(value.name, value.dtype or "?", table.concat(value.shape or {}, ", ")) end

local function survey(graph)
   local types, floats, cost = {}, {}, { parameters = 0 }
   for node in graph:nodes() do
      local entry = types[node.type] or { type = node.type, count = 0, quantized = 0 }
      types[node.type] = entry
      entry.count = entry.count + 1
      if node.quantized then
         entry.quantized = entry.quantized + 1
      elseif node.type ~= "Constant" then
         floats[#floats + 1] = { name = node.name, type = node.type }
      end
      for _, input in ipairs(node.inputs) do
         if input and input.is_parameter then
            local count = 1
            for _, size in ipairs(input.shape or {}) do count = count * size end
            cost.parameters = cost.parameters + count
         end
      end
   end
   local list = {}
   for _, entry in pairs(types) do list[#list + 1] = entry end
   table.sort(list, function(a, b) return a.type < b.type end)
   return list, floats, cost
end

-- What the model would cost on the chip. Exponents do not matter for that, so random numbers stand for the data; a model that cannot be
-- lowered has no cost yet, and the export will say why.
local function rehearse(call, setting)
   local data, quantize = require "espq.data", require "espq.quantize"
   local talk = core.base.verbose()
   core.base.verbose(0)
   local done, result = pcall(function()
      local road = quantize.road_options(call, setting)
      local graph = quantize.load(call, road)
      road.walk = data.walk("check", data.random(graph, 1, 0), graph, { limit = 1 })
      core.road.quantize(graph, road)
      return require("espq.cost").lowered(core.chip.lower(graph, {
         target = road.target, setting = require("espq.setting").engine(setting), raw = true }), road.target)
   end)
   core.base.verbose(talk)
   if not done and core.error.is_error(result) and result.code == "interrupted" then error(result, 0) end
   return done and result or nil
end

return function(arguments)
   local words, given = options.parse({ usage = "check M.onnx [--target T] [--bits 8]",
         help = "what would happen: operators, shapes, what stays float; no data needed",
                                        words = 1 }, spec, arguments)
   if not words then return 0 end
   local quantize = require "espq.quantize"
   local target, bits = options.target(given)
   local call = {
      onnx_import_file = words[1], target = target, num_of_bits = bits,
      input_shape = given.input_shape and options.shape("--input-shape", given.input_shape), outputs = given.outputs and options.names(given.outputs),
   }
   local road = quantize.road_options(call, require("espq.setting").espdl())
   local graph = quantize.load(call, road)
   local inputs, outputs = {}, {}
   for i, value in ipairs(graph.inputs) do inputs[i] = end_text(value) end
   for i, value in ipairs(graph.outputs) do outputs[i] = end_text(value) end
   local price = rehearse(call, require("espq.setting").espdl())
   road.after = "slots"
   core.road.quantize(graph, road)
   local types, floats, cost = survey(graph)
   local notes = {}
   for line in core.graph.notes(graph):gmatch "[^\n]+" do notes[#notes + 1] = line end
   if given.json then
      local json = require "espq.json"
      io.stdout:write(json.encode({ model = words[1], target = road.target, bits = road.bits, inputs = json.list(inputs), outputs = json.list(outputs),
                                    operators = json.list(types), float = json.list(floats), parameters = cost.parameters, notes = json.list(notes),
                                    macs = price and price.macs, parameter_bytes = price and price.parameter_bytes,
                                    activation_bytes = price and price.memory.variable, estimated_ms = price and price.ms }, 2), "\n")
      return 0
   end
   local out = io.stdout
   out:write(("%s for %s, %d bits\n"):format(words[1], road.target, road.bits))
   for _, text in ipairs(inputs) do out:write("  input  ", text, "\n") end
   for _, text in ipairs(outputs) do out:write("  output ", text, "\n") end
   out:write(("  %d nodes, %d parameters\n"):format(#graph, cost.parameters))
   if price then out:write("  ", require("espq.cost").line(price), "\n") end
   out:write "\n"
   out:write(require("espq.report").table(types, { { key = "type", title = "operator" }, { key = "count" }, { key = "quantized" } }), "\n")
   if #floats > 0 then
      out:write "\nwhat stays float:\n"
      for _, node in ipairs(floats) do out:write(("  %s %s\n"):format(node.type, node.name)) end
   end
   for _, line in ipairs(notes) do out:write("note: ", line, "\n") end
   out:write "\nnothing stands in the way of quantizing this model\n"
   return 0
end
