--- espq verify
local core = require "espq.core"
local options = require "espq.cli.options"

-- One model, printed as it is judged; its findings are added to `all`.
local function judge(path, name, given, packed, all)
   local findings, fine, target = require("espq").verify(path, { target = given.target, model = name })
   local who = packed and ("%s, model %s"):format(path, name) or path
   if #findings == 0 and not given.json then io.stdout:write(who, ": no findings, run as for ", target, "\n") end
   for _, finding in ipairs(findings) do
      if packed then finding.model = name end
      all[#all + 1] = finding
      if not given.json then
         io.stdout:write(packed and who .. ": " or "", ("%s: %s: %s (%s)\n"):format(finding.level, finding.where, finding.text, finding.rule))
      end
   end
   return fine
end

return function(arguments)
   local words, given = options.parse({ usage = "verify M.espdl [--target T] [--model NAME] [--json]",
         help = "what the chip would refuse or compute wrongly; exit code 1 when there is an error",
                                        words = 1 },
                                      { { "--target", value = "T", help = "judge for this chip" },
                                        { "--model", value = "NAME", help = "which one of a package; all without it" },
                                        { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   if given.target then options.target { target = given.target } end
   local pack = core.espdl.pack(words[1])
   local names = pack.packed and not given.model and pack.models or { given.model or false }
   local all, fine = {}, true
   for _, name in ipairs(names) do fine = judge(words[1], name or nil, given, pack.packed, all) and fine end
   if given.json then
      local json = require "espq.json"
      io.stdout:write(json.encode(json.list(all), 2), "\n")
   end
   return fine and 0 or 1
end
