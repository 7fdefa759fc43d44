--- What a search shows: one line on a terminal, a line now and then elsewhere; with --json events on stdout for machines, an object a line:
--    begin  run_dir, mode, recorded (trials that are known already)
--    trial  index, hash, status ("done", "failed", "pruned"), score, error, seconds, best (score so far), left (trials to come, where that is known)
--    end    complete (false: there is more to try), tried, known, failed, best, run_dir, error (what stopped it)
-- Each has its kind in `event`; what is not known is left out. While a search runs nothing else gets to stdout: what scripts print goes to stderr.
local core = require "espq.core"
local text = require "espq.autoquant.text"

local progress = {}

local Progress = {}
Progress.__index = Progress

local QUIET_SECONDS = 30            -- between lines where stderr is no terminal

-- `espq search.lua --json`
local function asked_for_events()
   for _, word in ipairs(type(rawget(_G, "arg")) == "table" and rawget(_G, "arg") or {}) do
      if word == "--json" then return true end
   end
   return false
end

local reserved

--- From now on stdout is for events alone, whatever the script prints before and after its search.
function progress.reserve_stdout() reserved = reserved or core.system.stdout_aside() end

---@param total integer? trials in all, where that is known
function progress.new(total)
   local now = core.system.clock()
   local events = reserved or asked_for_events() and core.system.stdout_aside() or nil
   return setmetatable({ begun = now, shown = now, total = total, count = 0, terminal = core.system.terminal(), events = events }, Progress)
end

function Progress:event(kind, fields)
   if not self.events then return end
   fields.event = kind
   self.events:write(text.encode(fields), "\n")
   self.events:flush()
end

--- The search is over: stdout is the script's again.
function Progress:close()
   if self.events and self.events ~= reserved then core.system.stdout_back(self.events) end
   self.events = nil
end

local function duration(seconds)
   if seconds < 60 then return ("%d s"):format(math.ceil(seconds)) end
   if seconds < 3600 then return ("%d min"):format(math.ceil(seconds / 60)) end
   if seconds < 100 * 3600 then return ("%.1f h"):format(seconds / 3600) end
   return ("%.0f days"):format(seconds / 86400)
end

local function line(self, index, best, left, most)
   local seconds = core.system.clock() - self.begun
   local rate = self.count / math.max(seconds, 1e-6)
   local parts = { ("trial %d"):format(index) }
   if best then parts[#parts + 1] = ("best %s (trial %d)"):format(("%.6g"):format(best.score), best.index) end
   parts[#parts + 1] = ("%.0f trials a minute"):format(60 * rate)
   local seconds_left = left and left / math.max(rate, 1e-9) or most
   if left == 0 then
      parts[#parts + 1] = "done"
   elseif seconds_left then
      parts[#parts + 1] = duration(math.min(seconds_left, most or math.huge)) .. " left"
   end
   return table.concat(parts, ", ")
end

--- A trial is on disk.
---@param record table
---@param best table? { score =, index = }
---@param left integer? trials that are still to come
---@param most number? seconds they may take
function Progress:trial(record, best, left, most)
   self.count = self.count + 1
   self:event("trial", { index = record.index, hash = record.hash, status = record.status, score = record.score, error = record.error,
                         seconds = record.seconds, best = best and best.score, left = left })
   if core.base.verbose() == 0 then return end
   local now = core.system.clock()
   if self.terminal then
      io.stderr:write("\r\27[K", line(self, record.index, best, left, most))
      io.stderr:flush()
   elseif self.count == 1 or now - self.shown >= QUIET_SECONDS then
      self.shown = now
      io.stderr:write(line(self, record.index, best, left, most), "\n")
   end
end

--- A line that stays.
function Progress:note(message)
   if self.terminal and core.base.verbose() > 0 then io.stderr:write "\r\27[K" end
   core.base.note(message)
end

---@param message string
function Progress:finish(message, fields)
   self:event("end", fields)
   self:note(message)
end

return progress
