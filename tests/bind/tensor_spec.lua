-- Promise: tensors of scripts count from 0, broadcast as NumPy does, share memory between views, and refuse what is outside.
local espq = require "espq"

local function t(nested, dtype) return espq.tensor(nested, dtype) end

describe("making a tensor", function()
   it("takes its type from the numbers", function()
      assert.equal("int64", t({ 1, 2 }).dtype)
      assert.equal("float32", t({ 1, 2.5 }).dtype)
      assert.equal("bool", t({ true, false }).dtype)
      assert.equal("int8", t({ 1, 2 }, "int8").dtype)
   end)

   it("has a shape that is a list and prints as one", function()
      local shape = espq.zeros({ 2, 3 }).shape
      assert.equal("[2, 3]", tostring(shape))
      assert.same({ 2, 3 }, { table.unpack(shape) })
      assert.equal("[]", tostring(espq.tensor(1.0).shape))
   end)

   it("refuses tables that are not regular", function()
      assert.error_matches(function() t { { 1, 2 }, { 3 } } end, "not regular")
      assert.error_matches(function() t { { 1, 2 }, 3 } end, "not regular")
   end)

   it("names the nearest dtype", function()
      local err = assert.error(function() t({ 1 }, "flaot32") end)
      assert.matches("did you mean 'float32'", tostring(err), 1, true)
   end)

   it("draws the same random numbers for the same seed", function()
      assert.is_true(espq.randn({ 3, 4 }, { seed = 7 }):equal(espq.randn({ 3, 4 }, { seed = 7 })))
      assert.is_false(espq.randn({ 3, 4 }, { seed = 7 }):equal(espq.randn({ 3, 4 }, { seed = 8 })))
   end)

   it("keeps int64 exact", function()
      assert.equal(9007199254740993, t({ 9007199254740993 }):get(0))
   end)
end)

describe("positions", function()
   local x = t { { 1, 2, 3 }, { 4, 5, 6 } }

   it("count from 0, and from the end when negative", function()
      assert.equal(6, x:get(1, 2))
      assert.equal(4, x:get(-1, 0))
      assert.same({ 4, 5, 6 }, x[1]:tolist())
   end)

   it("outside are errors, never nil", function()
      assert.error_matches(function() return x[2] end, "outside")
      assert.error_matches(function() return x:get(0, 3) end, "outside axis 1 of size 3")
      assert.error_matches(function() return x:get(0) end, "2 positions are wanted")
   end)

   it("walk the first axis by rows, from 0", function()
      local seen = {}
      for i, row in x:rows() do seen[#seen + 1] = { i, row:tolist() } end
      assert.same({ { 0, { 1, 2, 3 } }, { 1, { 4, 5, 6 } } }, seen)
   end)
end)

describe("views", function()
   it("share memory with what they look at", function()
      local x = espq.zeros { 2, 3 }
      x[1]:set(2, 5)
      x:slice { axis = 1, start = 0, stop = 1 }[0] = 7
      assert.same({ { 7, 0, 0 }, { 0, 0, 5 } }, x:tolist())
   end)

   it("outlive the tensor that owns the memory", function()
      local row = t({ { 1, 2 }, { 3, 4 } })[1]
      collectgarbage()
      assert.same({ 3, 4 }, row:tolist())
   end)

   it("take another shape, one size of which may be left open", function()
      assert.same({ 3, 2 }, espq.arange(6):view(3, -1).shape)
      assert.error_matches(function() espq.arange(6):view(4, -1) end, "do not fit")
   end)
end)

describe("assigning a part", function()
   it("broadcasts, and refuses other shapes", function()
      local x = espq.zeros { 2, 2, 2 }
      x[0] = t { 1.0, 2.0 }
      x[1] = 3
      assert.same({ { { 1, 2 }, { 1, 2 } }, { { 3, 3 }, { 3, 3 } } }, x:tolist())
      assert.error_matches(function() x[0] = espq.zeros { 3 } end, "cannot be put into")
   end)
end)

describe("arithmetic", function()
   it("broadcasts and takes numbers on either side", function()
      local x = t { { 1.0 }, { 2.0 } }
      assert.same({ { 11, 21 }, { 12, 22 } }, (x + t { 10.0, 20.0 }):tolist())
      assert.same({ { 9 }, { 8 } }, (10 - x):tolist())
      assert.same({ { -1 }, { -2 } }, (-x):tolist())
      assert.same({ { 1 }, { 4 } }, (x ^ 2):tolist())
   end)

   it("names both shapes when they do not broadcast", function()
      local err = assert.error(function() return espq.zeros { 2, 3 } + espq.zeros { 2, 2 } end)
      assert.matches("[2, 3]", tostring(err), 1, true)
      assert.matches("[2, 2]", tostring(err), 1, true)
   end)

   it("compares tensors of one element as numbers", function()
      assert.is_true(t { 1.0 } < 2)
      assert.error_matches(function() return t { 1.0, 2.0 } < 2 end, "element by element")
   end)
end)

describe("reductions", function()
   local x = t { { 1.0, 5.0, 3.0 }, { 4.0, 2.0, 6.0 } }

   it("go over everything, one axis or several", function()
      assert.equal(21, x:sum():item())
      assert.same({ 5, 6 }, x:max(1):tolist())
      assert.same({ { 3 }, { 4 } }, x:mean { axis = -1, keepdims = true }:tolist())
   end)

   it("sum several axes as one", function()
      assert.same({ 6, 22 }, espq.arange(8):view(2, 2, 2):sum { axis = { 1, 2 } }:tolist())
   end)

   it("give positions from 0", function()
      assert.same({ 1, 2 }, x:argmax(1):tolist())
      local values, positions = x:topk(2)
      assert.same({ { 5, 3 }, { 6, 4 } }, values:tolist())
      assert.same({ { 1, 2 }, { 2, 0 } }, positions:tolist())
   end)
end)

describe("joining", function()
   it("cat and stack work as functions and as methods", function()
      local a, b = t { 1, 2 }, t { 3, 4 }
      assert.same({ 1, 2, 3, 4 }, espq.cat({ a, b }):tolist())
      assert.same({ 1, 2, 3, 4 }, a:cat(b):tolist())
      assert.same({ { 1, 3 }, { 2, 4 } }, espq.stack({ a, b }, { axis = 1 }):tolist())
   end)
end)

describe("files", function()
   local path
   before_each(function() path = os.tmpname() .. ".npy" end)
   after_each(function() os.remove(path) end)

   it("come back as they were saved", function()
      local x = espq.randn({ 2, 3 }, { seed = 1 })
      x:save(path)
      assert.is_true(espq.from_npy(path):equal(x))
   end)

   it("keep the names of an .npz", function()
      espq.save_npz(path, { x = t { 1, 2 }, y = t { 0.5 } })
      local arrays = espq.from_npz(path)
      assert.same({ 1, 2 }, arrays.x:tolist())
      assert.same({ 0.5 }, arrays.y:tolist())
   end)
end)

describe("memory", function()
   local function resident()
      local file = io.open "/proc/self/statm"
      if not file then return 0 end
      local pages = file:read("a"):match "^%d+ (%d+)"
      file:close()
      return tonumber(pages) * 4096
   end

   -- 400 tensors of 4 MB: 1.6 GB more if the collector did not know what they weigh.
   it("of temporaries is given back on the way", function()
      local x = espq.zeros { 1024, 1024 }
      local before = resident()
      for _ = 1, 400 do x = x + 1 end
      assert.is_true(resident() - before < 400e6)
      assert.equal(400, x:get(0, 0))
   end)
end)

describe("what is misspelt", function()
   local x = t { { 1, 2, 3 }, { 4, 5, 6 } }

   it("is an error that names the nearest, never let pass", function()
      for hint, wrong in pairs {
         ["'axis'"] = function() return x:sum { axs = 1 } end, ["'keepdims'"] = function() return x:max { axis = 1, keepdim = true } end,
         ["'dtype'"] = function() return espq.zeros({ 2 }, { dtpe = "int8" }) end, ["'seed'"] = function() return espq.randn({ 2 }, { sed = 1 }) end,
         ["'stop'"] = function() return x:slice { axis = 1, stp = 2 } end, ["'descending'"] = function() return x:sort { descend = true } end,
         ["'shape'"] = function() return x.shpe end, ["'argsort'"] = function() return x:argsrt() end,
      } do
         assert.matches("did you mean " .. hint, tostring(assert.error(wrong)), 1, true)
      end
      assert.error_matches(function() return x:pad { { 0, 0 }, { 1, 1 } } end, "options have names: { before")
      assert.error_matches(function() return x:sum { 0, 1 } end, "options have names: { axis")
   end)
end)
