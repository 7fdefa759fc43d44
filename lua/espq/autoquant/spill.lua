--- States that had to leave memory, on disk: those that took long to make, the least recently used out when there is no more room.
local core = require "espq.core"
local files = require "espq.autoquant.files"

local spill = {}

local Spill = {}
Spill.__index = Spill

local SECONDS = 0.2              -- a state that is made faster is made again
local ROOM = 4e9                 -- bytes, of each process

--- Where states lie in a run directory: a folder for each process, gone when the search ends.
---@param folder string? nil: nothing is kept
---@param options { seconds: number, room: number }?
function spill.new(folder, options)
   options = options or {}
   return setmetatable({ parent = folder, seconds = options.seconds or SECONDS, room = options.room or ROOM, bytes = 0, clock = 0, kept = {} }, Spill)
end

-- The folder of this process. What the parent of a fork keeps is the parent's.
local function folder_of(self)
   local process = core.system.process()
   if self.process ~= process then
      self.process, self.kept, self.bytes = process, {}, 0
      self.folder = ("%s/.states-%d"):format(self.parent, process)
      core.system.make_folder(self.folder)
   end
   return self.folder
end

local function remove(self, name)
   self.bytes = self.bytes - self.kept[name].bytes
   os.remove(self.kept[name].path)
   self.kept[name] = nil
end

local function make_room(self, but)
   while self.bytes > self.room do
      local oldest
      for name, entry in pairs(self.kept) do
         if name ~= but and (not oldest or entry.used < self.kept[oldest].used) then oldest = name end
      end
      if not oldest then return end
      remove(self, oldest)
   end
end

--- Keep a graph that took so long to make. A disk that is full or gone costs time only: the state is made again.
function Spill:put(name, graph, seconds)
   if not self.parent or seconds < self.seconds then return end
   pcall(function()
      local path = ("%s/%s.native"):format(folder_of(self), name)
      if self.kept[name] then return end
      core.road.save_native(graph, path, "", true)
      self.clock = self.clock + 1
      self.kept[name] = { path = path, bytes = files.size(path) or 0, seconds = seconds, used = self.clock }
      self.bytes = self.bytes + self.kept[name].bytes
      make_room(self, name)
   end)
end

--- The graph of that name and how long it took to make; nil when it is not kept, or cannot be read any more.
---@return userdata? graph, number? seconds
function Spill:get(name)
   local entry = self.process == core.system.process() and self.kept[name]
   if not entry then return nil end
   local read, graph = pcall(core.road.load_native, entry.path)
   if not read or core.road.digest(graph) ~= name then
      remove(self, name)
      return nil
   end
   self.clock = self.clock + 1
   entry.used = self.clock
   return graph, entry.seconds
end

return spill
