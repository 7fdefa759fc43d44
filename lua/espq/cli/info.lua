--- espq info
local core = require "espq.core"
local inspect = require "espq.inspect"
local options = require "espq.cli.options"

local function shape_text(shape) return "[" .. table.concat(shape, ", ") .. "]" end

local function end_line(side, row)
   local text = ("  %-6s %s %s %s"):format(side, row.name, row.dtype, shape_text(row.shape))
   if row.layout then text = text .. (" (%s)"):format(row.layout) end
   if row.exponent then return ("%s, exponent %d: from %s to %s"):format(text, row.exponent, core.base.number(row.low), core.base.number(row.high)) end
   return text
end

local function counts(types)
   local names = {}
   for name, count in pairs(types) do names[#names + 1] = ("%s %d"):format(name, count) end
   table.sort(names)
   return table.concat(names, ", ")
end

local function summary(path, model)
   local cost = require "espq.cost"
   local lines = {
      ("%s: container %s, graph %s, model version %d"):format(path, model.container, model.name, model.model_version),
      ("  for %s (%s)"):format(model.target, model.target_why),
   }
   for _, value in ipairs(model.inputs) do lines[#lines + 1] = end_line("input", value) end
   for _, value in ipairs(model.outputs) do lines[#lines + 1] = end_line("output", value) end
   local bytes = 0
   for _, tensor in ipairs(model.initializers) do bytes = bytes + tensor.bytes end
   lines[#lines + 1] = ("  %d nodes: %s"):format(#model.nodes, counts(model.operators))
   lines[#lines + 1] = ("  %d parameters, %d bytes; %d test inputs, %d test outputs"):format(#model.initializers, bytes, #model.test_inputs,
         #model.test_outputs)
   if model.cost then
      local time = model.cost.estimated_ms
      lines[#lines + 1] = ("  %s multiply-accumulates; %s of memory for activations%s"):format(cost.count(model.cost.macs),
         cost.bytes(model.cost.activation_bytes), time and ("; about %s ms (estimate; `espq cost` tells more)"):format(cost.milliseconds(time)) or "")
   else
      lines[#lines + 1] = "  no plan of its memory: " .. model.cost_error
   end
   for _, pair in ipairs(model.metadata) do lines[#lines + 1] = ("  %s: %s"):format(pair[1], pair[2]) end
   return table.concat(lines, "\n")
end

local function code_of(model)
   local parts = {}
   for _, input in ipairs(model.inputs) do parts[#parts + 1] = input.code end
   return table.concat(parts, "\n")
end

local function show(path, name, given)
   if given.full then
      io.stdout:write(core.espdl.text(core.espdl.load(path, name)), "\n")
   elseif given.json then
      io.stdout:write(require("espq.json").encode(inspect.facts(path, name), 2), "\n")
   else
      local model = inspect.facts(path, name)
      io.stdout:write(summary(name and path .. ", model " .. name or path, model), "\n\nC++ for filling the inputs:\n\n", code_of(model))
   end
   return 0
end

-- Without a name, a package is listed, each model in short.
local function show_pack(path, pack, as_json)
   if as_json then
      local models = {}
      for i, name in ipairs(pack.models) do models[i] = inspect.facts(path, name) end
      io.stdout:write(require("espq.json").encode({ container = pack.container, version = pack.version, names = pack.models, models = models }, 2), "\n")
      return 0
   end
   io.stdout:write(("%s: package %s%s of %d models; --model NAME shows more of one\n"):format(path, pack.container, pack.version and " " .. pack.version or "",
      #pack.models))
   for _, name in ipairs(pack.models) do
      local done, model = pcall(inspect.facts, path, name)
      io.stdout:write("\n", done and summary(name, model) or ("%s: %s"):format(name, tostring(model)), "\n")
   end
   return 0
end

return function(arguments)
   local words, given = options.parse({ usage = "info M.espdl [--model NAME] [--full] [--json]",
         help = "what is in the file, and the C++ that fills its inputs", words = 1 },
                                      { { "--model", value = "NAME", help = "which one of a package" },
                                        { "--full", help = "everything, as the .info file has it" },
                                        { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   local pack = core.espdl.pack(words[1])
   if pack.packed and not given.model and #pack.models > 1 and not given.full then return show_pack(words[1], pack, given.json) end
   return show(words[1], given.model, given)
end
