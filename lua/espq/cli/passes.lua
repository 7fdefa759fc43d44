--- espq passes
local core = require "espq.core"
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "passes [--rewrites] [--json]", help = "the passes of the road, in order" },
                                      { { "--rewrites", help = "the rewrites of the pass simplify instead" }, { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   if given.rewrites then
      options.print_rows(core.road.rewrites(), { { key = "name" }, { key = "extra", title = "espq's own" }, { key = "help",
            title = "what it does" } }, given.json)
   else
      local rows = core.road.passes()
      for _, row in ipairs(rows) do row.when = row.when or "always" end
      options.print_rows(rows, { { key = "name" }, { key = "when", title = "runs when" }, { key = "help", title = "what it does" } }, given.json)
   end
   return 0
end
