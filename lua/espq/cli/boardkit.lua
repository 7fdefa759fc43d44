--- espq boardkit
local options = require "espq.cli.options"

return function(arguments)
   local words, given = options.parse({ usage = "boardkit M.espdl DIR [--target T]",
         help = "C++ that fills the inputs and prints every tensor on the board, and what it should print", words = 2, most = 2 }, {
      { "--target", value = "T", help = "for this chip; without it, the file tells" },
      { "--model", value = "NAME", help = "which one of a package" },
   }, arguments)
   if not words then return 0 end
   if given.target then options.target { target = given.target } end
   local files = require("espq.inspect").boardkit(words[1], words[2], { target = given.target, model = given.model })
   for _, path in ipairs(files) do io.stdout:write(path, "\n") end
   if files.note then io.stderr:write("note: ", files.note, "\n") end
   io.stderr:write(("%d tensors for %s; inputs are %s\n"):format(files.tensors, files.target,
      files.pattern and "numbers of the kit's own, since the file has no test inputs" or "the test inputs in the file"))
   io.stderr:write(("build espq_board.cpp in a project with esp-dl, save what the board prints, then: espq diff %s --log SERIAL.txt\n"):format(words[1]))
   return 0
end
