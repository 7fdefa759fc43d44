-- The program as the specs run it: env ESPQ, or build/espq.
local lfs = require "lfs"

local program = os.getenv "ESPQ" or "build/espq"
if program:sub(1, 1) ~= "/" then program = lfs.currentdir() .. "/" .. program end

local M = { path = program }

function M.folder()
   local folder = os.tmpname()
   os.remove(folder)
   lfs.mkdir(folder)
   return folder
end

function M.remove(folder) os.execute(("rm -rf '%s'"):format(folder)) end

function M.read(path)
   local file = io.open(path, "rb")
   if not file then return nil end
   local text = file:read "a"
   file:close()
   return text
end

function M.write(path, text)
   local file = assert(io.open(path, "wb"))
   file:write(text)
   file:close()
end

-- Names in a folder, sorted.
function M.names(folder)
   local list = {}
   for name in lfs.dir(folder) do
      if name ~= "." and name ~= ".." then list[#list + 1] = name end
   end
   table.sort(list)
   return list
end

-- Exit code (128 + signal when it was killed), stdout, stderr of a command line in which @ stands for the program.
function M.run(folder, line)
   local _, how, code = os.execute(("cd '%s' && { %s ; } >.stdout 2>.stderr </dev/null"):format(folder,
      (line:gsub("@", function() return "'" .. program .. "'" end))))
   local out, err = M.read(folder .. "/.stdout"), M.read(folder .. "/.stderr")
   os.remove(folder .. "/.stdout")
   os.remove(folder .. "/.stderr")
   return how == "signal" and 128 + code or code, out, err
end

return M
