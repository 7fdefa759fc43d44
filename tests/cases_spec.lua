-- Promise: the small inputs that break quantizers (../shared/data/cases) behave as CASES.md says: what must work quantizes for every
-- target and width, passes the independent judge and says the same as its twins; what must be refused is refused with a cure, and nothing
-- is written; nobody's files are touched, nothing takes long. What the tables ask of single cases stands in tests/cases.
local espq = require "espq"
local lfs = require "lfs"
local support = require "cases.support"

-- CASES asks for the same floats of these, not for the same file: another spelling of the activation, of the chip's attributes or of the layout.
local own_file = {
   ["c04_relu_then_max_only.onnx"] = true, ["c04_max_min.onnx"] = true, ["c12_nearest_sizes.onnx"] = true, ["c12_nearest_half_pixel.onnx"] = true,
   ["c06_nhwc_from_tensorflow.onnx"] = true, ["c08_gemm_transa.onnx"] = true,
}

-- Twins whose input is turned: axes that make the first one's input of theirs.
local turned = { ["c06_nhwc_from_tensorflow.onnx"] = { 0, 2, 3, 1 }, ["c08_gemm_transa.onnx"] = { 1, 0 } }

if not support.there then
   describe("cases", function() pending("needs ../shared/data/cases") end)
   return
end

local beside = {}
for _, name in ipairs(support.entries(support.root)) do beside[name] = support.read(support.path(name)) end

describe("case", function()
   local groups, kept, folders = {}, {}, {}

   -- The file that a case gives for one target and width, made once: path, or nil and the error; and how long it took.
   local function written(case, width)
      local key = width[1] .. "_" .. width[2]
      if not folders[key] then folders[key] = support.temporary() end
      local path = ("%s/%s"):format(folders[key], case.file:gsub("%.onnx$", ".espdl"))
      if not kept[path] then
         local started = os.clock()
         local ok, err = pcall(support.quantize, case, path, { target = width[1], num_of_bits = width[2], export_config = false })
         kept[path] = { path = ok and path or nil, error = not ok and err or nil, seconds = os.clock() - started }
         if not ok then assert.is_nil(lfs.attributes(path), "something was written") end
      end
      return kept[path]
   end

   teardown(function()
      for _, folder in pairs(folders) do support.remove(folder) end
   end)

   for _, case in ipairs(support.cases()) do
      local name = case.case .. " " .. case.file
      if case.expect == "error" then
         it(name .. " is refused, with a cure", function()
            local folder = support.temporary()
            finally(function() support.remove(folder) end)
            local err = support.refusal(case, folder, { calib_dataloader = function() error "data were asked for" end })
            assert.is_truthy(err.what and err.what ~= "")
            assert.is_truthy(err.cure and err.cure ~= "", "no cure: " .. tostring(err))
         end)
      else
         it(name .. " works for every target and width" .. (case.expect == "ok" and "" or ", or is refused"), function()
            for _, width in ipairs(support.widths) do
               local made = written(case, width)
               assert.is_true(made.seconds < (os.getenv "ESPQ_SANITIZED" and 60 or 2), "it took too long")
               if made.path then
                  local rows, fine = espq.verify(made.path, { target = width[1] })
                  assert.is_true(fine, tostring(rows))
                  local integers, shapes = support.integers(made.path, width[1])
                  for i, tensor in ipairs(integers) do assert.equal(shapes[i], table.concat(tensor.shape, ","), width[1]) end
               else
                  local err = made.error
                  assert.is_true(case.expect ~= "ok", tostring(err))
                  assert.is_truthy(err.what and err.cure and err.cure ~= "", "no cure: " .. tostring(err))
               end
            end
         end)
         if case.twin then
            local twin = case.twin:match "^%w+"
            groups[twin] = groups[twin] or {}
            table.insert(groups[twin], case)
         end
      end
   end

   local names = {}
   for twin in pairs(groups) do names[#names + 1] = twin end
   table.sort(names)
   for _, twin in ipairs(names) do
      local first = groups[twin][1]
      for i = 2, #groups[twin] do
         local other = groups[twin][i]
         it(("%s says the same as %s"):format(other.file, first.file), function()
            local a, b = support.floats(first), support.floats(other, turned[other.file])
            assert.equal(#a, #b)
            local difference = support.difference(a, b)
            assert.is_true(difference <= 1e-5, ("the outputs differ by %g of the largest"):format(difference))
         end)
         if not own_file[other.file] then
            it(("%s gives the file of %s, apart from names"):format(other.file, first.file), function()
               local folder = support.temporary()
               finally(function() support.remove(folder) end)
               local inputs = { support.load(first).inputs[1], support.load(other).inputs[1] }
               for _, width in ipairs(support.widths) do
                  local said = {}
                  for k, case in ipairs { first, other } do
                     local path = folder .. "/out.espdl"
                     support.quantize(case, path, { target = width[1], num_of_bits = width[2], inputs = espq.randn(inputs[k].shape, { seed = 3 }),
                                                    calib_dataloader = case.calib and support.data(case) or {
                                                       espq.randn(inputs[k].shape, { seed = 1 }), espq.randn(inputs[k].shape, { seed = 2 }) } })
                     said[k] = support.meaning(path)
                  end
                  assert.equal(said[1], said[2])
               end
            end)
         end
      end
   end

   for _, width in ipairs(support.widths) do
      it(("files for %s at %d bits pass the independent judge"):format(width[1], width[2]), function()
         if not support.can_judge then return pending("needs python3 and ../shared/tools/espdl_judge.py") end
         for _, case in ipairs(support.cases()) do
            if case.expect ~= "error" then written(case, width) end
         end
         assert.equal("", support.judged(folders[width[1] .. "_" .. width[2]], width[1]))
      end)
   end

   it("leaves the models and all that lies beside them as they were", function()
      local now = {}
      for _, name in ipairs(support.entries(support.root)) do now[name] = true end
      for name, bytes in pairs(beside) do
         assert.equal(bytes, support.read(support.path(name)), name)
         now[name] = nil
      end
      assert.same({}, now)
   end)
end)
