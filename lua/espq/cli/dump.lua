--- espq dump
local core = require "espq.core"
local options = require "espq.cli.options"

local spec = {
   { "--after", value = "PASS", help = "stop behind this pass (load, simplify, dispatch … lower); `espq passes` lists them" },
   { "--calib", value = "FILE", help = "data (.npy, .npz) for passes from calibrate on; random numbers without" },
   { "--target", value = "T", help = "esp32p4 unless said otherwise" },
   { "--bits", value = "N", help = "8 or 16" },
   { "--input-shape", value = "SIZES", help = "1,3,224,224 or a=1,3;b=1,10" },
   { "--model", value = "NAME", help = "which one of a package" },
   { "--set", value = "PATH=VALUE", help = "a setting", many = true },
}

-- Files of the runtime begin with EDL1, EDL2, or PDL1 … PDL3, whatever their names end with.
local function is_device_file(path)
   local file = io.open(path, "rb")
   local magic = file and file:read(3)
   if file then file:close() end
   return magic == "EDL" or magic == "PDL" or path:lower():find "%.espdl$" ~= nil
end

return function(arguments)
   local words, given = options.parse({ usage = "dump M.onnx|M.espdl [--after PASS]", help = "print a model, one line a node", words = 1 }, spec, arguments)
   if not words then return 0 end
   local path = words[1]
   if is_device_file(path) then
      if given.after then options.usage "--after is for models that are on the road yet; a .espdl file is at its end" end
      if given.target then options.target { target = given.target } end
      io.stdout:write(core.espdl.print(core.chip.load(path, { target = given.target, model = given.model })))
      return 0
   end
   local data, quantize, setting_tree = require "espq.data", require "espq.quantize", require "espq.setting"
   local setting = setting_tree.espdl()
   options.set(setting, given.set)
   local after = given.after or "load"
   local known, names = {}, {}
   for i, pass in ipairs(core.road.passes()) do known[pass.name], names[i] = i, pass.name end
   if not known[after] then options.usage(("unknown pass '%s'%s"):format(after, require("espq.check").hint(after, names))) end
   if after == "export" then options.usage "what is exported is the device graph: --after=lower prints it" end
   local target, bits = options.target(given)
   local road = quantize.road_options({ target = target, num_of_bits = bits }, setting)
   if after ~= "lower" then road.after = after end
   local shapes = require("espq.graph").shapes_of(given.input_shape and options.shape("--input-shape", given.input_shape))
   local graph = core.road.load(path, shapes, road)
   if known[after] > known.simplify then
      local loader = given.calib and data.loader { dataset = given.calib:lower():find "%.npz$" and data.npz(given.calib) or data.npy(given.calib) }
      if not loader then
         core.base.note "note: no --calib: random numbers stand for the data"
         loader = data.random(graph, 4, 0)
      end
      road.walk = data.walk("dump", loader, graph, { limit = 32 })
      core.road.quantize(graph, road)
   end
   if after == "lower" then
      io.stdout:write(core.espdl.print(core.chip.lower(graph, { target = target, setting = setting_tree.engine(setting), raw = true }), true))
      return 0
   end
   io.stdout:write(tostring(graph), "\n")
   return 0
end
