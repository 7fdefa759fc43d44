--- The journal of a search: what was tried, in the order of completion. Adding a trial costs the same at any length.
-- journal.records holds the records as they stand in summary.json, journal.index one short line a record: hash, index, status, score, whether
-- the filter took it, where the record lies. A record counts once its line is there; lines "summary COUNT BYTES" say what was written out.
-- Files are not synced one by one: a line "durable COUNT" says that so many records are on the disk for good, with the files of their trials. "boot
-- ID" says under which start of the machine the lines behind it were written: a process that is killed loses nothing of what it wrote, a machine
-- that stops may, so that records behind the last "durable" of another start do not count.
local core = require "espq.core"
local check = require "espq.check"
local files = require "espq.autoquant.files"
local text = require "espq.autoquant.text"

local journal = {}

local Journal = {}
Journal.__index = Journal

local HEAD = "espq journal 1 "
local ENTRY = "^(%x+) (%d+) (%a+) (%S+) ([01]) (%d+) (%d+)\n()"

---@param folder string
---@param filter string names the filter whose verdicts are noted
function journal.new(folder, filter)
   return setmetatable({ index_path = folder .. "/journal.index", records_path = folder .. "/journal.records",
                         summary_path = folder .. "/summary.json", filter = filter,
                         count = 0, offsets = {}, lengths = {} }, Journal)
end

function Journal:exists() return core.base.exists(self.index_path) end

function Journal:remove()
   os.remove(self.index_path)
   os.remove(self.records_path)
end

-- Which start of which machine this is; the same for all processes between two starts.
local boot_id
local function this_boot()
   boot_id = boot_id or (files.read "/proc/sys/kernel/random/boot_id" or "unknown"):match "%S+"
   return boot_id
end

--- Begin an empty one.
function Journal:begin()
   self:remove()
   core.base.write(self.records_path, "")
   core.base.write(self.index_path, ("%s%s\nboot %s\ndurable 0\n"):format(HEAD, self.filter, this_boot()))
   self.durable = 0
end

local function broken(self)
   check.fail("the journal of this search is damaged", self.index_path, "move the folder away, or run with resume = false")
end

--- Read what is there, and call see(entry) for each record: hash, index, status, score or nil, accepted, position. What a killed process left
--- half-written is cut off, and what a machine that stopped may have spoiled.
---@return boolean same_filter were the verdicts given by this filter?
function Journal:load(see)
   local content = files.read(self.index_path)
   local bytes = files.size(self.records_path) or 0
   local filter, at = content:match("^" .. HEAD .. "(%S+)\n()")
   if not filter then broken(self) end
   local whole = content:sub(-1) == "\n" and #content or content:find "[^\n]*$" - 1
   local boot, durable, safe = content:match ".*\nboot (%S+)\n", content:match ".*\ndurable (%d+)\n()"
   if boot and boot ~= this_boot() and safe then whole = math.min(whole, safe - 1) end
   while at <= whole do
      local hash, index, status, score, accepted, offset, length, after = content:match(ENTRY, at)
      if hash then
         offset, length = math.tointeger(offset + 0), math.tointeger(length + 0)
         if offset + length <= bytes then
            self.count = self.count + 1
            self.offsets[self.count], self.lengths[self.count] = offset, length
            see { hash = hash, index = math.tointeger(index + 0), status = status, score = tonumber(score), accepted = accepted == "1",
                  position = self.count }
         end
      else
         local count, size
         count, size, after = content:match("^summary (%d+) (%d+)\n()", at)
         if count then
            self.written_count, self.written_bytes = math.tointeger(count + 0), math.tointeger(size + 0)
         else
            after = content:match("^boot %S+\n()", at) or content:match("^durable %d+\n()", at) or broken(self)
         end
      end
      at = after
   end
   self.durable = math.min(math.tointeger(tonumber(durable)) or 0, self.count)
   local line = boot ~= this_boot() and ("boot %s\n"):format(this_boot()) or ""
   self.dropped = select(2, content:sub(whole + 1):gsub("%x+ %d+ %a+ %S+ [01] %d+ %d+\n", ""))
   if self.dropped > 0 then os.remove(self.summary_path) end               -- it may name them, too; it is written anew
   if whole < #content then
      core.base.write(self.index_path, content:sub(1, whole) .. line)
   elseif line ~= "" then
      core.system.append(self.index_path, line)
   end
   return filter == self.filter
end

--- All that was added is on the disk, and stays there whatever happens to the machine.
---@param folder string of the search, whose files are synced with it
function Journal:checkpoint(folder)
   if self.durable == self.count then return end
   core.system.sync(folder)
   core.system.append(self.index_path, ("durable %d\n"):format(self.count))
   self.durable = self.count
end

--- The texts of the records in a folder, in their order; nil when it has no journal. Changes nothing, so that one can look on while a search runs.
---@param folder string
---@return string[]?
function journal.read(folder)
   local index, content = files.read(folder .. "/journal.index"), files.read(folder .. "/journal.records")
   if not index or not content or index:sub(1, #HEAD) ~= HEAD then return nil end
   local list = {}
   for line in index:gmatch "[^\n]*\n" do
      local _, _, _, _, _, offset, length = line:match(ENTRY)
      if offset and offset + length <= #content then list[#list + 1] = content:sub(offset + 1, offset + length) end
   end
   return list
end

--- What a journal says of trials, without touching it: others may be writing it.
---@param folder string
---@return table<string, number|false> scores by hash, false for trials that failed
function journal.scores(folder)
   local scores, content = {}, files.read(folder .. "/journal.index") or ""
   for line in content:gmatch "[^\n]*\n" do
      local hash, _, _, score = line:match(ENTRY)
      if hash then scores[hash] = tonumber(score) or false end
   end
   return scores
end

--- How many trials a journal has, without touching it.
---@param folder string
---@return integer
function journal.count(folder)
   local count = 0
   for _ in pairs(journal.scores(folder)) do count = count + 1 end
   return count
end

--- Add a record.
---@param entry table hash, index, status, score or nil, accepted
---@param record string its text, as in summary.json
function Journal:add(entry, record)
   local offset = core.system.append(self.records_path, record .. "\n")
   local score = entry.score and text.number(entry.score) or "-"
   core.system.append(self.index_path, ("%s %d %s %s %d %d %d\n"):format(entry.hash, entry.index, entry.status, score, entry.accepted and 1 or 0, offset,
                                                                         #record))
   self.count = self.count + 1
   self.offsets[self.count], self.lengths[self.count] = offset, #record
   entry.position = self.count
end

--- The text of the record at a position.
function Journal:record(position)
   local file = io.open(self.records_path, "rb")
   if not file then broken(self) end
   file:seek("set", self.offsets[position])
   local record = file:read(self.lengths[position])
   file:close()
   return record
end

local PIECE = 1 << 16            -- bytes that are written at once

--- Write all records as summary.json, piece by piece: it appears whole, and memory does not grow with it.
function Journal:write_summary()
   local from <close> = io.open(self.records_path, "rb") or broken(self)
   local to <close> = core.system.writer(self.summary_path)
   local parts, bytes, size = {}, 0, 0
   local function put(piece)
      parts[#parts + 1], bytes, size = piece, bytes + #piece, size + #piece
      if bytes < PIECE then return end
      to:put(table.concat(parts))
      parts, bytes = {}, 0
   end
   put "["
   for i = 1, self.count do
      from:seek("set", self.offsets[i])
      put(i > 1 and ",\n" or "\n")
      put(from:read(self.lengths[i]) or broken(self))
   end
   put(self.count > 0 and "\n]" or "]")
   to:put(table.concat(parts))
   to:commit()
   core.system.append(self.index_path, ("summary %d %d\n"):format(self.count, size))
   self.written_count, self.written_bytes = self.count, size
end

--- Is summary.json as it was written last, with all records in it?
function Journal:summary_is_whole()
   return self.written_count == self.count and files.size(self.summary_path) == self.written_bytes
end

return journal
