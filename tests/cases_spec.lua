-- Promise: the small inputs that break quantizers (../shared/data/cases) behave as CASES.md says: what must work quantizes for every
-- target and width and says the same as its twins; what must be refused is refused with a cure, and nothing is written.
local espq = require "espq"
local json = require "espq.json"
local lfs = require "lfs"

local root = (os.getenv "ESPQ_SHARED" or "../shared") .. "/data/cases"
local WIDTHS = { { "c", 8 }, { "c", 16 }, { "esp32s3", 8 }, { "esp32s3", 16 }, { "esp32p4", 8 }, { "esp32p4", 16 } }

-- What waits for a later step, and for which.
local waiting = {
   ["c14_lstm.onnx"] = "recurrent operators", ["c14_lstm_bidirectional.onnx"] = "recurrent operators",
   ["c14_lstm_last_state.onnx"] = "recurrent operators", ["c14_gru_linear.onnx"] = "recurrent operators",
   ["c14_gru.onnx"] = "recurrent operators", ["c14_gru_reverse.onnx"] = "recurrent operators",
   ["c14_lstm_lengths.onnx"] = "recurrent operators",
}

local function read(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read "a"
   file:close()
   return text
end

-- A folder that is gone after the test.
local function temporary()
   local path = os.tmpname()
   os.remove(path)
   assert(lfs.mkdir(path))
   return path
end

local function entries(folder)
   local found = {}
   for name in lfs.dir(folder) do if name ~= "." and name ~= ".." then found[#found + 1] = name end end
   table.sort(found)
   return found
end

local function remove(folder)
   for _, name in ipairs(entries(folder)) do os.remove(folder .. "/" .. name) end
   lfs.rmdir(folder)
end

-- 16 samples of the model's inputs: the case's own, or random normal ones from seed 1.
local function data_for(case, graph)
   if case.calib then return espq.data.npy(root .. "/" .. case.calib) end
   local batches = {}
   for step = 1, 16 do
      local batch = {}
      for i, value in ipairs(graph.inputs) do batch[value.name] = espq.randn(value.shape, { seed = 100 * step + i }) end
      batches[step] = batch
   end
   return batches
end

local function load_case(case)
   return espq.load_onnx(root .. "/" .. case.file, { input_shape = case.input_shape })
end

local function quantize(case, folder, target, bits)
   local graph = load_case(case)
   return espq.quantize_onnx {
      onnx_import_file = root .. "/" .. case.file, espdl_export_file = folder .. "/out.espdl", calib_dataloader = data_for(case, graph),
      calib_steps = case.file:match "^c16_token" and 4 or 16, input_shape = case.input_shape, target = target, num_of_bits = bits,
      error_report = false, test_values = "simulated",
   }
end

-- What the float model makes of one fixed sample, by position of the output.
local function float_outputs(case)
   local graph = load_case(case)
   local inputs = {}
   for i, value in ipairs(graph.inputs) do inputs[i] = espq.randn(value.shape, { seed = 7 + i }) end
   return espq.executor(graph, { mode = "float" })(inputs)
end

local function largest(tensor) return tensor:abs():max():item() end

if not lfs.attributes(root .. "/cases.json") then
   describe("cases", function() pending("needs ../shared/data/cases") end)
   return
end

espq.verbose = 0
local cases = json.decode(read(root .. "/cases.json"))
local groups = {}

describe("case", function()
   for _, case in ipairs(cases) do
      local name = case.case .. " " .. case.file
      if waiting[case.file] then
         pending(name .. " waits for " .. waiting[case.file])
      elseif case.expect == "error" then
         it(name .. " is refused, with a cure", function()
            local folder = temporary()
            finally(function() remove(folder) end)
            local before = read(root .. "/" .. case.file)
            local ok, err = pcall(quantize, case, folder, "esp32p4", 8)
            assert.is_false(ok)
            assert.is_truthy(err.what and err.what ~= "")
            assert.is_truthy(err.cure and err.cure ~= "", "no cure: " .. tostring(err))
            assert.same({}, entries(folder))
            assert.equal(before, read(root .. "/" .. case.file))
         end)
      else
         it(name .. " works for every target and width" .. (case.expect == "ok" and "" or ", or is refused"), function()
            local folder = temporary()
            finally(function() remove(folder) end)
            local before = read(root .. "/" .. case.file)
            for _, width in ipairs(WIDTHS) do
               local ok, err = pcall(quantize, case, folder, width[1], width[2])
               if case.expect == "ok" then
                  assert.is_true(ok, tostring(err))
               elseif not ok then
                  assert.is_truthy(err.what and err.cure and err.cure ~= "", "no cure: " .. tostring(err))
                  assert.same({}, entries(folder))
               end
               for _, file in ipairs(entries(folder)) do os.remove(folder .. "/" .. file) end
            end
            assert.equal(before, read(root .. "/" .. case.file))
         end)
         if case.twin then
            local twin, word = case.twin:match "^(%w+)%s*(.*)$"
            groups[twin] = groups[twin] or {}
            table.insert(groups[twin], { case = case, floats = not word:match "transposed", files = word == "" })
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
         it(("%s says the same as %s"):format(other.case.file, first.case.file), function()
            if not (first.floats and other.floats) then return end
            local ok, a = pcall(float_outputs, first.case)
            local ok2, b = pcall(float_outputs, other.case)
            if first.case.expect ~= "ok" and not (ok and ok2) then return end
            assert.is_true(ok and ok2, tostring(ok and b or a))
            assert.equal(#a, #b)
            for k = 1, #a do
               local difference = largest(a[k] - b[k]:reshape(a[k].shape))
               assert.is_true(difference <= 1e-5 * math.max(largest(a[k]), 1e-30), ("output %d differs by %g"):format(k, difference))
            end
         end)
      end
   end
end)
