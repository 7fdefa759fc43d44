-- The judge of the integer executor: inputs and outputs of the runtime's own kernels (../shared/data/chip) against espq's, number by number.
--
--    build/espq tests/chip/vectors.lua [FILTER …]
--
-- runs every case whose line "SET/CASE TARGET BITS OP OP …" contains all the filters as plain text ("ops/ esp32s3 16", "Conv", "road/"), prints a line
-- for each tensor that differs (the first one of a case is marked: what follows it may only be its consequence), then a table by operator, width
-- and target, and the totals. Options: --quiet (table and totals only), --every=N (each N-th case), --limit=N (stop after N cases that differ).
-- A script gets the same figures from dofile("tests/chip/vectors.lua", …): see judge.run at the end.
--
-- What is compared (README of the data): every node output and graph output, bit for bit; float outputs within 1e-6 relative; tensors that the index calls
-- float_sensitive within the difference it names (1 step for integers), and what lies behind them within 1 step; tensors that are undefined on the chip are
-- not there, and espq has to say so itself. Steps of streaming models (seq.N, seqtest.N) run in order on kept state.
local core = require "espq.core"
local json = require "espq.json"

local judge = {}

judge.root = "../shared/data/"

local RELATIVE = 1e-6

function judge.available() return core.base.exists(judge.root .. "chip/index.json") end

function judge.index()
   local file = assert(io.open(judge.root .. "chip/index.json"))
   local text = file:read "a"
   file:close()
   return json.decode(text)
end

-- ---- comparing ----

-- What is different, as text; nil when all is as it should be.
local function difference(want, have, tolerance)
   local shape, other = table.concat(want.shape, ", "), table.concat(have.shape, ", ")
   if shape ~= other and not (#want == 1 and want.ndim <= 1 and have.ndim <= 1) then return ("shape [%s], the chip has [%s]"):format(other, shape) end
   if want.dtype ~= have.dtype then return ("type %s, the chip has %s"):format(have.dtype, want.dtype) end
   have = have:reshape(want.shape)
   if want:equal(have) then return nil end
   local float, count, first, most = want.dtype == "float32", 0, nil, 0
   local a, b = want:reshape({ -1 }), have:reshape({ -1 })
   for i = 0, #a - 1 do
      local x, y = a:get(i), b:get(i)
      if x ~= y and (x == x or y == y) then
         if x == true or x == false then x, y = x and 1 or 0, y and 1 or 0 end
         local off = math.abs(x - y)
         local allowed = (tolerance or 0) + (float and RELATIVE * math.abs(x) or 0)
         if off > allowed or off ~= off then
            count, first, most = count + 1, first or i, math.max(most, off)
         end
      end
   end
   if count == 0 then return nil end
   return ("%d of %d differ, at most by %g; first [%d]: %s, the chip has %s"):format(count, #a, most, first, b:get(first), a:get(first))
end

-- ---- one case ----

local function sets_in_order(case)
   local names = {}
   for name, about in pairs(case.sets) do
      for step = 0, (about.steps or 0) - 1 do names[#names + 1] = ("%s.%d"):format(name, step) end
      if not about.steps then names[#names + 1] = name end
   end
   table.sort(names, function(a, b)
      local kind_a, step_a = a:match "^(.-)%.(%d+)$"
      local kind_b, step_b = b:match "^(.-)%.(%d+)$"
      if kind_a and kind_a == kind_b then return tonumber(step_a) < tonumber(step_b) end
      return a < b
   end)
   return names
end

local function expected(arrays, set)
   local inputs, tensors = {}, {}
   for key, tensor in pairs(arrays) do
      if key:sub(1, #set + 1) == set .. "/" then
         local side, name = key:sub(#set + 2):match "^(%a+)/(.*)$"
         if side == "in" then inputs[name] = tensor else tensors[name] = tensor end
      end
   end
   return inputs, tensors
end

local function undefined_in(case, name, set)
   local entry = case.undefined_on_chip and case.undefined_on_chip[name]
   return entry and entry[set]
end

-- Everything that reads, directly or not, a tensor whose last bits the source does not define.
local function behind(case, model)
   local soft = {}
   for name, most in pairs(case.float_sensitive or {}) do soft[name] = most end
   if next(soft) then
      for _, node in ipairs(model.nodes) do
         local reads
         for _, name in ipairs(node.inputs) do reads = reads or soft[name] end
         for _, name in ipairs(node.outputs) do
            if reads and not soft[name] then soft[name] = "behind" end
         end
      end
   end
   return soft
end

local function tolerance_of(soft, tensor)
   if not soft then return nil end
   local float = tensor.dtype == "float32"
   if soft == "behind" then return float and 1e-5 or 1 end
   return float and soft or math.max(1, soft)
end

--- Runs one case. The result: { exact =, sets =, lines = what differs, tensors =, undefined =, soft =, error = }.
function judge.case(case)
   local result = { lines = {}, tensors = 0, exact = true, soft = 0, undefined = 0, sets = 0 }
   local path = judge.root .. case.model
   local arrays = core.tensor.from_npz(judge.root .. "chip/" .. case.file)
   local loaded, engine = pcall(core.chip.load, path, { target = case.target })
   if not loaded then
      result.exact, result.error = false, tostring(engine)
      return result
   end
   local soft = case.float_sensitive and behind(case, core.espdl.table(core.espdl.load(path))) or {}
   local producers = {}
   local seen, undefined
   core.chip.watch(engine, function(name, tensor, why, _, node)
      seen[#seen + 1] = name
      seen[name], undefined[name], producers[name] = tensor, why, node
   end)
   local inputs = core.chip.ends(engine).inputs
   local kind
   for _, set in ipairs(sets_in_order(case)) do
      local step_of = set:match "^(.-)%.%d+$" or set
      if step_of ~= kind then core.chip.reset(engine) end
      kind = step_of
      seen, undefined = {}, {}
      local given, wanted = expected(arrays, set)
      local list = {}
      for i, input in ipairs(inputs) do list[i] = given[input.name] end
      local ran, message = pcall(core.chip.run, engine, list)
      result.sets = result.sets + 1
      if not ran then
         result.exact, result.error = false, tostring(message)
         return result
      end
      local hashes, first = (case.sha256 or {})[set] or {}, true
      for _, name in ipairs(seen) do
         if producers[name] then
            local have, want = seen[name], wanted[name]
            result.tensors = result.tensors + 1
            local wrong
            if undefined_in(case, name, set) then
               result.undefined = result.undefined + 1
               if not undefined[name] then wrong = "undefined on the chip, but espq says nothing of it" end
            elseif want then
               local tolerance = tolerance_of(soft[name], want)
               if tolerance then result.soft = result.soft + 1 end
               wrong = difference(want, have, tolerance)
               if not wrong and undefined[name] then wrong = "espq calls it undefined: " .. undefined[name] end
            elseif hashes[name] then
               if core.chip.sha256(have) ~= hashes[name] then wrong = "another digest" end
            elseif not undefined[name] then
               wrong = "the vectors do not have it, espq does not call it undefined"
            end
            if wrong then
               result.exact = false
               local where = ("%s/%s %s %d %s"):format(case.set, case.case, case.target, case.bits, set)
               result.lines[#result.lines + 1] = ("%s %s: %s (node %s): %s"):format(first and "FIRST" or "  then", where, name, producers[name], wrong)
               first = false
            end
         end
      end
   end
   return result
end

-- ---- all cases ----

local function matches(case, filters)
   local line = ("%s/%s %s %d %s"):format(case.set, case.case, case.target, case.bits, table.concat(case.ops, " "))
   for _, filter in ipairs(filters) do
      if not line:find(filter, 1, true) then return false end
   end
   return true
end

local function operator_of(case)
   if case.set == "ops" and #case.ops == 1 then return case.ops[1] end
   if case.set == "ops" then
      local real = {}
      for _, op in ipairs(case.ops) do
         if not op:find "Linear$" and op ~= "Transpose" then real[#real + 1] = op end
      end
      if #real == 1 then return real[1] end
   end
   return "(" .. case.set .. ")"
end

--- options: { filters =, every =, limit =, print = function(line) or nil }. Gives { cases =, exact =, sets =, tensors =, soft =, undefined =, failed = { … } }
--- and the rows of the table.
function judge.run(options)
   local total = { cases = 0, exact = 0, sets = 0, tensors = 0, soft = 0, undefined = 0, failed = {} }
   local rows, by_key = {}, {}
   local say = options.print or function() end
   for number, case in ipairs(judge.index()) do
      local asked = (not options.every or number % options.every == 0) and matches(case, options.filters or {})
      if asked and #total.failed < (options.limit or math.huge) then
         local result = judge.case(case)
         total.cases = total.cases + 1
         for _, name in ipairs { "sets", "tensors", "soft", "undefined" } do total[name] = total[name] + result[name] end
         if result.exact then total.exact = total.exact + 1 else total.failed[#total.failed + 1] = ("%s/%s"):format(case.set, case.case) end
         if result.error then say(("ERROR %s/%s %s %d: %s"):format(case.set, case.case, case.target, case.bits, result.error:gsub("\n", " | "))) end
         for _, line in ipairs(result.lines) do say(line) end
         local key = operator_of(case) .. " " .. case.bits
         local row = by_key[key]
         if not row then
            row = { operator = operator_of(case), bits = case.bits }
            by_key[key] = row
            rows[#rows + 1] = row
         end
         local cell = row[case.target] or { exact = 0, cases = 0 }
         cell.cases, cell.exact = cell.cases + 1, cell.exact + (result.exact and 1 or 0)
         row[case.target] = cell
      end
   end
   table.sort(rows, function(a, b)
      if a.operator ~= b.operator then return a.operator < b.operator end
      return a.bits < b.bits
   end)
   return total, rows
end

local function cell_text(cell) return cell and ("%d/%d%s"):format(cell.exact, cell.cases, cell.exact == cell.cases and "" or " *") or "-" end

local function main(arguments)
   local options = { filters = {} }
   local quiet = false
   for _, word in ipairs(arguments) do
      local name, value = word:match "^%-%-(%a+)=?(%d*)$"
      if name == "quiet" then quiet = true elseif name then options[name] = math.tointeger(tonumber(value)) else
         for part in word:gmatch "%S+" do options.filters[#options.filters + 1] = part end
      end
   end
   if not judge.available() then
      print("no vectors: " .. judge.root .. "chip is not there")
      return 0
   end
   if not quiet then options.print = print end
   local started = os.clock()
   local total, rows = judge.run(options)
   print(("\n%-26s %4s %12s %12s %12s"):format("operator", "bits", "c", "esp32s3", "esp32p4"))
   for _, row in ipairs(rows) do
      print(("%-26s %4d %12s %12s %12s"):format(row.operator, row.bits, cell_text(row.c), cell_text(row.esp32s3), cell_text(row.esp32p4)))
   end
   print(("\n%d of %d cases exact; %d input sets, %d tensors compared, of them %d with the tolerance of float_sensitive;"):format(
      total.exact, total.cases, total.sets, total.tensors, total.soft))
   print(("%d tensors undefined on the chip; %.1f s"):format(total.undefined, os.clock() - started))
   return total.exact == total.cases and 0 or 1
end

if arg and arg[0] and arg[0]:find "vectors%.lua$" then os.exit(main(arg)) end

return judge
