-- What the samples of AutoQuant take on the command line; read by each of them, no sample itself.
--
--    --model FILE  --calib DATA  --eval DATA  --target CHIP  --out FOLDER    what to quantize, with what data, for what chip, into which run directory
--    --budget small | SECONDS | Nt | all                                     a few trials (about ten seconds); so many seconds; so many trials; no end
--    --workers N  --resume  --json                                           processes; go on with the search in FOLDER; events for programs
--
-- The result of dofile is a function: it takes the defaults, and gives the options with `limit` (the budget as settings take it), `small` (was that
-- the budget?) and `quick`: is it less than an hour? A trial that trains takes minutes, so that is better spent on those that do not.
-- Fields of the defaults: the options, `also` (a list of further options), `where` (where to get what is missing).
local known = { "model", "calib", "eval", "target", "budget", "out", "workers", "resume", "json" }

local function budget(text)
   if text == "all" then return nil end
   if text == "small" then return { trials = 3 } end
   local trials = math.tointeger(tonumber(text:match "^(%d+)t$"))
   local seconds = tonumber(text)
   if not trials and not (seconds and seconds > 0) then
      error(("--budget is small, all, a number of seconds, or a number of trials as in 20t; not '%s'"):format(text), 0)
   end
   return trials and { trials = trials } or { seconds = seconds }
end

local function exists(path) return os.rename(path, path) ~= nil end

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
      local name = arg[i]:match "^%-%-(%w+)$"
      if not name or not known[name] then error(("unknown option '%s'; known are --%s"):format(arg[i], table.concat(names, " --")), 0) end
      if name == "resume" or name == "json" then
         given[name] = true
      else
         i = i + 1
         given[name] = arg[i] or error("--" .. name .. " needs a value", 0)
      end
      i = i + 1
   end
   given.eval = given.eval or given.calib
   for _, name in ipairs { "model", "calib", "eval" } do
      if not exists(given[name]) then error(("%s (--%s) is not there. %s"):format(given[name], name, defaults.where), 0) end
   end
   given.workers = given.workers and (math.tointeger(tonumber(given.workers)) or error("--workers needs a whole number", 0))
   given.small, given.limit = given.budget == "small", budget(given.budget)
   given.quick = given.small or given.limit ~= nil and given.limit.seconds ~= nil and given.limit.seconds < 3600
   return given
end
