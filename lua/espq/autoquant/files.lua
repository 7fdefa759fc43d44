--- Folders of a search: listing, removing, moving.
local check = require "espq.check"
local core = require "espq.core"

local files = {}

--- Files in a trial's folder that are the search's own, not the model's.
files.of_trial = { ["config.json"] = true, ["error.txt"] = true, ["log"] = true, ["record.json"] = true }

local function lfs()
   local found, module = pcall(require, "lfs")
   if not found then check.fail("LuaFileSystem is missing, which lists folders", nil, "luarocks install luafilesystem") end
   return module
end

--- Names in a folder, sorted; none when it is not there.
---@return string[]
function files.names(folder)
   local list = {}
   if lfs().attributes(folder, "mode") ~= "directory" then return list end
   for name in lfs().dir(folder) do
      if name ~= "." and name ~= ".." then list[#list + 1] = name end
   end
   table.sort(list)
   return list
end

function files.is_folder(path) return lfs().attributes(path, "mode") == "directory" end

---@return integer? bytes nil when there is no such file
---@return integer? time when it was written or touched
function files.size(path)
   local known = lfs().attributes(path)
   if known then return known.size, known.modification end
end

function files.touch(path) lfs().touch(path) end

--- A folder with everything in it. Links are removed, not followed.
function files.remove(path)
   if lfs().symlinkattributes(path, "mode") == "directory" then
      for _, name in ipairs(files.names(path)) do files.remove(path .. "/" .. name) end
   end
   os.remove(path)
end

---@return string?
function files.read(path)
   local file = io.open(path, "rb")
   if not file then return nil end
   local content = file:read "a"
   file:close()
   return content
end

--- The same file under a second name, or a copy where the file system has no second names.
function files.link(from, to)
   if lfs().link(from, to) then return end
   local content = files.read(from)
   if not content then check.fail("the file is gone", from) end
   core.base.write(to, content)
end

return files
