--- espq diff: two files, or a file and what a board printed.
local options = require "espq.cli.options"

local spec = {
   { "--log", value = "SERIAL.txt", help = "instead of B: what a board printed (the board kit's lines, profile() tables, test())" },
   { "--target", value = "T", help = "with --log: compute as this chip does; without it, the file tells" },
   { "--model", value = "NAME", help = "which one of a package" },
   { "--json", help = "as JSON" },
}

local function differences(a, b, given)
   local rows = require("espq.inspect").diff(a, b, { model = given.model })
   if given.json then
      options.print_rows(rows, nil, true)
   elseif #rows == 0 then
      io.stdout:write(("%s and %s are the same model\n"):format(a, b))
   else
      io.stdout:write(tostring(rows), "\n\n", rows.summary, "\n")
   end
   return #rows == 0 and 0 or 1
end

local function log(path, given)
   local found = require("espq.inspect").log(path, given.log, { target = given.target, model = given.model })
   if given.json then
      local json = require "espq.json"
      io.stdout:write(json.encode({ equal = found.equal, first = found.first, counts = found.counts, tensors = found.tensors and json.list(found.tensors),
                                    modules = found.modules and json.list(found.modules), memory = found.memory and json.list(found.memory),
                                    damaged_lines = found.damaged, notes = json.list(found.notes) }, 2), "\n")
   else
      io.stdout:write(tostring(found), "\n")
   end
   return found.equal and 0 or 1
end

return function(arguments)
   local words, given = options.parse({ usage = "diff A.espdl B.espdl, or diff M.espdl --log SERIAL.txt",
         help = "what changed from one model to another, or the first node that a board computes otherwise; exit code 1 when they differ",
         words = 1, most = 2 },
                                      spec, arguments)
   if not words then return 0 end
   if given.log and words[2] then options.usage "give a second file or --log, one of them" end
   if not given.log and not words[2] then options.usage "a second file is needed, or --log SERIAL.txt" end
   if given.target then options.target { target = given.target } end
   if given.log then return log(words[1], given) end
   return differences(words[1], words[2], given)
end
