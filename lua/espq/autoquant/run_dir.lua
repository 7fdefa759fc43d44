--- The run directory: summary.json and candidates.json as the reference writes them, a folder for each trial, a journal, a lock.
local check = require "espq.check"
local core = require "espq.core"
local candidates = require "espq.autoquant.candidates"
local files = require "espq.autoquant.files"
local journal = require "espq.autoquant.journal"
local json = require "espq.json"
local records = require "espq.autoquant.records"
local text = require "espq.autoquant.text"

local run_dir = {}

---@class espq.autoquant.RunDir
local RunDir = {}
RunDir.__index = RunDir

-- Names a filter by what it does: its byte code. What it closes over cannot be seen.
local function filter_name(filter)
   if not filter then return "none" end
   local done, code = pcall(string.dump, filter, true)
   return done and core.system.sha1(code) or "native"
end

local function holder()
   local pid, host = core.system.process()
   return ("process %d on %s, since %s\n"):format(pid, host, os.date "%Y-%m-%d %H:%M:%S")
end

-- ---- reading what is there ----

local function read_list(path)
   local content = files.read(path)
   if not content then return nil, "is missing" end
   local done, list = pcall(json.decode, content)
   if not done then return nil, "is no JSON: " .. tostring(list) end
   if type(list) ~= "table" or (next(list) ~= nil and #list == 0) then return nil, "is not a list" end
   for i, item in ipairs(list) do
      if type(item) ~= "table" or #item > 0 then return nil, ("has an item %d that is no object"):format(i) end
   end
   return list
end

local CURE = "mend the file, or run with resume = false, which begins anew"

-- Without a journal (the reference wrote the folder) both files have to be there and to fit together.
local function check_reference_files(self)
   local missing = {}
   for _, path in ipairs { self.summary_path, self.candidates_path } do
      if not core.base.exists(path) then missing[#missing + 1] = path end
   end
   if #missing > 0 then
      check.fail(("resume needs the files of an earlier search: %s %s missing"):format(table.concat(missing, ", "), #missing > 1 and "are" or "is"),
                 self.path, "run with resume = false first")
   end
   local lists = {}
   for i, path in ipairs { self.summary_path, self.candidates_path } do
      local list, why = read_list(path)
      if not list then check.fail("cannot resume: the file " .. why, path, CURE) end
      lists[i] = list
   end
   if (#lists[1] == 0) ~= (#lists[2] == 0) then
      check.fail("cannot resume: of summary.json and candidates.json one is empty and the other is not", self.path, CURE)
   end
   return lists[1]
end

-- What makes trials comparable; the rest of a call (paths, how many candidates) may change from one search to the next.
local SAME = { "target", "score_direction", "calib_steps", "input_shape" }

-- Trials of another chip, or judged the other way round, would be mixed with these.
local function check_same_search(self, runtime)
   local first = core.base.exists(self.path .. "/0000/config.json")      -- a folder with very many need not be listed
   for _, name in ipairs(first and { "0000" } or files.names(self.path)) do
      local content = name:find "^%d%d%d%d+$" and files.read(("%s/%s/config.json"):format(self.path, name))
      local done, config = pcall(json.decode, content or "")
      local before = done and type(config) == "table" and type(config.runtime) == "table" and config.runtime or nil
      if before then
         for _, field in ipairs(SAME) do
            local was, is = text.encode(before[field]), text.encode(runtime[field])
            if before[field] ~= nil and was ~= is then
               check.fail(("cannot resume: the trials in this folder were made with %s = %s, this search has %s"):format(field, was, is), self.path,
                          "take another run_dir, or run with resume = false, which begins anew")
            end
         end
         return
      end
   end
end

local function accepted(self, record)
   return not self.filter or (self.filter(record) and true or false)
end

local function see(self, entry)
   self.done[entry.hash] = entry.score or false
   self.position[entry.hash] = entry.position
   self.next_index = math.max(self.next_index, entry.index + 1)
   self.pool:add(entry)
   if entry.status == "failed" then self.failed = self.failed + 1 end
end

-- A record that the journal does not know: from a folder of the reference, or added by hand.
local function adopt(self, record)
   if type(record.hash) ~= "string" or not record.hash:find "^%x+$" or self.done[record.hash] ~= nil then return end
   local failed = record.status == "failed" or record.status == "pruned"
   local score = type(record.score) == "number" and record.score + 0.0 or nil
   if not failed and not score then
      check.fail(("trial %s stands in summary.json without a score"):format(record.hash:sub(1, 8)), self.summary_path, CURE)
   end
   local entry = {
      hash = record.hash, index = math.tointeger(record.index) or self.next_index, status = failed and record.status or "done", score = score,
      accepted = score ~= nil and accepted(self, record),
   }
   self.journal:add(entry, records.text(record))
   see(self, entry)
end

local function load_journal(self)
   local entries = {}
   local same = self.journal:load(function(entry)
      if self.refilter then entries[#entries + 1] = entry else see(self, entry) end
   end)
   return same, entries
end

-- The filter is another one: its verdict is asked for each record again.
local function reload_with_filter(self)
   self.done, self.position, self.next_index, self.failed = {}, {}, 0, 0
   self.pool = candidates.pool(self.pool.count, self.filter ~= nil, self.direction)
   local old = self.journal
   self.journal = journal.new(self.path, old.filter)
   self.refilter = true
   local _, entries = load_journal(self)
   for _, entry in ipairs(entries) do
      entry.accepted = entry.score ~= nil and accepted(self, json.decode(self.journal:record(entry.position)))
      see(self, entry)
   end
end

local function resume(self)
   if not self.journal:exists() then
      local list = check_reference_files(self)
      self.journal:begin()
      for _, record in ipairs(list) do adopt(self, record) end
   else
      local same_filter, dropped = load_journal(self), self.journal.dropped
      if not same_filter then reload_with_filter(self) end
      if dropped > 0 then
         core.base.note(("note: the machine stopped before the last %d trials were on the disk for good: they are run again"):format(dropped))
      end
      if not self.journal:summary_is_whole() then
         local list, why = read_list(self.summary_path)
         if list then
            for _, record in ipairs(list) do adopt(self, record) end
         else
            core.base.note(("note: %s %s; it is written anew from the journal (%d trials)"):format(self.summary_path, why, self.journal.count))
         end
      end
   end
   if not self.journal:summary_is_whole() then self.journal:write_summary() end
   self:write_candidates()
end

-- ---- beginning ----

local function is_trial(name) return name:find "^%d%d%d%d+$" ~= nil end

-- A trial that a worker has finished before its turn: its folder is whole when the record is in it.
local RECORD = "/record.json"

-- What earlier processes left: half-written files go, finished trials whose turn had not come stay when they are of use.
local function tidy(self, keep_ahead)
   for _, name in ipairs(files.names(self.path)) do
      local path = self.path .. "/" .. name
      local whole = name:find "^%.ahead%-" and core.base.exists(path .. RECORD)
      if name:find "^%.trial%-" or name:find "^%.states%-"
         or name:find "%.tmp%-%d+$" or (name:find "^%.ahead%-" and not (whole and keep_ahead)) then files.remove(path) end
   end
end

local function begin_anew(self)
   for _, name in ipairs(files.names(self.path)) do
      if is_trial(name) then files.remove(self.path .. "/" .. name) end
   end
   os.remove(self.judged_path)
   self.journal:begin()
   self.journal:write_summary()
   core.base.write(self.candidates_path, "[]")
   os.remove(self.path .. "/pareto.json")
end

--- Open the run directory of a setting, and hold it.
---@param setting espq.autoquant.Setting
---@param direction "maximize"|"minimize" the one in force
---@param judges boolean? are candidates judged by another metric than the one that ranks?
---@param runtime table? what config.json of its trials says of the search
---@return espq.autoquant.RunDir
function run_dir.open(setting, direction, judges, runtime)
   local path = #setting.run_dir > 1 and setting.run_dir:gsub("/+$", "") or setting.run_dir
   local self = setmetatable({
      path = path, summary_path = path .. "/summary.json", candidates_path = path .. "/candidates.json",
      judged_path = path .. "/judged.json", judges = judges, filter = setting.candidate_filter,
      direction = direction, pool = candidates.pool(setting.num_of_candidates, setting.candidate_filter ~= nil, direction), done = {}, position = {},
      next_index = 0, failed = 0, journal = journal.new(path, filter_name(setting.candidate_filter)),
   }, RunDir)
   if setting.resume then                                 -- before anything is touched
      if runtime then check_same_search(self, runtime) end
      if not self.journal:exists() then check_reference_files(self) end
   end
   self.synced = core.system.clock()
   core.system.make_folder(path)
   self.lock = core.system.lock(path .. "/lock", holder())
   local done, err = xpcall(function()
      tidy(self, setting.resume)
      if setting.resume then resume(self) else begin_anew(self) end
   end, function(err) return err end)
   if not done then
      self.lock:close()
      error(err, 0)
   end
   return self
end

--- For a process that does not hold the run directory: places for trials in a folder of its own.
---@param path string
function run_dir.guest(path)
   core.system.make_folder(path)
   return setmetatable({ path = path, done = {}, lock = { forget = function() end } }, RunDir)
end

-- ---- trials ----

local function emptied(path)
   files.remove(path)
   core.system.make_folder(path)
   return path
end

--- An empty folder for the trial at hand; it gets its number when the trial is done.
---@return string
function RunDir:workplace() return emptied(("%s/.trial-%d"):format(self.path, core.system.process())) end

--- The same for a trial whose turn has not come.
function RunDir:workplace_ahead(hash) return emptied(("%s/.ahead-%s"):format(self.path, hash)) end

--- Where this search and its workers keep states on disk; gone at its end.
function RunDir:states_folder() return ("%s/.states-%d"):format(self.path, core.system.process()) end

--- What a worker found out in its folder, or nil when that is not whole.
---@return table?
function RunDir:ahead(hash)
   local content = files.read(("%s/.ahead-%s%s"):format(self.path, hash, RECORD))
   local done, found = pcall(json.decode, content or "")
   if not done then return nil end
   found.workplace = ("%s/.ahead-%s"):format(self.path, hash)
   for name, size in pairs(found.sizes or {}) do
      if files.size(found.workplace .. "/" .. name) ~= size then return nil end       -- its machine stopped before the file was on the disk
   end
   return found
end

--- How many finished trials wait for their turn?
---@return integer
function RunDir:waiting()
   local count = 0
   for _, name in ipairs(files.names(self.path)) do
      if name:find "^%.ahead%-" then count = count + 1 end
   end
   return count
end

--- In a worker: all is said about its trial. Nothing is synced: sizes tell whether all was written, should the machine stop.
function RunDir.write_ahead(workplace, found)
   found.sizes = {}
   for _, name in ipairs(files.names(workplace)) do
      if name ~= "log" then found.sizes[name] = files.size(workplace .. "/" .. name) end
   end
   core.base.write(workplace .. RECORD, text.encode(found))
end
run_dir.write_ahead = RunDir.write_ahead

function RunDir:folder(index) return ("%s/%04d"):format(self.path, index) end

-- The summary is rewritten when an eighth has come to it: on the whole that costs each trial the same.
local function summary_is_due(self)
   local written = self.journal.written_count or 0
   return self.journal.count - written > written // 8
end

local CHECKPOINT_SECONDS = 5     -- what a loss of power costs
local CHECKPOINT_COST = 20       -- times as long as it took until the next one

--- Everything that was kept so far survives the end of the machine, too. For many trials at once, as a disk takes a while for it.
---@param seconds number but not if the last time was so recently
function RunDir:checkpoint(seconds)
   local now = core.system.clock()
   if now - self.synced < seconds then return end
   self.journal:checkpoint(self.path)
   self.synced = core.system.clock()
   self.synced = self.synced + CHECKPOINT_COST * (self.synced - now)       -- a busy disk is asked less often
end

--- Keep a finished trial: its folder gets its number, then record, summary, candidates.
---@param record table without index, folder, files
---@param workplace string
---@return table record
function RunDir:keep(record, workplace)
   local index = self.next_index
   local folder = self:folder(index)
   os.remove(workplace .. RECORD)
   record.index, record.folder, record.files = index, folder, json.list {}
   for _, name in ipairs(files.names(workplace)) do
      if not files.of_trial[name] then table.insert(record.files, name) end
   end
   files.remove(folder)                                  -- of a process that was killed between this and the journal
   core.system.rename(workplace, folder)
   local entry = { hash = record.hash, index = index, status = record.status, score = record.score }
   entry.accepted = record.score ~= nil and accepted(self, record)
   self.journal:add(entry, records.text(record))
   see(self, entry)
   entry.record = record
   if record.score and self:is_candidate(entry) then self:write_candidates() end
   if summary_is_due(self) then self.journal:write_summary() end
   self:checkpoint(CHECKPOINT_SECONDS)
   return record
end

--- The record of a trial that was tried.
---@param hash string
---@return table
function RunDir:record(hash) return json.decode(self.journal:record(self.position[hash])) end

function RunDir:is_candidate(entry)
   for _, side in ipairs { self.pool.accepted, self.pool.others } do
      for _, other in ipairs(side) do
         if other == entry then return true end
      end
   end
   return false
end

--- The candidates, best first.
---@return table[]
function RunDir:candidates()
   local list = {}
   for i, entry in ipairs(self.pool:list()) do
      entry.record = entry.record or json.decode(self.journal:record(entry.position))
      list[i] = entry.record
   end
   return list
end

-- ---- judged again ----

-- By hash: score and extras of the full metric. Scores of the summary stay those that ranked, or resuming would rank otherwise.
local function load_judged(self)
   if self.full then return end
   if not self.judges then
      self.full = {}
      return
   end
   local done, found = pcall(json.decode, files.read(self.judged_path) or "{}")
   self.full = done and type(found) == "table" and found or {}
end

--- What the full metric said of a trial, nil when it was not asked.
function RunDir:judged(record)
   load_judged(self)
   return self.full[record.hash]
end

function RunDir:judge(record, score, extras)
   load_judged(self)
   self.full[record.hash] = { score = score, extras = extras }
   core.base.write(self.judged_path, text.encode(self.full, 4))
end

-- A candidate as it is shown: where the full metric has judged, its score and extras, and the one that ranked as score_fast.
local function shown(self, record)
   local known = self:judged(record)
   if not known then return record end
   local copy = {}
   for key, value in pairs(record) do copy[key] = value end
   for key, value in pairs(known.extras) do copy[key] = value end
   copy.score, copy.score_fast = known.score, record.score
   return copy
end

--- The candidates as they are handed out: best first, those that were judged in full before the others.
---@return table[]
function RunDir:results()
   local judged, others = {}, {}
   for _, record in ipairs(self:candidates()) do
      local list = self:judged(record) and judged or others
      list[#list + 1] = shown(self, record)
   end
   table.sort(judged, candidates.by_score(self.direction))
   return table.move(others, 1, #others, #judged + 1, judged)
end

function RunDir:write_candidates() core.base.write(self.candidates_path, records.list(self:results())) end

--- Everything on disk, and the folder free for others.
---@param complete boolean is the search at its end? Else finished trials whose turn has not come stay for the next.
function RunDir:close(complete)
   if not self.lock then return end
   local lock = self.lock
   self.lock = nil
   local done, err = true, nil
   if not self.journal:summary_is_whole() then
      done, err = pcall(self.journal.write_summary, self.journal)
   end
   if done then done, err = pcall(self.journal.checkpoint, self.journal, self.path) end
   pcall(tidy, self, not complete)
   lock:close()
   if not done then error(err, 0) end
end

return run_dir
