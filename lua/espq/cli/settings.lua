--- espq settings
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "settings [WORD] [--json]",
         help = "all settings (or those with WORD in them), defaults, one line of help", most = 1 },
                                      { { "--json", help = "as JSON" } }, arguments)
   if not words then return 0 end
   local rows = {}
   for _, row in ipairs(require("espq.setting").rows()) do
      local text = (row.path .. " " .. row.help .. " " .. (row.row or "")):lower()
      if not words[1] or text:find(words[1]:lower(), 1, true) then
         if row.choices == "@observer" then row.choices = "see calibration methods" end
         row.help = row.help .. (row.row and (" [" .. row.row .. "]") or "") .. (row.unused and " [no effect]" or "")
         rows[#rows + 1] = row
      end
   end
   options.print_rows(rows, { { key = "path" }, { key = "espdl", title = "default" }, { key = "reference" }, { key = "help",
         title = "what it does" } }, given.json)
   return 0
end
