-- Promise: the samples of AutoQuant run as they stand, small, and print their candidates.
local program = require "lua.program"
local lfs = require "lfs"

local shared = "../shared/data"

-- S stands for the shared data; samples without it run on what lies in samples/data.
local samples = {
   { "02_mobilenetv2", "--model S/models/mobilenetv2.onnx --calib S/imagenet/calib --eval S/imagenet/eval", "#0000  score=[%d.]+  top1=[%d.]+  top5=" },
   { "03_yolo11n", "--model S/models/yolo11n_320.onnx --size 320 --calib S/coco/calib --eval S/coco/eval", "#0000  score=[%d.]+  mAP50%-95=[%d.]+  mAP50=" },
   { "04_custom_metric", "--model S/models/kws_mlperf_dscnn.onnx --calib S/small/kws_mlperf_dscnn/calib.npy --eval S/small/kws_mlperf_dscnn/eval.npy",
     "#0000  cost=0%.[%d]+  threshold=0%.%d+  wrong starts=%d+  not heard=%d+" },
   { "05_custom_strategy", "", "#0002  log p=%-0%.01[%d]+  top1=9%d%.%d+  wide ends=both" },
}

local function run(folder, name, options)
   return program.run(folder, ("@ %s/samples/%s.lua %s"):format(lfs.currentdir(), name, options))
end

describe("a sample of AutoQuant", function()
   for _, sample in ipairs(samples) do
      local name, options, printed = table.unpack(sample)
      it(name .. " runs small and prints its candidates", function()
         if options:find "S/" and not lfs.attributes(shared) then pending("needs " .. shared) end
         if options:find "S/imagenet" or options:find "S/coco" then
            if os.getenv "ESPQ_SANITIZED" == "tsan" then pending "the thread sanitizer takes minutes for this model" end
         end
         local folder = program.folder()
         finally(function() program.remove(folder) end)
         options = options:gsub("S/", function() return lfs.currentdir() .. "/" .. shared .. "/" end)
         local code, out, err = run(folder, name, options .. " --budget small --out run")
         assert.equal(0, code, err)
         assert.matches(printed, out)
         assert.is_truthy(program.read(folder .. "/run/0000/model.espdl"))
         assert.equal(3, #require("espq").json.decode(program.read(folder .. "/run/summary.json")))
      end)
   end

   it("takes a budget of trials, and goes on with what is there", function()
      local folder = program.folder()
      finally(function() program.remove(folder) end)
      for count = 1, 2 do
         local code, _, err = run(folder, "05_custom_strategy", "--budget 1t --out run" .. (count > 1 and " --resume" or ""))
         assert.equal(0, code, err)
         assert.equal(count, #require("espq").json.decode(program.read(folder .. "/run/summary.json")))
      end
   end)

   local wrong = {
      { "--modle x", "unknown option '--modle'; known are --model" },
      { "--budget soon", "--budget is small, all, a number of seconds" },
      { "--out", "--out needs a value" },
      { "--workers few", "--workers needs a whole number" },
   }
   for _, case in ipairs(wrong) do
      it("refuses " .. case[1], function()
         local folder = program.folder()
         finally(function() program.remove(folder) end)
         local code, _, err = run(folder, "05_custom_strategy", case[1])
         assert.equal(2, code)
         assert.matches(case[2], err, 1, true)
      end)
   end

   for _, sample in ipairs(samples) do
      it(sample[1] .. " says with --help what it does and takes", function()
         local folder = program.folder()
         finally(function() program.remove(folder) end)
         local code, out, err = run(folder, sample[1], "--help")
         assert.same({ 0, "" }, { code, err })
         for _, word in ipairs { "--model", "--calib", "--eval", "--target", "--budget", "--out", "espq samples/" .. sample[1] .. ".lua" } do
            assert.matches(word, out, 1, true)
         end
         assert.is_nil(out:find("local ", 1, true))
      end)
   end

   it("says what is missing and where to get it", function()
      local folder = program.folder()
      finally(function() program.remove(folder) end)
      local code, _, err = run(folder, "02_mobilenetv2", "--model nowhere.onnx")
      assert.equal(1, code)
      assert.matches("nowhere.onnx (--model) is not there. `make samples-data` fetches", err, 1, true)
      assert.matches("https://dl.espressif.com/public/imagenet_calib.zip", err, 1, true)
      assert.is_nil(err:find("traceback", 1, true))
   end)
end)
