--- A run directory as it lies there, espq's or the reference's: its records, candidates and what they were searched with. Nothing is written.
local check = require "espq.check"
local core = require "espq.core"
local files = require "espq.autoquant.files"
local journal = require "espq.autoquant.journal"
local json = require "espq.json"

local run = {}

---@class espq.report.Run
---@field path string
---@field records table[] in the order of completion
---@field done table[] those with a score
---@field failed table[]
---@field pruned table[] given up early, since a cheap measure said that they would not be good
---@field candidates table[] best first
---@field runtime table what the search was called with, as far as it is known
---@field direction "maximize"|"minimize"
---@field notes string[]

local function list_of(path)
   local content = files.read(path)
   if not content then return nil, "is missing" end
   local done, list = pcall(json.decode, content)
   if not done then return nil, "is cut or damaged (" .. (core.error.is_error(list) and list.what or tostring(list)) .. ")" end
   if type(list) ~= "table" or list == json.null or (next(list) ~= nil and #list == 0) then return nil, "is not a list" end
   for i, item in ipairs(list) do
      if type(item) ~= "table" or item == json.null or #item > 0 then return nil, ("has an item %d that is no object"):format(i) end
   end
   return list
end

local function check_record(record, i, path)
   local function bad(text)
      check.fail(("record %d %s"):format(i, text), path, "this is no summary of AutoQuant, or it was changed by hand")
   end
   for key, value in pairs(record) do
      if value == json.null then record[key] = nil end
   end
   record.index = math.tointeger(record.index)
   if not record.index then bad "has no index" end
   if type(record.strategy) ~= "table" then bad "has no strategy" end
   if record.score ~= nil and type(record.score) ~= "number" then bad "has a score that is no number" end
   if record.params ~= nil and type(record.params) ~= "table" then bad "has params that are no object" end
   record.files = type(record.files) == "table" and record.files or {}
   for k, name in ipairs(record.files) do
      if type(name) ~= "string" or name:find "/" then bad(("has a file %d that is no name"):format(k)) end
   end
end

-- The journal knows more than the summary while a search runs, and after it was killed.
local function read_records(self)
   local path = self.path .. "/summary.json"
   local list, why = list_of(path)
   local entries = journal.read(self.path)
   if entries and (not list or #entries > #list) then
      local found = {}
      for i, text in ipairs(entries) do
         local done, record = pcall(json.decode, text)
         if not done then break end
         found[i] = record
      end
      self.notes[#self.notes + 1] = ("The trials are taken from the journal, since summary.json %s: the search is running, or was stopped."):format(
         list and ("has only %d of them"):format(#list) or why)
      list = found
   end
   if not list then
      check.fail("summary.json " .. why, path, why == "is missing" and "give the run_dir of a search, or an .espdl file"
         or "the search's journal would have it again, but this folder has none: take the file from a backup, or search again")
   end
   for i, record in ipairs(list) do check_record(record, i, path) end
   return list
end

local function read_runtime(self)
   for _, record in ipairs(self.records) do
      local content = files.read(("%s/%04d/config.json"):format(self.path, record.index))
      local done, config = pcall(json.decode, content or "")
      if done and type(config) == "table" and type(config.runtime) == "table" and config.runtime ~= json.null then return config.runtime end
   end
   return {}
end

-- Without a config: the candidates are sorted, best first.
local function guess_direction(candidates, done)
   if #candidates > 1 then
      local first, last = candidates[1].score, candidates[#candidates].score
      if type(first) == "number" and type(last) == "number" and first ~= last then return first > last and "maximize" or "minimize" end
   end
   return done[1] and done[1].topn_mean_error and "minimize" or "maximize"
end

local function better(direction)
   return function(a, b)
      if a.score ~= b.score then
         if direction == "maximize" then return a.score > b.score end
         return a.score < b.score
      end
      return a.index < b.index
   end
end

local function read_candidates(self)
   local by_index = {}
   for _, record in ipairs(self.done) do by_index[record.index] = record end
   local listed, why = list_of(self.path .. "/candidates.json")
   local list = {}
   for _, candidate in ipairs(listed or {}) do
      local record = by_index[math.tointeger(candidate.index)]
      if record then list[#list + 1] = record end
   end
   self.direction = self.runtime.score_direction
   if self.direction ~= "maximize" and self.direction ~= "minimize" then self.direction = guess_direction(list, self.done) end
   if not listed then self.notes[#self.notes + 1] = ("candidates.json %s: the best trials by score stand in its place."):format(why) end
   if #list == 0 then
      list = table.move(self.done, 1, #self.done, 1, {})
      table.sort(list, better(self.direction))
      for i = 6, #list do list[i] = nil end
   end
   return list
end

--- Read a run directory.
---@param path string
---@return espq.report.Run
function run.read(path)
   path = #path > 1 and path:gsub("/+$", "") or path
   if not core.base.exists(path) then check.fail("there is no such folder", path, "give the run_dir of a search, or an .espdl file") end
   if not files.is_folder(path) then check.fail("this is no folder", path, "give the run_dir of a search, or an .espdl file") end
   if not core.base.exists(path .. "/summary.json") and not core.base.exists(path .. "/journal.index") then
      check.fail("this is no run directory: it has no summary.json", path, "give the run_dir of a search, or an .espdl file")
   end
   local self = { path = path, notes = {}, done = {}, failed = {}, pruned = {} }
   self.records = read_records(self)
   for _, record in ipairs(self.records) do
      local list = record.status == "pruned" and self.pruned or record.status ~= "failed" and record.score and self.done or self.failed
      list[#list + 1] = record
   end
   self.runtime = read_runtime(self)
   self.candidates = read_candidates(self)
   self.better = better(self.direction)
   return self
end

--- Where a trial's file is, or nil when it is not there (any more): the folder may have moved since the search.
---@param record table
---@param name string
---@return string?
function run.file(self, record, name)
   local path = ("%s/%04d/%s"):format(self.path, record.index, name)
   return core.base.exists(path) and path or nil
end

--- The trial's model.
---@return string?
function run.model(self, record)
   for _, name in ipairs(record.files) do
      if name:find "%.espdl$" then return run.file(self, record, name) end
   end
end

-- Modules that are on in one trial and off in another: the others are no choice.
local function choices(records)
   local on, off = {}, {}
   for _, record in ipairs(records) do
      for name, value in pairs(record.strategy) do
         if value == true then on[name] = true else off[name] = true end
      end
   end
   return function(name) return on[name] and off[name] end
end

--- The plain trial, which the others are compared with: as few modules on as there is; of these the first.
---@return table?
function run.baseline(self)
   local is_choice, best, least = choices(self.records), nil, math.huge
   for _, record in ipairs(self.done) do
      local count = 0
      for name, value in pairs(record.strategy) do
         if value == true and is_choice(name) then count = count + 1 end
      end
      if count < least then best, least = record, count end
   end
   return best, least
end

return run
