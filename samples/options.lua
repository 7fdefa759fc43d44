-- What the samples of AutoQuant take on the command line; read by each of them, no sample itself.
--
--    --model FILE  --calib DATA  --eval DATA  --target CHIP  --out FOLDER    what to quantize, with what data, for what chip, into which run directory
--    --budget small | SECONDS | Nt | all                                     a few trials (about ten seconds); so many seconds; so many trials; no end
--    --workers N  --resume  --json                                           processes; go on with the search in FOLDER; events for programs
--    --help                                                                  the head of the sample
--
-- The result of dofile is a function: it takes the defaults, and gives the options with `limit` (the budget as settings take it), `small` (was that
-- the budget?) and `quick`: is it less than an hour? A trial that trains takes minutes, so that is better spent on those that do not,
-- or on training what turned out best without.
-- Fields of the defaults: the options, `also` (a list of further options), `where` (where to get what is missing).
local known = { "model", "calib", "eval", "target", "budget", "out", "workers", "resume", "json" }

-- What is wrong is said in a sentence; 1: something is missing, 2: wrong usage.
local function stop(code, text, ...)
   io.stderr:write(text:format(...), "\n")
   os.exit(code)
end

local function budget(text)
   if text == "all" then return nil end
   if text == "small" then return { trials = 3 } end
   local trials = math.tointeger(tonumber(text:match "^(%d+)t$"))
   local seconds = tonumber(text)
   if not trials and not (seconds and seconds > 0) then
      stop(2, "--budget is small, all, a number of seconds, or a number of trials as in 20t; not '%s'", text)
   end
   return trials and { trials = trials } or { seconds = seconds }
end

local function exists(path) return os.rename(path, path) ~= nil end

-- A sample says in its head what it does, and how it is called.
local function print_help()
   for line in io.lines(arg[0]) do
      local words = line:match "^%-%- ?(.*)$"
      if not words then break end
      print(words)
   end
   print [[

   --budget   small: three trials, about ten seconds; a number: so many seconds; a number and t, as 20t: so many trials; all (default): to the end
   --out      the run directory: what each trial came to, and the files of its model; --resume goes on with what is there
   --workers  processes (default: one a processor)
   --json     a line of JSON for each trial on stdout instead of a table]]
end

return function(defaults)
   local given = { target = "esp32p4", budget = "all", resume = false, json = false }
   local names = table.move(known, 1, #known, 1, {})
   for _, name in ipairs(defaults.also or {}) do names[#names + 1] = name end
   for _, name in ipairs(names) do
      if defaults[name] ~= nil then given[name] = defaults[name] end
      known[name] = true
   end
   local i = 1
   while arg[i] do
      if arg[i] == "--help" or arg[i] == "-h" then
         print_help()
         os.exit(0)
      end
      local name = arg[i]:match "^%-%-(%w+)$"
      if not name or not known[name] then stop(2, "unknown option '%s'; known are --%s", arg[i], table.concat(names, " --")) end
      if name == "resume" or name == "json" then
         given[name] = true
      else
         i = i + 1
         given[name] = arg[i] or stop(2, "--%s needs a value", name)
      end
      i = i + 1
   end
   given.eval = given.eval or given.calib
   for _, name in ipairs { "model", "calib", "eval" } do
      if not exists(given[name]) then stop(1, "%s (--%s) is not there. %s", given[name], name, defaults.where) end
   end
   for name, value in pairs(defaults) do
      if math.type(value) == "integer" then given[name] = math.tointeger(tonumber(given[name])) or stop(2, "--%s needs a whole number", name) end
   end
   given.workers = given.workers and (math.tointeger(tonumber(given.workers)) or stop(2, "--workers needs a whole number"))
   given.small, given.limit = given.budget == "small", budget(given.budget)
   given.quick = given.small or given.limit ~= nil and given.limit.seconds ~= nil and given.limit.seconds < 3600
   return given
end
