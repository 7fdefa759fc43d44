--- espq run
local core = require "espq.core"
local options = require "espq.cli.options"

local spec = {
   { "--input", value = "WHAT", help = "an .npy or .npz file, a picture, or a folder of pictures; NAME=WHAT for one of several inputs", many = true },
   { "-o", value = "OUT", key = "output", help = "write the outputs: .npz, or .npy when there is one" },
   { "--target", value = "T", help = "run as this chip does; without it, the file tells" },
   { "--version", value = "V", help = "with what this version of the runtime does; without it, the newest" },
   { "--mended", help = "without the runtime's known defects" },
   { "--model", value = "NAME", help = "which one of a package" },
   { "--floats", help = "outputs as values instead of the chip's integers" },
   { "--outputs", value = "A,B", help = "these tensors instead of the outputs" },
   { "--size", value = "N", help = "pictures: resize (with --crop: the shorter side); without these, as the file's metadata say" },
   { "--crop", value = "N", help = "pictures: take the middle" },
   { "--letterbox", help = "pictures: keep the proportions, fill with gray" },
   { "--mean", value = "A,B,C", help = "pictures: subtracted after --scale" },
   { "--std", value = "A,B,C", help = "pictures: divided by" },
   { "--scale", value = "X", help = "pictures: factor of the grey levels, 1/255" },
   { "--color", value = "rgb|bgr|gray", help = "pictures: order of the channels" },
   { "--json", help = "shapes and exponents of the outputs as JSON" },
}

local PIECE = 64 -- samples at a time: memory stays flat however large the set is

local function fail(what, where, cure) core.error.raise { what = what, where = where, cure = cure, code = "input" } end

-- ---- pictures ----

-- The line that `espq quantize` keeps for the firmware, read back.
local function from_metadata(path, model_name)
   local line
   for _, pair in ipairs(core.espdl.table(core.espdl.load(path, model_name)).metadata) do
      if pair[1] == "espq.input" then line = pair[2] end
   end
   if not line then return {} end
   local function find(pattern) return line:match(pattern) end
   return {
      size = find "resize to ([%d,]+)", letterbox = find "with its proportions" and true or nil, crop = find "take the middle ([%d,]+)",
      color = find "channels (%a+)", scale = find "x %* ([%d./eE+-]+)", mean = find "minus ([%d.,eE+-]+%d)", std = find "divided by ([%d.,eE+-]+%d)",
   }
end

local picture_names = { "size", "crop", "letterbox", "mean", "std", "scale", "color" }

local function picture_options(given, path, size)
   local source = given
   local asked = false
   for _, name in ipairs(picture_names) do asked = asked or given[name] ~= nil end
   if not asked then source = from_metadata(path, given.model) end
   local picture = {
      size = source.size and options.numbers("--size", source.size), crop = source.crop and options.numbers("--crop", source.crop),
      letterbox = source.letterbox, mean = source.mean and options.numbers("--mean", source.mean), std = source.std and options.numbers("--std", source.std),
      scale = source.scale and options.number("--scale", source.scale),
   }
   if not picture.size and not picture.crop then picture.size = size end
   if source.color then
      local mode = ({ rgb = "RGB", bgr = "BGR", gray = "GRAY", grey = "GRAY" })[source.color:lower()]
      if not mode then options.usage(("--color is rgb, bgr or gray, not '%s'"):format(source.color)) end
      picture.mode = mode
   end
   return picture
end

-- ---- where inputs come from: a number of samples, and a function that gives a range of them ----

local function from_tensor(tensor, input, where)
   if tensor.ndim == #input.shape - 1 then tensor = tensor:unsqueeze(0) end
   if tensor.ndim ~= #input.shape then
      fail(("the array has the shape [%s], the input '%s' is [%s]"):format(table.concat(tensor.shape, ", "), input.name, table.concat(input.shape, ", ")),
           where, "the first axis counts the samples, the others must be the model's")
   end
   if tensor.size == 0 then fail("the array holds no samples", where, "give at least one: the first axis counts them") end
   local whole = input.shape[1] or 1
   local samples = tensor.ndim > 0 and tensor.shape[1] // whole or 1
   return samples, function(first, last)
      if first == 0 and last == samples then return tensor end
      return tensor:slice { axis = 0, start = first * whole, stop = last * whole }
   end
end

local function from_pictures(count, get)
   return count, function(first, last)
      local batch = {}
      for i = first + 1, last do batch[#batch + 1] = get(i) end
      return require("espq").stack(batch, 0)
   end
end

local function is_folder(path)
   local found, lfs = pcall(require, "lfs")
   return found and lfs.attributes(path, "mode") == "directory"
end

-- Heights and widths that the input takes, whichever way it is stored.
local function picture_size(input)
   if #input.shape ~= 4 then return nil end
   if input.shape[4] <= 4 then return { input.shape[2], input.shape[3] } end
   return { input.shape[3], input.shape[4] }
end

local function open(where, input, given, path)
   local data = require "espq.data"
   if not core.base.exists(where) and not is_folder(where) then fail("there is no file and no folder of this name", where, "check what --input says") end
   local extension = where:lower():match "%.(%w+)$"
   if extension == "npy" then return from_tensor(require("espq").from_npy(where), input, where) end
   if extension == "jpg" or extension == "jpeg" or extension == "png" then
      local picture = data.picture(picture_options(given, path, picture_size(input)))(where)
      return from_pictures(1, function() return picture end)
   end
   if is_folder(where) then
      local picture = picture_options(given, path, picture_size(input))
      picture.dir = where
      local set = data.images(picture)
      return from_pictures(set.count, function(i) return (set:get(i)) end)
   end
   fail("--input takes .npy, .npz, .jpg, .png and folders of pictures", where, "NumPy writes such files: numpy.savez(\"set.npz\", input=array)")
end

local labels = { labels = true, y = true, label = true } -- as espq.data.npz knows them

-- The one array that is left when labels are not counted, or nil.
local function only_array(arrays)
   local only
   for name, tensor in pairs(arrays) do
      if not labels[name] then
         if only then return nil end
         only = tensor
      end
   end
   return only
end

local function open_npz(where, inputs)
   local arrays = require("espq").from_npz(where)
   local names = require("espq.check").keys(arrays)
   local sources = {}
   for i, input in ipairs(inputs) do
      local tensor = arrays[input.name]
      if not tensor and #inputs == 1 then tensor = #names == 1 and arrays[names[1]] or only_array(arrays) end
      if not tensor then
         fail(("there is no array '%s'; there are %s"):format(input.name, table.concat(names, ", ")), where, "name the arrays as the model's inputs")
      end
      sources[i] = { from_tensor(tensor, input, where) }
   end
   return sources
end

local function not_over_inputs(output, where)
   if output and core.base.same_file(output, where) then fail("the outputs would take the place of an input", where, "choose another name for -o") end
end

local function open_all(given, inputs, path)
   if #given.input == 1 and given.input[1]:lower():find "%.npz$" then
      not_over_inputs(given.output, given.input[1])
      return open_npz(given.input[1], inputs)
   end
   local by_name, sources = {}, {}
   for _, word in ipairs(given.input) do
      local name, where = word:match "^([^=]+)=(.+)$"
      if not name or core.base.exists(word) then
         if #inputs > 1 then options.usage(("the model has %d inputs: --input NAME=WHAT for each, or one .npz"):format(#inputs)) end
         name, where = inputs[1].name, word
      end
      if by_name[name] then options.usage(("input '%s' is given twice"):format(name)) end
      by_name[name] = where
   end
   for _, where in pairs(by_name) do not_over_inputs(given.output, where) end
   for i, input in ipairs(inputs) do
      if not by_name[input.name] then options.usage(("input '%s' is missing: --input %s=WHAT"):format(input.name, input.name)) end
      sources[i] = { open(by_name[input.name], input, given, path) }
      by_name[input.name] = nil
   end
   local unknown = next(by_name)
   if unknown then
      local names = {}
      for i, input in ipairs(inputs) do names[i] = input.name end
      options.usage(("the model has no input '%s'; its inputs are %s"):format(unknown, table.concat(names, ", ")))
   end
   return sources
end

-- ---- running and showing ----

local function run(model, sources)
   local samples = sources[1] and sources[1][1] or 1
   for _, source in ipairs(sources) do
      if source[1] ~= samples then fail(("the inputs have different numbers of samples: %d and %d"):format(samples, source[1]), nil,
                                         "give each input the same samples, in the same order") end
   end
   local parts = {}
   for first = 0, samples - 1, PIECE do
      local batch = {}
      for i, source in ipairs(sources) do batch[i] = source[2](first, math.min(first + PIECE, samples)) end
      local outputs = model(batch)
      for i = 1, #outputs do
         parts[i] = parts[i] or {}
         table.insert(parts[i], outputs[i])
      end
   end
   local results = {}
   for i, list in ipairs(parts) do results[i] = #list == 1 and list[1] or require("espq").cat(list, 0) end
   return results, samples
end

local function save(path, results, outputs)
   if path:lower():find "%.npy$" then
      if #results ~= 1 then fail(("the model has %d outputs, an .npy file has one"):format(#results), path, "write an .npz file") end
      return results[1]:save(path)
   end
   local arrays = {}
   for i, output in ipairs(outputs) do arrays[output.name] = results[i] end
   require("espq").save_npz(path, arrays)
end

local function print_results(results, outputs, floats, as_json)
   if as_json then
      local list = {}
      for i, output in ipairs(outputs) do
         list[i] = { name = output.name, dtype = results[i].dtype, shape = results[i].shape, exponent = not floats and output.exponent or nil,
                     undefined = output.undefined }
      end
      io.stdout:write(require("espq.json").encode(list, 2), "\n")
      return
   end
   for i, output in ipairs(outputs) do
      io.stdout:write(("%s %s [%s]%s\n"):format(output.name, results[i].dtype, table.concat(results[i].shape, ", "),
                                                floats and "" or (", exponent %d"):format(output.exponent)))
      if output.undefined then io.stdout:write("  undefined on the chip: ", output.undefined, "\n") end
      io.stdout:write(tostring(results[i]), "\n")
   end
end

return function(arguments)
   local words, given = options.parse({ usage = "run M.espdl --input WHAT [options] [-o OUT.npz]",
                                        help = "run a model in the chip's integers: one input, or a whole set", words = 1 }, spec, arguments)
   if not words then return 0 end
   if given.target then options.target { target = given.target } end
   if given.outputs and #options.names(given.outputs) == 0 then options.usage "--outputs needs the names of tensors; `espq info M.espdl --full` lists them" end
   local model = require("espq").load_espdl(words[1], {
      target = given.target, version = given.version, mended = given.mended, model = given.model, floats = given.floats,
      outputs = given.outputs and options.names(given.outputs),
   })
   local inputs = model.inputs
   if not given.input and #inputs > 0 then options.usage "--input is missing: an .npy or .npz file, a picture, or a folder of pictures" end
   if given.output and not given.output:lower():find "%.np[yz]$" then
      options.usage(("-o takes a name ending in .npz or .npy, not '%s'"):format(given.output))
   end
   local results = run(model, open_all(given, inputs, words[1]))
   if given.output then
      save(given.output, results, model.outputs)
      io.stderr:write("written: ", given.output, "\n")
   end
   if not given.output or given.json then print_results(results, model.outputs, given.floats, given.json) end
   return 0
end
