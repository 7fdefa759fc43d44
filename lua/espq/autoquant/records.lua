--- Records of trials, as they stand in summary.json and candidates.json.
local modules = require "espq.autoquant.modules"
local text = require "espq.autoquant.text"

local records = {}

local FIRST = { "hash", "index", "folder", "files", "strategy", "params", "score" }
local LAST = { "status", "error", "seconds", "seed" }
local PARTS = { [""] = FIRST, runtime = {
   "onnx_import_file", "espdl_export_file", "input_shape", "target", "device", "num_of_candidates", "search_mode", "score_direction", "calib_steps",
   "top_strategy", "early_stop_patience",
} }

--- Keys that records have of their own: extras of evaluate_fn cannot be called so.
records.reserved = {}
for _, key in ipairs(FIRST) do records.reserved[key] = true end

-- The keys of `item` in this order, then the others by name, then the last ones.
local function in_order(item, first, last)
   local list, known = {}, {}
   for _, key in ipairs(first) do
      known[key] = true
      if item[key] ~= nil then list[#list + 1] = key end
   end
   for _, key in ipairs(last) do known[key] = true end
   local rest = {}
   for key in pairs(item) do
      if not known[key] then rest[#rest + 1] = key end
   end
   table.sort(rest, function(a, b) return tostring(a) < tostring(b) end)
   table.move(rest, 1, #rest, #list + 1, list)
   for _, key in ipairs(last) do
      if item[key] ~= nil then list[#list + 1] = key end
   end
   return list
end

-- Modules that are off stand in params as null, as in the reference.
local function keys_of(strategy)
   local on_and_off = in_order(strategy, modules.names(), {})
   return function(item, path)
      if path == "strategy" or path == "params" then return on_and_off end
      local module = path:match "^params%.(.+)$"
      local row = module and modules.find(module)
      if row then return in_order(item, modules.knob_names(row), {}) end
      if path == "" and item.runtime then return { "strategy", "params", "runtime" } end
      return in_order(item, PARTS[path] or {}, path == "" and LAST or {})
   end
end

local function indented(value, keys, depth)
   local lines = text.encode(value, 4, keys)
   return depth and (" "):rep(depth) .. lines:gsub("\n", "\n" .. (" "):rep(depth)) or lines
end

--- A record as it stands in a list.
---@return string
function records.text(record) return indented(record, keys_of(record.strategy or {}), 4) end

--- candidates.json: the records without their hash.
---@return string
function records.list(list)
   if #list == 0 then return "[]" end
   local parts = {}
   for i, record in ipairs(list) do
      local shown = {}
      for key, value in pairs(record) do
         if key ~= "hash" then shown[key] = value end
      end
      parts[i] = records.text(shown)
   end
   return "[\n" .. table.concat(parts, ",\n") .. "\n]"
end

--- config.json of a trial.
---@return string
function records.config(trial, runtime)
   return indented({ strategy = trial.strategy, params = trial.params, runtime = runtime }, keys_of(trial.strategy))
end

return records
