--- espq quantize
local core = require "espq.core"
local options = require "espq.cli.options"

local spec = {
   { "--calib", value = "WHERE", help = "data: a folder of pictures, an .npy or .npz file, or 'random'" },
   { "--target", value = "T", help = "esp32p4 unless said otherwise; `espq targets` lists them" },
   { "--bits", value = "N", help = "8 or 16" },
   { "-o", value = "OUT.espdl", key = "output", help = "the file to write; M.espdl without it" },
   { "--steps", value = "N", help = "batches for calibration: 32, or as many as there are" },
   { "--batch-size", value = "N", help = "samples a batch: 1" },
   { "--input-shape", value = "SIZES", help = "1,3,224,224 or a=1,3;b=1,10: fixes symbolic dimensions" },
   { "--set", value = "PATH=VALUE", help = "a setting, as often as wanted; `espq settings` lists them", many = true },
   { "--size", value = "N", help = "pictures: resize (with --crop: the shorter side)" },
   { "--crop", value = "N", help = "pictures: take the middle" },
   { "--letterbox", help = "pictures: keep the proportions, fill with gray" },
   { "--mean", value = "A,B,C", help = "pictures: subtracted after --scale" },
   { "--std", value = "A,B,C", help = "pictures: divided by" },
   { "--scale", value = "X", help = "pictures: factor of the grey levels, 1/255" },
   { "--color", value = "rgb|bgr|gray", help = "pictures: order of the channels" },
   { "--limit", value = "N", help = "use only the first N samples" },
   { "--recover", help = "espq's own recovery: takes a minute, loses less" },
   { "--budget", value = "SECONDS", help = "with --recover: what its steps are planned for, 60" },
   { "--outputs", value = "A,B", help = "cut the model at these tensors" },
   { "--require", value = "RULE", help = 'exit code 1 when it does not hold: "snr<0.05", the worst layer\'s graphwise error; or "layerwise<0.01"',
         many = true },
   { "--eval", value = "SCRIPT.lua", help = "a script that returns function(graph) … return score end, larger is better: what quantization costs" },
   { "--max-drop", value = "X", help = "look for the cheapest setting that keeps the score within X of float; exit code 1 when none does" },
   { "--reference", help = "the reference's files, faults included" },
   { "--no-report", help = "no error reports" },
   { "--seed", value = "N", help = "start of random numbers: 0" },
   { "--json", help = "figures as JSON on stdout" },
}

local function is_folder(path)
   local found, lfs = pcall(require, "lfs")
   return found and lfs.attributes(path, "mode") == "directory"
end

local function number_text(value)
   if type(value) == "table" then return table.concat(value, ",") end
   return math.type(value) == "integer" and tostring(value) or core.base.number(value)
end

-- What the firmware has to do with a picture, in one line.
local function firmware_line(given, picture)
   local parts = {}
   if picture.size then parts[#parts + 1] = ("resize to %s"):format(number_text(picture.size)) .. (picture.letterbox
         and " with its proportions, gray around it" or "") end
   if picture.crop then parts[#parts + 1] = ("take the middle %s"):format(number_text(picture.crop)) end
   parts[#parts + 1] = ("channels %s"):format((given.color or "rgb"):lower())
   parts[#parts + 1] = ("x * %s"):format(given.scale or "1/255")
   if picture.mean then parts[#parts + 1] = ("minus %s"):format(number_text(picture.mean)) end
   if picture.std then parts[#parts + 1] = ("divided by %s"):format(number_text(picture.std)) end
   return table.concat(parts, ", ")
end

local function picture_options(given)
   local picture = {
      size = given.size and options.numbers("--size", given.size), crop = given.crop and options.numbers("--crop", given.crop), letterbox = given.letterbox,
      mean = given.mean and options.numbers("--mean", given.mean), std = given.std and options.numbers("--std", given.std),
      scale = given.scale and options.number("--scale", given.scale),
   }
   if given.color then
      local mode = ({ rgb = "RGB", bgr = "BGR", gray = "GRAY", grey = "GRAY" })[given.color:lower()]
      if not mode then options.usage(("--color is rgb, bgr or gray, not '%s'"):format(given.color)) end
      picture.mode = mode
   end
   if picture.letterbox and not picture.size then options.usage "--letterbox needs --size" end
   return picture
end

local picture_only = { "size", "crop", "letterbox", "mean", "std", "scale", "color" }

local function calibration(given)
   local data = require "espq.data"
   local where = given.calib
   if where == "random" then return "random" end
   local limit = given.limit and options.number("--limit", given.limit)
   local batch = given.batch_size and options.number("--batch-size", given.batch_size) or 1
   if is_folder(where) then
      local picture = picture_options(given)
      picture.dir = where
      local line = firmware_line(given, picture)
      return data.loader { dataset = data.images(picture), batch_size = batch, limit = limit }, line
   end
   if not core.base.exists(where) then
      core.error.raise { what = "there is no file and no folder of this name", where = where, cure = "check what --calib says", code = "input" }
   end
   for _, name in ipairs(picture_only) do
      if given[name] then options.usage(("--%s is for pictures; %s is no folder"):format(name, where)) end
   end
   local dataset = where:lower():find "%.npz$" and data.npz(where) or data.npy(where)
   return data.loader { dataset = dataset, batch_size = batch, limit = limit }
end

-- Beside the model, when -o names nothing; but files there that no earlier export made are the user's own.
local function output_beside(model)
   local stem = model:gsub("%.onnx$", "")
   for _, ending in ipairs { ".json", ".info" } do
      if core.base.exists(stem .. ending) and not core.base.exists(stem .. ".espdl") then
         core.error.raise { what = "the export would overwrite this file, which is not from espq", where = stem .. ending,
                            cure = "name the file to write with -o", code = "input" }
      end
   end
   return stem .. ".espdl"
end

-- The report. Pictures that do not fit are made to by options, not by what helps a script.
local function quantize(pictures, call)
   local done, result, report = xpcall(require("espq").quantize_onnx, function(err)
      return core.error.is_error(err) and err or type(err) == "string" and debug.traceback(err, 2) or err
   end, call)
   if done then return report end
   if pictures and core.error.is_error(result) and result.what:find "data have shape" then
      core.error.raise { what = result.what, where = result.where, cure = "--size, --crop and --color make the pictures fit", code = "input" }
   end
   error(result, 0)
end

-- The function that a script returns.
local function evaluation(path)
   local chunk, message = loadfile(path)
   if not chunk then
      core.error.raise { what = message, where = core.base.exists(path) and path or nil, cure = "check what --eval says", code = "input" }
   end
   local evaluate = chunk()
   if type(evaluate) ~= "function" then
      core.error.raise { what = ("the script of --eval has to return a function, it returns %s"):format(evaluate == nil and "nothing" or "a "
            .. type(evaluate)), where = path, cure = "end it with: return function(graph) … return score end", code = "input" }
   end
   return evaluate
end

local function worst(rows)
   local value, name = 0, nil
   for _, row in ipairs(rows) do
      if row.snr ~= row.snr or row.snr > value then value, name = row.snr, row.name end
   end
   return value, name
end

local function check_rules(rules, report)
   local held = true
   for _, rule in ipairs(rules) do
      local what, sign, bound = rule:match "^%s*(%a+)%s*(<=?)%s*([%d.eE+-]+)%s*$"
      local rows = what == "layerwise" and report.layerwise or report.graphwise
      local value, name = worst(rows)
      local limit = tonumber(bound)
      local holds = sign == "<" and value < limit or sign == "<=" and value <= limit
      if not holds then
         io.stderr:write(("espq: --require %s does not hold: %s at %s\n"):format(rule, core.base.number(value + 0.0), name or "the outputs"))
         held = false
      end
   end
   return held
end

local function goal_fields(goal)
   return goal and { score = goal.score, float_score = goal.float_score, drop = goal.drop, max_drop = goal.max_drop, kept = goal.kept,
                     misses_by = goal.misses_by, words = goal.words, tried = goal.tried, setting = goal.snippet }
end

return function(arguments)
   local words, given = options.parse({ usage = "quantize M.onnx --calib DIR|FILE.npy|FILE.npz [options] [-o OUT.espdl]",
         help = "quantize a model and write .espdl, .info, .json", words = 1 },
                                      spec, arguments)
   if not words then return 0 end
   local espq, setting_tree, cost = require "espq", require "espq.setting", require "espq.cost"
   if not given.calib then options.usage "--calib is missing: a folder of pictures, an .npy or .npz file, or 'random'" end
   for _, rule in ipairs(given.require or {}) do
      local what = rule:match "^%s*(%a+)%s*<=?%s*[%d.eE+-]+%s*$"
      if what ~= "snr" and what ~= "graphwise"
            and what ~= "layerwise" then options.usage(('--require needs "snr<NUMBER" or "layerwise<NUMBER", not "%s"'):format(rule)) end
   end
   if given.require and given.no_report then options.usage "--require needs the reports; leave --no-report out" end
   if given.max_drop and not given.eval then options.usage "--max-drop needs --eval SCRIPT.lua" end
   local max_drop = given.max_drop and options.number("--max-drop", given.max_drop)
   if max_drop and max_drop < 0 then options.usage(("--max-drop has to be 0 or more, it is %s"):format(given.max_drop)) end
   espq.seed(given.seed and options.number("--seed", given.seed) or 0)
   local setting = given.reference and setting_tree.reference() or setting_tree.espdl()
   options.set(setting, given.set)
   if given.budget and not given.recover then options.usage "--budget needs --recover" end
   if given.recover then setting.recover = { budget = given.budget and options.number("--budget", given.budget) or nil } end
   local target, bits = options.target(given)
   local loader, firmware = calibration(given)
   local metadata
   if firmware then
      io.stderr:write("your firmware must do the same: ", firmware, "\n")
      metadata = { ["espq.input"] = firmware }
   end
   local steps = given.steps and options.number("--steps", given.steps) or (loader == "random" and 8 or math.min(32, math.max(1, #loader)))
   local out = given.output or output_beside(words[1])
   local report = quantize(firmware, {
      onnx_import_file = words[1], espdl_export_file = out, calib_dataloader = loader, calib_steps = steps, target = target, num_of_bits = bits,
      setting = setting, error_report = not given.no_report,
      input_shape = given.input_shape and options.shape("--input-shape", given.input_shape), outputs = given.outputs and options.names(given.outputs),
      metadata_props = metadata, evaluate_fn = given.eval and evaluation(given.eval),
      max_drop = max_drop,
   })
   if given.json then
      local json = require "espq.json"
      io.stdout:write(json.encode({ file = out, graphwise = json.list(report.graphwise), layerwise = json.list(report.layerwise),
            notes = json.list(report.notes),
                                    warnings = json.list(report.warnings), goal = goal_fields(report.goal) }, 2), "\n")
   else
      if not given.no_report then io.stdout:write(tostring(report), "\n\n") end
      io.stdout:write(("written: %s, with .json and .info beside it\n"):format(out))
      if report.goal then io.stdout:write(tostring(report.goal), "\n\n") end
      if not (report.goal and report.goal.cost) then
         io.stdout:write(("on %s: %s; `espq cost` tells more\n"):format(target, cost.line(cost.estimate { path = out, target = target })))
      end
   end
   if given.require and not check_rules(given.require, report) then return 1 end
   return report.goal and report.goal.kept == false and 1 or 0
end
