--- What a search shows: one line on a terminal, a line now and then elsewhere, JSON events for machines.
local core = require "espq.core"
local text = require "espq.autoquant.text"

local progress = {}

local Progress = {}
Progress.__index = Progress

local QUIET_SECONDS = 30            -- between lines where stderr is no terminal

-- `espq search.lua --json`: events on stdout, one object a line.
local function wants_events()
   for _, word in ipairs(type(rawget(_G, "arg")) == "table" and rawget(_G, "arg") or {}) do
      if word == "--json" then return true end
   end
   return false
end

---@param total integer? trials in all, where that is known
function progress.new(total)
   local now = core.system.clock()
   return setmetatable({ begun = now, shown = now, total = total, count = 0, terminal = core.system.terminal(), events = wants_events() }, Progress)
end

function Progress:event(kind, fields)
   if not self.events then return end
   fields.event = kind
   io.stdout:write(text.encode(fields), "\n")
   io.stdout:flush()
end

local function duration(seconds)
   if seconds < 60 then return ("%d s"):format(math.ceil(seconds)) end
   if seconds < 3600 then return ("%d min"):format(math.ceil(seconds / 60)) end
   if seconds < 100 * 3600 then return ("%.1f h"):format(seconds / 3600) end
   return ("%.0f days"):format(seconds / 86400)
end

local function line(self, index, best, left)
   local seconds = core.system.clock() - self.begun
   local rate = self.count / math.max(seconds, 1e-6)
   local parts = { ("trial %d"):format(index) }
   if best then parts[#parts + 1] = ("best %s (trial %d)"):format(("%.6g"):format(best.score), best.index) end
   parts[#parts + 1] = ("%.0f trials a minute"):format(60 * rate)
   if left then parts[#parts + 1] = left == 0 and "done" or duration(left / math.max(rate, 1e-9)) .. " left" end
   return table.concat(parts, ", ")
end

--- A trial is on disk.
---@param record table
---@param best table? { score =, index = }
---@param left integer? trials that are still to come
function Progress:trial(record, best, left)
   self.count = self.count + 1
   self:event("trial", { index = record.index, hash = record.hash, status = record.status, score = record.score, error = record.error,
                         seconds = record.seconds, best = best and best.score, left = left })
   if core.base.verbose() == 0 then return end
   local now = core.system.clock()
   if self.terminal then
      io.stderr:write("\r\27[K", line(self, record.index, best, left))
      io.stderr:flush()
   elseif self.count == 1 or now - self.shown >= QUIET_SECONDS then
      self.shown = now
      io.stderr:write(line(self, record.index, best, left), "\n")
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
