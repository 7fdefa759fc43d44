--- espq verify
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "verify M.espdl [--target T] [--model NAME] [--json]",
         help = "what the chip would refuse or compute wrongly; exit code 1 when there is an error",
                                        words = 1 },
                                      { { "--target", value = "T", help = "judge for this chip" },
                                        { "--model", value = "NAME", help = "which one of a package" },
                                        { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   local findings, fine, target = require("espq").verify(words[1], { target = given.target, model = given.model })
   if given.json then
      local json = require "espq.json"
      io.stdout:write(json.encode(json.list(findings), 2), "\n")
   elseif #findings == 0 then
      io.stdout:write(words[1], ": no findings, run as for ", target, "\n")
   else
      for _, finding in ipairs(findings) do io.stdout:write(("%s: %s: %s (%s)\n"):format(finding.level, finding.where, finding.text, finding.rule)) end
   end
   return fine and 0 or 1
end
