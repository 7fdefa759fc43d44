--- What a pass changed: nodes, their exponents and constants, before and after.
local changes = {}

local Details, Detail = {}, {}
Detail.__index = Detail

-- ---- a graph as it is ----

local function node_of(node)
   local seen = { type = node.type, platform = node.platform, slots = {}, constants = {} }
   local parts = { node.type, node.platform }
   for _, side in ipairs { "input", "output" } do
      for i, slot in ipairs(node[side .. "_config"]) do
         local exponent = slot.exponent
         seen.slots[#seen.slots + 1] = { place = side .. " " .. i, exponent = exponent, state = slot.state }
         parts[#parts + 1] = slot.state .. ":" .. (type(exponent) == "table" and table.concat(exponent, ",") or tostring(exponent))
      end
   end
   for i, input in ipairs(node.inputs) do
      if input then
         parts[#parts + 1] = input.name
         local value = input.value
         seen.constants[i] = value and { name = input.name, value = value }
         if value and value.size > 0 and value.dtype ~= "bool" then
            parts[#parts + 1] = ("%.9g/%.9g"):format(value:sum():item(), value:abs():sum():item())
         end
      end
   end
   seen.text = table.concat(parts, " ")
   return seen
end

--- By name, what every node is made of.
function changes.snapshot(graph)
   local seen = {}
   for node in graph:nodes() do seen[node.name] = node_of(node) end
   return seen
end

-- ---- the difference ----

local function largest(tensor) return tensor.size > 0 and tensor:to("float32"):abs():max():item() or 0 end

local function same_shape(a, b) return table.concat(a.shape, ",") == table.concat(b.shape, ",") and a.dtype == b.dtype end

-- nil: the constant is as it was.
local function constant_change(before, after)
   if not before and not after then return nil end
   local row = { name = (after or before).name, before = before and before.value, after = after and after.value }
   if row.before and row.after and same_shape(row.before, row.after) then
      if row.before:equal(row.after) then return nil end
      local difference = (row.after:to "float32" - row.before:to "float32"):abs()
      row.of, row.largest = difference.size, largest(difference)
      row.changed = math.tointeger(difference:gt(0):to("int64"):sum():item())
   end
   return row
end

local function same_exponent(a, b)
   if type(a) ~= "table" or type(b) ~= "table" then return a == b end
   return table.concat(a, ",") == table.concat(b, ",")
end

-- nil: nothing of the node has changed. before, after: nil where it is not there.
local function node_change(name, before, after)
   local detail = setmetatable({ name = name, type = (after or before).type, before = before and before.text, after = after and after.text,
                                 constants = {}, exponents = {}, states = {} }, Detail)
   if not before or not after then return detail end
   if before.platform ~= after.platform then detail.platform = { before = before.platform, after = after.platform } end
   for i = 1, math.max(#before.slots, #after.slots) do
      local a, b = before.slots[i], after.slots[i]
      if a and b and a.place == b.place and not same_exponent(a.exponent, b.exponent) then
         detail.exponents[#detail.exponents + 1] = { place = b.place, before = a.exponent, after = b.exponent }
      end
      local was, is = a and a.state, b and b.state
      if was ~= is then detail.states[#detail.states + 1] = { place = (b or a).place, before = was, after = is } end
   end
   local last = 0
   for i in pairs(before.constants) do last = math.max(last, i) end
   for i in pairs(after.constants) do last = math.max(last, i) end
   for i = 1, last do detail.constants[#detail.constants + 1] = constant_change(before.constants[i], after.constants[i]) end
   local same = before.text == after.text and #detail.constants == 0
   return not same and detail or nil
end

--- Names of the nodes that differ, sorted, and by name how: `type`; `constants`, each { name =, before =, after = (tensors), changed =, of =, largest = };
--- `exponents` and `states` of its ends, each { place = "input 2", before =, after = }; `platform`, where that changed; `before` and `after` as one line
--- of text. tostring gives it in words.
function changes.between(before, after)
   local changed, details = {}, setmetatable({}, Details)
   local function add(name)
      local detail = details[name] == nil and node_change(name, before[name], after[name])
      if detail then
         details[name] = detail
         changed[#changed + 1] = name
      end
   end
   for name in pairs(after) do add(name) end
   for name in pairs(before) do
      if not after[name] then add(name) end
   end
   table.sort(changed)
   return changed, details
end

-- ---- in words ----

local function shape_text(tensor) return "[" .. table.concat(tensor.shape, ", ") .. "]" end

local function constant_text(row)
   if not row.before then return ("%s: new, %s"):format(row.name, shape_text(row.after)) end
   if not row.after then return ("%s: no constant any more"):format(row.name) end
   local reach = ("largest magnitude %.4g -> %.4g"):format(largest(row.before), largest(row.after))
   if not row.of then return ("%s: %s -> %s, %s"):format(row.name, shape_text(row.before), shape_text(row.after), reach) end
   return ("%s: %d of %d numbers differ, by %.4g at most; %s"):format(row.name, row.changed, row.of, row.largest, reach)
end

local function exponent_text(row)
   local a, b = row.before, row.after
   if type(a) ~= "table" or type(b) ~= "table" or #a ~= #b then
      local function word(exponent)
         if type(exponent) ~= "table" then return exponent == nil and "none" or tostring(exponent) end
         return ("%d to %d (%d channels)"):format(math.min(table.unpack(exponent)), math.max(table.unpack(exponent)), #exponent)
      end
      return ("%s: exponent %s -> %s"):format(row.place, word(a), word(b))
   end
   local moved, least, most = 0, math.huge, -math.huge
   for i = 1, #a do
      local by = b[i] - a[i]
      if by ~= 0 then moved, least, most = moved + 1, math.min(least, by), math.max(most, by) end
   end
   return ("%s: exponents of %d of %d channels move by %d to %d"):format(row.place, moved, #a, least, most)
end

function Detail.__tostring(detail)
   if not detail.before then return ("%s (%s): new"):format(detail.name, detail.type) end
   if not detail.after then return ("%s (%s): removed"):format(detail.name, detail.type) end
   local lines = { ("%s (%s)"):format(detail.name, detail.type) }
   if detail.platform then lines[2] = ("   platform %s -> %s"):format(detail.platform.before, detail.platform.after) end
   for _, row in ipairs(detail.constants) do lines[#lines + 1] = "   " .. constant_text(row) end
   for _, row in ipairs(detail.exponents) do lines[#lines + 1] = "   " .. exponent_text(row) end
   for _, row in ipairs(detail.states) do
      lines[#lines + 1] = ("   %s: %s -> %s"):format(row.place, row.before or "not quantized", row.after or "not quantized")
   end
   if #lines == 1 then lines[1] = lines[1] .. (": %s -> %s"):format(detail.before, detail.after) end
   return table.concat(lines, "\n")
end

function Details.__tostring(details)
   local names, lines = {}, {}
   for name in pairs(details) do names[#names + 1] = name end
   table.sort(names)
   for i, name in ipairs(names) do lines[i] = tostring(details[name]) end
   return #lines > 0 and table.concat(lines, "\n") or "nothing has changed"
end

return changes
