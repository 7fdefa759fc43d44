--- States on disk: those that had to leave memory, and those that several processes want. They took long to make; the least recently used are out
-- when there is no more room. The folder is the same for all processes of a search, on one machine or on several: files appear whole, and are called
-- by their contents.
local claims = require "espq.autoquant.claims"
local core = require "espq.core"
local files = require "espq.autoquant.files"

local spill = {}

local Spill = {}
Spill.__index = Spill

local SECONDS = 0.2              -- a state that is made faster is made again
local ROOM = 4e9                 -- bytes of the folder

--- Where states lie.
---@param folder string? nil: nothing is kept
---@param options { seconds: number?, room: number?, shared: boolean? }? shared: other processes make states of the same search
function spill.new(folder, options)
   options = options or {}
   return setmetatable({ folder = folder, seconds = options.seconds or SECONDS, room = options.room or ROOM, shared = folder and options.shared or false,
                         clock = 0, used = {} }, Spill)
end

local function path_of(self, name, ending) return ("%s/%s.%s"):format(self.folder, name, ending) end

-- Now it is the most recently used one. Times of files are whole seconds: within one this process's own order counts.
local function touch(self, name)
   self.clock = self.clock + 1
   self.used[name] = self.clock
   files.touch(path_of(self, name, "native"))
end

local function make_room(self, but)
   local list, bytes = {}, 0
   for _, file in ipairs(files.names(self.folder)) do
      local name = file:match "^(%x+)%.native$"
      local size, time = files.size(self.folder .. "/" .. file)
      if name and size then
         bytes = bytes + size
         list[#list + 1] = { name = name, size = size, time = time, used = self.used[name] or 0 }
      end
   end
   if bytes <= self.room then return end
   table.sort(list, function(a, b)
      if a.time ~= b.time then return a.time < b.time end
      if a.used ~= b.used then return a.used < b.used end
      return a.name < b.name
   end)
   for _, entry in ipairs(list) do
      if bytes <= self.room then return end
      if entry.name ~= but then
         os.remove(path_of(self, entry.name, "native"))
         bytes = bytes - entry.size
      end
   end
end

--- Keep a graph that took so long to make. A disk that is full or gone costs time only: the state is made again.
function Spill:put(name, graph, seconds)
   if not self.folder or seconds < self.seconds then return end
   pcall(function()
      if not core.base.exists(path_of(self, name, "native")) then
         core.system.make_folder(self.folder)
         core.road.save_native(graph, path_of(self, name, "native"), "", true)
      end
      touch(self, name)
      make_room(self, name)
   end)
end

--- The graph of that name and how long it took at least to make; nil when it is not kept, or cannot be read any more.
---@return userdata? graph, number? seconds
function Spill:get(name)
   if not self.folder or not core.base.exists(path_of(self, name, "native")) then return nil end
   local read, graph = pcall(core.road.load_native, path_of(self, name, "native"))
   if not read or core.road.digest(graph) ~= name then
      os.remove(path_of(self, name, "native"))
      return nil
   end
   touch(self, name)
   return graph, self.seconds
end

local function found(self, step) return (files.read(path_of(self, step, "step")) or ""):match "^(%x+)\n" end

--- Before a step of a path is made: what another process came to with it. While one is at it the others wait.
---@param step string names what the step begins with, and its settings
---@return string? digest of the graph behind it
---@return userdata? lock of this process, which makes it now; nil where files cannot be locked
function Spill:begin(step)
   if not self.shared then return nil end
   pcall(core.system.make_folder, self.folder)
   return claims.once(path_of(self, step, "lock"), function() return found(self, step) end)
end

--- A step was made: the others need not wait any more, and find its graph (nil: it is not for them) where that took long.
---@param graph userdata?
function Spill:finish(step, digest, graph, seconds)
   if graph then self:put(digest, graph, seconds) end
   pcall(core.base.write, path_of(self, step, "step"), digest .. "\n")
   os.remove(path_of(self, step, "lock"))
end

return spill
