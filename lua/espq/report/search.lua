--- The page of a search: what was tried, what it was worth, and how the winner gets onto the chip.
local chart = require "espq.report.chart"
local core = require "espq.core"
local cost = require "espq.cost"
local effects = require "espq.report.effects"
local files = require "espq.autoquant.files"
local html = require "espq.report.html"
local json = require "espq.json"
local layers = require "espq.report.layers"
local run_tools = require "espq.report.run"

local search = {}

local tag, number = html.tag, html.number

local MOST_POINTS = 2000         -- dots of a chart; a page of 100,000 trials stays readable and small
local MOST_ROWS = 200            -- of a table
local MOST_COSTS = 400           -- files whose time is estimated, 0.03 s each
local SAMPLES = 8                -- inputs that the layers are compared on

-- ---- figures of a record ----

local own_keys = { hash = true, index = true, folder = true, files = true, strategy = true, params = true, score = true, status = true, error = true,
                   seconds = true, seed = true }

local function extras_of(records)
   local seen, names = {}, {}
   for _, record in ipairs(records) do
      for key, value in pairs(record) do
         if not own_keys[key] and not seen[key] and (type(value) == "number" or type(value) == "string" or type(value) == "boolean") then
            seen[key] = true
            names[#names + 1] = key
         end
      end
   end
   table.sort(names)
   return names
end

local function shown(value)
   if type(value) == "number" then return number(value) end
   return value == nil and "–" or tostring(value)
end

-- "calib_algorithm kl, tqt lr 1e-05 steps 500": what tells the trials of this search apart.
local function describe(self, record)
   local parts = {}
   for _, module in ipairs(self.modules) do
      if record.strategy[module] == true then
         local words, knobs = {}, record.params and record.params[module]
         if type(knobs) == "table" and knobs ~= json.null then
            for _, knob in ipairs(self.varied[module] or {}) do
               if knobs[knob] ~= nil then words[#words + 1] = knob .. " " .. effects.value_text(knobs[knob]) end
            end
         end
         if self.optional[module] or #words > 0 then parts[#parts + 1] = module .. (#words > 0 and " (" .. table.concat(words, ", ") .. ")" or "") end
      end
   end
   return #parts > 0 and table.concat(parts, "; ") or "nothing beyond what all trials have"
end

local function learn_variations(self)
   self.modules = effects.modules(self.records)
   self.varied, self.optional = {}, {}
   local first, on, off, seen = {}, {}, {}, {}
   for _, record in ipairs(self.records) do
      for _, module in ipairs(self.modules) do
         if record.strategy[module] == true then on[module] = true else off[module] = true end
         local knobs = record.params and record.params[module]
         if type(knobs) == "table" and knobs ~= json.null then
            for knob, value in pairs(knobs) do
               local key, text = module .. "." .. knob, effects.value_text(value)
               if first[key] == nil then
                  first[key] = text
               elseif first[key] ~= text and not seen[key] then
                  seen[key] = true
                  self.varied[module] = self.varied[module] or {}
                  table.insert(self.varied[module], knob)
               end
            end
         end
      end
   end
   for _, module in ipairs(self.modules) do
      self.optional[module] = on[module] and off[module]
      if self.varied[module] then table.sort(self.varied[module]) end
   end
end

-- ---- what the files cost ----

local function measured(record)
   for _, key in ipairs { "latency_ms", "estimated_ms" } do
      if type(record[key]) == "number" then return record[key], key == "latency_ms" end
   end
end

-- Bytes and time of the trials whose files are there. Equal files are looked at once.
local function learn_costs(self)
   local by_content, count = {}, 0
   local order, is_candidate = {}, {}
   for _, record in ipairs(self.candidates) do
      order[#order + 1] = record
      is_candidate[record] = true
   end
   for _, record in ipairs(self.done) do
      if not is_candidate[record] then order[#order + 1] = record end
   end
   for _, record in ipairs(order) do
      local path = run_tools.model(self, record)
      local found = { path = path, bytes = type(record.bytes) == "number" and record.bytes or path and files.size(path) }
      found.ms, found.measured = measured(record)
      if path and not found.ms and count < MOST_COSTS then
         local name = core.system.sha1(files.read(path))
         if by_content[name] == nil then
            count = count + 1
            local done, rows = pcall(cost.estimate, { path = path, target = self.runtime.target })
            by_content[name] = done and rows.ms or false
         end
         found.ms = by_content[name] or nil
      end
      self.cost[record] = found
   end
   self.costs_cut = count >= MOST_COSTS
end

-- ---- parts of the page ----

-- Where the page lies and where the run lies, so that its links work when both are copied together.
local function relative(from_folder, to)
   local function parts_of(path)
      local list = {}
      if path:sub(1, 1) ~= "/" then path = require("lfs").currentdir() .. "/" .. path end
      for part in path:gmatch "[^/]+" do
         if part == ".." then list[#list] = nil elseif part ~= "." then list[#list + 1] = part end
      end
      return list
   end
   local from, target, common = parts_of(from_folder), parts_of(to), 0
   while from[common + 1] and from[common + 1] == target[common + 1] do common = common + 1 end
   local path = ("../"):rep(#from - common) .. table.concat(target, "/", common + 1)
   return path == "" and "." or path
end

local function file_links(self, record)
   local list = {}
   local names = table.move(record.files, 1, #record.files, 1, {})
   names[#names + 1] = "config.json"
   for _, name in ipairs(names) do
      local path = run_tools.file(self, record, name)
      if path then list[#list + 1] = { #list > 0 and " ", tag("a", { href = html.link(relative(self.page_folder, path)) }, name) } end
   end
   return #list > 0 and list or tag("span", { class = "soft" }, "not here")
end

local function head_tiles(self)
   local best, runtime = self.candidates[1], self.runtime
   local tiles = {}
   if best then
      tiles[1] = { "best score", number(best.score), ("trial %d, %s is better"):format(best.index, self.direction == "maximize" and "more" or "less") }
   end
   if self.baseline and best then
      tiles[#tiles + 1] = { "plain trial", number(self.baseline.score), ("trial %d; the best is %s off it"):format(self.baseline.index,
         html.signed(best.score - self.baseline.score)) }
   end
   tiles[#tiles + 1] = { "trials", ("%d"):format(#self.records), ("%s failed%s"):format(#self.failed > 0 and #self.failed or "none",
      #self.pruned > 0 and (", %d pruned"):format(#self.pruned) or "") }
   local seconds = 0
   for _, record in ipairs(self.records) do seconds = seconds + (tonumber(record.seconds) or 0) end
   if seconds > 0 then
      tiles[#tiles + 1] = { "work", seconds >= 120 and ("%.0f min"):format(seconds / 60) or ("%.1f s"):format(seconds), "of all processes together" }
   end
   if runtime.target then tiles[#tiles + 1] = { "target", tostring(runtime.target), runtime.search_mode and "mode " .. tostring(runtime.search_mode) } end
   return html.tiles(tiles)
end

local function candidates_section(self)
   local extras, rows = extras_of(self.candidates), {}
   local columns = { { title = "trial", number = true }, { title = "score", number = true } }
   for _, name in ipairs(extras) do
      if name ~= "latency_ms" and name ~= "estimated_ms" and name ~= "bytes" then columns[#columns + 1] = { title = name, number = true } end
   end
   local fixed = #columns
   columns[fixed + 1] = { title = "ms", number = true }
   columns[fixed + 2] = { title = "file", number = true }
   columns[fixed + 3] = { title = "what is on", wide = true }
   columns[fixed + 4] = { title = "files", wide = true }
   for i, record in ipairs(self.candidates) do
      local row = { tostring(record.index), i == 1 and tag("span", { class = "best" }, number(record.score)) or number(record.score) }
      for k = 3, fixed do row[k] = shown(record[columns[k].title]) end
      local found = self.cost[record]
      row[fixed + 1] = found.ms and cost.milliseconds(found.ms) .. (found.measured and " (measured)" or "") or "–"
      row[fixed + 2] = found.bytes and cost.bytes(found.bytes) or "–"
      row[fixed + 3] = describe(self, record)
      row[fixed + 4] = file_links(self, record)
      rows[i] = row
   end
   if #rows == 0 then return html.section("candidates", "Best candidates", tag("p", nil, "No trial has come to a score yet.")) end
   return html.section("candidates", "Best candidates",
                       html.table("Best first. ms: one run on the chip, an estimate where nothing else is said", columns, rows))
end

-- So many of a list that a chart can carry, evenly; those of `keep` stay.
local function thinned(list, keep)
   if #list <= MOST_POINTS then return list end
   local every, left = math.ceil(#list / MOST_POINTS), {}
   for i, item in ipairs(list) do
      if i % every == 0 or keep[item] then left[#left + 1] = item end
   end
   return left
end

local function trial_table(self, records)
   local rows, extras = {}, extras_of(self.done)
   local columns = { { title = "trial", number = true }, { title = "score", number = true }, { title = "seconds", number = true } }
   for _, name in ipairs(extras) do columns[#columns + 1] = { title = name, number = true } end
   columns[#columns + 1] = { title = "what is on", wide = true }
   for i = 1, math.min(#records, MOST_ROWS) do
      local record = records[i]
      local row = { tostring(record.index), shown(record.score), shown(tonumber(record.seconds)) }
      for _, name in ipairs(extras) do row[#row + 1] = shown(record[name]) end
      row[#row + 1] = record.score and describe(self, record) or tag("span", { class = "bad" }, record.status or "failed")
      rows[i] = row
   end
   return html.table(#records > MOST_ROWS and ("The first %d of %d trials; summary.json has all"):format(MOST_ROWS, #records) or "All trials, as they ended",
                     columns, rows)
end

local function time_section(self)
   if #self.done == 0 then return nil end
   local place, stair, keep, best = {}, {}, {}, nil
   for i, record in ipairs(self.records) do place[record] = i end
   for _, record in ipairs(self.done) do
      if not best or (self.direction == "maximize" and record.score > best) or (self.direction == "minimize" and record.score < best) then
         best = record.score
         stair[#stair + 1] = { place[record], best }
         keep[record] = true
      end
   end
   local points, failed = {}, {}
   for _, record in ipairs(thinned(self.done, keep)) do
      points[#points + 1] = { place[record], record.score, ("trial %d: %s"):format(record.index, number(record.score)), keep[record] and "other" or "pale" }
   end
   for _, record in ipairs(thinned(self.failed, {})) do failed[#failed + 1] = place[record] end
   local key = { { "pale", "a trial" }, { "other", "the best so far" } }
   if #failed > 0 then key[3] = { "fail", "failed" } end
   return html.section("time", "Score over time",
      chart.points { caption = "Trials in the order in which they ended.", x = "trials", y = "score", points = points, stair = stair, failed = failed,
                     whole = true, to_end = true, key = key }, html.folded("the trials as a table", trial_table(self, self.records)))
end

local function effect_class(self, mean)
   if mean == 0 then return "pale" end
   return (mean > 0) == (self.direction == "maximize") and "" or "other"
end

local function effect_rows(self, rows, label)
   local most = 0
   for _, row in ipairs(rows) do most = math.max(most, math.abs(row.mean) + (row.spread or 0)) end
   local list = {}
   for i, row in ipairs(rows) do
      list[i] = { label(row), { html.signed(row.mean), not row.matched and tag("span", { class = "soft" }, " *") }, html.spread(row.spread),
                  tostring(row.count), chart.effect(row.mean, row.spread, most > 0 and most or 1, effect_class(self, row.mean)) }
   end
   return list
end

local function columns_of(first)
   return { { title = first }, { title = "mean effect", number = true }, { title = "spread", number = true }, { title = "compared", number = true },
            { title = "less ← 0 → more", chart = true } }
end

local function worth_section(self)
   if #self.done < 2 then return nil end
   local modules, knobs, unmatched = {}, {}, false
   for _, row in ipairs(effects.of(self.done)) do
      local list = row.knob and knobs or modules
      list[#list + 1] = row
      unmatched = unmatched or not row.matched
   end
   local strategies = {}
   local found = effects.strategies(self.done, self.direction)
   for i = 1, math.min(#found, 40) do
      local row, names = found[i], {}
      for _, name in ipairs(row.names) do
         if self.optional[name] then names[#names + 1] = name end
      end
      strategies[i] = { #names > 0 and table.concat(names, ", ") or "plain", number(row.best), tostring(row.index), number(row.mean),
                        html.spread(row.spread), tostring(row.count) }
   end
   return html.section("worth", "What each strategy and knob is worth",
      tag("p", nil, "Trials that are equal in everything else are compared with each other: the mean difference of their scores, and its standard deviation. ",
          self.direction == "maximize" and "More is better. " or "Less is better. ",
          tag("span", { class = "soft" }, tag("span", { class = "key" }), "better", tag("span", { class = "key other" }), "worse")),
      #modules > 0 and { tag("h3", nil, "Modules, on against off"), html.table("Change of the score when the module is on", columns_of "module",
         effect_rows(self, modules, function(row) return row.module end)) },
      #knobs > 0 and { tag("h3", nil, "Knobs"), html.table("Change of the score against the mean over the values of the knob", columns_of "knob and value",
         effect_rows(self, knobs, function(row) return ("%s.%s = %s"):format(row.module, row.knob, row.value) end)) },
      #modules + #knobs == 0 and tag("p", nil, "The trials differ in nothing that could be compared."),
      unmatched and tag("p", { class = "soft" }, "* no two trials differ in this alone: plain means, in which other things take part."),
      tag("h3", nil, "Strategies"), html.table("What is on beyond what all trials have; best first", {
         { title = "strategy" }, { title = "best", number = true }, { title = "its trial", number = true }, { title = "mean", number = true },
         { title = "spread", number = true }, { title = "trials", number = true } }, strategies))
end

-- Nobody is both cheaper and better than a trial of the front.
local function front_of(self, list)
   table.sort(list, function(a, b)
      if a.cost ~= b.cost then return a.cost < b.cost end
      return self.better(a.record, b.record)
   end)
   local front, best = {}, nil
   for _, entry in ipairs(list) do
      local score = entry.record.score
      if not best or (self.direction == "maximize" and score > best) or (self.direction == "minimize" and score < best) then
         best = score
         front[#front + 1] = entry
      end
   end
   return front
end

local function pareto_section(self)
   local list, by = {}, "ms"
   for _, record in ipairs(self.done) do
      if self.cost[record].ms then list[#list + 1] = { record = record, cost = self.cost[record].ms } end
   end
   if #list == 0 then
      by = "bytes"
      for _, record in ipairs(self.done) do
         if self.cost[record].bytes then list[#list + 1] = { record = record, cost = self.cost[record].bytes / 1024 } end
      end
   end
   if #list == 0 then
      return html.section("pareto", "Score against cost", tag("p", nil, "The trials' .espdl files are not here, so that nothing is known of their cost."))
   end
   local front, keep = front_of(self, list), {}
   for _, entry in ipairs(front) do keep[entry] = true end
   local points, stair, rows = {}, {}, {}
   local what = by == "ms" and "milliseconds on the chip" or "KB of the file"
   for _, entry in ipairs(thinned(list, keep)) do
      points[#points + 1] = { entry.cost, entry.record.score, ("trial %d: %s, %s %s"):format(entry.record.index, number(entry.record.score), number(entry.cost),
         by == "ms" and "ms" or "KB"), keep[entry] and "other" or "pale" }
   end
   for i, entry in ipairs(front) do
      stair[i] = { entry.cost, entry.record.score }
      rows[i] = { tostring(entry.record.index), number(entry.record.score), self.cost[entry.record].ms and cost.milliseconds(self.cost[entry.record].ms) or "–",
                  self.cost[entry.record].bytes and cost.bytes(self.cost[entry.record].bytes) or "–", describe(self, entry.record) }
   end
   return html.section("pareto", "Score against cost",
      chart.points { caption = ("Score over %s."):format(what), x = what, y = "score", points = points, stair = stair, to_end = true,
                     key = { { "pale", "a trial" }, { "other", "the front: nothing cheaper is better" } } },
      html.table("The Pareto front, cheapest first", { { title = "trial", number = true }, { title = "score", number = true }, { title = "ms", number = true },
                                                       { title = "file", number = true }, { title = "what is on", wide = true } }, rows),
      self.costs_cut and tag("p", { class = "soft" }, ("The time of %d different files was estimated; further trials are left out."):format(MOST_COSTS)))
end

local function layers_text(self)
   local best, baseline = self.candidates[1], self.baseline
   local best_path, base_path = best and run_tools.model(self, best), baseline and run_tools.model(self, baseline)
   if not best_path then return nil, "the best trial's .espdl file is not here" end
   local inputs = self.inputs or (core.base.exists(self.path .. "/inputs.npz") and self.path .. "/inputs.npz")
   if not inputs then return nil, "this folder holds no inputs.npz, which searches of espq keep: give inputs with --input FILE.npy or .npz" end
   local both = base_path and best ~= baseline
   local lists, count = layers.errors(self.runtime, both and { best_path, base_path } or { best_path }, inputs, SAMPLES)
   if not lists then return nil, count end
   local of_base, rows, most, rescaled = {}, {}, 0, false
   for _, row in ipairs(lists[2] or {}) do of_base[row.tensor] = row.snr end
   for _, list in ipairs(lists) do
      for _, row in ipairs(list) do
         most = math.max(most, row.snr)
         rescaled = rescaled or row.rescaled
      end
   end
   for i, row in ipairs(lists[1]) do
      local base = of_base[row.tensor]
      local shares = { row.snr / (most > 0 and most or 1) }
      if both then shares[2] = (base or 0) / (most > 0 and most or 1) end
      rows[i] = { row.name, row.type, { number(row.snr), row.rescaled and " *" } }
      if both then rows[i][4] = base and number(base) or "–" end
      table.insert(rows[i], chart.bars(shares))
   end
   local columns = { { title = "layer" }, { title = "type" }, { title = ("trial %d"):format(best.index), number = true } }
   if both then columns[4] = { title = ("trial %d (plain)"):format(baseline.index), number = true } end
   columns[#columns + 1] = { title = "error", chart = true }
   return {
      tag("p", nil, ("Noise over signal of each layer's output against the float model, on %d inputs, with the chip's integers. "):format(count),
          both and tag("span", { class = "soft" }, tag("span", { class = "key" }), ("the best, trial %d"):format(best.index),
                       tag("span", { class = "key other" }), ("the plain one, trial %d"):format(baseline.index))),
      html.table("Layers in the order of execution", columns, rows),
      rescaled and tag("p", { class = "soft" }, "* equalization gave this layer's channels other scales, which were undone before comparing.") }
end

local function layers_section(self)
   local content, why = layers_text(self)
   return html.section("layers", "Errors of the layers", content or tag("p", nil, "Not measured: ", why, "."))
end

local function reasons(self, caption, list)
   local rows = {}
   for i = 1, math.min(#list, MOST_ROWS) do
      local record = list[i]
      local message = type(record.error) == "string" and record.error or "no reason was recorded"
      local first = message:match "^[^\n]*"
      rows[i] = { tostring(record.index), { tag("span", { class = "bad" }, first), #message > #first and html.folded("all of it", html.code(message)) },
                  describe(self, record) }
   end
   return html.table(#list > MOST_ROWS and ("%s: the first %d of %d"):format(caption, MOST_ROWS, #list) or caption,
                     { { title = "trial", number = true }, { title = "reason", wide = true }, { title = "what was on", wide = true } }, rows)
end

local function failed_section(self)
   if #self.failed + #self.pruned == 0 then return nil end
   return html.section("failed", "Trials without a score", #self.failed > 0 and reasons(self, "Failed", self.failed),
                       #self.pruned > 0 and reasons(self, "Pruned", self.pruned))
end

-- ---- how the winner gets onto the chip ----

local function lua_value(value)
   if type(value) == "table" then return ("espq.json.decode(%q)"):format(json.encode(value)) end
   if type(value) == "string" then return ("%q"):format(value) end
   return type(value) == "number" and math.type(value) == "float" and core.base.number(value) or tostring(value)
end

-- A search whose space is this one trial.
local function lua_of(self, record)
   local lines = { "local setting = espq.autoquant_setting {}" }
   for _, module in ipairs(self.modules) do
      if not require("espq.autoquant.modules").find(module) then
         lines[#lines + 1] = ("-- '%s' is a module of the script's own: its espq.strategy has to stand before this"):format(module)
      end
      local on = record.strategy[module] == true
      lines[#lines + 1] = ("setting.strategy_space.%s = { %s }"):format(module, tostring(on))
      local knobs = on and record.params and record.params[module]
      if type(knobs) == "table" and knobs ~= json.null then
         local names = {}
         for name in pairs(knobs) do names[#names + 1] = name end
         table.sort(names)
         for _, name in ipairs(names) do
            if name ~= "collecting_device" then
               lines[#lines + 1] = ("setting.param_space.%s.%s = { %s }"):format(module, name, lua_value(knobs[name]))
            end
         end
      end
   end
   return table.concat(lines, "\n")
end

-- The functions that fill the inputs, and their calls.
local function input_code(path, target)
   local model, functions, calls = core.espdl.load(path), {}, {}
   target = target or core.chip.target(model)
   for i in ipairs(core.espdl.table(model).inputs) do
      functions[i] = (core.espdl.input_code(model, i, target))
      calls[i] = ("espq_fill_%d(model, input_%d);"):format(i - 1, i - 1)
   end
   return table.concat(functions, "\n"), table.concat(calls, "\n")
end

local function deploy_section(self)
   local best = self.candidates[1]
   if not best then return nil end
   local path = run_tools.model(self, best)
   local parts = {}
   if path then
      local name = path:match "[^/]+$"
      local symbol = name:gsub("[^%w]", "_")
      parts[#parts + 1] = tag("p", nil, "The file is ", tag("a", { href = html.link(relative(self.page_folder, path)) }, path),
                              ". Check it, and make the code that compares every tensor on the board:")
      parts[#parts + 1] = html.code(("espq verify %s\nespq boardkit %s kit"):format(path, path))
      parts[#parts + 1] = tag("p", nil, "In the component's CMakeLists.txt, with the file in its folder models:")
      parts[#parts + 1] = html.code(([[
idf_component_get_property(espdl_dir espressif__esp-dl COMPONENT_DIR)
include(${espdl_dir}/fbs_loader/cmake/utilities.cmake)
target_add_aligned_binary_data(${COMPONENT_LIB} models/%s BINARY)]]):format(name))
      local done, code, calls = pcall(input_code, path, self.runtime.target)
      parts[#parts + 1] = tag("p", nil, "In the firmware:")
      parts[#parts + 1] = html.code(([[
#include "dl_model_base.hpp"
#include <math.h>

extern const uint8_t model_data[] asm("_binary_%s_start");

%s
// the inputs as floats, preprocessed as for calibration
dl::Model *model = new dl::Model((const char *)model_data, fbs::MODEL_LOCATION_IN_FLASH_RODATA);
%s
model->run();]]):format(symbol, done and code or "// the file could not be read: " .. tostring(code), done and calls or ""))
   else
      parts[#parts + 1] = tag("p", nil, ("The files of trial %d are not here; the search left them in %s."):format(best.index, tostring(best.folder)))
   end
   parts[#parts + 1] = tag("p", nil, "The same trial again, for example after the model was trained anew: this space, with the call as it was.")
   parts[#parts + 1] = html.code(lua_of(self, best))
   return html.section("deploy", "Deploying the winner", parts)
end

--- The page of a run directory.
---@param path string
---@param options { page: string, inputs: string? } where the page will lie; data to compare the layers on
---@return string
function search.page(path, options)
   local self = run_tools.read(path)
   self.inputs, self.page_folder = options.inputs, options.page:match "^(.*)/[^/]*$" or "."
   if options.page:find "^/[^/]*$" then self.page_folder = "/" end
   self.baseline, self.cost = run_tools.baseline(self), {}
   learn_variations(self)
   learn_costs(self)
   local model = type(self.runtime.onnx_import_file) == "string" and self.runtime.onnx_import_file:match "[^/]+$"
   local notes = {}
   for i, note in ipairs(self.notes) do notes[i] = tag("p", { class = "soft" }, note) end
   local list = {
      { "candidates", "candidates", candidates_section(self) }, { "time", "over time", time_section(self) }, { "worth", "worth", worth_section(self) },
      { "pareto", "cost", #self.done > 0 and pareto_section(self) or nil }, { "layers", "layers", #self.done > 0 and layers_section(self) or nil },
      { "failed", "failed", failed_section(self) }, { "deploy", "deploy", deploy_section(self) },
   }
   local links, sections = {}, {}
   for _, part in ipairs(list) do
      if part[3] then
         links[#links + 1] = { part[1], part[2] }
         sections[#sections + 1] = part[3]
      end
   end
   return html.page("Search" .. (model and " for " .. model or ""), "Run directory: " .. self.path, links, notes, head_tiles(self), sections)
end

return search
