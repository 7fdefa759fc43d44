--- What the specs of the cases share: running one of them, and what a file says apart from names.
local espq = require "espq"
local core = require "espq.core"
local json = require "espq.json"
local lfs = require "lfs"

local support = { root = (os.getenv "ESPQ_SHARED" or "../shared") .. "/data/cases" }

support.widths = { { "c", 8 }, { "c", 16 }, { "esp32s3", 8 }, { "esp32s3", 16 }, { "esp32p4", 8 }, { "esp32p4", 16 } }
if os.getenv "ESPQ_SANITIZED" == "tsan" then support.widths = { { "c", 16 }, { "esp32s3", 8 }, { "esp32p4", 8 } } end          -- minutes saved
support.there = lfs.attributes(support.root .. "/cases.json") ~= nil
espq.verbose = 0

function support.read(path)
   local file = assert(io.open(path, "rb"))
   local text = file:read "a"
   file:close()
   return text
end

--- A folder that is gone after the test.
function support.temporary()
   local path = os.tmpname()
   os.remove(path)
   assert(lfs.mkdir(path))
   return path
end

function support.entries(folder)
   local found = {}
   for name in lfs.dir(folder) do if name ~= "." and name ~= ".." then found[#found + 1] = name end end
   table.sort(found)
   return found
end

function support.remove(folder)
   for _, name in ipairs(support.entries(folder)) do os.remove(folder .. "/" .. name) end
   lfs.rmdir(folder)
end

local list, by_file
function support.cases()
   if not list then
      list, by_file = json.decode(support.read(support.root .. "/cases.json")), {}
      for _, case in ipairs(list) do by_file[case.file] = case end
   end
   return list
end

function support.case(name)
   support.cases()
   return (assert(by_file[name .. ".onnx"], name))
end

function support.path(name) return support.root .. "/" .. name end

function support.load(case) return espq.load_onnx(support.path(case.file), { input_shape = case.input_shape }) end

--- 16 samples of the model's inputs: the case's own, or random normal ones from seed 1.
function support.data(case)
   if case.calib then return espq.data.npy(support.path(case.calib)) end
   local batches, graph = {}, support.load(case)
   for step = 1, 16 do
      local batch = {}
      for i, value in ipairs(graph.inputs) do batch[value.name] = espq.randn(value.shape, { seed = 100 * step + i }) end
      batches[step] = batch
   end
   return batches
end

--- Quantize a case; fields of `more` win. Gives what quantize_onnx gives.
function support.quantize(case, path, more)
   local call = {
      onnx_import_file = support.path(case.file), espdl_export_file = path, calib_steps = 16, input_shape = case.input_shape,
      target = "esp32p4", error_report = false,
   }
   for key, value in pairs(more or {}) do call[key] = value end
   if call.calib_dataloader == nil then call.calib_dataloader = support.data(case) end
   if call.calib_dataloader == false then call.calib_dataloader, call.calib_steps = nil, nil end
   return espq.quantize_onnx(call)
end

--- The file that a case gives: its path, the table of espq.info, the report, the quantized graph. The folder is the test's.
function support.file(name, folder, more, as)
   local case = support.case(name)
   local path = folder .. "/" .. (as or name) .. ".espdl"
   local graph, report = support.quantize(case, path, more)
   return { path = path, info = core.espdl.table(core.espdl.load(path)), report = report, graph = graph, text = tostring(espq.info(path)) }
end

-- ---- what a file says ----

local function sorted_text(value)
   if type(value) ~= "table" then return tostring(value) end
   if #value > 0 or next(value) == nil then
      local parts = {}
      for i, item in ipairs(value) do parts[i] = sorted_text(item) end
      return "[" .. table.concat(parts, ",") .. "]"
   end
   local keys, parts = {}, {}
   for key in pairs(value) do keys[#keys + 1] = key end
   table.sort(keys)
   for i, key in ipairs(keys) do parts[i] = key .. "=" .. sorted_text(value[key]) end
   return "{" .. table.concat(parts, ",") .. "}"
end

--- All that a file says, apart from the names of nodes and tensors: nodes in order with attributes, where each input comes from, contents,
--- shapes, exponents and layouts of parameters, shapes and exponents of all tensors, test values.
function support.meaning(path)
   local model = core.espdl.load(path)
   local info, lines, known = core.espdl.table(model), {}, { [""] = "-" }
   local parameters, values = {}, {}
   for i, tensor in ipairs(info.initializers) do
      parameters[tensor.name] = sorted_text { tensor.dtype, tensor.shape, tensor.exponents, tensor.layout or "", core.espdl.data(model, "initializers", i) }
   end
   for _, value in ipairs(info.values) do values[value.name] = value end
   local function describe(value) return value and sorted_text { value.dtype, value.shape, value.exponents } or "?" end
   for i, input in ipairs(info.inputs) do
      known[input.name] = "input " .. i
      lines[#lines + 1] = known[input.name] .. " " .. describe(input)
   end
   for i, node in ipairs(info.nodes) do
      local inputs, outputs = {}, {}
      for k, name in ipairs(node.inputs) do inputs[k] = known[name] or parameters[name] or "nowhere" end
      for k, name in ipairs(node.outputs) do
         known[name] = ("%d.%d"):format(i, k)
         outputs[k] = describe(values[name])
      end
      local attributes = {}
      for key, value in pairs(node.attributes) do attributes[key] = key == "lut" and parameters[value] or value end
      lines[#lines + 1] = table.concat({ node.type, sorted_text(attributes), table.concat(inputs, ";"), table.concat(outputs, ";") }, " ")
   end
   for _, output in ipairs(info.outputs) do lines[#lines + 1] = "return " .. (known[output.name] or "nothing") .. " " .. describe(output) end
   for _, kind in ipairs { "test_inputs", "test_outputs" } do
      for i, tensor in ipairs(info[kind]) do
         lines[#lines + 1] = kind .. " " .. sorted_text { known[tensor.name] or "?", tensor.shape, tensor.exponents, core.espdl.data(model, kind, i) }
      end
   end
   return table.concat(lines, "\n")
end

--- The integers that a chip makes of random inputs, from the file alone; and the shapes that the file records for them.
function support.integers(path, target)
   local model = espq.load_espdl(path, { target = target })
   local batch, shapes = {}, {}
   for i, value in ipairs(model.inputs) do
      local whole = value.dtype == "int8" or value.dtype == "int16" or value.dtype == "float32"
      batch[i] = whole and espq.randn(value.shape, { seed = 40 + i }) or espq.zeros(value.shape, { dtype = value.dtype })
   end
   for i, value in ipairs(model.outputs) do shapes[i] = table.concat(value.shape, ",") end
   return model(batch), shapes
end

--- How often each operator stands in a file.
function support.types(info)
   local count = setmetatable({}, { __index = function() return 0 end })
   for _, node in ipairs(info.nodes) do count[node.type] = count[node.type] + 1 end
   return count
end

function support.named(rows, name)
   for _, row in ipairs(rows) do if row.name == name then return row end end
end

--- The first line that has all these words; nil when none has.
function support.line(lines, ...)
   for _, line in ipairs(lines) do
      local fits = true
      for _, word in ipairs { ... } do fits = fits and line:find(word, 1, true) ~= nil end
      if fits then return line end
   end
end

--- What the float model makes of fixed samples, by position of the output. turn: axes by which the input is turned first.
function support.floats(case, turn)
   local graph, inputs = support.load(case), {}
   for i, value in ipairs(graph.inputs) do
      local shape = value.shape
      if turn then
         shape = {}
         for k, axis in ipairs(turn) do shape[axis + 1] = value.shape[k] end
      end
      inputs[i] = espq.randn(shape, { seed = 7 + i })
      if turn then inputs[i] = inputs[i]:permute(turn) end
   end
   return espq.executor(graph, { mode = "float" })(inputs)
end

function support.largest(tensor) return tensor:abs():max():item() end

--- Largest difference of two lists of outputs, as a share of the largest value.
function support.difference(a, b)
   local worst = 0
   for k = 1, #a do
      local difference = support.largest(a[k] - b[k]:reshape(a[k].shape))
      worst = math.max(worst, difference / math.max(support.largest(a[k]), 1e-30))
   end
   return worst
end

--- The error that a case is refused with; nothing may be left in `folder`.
function support.refusal(name, folder, more)
   local case = type(name) == "table" and name or support.case(name)
   local ok, err = pcall(support.quantize, case, folder .. "/out.espdl", more)
   assert(not ok, case.file .. " is not refused")
   assert(#support.entries(folder) == 0, "something was written")
   assert(type(err) ~= "string", err)
   return err, tostring(err)
end

local judge = (os.getenv "ESPQ_SHARED" or "../shared") .. "/tools/espdl_judge.py"
support.can_judge = lfs.attributes(judge) ~= nil and os.execute "python3 -c '' 2>/dev/null" == true

--- What the independent judge finds in files: "" when nothing.
function support.judged(folder, target)
   local pipe = assert(io.popen(("python3 %q check %s/*.espdl --target %s 2>&1"):format(judge, folder, target)))
   local text = pipe:read "a"
   local fine = pipe:close()
   return fine and "" or text
end

return support
