--- espq report
local core = require "espq.core"
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "report RUN_DIR|M.espdl [-o report.html]",
         help = "a page about a search or about one model: one file that loads nothing", words = 1 }, {
      { "-o", value = "FILE", key = "output", help = "where to write it (report.html)" },
      { "--input", value = "FILE", help = "a search: .npy or .npz to compare the layers on, instead of the inputs that the search kept" },
      { "--target", value = "T", help = "a model: its time on this chip" },
      { "--model", value = "NAME", help = "a model: which one of a package" },
   }, arguments)
   if not words then return 0 end
   local path, output = words[1], given.output or "report.html"
   local is_model = core.base.exists(path) and not require("espq.autoquant.files").is_folder(path)
   if given.target then options.target { target = given.target } end
   local text
   if is_model then
      if core.base.exists(output) and core.base.same_file(path, output) then options.usage("-o names the model itself") end
      text = require("espq.report.model").page(path, { model = given.model, target = given.target })
   else
      text = require("espq.report.search").page(path, { page = output, inputs = given.input })
   end
   core.base.write(output, text)
   io.stdout:write(output, "\n")
   return 0
end
