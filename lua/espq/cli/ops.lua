--- espq ops
local core = require "espq.core"
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "ops [NAME] [--json]",
         help = "the operators: can espq run them, are they quantized, what the chip has", most = 1 },
                                      { { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   local rows = core.base.operators()
   if words[1] then
      local found = {}
      for _, row in ipairs(rows) do
         if row.name:lower() == words[1]:lower() then found[1] = row end
      end
      if not found[1] then
         local near = core.base.nearest_operator(words[1])
         core.error.raise { what = ("unknown operator '%s'%s"):format(words[1], near and (" (did you mean '%s'?)"):format(near) or ""), code = "input" }
      end
      rows = found
   end
   table.sort(rows, function(a, b) return a.name < b.name end)
   options.print_rows(rows, {
      { key = "name" }, { key = "run", title = "runs" }, { key = "quantizable", title = "quantized" }, { key = "s8", title = "chip s8" },
      { key = "s16", title = "s16" }, { key = "f32", title = "f32" }, { key = "table" }, { key = "gradient", title = "trains" },
      { key = "help", title = "what it is" },
   }, given.json)
   return 0
end
