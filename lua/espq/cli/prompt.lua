--- espq -i: a prompt. An expression is printed; what is not complete goes on in the next line.
local core = require "espq.core"

local function compile(text)
   local chunk = load("return " .. text, "=prompt")
   if chunk then return chunk end
   local message
   chunk, message = load(text, "=prompt")
   if chunk then return chunk end
   return nil, message, message:find("<eof>", 1, true) ~= nil
end

return function()
   local terminal = os.getenv "TERM" ~= nil
   if terminal then io.stderr:write("espq ", require("espq").version, ", ", _VERSION, ". Ctrl-D ends.\n") end
   local text = ""
   while true do
      io.stdout:write(text == "" and "> " or ">> ")
      io.stdout:flush()
      local line = io.stdin:read "l"
      if not line then
         io.stdout:write "\n"
         return 0
      end
      text = text == "" and line or text .. "\n" .. line
      local chunk, message, unfinished = compile(text)
      if chunk then
         text = ""
         local results = table.pack(xpcall(chunk, function(err)
            if core.error.is_error(err) then return tostring(err) end
            return type(err) == "string" and debug.traceback(err, 2) or err
         end))
         if results[1] then
            for i = 2, results.n do io.stdout:write(tostring(results[i]), i < results.n and "\t" or "\n") end
         else
            io.stderr:write(tostring(results[2]), "\n")
            core.base.check_cancel()
         end
      elseif not unfinished then
         io.stderr:write(message, "\n")
         text = ""
      end
   end
end
