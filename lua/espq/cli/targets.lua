--- espq targets
local core = require "espq.core"
local options = require "espq.cli.options"

local spec = {
   { "--defects", help = "what the chips and the runtime do that one would not expect, and what avoids it" },
   { "--target", value = "T", help = "with --defects: of this chip" },
   { "--version", value = "V", help = "with --defects: of this version of the runtime; without it, the newest known" },
   { "--json", help = "as JSON" },
}

local function print_defects(rows)
   for _, row in ipairs(rows) do
      local range = row.since and ("; since " .. row.since) or ""
      if row.before then range = range .. "; until " .. row.before end
      io.stdout:write(("%s%s  (%s%s)\n  %s\n"):format(row.name, row.id and (" " .. row.id) or "", table.concat(row.chips, ", "), range, row.help))
      if row.cure then io.stdout:write("  cure: ", row.cure, "\n") end
   end
   local versions = core.chip.versions()
   io.stdout:write(("known versions of the runtime: %s to %s; c stands for all chips without vector instructions\n"):format(versions[1], versions[#versions]))
end

return function(arguments)
   local words, given = options.parse({ usage = "targets [--defects [--target T] [--version V]] [--json]", help = "the chips that espq writes for" }, spec,
                                      arguments)
   if not words then return 0 end
   if not given.defects then
      if given.target or given.version then options.usage "--target and --version belong to --defects" end
      options.print_rows(core.road.targets(), { { key = "name" }, { key = "per_channel", title = "per channel" }, { key = "help",
            title = "what it is" } }, given.json)
      return 0
   end
   local rows = core.chip.traits(given.target, given.version)
   if given.json then
      local json = require "espq.json"
      io.stdout:write(json.encode(json.list(rows), 2), "\n")
   else
      print_defects(rows)
   end
   return 0
end
