-- A small model as a file, data for it, and a setting whose space is a handful of trials.
local espq = require "espq"
local program = require "lua.program"

local M = {}

--- A folder with model.onnx in it: two convolutions and an Add, 0.02 s a trial.
function M.folder()
   local folder = program.folder()
   espq.graph {
      name = "net", inputs = { x = { 1, 3, 6, 6 } }, outputs = { "y" },
      nodes = {
         { type = "Conv", name = "one", inputs = { "x", espq.randn({ 4, 3, 1, 1 }, { seed = 1 }), espq.randn({ 4 }, { seed = 2 }) }, outputs = { "a" } },
         { type = "Relu", name = "relu", inputs = { "a" }, outputs = { "r" } },
         { type = "Conv", name = "two", inputs = { "r", espq.randn({ 4, 4, 1, 1 }, { seed = 3 }), espq.randn({ 4 }, { seed = 4 }) }, outputs = { "b" } },
         { type = "Add", name = "add", inputs = { "r", "b" }, outputs = { "y" } },
      },
   }:save_onnx(folder .. "/model.onnx")
   return folder
end

--- 2 methods, equalization on and off, with as many of the other modules as said: 4 trials when nothing is.
function M.setting(folder, fields)
   local setting = espq.autoquant_setting(fields or {})
   setting.run_dir = folder .. "/run"
   for _, name in ipairs { "tqt", "blockwise_reconstruction", "bias_correction" } do setting.strategy_space[name] = { false } end
   setting.param_space.calib_algorithm.method = { "minmax", "kl" }
   setting.param_space.weight_equalization = { iterations = { 2 }, value_threshold = { 0.5 }, opt_level = { 2 } }
   setting.param_space.fusion_alignment = {
      elementwise_to = { "Align to Output" }, concat_to = { "Align to Output" }, avgpooling_to = { "None" }, resize_to = { "None" },
   }
   return setting
end

function M.loader() return espq.data.loader { dataset = espq.randn({ 8, 3, 6, 6 }, { seed = 5 }), batch_size = 2 } end

--- Search; `change` overrides fields of the call.
function M.search(folder, setting, evaluate_fn, change)
   local options = {
      onnx_import_file = folder .. "/model.onnx", espdl_export_file = folder .. "/out.espdl", calib_dataloader = M.loader(), calib_steps = 4,
      input_shape = { 3, 6, 6 }, target = "esp32s3", setting = setting, evaluate_fn = evaluate_fn, workers = 1,
   }
   for name, value in pairs(change or {}) do options[name] = value end
   return espq.auto_quantize_onnx(options)
end

function M.list(path)
   return espq.json.decode(program.read(path))
end

--- The whole run directory as one text, without what times and names of folders say, and without what a cluster's jobs keep there.
function M.contents(run)
   local parts = {}
   local function add(path)
      for _, name in ipairs(program.names(path)) do
         local text = program.read(path .. "/" .. name)
         if text and not name:find "^journal" and name ~= "lock" then
            text = text:gsub('"seconds": [%d.e-]+', ""):gsub(run:gsub("%p", "%%%0"), "")
            parts[#parts + 1] = name .. "\n" .. text
         elseif not text and not (path == run and name == "cluster") then
            parts[#parts + 1] = name
            add(path .. "/" .. name)
         end
      end
   end
   add(run)
   return table.concat(parts, "\n")
end

return M
