--- Looking into .espdl files: how two differ, what a board printed, and the code that makes it print.
local core = require "espq.core"
local check = require "espq.check"

local inspect = {}

local function load(path, name)
   if type(path) ~= "string" then check.fail("a path is wanted, this is a " .. type(path)) end
   return core.espdl.load(path, name)
end

--- What changed from file a to file b: a list of rows kind, name, what, and for numbers differing, count, largest, mean.
---@param a string path
---@param b string path
---@param options? { model: string }
function inspect.diff(a, b, options)
   options = check.fields("diff", options or {}, { model = "string" })
   local rows = core.espdl.diff(load(a, options.model), load(b, options.model))
   local counts, order = {}, {}
   for _, row in ipairs(rows) do
      if not counts[row.kind] then order[#order + 1] = row.kind end
      counts[row.kind] = (counts[row.kind] or 0) + 1
   end
   local parts = {}
   for i, kind in ipairs(order) do parts[i] = ("%s %d"):format(kind, counts[kind]) end
   rows.summary = ("%d differences: %s"):format(#rows, table.concat(parts, ", "))
   return require("espq.report").rows(rows, {
      { key = "kind" }, { key = "name" }, { key = "what", title = "what changed" }, { key = "largest", format = "%.6g" }, { key = "mean", format = "%.3g" },
   }, #rows == 0 and "no differences" or nil)
end

-- ---- one file ----

local widths = { INT8 = 8, INT16 = 16 }

-- What one end is: exponent and range of quantized ones.
local function describe_end(value, code, layout)
   local bits, exponent = widths[value.dtype], value.exponents[1]
   local row = { name = value.name, dtype = value.dtype, shape = value.shape, exponents = value.exponents, layout = layout, code = code }
   if bits and exponent then
      row.exponent, row.low, row.high = exponent, -(2.0 ^ (bits - 1 + exponent)), (2.0 ^ (bits - 1) - 1) * 2.0 ^ exponent
   end
   return row
end

--- Everything about one model: what `espq info --json` prints.
---@param path string
---@param name? string which one of a package
---@return table
function inspect.facts(path, name)
   local model = core.espdl.load(path, name)
   local found = core.espdl.table(model)
   local target, sure, why = core.chip.target(model)
   found.target, found.target_sure, found.target_why = target, sure, why
   for i, value in ipairs(found.inputs) do
      local code, layout = core.espdl.input_code(model, i, target)
      found.inputs[i] = describe_end(value, code, layout)
   end
   for i, value in ipairs(found.outputs) do found.outputs[i] = describe_end(value) end
   local types = {}
   for _, node in ipairs(found.nodes) do types[node.type] = (types[node.type] or 0) + 1 end
   found.operators = types
   local done, cost = pcall(require("espq.cost").estimate, { path = path, model = name, target = target })
   if done then
      found.cost = { macs = cost.macs, parameter_bytes = cost.parameter_bytes, moved_bytes = cost.moved_bytes, activation_bytes = cost.memory.variable,
                     live_bytes = cost.memory.live, estimated_ms = cost.ms }
   else
      found.cost_error = tostring(cost)
   end
   return found
end

-- The chip to compute for, and a note where the file does not tell it.
local function target_of(model, asked)
   if asked then return asked end
   local target, sure, why = core.chip.target(model)
   return target, not sure and ("computed as for %s (%s); a target says which chip it is for"):format(target, why) or nil
end

-- ---- logs ----

local function position(flat, shape)
   local at = {}
   for i = #shape, 1, -1 do
      at[i] = flat % shape[i]
      flat = flat // shape[i]
   end
   return "[" .. table.concat(at, ", ") .. "]"
end

local function number(value) return math.type(value) == "float" and value % 1 == 0 and ("%d"):format(value) or core.base.number(value) end

local function describe(row)
   local who = row.node and ("%s %s, tensor '%s'"):format(row.type, row.node, row.name) or ("input '%s'"):format(row.name)
   if row.what then return ("%s: %s"):format(who, row.what) end
   if row.first then
      return ("%s: at %s espq has %s, the board %s (%d of %d printed numbers differ)"):format(who, position(row.first, row.shape), number(row.wanted),
         number(row.found), row.differing, row.printed)
   end
   if row.printed then return ("%s: its sum differs, but none of the %d of %d numbers that the log has"):format(who, row.printed, row.count) end
   return ("%s: its sum differs; its numbers were not printed (ESPQ_PRINTED in espq_board.cpp says of how many tensors they are)"):format(who)
end

local function compare(found, handle, model, target)
   local rows, pattern = core.espdl.log_compare(handle, model, target)
   local counts = { equal = 0, differs = 0, missing = 0, undefined = 0 }
   for _, row in ipairs(rows) do
      counts[row.state] = counts[row.state] + 1
      if row.state == "differs" and not found.first then
         found.first = row.node or row.name
         found.first_row, found.first_text = row, describe(row)
      end
   end
   if counts.missing == #rows then
      check.fail("no tensor of this model is in the log", nil,
                 "it is the log of another model, or of a kit made from another file: make the kit again, and run it")
   end
   found.tensors, found.counts, found.pattern = rows, counts, pattern
   if counts.missing > 0 then
      found.notes[#found.notes + 1] = ("%d of %d tensors are not in the log%s"):format(counts.missing, #rows,
         found.ended and "" or ", which ends before the run does")
   end
   if counts.undefined > 0 then
      found.notes[#found.notes + 1] = ("%d tensors have no defined value on the chip and are not compared"):format(counts.undefined)
   end
end

-- Measured time a node beside the estimate.
local function measure(found, log, path, options, target)
   local estimate = require("espq.cost").estimate { path = path, model = options.model, target = target }
   local by_name, measured, sum = {}, {}, 0
   for _, module in ipairs(log.modules) do by_name[module.name] = module end
   for _, row in ipairs(estimate) do
      local module = by_name[row.name]
      by_name[row.name] = nil
      if module then
         local us = module.us or nil
         measured[#measured + 1] = { name = row.name, type = row.type, us = us, cycles = module.cycles, estimate = row.us, macs = row.macs }
         sum = sum + (us or 0)
      else
         measured[#measured + 1] = { name = row.name, type = row.type, estimate = row.us, macs = row.macs }
         found.missing_modules = (found.missing_modules or 0) + 1
      end
   end
   for _ in pairs(by_name) do found.strange_modules = (found.strange_modules or 0) + 1 end
   found.modules, found.estimate, found.measured_us, found.total = measured, estimate, sum, log.total
   if found.missing_modules then found.notes[#found.notes + 1] = ("%d nodes are not in the module table"):format(found.missing_modules) end
   if found.strange_modules then
      found.notes[#found.notes + 1] = ("%d rows of the module table name no node of this model: is it the log of another one?"):format(found.strange_modules)
   end
end

local function measure_memory(found, log, path, options, target)
   local estimate = found.estimate or require("espq.cost").estimate { path = path, model = options.model, target = target }
   local expected = { variable = estimate.memory.variable, parameter = estimate.parameter_bytes }
   for _, row in ipairs(log.memory) do row.expected = expected[row.name] and expected[row.name] / 1024 end
   found.memory = log.memory
end

local Found = {}

function Found.__tostring(self)
   local lines, report = {}, require "espq.report"
   if self.tensors then
      lines[#lines + 1] = ("%d tensors compared for %s: %d equal, %d differ"):format(#self.tensors, self.target, self.counts.equal, self.counts.differs)
      if self.first then
         lines[#lines + 1] = "the first that differs: " .. self.first_text
      elseif self.counts.equal > 0 then
         lines[#lines + 1] = self.counts.missing == 0 and "the board computes what espq computes" or "what is in the log is as espq computes it"
      end
   end
   if self.test then lines[#lines + 1] = self.test end
   if self.modules then
      local shown = {}
      for i, row in ipairs(self.modules) do
         shown[i] = { name = row.name, type = row.type,
                      measured = row.us and ("%.0f"):format(row.us) or row.cycles and ("%.0f cycles"):format(row.cycles) or "?",
                      estimate = row.estimate and ("%.0f"):format(row.estimate) or "–" }
      end
      shown[#shown + 1] = { name = "total", measured = ("%.0f"):format(self.total or self.measured_us),
                            estimate = self.estimate.ms and ("%.0f"):format(self.estimate.ms * 1000) or "–" }
      lines[#lines + 1] = "\n" .. report.table(shown, { { key = "name", title = "node" }, { key = "type" }, { key = "measured", title = "measured us" },
                                                     { key = "estimate", title = "estimate us" } })
      lines[#lines + 1] = self.estimate.about
   end
   if self.memory and #self.memory > 0 then
      local shown = {}
      for i, row in ipairs(self.memory) do
         shown[i] = { name = row.name, internal = row.internal, psram = row.psram, flash = row.flash, expected = row.expected }
      end
      lines[#lines + 1] = "\n" .. report.table(shown, {
         { key = "name", title = "memory, KB" }, { key = "internal", format = "%.2f" }, { key = "psram", title = "PSRAM", format = "%.2f" },
         { key = "flash", format = "%.2f" }, { key = "expected", title = "espq expects", format = "%.2f" },
      })
   end
   for _, note in ipairs(self.notes) do lines[#lines + 1] = "note: " .. note end
   return table.concat(lines, "\n")
end

--- A model and what a board printed while it ran it. Fields: equal (nothing differs), first (the first node that differs), tensors, counts, modules
--- (measured beside estimated time), memory, notes; tostring prints them.
---@param path string the model
---@param log_path string
---@param options? { target: string, model: string }
function inspect.log(path, log_path, options)
   options = check.fields("diff", options or {}, { target = "string", model = "string" })
   local model = load(path, options.model)
   local handle, log = core.espdl.log(log_path)
   local target, unsure = target_of(model, options.target)
   local found = setmetatable({ notes = { unsure }, target = target, damaged = log.damaged, ended = log.ended }, Found)
   if log.damaged > 0 then found.notes[#found.notes + 1] = ("%d damaged lines of the board kit were left out"):format(log.damaged) end
   if log.model or log.tensors > 0 then compare(found, handle, model, target) end
   if #log.modules > 0 then measure(found, log, path, options, target) end
   if #log.memory > 0 then measure_memory(found, log, path, options, target) end
   if log.test_failed then
      found.test = ("the runtime's self-test failed at output '%s'%s"):format(log.test_failed, log.test_values and ": " .. log.test_values or "")
   elseif log.test_passed then
      found.test = "the runtime's self-test passed"
   end
   found.equal = not found.first and not log.test_failed
   return found
end

-- ---- the board kit ----

local MADE = "// Made by `espq boardkit`"

local function not_the_users(path)
   local file = io.open(path, "rb")
   local head = file and file:read(#MADE)
   if file then file:close() end
   if head and head ~= MADE then check.fail("a file of this name is there that `espq boardkit` did not make", path, "choose another folder, or move it") end
end

--- Writes espq_board.cpp, espq_vectors.h and vectors.npz into a folder: code that makes a board print what it computes, and what it should be.
---@param path string
---@param folder string
---@param options? { target: string, model: string }
---@return string[] files
function inspect.boardkit(path, folder, options)
   options = check.fields("boardkit", options or {}, { target = "string", model = "string" })
   if type(folder) ~= "string" then check.fail("boardkit: a folder is wanted, this is a " .. type(folder)) end
   local model = load(path, options.model)
   local target, unsure = target_of(model, options.target)
   local kit = core.espdl.kit(model, target)
   local arrays = {}
   for _, tensor in ipairs(kit.tensors) do arrays[tensor.name] = tensor.tensor end
   local files = { folder .. "/espq_board.cpp", folder .. "/espq_vectors.h", folder .. "/vectors.npz" }
   core.system.make_folder(folder)
   for i = 1, 2 do not_the_users(files[i]) end
   local written, err = pcall(function()
      require("espq").save_npz(files[3], arrays)
      core.base.write(files[2], kit.vectors)
      core.base.write(files[1], kit.code)
   end)
   if not written then
      for _, name in ipairs(files) do os.remove(name) end                   -- a part of a kit would not build, or judge by other numbers
      error(err, 0)
   end
   files.target, files.pattern, files.tensors, files.note = target, kit.pattern, #kit.tensors, unsure
   return files
end

return inspect
