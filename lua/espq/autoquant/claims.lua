--- Claims: which of several processes on several machines does what. A claim is a file that appears at once, with its owner in it, or was
-- there before; so two never have the same one. A process that was started again takes up what it had claimed in its earlier life.
local check = require "espq.check"
local core = require "espq.core"
local files = require "espq.autoquant.files"

local claims = {}

---@class espq.autoquant.Claims
local Claims = {}
Claims.__index = Claims

local function link(from, to)
   local found, lfs = pcall(require, "lfs")
   if not found then check.fail("LuaFileSystem is missing, which claims trials", nil, "luarocks install luafilesystem") end
   return lfs.link(from, to)
end

-- All claims of a life are names of this one file; a file has only so many names, then there is another.
local function new_owner_file(self)
   self.files = (self.files or 0) + 1
   self.owner = ("%s/.owner-%s.%d-%d"):format(self.folder, self.id, self.life, self.files)
   core.base.write(self.owner, ("%s %d 1\n"):format(self.id, self.life))
end

--- The claims in a folder, as this process makes them.
---@param folder string exists
---@param id string the same in each life of the process
---@param life integer counts its starts
---@return espq.autoquant.Claims
function claims.new(folder, id, life)
   local self = setmetatable({ folder = folder, id = id, life = life, mine = {} }, Claims)
   new_owner_file(self)
   return self
end

local function owner_of(path)
   local id, life, attempt = (files.read(path) or ""):match "^(%S+) (%d+) (%d+)\n"
   return id, math.tointeger(tonumber(life)), math.tointeger(tonumber(attempt))
end

--- Claim a name. Gives how many lives of this process have had it, this one included; nil when it is another's, or was taken in this life.
---@param name string
---@return integer? attempt
function Claims:take(name)
   local path = self.folder .. "/" .. name
   local function taken(attempt)
      self.mine[name] = true
      return attempt
   end
   if link(self.owner, path) then return taken(1) end
   if not core.base.exists(path) then
      new_owner_file(self)
      if link(self.owner, path) then return taken(1) end
      if not core.base.exists(path) then
         check.fail("the file system gives a file no second name, by which trials are claimed", path, "choose a run_dir on another shared folder")
      end
   end
   local id, life, attempt = owner_of(path)
   if id ~= self.id then return nil end
   -- A network file system may have made the name, lost its answer, and refused the same request the second time.
   if life == self.life then return not self.mine[name] and taken(attempt) or nil end
   if life > self.life then return nil end
   core.base.write(path, ("%s %d %d\n"):format(self.id, self.life, attempt + 1))      -- nobody else has this id
   return taken(attempt + 1)
end

--- Is the name taken, by anybody?
function Claims:taken(name) return core.base.exists(self.folder .. "/" .. name) end

--- Did an earlier life of this process take it?
function Claims:inherited(name)
   local id, life = owner_of(self.folder .. "/" .. name)
   return id == self.id and life < self.life
end

local FIRST_PAUSE, LAST_PAUSE = 0.002, 0.5

--- Something that one process makes for all: what is found of it, or the right to make it. While another makes it this one waits; should that one
--- die, its lock is free.
---@param lock_path string
---@param find fun(): any nil while it is not there
---@return any found
---@return userdata? lock to be closed when it is made; nil where files cannot be locked: each process makes it then
function claims.once(lock_path, find)
   local pause = FIRST_PAUSE
   while true do
      local found = find()
      if found ~= nil then return found end
      local done, lock = pcall(core.system.lock, lock_path, "", true)
      if not done then return nil end
      if lock then
         found = find()                                      -- it may have come since the look before
         if found == nil then return nil, lock end
         lock:close()
         return found
      end
      core.process.wait({}, pause)
      core.base.check_cancel()
      pause = math.min(2 * pause, LAST_PAUSE)
   end
end

return claims
