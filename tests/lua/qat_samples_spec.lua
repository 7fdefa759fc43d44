-- Promise: the samples of training run as they stand, small, and print accuracy before and after.
local program = require "lua.program"
local lfs = require "lfs"

describe("a sample of training", function()
   local folder
   before_each(function() folder = program.folder() end)
   after_each(function() program.remove(folder) end)

   it("digits: wins back what coarse weights lost, and exports", function()
      local code, out, err = program.run(folder, ("@ %s/samples/06_qat_digits.lua out 2"):format(lfs.currentdir()))
      assert.equal(0, code, err)
      local float, coarse, trained = out:match "float ([%d.]+) %%, .* weights of 3 bits ([%d.]+) %%, after training ([%d.]+) %%"
      assert.is_true(tonumber(coarse) + 5 < tonumber(trained) and tonumber(trained) <= tonumber(float) + 1, out)
      assert.is_truthy(program.read(folder .. "/out/digits_qat.espdl"))
   end)

   it("MobileNetV2: runs, and says what is missing", function()
      local root = lfs.currentdir()
      local code, _, err = program.run(folder, ("@ %s/samples/07_qat_mobilenetv2.lua --model nowhere.onnx"):format(root))
      assert.equal(1, code)
      assert.equal("nowhere.onnx is not there; --help says where to get model and pictures\n", err)
      local help, words = program.run(folder, ("@ %s/samples/07_qat_mobilenetv2.lua --help"):format(root))
      assert.equal(0, help)
      assert.matches("espq samples/07_qat_mobilenetv2.lua --model", words, 1, true)
      local shared = root .. "/../shared/data"
      if not lfs.attributes(shared) then pending("needs " .. shared) end
      if os.getenv "ESPQ_SANITIZED" == "tsan" then pending "the thread sanitizer takes minutes for a step of this model" end
      local out
      lfs.mkdir(folder .. "/few")
      local some = os.getenv "ESPQ_SANITIZED" and "003" or "00"          -- a sanitizer takes long
      os.execute(("cp '%s'/imagenet/calib/%s*.jpg '%s'/imagenet/calib/labels.tsv '%s/few'"):format(shared, some, shared, folder))
      code, out, err = program.run(folder, ("@ %s/samples/07_qat_mobilenetv2.lua --model %s/models/mobilenetv2.onnx --train few --epochs 1 --batch 2 --out out")
         :format(root, shared))
      assert.equal(0, code, err)
      assert.matches("top%-1: float [%d.]+ %%, quantized [%d.]+ %%, after training [%d.]+ %%", out)
   end)
end)
