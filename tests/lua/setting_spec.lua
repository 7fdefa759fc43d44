-- Promise: a setting knows its fields, says what is wrong with a value at once, and goes through JSON and text unchanged.
local espq = require "espq"

describe("a setting", function()
   it("refuses unknown fields with the nearest name", function()
      local setting = espq.setting.espdl()
      assert.error_matches(function() setting.equalisation = true end, "did you mean 'equalization'")
      assert.error_matches(function() setting.fusion_setting.align_concat = "None" end, "did you mean 'fusion_setting.align_concat_to'")
      assert.error_matches(function() return setting.swiches end, "did you mean 'switches'")
   end)

   it("refuses wrong values when they are assigned", function()
      local setting = espq.setting.espdl()
      assert.error_matches(function() setting.fusion = 1 end, "true or false")
      assert.error_matches(function() setting.quantize_activation_setting.calib_algorithm = "kld" end, "did you mean 'kl'")
      assert.error_matches(function() setting.equalization_setting.iterations = 1.5 end, "whole number")
      assert.equal("kl", setting.quantize_activation_setting.calib_algorithm)
   end)

   it("takes lists of the command line between commas, or as JSON", function()
      for _, text in ipairs { "a,b c", '["a", "b c"]' } do
         local tree = espq.setting.espdl()
         require("espq.setting").set(tree, "tqt_optimization_setting.interested_layers", text)
         assert.same({ "a", "b c" }, tree.tqt_optimization_setting.interested_layers)
      end
      assert.error_matches(function() require("espq.setting").set(espq.setting.espdl(), "tqt_optimization_setting.interested_layers", "[a") end,
         "names between commas")
   end)

   it("prints what differs from the defaults", function()
      local setting = espq.setting.espdl()
      assert.matches("nothing changed", tostring(setting), 1, true)
      setting.quantize_activation_setting.calib_algorithm = "minmax"
      setting.dispatching_table:append("Conv_3", espq.platform("esp32p4", 16))
      assert.matches("calib_algorithm = minmax   (default kl)", tostring(setting), 1, true)
      assert.matches("Conv_3", tostring(setting), 1, true)
   end)

   it("takes a group as a table", function()
      local setting = espq.setting.espdl()
      setting.weight_split_setting = { interested_layers = { "a", "b" }, value_threshold = 3 }
      assert.same({ "a", "b" }, setting.weight_split_setting.interested_layers)
   end)

   it("is the reference's in every switch when it is asked for", function()
      local reference = espq.setting.reference()
      assert.is_false(reference.switches.write_defaults)
      assert.is_false(reference.switches.extra_rewrites)
      assert.is_true(espq.setting.espdl().switches.write_defaults)
   end)

   it("copies without sharing", function()
      local setting = espq.setting.espdl()
      local copy = setting:copy()
      copy.dispatching_table:append("x", espq.platform "float")
      copy.fusion = false
      assert.equal(0, #setting.dispatching_table)
      assert.is_true(setting.fusion)
   end)

   it("comes back from its JSON", function()
      local setting = espq.setting.espdl()
      setting.tqt_optimization_setting.lr = 1e-5
      setting.weight_split_setting.interested_layers = { "conv" }
      setting.dispatching_table:append("Conv_3", espq.platform("esp32p4", 16))
      local text = setting:to_json()
      assert.equal(text, espq.setting.from_json(text):to_json())
   end)

   it("keeps generic defaults for what a JSON leaves out, and skips what it does not know", function()
      espq.verbose = 0
      local setting = espq.setting.from_json '{"equalization": true, "no_such_thing": 1, "fusion_setting": {"align_concat_to": "None"}}'
      assert.is_true(setting.equalization)
      assert.equal("None", setting.fusion_setting.align_concat_to)
      assert.equal("Align to Large", setting.fusion_setting.align_elementwise_to)
   end)
end)

describe("a platform", function()
   it("names the nearest target and the known widths", function()
      assert.error_matches(function() espq.platform("esp32-p4", 8) end, "did you mean 'esp32p4'")
      assert.error_matches(function() espq.platform("esp32p4", 4) end, "8 and 16")
   end)
end)
