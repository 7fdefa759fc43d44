-- Promise: whatever gives batches is walked the same way each time, in the graph's order of inputs, and what gives none says why.
local espq = require "espq"
local data = require "espq.data"

local function graph()
   return espq.graph {
      inputs = { { name = "a", shape = { 1, 2 } }, { name = "b", shape = { 1, 2 } } }, outputs = { "s" },
      nodes = { { type = "Add", inputs = { "a", "b" }, outputs = { "s" } } },
   }
end

local a, b = espq.tensor { { 1.0, 2.0 } }, espq.tensor { { 3.0, 4.0 } }

-- What the engine would see: a list of lists of tolist().
local function walked(loader, options)
   local list = {}
   for batch in data.walk("spec", loader, graph(), options)() do
      list[#list + 1] = { batch[1]:tolist(), batch[2]:tolist() }
   end
   return list
end

local one = { { { 1, 2 } }, { { 3, 4 } } }

describe("a loader", function()
   local forms = {
      ["a list of lists"] = { { a, b }, { a, b } },
      ["a list of names"] = { { a = a, b = b }, { b = b, a = a } },
      ["a function returning an iterator"] = function()
         local i = 0
         return function()
            i = i + 1
            return i <= 2 and { a, b } or nil
         end
      end,
      ["an object with __len and __call"] = setmetatable({}, {
         __len = function() return 2 end,
         __call = function() return coroutine.wrap(function() coroutine.yield { a, b } coroutine.yield { a, b } end) end,
      }),
      ["what ipairs gives"] = function() return ipairs { { a, b }, { a, b } } end,
   }
   for name, loader in pairs(forms) do
      it("can be " .. name, function()
         assert.same({ one, one }, walked(loader))
         assert.same({ one }, walked(loader, { limit = 1 }))
      end)
   end

   it("goes through collate_fn", function()
      assert.same({ one }, walked({ "x" }, { collate_fn = function() return { a, b } end }))
      assert.error_matches(function() walked({ "x" }, { collate_fn = function() end }) end, "collate_fn returned nothing")
   end)

   it("says what is wrong with a batch, and which", function()
      assert.error_matches(function() walked { { a, b }, { a } } end, "batch 2: 1 tensors are given, the graph has 2 inputs: a, b")
      assert.error_matches(function() walked { { a = a, c = b } } end, "no input 'c'")
      assert.error_matches(function() walked(function() return 1 end) end, "has to return an iterator")
      assert.error_matches(function() walked(5) end, "this is a number")
   end)
end)

describe("the memory of walks", function()
   -- How often the loader was asked in three walks of four batches of 16 bytes.
   local function asked(limit)
      local count, memory = 0, data.memory(limit)
      local function loader()
         local i = 0
         return function()
            i, count = i + 1, count + 1
            return i <= 4 and { a * i, b } or nil
         end
      end
      local seen
      for _ = 1, 3 do
         seen = {}
         for batch in data.walk("spec", loader, graph(), { memory = memory })() do seen[#seen + 1] = batch[1]:get(0, 0) end
         assert.same({ 1, 2, 3, 4 }, seen)
      end
      return count
   end

   it("asks a loader once", function() assert.equal(5, asked()) end)
   it("asks again for what does not fit", function() assert.equal(15, asked(40)) end)

   it("lets a later walk go farther than the first", function()
      local memory = data.memory()
      local batches = { { a, b }, { a * 2, b }, { a * 3, b } }
      assert.same({ one }, walked(batches, { memory = memory, limit = 1 }))
      assert.equal(3, #walked(batches, { memory = memory }))
   end)
end)

describe("data.loader", function()
   local dataset = espq.data.list { { espq.tensor { 1.0 }, 0 }, { espq.tensor { 2.0 }, 1 }, { espq.tensor { 3.0 }, 0 } }

   local function batches(options)
      options.dataset = dataset
      local list = {}
      for x, labels in espq.data.loader(options)() do list[#list + 1] = { x:tolist(), labels:tolist() } end
      return list
   end

   it("stacks samples and labels; the last batch may be smaller", function()
      assert.same({ { { { 1 }, { 2 } }, { 0, 1 } }, { { { 3 } }, { 0 } } }, batches { batch_size = 2 })
   end)

   it("stacks labels that are tensors of one shape, as masks are", function()
      local masks = espq.data.list { espq.zeros { 2 }, espq.zeros { 2 } }
      local _, labels = espq.data.loader { dataset = masks, batch_size = 2, transform = function(x) return x, espq.ones({ 3 }, { dtype = "int64" }) end }()()
      assert.same({ 2, 3 }, labels.shape)
      assert.equal("int64", labels.dtype)
   end)

   it("stops at its limit and knows its length", function()
      assert.equal(1, #espq.data.loader { dataset = dataset, batch_size = 2, limit = 2 })
      assert.equal(1, #batches { batch_size = 2, limit = 2 })
   end)

   it("shuffles anew for each epoch that asks, and the same way whenever it asks again", function()
      local loader = espq.data.loader { dataset = espq.arange(20), batch_size = 20, shuffle = true, seed = 3 }
      local function order(epoch) return loader(epoch)():tolist() end
      assert.same(order(), order(0))
      assert.same(order(2), order(2))
      assert.not_same(order(1), order(2))
      local sorted = order(2)
      table.sort(sorted)
      assert.same(espq.arange(20):tolist(), sorted)
   end)

   it("shuffles the same way on every walk", function()
      assert.same(batches { shuffle = true, seed = 5 }, batches { shuffle = true, seed = 5 })
   end)

   it("transforms samples", function()
      assert.same({ { { { 10 } }, { 0 } } }, batches { limit = 1, transform = function(x) return x * 10 end })
   end)

   it("names the nearest field", function()
      assert.error_matches(function() espq.data.loader { dataset = dataset, batchsize = 2 } end, "did you mean 'batch_size'")
   end)
end)

describe("data.cache", function()
   it("asks its source once for what it keeps", function()
      local made = 0
      local source = espq.data.loader { dataset = espq.data.list { a, b }, transform = function(x)
         made = made + 1
         return x
      end }
      local cache = espq.data.cache(source)
      for _ = 1, 3 do
         local count = 0
         for _ in cache() do count = count + 1 end
         assert.equal(2, count)
      end
      assert.equal(2, made)
   end)
end)

describe("a picture", function()
   it("is resized by the shorter side, cropped in the middle, normalised, channels first", function()
      local image = espq.full({ 4, 8, 3 }, 255, { dtype = "uint8" })
      local x = data.picture { size = 2, crop = 2, mean = { 0.5, 0.5, 0.5 }, std = { 0.5, 0.25, 0.125 } }(image)
      assert.same({ 3, 2, 2 }, x.shape)
      assert.same({ 1, 2, 4 }, { x:get(0, 0, 0), x:get(1, 1, 1), x:get(2, 0, 1) })
   end)

   it("keeps its proportions in a letterbox", function()
      local image = espq.full({ 2, 4, 3 }, 255, { dtype = "uint8" })
      local x = data.picture { size = 8, letterbox = true }(image)
      assert.same({ 3, 8, 8 }, x.shape)
      assert.is_true(math.abs(x:get(0, 0, 0) - 114 / 255) < 1e-6)
      assert.equal(1, x:get(0, 4, 4))
   end)
end)
