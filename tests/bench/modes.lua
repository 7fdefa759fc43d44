-- Milliseconds per picture of the three modes, in one run, taking turns: float, simulated, and the chip's integers for esp32p4 and esp32s3; top-1 over
-- the 300 pictures of ../shared/data/imagenet/eval, decoding included; whole .espdl models made by Espressif: loaded, verified, exact.
--
--   espq tests/bench/modes.lua ../shared [OUT.json] [ROUNDS]
local espq = require "espq"
local core = require "espq.core"
local shared, out, rounds = arg[1] or "../shared", arg[2], tonumber(arg[3] or 7)
espq.verbose = 0

local figures = { models = {}, top1 = {}, espdl = {} }

local function median(list)
   table.sort(list)
   return list[(#list + 1) // 2]
end

-- Wall and processor milliseconds of a call, a picture.
local function timed(run, batch)
   local wall, processor = core.system.clock(), os.clock()
   run(batch)
   return 1000 * (core.system.clock() - wall) / #batch, 1000 * (os.clock() - processor) / #batch
end

local models = {
   { name = "mobilenetv2", file = "mobilenetv2.onnx", shape = { 1, 3, 224, 224 }, calib = 32, batch = 16,
     pictures = { dir = shared .. "/data/imagenet/calib", crop = 224, mean = { 0.485, 0.456, 0.406 }, std = { 0.229, 0.224, 0.225 } } },
   { name = "yolo11n_320", file = "yolo11n_320.onnx", shape = { 1, 3, 320, 320 }, calib = 16, batch = 8,
     pictures = { dir = shared .. "/data/coco/calib", size = 320, letterbox = true, scale = 1 / 255 } },
}

local function quantized(model, target)
   local loader = espq.data.loader { dataset = espq.data.images(model.pictures), batch_size = 1, limit = model.calib }
   return (espq.quantize_onnx { onnx_import_file = shared .. "/data/models/" .. model.file, skip_export = true, calib_dataloader = loader,
                                calib_steps = model.calib, input_shape = model.shape, target = target, error_report = false })
end

-- ---- speed ----

local graphs = {}
print "model         mode               ms/picture  processor ms"
for _, model in ipairs(models) do
   local p4, s3 = quantized(model, "esp32p4"), quantized(model, "esp32s3")
   graphs[model.name] = { esp32p4 = p4, esp32s3 = s3 }
   local batch = espq.data.loader { dataset = espq.data.images(model.pictures), batch_size = model.batch }()()
   local modes = {
      { "float", espq.executor(p4, { mode = "float" }) }, { "simulated", espq.executor(p4, { mode = "simulated" }) },
      { "integer esp32p4", espq.executor(p4, { mode = "integer" }) }, { "integer esp32s3", espq.executor(s3, { mode = "integer" }) },
   }
   local walls, processors = {}, {}
   for i, mode in ipairs(modes) do
      walls[i], processors[i] = {}, {}
      mode[2](batch)                                         -- plans are made
   end
   for _ = 1, rounds do
      for i, mode in ipairs(modes) do
         local wall, processor = timed(mode[2], batch)
         table.insert(walls[i], wall)
         table.insert(processors[i], processor)
      end
   end
   for i, mode in ipairs(modes) do
      local row = { model = model.name, mode = mode[1], batch = model.batch, milliseconds = median(walls[i]), fastest = walls[i][1],
                    processor_milliseconds = median(processors[i]) }
      figures.models[#figures.models + 1] = row
      print(("%-12s  %-16s  %11.2f  %12.2f"):format(row.model, row.mode, row.milliseconds, row.processor_milliseconds))
   end
end

-- ---- top-1 ----

local function judge(name, target, mode)
   local wall, processor = core.system.clock(), os.clock()
   local pictures = espq.data.images { dir = shared .. "/data/imagenet/eval", labels = shared .. "/data/imagenet/eval/labels.tsv", crop = 224,
                                       mean = models[1].pictures.mean, std = models[1].pictures.std }
   local run, right, seen = espq.executor(graphs[name][target], { mode = mode }), 0, 0
   for batch, labels in espq.data.loader { dataset = pictures, batch_size = 32 }() do
      local best = run(batch)[1]:argmax { axis = 1 }
      right, seen = right + best:eq(labels):to("float32"):sum():item(), seen + #batch
   end
   return { model = name, target = target, mode = mode, top1 = 100 * right / seen, pictures = seen, seconds = core.system.clock() - wall,
            processor_seconds = os.clock() - processor }
end

-- The weights of mobilenetv2 were rebuilt from integers and fit them again, which flatters; those of mobilenetv2_float are off that grid.
print "\ntop-1 of MobileNetV2, decoding included"
local cases = { { "esp32p4", "float" }, { "esp32p4", "simulated" }, { "esp32p4", "integer" }, { "esp32s3", "simulated" }, { "esp32s3", "integer" } }
for _, name in ipairs { "mobilenetv2", "mobilenetv2_float" } do
   if not graphs[name] then
      local model = setmetatable({ file = name .. ".onnx" }, { __index = models[1] })
      graphs[name] = { esp32p4 = quantized(model, "esp32p4"), esp32s3 = quantized(model, "esp32s3") }
   end
   for _, case in ipairs(cases) do
      local row = judge(name, table.unpack(case))
      figures.top1[#figures.top1 + 1] = row
      print(("%-17s  %-8s  %-9s  %.2f %% of %d  %5.2f s  (%.2f s of processor time)"):format(name, row.target, row.mode, row.top1, row.pictures, row.seconds,
                                                                                       row.processor_seconds))
   end
end

-- ---- models of others ----

local lfs = require "lfs"
local function espdl_files(folder, list)
   local names = {}
   for name in lfs.dir(folder) do names[#names + 1] = name end
   table.sort(names)
   for _, name in ipairs(names) do
      local path = folder .. "/" .. name
      if name:sub(1, 1) ~= "." and lfs.attributes(path, "mode") == "directory" then
         espdl_files(path, list)
      elseif name:match "%.espdl$" then
         list[#list + 1] = path
      end
   end
   return list
end

-- For which chip a file was made stands at the front of its name. Exact: its test outputs are what that chip computes.
local made_for = { c = "c", s3 = "esp32s3", p4 = "esp32p4" }
local function verified(path)
   local chip = made_for[path:match "([^/_]+)_[^/]*$"]
   local row = { file = path:sub(#shared + 13), loaded = false, verified = false, exact = false, target = "" }
   local loaded = pcall(espq.load_espdl, path, { target = chip })
   local ran, findings, fine, target = pcall(espq.verify, path, { target = chip })
   row.loaded = loaded
   if not ran then
      row.why = tostring(findings)
      return row
   end
   row.verified, row.target, row.exact = fine, target, true
   for _, finding in ipairs(findings) do
      if finding.rule == "17.3 self-test" or finding.level == "error" then row.exact, row.why = false, row.why or finding.text end
   end
   return row
end

print "\n.espdl models made by Espressif"
local counts = { loaded = 0, verified = 0, exact = 0 }
for _, path in ipairs(espdl_files(shared .. "/data/espdl", {})) do
   local row = verified(path)
   figures.espdl[#figures.espdl + 1] = row
   for key in pairs(counts) do counts[key] = counts[key] + (row[key] and 1 or 0) end
   local function mark(yes) return yes and "yes" or "no" end
   print(("%-60s  %-8s  loaded %-3s  verified %-3s  exact %-3s  %s"):format(row.file, row.target, mark(row.loaded), mark(row.verified), mark(row.exact),
                                                                      (row.why or ""):sub(1, 90)))
end
print(("%d files: %d loaded, %d verified, %d exact"):format(#figures.espdl, counts.loaded, counts.verified, counts.exact))

if out then
   local file = assert(io.open(out, "w"))
   file:write(require("espq.json").encode(figures, 2), "\n")
   file:close()
end
