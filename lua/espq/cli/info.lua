--- espq info
local core = require "espq.core"
local options = require "espq.cli.options"

local function shape_text(shape) return "[" .. table.concat(shape, ", ") .. "]" end

local function summary(path, model)
   local lines = { ("%s: container %s, graph %s, model version %d"):format(path, model.container, model.name, model.model_version) }
   for _, side in ipairs { "inputs", "outputs" } do
      for _, value in ipairs(model[side]) do
         lines[#lines + 1] = ("  %s %s %s %s, exponents %s"):format(side == "inputs" and "input " or "output", value.name, value.dtype, shape_text(value.shape),
                                                                    shape_text(value.exponents))
      end
   end
   local types, bytes = {}, 0
   for _, node in ipairs(model.nodes) do types[node.type] = (types[node.type] or 0) + 1 end
   for _, tensor in ipairs(model.initializers) do bytes = bytes + tensor.bytes end
   local names = {}
   for name, count in pairs(types) do names[#names + 1] = ("%s %d"):format(name, count) end
   table.sort(names)
   lines[#lines + 1] = ("  %d nodes: %s"):format(#model.nodes, table.concat(names, ", "))
   lines[#lines + 1] = ("  %d parameters, %d bytes; %d test inputs, %d test outputs"):format(#model.initializers, bytes, #model.test_inputs,
         #model.test_outputs)
   for _, pair in ipairs(model.metadata) do lines[#lines + 1] = ("  %s: %s"):format(pair[1], pair[2]) end
   return table.concat(lines, "\n")
end

return function(arguments)
   local words, given = options.parse({ usage = "info M.espdl [--full] [--json]", help = "what is in the file", words = 1 },
                                      { { "--full", help = "everything, as the .info file has it" }, { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   local model = core.espdl.load(words[1])
   if given.full then
      io.stdout:write(core.espdl.text(model), "\n")
   elseif given.json then
      io.stdout:write(require("espq.json").encode(core.espdl.table(model), 2), "\n")
   else
      io.stdout:write(summary(words[1], core.espdl.table(model)), "\n")
   end
   return 0
end
