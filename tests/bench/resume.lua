-- Resuming a search of very many recorded trials: time and memory.
--
--    espq tests/bench/resume.lua [RECORDS (100000)]      from the checkout's folder
--
-- The records are those of an exhaustive search over the default space, written through the search's own journal; then the search is resumed in a
-- process of its own with nothing left of its budget. Prints seconds (wall and of the processor) and the peak of memory, of opening the run
-- directory and of recording one more trial.
package.path = "./tests/?.lua;" .. package.path
local espq = require "espq"
local program = require "lua.program"

espq.verbose = 0
local wanted = tonumber(arg[1] or 100000)

local RESUME = [[
package.path = "./tests/?.lua;" .. package.path
local core = require "espq.core"
local espq = require "espq"
local run_dir = require "espq.autoquant.run_dir"
espq.verbose = 0
local function peak() return tonumber(io.open("/proc/self/status"):read("a"):match "VmHWM:%s*(%d+)") / 1024 end
local setting = espq.autoquant_setting { run_dir = arg[1] .. "/run", resume = true }
local before, begun, processor = peak(), core.system.clock(), os.clock()
local dir = run_dir.open(setting, "maximize", false)
print(("resumed %d records in %.2f s (%.2f s of the processor), peak of memory %.0f MB (%.0f MB before)"):format(dir.journal.count,
   core.system.clock() - begun, os.clock() - processor, peak(), before))
local trial
for given in espq.autoquant.enumerate(setting, { from = dir.journal.count }) do trial = given break end
local slowest, total = 0, 0
for i = 1, 20 do
   local workplace = dir:workplace()
   core.base.write(workplace .. "/model.espdl", "x")
   local at = core.system.clock()
   dir:keep({ hash = ("%040x"):format(i), strategy = trial.strategy, params = trial.params, score = 0.5, status = "done", seconds = 0.1, seed = 0 }, workplace)
   local took = core.system.clock() - at
   slowest, total = math.max(slowest, took), total + took
end
print(("one more trial is recorded in %.1f ms (mean of 20; slowest %.1f ms)"):format(1e3 * total / 20, 1e3 * slowest))
]]

local folder = program.folder()
program.write(folder .. "/resume.lua", RESUME)
do
   local run_dir, records = require "espq.autoquant.run_dir", require "espq.autoquant.records"
   local core = require "espq.core"
   local setting = espq.autoquant_setting { run_dir = folder .. "/run" }
   local dir = run_dir.open(setting, "maximize", false)
   core.system.durable(false)
   for trial in espq.autoquant.enumerate(setting) do
      if trial.ordinal == wanted then break end
      local index = trial.ordinal
      local record = {
         hash = trial.hash, index = index, folder = ("%s/run/%04d"):format(folder, index), files = espq.json.list { "m.espdl", "m.info", "m.json", "m.native" },
         strategy = trial.strategy, params = trial.params, score = 1 / (1 + index * 7919 % 104729), top1 = 0.5, status = "done", seconds = 1.5, seed = 0,
      }
      dir.journal:add({ hash = trial.hash, index = index, status = "done", score = record.score, accepted = index % 2 == 0 }, records.text(record))
   end
   dir.journal:write_summary()
   dir:close(true)
end
os.execute(("'%s' '%s/resume.lua' '%s'"):format(program.path, folder, folder))
program.remove(folder)
