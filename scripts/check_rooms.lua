-- Which room may include which: src/rooms.txt says it, this reads every #include of src and fails on any other arrow.
-- Run by `make rooms` with espq itself.

local lfs = require "lfs"

local function read_rooms(path)
   local rooms, order = {}, {}
   for line in io.lines(path) do
      local room, allowed = line:match "^(%w+):%s*(.*)$"
      if room then
         rooms[room] = {}
         order[#order + 1] = room
         for name in allowed:gmatch "%w+" do rooms[room][name] = true end
      end
   end
   return rooms, order
end

-- A room may use what the rooms it may use may use.
local function close(rooms)
   local changed = true
   while changed do
      changed = false
      for _, allowed in pairs(rooms) do
         for name in pairs(allowed) do
            for further in pairs(rooms[name] or {}) do
               if not allowed[further] then
                  allowed[further] = true
                  changed = true
               end
            end
         end
         if changed then break end
      end
   end
end

local function files_of(folder, found)
   for name in lfs.dir(folder) do
      local path = folder .. "/" .. name
      if name:sub(1, 1) ~= "." then
         if lfs.attributes(path, "mode") == "directory" then files_of(path, found)
         elseif name:match "%.[ch]$" then found[#found + 1] = path end
      end
   end
   return found
end

local rooms, order = read_rooms "src/rooms.txt"
-- Headers of other rooms that name no driver: columns of rows are filled in through them.
local helpers = { ["quant/slots.h"] = "ops", ["quant/target.h"] = "ops" }
close(rooms)
local faults, includes = 0, 0
for _, room in ipairs(order) do
   for _, path in ipairs(files_of("src/" .. room, {})) do
      local number = 0
      for line in io.lines(path) do
         number = number + 1
         local header = line:match '^#include "([%w_/%.]+)"'
         local from = header and header:match "^(%w+)/"
         if from and rooms[from] then
            includes = includes + 1
            if from ~= room and not rooms[room][from] and helpers[header] ~= room then
               faults = faults + 1
               io.stderr:write(("%s:%d: %s may not include %s (src/rooms.txt)\n"):format(path, number, room, header))
            end
         end
      end
   end
end
for name in lfs.dir "src" do
   if name:sub(1, 1) ~= "." and lfs.attributes("src/" .. name, "mode") == "directory" and not rooms[name] then
      faults = faults + 1
      io.stderr:write(("src/%s has no line in src/rooms.txt\n"):format(name))
   end
end
print(("%d includes of %d rooms, %d faults"):format(includes, #order, faults))
os.exit(faults == 0 and 0 or 1)
