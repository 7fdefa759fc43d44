--- espq pack
local core = require "espq.core"
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "pack A.espdl B.espdl … -o models.bin",
         help = "several models in one file for one flash partition; the chip finds each by its file name", words = 1, most = 1000 },
                                      { { "-o", value = "FILE", key = "output", help = "the package" },
                                        { "--format", value = "F", help = "PDL3, which carries a digest (default), or PDL2 for older runtimes" } }, arguments)
   if not words then return 0 end
   if not given.output then options.usage "-o FILE is needed: where the package is written" end
   local format = (given.format or "PDL3"):upper()
   if format ~= "PDL2" and format ~= "PDL3" then options.usage(("--format is PDL2 or PDL3, not '%s'"):format(given.format)) end
   for _, path in ipairs(words) do
      if core.base.same_file(path, given.output) then core.error.raise { what = "the package would take the place of one of the models in it", where = path,
         cure = "choose another name for -o", code = "input" } end
   end
   local bytes = core.espdl.pack_bytes(words, format)
   core.base.write(given.output, bytes)
   local pack = core.espdl.pack(given.output)
   io.stdout:write(("%s: %s, %d models, %d bytes\n"):format(given.output, pack.container, #pack.models, #bytes))
   for i, name in ipairs(pack.models) do io.stdout:write(("  %d  %s\n"):format(i - 1, name)) end
   return 0
end
