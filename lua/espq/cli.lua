--- The program: arguments to work, errors to exit codes. Data goes to stdout, all else to stderr.
local core = require "espq.core"

local cli = {}

local commands = {
   quantize = "quantize a model with data from the command line",
   check = "what would happen: operators, shapes, what stays float; no data needed",
   dump = "print a model (.onnx, or .espdl), after a pass if wanted",
   info = "what is in an .espdl file",
   verify = "what the chip would refuse or compute wrongly in an .espdl file",
   cost = "what a model costs on the chip: products, bytes, memory, an estimate of time",
   diff = "what changed between two .espdl files, or where a board's log parts from a model",
   boardkit = "C++ and vectors to compare every tensor on the board",
   search = "run the search of a script: here, or spread over the machines of a Slurm cluster",
   run = "run an .espdl file in the chip's integers: one input, or a whole set",
   report = "a page about a search (its run directory) or about one model: report.html",
   pack = "several .espdl files in one, for one flash partition",
   ops = "the operators, and what espq and the chip can do with them",
   passes = "the passes of the road, in order",
   targets = "the chips",
   settings = "all settings, with defaults and one line of help",
}
local order = { "quantize", "check", "dump", "info", "verify", "run", "search", "cost", "diff", "boardkit", "report", "pack", "ops", "passes", "targets",
                "settings" }

local help = [[
espq SCRIPT [ARGS]      run a Lua script (arg[1] … as in lua)
espq -e CODE            run a piece of Lua; espq is loaded
espq -i                 a prompt
espq COMMAND [ARGS]     COMMAND --help tells more:
]]

local function print_help(file)
   file:write(help)
   for _, name in ipairs(order) do file:write(("  %-10s %s\n"):format(name, commands[name])) end
   file:write "espq --version\nExit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.\n"
end

-- ---- errors ----

-- Where a script was when it went wrong: the innermost place outside espq's own files.
local function script_place()
   for level = 3, 60 do
      local info = debug.getinfo(level, "Sl")
      if not info then return nil end
      if info.currentline > 0 and not info.source:find "^@espq/" then return ("%s:%d"):format(info.short_src, info.currentline) end
   end
end

local function describe(err)
   if core.error.is_error(err) then
      local code = err.code == "usage" and 2 or err.code == "interrupted" and 130 or 1
      local place = script_place()
      return { text = tostring(err), place = place, code = code }
   end
   if type(err) == "string" then
      if err:find("\nstack traceback:", 1, true) then return { text = err, code = 1 } end
      return { text = debug.traceback(err, 2), code = 1 }
   end
   local meta = getmetatable(err)
   if type(err) == "table" and err.exit_code then return { code = err.exit_code } end         -- the script ends on purpose
   if meta and meta.__tostring then return { text = tostring(err), code = 1 } end
   return { text = debug.traceback(("an error object of type %s"):format(type(err)), 2), code = 1 }
end

local function guarded(work, ...)
   local done, result = xpcall(work, describe, ...)
   if done then return math.type(result) == "integer" and result or 0 end
   io.stdout:flush()
   if not result.text then return result.code end
   io.stderr:write("espq: ", result.text, "\n")
   if result.place then io.stderr:write("  at ", result.place, "\n") end
   return result.code
end

local function usage(text)
   io.stderr:write("espq: ", text, "\n", "espq --help tells more\n")
   return 2
end

-- ---- what can be run ----

local function run_script(path, arguments)
   local chunk, message
   if path == "-" then chunk, message = load(io.stdin:read "a", "=stdin") else chunk, message = loadfile(path) end
   if not chunk then
      io.stderr:write("espq: ", message, "\n")
      return 1
   end
   return guarded(chunk, table.unpack(arguments))
end

local function run_code(code)
   local chunk, message = load(code, "=(-e)")
   if not chunk then
      io.stderr:write("espq: ", message, "\n")
      return 1
   end
   return guarded(function()
      if code:find "espq" then rawset(_G, "espq", require "espq") end
      chunk()
      return 0
   end)
end

local function run_command(name, arguments)
   return guarded(function() return require("espq.cli." .. name)(arguments) end)
end

local function rest(argv, from)
   return table.move(argv, from, #argv, 1, {})
end

--- argv[0] is the program. The result is the exit code.
---@param argv string[]
---@return integer
function cli.main(argv)
   local i, ran = 1, false
   while argv[i] do
      local word = argv[i]
      if word == "--help" or word == "-h" or word == "help" then
         print_help(io.stdout)
         return 0
      elseif word == "--version" then
         io.stdout:write("espq ", require("espq").version, " (", _VERSION, ")\n")
         return 0
      elseif word == "-e" then
         if not argv[i + 1] then return usage "-e needs a piece of Lua" end
         local code = run_code(argv[i + 1])
         if code ~= 0 then return code end
         ran, i = true, i + 2
      elseif word == "-i" then
         rawset(_G, "espq", require "espq")
         return guarded(require "espq.cli.prompt")
      elseif word:sub(1, 1) == "-" and word ~= "-" then
         return usage(("unknown option '%s'"):format(word))
      elseif commands[word] then
         return run_command(word, rest(argv, i + 1))
      else
         local exists = word == "-" or core.base.exists(word)
         if not exists and not word:find "[./]" then
            local near = core.base.nearest(word, order)
            return usage(("'%s' is no command and no file%s"):format(word, near and (" (did you mean '%s'?)"):format(near) or ""))
         end
         if not exists then
            io.stderr:write("espq: cannot open ", word, "\n")
            return 1
         end
         local arguments = rest(argv, i + 1)
         rawset(_G, "arg", table.move(argv, 0, #argv, -i, {}))
         return run_script(word, arguments)
      end
   end
   if ran then return 0 end
   print_help(io.stderr)
   return 2
end

return cli.main
