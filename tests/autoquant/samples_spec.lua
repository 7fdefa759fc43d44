-- Promise: the samples of AutoQuant run as they stand, small, and print their candidates.
local program = require "lua.program"
local lfs = require "lfs"

local shared = "../shared/data"

local samples = {
   ["02_mobilenetv2"] = { "--model S/models/mobilenetv2.onnx --calib S/imagenet/calib --eval S/imagenet/eval", "top1=" },
   ["03_yolo11n"] = { "--model S/models/yolo11n_320.onnx --size 320 --calib S/coco/calib --eval S/coco/eval", "mAP50%-95=" },
}

describe("a sample of AutoQuant", function()
   for name, sample in pairs(samples) do
      it(name .. " runs small and prints its candidates", function()
         if not lfs.attributes(shared) then pending("needs " .. shared) end
         local folder = program.folder()
         finally(function() program.remove(folder) end)
         local here = lfs.currentdir()
         local options = sample[1]:gsub("S/", function() return here .. "/" .. shared .. "/" end)
         local code, out, err = program.run(folder, ("@ %s/samples/%s.lua %s --budget small --out run"):format(here, name, options))
         assert.equal(0, code, err)
         assert.matches("#0000  score=[%d.]+  " .. sample[2], out)
         assert.is_truthy(program.read(folder .. "/run/0000/model.espdl"))
      end)
   end

   it("says what is missing and where to get it", function()
      local folder = program.folder()
      finally(function() program.remove(folder) end)
      local code, _, err = program.run(folder, ("@ %s/samples/02_mobilenetv2.lua --model nowhere.onnx"):format(lfs.currentdir()))
      assert.equal(1, code)
      assert.matches("nowhere.onnx is not there; the head of this script says where to get", err, 1, true)
   end)
end)
