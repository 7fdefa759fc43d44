--- What gives batches: any loader as a walk that the engine takes, bound to the inputs of a graph.
local core = require "espq.core"
local check = require "espq.check"

local batches = {}
local T = core.tensor

local is_tensor = T.is_tensor

local function names_of(values)
   local names = {}
   for i, value in ipairs(values) do names[i] = value.name end
   return names
end

--- A batch (tensor, list, or name = tensor) as a list in the order of the graph's inputs.
function batches.bind(what, inputs, batch)
   if is_tensor(batch) then
      if #inputs ~= 1 then
         check.fail(("%s: one tensor is given, the graph has %d inputs: %s"):format(what, #inputs, table.concat(names_of(inputs), ", ")), nil,
                    "give a list in this order, or a table name = tensor")
      end
      return { batch }
   end
   if type(batch) == "number" then return batches.bind(what, inputs, T.tensor(batch)) end
   if type(batch) ~= "table" then check.fail(("%s: a batch has to be a tensor, a list of tensors or a table name = tensor, this is a %s"):format(what,
         type(batch))) end
   local list = {}
   if #batch > 0 then
      if #batch ~= #inputs then
         check.fail(("%s: %d tensors are given, the graph has %d inputs: %s"):format(what, #batch, #inputs, table.concat(names_of(inputs), ", ")))
      end
      for i, tensor in ipairs(batch) do
         if not is_tensor(tensor) then check.fail(("%s: item %d of the batch is a %s, not a tensor"):format(what, i, type(tensor))) end
         list[i] = tensor
      end
      return list
   end
   local names, given = names_of(inputs), batch
   batch = {}
   for name, tensor in pairs(given) do batch[name] = tensor end
   for name in pairs(batch) do
      local known = false
      for _, other in ipairs(names) do known = known or other == name end
      if not known then check.fail(("%s: the graph has no input '%s'%s"):format(what, tostring(name), check.hint(name, names))) end
   end
   for i, name in ipairs(names) do
      if batch[name] == nil and #inputs[i].consumers == 0 then          -- what no node reads needs no data
         batch[name] = T.zeros(inputs[i].shape, { dtype = inputs[i].dtype })
      end
      if not is_tensor(batch[name]) then check.fail(("%s: input '%s' is missing"):format(what, name)) end
      list[i] = batch[name]
   end
   return list
end

--- Can it be called like a function?
function batches.callable(value)
   local meta = getmetatable(value)
   return type(value) == "function" or (type(meta) == "table" and meta.__call ~= nil)
end

--- One walk over whatever a loader may be: a function that gives batch after batch, then nil.
function batches.iterator_of(what, loader)
   if is_tensor(loader) then                       -- samples along the first axis, one a batch
      local i = 0
      return function()
         i = i + 1
         if i <= #loader then return loader:slice(i - 1, i) end
      end
   end
   if batches.callable(loader) then
      local step, invariant, control = loader()
      if not batches.callable(step) then
         check.fail(("%s: a loader that is a function has to return an iterator, this one returned a %s"):format(what, is_tensor(step) and "tensor"
               or type(step)), nil,
                    "it is called once a walk: function() local i = 0; return function() i = i + 1; return batches[i] end end")
      end
      return function()
         local batch, second = step(invariant, control)
         control = batch
         if type(batch) == "number" and (is_tensor(second) or type(second) == "table") then return second end      -- i, batch as ipairs gives them
         return batch
      end
   end
   if type(loader) == "table" then
      if #loader == 0 and next(loader) ~= nil then
         check.fail(what .. ": the loader is a table without items", nil, "a list of batches is wanted: { { name = tensor }, … }")
      end
      local i = 0
      return function()
         i = i + 1
         return loader[i]
      end
   end
   check.fail(("%s: a loader is a list of batches, a function, or espq.data.loader{…}; this is a %s"):format(what, type(loader)))
end

--- Bytes of the tensors in a batch.
function batches.bytes_of(value)
   if is_tensor(value) then return value.size * ((tonumber(value.dtype:match "%d+$") or 8) // 8) end
   local sum = 0
   if type(value) == "table" then
      for _, item in pairs(value) do sum = sum + batches.bytes_of(item) end
   end
   return sum
end

--- A walk that gives batch, labels: as the loader gives them, or a batch's field `labels`. epoch: for loaders that ask.
function batches.labelled(what, loader, epoch)
   if is_tensor(loader) or not batches.callable(loader) then return batches.iterator_of(what, loader) end
   local step, invariant, control = loader(epoch)
   if not batches.callable(step) then
      check.fail(("%s: a loader that is a function has to return an iterator, this one returned a %s"):format(what, type(step)))
   end
   return function()
      local batch, labels, third = step(invariant, control)
      control = batch
      if type(batch) == "number" and (is_tensor(labels) or type(labels) == "table") then return labels, third end
      return batch, labels
   end
end

--- Remembers what walks have seen, so that several of them decode the data once. limit: bytes (128 MB); what lies behind is made anew on each walk.
function batches.memory(limit) return { batches = {}, bytes = 0, limit = limit or 128e6, full = false, complete = false } end

-- The next batch of a walk as the engine takes it: from the memory while it lasts, then from the loader, from which the remembered part is skipped.
local function prepared(what, loader, graph, options)
   local memory, step, count = options.memory, nil, 0
   local inputs = graph.inputs
   return function()
      count = count + 1
      if memory and memory.batches[count] then return memory.batches[count] end
      if memory and memory.complete then return nil end
      if not step then
         step = batches.iterator_of(what, loader)
         for _ = 1, count - 1 do step() end
      end
      local batch = step()
      if batch == nil then
         if memory and #memory.batches == count - 1 then memory.complete = true end
         return nil
      end
      if options.collate_fn then
         batch = options.collate_fn(batch)
         if batch == nil then check.fail(what .. ": collate_fn returned nothing", nil, "it has to return a tensor, a list or a table name = tensor") end
      end
      batch = batches.bind(("%s: batch %d"):format(what, count), inputs, batch)
      if memory and not memory.full and #memory.batches == count - 1 then
         memory.bytes = memory.bytes + batches.bytes_of(batch)
         memory.full = memory.bytes > memory.limit
         if not memory.full then memory.batches[count] = batch end
      end
      return batch
   end
end

--- A walk for the engine: a function called once a walk, which returns a function that gives lists of tensors.
---@param what string for messages
---@param loader any
---@param graph userdata
---@param options? { limit: integer, collate_fn: function, on_end: function, memory: table }
function batches.walk(what, loader, graph, options)
   options = options or {}
   return function()
      local next_batch, count = prepared(what, loader, graph, options), 0
      return function()
         if options.limit and count >= options.limit then return nil end
         local batch = next_batch()
         if batch then
            count = count + 1
         elseif options.on_end then
            options.on_end(count)
         end
         return batch
      end
   end
end

--- Random batches of the graph's input shapes: for structure and speed only.
function batches.random(graph, count, seed)
   local list = {}
   for i = 1, count do
      local batch = {}
      for k, input in ipairs(graph.inputs) do batch[k] = batches.random_tensor(input, seed + 1000 * i + k) end
      list[i] = batch
   end
   return list
end

function batches.random_tensor(input, seed)
   if not input.shape then check.fail(("input '%s' has no known shape"):format(input.name), nil, "give input_shape") end
   if input.dtype and input.dtype:find "int" then return T.zeros(input.shape, { dtype = input.dtype }) end
   if input.dtype == "bool" then return T.zeros(input.shape, { dtype = "bool" }) end
   return T.randn(input.shape, { seed = seed })
end

return batches
