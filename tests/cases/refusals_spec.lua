-- Promise: what CASES.md asks of what cannot go to the chip (C20) and of words nobody knows (U02 to U04): all of it in one message with a
-- cure each, before the data are asked for; an own operator works up to the export.
local espq = require "espq"
local lfs = require "lfs"
local support = require "cases.support"

if not support.there then
   describe("cases of refusals", function() pending("needs ../shared/data/cases") end)
   return
end

describe("cases of refusals", function()
   local folder
   before_each(function() folder = support.temporary() end)
   after_each(function() support.remove(folder) end)

   for name, words in pairs {
      c20_if_dynamic = { "If If_0" }, c20_loop = { "Loop Loop_0" }, c20_maxunpool = { "MaxUnpool", "Resize or ConvTranspose" },
      c20_nms = { "NonMaxSuppression", "cut" },
      c20_own_operator = { "FancyAct", "my.ops", "espq.operator" }, c20_many_at_once = { "NonZero", "Sinh", "Einsum" },
   } do
      it("C20: all nodes in one list, a cure each: " .. name, function()
         local asked = false
         local err, text = support.refusal(name, folder, { calib_dataloader = function() asked = true end })
         for _, word in ipairs(words) do assert.matches(word, text, 1, true) end
         assert.is_false(asked)
         assert.is_truthy(err.cure ~= "")
      end)
   end

   it("C20: an Einsum that is a matrix product becomes one", function()
      local types = support.types(support.file("c20_einsum", folder).info)
      assert.equal(1, types.MatMul)
      assert.equal(0, types.Einsum)
   end)

   -- In a process of its own: an operator stays until the program ends.
   it("C20: an own operator runs in float and simulation once it is registered, and stops at the export", function()
      local program = os.getenv "ESPQ" or "build/espq"
      if not lfs.attributes(program) then return pending("needs " .. program) end
      local script = folder .. "/own.lua"
      local file = assert(io.open(script, "w"))
      file:write(([[
         local espq = require "espq"
         espq.verbose = 0
         espq.operator { type = "FancyAct", infer = function(node) return { { shape = node.inputs[1].shape, dtype = node.inputs[1].dtype } } end,
                         run = function(_, inputs) return { inputs[1] * 3 } end }
         local data = {}
         for i = 1, 16 do data[i] = espq.randn({ 1, 3, 6, 6 }, { seed = i }) end
         local call = { onnx_import_file = %q, calib_dataloader = data, calib_steps = 16, target = "esp32p4", skip_export = true }
         local float = espq.executor(espq.load_onnx(call.onnx_import_file), { mode = "float" })(data[1])[1]
         local found = espq.executor((espq.quantize_onnx(call)))(data[1])[1]
         assert((found - float):abs():max():item() < 0.1 * float:abs():max():item())
         call.skip_export, call.espdl_export_file = nil, %q
         local ok, err = pcall(espq.quantize_onnx, call)
         assert(not ok and tostring(err):find("FancyAct", 1, true) and err.cure ~= "")
         print "as it should"
      ]]):format(support.path "c20_own_operator.onnx", folder .. "/o.espdl"))
      file:close()
      local pipe = assert(io.popen(("'%s' '%s' 2>&1"):format(program, script)))
      local text = pipe:read "a"
      pipe:close()
      assert.equal("as it should\n", text)
      assert.same({ "own.lua" }, support.entries(folder))
   end)

   it("U02: unknown fields, settings, targets and methods name the nearest", function()
      local function text_of(act)
         local ok, err = pcall(act)
         assert.is_false(ok)
         return tostring(err)
      end
      local plain = support.case "c18_plain"
      assert.matches("did you mean 'calib_steps'", text_of(function() support.quantize(plain, folder .. "/o.espdl", { calib_step = 3 }) end), 1, true)
      assert.matches("did you mean 'equalization'", text_of(function() espq.setting.espdl().equalisation = true end), 1, true)
      assert.matches("did you mean 'esp32p4'", text_of(function() support.quantize(plain, folder .. "/o.espdl", { target = "esp32-p4" }) end), 1, true)
      assert.matches("did you mean 'kl'", text_of(function() espq.setting.espdl().quantize_activation_setting.calib_algorithm = "kld" end), 1, true)
   end)

   it("U03: an entry for a node that was folded away gets a note", function()
      local setting = espq.setting.espdl()
      setting.dispatching_table:append("Add_y", espq.platform("esp32p4", 16))
      local _, report = support.quantize(support.case "c08_matmul_add", folder .. "/o.espdl", { setting = setting })
      assert.is_truthy(support.line(report.notes, "Add_y", "no effect"))
   end)

   it("U04: an entry for no node at all names the nearest; patterns are allowed", function()
      local setting = espq.setting.espdl()
      setting.dispatching_table:append("Cnv_c", espq.platform("esp32p4", 16))
      local _, text = support.refusal("c18_plain", folder, { setting = setting })
      assert.matches("near: 'Conv_c'", text, 1, true)
      setting = espq.setting.espdl()
      setting.dispatching_table:append("Con*", espq.platform("esp32p4", 16))
      local graph = support.quantize(support.case "c18_plain", folder .. "/o.espdl", { setting = setting })
      for node in graph:nodes() do
         if node.type == "Conv" then assert.equal(16, node.output_config[1].bits) end
      end
   end)
end)
