--- espq targets
local core = require "espq.core"
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "targets [--json]", help = "the chips that espq writes for" }, { { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   options.print_rows(core.road.targets(), { { key = "name" }, { key = "per_channel", title = "per channel" }, { key = "help",
         title = "what it is" } }, given.json)
   return 0
end
